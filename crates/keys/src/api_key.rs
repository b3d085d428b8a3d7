//! API keys: made once, shown once, kept as hashes.
//!
//! # Form
//!
//! ```text
//! bst_<id: 12>_<secret: 32><checksum: 6>        all of [0-9A-Za-z]
//! ```
//!
//! As a regular expression: `\bbst_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}\b`. The checksum is
//! the CRC-32 (IEEE 802.3) of everything before it, as six base-62 digits (`0-9A-Za-z`,
//! most significant first), so that a secret scanner can tell a key from noise without
//! asking anybody. The secret has 32 base-62 digits, over 190 random bits; the id has
//! over 71 and is no secret.
//!
//! # What is kept
//!
//! HMAC-SHA-256 of the whole key under a random pepper of the store. A fast hash is
//! right here: 190 random bits cannot be searched for, however fast; slow hashes
//! protect what people choose. The pepper keeps the hashes of two stores from being
//! compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SecureRandom;
use foldhash::fast::RandomState;
use model::principal::Attribute;
use model::{Credential, Principal, PrincipalKind, Secret, Timestamp};
use serde::{Deserialize, Serialize};

use crate::encoding::{decode_base64url, encode_base64url, quote};
use crate::error::Error;
use crate::refusal::Refusal;

/// What every key starts with.
pub const API_KEY_PREFIX: &str = "bst_";
/// The regular expression for secret scanners, as docs/gateway.md gives it.
pub const API_KEY_PATTERN: &str = r"\bbst_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}\b";
/// Base-62 digits of the id.
pub const ID_DIGITS: usize = 12;
/// Base-62 digits of the secret.
pub const SECRET_DIGITS: usize = 32;
/// Base-62 digits of the checksum.
pub const CHECKSUM_DIGITS: usize = 6;
/// Bytes of a whole key.
pub const API_KEY_BYTES: usize = API_KEY_PREFIX.len() + ID_DIGITS + 1 + SECRET_DIGITS + CHECKSUM_DIGITS;
/// Most keys in one store, revoked ones included.
pub(crate) const API_KEYS_MAX: usize = 100_000;
/// Longest name, owner, role or attribute, bytes.
pub const API_KEY_TEXT_BYTES_MAX: usize = 255;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// One key as it is kept: everything but the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRecord {
    /// The id part of the key.
    pub id: String,
    /// The principal's name: `ApiKey::"<name>"` in policies. Several keys may have it,
    /// so that one can replace the other without a gap.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// HMAC-SHA-256 of the key under the store's pepper, base64url.
    pub hash: String,
    /// The roles that it has.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The OAuth-like scopes that it has.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// What policies may read as `principal.claims`.
    #[serde(default)]
    pub attributes: BTreeMap<String, Attribute>,
    /// When it was made, nanoseconds since 1970.
    pub created: Timestamp,
    /// When it ends.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default)]
    pub revoked: Option<Timestamp>,
}

/// All keys of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyContents {
    /// 1.
    pub version: u32,
    /// 32 random bytes, base64url.
    pub pepper: String,
    /// The keys.
    pub keys: Vec<ApiKeyRecord>,
}

/// What a new key shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewApiKey {
    /// See [`ApiKeyRecord::name`].
    pub name: String,
    /// See [`ApiKeyRecord::owner`].
    pub owner: String,
    /// See [`ApiKeyRecord::roles`].
    pub roles: Vec<String>,
    /// See [`ApiKeyRecord::scopes`].
    pub scopes: Vec<String>,
    /// See [`ApiKeyRecord::attributes`].
    pub attributes: BTreeMap<String, Attribute>,
    /// See [`ApiKeyRecord::expires`].
    pub expires: Option<Timestamp>,
}

/// A change to the contents of a store.
pub type ApiKeyChange<'a> = &'a mut dyn FnMut(&mut ApiKeyContents) -> Result<(), Error>;

/// Where API keys are kept.
pub trait ApiKeyStore: Send + Sync {
    /// What is there now; a new store with a pepper when there is none.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    fn load(&self) -> Result<ApiKeyContents, Error>;

    /// Reads, changes and writes, with nobody else in between; all or nothing.
    ///
    /// # Errors
    /// It cannot be read or written, or the change fails; then nothing is written.
    fn update(&self, change: ApiKeyChange<'_>) -> Result<(), Error>;
}

/// Makes a key. The returned text is the only copy: show it once.
///
/// # Errors
/// A text is empty, too long or unreadable; the name is another owner's; the store is
/// full or fails.
pub fn create_api_key(
    store: &dyn ApiKeyStore,
    wanted: &NewApiKey,
    now: Timestamp,
    random: &dyn SecureRandom,
) -> Result<(Secret<String>, ApiKeyRecord), Error> {
    check_new(wanted, now)?;
    let key = generate(random)?;
    let id = id_of(key.expose().as_bytes()).unwrap_or_default().to_owned();
    let mut made = None;
    store.update(&mut |contents| {
        if contents.keys.len() >= API_KEYS_MAX {
            return Err(Error::Request(format!("the store has {API_KEYS_MAX} keys, which is the most")));
        }
        if contents.keys.iter().any(|known| known.id == id) {
            return Err(Error::Request("the id is taken already; try again".to_owned()));
        }
        let same_name = |known: &&ApiKeyRecord| known.name == wanted.name && known.owner != wanted.owner;
        if let Some(known) = contents.keys.iter().find(same_name) {
            let (name, owner) = (quote(&wanted.name), quote(&known.owner));
            return Err(Error::Request(format!("the name \"{name}\" is {owner}'s; choose another")));
        }
        let record = ApiKeyRecord {
            id: id.clone(),
            name: wanted.name.clone(),
            owner: wanted.owner.clone(),
            hash: encode_base64url(hash(&pepper(contents)?, key.expose().as_bytes()).as_ref()),
            roles: wanted.roles.clone(),
            scopes: wanted.scopes.clone(),
            attributes: wanted.attributes.clone(),
            created: now,
            expires: wanted.expires,
            revoked: None,
        };
        contents.keys.push(record.clone());
        made = Some(record);
        Ok(())
    })?;
    let record = made.ok_or_else(|| Error::Request("the store changed nothing".to_owned()))?;
    Ok((key, record))
}

/// The records of all keys, oldest first.
///
/// # Errors
/// The store fails.
pub fn list_api_keys(store: &dyn ApiKeyStore) -> Result<Vec<ApiKeyRecord>, Error> {
    let mut keys = store.load()?.keys;
    keys.sort_by(|one, two| (one.created, &one.id).cmp(&(two.created, &two.id)));
    Ok(keys)
}

/// Revokes the key with this id (or the whole key, should that be what leaked; see [`api_key_id`]).
/// Revoking twice keeps the first time.
///
/// # Errors
/// No key has this id; the store fails.
pub fn revoke_api_key(store: &dyn ApiKeyStore, id: &str, now: Timestamp) -> Result<ApiKeyRecord, Error> {
    let id = api_key_id(id);
    let mut revoked = None;
    store.update(&mut |contents| {
        let Some(key) = contents.keys.iter_mut().find(|key| key.id == id) else {
            return Err(Error::Request(format!(
                "no API key has id \"{}\"; see `bastide key list`",
                quote(id)
            )));
        };
        key.revoked.get_or_insert(now);
        revoked = Some(key.clone());
        Ok(())
    })?;
    revoked.ok_or_else(|| Error::Request("the store changed nothing".to_owned()))
}

fn check_new(wanted: &NewApiKey, now: Timestamp) -> Result<(), Error> {
    let texts = [("name", &wanted.name), ("owner", &wanted.owner)];
    let roles = wanted.roles.iter().map(|role| ("role", role));
    let scopes = wanted.scopes.iter().map(|scope| ("scope", scope));
    let attributes = wanted.attributes.keys().map(|name| ("attribute", name));
    for (what, text) in texts.into_iter().chain(roles).chain(scopes).chain(attributes) {
        if text.is_empty() || text.len() > API_KEY_TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(Error::Request(format!(
                "{what} \"{}\": expected 1 to {API_KEY_TEXT_BYTES_MAX} bytes without control characters",
                quote(text)
            )));
        }
    }
    if wanted.expires.is_some_and(|end| end <= now) {
        return Err(Error::Request("the key would end before it starts".to_owned()));
    }
    Ok(())
}

fn generate(random: &dyn SecureRandom) -> Result<Secret<String>, Error> {
    let mut key = String::with_capacity(API_KEY_BYTES);
    key.push_str(API_KEY_PREFIX);
    push_random(&mut key, ID_DIGITS, random)?;
    key.push('_');
    push_random(&mut key, SECRET_DIGITS, random)?;
    let sum = checksum(key.as_bytes());
    key.extend(sum.iter().copied().map(char::from));
    Ok(Secret::new(key))
}

fn push_random(text: &mut String, digits: usize, random: &dyn SecureRandom) -> Result<(), Error> {
    let mut left = digits;
    while left > 0 {
        let mut byte = [0];
        random.fill(&mut byte).map_err(|_| Error::Cryptography("random numbers"))?;
        // 248 = 4 × 62: what lies above would make some digits likelier.
        let [byte] = byte;
        if let (true, Some(digit)) = (byte < 248, DIGITS.get(usize::from(byte % 62))) {
            text.push(char::from(*digit));
            left -= 1;
        }
    }
    Ok(())
}

/// CRC-32 (IEEE 802.3, reflected) as six base-62 digits.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    };
    let mut rest = !bytes.iter().fold(u32::MAX, step);
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

/// Whether a text has the form and checksum of a key. Offline; what a secret scanner
/// would do.
pub fn is_api_key(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(API_KEY_PREFIX.as_bytes()) else { return false };
    let Some((body, sum)) = text.split_last_chunk::<CHECKSUM_DIGITS>() else { return false };
    text.len() == API_KEY_BYTES
        && rest.iter().enumerate().all(|(at, byte)| match at {
            ID_DIGITS => *byte == b'_',
            _ => byte.is_ascii_alphanumeric(),
        })
        && checksum(body) == *sum
}

/// The id part of a key.
fn id_of(key: &[u8]) -> Option<&str> {
    if !is_api_key(key) {
        return None;
    }
    let start = API_KEY_PREFIX.len();
    key.get(start..start + ID_DIGITS).and_then(|id| std::str::from_utf8(id).ok())
}

/// The id, in a text that may be the id alone or the key, and the key badly copied: nothing of the
/// secret is in what comes back.
pub fn api_key_id(text: &str) -> &str {
    let Some(rest) = text.strip_prefix(API_KEY_PREFIX) else { return text };
    let id = rest.split_once('_').map_or(rest, |(id, _)| id);
    let end = id.char_indices().nth(ID_DIGITS).map_or(id.len(), |(at, _)| at);
    id.get(..end).unwrap_or_default()
}

/// Where secrets of API keys stand in a text that may be the path of an address: what follows the id
/// and its underscore, also where the key was badly copied, or its underscores are percent-encoded.
pub fn api_key_secrets(text: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    const BEGINNING: &[u8] = b"bst";
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count()
    };
    let underscore = |at: usize| {
        let rest = text.get(at..)?;
        let encoded = [&b"_"[..], b"%5F", b"%5f"].into_iter().find(|encoded| rest.starts_with(encoded))?;
        Some(at + encoded.len())
    };
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(from..)?;
            from += rest.windows(BEGINNING.len()).position(|window| window == BEGINNING)? + BEGINNING.len();
            let id = underscore(from).map(|id| (id, digits(id)));
            let secret =
                id.filter(|(_, length)| *length > 0).and_then(|(id, length)| underscore(id + length));
            let Some(secret) = secret else { continue };
            // What looks like another id may be the secret's beginning.
            let mut end = secret + digits(secret);
            while let Some(more) = underscore(end) {
                end = more + digits(more);
            }
            if end > secret {
                from = end;
                return Some(secret..end);
            }
        }
    })
}

fn pepper(contents: &ApiKeyContents) -> Result<hmac::Key, Error> {
    let pepper = decode_base64url(contents.pepper.as_bytes()).filter(|pepper| pepper.len() >= 32);
    let pepper =
        pepper.ok_or_else(|| Error::KeySet("API key store: the pepper is not 32 bytes".to_owned()))?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &pepper))
}

fn hash(pepper: &hmac::Key, key: &[u8]) -> hmac::Tag {
    hmac::sign(pepper, key)
}

/// The keys of a store, ready to be looked up. Immutable; built whole at load.
#[derive(Debug)]
pub struct ApiKeys {
    pepper: hmac::Key,
    keys: HashMap<String, Entry, RandomState>,
}

#[derive(Clone, Debug)]
struct Entry {
    hash: Vec<u8>,
    revoked: Option<Timestamp>,
    principal: Arc<Principal>,
}

impl ApiKeys {
    /// Reads what a store holds. Of each key's roles, the declared ones are kept.
    ///
    /// # Errors
    /// [`Error::KeySet`]: another version, a broken pepper or hash, an id twice, too
    /// many keys.
    pub fn new(contents: &ApiKeyContents, declared_roles: &BTreeSet<String>) -> Result<Self, Error> {
        let fault = |why: String| Error::KeySet(format!("API key store: {why}"));
        if contents.version != 1 {
            return Err(fault(format!("version {}, expected 1", contents.version)));
        }
        if contents.keys.len() > API_KEYS_MAX {
            return Err(fault(format!("{} keys, at most {API_KEYS_MAX}", contents.keys.len())));
        }
        let pepper = pepper(contents)?;
        let mut keys = HashMap::with_hasher(RandomState::default());
        for record in &contents.keys {
            let hash = decode_base64url(record.hash.as_bytes()).filter(|hash| hash.len() == 32);
            let hash = hash.ok_or_else(|| fault(format!("key {}: broken hash", quote(&record.id))))?;
            let principal = Arc::new(record.principal(declared_roles));
            let entry = Entry { hash, revoked: record.revoked, principal };
            if keys.insert(record.id.clone(), entry).is_some() {
                return Err(fault(format!("two keys have id {}", quote(&record.id))));
            }
        }
        Ok(Self { pepper, keys })
    }

    /// How many keys there are, revoked ones included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A copy for one core, which shares no counter with the others.
    pub fn own_copy(&self) -> Self {
        let own = |entry: &Entry| Entry { principal: Arc::new((*entry.principal).clone()), ..entry.clone() };
        Self {
            pepper: self.pepper.clone(),
            keys: self.keys.iter().map(|(id, entry)| (id.clone(), own(entry))).collect(),
        }
    }

    /// Whose key this is.
    ///
    /// # Errors
    /// [`Refusal`] of the API key group.
    pub fn verify(&self, key: &[u8], now: Timestamp) -> Result<Arc<Principal>, Refusal> {
        let id = id_of(key).ok_or(Refusal::ApiKeyMalformed)?;
        let known = self.keys.get(id);
        // Hashed and compared for unknown ids as well: they take as long as known ones.
        let expected = known.map_or(&[0; 32][..], |entry| entry.hash.as_slice());
        let same = hmac::verify(&self.pepper, key, expected).is_ok();
        let Some(entry) = known else { return Err(Refusal::ApiKeyUnknown { id: id.to_owned() }) };
        if !same {
            return Err(Refusal::ApiKeySecret { id: id.to_owned() });
        }
        if let Some(at) = entry.revoked {
            return Err(Refusal::ApiKeyRevoked { id: id.to_owned(), at });
        }
        match entry.principal.expires {
            Some(at) if at <= now => Err(Refusal::ApiKeyExpired { id: id.to_owned(), at }),
            _ => Ok(Arc::clone(&entry.principal)),
        }
    }
}

impl ApiKeyRecord {
    fn principal(&self, declared_roles: &BTreeSet<String>) -> Principal {
        let declared = |role: &&String| declared_roles.contains(*role);
        Principal {
            kind: PrincipalKind::ApiKey,
            id: self.name.clone(),
            credential: Credential::ApiKey,
            issuer: None,
            roles: self.roles.iter().filter(declared).cloned().collect(),
            scopes: self.scopes.clone(),
            acr: None,
            amr: Vec::new(),
            claims: self.attributes.clone(),
            spiffe_id: None,
            expires: self.expires,
        }
    }
}

//! Passkeys (Web Authentication Level 3): what a browser's authenticator says, read and
//! verified. Attestation is not asked for and not believed: whoever enrols is logged in
//! already, and which make the authenticator is of changes nothing.

use aws_lc_rs::digest::{SHA256, digest};
use ciborium::Value as Cbor;
use keys::encoding::{decode_base64url, encode_base64url};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::cose::{ALGORITHMS, PublicKey};
use super::{Factors, Label};
use crate::method::{HARDWARE_KEY, SEVERAL, SOFTWARE_KEY, USER};
use crate::realm::Realm;
use crate::settings::RealmSettings;
use crate::user::User;

/// Longest credential id, bytes (§5.8.3).
const CREDENTIAL_BYTES_MAX: usize = 1023;
/// How deep CBOR may be nested: attestation statements hold lists in maps.
const DEPTH_MAX: usize = 8;
/// How long a browser waits for its person, milliseconds.
const TIMEOUT_MS: u64 = 300_000;

// Flags of the authenticator's data (§6.1).
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;
const HAS_CREDENTIAL: u8 = 0x40;
const HAS_EXTENSIONS: u8 = 0x80;

/// A passkey that was enrolled.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Passkey {
    pub(crate) label: Label,
    /// Its id, base64url.
    pub(crate) credential: String,
    key: PublicKey,
    /// How often it signed, where its authenticator counts (§6.1.1).
    count: u32,
    /// It may be copied to other devices of its owner.
    synced: bool,
}

/// What a passkey showed, as methods (RFC 8176 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proved {
    pub(crate) methods: Vec<&'static str>,
    /// The authenticator verified its user, by PIN or body.
    pub(crate) verified: bool,
}

/// The relying party (§5.4.2): a registrable name, so that a realm at an address of numbers
/// has no passkeys.
pub(crate) fn party(settings: &RealmSettings) -> Option<&str> {
    let host = settings.origin().split_once("://").map_or("", |(_, host)| host);
    if host.starts_with('[') {
        return None;
    }
    let name = host.split(':').next().unwrap_or_default();
    let is_name = !name.is_empty() && name.parse::<std::net::IpAddr>().is_err();
    is_name.then_some(name)
}

/// Who a passkey is of, to its authenticator (§5.4.3): nothing that says who it is.
fn handle(user: &str) -> String {
    crate::random::hash(&format!("passkey {user}"))
}

fn descriptors(factors: &Factors) -> Vec<Value> {
    let of = |passkey: &Passkey| json!({ "type": "public-key", "id": passkey.credential });
    factors.passkeys.iter().map(of).collect()
}

/// What the browser is asked to create (§5.4).
pub(crate) fn creation(realm: &Realm, user: &User, factors: &Factors, challenge: &str) -> Option<String> {
    let party = party(&realm.settings)?;
    let algorithms = ALGORITHMS.map(|algorithm| json!({ "type": "public-key", "alg": algorithm }));
    let options = json!({
        "challenge": challenge,
        "rp": { "id": party, "name": realm.settings.display_name },
        "user": {
            "id": handle(&user.id),
            "name": user.username,
            "displayName": user.name.as_ref().unwrap_or(&user.username),
        },
        "pubKeyCredParams": algorithms,
        "timeout": TIMEOUT_MS,
        "attestation": "none",
        "excludeCredentials": descriptors(factors),
        "authenticatorSelection": { "residentKey": "preferred", "userVerification": "preferred" },
    });
    Some(options.to_string())
}

/// What the browser is asked to sign (§5.5): with a passkey of `factors`, or with whichever it
/// has for us.
pub(crate) fn request(realm: &Realm, factors: Option<&Factors>, challenge: &str) -> Option<String> {
    let party = party(&realm.settings)?;
    let options = json!({
        "challenge": challenge,
        "rpId": party,
        "timeout": TIMEOUT_MS,
        "allowCredentials": factors.map(descriptors).unwrap_or_default(),
        // Alone it has to stand for two factors.
        "userVerification": if factors.is_some() { "preferred" } else { "required" },
    });
    Some(options.to_string())
}

/// What our script sends of a credential that was created.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Created {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    attestation_object: String,
}

/// What it sends of one that signed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Signed {
    /// The credential's id, base64url.
    pub(crate) id: String,
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    authenticator_data: String,
    signature: String,
    user_handle: Option<String>,
}

impl Signed {
    /// Reads what our script sends; `None`: it is not that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// What the browser says that it did (§5.8.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    /// Of the page around ours, when it is in a frame of another's.
    top_origin: Option<IgnoredAny>,
}

impl ClientData {
    /// Checks that it was this, for us, for this challenge, on our page itself.
    fn check(bytes: &[u8], kind: &str, challenge: &str, settings: &RealmSettings) -> Result<(), String> {
        let data: Self = serde_json::from_slice(bytes).map_err(|error| format!("client data: {error}"))?;
        if data.kind != kind {
            return Err(format!("client data of type {:?}, expected {kind:?}", data.kind));
        }
        if !bool::from(data.challenge.as_bytes().ct_eq(challenge.as_bytes())) {
            return Err("the challenge is another".to_owned());
        }
        if data.origin != settings.origin() {
            return Err(format!("the origin is {:?}", data.origin));
        }
        if data.cross_origin || data.top_origin.is_some() {
            return Err("it was asked for in a frame of another origin's page".to_owned());
        }
        Ok(())
    }
}

/// What the authenticator says (§6.1).
struct AuthenticatorData {
    flags: u8,
    count: u32,
    /// Id and key of a credential that was created.
    credential: Option<(Vec<u8>, PublicKey)>,
}

impl AuthenticatorData {
    fn read(bytes: &[u8], party: &str) -> Result<Self, String> {
        let short = || "the authenticator's data is cut off".to_owned();
        let (hash, rest) = bytes.split_at_checked(32).ok_or_else(short)?;
        if hash != digest(&SHA256, party.as_bytes()).as_ref() {
            return Err("it is for another relying party".to_owned());
        }
        let (&flags, rest) = rest.split_first().ok_or_else(short)?;
        let (count, mut rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let mut credential = None;
        if flags & HAS_CREDENTIAL != 0 {
            // The make of the authenticator is not looked at.
            let (_, after) = rest.split_at_checked(16).ok_or_else(short)?;
            let (length, after) = after.split_first_chunk::<2>().ok_or_else(short)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (id, mut after) = after.split_at_checked(length).ok_or_else(short)?;
            if !(1..=CREDENTIAL_BYTES_MAX).contains(&id.len()) {
                return Err(format!("a credential id of {} bytes", id.len()));
            }
            credential = Some((id.to_vec(), PublicKey::read(&cbor(&mut after)?)?));
            rest = after;
        }
        if flags & HAS_EXTENSIONS != 0 {
            let _ = cbor(&mut rest)?;
        }
        if !rest.is_empty() {
            return Err(format!("{} bytes after the authenticator's data", rest.len()));
        }
        if flags & USER_PRESENT == 0 {
            return Err("nobody was there (UP)".to_owned());
        }
        if flags & BACKED_UP != 0 && flags & BACKUP_ELIGIBLE == 0 {
            return Err("backed up without being eligible (BE, BS)".to_owned());
        }
        Ok(Self { flags, count: u32::from_be_bytes(*count), credential })
    }

    fn proved(&self) -> Proved {
        let verified = self.flags & USER_VERIFIED != 0;
        // What may be copied to another device is not a key in hardware.
        let key = if self.flags & BACKUP_ELIGIBLE != 0 { SOFTWARE_KEY } else { HARDWARE_KEY };
        let mut methods = vec![key, USER];
        methods.extend(verified.then_some(SEVERAL));
        Proved { methods, verified }
    }
}

/// One item of CBOR; what follows stays.
fn cbor(bytes: &mut &[u8]) -> Result<Cbor, String> {
    ciborium::de::from_reader_with_recursion_limit(bytes, DEPTH_MAX).map_err(|error| format!("CBOR: {error}"))
}

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    decode_base64url(text.as_bytes()).ok_or_else(|| "not base64url".to_owned())
}

/// Verifies a credential that was created (§7.1).
///
/// # Errors
/// Says for the log what is wrong.
pub(crate) fn created(
    settings: &RealmSettings,
    label: Label,
    challenge: &str,
    text: &str,
) -> Result<(Passkey, Proved), String> {
    let party = party(settings).ok_or("this realm has no passkeys")?;
    let sent: Created = serde_json::from_str(text).map_err(|error| error.to_string())?;
    ClientData::check(&decoded(&sent.client_data)?, "webauthn.create", challenge, settings)?;
    let object = decoded(&sent.attestation_object)?;
    let mut rest = object.as_slice();
    let object = cbor(&mut rest)?;
    let members = object.as_map().filter(|_| rest.is_empty()).ok_or("the attestation is not one map")?;
    let data = members.iter().find(|(name, _)| name.as_text() == Some("authData"));
    let data = data.and_then(|(_, data)| data.as_bytes()).ok_or("the attestation has no authData")?;
    let data = AuthenticatorData::read(data, party)?;
    let proved = data.proved();
    let (id, key) = data.credential.ok_or("no credential was created")?;
    let synced = data.flags & BACKUP_ELIGIBLE != 0;
    let passkey = Passkey { label, credential: encode_base64url(&id), key, count: data.count, synced };
    Ok((passkey, proved))
}

impl Passkey {
    /// Verifies what it signed (§7.2), and counts.
    ///
    /// # Errors
    /// Says for the log what is wrong.
    pub(crate) fn take(
        &mut self,
        settings: &RealmSettings,
        user: &str,
        challenge: &str,
        signed: &Signed,
        now: model::Timestamp,
    ) -> Result<Proved, String> {
        let party = party(settings).ok_or("this realm has no passkeys")?;
        if signed.id != self.credential {
            return Err("it is another passkey".to_owned());
        }
        if signed.user_handle.as_ref().is_some_and(|given| !given.is_empty() && *given != handle(user)) {
            return Err("the passkey is of another person".to_owned());
        }
        let client_data = decoded(&signed.client_data)?;
        ClientData::check(&client_data, "webauthn.get", challenge, settings)?;
        let raw = decoded(&signed.authenticator_data)?;
        let data = AuthenticatorData::read(&raw, party)?;
        let message = [raw.as_slice(), digest(&SHA256, &client_data).as_ref()].concat();
        if !self.key.verifies(&message, &decoded(&signed.signature)?) {
            return Err("the signature is wrong".to_owned());
        }
        if (data.count != 0 || self.count != 0) && data.count <= self.count {
            return Err(format!("it counts {} after {}: there may be a copy", data.count, self.count));
        }
        if self.synced != (data.flags & BACKUP_ELIGIBLE != 0) {
            return Err("whether it may be copied changed".to_owned());
        }
        self.count = data.count;
        self.label.used = Some(now);
        Ok(data.proved())
    }
}

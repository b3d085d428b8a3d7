//! Nodes as the control plane keeps them: tokens to join with, and whoever has joined.

use std::time::Duration;

use keys::encoding::{encode_base64url, hex};
use keys::{SecureRandom, sha256};
use model::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Expect, Key, Store, Transaction, Value, Version};

use super::is_name;
use super::key::{NodeKey, Pin};
use crate::directory;
use crate::error::Error;
use crate::scan::{delete_where, each};
use crate::trust_domain::TrustDomain;

/// Most keys of one name that are attested at once: a proof that does not end makes no more.
pub(super) const KEYS_PER_NODE_MAX: usize = 1_000;
/// Longest life of a token to join with.
pub(super) const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(7 * 86_400);

/// How long a node is kept beyond its end: by then a clock that was ahead is right again, and it has not ended. Of most
/// nodes nothing is left to prove them once more.
const KEPT_AFTER_END: Duration = Duration::from_secs(7 * 86_400);

/// A token to join with, as it is given to whoever sets up the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// What proves that the node may join, once.
    pub secret: String,
    /// The control plane's key.
    pub pin: Pin,
}

impl std::fmt::Display for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.secret, self.pin)
    }
}

impl std::str::FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (secret, pin) = text.trim().split_once('.').ok_or_else(|| {
            Error::Settings("this is no join token: expected what `bastide mesh token` printed".to_owned())
        })?;
        Ok(Self { secret: secret.to_owned(), pin: pin.parse()? })
    }
}

/// A token, as it is kept: under the digest of its secret.
#[derive(Debug, Serialize, Deserialize)]
struct Joining {
    node: String,
}

/// A node that was attested, under the pin of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What it is called.
    pub node: String,
    /// How it was attested: `token`, `x509`, `kubernetes`.
    pub by: String,
    /// Its key.
    pub pin: String,
    /// Since when.
    pub attested: Timestamp,
    /// When it has to be attested again, unless it prolongs that.
    pub ends: Timestamp,
}

fn server_key() -> Key {
    Key::new("mesh").name("server")
}

/// Below it, every token that is not used up.
fn all_joining() -> Key {
    Key::new("mesh").name("joining")
}

fn joining(secret: &str) -> Key {
    all_joining().hidden(hex(&sha256(secret.as_bytes())))
}

/// Below it, every node.
pub(super) fn all() -> Key {
    Key::new("mesh").name("nodes")
}

pub(super) fn place(pin: Pin) -> Key {
    all().hidden(pin.to_string())
}

/// Below it, the keys that are attested by this name: counted there.
fn keys_of(node: &str) -> Key {
    Key::new("mesh").name("node_keys").hidden(node)
}

pub(super) fn key_of(node: &str, pin: Pin) -> Key {
    keys_of(node).hidden(pin.to_string())
}

/// Below it, every name that is kept out.
fn all_evicted() -> Key {
    Key::new("mesh").name("evicted")
}

/// Where it says that a node is kept out.
pub(crate) fn evicted(node: &str) -> Key {
    all_evicted().hidden(node)
}

/// A name that is kept out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evicted {
    /// What the node is called.
    pub node: String,
    /// Since when.
    pub since: Timestamp,
}

/// The key that agents know the control plane by, which is made when there is none.
///
/// # Errors
/// The store or the cryptographic library fails.
pub(super) async fn server_signer(
    store: &Store,
    random: &(dyn SecureRandom + Send + Sync),
) -> Result<NodeKey, Error> {
    if let Some(record) = store.get(&server_key()).await? {
        return Ok(record.json()?);
    }
    let made = NodeKey::generate(store.clock().now(), random)?;
    match store.put(server_key(), Value::from_json(&made)?, None, Expect::Absent).await {
        Ok(_) => Ok(made),
        // Another process was first.
        Err(store::Error::Conflict { .. }) => {
            let record = store.get(&server_key()).await?;
            Ok(record.ok_or(Error::Busy)?.json()?)
        }
        Err(other) => Err(other.into()),
    }
}

/// What agents know the control plane by.
///
/// # Errors
/// As [`make_token`].
pub async fn server_pin(store: &Store, random: &(dyn SecureRandom + Send + Sync)) -> Result<Pin, Error> {
    let pin = server_signer(store, random).await?.pin();
    pin.ok_or_else(|| Error::Record("the control plane's key has no pin".to_owned()))
}

/// Makes a token with which a node of this name may join once, also when it was evicted before.
///
/// # Errors
/// The name is none, or has a `/`, which marks those that are attested otherwise; the life is too
/// long; the store fails.
pub async fn make_token(domain: &TrustDomain, node: &str, life: Duration) -> Result<JoinToken, Error> {
    let (store, random) = (domain.store(), domain.random());
    if !is_name(node) || node.contains('/') {
        return Err(Error::Settings(format!(
            "{node:?} names no node: expected letters, digits, `-`, `.` and `_`"
        )));
    }
    if life.is_zero() || life > TOKEN_LIFETIME_MAX {
        return Err(Error::Settings(format!(
            "a join token is good for at most {TOKEN_LIFETIME_MAX:?}, found {life:?}"
        )));
    }
    let pin = server_pin(store, random).await?;
    let mut bytes = [0; 32];
    random.fill(&mut bytes).map_err(|_| keys::Error::Cryptography("random numbers"))?;
    let secret = encode_base64url(&bytes);
    let end = store.clock().now().plus(life);
    let kept = Value::from_json(&Joining { node: node.to_owned() })?;
    let transaction = Transaction::new().put(joining(&secret), kept, Some(end), Expect::Absent);
    store.commit(transaction.delete(evicted(node), Expect::Any)).await?;
    Ok(JoinToken { secret, pin })
}

/// A token that was good when it was looked at, and the node that it lets in.
pub(super) struct GoodToken {
    pub(super) node: String,
    kept_at: Key,
    version: Version,
}

/// Looks at a token, which stays good. `None`: it is unknown, used, or over, or its node was
/// evicted since.
pub(super) async fn look(store: &Store, secret: &str) -> Result<Option<GoodToken>, Error> {
    let kept_at = joining(secret);
    let Some(kept) = store.get(&kept_at).await? else { return Ok(None) };
    let Joining { node } = kept.json()?;
    Ok(Some(GoodToken { node, kept_at, version: kept.version }))
}

impl NodeRecord {
    fn is_attested(&self, now: Timestamp) -> bool {
        now < self.ends
    }

    pub(super) fn new(node: String, by: &str, pin: Pin, now: Timestamp, life: Duration) -> Self {
        Self { node, by: by.to_owned(), pin: pin.to_string(), attested: now, ends: now.plus(life) }
    }
}

/// Lets a node in, and uses up the token that it has shown. `false`: somebody else has used it, or
/// the node was evicted, meanwhile.
pub(super) async fn admit(
    store: &Store,
    pin: Pin,
    record: &NodeRecord,
    token: Option<GoodToken>,
) -> Result<bool, Error> {
    let mut transaction = keep(pin, record, Expect::Any)?;
    // INVARIANT: used up and let in together, so that one token lets one node in.
    if let Some(GoodToken { kept_at, version, .. }) = token {
        transaction = transaction.delete(kept_at, Expect::Version(version));
    }
    match store.commit(transaction).await {
        Ok(_) => Ok(true),
        Err(store::Error::Conflict { .. }) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// Keeps a node until it ends, and a while longer, unless its name is kept out.
fn keep(pin: Pin, record: &NodeRecord, expect: Expect) -> Result<Transaction, Error> {
    let (value, ends) = (Value::from_json(record)?, record.ends);
    Ok(Transaction::new()
        .require(evicted(&record.node), Expect::Absent)
        .put(place(pin), value, Some(ends.plus(KEPT_AFTER_END)), expect)
        .put(key_of(&record.node, pin), "", Some(ends), Expect::Any))
}

/// Whether so many keys of this name are attested that there can be no other. (Calls at the same
/// moment may go past that, each by one.)
pub(super) async fn is_full(store: &Store, node: &str, pin: Pin) -> Result<bool, Error> {
    let known = store.scan(&keys_of(node), None, KEYS_PER_NODE_MAX).await?.records.len();
    Ok(known >= KEYS_PER_NODE_MAX && store.get(&key_of(node, pin)).await?.is_none())
}

/// The node of a key; `None`: it is not attested (any more), or its name is kept out.
pub(super) async fn find(store: &Store, pin: Pin) -> Result<Option<NodeRecord>, Error> {
    let Some(kept) = store.get(&place(pin)).await? else { return Ok(None) };
    let record: NodeRecord = kept.json()?;
    // INVARIANT: whoever is kept out has nothing from that moment on, whether or not all of its
    // keys could be deleted.
    let is_over = !record.is_attested(store.clock().now()) || is_kept_out(store, &record.node).await?;
    Ok((!is_over).then_some(record))
}

/// Prolongs a node that is still attested; `false`: it is not.
pub(super) async fn prolong(store: &Store, pin: Pin, life: Duration) -> Result<bool, Error> {
    let Some(before) = store.get(&place(pin)).await? else { return Ok(false) };
    let (record, now) = (before.json::<NodeRecord>()?, store.clock().now());
    if !record.is_attested(now) {
        return Ok(false);
    }
    let record = NodeRecord { ends: now.plus(life), ..record };
    match store.commit(keep(pin, &record, Expect::Version(before.version))?).await {
        Ok(_) => Ok(true),
        Err(store::Error::Conflict { .. }) => Ok(find(store, pin).await?.is_some()),
        Err(other) => Err(other.into()),
    }
}

/// Every node that is attested, however many there are.
///
/// # Errors
/// The store fails.
pub async fn nodes(store: &Store) -> Result<Vec<NodeRecord>, Error> {
    let (mut list, now) = (Vec::new(), store.clock().now());
    each(store, &all(), |node: NodeRecord| list.extend(Some(node).filter(|node| node.is_attested(now))))
        .await?;
    Ok(list)
}

/// The names that are kept out, however many there are.
///
/// # Errors
/// The store fails.
pub async fn all_kept_out(store: &Store) -> Result<Vec<Evicted>, Error> {
    let mut list = Vec::new();
    each(store, &all_evicted(), |kept_out| list.push(kept_out)).await?;
    Ok(list)
}

/// Whether a name is kept out.
pub(crate) async fn is_kept_out(store: &Store, node: &str) -> Result<bool, Error> {
    Ok(store.get(&evicted(node)).await?.is_some())
}

/// Lets a node in again that was evicted; `false`: it was not.
///
/// # Errors
/// The store fails.
pub async fn readmit(domain: &TrustDomain, node: &str) -> Result<bool, Error> {
    match domain.store().delete(evicted(node), Expect::Present).await {
        Ok(_) => Ok(true),
        Err(store::Error::Conflict { .. }) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// Lets a node in no more, whatever it shows, until a token is made for it or [`readmit`] lets
/// it: all keys of this name, and no token that was made for it before. Nor is anything at its
/// addresses any more, and the certificates that were issued there are revoked. Gives how many keys
/// there were.
///
/// # Errors
/// It names no node; the store fails.
pub async fn evict(domain: &TrustDomain, node: &str) -> Result<usize, Error> {
    if !is_name(node) {
        return Err(Error::Settings(format!("{node:?} names no node")));
    }
    let store = domain.store();
    // First its right to come again; then the tokens with which it could once that is given back.
    let kept_out = Evicted { node: node.to_owned(), since: store.clock().now() };
    store.put(evicted(node), Value::from_json(&kept_out)?, None, Expect::Any).await?;
    delete_where(store, &all_joining(), |record| Ok(record.json::<Joining>()?.node == node)).await?;
    store.delete_all(&keys_of(node)).await?;
    let count = delete_where(store, &all(), |record| Ok(record.json::<NodeRecord>()?.node == node)).await?;
    directory::withdraw_node(store, node).await?;
    domain.take_back_on(node).await?;
    Ok(count)
}

//! What is taken back before its time: certificates by their serial numbers, workloads by
//! their names.
//!
//! A workload that is revoked has all its certificates taken back, and gets nothing until it is
//! lifted. Lifted, it gets new documents; those of before stay what they are.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{Context, SHA256};
use keys::encoding::hex;
use keys::sha256;
use model::{SpiffeId, Switch, Timestamp};
use serde::{Deserialize, Serialize};
use store::limits::KEY_SEGMENT_BYTES_MAX;
use store::{Expect, Key, Record, Store, Transaction, Value};

use crate::error::Error;
use crate::trust_domain::IssuedRecord;

/// Most certificates that are revoked one by one, and most workloads, at once.
pub const REVOKED_MAX: usize = 100_000;
/// Records that are read at a time.
const PAGE_RECORDS: usize = 1_000;
/// Longest serial number that is read, hexadecimal digits (RFC 5280 §4.1.2.2: 20 octets).
const SERIAL_DIGITS_MAX: usize = 40;
/// Certificates that one transaction takes back.
const TOGETHER_MAX: usize = 64;

/// One that is revoked, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Revocation {
    /// One certificate.
    Certificate {
        /// Its serial number, as [`serial`] writes it.
        serial: String,
        /// Whose it is.
        id: SpiffeId,
        /// Since when.
        revoked: Timestamp,
        /// When it ends, and this with it.
        ends: Timestamp,
    },
    /// One workload.
    Identity {
        /// Whose.
        id: SpiffeId,
        /// Since when.
        revoked: Timestamp,
        /// Since when it may have documents again. Tokens of before are refused until they end.
        lifted: Option<Timestamp>,
    },
}

/// What is to be revoked, or lifted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The certificate with this serial number, in whatever way it is written.
    Serial(String),
    /// The workload of this name.
    Identity(SpiffeId),
}

/// A serial number as it is compared: lower-case hexadecimal digits without what some writers
/// put before or between them. `None`: it is none.
pub fn serial(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|digit| !matches!(digit, ':' | ' ')).collect();
    let digits = digits.to_ascii_lowercase();
    let digits = digits.trim_start_matches("0x").trim_start_matches('0');
    let fits = (1..=SERIAL_DIGITS_MAX).contains(&digits.len());
    (fits && digits.bytes().all(|digit| digit.is_ascii_hexdigit())).then(|| digits.to_owned())
}

/// Everything that is revoked at a moment, ready to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    serials: BTreeSet<String>,
    /// In force: `None`. Lifted: since when.
    identities: BTreeMap<SpiffeId, Option<Timestamp>>,
}

impl Revoked {
    /// Of these.
    pub fn new(list: &[Revocation]) -> Self {
        let mut revoked = Self::default();
        for one in list {
            match one {
                Revocation::Certificate { serial, .. } => {
                    revoked.serials.insert(serial.clone());
                }
                Revocation::Identity { id, lifted, .. } => {
                    revoked.identities.insert(id.clone(), *lifted);
                }
            }
        }
        revoked
    }

    /// Of serial numbers as [`serial`] writes them, and names of workloads that are in force.
    pub fn of(
        serials: impl IntoIterator<Item = String>,
        identities: impl IntoIterator<Item = SpiffeId>,
    ) -> Self {
        Self {
            serials: serials.into_iter().collect(),
            identities: identities.into_iter().map(|id| (id, None)).collect(),
        }
    }

    /// And of workloads that were lifted, whose tokens of before stay refused.
    #[must_use]
    pub fn with_lifted(mut self, lifted: impl IntoIterator<Item = (SpiffeId, Timestamp)>) -> Self {
        self.identities.extend(lifted.into_iter().map(|(id, since)| (id, Some(since))));
        self
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty() && self.identities.is_empty()
    }

    /// The serial numbers.
    pub fn serials(&self) -> impl Iterator<Item = &str> {
        self.serials.iter().map(String::as_str)
    }

    /// The workloads that have nothing.
    pub fn identities(&self) -> impl Iterator<Item = &SpiffeId> {
        self.identities.iter().filter(|(_, lifted)| lifted.is_none()).map(|(id, _)| id)
    }

    /// The workloads that were lifted, and when: tokens of before are refused.
    pub fn lifted(&self) -> impl Iterator<Item = (&SpiffeId, Timestamp)> {
        self.identities.iter().filter_map(|(id, lifted)| Some((id, (*lifted)?)))
    }

    /// Whether a workload may have nothing.
    pub fn has_identity(&self, id: &SpiffeId) -> bool {
        self.identities.get(id).is_some_and(Option::is_none)
    }

    /// Whether the certificate with this serial number (as certificates have it, hexadecimal)
    /// is taken back.
    pub fn has_serial(&self, number: &str) -> bool {
        !self.serials.is_empty() && serial(number).is_some_and(|number| self.serials.contains(&number))
    }

    /// What stands against a certificate; `None`: nothing.
    pub fn certificate(&self, id: &SpiffeId, number: &str) -> Option<String> {
        if Switch::Revocation.is_off() {
            return None;
        }
        if self.has_identity(id) {
            return Some(format!("{id} is revoked"));
        }
        self.has_serial(number).then(|| format!("the certificate {number} of {id} is revoked"))
    }

    /// What stands against a token that was issued at a moment; `None`: nothing.
    pub fn token(&self, id: &SpiffeId, issued: Option<Timestamp>) -> Option<String> {
        let lifted = self.identities.get(id)?;
        let good = lifted
            .is_some_and(|lifted| issued.is_some_and(|issued| issued.unix_seconds() > lifted.unix_seconds()));
        (!good).then(|| format!("{id} is revoked, or was when this was issued"))
    }

    /// What is the same for two that refuse the same.
    pub fn mark(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        for text in self.serials().chain(self.identities().map(SpiffeId::as_str)) {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        let mut mark = [0; 32];
        for (to, from) in mark.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        mark
    }
}

/// Below it, everything that is revoked.
pub(crate) fn all() -> Key {
    Key::new("mesh").name("revoked")
}

/// Where the word on a workload is.
pub(crate) fn of_identity(id: &SpiffeId) -> Key {
    all().name("identity").hidden(segment(id))
}

/// A workload as a segment of a key: its name, or the digest of that where it is longer than a
/// segment can be. No name looks like a digest.
pub(crate) fn segment(id: &SpiffeId) -> String {
    let name = id.as_str();
    if name.len() > KEY_SEGMENT_BYTES_MAX { hex(&sha256(name.as_bytes())) } else { name.to_owned() }
}

fn certificates() -> Key {
    all().name("certificate")
}

fn of_serial(serial: &str) -> Key {
    certificates().hidden(serial)
}

/// Everything that is revoked. Where that is more than `certificates_max` certificates, the
/// workloads with the most of them count as revoked themselves, until enough have ended.
///
/// # Errors
/// The store fails; there are more than [`REVOKED_MAX`] workloads.
pub(crate) async fn read(store: &Store, certificates_max: usize) -> Result<Vec<Revocation>, Error> {
    let workloads = store.scan_all(&all().name("identity"), REVOKED_MAX).await?;
    let mut list = workloads.iter().map(Record::json).collect::<Result<Vec<Revocation>, _>>()?;
    let (mut apart, mut whole) = (BTreeMap::<SpiffeId, Vec<Revocation>>::new(), BTreeMap::new());
    let (mut count, mut after) = (0, None);
    loop {
        let page = store.scan(&certificates(), after.as_ref(), PAGE_RECORDS).await?;
        for entry in page.records.iter().map(Record::json::<Revocation>) {
            let entry = entry?;
            let Revocation::Certificate { id, .. } = &entry else { continue };
            if whole.contains_key(id) {
                continue;
            }
            apart.entry(id.clone()).or_default().push(entry);
            count += 1;
            if count > certificates_max
                && let Some(most) = apart.iter().max_by_key(|(_, list)| list.len()).map(|(id, _)| id.clone())
            {
                let certificates = apart.remove(&most).unwrap_or_default();
                count -= certificates.len();
                whole.insert(most, certificates.into_iter().next());
            }
        }
        match page.next {
            Some(cursor) => after = Some(cursor),
            None => break,
        }
    }
    list.retain(|entry| !matches!(entry, Revocation::Identity { id, .. } if whole.contains_key(id)));
    for (id, first) in whole {
        let Some(Revocation::Certificate { revoked, .. }) = first else { continue };
        tracing::error!(%id, "mesh: more certificates of this workload are revoked than are listed one by one; the workload counts as revoked until enough of them have expired");
        list.push(Revocation::Identity { id, revoked, lifted: None });
    }
    list.extend(apart.into_values().flatten());
    Ok(list)
}

/// Takes a workload's right to documents; what it has is taken back by [`take_back`].
pub(crate) async fn revoke_identity(
    store: &Store,
    id: &SpiffeId,
    now: Timestamp,
) -> Result<Revocation, Error> {
    let before = store.get(&of_identity(id)).await?;
    let since = match before.as_ref().map(Record::json::<Revocation>).transpose()? {
        Some(Revocation::Identity { revoked, lifted: None, .. }) => revoked,
        _ => now,
    };
    let entry = Revocation::Identity { id: id.clone(), revoked: since, lifted: None };
    store.put(of_identity(id), Value::from_json(&entry)?, None, Expect::Any).await?;
    Ok(entry)
}

/// Takes certificates back until they end.
pub(crate) async fn take_back(
    store: &Store,
    certificates: &[IssuedRecord],
    now: Timestamp,
) -> Result<Vec<Revocation>, Error> {
    let mut entries = Vec::new();
    for several in certificates.chunks(TOGETHER_MAX) {
        let mut transaction = Transaction::new();
        for kept in several {
            let Some(number) = serial(&kept.serial) else { continue };
            let entry = Revocation::Certificate {
                serial: number.clone(),
                id: kept.id.clone(),
                revoked: now,
                ends: kept.not_after,
            };
            let end = kept.not_after.plus(std::time::Duration::from_secs(1));
            transaction =
                transaction.put(of_serial(&number), Value::from_json(&entry)?, Some(end), Expect::Any);
            entries.push(entry);
        }
        store.commit(transaction).await?;
    }
    Ok(entries)
}

/// Lifts what is revoked; `false`: it is not. A workload's tokens of before stay refused until
/// `tokens_end`.
pub(crate) async fn lift(
    store: &Store,
    target: &Target,
    now: Timestamp,
    tokens_end: Timestamp,
) -> Result<bool, Error> {
    let written = match target {
        Target::Serial(text) => {
            let Some(number) = serial(text) else { return Ok(false) };
            store.delete(of_serial(&number), Expect::Present).await
        }
        Target::Identity(id) => {
            let Some(record) = store.get(&of_identity(id)).await? else { return Ok(false) };
            let Revocation::Identity { id, revoked, lifted: None } = record.json()? else {
                return Ok(false);
            };
            let place = of_identity(&id);
            let entry = Revocation::Identity { id, revoked, lifted: Some(now) };
            let expect = Expect::Version(record.version);
            store.put(place, Value::from_json(&entry)?, Some(tokens_end), expect).await
        }
    };
    match written {
        Ok(_) => Ok(true),
        Err(store::Error::Conflict { .. }) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests;

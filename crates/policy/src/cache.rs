//! Decisions that a core has made before.
//!
//! A decision is a function of what its slice's policies can read and of nothing else.
//! So the key holds exactly that, value by value and whole: who asks (kind, id, roles),
//! for whom (kind, roles), for which route and method, and every attribute that a policy of the slice names,
//! or that lies below or above what it names. Keys are compared byte by byte, so two
//! requests share an entry only if no policy could tell them apart.
//!
//! The end of a credential is not in the key: it is checked before the cache is asked,
//! at every decision. Time enters as minute, hour or weekday, when a policy reads them.
//! Errors are never kept, and neither are slices with a policy outside the fragment
//! that [`fragment`] lists.

mod fragment;

use std::sync::Arc;

use foldhash::fast::RandomState;
use lru::LruCache;
use model::growing;

pub(crate) use fragment::{cacheable, keyed};

use crate::limits::{CACHE_BYTES_MAX, CACHE_ENTRIES_MAX, CACHE_ENTRY_BYTES_MAX};
use crate::load::Policies;
use crate::names::Bits;
use crate::permit::{Determining, Reason};
use crate::schema::{Leaf, Schema};
use crate::values::{Datum, Reader};

/// What the policies said, without the request that they said it about.
pub(crate) type Verdict = Result<Determining, (Reason, Determining)>;

/// A decision that was made before.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) verdict: Verdict,
    /// The record of the decision, as JSON: it reads the same attributes.
    pub(crate) record: Arc<[u8]>,
}

/// How often the cache was asked, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// The decision was there.
    pub hits: u64,
    /// It was not; most misses leave an entry.
    pub misses: u64,
    /// The slice or the request does not allow caching.
    pub bypassed: u64,
}

/// One core's decisions: at most [`CACHE_ENTRIES_MAX`] and [`CACHE_BYTES_MAX`], of which
/// the least recently used go first.
///
/// INVARIANT: an entry never survives a change of policies, vocabulary or generation:
/// the cache is bound to one generation of policies and empties itself when asked about
/// another. Whoever adopts new keys or API keys calls [`DecisionCache::clear`].
#[derive(Debug)]
pub struct DecisionCache {
    entries: LruCache<Box<[u8]>, Known, RandomState>,
    bytes: usize,
    generation: u64,
    snapshot: String,
    key: Vec<u8>,
    counts: CacheCounts,
}

impl Default for DecisionCache {
    fn default() -> Self {
        Self {
            entries: growing(CACHE_ENTRIES_MAX),
            bytes: 0,
            generation: 0,
            snapshot: String::new(),
            key: Vec::with_capacity(512),
            counts: CacheCounts::default(),
        }
    }
}

impl DecisionCache {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets every decision.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// How often it was asked.
    pub fn counts(&self) -> CacheCounts {
        self.counts
    }

    /// Decisions that it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys and records that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn bind(&mut self, policies: &Policies) {
        if self.generation != policies.generation() || self.snapshot != policies.snapshot() {
            self.clear();
            self.generation = policies.generation();
            policies.snapshot().clone_into(&mut self.snapshot);
        }
    }

    /// The decision, when it is known. [`Missing::Unknown`] promises that the key is
    /// ready for [`DecisionCache::keep`].
    pub(crate) fn find(
        &mut self,
        policies: &Policies,
        read: Option<&Bits>,
        asked: &Asked<'_>,
        reader: &impl Reader,
    ) -> Result<&Known, Missing> {
        self.bind(policies);
        let written = read.is_some_and(|read| write_key(&mut self.key, policies, read, asked, reader));
        if !written {
            self.counts.bypassed += 1;
            return Err(Missing::Uncacheable);
        }
        match self.entries.get(self.key.as_slice()) {
            Some(known) => {
                self.counts.hits += 1;
                Ok(known)
            }
            None => {
                self.counts.misses += 1;
                Err(Missing::Unknown)
            }
        }
    }

    /// Keeps what was decided about the request that was last looked for. An error is
    /// not kept: it is made again, and said again.
    pub(crate) fn keep(&mut self, verdict: &Verdict, record: &[u8]) {
        if matches!(verdict, Err((Reason::Error { .. } | Reason::Expired | Reason::UnknownRoute, _))) {
            return;
        }
        let size = self.key.len() + record.len();
        if size > CACHE_ENTRY_BYTES_MAX {
            return;
        }
        let known = Known { verdict: verdict.clone(), record: record.into() };
        self.bytes += size;
        if let Some((key, old)) = self.entries.push(self.key.as_slice().into(), known) {
            self.bytes -= key.len() + old.record.len();
        }
        while self.bytes > CACHE_BYTES_MAX {
            let Some((key, old)) = self.entries.pop_lru() else { break };
            self.bytes -= key.len() + old.record.len();
        }
    }
}

/// Why a decision is not known.
#[derive(Debug)]
pub(crate) enum Missing {
    /// It may be kept once it is made.
    Unknown,
    /// It must not.
    Uncacheable,
}

/// What of a request is no attribute.
pub(crate) struct Asked<'a> {
    pub(crate) principal: &'a model::Principal,
    /// The end user of a service's call: the record names their kind and roles.
    pub(crate) user: Option<&'a model::Principal>,
    pub(crate) route: usize,
    pub(crate) method: &'a str,
}

/// Writes everything that the decision can depend on, each value with its length, so
/// that no two lists of values are written alike. False when something cannot be read:
/// such a request is judged anew each time.
fn write_key(
    key: &mut Vec<u8>,
    policies: &Policies,
    read: &Bits,
    asked: &Asked<'_>,
    reader: &impl Reader,
) -> bool {
    key.clear();
    key.push(asked.principal.kind as u8);
    number(key, asked.route);
    text(key, asked.method);
    text(key, &asked.principal.id);
    number(key, asked.principal.roles.len());
    for role in &asked.principal.roles {
        text(key, role);
    }
    key.push(u8::from(asked.user.is_some()));
    if let Some(user) = asked.user {
        key.push(user.kind as u8);
        number(key, user.roles.len());
        user.roles.iter().for_each(|role| text(key, role));
    }
    let leaves = &policies.schema().leaves;
    for place in read.iter() {
        let Some(leaf) = leaves.get(place) else {
            let group = place.checked_sub(leaves.len()).and_then(|group| Schema::GROUPS.get(group));
            key.push(u8::from(group.is_some_and(|(_, name, optional)| !optional || reader.has(name))));
            continue;
        };
        if !value(key, leaf, reader) {
            return false;
        }
    }
    key.len() <= CACHE_ENTRY_BYTES_MAX
}

fn value(key: &mut Vec<u8>, leaf: &Leaf, reader: &impl Reader) -> bool {
    match reader.read(leaf) {
        Err(_) => return false,
        Ok(None) => key.push(0),
        Ok(Some(Datum::Boolean(value))) => key.push(1 + u8::from(value)),
        Ok(Some(Datum::Long(value))) => {
            key.push(3);
            key.extend_from_slice(&value.to_ne_bytes());
        }
        Ok(Some(Datum::Text(value))) => {
            key.push(4);
            text(key, &value);
        }
        Ok(Some(Datum::Texts(values))) => {
            key.push(5);
            number(key, values.len());
            values.iter().for_each(|value| text(key, value));
        }
        Ok(Some(Datum::Address(std::net::IpAddr::V4(address)))) => {
            key.push(6);
            key.extend_from_slice(&address.octets());
        }
        Ok(Some(Datum::Address(std::net::IpAddr::V6(address)))) => {
            key.push(7);
            key.extend_from_slice(&address.octets());
        }
    }
    true
}

fn number(key: &mut Vec<u8>, value: usize) {
    key.extend_from_slice(&value.to_ne_bytes());
}

fn text(key: &mut Vec<u8>, value: &str) {
    number(key, value.len());
    key.extend_from_slice(value.as_bytes());
}

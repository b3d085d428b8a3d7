//! What is registered at a moment, as one process of the control plane knows it.
//!
//! Leases end by this process' own monotonic clock: wall clocks are set, and those of others differ.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use model::{SpiffeId, Timestamp};
use store::Version;

use super::{ALL_MAX, Endpoints, PER_NODE_MAX, PER_SERVICE_MAX, Registration};

/// Which registration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RegistrationKey {
    pub(super) id: SpiffeId,
    pub(super) node: String,
    pub(super) address: SocketAddr,
}

impl RegistrationKey {
    pub(super) fn of(registration: &Registration) -> Self {
        let Registration { id, node, address, .. } = registration;
        Self { id: id.clone(), node: node.clone(), address: *address }
    }
}

/// None sorts before it.
const ADDRESS_MIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

#[derive(Clone, Copy, Debug)]
struct Entry {
    since: Timestamp,
    ends: Duration,
    version: Version,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    places: BTreeMap<RegistrationKey, Entry>,
    /// How many are of each node; none has zero.
    on_node: BTreeMap<String, usize>,
    /// None ends before it. One that was renewed may end later than this says.
    next_end: Option<Duration>,
}

impl Table {
    /// Takes what is kept; `true`: it is another address than before.
    pub(super) fn put(&mut self, kept: &Registration, ends: Duration, version: Version) -> bool {
        let entry = Entry { since: kept.since, ends, version };
        self.next_end = Some(self.next_end.map_or(ends, |next| next.min(ends)));
        let is_new = self.places.insert(RegistrationKey::of(kept), entry).is_none();
        if is_new {
            *self.on_node.entry(kept.node.clone()).or_default() += 1;
        }
        is_new
    }

    /// `true`: it was there.
    pub(super) fn remove(&mut self, place: &RegistrationKey) -> bool {
        let was_there = self.places.remove(place).is_some();
        if was_there {
            self.count_out(&place.node);
        }
        was_there
    }

    /// Takes out one whose lease ended at this version; `false`: it was registered anew since, and
    /// stays, or was taken out already.
    pub(super) fn end(&mut self, place: &RegistrationKey, version: Version) -> bool {
        self.places.get(place).is_some_and(|entry| entry.version == version) && self.remove(place)
    }

    /// `true`: some of this workload were there.
    pub(super) fn remove_all(&mut self, id: &SpiffeId) -> bool {
        let gone: Vec<RegistrationKey> = self.of(id).cloned().collect();
        for place in &gone {
            self.remove(place);
        }
        !gone.is_empty()
    }

    fn count_out(&mut self, node: &str) {
        if let Some(count) = self.on_node.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                self.on_node.remove(node);
            }
        }
    }

    /// Those of a workload.
    fn of(&self, id: &SpiffeId) -> impl Iterator<Item = &RegistrationKey> {
        let first = RegistrationKey { id: id.clone(), node: String::new(), address: ADDRESS_MIN };
        self.places.range(first..).map(|(place, _)| place).take_while(move |place| place.id == *id)
    }

    /// Since when it is there.
    pub(super) fn since(&self, place: &RegistrationKey) -> Option<Timestamp> {
        self.places.get(place).map(|entry| entry.since)
    }

    /// What a node says of an address, whosever it is.
    pub(super) fn at(&self, node: &str, address: SocketAddr) -> impl Iterator<Item = &RegistrationKey> {
        self.places.keys().filter(move |place| place.address == address && place.node == node)
    }

    /// Why one more has no place; `None`: it has.
    pub(super) fn full(&self, place: &RegistrationKey) -> Option<String> {
        if self.of(&place.id).count() >= PER_SERVICE_MAX {
            return Some(format!("{PER_SERVICE_MAX} addresses of {} are registered already", place.id));
        }
        if self.on_node.get(&place.node).is_some_and(|count| *count >= PER_NODE_MAX) {
            let node = if place.node.is_empty() { "beside the control plane" } else { &place.node };
            return Some(format!("{PER_NODE_MAX} addresses are registered {node} already"));
        }
        (self.places.len() >= ALL_MAX).then(|| format!("{ALL_MAX} addresses are registered already"))
    }

    /// Those that were not renewed in time. Looks at none before [`Self::next_end`].
    pub(super) fn over(&mut self, now: Duration) -> Vec<(RegistrationKey, Version)> {
        let mut over = Vec::new();
        if self.next_end.is_none_or(|next| now < next) {
            return over;
        }
        for (place, entry) in &self.places {
            if entry.ends <= now {
                over.push((place.clone(), entry.version));
            }
        }
        self.next_end = self.places.values().map(|entry| entry.ends).min();
        over
    }

    /// Takes the word that one was renewed.
    pub(super) fn prolong(&mut self, place: &RegistrationKey, ends: Duration, version: Version) {
        if let Some(entry) = self.places.get_mut(place) {
            *entry = Entry { ends: entry.ends.max(ends), version, ..*entry };
        }
    }

    /// When the next may end that is not renewed.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.next_end
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        let mut endpoints = Endpoints::new();
        for place in self.places.keys() {
            endpoints.entry(place.id.clone()).or_default().insert(place.address);
        }
        endpoints
    }
}

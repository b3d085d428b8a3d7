//! What is registered at a moment, as one process of the control plane knows it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use model::{SpiffeId, Timestamp};
use store::Version;

use super::{ALL_MAX, Endpoints, PER_NODE_MAX, PER_SERVICE_MAX, Registration};

/// Which registration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) id: SpiffeId,
    pub(super) node: String,
    pub(super) address: SocketAddr,
}

impl Place {
    pub(super) fn of(registration: &Registration) -> Self {
        let Registration { id, node, address, .. } = registration;
        Self { id: id.clone(), node: node.clone(), address: *address }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    since: Timestamp,
    ends: Timestamp,
    version: Version,
}

#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<Place, Entry>);

impl Table {
    /// Takes what is kept; `true`: it is another address than before.
    pub(super) fn put(&mut self, kept: &Registration, ends: Timestamp, version: Version) -> bool {
        let entry = Entry { since: kept.since, ends, version };
        self.0.insert(Place::of(kept), entry).is_none()
    }

    /// `true`: it was there.
    pub(super) fn remove(&mut self, place: &Place) -> bool {
        self.0.remove(place).is_some()
    }

    /// `true`: some of this workload were there.
    pub(super) fn remove_all(&mut self, id: &SpiffeId) -> bool {
        let before = self.0.len();
        self.0.retain(|place, _| place.id != *id);
        self.0.len() < before
    }

    /// Since when it is there.
    pub(super) fn since(&self, place: &Place) -> Option<Timestamp> {
        self.0.get(place).map(|entry| entry.since)
    }

    /// What a node says of an address, whosever it is.
    pub(super) fn at(&self, node: &str, address: SocketAddr) -> impl Iterator<Item = &Place> {
        self.0.keys().filter(move |place| place.address == address && place.node == node)
    }

    /// Why one more has no place; `None`: it has.
    pub(super) fn full(&self, place: &Place) -> Option<String> {
        let count = |is: &dyn Fn(&Place) -> bool| self.0.keys().filter(|other| is(other)).count();
        if count(&|other| other.id == place.id) >= PER_SERVICE_MAX {
            return Some(format!("{PER_SERVICE_MAX} addresses of {} are registered already", place.id));
        }
        if count(&|other| other.node == place.node) >= PER_NODE_MAX {
            let node = if place.node.is_empty() { "beside the control plane" } else { &place.node };
            return Some(format!("{PER_NODE_MAX} addresses are registered {node} already"));
        }
        (self.0.len() >= ALL_MAX).then(|| format!("{ALL_MAX} addresses are registered already"))
    }

    /// Takes out those that were not renewed in time.
    pub(super) fn end(&mut self, now: Timestamp) -> Vec<(Place, Version)> {
        let over: Vec<(Place, Version)> = self
            .0
            .iter()
            .filter(|(_, entry)| entry.ends <= now)
            .map(|(place, entry)| (place.clone(), entry.version))
            .collect();
        self.0.retain(|_, entry| now < entry.ends);
        over
    }

    /// When the next ends that is not renewed.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.0.values().map(|entry| entry.ends).min()
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        let mut endpoints = Endpoints::new();
        for place in self.0.keys() {
            endpoints.entry(place.id.clone()).or_default().insert(place.address);
        }
        endpoints
    }
}

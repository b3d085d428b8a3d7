//! The exchanges that have a connection of a pool, counted by network as they come and go.

use std::cell::RefCell;
use std::collections::HashMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::Network;
use crate::upstream::board::Share;

/// So many networks that have nothing any more are remembered at least: most come again.
const REMEMBERED: usize = 64;

/// The exchanges that have a connection of a pool.
#[derive(Debug, Default)]
pub(crate) struct Holders(RefCell<Lists>);

/// Both lists are of places that are used again.
#[derive(Debug, Default)]
struct Lists {
    holders: Vec<Option<Holder>>,
    free: Vec<usize>,
    networks: Vec<Has>,
    free_networks: Vec<usize>,
    by_network: HashMap<Network, usize, RandomState>,
    /// The networks that have something.
    having: usize,
    /// Exchanges that are ended and have not given up their connections yet.
    leaving: usize,
}

#[derive(Debug)]
struct Holder {
    /// The place of its network.
    of: usize,
    since_ms: u64,
    is_tunnel: bool,
    /// Its task, while it waits for its client.
    waits: Option<Waker>,
    is_ended: bool,
}

/// What a network has.
#[derive(Debug)]
struct Has {
    network: Network,
    /// Those that are ended are given up already.
    connections: usize,
    /// The one that may be ended first, as far as the last look has found one.
    oldest: Option<Oldest>,
}

/// Whether it is a tunnel, since when it has its connection, and its place.
type Oldest = (bool, u64, usize);

impl Holders {
    /// One more, from now on.
    pub(crate) fn enter(&self, network: Network, now_ms: u64) -> Holding<'_> {
        let lists = &mut *self.0.borrow_mut();
        let of = lists.count(network);
        let holder = Some(Holder { of, since_ms: now_ms, is_tunnel: false, waits: None, is_ended: false });
        let place = match lists.free.pop().and_then(|place| Some((place, lists.holders.get_mut(place)?))) {
            Some((place, free)) => {
                *free = holder;
                place
            }
            None => {
                lists.holders.push(holder);
                lists.holders.len() - 1
            }
        };
        Holding { holders: self, place }
    }

    /// How many connections a network has.
    pub(crate) fn connections(&self, network: Network) -> usize {
        let lists = self.0.borrow();
        let place = lists.by_network.get(&network);
        place.and_then(|place| lists.networks.get(*place)).map_or(0, |has| has.connections)
    }

    /// Somebody waits whose network has `own` connections: ends an exchange in its favour, if one may
    /// be ended.
    pub(crate) fn relieve(&self, own: usize, now_ms: u64, stalled: Duration) -> bool {
        let lists = &mut *self.0.borrow_mut();
        lists.look(now_ms, stalled);
        // With one more and one less they would only have changed places.
        let more = lists.networks.iter().filter(|has| has.connections > own + 1);
        let most = more.filter_map(|has| Some((has.connections, has.oldest?))).max_by_key(|most| most.0);
        most.is_some_and(|(_, oldest)| lists.end(oldest))
    }

    /// How many connections are given up already, and still to become free.
    pub(crate) fn leaving(&self) -> usize {
        self.0.borrow().leaving
    }

    /// What each network has, for other cores.
    pub(crate) fn shares(&self, now_ms: u64, stalled: Duration) -> Vec<Share> {
        let lists = &mut *self.0.borrow_mut();
        lists.look(now_ms, stalled);
        let has = lists.networks.iter().filter(|has| has.connections > 0);
        let share = |has: &Has| {
            let oldest = has.oldest.map(|(is_tunnel, since_ms, _)| (is_tunnel, since_ms));
            Share { network: has.network, connections: has.connections, oldest }
        };
        has.map(share).collect()
    }

    /// Ends the oldest exchange of a network that may be ended, of those that the last look found.
    pub(crate) fn end_of(&self, network: Network) {
        let lists = &mut *self.0.borrow_mut();
        let has = lists.by_network.get(&network).and_then(|place| lists.networks.get_mut(*place));
        if let Some(oldest) = has.and_then(|has| has.oldest.take()) {
            lists.end(oldest);
        }
    }
}

impl Lists {
    /// The place of a network that has one more.
    fn count(&mut self, network: Network) -> usize {
        let known = self.by_network.get(&network).copied();
        let place = known.unwrap_or_else(|| self.meet(network));
        if let Some(has) = self.networks.get_mut(place) {
            self.having += usize::from(has.connections == 0);
            has.connections += 1;
        }
        place
    }

    /// A place for a network that is not known.
    fn meet(&mut self, network: Network) -> usize {
        if self.by_network.len() > 2 * self.having + REMEMBERED {
            self.forget();
        }
        let new = Has { network, connections: 0, oldest: None };
        let Self { networks, free_networks, .. } = self;
        let place = match free_networks.pop().and_then(|place| Some((place, networks.get_mut(place)?))) {
            Some((place, free)) => {
                *free = new;
                place
            }
            None => {
                networks.push(new);
                networks.len() - 1
            }
        };
        self.by_network.insert(network, place);
        place
    }

    /// Forgets the networks that have nothing, which are more than half.
    fn forget(&mut self) {
        let Self { networks, free_networks, by_network, .. } = self;
        by_network.retain(|_, place| {
            let has = networks.get(*place).is_some_and(|has| has.connections > 0);
            if !has {
                free_networks.push(*place);
            }
            has
        });
    }

    /// The network at a place has one less.
    fn uncount(&mut self, of: usize) {
        let Some(has) = self.networks.get_mut(of) else { return };
        has.connections -= 1;
        if has.connections == 0 {
            has.oldest = None;
            self.having -= 1;
        }
    }

    /// Finds out what each network can give: one pass, which asks for no network by its name.
    fn look(&mut self, now_ms: u64, stalled: Duration) {
        let since_max = now_ms.saturating_sub(u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX));
        for has in &mut self.networks {
            has.oldest = None;
        }
        for (place, holder) in self.holders.iter().enumerate() {
            let may_end =
                |holder: &&Holder| holder.waits.is_some() && !holder.is_ended && holder.since_ms <= since_max;
            let Some(holder) = holder.as_ref().filter(may_end) else { continue };
            let Some(has) = self.networks.get_mut(holder.of) else { continue };
            let this = (holder.is_tunnel, holder.since_ms, place);
            has.oldest = Some(has.oldest.map_or(this, |oldest| oldest.min(this)));
        }
    }

    fn end(&mut self, (_, since_ms, place): Oldest) -> bool {
        let Some(Some(holder)) = self.holders.get_mut(place) else { return false };
        // What was found a while ago may have gone, and its place be another one's.
        let Some(waker) = holder.waits.take_if(|_| holder.since_ms == since_ms) else { return false };
        holder.is_ended = true;
        self.leaving += 1;
        waker.wake();
        let of = holder.of;
        self.uncount(of);
        true
    }
}

/// An exchange has a connection while this is there.
#[derive(Debug)]
pub(crate) struct Holding<'h> {
    holders: &'h Holders,
    place: usize,
}

impl Holding<'_> {
    /// From now on it is a tunnel.
    pub(crate) fn becomes_tunnel(&self) {
        if let Some(Some(holder)) = self.holders.0.borrow_mut().holders.get_mut(self.place) {
            holder.is_tunnel = true;
        }
    }

    /// Ready when the exchange has to give its connection up. `waits`: whether it waits for its client.
    pub(crate) fn poll_ended(&self, waits: bool, cx: &Context<'_>) -> Poll<()> {
        let mut lists = self.holders.0.borrow_mut();
        let Some(Some(holder)) = lists.holders.get_mut(self.place) else { return Poll::Pending };
        match &holder.waits {
            _ if holder.is_ended => return Poll::Ready(()),
            Some(waker) if waits && waker.will_wake(cx.waker()) => {}
            None if !waits => {}
            _ => holder.waits = waits.then(|| cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        let lists = &mut *self.holders.0.borrow_mut();
        match lists.holders.get_mut(self.place).and_then(Option::take) {
            Some(holder) if holder.is_ended => lists.leaving -= 1,
            Some(holder) => lists.uncount(holder.of),
            None => {}
        }
        lists.free.push(self.place);
    }
}

#[cfg(test)]
impl Holders {
    /// How many places there are.
    pub(super) fn places(&self) -> (usize, usize) {
        let lists = self.0.borrow();
        (lists.holders.len(), lists.networks.len())
    }
}

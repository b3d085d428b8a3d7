//! Who has a pool's connections and who waits for one, by network: no network of clients keeps the
//! others from a service.
//!
//! Three rules, all of which rest while nobody waits:
//! - Of each network one request stands in the pool's queue, and the others behind it. What
//!   becomes free goes to the networks in turn, however many requests one of them has.
//! - When as many wait as may, the network that has most of them gives up its last for one that has
//!   fewer.
//! - An exchange that waits for its client, and has had its connection for `stalled_ms_max`, is
//!   ended when a request of a network waits that has fewer connections. Bytes that trickle prolong
//!   nothing. The oldest one of the network that has the most connections is the one.
//!
//! So a network that waits has its connection within `stalled_ms_max`, and one round of the networks
//! that wait, unless all connections wait for the service.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use model::ClientNetwork;
use tokio::sync::Notify;

/// Nobody's, as copies of requests, are a network of their own.
pub(crate) type Network = Option<ClientNetwork>;

/// The exchanges that have a connection of a pool.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    list: RefCell<Vec<Option<Holder>>>,
    free: RefCell<Vec<usize>>,
}

#[derive(Debug)]
struct Holder {
    network: Network,
    since_ms: u64,
    /// Its task, while it waits for its client.
    waits: Option<Waker>,
    is_ended: bool,
}

/// What a network has.
#[derive(Debug, Default)]
struct Has {
    connections: usize,
    /// The one that may be ended first: since when it has its connection, and its place.
    oldest: Option<(u64, usize)>,
}

impl Holders {
    /// One more, from now on.
    pub(crate) fn enter(&self, network: Network, now_ms: u64) -> Holding<'_> {
        let holder = Some(Holder { network, since_ms: now_ms, waits: None, is_ended: false });
        let mut list = self.list.borrow_mut();
        let place = self.free.borrow_mut().pop();
        let place = match place.and_then(|place| Some((place, list.get_mut(place)?))) {
            Some((place, free)) => {
                *free = holder;
                place
            }
            None => {
                list.push(holder);
                list.len() - 1
            }
        };
        Holding { holders: self, place }
    }

    /// Somebody waits: ends an exchange in its favour, if one may be ended.
    pub(crate) fn relieve(&self, waiting: Network, now_ms: u64, stalled: Duration) -> bool {
        let since_max = now_ms.saturating_sub(u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX));
        let mut list = self.list.borrow_mut();
        let mut networks = HashMap::<Network, Has>::new();
        for (place, holder) in list.iter().enumerate() {
            let Some(holder) = holder.as_ref().filter(|holder| !holder.is_ended) else { continue };
            let has = networks.entry(holder.network).or_default();
            has.connections += 1;
            if holder.waits.is_some() && holder.since_ms <= since_max {
                let oldest = has.oldest.get_or_insert((holder.since_ms, place));
                *oldest = (*oldest).min((holder.since_ms, place));
            }
        }
        let own = networks.get(&waiting).map_or(0, |has| has.connections);
        // With one more and one less they would only have changed places.
        let more = networks.values().filter(|has| has.connections > own + 1);
        let most = more.filter_map(|has| Some((has.connections, has.oldest?))).max_by_key(|most| most.0);
        let Some((_, (_, place))) = most else { return false };
        let Some(Some(holder)) = list.get_mut(place) else { return false };
        holder.is_ended = true;
        if let Some(waker) = holder.waits.take() {
            waker.wake();
        }
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
    /// Ready when the exchange has to give its connection up. `waits`: whether it waits for its client.
    pub(crate) fn poll_ended(&self, waits: bool, cx: &Context<'_>) -> Poll<()> {
        let mut list = self.holders.list.borrow_mut();
        let Some(Some(holder)) = list.get_mut(self.place) else { return Poll::Pending };
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
        if let Some(holder) = self.holders.list.borrow_mut().get_mut(self.place) {
            *holder = None;
        }
        self.holders.free.borrow_mut().push(self.place);
    }
}

/// The requests that wait for a connection of a pool, by `K`: whose they are. `T` is counted while
/// one waits.
#[derive(Debug)]
pub(crate) struct Queues<K, T> {
    list: RefCell<Vec<Queue<K, T>>>,
}

#[derive(Debug)]
struct Queue<K, T> {
    of: K,
    /// Never empty; the first one stands in the pool's queue.
    waiting: VecDeque<Rc<Waiter<T>>>,
}

#[derive(Debug)]
struct Waiter<T> {
    /// It is first, or has no place any more.
    changed: Notify,
    /// Gone: its place was given to somebody else.
    place: RefCell<Option<T>>,
    is_first: Cell<bool>,
}

/// It had to make room for a network of which fewer wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Displaced;

impl<K, T> Default for Queues<K, T> {
    fn default() -> Self {
        Self { list: RefCell::default() }
    }
}

impl<K: Copy + PartialEq, T> Queues<K, T> {
    /// Whether anybody of this network waits.
    pub(crate) fn has(&self, of: K) -> bool {
        self.list.borrow().iter().any(|queue| queue.of == of)
    }

    /// Waits behind the others of its network.
    pub(crate) fn stand(&self, of: K, place: T) -> Standing<'_, K, T> {
        let mut list = self.list.borrow_mut();
        let queue = list.iter_mut().find(|queue| queue.of == of);
        let waiter = Rc::new(Waiter {
            changed: Notify::new(),
            place: RefCell::new(Some(place)),
            is_first: Cell::new(queue.is_none()),
        });
        let last = Rc::clone(&waiter);
        match queue {
            Some(queue) => queue.waiting.push_back(last),
            None => list.push(Queue { of, waiting: VecDeque::from([last]) }),
        }
        Standing { queues: self, of, waiter }
    }

    /// The place of the last one of the network of which most wait, for one of which fewer do.
    pub(crate) fn displace(&self, of: K) -> Option<T> {
        let mut list = self.list.borrow_mut();
        let own = list.iter().find(|queue| queue.of == of).map_or(0, |queue| queue.waiting.len());
        let most = list.iter_mut().max_by_key(|queue| queue.waiting.len())?;
        // At least two: the first one stays.
        let last = if most.waiting.len() > own + 1 { most.waiting.pop_back()? } else { return None };
        last.changed.notify_one();
        last.place.take()
    }
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Standing<'q, K: Copy + PartialEq, T> {
    queues: &'q Queues<K, T>,
    of: K,
    waiter: Rc<Waiter<T>>,
}

impl<K: Copy + PartialEq, T> Standing<'_, K, T> {
    /// Waits until it is the first one of its network.
    ///
    /// # Errors
    /// It has no place any more.
    pub(crate) async fn first(&self) -> Result<(), Displaced> {
        loop {
            if self.waiter.place.borrow().is_none() {
                return Err(Displaced);
            }
            if self.waiter.is_first.get() {
                return Ok(());
            }
            self.waiter.changed.notified().await;
        }
    }
}

impl<K: Copy + PartialEq, T> Drop for Standing<'_, K, T> {
    fn drop(&mut self) {
        let mut list = self.queues.list.borrow_mut();
        let Some(at) = list.iter().position(|queue| queue.of == self.of) else { return };
        let Some(queue) = list.get_mut(at) else { return };
        queue.waiting.retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        match queue.waiting.front() {
            None => drop(list.swap_remove(at)),
            Some(first) if !first.is_first.replace(true) => first.changed.notify_one(),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;

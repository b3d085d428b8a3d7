//! The requests that wait for a connection of a pool: those of a network behind each other, and the
//! networks in turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use super::Network;
use crate::proxy_protocol::Origin;
use crate::upstream::dial::Load;

/// The requests that wait. `T` is counted while one waits.
#[derive(Debug)]
pub(crate) struct Queues<T> {
    /// In the order of their turns.
    networks: RefCell<VecDeque<Queue<T>>>,
    waiting: Cell<usize>,
    /// Those of them that need a connection for themselves alone.
    apart: Cell<usize>,
}

#[derive(Debug)]
struct Queue<T> {
    of: Network,
    /// Never empty.
    waiting: VecDeque<Rc<Waiter<T>>>,
}

#[derive(Debug)]
struct Waiter<T> {
    load: Load,
    origin: Option<Origin>,
    /// Something may be there for it, or it has no place any more.
    changed: Notify,
    /// Gone: its place was given to somebody else.
    place: RefCell<Option<T>>,
}

/// It had to make room for a network of which fewer wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Displaced;

impl<T> Default for Queues<T> {
    fn default() -> Self {
        Self { networks: RefCell::default(), waiting: Cell::default(), apart: Cell::default() }
    }
}

/// The next one who can use what there is.
fn next<T>(networks: &VecDeque<Queue<T>>, can_use: impl Fn(Load) -> bool) -> Option<&Rc<Waiter<T>>> {
    networks.iter().find_map(|queue| queue.waiting.iter().find(|waiter| can_use(waiter.load)))
}

impl<T> Queues<T> {
    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.get() == 0
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.get()
    }

    /// The networks that wait, in the order of their turns.
    pub(crate) fn networks(&self) -> Vec<Network> {
        self.networks.borrow().iter().map(|queue| queue.of).collect()
    }

    /// Waits behind the others of its network.
    pub(crate) fn stand(&self, of: Network, load: Load, origin: Option<Origin>, place: T) -> Standing<'_, T> {
        let changed = Notify::new();
        let waiter = Rc::new(Waiter { load, origin, changed, place: RefCell::new(Some(place)) });
        let last = Rc::clone(&waiter);
        let mut networks = self.networks.borrow_mut();
        match networks.iter_mut().find(|queue| queue.of == of) {
            Some(queue) => queue.waiting.push_back(last),
            None => networks.push_back(Queue { of, waiting: VecDeque::from([last]) }),
        }
        self.count(load, true);
        Standing { queues: self, of, waiter, is_served: false }
    }

    /// How many of a network wait.
    pub(crate) fn of(&self, of: Network) -> usize {
        let networks = self.networks.borrow();
        networks.iter().find(|queue| queue.of == of).map_or(0, |queue| queue.waiting.len())
    }

    /// The place of the last one of the network of which most wait, for one of which fewer do: `own`
    /// in all.
    pub(crate) fn displace(&self, own: usize) -> Option<T> {
        let mut networks = self.networks.borrow_mut();
        let most = networks.iter_mut().max_by_key(|queue| queue.waiting.len())?;
        // At least two: the first one stays.
        let last = if most.waiting.len() > own + 1 { most.waiting.pop_back()? } else { return None };
        self.count(last.load, false);
        last.changed.notify_one();
        last.place.take()
    }

    /// There is something for the next one who can use it.
    pub(crate) fn wake(&self, can_use: impl Fn(Load) -> bool) {
        if !self.is_empty()
            && let Some(waiter) = next(&self.networks.borrow(), can_use)
        {
            waiter.changed.notify_one();
        }
    }

    /// There is something that all can use: the next one of those who share a connection and the next
    /// one of those who do not, whoever of them comes first.
    pub(crate) fn wake_next(&self) {
        let shared = self.waiting.get() > self.apart.get();
        if shared {
            self.wake(is_shared);
        }
        if self.apart.get() > 0 {
            self.wake(|load| !is_shared(load));
        }
    }

    /// There is something for those of one client's connection.
    pub(crate) fn wake_of(&self, origin: Origin) {
        if self.is_empty() {
            return;
        }
        for waiter in self.networks.borrow().iter().flat_map(|queue| &queue.waiting) {
            if waiter.origin == Some(origin) {
                waiter.changed.notify_one();
            }
        }
    }

    fn count(&self, load: Load, more: bool) {
        let counts = [Some(&self.waiting), (!is_shared(load)).then_some(&self.apart)];
        for count in counts.into_iter().flatten() {
            count.set(if more { count.get() + 1 } else { count.get() - 1 });
        }
    }
}

/// Whether requests of this kind can share a connection.
fn is_shared(load: Load) -> bool {
    load == Load::Requests
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Standing<'q, T> {
    queues: &'q Queues<T>,
    of: Network,
    waiter: Rc<Waiter<T>>,
    is_served: bool,
}

impl<T> Standing<'_, T> {
    /// Whether nobody who can use the same comes before it.
    pub(crate) fn is_next(&self, can_use: impl Fn(Load) -> bool) -> bool {
        next(&self.queues.networks.borrow(), can_use).is_some_and(|next| Rc::ptr_eq(next, &self.waiter))
    }

    /// Waits until there may be something for it.
    ///
    /// # Errors
    /// It has no place any more.
    pub(crate) async fn changed(&self) -> Result<(), Displaced> {
        self.waiter.changed.notified().await;
        if self.waiter.place.borrow().is_some() { Ok(()) } else { Err(Displaced) }
    }

    /// It has what it waited for: its network's turn is over.
    pub(crate) fn served(mut self) {
        self.is_served = true;
    }
}

impl<T> Drop for Standing<'_, T> {
    fn drop(&mut self) {
        let mut networks = self.queues.networks.borrow_mut();
        let at = networks.iter().position(|queue| queue.of == self.of);
        if let Some((at, queue)) = at.and_then(|at| Some((at, networks.get_mut(at)?))) {
            let mine = queue.waiting.iter().position(|waiter| Rc::ptr_eq(waiter, &self.waiter));
            if mine.and_then(|mine| queue.waiting.remove(mine)).is_some() {
                self.queues.count(self.waiter.load, false);
            }
            // One that gives up leaves its network's turn to the others of it.
            if (queue.waiting.is_empty() || self.is_served)
                && let Some(queue) = networks.remove(at).filter(|queue| !queue.waiting.is_empty())
            {
                networks.push_back(queue);
            }
        }
        drop(networks);
        self.queues.wake_next();
    }
}

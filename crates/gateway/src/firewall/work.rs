//! The engine at work: on the core, a slice at a time; on another thread where the values
//! are so long that a slice would hold the core up.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{Semaphore, oneshot};
use waf::{Budget, Step, Transaction};

/// Work between two rests: a millisecond of ordinary values, some of the worst.
pub(super) const SLICE: Budget = Budget { work_max: 10_000 };
/// For a phase that is only begun.
pub(super) const NOTHING: Budget = Budget { work_max: 0 };
/// Bytes of values up to which a transaction is worked on by the core. The engine looks at its
/// budget between rules, and one rule over all values takes longer the more there is of them.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// A transaction, and who works on it.
pub(super) struct Work {
    place: Place,
    /// Places for work on other threads.
    places: Arc<Semaphore>,
}

/// The transaction as it comes back, with what its phase came to so far.
type Elsewhere = Pin<Box<dyn Future<Output = Option<(Box<Transaction>, Step)>> + Send>>;

enum Place {
    Core(Box<Transaction>),
    Thread(Elsewhere),
    /// It did not come back.
    Lost,
}

impl Work {
    pub(super) fn new(transaction: Transaction, places: &Arc<Semaphore>) -> Self {
        Self { place: Place::Core(Box::new(transaction)), places: Arc::clone(places) }
    }

    /// The transaction; `None` while another thread has it.
    pub(super) fn here(&self) -> Option<&Transaction> {
        match &self.place {
            Place::Core(transaction) => Some(transaction),
            Place::Thread(_) | Place::Lost => None,
        }
    }

    /// The transaction's memory, for another one.
    pub(super) fn into_spare(self) -> Option<waf::Spare> {
        match self.place {
            Place::Core(transaction) => transaction.into_spare(),
            Place::Thread(_) | Place::Lost => None,
        }
    }

    /// As [`Self::here`].
    pub(super) fn here_mut(&mut self) -> Option<&mut Transaction> {
        match &mut self.place {
            Place::Core(transaction) => Some(transaction),
            Place::Thread(_) | Place::Lost => None,
        }
    }

    /// Whether a slice is too much for the core.
    pub(super) fn is_long(&self) -> bool {
        self.here().is_some_and(|transaction| transaction.bytes_held() > HELD_BYTES_MAX)
    }

    /// Goes on with the phase that has begun: a slice of it here, all of it elsewhere.
    /// `None` when the transaction did not come back from there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Step>> {
        if !self.is_long()
            && let Some(transaction) = self.here_mut()
        {
            return Poll::Ready(Some(transaction.resume(SLICE)));
        }
        self.place = match std::mem::replace(&mut self.place, Place::Lost) {
            Place::Core(transaction) => {
                Place::Thread(Box::pin(hand_off(transaction, Arc::clone(&self.places))))
            }
            other => other,
        };
        let Place::Thread(elsewhere) = &mut self.place else { return Poll::Ready(None) };
        let back = ready!(elsewhere.as_mut().poll(cx));
        self.place = Place::Lost;
        Poll::Ready(back.map(|(transaction, step)| {
            self.place = Place::Core(transaction);
            step
        }))
    }
}

/// Ends the phase on another thread. It stops, between two slices, when nobody waits any more;
/// what the transaction counted is kept then too.
async fn hand_off(
    mut transaction: Box<Transaction>,
    places: Arc<Semaphore>,
) -> Option<(Box<Transaction>, Step)> {
    let place = places.acquire_owned().await.ok()?;
    let (give, take) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut step = Step::Yield;
        while step == Step::Yield && !give.is_closed() {
            step = transaction.resume(SLICE);
        }
        if give.is_closed() {
            return transaction.close();
        }
        drop(place);
        if let Err((mut transaction, _)) = give.send((transaction, step)) {
            transaction.close();
        }
    });
    take.await.ok()
}

/// Lets everything else of the core have its turn, what has come in over the network too,
/// before the task is polled again. To be followed by [`Poll::Pending`].
pub(super) fn rest(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("transaction", &self.here()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

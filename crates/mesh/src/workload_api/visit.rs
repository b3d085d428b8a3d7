//! One connection to the socket: who is at its other end, and how long whoever is nobody may stay.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::attest::Caller;

/// How long a connection may be without a call on which nobody is known.
pub(super) const STRANGER_TIME_MAX: Duration = Duration::from_secs(10);

/// Of a connection.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) caller: Arc<Caller>,
    calls: Arc<watch::Sender<Calls>>,
}

/// What it is used for.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    /// Calls that are not answered yet.
    open: usize,
    /// Whether one of them was that of a registered workload.
    is_known: bool,
}

/// A call, until it is answered.
pub(super) struct Call(Arc<watch::Sender<Calls>>);

impl Visit {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller: Arc::new(caller), calls: Arc::default() }
    }

    /// Begins a call.
    pub(super) fn call(&self) -> Call {
        self.calls.send_modify(|calls| calls.open += 1);
        Call(Arc::clone(&self.calls))
    }

    /// Ends when the connection has to: nobody is known on it, and nothing was asked for a while.
    pub(super) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        over(self.calls.subscribe())
    }
}

impl Call {
    /// Its caller is a registered workload, as far as can be said without its message.
    pub(super) fn is_known(&self) {
        self.0.send_modify(|calls| calls.is_known = true);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.send_modify(|calls| calls.open -= 1);
    }
}

async fn over(mut calls: watch::Receiver<Calls>) {
    loop {
        let Calls { open, is_known } = *calls.borrow_and_update();
        if is_known {
            return std::future::pending().await;
        }
        let changed = calls.changed();
        let is_over = match open {
            0 => tokio::time::timeout(STRANGER_TIME_MAX, changed).await.is_err(),
            _ => changed.await.is_err(),
        };
        if is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[tokio::test(start_paused = true)]
    async fn who_is_nobody_stays_as_long_as_a_call_is_open_and_a_while_after_it() {
        let calls = Arc::new(watch::Sender::new(Calls::default()));
        let call = || {
            calls.send_modify(|calls| calls.open += 1);
            Call(Arc::clone(&calls))
        };
        let begin = || tokio::spawn(over(calls.subscribe()));
        let ends_at = async |task: &tokio::task::JoinHandle<()>, time: Duration| {
            tokio::time::sleep(time - SHORT).await;
            let is_early = task.is_finished();
            tokio::time::sleep(SHORT * 2).await;
            (is_early, task.is_finished())
        };
        assert_eq!(ends_at(&begin(), STRANGER_TIME_MAX).await, (false, true));
        let (one, other, task) = (call(), call(), begin());
        tokio::time::sleep(STRANGER_TIME_MAX * 9).await;
        drop(one);
        tokio::time::sleep(STRANGER_TIME_MAX * 9).await;
        assert!(!task.is_finished());
        drop(other);
        assert_eq!(ends_at(&task, STRANGER_TIME_MAX).await, (false, true));
        // Each call begins the while anew, until there is somebody.
        let task = begin();
        for _ in 0..3 {
            tokio::time::sleep(STRANGER_TIME_MAX - SHORT).await;
            drop(call());
        }
        assert!(!task.is_finished());
        call().is_known();
        tokio::time::sleep(STRANGER_TIME_MAX * 9).await;
        assert!(!task.is_finished());
        task.abort();
    }
}

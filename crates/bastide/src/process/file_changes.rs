//! What the administration wrote to files of the state folder, and whether it counts already:
//! whoever changed something is answered once every core has it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Longest wait for a change to count. What was written is on the disk by then, and is found there at the
/// next look.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Changes by number: what is written before one of [`Self::made`] counts once it is [`Self::taken_up`].
#[derive(Debug, Default)]
pub struct FileChanges {
    last: AtomicU64,
    told: Notify,
    taken_up: watch::Sender<u64>,
}

impl FileChanges {
    /// Something was written: waits until it counts, at most two seconds.
    pub async fn made(&self) {
        let number = self.last.fetch_add(1, Ordering::AcqRel) + 1;
        self.told.notify_one();
        let mut taken_up = self.taken_up.subscribe();
        let counts = taken_up.wait_for(|upto| *upto >= number);
        if tokio::time::timeout(WAIT_MAX, counts).await.is_err() {
            tracing::warn!("a change of the state folder counts later: the process is busy");
        }
    }

    /// Waits until something was written: it is time to look.
    pub async fn told(&self) {
        self.told.notified().await;
    }

    /// The newest change. To be asked before the files are read.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// What was written until this change counts.
    pub fn taken_up(&self, upto: u64) {
        self.taken_up.send_replace(upto);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_waited_for_until_it_counts_and_no_other() {
        let changes = Arc::new(FileChanges::default());
        let [first, second] = [(); 2].map(|()| {
            let changes = Arc::clone(&changes);
            async move { changes.made().await }
        });
        let first = tokio::spawn(first);
        changes.told().await;
        let upto = changes.last();
        // Written while the files are read: this look may have missed it.
        let second = tokio::spawn(second);
        tokio::task::yield_now().await;
        changes.taken_up(upto);
        first.await.unwrap();
        changes.told().await;
        assert!(!second.is_finished());
        changes.taken_up(changes.last());
        second.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let begun = tokio::time::Instant::now();
        FileChanges::default().made().await;
        assert_eq!(begun.elapsed(), WAIT_MAX);
    }
}

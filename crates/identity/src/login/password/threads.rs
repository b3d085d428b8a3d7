//! The threads on which passwords are hashed: as many as may hash at once, and behind every other
//! thread of the process, so that nobody else waits for those who log in.

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::Error;

/// How far they step back (nice(2)). Beside a thread that has work too such a one gets about a tenth of
/// the processor, and is interrupted as soon as the other has some: the data plane never waits for a
/// hash, also where there are as many hashes as processors. With 19 it would get a seventieth, and
/// nobody could log in at a gateway that is busy.
const STEPS_BACK: i32 = 10;

/// Threads that begin when there is work, and end when there was none for a while.
#[derive(Debug)]
pub(super) struct Threads {
    handle: Handle,
    /// Nothing runs on it but what blocks.
    runtime: Option<Runtime>,
}

impl Threads {
    /// So many at most.
    ///
    /// # Errors
    /// The system has nothing left to make them of.
    pub(super) fn new(most: usize) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(most)
            .thread_name("password")
            .on_thread_start(step_back)
            .build()
            .map_err(|error| Error::Password(error.to_string()))?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Does this on one of them.
    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn_blocking(job)
    }
}

impl Drop for Threads {
    /// Whoever drops it does not wait for what is still computed.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// On Linux this is of the calling thread alone.
fn step_back() {
    if let Err(error) = rustix::process::nice(STEPS_BACK) {
        tracing::warn!(%error, "identity: password hashes compete with everything else");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    /// Everything else of the process, and those who asked, stay where they are.
    #[tokio::test]
    async fn hashes_stand_behind_everything_else() {
        let threads = Threads::new(2).unwrap();
        let before = nice();
        let hashing = threads.run(nice).await.unwrap();
        assert_eq!(hashing, (before + STEPS_BACK).min(19));
        assert_eq!(nice(), before);
        assert_eq!(tokio::task::spawn_blocking(nice).await.unwrap(), before);
    }

    /// A realm is replaced while people log in.
    #[tokio::test]
    async fn what_was_begun_comes_to_its_end_although_nobody_begins_more() {
        let threads = Threads::new(1).unwrap();
        let (begun, (go_on, wait)) = (tokio::sync::oneshot::channel(), std::sync::mpsc::channel());
        let (tell_begun, has_begun) = begun;
        let job = threads.run(move || {
            let _ = tell_begun.send(());
            wait.recv().map(|()| 7)
        });
        has_begun.await.unwrap();
        drop(threads);
        go_on.send(()).unwrap();
        assert_eq!(job.await.unwrap(), Ok(7));
    }
}

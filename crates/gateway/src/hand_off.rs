//! Work that would hold a core up: done on other threads, so much of it at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Longest wait for a place.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Does some work on another thread when there is a place. The place is taken until the work is
/// over, also when nobody waits for it any more: a thread is not stopped by that.
///
/// `None` when there was no place for [`WAIT_MAX`], or the work did not come back.
pub(crate) async fn hand_off<T: Send + 'static>(
    places: Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let place = tokio::time::timeout(WAIT_MAX, places.acquire_owned()).await.ok()?.ok()?;
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    });
    done.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_place_is_taken_until_the_work_is_over_whoever_waits_for_it() {
        let places = Arc::new(Semaphore::new(1));
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let work = hand_off(Arc::clone(&places), move || {
            begin.send(()).unwrap();
            ended.recv()
        });
        tokio::select! {
            biased;
            _ = work => panic!("it is not over"),
            begun = begun => begun.unwrap(),
        }
        // The request is gone, its work is not.
        assert_eq!(places.available_permits(), 0);
        end.send(()).unwrap();
        let _place = places.acquire().await.unwrap();
    }

    #[tokio::test]
    async fn a_place_is_free_after_work_that_failed() {
        let places = Arc::new(Semaphore::new(1));
        assert_eq!(hand_off(Arc::clone(&places), || -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(hand_off(Arc::clone(&places), || 7).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let places = Arc::new(Semaphore::new(0));
        assert_eq!(hand_off(places, || 7).await, None);
    }
}

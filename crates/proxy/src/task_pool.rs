//! Tasks that do one piece of work after the other: a stream of HTTP/2 costs neither a
//! new task nor a move of its large future.

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// So many tasks of a core wait for work; others end when theirs is done.
pub(crate) const RESTING_MAX: usize = 128;

/// A core's tasks that have nothing to do.
pub(crate) struct TaskPool<J> {
    resting: RefCell<Vec<Rc<Worker<J>>>>,
}

/// Where a task finds its next piece of work.
struct Worker<J> {
    job: RefCell<Option<J>>,
    waker: RefCell<Option<Waker>>,
}

impl<J> fmt::Debug for TaskPool<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskPool").field("resting", &self.resting.borrow().len()).finish()
    }
}

impl<J> Default for TaskPool<J> {
    fn default() -> Self {
        Self { resting: RefCell::default() }
    }
}

impl<J: 'static> TaskPool<J> {
    /// Has `work` done on `job`, by a task that rests or by a new one. All calls give the
    /// same `work`. Must be called on a runtime that can spawn local tasks.
    pub(crate) fn spawn<F, W>(self: &Rc<Self>, job: J, work: F)
    where
        F: Fn(J) -> W + 'static,
        W: Future<Output = ()>,
    {
        if let Some(worker) = self.resting.borrow_mut().pop() {
            worker.job.replace(Some(job));
            if let Some(waker) = worker.waker.take() {
                waker.wake();
            }
            return;
        }
        let worker = Rc::new(Worker { job: RefCell::new(Some(job)), waker: RefCell::default() });
        let pool = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                let job = std::future::poll_fn(|cx| worker.poll_job(cx)).await;
                work(job).await;
                if !Self::rest(&pool, &worker) {
                    return;
                }
            }
        });
    }

    /// Whether the task may wait for more.
    fn rest(pool: &Weak<Self>, worker: &Rc<Worker<J>>) -> bool {
        let Some(pool) = pool.upgrade() else { return false };
        let mut resting = pool.resting.borrow_mut();
        let room = resting.len() < RESTING_MAX;
        if room {
            resting.push(Rc::clone(worker));
        }
        room
    }
}

impl<J> Worker<J> {
    fn poll_job(&self, cx: &Context<'_>) -> Poll<J> {
        if let Some(job) = self.job.borrow_mut().take() {
            return Poll::Ready(job);
        }
        self.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn local(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap()
            .block_on(test);
    }

    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn every_job_is_done_once_and_tasks_are_used_again() {
        local(async {
            let pool = Rc::new(TaskPool::default());
            let done = Rc::new(RefCell::new(Vec::new()));
            for round in 0..3 {
                for number in 0..5 {
                    let done = Rc::clone(&done);
                    pool.spawn(
                        (done, round * 5 + number),
                        |(done, number): (Rc<RefCell<Vec<_>>>, _)| async move {
                            tokio::task::yield_now().await;
                            done.borrow_mut().push(number);
                        },
                    );
                }
                settle().await;
                assert_eq!(pool.resting.borrow().len(), 5);
            }
            done.borrow_mut().sort_unstable();
            assert_eq!(*done.borrow(), (0..15).collect::<Vec<_>>());
        });
    }

    #[test]
    fn no_more_rest_than_the_limit() {
        for (jobs, resting) in [(RESTING_MAX, RESTING_MAX), (RESTING_MAX + 1, RESTING_MAX)] {
            local(async move {
                let pool = Rc::new(TaskPool::default());
                let count = Rc::new(Cell::new(0));
                for _ in 0..jobs {
                    pool.spawn(Rc::clone(&count), |count: Rc<Cell<usize>>| async move {
                        count.set(count.get() + 1);
                    });
                }
                settle().await;
                assert_eq!((count.get(), pool.resting.borrow().len()), (jobs, resting));
            });
        }
    }
}

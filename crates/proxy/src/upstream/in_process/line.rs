//! One core's way into one service and back: what the core hands over in one turn goes in one
//! piece, and what comes back is handed out by one task of the core's own, so that only that one
//! is woken from another thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::InProcessConnector;
use super::call::{Answerer, Call, CallBody, Shared, keep};
use crate::upstream::pool::Slot;

/// After so many calls a core does not wait for the end of its turn.
const HANDED_AT_ONCE: usize = 16;

/// Calls of one core that were answered, and the task that hands their answers out.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Ready>);

#[derive(Debug, Default)]
struct Ready {
    calls: Vec<Arc<Shared>>,
    /// The task, while it waits.
    task: Option<Waker>,
}

impl Answers {
    /// This call was answered; [`Answers::tell`] follows.
    pub(super) fn push(&self, call: Arc<Shared>) {
        self.ready().calls.push(call);
    }

    /// Wakes the core where it does not know yet.
    pub(super) fn tell(&self) {
        let mut ready = self.ready();
        let waker = if ready.calls.is_empty() { None } else { ready.task.take() };
        drop(ready);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Gives the calls that were answered, in the place of `into`, which is empty.
    fn poll_take(&self, cx: &Context<'_>, into: &mut Vec<Arc<Shared>>) -> Poll<()> {
        let mut ready = self.ready();
        if ready.calls.is_empty() {
            keep(&mut ready.task, cx);
            return Poll::Pending;
        }
        std::mem::swap(&mut ready.calls, into);
        Poll::Ready(())
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A core's way into a service.
#[derive(Debug)]
pub(crate) struct Line {
    connector: InProcessConnector,
    outgoing: Rc<Outgoing>,
    answers: Arc<Answers>,
}

#[derive(Debug, Default)]
struct Outgoing {
    /// Made in this turn of the core.
    calls: RefCell<Vec<Call>>,
    /// The line's task, while it waits.
    task: RefCell<Option<Waker>>,
    /// Places of calls that were given up, until the service lets go of them. What a key points
    /// at lives as long: the service's side holds it, and then [`Answers`].
    given_up: RefCell<HashMap<*const Shared, Slot>>,
    is_over: Cell<bool>,
}

impl Line {
    /// Must be called on a runtime that can spawn local tasks.
    pub(crate) fn open(connector: InProcessConnector) -> Rc<Self> {
        let line = Self { connector, outgoing: Rc::default(), answers: Arc::default() };
        let (connector, outgoing) = (line.connector.clone(), Rc::clone(&line.outgoing));
        tokio::task::spawn_local(carry(connector, outgoing, Arc::clone(&line.answers)));
        Rc::new(line)
    }

    /// Whether the service still takes calls.
    pub(crate) fn is_open(&self) -> bool {
        self.connector.is_open()
    }

    /// Hands a request over, at the end of the core's turn.
    pub(super) fn call(&self, head: http::request::Parts, body: CallBody) -> Arc<Shared> {
        let shared = Arc::default();
        let answerer = Answerer::new(&shared, &self.answers);
        let call = Call { request: http::Request::from_parts(head, body), answerer };
        let mut calls = self.outgoing.calls.borrow_mut();
        calls.push(call);
        if calls.len() >= HANDED_AT_ONCE {
            self.connector.send(piece(&mut calls));
        } else {
            self.outgoing.wake();
        }
        shared
    }

    /// Nobody waits for a call any more. While the service has it, it keeps its place: clients that
    /// come and go make no more calls at once than others do.
    pub(super) fn give_up(&self, call: &Arc<Shared>, place: Slot) {
        if call.give_up() {
            self.outgoing.given_up.borrow_mut().insert(Arc::as_ptr(call), place);
        }
    }

    /// Places of calls that were given up.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.outgoing.given_up.borrow().len()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.outgoing.is_over.set(true);
        self.outgoing.wake();
    }
}

impl Outgoing {
    fn wake(&self) {
        let waker = self.task.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// All that were made, with room for as many in the next turn.
fn piece(calls: &mut Vec<Call>) -> Vec<Call> {
    let room = calls.len();
    std::mem::replace(calls, Vec::with_capacity(room))
}

/// Hands calls over and answers out, until the line is dropped.
async fn carry(connector: InProcessConnector, outgoing: Rc<Outgoing>, answers: Arc<Answers>) {
    let mut answered = Vec::new();
    std::future::poll_fn(|cx| {
        connector.send(piece(&mut outgoing.calls.borrow_mut()));
        while answers.poll_take(cx, &mut answered).is_ready() {
            for call in answered.drain(..) {
                call.wake_core();
                outgoing.given_up.borrow_mut().remove(&Arc::as_ptr(&call));
            }
        }
        if outgoing.is_over.get() {
            return Poll::Ready(());
        }
        keep(&mut outgoing.task.borrow_mut(), cx);
        Poll::Pending
    })
    .await;
}

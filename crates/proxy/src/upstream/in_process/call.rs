//! One call, between the core that makes it and the service that answers.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Request, response};
use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::line::Answers;

/// A piece of a body that goes over by and by. Without [`Piece::End`] it broke off.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    End,
}

/// Pieces that may wait in a channel, besides the one that its sender holds.
pub(super) const PIECES_MAX: usize = 1;

/// What both sides of a call share.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    answer: Option<Answer>,
    /// Whether no other answer will come.
    is_over: bool,
    /// The task of the core that waits for the answer.
    core: Option<Waker>,
    /// Whether nobody waits for it any more.
    is_gone: bool,
    /// The task of the service that works on it.
    service: Option<Waker>,
}

/// An answer, its body whole or on its way.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) body: Answered,
}

#[derive(Debug)]
pub(super) enum Answered {
    Whole(Bytes),
    Pieces(mpsc::Receiver<Piece>),
}

impl Shared {
    /// The answer; `None`: there will be none.
    pub(super) fn poll_answer(&self, cx: &Context<'_>) -> Poll<Option<Answer>> {
        let mut state = self.state();
        if state.answer.is_some() || state.is_over {
            return Poll::Ready(state.answer.take());
        }
        keep(&mut state.core, cx);
        Poll::Pending
    }

    /// Wakes the task that waits, if one does. On the core's own thread that costs next to
    /// nothing; from another it is a system call.
    pub(super) fn wake_core(&self) {
        let waker = self.state().core.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nobody waits any more. Whether the service still has the call: then its [`Answerer`] says
    /// when it lets go of it.
    pub(super) fn give_up(&self) -> bool {
        let mut state = self.state();
        state.is_gone = true;
        let (is_there, waker) = (!state.is_over, state.service.take());
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        is_there
    }

    fn settle(&self, answer: Option<Answer>) {
        let mut state = self.state();
        state.answer = answer;
        state.is_over = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

/// A request for a service of this process.
#[derive(Debug)]
pub struct Call {
    /// The request. Its target is path and query; the authority stands in `host`.
    pub request: Request<CallBody>,
    /// Takes the answer.
    pub answerer: Answerer,
}

/// A request's body.
#[derive(Debug)]
pub enum CallBody {
    /// All of it.
    Whole(Bytes),
    /// It is on its way.
    Pieces(Pieces),
}

/// A body on its way.
#[derive(Debug)]
pub struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    is_over: bool,
}

impl Pieces {
    pub(super) fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, is_over: false }
    }

    /// The next piece, never empty; `None` at the end.
    ///
    /// # Errors
    /// It broke off: the other side has gone, or failed. After that it is over.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Piece::Data(data)) if data.is_empty() => {}
                Some(Piece::Data(data)) => return Poll::Ready(Some(Ok(data))),
                Some(Piece::End) => self.is_over = true,
                None => {
                    self.is_over = true;
                    let why = io::Error::new(io::ErrorKind::UnexpectedEof, "the body broke off");
                    return Poll::Ready(Some(Err(why)));
                }
            }
        }
    }
}

/// Takes the answer of one call. Dropped without one, the call fails as where an upstream
/// closes its connection.
#[derive(Debug)]
pub struct Answerer {
    call: Arc<Shared>,
    answers: Arc<Answers>,
    is_answered: bool,
}

impl Answerer {
    pub(super) fn new(call: &Arc<Shared>, answers: &Arc<Answers>) -> Self {
        Self { call: Arc::clone(call), answers: Arc::clone(answers), is_answered: false }
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_gone(&self) -> bool {
        self.call.state().is_gone
    }

    /// Ready when nobody waits for the answer any more.
    pub fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.call.state();
        if state.is_gone {
            return Poll::Ready(());
        }
        keep(&mut state.service, cx);
        Poll::Pending
    }

    /// Answers with a whole body. The core hears of it when `untold` is told, or dropped.
    pub fn whole(self, head: response::Parts, body: Bytes, untold: &mut Untold) {
        untold.note(&self.answers);
        self.settle(Answer { head, body: Answered::Whole(body) });
    }

    /// Begins an answer whose body comes by and by. The core hears of it at once.
    pub fn begin(self, head: response::Parts) -> AnswerBody {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let answers = Arc::clone(&self.answers);
        self.settle(Answer { head, body: Answered::Pieces(pieces) });
        answers.tell();
        AnswerBody(sender)
    }

    fn settle(mut self, answer: Answer) {
        self.is_answered = true;
        self.call.settle(Some(answer));
        self.answers.push(Arc::clone(&self.call));
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        if !self.is_answered {
            self.call.settle(None);
            self.answers.push(Arc::clone(&self.call));
            self.answers.tell();
        }
    }
}

/// The body of an answer that comes by and by. Dropped without [`AnswerBody::end`], the client
/// sees an incomplete message.
#[derive(Debug)]
pub struct AnswerBody(mpsc::Sender<Piece>);

impl AnswerBody {
    /// Sends a piece; waits while the client takes none. False: nobody wants more.
    pub async fn send(&mut self, piece: Bytes) -> bool {
        self.0.send(Piece::Data(piece)).await.is_ok()
    }

    /// Waits until nobody wants more.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    /// It was whole.
    pub async fn end(self) {
        // An error means that nobody is there to hear it.
        let _ = self.0.send(Piece::End).await;
    }
}

/// Cores to whom answers were given that do not know of it yet: a service that answers several
/// calls in one turn wakes each core once. Tells them when it is dropped.
#[derive(Debug, Default)]
pub struct Untold(SmallVec<[Arc<Answers>; 4]>);

impl Untold {
    fn note(&mut self, answers: &Arc<Answers>) {
        if !self.0.iter().any(|known| Arc::ptr_eq(known, answers)) {
            self.0.push(Arc::clone(answers));
        }
    }

    /// Tells them.
    pub fn tell(&mut self) {
        self.0.drain(..).for_each(|answers| answers.tell());
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        self.tell();
    }
}

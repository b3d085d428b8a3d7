//! The core's side of one call, in the place of a connection.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, request};
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::call::{Answered, CallBody, PIECES_MAX, Piece, Pieces, Shared};
use super::line::Line;
use super::{GATHERED_BYTES_MAX, head};
use crate::exchange::Frame;
use crate::head::{Framing, ResponseHead};
use crate::http1::encode::UpstreamRequest;
use crate::http2::head::Unwritable;
use crate::upstream::connection::UpstreamFault;
use crate::upstream::pool::Slot;

/// One request to a service of this process, and its answer.
#[derive(Debug)]
pub(crate) struct CallConnection {
    line: Rc<Line>,
    stage: Stage,
    answer: Answer,
    /// Always there until it is dropped.
    slot: Option<Slot>,
}

/// How far the request is.
#[derive(Debug)]
enum Stage {
    /// Nothing is known of it.
    New,
    /// It is here, with the beginning of its body.
    Gathered(Box<request::Parts>, SmallVec<[Bytes; 2]>, usize),
    /// The service has it; the rest of its body follows.
    Sends(PollSender<Piece>, VecDeque<Piece>),
    /// The service has all of it.
    Sent,
}

/// How far the answer is.
#[derive(Debug)]
enum Answer {
    None,
    Awaited(Arc<Shared>),
    Whole(Bytes),
    Pieces(Pieces),
}

impl CallConnection {
    pub(crate) fn new(line: &Rc<Line>, slot: Slot) -> Self {
        Self { line: Rc::clone(line), stage: Stage::New, answer: Answer::None, slot: Some(slot) }
    }

    /// Takes a request head.
    pub(crate) fn send_head(&mut self, request: &UpstreamRequest<'_>) -> Result<(), UpstreamFault> {
        let head = head::request(request).map_err(|Unwritable| UpstreamFault::Unwritable)?;
        if request.framing == Framing::None {
            self.hand_over(head, CallBody::Whole(Bytes::new()));
            self.stage = Stage::Sent;
        } else {
            self.stage = Stage::Gathered(Box::new(head), SmallVec::new(), 0);
        }
        Ok(())
    }

    /// Ready when a piece of the request's body may be sent.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.stage {
            Stage::Gathered(_, _, bytes) if *bytes >= GATHERED_BYTES_MAX => self.poll_flush(cx),
            Stage::Sends(..) => self.poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Takes a piece of the request's body. Nobody reads trailers here.
    pub(crate) fn send_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Data(data) => match &mut self.stage {
                Stage::Gathered(_, pieces, bytes) => {
                    *bytes += data.len();
                    pieces.push(data);
                }
                Stage::Sends(_, waiting) => waiting.push_back(Piece::Data(data)),
                Stage::New | Stage::Sent => {}
            },
            Frame::End | Frame::Trailers(_) => match std::mem::replace(&mut self.stage, Stage::Sent) {
                Stage::Gathered(head, pieces, bytes) => {
                    self.hand_over(*head, CallBody::Whole(joined(pieces, bytes)));
                }
                Stage::Sends(sender, mut waiting) => {
                    waiting.push_back(Piece::End);
                    self.stage = Stage::Sends(sender, waiting);
                }
                Stage::New | Stage::Sent => {}
            },
        }
    }

    /// Moves what there is of the body to the service. An error: it does not want the rest.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::New) {
            // More of it takes its time, or is too much to wait for.
            Stage::Gathered(head, pieces, _) => {
                let (sender, receiver) = mpsc::channel(PIECES_MAX);
                self.hand_over(*head, CallBody::Pieces(Pieces::new(receiver)));
                Stage::Sends(PollSender::new(sender), pieces.into_iter().map(Piece::Data).collect())
            }
            other => other,
        };
        let Stage::Sends(sender, waiting) = &mut self.stage else { return Poll::Ready(Ok(())) };
        let unwanted = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        while let Some(piece) = waiting.front() {
            ready!(sender.poll_reserve(cx)).map_err(unwanted)?;
            let is_last = matches!(piece, Piece::End);
            if let Some(piece) = waiting.pop_front() {
                sender.send_item(piece).map_err(unwanted)?;
            }
            if is_last {
                self.stage = Stage::Sent;
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn hand_over(&mut self, head: request::Parts, body: CallBody) {
        self.answer = Answer::Awaited(self.line.call(head, body));
    }

    /// The answer's head.
    pub(crate) fn poll_head(
        &mut self,
        cx: &Context<'_>,
        method: &Method,
    ) -> Poll<Result<ResponseHead, UpstreamFault>> {
        let Answer::Awaited(call) = &self.answer else { return Poll::Ready(Err(UpstreamFault::Closed)) };
        let answer = ready!(call.poll_answer(cx));
        self.answer = Answer::None;
        let Some(answer) = answer else { return Poll::Ready(Err(UpstreamFault::Closed)) };
        let whole = match &answer.body {
            Answered::Whole(body) => Some(body.len()),
            Answered::Pieces(_) => None,
        };
        let head = head::response(&answer.head, whole, method).map_err(UpstreamFault::Malformed)?;
        if head.framing != Framing::None {
            self.answer = match answer.body {
                Answered::Whole(body) => Answer::Whole(body),
                Answered::Pieces(pieces) => Answer::Pieces(Pieces::new(pieces)),
            };
        }
        Poll::Ready(Ok(head))
    }

    /// The next piece of the answer's body.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, UpstreamFault>> {
        match &mut self.answer {
            Answer::Whole(body) if !body.is_empty() => Poll::Ready(Ok(Frame::Data(std::mem::take(body)))),
            Answer::Pieces(pieces) => Poll::Ready(match ready!(pieces.poll_piece(cx)) {
                Some(Ok(piece)) => Ok(Frame::Data(piece)),
                Some(Err(error)) => Err(UpstreamFault::Io(error)),
                None => Ok(Frame::End),
            }),
            Answer::Awaited(_) => Poll::Ready(Err(UpstreamFault::Closed)),
            Answer::None | Answer::Whole(_) => Poll::Ready(Ok(Frame::End)),
        }
    }
}

/// The service stops where nobody waits for its answer any more.
impl Drop for CallConnection {
    fn drop(&mut self) {
        if let (Answer::Awaited(call), Some(slot)) = (&self.answer, self.slot.take()) {
            self.line.give_up(call, slot);
        }
    }
}

fn joined(pieces: SmallVec<[Bytes; 2]>, bytes: usize) -> Bytes {
    let mut pieces = pieces.into_iter();
    match (pieces.next(), pieces.len()) {
        (None, _) => Bytes::new(),
        (Some(only), 0) => only,
        (Some(first), _) => {
            let mut all = BytesMut::with_capacity(bytes);
            all.extend_from_slice(&first);
            pieces.for_each(|piece| all.extend_from_slice(&piece));
            all.freeze()
        }
    }
}

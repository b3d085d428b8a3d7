//! The request's body on its way to an upstream, with what is needed to send its
//! beginning twice.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::exchange::{BodyError, Exchange, Frame};
use crate::head::{Fields, Framing};
use crate::held::{HeldShare, PIECES_MAX, cost};

/// So much of a body's beginning is kept until an upstream answers, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// So much is read before an upstream sees the head, in bytes; what is announced as no longer is
/// read to its end.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// A body that was kept to its end.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) pieces: SmallVec<[Bytes; 2]>,
    pub(super) trailers: Option<Fields>,
}

/// A request's body.
#[derive(Debug)]
pub(super) struct RequestBody<'b> {
    framing: Framing,
    share: HeldShare<'b>,
    kept: SmallVec<[Bytes; 2]>,
    kept_bytes: usize,
    /// The next of the kept pieces.
    position: usize,
    /// What ended the body, once that was read from the client.
    end: Option<Option<Fields>>,
    /// Whether something went by that was not kept.
    passed: bool,
    over: bool,
}

impl<'b> RequestBody<'b> {
    pub(super) fn new(framing: Framing, share: HeldShare<'b>) -> Self {
        let none = framing == Framing::None;
        Self {
            framing,
            share,
            kept: SmallVec::new(),
            kept_bytes: 0,
            position: 0,
            end: none.then_some(None),
            passed: false,
            over: none,
        }
    }

    /// Whether its length was said beforehand.
    pub(super) fn is_announced(&self) -> bool {
        matches!(self.framing, Framing::Length(_))
    }

    /// Whether everything was given out in this attempt.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether it can be sent from its beginning again.
    pub(super) fn can_rewind(&self) -> bool {
        !self.passed
    }

    /// All of it, when it is over, was kept and is no larger than what is kept.
    pub(super) fn whole(&self) -> Option<Whole> {
        // What was read ahead in one piece may be larger.
        let kept = !self.passed && self.kept_bytes <= KEPT_BYTES_MAX;
        let trailers = self.end.as_ref().filter(|_| kept)?.clone();
        Some(Whole { pieces: self.kept.clone(), trailers })
    }

    /// Starts another attempt.
    pub(super) fn rewind(&mut self) {
        self.position = 0;
        self.over = self.framing == Framing::None;
    }

    /// An upstream has answered: there will be no other attempt.
    pub(super) fn forget(&mut self) {
        self.share.release();
        if self.position >= self.kept.len() && !self.kept.is_empty() {
            self.kept.clear();
            self.position = 0;
            self.passed = true;
        }
    }

    /// Reads what the client has sent already, before any upstream sees the head: a
    /// body that begins malformed reaches nobody. Over HTTP/1 it waits for the first
    /// piece; over HTTP/2 framing cannot be malformed, and a client may want to hear
    /// from the upstream first. A body that is announced as short is read to its end.
    pub(super) fn poll_read_ahead<E: Exchange>(
        &mut self,
        exchange: &mut E,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BodyError>> {
        while self.end.is_none() && self.kept_bytes < AHEAD_BYTES_MAX {
            match exchange.poll_request(cx) {
                Poll::Ready(Ok(Frame::Data(data))) => self.keep(data),
                Poll::Ready(Ok(Frame::End)) => self.end = Some(None),
                Poll::Ready(Ok(Frame::Trailers(fields))) => self.end = Some(Some(fields)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.is_short() => {
                    self.share.hold(self.cost())?;
                    return Poll::Pending;
                }
                Poll::Pending if self.kept.is_empty() && self.framing != Framing::Stream => {
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What is kept, in bytes; nothing, where nothing has come.
    fn cost(&self) -> usize {
        let room = if self.kept.spilled() { self.kept.capacity() } else { 0 };
        cost::<Bytes>(self.kept_bytes, room)
    }

    /// Keeps one more piece. Many small ones become one.
    fn keep(&mut self, data: Bytes) {
        self.kept_bytes += data.len();
        self.kept.push(data);
        if self.kept.len() >= PIECES_MAX {
            let whole = self.kept.concat().into();
            self.kept.clear();
            self.kept.push(whole);
        }
    }

    /// Whether it is announced as one that is read to its end ahead of everything.
    pub(super) fn is_short(&self) -> bool {
        matches!(self.framing, Framing::Length(length) if length <= AHEAD_BYTES_MAX as u64)
    }

    /// How much of it was read.
    pub(super) fn read_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// The next piece for the upstream; not to be called once [`Self::is_over`].
    pub(super) fn poll_next<E: Exchange>(
        &mut self,
        exchange: &mut E,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Frame, BodyError>> {
        if let Some(piece) = self.kept.get(self.position) {
            self.position += 1;
            return Poll::Ready(Ok(Frame::Data(piece.clone())));
        }
        if let Some(end) = &self.end {
            self.over = true;
            return Poll::Ready(Ok(end.clone().map_or(Frame::End, Frame::Trailers)));
        }
        let frame = ready!(exchange.poll_request(cx))?;
        match &frame {
            Frame::Data(data) => {
                self.kept_bytes = self.kept_bytes.saturating_add(data.len());
                let fits = self.kept_bytes <= KEPT_BYTES_MAX && self.kept.len() < 2 * PIECES_MAX;
                if !self.passed && fits {
                    self.kept.push(data.clone());
                    self.position += 1;
                } else {
                    self.passed = true;
                    self.kept.clear();
                    self.position = 0;
                }
            }
            Frame::End => self.end = Some(None),
            Frame::Trailers(fields) => self.end = Some(Some(fields.clone())),
        }
        self.over = self.end.is_some();
        Poll::Ready(Ok(frame))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::held::HeldBudget;
    use crate::limits::Limits;

    #[test]
    fn a_short_body_counts_as_the_memory_that_its_pieces_take() {
        for (piece, bytes_max) in [(1, 24 * 1024), (64, 24 * 1024), (8 * 1024, 16 * 1024)] {
            let budget = HeldBudget::new(Arc::default());
            let length = Framing::Length(16 * 1024);
            let mut body = RequestBody::new(length, budget.share(&Limits::default(), None));
            assert_eq!(body.cost(), 0, "before anything came");
            let mut sent = Vec::new();
            while sent.len() + piece <= 16 * 1024 {
                let data: Vec<u8> = (sent.len()..sent.len() + piece).map(|at| at.to_le_bytes()[0]).collect();
                sent.extend_from_slice(&data);
                body.keep(data.into());
                let taken = body.kept_bytes + body.kept.len() * size_of::<Bytes>();
                assert!(body.cost() + 2 * size_of::<Bytes>() >= taken, "{piece}: {} {taken}", body.cost());
                body.share.hold(body.cost()).unwrap();
            }
            assert_eq!(body.kept.concat(), sent);
            assert!(budget.bytes() <= bytes_max, "{piece}: {}", budget.bytes());
            assert!(body.kept.len() <= PIECES_MAX);
        }
    }
}

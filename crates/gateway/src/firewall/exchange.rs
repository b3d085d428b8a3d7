//! Between the hop and the client: holds the answer back until it is judged, where a rule
//! needs it. In detect mode it holds nothing back, and shows the rules a copy.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use proxy::head::Framing;
use proxy::{Additions, BodyError, Exchange, Frame, Known, Layer, ResponseHead};

use super::head::response_fields;
use super::unpack::Unpacker;
use super::work::rest;
use super::{Inspection, Reading, Shown, Side};

/// A client's exchange with the firewall before it, when there is one.
pub(crate) struct Inspected<'e, E> {
    inner: &'e mut E,
    inspection: Option<&'e mut Inspection>,
    answer: Answer,
}

/// Where the answer is.
enum Answer {
    /// No head yet.
    None,
    /// It goes to the client as it comes.
    Passing,
    /// Its head is being judged.
    Head(Box<Whole>),
    /// It is held back until it has ended, or enough of it has come.
    Collecting(Box<Whole>),
    /// It is being judged.
    Judging(Box<Whole>),
    /// It was judged, and goes to the client as fast as that takes it.
    Leaving(VecDeque<Frame>),
    /// It does not go to the client.
    Refused,
}

/// What becomes of an answer when its head was judged.
enum Behind {
    /// It goes on.
    Passes,
    /// No rule reads its body, and the rest of the rules take long.
    Waits,
    /// It is held back.
    Collects(Option<Packed>),
}

/// A held answer.
struct Whole {
    head: ResponseHead,
    additions: Additions,
    frames: VecDeque<Frame>,
    packed: Option<Packed>,
}

/// What is to be unpacked of a held answer.
struct Packed {
    unpacker: Box<Unpacker>,
    /// What the rules have not seen yet.
    pieces: VecDeque<Bytes>,
    /// Whether no more comes.
    over: bool,
}

impl<'e, E: Exchange> Inspected<'e, E> {
    pub(crate) fn new(inner: &'e mut E, inspection: Option<&'e mut Inspection>) -> Self {
        Self { inner, inspection, answer: Answer::None }
    }

    /// The inspection, where it sees a copy of what goes on.
    fn observing(&mut self) -> Option<&mut Inspection> {
        self.inspection.as_deref_mut().filter(|inspection| inspection.is_observing())
    }

    /// Shows the copy to the rules.
    fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.observing().map_or(Poll::Ready(()), |inspection| inspection.poll_beside(cx))
    }

    fn refused(&mut self) -> io::Error {
        self.answer = Answer::Refused;
        io::Error::other("the firewall refused the answer")
    }

    /// Begins to judge a held answer.
    fn judge(&mut self) -> io::Result<()> {
        if let (Answer::Collecting(mut whole), Some(inspection)) =
            (std::mem::replace(&mut self.answer, Answer::None), &mut self.inspection)
        {
            // What it was unpacked with may be megabytes.
            whole.packed = None;
            match inspection.response_body_end() {
                Poll::Ready(Err(_)) => return Err(self.refused()),
                Poll::Ready(Ok(())) => self.release(*whole)?,
                Poll::Pending => self.answer = Answer::Judging(whole),
            }
        }
        Ok(())
    }

    /// The answer is judged, and nothing is against it.
    fn release(&mut self, whole: Whole) -> io::Result<()> {
        if let Some(inspection) = &mut self.inspection {
            inspection.response_judged();
        }
        self.inner.send_head(&whole.head, &whole.additions)?;
        self.answer = Answer::Leaving(whole.frames);
        Ok(())
    }

    /// What becomes of the answer with this head, against which phase 3 has nothing.
    fn behind_head(&mut self, head: &ResponseHead) -> io::Result<Behind> {
        let Some(inspection) = &mut self.inspection else { return Ok(Behind::Passes) };
        if has_readable_body(head) && inspection.needs_response_body() {
            match inspection.reading(Side::Response, &head.fields) {
                Ok(Reading::Plain) => return Ok(Behind::Collects(None)),
                Ok(Reading::Unpacked(unpacker)) => {
                    return Ok(Behind::Collects(Some(Packed {
                        unpacker,
                        pieces: VecDeque::new(),
                        over: false,
                    })));
                }
                Ok(Reading::Not) => {}
                Err(_) => return Err(self.refused()),
            }
        }
        match inspection.response_body_end() {
            Poll::Ready(Err(_)) => Err(self.refused()),
            Poll::Ready(Ok(())) => {
                inspection.response_judged();
                Ok(Behind::Passes)
            }
            Poll::Pending => Ok(Behind::Waits),
        }
    }

    /// Goes on behind a head that took long to judge, with what has come behind it.
    fn head_judged(&mut self, mut whole: Whole) -> io::Result<()> {
        match self.behind_head(&whole.head)? {
            Behind::Passes => self.release(whole)?,
            Behind::Waits => self.answer = Answer::Judging(Box::new(whole)),
            Behind::Collects(packed) => {
                whole.packed = packed;
                let frames = std::mem::take(&mut whole.frames);
                self.answer = Answer::Collecting(Box::new(whole));
                for frame in frames {
                    Layer::send_frame(self, frame)?;
                }
            }
        }
        Ok(())
    }

    /// Unpacks what has come of a held answer, a slice at a time.
    fn poll_unpack(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Answer::Collecting(whole), Some(inspection)) = (&mut self.answer, &mut self.inspection) else {
            return Poll::Ready(Ok(()));
        };
        let Some(Packed { unpacker, pieces, over }) = &mut whole.packed else { return Poll::Ready(Ok(())) };
        let shown = match pieces.front_mut() {
            Some(piece) => inspection.show_packed(Side::Response, unpacker, piece),
            None if *over => inspection.end_packed(Side::Response, unpacker).map(|()| Shown::Enough),
            None => return Poll::Ready(Ok(())),
        };
        match shown {
            Ok(Shown::Enough) => return Poll::Ready(self.judge()),
            Ok(Shown::Whole) => drop(pieces.pop_front()),
            Ok(Shown::Some) => {}
            Err(_) => return Poll::Ready(Err(self.refused())),
        }
        if pieces.is_empty() && !*over {
            return Poll::Ready(Ok(()));
        }
        rest(cx);
        Poll::Pending
    }

    /// Judges and releases a held answer as far as that goes now.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unpack(cx))?;
        while let (Answer::Head(_) | Answer::Judging(_), Some(inspection)) =
            (&self.answer, &mut self.inspection)
        {
            let judged = ready!(inspection.poll_judge(cx));
            if judged.is_err() {
                return Poll::Ready(Err(self.refused()));
            }
            match std::mem::replace(&mut self.answer, Answer::None) {
                Answer::Head(whole) => {
                    self.head_judged(*whole)?;
                    ready!(self.poll_unpack(cx))?;
                }
                Answer::Judging(whole) => self.release(*whole)?,
                other => self.answer = other,
            }
        }
        while let Answer::Leaving(frames) = &mut self.answer {
            if frames.is_empty() {
                self.answer = Answer::Passing;
                break;
            }
            match self.inner.poll_ready(cx)? {
                Poll::Ready(()) => {
                    if let Some(frame) = frames.pop_front() {
                        self.inner.send_frame(frame)?;
                    }
                }
                Poll::Pending => ready!(self.inner.poll_flush(cx))?,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<E: Exchange> Layer for Inspected<'_, E> {
    type Inner = E;

    fn inner(&self) -> &E {
        self.inner
    }

    fn inner_mut(&mut self) -> &mut E {
        self.inner
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        if let Answer::Head(whole) | Answer::Judging(whole) = &self.answer
            && whole.head.status == StatusCode::SWITCHING_PROTOCOLS
        {
            // Before it knows of the switch, the exchange has nothing of the tunnel to give.
            ready!(self.poll_release(cx))?;
        }
        ready!(self.poll_beside(cx));
        let frame = ready!(self.inner.poll_request(cx))?;
        if let Some(inspection) = self.observing() {
            inspection.observe_request(&frame);
            // What is not judged yet is when the next piece is asked for, or comes back.
            let _ = inspection.poll_beside(cx);
        }
        Poll::Ready(Ok(frame))
    }

    fn send_interim(&mut self, head: &ResponseHead) {
        // A transaction has one response head to judge, and nothing goes to the client unjudged.
        if self.inspection.is_none() || self.observing().is_some() {
            self.inner.send_interim(head);
        }
    }

    fn send_head(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        if let Some(inspection) = self.observing() {
            inspection.observe_head(head);
            return self.inner.send_head(head, additions);
        }
        let Some(inspection) = &mut self.inspection else {
            return self.inner.send_head(head, additions);
        };
        let fields = response_fields(head);
        let said =
            waf::ResponseHead { status: head.status.as_u16(), protocol: b"HTTP/1.1", headers: &fields };
        let whole = |packed| {
            let (head, additions) = (head.clone(), additions.clone());
            Box::new(Whole { head, additions, frames: VecDeque::new(), packed })
        };
        self.answer = match inspection.response_headers(&said) {
            Poll::Pending => Answer::Head(whole(None)),
            Poll::Ready(Err(_)) => return Err(self.refused()),
            Poll::Ready(Ok(())) => match self.behind_head(head)? {
                Behind::Passes => Answer::Passing,
                Behind::Waits => Answer::Judging(whole(None)),
                Behind::Collects(packed) => Answer::Collecting(whole(packed)),
            },
        };
        match self.answer {
            Answer::Passing => self.inner.send_head(head, additions),
            _ => Ok(()),
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_beside(cx));
        ready!(self.poll_release(cx))?;
        // What is held back has its own limit.
        if matches!(self.answer, Answer::Collecting(_)) {
            Poll::Ready(Ok(()))
        } else {
            self.inner.poll_ready(cx)
        }
    }

    fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        if let Some(inspection) = self.observing() {
            inspection.observe_answer(&frame);
            return self.inner.send_frame(frame);
        }
        let Some(inspection) = &mut self.inspection else { return self.inner.send_frame(frame) };
        match &mut self.answer {
            Answer::Collecting(whole) => {
                let wanted = match (&frame, &mut whole.packed) {
                    (Frame::Data(bytes), None) => inspection.response_body(bytes),
                    (Frame::Data(bytes), Some(packed)) => {
                        packed.pieces.push_back(bytes.clone());
                        Ok(true)
                    }
                    (Frame::Trailers(_) | Frame::End, None) => Ok(false),
                    (Frame::Trailers(_) | Frame::End, Some(packed)) => {
                        packed.over = true;
                        Ok(true)
                    }
                };
                whole.frames.push_back(frame);
                match wanted {
                    Ok(true) => {}
                    Ok(false) => self.judge()?,
                    Err(_) => return Err(self.refused()),
                }
                Ok(())
            }
            Answer::Head(whole) | Answer::Judging(whole) => {
                whole.frames.push_back(frame);
                Ok(())
            }
            Answer::Leaving(frames) => {
                frames.push_back(frame);
                Ok(())
            }
            Answer::Refused => Err(self.refused()),
            Answer::None | Answer::Passing => self.inner.send_frame(frame),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_beside(cx));
        ready!(self.poll_release(cx))?;
        self.inner.poll_flush(cx)
    }
}

/// Whether there is a body behind a head that rules may look at.
pub(super) fn has_readable_body(head: &ResponseHead) -> bool {
    let has_body = head.framing != Framing::None && head.status != StatusCode::SWITCHING_PROTOCOLS;
    has_body && !is_stream(head)
}

/// Answers that never end, or that both sides speak in turns: to hold one back would
/// be to break it.
fn is_stream(head: &ResponseHead) -> bool {
    head.fields.get(Known::ContentType).is_some_and(|value| {
        let starts = |with: &[u8]| value.get(..with.len()).is_some_and(|v| v.eq_ignore_ascii_case(with));
        starts(b"text/event-stream") || starts(b"application/grpc")
    })
}

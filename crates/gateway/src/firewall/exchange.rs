//! Between the hop and the client: holds the answer back until it is judged, where a rule
//! needs it.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use proxy::head::Framing;
use proxy::proxy_protocol::Origin;
use proxy::{Additions, BodyError, Exchange, Frame, Known, ResponseHead};
use waf::Step;

use super::Inspection;
use super::head::response_fields;

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
    /// It is held back until it has ended, or enough of it has come.
    Collecting(Box<Whole>),
    /// It is being judged.
    Judging(Box<Whole>, Step),
    /// It was judged, and goes to the client as fast as that takes it.
    Leaving(VecDeque<Frame>),
    /// It does not go to the client.
    Refused,
}

/// A held answer.
struct Whole {
    head: ResponseHead,
    additions: Additions,
    frames: VecDeque<Frame>,
}

impl<'e, E: Exchange> Inspected<'e, E> {
    pub(crate) fn new(inner: &'e mut E, inspection: Option<&'e mut Inspection>) -> Self {
        Self { inner, inspection, answer: Answer::None }
    }

    fn refused(&mut self) -> io::Error {
        self.answer = Answer::Refused;
        io::Error::other("the firewall refused the answer")
    }

    /// Judges and releases a held answer as far as that goes now.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let (Answer::Judging(_, step), Some(inspection)) = (&mut self.answer, &mut self.inspection) {
            let judged = ready!(inspection.poll_judge(step, cx));
            if judged.is_err() {
                return Poll::Ready(Err(self.refused()));
            }
            if let Answer::Judging(whole, _) = std::mem::replace(&mut self.answer, Answer::Passing) {
                self.inner.send_head(&whole.head, &whole.additions)?;
                self.answer = Answer::Leaving(whole.frames);
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

impl<E: Exchange> Exchange for Inspected<'_, E> {
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        self.inner.poll_request(cx)
    }

    fn origin(&self) -> Option<Origin> {
        self.inner.origin()
    }

    fn limit_request(&mut self, bytes_max: u64) {
        self.inner.limit_request(bytes_max);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.inner.poll_gone(cx)
    }

    fn bytes_in(&self) -> u64 {
        self.inner.bytes_in()
    }

    fn bytes_out(&self) -> u64 {
        self.inner.bytes_out()
    }

    fn send_head(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        let Some(inspection) = &mut self.inspection else {
            return self.inner.send_head(head, additions);
        };
        let fields = response_fields(head);
        let said =
            waf::ResponseHead { status: head.status.as_u16(), protocol: b"HTTP/1.1", headers: &fields };
        if inspection.response_headers(&said).is_err() {
            return Err(self.refused());
        }
        let has_body = head.framing != Framing::None && head.status != StatusCode::SWITCHING_PROTOCOLS;
        if has_body && !is_stream(head) && inspection.needs_response_body() {
            let (head, additions) = (head.clone(), additions.clone());
            self.answer = Answer::Collecting(Box::new(Whole { head, additions, frames: VecDeque::new() }));
            return Ok(());
        }
        if inspection.response_without_body().is_err() {
            return Err(self.refused());
        }
        self.answer = Answer::Passing;
        self.inner.send_head(head, additions)
    }

    fn head_sent(&self) -> bool {
        self.inner.head_sent()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Answer::Collecting(_) = self.answer {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_release(cx))?;
        self.inner.poll_ready(cx)
    }

    fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        let Some(inspection) = &mut self.inspection else { return self.inner.send_frame(frame) };
        match &mut self.answer {
            Answer::Collecting(whole) => {
                let wanted = match &frame {
                    Frame::Data(bytes) => match inspection.response_body(bytes) {
                        Ok(more) => more,
                        Err(_) => return Err(self.refused()),
                    },
                    Frame::Trailers(_) | Frame::End => false,
                };
                whole.frames.push_back(frame);
                if !wanted
                    && let Answer::Collecting(whole) = std::mem::replace(&mut self.answer, Answer::None)
                {
                    let step = inspection.response_body_end();
                    self.answer = Answer::Judging(whole, step);
                }
                Ok(())
            }
            Answer::Judging(whole, _) => {
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
        ready!(self.poll_release(cx))?;
        self.inner.poll_flush(cx)
    }

    fn abort(&mut self) {
        self.inner.abort();
    }

    fn sever(&mut self) {
        self.inner.sever();
    }

    fn respond(&mut self, status: StatusCode, additions: &Additions, body: Bytes) -> io::Result<()> {
        // An answer of ours: nothing to judge.
        self.inner.respond(status, additions, body)
    }
}

/// Answers that never end, or that both sides speak in turns: to hold one back would
/// be to break it.
fn is_stream(head: &ResponseHead) -> bool {
    head.fields.get(Known::ContentType).is_some_and(|value| {
        let starts = |with: &[u8]| value.get(..with.len()).is_some_and(|v| v.eq_ignore_ascii_case(with));
        starts(b"text/event-stream") || starts(b"application/grpc")
    })
}

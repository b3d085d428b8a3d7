//! What a route does with its upstream's answers: their size, the contract, compression.
//!
//! [`Shaped`] stands between the forwarder and the client. An answer that has to keep a
//! contract is held back whole, up to a limit, until it is judged; any other streams.

pub mod compress;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use contract::{AnswerCheck, HasBody, Violations};
use http::StatusCode;
use proxy::head::{Framing, Manner};
use proxy::{Additions, Exchange, Frame, Layer, ResponseHead};
use tokio::sync::Semaphore;

use crate::hand_off::hand_off;
use crate::snapshot::Route;
use crate::step::contract::INLINE_BYTES_MAX;
use compress::{Coding, Compression, Encoder};

/// What a route does with answers.
#[derive(Clone, Debug, Default)]
pub struct ResponseRules {
    /// Most bytes of an answer's body.
    pub bytes_max: Option<u64>,
    /// What is compressed.
    pub compression: Option<Compression>,
    /// Whether and how answers are held against the route's contract.
    pub contract: Option<AnswerRules>,
}

/// How answers are held against a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerRules {
    /// What becomes of an answer that breaks it.
    pub mode: contract::Mode,
    /// Most bytes of an answer's body that are buffered for validation.
    pub body_bytes_max: usize,
}

impl ResponseRules {
    /// Whether answers go on as they come.
    pub fn are_none(&self) -> bool {
        self.bytes_max.is_none() && self.compression.is_none() && self.contract.is_none()
    }
}

/// Why an answer did not go on.
#[derive(Debug)]
pub enum Refused {
    /// It is longer than the route allows.
    TooLarge {
        /// The limit, bytes.
        limit: u64,
    },
    /// It breaks the contract.
    Contract(Violations),
    /// It is too long to be judged.
    TooLongToJudge {
        /// The limit, bytes.
        limit: usize,
    },
}

impl Refused {
    /// A short stable name.
    pub fn class(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "response_bytes",
            Self::Contract(violations) => violations.first().class.name(),
            Self::TooLongToJudge { .. } => "contract_size",
        }
    }

    /// In one line, for the log.
    pub fn reason(&self) -> String {
        match self {
            Self::TooLarge { limit } => format!("the response has more than {limit} bytes"),
            Self::Contract(violations) => violations.to_string(),
            Self::TooLongToJudge { limit } => {
                format!("the response has more than the {limit} bytes that are buffered for validation")
            }
        }
    }
}

/// A client's exchange whose answer is shaped.
pub struct Shaped<'e, E> {
    inner: &'e mut E,
    route: &'e Route,
    /// The operation of the contract that was asked for.
    operation: Option<usize>,
    /// What the client takes.
    coding: Option<Coding>,
    /// Whether it was a HEAD.
    is_head: bool,
    /// Places for bodies that are judged on other threads.
    places: &'e Arc<Semaphore>,
    state: State,
    encoder: Option<Encoder>,
    /// Whether the encoder holds what the client has not got.
    unflushed: bool,
    bytes: u64,
    /// Why the answer did not go on.
    pub refused: Option<Refused>,
    /// What is wrong with an answer that went on.
    pub reported: Option<Violations>,
}

enum State {
    /// Frames go on.
    Streams,
    /// Frames are kept to be judged.
    Held(Box<HeldAnswer>),
    /// They are being judged on another thread.
    Judged(Box<HeldAnswer>, Frame, Elsewhere),
}

/// The verdict as it comes back; `None` when there was none.
type Elsewhere = Pin<Box<dyn Future<Output = Option<Result<(), Violations>>> + Send>>;

struct HeldAnswer {
    /// The head that was not sent yet; `None` when frames go on while they are kept.
    head: Option<(ResponseHead, Additions)>,
    frames: Vec<Bytes>,
    bytes: usize,
    check: AnswerCheck,
    rules: AnswerRules,
}

impl<'e, E: Exchange> Shaped<'e, E> {
    /// Shapes the answer to a request.
    pub fn new(
        inner: &'e mut E,
        route: &'e Route,
        head: &proxy::RequestHead,
        operation: Option<usize>,
        places: &'e Arc<Semaphore>,
    ) -> Self {
        let coding = route.response.compression.as_ref().and_then(|compression| compression.choose(head));
        Self {
            inner,
            route,
            operation,
            coding,
            is_head: head.method == http::Method::HEAD,
            places,
            state: State::Streams,
            encoder: None,
            unflushed: false,
            bytes: 0,
            refused: None,
            reported: None,
        }
    }

    fn refuse(&mut self, refused: Refused) -> io::Error {
        self.refused = Some(refused);
        io::Error::other("the response was refused")
    }

    /// Sends the head, compressed from here on when that fits.
    fn open(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        let length = if let Framing::Length(length) = head.framing { Some(length) } else { None };
        let fits = self.route.response.compression.as_ref().filter(|one| one.is_for(head, length));
        if fits.is_none() {
            return self.inner.send_head(head, additions);
        }
        let mut additions = additions.clone();
        let _ = additions.push_as(Manner::Beside, "vary", b"accept-encoding");
        let (Some(coding), false) = (self.coding, self.is_head || head.framing == Framing::None) else {
            return self.inner.send_head(head, &additions);
        };
        self.encoder = Some(Encoder::new(coding)?);
        let _ = additions.push("content-encoding", coding.name().as_bytes());
        // They speak of the bytes before they were compressed (RFC 9110 §8.8.3, RFC 9530).
        for name in ["content-length", "accept-ranges", "content-md5", "digest", "content-digest"] {
            additions.remove(name);
        }
        if let Some(tag) = head.fields.kept_named(b"etag").next()
            && !tag.starts_with(b"W/")
        {
            let _ = additions.push("etag", &[b"W/", tag].concat());
        }
        let head = ResponseHead { framing: Framing::Chunked, ..head.clone() };
        self.inner.send_head(&head, &additions)
    }

    /// Sends a frame, compressed or not.
    fn pass(&mut self, frame: Frame) -> io::Result<()> {
        let Some(encoder) = &mut self.encoder else { return self.inner.send_frame(frame) };
        match frame {
            Frame::Data(data) => {
                encoder.write(&data)?;
                self.unflushed = true;
                let ready = encoder.take();
                if ready.is_empty() { Ok(()) } else { self.inner.send_frame(Frame::Data(ready)) }
            }
            end @ (Frame::End | Frame::Trailers(_)) => {
                let rest = self.encoder.take().map_or_else(|| Ok(Bytes::new()), Encoder::finish)?;
                self.unflushed = false;
                if !rest.is_empty() {
                    self.inner.send_frame(Frame::Data(rest))?;
                }
                self.inner.send_frame(end)
            }
        }
    }

    /// Takes what was held when its end has come: judges it, or has it judged.
    fn held_whole(&mut self, held: Box<HeldAnswer>, end: Frame) -> io::Result<()> {
        let mut body = BytesMut::with_capacity(held.bytes);
        for piece in &held.frames {
            body.extend_from_slice(piece);
        }
        if held.bytes <= INLINE_BYTES_MAX {
            let verdict = held.check.judge(&body);
            return self.judged(held, end, verdict);
        }
        let check = held.check.clone();
        let verdict = hand_off(Arc::clone(self.places), move || check.judge(&body));
        self.state = State::Judged(held, end, Box::pin(verdict));
        Ok(())
    }

    fn judged(
        &mut self,
        held: Box<HeldAnswer>,
        end: Frame,
        verdict: Result<(), Violations>,
    ) -> io::Result<()> {
        if let Err(violations) = verdict {
            if held.rules.mode == contract::Mode::Enforce {
                return Err(self.refuse(Refused::Contract(violations)));
            }
            self.reported = Some(violations);
        }
        self.release(*held)?;
        self.pass(end)
    }

    /// Lets go on what was held.
    fn release(&mut self, held: HeldAnswer) -> io::Result<()> {
        let Some((head, additions)) = held.head else { return Ok(()) };
        self.open(&head, &additions)?;
        for piece in held.frames {
            self.pass(Frame::Data(piece))?;
        }
        Ok(())
    }

    fn begin(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        let bodiless = self.is_head
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || matches!(head.framing, Framing::None | Framing::Length(0));
        if let (Some(limit), Framing::Length(length), false) =
            (self.route.response.bytes_max, head.framing, bodiless)
            && length > limit
        {
            return Err(self.refuse(Refused::TooLarge { limit }));
        }
        let (Some(rules), Some(contract)) = (self.route.response.contract, &self.route.contract) else {
            return self.open(head, additions);
        };
        let has_body = if bodiless { HasBody::No } else { HasBody::Perhaps };
        let contract = &contract.contract;
        match contract.answer(self.operation, head.status.as_u16(), &head.fields, has_body) {
            Ok(contract::Answer::Done) => self.open(head, additions),
            Ok(contract::Answer::Body(check)) => {
                let enforced = rules.mode == contract::Mode::Enforce;
                if enforced && matches!(head.framing, Framing::Length(l) if l > rules.body_bytes_max as u64) {
                    return Err(self.refuse(Refused::TooLongToJudge { limit: rules.body_bytes_max }));
                }
                let kept = enforced.then(|| (head.clone(), additions.clone()));
                if !enforced {
                    self.open(head, additions)?;
                }
                self.state = State::Held(Box::new(HeldAnswer {
                    head: kept,
                    frames: Vec::new(),
                    bytes: 0,
                    check,
                    rules,
                }));
                Ok(())
            }
            Err(violations) if rules.mode == contract::Mode::Enforce => {
                Err(self.refuse(Refused::Contract(violations)))
            }
            Err(violations) => {
                self.reported = Some(violations);
                self.open(head, additions)
            }
        }
    }

    /// Keeps a frame to be judged.
    fn keep(&mut self, mut held: Box<HeldAnswer>, data: Bytes) -> io::Result<()> {
        let limit = held.rules.body_bytes_max;
        held.bytes = held.bytes.saturating_add(data.len());
        let too_long = held.bytes > limit;
        if held.head.is_some() {
            if too_long {
                return Err(self.refuse(Refused::TooLongToJudge { limit }));
            }
            held.frames.push(data);
            self.state = State::Held(held);
            return Ok(());
        }
        if too_long {
            // It goes on unjudged, and the log says so.
            self.reported = Some(held.check.too_large());
        } else {
            held.frames.push(data.clone());
            self.state = State::Held(held);
        }
        self.pass(Frame::Data(data))
    }
}

impl<E: Exchange> Layer for Shaped<'_, E> {
    type Inner = E;

    fn inner(&self) -> &E {
        self.inner
    }

    fn inner_mut(&mut self) -> &mut E {
        self.inner
    }

    fn send_interim(&mut self, head: &ResponseHead) {
        // A contract says nothing of one, and an answer that has to keep it is held back whole.
        if !self.route.response.contract.is_some_and(|rules| rules.mode == contract::Mode::Enforce) {
            self.inner.send_interim(head);
        }
    }

    fn send_head(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // From here on it is no response any more.
            return self.inner.send_head(head, additions);
        }
        self.begin(head, additions)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is held back has its own limit.
        if matches!(&self.state, State::Held(held) if held.head.is_some()) {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx)
    }

    fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        if let (Frame::Data(data), Some(limit)) = (&frame, self.route.response.bytes_max) {
            self.bytes = self.bytes.saturating_add(data.len() as u64);
            if self.bytes > limit {
                return Err(self.refuse(Refused::TooLarge { limit }));
            }
        }
        match std::mem::replace(&mut self.state, State::Streams) {
            State::Streams => self.pass(frame),
            State::Held(held) => match frame {
                Frame::Data(data) => self.keep(held, data),
                end @ (Frame::End | Frame::Trailers(_)) => self.held_whole(held, end),
            },
            state @ State::Judged(..) => {
                self.state = state;
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let State::Judged(_, _, verdict) = &mut self.state {
            let Poll::Ready(verdict) = verdict.as_mut().poll(cx) else { return Poll::Pending };
            if let State::Judged(held, end, _) = std::mem::replace(&mut self.state, State::Streams) {
                let verdict = verdict.unwrap_or_else(|| Err(held.check.unjudged()));
                self.judged(held, end, verdict)?;
            }
        }
        if self.unflushed
            && let Some(encoder) = &mut self.encoder
        {
            self.unflushed = false;
            let ready = encoder.flush()?;
            if !ready.is_empty() {
                self.inner.send_frame(Frame::Data(ready))?;
            }
        }
        self.inner.poll_flush(cx)
    }
}

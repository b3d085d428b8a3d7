//! Detect mode has no effect: the exchange goes on as if there were no firewall, and the rules see
//! a copy of it, one phase after the other, as far as each has come.
//!
//! INVARIANT: nobody waits here for bytes that have not come. What is judged late is judged beside
//! the exchange, or at its end; what waits for its phase is held within the engine's own limits.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use proxy::{Fields, Frame, ResponseHead};

use super::super::exchange::has_readable_body;
use super::super::head::response_fields;
use super::super::work::{NOTHING, rest};
use super::{Inspection, Reading, Shown, Side};

/// So much longer than an eighth more than what the rules look at may a copy be that waits for its
/// phase: a byte more than is taken of a compressed body.
const PACKED_FREE_BYTES: usize = 4097;

/// How far the rules are with an exchange that goes on unjudged.
#[derive(Debug)]
pub(super) struct Observation {
    stage: Stage,
    request: Copied,
    trailers: Option<Fields>,
    head: Option<ResponseHead>,
    answer: Copied,
}

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The rest of the request's body.
    Request,
    /// The rest of phase 2.
    RequestBegun,
    /// The answer's head.
    Head,
    /// The rest of phase 3.
    HeadBegun,
    /// The rest of the answer's body.
    Answer,
    /// The rest of phase 4.
    AnswerBegun,
    /// Nothing.
    Over,
}

/// One body as far as the rules have not seen it.
struct Copied {
    reading: Reading,
    held: BytesMut,
    /// Most bytes that are held.
    bytes_max: usize,
    /// What is being unpacked.
    piece: Bytes,
    /// Whether the unpacker has more to give.
    unpacks: bool,
    /// Whether no more comes.
    ended: bool,
    /// Whether it ended before its end.
    broken_off: bool,
    /// Whether the rules have seen as much as they want.
    seen: bool,
}

impl Copied {
    fn new(reading: Reading, limit_bytes: usize) -> Self {
        // What is over a limit is found by the first byte past it.
        let bytes_max = limit_bytes.saturating_add(limit_bytes / 8).saturating_add(PACKED_FREE_BYTES);
        Self {
            reading,
            held: BytesMut::new(),
            bytes_max,
            piece: Bytes::new(),
            unpacks: false,
            ended: false,
            broken_off: false,
            seen: false,
        }
    }

    /// Keeps what its phase is not ready for: of a piece that does not fit whole the part that does.
    fn keep(&mut self, data: &[u8]) {
        if self.ended || self.seen {
            return;
        }
        let room = self.bytes_max.saturating_sub(self.held.len());
        self.held.extend_from_slice(data.get(..room).unwrap_or(data));
        self.ended = data.len() > room;
    }

    fn end(&mut self, broken_off: bool) {
        self.broken_off |= broken_off && !self.ended && !self.seen;
        self.ended = true;
    }

    /// Whether bytes wait to be unpacked.
    fn is_unpacking(&self) -> bool {
        matches!(self.reading, Reading::Unpacked(_)) && !self.seen && (self.unpacks || !self.held.is_empty())
    }

    /// Shows the rules what has come. Whether that is all they want.
    fn poll_show(&mut self, side: Side, inspection: &mut Inspection, cx: &mut Context<'_>) -> Poll<bool> {
        while !self.seen {
            match &mut self.reading {
                Reading::Not => self.seen = true,
                Reading::Plain => {
                    let wanted = self.held.is_empty() || inspection.show_piece(side, &self.held) == Ok(true);
                    self.held.clear();
                    self.seen = self.ended || !wanted;
                    break;
                }
                Reading::Unpacked(unpacker) => {
                    if !self.unpacks && self.held.is_empty() {
                        if self.ended && !self.broken_off {
                            let _ = inspection.end_packed(side, unpacker);
                        }
                        self.seen = self.ended;
                        break;
                    }
                    if !self.unpacks {
                        self.piece = self.held.split().freeze();
                    }
                    self.unpacks = true;
                    match inspection.show_packed(side, unpacker, &mut self.piece) {
                        Ok(Shown::Whole) => self.unpacks = false,
                        Ok(Shown::Some) => {
                            rest(cx);
                            return Poll::Pending;
                        }
                        Ok(Shown::Enough) | Err(_) => self.seen = true,
                    }
                }
            }
        }
        if self.seen {
            // What it was unpacked with may be megabytes.
            self.reading = Reading::Not;
            self.held = BytesMut::new();
            self.piece = Bytes::new();
        }
        Poll::Ready(self.seen)
    }
}

impl Observation {
    /// Goes on as far as there is something to judge.
    fn poll(&mut self, inspection: &mut Inspection, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.stage = match self.stage {
                Stage::Request => {
                    if !ready!(self.request.poll_show(Side::Request, inspection, cx)) {
                        return Poll::Ready(());
                    }
                    self.begin_request(inspection);
                    Stage::RequestBegun
                }
                Stage::RequestBegun => {
                    let _ = ready!(inspection.poll_judge(cx));
                    inspection.unfinished = false;
                    Stage::Head
                }
                Stage::Head => {
                    let Some(head) = &self.head else { return Poll::Ready(()) };
                    begin_head(inspection, head);
                    Stage::HeadBegun
                }
                Stage::HeadBegun => {
                    let _ = ready!(inspection.poll_judge(cx));
                    self.read_answer(inspection);
                    Stage::Answer
                }
                Stage::Answer => {
                    if !ready!(self.answer.poll_show(Side::Response, inspection, cx)) {
                        return Poll::Ready(());
                    }
                    inspection.begin_only(|transaction| transaction.response_body_end(NOTHING));
                    Stage::AnswerBegun
                }
                Stage::AnswerBegun => {
                    let _ = ready!(inspection.poll_judge(cx));
                    inspection.unfinished = false;
                    Stage::Over
                }
                Stage::Over => return Poll::Ready(()),
            }
        }
    }

    fn begin_request(&mut self, inspection: &mut Inspection) {
        if let Some(trailers) = self.trailers.take() {
            inspection.request_trailers(&trailers);
        }
        if self.request.broken_off
            && let Some(transaction) = inspection.work.here_mut()
        {
            transaction.request_body_breaks_off();
        }
        inspection.begin_only(|transaction| transaction.request_body_end(NOTHING));
    }

    /// How the answer is read against whose head phase 3 has said what it has to say.
    fn read_answer(&mut self, inspection: &mut Inspection) {
        let head = self.head.as_ref().filter(|head| has_readable_body(head));
        let reading = match head {
            Some(head) if inspection.needs_response_body() => {
                inspection.reading(Side::Response, &head.fields).unwrap_or(Reading::Not)
            }
            _ => Reading::Not,
        };
        self.answer.reading = reading;
    }

    #[cfg(test)]
    pub(super) fn bytes_held(&self) -> usize {
        self.request.held.len() + self.answer.held.len()
    }

    /// Nothing more comes. Whether something was still to come.
    fn break_off(&mut self) -> bool {
        self.request.end(true);
        self.answer.end(self.head.is_some());
        self.request.broken_off || self.answer.broken_off
    }

    /// Whether something is left to be judged.
    fn is_behind(&self) -> bool {
        match self.stage {
            Stage::Head => self.head.is_some(),
            Stage::Over => false,
            _ => true,
        }
    }
}

fn begin_head(inspection: &mut Inspection, head: &ResponseHead) {
    inspection.unfinished = true;
    let fields = response_fields(head);
    let said = waf::ResponseHead { status: head.status.as_u16(), protocol: b"HTTP/1.1", headers: &fields };
    inspection.begin_only(|transaction| transaction.response_headers(&said, NOTHING));
}

impl Inspection {
    /// From here on the exchange goes on unjudged. `request`: how the body is read that phase 2
    /// waits for; `None` where phase 2 is over.
    pub(crate) fn observe(&mut self, request: Option<Reading>) {
        let settings = self.firewall.rules.settings();
        let stage = if request.is_some() { Stage::Request } else { Stage::Head };
        let mut copied = Copied::new(Reading::Not, settings.request_body_bytes_max);
        match request {
            Some(reading) => copied.reading = reading,
            None => copied.seen = true,
        }
        let answer = Copied::new(Reading::Plain, settings.response_body_bytes_max);
        let observation = Observation { stage, request: copied, trailers: None, head: None, answer };
        self.observation = Some(Box::new(observation));
    }

    /// Whether the exchange goes on unjudged.
    pub(crate) fn is_observing(&self) -> bool {
        self.observation.is_some()
    }

    /// A piece of the request's body that goes on.
    pub(crate) fn observe_request(&mut self, frame: &Frame) {
        let Some(observation) = &mut self.observation else { return };
        if observation.stage != Stage::Request {
            return;
        }
        match frame {
            Frame::Data(data) => observation.request.keep(data),
            Frame::Trailers(fields) => {
                observation.trailers = Some(fields.clone());
                observation.request.end(false);
            }
            Frame::End => observation.request.end(false),
        }
    }

    /// The answer's head, which goes on.
    pub(crate) fn observe_head(&mut self, head: &ResponseHead) {
        let Some(observation) = &mut self.observation else { return };
        if !has_readable_body(head) {
            observation.answer.reading = Reading::Not;
            observation.answer.seen = true;
        }
        observation.head = Some(head.clone());
    }

    /// A piece of the answer's body that goes on.
    pub(crate) fn observe_answer(&mut self, frame: &Frame) {
        let Some(observation) = &mut self.observation else { return };
        match frame {
            Frame::Data(data) => observation.answer.keep(data),
            Frame::Trailers(_) | Frame::End => observation.answer.end(false),
        }
    }

    /// Judges what has come. Pending only where there is more to do at once: to wait for it is
    /// to wait for the rules.
    pub(crate) fn poll_observe(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut observation) = self.observation.take() else { return Poll::Ready(()) };
        let polled = observation.poll(self, cx);
        self.observation = Some(observation);
        polled
    }

    /// Judges what has come beside the exchange, which waits only until what it brought is
    /// unpacked, so that no more of it is held.
    pub(crate) fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.poll_observe(cx);
        let unpacks = self.observation.as_ref().is_some_and(|observation| match observation.stage {
            Stage::Request => observation.request.is_unpacking(),
            Stage::Answer => observation.answer.is_unpacking(),
            _ => false,
        });
        if unpacks { polled } else { Poll::Ready(()) }
    }

    /// The exchange is over: judges what is left.
    pub(super) async fn finish_observing(&mut self) {
        let Some(observation) = &mut self.observation else { return };
        let broken_off = observation.break_off();
        poll_fn(|cx| self.poll_observe(cx)).await;
        self.observation = None;
        self.unfinished |= broken_off;
    }

    /// The exchange is over, and nobody waits for what is left.
    pub(super) fn stop_observing(&mut self) {
        let behind = self.observation.take().is_some_and(|observation| observation.is_behind());
        self.unfinished |= behind;
    }
}

impl std::fmt::Debug for Copied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copied")
            .field("held", &self.held.len())
            .field("ended", &self.ended)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

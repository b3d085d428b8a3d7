//! One request under inspection: the engine's transaction, taken through its phases.

mod observe;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use audit::Slot;
use bytes::Bytes;
use http::StatusCode;
use model::{Clock, RequestId, Timestamp};
use proxy::Fields;
use tokio::sync::Semaphore;
use waf::{Budget, Cause, EngineMode, Intake, Match, Pass, Step, Transaction, Verdict};

use super::unpack::{Coding, Unpacker, Unreadable};
use super::work::{NOTHING, SLICE, Work, rest};
use observe::Observation;

use super::{Allowance, CompressedRequests, Firewall, Head, Mode};

/// Bytes that are unpacked between two rests.
const SLICE_BYTES: usize = 128 * 1024;
/// What a step of unpacking that gives nothing counts for, bytes.
const STEP_COST_BYTES: usize = 1024;

/// Why a message does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It is refused with this status: by a rule, or by the engine itself.
    Deny { status: u16, rule: u64, cause: Option<Cause> },
    /// The connection ends without an answer.
    Drop { rule: u64 },
    /// The client is sent elsewhere.
    Redirect { status: u16, location: Vec<u8>, rule: u64 },
    /// The rules cannot read its body.
    Unreadable { status: StatusCode, why: Unreadable },
    /// The engine could not say.
    Unable,
}

/// Which body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

impl Side {
    /// As the log says it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// How the rules read a body.
pub(crate) enum Reading {
    /// As it comes.
    Plain,
    /// As it is unpacked.
    Unpacked(Box<Unpacker>),
    /// Not at all: it goes on unseen, and the log says so.
    Not,
}

/// How much of a request that is refused anyway is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Its head, to phase 1.
    Head,
    /// Its head, to both request phases.
    Request,
}

/// What is shown of a request that is refused anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Body,
    End,
}

/// How far a piece of a body was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All of it.
    Whole,
    /// There is more: rest first.
    Some,
    /// As far as the rules want to see the body.
    Enough,
}

/// A request under inspection.
#[derive(Debug)]
pub(crate) struct Inspection {
    firewall: Arc<Firewall>,
    mode: Mode,
    work: Work,
    slot: Option<Slot>,
    stopped: Option<Stopped>,
    unread: Option<(Side, Unreadable)>,
    /// Whether something has begun to be inspected and was not judged yet.
    unfinished: bool,
    /// Whether the engine holds the request's body.
    lent: bool,
    /// What detect mode has of the exchange.
    observation: Option<Box<Observation>>,
    end: End,
}

/// How far phase 5 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ahead,
    Begun,
    Over,
}

/// Who asks, and when.
pub(crate) struct Begin<'b> {
    pub(crate) id: RequestId,
    pub(crate) time: Timestamp,
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    /// Places for work on other threads.
    pub(crate) places: &'b Arc<Semaphore>,
}

impl Inspection {
    /// Begins, in a mode that may be milder than the firewall's. The slot is the place that its
    /// line has in the firewall's log, and the spare is memory for it.
    pub(crate) fn begin(
        firewall: &Arc<Firewall>,
        mode: Mode,
        begin: &Begin<'_>,
        slot: Option<Slot>,
        spare: waf::Spare,
    ) -> Self {
        let connection = waf::Connection {
            client_address: begin.client.ip(),
            client_port: begin.client.port(),
            server_address: begin.server.ip(),
            server_port: begin.server.port(),
        };
        let mut transaction = Transaction::in_spare(
            spare,
            Arc::clone(&firewall.rules),
            Arc::clone(&firewall.memory),
            connection,
            std::str::from_utf8(&begin.id.to_ascii()).unwrap_or_default(),
            millis(begin.time),
        );
        if mode == Mode::Detect && transaction.engine() == EngineMode::On {
            transaction.set_engine(EngineMode::DetectionOnly);
        }
        Self {
            firewall: Arc::clone(firewall),
            mode,
            work: Work::new(transaction, begin.places),
            slot,
            stopped: None,
            unread: None,
            unfinished: true,
            lent: false,
            observation: None,
            end: End::Ahead,
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Why the message does not go on, in block mode.
    pub(crate) fn stopped(&self) -> Option<&Stopped> {
        self.stopped.as_ref()
    }

    /// Its memory, when it is over and worth to be kept for another one.
    pub(crate) fn into_spare(self) -> Option<waf::Spare> {
        self.work.into_spare()
    }

    /// The place in the firewall's log, once.
    pub(crate) fn take_slot(&mut self) -> Option<Slot> {
        self.slot.take()
    }

    /// What matched and asks to be written down.
    pub(crate) fn found(&self) -> impl Iterator<Item = &Match> {
        let matches = self.work.here().map_or(&[][..], Transaction::matches);
        matches.iter().filter(|found| found.log)
    }

    /// How many matches were counted and not kept.
    pub(crate) fn matches_further(&self) -> u64 {
        self.work.here().map_or(0, Transaction::matches_further)
    }

    /// Whether anything did, or went by unread.
    pub(crate) fn has_findings(&self) -> bool {
        self.unread.is_some() || self.found().next().is_some()
    }

    /// The body that the rules could not read, or not to its end, and why.
    pub(crate) fn unread(&self) -> Option<&(Side, Unreadable)> {
        self.unread.as_ref()
    }

    /// The anomaly scores, where the rules keep some.
    pub(crate) fn scores(&self) -> Option<waf::Scores> {
        self.work.here()?.scores()
    }

    /// The rule that would have stopped the message where the rules may interfere; 0 for a
    /// limit of the engine.
    pub(crate) fn intended(&self) -> Option<u64> {
        match self.work.here()?.intended()? {
            Verdict::Pass => None,
            Verdict::Deny { rule, .. } | Verdict::Drop { rule } | Verdict::Redirect { rule, .. } => {
                Some(*rule)
            }
        }
    }

    /// Phase 1.
    pub(crate) async fn request_headers(&mut self, head: &Head<'_>) -> Result<(), Stopped> {
        self.finish(|transaction| transaction.request_headers(&head.as_engine(), NOTHING)).await
    }

    /// Shows the head of a request that is refused anyway, a slice of the allowance at a
    /// time, phase 5 included. Where that ends, so does the inspection, and the log says so.
    pub(crate) async fn show(
        &mut self,
        head: &Head<'_>,
        extent: Extent,
        allowance: &Allowance,
        clock: &dyn Clock,
        now: Timestamp,
    ) {
        let parts = [Part::Head, Part::Body, Part::End];
        let shown = parts.into_iter().filter(|part| *part != Part::Body || extent == Extent::Request);
        self.end = End::Over;
        let Some(transaction) = self.work.here_mut() else { return };
        for part in shown {
            let mut step = allowance.slice(clock, || match part {
                Part::Head => transaction.request_headers(&head.as_engine(), SLICE),
                Part::Body => transaction.request_body_end(SLICE),
                Part::End => transaction.logging(millis(now), SLICE),
            });
            while step == Some(Step::Yield) {
                tokio::task::yield_now().await;
                step = allowance.slice(clock, || transaction.resume(SLICE));
            }
            if step.is_none() {
                return transaction.close();
            }
        }
        self.unfinished = false;
    }

    /// Whether it ended before it was judged.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Whether the upstream is asked for answers that the rules can read as they come. Who only
    /// detects changes nothing about a request, and unpacks what comes.
    pub(crate) fn wants_plain_answers(&self) -> bool {
        self.mode == Mode::Block && self.firewall.rules.settings().response_body_access
    }

    /// Whether a rule needs the request's body.
    pub(crate) fn needs_request_body(&self) -> bool {
        self.work.here().is_some_and(Transaction::needs_request_body)
    }

    /// Whether the engine keeps the request's body as it comes: then nobody else need, and
    /// [`Self::kept_request_body`] gives it out again.
    pub(crate) fn lends_request_body(&mut self) -> bool {
        self.lent = self.work.here().is_some_and(Transaction::keeps_request_body);
        self.lent
    }

    /// The body that was lent, once, after phase 2 has begun.
    pub(crate) fn kept_request_body(&mut self) -> Option<Bytes> {
        let lent = std::mem::take(&mut self.lent);
        lent.then(|| {
            let kept = self.work.here().and_then(Transaction::request_body);
            kept.map_or_else(Bytes::new, Bytes::from_owner)
        })
    }

    /// Shows a piece of the request's body; false when no more is wanted.
    pub(crate) fn request_body(&mut self, bytes: &[u8]) -> Result<bool, Stopped> {
        self.show_piece(Side::Request, bytes)
    }

    /// How the body of a message with these fields is read.
    pub(crate) fn reading(&mut self, side: Side, fields: &Fields) -> Result<Reading, Stopped> {
        let coding = match (Coding::of(fields.named(b"content-encoding")), side) {
            (Ok(Some(coding)), Side::Request) => match self.firewall.compressed_requests {
                CompressedRequests::Unpack => Ok(Some(coding)),
                CompressedRequests::Refuse | CompressedRequests::Pass => Err(coding.refused()),
            },
            (coding, _) => coding,
        };
        let settings = self.firewall.rules.settings();
        let bytes_max = match side {
            Side::Request => settings.request_body_bytes_max,
            Side::Response => settings.response_body_bytes_max,
        };
        let unpacker = |coding| Unpacker::new(coding, bytes_max as u64);
        match coding.and_then(|coding| coding.map(unpacker).transpose()) {
            Ok(None) => Ok(Reading::Plain),
            Ok(Some(unpacker)) => Ok(Reading::Unpacked(Box::new(unpacker))),
            Err(why) => self.unreadable(side, why).map(|()| Reading::Not),
        }
    }

    /// Shows a slice of what a piece of a compressed body unpacks to.
    pub(crate) fn show_packed(
        &mut self,
        side: Side,
        unpacker: &mut Unpacker,
        piece: &mut Bytes,
    ) -> Result<Shown, Stopped> {
        let mut done = 0;
        while done < SLICE_BYTES {
            let given = match unpacker.step(piece) {
                Ok(given) => given,
                Err(why) => return self.unreadable(side, why).map(|()| Shown::Enough),
            };
            if given.is_empty() && piece.is_empty() {
                return Ok(Shown::Whole);
            }
            done += given.len().max(STEP_COST_BYTES);
            if !self.show_piece(side, given)? {
                return Ok(Shown::Enough);
            }
        }
        Ok(Shown::Some)
    }

    /// The compressed body is over; is its stream?
    pub(crate) fn end_packed(&mut self, side: Side, unpacker: &Unpacker) -> Result<(), Stopped> {
        unpacker.finish().or_else(|why| self.unreadable(side, why))
    }

    /// The rules cannot read a body, or not further: it stops here, unless it may pass.
    fn unreadable(&mut self, side: Side, why: Unreadable) -> Result<(), Stopped> {
        self.unread = Some((side, why.clone()));
        let passes = match side {
            Side::Request => self.firewall.compressed_requests == CompressedRequests::Pass,
            Side::Response => self.firewall.unreadable_answers_pass,
        };
        let status = match side {
            Side::Request => why.status(),
            Side::Response => StatusCode::BAD_GATEWAY,
        };
        self.conclude((!passes).then_some(Stopped::Unreadable { status, why }))
    }

    /// Shows the fields behind the request's body to phase 2.
    pub(crate) fn request_trailers(&mut self, fields: &Fields) {
        if let Some(transaction) = self.work.here_mut() {
            transaction.request_trailers(fields.all());
        }
    }

    /// Phase 2.
    pub(crate) async fn request_body_end(&mut self) -> Result<(), Stopped> {
        let judged = self.finish(|transaction| transaction.request_body_end(NOTHING)).await;
        self.unfinished = false;
        judged
    }

    /// What the request needs to go on. `None`: the engine has not seen all of it, or
    /// has something against it; where it only detects, it has not seen the head.
    pub(crate) fn pass(&self) -> Option<Pass> {
        match self.mode() {
            Mode::Block => self.work.here()?.pass(),
            // Whatever it found, it does nothing here.
            Mode::Detect => self.work.here()?.detected(),
        }
    }

    /// Begins phase 3. Where it takes long, [`Self::poll_judge`] goes on with it.
    pub(crate) fn response_headers(&mut self, head: &waf::ResponseHead<'_>) -> Poll<Result<(), Stopped>> {
        self.unfinished = true;
        self.begin_phase(|transaction, budget| transaction.response_headers(head, budget))
    }

    /// Whether a rule needs the body of the response whose head was shown.
    pub(crate) fn needs_response_body(&self) -> bool {
        self.work.here().is_some_and(Transaction::needs_response_body)
    }

    /// Shows a piece of the response's body; false when no more is wanted.
    pub(crate) fn response_body(&mut self, bytes: &[u8]) -> Result<bool, Stopped> {
        self.show_piece(Side::Response, bytes)
    }

    /// Begins phase 4. Where it takes long, [`Self::poll_judge`] goes on with it.
    pub(crate) fn response_body_end(&mut self) -> Poll<Result<(), Stopped>> {
        self.begin_phase(Transaction::response_body_end)
    }

    /// The answer is judged.
    pub(crate) fn response_judged(&mut self) {
        self.unfinished = false;
    }

    /// Goes on with a phase that has begun; rests between slices.
    pub(crate) fn poll_judge(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        match ready!(self.work.poll(cx)) {
            Some(Step::Yield) => {
                rest(cx);
                Poll::Pending
            }
            Some(Step::Done(verdict)) => Poll::Ready(self.conclude(stopped(verdict))),
            None => Poll::Ready(self.conclude(Some(Stopped::Unable))),
        }
    }

    /// Phase 5, once, when the request is over; rests between slices. Before it, what detect mode
    /// has not judged yet.
    pub(crate) async fn end(&mut self, now: Timestamp) {
        self.finish_observing().await;
        if self.work.here().is_none() {
            return self.break_off(now);
        }
        self.begin_end(now);
        while self.end != End::Over {
            match poll_fn(|cx| self.work.poll(cx)).await {
                Some(Step::Yield) => tokio::task::yield_now().await,
                // Nothing can be stopped any more.
                _ => self.end = End::Over,
            }
        }
    }

    /// Phase 5 where nobody can wait for it any more: as much as fits into a slice.
    pub(crate) fn break_off(&mut self, now: Timestamp) {
        self.stop_observing();
        self.begin_end(now);
        let budget = if self.work.is_long() { NOTHING } else { SLICE };
        let ends = std::mem::replace(&mut self.end, End::Over) != End::Over;
        match self.work.here_mut() {
            Some(transaction) => {
                self.unfinished |= ends && transaction.resume(budget) == Step::Yield;
                if self.unfinished {
                    transaction.close();
                }
            }
            // Given up while another thread had it: what was found is lost.
            None => self.unfinished = true,
        }
    }

    fn begin_end(&mut self, now: Timestamp) {
        if self.end == End::Ahead {
            // With nothing to spend it runs nothing yet; without rules it is over.
            let begun = self.work.here_mut().map(|transaction| transaction.logging(millis(now), NOTHING));
            self.end = if matches!(begun, Some(Step::Done(_))) { End::Over } else { End::Begun };
        }
    }

    /// A phase, from its beginning on.
    async fn finish(&mut self, begin: impl FnOnce(&mut Transaction) -> Step) -> Result<(), Stopped> {
        self.begin_only(begin);
        poll_fn(|cx| self.poll_judge(cx)).await
    }

    /// The beginning of a phase, for [`Self::poll_judge`] to go on with.
    fn begin_only(&mut self, begin: impl FnOnce(&mut Transaction) -> Step) {
        if let Some(transaction) = self.work.here_mut() {
            // With nothing to spend it runs nothing yet.
            let _ = begin(transaction);
        }
    }

    /// The first slice of a phase; nothing of it where a slice is too much for the core.
    fn begin_phase(
        &mut self,
        begin: impl FnOnce(&mut Transaction, Budget) -> Step,
    ) -> Poll<Result<(), Stopped>> {
        let budget = if self.work.is_long() { NOTHING } else { SLICE };
        match self.work.here_mut().map(|transaction| begin(transaction, budget)) {
            Some(Step::Yield) => Poll::Pending,
            Some(Step::Done(verdict)) => Poll::Ready(self.conclude(stopped(verdict))),
            None => Poll::Ready(self.conclude(Some(Stopped::Unable))),
        }
    }

    /// Shows a piece of a body; false when no more is wanted.
    fn show_piece(&mut self, side: Side, bytes: &[u8]) -> Result<bool, Stopped> {
        let taken = self.work.here_mut().map(|transaction| match side {
            Side::Request => transaction.request_body_chunk(bytes),
            Side::Response => transaction.response_body_chunk(bytes),
        });
        match taken {
            Some(Intake::More) => Ok(true),
            Some(Intake::Enough) => Ok(false),
            Some(Intake::Refused(verdict)) => {
                self.conclude(Some(stopped(verdict).unwrap_or(Stopped::Unable))).map(|()| false)
            }
            None => self.conclude(Some(Stopped::Unable)).map(|()| false),
        }
    }

    /// What it comes to in this mode.
    fn conclude(&mut self, stopped: Option<Stopped>) -> Result<(), Stopped> {
        match stopped {
            Some(stopped) if self.mode() == Mode::Block => {
                self.stopped = Some(stopped.clone());
                self.unfinished = false;
                Err(stopped)
            }
            _ => Ok(()),
        }
    }
}

fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.unix_millis()).unwrap_or(i64::MAX)
}

fn stopped(verdict: Verdict) -> Option<Stopped> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Deny { status, rule, cause } => Some(Stopped::Deny { status, rule, cause }),
        Verdict::Drop { rule } => Some(Stopped::Drop { rule }),
        Verdict::Redirect { status, location, rule } => Some(Stopped::Redirect { status, location, rule }),
    }
}

#[cfg(test)]
mod tests;

//! One HTTP transaction: fed piece by piece, judged in five phases.

mod act;
mod body;
mod calendar;
mod candidates;
mod cause;
mod collections;
mod doubt;
mod evaluate;
mod head;
mod opening;
mod record;
mod settled;
mod state;
mod store;
mod tx;
mod values;
mod volatile;

pub use body::KeptBody;
pub use cause::Cause;
pub(crate) use opening::Opening;
pub(crate) use settled::Settled;
pub use state::Spare;
pub(crate) use tx::Value;

use crate::{
    collection::Memory,
    rule::{AllowScope, Phase},
    ruleset::RuleSet,
    score::{Raise, Scores, Side},
    settings::EngineMode,
    target::Selector,
    variable::{Stability, Variable},
};
use state::{Ended, State};
use std::{net::IpAddr, sync::Arc};

/// The two ends of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The client's address.
    pub client_address: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The server's address.
    pub server_address: IpAddr,
    /// The server's port.
    pub server_port: u16,
}

/// A request's head as it came in.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The request line without its line end; for HTTP/2 put together as HTTP/1 would say it.
    pub line: &'a [u8],
    /// `GET`, …
    pub method: &'a [u8],
    /// The request target as sent.
    pub target: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`, …
    pub protocol: &'a [u8],
    /// Header fields in order, names as sent.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// A response's head as it goes out.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// The status code.
    pub status: u16,
    /// `HTTP/1.1`, …
    pub protocol: &'a [u8],
    /// Header fields in order.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// How much work one call may do before it yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Units of work left: one for each rule looked at and one for each 16 bytes inspected.
    pub work_max: u64,
}

impl Budget {
    /// No limit.
    pub const UNLIMITED: Self = Self { work_max: u64::MAX };
}

/// What a call that runs rules came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// The phase is done.
    Done(Verdict),
    /// The budget is used up: call [`Transaction::resume`].
    Yield,
}

/// What to do with the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing against it.
    Pass,
    /// Answer with `status`.
    Deny {
        /// The status that the rule names, 403 where it names none.
        status: u16,
        /// The deciding rule; 0 where the engine itself denies.
        rule: u64,
        /// What the engine has against it, where no rule decided.
        cause: Option<Cause>,
    },
    /// Close the connection without an answer.
    Drop {
        /// The deciding rule.
        rule: u64,
    },
    /// Send the client elsewhere.
    Redirect {
        /// 302 where the rule names none.
        status: u16,
        /// The expanded target.
        location: Vec<u8>,
        /// The deciding rule.
        rule: u64,
    },
}

/// What became of a piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Intake {
    /// Taken; go on.
    More,
    /// No further bytes of this body are wanted; they may pass.
    Enough,
    /// Over a limit whose action is to reject.
    Refused(Verdict),
}

/// One match of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The rule's id; a chain's is its first rule's.
    pub rule: u64,
    /// Phase, 1 to 5.
    pub phase: u8,
    /// `msg`, expanded.
    pub message: String,
    /// `logdata`, expanded, not masked.
    pub log_data: String,
    /// `severity`, 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// `tag`s, expanded.
    pub tags: Vec<String>,
    /// What matched, e.g. `ARGS:q`.
    pub variable: String,
    /// Whether the rule asks to be logged (`log`, not `nolog`).
    pub log: bool,
    /// Whether the rule asks for an audit entry (`auditlog`, not `noauditlog`).
    pub audit: bool,
    /// Whether the rule's action was to stop the transaction (in detection mode it did not).
    pub disruptive: bool,
    /// What it added to the anomaly scores.
    pub raises: Vec<Raise>,
    /// The side whose anomaly score the rule holds against its threshold, where that is
    /// what it does.
    pub judges: Option<Side>,
    /// Whether it does so last: no rule behind it could stop that half of the transaction or
    /// add to its score.
    pub settles: bool,
    /// Whether it changed more than scores: something that other rules may read, or which of
    /// them run.
    pub does_more: bool,
    /// Whether the rule is a chain of conditions; `variable` is what the last one looked at.
    pub is_chain: bool,
}

/// Told of each rule before and after it is looked at, to profile a rule set.
///
/// What rules share (values, transformed ones, the search for literals) is done with the
/// first rule that needs it. Rules that are passed over without a look are not told.
pub trait Watch {
    /// The rule at this place of [`RuleSet::ids`] is about to be looked at.
    fn begin(&mut self, place: usize);
    /// It was.
    fn end(&mut self, matched: bool);
}

/// Nobody watches.
impl Watch for () {
    #[inline]
    fn begin(&mut self, _: usize) {}
    #[inline]
    fn end(&mut self, _: bool) {}
}

/// One HTTP transaction over a shared rule set.
///
/// Call, in this order: [`Self::request_headers`], [`Self::request_body_chunk`] for each
/// piece, [`Self::request_trailers`] where fields stand behind it, [`Self::request_body_end`]
/// (also when there is no body), [`Self::response_headers`], [`Self::response_body_chunk`],
/// [`Self::response_body_end`], [`Self::logging`]. A call
/// that gives [`Step::Yield`] is taken up again by [`Self::resume`]. Once a verdict stops
/// the transaction, later calls give it again and run nothing, but for the logging phase.
#[derive(Debug)]
pub struct Transaction {
    set: Arc<RuleSet>,
    state: State,
    /// Whether the request's first phase is done.
    head_is_judged: bool,
    /// Whether both request phases are done.
    request_is_judged: bool,
}

impl Transaction {
    /// A transaction of `connection` at `now_ms` (milliseconds since 1970).
    #[must_use]
    pub fn new(
        set: Arc<RuleSet>,
        memory: Arc<Memory>,
        connection: Connection,
        unique_id: &str,
        now_ms: i64,
    ) -> Self {
        Self::in_spare(Spare::default(), set, memory, connection, unique_id, now_ms)
    }

    /// The same in memory that an earlier one used: see [`Self::into_spare`].
    #[must_use]
    pub fn in_spare(
        spare: Spare,
        set: Arc<RuleSet>,
        memory: Arc<Memory>,
        connection: Connection,
        unique_id: &str,
        now_ms: i64,
    ) -> Self {
        let mut state = State::in_spare(spare, &set, connection, now_ms);
        state.collections.attach(memory, set.settings.collection_timeout_s);
        state.take_connection(&set, unique_id);
        Self { set, state, head_is_judged: false, request_is_judged: false }
    }

    /// Of a transaction that is over, the memory for a next one, over whatever rules. None where
    /// it has grown so much that it is better given back.
    #[must_use]
    pub fn into_spare(self) -> Option<Spare> {
        self.state.into_spare()
    }

    /// Overrides the engine's mode for this transaction; before phase 1.
    pub fn set_engine(&mut self, mode: EngineMode) {
        self.state.engine = mode;
    }

    /// The engine's mode, as rules may have changed it.
    #[must_use]
    pub fn engine(&self) -> EngineMode {
        self.state.engine
    }

    /// The time now; rules see it as DURATION and TIME.
    pub fn advance(&mut self, now_ms: i64) {
        self.state.now_ms = now_ms;
    }

    /// Phase 1.
    pub fn request_headers(&mut self, head: &RequestHead<'_>, budget: Budget) -> Step {
        self.state.take_request(&self.set, head);
        self.begin(Phase::RequestHeaders, budget)
    }

    /// A piece of the request's body.
    pub fn request_body_chunk(&mut self, piece: &[u8]) -> Intake {
        if let Ended::Verdict(verdict) = &self.state.ended {
            return Intake::Refused(verdict.clone());
        }
        self.state.request_chunk(&self.set, piece)
    }

    /// The fields behind the request's body (RFC 9110 §6.5): in phase 2 rules see them among the
    /// headers, as a recipient does that merges them. Phase 1 is over by then.
    pub fn request_trailers<'f>(&mut self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
        self.state.take_trailers(fields);
    }

    /// The rest of the request's body does not come: that its end is missing is no fault of it.
    /// Before [`Self::request_body_end`].
    pub fn request_body_breaks_off(&mut self) {
        self.state.body.broken_off = true;
    }

    /// Phase 2.
    pub fn request_body_end(&mut self, budget: Budget) -> Step {
        self.state.finish_request(&self.set);
        self.begin(Phase::RequestBody, budget)
    }

    /// Phase 3.
    pub fn response_headers(&mut self, head: &ResponseHead<'_>, budget: Budget) -> Step {
        self.state.take_response(&self.set, head);
        self.begin(Phase::ResponseHeaders, budget)
    }

    /// A piece of the response's body.
    pub fn response_body_chunk(&mut self, piece: &[u8]) -> Intake {
        if let Ended::Verdict(verdict) = &self.state.ended {
            return Intake::Refused(verdict.clone());
        }
        self.state.response_chunk(&self.set, piece)
    }

    /// Phase 4.
    pub fn response_body_end(&mut self, budget: Budget) -> Step {
        self.state.finish_response();
        self.begin(Phase::ResponseBody, budget)
    }

    /// Phase 5; writes collections back.
    pub fn logging(&mut self, now_ms: i64, budget: Budget) -> Step {
        self.state.now_ms = now_ms;
        self.begin(Phase::Logging, budget)
    }

    /// Goes on after [`Step::Yield`].
    pub fn resume(&mut self, budget: Budget) -> Step {
        self.resume_watched(budget, &mut ())
    }

    /// As [`Self::resume`], while somebody watches. To watch a phase from its first rule on,
    /// begin it with a budget of 0.
    pub fn resume_watched(&mut self, budget: Budget, watch: &mut impl Watch) -> Step {
        self.state.work_left = budget.work_max;
        if !self.state.run(&self.set, watch) {
            return Step::Yield;
        }
        self.head_is_judged |= self.state.phase == Some(Phase::RequestHeaders);
        self.request_is_judged |= self.state.phase == Some(Phase::RequestBody);
        if self.state.phase == Some(Phase::Logging) {
            self.close();
        }
        Step::Done(self.verdict())
    }

    /// Ends a transaction of which no phase is to be run any more, also one whose logging phase
    /// was not run to its end: collections are written back, and what rules asked to mask is
    /// masked.
    pub fn close(&mut self) {
        self.state.position = usize::MAX;
        self.state.collections.close(self.state.now_ms);
        record::mask(&mut self.state.matches, &self.state.secrets, self.state.secrets_further);
    }

    /// Whether the request's first phase is done.
    pub(crate) fn head_is_judged(&self) -> bool {
        self.head_is_judged
    }

    /// Whether both request phases are done.
    pub(crate) fn request_is_judged(&self) -> bool {
        self.request_is_judged
    }

    fn begin(&mut self, phase: Phase, budget: Budget) -> Step {
        let state = &mut self.state;
        state.phase = Some(phase);
        state.allow_phase = false;
        let past_requests = phase > Phase::RequestBody;
        if state.ended == Ended::Allowed(AllowScope::Request) && past_requests {
            state.ended = Ended::No;
        }
        let rules = self.set.phases.get(phase.index()).map_or(0, Vec::len);
        state.candidates.begin(rules, self.set.plan.groups.len());
        let skips = state.ended != Ended::No && phase != Phase::Logging;
        state.position = match skips || state.engine == EngineMode::Off {
            true => usize::MAX,
            false => 0,
        };
        state.take_course(&self.set, phase);
        self.resume(budget)
    }

    /// What the transaction has come to.
    pub fn verdict(&self) -> Verdict {
        match &self.state.ended {
            Ended::Verdict(verdict) => verdict.clone(),
            Ended::No | Ended::Allowed(_) => Verdict::Pass,
        }
    }

    /// The first verdict against the transaction, also where the engine only detects.
    #[must_use]
    pub fn intended(&self) -> Option<&Verdict> {
        self.state.intended.as_ref()
    }

    /// All matches so far of rules that ask to be logged.
    #[must_use]
    pub fn matches(&self) -> &[Match] {
        &self.state.matches
    }

    /// How many matches were counted but not kept: a rule that matches many values is kept
    /// with the first few.
    #[must_use]
    pub fn matches_further(&self) -> u64 {
        self.state.matches_further
    }

    /// Bytes of all values that rules may look at so far, transformed ones included. The budget
    /// of a call is looked at between rules, so the more this is, the further it may be passed.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.state.store.values.bytes_held()
    }

    /// Work done so far, in the units of [`Budget`].
    #[must_use]
    pub fn work_done(&self) -> u64 {
        self.state.work_done
    }

    /// Whether the body of the request is looked at; after phase 1, which knows its kind.
    #[must_use]
    pub fn needs_request_body(&self) -> bool {
        self.runs() && self.state.body.request_access && self.state.body.is_looked_at(&self.set.plan)
    }

    /// Whether all that is taken of the request's body is kept as it comes, so that the caller
    /// need not keep it too: see [`Self::request_body`]. After phase 1.
    #[must_use]
    pub fn keeps_request_body(&self) -> bool {
        self.needs_request_body() && self.state.body.keeps_whole(&self.set.plan)
    }

    /// The request's body as far as it was taken, after [`Self::request_body_end`]; only as far
    /// as rules look at it as a whole unless [`Self::keeps_request_body`], and None where none
    /// does.
    #[must_use]
    pub fn request_body(&self) -> Option<KeptBody> {
        self.state.kept_request().cloned()
    }

    /// Whether the body of the response is looked at; after phase 3, which knows its type.
    #[must_use]
    pub fn needs_response_body(&self) -> bool {
        self.runs() && self.state.body.response_wanted && self.set.plan.uses(Variable::ResponseBody)
    }

    fn runs(&self) -> bool {
        let allowed = matches!(self.state.ended, Ended::Allowed(AllowScope::Transaction));
        self.state.engine != EngineMode::Off && !allowed
    }

    /// A variable's first value, e.g. `("TX", Some("blocking_inbound_anomaly_score"))`.
    #[must_use]
    pub fn variable(&self, variable: &str, name: Option<&str>) -> Option<Vec<u8>> {
        let variable = Variable::from_name(variable)?;
        let selector =
            name.map_or(Selector::All, |name| Selector::Name(name.to_ascii_lowercase().into_bytes()));
        match variable.stability() {
            Stability::Volatile => {
                let all = self.state.volatile_members(&self.set, variable, &selector);
                all.into_iter().next().map(|(_, _, value)| value)
            }
            Stability::Fixed => {
                let found = self.state.store.select(variable, &selector).next()?;
                Some(self.state.store.values.value(found.value).to_vec())
            }
        }
    }

    /// The anomaly scores so far; None where the rules keep none.
    #[must_use]
    pub fn scores(&self) -> Option<Scores> {
        let slots = &self.set.scores;
        let value = |slot: Option<u16>| {
            let number = slot.map_or(0, |slot| self.state.tx.slot(slot).number());
            u32::try_from(number.max(0)).unwrap_or(u32::MAX)
        };
        let [inbound, outbound] = slots.totals.map(value);
        let [inbound_levels, outbound_levels] = slots.levels.map(|levels| levels.map(value));
        let [threshold_inbound, threshold_outbound] = slots.thresholds.map(value);
        slots.are_kept().then(|| Scores {
            inbound,
            outbound,
            inbound_levels,
            outbound_levels,
            paranoia: value(slots.paranoia),
            paranoia_detection: value(slots.paranoia_detection),
            threshold_inbound,
            threshold_outbound,
        })
    }

    /// The connection it was made with.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.state.connection
    }
}

#[cfg(test)]
mod tests;

//! Everything that a transaction holds besides its rule set.

use super::{
    Connection, Match, Verdict,
    body::Body,
    candidates::Candidates,
    cause::Cause,
    collections::Collections,
    evaluate::Origin,
    store::Store,
    tx::{Tx, write_number},
};
use crate::{
    action::{Act, Ctl, Selection},
    bits,
    operator::{BYTES_PER_WORK, Found},
    rule::{AllowScope, Disruptive, Names, Phase, Rule},
    ruleset::RuleSet,
    settings::EngineMode,
    target::Exclusion,
    variable::Variable,
};
use std::collections::HashMap;

/// Longest address that `redirect` sends, bytes.
const LOCATION_BYTES_MAX: usize = 4_096;

/// Whether and how rules have settled the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    No,
    Allowed(AllowScope),
    Verdict(Verdict),
}

/// A value that matched.
#[derive(Debug, Clone, Default)]
pub(super) struct Matched {
    pub(super) variable: Option<Variable>,
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) count: bool,
    /// In the place of the name and the value, of a `TX` variable that is a number: hardly
    /// anybody asks for either.
    pub(super) number: Option<(u16, i64)>,
}

impl Matched {
    /// Becomes this value.
    pub(super) fn become_of(&mut self, origin: Origin<'_>, value: &[u8]) {
        self.variable = Some(origin.variable);
        self.count = origin.count;
        self.number = None;
        self.name.clear();
        self.name.extend_from_slice(origin.name);
        self.value.clear();
        self.value.extend_from_slice(value);
    }

    /// `ARGS:q`, `&TX:x`, `REQUEST_LINE`.
    pub(super) fn write_name(&self, names: &Names, out: &mut Vec<u8>) {
        let Some(variable) = self.variable else { return };
        if self.count {
            out.push(b'&');
        }
        out.extend_from_slice(variable.name().as_bytes());
        let name = self.number.map_or(&*self.name, |(slot, _)| names.name(slot).as_bytes());
        if !name.is_empty() {
            out.push(b':');
            out.extend_from_slice(name);
        }
    }

    /// Appends the value.
    pub(super) fn write_value(&self, out: &mut Vec<u8>) {
        match self.number {
            Some((_, number)) => write_number(number, out),
            None => out.extend_from_slice(&self.value),
        }
    }
}

/// Where a `ctl:ruleRemoveTarget…` stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct ActAt {
    pub(super) rule: usize,
    pub(super) link: usize,
    pub(super) act: usize,
}

impl ActAt {
    pub(super) fn find(self, set: &RuleSet) -> Option<(&Selection, &Exclusion)> {
        match set.rules.get(self.rule)?.links.get(self.link)?.acts.get(self.act)? {
            Act::Ctl(Ctl::RemoveTarget(selection, exclusion)) => Some((selection, exclusion)),
            _ => None,
        }
    }
}

/// The state of a transaction.
#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) tx: Tx,
    /// The phase that runs or was run last.
    pub(super) phase: Option<Phase>,
    pub(super) position: usize,
    pub(super) candidates: Candidates,
    /// How many blocks of the opening are behind; past all of them where every rule is run.
    pub(super) opened: usize,
    /// Whether the phase at hand is run without the rules whose outcome is settled.
    pub(super) on_course: bool,
    pub(super) work_left: u64,
    pub(super) work_done: u64,
    pub(super) engine: EngineMode,
    pub(super) ended: Ended,
    pub(super) allow_phase: bool,
    pub(super) intended: Option<Verdict>,
    pub(super) matched_var: Matched,
    pub(super) matched_vars: Vec<Matched>,
    /// 255: nothing matched yet.
    pub(super) highest_severity: u8,
    /// A bit for each rule that was removed.
    pub(super) removed: Vec<u64>,
    pub(super) removals: Vec<ActAt>,
    /// A bit for each rule that one of `removals` means.
    pub(super) touched: Vec<u64>,
    pub(super) scratch: Vec<u8>,
    /// The argument of the operator at hand with its macros expanded, and whether that still
    /// says what they would.
    pub(super) argument: Vec<u8>,
    pub(super) argument_holds: bool,
    /// Names and values of variables as they were before any of them matched.
    pub(super) listed: Vec<u8>,
    /// What the last operator found.
    pub(super) found: Found,
    pub(super) env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) geo: Vec<(&'static str, Vec<u8>)>,
    pub(super) collections: Collections,
    pub(super) rule: usize,
    pub(super) matches: Vec<Match>,
    /// Matches of a rule past the limit per rule.
    pub(super) matches_further: u64,
    pub(super) matches_of: HashMap<usize, u32, foldhash::fast::RandomState>,
    pub(super) connection: Connection,
    pub(super) start_ms: i64,
    pub(super) now_ms: i64,
    pub(super) body: Body,
    pub(super) audit: bool,
    /// Texts that are masked in what is logged.
    pub(super) secrets: Vec<Vec<u8>>,
    /// Whether there were more of them than are kept.
    pub(super) secrets_further: bool,
}

/// Memory that transactions of one core use one after the other: what it holds is forgotten in
/// between, and only where it lies is kept.
///
/// INVARIANT: nothing of a transaction is left in it for the next one to see.
#[derive(Debug, Default)]
pub struct Spare {
    store: Store,
    tx: Tx,
    candidates: Candidates,
    texts: [Vec<u8>; 5],
}

/// Most memory that is kept for the next transaction, bytes.
const SPARE_BYTES_MAX: usize = 128 * 1024;
/// Longest text whose memory is kept, bytes.
const SPARE_TEXT_BYTES_MAX: usize = 4_096;

impl Spare {
    /// What a transaction leaves; None where it has grown beyond what is worth keeping.
    fn of(state: State) -> Option<Self> {
        let State { mut store, mut tx, candidates, scratch, argument, listed, matched_var, .. } = state;
        if store.room_bytes() > SPARE_BYTES_MAX {
            return None;
        }
        store.clear();
        tx.clear();
        let Matched { name, value, .. } = matched_var;
        let mut texts = [scratch, argument, listed, name, value];
        for text in &mut texts {
            match text.capacity() <= SPARE_TEXT_BYTES_MAX {
                true => {
                    text.clear();
                    text.resize(text.capacity(), 0);
                    text.clear();
                }
                false => *text = Vec::new(),
            }
        }
        Some(Self { store, tx, candidates, texts })
    }

    /// Bytes of memory that are kept for texts.
    #[cfg(test)]
    pub(super) fn text_room_bytes(&self) -> usize {
        self.texts.iter().map(Vec::capacity).sum()
    }
}

impl State {
    pub(super) fn new(set: &RuleSet, connection: Connection, now_ms: i64) -> Self {
        Self::in_spare(Spare::default(), set, connection, now_ms)
    }

    /// The memory of a transaction that is over.
    pub(super) fn into_spare(self) -> Option<Spare> {
        Spare::of(self)
    }

    /// In memory that was used before.
    pub(super) fn in_spare(spare: Spare, set: &RuleSet, connection: Connection, now_ms: i64) -> Self {
        let Spare { mut store, mut tx, candidates, texts: [scratch, argument, listed, name, value] } = spare;
        store.prepare(&set.plan);
        tx.prepare(set);
        Self {
            store,
            tx,
            phase: None,
            position: 0,
            candidates,
            opened: if set.plain { usize::MAX } else { 0 },
            on_course: false,
            work_left: u64::MAX,
            work_done: 0,
            engine: set.settings.engine,
            ended: Ended::No,
            allow_phase: false,
            intended: None,
            matched_var: Matched { name, value, ..Matched::default() },
            matched_vars: Vec::new(),
            highest_severity: u8::MAX,
            removed: set.laid.removed.clone(),
            removals: Vec::new(),
            touched: Vec::new(),
            scratch,
            argument,
            argument_holds: false,
            listed,
            found: Found::default(),
            env: Vec::new(),
            geo: Vec::new(),
            collections: Collections::default(),
            rule: 0,
            matches: Vec::new(),
            matches_further: 0,
            matches_of: HashMap::default(),
            connection,
            start_ms: now_ms,
            now_ms,
            body: Body::new(&set.settings),
            audit: true,
            secrets: Vec::new(),
            secrets_further: false,
        }
    }

    pub(super) fn spend(&mut self, work: u64) {
        self.work_left = self.work_left.saturating_sub(work);
        self.work_done = self.work_done.saturating_add(work);
    }

    pub(super) fn spend_bytes(&mut self, bytes: usize) {
        self.spend(bytes as u64 / BYTES_PER_WORK);
    }

    pub(super) fn is_removed(&self, rule: usize) -> bool {
        bits::has(&self.removed, rule)
    }

    /// Whether a rule no longer looks at something.
    pub(super) fn is_touched(&self, rule: usize) -> bool {
        bits::has(&self.touched, rule)
    }

    /// Whether a verdict stops the evaluation of further values.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.ended, Ended::Verdict(_)) && self.phase != Some(Phase::Logging)
    }

    /// What a disruptive action comes to.
    pub(super) fn verdict(&mut self, set: &RuleSet, rule: &Rule, disruptive: &Disruptive) -> Verdict {
        match disruptive {
            Disruptive::Drop => Verdict::Drop { rule: rule.id },
            Disruptive::Redirect(template) => {
                let mut location = Vec::new();
                self.expand(set, template, &mut location);
                // A header's value: nothing of it may begin another line.
                location.retain(|byte| !byte.is_ascii_control());
                location.truncate(LOCATION_BYTES_MAX);
                Verdict::Redirect { status: rule.status, location, rule: rule.id }
            }
            _ => Verdict::Deny { status: rule.status, rule: rule.id, cause: None },
        }
    }

    /// The engine could not judge: the transaction is denied, whatever the rules say,
    /// unless the rules may not interfere at all.
    pub(super) fn intervene_internal(&mut self, cause: Cause) {
        let verdict = cause.verdict();
        self.intended.get_or_insert(verdict.clone());
        if self.engine == EngineMode::On && !matches!(self.ended, Ended::Verdict(_)) {
            self.ended = Ended::Verdict(verdict);
        }
    }
}

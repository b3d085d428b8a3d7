//! What a line of the log would have come to under other settings: computed from the scores
//! and matches that it holds, between the least and the most that they can mean. Where
//! these differ in the verdict it cannot be told, and is not.

use std::collections::HashSet;
use std::fmt;

use model::event::{FirewallMatch, FirewallSide};

use super::log::Line;
use crate::config::{Excluded, Exclusion};

/// Rules of this phase stop nothing any more.
const PHASE_LOGGING: u8 = 5;
/// The rules of the Core Rule Set that hold a score against its threshold.
const JUDGE_INBOUND: u64 = 949_110;
const JUDGE_OUTBOUND: u64 = 959_100;

/// Other settings; what is None stays as it was for each line.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// Nothing is inspected.
    pub(super) off: bool,
    pub(super) paranoia: Option<u8>,
    pub(super) threshold_inbound: Option<u32>,
    pub(super) threshold_outbound: Option<u32>,
    pub(super) exclusions: Vec<Exclusion>,
    /// The rules that there are; None: the same as were.
    pub(super) present: Option<HashSet<u64>>,
}

/// Why a verdict cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Reason {
    /// A paranoia level that did not run.
    NotRun,
    /// What stands behind the rule that stopped it never ran.
    CutShort,
    /// An exclusion of a chained rule's target.
    Chain,
    /// An exclusion by pattern.
    Pattern,
    /// A rule that is left out changed more than scores.
    Dependents,
    /// Matches that were counted and not written down.
    NotWritten,
    /// The log's own verdict does not follow from its scores.
    Unexplained,
    /// The client went away while it was inspected.
    Unfinished,
    /// Which firewall the request would meet depends on its listener.
    Listener,
    /// The configuration has no such route any more.
    Route,
}

impl Reason {
    /// A stable word for scripts.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NotRun => "level_not_run",
            Self::CutShort => "cut_short",
            Self::Chain => "chained_rule",
            Self::Pattern => "pattern",
            Self::Dependents => "rule_changes_more",
            Self::NotWritten => "matches_not_written",
            Self::Unexplained => "unexplained",
            Self::Unfinished => "unfinished",
            Self::Listener => "listener_unknown",
            Self::Route => "route_unknown",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRun => "rules of the higher paranoia level did not run",
            Self::CutShort => "what stands behind the rule that stopped it never ran",
            Self::Chain => "the log does not say what the first condition of a chained rule looked at",
            Self::Pattern => "targets by pattern are not compared with the log",
            Self::Dependents => "a rule that is left out sets something that other rules read",
            Self::NotWritten => "not all of its matches were written down",
            Self::Unexplained => "its verdict does not follow from the scores that were written down",
            Self::Unfinished => "it ended before it was judged",
            Self::Listener => "its firewall depends on the listener, which the log does not name",
            Self::Route => "the configuration has no route of that name",
        })
    }
}

/// What a line would have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it was.
    Same { blocked: bool },
    /// It passed, and would be stopped.
    NewlyBlocked,
    /// It was stopped, and would pass. `answer_unseen`: whether rules would stop its answer
    /// nobody knows, because there was none.
    NewlyPassed { answer_unseen: bool },
    /// It cannot be told.
    Undecidable(Reason),
    /// Another step refused it; the firewall changes nothing about that.
    RefusedElsewhere,
}

/// What a line would have come to under `settings`.
pub(super) fn replay(line: &Line, settings: &Settings) -> Outcome {
    if line.is_refused_elsewhere() {
        return Outcome::RefusedElsewhere;
    }
    if line.found.unfinished && !line.is_cut() {
        return Outcome::Undecidable(Reason::Unfinished);
    }
    let was = line.is_blocked();
    // What is computed for the settings as they were must be what was; else nothing that is
    // computed for others can be trusted.
    if judge(line, None) != Ok(was) {
        return Outcome::Undecidable(Reason::Unexplained);
    }
    match judge(line, Some(settings)) {
        Err(reason) => Outcome::Undecidable(reason),
        Ok(blocked) if blocked == was => Outcome::Same { blocked },
        Ok(true) => Outcome::NewlyBlocked,
        Ok(false) => {
            let answer_unseen = line.is_cut() && !settings.off && phase_of_end(line) <= 2;
            Outcome::NewlyPassed { answer_unseen }
        }
    }
}

/// The phase in which it was stopped.
fn phase_of_end(line: &Line) -> u8 {
    decider(line).map_or(2, |found| found.phase)
}

/// The match that decided.
fn decider(line: &Line) -> Option<&FirewallMatch> {
    let rule = line.decider()?;
    line.found.rules.iter().find(|found| found.id == rule)
}

/// The least and the most that a score can be.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    least: u32,
    most: u32,
}

/// What is left out of a line, in doubt or for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    In,
    Out,
    Perhaps(Reason),
}

/// Whether it would be stopped; `other` is None for the settings as they were.
fn judge(line: &Line, other: Option<&Settings>) -> Result<bool, Reason> {
    let same = Settings::default();
    let settings = other.unwrap_or(&same);
    if settings.off {
        return Ok(false);
    }
    let decider = decider(line);
    if let (Some(rule), None) = (line.decider(), decider) {
        // A limit of the engine, which no setting here changes; or a rule that is not listed.
        return if rule == 0 || other.is_none() { Ok(true) } else { Err(Reason::NotWritten) };
    }
    let left: Vec<(&FirewallMatch, Left)> =
        line.found.rules.iter().map(|found| (found, left(found, settings))).collect();
    let mut doubt = left.iter().find_map(|(_, left)| match left {
        Left::Perhaps(reason) => Some(*reason),
        Left::In | Left::Out => None,
    });
    let any_out = left.iter().any(|(_, left)| *left != Left::In);
    if any_out && left.iter().any(|(found, left)| found.more && *left != Left::In) {
        return Err(Reason::Dependents);
    }
    // Rules that stop a message by themselves.
    let stops =
        |found: &FirewallMatch| found.disruptive && found.judges.is_none() && found.phase < PHASE_LOGGING;
    if left.iter().any(|(found, left)| stops(found) && *left == Left::In) {
        return Ok(true);
    }
    let mut perhaps_stopped =
        left.iter().any(|(found, left)| stops(found) && matches!(left, Left::Perhaps(_)));
    if line.found.further > 0 && left.iter().any(|(found, _)| stops(found)) {
        // One of those that were counted may be of a value that is still looked at.
        perhaps_stopped = true;
        doubt = doubt.or(Some(Reason::NotWritten));
    }
    let mut certain = false;
    let mut possible = perhaps_stopped;
    for side in [FirewallSide::Inbound, FirewallSide::Outbound] {
        if !is_judged(side, settings, &left) {
            continue;
        }
        let Some((span, reason)) = score(line, side, settings, &left) else { continue };
        let threshold = threshold(line, side, settings);
        certain |= span.least >= threshold;
        if span.most >= threshold && span.least < threshold {
            doubt = doubt.or(reason);
        }
        possible |= span.most >= threshold;
    }
    if !certain && let Some(unseen) = unseen(line, decider) {
        return Err(doubt.unwrap_or(unseen));
    }
    match (certain, possible) {
        (true, _) => Ok(true),
        (false, false) => Ok(false),
        (false, true) => Err(doubt.unwrap_or(Reason::Unexplained)),
    }
}

/// Why a request that would go on past the rule that stopped it cannot be judged further.
fn unseen(line: &Line, decider: Option<&FirewallMatch>) -> Option<Reason> {
    let decider = decider.filter(|_| line.is_cut())?;
    // Behind the rule that judges a score last nothing else could have stopped the request,
    // or its answer.
    (!decider.settles).then_some(Reason::CutShort)
}

/// Whether a side's score is held against its threshold: the rule that does it is there.
fn is_judged(side: FirewallSide, settings: &Settings, left: &[(&FirewallMatch, Left)]) -> bool {
    let id = match side {
        FirewallSide::Inbound => JUDGE_INBOUND,
        FirewallSide::Outbound => JUDGE_OUTBOUND,
    };
    let judge = FirewallMatch { id, judges: Some(side), ..FirewallMatch::default() };
    let here = left.iter().filter(|(found, _)| found.judges == Some(side));
    here.map(|(_, left)| *left).chain([self::left(&judge, settings)]).all(|left| left != Left::Out)
}

/// What a score would be, and why it is not known exactly; None where none is kept.
fn score(
    line: &Line,
    side: FirewallSide,
    settings: &Settings,
    left: &[(&FirewallMatch, Left)],
) -> Option<(Span, Option<Reason>)> {
    let was = line.found.paranoia?;
    let ran = line.found.paranoia_detection.unwrap_or(was).max(was);
    let wanted = settings.paranoia.unwrap_or(was);
    let mut span = Span::default();
    let mut reason = None;
    for (level, total) in (1_u8..).zip(line.levels(side)).filter(|(level, _)| *level <= wanted.min(ran)) {
        let of = |state: fn(&Left) -> bool| -> u32 {
            let raises = left.iter().filter(|(_, left)| state(left)).flat_map(|(found, _)| &found.adds);
            let here = raises.filter(|raise| raise.side == side && raise.level == level);
            here.fold(0, |sum, raise| sum.saturating_add(raise.score))
        };
        let (kept, out) = (of(|left| *left == Left::In), of(|left| *left == Left::Out));
        let perhaps = of(|left| matches!(left, Left::Perhaps(_)));
        let unwritten = total.saturating_sub(kept.saturating_add(out).saturating_add(perhaps));
        let most = total.saturating_sub(out);
        // What was not written down may be of rules that are left out.
        let unsure =
            if out + perhaps > 0 || left.iter().any(|(_, left)| *left != Left::In) { unwritten } else { 0 };
        if unsure > 0 {
            reason = Some(Reason::NotWritten);
        }
        span.least = span.least.saturating_add(most.saturating_sub(perhaps).saturating_sub(unsure));
        span.most = span.most.saturating_add(most);
    }
    if wanted > ran {
        span.most = u32::MAX;
        reason = Some(Reason::NotRun);
    }
    Some((span, reason))
}

fn threshold(line: &Line, side: FirewallSide, settings: &Settings) -> u32 {
    let was = line.found.thresholds.unwrap_or_default();
    let threshold = match side {
        FirewallSide::Inbound => settings.threshold_inbound.unwrap_or(was.inbound),
        FirewallSide::Outbound => settings.threshold_outbound.unwrap_or(was.outbound),
    };
    // A threshold of 0 was never set: nothing is held against it.
    if threshold == 0 { u32::MAX } else { threshold }
}

/// Whether a match would still be there.
fn left(found: &FirewallMatch, settings: &Settings) -> Left {
    if settings.present.as_ref().is_some_and(|present| !present.contains(&found.id)) {
        return Left::Out;
    }
    let mut doubt = None;
    for exclusion in &settings.exclusions {
        let meant = match &exclusion.which {
            Excluded::Rules(first, last) => (*first..=*last).contains(&found.id),
            Excluded::Tag(tag) => found.tags.contains(tag),
        };
        if !meant {
            continue;
        }
        match &exclusion.target {
            None => return Left::Out,
            Some(_) if found.chain => doubt = Some(Reason::Chain),
            Some(target) if is_pattern(target) => doubt = Some(Reason::Pattern),
            Some(target) if takes(target, &found.variable) => return Left::Out,
            Some(_) => {}
        }
    }
    doubt.map_or(Left::In, Left::Perhaps)
}

fn is_pattern(target: &str) -> bool {
    target.split_once(':').is_some_and(|(variable, name)| {
        name.len() > 1
            && name.starts_with('/')
            && name.ends_with('/')
            && !variable.eq_ignore_ascii_case("xml")
    })
}

/// Whether `!target` takes the variable out: its own variable only, all of it or one member.
fn takes(target: &str, variable: &str) -> bool {
    let (wanted, name) = target.split_once(':').map_or((target, None), |(wanted, name)| (wanted, Some(name)));
    let (found, member) = variable.split_once(':').map_or((variable, ""), |(found, member)| (found, member));
    wanted.eq_ignore_ascii_case(found) && name.is_none_or(|name| name.eq_ignore_ascii_case(member))
}

#[cfg(test)]
mod tests;

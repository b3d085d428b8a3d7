//! The anomaly scores that rules of the OWASP Core Rule Set (version 4, and 3.3 under its
//! names) keep in `TX` variables, and what a match adds to them.

use crate::{
    action::{Act, Change, Ctl, SetName, SetVar},
    rule::{Disruptive, Flow, Names, Rule},
    target::Selector,
};

/// How many paranoia levels there are.
pub const LEVELS: usize = 4;

/// Which half of a transaction a score is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The request.
    Inbound,
    /// The response.
    Outbound,
}

/// The scores of a transaction, and what they are held against. A variable that no rule has
/// set yet counts as 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scores {
    /// Of the request: the sum of the levels that block, as the rules last computed it.
    pub inbound: u32,
    /// Of the response, alike.
    pub outbound: u32,
    /// Of the request, for each paranoia level.
    pub inbound_levels: [u32; LEVELS],
    /// Of the response, for each paranoia level.
    pub outbound_levels: [u32; LEVELS],
    /// The paranoia level up to which scores block.
    pub paranoia: u32,
    /// The paranoia level up to which rules run.
    pub paranoia_detection: u32,
    /// The score at which a request is refused.
    pub threshold_inbound: u32,
    /// The score at which a response is refused.
    pub threshold_outbound: u32,
}

/// What a match adds to a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raise {
    /// Which score.
    pub side: Side,
    /// The paranoia level, 1 to 4.
    pub level: u8,
    /// By how much.
    pub amount: u32,
}

/// The slots of the variables, found once at load.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ScoreSlots {
    pub(crate) totals: [Option<u16>; 2],
    pub(crate) levels: [[Option<u16>; LEVELS]; 2],
    pub(crate) paranoia: Option<u16>,
    pub(crate) paranoia_detection: Option<u16>,
    pub(crate) thresholds: [Option<u16>; 2],
}

impl ScoreSlots {
    pub(crate) fn new(names: &Names) -> Self {
        let find = |name: &str| names.find(name.as_bytes());
        let levels = |stem: &str| std::array::from_fn(|at| find(&format!("{stem}_pl{}", at + 1)));
        let four = find("inbound_anomaly_score_pl1").is_some();
        let (inbound, total_in, total_out, paranoia, detection) = match four {
            true => (
                "inbound_anomaly_score",
                "blocking_inbound_anomaly_score",
                "blocking_outbound_anomaly_score",
                "blocking_paranoia_level",
                "detection_paranoia_level",
            ),
            false => (
                "anomaly_score",
                "anomaly_score",
                "outbound_anomaly_score",
                "paranoia_level",
                "executing_paranoia_level",
            ),
        };
        Self {
            totals: [find(total_in), find(total_out)],
            levels: [levels(inbound), levels("outbound_anomaly_score")],
            paranoia: find(paranoia),
            paranoia_detection: find(detection),
            thresholds: [find("inbound_anomaly_score_threshold"), find("outbound_anomaly_score_threshold")],
        }
    }

    /// Whether the rules keep scores at all.
    pub(crate) fn are_kept(&self) -> bool {
        self.totals.iter().any(Option::is_some)
    }

    /// Which score's level a slot is.
    fn level(&self, slot: u16) -> Option<(Side, u8)> {
        for (side, levels) in [Side::Inbound, Side::Outbound].into_iter().zip(&self.levels) {
            for (level, known) in (1..).zip(levels) {
                if *known == Some(slot) {
                    return Some((side, level));
                }
            }
        }
        None
    }

    /// The side whose score a rule holds against its threshold.
    pub(crate) fn judged_by(&self, rule: &Rule) -> Option<Side> {
        let targets = rule.links.iter().flat_map(|link| &link.targets).filter(|target| !target.count);
        targets
            .filter_map(|target| match target.selector {
                Selector::Slot(slot) => self.totals.iter().position(|known| *known == Some(slot)),
                _ => None,
            })
            .map(|side| if side == 0 { Side::Inbound } else { Side::Outbound })
            .next()
    }

    /// Each change of a score that a match of the rule makes.
    pub(crate) fn raised_by<'r>(&self, rule: &'r Rule) -> impl Iterator<Item = (Side, u8, &'r Change)> {
        let acts = rule.links.iter().flat_map(|link| &link.acts);
        acts.filter_map(|act| match act {
            Act::SetVar(SetVar { name: SetName::Slot(slot), change, .. }) => {
                self.level(*slot).map(|(side, level)| (side, level, change))
            }
            _ => None,
        })
    }

    /// Whether a match of the rule changes more than scores: something that other rules may
    /// read, or which of them run.
    pub(crate) fn does_more(&self, rule: &Rule, names: &Names) -> bool {
        let leads = rule.flow != Flow::Next || matches!(rule.disruptive, Disruptive::Allow(_));
        let mut acts = rule.links.iter().flat_map(|link| &link.acts);
        leads
            || acts.any(|act| match act {
                Act::SetVar(SetVar { name: SetName::Slot(slot), .. }) => {
                    !names.name(*slot).contains("_score")
                }
                Act::SetEnv { .. } | Act::Sanitise(_) => false,
                Act::Ctl(ctl) => !matches!(ctl, Ctl::Nothing | Ctl::AuditEngine(_)),
                _ => true,
            })
    }
}

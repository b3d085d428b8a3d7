//! What the first rules of a transaction come to, worked out at load. A rule set begins by
//! setting variables that are not set yet: the same for every transaction, as long as
//! nothing that is read depends on the request.

use super::{
    Connection,
    evaluate::Here,
    state::{Matched, State},
    tx::{Tx, Value},
};
use crate::{
    action::{Act, Change, Ctl, SetName, SetVar},
    plan::Quick,
    rule::{Disruptive, Flow, Link, Phase, Rule},
    ruleset::RuleSet,
    target::Selector,
    template::{Part, Template},
    variable::Variable,
};
use std::net::{IpAddr, Ipv4Addr};

/// Rules of phase 1 whose outcome is known.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    blocks: Vec<Block>,
}

/// Rules that follow each other, run as one.
#[derive(Debug)]
pub(super) struct Block {
    /// The position of the first.
    first: usize,
    /// Where evaluation goes on behind them.
    next: usize,
    /// What they set.
    set: Vec<(u16, Value)>,
    /// What matched last.
    matched: Option<Matched>,
    /// Which rule did something last.
    rule: Option<usize>,
}

/// What is known of a rule before any transaction.
enum Known {
    /// It was run.
    Ran { matched: bool },
    /// It depends on the transaction and leaves the variables as they are.
    Aside,
    /// It may do anything.
    Unknown,
}

impl Opening {
    /// Runs the first rules of phase 1 until one may do anything.
    pub(crate) fn new(set: &RuleSet) -> Self {
        let mut blocks = Vec::new();
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let connection =
            Connection { client_address: nobody, client_port: 0, server_address: nobody, server_port: 0 };
        let mut state = State::new(set, connection, 0);
        state.phase = Some(Phase::RequestHeaders);
        let entries = set.phases.first().map(Vec::as_slice).unwrap_or_default();
        let mut position = 0;
        while position < entries.len() {
            let before = state.tx.clone();
            state.matched_var.variable = None;
            state.rule = usize::MAX;
            let (set_by_it, matched, rule) = (Vec::new(), None, None);
            let mut block = Block { first: position, next: position, set: set_by_it, matched, rule };
            let mut last = None;
            while let Some(entry) = entries.get(block.next) {
                let Some(rule) = set.rules.get(entry.rule as usize) else { break };
                let known = known(&mut state, set, entry.rule as usize, rule);
                let Known::Ran { matched } = known else {
                    last = Some(known);
                    break;
                };
                block.next = if matched { entry.next as usize } else { block.next + 1 };
                block.set = state.tx.changed_since(&before);
                if state.matched_var.variable.is_some() {
                    block.matched = Some(state.matched_var.clone());
                }
                block.rule = Some(state.rule).filter(|rule| *rule != usize::MAX);
            }
            position = block.next + 1;
            if block.next > block.first {
                blocks.push(block);
            }
            if !matches!(last, Some(Known::Aside)) {
                break;
            }
        }
        Self { blocks }
    }

    /// Where evaluation goes on behind all blocks.
    pub(super) fn end(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.next)
    }

    /// Whether a transaction that has so many blocks behind it is past all of them.
    pub(super) fn is_over(&self, opened: usize) -> bool {
        opened == self.blocks.len()
    }

    /// The positions of all rules that are run as part of a block.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> {
        self.blocks.iter().flat_map(|block| block.first..block.next)
    }

    /// What a variable holds behind all blocks.
    pub(super) fn leaves(&self, set: &RuleSet, slot: u16) -> Value {
        let mut changes = self.blocks.iter().rev().flat_map(|block| &block.set);
        let changed = changes.find(|(changed, _)| *changed == slot).map(|(_, value)| value.clone());
        changed.unwrap_or_else(|| {
            let mut tx = Tx::default();
            tx.prepare(set);
            tx.slot(slot).clone()
        })
    }

    /// The block of this number, where it begins at a position.
    pub(super) fn at(&self, number: usize, position: usize) -> Option<&Block> {
        self.blocks.get(number).filter(|block| block.first == position)
    }
}

impl State {
    /// Takes over what the rules of a block come to.
    pub(super) fn open(&mut self, set: &RuleSet, block: &Block) {
        for (slot, value) in &block.set {
            if let Some(kept) = self.tx.slot_mut(*slot) {
                kept.clone_from(value);
            }
        }
        if let Some(matched) = &block.matched {
            let Matched { variable, name, value, count, number } = matched;
            let own = &mut self.matched_var;
            (own.variable, own.count, own.number) = (*variable, *count, *number);
            own.name.clone_from(name);
            own.value.clone_from(value);
        }
        self.rule = block.rule.unwrap_or(self.rule);
        self.position = block.next;
        self.opened += 1;
        if set.opening.is_over(self.opened) {
            self.take_course(set, Phase::RequestHeaders);
        }
    }
}

/// Runs a rule where all of it that counts is known. A rule that matches and does more
/// than setting variables leaves `state` as it may not be used any further.
fn known(state: &mut State, set: &RuleSet, index: usize, rule: &Rule) -> Known {
    if state.is_removed(index) {
        return Known::Ran { matched: false };
    }
    if is_aside(rule) && !rule.links.iter().all(is_known) {
        return Known::Aside;
    }
    if set.laid.exclusions_of(index).next().is_some() {
        return Known::Unknown;
    }
    for (number, link) in rule.links.iter().enumerate() {
        if !is_known(link) {
            return Known::Unknown;
        }
        if !rule.is_silent() {
            // Its actions must not be run: whether it matches is asked of its first link.
            return match would_match(state, set, index, rule) {
                Some(false) => Known::Ran { matched: false },
                _ => Known::Unknown,
            };
        }
        if !state.link(Here { set, rule, index, link, number, removed: &[] }) {
            return Known::Ran { matched: false };
        }
    }
    Known::Ran { matched: true }
}

/// Whether the first link of a rule would match; None where that is not easily told.
fn would_match(state: &State, set: &RuleSet, index: usize, rule: &Rule) -> Option<bool> {
    match set.plan.quick(index, rule) {
        quick @ Quick::Slot { slot, .. } => quick.compares(state.tx.slot(slot)),
        Quick::Look | Quick::Group(..) => None,
    }
}

/// Whether a link reads and writes `TX` alone, by names that are known.
fn is_known(link: &Link) -> bool {
    let reads = link.targets.iter().all(|target| matches!(target.selector, Selector::Slot(_)));
    let test = link
        .test
        .as_ref()
        .is_none_or(|test| test.operator.is_plain() && test.argument.as_ref().is_none_or(is_known_text));
    let acts = link.acts.iter().all(|act| match act {
        Act::SetVar(SetVar { collection: Variable::Tx, name: SetName::Slot(_), change }) => match change {
            Change::Set(text) | Change::Add(text) | Change::Subtract(text) => is_known_text(text),
            Change::SetNumber(_) | Change::AddNumber(_) | Change::Unset => true,
        },
        Act::Ctl(Ctl::Nothing) => true,
        _ => false,
    });
    reads && test && acts && link.exclusions.is_empty() && !link.capture
}

fn is_known_text(text: &Template) -> bool {
    text.parts.iter().all(|part| matches!(part, Part::Literal(_) | Part::Tx(_)))
}

/// Whether a rule changes neither variables nor which rules follow or what they look at.
fn is_aside(rule: &Rule) -> bool {
    let acts = rule.links.iter().flat_map(|link| &link.acts);
    let mut plain = acts.map(|act| match act {
        Act::Ctl(ctl) => !matches!(ctl, Ctl::RemoveRules(_) | Ctl::RemoveTarget(..) | Ctl::RuleEngine(_)),
        _ => false,
    });
    plain.all(|plain| plain)
        && rule.flow == Flow::Next
        && !matches!(rule.disruptive, Disruptive::Allow(_))
        && !rule.links.iter().any(|link| link.capture)
}

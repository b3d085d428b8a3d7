//! The rule model: what the parser makes and the plan lays out.

use crate::{
    action::Act,
    operator::Operator,
    seclang::fault::Place,
    target::{Exclusion, Target},
    template::Template,
    transform::Transformation,
};
use std::collections::HashMap;

/// How many `TX` slots are kept for captures: `TX:0` to `TX:9`.
pub(crate) const CAPTURES: u16 = 10;
/// Most `TX` names that a rule set may name; further ones are a fault of the load.
pub(crate) const TX_NAMES_MAX: usize = 60_000;

/// One of the five phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    RequestHeaders = 1,
    RequestBody = 2,
    ResponseHeaders = 3,
    ResponseBody = 4,
    Logging = 5,
}

impl Phase {
    /// All, in order.
    pub(crate) const ALL: [Self; 5] =
        [Self::RequestHeaders, Self::RequestBody, Self::ResponseHeaders, Self::ResponseBody, Self::Logging];

    /// From `phase:2` or `phase:request`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "1" => Some(Self::RequestHeaders),
            "2" | "request" => Some(Self::RequestBody),
            "3" => Some(Self::ResponseHeaders),
            "4" | "response" => Some(Self::ResponseBody),
            "5" | "logging" => Some(Self::Logging),
            _ => None,
        }
    }

    /// 0 to 4.
    pub(crate) fn index(self) -> usize {
        self as usize - 1
    }
}

/// How far `allow` reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowScope {
    /// All phases but logging.
    Transaction,
    /// The rest of this phase.
    Phase,
    /// The rest of the request phases.
    Request,
}

/// What a rule does to the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Disruptive {
    Pass,
    Allow(AllowScope),
    Deny,
    Drop,
    Redirect(Template),
    /// What the phase's `SecDefaultAction` does; resolved at the end of the load.
    Block,
}

/// Where evaluation goes on after a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flow {
    Next,
    /// `skip:N`, rules.
    Skip(usize),
    /// `skipAfter:NAME`; the position in the phase is resolved at the end of the load.
    SkipAfter(String),
}

/// One condition of a rule: a `SecRule`, alone or in a chain, or a `SecAction`.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) targets: Vec<Target>,
    pub(crate) exclusions: Vec<Exclusion>,
    /// None for `SecAction`, which always matches.
    pub(crate) test: Option<Test>,
    pub(crate) transformations: Vec<Transformation>,
    pub(crate) multi_match: bool,
    pub(crate) capture: bool,
    /// In order, for each value that matches.
    pub(crate) acts: Vec<Act>,
}

/// An operator with its argument.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) operator: Operator,
    pub(crate) negated: bool,
    /// Set when the argument holds macros.
    pub(crate) argument: Option<Template>,
}

/// A rule: one link or a chain of them.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: u64,
    pub(crate) phase: Phase,
    pub(crate) place: Place,
    pub(crate) links: Vec<Link>,
    pub(crate) disruptive: Disruptive,
    pub(crate) status: u16,
    pub(crate) flow: Flow,
    pub(crate) log: bool,
    pub(crate) audit: bool,
    pub(crate) metadata: Metadata,
}

impl Rule {
    /// Whether a match leaves nothing but what the links do.
    pub(crate) fn is_silent(&self) -> bool {
        !self.log
            && !self.audit
            && self.metadata.severity.is_none()
            && matches!(self.disruptive, Disruptive::Pass | Disruptive::Block)
    }
}

/// What a rule says about itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metadata {
    pub(crate) message: Option<Template>,
    pub(crate) message_text: String,
    pub(crate) log_data: Option<Template>,
    pub(crate) severity: Option<u8>,
    pub(crate) tags: Vec<(String, Template)>,
    pub(crate) revision: String,
    pub(crate) version: String,
    pub(crate) maturity: Option<u8>,
    pub(crate) accuracy: Option<u8>,
}

/// The names of `TX` variables that rules name, each with its slot. Slots 0 to 9 are the captures.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    slots: HashMap<String, u16, foldhash::fast::RandomState>,
    names: Vec<String>,
    /// Whether more names came than fit.
    pub(crate) overflow: bool,
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Self { slots: HashMap::default(), names: Vec::new(), overflow: false };
        for capture in 0..CAPTURES {
            names.slot(&capture.to_string());
        }
        names
    }
}

impl Names {
    /// The slot of a name, made where it is new. Names compare ASCII case-insensitively.
    pub(crate) fn slot(&mut self, name: &str) -> u16 {
        let lower = name.to_ascii_lowercase();
        if let Some(slot) = self.slots.get(&lower) {
            return *slot;
        }
        if self.names.len() >= TX_NAMES_MAX {
            self.overflow = true;
            return 0;
        }
        let slot = u16::try_from(self.names.len()).unwrap_or(0);
        self.slots.insert(lower.clone(), slot);
        self.names.push(lower);
        slot
    }

    /// The slot of a name, where there is one.
    pub(crate) fn find(&self, name: &[u8]) -> Option<u16> {
        let name = std::str::from_utf8(name).ok()?;
        match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => self.slots.get(&name.to_ascii_lowercase()).copied(),
            false => self.slots.get(name).copied(),
        }
    }

    /// The name in a slot, lower case.
    pub(crate) fn name(&self, slot: u16) -> &str {
        self.names.get(usize::from(slot)).map_or("", String::as_str)
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_slot_whatever_their_case() {
        let mut names = Names::default();
        let slot = names.slot("Score");
        assert_eq!(names.slot("sCORE"), slot);
        assert_eq!(names.find(b"SCORE"), Some(slot));
        assert_eq!(names.find(b"scores"), None);
        assert_eq!(names.slot("3"), 3);
        assert_eq!(names.name(slot), "score");
    }

    #[test]
    fn names_past_the_limit_are_told() {
        let mut names = Names::default();
        for number in names.len()..TX_NAMES_MAX {
            names.slot(&format!("n{number}"));
        }
        assert!(!names.overflow);
        names.slot("one too many");
        assert!(names.overflow);
    }
}

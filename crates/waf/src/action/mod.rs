//! What a rule does when a value matches, apart from stopping the transaction.

use crate::{
    bits, body::BodyKind, settings::EngineMode, target::Exclusion, template::Template, variable::Variable,
};
use regex::Regex;

/// One action, executed for each value that matches.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    SetVar(SetVar),
    ExpireVar {
        collection: Variable,
        name: Template,
        seconds: Template,
    },
    /// `deprecatevar:session.score=60/300`: lower by the amount for each period since the last change.
    DeprecateVar {
        collection: Variable,
        name: Template,
        amount: i64,
        period_s: i64,
    },
    InitCol {
        collection: Variable,
        key: Template,
    },
    SetEnv {
        name: Template,
        value: Template,
    },
    SetSid(Template),
    SetUid(Template),
    SetRsc(Template),
    Sanitise(Sanitise),
    Ctl(Ctl),
}

/// A change of a variable.
#[derive(Debug, Clone)]
pub(crate) struct SetVar {
    pub(crate) collection: Variable,
    pub(crate) name: SetName,
    pub(crate) change: Change,
}

/// Which variable `setvar` changes.
#[derive(Debug, Clone)]
pub(crate) enum SetName {
    /// A `TX` variable.
    Slot(u16),
    /// Any other, or a name with macros.
    Text(Template),
}

/// How `setvar` changes it.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    SetNumber(i64),
    Set(Template),
    Add(Template),
    AddNumber(i64),
    Subtract(Template),
    Unset,
}

/// What is masked in whatever is logged of the transaction.
#[derive(Debug, Clone)]
pub(crate) enum Sanitise {
    Argument(Vec<u8>),
    RequestHeader(Vec<u8>),
    ResponseHeader(Vec<u8>),
    Matched,
}

/// A change of the engine for this transaction.
#[derive(Debug, Clone)]
pub(crate) enum Ctl {
    AuditEngine(bool),
    ForceRequestBodyVariable(bool),
    RequestBodyAccess(bool),
    RequestBodyLimit(usize),
    RequestBodyProcessor(BodyKind),
    ResponseBodyAccess(bool),
    ResponseBodyLimit(usize),
    RuleEngine(EngineMode),
    /// Accepted, changes nothing here (`debugLogLevel`, `auditLogParts`).
    Nothing,
    RemoveRules(Selection),
    /// Rules no longer look at something.
    RemoveTarget(Selection, Exclusion),
}

/// Rules chosen by id, tag or message.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) by: By,
    /// The indices of the rules, found at the end of the load.
    pub(crate) rules: Vec<u32>,
}

impl Selection {
    /// Puts a bit for each of its rules to `all`.
    pub(crate) fn mark(&self, all: &mut Vec<u64>) {
        for rule in &self.rules {
            let word = *rule as usize / 64;
            if all.len() <= word {
                all.resize(word + 1, 0);
            }
            bits::put(all, *rule as usize);
        }
    }
}

/// How rules are chosen.
#[derive(Debug, Clone)]
pub(crate) enum By {
    /// Inclusive ranges of ids.
    Id(Vec<(u64, u64)>),
    /// Any tag matches.
    Tag(Regex),
    /// The message (before macros are expanded) matches.
    Message(Regex),
}

impl By {
    /// Whether a rule is meant.
    pub(crate) fn takes(&self, rule: &crate::rule::Rule) -> bool {
        match self {
            Self::Id(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&rule.id)),
            Self::Tag(pattern) => rule.metadata.tags.iter().any(|(text, _)| pattern.is_match(text)),
            Self::Message(pattern) => pattern.is_match(&rule.metadata.message_text),
        }
    }
}

impl Act {
    /// The texts with macros in it.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        let (first, second) = match self {
            Self::SetVar(SetVar { name, change, .. }) => {
                let name = match name {
                    SetName::Text(template) => Some(template),
                    SetName::Slot(_) => None,
                };
                let value = match change {
                    Change::Set(value) | Change::Add(value) | Change::Subtract(value) => Some(value),
                    Change::SetNumber(_) | Change::AddNumber(_) | Change::Unset => None,
                };
                (name, value)
            }
            Self::ExpireVar { name, seconds, .. } => (Some(name), Some(seconds)),
            Self::SetEnv { name, value } => (Some(name), Some(value)),
            Self::DeprecateVar { name: only, .. }
            | Self::InitCol { key: only, .. }
            | Self::SetSid(only)
            | Self::SetUid(only)
            | Self::SetRsc(only) => (Some(only), None),
            Self::Sanitise(_) | Self::Ctl(_) => (None, None),
        };
        first.into_iter().chain(second)
    }
}

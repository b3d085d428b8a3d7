//! A loaded rule set: checked whole, immutable, shared by all cores.

use crate::{
    seclang::fault::Place,
    settings::{EngineMode, Settings},
};

/// How a rule set is loaded.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Overrides `SecRuleEngine` (never `ctl:ruleEngine`).
    pub engine: Option<EngineMode>,
    /// Runs every rule in order with no shortcut. Slow; for comparison.
    pub plain: bool,
}

/// Something that a load found worth saying and that does not weaken the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub message: String,
}

/// What a rule set consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Rules, chained ones counted apart.
    pub rules: usize,
    /// Rule files read.
    pub files: usize,
}

/// A loaded rule set.
#[derive(Debug)]
pub struct RuleSet {
    pub(crate) settings: Settings,
    pub(crate) notes: Vec<Note>,
    pub(crate) statistics: Statistics,
}

impl RuleSet {
    /// What the directives set.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the load found worth saying.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// How much it holds.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }
}

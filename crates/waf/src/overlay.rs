//! One rule set for many: what a route has otherwise than its neighbours lies over the
//! shared rules, which are compiled and kept once.

use crate::{
    action::By,
    bits,
    rule::Rule,
    ruleset::{Note, RuleSet, Weight},
    seclang::{
        fault::{Fault, Place},
        lexer::Text,
        rules::{At, Builder},
    },
    settings::Settings,
    sources::{SourceFault, Sources},
    target::{Exclusion, Selector, Target},
    transaction::{Opening, Settled, Value},
    variable::Variable,
};
use std::sync::Arc;

/// What one user of a rule set has otherwise than the rule files say.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// In the place of the rule set's own; begin with a copy of those.
    pub settings: Settings,
    /// `TX` variables that are set before phase 1: name, value.
    pub variables: Vec<(String, String)>,
    /// What rules do not look at.
    pub exclusions: Vec<Excluded>,
}

/// Rules that do not run, or do not look at something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    /// Which rules.
    pub rules: Chosen,
    /// What they do not look at, as `SecRuleUpdateTargetById` names it without its `!`:
    /// `ARGS:comment`, `REQUEST_COOKIES:/^_ga/`. Without one they do not run at all.
    pub target: Option<String>,
}

/// Rules, chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// From the first to the last id.
    Ids(u64, u64),
    /// Those with this tag, whole.
    Tag(String),
}

/// An overlay, found in a rule set. Positions are those of its rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Laid {
    /// `TX` variables before phase 1.
    pub(crate) variables: Vec<(String, Value)>,
    /// A bit for each rule that does not run; empty when all do.
    pub(crate) removed: Vec<u64>,
    exclusions: Vec<Exclusion>,
    /// Rule and exclusion, sorted.
    excluded: Vec<(u32, u32)>,
}

impl Laid {
    /// Whether a rule does not look at something.
    pub(crate) fn excludes_of(&self, rule: usize) -> bool {
        !self.excluded.is_empty() && self.exclusions_of(rule).next().is_some()
    }

    /// What no link of a rule looks at.
    pub(crate) fn exclusions_of(&self, rule: usize) -> impl Iterator<Item = &Exclusion> {
        let rule = u32::try_from(rule).unwrap_or(u32::MAX);
        let from = self.excluded.partition_point(|(known, _)| *known < rule);
        let of_rule = self.excluded.get(from..).unwrap_or_default().iter();
        of_rule
            .take_while(move |(known, _)| *known == rule)
            .filter_map(|(_, at)| self.exclusions.get(*at as usize))
    }

    /// Whether a rule does not run.
    pub(crate) fn removes(&self, rule: usize) -> bool {
        bits::has(&self.removed, rule)
    }

    fn remove(&mut self, rule: usize, rules: usize) {
        self.removed.resize(rules.div_ceil(64), 0);
        bits::put(&mut self.removed, rule);
    }
}

impl RuleSet {
    /// The same rules under an overlay, in the place of any that lies over them already.
    /// The compiled rules are shared, not copied: this costs little time and memory. A rule
    /// that an overlay takes out still counts where `skip:N` counts rules.
    ///
    /// # Errors
    /// A target of an exclusion that names nothing that rules can look at.
    pub fn overlaid(&self, overlay: &Overlay) -> Result<Self, Fault> {
        let mut laid = Laid::default();
        let mut notes = self.notes.clone();
        for (name, value) in &overlay.variables {
            laid.variables.push((name.to_ascii_lowercase(), Value::Text(value.clone().into_bytes())));
        }
        for excluded in &overlay.exclusions {
            let meant: Vec<usize> = self.chosen(&excluded.rules);
            if meant.is_empty() {
                let message = format!("no rule is meant by the exclusion of {}", excluded.rules);
                let place = Place { file: PLACE.into(), line: 1, column: 1 };
                notes.push(Note { place, message, suggestion: None, weight: Weight::Warning });
            }
            let Some(target) = &excluded.target else {
                meant.into_iter().for_each(|rule| laid.remove(rule, self.rules.len()));
                continue;
            };
            let from = laid.exclusions.len();
            laid.exclusions.extend(targets(target)?);
            let new = laid.exclusions.get(from..).unwrap_or_default();
            if let Chosen::Ids(first, last) = excluded.rules
                && first == last
                && !meant.is_empty()
                && !new.iter().all(|exclusion| self.is_looked_at(&meant, exclusion))
            {
                let message = format!("{} does not look at {target}, which it is not to", excluded.rules);
                let place = Place { file: PLACE.into(), line: 1, column: 1 };
                notes.push(Note { place, message, suggestion: None, weight: Weight::Warning });
            }
            for rule in meant {
                let all = from..laid.exclusions.len();
                let pairs = all.filter_map(|at| Some((u32::try_from(rule).ok()?, u32::try_from(at).ok()?)));
                laid.excluded.extend(pairs);
            }
        }
        laid.excluded.sort_unstable();
        let mut statistics = self.statistics;
        let removed: u32 = laid.removed.iter().map(|word| word.count_ones()).sum();
        statistics.rules = self.rules.len().saturating_sub(removed as usize);
        let mut set = Self {
            settings: overlay.settings.clone(),
            notes,
            markers: Arc::clone(&self.markers),
            statistics,
            rules: Arc::clone(&self.rules),
            phases: Arc::clone(&self.phases),
            gates: Arc::clone(&self.gates),
            opening: Opening::default(),
            settled: Arc::default(),
            names: Arc::clone(&self.names),
            scores: self.scores,
            plan: Arc::clone(&self.plan),
            plain: self.plain,
            laid,
        };
        set.opening = Opening::new(&set);
        set.settled = Arc::new(Settled::new(&set));
        Ok(set)
    }

    /// Whether two rule sets are the same compiled rules, perhaps under different overlays.
    #[must_use]
    pub fn shares_rules(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rules, &other.rules) && Arc::ptr_eq(&self.plan, &other.plan)
    }

    /// Whether one of these rules looks at what an exclusion takes.
    fn is_looked_at(&self, rules: &[usize], exclusion: &Exclusion) -> bool {
        // Slots of the rule set are none of the exclusion's: it has the name.
        let takes = |target: &Target| match (&target.selector, &exclusion.selector) {
            (Selector::Slot(slot), selector) => {
                exclusion.variable == Variable::Tx
                    && !target.count
                    && selector.takes(self.names.name(*slot).as_bytes())
            }
            _ => exclusion.may_take(target),
        };
        let rules = rules.iter().filter_map(|at| self.rules.get(*at));
        rules.flat_map(|rule| &rule.links).flat_map(|link| &link.targets).any(takes)
    }

    fn chosen(&self, chosen: &Chosen) -> Vec<usize> {
        let takes = |rule: &Rule| match chosen {
            Chosen::Ids(first, last) => By::Id(vec![(*first, *last)]).takes(rule),
            Chosen::Tag(tag) => rule.metadata.tags.iter().any(|(text, _)| text == tag),
        };
        self.rules.iter().enumerate().filter(|(_, rule)| takes(rule)).map(|(at, _)| at).collect()
    }
}

impl std::fmt::Display for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ids(first, last) if first == last => write!(f, "rule {first}"),
            Self::Ids(first, last) => write!(f, "rules {first}-{last}"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
        }
    }
}

/// What stands for a file where an overlay is at fault.
const PLACE: &str = "(exclusion)";

/// A target as a directive would name it, read by the same parser.
fn targets(target: &str) -> Result<Vec<Exclusion>, Fault> {
    let line = format!("SecRuleUpdateTargetById 1 \"!{target}\"");
    let text = Text::new(PLACE, line.into_bytes())?;
    let place = || Place { file: PLACE.into(), line: 1, column: 1 };
    let unfit = || Fault { place: place(), message: format!("no target: \"{target}\""), suggestion: None };
    let statement = text.statements().into_iter().next().ok_or_else(unfit)??;
    let [_, word] = statement.words.as_slice() else { return Err(unfit()) };
    let mut builder = Builder::new(&Nothing);
    let found = builder.targets(At { text: &text, word });
    if let Err(faults) = std::mem::take(&mut builder.faults).verdict() {
        return Err(faults.faults.into_iter().next().unwrap_or_else(unfit));
    }
    let Some((_, excluded)) = found.filter(|(added, excluded)| added.is_empty() && !excluded.is_empty())
    else {
        return Err(unfit());
    };
    // Slots are the builder's own: a name means the same in every rule set.
    let named = |exclusion: Exclusion| match exclusion.selector {
        Selector::Slot(slot) => Exclusion {
            variable: exclusion.variable,
            selector: Selector::Name(builder.names.name(slot).as_bytes().to_vec()),
        },
        _ => exclusion,
    };
    Ok(excluded.into_iter().map(named).collect())
}

/// A target names no files.
struct Nothing;

impl Sources for Nothing {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
        Err(SourceFault(format!("{path}: an exclusion reads no files")))
    }

    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
        Ok(Vec::new())
    }
}

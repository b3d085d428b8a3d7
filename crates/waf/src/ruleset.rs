//! A loaded rule set: checked whole, immutable, shared by all cores.

use crate::{
    action::{Act, Ctl},
    operator::Operator,
    overlay::Laid,
    plan::{Gate, Plan, Quick},
    rule::{Disruptive, Flow, Link, Metadata, Names, Phase, Rule},
    score::ScoreSlots,
    seclang::{
        actions::ActionSet,
        fault::{LoadFaults, Place},
        load,
        rules::{Builder, Item, LinkDraft, RuleDraft},
    },
    settings::{EngineMode, Settings},
    sources::Sources,
    transaction::{Opening, Settled},
};
use model::suggestion::nearest;
use std::{collections::HashMap, sync::Arc};

/// The status of `deny` without `status`.
const STATUS_DENY: u16 = 403;

/// How a rule set is loaded.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Overrides `SecRuleEngine` (never `ctl:ruleEngine`).
    pub engine: Option<EngineMode>,
    /// Runs every rule in order with no shortcut. Slow; for comparison.
    pub plain: bool,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// It is hardly meant: a rule that does nothing, a change that changes nothing.
    Warning,
    /// Worth knowing.
    Note,
}

/// Something worth saying about a rule set that is no fault of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub message: String,
    /// The nearest known name, where one is near.
    pub suggestion: Option<String>,
    /// How much it matters.
    pub weight: Weight,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (did you mean \"{suggestion}\"?)"),
            None => Ok(()),
        }
    }
}

/// What a rule set consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Rules with an id.
    pub rules: usize,
    /// Conditions: a rule's own and those chained to it.
    pub links: usize,
    /// Conditions that need a literal and are skipped where it is absent.
    pub filtered: usize,
    /// Conditions that are regular expressions. Each runs in time linear in what it looks at.
    pub expressions: usize,
    /// Rule files read.
    pub files: usize,
}

/// A rule's place in its phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) rule: u32,
    /// Where evaluation goes on when the rule matches.
    pub(crate) next: u32,
    pub(crate) quick: Quick,
    /// Whether a match does nothing but choose where evaluation goes on.
    pub(crate) jumps: bool,
}

/// A loaded rule set. What is compiled is shared with every [`RuleSet::overlaid`] one.
#[derive(Debug)]
pub struct RuleSet {
    pub(crate) settings: Settings,
    pub(crate) notes: Vec<Note>,
    pub(crate) markers: Arc<Vec<(String, Place)>>,
    pub(crate) statistics: Statistics,
    pub(crate) rules: Arc<Vec<Rule>>,
    pub(crate) phases: Arc<[Vec<Entry>; 5]>,
    pub(crate) gates: Arc<[Gate; 5]>,
    pub(crate) opening: Opening,
    pub(crate) settled: Arc<Settled>,
    pub(crate) names: Arc<Names>,
    pub(crate) scores: ScoreSlots,
    pub(crate) plan: Arc<Plan>,
    pub(crate) plain: bool,
    pub(crate) laid: Laid,
}

impl RuleSet {
    /// Loads rule files: `entries` in order, each a path or a glob pattern, with everything
    /// that they include.
    ///
    /// # Errors
    /// Every fault found, with its place. Nothing is usable then: a rule set is never
    /// loaded in part.
    pub fn load(sources: &dyn Sources, entries: &[&str], options: &Options) -> Result<Self, LoadFaults> {
        let mut builder = load::read(sources, entries);
        std::mem::take(&mut builder.faults).verdict()?;
        Ok(finish(builder, options))
    }

    /// Compiles what the first requests would otherwise wait for: each regular expression
    /// is compiled when it first runs. Takes some hundred milliseconds of processor for the
    /// Core Rule Set: call it on a thread of its own, while requests are already judged.
    pub fn prepare(&self) {
        self.operators().for_each(Operator::prepare);
    }

    /// Whether [`Self::prepare`] has nothing left to do.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.operators().all(Operator::is_prepared)
    }

    fn operators(&self) -> impl Iterator<Item = &Operator> {
        let links = self.rules.iter().flat_map(|rule| &rule.links);
        links.filter_map(|link| link.test.as_ref()).map(|test| &test.operator)
    }

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

    /// The ids of all rules, in the order of the files.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.rules.iter().map(|rule| rule.id)
    }

    /// Where a rule is defined.
    #[must_use]
    pub fn place_of(&self, id: u64) -> Option<&Place> {
        self.rules.iter().find(|rule| rule.id == id).map(|rule| &rule.place)
    }
}

fn finish(mut builder: Builder<'_>, options: &Options) -> RuleSet {
    let drafts = std::mem::take(&mut builder.drafts);
    let items = std::mem::take(&mut builder.items);
    // Where each draft ended up; None for removed ones.
    let mut kept = Vec::with_capacity(drafts.len());
    let mut ids = Vec::with_capacity(drafts.len());
    let mut phases_of = Vec::with_capacity(drafts.len());
    let mut rules: Vec<Rule> = Vec::new();
    for draft in drafts {
        ids.push(draft.id());
        phases_of.push(draft.phase);
        kept.push((!draft.removed).then_some(rules.len()));
        if !draft.removed {
            rules.extend(rule(draft));
        }
    }
    resolve_selections(&mut rules);
    let plan = Plan::new(&rules, &builder.names);
    let layout = Layout { items: &items, kept: &kept, ids: &ids, phases: &phases_of };
    let phases = Phase::ALL.map(|phase| layout.phase(phase, &rules, &plan, &mut builder.notes));
    let gates =
        phases.each_ref().map(|entries| Gate::new(&plan.groups, entries.iter().map(|entry| entry.quick)));
    if let Some(engine) = options.engine {
        builder.settings.engine = engine;
    }
    let statistics = Statistics {
        rules: rules.len(),
        links: rules.iter().map(|rule| rule.links.len()).sum(),
        filtered: plan.filtered(),
        expressions: rules.iter().flat_map(|rule| &rule.links).filter(|link| is_expression(link)).count(),
        files: builder.files,
    };
    let mut set = RuleSet {
        settings: builder.settings,
        notes: builder.notes,
        markers: Arc::new(builder.markers),
        statistics,
        rules: Arc::new(rules),
        phases: Arc::new(phases),
        gates: Arc::new(gates),
        scores: ScoreSlots::new(&builder.names),
        names: Arc::new(builder.names),
        plan: Arc::new(plan),
        opening: Opening::default(),
        settled: Arc::default(),
        plain: options.plain,
        laid: Laid::default(),
    };
    set.opening = Opening::new(&set);
    set.settled = Arc::new(Settled::new(&set));
    set
}

fn is_expression(link: &Link) -> bool {
    link.test.as_ref().is_some_and(|test| test.operator.is_expression())
}

/// A draft with its defaults applied.
fn rule(draft: RuleDraft) -> Option<Rule> {
    let RuleDraft { place, links, defaults, phase, .. } = draft;
    let id = links.first()?.actions.id?;
    let mut whole = defaults.clone();
    whole.update(head(&links));
    let chosen = match whole.disruptive {
        Some(Disruptive::Block) | None => defaults.disruptive.clone(),
        chosen => chosen,
    };
    let disruptive = chosen.unwrap_or(Disruptive::Pass);
    let status = whole.status.unwrap_or(match disruptive {
        Disruptive::Redirect(_) => 302,
        _ => STATUS_DENY,
    });
    let links = links.into_iter().map(|draft| link(draft, &defaults)).collect();
    Some(Rule {
        id,
        phase,
        place,
        links,
        disruptive,
        status,
        flow: whole.flow.unwrap_or(Flow::Next),
        log: whole.log.unwrap_or(true),
        audit: whole.audit.unwrap_or(true),
        metadata: whole.metadata,
    })
}

/// The first link's actions apart from what each link does on its own.
fn head(links: &[LinkDraft]) -> ActionSet {
    links.first().map(|link| link.actions.clone()).unwrap_or_default()
}

fn link(draft: LinkDraft, defaults: &ActionSet) -> Link {
    let LinkDraft { targets, exclusions, test, actions } = draft;
    let mut transformations = Vec::new();
    if !actions.own_transformations {
        transformations.extend_from_slice(&defaults.transformations);
    }
    transformations.extend(actions.transformations);
    let mut acts = defaults.acts.clone();
    acts.extend(actions.acts);
    let multi_match = actions.multi_match || defaults.multi_match;
    let capture = actions.capture || defaults.capture;
    Link { targets, exclusions, test, transformations, multi_match, capture, acts }
}

/// Finds the rules that each `ctl` means.
fn resolve_selections(rules: &mut [Rule]) {
    let mut found: HashMap<(usize, usize, usize), Vec<u32>> = HashMap::new();
    for (at, rule) in rules.iter().enumerate() {
        for (number, link) in rule.links.iter().enumerate() {
            for (position, act) in link.acts.iter().enumerate() {
                if let Act::Ctl(Ctl::RemoveRules(selection) | Ctl::RemoveTarget(selection, _)) = act {
                    let meant = rules.iter().enumerate().filter(|(_, rule)| selection.by.takes(rule));
                    let meant = meant.filter_map(|(index, _)| u32::try_from(index).ok()).collect();
                    found.insert((at, number, position), meant);
                }
            }
        }
    }
    for ((at, number, position), meant) in found {
        let act = rules.get_mut(at).and_then(|rule| rule.links.get_mut(number));
        let act = act.and_then(|link| link.acts.get_mut(position));
        if let Some(Act::Ctl(Ctl::RemoveRules(selection) | Ctl::RemoveTarget(selection, _))) = act {
            selection.rules = meant;
        }
    }
}

/// Whether a match of the rule leaves nothing but what matched.
fn jumps(rule: &Rule) -> bool {
    let plain = |link: &Link| link.acts.is_empty() && link.exclusions.is_empty() && !link.capture;
    rule.is_silent() && matches!(rule.links.as_slice(), [link] if plain(link))
}

/// What is needed to lay a phase out.
struct Layout<'a> {
    items: &'a [Item],
    kept: &'a [Option<usize>],
    ids: &'a [u64],
    phases: &'a [Phase],
}

impl Layout<'_> {
    fn phase(&self, phase: Phase, rules: &[Rule], plan: &Plan, notes: &mut Vec<Note>) -> Vec<Entry> {
        let mut order: Vec<u32> = Vec::new();
        // Positions by name: a marker, or a rule's id as `skipAfter` may name it.
        let mut names: Vec<(String, usize)> = Vec::new();
        for item in self.items {
            match item {
                Item::Marker(name) => names.push((name.clone(), order.len())),
                Item::Rule(draft) if self.phases.get(*draft) == Some(&phase) => {
                    if let Some(Some(rule)) = self.kept.get(*draft) {
                        order.extend(u32::try_from(*rule).ok());
                    }
                    names.push((self.ids.get(*draft).map(u64::to_string).unwrap_or_default(), order.len()));
                }
                Item::Rule(_) => {}
            }
        }
        let mut entries = Vec::with_capacity(order.len());
        for (position, index) in order.iter().enumerate() {
            let Some(rule) = rules.get(*index as usize) else { continue };
            let next = match &rule.flow {
                Flow::Next => position + 1,
                Flow::Skip(count) => position + 1 + count,
                Flow::SkipAfter(name) => {
                    let found = names.iter().find(|(known, at)| *at > position && known == name);
                    if found.is_none() {
                        notes.push(lost(rule, name, &names));
                    }
                    found.map_or(order.len(), |(_, at)| *at)
                }
            };
            let next = u32::try_from(next.min(order.len())).unwrap_or(u32::MAX);
            let quick = plan.quick(*index as usize, rule);
            entries.push(Entry { rule: *index, next, quick, jumps: jumps(rule) });
        }
        entries
    }
}

/// The note about a rule that skips to `name`, which does not follow it.
fn lost(rule: &Rule, name: &str, names: &[(String, usize)]) -> Note {
    let before = names.iter().any(|(known, _)| known == name);
    let message = format!(
        "rule {}: no marker \"{name}\" follows{}: the rest of the phase is skipped",
        rule.id,
        if before { " (it stands before the rule)" } else { "" }
    );
    let suggestion = (!before)
        .then(|| nearest(name, names.iter().map(|(known, _)| known.as_str())))
        .flatten()
        .map(str::to_owned);
    Note { place: rule.place.clone(), message, suggestion, weight: Weight::Warning }
}

/// The metadata of a rule, for lists.
impl RuleSet {
    /// What a rule says about itself: message (macros not expanded), severity, tags, phase.
    #[must_use]
    pub fn describe(&self, id: u64) -> Option<RuleDescription<'_>> {
        self.rules.iter().find(|rule| rule.id == id).map(RuleDescription::new)
    }

    /// The same of every rule, in the order of the files.
    pub fn descriptions(&self) -> impl Iterator<Item = RuleDescription<'_>> {
        self.rules.iter().map(RuleDescription::new)
    }
}

impl<'a> RuleDescription<'a> {
    fn new(rule: &'a Rule) -> Self {
        let Metadata { message_text, severity, tags, .. } = &rule.metadata;
        Self {
            id: rule.id,
            message: message_text,
            severity: *severity,
            tags: tags.iter().map(|(tag, _)| tag.as_str()).collect(),
            phase: rule.phase as u8,
            place: &rule.place,
        }
    }
}

/// What a rule says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleDescription<'a> {
    /// Its id.
    pub id: u64,
    /// `msg` as written.
    pub message: &'a str,
    /// `severity`, 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// `tag`s as written.
    pub tags: Vec<&'a str>,
    /// 1 to 5.
    pub phase: u8,
    /// Where it is defined.
    pub place: &'a Place,
}

//! Rules laid out for evaluation, with what they share computed once.
//!
//! * Transformation chains form a tree: a chain's result starts from its parent's.
//! * Rules that look at the same fixed variables through the same chain form a group,
//!   whose values are collected once per transaction.
//! * The literals that the operators of a side (request, response) need are looked for in
//!   one pass over each value; a rule runs only where one of its own was found.

mod needles;

pub(crate) use needles::{Needles, Side, has};

use crate::{
    rule::{Link, Phase, Rule},
    target::Target,
    template::Template,
    transform::Transformation,
    variable::{Stability, Variable},
};

/// A transformation chain: its parent's, and one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) parent: u16,
    pub(crate) transformation: Transformation,
}

/// Targets that several rules share, without their exclusions.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) targets: Vec<Target>,
    pub(crate) chain: u16,
    pub(crate) side: Side,
}

/// How a link is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkPlan {
    /// Its last chain node; 0 is the value as it is.
    pub(crate) chain: u16,
    /// Where all its targets are fixed variables.
    pub(crate) group: Option<u32>,
    /// The bit of its literals, where it can match only a value that holds one.
    pub(crate) needle: Option<u32>,
}

/// The plan of a rule set.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Node 0 is the empty chain.
    pub(crate) chains: Vec<Chain>,
    pub(crate) groups: Vec<Group>,
    /// For each rule, for each link.
    links: Vec<Vec<LinkPlan>>,
    pub(crate) needles: [Needles; 2],
    /// Fixed variables that any target or macro reads.
    uses: [bool; crate::variable::COUNT],
    /// Whether MATCHED_VARS or MATCHED_VARS_NAMES is read by a rule's links.
    matched_vars: Vec<bool>,
}

impl Plan {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut plan = Self {
            chains: vec![Chain { parent: 0, transformation: Transformation::None }],
            groups: Vec::new(),
            links: Vec::with_capacity(rules.len()),
            needles: [Needles::default(), Needles::default()],
            uses: [false; crate::variable::COUNT],
            matched_vars: Vec::with_capacity(rules.len()),
        };
        let mut builders = [needles::Builder::default(), needles::Builder::default()];
        for rule in rules {
            let links = rule.links.iter().map(|link| plan.link(rule.phase, link, &mut builders)).collect();
            plan.links.push(links);
            plan.note_uses(rule);
        }
        plan.needles = builders.map(needles::Builder::build);
        plan
    }

    pub(crate) fn link_plan(&self, rule: usize, link: usize) -> Option<LinkPlan> {
        self.links.get(rule)?.get(link).copied()
    }

    /// Whether anything reads a variable.
    pub(crate) fn uses(&self, variable: Variable) -> bool {
        self.uses.get(variable as usize).copied().unwrap_or(false)
    }

    /// Whether a rule reads the list of its matches.
    pub(crate) fn reads_matched_vars(&self, rule: usize) -> bool {
        self.matched_vars.get(rule).copied().unwrap_or(false)
    }

    /// How many links have literals.
    pub(crate) fn filtered(&self) -> usize {
        self.links.iter().flatten().filter(|link| link.needle.is_some()).count()
    }

    fn link(&mut self, phase: Phase, link: &Link, builders: &mut [needles::Builder; 2]) -> LinkPlan {
        let chain = self.chain(&link.transformations);
        let side = Side::of(phase);
        let fixed = |target: &Target| !target.count && target.variable.stability() == Stability::Fixed;
        let shared = !link.multi_match && !link.targets.is_empty() && link.targets.iter().all(fixed);
        let group = shared.then(|| self.group(link, chain, side));
        let test = link.test.as_ref().filter(|test| shared && !test.negated && test.argument.is_none());
        let needle = test.and_then(|test| test.operator.literals()).map(|literals| {
            let builder = match side {
                Side::Request => &mut builders[0],
                Side::Response => &mut builders[1],
            };
            builder.add(literals)
        });
        LinkPlan { chain, group, needle }
    }

    /// The node of a chain of transformations.
    fn chain(&mut self, transformations: &[Transformation]) -> u16 {
        let mut node = 0;
        for transformation in transformations {
            let wanted = Chain { parent: node, transformation: *transformation };
            let found = self.chains.iter().skip(1).position(|chain| *chain == wanted).map(|at| at + 1);
            let at = found.unwrap_or_else(|| {
                self.chains.push(wanted);
                self.chains.len() - 1
            });
            node = u16::try_from(at).unwrap_or(0);
        }
        node
    }

    fn group(&mut self, link: &Link, chain: u16, side: Side) -> u32 {
        let same =
            |group: &Group| group.chain == chain && group.side == side && group.targets == link.targets;
        let at = self.groups.iter().position(same).unwrap_or_else(|| {
            self.groups.push(Group { targets: link.targets.clone(), chain, side });
            self.groups.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn note_uses(&mut self, rule: &Rule) {
        let mut used: Vec<Variable> = Vec::new();
        let metadata = &rule.metadata;
        let mut template = |template: &Template| used.extend(template.variables());
        metadata.message.iter().chain(&metadata.log_data).for_each(&mut template);
        metadata.tags.iter().for_each(|(_, tag)| template(tag));
        if let crate::rule::Disruptive::Redirect(location) = &rule.disruptive {
            template(location);
        }
        for link in &rule.links {
            link.test.iter().filter_map(|test| test.argument.as_ref()).for_each(&mut template);
            link.acts.iter().for_each(|act| act.templates().for_each(&mut template));
        }
        used.extend(rule.links.iter().flat_map(|link| link.targets.iter().map(|target| target.variable)));
        let lists = [Variable::MatchedVars, Variable::MatchedVarsNames];
        self.matched_vars.push(used.iter().any(|variable| lists.contains(variable)));
        for variable in used {
            for part in variable.parts().iter().chain([&variable]) {
                if let Some(slot) = self.uses.get_mut(*part as usize) {
                    *slot = true;
                }
            }
        }
    }
}

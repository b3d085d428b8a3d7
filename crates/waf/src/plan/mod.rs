//! Rules laid out for evaluation, with what they share computed once.
//!
//! * Transformation chains form a tree: a chain's result starts from its parent's.
//! * What a selector takes of a variable, through a chain, is a cell: which kinds of bytes
//!   its values hold, and which literals, is found out once, until the variable changes.
//!   Chains that leave the same values are one.
//! * Rules that look at the same fixed variables through the same chain form a group of
//!   cells.
//! * The literals that the operators of a side (request, response) need are looked for in
//!   one pass over each value; a rule runs only where one of its own was found.
//! * The rules of a phase that look at the same group are asked together, when the first
//!   of them is reached: those that cannot match are passed over without a look. So are those
//!   of all groups of one base, where no chain of theirs changes any of its values.

mod apart;
mod change;
mod gate;
mod judges;
mod layer;
mod needles;
mod table;

pub(crate) use apart::Apart;
pub(crate) use change::bound;
pub(crate) use gate::{Alike, Family, Gate, Waiting, common, holds};
pub(crate) use judges::Judges;
pub(crate) use layer::{Layer, Variables, only};
pub(crate) use needles::{Needles, Side};

use crate::{
    classes::Classes,
    operator::{Cost, Order},
    rule::{Link, Names, Phase, Rule, Test},
    target::{Selector, Target},
    template::Template,
    transaction::Value,
    transform::Transformation,
    variable::{Stability, Variable},
};

/// A transformation chain: its parent's, and one more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) parent: u16,
    /// All of it from the beginning, each with what it may change.
    pub(crate) path: Vec<(Transformation, Classes)>,
    /// A value that holds none of these passes the whole chain unchanged.
    pub(crate) may_change: Classes,
}

/// Targets that several rules share, without their exclusions.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) targets: Vec<Target>,
    pub(crate) chain: u16,
    /// Whether what each transformation of the chain leaves is a value too (`multiMatch`).
    stages: bool,
    pub(crate) side: Side,
    /// The group of the same targets with no transformations; itself where it has none.
    pub(crate) base: u32,
    /// Where its base's values hold none of these, both see the same.
    pub(crate) may_change: Classes,
    /// What its targets hold together, in their order.
    pub(crate) views: Vec<View>,
    /// All its views, those first that a smaller group does not have.
    pub(crate) layers: Vec<Layer>,
    /// The variables of its views.
    pub(crate) variables: Variables,
}

/// A cell as a group sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// The variable that the target named: `ARGS` rather than `ARGS_GET`.
    pub(crate) named: Variable,
    /// The cell, and what is asked first of it.
    pub(crate) cell: u32,
    pub(crate) base: u32,
    pub(crate) variable: Variable,
    pub(crate) may_change: Classes,
}

/// What a chain makes of what a selector takes of a stored variable. Many groups hold the
/// same cells: what is known of one is known for all.
#[derive(Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) variable: Variable,
    pub(crate) selector: Selector,
    pub(crate) chain: u16,
    /// As in [`Group::stages`].
    pub(crate) stages: bool,
    pub(crate) side: Side,
    /// The cell of the same with no transformations; itself where it has none.
    pub(crate) base: u32,
    /// Where its base's values hold none of these, both see the same.
    pub(crate) may_change: Classes,
}

/// What is asked of a rule before it is looked at: "no" means that it does not match.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Quick {
    /// Nothing is known.
    Look,
    /// Its first link matches only when a value of the group passes the filter.
    Group(u32, Filter),
    /// Its first link compares a `TX` variable, or whether there is one, with a number.
    Slot { slot: u16, count: bool, order: Order, number: i64, negated: bool },
}

impl Quick {
    /// Whether a rule that compares a variable matches by what that holds.
    #[inline]
    pub(crate) fn compares(self, value: &Value) -> Option<bool> {
        let Self::Slot { count, order, number, negated, .. } = self else { return None };
        let value = match (value, count) {
            (Value::Unset, false) => return Some(false),
            (value, true) => i64::from(*value != Value::Unset),
            (value, false) => value.number(),
        };
        Some(order.evaluate(value, number) != negated)
    }
}

/// How a link is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkPlan {
    /// Its last chain node; 0 is the value as it is.
    pub(crate) chain: u16,
    /// Where all its targets are fixed variables.
    pub(crate) group: Option<u32>,
    /// When a value need not be shown to its operator, because it cannot match.
    pub(crate) filter: Filter,
    /// Of a negated operator: a value that does not pass this is not found by it, and so
    /// matches without a look.
    pub(crate) denied: Option<Filter>,
    pub(crate) multi_match: bool,
}

/// What a value must hold for an operator to match it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filter {
    /// The bit of its literals.
    pub(crate) needle: Option<u32>,
    /// A value that holds one of these passes without its literals.
    pub(crate) unless: Classes,
    /// One of these kinds of bytes; 0 when none is needed.
    pub(crate) needs: Classes,
    /// Where one is needed, one of these before the chain.
    pub(crate) before: Classes,
    /// Whether the operator costs less than to look for literals in values that no other rule may
    /// look at: where they are not known, it is run.
    pub(crate) cheap: bool,
    /// What its values must hold before the chain, where that is cheap to look for.
    pub(crate) apart: Option<Apart>,
}

/// The plan of a rule set.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Node 0 is the empty chain.
    pub(crate) chains: Vec<Chain>,
    pub(crate) groups: Vec<Group>,
    pub(crate) cells: Vec<Cell>,
    /// For each rule, for each link.
    links: Vec<Vec<LinkPlan>>,
    pub(crate) needles: [Needles; 2],
    /// Fixed variables that any target or macro reads.
    uses: [bool; crate::variable::COUNT],
    uses_request_body: bool,
    /// What rules judge of what is refused else.
    pub(crate) judges: Judges,
    /// Whether MATCHED_VARS or MATCHED_VARS_NAMES is read by a rule's links.
    matched_vars: Vec<bool>,
    /// The patterns by which rules look at `TX`.
    patterns: Vec<TxPattern>,
}

impl Plan {
    pub(crate) fn new(rules: &[Rule], names: &Names) -> Self {
        let mut plan = Self {
            chains: vec![Chain::default()],
            groups: Vec::new(),
            cells: Vec::new(),
            links: Vec::with_capacity(rules.len()),
            needles: [Needles::default(), Needles::default()],
            uses: [false; crate::variable::COUNT],
            uses_request_body: false,
            judges: Judges::of(rules),
            matched_vars: Vec::with_capacity(rules.len()),
            patterns: patterns(rules, names),
        };
        let mut builders = [needles::Builder::default(), needles::Builder::default()];
        for rule in rules {
            let links = rule.links.iter().map(|link| plan.link(rule.phase, link, &mut builders)).collect();
            plan.links.push(links);
            plan.note_uses(rule);
        }
        let layers = layer::layers(&plan.groups);
        for (group, layers) in plan.groups.iter_mut().zip(layers) {
            group.layers = layers;
        }
        plan.uses_request_body =
            Variable::all().iter().any(|variable| variable.is_of_request_body() && plan.uses(*variable));
        plan.needles = builders.map(needles::Builder::build);
        plan
    }

    pub(crate) fn link_plan(&self, rule: usize, link: usize) -> Option<LinkPlan> {
        self.links.get(rule)?.get(link).copied()
    }

    /// Words of 64 bits that the literals of a side take.
    pub(crate) fn words(&self, side: Side) -> usize {
        self.needles.get(side as usize).map_or(0, Needles::words)
    }

    /// Whether anything reads a variable.
    pub(crate) fn uses(&self, variable: Variable) -> bool {
        self.uses.get(variable as usize).copied().unwrap_or(false)
    }

    /// Whether anything reads a variable that the request's body has a part in.
    pub(crate) fn uses_request_body(&self) -> bool {
        self.uses_request_body
    }

    /// Whether a rule reads the list of its matches.
    pub(crate) fn reads_matched_vars(&self, rule: usize) -> bool {
        self.matched_vars.get(rule).copied().unwrap_or(false)
    }

    /// What is known of a pattern by which a rule looks at `TX`.
    pub(crate) fn pattern(&self, selector: &Selector) -> Option<&TxPattern> {
        self.patterns.iter().find(|known| known.selector == *selector)
    }

    /// How many links have literals.
    pub(crate) fn filtered(&self) -> usize {
        self.links
            .iter()
            .flatten()
            .filter(|link| link.filter.needle.is_some() || link.filter.needs != 0)
            .count()
    }

    fn link(&mut self, phase: Phase, link: &Link, builders: &mut [needles::Builder; 2]) -> LinkPlan {
        let chain = self.chain(&link.transformations);
        let side = Side::of(phase);
        let fixed = |target: &Target| !target.count && target.variable.stability() == Stability::Fixed;
        let shared = !link.targets.is_empty() && link.targets.iter().all(fixed);
        let stages = link.multi_match && chain != 0;
        let group = shared.then(|| self.group(&link.targets, chain, stages, side));
        let test = link.test.as_ref().filter(|test| shared && test.argument.is_none());
        let builder = match side {
            Side::Request => &mut builders[0],
            Side::Response => &mut builders[1],
        };
        let known = self.chains.get(usize::from(chain));
        let before = |needs: Classes| {
            let path = known.map_or(&[][..], |chain| &chain.path);
            path.iter().rev().fold(needs, |wanted, (by, _)| wanted | change::brings(*by, wanted))
        };
        let mut filter = |test: &Test| Filter {
            needle: test.operator.literals().map(|literals| builder.add(literals)),
            unless: test.operator.unless(),
            needs: test.operator.needs(),
            before: before(test.operator.needs()),
            cheap: chain != 0 && test.operator.cost() <= Cost::Text,
            apart: known
                .zip(test.operator.literals())
                .filter(|_| test.operator.unless() == 0)
                .and_then(|(chain, all)| Apart::new(chain, all)),
        };
        // What a search for many phrases costs is worth to be saved for the opposite too.
        let (plain, negated) = (test.filter(|test| !test.negated), test.filter(|test| test.negated));
        let phrases = negated.filter(|test| test.operator.cost() == Cost::Phrases);
        let (denied, filter) = (phrases.map(&mut filter), plain.map(filter).unwrap_or_default());
        LinkPlan { chain, group, filter, denied, multi_match: link.multi_match }
    }

    /// The node of a chain of transformations.
    fn chain(&mut self, transformations: &[Transformation]) -> u16 {
        let mut node = 0;
        for transformation in transformations {
            let own = change::may_change(*transformation);
            let before = self.chains.get(usize::from(node));
            let mut path = before.map(|chain| chain.path.clone()).unwrap_or_default();
            path.push((*transformation, own));
            let may_change = before.map_or(0, |chain| chain.may_change) | own;
            let wanted = Chain { parent: node, path, may_change };
            let found = self.chains.iter().position(|chain| *chain == wanted);
            let at = found.unwrap_or_else(|| {
                self.chains.push(wanted);
                self.chains.len() - 1
            });
            node = u16::try_from(at).unwrap_or(0);
        }
        node
    }

    /// What to ask before a rule is looked at.
    pub(crate) fn quick(&self, index: usize, rule: &Rule) -> Quick {
        let (Some(link), Some(plan)) = (rule.links.first(), self.link_plan(index, 0)) else {
            return Quick::Look;
        };
        if let Some(group) = plan.group {
            return Quick::Group(group, plan.filter);
        }
        let test = link.test.as_ref().filter(|test| test.argument.is_none());
        match (link.targets.as_slice(), test.and_then(|test| Some((test.operator.order()?, test.negated)))) {
            ([Target { selector: Selector::Slot(slot), count, .. }], Some(((order, number), negated)))
                if link.transformations.is_empty() =>
            {
                Quick::Slot { slot: *slot, count: *count, order, number, negated }
            }
            _ => Quick::Look,
        }
    }

    fn group(&mut self, targets: &[Target], chain: u16, stages: bool, side: Side) -> u32 {
        let same = |group: &Group| {
            (group.chain, group.stages, group.side) == (chain, stages, side) && group.targets == targets
        };
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        if let Some(known) = self.groups.iter().position(same) {
            return number(known);
        }
        let base = (chain != 0).then(|| self.group(targets, 0, false, side));
        let may_change = self.chains.get(usize::from(chain)).map_or(0, |chain| chain.may_change);
        let mut views = Vec::new();
        for target in targets {
            for part in target.variable.parts() {
                let cell = self.cell(*part, &target.selector, chain, stages, side);
                let base = self.cells.get(cell as usize).map_or(cell, |cell| cell.base);
                views.push(View { named: target.variable, cell, base, variable: *part, may_change });
            }
        }
        let at = number(self.groups.len());
        let base = base.unwrap_or(at);
        let variables = views.iter().fold(0, |all, view| all | only(view.variable));
        let (targets, layers) = (targets.to_vec(), Vec::new());
        let group = Group { targets, chain, stages, side, base, may_change, views, layers, variables };
        self.groups.push(group);
        at
    }

    fn cell(&mut self, variable: Variable, selector: &Selector, chain: u16, stages: bool, side: Side) -> u32 {
        let base = (chain != 0).then(|| self.cell(variable, selector, 0, false, side));
        let may_change = self.chains.get(usize::from(chain)).map_or(0, |chain| chain.may_change);
        let next = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        let cell =
            |base| Cell { variable, selector: selector.clone(), chain, stages, side, base, may_change };
        let found = self.cells.iter().position(|known| *known == cell(known.base));
        match found.and_then(|at| u32::try_from(at).ok()) {
            Some(at) => at,
            None => {
                self.cells.push(cell(base.unwrap_or(next)));
                next
            }
        }
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

/// A pattern by which a rule looks at `TX`.
#[derive(Debug)]
pub(crate) struct TxPattern {
    selector: Selector,
    /// The slots whose names it takes.
    pub(crate) slots: Vec<u16>,
    /// What all names that it takes begin with, in small letters.
    begin: Vec<u8>,
    /// Whether it takes all names that begin so.
    is_begin: bool,
}

impl TxPattern {
    /// Whether it takes a name in small letters.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        name.starts_with(&self.begin) && (self.is_begin || self.selector.takes(name))
    }
}

/// What all texts begin with that an expression matches; less where that is not easily told.
fn begin(pattern: &str) -> Vec<u8> {
    let Some(rest) = pattern.strip_prefix('^').filter(|rest| !rest.contains('|')) else { return Vec::new() };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut begin: Vec<u8> = rest.bytes().take_while(is_plain).collect();
    if rest.as_bytes().get(begin.len()).is_some_and(|next| b"*?{+".contains(next)) {
        begin.pop();
    }
    begin.make_ascii_lowercase();
    begin
}

/// Each pattern by which a rule looks at `TX`.
fn patterns(rules: &[Rule], names: &Names) -> Vec<TxPattern> {
    let mut found: Vec<TxPattern> = Vec::new();
    let targets = rules.iter().flat_map(|rule| &rule.links).flat_map(|link| &link.targets);
    for target in targets.filter(|target| target.variable == Variable::Tx) {
        let known = found.iter().any(|known| known.selector == target.selector);
        if let Selector::Pattern(pattern) = &target.selector
            && !known
        {
            let slots = (0..u16::try_from(names.len()).unwrap_or(u16::MAX))
                .filter(|slot| target.selector.takes(names.name(*slot).as_bytes()));
            let (selector, slots) = (target.selector.clone(), slots.collect());
            let begin = begin(pattern.as_str());
            let is_begin = pattern.as_str().len() == begin.len() + 1;
            found.push(TxPattern { selector, slots, begin, is_begin });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::begin;

    #[test]
    fn what_a_pattern_begins_with_is_told_where_that_is_certain() {
        let cases = [
            ("^header_name_920450_", "header_name_920450_"),
            ("^Name[a-z]", "name"),
            ("^ab*", "a"),
            ("^ab?c", "a"),
            ("^ab{0,2}", "a"),
            ("^ab.c", "ab"),
            ("^ab|c", ""),
            ("ab", ""),
            ("^(?:ab)", ""),
            (r"^\x61b", ""),
        ];
        for (pattern, wanted) in cases {
            assert_eq!(begin(pattern), wanted.as_bytes(), "{pattern}");
        }
    }
}

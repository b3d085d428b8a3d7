//! Variables that rules or time change, and macros.

use super::{
    calendar::Moment,
    state::State,
    tx::{Value, write_number},
};
use crate::{
    operator,
    ruleset::RuleSet,
    target::Selector,
    template::{Part, Template},
    variable::{Stability, Variable},
};

/// Longest text that macros are expanded to, bytes; longer ones are cut.
pub(crate) const EXPANDED_BYTES_MAX: usize = 1 << 20;

/// Slot (of `TX`), name, value.
pub(super) type Loose = (Option<u16>, Vec<u8>, Vec<u8>);

impl State {
    /// The members of a volatile variable that a selector takes.
    pub(super) fn volatile_members(
        &self,
        set: &RuleSet,
        variable: Variable,
        selector: &Selector,
    ) -> Vec<Loose> {
        let text = |value: &Value| {
            let mut text = Vec::new();
            value.write(&mut text);
            text
        };
        match variable {
            Variable::Tx => {
                let mut all = Vec::new();
                self.each_tx(set, selector, |slot, name, value| all.push((slot, name.to_vec(), text(value))));
                all
            }
            Variable::MatchedVars | Variable::MatchedVarsNames => {
                let taken = self.matched_vars.iter().map(|matched| {
                    let mut name = Vec::new();
                    matched.write_name(&set.names, &mut name);
                    let mut value = Vec::new();
                    match variable {
                        Variable::MatchedVars => matched.write_value(&mut value),
                        _ => value.clone_from(&name),
                    }
                    (None, name, value)
                });
                taken.filter(|(_, name, _)| selector.takes(name)).collect()
            }
            Variable::Env => {
                pairs(self.env.iter().map(|(name, value)| (name.as_slice(), value.as_slice())), selector)
            }
            Variable::Geo => {
                pairs(self.geo.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())), selector)
            }
            Variable::Rule => {
                let all = self.rule_members(set);
                pairs(all.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())), selector)
            }
            collection if collection.is_persistent() => {
                let all = self.collections.members(collection, self.now_ms);
                let all = all.into_iter().map(|(name, value)| (None, name, text(&value)));
                all.filter(|(_, name, _)| selector.takes(name)).collect()
            }
            single => {
                let mut value = Vec::new();
                match self.volatile_value(set, single, &mut value) {
                    true => vec![(None, Vec::new(), value)],
                    false => Vec::new(),
                }
            }
        }
    }

    /// Calls `with` for each variable of `TX` that a selector takes: slot, name, value.
    pub(super) fn each_tx(
        &self,
        set: &RuleSet,
        selector: &Selector,
        mut with: impl FnMut(Option<u16>, &[u8], &Value),
    ) {
        let Some(pattern) = set.plan.pattern(selector).filter(|_| !set.plain) else {
            let all = self.tx.all(&set.names).filter(|(slot, name, _)| match selector {
                Selector::Slot(wanted) => *slot == Some(*wanted),
                selector => selector.takes(name),
            });
            return all.for_each(|(slot, name, value)| with(slot, name, value));
        };
        for slot in &pattern.slots {
            let value = self.tx.slot(*slot);
            if *value != Value::Unset {
                with(Some(*slot), set.names.name(*slot).as_bytes(), value);
            }
        }
        let made = self.tx.made().filter(|(name, value)| **value != Value::Unset && pattern.takes(name));
        made.for_each(|(name, value)| with(None, name, value));
    }

    /// What a rule says about itself: `RULE:id` and its kin.
    fn rule_members(&self, set: &RuleSet) -> Vec<(&'static str, Vec<u8>)> {
        let Some(rule) = set.rules.get(self.rule) else { return Vec::new() };
        let metadata = &rule.metadata;
        let mut all = vec![("id", rule.id.to_string().into_bytes())];
        let mut text = |name, text: &str| {
            if !text.is_empty() {
                all.push((name, text.as_bytes().to_vec()));
            }
        };
        text("rev", &metadata.revision);
        text("msg", &metadata.message_text);
        text("severity", &metadata.severity.map(|level| level.to_string()).unwrap_or_default());
        text("ver", &metadata.version);
        text("maturity", &metadata.maturity.map(|level| level.to_string()).unwrap_or_default());
        text("accuracy", &metadata.accuracy.map(|level| level.to_string()).unwrap_or_default());
        all
    }

    /// Appends a volatile variable that is a single value; false when it has none.
    fn volatile_value(&self, set: &RuleSet, variable: Variable, out: &mut Vec<u8>) -> bool {
        use Variable as V;
        let mut number = |number: i64| write_number(number, out);
        let moment = || Moment::new(self.now_ms);
        match variable {
            V::MatchedVar | V::MatchedVarName if self.matched_var.variable.is_none() => return false,
            V::MatchedVar => self.matched_var.write_value(out),
            V::MatchedVarName => self.matched_var.write_name(&set.names, out),
            V::HighestSeverity => number(i64::from(self.highest_severity)),
            V::Duration => number(self.now_ms.saturating_sub(self.start_ms).saturating_mul(1_000)),
            V::Time => out.extend_from_slice(moment().clock().as_bytes()),
            V::TimeDay => number(moment().day),
            V::TimeEpoch => number(self.now_ms.div_euclid(1_000)),
            V::TimeHour => number(moment().hour),
            V::TimeMin => number(moment().minute),
            V::TimeMon => number(moment().month),
            V::TimeSec => number(moment().second),
            V::TimeWday => number(moment().weekday),
            V::TimeYear => number(moment().year),
            V::SessionId => out.extend_from_slice(self.collections.key(V::Session).unwrap_or_default()),
            V::UserId => out.extend_from_slice(self.collections.key(V::User).unwrap_or_default()),
            V::ReqbodyProcessor => {
                out.extend_from_slice(self.body.kind.map_or("", |kind| kind.name()).as_bytes())
            }
            V::MscPcreError | V::MscPcreLimitsExceeded => number(0),
            _ => return false,
        }
        true
    }

    /// Appends a text with its macros expanded. A macro without a value is nothing.
    pub(super) fn expand(&self, set: &RuleSet, template: &Template, out: &mut Vec<u8>) {
        for part in &template.parts {
            self.expand_part(set, part, out);
        }
        out.truncate(EXPANDED_BYTES_MAX);
    }

    /// As [`Self::expand`], into an expression in which only what the author wrote has a meaning.
    pub(super) fn expand_expression(&self, set: &RuleSet, template: &Template, out: &mut Vec<u8>) {
        let mut brought = Vec::new();
        for part in &template.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                part => {
                    brought.clear();
                    self.expand_part(set, part, &mut brought);
                    operator::escape(&brought, out);
                }
            }
        }
        out.truncate(EXPANDED_BYTES_MAX);
    }

    fn expand_part(&self, set: &RuleSet, part: &Part, out: &mut Vec<u8>) {
        match part {
            Part::Literal(text) => out.extend_from_slice(text),
            Part::Tx(slot) => {
                self.tx.slot(*slot).write(out);
            }
            Part::Macro(variable, name) => self.expand_one(set, *variable, name.as_deref(), out),
        }
    }

    fn expand_one(&self, set: &RuleSet, variable: Variable, name: Option<&[u8]>, out: &mut Vec<u8>) {
        let selector = name.map_or(Selector::All, |name| Selector::Name(name.to_vec()));
        match variable.stability() {
            Stability::Fixed => {
                if let Some(member) = self.store.select(variable, &selector).next() {
                    out.extend_from_slice(self.store.values.value(member.value));
                }
            }
            Stability::Volatile if !variable.is_collection() => {
                self.volatile_value(set, variable, out);
            }
            Stability::Volatile => {
                if let Some((_, _, value)) =
                    self.volatile_members(set, variable, &selector).into_iter().next()
                {
                    out.extend_from_slice(&value);
                }
            }
        }
    }
}

fn pairs<'a>(all: impl Iterator<Item = (&'a [u8], &'a [u8])>, selector: &Selector) -> Vec<Loose> {
    all.filter(|(name, _)| selector.takes(name))
        .map(|(name, value)| (None, name.to_vec(), value.to_vec()))
        .collect()
}

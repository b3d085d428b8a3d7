//! What a match does: variables, collections, changes of the engine.

use super::{
    cause::Cause,
    evaluate::Here,
    state::{ActAt, Matched, State},
    tx::{Value, parse_number},
};
use crate::{
    action::{Act, Change, Ctl, Sanitise, SetName, SetVar},
    plan::Quick,
    ruleset::{Entry, RuleSet},
    template::{Part, Template},
    variable::Variable,
};

/// Most values that MATCHED_VARS keeps; one more denies the request.
pub(crate) const MATCHED_VARS_MAX: usize = 1_000;
/// Most environment variables, and the longest of their values.
pub(crate) const ENV_MAX: usize = 100;
/// Most texts that are masked in what is logged; past it all of it is masked.
pub(crate) const SECRETS_MAX: usize = 100;

/// Room for what most texts expand to, so that they are not moved while they grow.
const EXPANDED_BYTES_AT_FIRST: usize = 32;

impl State {
    /// Lists the value that matched for MATCHED_VARS, where a rule reads it.
    pub(super) fn list_match(&mut self, here: Here<'_>) {
        if here.set.plan.reads_matched_vars(here.index) {
            match self.matched_vars.len() < MATCHED_VARS_MAX {
                true => self.matched_vars.push(Matched::clone(&self.matched_var)),
                // INVARIANT: what found no place is not taken for harmless.
                false => self.intervene_internal(Cause::MatchesTooMany),
            }
        }
    }

    /// What remains of a match of a `TX` variable that a rule without actions of its own looked at.
    pub(super) fn remember_slot(&mut self, set: &RuleSet, index: usize, slot: u16, count: bool) {
        let matched = &mut self.matched_var;
        (matched.variable, matched.count) = (Some(Variable::Tx), count);
        matched.number = match (self.tx.slot(slot), count) {
            (value, true) => Some((slot, i64::from(*value != Value::Unset))),
            (Value::Number(number), false) => Some((slot, *number)),
            (Value::Text(_) | Value::Unset, false) => None,
        };
        if matched.number.is_none() {
            matched.name.clear();
            matched.name.extend_from_slice(set.names.name(slot).as_bytes());
            matched.value.clear();
            self.tx.slot(slot).write(&mut matched.value);
        }
        self.matched_vars.clear();
        self.rule = index;
    }

    /// The same of a rule at this position of the phase.
    pub(super) fn remember_jump(&mut self, set: &RuleSet, entries: &[Entry], position: usize) {
        if let Some(Entry { rule, quick: Quick::Slot { slot, count, .. }, .. }) = entries.get(position) {
            self.remember_slot(set, *rule as usize, *slot, *count);
        }
    }

    /// Executes one action of a link.
    pub(super) fn act(&mut self, here: Here<'_>, position: usize) {
        let Some(act) = here.link.acts.get(position) else { return };
        let set = here.set;
        match act {
            Act::SetVar(change) => self.set_var(set, change),
            Act::ExpireVar { collection, name, seconds } => {
                let (name, seconds) = (self.text(set, name), self.text(set, seconds));
                let at_ms = self.now_ms.saturating_add(parse_number(&seconds).saturating_mul(1_000));
                self.collections.expire(*collection, &name, at_ms);
            }
            Act::DeprecateVar { collection, name, amount, period_s } => {
                let name = self.text(set, name);
                self.collections.deprecate(*collection, &name, *amount, *period_s, self.now_ms);
            }
            Act::InitCol { collection, key } => self.open_collection(set, *collection, key),
            Act::SetSid(key) => self.open_collection(set, Variable::Session, key),
            Act::SetUid(key) => self.open_collection(set, Variable::User, key),
            Act::SetRsc(key) => self.open_collection(set, Variable::Resource, key),
            Act::SetEnv { name, value } => {
                let (name, value) = (self.text(set, name), self.text(set, value));
                self.set_env(name, value);
            }
            Act::Sanitise(what) => self.sanitise(what),
            Act::Ctl(ctl) => {
                self.ctl(ctl, ActAt { rule: here.index, link: here.number, act: position });
                self.keep_course(set);
            }
        }
    }

    fn text(&mut self, set: &RuleSet, template: &Template) -> Vec<u8> {
        let mut text = Vec::with_capacity(EXPANDED_BYTES_AT_FIRST);
        self.expand(set, template, &mut text);
        text
    }

    fn open_collection(&mut self, set: &RuleSet, kind: Variable, key: &Template) {
        let key = self.text(set, key);
        self.collections.open(kind, &key, &set.settings.web_app_id, self.now_ms);
    }

    fn set_env(&mut self, name: Vec<u8>, value: Vec<u8>) {
        if let Some((_, known)) = self.env.iter_mut().find(|(known, _)| *known == name) {
            *known = value;
        } else if self.env.len() < ENV_MAX {
            self.env.push((name, value));
        }
    }

    fn set_var(&mut self, set: &RuleSet, change: &SetVar) {
        if let SetName::Slot(slot) = &change.name
            && let Some(value) = self.summed(*slot, &change.change)
        {
            if let Some(kept) = self.tx.slot_mut(*slot) {
                *kept = value;
            }
            return;
        }
        let value = match &change.change {
            Change::SetNumber(_) | Change::AddNumber(_) | Change::Unset => Vec::new(),
            Change::Set(template) | Change::Add(template) | Change::Subtract(template) => {
                self.text(set, template)
            }
        };
        match (&change.name, change.collection) {
            (SetName::Slot(slot), _) => {
                if let Some(kept) = self.tx.slot_mut(*slot) {
                    apply(kept, &change.change, value);
                }
            }
            (SetName::Text(name), Variable::Tx) => {
                let name = self.text(set, name);
                match self.tx.entry(&set.names, name) {
                    Some(kept) => apply(kept, &change.change, value),
                    None => self.intervene_internal(Cause::NamesTooMany),
                }
            }
            (SetName::Text(name), collection) => {
                let name = self.text(set, name);
                let now_ms = self.now_ms;
                self.collections.change(collection, &name, now_ms, |kept| apply(kept, &change.change, value));
            }
        }
    }

    /// What a change by another `TX` variable makes of one, where no text need be made of the
    /// number for that.
    fn summed(&self, slot: u16, change: &Change) -> Option<Value> {
        let of = |template: &Template| match template.parts.as_slice() {
            [Part::Tx(other)] => Some(self.tx.slot(*other)),
            _ => None,
        };
        let now = || self.tx.slot(slot).number();
        match change {
            Change::Add(by) => Some(Value::Number(now().saturating_add(of(by)?.number()).max(0))),
            Change::Subtract(by) => Some(Value::Number(now().saturating_sub(of(by)?.number()).max(0))),
            Change::Set(to) => match of(to)? {
                Value::Number(number @ 0..NUMBERS_END) => Some(Value::Number(*number)),
                Value::Number(_) | Value::Text(_) | Value::Unset => None,
            },
            Change::SetNumber(_) | Change::AddNumber(_) | Change::Unset => None,
        }
    }

    fn sanitise(&mut self, what: &Sanitise) {
        let found: Vec<Vec<u8>> = match what {
            Sanitise::Matched => {
                let mut value = Vec::new();
                self.matched_var.write_value(&mut value);
                vec![value]
            }
            Sanitise::Argument(name) => self.named(Variable::Args, name),
            Sanitise::RequestHeader(name) => self.named(Variable::RequestHeaders, name),
            Sanitise::ResponseHeader(name) => self.named(Variable::ResponseHeaders, name),
        };
        for secret in found.into_iter().filter(|secret| !secret.is_empty()) {
            if self.secrets.contains(&secret) {
                continue;
            }
            match self.secrets.len() < SECRETS_MAX {
                true => self.secrets.push(secret),
                false => self.secrets_further = true,
            }
        }
    }

    fn named(&self, variable: Variable, name: &[u8]) -> Vec<Vec<u8>> {
        let selector = crate::target::Selector::Name(name.to_vec());
        let members = self.store.select(variable, &selector);
        members.map(|member| self.store.values.value(member.value).to_vec()).collect()
    }

    fn ctl(&mut self, ctl: &Ctl, at: ActAt) {
        match ctl {
            Ctl::AuditEngine(on) => self.audit = *on,
            Ctl::ForceRequestBodyVariable(on) => self.body.force_request_body = *on,
            Ctl::RequestBodyAccess(on) => self.body.request_access = *on,
            Ctl::RequestBodyLimit(bytes) => self.body.request_bytes_max = *bytes,
            Ctl::RequestBodyProcessor(kind) => self.body.kind = Some(*kind),
            Ctl::ResponseBodyAccess(on) => self.body.response_access = *on,
            Ctl::ResponseBodyLimit(bytes) => self.body.response_bytes_max = *bytes,
            Ctl::RuleEngine(mode) => self.engine = *mode,
            Ctl::Nothing => {}
            Ctl::RemoveRules(selection) => selection.mark(&mut self.removed),
            Ctl::RemoveTarget(selection, _) => {
                let known = |kept: &ActAt| (kept.rule, kept.link, kept.act) == (at.rule, at.link, at.act);
                if !self.removals.iter().any(known) {
                    self.removals.push(at);
                    selection.mark(&mut self.touched);
                }
            }
        }
    }
}

/// `text` is the expanded argument of the change. Counters never go below zero.
fn apply(kept: &mut Value, change: &Change, text: Vec<u8>) {
    *kept = match change {
        Change::Unset => Value::Unset,
        Change::SetNumber(number) => Value::Number(*number),
        Change::Set(_) => set(text),
        Change::AddNumber(number) => Value::Number(kept.number().saturating_add(*number).max(0)),
        Change::Add(_) => Value::Number(kept.number().saturating_add(parse_number(&text)).max(0)),
        Change::Subtract(_) => Value::Number(kept.number().saturating_sub(parse_number(&text)).max(0)),
    };
}

/// Most digits of a number that is kept as one, and the first number that has more.
const DIGITS_MAX: usize = 18;
const NUMBERS_END: i64 = 10_i64.pow(18);

/// A text that is how a number is written is kept as that number.
fn set(mut text: Vec<u8>) -> Value {
    let digits = (1..=DIGITS_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    if digits && (text.len() == 1 || text.first() != Some(&b'0')) {
        return Value::Number(parse_number(&text));
    }
    text.truncate(super::tx::VALUE_BYTES_MAX);
    Value::Text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_never_go_below_zero() {
        let mut kept = Value::Number(3);
        apply(&mut kept, &Change::Subtract(Template::default()), b"5".to_vec());
        assert_eq!(kept, Value::Number(0));
        apply(&mut kept, &Change::Add(Template::default()), b"4".to_vec());
        assert_eq!(kept, Value::Number(4));
        apply(&mut kept, &Change::Unset, Vec::new());
        assert_eq!(kept, Value::Unset);
    }

    /// By each other variable, a change without a text in between comes to the same.
    #[test]
    fn a_number_is_changed_as_its_text_would() {
        use crate::{Options, RuleSet, SourceFault, Sources, transaction::Connection};
        struct Text;
        impl Sources for Text {
            fn read(&self, _: &str) -> Result<Vec<u8>, SourceFault> {
                Ok(b"SecAction \"id:1,phase:1,pass,nolog,setvar:tx.a=+%{tx.b}\"".to_vec())
            }
            fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
                Ok(Vec::new())
            }
        }
        let set = RuleSet::load(&Text, &["a"], &Options::default()).unwrap();
        let nobody = std::net::IpAddr::from([0; 4]);
        let connection =
            Connection { client_address: nobody, client_port: 0, server_address: nobody, server_port: 0 };
        let mut state = State::new(&set, connection, 0);
        let slot = |name: &str| set.names.find(name.as_bytes()).unwrap();
        let (a, b) = (slot("a"), slot("b"));
        let by = || Template { parts: vec![Part::Tx(b)] };
        let text = |text: &str| Value::Text(text.into());
        let numbers = [0, 1, -5, 7, NUMBERS_END - 1, NUMBERS_END, i64::MAX].map(Value::Number);
        let texts = ["", "5x", "05", " -7", "x"].map(text);
        let all: Vec<Value> = numbers.into_iter().chain(texts).chain([Value::Unset]).collect();
        let mut counted = 0;
        for (before, other) in all.iter().flat_map(|before| all.iter().map(move |other| (before, other))) {
            *state.tx.slot_mut(a).unwrap() = before.clone();
            *state.tx.slot_mut(b).unwrap() = other.clone();
            for change in [Change::Add(by()), Change::Subtract(by()), Change::Set(by())] {
                let mut written = Vec::new();
                state.expand(&set, &by(), &mut written);
                let mut wanted = before.clone();
                apply(&mut wanted, &change, written);
                if let Some(found) = state.summed(a, &change) {
                    assert_eq!(found, wanted, "{before:?} {change:?} {other:?}");
                    counted += 1;
                }
            }
        }
        assert_eq!(counted, all.len() * (2 * all.len() + 4));
    }

    #[test]
    fn a_text_reads_back_as_it_was_set() {
        for text in ["0", "5", "05", "", "12x", "1234567890123456789", "-3"] {
            let mut out = Vec::new();
            assert!(set(text.as_bytes().to_vec()).write(&mut out));
            assert_eq!(out, text.as_bytes());
        }
    }
}

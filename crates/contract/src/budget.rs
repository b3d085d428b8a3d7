//! A value as validators see it: what it holds is seen only until a budget is spent.
//!
//! Schemas may refer to themselves from several branches of a union (`Expr: oneOf [And,
//! Or, Not]`), and then a small value can take time that doubles with each level of its
//! nesting. Nothing in a schema can be trusted to end that (a keyword that fails holds
//! below a `not`), so the value ends it: past the budget every list and map is empty,
//! there is nothing left to go down into, and whatever the validator then says is void.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::ControlFlow;

use jsonschema::JsonType;
use jsonschema::json::{self, Json, Node, NodeIdentity};
use serde_json::{Map, Number, Value};

use crate::unique;

/// Steps that judging any value may take. A step is one look at a value, some
/// nanoseconds.
const JUDGE_STEPS: u64 = 200_000;
/// Further steps for each value in it, and for each [`TEXT_BYTES_PER_STEP`] of its texts and names:
/// room for unions of dozens of schemas.
const JUDGE_STEPS_PER_VALUE: u64 = 128;
/// Steps that may be spent to tell what is wrong with a value that was found wrong.
const EXPLAIN_STEPS: u64 = 10_000;
/// Further steps for each value in it.
const EXPLAIN_STEPS_PER_VALUE: u64 = 16;
/// Most names of members that are come to for that: an error may hold a copy of each.
const EXPLAIN_NAMES_MAX: u64 = 400_000;
/// Steps that an error takes: it is told with its whole way through value and schema.
const ERROR_STEPS: u64 = 64;
/// Most errors that are told before the budget is spent. All are held in memory at a time,
/// those of every branch of a union too.
const ERRORS_MAX: u32 = 1_000;
/// Most bytes of names on the way to a value that is told: each error holds its own copy.
const WAY_BYTES_MAX: usize = 1_024;
/// Looks at a value's kind that take a step.
const GLANCES_PER_STEP: u64 = 2;
/// Bytes of a text that are looked at in one step.
pub(crate) const TEXT_BYTES_PER_STEP: usize = 64;

/// A compiled schema for [`Seen`] values.
pub(crate) type Validator = jsonschema::Validator<Budgeted>;

/// Steps that are left, errors, and names of members.
#[derive(Debug)]
pub(crate) struct Budget {
    /// A step is so many of them: [`GLANCES_PER_STEP`].
    glances: Cell<u64>,
    errors: Cell<u32>,
    names: Cell<u64>,
}

impl Budget {
    /// For judging a value.
    pub(crate) fn to_judge(value: &Value) -> Self {
        Self::of(steps(JUDGE_STEPS, JUDGE_STEPS_PER_VALUE, value))
    }

    /// For telling what is wrong with a value. `None` when that takes more memory than it may.
    pub(crate) fn to_explain(value: &Value) -> Option<Self> {
        let steps = || steps(EXPLAIN_STEPS, EXPLAIN_STEPS_PER_VALUE, value);
        let names = Cell::new(EXPLAIN_NAMES_MAX);
        (way(value) <= WAY_BYTES_MAX).then(|| Self { names, ..Self::of(steps()) })
    }

    fn of(steps: u64) -> Self {
        let glances = steps.saturating_mul(GLANCES_PER_STEP);
        Self { glances: Cell::new(glances), errors: Cell::new(ERRORS_MAX), names: Cell::new(u64::MAX) }
    }

    /// Whether it is spent: an answer that was reached with it is void.
    pub(crate) fn is_spent(&self) -> bool {
        self.glances.get() == 0
    }

    /// The value, seen as long as this lasts.
    pub(crate) fn see<'a>(&'a self, value: &'a Value) -> Seen<'a> {
        Seen { value, budget: self }
    }

    /// Takes steps, and says whether some are left.
    fn step(&self, steps: u64) -> bool {
        self.glance(steps.saturating_mul(GLANCES_PER_STEP))
    }

    fn glance(&self, glances: u64) -> bool {
        let left = self.glances.get().saturating_sub(glances);
        self.glances.set(left);
        left > 0
    }

    /// Takes what the name of a member takes, and says whether some is left.
    fn name(&self, name: &str) -> bool {
        let left = self.names.get().saturating_sub(1);
        self.names.set(left);
        self.step(if left > 0 { text_steps(name) } else { u64::MAX })
    }

    /// Takes what an error takes.
    fn error(&self) {
        let left = self.errors.get().saturating_sub(1);
        self.errors.set(left);
        self.step(if left > 0 { ERROR_STEPS } else { u64::MAX });
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(u64::MAX)
    }
}

/// The steps for a value.
fn steps(least: u64, each: u64, value: &Value) -> u64 {
    each.saturating_mul(weight(value)).saturating_add(least)
}

/// Steps of a look at a text.
fn text_steps(text: &str) -> u64 {
    1 + (text.len() / TEXT_BYTES_PER_STEP) as u64
}

/// Steps of one look at everything in a value, itself among it.
fn weight(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(weight).sum::<u64>().saturating_add(1),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| text_steps(name) - 1 + weight(value);
            members.iter().map(member).sum::<u64>().saturating_add(1)
        }
        Value::String(text) => text_steps(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

/// Bytes of names on the longest way into a value.
fn way(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(way).max().unwrap_or_default(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + way(value)).max().unwrap_or_default()
        }
        _ => 0,
    }
}

/// Values that are seen within a budget, as a representation of JSON.
pub(crate) struct Budgeted;

/// One value.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    value: &'a Value,
    budget: &'a Budget,
}

/// A map.
pub(crate) struct SeenMap<'a> {
    members: &'a Map<String, Value>,
    budget: &'a Budget,
}

/// A list.
pub(crate) struct SeenList<'a> {
    items: &'a [Value],
    budget: &'a Budget,
}

/// The members of a map.
pub(crate) struct Members<'a> {
    members: serde_json::map::Iter<'a>,
    budget: &'a Budget,
}

/// The items of a list.
pub(crate) struct Items<'a> {
    items: std::slice::Iter<'a, Value>,
    budget: &'a Budget,
}

impl Json for Budgeted {
    type Node<'a> = Seen<'a>;
    type PreparedKey = String;
    type StringBuffer = ();

    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    /// Only for names that [`SeenMap`] does not hand over itself.
    fn with_string_node<T>((): &mut (), string: &str, judge: impl FnOnce(Seen<'_>) -> T) -> T {
        judge(Budget::default().see(&Value::String(string.to_owned())))
    }
}

impl<'a> Node<'a, Budgeted> for Seen<'a> {
    type Object = SeenMap<'a>;
    type Array = SeenList<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<SeenMap<'a>> {
        self.budget.step(1);
        let members = self.value.as_object()?;
        Some(SeenMap { members, budget: self.budget })
    }

    fn as_array(&self) -> Option<SeenList<'a>> {
        self.budget.step(1);
        let items = self.value.as_array()?;
        Some(SeenList { items, budget: self.budget })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.value.as_str()?;
        self.budget.step(text_steps(text));
        Some(Cow::Borrowed(text))
    }

    fn as_number(&self) -> Option<&'a Number> {
        self.budget.step(1);
        self.value.as_number()
    }

    fn is_number(&self) -> bool {
        self.budget.glance(1);
        self.value.is_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.value.as_bool()
    }

    fn is_null(&self) -> bool {
        self.value.is_null()
    }

    fn json_type(&self) -> JsonType {
        self.budget.glance(1);
        match self.value {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn string_length_within(&self, min: u64, max: u64) -> Option<bool> {
        let bytes = self.value.as_str()?.len() as u64;
        // A character takes one to four bytes.
        if bytes < min || bytes.div_ceil(4) > max {
            return Some(false);
        }
        if min <= bytes.div_ceil(4) && bytes <= max {
            return Some(true);
        }
        self.string_length().map(|length| (min..=max).contains(&length))
    }

    fn equals_value(&self, expected: &Value) -> bool {
        let steps = match (self.value, expected) {
            (Value::Array(items), Value::Array(others)) if items.len() == others.len() => weight(self.value),
            (Value::Object(members), Value::Object(others)) if members.len() == others.len() => {
                weight(self.value)
            }
            _ => 1,
        };
        // Past the budget the answer is void.
        self.budget.step(steps) && json::cmp::equal(self.value, expected)
    }

    /// Only errors ask for it, and nobody asks them: those of the branches of a union would each
    /// hold a copy of it.
    fn to_value(&self) -> Cow<'a, Value> {
        self.budget.error();
        Cow::Owned(Value::Null)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref(self.value).addr()))
    }
}

impl<'a> json::Object<'a, Budgeted> for SeenMap<'a> {
    type Node = Seen<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.members.len()
    }

    fn get(&self, key: &String) -> Option<Seen<'a>> {
        if !self.budget.step(1) {
            return None;
        }
        let value = self.members.get(key)?;
        Some(Seen { value, budget: self.budget })
    }

    fn members(&self) -> Members<'a> {
        Members { members: self.members.iter(), budget: self.budget }
    }

    /// A name holds nothing to go down into; to look at it takes its steps each time.
    fn try_for_each_name_node<B>(
        &self,
        (): &mut (),
        mut judge: impl FnMut(Seen<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (name, _) in self.members() {
            judge(self.budget.see(&Value::String(name.to_owned())))?;
        }
        ControlFlow::Continue(())
    }
}

impl<'a> json::Array<'a, Budgeted> for SeenList<'a> {
    type Node = Seen<'a>;
    type ElementsIter = Items<'a>;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn elements(&self) -> Items<'a> {
        Items { items: self.items.iter(), budget: self.budget }
    }

    fn is_unique(&self) -> bool {
        unique::is_unique(self.items, |steps| self.budget.step(steps))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Seen<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.members.next().filter(|(name, _)| self.budget.name(name))?;
        Some((name.as_str(), Seen { value, budget: self.budget }))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = self.items.next().filter(|_| self.budget.step(1))?;
        Some(Seen { value, budget: self.budget })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Also where a keyword that fails makes another one hold.
    #[test]
    fn an_answer_within_the_budget_is_the_answer_and_every_other_is_void() {
        let schema = json!({
            "$defs": { "tree": {
                "type": "object",
                "properties": { "of": { "items": { "$ref": "#/$defs/tree" } }, "kind": { "enum": ["a", "b"] } },
                "propertyNames": { "maxLength": 4 },
                "oneOf": [{ "required": ["of"] }, { "required": ["kind"] }],
                "not": { "properties": { "kind": { "const": "b" } }, "required": ["kind"] },
            } },
            "$ref": "#/$defs/tree",
        });
        let validator: Validator = jsonschema::options_for().build(&schema).unwrap();
        for (value, is_valid) in [
            (json!({ "of": [{ "kind": "a" }, { "of": [] }] }), true),
            (json!({ "of": [{ "kind": "a" }, { "of": [{ "kind": "b" }] }] }), false),
            (json!({ "of": [{ "kind": "a", "of": [] }] }), false),
            (json!({ "of": [{ "kinds": "a" }] }), false),
        ] {
            assert_eq!(validator.is_valid(Budget::to_judge(&value).see(&value)), is_valid, "{value}");
            let answers: Vec<_> = (0..400)
                .map(|steps| {
                    let budget = Budget::of(steps);
                    let found = validator.is_valid(budget.see(&value));
                    (!budget.is_spent()).then_some(found)
                })
                .collect();
            assert_eq!((answers.first(), answers.last()), (Some(&None), Some(&Some(is_valid))), "{value}");
            assert!(answers.into_iter().flatten().all(|found| found == is_valid), "{value}");
        }
    }

    /// Bytes of places, names and values that an error holds, those of the branches of a union too.
    fn bytes(error: &jsonschema::ValidationError<'_>) -> usize {
        use jsonschema::error::ValidationErrorKind::{AdditionalProperties, AnyOf, OneOfNotValid};
        let more = match error.kind() {
            AnyOf { context } | OneOfNotValid { context } => context.iter().flatten().map(bytes).sum(),
            AdditionalProperties { unexpected } => unexpected.iter().map(|name| 24 + name.len()).sum(),
            _ => 0,
        };
        200 + error.instance_path().as_str().len() + error.instance().to_string().len() + more
    }

    #[test]
    fn what_errors_hold_is_bounded() {
        let node = json!({ "items": { "$ref": "#" } });
        let tree = json!({ "oneOf": [node, node, { "type": "integer" }] });
        let lists = json!({ "additionalProperties": { "items": { "type": "integer" } } });
        let required: Vec<_> = (0..1_000).map(|name| name.to_string()).collect();
        let branches: Vec<_> = (0..100)
            .map(|name| json!({ "properties": { name.to_string(): {} }, "additionalProperties": false }))
            .collect();
        let nested = |levels: usize, leaves: usize| {
            (0..levels).fold(json!(vec!["x"; leaves]), |below, _| json!([below]))
        };
        let wide: Map<String, Value> = (0..100_000).map(|name| (format!("n{name}"), json!(1))).collect();
        for (most, schema, value) in [
            (2_000_000, &lists, json!({ "k".repeat(WAY_BYTES_MAX): vec!["x"; 50_000] })),
            (2_000_000, &lists, json!({ "k".repeat(WAY_BYTES_MAX + 1): vec!["x"; 50_000] })),
            (
                2_000_000,
                &json!({ "additionalProperties": { "required": required } }),
                json!({ "k".repeat(100_000): {} }),
            ),
            (2_000_000, &tree, nested(30, 50_000)),
            (16_000_000, &json!({ "anyOf": branches }), Value::Object(wide)),
        ] {
            let validator: Validator = jsonschema::options_for().build(schema).unwrap();
            assert!(!validator.is_valid(Budget::default().see(&value)), "{schema}");
            let held = Budget::to_explain(&value).map(|budget| {
                validator.iter_errors(budget.see(&value)).map(|error| bytes(&error)).sum::<usize>()
            });
            assert!(held.unwrap_or_default() < most, "{schema}: {held:?}");
        }
    }

    #[test]
    fn a_name_takes_steps_with_its_length() {
        let value = json!({ "k".repeat(TEXT_BYTES_PER_STEP * 100): 1 });
        let budget = Budget::of(150);
        let members = || json::Object::members(&budget.see(&value).as_object().unwrap()).count();
        assert_eq!((members(), members()), (1, 0));
        assert!(budget.is_spent());
    }
}

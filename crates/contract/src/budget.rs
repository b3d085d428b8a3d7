//! A value as validators see it: what it holds is seen only until a budget is spent.
//!
//! Schemas may refer to themselves from several branches of a union (`Expr: oneOf [And,
//! Or, Not]`), and then a small value can take time that doubles with each level of its
//! nesting. Nothing in a schema can be trusted to end that (a keyword that fails holds
//! below a `not`), so the value ends it: past the budget every list and map is empty,
//! there is nothing left to go down into, and whatever the validator then says is void.

use std::borrow::Cow;
use std::cell::Cell;

use jsonschema::JsonType;
use jsonschema::json::{self, Json, Node, NodeIdentity};
use serde_json::{Map, Number, Value};

use crate::unique;

/// Steps that judging any value may take. A step is one look at a value, some
/// nanoseconds.
const JUDGE_STEPS: u64 = 200_000;
/// Further steps for each value in it: room for unions of dozens of schemas.
const JUDGE_STEPS_PER_VALUE: u64 = 128;
/// Steps that may be spent to tell what is wrong with a value that was found wrong.
const EXPLAIN_STEPS: u64 = 10_000;
/// Further steps for each value in it.
const EXPLAIN_STEPS_PER_VALUE: u64 = 16;
/// Steps that an error takes: it is told with its whole way through value and schema.
const ERROR_STEPS: u64 = 64;
/// Bytes of a text that are looked at in one step.
const TEXT_BYTES_PER_STEP: usize = 64;

/// A compiled schema for [`Seen`] values.
pub(crate) type Validator = jsonschema::Validator<Budgeted>;

/// Steps that are left.
#[derive(Debug)]
pub(crate) struct Budget(Cell<u64>);

impl Budget {
    /// For judging a value.
    pub(crate) fn to_judge(value: &Value) -> Self {
        Self::new(JUDGE_STEPS, JUDGE_STEPS_PER_VALUE, value)
    }

    /// For telling what is wrong with a value.
    pub(crate) fn to_explain(value: &Value) -> Self {
        Self::new(EXPLAIN_STEPS, EXPLAIN_STEPS_PER_VALUE, value)
    }

    fn new(least: u64, each: u64, value: &Value) -> Self {
        Self(Cell::new(each.saturating_mul(values(value)).saturating_add(least)))
    }

    /// Whether it is spent: an answer that was reached with it is void.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// The value, seen as long as this lasts.
    pub(crate) fn see<'a>(&'a self, value: &'a Value) -> Seen<'a> {
        Seen { value, budget: self }
    }

    /// Takes steps, and says whether some are left.
    fn step(&self, steps: u64) -> bool {
        let left = self.0.get().saturating_sub(steps);
        self.0.set(left);
        left > 0
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(u64::MAX))
    }
}

/// How many values a value is made of, itself among them.
fn values(value: &Value) -> u64 {
    let below: u64 = match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum(),
        _ => 0,
    };
    below.saturating_add(1)
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

    /// A name holds nothing to go down into, and was paid for when it was come to.
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
        self.budget.step(1 + (text.len() / TEXT_BYTES_PER_STEP) as u64);
        Some(Cow::Borrowed(text))
    }

    fn as_number(&self) -> Option<&'a Number> {
        self.value.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.value.as_bool()
    }

    fn is_null(&self) -> bool {
        self.value.is_null()
    }

    fn json_type(&self) -> JsonType {
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
        self.budget.step(1);
        json::cmp::equal(self.value, expected)
    }

    /// Only errors ask for it.
    fn to_value(&self) -> Cow<'a, Value> {
        self.budget.step(ERROR_STEPS);
        Cow::Borrowed(self.value)
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
        let (name, value) = self.members.next().filter(|_| self.budget.step(1))?;
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
                    let budget = Budget(Cell::new(steps));
                    let found = validator.is_valid(budget.see(&value));
                    (!budget.is_spent()).then_some(found)
                })
                .collect();
            assert_eq!((answers.first(), answers.last()), (Some(&None), Some(&Some(is_valid))), "{value}");
            assert!(answers.into_iter().flatten().all(|found| found == is_valid), "{value}");
        }
    }
}

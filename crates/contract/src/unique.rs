//! `uniqueItems`: whether no two items of a list are equal as JSON Schema has it (2020-12 core
//! §4.2.2): `1` is `1.0`, and the members of an object have no order.
//!
//! Each item is written down in one way, and what is written is looked up. The time is that of
//! writing, whatever the items are: nothing that a client sends makes two of them meet.

use std::collections::HashSet;

use serde_json::{Number, Value};

use crate::budget::TEXT_BYTES_PER_STEP;

/// Steps for a value that is written down, or for as much text as else takes one: it is written, and
/// what is written is looked up.
const STEPS: u64 = 2;
/// 2^63 and 2^64, which doubles hold.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_TO_64: f64 = 2.0 * TWO_TO_63;

/// Whether no two items are equal. `spend` takes steps, and says whether some are left; when none
/// are, the answer is void.
pub(crate) fn is_unique(items: &[Value], mut spend: impl FnMut(u64) -> bool) -> bool {
    if items.len() < 2 {
        return true;
    }
    let mut known = HashSet::<Box<[u8]>>::new();
    let mut written = Vec::new();
    for item in items {
        written.clear();
        if write(item, &mut written, &mut spend).is_none() {
            return true;
        }
        if !known.insert(written.as_slice().into()) {
            return false;
        }
    }
    true
}

/// Writes a value: the same bytes for equal ones, and others for all that differ. `None` when the
/// steps are spent.
fn write(value: &Value, written: &mut Vec<u8>, spend: &mut impl FnMut(u64) -> bool) -> Option<()> {
    spend(STEPS).then_some(())?;
    match value {
        Value::Null => written.push(b'n'),
        Value::Bool(value) => written.push(if *value { b't' } else { b'f' }),
        Value::Number(number) => write_number(number, written),
        Value::String(text) => {
            written.push(b'"');
            write_text(text, written, spend)?;
        }
        Value::Array(items) => {
            written.push(b'[');
            write_length(items.len(), written);
            for item in items {
                write(item, written, spend)?;
            }
        }
        Value::Object(members) => {
            written.push(b'{');
            write_length(members.len(), written);
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in members {
                write_text(name, written, spend)?;
                write(value, written, spend)?;
            }
        }
    }
    Some(())
}

fn write_text(text: &str, written: &mut Vec<u8>, spend: &mut impl FnMut(u64) -> bool) -> Option<()> {
    spend(STEPS * (text.len() / TEXT_BYTES_PER_STEP) as u64).then_some(())?;
    write_length(text.len(), written);
    written.extend_from_slice(text.as_bytes());
    Some(())
}

/// Lengths go before what they are of: no value is read as the beginning of another.
fn write_length(length: usize, written: &mut Vec<u8>) {
    let mut left = length;
    while left >= 0x80 {
        written.push(left as u8 | 0x80);
        left >>= 7;
    }
    written.push(left as u8);
}

/// Integers that an integer of 64 bits holds are written as one, also where they are read from
/// `1.0`; all others are doubles.
fn write_number(number: &Number, written: &mut Vec<u8>) {
    let whole = number.as_i128().or_else(|| number.as_f64().and_then(whole));
    match whole {
        Some(whole) => {
            written.push(b'i');
            written.extend_from_slice(&whole.to_le_bytes());
        }
        None => {
            written.push(b'd');
            written.extend_from_slice(&number.as_f64().unwrap_or_default().to_bits().to_le_bytes());
        }
    }
}

/// The integer that a double is.
fn whole(value: f64) -> Option<i128> {
    ((-TWO_TO_63..TWO_TO_64).contains(&value) && value.fract() == 0.0).then_some(value as i128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonschema::json::cmp;
    use proptest::prelude::*;
    use serde_json::json;

    fn is_unique(list: &Value) -> bool {
        super::is_unique(list.as_array().unwrap(), |_| true)
    }

    #[test]
    fn equal_is_what_json_schema_calls_equal() {
        let big = u64::MAX;
        for (equal, list) in [
            (true, json!([1, 1.0])),
            (true, json!([0, -0.0])),
            (true, json!([[1, [2]], [1.0, [2]]])),
            (true, json!([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}])),
            (true, json!([big, 1, big])),
            (true, json!([1u64 << 63, 9223372036854775808.0])),
            (true, json!([i64::MIN, -9223372036854775808.0])),
            (true, json!([1e300, "a", 1e300])),
            (false, json!([])),
            (false, json!([1])),
            (false, json!([1, true, "1", [1], null, {"1": 1}, {"1": null}, "", [], {}, [[]], [null]])),
            (false, json!([[1, [1]], [[1], 1], [[1, 1]], [[1], [1]], [1, 1]])),
            (false, json!([["a", "b"], ["ab", ""], ["", "ab"], ["a,b"], ["a\u{1}", "b"]])),
            (false, json!([{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": {"b": 1}}, {"a": {}, "b": 1}])),
            // Doubles hold none of them apart.
            (false, json!([big, big - 1, big - 2, 18446744073709551616.0])),
            (false, json!([9007199254740993u64, 9007199254740992u64, 9007199254740994u64])),
            (false, json!([0.1, 0.30000000000000004, 0.3, 1e300, 1e-300, 5e-324, 0])),
            (false, json!(["x".repeat(127), "x".repeat(128), "x".repeat(129), "x".repeat(16_384)])),
        ] {
            assert_eq!(is_unique(&list), !equal, "{list}");
        }
    }

    #[test]
    fn it_ends_when_the_steps_are_spent() {
        let list = json!([[1, [1]], [[1], 1], "x".repeat(1_000), 1, 1]);
        let mut whole = 0;
        super::is_unique(list.as_array().unwrap(), |steps| {
            whole += steps;
            true
        });
        assert!(whole > 14 * STEPS, "{whole}");
        for most in 0..whole {
            let mut left = most;
            let void = super::is_unique(list.as_array().unwrap(), |steps| {
                let is_left = left > steps;
                left = left.saturating_sub(steps);
                is_left
            });
            assert!(void || left > 0, "{most}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0i64..3).prop_map(Value::from),
            (0u8..3).prop_map(|n| Value::from(f64::from(n) / 2.0)),
            (0u64..3).prop_map(|n| Value::from((1 << 63) + n)),
            (0u8..3).prop_map(|n| Value::from(TWO_TO_63 + f64::from(n) * 2_048.0)),
            any::<f64>().prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[ab]{0,2}", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// As each is compared with each.
        #[test]
        fn a_list_is_unique_when_no_two_of_it_are_equal(items in prop::collection::vec(values(), 0..6)) {
            let mut pairs = items.iter().enumerate().flat_map(|(at, one)| items.iter().skip(at + 1).map(move |other| (one, other)));
            let expected = !pairs.any(|(one, other)| cmp::equal(one, other));
            prop_assert_eq!(super::is_unique(&items, |_| true), expected);
        }
    }
}

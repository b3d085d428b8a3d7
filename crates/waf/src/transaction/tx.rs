//! The `TX` collection: named slots for what rules name, a list for names made at run time.

use crate::{
    rule::{CAPTURES, Names},
    ruleset::RuleSet,
};

/// Most `TX` variables whose names are made at run time.
pub(crate) const DYNAMIC_MAX: usize = 1_000;
/// Longest value of a `TX` variable, bytes; longer ones are cut.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;

/// A value; numbers stay numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Value {
    #[default]
    Unset,
    Number(i64),
    Text(Vec<u8>),
}

impl Value {
    /// Appends its text; false when it is unset.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Unset => return false,
            Self::Number(number) => write_number(*number, out),
            Self::Text(text) => out.extend_from_slice(text),
        }
        true
    }

    /// As C's `atoi` reads it: leading digits, otherwise 0.
    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Unset => 0,
            Self::Number(number) => *number,
            Self::Text(text) => parse_number(text),
        }
    }
}

/// Leading spaces, a sign, digits; saturating.
pub(crate) fn parse_number(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let mut number: i64 = 0;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        number = number.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    }
    if negative { -number } else { number }
}

/// Decimal digits.
pub(crate) fn write_number(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut rest = number.unsigned_abs();
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        used += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// The collection.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tx {
    slots: Vec<Value>,
    dynamic: Vec<(Vec<u8>, Value)>,
}

impl Tx {
    /// With what lies over the rule set.
    pub(super) fn prepare(&mut self, set: &RuleSet) {
        self.slots.resize(set.names.len(), Value::Unset);
        for (name, value) in &set.laid.variables {
            if let Some(kept) = self.entry(&set.names, name.clone().into_bytes()) {
                kept.clone_from(value);
            }
        }
    }

    /// Forgets all variables and keeps the memory.
    pub(super) fn clear(&mut self) {
        let Self { slots, dynamic } = self;
        slots.clear();
        dynamic.clear();
    }

    pub(crate) fn slot(&self, slot: u16) -> &Value {
        const UNSET: &Value = &Value::Unset;
        self.slots.get(usize::from(slot)).unwrap_or(UNSET)
    }

    pub(crate) fn slot_mut(&mut self, slot: u16) -> Option<&mut Value> {
        self.slots.get_mut(usize::from(slot))
    }

    /// The slots that hold something else than those of `before`.
    pub(crate) fn changed_since(&self, before: &Self) -> Vec<(u16, Value)> {
        let pairs = (0..).zip(self.slots.iter().zip(&before.slots));
        pairs.filter(|(_, (now, then))| now != then).map(|(slot, (now, _))| (slot, now.clone())).collect()
    }

    /// By name, made where it is not there yet. None: there are too many.
    pub(crate) fn entry(&mut self, names: &Names, mut name: Vec<u8>) -> Option<&mut Value> {
        if let Some(slot) = names.find(&name) {
            return self.slots.get_mut(usize::from(slot));
        }
        name.make_ascii_lowercase();
        let found = self.dynamic.iter().position(|(known, _)| *known == name);
        if found.is_none() {
            if self.dynamic.len() >= DYNAMIC_MAX {
                return None;
            }
            self.dynamic.push((name, Value::Unset));
        }
        let at = found.unwrap_or(self.dynamic.len().saturating_sub(1));
        self.dynamic.get_mut(at).map(|(_, value)| value)
    }

    /// A capture, 0 to 9; None unsets it.
    pub(crate) fn capture(&mut self, number: u16, text: Option<&[u8]>) {
        let Some(value) = self.slots.get_mut(usize::from(number)).filter(|_| number < CAPTURES) else {
            return;
        };
        match (text, value) {
            (Some(text), Value::Text(kept)) => {
                kept.clear();
                kept.extend_from_slice(text);
            }
            (Some(text), value) => *value = Value::Text(text.to_vec()),
            (None, value) => *value = Value::Unset,
        }
    }

    /// Those whose names were made at run time.
    pub(crate) fn made(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        self.dynamic.iter().map(|(name, value)| (name.as_slice(), value))
    }

    /// All variables that are set: slot, name, value.
    pub(crate) fn all<'a>(
        &'a self,
        names: &'a Names,
    ) -> impl Iterator<Item = (Option<u16>, &'a [u8], &'a Value)> + 'a {
        let slots = self.slots.iter().enumerate().filter_map(|(slot, value)| {
            let slot = u16::try_from(slot).ok()?;
            Some((Some(slot), names.name(slot).as_bytes(), value))
        });
        let dynamic = self.made().map(|(name, value)| (None, name, value));
        slots.chain(dynamic).filter(|(_, _, value)| **value != Value::Unset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_atoi_reads_them() {
        for (text, number) in
            [("5", 5), (" -7x", -7), ("x", 0), ("", 0), ("+3", 3), ("99999999999999999999", i64::MAX)]
        {
            assert_eq!(parse_number(text.as_bytes()), number, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for number in [0, 1, -1, 10, 907, i64::MAX, i64::MIN + 1] {
            let mut text = Vec::new();
            write_number(number, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), number.to_string());
        }
    }

    #[test]
    fn names_made_at_run_time_are_bounded() {
        let names = Names::default();
        let mut tx = Tx::default();
        for number in 0..DYNAMIC_MAX {
            assert!(tx.entry(&names, format!("n{number}").into_bytes()).is_some());
        }
        assert!(tx.entry(&names, b"one too many".to_vec()).is_none());
        assert!(tx.entry(&names, b"N7".to_vec()).is_some());
    }
}

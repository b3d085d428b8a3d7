//! What the fuzzers call: parts of the engine that read bytes from outside. None may panic.

use crate::operator::{Found, Operator};
use crate::sources::{SourceFault, Sources};
use crate::transform::Transformation;
use std::borrow::Cow;

/// No files.
struct Nowhere;

impl Sources for Nowhere {
    fn read(&self, _: &str) -> Result<Vec<u8>, SourceFault> {
        Err(SourceFault("there are no files".to_owned()))
    }

    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
        Ok(Vec::new())
    }
}

/// Every transformation of a value, and pairs of them.
pub fn transformations(value: &[u8]) {
    for name in Transformation::names() {
        let Some(first) = Transformation::from_name(name) else { continue };
        let once = first.apply(Cow::Borrowed(value));
        for second in ["urlDecodeUni", "htmlEntityDecode", "jsDecode", "cssDecode", "normalisePathWin"] {
            if let Some(second) = Transformation::from_name(second) {
                let _ = second.apply(Cow::Borrowed(&once));
            }
        }
    }
}

/// An operator by its number (the first byte), an argument and a value, NUL between them.
pub fn operators(data: &[u8]) {
    let Some((&number, rest)) = data.split_first() else { return };
    let mut parts = rest.splitn(2, |&byte| byte == 0);
    let (Some(argument), Some(value)) = (parts.next(), parts.next()) else { return };
    let Ok(argument) = std::str::from_utf8(argument) else { return };
    let names: Vec<&str> = Operator::names().collect();
    let Some(name) = names.get(usize::from(number) % names.len()) else { return };
    for has_macros in [false, true] {
        let Ok(operator) = Operator::compile(name, argument, has_macros, &Nowhere, "rules.conf") else {
            continue;
        };
        let mut found = Found::default();
        if !operator.evaluate(value, has_macros.then_some(argument.as_bytes()), &mut found) {
            continue;
        }
        for index in 0..found.len() {
            let _ = found.get(value, index);
        }
        // What the plan relies on: a match contains one of the operator's literals.
        if let Some(literals) = operator.literals() {
            let folded = value.to_ascii_lowercase();
            assert!(
                literals.iter().any(|literal| memchr::memmem::find(&folded, literal.bytes()).is_some()),
                "@{name} {argument} matches without its literals"
            );
        }
    }
}

/// A value that may be an injection.
pub fn injection(value: &[u8]) {
    let _ = (crate::injection::sql(value), crate::injection::script(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fuzz_smoke_targets(data in prop::collection::vec(any::<u8>(), 0..80), argument in "[ -~]{0,20}") {
            transformations(&data);
            operators(&data);
            operators(&[&data[..data.len().min(1)], argument.as_bytes(), b"\0", &data].concat());
            injection(&data);
        }
    }
}

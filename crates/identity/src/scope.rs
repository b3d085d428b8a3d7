//! Scopes (RFC 6749 §3.3).

use std::collections::BTreeSet;

use crate::refusal::{Answer, Code, Refusal};

/// Most scopes of one request.
const SCOPES_MAX: usize = 64;

/// Whether this is one scope: visible ASCII without quotes and backslash.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 256
        && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Reads a `scope` parameter: names with one space between them, each once.
pub(crate) fn parse(text: &str) -> Answer<BTreeSet<String>> {
    let mut scopes = BTreeSet::new();
    for name in text.split(' ') {
        if !is_token(name) {
            return Err(Refusal::plain(Code::InvalidScope, "`scope` is not a list of names"));
        }
        scopes.insert(name.to_owned());
        if scopes.len() > SCOPES_MAX {
            return Err(Refusal::plain(Code::InvalidScope, format!("more than {SCOPES_MAX} scopes")));
        }
    }
    Ok(scopes)
}

/// One text, in order.
pub(crate) fn join(scopes: &BTreeSet<String>) -> String {
    let mut text = String::with_capacity(scopes.iter().map(|scope| scope.len() + 1).sum());
    for scope in scopes {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(scope);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_names_with_one_space_between_them() {
        assert_eq!(join(&parse("b a b").unwrap()), "a b");
        for wrong in ["", " a", "a ", "a  b", "a\tb", "a\"b", "a\\b", "ä", "a\nb"] {
            assert_eq!(parse(wrong).unwrap_err().code, Code::InvalidScope, "{wrong:?}");
        }
        let many = |count: usize| (0..count).map(|n| format!("s{n}")).collect::<Vec<_>>().join(" ");
        assert!(parse(&many(SCOPES_MAX)).is_ok());
        assert!(parse(&many(SCOPES_MAX + 1)).is_err());
    }
}

//! Scopes (RFC 6749 §3.3).

use std::collections::BTreeSet;

use crate::client::Client;
use crate::refusal::{Answer, Code, Refusal};
use crate::settings::RealmSettings;

/// Most scopes of one request.
const SCOPES_MAX: usize = 64;

/// Whether this is one scope: visible ASCII without quotes and backslash.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 256
        && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Reads a `scope` parameter: names with spaces between them.
pub(crate) fn parse(text: &str) -> Answer<BTreeSet<String>> {
    let mut scopes = BTreeSet::new();
    for name in text.split(' ').filter(|name| !name.is_empty()) {
        if !is_token(name) {
            return Err(Refusal::plain(Code::InvalidScope, "`scope` is not a list of names"));
        }
        scopes.insert(name.to_owned());
        if scopes.len() > SCOPES_MAX {
            return Err(Refusal::plain(Code::InvalidScope, format!("more than {SCOPES_MAX} scopes")));
        }
    }
    if scopes.is_empty() {
        return Err(Refusal::plain(Code::InvalidScope, "`scope` names nothing"));
    }
    Ok(scopes)
}

/// The same for what somebody is to grant a client: those that it may not have, or that the realm does
/// not know, are left out, and the answer to it says what it got (RFC 6749 §3.3, OpenID Connect Core
/// §3.1.2.1).
pub(crate) fn allowed(text: &str, client: &Client, settings: &RealmSettings) -> Answer<BTreeSet<String>> {
    let mut scopes = parse(text)?;
    let wanted = scopes.len();
    scopes.retain(|scope| client.scopes.contains(scope) && settings.knows_scope(scope));
    if scopes.is_empty() {
        let reason = format!("client {:?} has none of the scopes {text:?}", client.id);
        return Err(Refusal::new(Code::InvalidScope, "`scope` holds none that this client has", reason));
    }
    if scopes.len() < wanted {
        tracing::debug!(
            client = client.id,
            asked = text,
            "identity: scopes that the client has not are left out"
        );
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
    fn scopes_are_names_with_spaces_between_them() {
        for text in ["b a b", " a b", "b a ", "a  b", "  a   b  "] {
            assert_eq!(join(&parse(text).unwrap()), "a b", "{text:?}");
        }
        for wrong in ["", " ", "   ", "a\tb", "a\"b", "a\\b", "ä", "a\nb"] {
            assert_eq!(parse(wrong).unwrap_err().code, Code::InvalidScope, "{wrong:?}");
        }
        let many = |count: usize| (0..count).map(|n| format!("s{n}")).collect::<Vec<_>>().join(" ");
        assert!(parse(&many(SCOPES_MAX)).is_ok());
        assert!(parse(&many(SCOPES_MAX + 1)).is_err());
    }
}

//! Resource indicators (RFC 8707): which APIs a token is for.

use std::collections::BTreeSet;

use crate::client::Client;
use crate::parameter::Parameters;
use crate::refusal::{Answer, Code, Refusal};
use crate::settings::RealmSettings;

/// Checks the form of an identifier: an absolute URI without fragment (§2).
pub(crate) fn check(identifier: &str) -> Result<(), &'static str> {
    let (scheme, rest) = identifier.split_once(':').ok_or("expected an absolute URI")?;
    let good = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && !rest.is_empty()
        && identifier.bytes().all(|byte| byte.is_ascii_graphic());
    if !good {
        return Err("expected an absolute URI");
    }
    if identifier.contains('#') {
        return Err("expected a URI without fragment");
    }
    Ok(())
}

/// Reads the `resource` parameters, each known to the realm and allowed to the client.
pub(crate) fn requested(
    parameters: &Parameters,
    client: &Client,
    settings: &RealmSettings,
) -> Answer<BTreeSet<String>> {
    let mut resources = BTreeSet::new();
    for resource in parameters.all("resource") {
        check(resource).map_err(|why| Refusal::plain(Code::InvalidTarget, format!("`resource`: {why}")))?;
        let known = settings.resources.contains_key(resource);
        if !known || !client.may_reach(resource) {
            let reason = format!("client {:?} asked for resource {resource:?}, known: {known}", client.id);
            return Err(Refusal::new(Code::InvalidTarget, "no such `resource` for this client", reason));
        }
        resources.insert(resource.to_owned());
    }
    Ok(resources)
}

/// Those of `wanted` that lie within what was granted; all of it when nothing is wanted.
pub(crate) fn within(wanted: BTreeSet<String>, granted: &BTreeSet<String>) -> Answer<BTreeSet<String>> {
    if wanted.is_empty() {
        return Ok(granted.clone());
    }
    if wanted.is_subset(granted) {
        return Ok(wanted);
    }
    Err(Refusal::plain(Code::InvalidTarget, "`resource` is not among those that were granted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_absolute_uris_without_fragment() {
        for good in ["https://orders.example.org", "urn:shop:orders", "https://a/b?c=d"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for wrong in ["", "orders", "/orders", "https:", "https://a/#b", "https://a b", ":x", "1a:b", "a:ä"]
        {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refresh_narrows_and_never_widens() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let granted = set(&["a:1", "b:2"]);
        assert_eq!(within(set(&[]), &granted).unwrap(), granted);
        assert_eq!(within(set(&["a:1"]), &granted).unwrap(), set(&["a:1"]));
        assert_eq!(within(set(&["a:1", "c:3"]), &granted).unwrap_err().code, Code::InvalidTarget);
    }
}

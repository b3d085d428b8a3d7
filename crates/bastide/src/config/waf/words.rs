//! Words of `waf:`, each as the rules' own language can take it.

use super::super::values::Unfit;
use super::Excluded;

/// A method as it stands in a list of the Core Rule Set, which is one text with blanks.
pub(super) fn method(text: &str) -> Result<String, Unfit> {
    let is_method =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    let expected = "a method in capitals such as PUT or PROPFIND";
    match is_method(text) {
        true => Ok(text.to_owned()),
        false => {
            Err(Unfit { expected, instead: Some(text.to_ascii_uppercase()).filter(|upper| is_method(upper)) })
        }
    }
}

pub(super) fn media_type(text: &str) -> Result<String, Unfit> {
    const EXPECTED: &str = "a media type such as text/html";
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    match text.split_once('/') {
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) => Ok(text.to_ascii_lowercase()),
        _ => Err(Unfit { expected: EXPECTED, instead: None }),
    }
}

pub(super) fn rules_by_id(text: &str) -> Result<Excluded, Unfit> {
    const EXPECTED: &str = "a rule's id such as 942100, or a range such as 942000-942999";
    let unfit = || Unfit { expected: EXPECTED, instead: None };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| unfit());
    let (first, last) = (number(first)?, number(last)?);
    if first == 0 || first > last {
        return Err(unfit());
    }
    Ok(Excluded::Rules(first, last))
}

/// A tag, which is matched as it stands and not as an expression.
pub(super) fn tag(text: &str) -> Result<Excluded, Unfit> {
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b));
    let expected = "a tag such as attack-sqli (letters, digits, _, -, . and /)";
    if fits { Ok(Excluded::Tag(text.to_owned())) } else { Err(Unfit { expected, instead: None }) }
}

pub(super) fn target(text: &str) -> Result<String, Unfit> {
    const EXPECTED: &str = "a target such as ARGS:comment or REQUEST_COOKIES";
    let (variable, name) =
        text.split_once(':').map_or((text, None), |(variable, name)| (variable, Some(name)));
    let fits = !variable.is_empty()
        && variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.is_none_or(|name| {
            !name.is_empty() && !name.bytes().any(|b| b <= b' ' || b == 0x7f || b"\"'\\,|;".contains(&b))
        });
    if fits { Ok(text.to_owned()) } else { Err(Unfit { expected: EXPECTED, instead: None }) }
}

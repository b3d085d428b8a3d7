//! Secrets in what a log is told: a rule that matches within a password quotes it.

use std::borrow::Cow;

/// What stands in the place of a secret.
pub(crate) const MASK: &str = "***";
/// Names whose values are secrets, as parts of lower-case names.
const SECRET_NAMES: [&str; 19] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "private_key",
    "access_key",
    "verifier",
    "assertion",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "authorization",
    "cookie",
    "session",
    "credential",
    "cvv",
];
/// The same, as whole names, or the last part of a path such as `json.user.pass`.
const WHOLE_NAMES: [&str; 5] = ["pass", "pin", "otp", "code", "jwt"];
/// Words before a credential in `Authorization` (RFC 9110 §11.6.2).
const SCHEMES: [&str; 3] = ["bearer ", "basic ", "apikey "];
/// The shortest credential behind such a word, bytes: `Basic` with one letter of a user or password (RFC 7617). The
/// Core Rule Set has messages of "basic SQL authentication bypass".
const CREDENTIAL_BYTES_MIN: usize = 4;

/// The data of a match in `variable` (`ARGS:password`), as the log may show it.
pub fn mask<'t>(variable: &str, data: &'t str) -> Cow<'t, str> {
    if data.is_empty() {
        return Cow::Borrowed(data);
    }
    if is_secret(variable) || names_secret_variable(data) {
        return Cow::Borrowed(MASK);
    }
    let ends = secrets(data);
    if ends.is_empty() {
        return Cow::Borrowed(data);
    }
    let mut out = String::with_capacity(data.len());
    let mut from = 0;
    for (start, end) in ends {
        if start < from {
            continue;
        }
        out.push_str(data.get(from..start).unwrap_or_default());
        out.push_str(MASK);
        from = end;
    }
    out.push_str(data.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

/// The name of a variable (`ARGS:password`), as the log may show it: whoever sends JSON as a form
/// makes one name of all of it.
pub fn mask_name(variable: &str) -> Cow<'_, str> {
    let Some((collection, name)) = variable.split_once(':') else { return Cow::Borrowed(variable) };
    match mask("", name) {
        Cow::Borrowed(_) => Cow::Borrowed(variable),
        Cow::Owned(name) => Cow::Owned(format!("{collection}:{name}")),
    }
}

/// Whether what a variable holds is a secret by its name.
fn is_secret(variable: &str) -> bool {
    let lower = variable.to_ascii_lowercase();
    if lower.starts_with("request_cookies:") {
        return true;
    }
    lower.split_once(':').is_some_and(|(_, name)| is_secret_name(name))
}

fn is_secret_name(name: &str) -> bool {
    let last = name.trim_end_matches(']').rsplit(['.', '[']).next().unwrap_or_default();
    SECRET_NAMES.iter().any(|secret| name.contains(secret)) || WHOLE_NAMES.contains(&last)
}

/// Whether the data itself says where it is from: `… found within ARGS:password: …`.
fn names_secret_variable(data: &str) -> bool {
    data.split("found within ").skip(1).any(|rest| {
        let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
        is_secret(rest.get(..end).unwrap_or_default().trim_end_matches(':'))
    })
}

/// Where secrets begin and end, in their order.
fn secrets(data: &str) -> Vec<(usize, usize)> {
    let lower = data.to_ascii_lowercase();
    let mut found = Vec::new();
    for name in SECRET_NAMES {
        for (at, _) in lower.match_indices(name) {
            found.extend(value_behind(&lower, at + name.len()));
        }
    }
    for scheme in SCHEMES {
        for (at, _) in lower.match_indices(scheme) {
            let start = at + scheme.len();
            let end = end_of_value(&lower, start);
            if end - start >= CREDENTIAL_BYTES_MIN {
                found.push((start, end));
            }
        }
    }
    // A JSON Web Token begins with an encoded `{"`.
    for (at, _) in data.match_indices("eyJ") {
        let rest = data.get(at..).unwrap_or_default();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        if rest.get(..end).is_some_and(|token| token.matches('.').count() >= 2) {
            found.push((at, at + end));
        }
    }
    found.extend(keys::api_key_secrets(data.as_bytes()).map(|secret| (secret.start, secret.end)));
    found.extend(card_numbers(data));
    found.retain(|(start, end)| start < end);
    found.sort_unstable();
    found
}

/// The value behind a name: `name=value`, `"name": "value"`, and the same percent-encoded.
fn value_behind(lower: &str, from: usize) -> Option<(usize, usize)> {
    let mut rest = lower.get(from..)?;
    // The rest of the name, its quote and blanks.
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-]\"' ".contains(c));
        match strip_any(rest, &["%22", "%27", "%5d", "%20"]) {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    rest = strip_any(rest, &["=", ":", "%3d", "%3a"])?;
    while let Some(behind) = strip_any(rest, &[" ", "\"", "'", "%22", "%27", "%20"]) {
        rest = behind;
    }
    let start = lower.len() - rest.len();
    Some((start, end_of_value(lower, start)))
}

fn strip_any<'t>(text: &'t str, any: &[&str]) -> Option<&'t str> {
    any.iter().find_map(|prefix| text.strip_prefix(prefix))
}

fn end_of_value(lower: &str, start: usize) -> usize {
    let rest = lower.get(start..).unwrap_or_default();
    let plain = rest.find(|c: char| c.is_whitespace() || "&;,\"'}])<>".contains(c)).unwrap_or(rest.len());
    let ends = ["%22", "%27", "%26", "%2c", "%7d"].into_iter().filter_map(|end| rest.find(end));
    start + ends.chain([plain]).min().unwrap_or(plain)
}

/// Runs of 13 to 19 digits, perhaps with blanks or dashes, whose check digit is right.
fn card_numbers(data: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let bytes = data.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if !byte.is_ascii_digit() {
            at += 1;
            continue;
        }
        let run = bytes.get(at..).unwrap_or_default();
        let length = run.iter().take_while(|b| b.is_ascii_digit() || matches!(b, b' ' | b'-')).count();
        let digits: Vec<u8> =
            run.iter().take(length).filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect();
        if (13..=19).contains(&digits.len()) && luhn(&digits) {
            found.push((at, at + length));
        }
        at += length.max(1);
    }
    found
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| {
            let value = u32::from(digit) << (place % 2);
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::{mask, mask_name};

    #[test]
    fn secrets_are_masked_and_attacks_stay_readable() {
        for (variable, data, shown) in [
            ("ARGS:q", "Matched Data: union select found within ARGS:q: 1 union select 2", None),
            ("ARGS:password", "Matched Data: ' or 1=1 found", Some("***")),
            ("REQUEST_HEADERS:Authorization", "Basic dXNlcg==", Some("***")),
            ("REQUEST_COOKIES:sid", "abc", Some("***")),
            ("TX:1", "Matched Data: x found within ARGS:new_password: hunter2", Some("***")),
            ("REQUEST_BODY", "user=a&password=hunter2&x=<script>", Some("user=a&password=***&x=<script>")),
            (
                "REQUEST_BODY",
                "{\"client_secret\": \"s3cret\", \"q\":1}",
                Some("{\"client_secret\": \"***\", \"q\":1}"),
            ),
            ("", "Detects basic SQL authentication bypass attempts 1/3", None),
            ("ARGS:q", "x: Basic YTo= y", Some("x: Basic *** y")),
            ("ARGS:q", "Authorization: Bearer abc.def", Some("Authorization: *** ***")),
            ("ARGS:q", "x eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln y", Some("x *** y")),
            ("ARGS:json.user.pass", "Matched Data: x", Some("***")),
            ("ARGS:user[pass]", "Matched Data: x", Some("***")),
            ("ARGS:passenger", "Matched Data: x", None),
            ("ARGS:zipcode", "Matched Data: x", None),
            (
                "QUERY_STRING",
                "j=%7B%22password%22%3A%20%22hunter2%22%2C%22q%22%3A1",
                Some("j=%7B%22password%22%3A%20%22***%22%2C%22q%22%3A1"),
            ),
            ("QUERY_STRING", "user%5Bpassword%5D=hunter2&q=1", Some("user%5Bpassword%5D=***&q=1")),
            ("QUERY_STRING", "q=pass%77ord%20or%201", None),
            ("REQUEST_URI", "/keys/bst_0123456789AB_CDEFGHIJKLMN/x", Some("/keys/bst_0123456789AB_***/x")),
            ("ARGS:q", "card 4111 1111 1111 1111,", Some("card ***,")),
            ("ARGS:q", "number 4111 1111 1111 1112", None),
            ("ARGS:q", "eyJ is no token", None),
            ("ARGS:q", "the password was forgotten", None),
            ("", "", None),
        ] {
            assert_eq!(mask(variable, data), shown.unwrap_or(data), "{variable} {data}");
        }
    }

    #[test]
    fn a_name_that_holds_a_secret_is_masked_and_others_are_not() {
        for (variable, shown) in [
            (
                "ARGS_NAMES:{\"password\":\"hunter2\",\"q\":1}",
                Some("ARGS_NAMES:{\"password\":\"***\",\"q\":1}"),
            ),
            ("ARGS:x eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln", Some("ARGS:x ***")),
            ("ARGS:password", None),
            ("REQUEST_COOKIES:session", None),
            ("REQUEST_HEADERS:Authorization", None),
            ("ARGS:json.user.password", None),
            ("REQUEST_LINE", None),
        ] {
            assert_eq!(mask_name(variable), shown.unwrap_or(variable));
        }
    }

    #[test]
    fn fuzz_smoke_any_text_is_masked_without_panic() {
        proptest::proptest!(|(variable in ".{0,20}", data in "(password|token|=|:| |eyJ|[.]|[0-9]{4}|é|\"|.){0,30}")| {
            let _ = (mask(&variable, &data), mask_name(&format!("{variable}:{data}")));
        });
    }
}

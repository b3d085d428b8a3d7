//! Media types (RFC 9110 §8.3).

/// A media type as a message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType {
    /// `type/subtype`, lower case.
    pub(crate) essence: String,
    /// Parameters: lower-case name, value.
    pub(crate) parameters: Vec<(String, String)>,
}

/// How a body of some media type is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// `application/json` and everything that ends with `+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`.
    Multipart,
    /// `text/plain`.
    Text,
    /// Nothing that can be looked into.
    Opaque,
}

impl MediaType {
    /// Reads `type/subtype; name=value`. `None` when it is not exactly that.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (essence, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        let essence = essence.trim_ascii().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        while let Some(next) = rest.strip_prefix(';') {
            let next = next.trim_start_matches([' ', '\t']);
            if next.is_empty() || next.starts_with(';') {
                rest = next;
                continue;
            }
            let (name, value) = next.split_once('=')?;
            let (value, after) = value_of(value)?;
            let name = name.to_ascii_lowercase();
            // Given twice, two readers could believe another one. Given as RFC 2231 has it
            // (`boundary*=UTF-8''x`), some take it for the plain one.
            if !is_token(&name) || name.contains('*') || parameters.iter().any(|(known, _)| *known == name) {
                return None;
            }
            parameters.push((name, value.to_owned()));
            rest = after.trim_start_matches([' ', '\t']);
        }
        rest.is_empty().then_some(Self { essence, parameters })
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether text in it is UTF-8: it says so, or says nothing.
    pub(crate) fn is_utf8(&self) -> bool {
        self.parameter("charset").is_none_or(is_utf8)
    }

    /// Whether text in it that is more than ASCII is read as something else than UTF-8: some
    /// take `us-ascii` for Latin-1.
    pub(crate) fn is_ascii(&self) -> bool {
        self.parameter("charset").is_some_and(is_ascii)
    }

    pub(crate) fn reading(&self) -> Reading {
        reading(&self.essence)
    }
}

/// Whether text in a character set is UTF-8.
pub(crate) fn is_utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || is_ascii(charset)
}

fn is_ascii(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("us-ascii")
}

/// How a body of this essence is read.
pub(crate) fn reading(essence: &str) -> Reading {
    match essence {
        "application/json" => Reading::Json,
        "application/x-www-form-urlencoded" => Reading::Form,
        "multipart/form-data" => Reading::Multipart,
        "text/plain" => Reading::Text,
        other if other.ends_with("+json") => Reading::Json,
        _ => Reading::Opaque,
    }
}

/// How well a range (`application/json`, `image/*`, `*/*`) fits: 3 exactly, 2 by type,
/// 1 anything, 0 not at all.
pub(crate) fn fit(range: &str, essence: &str) -> u8 {
    if range == essence {
        return 3;
    }
    match range.strip_suffix("/*") {
        Some("*") => 1,
        Some(kind) if essence.split('/').next() == Some(kind) => 2,
        _ => 0,
    }
}

/// A parameter's value, token or quoted string, and what follows it.
fn value_of(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        // What is escaped is itself to some readers, and has the backslash still to others.
        return quoted.split_once('"').filter(|(value, _)| !value.contains('\\'));
    }
    let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
    Some(text.split_at(end)).filter(|(value, _)| is_token(value))
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_media_types_one_way() {
        let json = MediaType::parse(b"Application/JSON; Charset=\"UTF-8\"").unwrap();
        assert_eq!((json.essence.as_str(), json.is_utf8()), ("application/json", true));
        let form = MediaType::parse(b"multipart/form-data; boundary=\"a b\"").unwrap();
        assert_eq!(form.parameter("boundary"), Some("a b"));
        assert!(!MediaType::parse(b"text/plain;charset=utf-7").unwrap().is_utf8());
        for wrong in [
            &b""[..],
            b"json",
            b"application/",
            b"application/json, text/plain",
            b"application/json; charset",
            b"application/json; charset=utf-8; charset=utf-7",
            b"application/json; a=\"b",
            b"application/json x",
            // Werkzeug and Django take the parameters of RFC 2231 for the plain ones.
            b"multipart/form-data; boundary=x; boundary*=UTF-8''y",
            b"multipart/form-data; boundary=x; boundary*0=y",
            b"text/plain; charset=utf-8; charset*=''utf-7",
            // `xy` or `x\\y`.
            b"multipart/form-data; boundary=\"x\\y\"",
            b"application/json\xff",
        ] {
            assert_eq!(MediaType::parse(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn the_nearest_range_fits_best() {
        for (range, fits) in [("text/plain", 3), ("text/*", 2), ("*/*", 1), ("image/*", 0), ("text/html", 0)]
        {
            assert_eq!(fit(range, "text/plain"), fits, "{range}");
        }
    }
}

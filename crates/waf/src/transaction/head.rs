//! Heads taken apart into variables.

use super::{Connection, RequestHead, ResponseHead, body::query, state::State};
use crate::{body::BodyKind, ruleset::RuleSet, transform::Transformation, variable::Variable};
use std::{borrow::Cow, fmt::Display, io::Write as _};

/// A request target's parts, none of them decoded: what is decoded before it is parted may
/// be parted where the sender did not (`%3F`).
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    /// Path and query.
    uri: &'a [u8],
    path: &'a [u8],
    query: &'a [u8],
}

fn parts(target: &[u8]) -> Parts<'_> {
    let uri = match target.iter().position(|byte| *byte == b':') {
        // Absolute form: scheme and authority go.
        Some(colon)
            if target.first() != Some(&b'/')
                && target.get(colon..).is_some_and(|rest| rest.starts_with(b"://")) =>
        {
            let rest = target.get(colon + 3..).unwrap_or_default();
            rest.iter().position(|byte| b"/?".contains(byte)).and_then(|at| rest.get(at..)).unwrap_or(b"/")
        }
        _ => target,
    };
    match uri.iter().position(|byte| *byte == b'?') {
        Some(at) => {
            let (path, query) = uri.split_at(at);
            Parts { uri, path, query: query.get(1..).unwrap_or_default() }
        }
        None => Parts { uri, path: uri, query: b"" },
    }
}

fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/' || *byte == b'\\').next().unwrap_or_default()
}

/// The host of a Host header or authority, without its port.
fn host_name(host: &[u8]) -> &[u8] {
    if host.first() == Some(&b'[') {
        return host.split_inclusive(|byte| *byte == b']').next().unwrap_or(host);
    }
    host.split(|byte| *byte == b':').next().unwrap_or(host)
}

/// Fields of the same name are one, as recipients may read them (RFC 9110, 5.3); the rules
/// of the Core Rule Set are written for that.
fn merged<'a>(headers: &[(&'a [u8], &'a [u8])]) -> Vec<(&'a [u8], Cow<'a, [u8]>)> {
    let mut all: Vec<(&[u8], Cow<'_, [u8]>)> = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        match all.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => {
                let known = known.to_mut();
                known.extend_from_slice(if name.eq_ignore_ascii_case(b"cookie") { b"; " } else { b", " });
                known.extend_from_slice(value);
            }
            None => all.push((name, Cow::Borrowed(value))),
        }
    }
    all
}

/// What Python's frameworks read in a cookie's value in quotes: behind a backslash stands a letter, or
/// three octal digits. `None` where that is what stands there.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let inner = value.trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut rest = inner.get(memchr::memchr(b'\\', inner)?..)?;
    let mut plain = inner.get(..inner.len() - rest.len())?.to_vec();
    while let Some((&byte, after)) = rest.split_first() {
        let (letter, after) = match (byte, after) {
            (b'\\', [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', after @ ..]) => {
                ((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'), after)
            }
            (b'\\', [letter, after @ ..]) => (*letter, after),
            _ => (byte, after),
        };
        plain.push(letter);
        rest = after;
    }
    Some(plain)
}

/// A path with its percent-encodings decoded, each once; broken ones stay.
fn decoded(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let digit = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        let pair = digit(path.get(at + 1)).zip(digit(path.get(at + 2)));
        match pair.filter(|_| *byte == b'%') {
            Some((high, low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

impl State {
    /// From phase 2 on, a path is seen decoded, as behind a server that has mapped it.
    pub(super) fn decode_path(&mut self) {
        let Some(path) = self.store.members(Variable::RequestFilename).first().copied() else { return };
        let raw = self.store.values.value(path.value);
        if let Cow::Owned(path) = decoded(raw) {
            self.store.set(Variable::RequestFilename, &path);
            self.store.set(Variable::RequestBasename, basename(&path));
        }
    }

    /// Everything that is known before the head.
    pub(super) fn take_connection(&mut self, set: &RuleSet, unique_id: &str) {
        let Connection { client_address, client_port, server_address, server_port } = self.connection.clone();
        let (store, text) = (&mut self.store, &mut self.scratch);
        let mut put = |variables: &[Variable], value: &dyn Display| {
            for variable in variables.iter().filter(|variable| set.plan.uses(**variable)) {
                text.clear();
                let _ = write!(text, "{value}");
                store.set(*variable, text);
            }
        };
        put(&[Variable::RemoteAddr, Variable::RemoteHost, Variable::UseragentIp], &client_address);
        put(&[Variable::RemotePort], &client_port);
        put(&[Variable::ServerAddr], &server_address);
        put(&[Variable::ServerPort], &server_port);
        put(&[Variable::UniqueId], &unique_id);
        put(&[Variable::WebAppId], &set.settings.web_app_id);
        put(&[Variable::ModsecBuild], &env!("CARGO_PKG_VERSION"));
        put(&[Variable::UrlencodedError], &0);
    }

    /// A request's head.
    pub(super) fn take_request(&mut self, set: &RuleSet, head: &RequestHead<'_>) {
        let parts = parts(head.target);
        let store = &mut self.store;
        let singles = [
            (Variable::RequestLine, head.line),
            (Variable::RequestMethod, head.method),
            (Variable::RequestProtocol, head.protocol),
            (Variable::RequestUriRaw, head.target),
            (Variable::RequestUri, parts.uri),
            (Variable::RequestFilename, parts.path),
            (Variable::PathInfo, parts.path),
            (Variable::RequestBasename, basename(parts.path)),
            (Variable::QueryString, parts.query),
        ];
        for (variable, value) in singles {
            // Path, target and URI are mostly one: it is scanned once.
            match singles.iter().find(|(first, known)| *first != variable && *known == value) {
                Some((first, _)) if !store.members(*first).is_empty() => store.set_same(variable, *first),
                _ => store.set(variable, value),
            }
        }
        for (name, value) in merged(head.headers) {
            store.add_named(Variable::RequestHeaders, Variable::RequestHeadersNames, name, &value);
        }
        self.body.kind = None;
        for (name, value) in head.headers {
            if name.eq_ignore_ascii_case(b"content-type") {
                self.body.kind = self.body.kind.or(BodyKind::from_content_type(value));
            } else if name.eq_ignore_ascii_case(b"cookie") {
                self.cookies(set, value);
            } else if name.eq_ignore_ascii_case(b"authorization") {
                self.authorization(value);
            } else if name.eq_ignore_ascii_case(b"host") {
                self.store.set(Variable::ServerName, host_name(value));
            }
        }
        let parsed = query(set, parts.query);
        for (name, value) in &parsed.args {
            let name = name.as_deref().unwrap_or_default();
            self.store.add_named(Variable::ArgsGet, Variable::ArgsGetNames, name, value);
        }
        if parsed.urlencoded_error {
            self.store.set(Variable::UrlencodedError, b"1");
        }
        if let Some(error) = &parsed.error {
            self.store.set(Variable::ReqbodyError, b"1");
            self.store.set(Variable::ReqbodyErrorMsg, error.as_bytes());
        }
        self.body.query_error = parsed.error;
        self.combined_size();
        self.store.changed();
    }

    /// Fields behind the request's body: further headers.
    pub(super) fn take_trailers<'f>(&mut self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
        for (name, value) in fields {
            self.store.add_named(Variable::RequestHeaders, Variable::RequestHeadersNames, name, value);
        }
        self.store.changed();
    }

    /// `name=value; other=…`; values as sent. With `SecCookieFormat 1`, `$Version` and its
    /// kin are attributes, and quotes around values go (RFC 2965). A value in quotes with
    /// backslashes has a second one, as it is without them.
    fn cookies(&mut self, set: &RuleSet, header: &[u8]) {
        let rfc2965 = set.settings.cookie_format == 1;
        for pair in header.split(|byte| *byte == set.settings.cookie_separator) {
            let pair = pair.trim_ascii_start();
            let (name, written) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
                None => (pair, b"".as_slice()),
            };
            if name.is_empty() || (rfc2965 && name.first() == Some(&b'$')) {
                continue;
            }
            let inner = written.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
            let value = if rfc2965 { inner.unwrap_or(written) } else { written };
            self.store.add_named(Variable::RequestCookies, Variable::RequestCookiesNames, name, value);
            if let Some(plain) = unquoted(written) {
                self.store.add(Variable::RequestCookies, name, &plain);
            }
        }
    }

    fn authorization(&mut self, value: &[u8]) {
        let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
        let (scheme, rest) = value.split_at(end);
        self.store.set(Variable::AuthType, scheme);
        if scheme.eq_ignore_ascii_case(b"basic") {
            let decoded = Transformation::Base64Decode.apply(Cow::Borrowed(rest.trim_ascii()));
            let user = decoded.split(|byte| *byte == b':').next().unwrap_or_default();
            self.store.set(Variable::RemoteUser, user);
        }
    }

    /// The request as it came, put together again.
    pub(super) fn full_request(&mut self, body: &[u8]) {
        let mut all = Vec::new();
        if let Some(line) = self.store.members(Variable::RequestLine).first() {
            all.extend_from_slice(self.store.values.value(line.value));
        }
        all.extend_from_slice(b"\n");
        for header in self.store.members(Variable::RequestHeaders) {
            all.extend_from_slice(self.store.values.get(header.name));
            all.extend_from_slice(b": ");
            all.extend_from_slice(self.store.values.value(header.value));
            all.extend_from_slice(b"\n");
        }
        all.extend_from_slice(b"\n");
        all.extend_from_slice(body);
        self.store.set(Variable::FullRequestLength, all.len().to_string().as_bytes());
        self.store.set(Variable::FullRequest, &all);
    }

    /// A response's head.
    pub(super) fn take_response(&mut self, set: &RuleSet, head: &ResponseHead<'_>) {
        let status = head.status.to_string();
        let line = [head.protocol, b" ", status.as_bytes()].concat();
        let store = &mut self.store;
        store.set(Variable::ResponseStatus, status.as_bytes());
        store.set(Variable::ResponseProtocol, head.protocol);
        store.set(Variable::StatusLine, &line);
        let mut media_type = None;
        for (name, value) in head.headers {
            store.add_named(Variable::ResponseHeaders, Variable::ResponseHeadersNames, name, value);
            if name.eq_ignore_ascii_case(b"content-type") {
                media_type = media_type.or(Some(*value));
            } else if name.eq_ignore_ascii_case(b"content-length") {
                store.set(Variable::ResponseContentLength, value);
            }
        }
        store.set(Variable::ResponseContentType, media_type.unwrap_or_default());
        let media_type =
            media_type.map(|value| value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii());
        let listed = |wanted: &str| match media_type {
            Some(found) => wanted.as_bytes().eq_ignore_ascii_case(found),
            None => wanted == "(null)",
        };
        self.body.response_wanted =
            self.body.response_access && set.settings.response_body_types.iter().any(|wanted| listed(wanted));
        self.store.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parted_as_sent() {
        let show = |target: &str| {
            let parts = parts(target.as_bytes());
            [parts.uri, parts.path, parts.query].map(|part| String::from_utf8(part.to_vec()).unwrap())
        };
        assert_eq!(show("/a/b?c=d?e"), ["/a/b?c=d?e", "/a/b", "c=d?e"]);
        assert_eq!(show("/a%3Fb?c"), ["/a%3Fb?c", "/a%3Fb", "c"]);
        assert_eq!(show("//bar/x.php"), ["//bar/x.php", "//bar/x.php", ""]);
        assert_eq!(show("http://h:1/a?b"), ["/a?b", "/a", "b"]);
        assert_eq!(show("http://h"), ["/", "/", ""]);
        assert_eq!(show("http://h?x"), ["?x", "", "x"]);
        assert_eq!(show("*"), ["*", "*", ""]);
        assert_eq!(show("/a://b/c"), ["/a://b/c", "/a://b/c", ""]);
    }

    #[test]
    fn paths_are_decoded_once_and_broken_encodings_stay() {
        for (path, plain) in [("/a%28%2541%2", "/a(%41%2"), ("/%zz%", "/%zz%"), ("/a", "/a")] {
            assert_eq!(decoded(path.as_bytes()), plain.as_bytes(), "{path}");
        }
    }

    #[test]
    fn fields_of_one_name_are_one() {
        let headers: [(&[u8], &[u8]); 4] = [(b"A", b"1"), (b"B", b"2"), (b"a", b"3"), (b"Cookie", b"x=1")];
        let all = merged(&headers);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].1, b"1, 3".as_slice());
    }

    #[test]
    fn quotes_and_backslashes_are_taken_off_as_python_does() {
        for (value, plain) in [
            (r#""1\047 OR \0471""#, Some("1' OR '1")),
            (r#" "\e\v\\\"\400\08" "#, Some("ev\\\"40008")),
            (r#""a\""#, Some("a\\")),
            (r#""ab""#, None),
            (r#"a\047"#, None),
            (r#""\047"#, None),
            ("\"", None),
            ("", None),
        ] {
            assert_eq!(unquoted(value.as_bytes()).as_deref(), plain.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn hosts_lose_their_port() {
        assert_eq!(host_name(b"a.example:80"), b"a.example");
        assert_eq!(host_name(b"[::1]:80"), b"[::1]");
        assert_eq!(host_name(b"h"), b"h");
    }

    #[test]
    fn the_last_segment_is_the_basename() {
        assert_eq!(basename(b"/a/b.php"), b"b.php");
        assert_eq!(basename(b"/a\\b"), b"b");
        assert_eq!(basename(b"/a/"), b"");
    }
}

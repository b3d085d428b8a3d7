//! Heads as rules know them.

use proxy::head::Framing;
use proxy::{RequestHead, ResponseHead, Version};
use smallvec::SmallVec;

type Pairs<'a> = SmallVec<[(&'a [u8], &'a [u8]); 32]>;

/// A request's head, borrowed from where it lies.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    line: SmallVec<[u8; 256]>,
    method: &'a [u8],
    target: &'a [u8],
    protocol: &'a [u8],
    headers: Pairs<'a>,
}

impl<'a> Head<'a> {
    /// An admitted head: names as they were written, fields of this hop included. `cookies`
    /// stands in the place of those that it brings, where no upstream sees some of them: what
    /// is random and only the gateway's is no attack, whatever it reads like.
    pub(crate) fn admitted(head: &'a RequestHead, cookies: Option<&'a [u8]>) -> Self {
        let protocol: &[u8] = match head.version {
            Version::Http10 => b"HTTP/1.0",
            Version::Http11 => b"HTTP/1.1",
            Version::Http2 => b"HTTP/2.0",
            // Never shown: nothing of it can be read.
            Version::Opaque => b"",
        };
        // A chunked body has no length: where both were taken, the length counts for nothing
        // (RFC 9112 §6.3).
        let counts =
            |name: &[u8]| head.framing != Framing::Chunked || !name.eq_ignore_ascii_case(b"content-length");
        let mut kept = cookies.filter(|cookies| !cookies.is_empty());
        let shown = |(name, value): (&'a [u8], &'a [u8])| match cookies {
            Some(_) if name.eq_ignore_ascii_case(b"cookie") => Some((name, kept.take()?)),
            _ => counts(name).then_some((name, value)),
        };
        let mut made = Self {
            line: SmallVec::new(),
            method: head.method.as_str().as_bytes(),
            target: &head.raw_target,
            protocol,
            headers: head.written_fields().filter_map(shown).collect(),
        };
        // A client of HTTP/1.0 that names no host has none here either: rules ask whether there is one.
        if head.names_host() && !made.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host")) {
            // `:authority` is to HTTP/2 what `Host` is to HTTP/1 (RFC 9113 §8.3.1).
            made.headers.insert(0, (b"host", &head.host));
        }
        made.write_line();
        made
    }

    /// Whether a refused head came over HTTP/2: there its line is ours.
    pub(crate) fn is_http2(raw: &[u8]) -> bool {
        raw.split(|&byte| byte == b'\r').next().is_some_and(|line| line.ends_with(b" HTTP/2.0"))
    }

    /// What can be read of a head that admission refused, whatever is wrong with it;
    /// one of HTTP/2 as HTTP/1 would have written it.
    pub(crate) fn refused(raw: &'a [u8]) -> Self {
        let mut lines = raw
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .skip_while(|line| line.is_empty())
            .take_while(|line| !line.is_empty())
            // A CR alone ends a line for some readers, and is in a value for none.
            .flat_map(|line| line.split(|&byte| byte == b'\r'));
        let line = lines.next().unwrap_or_default();
        let mut words = line.splitn(2, |&byte| byte == b' ');
        let method = words.next().unwrap_or_default();
        let rest = words.next().unwrap_or_default();
        let (target, protocol) = match rest.iter().rposition(|&byte| byte == b' ') {
            Some(space) => (rest.get(..space).unwrap_or_default(), rest.get(space + 1..).unwrap_or_default()),
            None => (rest, &b""[..]),
        };
        let fields = lines.filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let (name, value) = line.split_at(colon);
            Some((name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii()))
        });
        Self { line: SmallVec::from_slice(line), method, target, protocol, headers: fields.collect() }
    }

    fn write_line(&mut self) {
        for part in [self.method, b" ", self.target, b" ", self.protocol] {
            self.line.extend_from_slice(part);
        }
    }

    /// As the engine takes it.
    pub(crate) fn as_engine(&self) -> waf::RequestHead<'_> {
        waf::RequestHead {
            line: &self.line,
            method: self.method,
            target: self.target,
            protocol: self.protocol,
            headers: &self.headers,
        }
    }
}

/// A response's fields as the upstream sent them.
pub(super) fn response_fields(head: &ResponseHead) -> Pairs<'_> {
    head.fields.all().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_refused_head_is_read_what_is_there() {
        for (raw, method, target, protocol, fields) in [
            (&b"GET /a HTTP/1.1\r\nHost: x\r\nA:b\r\n\r\n"[..], "GET", "/a", "HTTP/1.1", 2),
            (b"GET /a b HTTP/1.1\r\n\r\n", "GET", "/a b", "HTTP/1.1", 0),
            (b"GET /a\r\n\r\n", "GET", "/a", "", 0),
            (b"GET\r\n\r\n", "GET", "", "", 0),
            (b"\r\n\r\nGET /a JUNK\nno colon\nX : y\n\nbody: no", "GET", "/a", "JUNK", 1),
            (b"GET /a HTTP/1.1\r\nA: b\rC: d\r\n\r\n", "GET", "/a", "HTTP/1.1", 2),
            (b"", "", "", "", 0),
        ] {
            let head = Head::refused(raw);
            let head = head.as_engine();
            let text = |bytes| std::str::from_utf8(bytes).unwrap();
            assert_eq!(
                (text(head.method), text(head.target), text(head.protocol), head.headers.len()),
                (method, target, protocol, fields),
                "{raw:?}"
            );
        }
        let head = Head::refused(b"GET /a b HTTP/1.1\r\nX : y \r\n\r\n");
        let head = head.as_engine();
        assert_eq!(head.line, b"GET /a b HTTP/1.1");
        assert_eq!(head.headers, [(&b"X"[..], &b"y"[..])]);
    }
}

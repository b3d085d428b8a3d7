//! Raw HTTP/1 messages from files, read as leniently as the firewall's rules want them: what
//! is wrong with a message is for the rules to find.

use anyhow::{Context, bail};

/// Largest message, bytes.
pub(super) const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// A field: name and value.
type Field = (Vec<u8>, Vec<u8>);

/// A request as it came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) line: Vec<u8>,
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) protocol: Vec<u8>,
    pub(super) fields: Vec<Field>,
    pub(super) body: Vec<u8>,
    /// What the reader had to make up or leave out.
    pub(super) notes: Vec<String>,
}

/// An answer as it came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) protocol: Vec<u8>,
    pub(super) fields: Vec<Field>,
    pub(super) body: Vec<u8>,
    pub(super) notes: Vec<String>,
}

impl Request {
    /// Takes a request apart. Lines may end in LF alone.
    ///
    /// # Errors
    /// There is no request line.
    pub(super) fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let (line, fields, rest) = head(bytes).context("expected a request line such as GET / HTTP/1.1")?;
        let mut words = line.splitn(2, |&byte| byte == b' ');
        let method = words.next().unwrap_or_default();
        let rest_of_line = words.next().unwrap_or_default();
        let (target, protocol) = match rest_of_line.iter().rposition(|&byte| byte == b' ') {
            Some(space) => rest_of_line.split_at(space),
            None => (rest_of_line, &b""[..]),
        };
        if method.is_empty() || target.is_empty() {
            let shown = String::from_utf8_lossy(line).chars().take(60).collect::<String>();
            bail!("expected a request line such as GET / HTTP/1.1, found {shown:?}");
        }
        let (body, notes) = body(&fields, rest);
        Ok(Self {
            line: line.to_vec(),
            method: method.to_vec(),
            target: target.to_vec(),
            protocol: protocol.trim_ascii().to_vec(),
            fields,
            body,
            notes,
        })
    }
}

impl Response {
    /// Takes an answer apart, as [`Request::parse`] does.
    ///
    /// # Errors
    /// There is no status line.
    pub(super) fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let wanted = "expected a status line such as HTTP/1.1 200 OK";
        let (line, fields, rest) = head(bytes).context(wanted)?;
        let text = String::from_utf8_lossy(line);
        let mut words = text.split(' ');
        let protocol = words.next().unwrap_or_default();
        let status =
            words.next().and_then(|word| word.parse().ok()).filter(|status| (100..=999).contains(status));
        let Some(status) = status.filter(|_| protocol.starts_with("HTTP/")) else {
            bail!("{wanted}, found {:?}", text.chars().take(60).collect::<String>());
        };
        let (body, notes) = body(&fields, rest);
        Ok(Self { status, protocol: protocol.as_bytes().to_vec(), fields, body, notes })
    }
}

/// First line, fields, and what stands behind the empty line.
fn head(bytes: &[u8]) -> Option<(&[u8], Vec<Field>, &[u8])> {
    let mut rest = bytes;
    let mut line = b"".as_slice();
    while line.is_empty() && !rest.is_empty() {
        (line, rest) = cut_line(rest);
    }
    let first = (!line.is_empty()).then_some(line)?;
    let mut fields: Vec<Field> = Vec::new();
    while !rest.is_empty() {
        let (line, after) = cut_line(rest);
        rest = after;
        if line.is_empty() {
            break;
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
        } else if let Some(colon) = line.iter().position(|&byte| byte == b':') {
            let (name, value) = line.split_at(colon);
            fields
                .push((name.trim_ascii().to_vec(), value.get(1..).unwrap_or_default().trim_ascii().to_vec()));
        }
    }
    Some((first, fields, rest))
}

fn cut_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let (line, rest) = match end {
        Some(end) => (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default()),
        None => (bytes, &b""[..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// The body among what follows a head.
fn body(fields: &[Field], rest: &[u8]) -> (Vec<u8>, Vec<String>) {
    let field = |name: &str| {
        let found = fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.as_slice())
    };
    let mut notes = Vec::new();
    let is_blank = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
    if field("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().ends_with(b"chunked")) {
        let (body, whole) = unchunk(rest);
        if !whole {
            notes.push("the chunked body has no end: what is there is taken".to_owned());
        }
        return (body, notes);
    }
    let length =
        field("content-length").and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok());
    let Some(length) = length else {
        if is_blank(rest) {
            return (Vec::new(), notes);
        }
        notes.push("no Content-Length: all that follows the head is taken as its body".to_owned());
        return (rest.to_vec(), notes);
    };
    match rest.get(..length) {
        Some(body) => {
            let behind = rest.get(length..).unwrap_or_default();
            if !is_blank(behind) {
                notes.push(format!("{} bytes behind the body are not looked at", behind.len()));
            }
            (body.to_vec(), notes)
        }
        None => {
            notes.push(format!("Content-Length says {length}, the body has {} bytes", rest.len()));
            (rest.to_vec(), notes)
        }
    }
}

/// The data of chunks, and whether the last one came.
fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let (line, rest) = cut_line(bytes);
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(size).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        match size {
            Some(0) => return (body, true),
            Some(size) if rest.len() >= size => {
                let (data, after) = rest.split_at(size);
                body.extend_from_slice(data);
                bytes = cut_line(after).1;
            }
            _ => {
                body.extend_from_slice(if size.is_some() { rest } else { b"" });
                return (body, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_as_they_stand() {
        let request = Request::parse(
            b"\r\nPOST /a b?c HTTP/1.1\r\nHost: x\r\nA:1\r\n folded\r\nContent-Length: 3\r\n\r\nq=1\r\n",
        )
        .unwrap();
        assert_eq!(request.line, b"POST /a b?c HTTP/1.1");
        assert_eq!((request.method.as_slice(), request.target.as_slice()), (&b"POST"[..], &b"/a b?c"[..]));
        assert_eq!(request.protocol, b"HTTP/1.1");
        assert_eq!(request.fields[1], (b"A".to_vec(), b"1 folded".to_vec()));
        assert_eq!((request.body.as_slice(), request.notes.len()), (&b"q=1"[..], 0));
    }

    #[test]
    fn what_is_made_up_or_left_out_is_said() {
        for (rest, body, note) in [
            ("\nq=1", "q=1", "no Content-Length"),
            ("Content-Length: 2\n\nq=1", "q=", "1 bytes behind the body"),
            ("Content-Length: 9\n\nq=1", "q=1", "Content-Length says 9"),
            ("Transfer-Encoding: chunked\n\n2\nq=\n1\n1\n0\n\n", "q=1", ""),
            ("Transfer-Encoding: chunked\n\n2\r\nq=\r\n", "q=", "has no end"),
            ("\n\n", "", ""),
        ] {
            let request = Request::parse(format!("POST / HTTP/1.1\n{rest}").as_bytes()).unwrap();
            assert_eq!(String::from_utf8_lossy(&request.body), body, "{rest:?}");
            assert_eq!(request.notes.len(), usize::from(!note.is_empty()), "{rest:?} {:?}", request.notes);
            assert!(request.notes.iter().all(|said| said.contains(note)), "{:?}", request.notes);
        }
    }

    #[test]
    fn what_is_no_message_is_told() {
        for text in ["", "\r\n\r\n", "GET", "{\"a\":1}"] {
            assert!(Request::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        for text in ["", "GET / HTTP/1.1", "HTTP/1.1 OK", "HTTP/1.1 99 X"] {
            assert!(Response::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let answer = Response::parse(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>").unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"<p>"[..]));
    }

    proptest::proptest!(
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = Request::parse(&bytes);
            let _ = Response::parse(&bytes);
            let chunked = [b"POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n".as_slice(), &bytes].concat();
            let _ = Request::parse(&chunked);
        }
    );
}

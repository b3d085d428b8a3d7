//! Readers of HTTP/1 requests and responses as they are found in the wild: one that
//! takes the grammar of RFC 9112 and nothing else, and others with the leniencies that
//! made peers fall. Bytes on which two of them disagree are what smuggling is made of.

/// Which of two framings a reader believes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefer {
    /// Both together, and doubled ones, are an error.
    Neither,
    /// The coding.
    Coding,
    /// The first length.
    FirstLength,
    /// The last length.
    LastLength,
}

/// How a reader reads.
#[derive(Clone, Copy)]
pub(super) struct Model {
    pub(super) name: &'static str,
    prefer: Prefer,
    /// Nothing outside of the grammar is taken.
    strict: bool,
    /// LF alone ends a line.
    line_feed: bool,
    /// CR alone ends a line.
    carriage_return: bool,
    /// `X_Y` is `x-y`, `X Y` and `X.Y` too, as CGI and its heirs fold names.
    folds_names: bool,
    /// A coding counts when `chunked` is anywhere in it.
    loose_coding: bool,
}

const STRICT: Model = Model {
    name: "strict",
    prefer: Prefer::Neither,
    strict: true,
    line_feed: false,
    carriage_return: false,
    folds_names: false,
    loose_coding: false,
};

/// The reader that counts requests for the recording upstream, and the others.
pub(super) const MODELS: [Model; 7] = [
    STRICT,
    Model { name: "lenient", strict: false, prefer: Prefer::Coding, line_feed: true, ..STRICT },
    Model { name: "first-length", strict: false, prefer: Prefer::FirstLength, ..STRICT },
    Model { name: "last-length", strict: false, prefer: Prefer::LastLength, line_feed: true, ..STRICT },
    Model {
        name: "cgi",
        strict: false,
        prefer: Prefer::Coding,
        line_feed: true,
        folds_names: true,
        ..STRICT
    },
    Model {
        name: "loose-coding",
        strict: false,
        prefer: Prefer::Coding,
        line_feed: true,
        loose_coding: true,
        ..STRICT
    },
    Model {
        name: "bare-return",
        strict: false,
        prefer: Prefer::Coding,
        line_feed: true,
        carriage_return: true,
        loose_coding: true,
        folds_names: true,
    },
];

/// The reader of the recording upstream.
pub(super) const LENIENT: Model = MODELS[1];

/// One message as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Method and target, or version and status.
    pub(super) first: Vec<u8>,
    pub(super) second: Vec<u8>,
    /// The first `Host`.
    pub(super) host: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(super) complete: bool,
    /// Whether the sender waits for `100 Continue`.
    pub(super) expects: bool,
    /// Where it ends in what was read.
    pub(super) end: usize,
}

/// What stands behind the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    /// A head that has not ended.
    Partial,
    /// Bytes that this reader does not take.
    Malformed,
}

/// All messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) messages: Vec<Message>,
    pub(super) rest: Rest,
}

impl Reading {
    /// Messages whose body came to its end.
    pub(super) fn complete(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| message.complete)
    }
}

/// What the messages are.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    Requests,
    /// Answers to requests with these methods; `closed` says that nothing more comes.
    Responses {
        methods: &'a [&'a str],
        closed: bool,
    },
}

/// Reads everything.
pub(super) fn read(bytes: &[u8], model: Model, kind: Kind<'_>) -> Reading {
    let mut messages: Vec<Message> = Vec::new();
    let (mut at, mut finals) = (0, 0);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Reading { messages, rest: Rest::Nothing };
        }
        let Some((lines, length)) = head(rest, model) else {
            return Reading { messages, rest: Rest::Partial };
        };
        let Some(parsed) = parse(&lines, model, kind, finals) else {
            return Reading { messages, rest: Rest::Malformed };
        };
        let body = rest.get(length..).unwrap_or_default();
        let closed = matches!(kind, Kind::Responses { closed: true, .. });
        let Some(taken) = take(body, parsed.framing, model, closed) else {
            return Reading { messages, rest: Rest::Malformed };
        };
        at += length + taken.length;
        finals += usize::from(!parsed.interim);
        messages.push(Message {
            first: parsed.first,
            second: parsed.second,
            host: parsed.host,
            body: taken.data,
            complete: taken.complete,
            expects: parsed.expects,
            end: at,
        });
        if !taken.complete {
            return Reading { messages, rest: Rest::Nothing };
        }
    }
}

/// The lines of the head that `bytes` begins with, and its length.
fn head(bytes: &[u8], model: Model) -> Option<(Vec<Vec<u8>>, usize)> {
    let (mut lines, mut at) = (Vec::new(), 0);
    loop {
        let rest = bytes.get(at..)?;
        let (line, length) = line(rest, model)?;
        at += length;
        if line.is_empty() && !lines.is_empty() {
            return Some((lines, at));
        }
        // Empty lines in front of a head are skipped by most.
        if !line.is_empty() || model.strict {
            lines.push(line.to_vec());
        }
    }
}

/// The line that `bytes` begins with, and its length with its end.
fn line(bytes: &[u8], model: Model) -> Option<(&[u8], usize)> {
    for (at, byte) in bytes.iter().enumerate() {
        let next = bytes.get(at + 1);
        let length = match byte {
            b'\r' if next == Some(&b'\n') => 2,
            b'\r' if model.carriage_return && next.is_some() => 1,
            b'\n' if model.line_feed => 1,
            _ => continue,
        };
        return Some((bytes.get(..at)?, at + length));
    }
    None
}

#[derive(Clone, Copy)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

struct Parsed {
    first: Vec<u8>,
    second: Vec<u8>,
    host: Vec<u8>,
    framing: Framing,
    expects: bool,
    interim: bool,
}

fn parse(lines: &[Vec<u8>], model: Model, kind: Kind<'_>, finals: usize) -> Option<Parsed> {
    let (start, fields) = lines.split_first()?;
    let mut words = start.split(|&byte| byte == b' ');
    let (first, second, third) = (words.next()?.to_vec(), words.next()?.to_vec(), words.next());
    let version = match kind {
        Kind::Requests => third.unwrap_or_default().to_vec(),
        Kind::Responses { .. } => first.clone(),
    };
    let foreign = |line: &[u8]| line.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127));
    if model.strict {
        let start_is_odd = match kind {
            Kind::Requests => words.next().is_some() || second.is_empty() || first.is_empty(),
            Kind::Responses { .. } => second.len() != 3,
        };
        let known = matches!(version.as_slice(), b"HTTP/1.1" | b"HTTP/1.0");
        if start_is_odd || !known || lines.iter().any(|line| foreign(line)) {
            return None;
        }
    }
    let mut met = Fields::default();
    let (methods, requests) = match kind {
        Kind::Requests => (&[][..], true),
        Kind::Responses { methods, .. } => (methods, false),
    };
    // Clients do not fold names.
    let model = Model { folds_names: model.folds_names && requests, ..model };
    for line in fields {
        met.take(line, model)?;
    }
    let status = std::str::from_utf8(&second).ok().and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
    let interim = !requests && (100..200).contains(&status) && status != 101;
    let old = version == b"HTTP/1.0";
    let asked = methods.get(finals).copied().unwrap_or("GET");
    let bodiless = !requests && (interim || matches!(status, 204 | 304) || asked == "HEAD");
    let framing = if bodiless { Framing::None } else { met.framing(model, requests, old)? };
    Some(Parsed { first, second, host: met.host.unwrap_or_default(), framing, expects: met.expects, interim })
}

/// What the fields of one message say.
#[derive(Default)]
struct Fields {
    host: Option<Vec<u8>>,
    lengths: Vec<Vec<u8>>,
    codings: Vec<Vec<u8>>,
    expects: bool,
}

impl Fields {
    /// Reads one line; `None` when the reader refuses it.
    fn take(&mut self, line: &[u8], model: Model) -> Option<()> {
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        if folded && model.strict {
            return None;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            // A line that continues the one before, or one that says nothing.
            return if model.strict { None } else { Some(()) };
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if model.strict && (name.is_empty() || !name.iter().all(is_token)) {
            return None;
        }
        let mut name = name.trim_ascii().to_ascii_lowercase();
        if model.folds_names {
            for byte in &mut name {
                if matches!(byte, b'_' | b'.' | b' ') {
                    *byte = b'-';
                }
            }
        }
        match name.as_slice() {
            b"host" if self.host.is_some() && model.strict => return None,
            b"host" => drop(self.host.get_or_insert_with(|| value.to_vec())),
            b"content-length" => self.lengths.push(value.to_vec()),
            b"transfer-encoding" => self.codings.push(value.to_vec()),
            b"expect" => self.expects = value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        Some(())
    }

    fn framing(&self, model: Model, request: bool, old: bool) -> Option<Framing> {
        let number = |text: &Vec<u8>| number(text, model);
        let is_chunked = |value: &Vec<u8>| {
            let value = value.to_ascii_lowercase();
            value == b"chunked" || (model.loose_coding && value.windows(7).any(|part| part == b"chunked"))
        };
        let chunked = self.codings.iter().any(is_chunked);
        let none = if request { Framing::None } else { Framing::Close };
        if model.strict {
            let bad_coding = self.codings.len() > 1 || (!self.codings.is_empty() && (!chunked || old));
            if bad_coding || self.lengths.len() > 1 || (chunked && !self.lengths.is_empty()) {
                return None;
            }
        }
        let length = match model.prefer {
            Prefer::LastLength => self.lengths.last(),
            _ => self.lengths.first(),
        };
        match (model.prefer, length) {
            (Prefer::FirstLength | Prefer::LastLength, Some(text)) => Some(Framing::Length(number(text)?)),
            _ if chunked => Some(Framing::Chunked),
            (_, Some(text)) => Some(Framing::Length(number(text)?)),
            _ => Some(none),
        }
    }
}

/// A length; lenient readers take its leading digits, as `strtol` does.
fn number(text: &[u8], model: Model) -> Option<u64> {
    if model.strict {
        let plain = !text.is_empty() && text.len() < 19 && text.iter().all(u8::is_ascii_digit);
        return if plain { std::str::from_utf8(text).ok()?.parse().ok() } else { None };
    }
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits: Vec<u8> = text.iter().copied().take_while(u8::is_ascii_digit).collect();
    Some(digits.iter().fold(0_u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))))
}

struct Taken {
    data: Vec<u8>,
    length: usize,
    complete: bool,
}

/// The body that `bytes` begins with; `None` when its chunks are malformed to this
/// reader.
fn take(bytes: &[u8], framing: Framing, model: Model, closed: bool) -> Option<Taken> {
    match framing {
        Framing::None => Some(Taken { data: Vec::new(), length: 0, complete: true }),
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
            let complete = matches!(framing, Framing::Length(all) if all <= bytes.len() as u64);
            Some(Taken { data: bytes.get(..length)?.to_vec(), length, complete })
        }
        Framing::Close => Some(Taken { data: bytes.to_vec(), length: bytes.len(), complete: closed }),
        Framing::Chunked => chunks(bytes, model),
    }
}

fn chunks(bytes: &[u8], model: Model) -> Option<Taken> {
    let (mut data, mut at) = (Vec::new(), 0);
    let partial = |data: Vec<u8>| Some(Taken { data, length: bytes.len(), complete: false });
    loop {
        let Some((text, length)) = line(bytes.get(at..)?, model) else { return partial(data) };
        let size = chunk_size(text, model)?;
        at += length;
        if size == 0 {
            break;
        }
        let end = at.saturating_add(size);
        let Some(piece) = bytes.get(at..end) else {
            data.extend_from_slice(bytes.get(at..).unwrap_or_default());
            return partial(data);
        };
        data.extend_from_slice(piece);
        at = end;
        let Some((text, length)) = line(bytes.get(at..)?, model) else { return partial(data) };
        if !text.is_empty() && model.strict {
            return None;
        }
        at += length;
    }
    // Trailers.
    loop {
        let Some((text, length)) = line(bytes.get(at..)?, model) else { return partial(data) };
        at += length;
        if text.is_empty() {
            return Some(Taken { data, length: at, complete: true });
        }
        if model.strict && !text.contains(&b':') {
            return None;
        }
    }
}

fn chunk_size(text: &[u8], model: Model) -> Option<usize> {
    let (size, extension) = match text.iter().position(|&byte| byte == b';') {
        Some(at) => text.split_at(at),
        None => (text, &[][..]),
    };
    if model.strict {
        let odd = extension.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127));
        if odd || size.len() > 15 {
            return None;
        }
        return usize::from_str_radix(std::str::from_utf8(size).ok()?, 16)
            .ok()
            .filter(|_| !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit));
    }
    let size = size.trim_ascii();
    let size = size.strip_prefix(b"+").unwrap_or(size);
    let size = size.strip_prefix(b"0x").unwrap_or(size);
    let digits: String =
        size.iter().map(|&byte| char::from(byte)).take_while(char::is_ascii_hexdigit).collect();
    if digits.is_empty() {
        return None;
    }
    let last = digits.get(digits.len().saturating_sub(16)..)?;
    u64::from_str_radix(last, 16).ok().and_then(|size| usize::try_from(size).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(bytes: &[u8]) -> Vec<String> {
        let show = |model: &Model| {
            let reading = read(bytes, *model, Kind::Requests);
            let shown: Vec<_> = reading
                .complete()
                .map(|message| String::from_utf8_lossy(&message.second).into_owned())
                .collect();
            format!("{} {:?} {}", model.name, reading.rest, shown.join(" "))
        };
        MODELS.iter().map(show).collect()
    }

    #[test]
    fn honest_requests_are_read_alike() {
        for honest in [
            &b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nPOST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"[..],
            b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nx: 1\r\n\r\n",
        ] {
            let one = read(honest, STRICT, Kind::Requests);
            assert!(one.rest == Rest::Nothing && one.messages.iter().all(|message| message.complete));
            for model in MODELS {
                assert_eq!(read(honest, model, Kind::Requests), one, "{}", model.name);
            }
        }
    }

    #[test]
    fn each_leniency_reads_something_differently() {
        let get = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        for (attack, model) in [
            (
                format!(
                    "content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{get}",
                    get.len() + 5
                ),
                "first-length",
            ),
            (format!("content-length: 0\r\ncontent-length: {}\r\n\r\n{get}", get.len()), "last-length"),
            (format!("content_length: {}\r\n\r\n{get}", get.len()), "cgi"),
            (
                format!(
                    "content-length: {}\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{get}",
                    get.len() + 5
                ),
                "loose-coding",
            ),
            (format!("x: y\rcontent-length: {}\r\n\r\n{get}", get.len()), "bare-return"),
            (format!("x: y\ncontent-length: {}\r\n\r\n{get}", get.len()), "lenient"),
        ] {
            let bytes = format!("POST /a HTTP/1.1\r\nhost: a\r\n{attack}");
            let all = bodies(bytes.as_bytes());
            let own = all.iter().find(|shown| shown.starts_with(model)).unwrap();
            let other =
                all.iter().any(|shown| shown.split_once(' ').unwrap().1 != own.split_once(' ').unwrap().1);
            assert!(other, "{model} reads it as all others: {all:?}");
        }
    }

    #[test]
    fn responses_end_where_their_request_says() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\n\r\nall";
        let kind = Kind::Responses { methods: &["HEAD", "GET"], closed: true };
        for model in MODELS {
            let reading = read(bytes, model, kind);
            let bodies: Vec<_> = reading.messages.iter().map(|message| message.body.as_slice()).collect();
            assert_eq!(bodies, [&b""[..], b"", b"all"], "{}", model.name);
        }
    }
}

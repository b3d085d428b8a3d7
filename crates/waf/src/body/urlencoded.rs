//! `application/x-www-form-urlencoded`, and the query of a target, which has the same
//! form.

use super::{BodyLimits, Parsed, over_arguments_limit, over_no_files_limit};

/// Reads a form.
#[derive(Debug)]
pub(crate) struct Urlencoded {
    parsed: Parsed,
    /// The argument that is being read, still encoded.
    token: Vec<u8>,
    /// Whether anything came after the last separator.
    open: bool,
    bytes: u64,
    bytes_max: u64,
    arguments_max: usize,
    separator: u8,
}

impl Urlencoded {
    pub(super) fn new(limits: &BodyLimits) -> Self {
        Self {
            parsed: Parsed::default(),
            token: Vec::new(),
            open: false,
            bytes: 0,
            bytes_max: limits.no_files_bytes_max,
            arguments_max: limits.arguments_max,
            separator: limits.separator,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.parsed.error.is_some() {
            return;
        }
        // What fits is read: the rules see it even when the rest is refused.
        let room = usize::try_from(self.bytes_max.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.bytes += taken.len() as u64;
        let mut rest = taken;
        while let Some(end) = memchr::memchr(self.separator, rest) {
            let (token, after) = rest.split_at(end);
            self.token.extend_from_slice(token);
            rest = after.get(1..).unwrap_or_default();
            self.argument();
            if self.parsed.error.is_some() {
                return;
            }
        }
        self.open |= !rest.is_empty();
        self.token.extend_from_slice(rest);
        if taken.len() < bytes.len() {
            self.end();
            self.parsed.error.get_or_insert_with(|| over_no_files_limit(self.bytes_max));
            self.parsed.over_no_files_limit = true;
        }
    }

    pub(super) fn finish(mut self) -> Parsed {
        self.end();
        self.parsed
    }

    /// What stands behind the last separator, when there is something.
    fn end(&mut self) {
        if std::mem::take(&mut self.open) && self.parsed.error.is_none() {
            self.argument();
        }
    }

    fn argument(&mut self) {
        self.open = false;
        if self.parsed.args.len() >= self.arguments_max {
            self.parsed.error = Some(over_arguments_limit(self.arguments_max));
            return;
        }
        let (name, value, broken) = split(&self.token);
        self.parsed.args.push((Some(name), value));
        self.parsed.urlencoded_error |= broken;
        self.token.clear();
    }
}

/// Name and value of one argument, decoded; whether a percent-encoding was broken.
fn split(token: &[u8]) -> (Vec<u8>, Vec<u8>, bool) {
    let mut broken = false;
    let equals = memchr::memchr(b'=', token).unwrap_or(token.len());
    let (name, rest) = token.split_at(equals);
    let name = decode(name, &mut broken);
    let value = decode(rest.get(1..).unwrap_or_default(), &mut broken);
    (name, value, broken)
}

/// Undoes percent-encoding and `+`. A broken encoding stays as it is.
pub(crate) fn decode(text: &[u8], broken: &mut bool) -> Vec<u8> {
    let Some(first) = memchr::memchr2(b'%', b'+', text) else { return text.to_vec() };
    let mut out = Vec::with_capacity(text.len());
    let (plain, mut rest) = text.split_at(first);
    out.extend_from_slice(plain);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => out.push(b' '),
            b'%' => match after {
                [high, low, beyond @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                    out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                    rest = beyond;
                }
                _ => {
                    *broken = true;
                    out.push(b'%');
                }
            },
            other => out.push(other),
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

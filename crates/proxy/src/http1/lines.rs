//! Finding the end of a head, line by line, without looking at a byte twice.

use bytes::BytesMut;

use crate::admit::Class;
use crate::head::{Field, Known, Span, is_field_value};
use crate::limits::Limits;

/// Where the search for a head's end stands. Kept between reads.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Bytes that were searched.
    searched: usize,
    /// Where the current line begins.
    line: usize,
    /// Lines that have ended.
    lines: usize,
}

/// Where a head ends, or why there is none.
pub(super) enum Found {
    /// The head is the first so many bytes.
    Head(usize),
    /// More bytes are needed.
    Partial,
}

impl Search {
    /// Looks for the empty line that ends a head. Refuses a line that ends with LF
    /// alone, and a head that cannot become complete within its limits.
    pub(super) fn advance(&mut self, buffer: &[u8], limits: &Limits) -> Result<Found, Class> {
        let fresh = buffer.get(self.searched..).unwrap_or_default();
        for offset in memchr::memchr_iter(b'\n', fresh) {
            let end = self.searched + offset;
            if end == 0 || buffer.get(end - 1) != Some(&b'\r') {
                return Err(Class::BareLineFeed);
            }
            // The line's bytes without CR LF.
            if end - 1 == self.line && self.lines > 0 {
                let head = end + 1;
                if head > limits.head_bytes_max {
                    return Err(Class::HeadTooLarge);
                }
                *self = Self::default();
                return Ok(Found::Head(head));
            }
            self.line = end + 1;
            self.lines += 1;
            // The start line, the fields, and the line that is still open.
            if self.lines > limits.header_count_max + 1 {
                return Err(Class::TooManyHeaders);
            }
        }
        self.searched = buffer.len();
        if buffer.len() >= limits.head_bytes_max {
            return Err(Class::HeadTooLarge);
        }
        Ok(Found::Partial)
    }

    /// Whether a head has begun.
    pub(super) fn begun(&self) -> bool {
        self.searched > 0
    }
}

/// Notes the fields that `httparse` found as spans of `head`, folds their names to
/// lower case in place, and says which they are.
pub(super) fn fold(head: &mut BytesMut, list: &mut [Field]) {
    for field in list {
        let start = field.name.start as usize;
        if let Some(name) = head.get_mut(start..start + field.name.length as usize) {
            name.make_ascii_lowercase();
            field.known = Known::of(name);
        }
    }
}

/// The span of a part of `head`. Both are slices of one buffer.
pub(super) fn span(head: &[u8], part: &[u8]) -> Span {
    Span::new((part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize), part.len())
}

/// Appends parsed fields to `list`.
///
/// # Errors
/// A value holds a control character.
pub(super) fn note(head: &[u8], parsed: &[httparse::Header<'_>], list: &mut Vec<Field>) -> Result<(), Class> {
    list.reserve(parsed.len());
    for header in parsed {
        if !is_field_value(header.value) {
            return Err(Class::ControlInHeader);
        }
        list.push(Field {
            name: span(head, header.name.as_bytes()),
            value: span(head, header.value),
            known: Known::Other,
            kept: true,
        });
    }
    Ok(())
}

/// Whether the third word of the request line means to be a version. HTTP/0.9 had none to
/// name.
fn names_a_version(head: &[u8]) -> bool {
    let third = head.split(|&byte| byte == b' ').nth(2).unwrap_or_default();
    let is_http = third.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"));
    is_http && third.get(5) != Some(&b'0')
}

/// Says what is wrong with a head that `httparse` does not take: walks its lines once
/// more, for the name of the class only.
pub(super) fn diagnose(head: &[u8], error: httparse::Error) -> Class {
    match error {
        httparse::Error::Version if names_a_version(head) => return Class::BadVersion,
        httparse::Error::TooManyHeaders => return Class::TooManyHeaders,
        _ => {}
    }
    let has_bare_return = |line: &[u8]| memchr::memchr(b'\r', line).is_some();
    for (number, line) in head.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if has_bare_return(line) {
            return Class::BareCarriageReturn;
        }
        if number == 0 || line.is_empty() {
            continue;
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Class::ObsFold;
        }
        let Some(colon) = memchr::memchr(b':', line) else { return Class::BadHeaderName };
        let (name, value) = line.split_at(colon);
        if matches!(name.last(), Some(b' ' | b'\t')) {
            return Class::SpaceBeforeColon;
        }
        if name.is_empty() || !name.iter().all(|&byte| crate::head::is_token(byte)) {
            return Class::BadHeaderName;
        }
        if !is_field_value(value) {
            return Class::ControlInHeader;
        }
    }
    Class::BadRequestLine
}

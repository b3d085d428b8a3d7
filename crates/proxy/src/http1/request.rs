//! Request heads (RFC 9112 §3).

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};

use super::lines::{self, Found, Search};
use crate::admit::{Class, RawRequest, Refusal};
use crate::head::{Field, Fields, Version};
use crate::limits::Limits;

/// Room for parsed fields; `header_count_max` cannot be set past it.
pub(super) const FIELDS_MAX: usize = 256;

/// Reads the request heads of one connection, one after the other.
#[derive(Debug, Default)]
pub struct Reader {
    search: Search,
    skipped_line: bool,
    spare: Vec<Field>,
    /// Whether heads are also kept as they were written.
    pub keep_written: bool,
}

impl Reader {
    /// For a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands a list in whose memory the next head uses again.
    pub fn recycle(&mut self, fields: Fields) {
        if fields.list.capacity() > self.spare.capacity() {
            self.spare = fields.list;
        }
    }

    /// Whether a byte of the next head has come: from then on `header_read_ms_max` runs.
    pub fn begun(&self) -> bool {
        self.search.begun() || self.skipped_line
    }

    /// Takes the next head out of `buffer`; `None` when more bytes are needed. What
    /// follows the head stays in `buffer`. Call again when bytes were appended, with
    /// the same buffer, which nothing else may shorten in between.
    ///
    /// # Errors
    /// The head is malformed or over a limit. The connection cannot be read further.
    pub fn read(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Option<RawRequest>, Refusal> {
        // One empty line is skipped (RFC 9112 §2.2): old clients send it after a body.
        if !self.skipped_line && !self.search.begun() {
            match buffer.get(..2) {
                Some(b"\r\n") => {
                    buffer.advance(2);
                    self.skipped_line = true;
                }
                None if buffer.first() == Some(&b'\r') => return Ok(None),
                _ => {}
            }
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        let found = self.search.advance(buffer, limits);
        if line_too_long(buffer, limits) {
            return Err(refuse(Class::TargetTooLong, buffer, limits));
        }
        let length = match found {
            Ok(Found::Head(length)) => length,
            Ok(Found::Partial) => return Ok(None),
            Err(class) => return Err(refuse(class, buffer, limits)),
        };
        self.skipped_line = false;
        let head = buffer.split_to(length);
        parse(head, std::mem::take(&mut self.spare), limits, self.keep_written).map(Some)
    }
}

/// Whether the request line, ended or not, is longer than any allowed target needs: the
/// same however the bytes came.
fn line_too_long(buffer: &[u8], limits: &Limits) -> bool {
    // The longest method that is served, two spaces, the version, CR LF.
    const AROUND: usize = 64;
    let most = limits.uri_bytes_max + AROUND;
    buffer.len() > most && memchr::memchr(b'\n', buffer.get(..most).unwrap_or_default()).is_none()
}

fn refuse(class: Class, buffer: &mut BytesMut, limits: &Limits) -> Refusal {
    let length = buffer.len().min(limits.head_bytes_max);
    Refusal::of_raw_head(class, buffer.split_to(length).freeze())
}

/// Parses a complete head.
fn parse(
    mut head: BytesMut,
    mut list: Vec<Field>,
    limits: &Limits,
    keep_written: bool,
) -> Result<RawRequest, Refusal> {
    list.clear();
    match parse_lines(&head, &mut list) {
        Ok((method, target, version)) if target.length as usize <= limits.uri_bytes_max => {
            let written = if keep_written { Bytes::copy_from_slice(&head) } else { Bytes::new() };
            lines::fold(&mut head, &mut list);
            let fields = Fields { buffer: head.freeze(), list };
            Ok(RawRequest {
                version,
                fields,
                method,
                target,
                authority: None,
                ended: false,
                written,
                local: None,
            })
        }
        Ok(_) => Err(Refusal::of_raw_head(Class::TargetTooLong, head.freeze())),
        Err(class) => Err(Refusal::of_raw_head(class, head.freeze())),
    }
}

type RequestLine = (crate::head::Span, crate::head::Span, Version);

fn parse_lines(head: &[u8], list: &mut Vec<Field>) -> Result<RequestLine, Class> {
    // `httparse` would skip empty lines in front; one was skipped before, and no more.
    if matches!(head.first(), None | Some(b'\r' | b'\n')) {
        return Err(Class::BadRequestLine);
    }
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut room) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Class::BadRequestLine),
        Err(error) => return Err(lines::diagnose(head, error)),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Class::BadRequestLine);
    };
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    lines::note(head, request.headers, list)?;
    Ok((lines::span(head, method.as_bytes()), lines::span(head, target.as_bytes()), version))
}

#[cfg(test)]
mod tests;

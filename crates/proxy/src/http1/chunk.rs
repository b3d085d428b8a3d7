//! The chunked coding (RFC 9112 §7.1), by its grammar and nothing beside it: every
//! line ends with CR LF, sizes have no sign or space, extensions are bounded and
//! dropped, trailers carry nothing that a head decides.

use bytes::{Buf, BytesMut};

use crate::admit::path::hexadecimal;
use crate::admit::{Class, is_known_alias, is_protected};
use crate::exchange::Frame;
use crate::head::{Fields, FieldsBuilder, Known, is_field_value, is_token};
use crate::limits::Limits;

/// Most digits of a chunk size: 15 fit a `u64` with room, and no honest chunk has more.
const SIZE_DIGITS_MAX: usize = 15;

/// Reads one chunked body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extension_bytes_max: usize,
    trailer_bytes_max: usize,
    trailer_count_max: usize,
    /// Bytes of the trailer section so far.
    trailer_bytes: usize,
    trailers: FieldsBuilder,
    trailer_count: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a size, after so many digits.
    Size { size: u64, digits: usize },
    /// In the extensions of a chunk of this size.
    Extension { size: u64, bytes: usize, quoted: Quoted },
    /// After the CR behind a size or its extensions.
    SizeLineFeed { size: u64 },
    /// In a chunk's data.
    Data { left: u64 },
    /// After a chunk's data.
    DataReturn,
    /// After the CR behind a chunk's data.
    DataLineFeed,
    /// In the trailer section. So many bytes of the open line were searched.
    Trailer { searched: usize },
}

/// Where a chunk extension stands in a quoted string (RFC 9110 §5.6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoted {
    No,
    Yes,
    /// After a backslash.
    Escape,
}

impl Decoder {
    /// For a new body.
    pub fn new(limits: &Limits) -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            extension_bytes_max: limits.chunk_extension_bytes_max,
            trailer_bytes_max: limits.trailer_bytes_max,
            trailer_count_max: limits.header_count_max,
            trailer_bytes: 0,
            trailers: FieldsBuilder::default(),
            trailer_count: 0,
        }
    }

    /// The next piece out of `buffer`, `None` when more bytes are needed. `Trailers`
    /// or `End` is the last.
    ///
    /// # Errors
    /// Anything outside the grammar.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Class> {
        loop {
            match self.state {
                State::Data { left } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    if take == 0 {
                        return Ok(None);
                    }
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataReturn } else { State::Data { left } };
                    return Ok(Some(Frame::Data(buffer.split_to(take).freeze())));
                }
                State::Trailer { searched } => return self.trailer(buffer, searched),
                _ => {
                    let Some(&byte) = buffer.first() else { return Ok(None) };
                    self.state = self.step(byte)?;
                    buffer.advance(1);
                }
            }
        }
    }

    /// One byte of the lines around the data.
    fn step(&self, byte: u8) -> Result<State, Class> {
        match (self.state, byte) {
            (State::Size { size, digits }, b'\r') if digits > 0 => Ok(State::SizeLineFeed { size }),
            (State::Size { size, digits }, b';') if digits > 0 => self.extension(size, 1, Quoted::No),
            (State::Size { size, digits }, _) => {
                let digit = hexadecimal(byte).ok_or(Class::BadChunk)?;
                if digits == SIZE_DIGITS_MAX {
                    return Err(Class::BadChunk);
                }
                Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (State::Extension { size, quoted: Quoted::No, .. }, b'\r') => Ok(State::SizeLineFeed { size }),
            (State::Extension { size, bytes, quoted }, _) => {
                if !is_field_value(&[byte]) {
                    return Err(Class::BadChunk);
                }
                let quoted = match (quoted, byte) {
                    (Quoted::No, b'"') | (Quoted::Escape, _) => Quoted::Yes,
                    (Quoted::Yes, b'"') => Quoted::No,
                    (Quoted::Yes, b'\\') => Quoted::Escape,
                    (same, _) => same,
                };
                self.extension(size, bytes + 1, quoted)
            }
            (State::SizeLineFeed { size: 0 }, b'\n') => Ok(State::Trailer { searched: 0 }),
            (State::SizeLineFeed { size }, b'\n') => Ok(State::Data { left: size }),
            (State::DataReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Ok(State::Size { size: 0, digits: 0 }),
            _ => Err(Class::BadChunk),
        }
    }

    fn extension(&self, size: u64, bytes: usize, quoted: Quoted) -> Result<State, Class> {
        if bytes > self.extension_bytes_max {
            return Err(Class::ChunkExtensionTooLong);
        }
        Ok(State::Extension { size, bytes, quoted })
    }

    /// The trailer section, line by line.
    fn trailer(&mut self, buffer: &mut BytesMut, mut searched: usize) -> Result<Option<Frame>, Class> {
        loop {
            let Some(at) = memchr::memchr(b'\n', buffer.get(searched..).unwrap_or_default()) else {
                if self.trailer_bytes + buffer.len() >= self.trailer_bytes_max {
                    return Err(Class::TrailerTooLarge);
                }
                self.state = State::Trailer { searched: buffer.len() };
                return Ok(None);
            };
            let line = buffer.split_to(searched + at + 1);
            searched = 0;
            self.trailer_bytes += line.len();
            if self.trailer_bytes > self.trailer_bytes_max {
                return Err(Class::TrailerTooLarge);
            }
            let line = line.strip_suffix(b"\r\n").ok_or(Class::BadTrailer)?;
            if line.is_empty() {
                let fields = std::mem::take(&mut self.trailers).finish();
                return Ok(Some(if fields.is_empty() { Frame::End } else { Frame::Trailers(fields) }));
            }
            self.trailer_count += 1;
            if self.trailer_count > self.trailer_count_max {
                return Err(Class::TrailerTooLarge);
            }
            let colon = memchr::memchr(b':', line).ok_or(Class::BadTrailer)?;
            let (name, value) = line.split_at(colon);
            push_trailer(&mut self.trailers, name, value.get(1..).unwrap_or_default().trim_ascii())?;
        }
    }
}

/// Adds a trailer field, unless it is malformed or one that trailers cannot carry
/// (RFC 9110 §6.5.1).
pub(crate) fn push_trailer(trailers: &mut FieldsBuilder, name: &[u8], value: &[u8]) -> Result<(), Class> {
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) || !is_field_value(value) {
        return Err(Class::BadTrailer);
    }
    if is_forbidden_trailer(name) {
        return Err(Class::ForbiddenTrailer);
    }
    trailers.push_unchecked(name, value);
    Ok(())
}

/// Whether a trailer of this name is refused: what a head decides, and names that an
/// upstream could take for another field's.
fn is_forbidden_trailer(name: &[u8]) -> bool {
    const HOP: [&[u8]; 6] =
        [b"te", b"trailer", b"upgrade", b"keep-alive", b"proxy-connection", b"http2-settings"];
    let is_digest = name.eq_ignore_ascii_case(b"content-digest");
    // `etag` and `content-digest` may well be known only at the end.
    let honest = is_digest || name.eq_ignore_ascii_case(b"etag");
    name.contains(&b'_')
        || is_known_alias(name)
        || HOP.iter().any(|hop| hop.eq_ignore_ascii_case(name))
        || name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-"))
        || (!honest && is_protected(name, None) && !is_informative(name))
}

/// Known fields that say nothing about framing, routing or who asks.
fn is_informative(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(
        Known::of(&name),
        Known::Date | Known::Server | Known::Via | Known::Traceparent | Known::Tracestate
    )
}

/// Trailer fields from another protocol, under the same rules.
///
/// # Errors
/// A field is malformed or one that trailers cannot carry.
pub(crate) fn trailers_from<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<Fields, Class> {
    let mut trailers = FieldsBuilder::default();
    for (name, value) in fields {
        push_trailer(&mut trailers, name, value)?;
    }
    Ok(trailers.finish())
}

#[cfg(test)]
mod tests;

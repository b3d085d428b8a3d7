//! Bodies by their framing (RFC 9112 §6).

use bytes::BytesMut;

use super::chunk;
use crate::admit::Class;
use crate::exchange::{BodyError, Frame};
use crate::head::Framing;
use crate::limits::Limits;

/// Reads one message's body.
#[derive(Debug)]
pub struct Decoder {
    kind: Kind,
    /// Most bytes of data.
    limit: u64,
    /// Bytes of data given out.
    read: u64,
}

#[derive(Debug)]
enum Kind {
    Ended,
    Length { left: u64 },
    Chunked(Box<chunk::Decoder>),
    Close,
}

impl Decoder {
    /// For a body of this framing, with `body_bytes_max` as its limit.
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        let kind = match framing {
            Framing::None | Framing::Length(0) => Kind::Ended,
            Framing::Length(left) => Kind::Length { left },
            Framing::Chunked => Kind::Chunked(Box::new(chunk::Decoder::new(limits))),
            Framing::Close | Framing::Stream => Kind::Close,
        };
        Self { kind, limit: limits.body_bytes_max, read: 0 }
    }

    /// Sets another limit in bytes, before or while the body is read: a route's own,
    /// or `u64::MAX` for responses.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Bytes of data given out so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Whether the body has been read to its end.
    pub fn ended(&self) -> bool {
        matches!(self.kind, Kind::Ended)
    }

    /// The next piece out of `buffer`; `None` when more bytes are needed. After the
    /// end it gives [`Frame::End`] without touching `buffer`: what is left there
    /// belongs to the next message.
    ///
    /// # Errors
    /// Malformed, or over the limit. The connection cannot be read further.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, BodyError> {
        let frame = match &mut self.kind {
            Kind::Ended => return Ok(Some(Frame::End)),
            // A length over the limit is refused before a byte of it is read.
            Kind::Length { left } if self.read.saturating_add(*left) > self.limit => {
                return Err(BodyError::TooLarge { limit: self.limit });
            }
            Kind::Length { left } => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                if take == 0 {
                    return Ok(None);
                }
                *left -= take as u64;
                let ended = *left == 0;
                let data = buffer.split_to(take).freeze();
                if ended {
                    self.kind = Kind::Ended;
                }
                Frame::Data(data)
            }
            Kind::Chunked(decoder) => match decoder.decode(buffer).map_err(malformed)? {
                None => return Ok(None),
                Some(frame @ Frame::Data(_)) => frame,
                Some(end) => {
                    self.kind = Kind::Ended;
                    end
                }
            },
            Kind::Close if buffer.is_empty() => return Ok(None),
            Kind::Close => Frame::Data(buffer.split().freeze()),
        };
        if let Frame::Data(data) = &frame {
            self.read += data.len() as u64;
            if self.read > self.limit {
                return Err(BodyError::TooLarge { limit: self.limit });
            }
        }
        Ok(Some(frame))
    }

    /// The connection has ended, and `buffer` is used up. Only a body that the close
    /// delimits has ended with it.
    ///
    /// # Errors
    /// The body is incomplete.
    pub fn end_of_input(&mut self) -> Result<Frame, BodyError> {
        match self.kind {
            Kind::Ended | Kind::Close => {
                self.kind = Kind::Ended;
                Ok(Frame::End)
            }
            _ => Err(malformed(Class::BodyTruncated)),
        }
    }
}

fn malformed(class: Class) -> BodyError {
    BodyError::Malformed(class.name())
}

#[cfg(test)]
mod tests;

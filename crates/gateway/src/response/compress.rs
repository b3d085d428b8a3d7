//! Compression of responses (RFC 9110 §8.4): which coding, for which responses, and the
//! encoders behind one small interface.
//!
//! A response that holds both a secret and what an attacker chose tells the secret by
//! its compressed length (BREACH). Compression is therefore off unless a route asks for
//! it, and never done for requests that a browser marks as coming from another site.

use std::io::{self, Write};

use bytes::Bytes;
use http::StatusCode;
use proxy::{Known, RequestHead, ResponseHead};

/// A coding, by its name in `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// The name in `Accept-Encoding` and `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// What a route compresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The codings, the preferred first.
    pub codings: Vec<Coding>,
    /// Responses that are known to be shorter are left alone, bytes.
    pub bytes_min: u64,
    /// Media types, lower case; `text/*` for all of a kind, `*+json` for a suffix.
    pub types: Vec<String>,
}

/// Quality of each encoder: what costs least for most of the effect.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
const BROTLI_WINDOW_BITS: u32 = 20;
const ZSTD_LEVEL: i32 = 3;
const BUFFER_BYTES: usize = 16 * 1024;

impl Compression {
    /// The coding that a client prefers among those of the route; `None` when it takes
    /// none, or when the request comes from another site.
    pub fn choose(&self, head: &RequestHead) -> Option<Coding> {
        let mut site = head.fields.named(b"sec-fetch-site");
        if site.next().is_some_and(|value| value.eq_ignore_ascii_case(b"cross-site")) {
            return None;
        }
        let quality = |coding: &Coding| {
            let mut any = 0;
            for field in head.fields.values(Known::AcceptEncoding) {
                for member in field.split(|&byte| byte == b',') {
                    match accepted(member) {
                        Some((name, quality)) if name.eq_ignore_ascii_case(coding.name().as_bytes()) => {
                            return quality;
                        }
                        Some((b"*", quality)) => any = quality,
                        _ => {}
                    }
                }
            }
            any
        };
        let codings = self.codings.iter().map(|coding| (quality(coding), *coding));
        // Of equals the route's first.
        codings.filter(|(quality, _)| *quality > 0).rev().max_by_key(|(quality, _)| *quality).map(|(_, c)| c)
    }

    /// Whether a response may be compressed, whoever asks. `length` is its body's, when
    /// that is known.
    pub fn is_for(&self, head: &ResponseHead, length: Option<u64>) -> bool {
        let named = |name: &'static [u8]| head.fields.kept_named(name).next();
        let status = head.status.is_success()
            && !matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::RESET_CONTENT
            );
        let long = length.is_none_or(|length| length >= self.bytes_min);
        let mut control = head.fields.kept_named(b"cache-control");
        let untouchable = control.any(|value| {
            value
                .split(|&byte| byte == b',')
                .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
        });
        status
            && long
            && !untouchable
            && named(b"content-encoding").is_none()
            && named(b"content-range").is_none()
            && named(b"content-type").is_some_and(|value| self.takes(value))
    }

    fn takes(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
        let Ok(essence) = std::str::from_utf8(essence.trim_ascii()) else { return false };
        let essence = essence.to_ascii_lowercase();
        // Streams whose pieces have to arrive one by one.
        if essence == "text/event-stream" || essence.starts_with("application/grpc") {
            return false;
        }
        self.types.iter().any(|known| match (known.strip_suffix('*'), known.strip_prefix('*')) {
            (Some(kind), _) => essence.starts_with(kind),
            (_, Some(suffix)) => essence.ends_with(suffix),
            _ => *known == essence,
        })
    }
}

/// A member of `Accept-Encoding` (RFC 9110 §12.5.3): name, quality in thousandths.
fn accepted(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let mut quality = 1000;
    for part in parts {
        let value = part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="))?;
        let value: f32 = std::str::from_utf8(value).ok()?.parse().ok()?;
        if !(0.0..=1.0).contains(&value) {
            return None;
        }
        // Between 0 and 1000.
        quality = (value * 1000.0) as u16;
    }
    Some((name, quality))
}

/// An encoder at work.
pub enum Encoder {
    /// RFC 8878.
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    /// RFC 7932.
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    /// RFC 1952.
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
}

impl Encoder {
    /// A new one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => Self::Zstd(Box::new(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?)),
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BUFFER_BYTES,
                BROTLI_QUALITY,
                BROTLI_WINDOW_BITS,
            ))),
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), level)))
            }
        })
    }

    /// Takes a piece in.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.write_all(data),
            Self::Brotli(encoder) => encoder.write_all(data),
            Self::Gzip(encoder) => encoder.write_all(data),
        }
    }

    /// Gives out everything that was taken in, so that the client can read it now.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn flush(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Zstd(encoder) => encoder.flush()?,
            Self::Brotli(encoder) => encoder.flush()?,
            Self::Gzip(encoder) => encoder.flush()?,
        }
        Ok(self.take())
    }

    /// Gives out what is ready.
    pub fn take(&mut self) -> Bytes {
        let ready = match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        };
        Bytes::from(std::mem::take(ready))
    }

    /// Gives out the rest.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn finish(self) -> io::Result<Bytes> {
        Ok(Bytes::from(match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Gzip(encoder) => encoder.finish()?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn unpacked(coding: Coding, packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Zstd => out = zstd::stream::decode_all(packed).unwrap(),
            Coding::Brotli => drop(brotli::Decompressor::new(packed, 4096).read_to_end(&mut out).unwrap()),
            Coding::Gzip => drop(flate2::read::GzDecoder::new(packed).read_to_end(&mut out).unwrap()),
        }
        out
    }

    #[test]
    fn what_goes_in_comes_out_and_each_flush_can_be_read() {
        for coding in [Coding::Zstd, Coding::Brotli, Coding::Gzip] {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut packed = Vec::new();
            let mut plain = Vec::new();
            for number in 0..50 {
                let piece = format!("line {number} of a text that repeats itself\n").repeat(20);
                plain.extend_from_slice(piece.as_bytes());
                encoder.write(piece.as_bytes()).unwrap();
                packed.extend_from_slice(&if number % 7 == 0 {
                    encoder.flush().unwrap()
                } else {
                    encoder.take()
                });
                assert!(number % 7 != 0 || !packed.is_empty());
            }
            packed.extend_from_slice(&encoder.finish().unwrap());
            assert!(packed.len() * 4 < plain.len(), "{coding:?}");
            assert_eq!(unpacked(coding, &packed), plain, "{coding:?}");
        }
    }

    #[test]
    fn qualities_are_read() {
        for (member, read) in [
            (&b" gzip"[..], Some((&b"gzip"[..], 1000))),
            (b"br;q=0.5", Some((b"br", 500))),
            (b"zstd ; q=0", Some((b"zstd", 0))),
            (b"*;q=0.1", Some((b"*", 100))),
            (b"gzip;q=2", None),
            (b"gzip;q=x", None),
            (b"", None),
        ] {
            assert_eq!(accepted(member), read, "{}", String::from_utf8_lossy(member));
        }
    }

    #[test]
    fn types_are_taken_by_name_kind_and_suffix() {
        let types = ["text/*", "application/json", "*+json"].map(str::to_owned).to_vec();
        let compression = Compression { codings: vec![Coding::Gzip], bytes_min: 0, types };
        for (content_type, takes) in [
            ("text/html; charset=utf-8", true),
            ("TEXT/HTML", true),
            ("application/json", true),
            ("application/problem+json", true),
            ("application/jsonx", false),
            ("image/png", false),
            ("text/event-stream", false),
            ("application/grpc+json", false),
        ] {
            assert_eq!(compression.takes(content_type.as_bytes()), takes, "{content_type}");
        }
    }
}

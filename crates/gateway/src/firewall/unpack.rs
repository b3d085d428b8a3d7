//! Compressed bodies as the rules read them (RFC 9110 §8.4): unpacked a slice at a time,
//! within limits that no decompression bomb passes.
//!
//! What goes on to the other side is what came; only the rules see what is unpacked here.

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use http::StatusCode;
use zstd::stream::raw::{Decoder as Zstd, InBuffer, Operation, OutBuffer};

/// Bytes that one step gives out at most.
const STEP_BYTES: usize = 16 * 1024;
/// So much may be unpacked whatever its ratio: repetitive pages are honest.
const RATIO_FREE_BYTES: u64 = 1 << 20;
/// Most bytes that one compressed byte comes to, past that.
const RATIO_MAX: u64 = 200;
/// So much longer than an eighth more than what the rules look at may a stream be.
const PACKED_FREE_BYTES: u64 = 4096;
/// Longest name of an unknown coding that is told, bytes.
const NAME_BYTES_MAX: usize = 32;
/// The window of a Zstandard frame, as a power of two: what every reader over HTTP has to
/// have (RFC 9659 §2). A longer one is refused.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// The window of zlib and gzip, as a power of two.
const DEFLATE_WINDOW_BITS: u8 = 15;

/// Why the rules cannot read a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The configuration takes no compressed bodies here.
    #[error("it is compressed ({0}), which is not taken here")]
    Compressed(String),
    /// No such coding is known.
    #[error("its content coding {0:?} is unknown")]
    Unknown(String),
    /// More than one coding.
    #[error("it has several content codings")]
    Several,
    /// The compressed stream is broken.
    #[error("its {0} stream is broken")]
    Broken(&'static str),
    /// The stream is not whole, or there is something behind it.
    #[error("its {0} stream ends too early or too late")]
    Misfit(&'static str),
    /// It unpacks to too much for what it is.
    #[error("each compressed byte comes to more than {RATIO_MAX} bytes")]
    Bomb,
    /// Unlike any honest stream it is longer than what it unpacks to may be.
    #[error("it has more than {0} bytes before it is unpacked")]
    TooLong(u64),
}

impl Unreadable {
    /// With what a request is refused whose body this is (RFC 9110 §15.5).
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Compressed(_) | Self::Unknown(_) | Self::Several => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Broken(_) | Self::Misfit(_) => StatusCode::BAD_REQUEST,
            Self::Bomb | Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// What `Accept-Encoding` tells whoever was refused with 415 (RFC 9110 §12.5.3).
    pub(crate) const fn accepted(&self) -> Option<&'static str> {
        match self {
            Self::Compressed(_) => Some("identity"),
            Self::Unknown(_) | Self::Several => Some("gzip, deflate, br, zstd"),
            _ => None,
        }
    }
}

/// A coding, by its name in `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, and bare RFC 1951 as many send it.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let all = [Self::Gzip, Self::Deflate, Self::Brotli, Self::Zstd];
        // RFC 9110 §8.4.1.3: `x-gzip` is `gzip`.
        all.into_iter().find(|coding| is(coding.name())).or_else(|| is("x-gzip").then_some(Self::Gzip))
    }

    /// The coding that `Content-Encoding` says; `None` for a body as it is.
    ///
    /// # Errors
    /// An unknown coding, or several.
    pub(crate) fn of<'v>(values: impl Iterator<Item = &'v [u8]>) -> Result<Option<Self>, Unreadable> {
        let members = values.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
        let mut members =
            members.filter(|member| !member.is_empty() && !member.eq_ignore_ascii_case(b"identity"));
        let Some(name) = members.next() else { return Ok(None) };
        if members.next().is_some() {
            return Err(Unreadable::Several);
        }
        Self::from_name(name).map(Some).ok_or_else(|| {
            let told = name.get(..NAME_BYTES_MAX).unwrap_or(name);
            Unreadable::Unknown(String::from_utf8_lossy(told).into_owned())
        })
    }

    /// The refusal of every body with this coding.
    pub(crate) fn refused(self) -> Unreadable {
        Unreadable::Compressed(self.name().to_owned())
    }
}

/// A decoder of each coding.
enum Decoder {
    Gzip(Decompress),
    /// Its first byte says which of the two it is.
    DeflateUnknown,
    Deflate(Decompress),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(Zstd<'static>),
}

/// Where the stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing came yet.
    Before,
    Within,
    /// It is whole; another one may follow where the coding allows that.
    Behind,
}

/// Unpacks one body.
pub(crate) struct Unpacker {
    coding: Coding,
    decoder: Decoder,
    place: Place,
    packed: u64,
    packed_max: u64,
    unpacked: u64,
    out: Box<[u8]>,
    /// Whether the last step filled `out`: the decoder may hold more.
    full: bool,
}

impl Unpacker {
    /// For a body of which the rules look at `bytes_max` bytes. Not much more is taken in:
    /// no honest stream is longer than what it unpacks to and a little.
    ///
    /// # Errors
    /// There is no decoder to be had.
    pub(crate) fn new(coding: Coding, bytes_max: u64) -> Result<Self, Unreadable> {
        let decoder = match coding {
            Coding::Gzip => Decoder::Gzip(Decompress::new_gzip(DEFLATE_WINDOW_BITS)),
            Coding::Deflate => Decoder::DeflateUnknown,
            Coding::Brotli => {
                let alloc = StandardAlloc::default;
                Decoder::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
            }
            Coding::Zstd => Decoder::Zstd(zstd_decoder()?),
        };
        let out = vec![0; STEP_BYTES].into_boxed_slice();
        let packed_max = bytes_max.saturating_add(bytes_max / 8).saturating_add(PACKED_FREE_BYTES);
        let place = Place::Before;
        Ok(Self { coding, decoder, place, packed: 0, packed_max, unpacked: 0, out, full: false })
    }

    /// How many bytes were given out.
    pub(crate) fn given(&self) -> usize {
        usize::try_from(self.unpacked).unwrap_or(usize::MAX)
    }

    /// Takes some of `input` in and gives what it unpacks to: at most [`STEP_BYTES`], and
    /// perhaps nothing. To be called until `input` is empty and nothing comes out.
    ///
    /// # Errors
    /// The stream is broken, or goes on behind its end, or a limit is passed.
    pub(crate) fn step(&mut self, input: &mut Bytes) -> Result<&[u8], Unreadable> {
        let (taken, given) = self.decode(input)?;
        input.advance(taken);
        self.full = given == self.out.len();
        self.packed = self.packed.saturating_add(taken as u64);
        self.unpacked = self.unpacked.saturating_add(given as u64);
        if self.packed > self.packed_max {
            return Err(Unreadable::TooLong(self.packed_max));
        }
        if self.unpacked > RATIO_FREE_BYTES && self.unpacked > self.packed.saturating_mul(RATIO_MAX) {
            return Err(Unreadable::Bomb);
        }
        self.out.get(..given).ok_or(Unreadable::Broken(self.coding.name()))
    }

    /// The body is over.
    ///
    /// # Errors
    /// Its stream is not.
    pub(crate) fn finish(&self) -> Result<(), Unreadable> {
        if self.place == Place::Within { Err(Unreadable::Misfit(self.coding.name())) } else { Ok(()) }
    }

    fn broken(&self) -> Unreadable {
        Unreadable::Broken(self.coding.name())
    }

    /// Bytes taken in and given out.
    fn decode(&mut self, input: &[u8]) -> Result<(usize, usize), Unreadable> {
        let Some(&first) = input.first() else {
            // What the decoder still holds comes out without input.
            return if self.full && self.place == Place::Within { self.run(input) } else { Ok((0, 0)) };
        };
        if self.place == Place::Behind {
            self.begin_another()?;
        }
        self.place = Place::Within;
        if matches!(self.decoder, Decoder::DeflateUnknown) {
            self.decoder = Decoder::Deflate(Decompress::new(is_zlib(first)));
        }
        self.run(input)
    }

    /// Gzip members and Zstandard frames may follow each other (RFC 1952 §2.2, RFC 8878
    /// §3.1); the others end once.
    fn begin_another(&mut self) -> Result<(), Unreadable> {
        match self.coding {
            Coding::Gzip => self.decoder = Decoder::Gzip(Decompress::new_gzip(DEFLATE_WINDOW_BITS)),
            Coding::Zstd => {}
            Coding::Deflate | Coding::Brotli => return Err(Unreadable::Misfit(self.coding.name())),
        }
        Ok(())
    }

    fn run(&mut self, input: &[u8]) -> Result<(usize, usize), Unreadable> {
        let (taken, given, over) = match &mut self.decoder {
            Decoder::Gzip(decoder) | Decoder::Deflate(decoder) => inflate(decoder, input, &mut self.out),
            Decoder::Brotli(state) => unbrotli(state, input, &mut self.out),
            Decoder::Zstd(decoder) => unzstd(decoder, input, &mut self.out),
            Decoder::DeflateUnknown => None,
        }
        .ok_or_else(|| self.broken())?;
        if over {
            self.place = Place::Behind;
        }
        Ok((taken, given))
    }
}

fn zstd_decoder() -> Result<Zstd<'static>, Unreadable> {
    let broken = |_| Unreadable::Broken(Coding::Zstd.name());
    let mut decoder = Zstd::new().map_err(broken)?;
    let window = zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
    decoder.set_parameter(window).map_err(broken)?;
    Ok(decoder)
}

/// Whether a stream begins as zlib's does (RFC 1950 §2.2): method 8, and a window that is
/// not too long. A bare stream that began so would be a stored block with padding that no
/// encoder writes; it is then broken as zlib.
const fn is_zlib(first: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7
}

/// Bytes taken in, given out, and whether the stream is whole.
type Ran = Option<(usize, usize, bool)>;

fn inflate(decoder: &mut Decompress, input: &[u8], out: &mut [u8]) -> Ran {
    let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
    let status = decoder.decompress(input, out, FlushDecompress::None).ok()?;
    let taken = usize::try_from(decoder.total_in() - before_in).ok()?;
    let given = usize::try_from(decoder.total_out() - before_out).ok()?;
    Some((taken, given, status == Status::StreamEnd))
}

fn unbrotli(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: &[u8],
    out: &mut [u8],
) -> Ran {
    let (mut left, mut taken) = (input.len(), 0);
    let (mut room, mut given, mut total) = (out.len(), 0, 0);
    let result =
        BrotliDecompressStream(&mut left, &mut taken, input, &mut room, &mut given, out, &mut total, state);
    match result {
        BrotliResult::ResultFailure => None,
        BrotliResult::ResultSuccess => Some((taken, given, true)),
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Some((taken, given, false)),
    }
}

fn unzstd(decoder: &mut Zstd<'static>, input: &[u8], out: &mut [u8]) -> Ran {
    let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(out));
    let left = decoder.run(&mut from, &mut to).ok()?;
    Some((from.pos(), to.pos(), left == 0))
}

#[cfg(test)]
mod tests;

//! gRPC's C core, and with it Python, Ruby and PHP, names a Unix socket in `:authority` by its
//! percent-encoded path. RFC 3986 §3.2.2 lets a host have such octets; the HTTP library here
//! takes them for malformed and resets the stream. The name says nothing on a socket of this
//! machine, so each `%` of it is written as `-` before the library reads it.
//!
//! Nothing else of the stream is changed, and no length: what HPACK's tables hold is the
//! changed text on our side, as it was sent on the other.

/// RFC 9113 §3.4.
const PREFACE_BYTES: usize = 24;
/// RFC 9113 §4.1.
const FRAME_HEADER_BYTES: usize = 9;
/// Largest frame that the server allows (its SETTINGS_MAX_FRAME_SIZE); it refuses larger ones.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// The type of HEADERS, and its flags (RFC 9113 §6.2).
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// `:authority` in the static table (RFC 7541, appendix A).
const AUTHORITY_INDEX: usize = 1;

/// What came of a connection and is not handed on yet: at most one frame.
#[derive(Debug)]
pub(super) struct Rewriter {
    pending: Vec<u8>,
    /// Bytes that go on as they are.
    passing: usize,
}

impl Default for Rewriter {
    fn default() -> Self {
        Self { pending: Vec::new(), passing: PREFACE_BYTES }
    }
}

impl Rewriter {
    /// Takes bytes as they came, and appends what can go on.
    pub(super) fn take(&mut self, bytes: &[u8], ready: &mut Vec<u8>) {
        self.pending.extend_from_slice(bytes);
        loop {
            let pass = self.passing.min(self.pending.len());
            ready.extend(self.pending.drain(..pass));
            self.passing -= pass;
            let [high, middle, low, kind, flags, ..] = *self.pending.as_slice() else { return };
            if self.passing > 0 || self.pending.len() < FRAME_HEADER_BYTES {
                return;
            }
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            let whole = FRAME_HEADER_BYTES + length;
            if kind == HEADERS && length <= FRAME_BYTES_MAX {
                if self.pending.len() < whole {
                    return;
                }
                if let Some(payload) = self.pending.get_mut(FRAME_HEADER_BYTES..whole) {
                    let _ = rewrite(payload, flags);
                }
            }
            self.passing = whole;
        }
    }
}

/// Rewrites the header block of a HEADERS frame; `None`: it ends early, and is as it was from
/// there on.
fn rewrite(payload: &mut [u8], flags: u8) -> Option<()> {
    let skipped = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let mut block = payload.get_mut(skipped..)?;
    while let Some(first) = block.first().copied() {
        // RFC 7541 §6: which representation, and how many bits its first number has.
        let (bits, literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let (index, rest) = integer(block, bits)?;
        block = rest;
        if !literal {
            continue;
        }
        let mut is_authority = index == AUTHORITY_INDEX;
        if index == 0 {
            // The C core writes the name out.
            let (name, rest) = string(block)?;
            is_authority = name == b":authority";
            block = rest;
        }
        let huffman = block.first()? & 0x80 != 0;
        let (value, rest) = string(block)?;
        if is_authority && !huffman {
            value.iter_mut().filter(|byte| **byte == b'%').for_each(|byte| *byte = b'-');
        }
        block = rest;
    }
    Some(())
}

/// RFC 7541 §5.1.
fn integer(block: &mut [u8], bits: u32) -> Option<(usize, &mut [u8])> {
    let (first, mut rest) = block.split_first_mut()?;
    let most = (1 << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value < most {
        return Some((value, rest));
    }
    // Longer numbers than these are refused by the library.
    for shift in [0, 7, 14, 21] {
        let (next, more) = rest.split_first_mut()?;
        rest = more;
        value += usize::from(*next & 0x7f) << shift;
        if *next & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

/// RFC 7541 §5.2: its bytes, whether coded or not, and what follows.
fn string(block: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let (length, rest) = integer(block, 7)?;
    rest.split_at_mut_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn literal(first: u8, text: &str) -> Vec<u8> {
        [&[first, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    }

    fn through(stream: &[u8], piece: usize) -> Vec<u8> {
        let (mut rewriter, mut ready) = (Rewriter::default(), Vec::new());
        stream.chunks(piece).for_each(|bytes| rewriter.take(bytes, &mut ready));
        ready
    }

    #[test]
    fn only_the_authority_is_written_otherwise() {
        // :method POST, :authority, a path with a percent sign, a new name.
        let block = |authority: &str| {
            let named =
                |name: &str, value: &str| [literal(0x40, name), literal(0, value).split_off(1)].concat();
            [
                vec![0x83],
                literal(0x41, authority),
                literal(0x04, "/a%2Fb"),
                literal(0x01, authority),
                named("x", "%2F"),
                named(":authority", authority),
            ]
            .concat()
        };
        let padded = |block: &[u8]| [&[2][..], &[0, 0, 0, 0, 9], block, b"%%"].concat();
        let stream = |authority: &str| {
            [
                vec![b'%'; PREFACE_BYTES],
                frame(4, 0, b"%%%%%%"),
                frame(HEADERS, 4, &block(authority)),
                frame(0, 0, b"%2F"),
                frame(HEADERS, 4 | PADDED | PRIORITY, &padded(&block(authority))),
            ]
            .concat()
        };
        let expected = stream("tmp-2Fapi.sock");
        for piece in [1, 7, 10_000] {
            assert_eq!(through(&stream("tmp%2Fapi.sock"), piece), expected);
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_not_held() {
        let large = frame(HEADERS, 4, &vec![0x41; FRAME_BYTES_MAX + 1]);
        let stream = [vec![0; PREFACE_BYTES], large].concat();
        assert_eq!(through(&stream[..stream.len() - 1], 1_000).len(), stream.len() - 1);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_added(stream in proptest::collection::vec(any::<u8>(), 0..600), piece in 1_usize..50) {
            let passed = through(&stream, piece);
            prop_assert!(passed.len() <= stream.len());
            let same = passed.iter().zip(&stream).all(|(one, other)| one == other || (*other == b'%' && *one == b'-'));
            prop_assert!(same);
        }
    }
}

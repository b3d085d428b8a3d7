//! Frames of HTTP/2 (RFC 9113 §4.1) as they are read, and those among them that say nothing: empty
//! DATA that does not end its stream. They are taken out, because the library ends a connection,
//! with all its streams, at the hundred and first of its whole life, whatever is configured. Ones
//! with padding stay: it counts for flow control.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// A frame's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHead {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHead {
    fn parse([a, b, c, kind, flags, d, e, f, g]: [u8; HEAD_BYTES]) -> Self {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // The first bit is reserved.
        let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
        Self { length, kind, flags, stream }
    }

    /// Whether it is DATA without data that does not end its stream.
    pub(crate) fn is_empty_data(self) -> bool {
        self.kind == DATA && self.length == 0 && self.flags & END_STREAM == 0
    }
}

/// Where we are between frames.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Bytes until the next frame's head.
    skip: usize,
    /// The beginning of a head, which is given out when it is whole.
    head: [u8; HEAD_BYTES],
    have: usize,
    /// How much of `head`, which is whole, waits to be given out.
    ready: usize,
    /// Whether a block of fields goes on in the next frame: any other is an error there.
    in_block: bool,
}

impl Frames {
    /// So many bytes come before the first frame.
    pub(crate) fn after(preface_bytes: usize) -> Self {
        Self { skip: preface_bytes, head: [0; HEAD_BYTES], have: 0, ready: 0, in_block: false }
    }

    /// Reads by `read`, and gives out all but the frames that say nothing. `judge` sees the head of
    /// every frame.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        mut read: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
        mut judge: impl FnMut(FrameHead) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.ready > 0 {
                self.give(buf);
                return Poll::Ready(Ok(()));
            }
            if self.have > 0 {
                let mut rest = [0; HEAD_BYTES];
                let rest = rest.get_mut(self.have..).unwrap_or_default();
                let mut rest = ReadBuf::new(rest);
                ready!(read(cx, &mut rest))?;
                self.begin(rest.filled());
                if rest.filled().is_empty() {
                    // The end, in the middle of a head.
                    self.ready = self.have;
                } else if self.have == HEAD_BYTES {
                    let head = FrameHead::parse(self.head);
                    judge(head)?;
                    self.ready = if self.enter(head) { HEAD_BYTES } else { 0 };
                    self.have = self.ready;
                }
                continue;
            }
            let before = buf.filled().len();
            ready!(read(cx, buf))?;
            let fresh = buf.filled_mut().get_mut(before..).unwrap_or_default();
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let kept = self.pass(fresh, &mut judge)?;
            buf.set_filled(before + kept);
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Gives out what it has of a head.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let start = self.have - self.ready;
        let step = self.ready.min(buf.remaining());
        buf.put_slice(self.head.get(start..start + step).unwrap_or_default());
        self.ready -= step;
        if self.ready == 0 {
            self.have = 0;
        }
    }

    /// Takes more of a head that has begun.
    fn begin(&mut self, bytes: &[u8]) {
        for (to, from) in self.head.iter_mut().skip(self.have).zip(bytes) {
            *to = *from;
        }
        self.have += bytes.len();
    }

    /// Moves what goes on to the beginning of `bytes`; says how much that is.
    fn pass(
        &mut self,
        bytes: &mut [u8],
        judge: &mut impl FnMut(FrameHead) -> io::Result<()>,
    ) -> io::Result<usize> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            let step = if self.skip > 0 {
                let step = self.skip.min(rest.len());
                self.skip -= step;
                step
            } else if let Some(head) = rest.first_chunk::<HEAD_BYTES>() {
                let head = FrameHead::parse(*head);
                judge(head)?;
                if !self.enter(head) {
                    at += HEAD_BYTES;
                    continue;
                }
                HEAD_BYTES
            } else {
                self.begin(rest);
                break;
            };
            if kept != at {
                bytes.copy_within(at..at + step, kept);
            }
            at += step;
            kept += step;
        }
        Ok(kept)
    }

    /// Goes into a frame; false: it says nothing, and is left out.
    fn enter(&mut self, head: FrameHead) -> bool {
        // What is an error stays one.
        let is_legal = head.stream != 0 && head.flags & PADDED == 0 && !self.in_block;
        if head.is_empty_data() && is_legal {
            return false;
        }
        if matches!(head.kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            self.in_block = head.flags & END_HEADERS == 0;
        }
        self.skip = head.length;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
        bytes.extend_from_slice(payload);
        bytes
    }

    /// What is given out of these bytes when they come in pieces of one size, into room of another.
    fn passed(bytes: &[u8], piece: usize, room: usize) -> Vec<u8> {
        let mut frames = Frames::after(0);
        let mut left = bytes;
        let mut out = Vec::new();
        loop {
            let mut space = vec![0; room];
            let mut buf = ReadBuf::new(&mut space);
            let read = |_: &mut Context<'_>, buf: &mut ReadBuf<'_>| {
                let (now, later) = left.split_at(piece.min(buf.remaining()).min(left.len()));
                buf.put_slice(now);
                left = later;
                Poll::Ready(Ok(()))
            };
            let polled =
                frames.poll_read(&mut Context::from_waker(Waker::noop()), &mut buf, read, |_| Ok(()));
            assert!(matches!(polled, Poll::Ready(Ok(()))));
            if buf.filled().is_empty() {
                return out;
            }
            out.extend_from_slice(buf.filled());
        }
    }

    #[test]
    fn empty_data_is_left_out_and_nothing_else_however_the_bytes_are_cut() {
        let empty = frame(DATA, 0, 1, &[]);
        let table = [
            ("data", frame(DATA, 0, 1, b"x"), false),
            ("empty data", empty.clone(), true),
            ("the end", frame(DATA, END_STREAM, 1, &[]), false),
            ("padded", frame(DATA, PADDED, 1, &[0]), false),
            ("padded without a length, an error", frame(DATA, PADDED, 1, &[]), false),
            ("of the connection, an error", frame(DATA, 0, 0, &[]), false),
            (
                "between fields, an error",
                [frame(HEADERS, 0, 1, b"a"), empty.clone(), frame(CONTINUATION, END_HEADERS, 1, b"b")]
                    .concat(),
                false,
            ),
            ("settings", frame(4, 0, 0, &[]), false),
        ];
        for (name, bytes, left_out) in table {
            let before = frame(HEADERS, END_HEADERS, 1, b"head");
            let after = frame(DATA, 0, 1, &[0; 30]);
            let all = [&before[..], &bytes, &bytes, &after].concat();
            let expected = if left_out { [&before[..], &after].concat() } else { all.clone() };
            for piece in [1, 2, 3, 8, 9, 10, 13, 1000] {
                for room in [1, 5, 9, 1000] {
                    assert_eq!(passed(&all, piece, room), expected, "{name}, cut {piece}, room {room}");
                }
            }
        }
        let cut = &frame(4, 0, 0, &[])[..5];
        assert_eq!(passed(cut, 3, 100), cut, "a head that breaks off is no end between frames");
    }

    proptest! {
        #[test]
        fn fuzz_smoke_frames_never_panic_and_leave_out_whole_heads(
            bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1_u8), any::<u8>()], 0..200),
            piece in 1_usize..20,
            room in 1_usize..20,
        ) {
            let out = passed(&bytes, piece, room);
            prop_assert!(out.len() <= bytes.len());
            prop_assert_eq!((bytes.len() - out.len()) % HEAD_BYTES, 0);
            prop_assert_eq!(out, passed(&bytes, 1000, 1000));
        }
    }
}

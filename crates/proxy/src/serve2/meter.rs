//! Counts frames that cost us and not the client: `h2` bounds streams and CONTINUATION
//! frames, but not RST_STREAM after a stream was taken up, nor SETTINGS, PING, PRIORITY
//! and empty DATA.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::gather::Shared;
use crate::deadline::Ticker;
use crate::limits::{Hits, Limits};

/// Over which time frames are counted, in milliseconds.
const WINDOW_MS: u64 = 10_000;
/// The preface (RFC 9113 §3.4) comes before the first frame.
const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;

/// A link whose incoming HTTP/2 frames are counted.
#[derive(Debug)]
pub(super) struct Metered {
    link: Shared,
    /// Read before, and not yet given out.
    read: Bytes,
    ticker: Rc<Ticker>,
    hits: Arc<Hits>,
    count: Count,
}

#[derive(Debug)]
struct Count {
    /// Bytes until the next frame's head.
    skip: usize,
    head: [u8; FRAME_HEAD_BYTES],
    have: usize,
    window_start_ms: u64,
    resets: u64,
    idle: u64,
    resets_max: u64,
    idle_max: u64,
}

/// A client sent more useless frames than allowed.
#[derive(Debug, thiserror::Error)]
#[error("too many frames for {0}")]
struct Flood(&'static str);

impl Metered {
    pub(super) fn new(
        link: Shared,
        read: Bytes,
        limits: &Limits,
        ticker: &Rc<Ticker>,
        hits: &Arc<Hits>,
    ) -> Self {
        let count = Count {
            skip: PREFACE_BYTES,
            head: [0; FRAME_HEAD_BYTES],
            have: 0,
            window_start_ms: ticker.now_ms(),
            resets: 0,
            idle: 0,
            resets_max: limits.http2_resets_max,
            idle_max: limits.http2_idle_frames_max,
        };
        Self { link, read, ticker: Rc::clone(ticker), hits: Arc::clone(hits), count }
    }
}

impl Count {
    fn look(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), Flood> {
        if now_ms.saturating_sub(self.window_start_ms) >= WINDOW_MS {
            (self.window_start_ms, self.resets, self.idle) = (now_ms, 0, 0);
        }
        while !bytes.is_empty() {
            if self.skip > 0 {
                let step = self.skip.min(bytes.len());
                self.skip -= step;
                bytes.advance(step);
                continue;
            }
            let step = (FRAME_HEAD_BYTES - self.have).min(bytes.len());
            for (to, from) in self.head.iter_mut().skip(self.have).zip(bytes) {
                *to = *from;
            }
            self.have += step;
            bytes.advance(step);
            if self.have == FRAME_HEAD_BYTES {
                self.have = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    /// A frame's head is complete (RFC 9113 §4.1).
    fn frame(&mut self) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.skip = length;
        let ends_stream = flags & 1 != 0;
        match kind {
            3 => {
                self.resets += 1;
                if self.resets > self.resets_max {
                    return Err(Flood("http2_resets_max"));
                }
            }
            // PRIORITY, SETTINGS, PING; DATA without data that does not end its stream.
            2 | 4 | 6 => self.idle += 1,
            0 if length == 0 && !ends_stream => self.idle += 1,
            _ => {}
        }
        if self.idle > self.idle_max { Err(Flood("http2_idle_frames_max")) } else { Ok(()) }
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.read.is_empty() {
            ready!(this.link.borrow_mut().poll_read(cx, buf))?;
        } else {
            let step = this.read.len().min(buf.remaining());
            buf.put_slice(&this.read.split_to(step));
        }
        let fresh = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(this.count.look(fresh, this.ticker.now_ms()).map_err(|flood| {
            tracing::debug!(%flood, "HTTP/2 connection cut");
            this.hits.count(flood.0);
            io::Error::new(io::ErrorKind::InvalidData, flood)
        }))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.link.borrow_mut().poll_write(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.link.borrow_mut().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.borrow_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(resets_max: u64, idle_max: u64) -> Count {
        Count {
            skip: 0,
            head: [0; FRAME_HEAD_BYTES],
            have: 0,
            window_start_ms: 0,
            resets: 0,
            idle: 0,
            resets_max,
            idle_max,
        }
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn counts_at_the_limit_and_one_past_however_the_bytes_are_cut() {
        let table: [(&str, Vec<u8>, bool); 7] = [
            ("reset", frame(3, 0, &[0; 4]), true),
            ("settings", frame(4, 0, &[]), true),
            ("ping", frame(6, 0, &[0; 8]), true),
            ("priority", frame(2, 0, &[0; 5]), true),
            ("empty data", frame(0, 0, &[]), true),
            ("data", frame(0, 0, b"x"), false),
            ("empty data that ends", frame(0, 1, &[]), false),
        ];
        for (name, bytes, counted) in table {
            for cut in [1, 3, 9, 1000] {
                let mut count = count(5, 5);
                let mut send = |times: usize| {
                    let all = bytes.repeat(times);
                    all.chunks(cut).try_for_each(|piece| count.look(piece, 1))
                };
                assert!(send(5).is_ok(), "{name} at the limit, cut {cut}");
                assert_eq!(send(1).is_err(), counted, "{name} one past, cut {cut}");
            }
        }
    }

    #[test]
    fn counting_starts_again_after_the_window() {
        let mut count = count(5, 5);
        let bytes = frame(3, 0, &[0; 4]).repeat(5);
        for window in 0..10 {
            assert!(count.look(&bytes, window * WINDOW_MS).is_ok());
        }
    }
}

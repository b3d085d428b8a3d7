//! Counts frames that cost us and not the client: `h2` bounds streams and CONTINUATION
//! frames, but not RST_STREAM after a stream was taken up, nor SETTINGS, PING and PRIORITY; and
//! empty DATA, which it never sees (`Frames`), so that it is counted here alone.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::gather::Shared;
use crate::deadline::Ticker;
use crate::http2::frames::{FrameHead, Frames};
use crate::limits::{Hits, Limits};

/// Over which time frames are counted, in milliseconds.
const WINDOW_MS: u64 = 10_000;
/// The preface (RFC 9113 §3.4) comes before the first frame.
const PREFACE_BYTES: usize = 24;

/// A link whose incoming HTTP/2 frames are counted.
#[derive(Debug)]
pub(super) struct Metered {
    link: Shared,
    /// Read before, and not yet given out.
    read: Bytes,
    ticker: Rc<Ticker>,
    hits: Arc<Hits>,
    frames: Frames,
    count: Count,
}

#[derive(Debug)]
struct Count {
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
            window_start_ms: ticker.now_ms(),
            resets: 0,
            idle: 0,
            resets_max: limits.http2_resets_max,
            idle_max: limits.http2_idle_frames_max,
        };
        let frames = Frames::after(PREFACE_BYTES);
        Self { link, read, ticker: Rc::clone(ticker), hits: Arc::clone(hits), frames, count }
    }
}

impl Count {
    fn frame(&mut self, head: FrameHead, now_ms: u64) -> Result<(), Flood> {
        if now_ms.saturating_sub(self.window_start_ms) >= WINDOW_MS {
            (self.window_start_ms, self.resets, self.idle) = (now_ms, 0, 0);
        }
        match head.kind {
            3 => {
                self.resets += 1;
                if self.resets > self.resets_max {
                    return Err(Flood("http2_resets_max"));
                }
            }
            // PRIORITY, SETTINGS, PING; DATA without data that does not end its stream.
            2 | 4 | 6 => self.idle += 1,
            _ if head.is_empty_data() => self.idle += 1,
            _ => {}
        }
        if self.idle > self.idle_max { Err(Flood("http2_idle_frames_max")) } else { Ok(()) }
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { link, read, ticker, hits, frames, count } = self.get_mut();
        let source = |cx: &mut Context<'_>, buf: &mut ReadBuf<'_>| {
            if read.is_empty() {
                return link.borrow_mut().poll_read(cx, buf);
            }
            let step = read.len().min(buf.remaining());
            buf.put_slice(&read.split_to(step));
            Poll::Ready(Ok(()))
        };
        let now = ticker.now_ms();
        frames.poll_read(cx, buf, source, |head| {
            count.frame(head, now).map_err(|flood| {
                tracing::debug!(%flood, "HTTP/2 connection cut");
                hits.count(flood.0);
                io::Error::new(io::ErrorKind::InvalidData, flood)
            })
        })
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
    use std::task::Waker;

    use super::*;

    fn count(resets_max: u64, idle_max: u64) -> Count {
        Count { window_start_ms: 0, resets: 0, idle: 0, resets_max, idle_max }
    }

    /// Counts these bytes; an error when a limit is passed.
    fn look(count: &mut Count, frames: &mut Frames, mut bytes: &[u8], now_ms: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut space = [0; 2000];
            let mut buf = ReadBuf::new(&mut space);
            let source = |_: &mut Context<'_>, buf: &mut ReadBuf<'_>| {
                if bytes.is_empty() {
                    return Poll::Pending;
                }
                let (now, later) = bytes.split_at(bytes.len().min(buf.remaining()));
                buf.put_slice(now);
                bytes = later;
                Poll::Ready(Ok(()))
            };
            let judge = |head| count.frame(head, now_ms).map_err(io::Error::other);
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(result) = frames.poll_read(&mut cx, &mut buf, source, judge) {
                result?;
            }
        }
        Ok(())
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
                let (mut count, mut frames) = (count(5, 5), Frames::after(0));
                let mut send = |times: usize| {
                    let all = bytes.repeat(times);
                    all.chunks(cut).try_for_each(|piece| look(&mut count, &mut frames, piece, 1))
                };
                assert!(send(5).is_ok(), "{name} at the limit, cut {cut}");
                assert_eq!(send(1).is_err(), counted, "{name} one past, cut {cut}");
            }
        }
    }

    #[test]
    fn counting_starts_again_after_the_window() {
        let (mut count, mut frames) = (count(5, 5), Frames::after(0));
        let bytes = frame(3, 0, &[0; 4]).repeat(5);
        for window in 0..10 {
            assert!(look(&mut count, &mut frames, &bytes, window * WINDOW_MS).is_ok());
        }
    }
}

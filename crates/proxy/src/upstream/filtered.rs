//! A link to an upstream of HTTP/2 without the frames that say nothing: they would end the
//! connection for all clients that share it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::frames::Frames;
use crate::link::Link;

#[derive(Debug)]
pub(super) struct Filtered {
    link: Link,
    frames: Frames,
}

impl Filtered {
    pub(super) fn new(link: Link) -> Self {
        Self { link, frames: Frames::after(0) }
    }
}

impl AsyncRead for Filtered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { link, frames } = self.get_mut();
        frames.poll_read(cx, buf, |cx, buf| Pin::new(&mut *link).poll_read(cx, buf), |_| Ok(()))
    }
}

impl AsyncWrite for Filtered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().link).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().link).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.link.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().link).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().link).poll_shutdown(cx)
    }
}

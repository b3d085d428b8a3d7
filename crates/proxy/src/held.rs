//! A request's body that is read before its request goes on: what was read is given
//! out again, in its order, to whoever forwards it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::exchange::{BodyError, Exchange, Frame};
use crate::head::{Additions, ResponseHead};
use crate::proxy_protocol::Origin;

/// How far a body was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// To its end.
    Whole,
    /// To the limit; there is more.
    More,
}

/// An exchange, and what was read of its request's body ahead of its time.
#[derive(Debug)]
pub struct Held<'e, E> {
    inner: &'e mut E,
    frames: VecDeque<Frame>,
    bytes: usize,
    over: bool,
}

impl<'e, E: Exchange> Held<'e, E> {
    /// Nothing was read yet.
    pub fn new(inner: &'e mut E) -> Self {
        Self { inner, frames: VecDeque::new(), bytes: 0, over: false }
    }

    /// Reads until the body's end, or until more than `bytes_max` bytes are held. The
    /// piece that passes the limit is held too: nothing is lost.
    ///
    /// # Errors
    /// The body cannot be read.
    pub async fn read_ahead(&mut self, bytes_max: usize) -> Result<Ahead, BodyError> {
        while !self.over && self.bytes <= bytes_max {
            let frame = poll_fn(|cx| self.inner.poll_request(cx)).await?;
            match &frame {
                Frame::Data(data) => self.bytes = self.bytes.saturating_add(data.len()),
                Frame::Trailers(_) | Frame::End => self.over = true,
            }
            self.frames.push_back(frame);
        }
        Ok(if self.bytes <= bytes_max { Ahead::Whole } else { Ahead::More })
    }

    /// What is held of the body, as one piece.
    pub fn body(&self) -> Bytes {
        let mut data = self.frames.iter().filter_map(|frame| match frame {
            Frame::Data(data) => Some(data),
            Frame::Trailers(_) | Frame::End => None,
        });
        match (data.next(), data.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only.clone(),
            (Some(first), Some(second)) => {
                let mut whole = BytesMut::with_capacity(self.bytes);
                for piece in [first, second].into_iter().chain(data) {
                    whole.extend_from_slice(piece);
                }
                whole.freeze()
            }
        }
    }
}

impl<E: Exchange> Exchange for Held<'_, E> {
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Ok(frame)),
            None if self.over => Poll::Ready(Ok(Frame::End)),
            None => self.inner.poll_request(cx),
        }
    }

    fn origin(&self) -> Option<Origin> {
        self.inner.origin()
    }

    fn limit_request(&mut self, bytes_max: u64) {
        self.inner.limit_request(bytes_max);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.inner.poll_gone(cx)
    }

    fn bytes_in(&self) -> u64 {
        self.inner.bytes_in()
    }

    fn bytes_out(&self) -> u64 {
        self.inner.bytes_out()
    }

    fn send_head(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        self.inner.send_head(head, additions)
    }

    fn head_sent(&self) -> bool {
        self.inner.head_sent()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        self.inner.send_frame(frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn abort(&mut self) {
        self.inner.abort();
    }
}

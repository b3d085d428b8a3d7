//! A request's body that is read before its request goes on: what was read is given
//! out again, in its order, to whoever forwards it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::exchange::{BodyError, Exchange, Frame};
use crate::layer::Layer;

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
            self.read_frame().await?;
        }
        Ok(if self.bytes <= bytes_max { Ahead::Whole } else { Ahead::More })
    }

    /// Reads one more piece, which is held too. The body's bytes, if it has some; none
    /// at its end.
    ///
    /// # Errors
    /// The body cannot be read.
    pub async fn read_frame(&mut self) -> Result<Option<Bytes>, BodyError> {
        let frame = poll_fn(|cx| self.inner.poll_request(cx)).await?;
        let data = match &frame {
            Frame::Data(data) => {
                self.bytes = self.bytes.saturating_add(data.len());
                Some(data.clone())
            }
            Frame::Trailers(_) | Frame::End => {
                self.over = true;
                None
            }
        };
        self.frames.push_back(frame);
        Ok(data)
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

impl<E: Exchange> Layer for Held<'_, E> {
    type Inner = E;

    fn inner(&self) -> &E {
        self.inner
    }

    fn inner_mut(&mut self) -> &mut E {
        self.inner
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Ok(frame)),
            None if self.over => Poll::Ready(Ok(Frame::End)),
            None => self.inner.poll_request(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Additions, ResponseHead};
    use crate::proxy_protocol::Origin;
    use std::io;

    /// A client's exchange with three pieces of body, which notes how it was given up.
    #[derive(Default)]
    struct Client {
        given: u8,
        severed: bool,
        aborted: bool,
    }

    impl Exchange for Client {
        fn poll_request(&mut self, _: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
            self.given += 1;
            Poll::Ready(Ok(if self.given > 3 { Frame::End } else { Frame::Data(vec![self.given; 2].into()) }))
        }

        fn limit_request(&mut self, _: u64) {}

        fn origin(&self) -> Option<Origin> {
            None
        }

        fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<io::Error> {
            Poll::Pending
        }

        fn bytes_in(&self) -> u64 {
            0
        }

        fn bytes_out(&self) -> u64 {
            0
        }

        fn send_head(&mut self, _: &ResponseHead, _: &Additions) -> io::Result<()> {
            Ok(())
        }

        fn head_sent(&self) -> bool {
            true
        }

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn send_frame(&mut self, _: Frame) -> io::Result<()> {
            Ok(())
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn abort(&mut self) {
            self.aborted = true;
        }

        fn sever(&mut self) {
            self.severed = true;
        }
    }

    #[tokio::test]
    async fn what_two_readers_read_ahead_is_one_body_and_goes_on_once() {
        let mut client = Client::default();
        let mut held = Held::new(&mut client);
        assert_eq!(held.read_frame().await.unwrap().as_deref(), Some(&[1, 1][..]));
        assert_eq!(held.read_ahead(3).await.unwrap(), Ahead::More);
        assert_eq!(held.body(), &[1, 1, 2, 2][..]);
        assert_eq!(held.read_ahead(6).await.unwrap(), Ahead::Whole);
        let mut out = Vec::new();
        while let Frame::Data(data) = poll_fn(|cx| Exchange::poll_request(&mut held, cx)).await.unwrap() {
            out.extend_from_slice(&data);
        }
        assert_eq!(out, [1, 1, 2, 2, 3, 3]);
        assert!(matches!(poll_fn(|cx| Exchange::poll_request(&mut held, cx)).await, Ok(Frame::End)));
    }

    #[test]
    fn a_cut_reaches_the_client_as_a_cut() {
        let mut client = Client::default();
        Held::new(&mut client).sever();
        assert!(client.severed && !client.aborted);
        Held::new(&mut client).abort();
        assert!(client.aborted);
    }
}

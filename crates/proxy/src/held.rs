//! A request's body that is read before its request goes on: what was read is given
//! out again, in its order, to whoever forwards it.

mod budget;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use model::ClientNetwork;

use crate::exchange::{BodyError, Exchange, Frame};
use crate::head::Fields;
use crate::layer::Layer;
use budget::UNCOUNTED_BYTES_MAX;
pub use budget::{HeldBudget, HeldShare, held_bytes, held_bytes_of_one_max};
pub(crate) use budget::{PIECES_MAX, cost};

/// Pieces past the first so many bytes, or the first [`PIECES_MAX`], are put together to blocks of as
/// many: a piece alone would hold all the memory that it was read into.
const BLOCK_BYTES: usize = 64 * 1024;

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
    share: HeldShare<'e>,
    frames: VecDeque<Frame>,
    /// The block that is being filled; behind `frames`.
    block: BytesMut,
    bytes: usize,
    over: bool,
    /// Whether the body ends without its trailers.
    drops_trailers: bool,
    /// What somebody else keeps: how much, and the last piece of it.
    lent: usize,
    last: Bytes,
    /// The same as far as it is not what came, and whether anybody else keeps anything.
    besides: usize,
    is_kept: bool,
}

/// What was kept by somebody else is not what came: the request cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTheSame;

impl<'e, E: Exchange> Held<'e, E> {
    /// Nothing was read yet.
    pub fn new(inner: &'e mut E, share: HeldShare<'e>) -> Self {
        Self {
            inner,
            share,
            frames: VecDeque::new(),
            block: BytesMut::new(),
            bytes: 0,
            over: false,
            drops_trailers: false,
            lent: 0,
            last: Bytes::new(),
            besides: 0,
            is_kept: false,
        }
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
        let data = self.next_frame().await?;
        if let Some(data) = &data {
            self.hold(data);
        }
        Ok(data)
    }

    /// Reads one more piece, which somebody else keeps: [`Self::give_back`] must follow
    /// before the request goes on.
    ///
    /// # Errors
    /// The body cannot be read.
    pub async fn lend_frame(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.is_kept = true;
        let data = self.next_frame().await?;
        if let Some(data) = &data {
            self.lent = self.lent.saturating_add(data.len());
            self.last = data.clone();
        }
        Ok(data)
    }

    /// Counts so many bytes that somebody else has made of the body and keeps besides.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn keep_besides(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.is_kept = true;
        self.besides = bytes;
        self.share.hold(self.cost())
    }

    /// Takes back what was lent. `kept` may end within the last piece.
    ///
    /// # Errors
    /// It cannot be what was lent.
    pub fn give_back(&mut self, kept: &Bytes) -> Result<(), NotTheSame> {
        let (lent, last) = (std::mem::take(&mut self.lent), std::mem::take(&mut self.last));
        let missing = lent.checked_sub(kept.len()).ok_or(NotTheSame)?;
        let rest = last.len().checked_sub(missing).map(|from| last.slice(from..)).ok_or(NotTheSame)?;
        let whole = (0..kept.len()).step_by(BLOCK_BYTES);
        let blocks = whole.map(|from| kept.slice(from..kept.len().min(from + BLOCK_BYTES)));
        let mut frames: VecDeque<Frame> = blocks.map(Frame::Data).collect();
        if rest.has_remaining() {
            frames.push_back(Frame::Data(rest));
        }
        frames.append(&mut self.frames);
        self.frames = frames;
        Ok(())
    }

    /// The trailers, where the body was read to its end and has some.
    pub fn trailers(&self) -> Option<&Fields> {
        match self.frames.back() {
            Some(Frame::Trailers(fields)) => Some(fields),
            Some(Frame::Data(_) | Frame::End) | None => None,
        }
    }

    /// No trailers go on, whenever they come: whoever forwards a message may drop them (RFC 9110
    /// §6.5.1).
    pub fn drop_trailers(&mut self) {
        self.drops_trailers = true;
    }

    /// What is held, in bytes, with what pieces and a block that is not full cost besides.
    fn cost(&self) -> usize {
        let block = self.block.capacity() - self.block.len();
        cost::<Frame>(self.bytes.saturating_add(self.besides).saturating_add(block), self.frames.capacity())
    }

    async fn next_frame(&mut self) -> Result<Option<Bytes>, BodyError> {
        let cost = self.cost();
        if cost > UNCOUNTED_BYTES_MAX {
            self.share.hold(cost)?;
        }
        let Self { inner, share, .. } = self;
        let next = poll_fn(|cx| {
            let polled = inner.poll_request(cx);
            // Whoever makes us wait with something in our hands is counted for it.
            if polled.is_pending() {
                share.hold(cost)?;
            }
            polled
        });
        match next.await? {
            Frame::Data(data) => {
                self.bytes = self.bytes.saturating_add(data.len());
                Ok(Some(data))
            }
            frame @ (Frame::Trailers(_) | Frame::End) => {
                self.end_block();
                self.over = true;
                self.frames.push_back(frame);
                Ok(None)
            }
        }
    }

    fn hold(&mut self, data: &Bytes) {
        if self.bytes <= BLOCK_BYTES && self.frames.len() < PIECES_MAX && self.block.is_empty() {
            self.frames.push_back(Frame::Data(data.clone()));
            return;
        }
        let mut rest = data.clone();
        while rest.has_remaining() {
            if self.block.capacity() == 0 {
                self.block.reserve(BLOCK_BYTES);
            }
            let room = BLOCK_BYTES - self.block.len();
            self.block.extend_from_slice(&rest.split_to(room.min(rest.len())));
            if self.block.len() == BLOCK_BYTES {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        if !self.block.is_empty() {
            self.frames.push_back(Frame::Data(std::mem::take(&mut self.block).freeze()));
        }
    }

    /// Whether the body was read to its end.
    pub fn is_whole(&self) -> bool {
        self.over
    }

    /// What is held of the body, as one piece.
    pub fn body(&self) -> Bytes {
        let mut data = self.frames.iter().filter_map(|frame| match frame {
            Frame::Data(data) => Some(data),
            Frame::Trailers(_) | Frame::End => None,
        });
        if let (Some(only), None, true) = (data.next(), data.next(), self.block.is_empty()) {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(self.bytes);
        for frame in &self.frames {
            if let Frame::Data(piece) = frame {
                whole.extend_from_slice(piece);
            }
        }
        whole.extend_from_slice(&self.block);
        whole.freeze()
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

    fn network(&self) -> Option<ClientNetwork> {
        self.share.network()
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        let frame = match self.frames.pop_front() {
            Some(frame) => frame,
            None if !self.block.is_empty() => Frame::Data(std::mem::take(&mut self.block).freeze()),
            None if self.over => Frame::End,
            None => ready!(self.inner.poll_request(cx))?,
        };
        // What somebody else keeps lasts as long as the exchange.
        if self.frames.is_empty() && self.block.is_empty() && !self.is_kept {
            self.share.release();
        }
        Poll::Ready(Ok(match frame {
            Frame::Trailers(_) if self.drops_trailers => Frame::End,
            frame => frame,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Additions, ResponseHead};
    use crate::proxy_protocol::Origin;
    use std::io;
    use std::sync::Arc;

    use crate::limits::Limits;

    /// A share of a budget of nobody else's.
    fn unbounded() -> HeldShare<'static> {
        Box::leak(Box::new(HeldBudget::new(Arc::default()))).share(&Limits::default(), None)
    }

    /// A client's exchange with three pieces of body, which notes how it was given up.
    #[derive(Default)]
    struct Client {
        given: u8,
        /// Whether each piece is waited for.
        trickles: bool,
        waited: bool,
        ends_with_trailers: bool,
        severed: bool,
        aborted: bool,
    }

    impl Exchange for Client {
        fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
            if self.trickles && !std::mem::replace(&mut self.waited, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.waited = false;
            self.given += 1;
            Poll::Ready(Ok(match self.given {
                1..=3 => Frame::Data(vec![self.given; 2].into()),
                4 if self.ends_with_trailers => Frame::Trailers(Fields::default()),
                _ => Frame::End,
            }))
        }

        fn limit_request(&mut self, _: u64) {}

        fn origin(&self) -> Option<Origin> {
            None
        }

        fn until_ms(&self) -> u64 {
            0
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
        let mut held = Held::new(&mut client, unbounded());
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

    #[tokio::test]
    async fn what_is_held_while_more_is_waited_for_is_counted_until_it_goes_on() {
        let budget = HeldBudget::new(Arc::default());
        let limits = Limits { held_bytes_per_address_max: 4 * 1024, ..Limits::default() };
        let network = Some(ClientNetwork::of([10, 0, 0, 1].into()));
        let share = || budget.share(&limits, network);
        // Whoever sends all at once is not counted.
        let mut client = Client::default();
        let mut held = Held::new(&mut client, share());
        assert_eq!(held.read_ahead(usize::MAX).await.unwrap(), Ahead::Whole);
        assert!(budget.is_empty());
        drop(held);

        // Before anything came there is nothing to count.
        let mut client = Client { trickles: true, ..Client::default() };
        let mut held = Held::new(&mut client, share());
        held.read_frame().await.unwrap();
        assert!(budget.is_empty());
        held.read_frame().await.unwrap();
        assert!(!budget.is_empty());
        let mut other = Client { trickles: true, ..Client::default() };
        let refused = Held::new(&mut other, share()).read_ahead(usize::MAX).await;
        assert!(matches!(refused, Err(BodyError::NoRoom { limit: "held_bytes_per_address_max" })));
        assert_eq!(rest_of(&mut held).await, [1, 1, 2, 2, 3, 3]);
        assert!(budget.is_empty(), "it has gone on");

        // What others keep of it, or have made of it, is there until the end.
        for besides in [false, true] {
            let mut client = Client { trickles: true, ..Client::default() };
            let mut held = Held::new(&mut client, share());
            if besides {
                held.keep_besides(1).unwrap();
                assert!(held.keep_besides(4 * 1024 + 1).is_err());
            } else {
                while held.lend_frame().await.unwrap().is_some() {}
                held.give_back(&Bytes::from_static(&[1, 1, 2, 2, 3, 3])).unwrap();
            }
            assert_eq!(rest_of(&mut held).await, [1, 1, 2, 2, 3, 3]);
            assert!(!budget.is_empty());
            drop(held);
            assert!(budget.is_empty());
        }
    }

    #[tokio::test]
    async fn what_is_large_or_in_many_pieces_is_counted_also_where_it_comes_at_once() {
        for (bytes, pieces, counted) in [(16 * 1024, 0, false), (16 * 1024 + 1, 0, true), (600, 600, true)] {
            let budget = HeldBudget::new(Arc::default());
            let mut client = Client::default();
            let mut held = Held::new(&mut client, budget.share(&Limits::default(), None));
            held.bytes = bytes;
            held.frames = (0..pieces).map(|_| Frame::Data(Bytes::from_static(b"x"))).collect();
            held.read_frame().await.unwrap();
            assert_eq!(!budget.is_empty(), counted, "{bytes} {pieces}");
        }
    }

    async fn rest_of(held: &mut Held<'_, Client>) -> Vec<u8> {
        let mut out = Vec::new();
        while let Frame::Data(data) = poll_fn(|cx| Exchange::poll_request(held, cx)).await.unwrap() {
            out.extend_from_slice(&data);
        }
        out
    }

    #[tokio::test]
    async fn what_was_lent_comes_back_whole_also_where_less_of_it_was_kept() {
        for (pieces, kept) in [(3, 6), (3, 5), (3, 4), (2, 4), (2, 3), (1, 0), (0, 0)] {
            let mut client = Client::default();
            let mut held = Held::new(&mut client, unbounded());
            let mut lent = Vec::new();
            for _ in 0..pieces {
                lent.extend_from_slice(&held.lend_frame().await.unwrap().unwrap());
            }
            held.give_back(&Bytes::copy_from_slice(&lent[..kept])).unwrap();
            assert_eq!(rest_of(&mut held).await, [1, 1, 2, 2, 3, 3], "{pieces} {kept}");
        }
        let mut client = Client::default();
        let mut held = Held::new(&mut client, unbounded());
        while held.lend_frame().await.unwrap().is_some() {}
        // More than was lent, and less than the last piece explains.
        for kept in [7, 3] {
            assert_eq!(held.give_back(&Bytes::from(vec![0; kept])), Err(NotTheSame));
            held.lent = 6;
            held.last = Bytes::from_static(&[3, 3]);
        }
    }

    #[tokio::test]
    async fn what_comes_in_small_pieces_is_held_in_blocks() {
        let mut client = Client::default();
        let mut held = Held::new(&mut client, unbounded());
        let mut sent = Vec::new();
        for number in 0..4_000_u32 {
            let data = Bytes::from(number.to_be_bytes().repeat(16));
            sent.extend_from_slice(&data);
            held.bytes += data.len();
            held.hold(&data);
        }
        assert_eq!(held.body(), sent);
        assert!(held.frames.len() < 1_024 + sent.len() / BLOCK_BYTES + 1, "{} frames", held.frames.len());
        held.over = true;
        assert_eq!(rest_of(&mut held).await, sent);
    }

    #[test]
    fn in_whatever_pieces_a_body_comes_it_counts_as_the_memory_it_takes_and_no_more_than_is_said() {
        for (piece, pieces) in [(1, 200_000), (100, 20_000), (1_400, 3_000), (16_384, 200), (1 << 20, 9)] {
            let mut client = Client::default();
            let mut held = Held::new(&mut client, unbounded());
            for count in 1..=pieces {
                let data = Bytes::from(vec![0; piece]);
                held.bytes += piece;
                held.hold(&data);
                let taken: usize = held.frames.capacity() * size_of::<Frame>()
                    + held.block.capacity()
                    + held
                        .frames
                        .iter()
                        .map(|frame| if let Frame::Data(data) = frame { data.len() } else { 0 })
                        .sum::<usize>();
                let (cost, most) = (held.cost(), held_bytes((piece * count) as u64));
                assert_eq!(cost, taken, "{piece} {count}");
                assert!(cost as u64 <= most, "{piece} {count}: {cost} {most}");
            }
        }
    }

    #[tokio::test]
    async fn trailers_are_known_once_the_body_is_read_and_go_on_unless_they_are_dropped() {
        for (reads, drops) in [(true, false), (true, true), (false, false), (false, true)] {
            let mut client = Client { ends_with_trailers: true, ..Client::default() };
            let mut held = Held::new(&mut client, unbounded());
            if drops {
                held.drop_trailers();
            }
            if reads {
                assert_eq!(held.read_ahead(usize::MAX).await.unwrap(), Ahead::Whole);
            }
            assert_eq!(held.trailers().is_some(), reads);
            let end = loop {
                match poll_fn(|cx| Exchange::poll_request(&mut held, cx)).await.unwrap() {
                    Frame::Data(_) => {}
                    end => break end,
                }
            };
            assert_eq!(matches!(end, Frame::Trailers(_)), !drops, "{reads} {drops}");
        }
    }

    #[test]
    fn a_cut_reaches_the_client_as_a_cut() {
        let mut client = Client::default();
        Held::new(&mut client, unbounded()).sever();
        assert!(client.severed && !client.aborted);
        Held::new(&mut client, unbounded()).abort();
        assert!(client.aborted);
    }
}

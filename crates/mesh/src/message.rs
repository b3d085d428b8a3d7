//! The messages of a call as they come in. Whoever begins one and does not end it holds what it has sent: each has
//! a time, and of one caller only few are unfinished at once.

use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::time::Sleep;
use tonic::Status;

use crate::quota::{Quota, Slot};

/// How long a message may take to come.
pub(crate) const MESSAGE_TIME_MAX: Duration = Duration::from_secs(10);
/// What comes before each message (gRPC over HTTP/2, "Length-Prefixed-Message"): whether it is compressed, and
/// its length.
const PREFIX_BYTES: usize = 5;

/// How many messages a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sends {
    /// One: it is read when the caller has ended.
    One,
    /// Any number, whenever the caller likes.
    Many,
}

/// What a caller sends.
pub(crate) struct Incoming<B, K: Eq + Hash> {
    body: B,
    sends: Sends,
    framing: Framing,
    unfinished: Option<Unfinished<K>>,
    quota: Arc<Quota<K>>,
    who: K,
}

struct Unfinished<K: Eq + Hash> {
    _slot: Slot<K>,
    until: Pin<Box<Sleep>>,
}

/// A request whose messages are told by [`Incoming`].
///
/// # Errors
/// Too many messages of the same caller, or of all, are unfinished.
pub(crate) fn incoming<B, K: Eq + Hash + Copy>(
    request: http::Request<B>,
    sends: Sends,
    quota: &Arc<Quota<K>>,
    who: K,
) -> Result<http::Request<Incoming<B, K>>, Status> {
    let (head, body) = request.into_parts();
    Ok(http::Request::from_parts(head, Incoming::new(body, sends, quota, who)?))
}

impl<B, K: Eq + Hash + Copy> Incoming<B, K> {
    /// Begins to wait for the first message.
    fn new(body: B, sends: Sends, quota: &Arc<Quota<K>>, who: K) -> Result<Self, Status> {
        let unfinished = Some(Unfinished::new(quota, who)?);
        Ok(Self { body, sends, framing: Framing::default(), unfinished, quota: Arc::clone(quota), who })
    }

    fn took(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.framing.take(bytes);
        match (self.sends, self.framing.is_between()) {
            (Sends::One, _) => {}
            (Sends::Many, true) => self.unfinished = None,
            (Sends::Many, false) if self.unfinished.is_none() => {
                self.unfinished = Some(Unfinished::new(&self.quota, self.who)?);
            }
            (Sends::Many, false) => {}
        }
        Ok(())
    }
}

impl<K: Eq + Hash + Copy> Unfinished<K> {
    fn new(quota: &Arc<Quota<K>>, who: K) -> Result<Self, Status> {
        let slot = quota.take(who);
        let slot = slot.ok_or_else(|| Status::resource_exhausted("too many messages are unfinished"))?;
        Ok(Self { _slot: slot, until: Box::pin(tokio::time::sleep(MESSAGE_TIME_MAX)) })
    }
}

impl<B, K> Body for Incoming<B, K>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
    K: Eq + Hash + Copy + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(unfinished) = &mut self.unfinished
            && unfinished.until.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(Status::deadline_exceeded("the message did not come in time"))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let took = match frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            Some(bytes) => self.took(bytes),
            None => Ok(()),
        };
        if frame.is_none() {
            self.unfinished = None;
        }
        Poll::Ready(took.map_or_else(|status| Some(Err(status)), |()| frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Framing {
    /// Bytes of its prefix.
    prefix: usize,
    /// Its length, as far as that is known.
    length: usize,
    /// Bytes of it after the prefix.
    come: usize,
}

impl Framing {
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.prefix < PREFIX_BYTES {
                if self.prefix > 0 {
                    self.length = self.length << 8 | usize::from(*first);
                }
                self.prefix += 1;
                bytes = rest;
            } else {
                let count = bytes.len().min(self.length - self.come);
                self.come += count;
                bytes = bytes.get(count..).unwrap_or_default();
            }
            if self.prefix == PREFIX_BYTES && self.come == self.length {
                *self = Self::default();
            }
        }
    }

    /// Whether nothing of a message has come.
    fn is_between(self) -> bool {
        self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;

    /// What comes through a channel.
    struct Said(mpsc::UnboundedReceiver<Vec<u8>>);

    impl Body for Said {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let said = ready!(self.0.poll_recv(context));
            Poll::Ready(said.map(|bytes| Ok(Frame::data(bytes.into()))))
        }
    }

    type Call = Incoming<Said, u32>;

    fn call(sends: Sends, quota: &Arc<Quota<u32>>) -> Result<(Call, mpsc::UnboundedSender<Vec<u8>>), Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        Ok((Incoming::new(Said(receiver), sends, quota, 1)?, sender))
    }

    async fn next(call: &mut Call) -> Option<Result<usize, tonic::Code>> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *call).poll_frame(context));
        let frame = tokio::time::timeout(MESSAGE_TIME_MAX * 99, frame).await.expect("it goes on for ever")?;
        Some(frame.map(|frame| frame.data_ref().unwrap().len()).map_err(|status| status.code()))
    }

    fn message(bytes: u8) -> Vec<u8> {
        [&[0, 0, 0, 0, bytes][..], &vec![7; usize::from(bytes)]].concat()
    }

    const SHORT: Duration = Duration::from_millis(5);

    #[tokio::test(start_paused = true)]
    async fn a_message_has_its_time_and_no_more_however_it_comes() {
        let quota = Quota::new(9, 9);
        for (sends, end) in [(Sends::One, None), (Sends::One, Some(message(3))), (Sends::Many, None)] {
            let (mut call, sender) = call(sends, &quota).unwrap();
            sender.send(message(9)[..6].to_vec()).unwrap();
            assert_eq!(next(&mut call).await, Some(Ok(6)));
            tokio::time::sleep(MESSAGE_TIME_MAX - SHORT).await;
            // Whole, but not ended: it is not read before that.
            if let Some(end) = end {
                sender.send(end).unwrap();
                assert_eq!(next(&mut call).await, Some(Ok(8)));
            }
            assert!(tokio::time::timeout(SHORT / 5, next(&mut call)).await.is_err(), "not yet");
            assert_eq!(next(&mut call).await, Some(Err(tonic::Code::DeadlineExceeded)));
        }
        // Who ends in time has ended; who says nothing at all has the same time.
        let (mut one, sender) = call(Sends::One, &quota).unwrap();
        sender.send(message(3)).unwrap();
        drop(sender);
        assert_eq!((next(&mut one).await, next(&mut one).await), (Some(Ok(8)), None));
        for sends in [Sends::One, Sends::Many] {
            let (mut call, _sender) = call(sends, &quota).unwrap();
            assert_eq!(next(&mut call).await, Some(Err(tonic::Code::DeadlineExceeded)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn between_the_messages_of_a_stream_there_is_any_time_and_each_has_its_own() {
        let quota = Quota::new(1, 9);
        let (mut stream, sender) = call(Sends::Many, &quota).unwrap();
        for _ in 0..3 {
            sender.send(message(3)).unwrap();
            assert_eq!(next(&mut stream).await, Some(Ok(8)));
            let long = MESSAGE_TIME_MAX * 9;
            assert!(tokio::time::timeout(long, next(&mut stream)).await.is_err(), "it goes on");
        }
        // One whole and a piece of the next.
        sender.send([message(3), vec![0]].concat()).unwrap();
        assert_eq!(next(&mut stream).await, Some(Ok(9)));
        assert!(call(Sends::One, &quota).is_err(), "it is unfinished again");
        assert_eq!(next(&mut stream).await, Some(Err(tonic::Code::DeadlineExceeded)));
    }

    #[tokio::test]
    async fn so_many_are_unfinished_and_one_that_has_ended_makes_room() {
        let quota = Quota::new(2, 9);
        let (mut one, ended) = call(Sends::One, &quota).unwrap();
        let (mut stream, sender) = call(Sends::Many, &quota).unwrap();
        let refused = || call(Sends::One, &quota).err().map(|status| status.code());
        assert_eq!(refused(), Some(tonic::Code::ResourceExhausted));
        // Of a stream it is the message that counts.
        sender.send(message(3)).unwrap();
        assert_eq!(next(&mut stream).await, Some(Ok(8)));
        let third = call(Sends::One, &quota).unwrap();
        sender.send(vec![0]).unwrap();
        assert_eq!(next(&mut stream).await, Some(Err(tonic::Code::ResourceExhausted)), "another has come");
        ended.send(message(0)).unwrap();
        assert_eq!(next(&mut one).await, Some(Ok(5)));
        assert_eq!(refused(), Some(tonic::Code::ResourceExhausted));
        drop(ended);
        assert_eq!(next(&mut one).await, None);
        assert_eq!(refused(), None);
        drop(third);
    }

    proptest! {
        #[test]
        fn where_a_message_ends_is_seen_however_it_is_cut(
            lengths in proptest::collection::vec(0_u8..40, 1..9),
            piece in 1_usize..30,
            cut in 1_usize..5,
        ) {
            let whole: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
            let mut framing = Framing::default();
            whole.chunks(piece).for_each(|bytes| framing.take(bytes));
            prop_assert!(framing.is_between());
            framing.take(&message(9)[..cut]);
            prop_assert!(!framing.is_between());
        }

        #[test]
        fn no_bytes_are_too_many(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            Framing::default().take(&bytes);
        }
    }
}

//! Calls that are not over: a stream lasts as long as its caller likes, and costs a task and what waits to be read.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// An answer that holds something until it is over, or nobody waits for it any more.
struct Holding<S> {
    answer: Body,
    _held: S,
}

/// Has an answer hold this.
pub(crate) fn holding<S: Send + Unpin + 'static>(
    answer: http::Response<Body>,
    held: S,
) -> http::Response<Body> {
    answer.map(|answer| Body::new(Holding { answer, _held: held }))
}

impl<S: Unpin> hyper::body::Body for Holding<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.answer).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

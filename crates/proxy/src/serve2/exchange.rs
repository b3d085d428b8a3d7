//! One request and its answer on an HTTP/2 stream.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, StatusCode};

use crate::admit::IdentityHeaders;
use crate::deadline::{Ticker, Watch, earlier};
use crate::exchange::{BodyError, Exchange, Frame};
use crate::head::{Additions, Framing, RequestHead, ResponseHead};
use crate::http2::head::{to_h2_response, trailers_from_h2, trailers_to_h2};
use crate::limits::{Hits, Limits};
use crate::proxy_protocol::Origin;
use crate::serve1::{LINGER, LINGER_BYTES_MAX};
use crate::stream2::{Received, Receiver, Sender};

pub(super) struct Exchange2<'l> {
    /// The ends of the client's connection.
    pub(super) origin: Option<Origin>,
    receiver: Receiver,
    respond: SendResponse<Bytes>,
    sender: Option<Sender>,
    method: Method,
    expects_continue: bool,
    limits: &'l Limits,
    identity: &'l IdentityHeaders,
    body_bytes_max: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Bytes that the head promised and that are still to come.
    left: Option<u64>,
    ended: bool,
    aborted: bool,
    watch: Watch,
    hits: &'l Hits,
    read_until: u64,
    write_until: u64,
    total: u64,
}

impl<'l> Exchange2<'l> {
    pub(super) fn new(
        head: Option<&RequestHead>,
        body: RecvStream,
        respond: SendResponse<Bytes>,
        limits: &'l Limits,
        identity: &'l IdentityHeaders,
        ticker: &Rc<Ticker>,
        hits: &'l Hits,
    ) -> Self {
        Self {
            origin: None,
            receiver: Receiver::new(body),
            respond,
            sender: None,
            method: head.map_or(Method::GET, |head| head.method.clone()),
            expects_continue: head.is_some_and(|head| head.expects_continue),
            limits,
            identity,
            body_bytes_max: limits.body_bytes_max,
            bytes_in: 0,
            bytes_out: 0,
            left: None,
            ended: false,
            aborted: false,
            watch: Watch::new(ticker),
            hits,
            read_until: 0,
            write_until: 0,
            total: ticker.moment(limits.request_ms_max),
        }
    }

    fn moment(&self, after: Duration) -> u64 {
        self.watch.ticker().moment(after)
    }

    /// Says which time was over.
    fn count_late(&self) {
        let all = self.watch.ticker().now_ms() >= self.total;
        self.hits.count(if all { "request_ms_max" } else { "body_idle_ms_max" });
    }

    fn poll_late(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.watch.set(earlier(self.total, earlier(self.read_until, self.write_until)));
        self.watch.poll(cx)
    }

    /// Sends what is left, or lets the client see that something is missing.
    pub(super) async fn finish(mut self) {
        if self.sender.is_none() {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
            return;
        }
        if !self.ended || self.aborted {
            self.reset();
            return;
        }
        if std::future::poll_fn(|cx| self.poll_flush(cx)).await.is_err() {
            self.reset();
            return;
        }
        self.linger().await;
        // A request whose body is still not over ends here: `h2` resets it with
        // NO_ERROR (RFC 9113 §8.1).
    }

    /// Lets the client send the rest of a body that nobody reads, within bounds: some
    /// (curl 7.88) take a reset that meets them sending for a failure, with the whole
    /// answer in hand.
    async fn linger(&mut self) {
        self.watch.set_after(LINGER);
        let mut left = LINGER_BYTES_MAX;
        std::future::poll_fn(|cx| {
            loop {
                match self.receiver.poll(cx) {
                    Poll::Ready(Ok(Received::Data(data))) if data.len() <= left => left -= data.len(),
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.watch.poll(cx),
                }
            }
        })
        .await;
    }

    fn reset(&mut self) {
        if let Some(sender) = &mut self.sender {
            sender.reset(Reason::INTERNAL_ERROR);
        }
    }

    fn account(&mut self, data: &Bytes) -> Result<(), BodyError> {
        self.bytes_in += data.len() as u64;
        self.read_until = 0;
        if self.bytes_in > self.body_bytes_max {
            return Err(BodyError::TooLarge { limit: self.body_bytes_max });
        }
        Ok(())
    }
}

fn unwritable(error: crate::http2::head::Unwritable) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

impl Exchange for Exchange2<'_> {
    fn origin(&self) -> Option<Origin> {
        self.origin
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        if self.expects_continue {
            self.expects_continue = false;
            if self.sender.is_none() {
                let mut interim = http::Response::new(());
                *interim.status_mut() = StatusCode::CONTINUE;
                // Without it the client just waits its own time.
                let _ = self.respond.send_informational(interim);
            }
        }
        match self.receiver.poll(cx) {
            Poll::Ready(Ok(Received::Data(data))) => {
                self.account(&data)?;
                Poll::Ready(Ok(Frame::Data(data)))
            }
            Poll::Ready(Ok(Received::End)) => Poll::Ready(Ok(Frame::End)),
            Poll::Ready(Ok(Received::Trailers(trailers))) => {
                let mut fields = trailers_from_h2(&trailers, self.limits)
                    .map_err(|class| BodyError::Malformed(class.name()))?;
                self.identity.strip(&mut fields);
                Poll::Ready(Ok(if fields.is_empty() { Frame::End } else { Frame::Trailers(fields) }))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(BodyError::Io(error))),
            Poll::Pending => {
                if self.read_until == 0 {
                    self.read_until = self.moment(self.limits.body_idle_ms_max);
                }
                ready!(self.poll_late(cx));
                self.count_late();
                Poll::Ready(Err(BodyError::Timeout))
            }
        }
    }

    fn limit_request(&mut self, bytes_max: u64) {
        self.body_bytes_max = bytes_max;
    }

    fn until_ms(&self) -> u64 {
        self.total
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.sender {
            Some(sender) if sender.is_ended() => Poll::Pending,
            Some(sender) => sender.poll_reset(cx),
            None => Poll::Ready(match ready!(self.respond.poll_reset(cx)) {
                Ok(reason) => io::Error::new(io::ErrorKind::ConnectionReset, reason.to_string()),
                Err(error) => crate::stream2::broken(error),
            }),
        }
    }

    fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    fn send_interim(&mut self, head: &ResponseHead) {
        if self.sender.is_none()
            && let Ok(built) = to_h2_response(head, None, &self.method)
        {
            // A stream that has broken says so at the final head.
            let _ = self.respond.send_informational(built);
        }
    }

    fn send_head(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        if self.sender.is_some() || head.status.is_informational() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let built = to_h2_response(head, Some(additions), &self.method).map_err(unwritable)?;
        let bodiless = self.method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
        self.ended = bodiless || matches!(head.framing, Framing::None | Framing::Length(0));
        if let Framing::Length(length) = head.framing {
            self.left = Some(length);
        }
        let stream = self.respond.send_response(built, self.ended).map_err(crate::stream2::broken)?;
        self.sender = Some(Sender::new(stream, self.ended));
        Ok(())
    }

    fn head_sent(&self) -> bool {
        self.sender.is_some()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.sender {
            Some(sender) if !sender.has_room() => self.poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        let Some(sender) = &mut self.sender else { return Err(io::ErrorKind::InvalidInput.into()) };
        if self.ended {
            return Ok(());
        }
        match frame {
            Frame::Data(data) => {
                let length = data.len() as u64;
                self.bytes_out += length;
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(length).ok_or(io::ErrorKind::InvalidData)?;
                }
                sender.data(data)?;
            }
            Frame::End | Frame::Trailers(_) if self.left.is_some_and(|left| left > 0) => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Frame::End => {
                sender.end(None);
                self.ended = true;
            }
            Frame::Trailers(fields) => {
                sender.end(Some(trailers_to_h2(&fields).map_err(unwritable)?));
                self.ended = true;
            }
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sender) = &mut self.sender else { return Poll::Ready(Ok(())) };
        let before = sender.pending();
        match sender.poll_flush(cx) {
            Poll::Ready(result) => {
                self.write_until = 0;
                return Poll::Ready(result);
            }
            Poll::Pending => {}
        }
        if self.write_until == 0 || sender.pending() != before {
            self.write_until = self.moment(self.limits.body_idle_ms_max);
        }
        ready!(self.poll_late(cx));
        self.count_late();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn abort(&mut self) {
        self.aborted = true;
    }

    fn sever(&mut self) {
        // RST_STREAM does not wait for what the client has not read.
        self.abort();
    }
}

//! Layers around an exchange: what a layer does not change reaches the exchange beneath.

use std::io;
use std::task::{Context, Poll};

use model::ClientNetwork;

use crate::exchange::{BodyError, Exchange, Frame};
use crate::head::{Additions, ResponseHead};
use crate::proxy_protocol::Origin;

/// Something between the forwarder and the client that changes some of what passes. Each
/// method stands for the one of the same name in [`Exchange`] and hands on what it is
/// given; a layer writes out those that it changes. Every layer is an exchange.
pub trait Layer {
    /// What lies beneath.
    type Inner: Exchange;

    /// The exchange beneath.
    fn inner(&self) -> &Self::Inner;

    /// The same, to act on.
    fn inner_mut(&mut self) -> &mut Self::Inner;

    /// See [`Exchange::network`].
    fn network(&self) -> Option<ClientNetwork> {
        self.inner().network()
    }

    /// See [`Exchange::poll_request`].
    ///
    /// # Errors
    /// See there.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        self.inner_mut().poll_request(cx)
    }

    /// See [`Exchange::send_interim`].
    fn send_interim(&mut self, head: &ResponseHead) {
        self.inner_mut().send_interim(head);
    }

    /// See [`Exchange::send_head`].
    ///
    /// # Errors
    /// See there.
    fn send_head(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        self.inner_mut().send_head(head, additions)
    }

    /// See [`Exchange::poll_ready`].
    ///
    /// # Errors
    /// See there.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner_mut().poll_ready(cx)
    }

    /// See [`Exchange::send_frame`].
    ///
    /// # Errors
    /// See there.
    fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        self.inner_mut().send_frame(frame)
    }

    /// See [`Exchange::poll_flush`].
    ///
    /// # Errors
    /// See there.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner_mut().poll_flush(cx)
    }
}

/// What no layer changes, a cut above all: it must not wait for a layer that holds
/// something back.
impl<L: Layer> Exchange for L {
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        Layer::poll_request(self, cx)
    }

    fn limit_request(&mut self, bytes_max: u64) {
        self.inner_mut().limit_request(bytes_max);
    }

    fn origin(&self) -> Option<Origin> {
        self.inner().origin()
    }

    fn network(&self) -> Option<ClientNetwork> {
        Layer::network(self)
    }

    fn until_ms(&self) -> u64 {
        self.inner().until_ms()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.inner_mut().poll_gone(cx)
    }

    fn bytes_in(&self) -> u64 {
        self.inner().bytes_in()
    }

    fn bytes_out(&self) -> u64 {
        self.inner().bytes_out()
    }

    fn send_interim(&mut self, head: &ResponseHead) {
        Layer::send_interim(self, head);
    }

    fn send_head(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        Layer::send_head(self, head, additions)
    }

    fn head_sent(&self) -> bool {
        self.inner().head_sent()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Layer::poll_ready(self, cx)
    }

    fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        Layer::send_frame(self, frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Layer::poll_flush(self, cx)
    }

    fn abort(&mut self) {
        self.inner_mut().abort();
    }

    fn sever(&mut self) {
        self.inner_mut().sever();
    }
}

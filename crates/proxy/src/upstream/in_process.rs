//! The way into a service that this process runs itself: the platform's own endpoints
//! end here where others end in a socket. Requests come to it as to any upstream, so
//! nothing about the way is different, and the service may live on another runtime.
//!
//! The way through it: [`in_process_pair`] makes both sides. The cores hold
//! [`InProcessConnector`]s and connect; the service takes its [`InProcessListener`] and answers
//! HTTP/1.1 on each stream that [`InProcessListener::accept`] gives.
//!
//! What it must never do: hold more than [`STREAM_BYTES_MAX`] of a body in either
//! direction, or wait without bound for a service that does not accept: the caller bounds the
//! time as it does for a socket.

use std::io;

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Bytes that may wait in each direction of one stream; whoever writes more waits.
pub const STREAM_BYTES_MAX: usize = 64 * 1024;

/// Streams that may wait to be taken; whoever comes later waits.
pub const WAITING_MAX: usize = 128;

/// Where requests for one in-process service go in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InProcessConnector(mpsc::Sender<DuplexStream>);

/// Where the service takes them.
#[derive(Debug)]
pub struct InProcessListener(mpsc::Receiver<DuplexStream>);

/// The two sides of a way into a service of this process.
pub fn in_process_pair() -> (InProcessConnector, InProcessListener) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (InProcessConnector(sender), InProcessListener(receiver))
}

impl InProcessConnector {
    /// Opens a stream to the service.
    ///
    /// # Errors
    /// The service has ended.
    pub(crate) async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(STREAM_BYTES_MAX);
        let gone = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the in-process service has ended");
        self.0.send(theirs).await.map_err(gone)?;
        Ok(ours)
    }
}

impl InProcessListener {
    /// The next stream; `None` when nobody can come any more.
    pub async fn accept(&mut self) -> Option<DuplexStream> {
        self.0.recv().await
    }
}

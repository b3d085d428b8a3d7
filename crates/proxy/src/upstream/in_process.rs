//! The way into a service that this process runs itself: the platform's own endpoints
//! end here where others end in a socket. Requests come to it as to any upstream, so
//! nothing about the way is different, and the service may live on another runtime.
//!
//! The way through it: [`in_process_pair`] makes both sides. A core's pool has a `Line` into
//! the service; each forwarded request is a `CallConnection`, which hands a [`Call`] over: a
//! message where others are bytes. The service takes them from its [`InProcessListener`] and
//! answers each by its [`Answerer`]. Calls that a core makes in one turn go in one piece, and
//! so do the answers to them: the threads wake each other once for many requests.
//!
//! What it must never do: hold more than [`GATHERED_BYTES_MAX`] and two pieces of a request's
//! body that the service does not take, or more than two pieces of an answer that the client
//! does not take; let a body that broke off look whole; or wait without bound for a service that
//! does not answer: the caller bounds the time as it does for a socket.
//!
//! How many calls there are at once is bounded where they are made: each holds a place of its
//! pool (`connections_per_core_max`) until the service has let go of it, whether its client
//! still waits or not. So no more of them wait in the channel between the two.

mod call;
mod connection;
mod head;
mod line;

use tokio::sync::mpsc;

pub use call::{AnswerBody, Answerer, Call, CallBody, Pieces, Untold};
pub(crate) use connection::CallConnection;
pub(crate) use line::Line;

/// So much of a request's body is gathered, in bytes; a longer one, or one that takes its
/// time, goes over piece by piece.
pub const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// Where requests for one in-process service go in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InProcessConnector(mpsc::UnboundedSender<Vec<Call>>);

/// Where the service takes them.
#[derive(Debug)]
pub struct InProcessListener {
    pieces: mpsc::UnboundedReceiver<Vec<Call>>,
    /// What of the last piece was not taken yet.
    rest: std::vec::IntoIter<Call>,
}

/// The two sides of a way into a service of this process.
pub fn in_process_pair() -> (InProcessConnector, InProcessListener) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (InProcessConnector(sender), InProcessListener { pieces: receiver, rest: Vec::new().into_iter() })
}

impl InProcessConnector {
    /// Whether the service still takes calls.
    pub(crate) fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Hands calls over in one piece: the service is woken once, and finds all of them. Where it has
    /// ended meanwhile, they are dropped, which their callers hear.
    fn send(&self, calls: Vec<Call>) {
        if !calls.is_empty() {
            let _ = self.0.send(calls);
        }
    }
}

impl InProcessListener {
    /// Waits for calls and appends those that are there, up to `most`; says how many. 0:
    /// nobody can come any more.
    pub async fn accept(&mut self, calls: &mut Vec<Call>, most: usize) -> usize {
        if self.rest.len() == 0 {
            let Some(piece) = self.pieces.recv().await else { return 0 };
            self.rest = piece.into_iter();
        }
        let before = calls.len();
        loop {
            calls.extend(self.rest.by_ref().take(most.saturating_sub(calls.len() - before)));
            let taken = calls.len() - before;
            if taken >= most {
                return taken;
            }
            match self.pieces.try_recv() {
                Ok(piece) => self.rest = piece.into_iter(),
                Err(_) => return taken,
            }
        }
    }
}

#[cfg(test)]
mod tests;

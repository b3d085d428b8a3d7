//! The socket: who may connect, how often, and who is at the other end.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, Join, ReadBuf, join};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::authority::Rewriter;
use super::visit::Visit;
use super::{Api, World};
use crate::attest::Caller;
use crate::error::Error;
use crate::grpc::{self, Leashed};
use crate::left_out::LeftOut;
use crate::quota::{Quota, Slot};
use crate::unix_socket::BoundSocket;
use crate::workload::Workloads;

/// Most connections at once.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Most connections of one user at once: nobody keeps the others out.
pub const CONNECTIONS_PER_USER_MAX: usize = 256;
/// How many of all connections are kept for processes that may be registered workloads.
const CONNECTIONS_KEPT: usize = 1_024;
/// Most calls of one connection at once.
const STREAMS_MAX: u32 = 128;
/// What is read at once, bytes.
const READ_BYTES_MAX: usize = 8 * 1024;
/// A connection on which nothing comes back to a ping for so long is closed.
const PING_EVERY: Duration = Duration::from_secs(60);
/// After the system gave no connection, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The API on a socket. Dropped, the socket and every connection are gone.
#[derive(Debug)]
pub struct Socket {
    file: BoundSocket,
    tasks: [JoinHandle<()>; 2],
    _leash: Arc<watch::Sender<()>>,
}

impl Socket {
    /// Listens at a path, in the place of whatever socket was there. Every user of the
    /// machine may connect: who they are decides what they get.
    ///
    /// # Errors
    /// [`Error::Socket`]: there is something else than a socket, or what the system said.
    pub fn listen(path: &Path, world: World) -> Result<Self, Error> {
        let mut socket = Self::prepare(path, world)?;
        socket.publish()?;
        Ok(socket)
    }

    /// Listens beside the path: whatever socket is there stays until this one is published, and
    /// for good when this one is dropped before.
    ///
    /// # Errors
    /// As [`Self::listen`].
    pub fn prepare(path: &Path, world: World) -> Result<Self, Error> {
        let fault = |source| Error::Socket { place: path.display().to_string(), source };
        let (listener, file) = bind(path).map_err(fault)?;
        let (sender, receiver) = mpsc::channel(16);
        let leash = Arc::new(watch::Sender::new(()));
        let workloads = world.workloads.clone();
        let accepting = tokio::spawn(accept(listener, workloads, sender, Arc::downgrade(&leash)));
        let serving = tokio::spawn(async move {
            let server = grpc::server(STREAMS_MAX, PING_EVERY)
                .serve_with_incoming(Api::new(world), ReceiverStream::new(receiver));
            if let Err(error) = server.await {
                tracing::error!(%error, "mesh: the Workload API ended");
            }
        });
        Ok(Self { file, tasks: [accepting, serving], _leash: leash })
    }

    /// Moves it to its path, once: at no moment is there none.
    ///
    /// # Errors
    /// [`Error::Socket`]: what the system said; whatever was there stays.
    pub fn publish(&mut self) -> Result<(), Error> {
        let published = self.file.publish();
        published.map_err(|source| Error::Socket { place: self.path().display().to_string(), source })
    }

    /// Where it is, once it is published.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn bind(path: &Path) -> io::Result<(UnixListener, BoundSocket)> {
    if let Ok(there) = std::fs::symlink_metadata(path)
        && !there.file_type().is_socket()
    {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is no socket"));
    }
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    BoundSocket::prepare(path, 0o666)
}

async fn accept(
    listener: UnixListener,
    workloads: watch::Receiver<Arc<Workloads>>,
    sender: mpsc::Sender<io::Result<Connection>>,
    leash: Weak<watch::Sender<()>>,
) {
    let counts = Quota::new(CONNECTIONS_PER_USER_MAX, CONNECTIONS_MAX);
    let mut left_out = LeftOut::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let entered = Caller::of(&stream).map_err(|error| error.to_string()).and_then(|caller| {
            let known = Arc::clone(&workloads.borrow());
            let full = || format!("too many are open already, for a process of the user {}", caller.uid);
            let place = place(&counts, &caller, &known).ok_or_else(full)?;
            Ok((caller, place))
        });
        let (caller, place) = match entered {
            Ok(entered) => entered,
            Err(why) => {
                if let Some(more) = left_out.one(Instant::now()) {
                    tracing::warn!(why, more, "mesh: a connection to the Workload API is refused");
                }
                continue;
            }
        };
        let Some(leash) = leash.upgrade() else { return };
        let (stream, told) = stream.into_split();
        let said = Rewritten { stream, rewriter: Rewriter::default(), ready: Vec::new() };
        let visit = Visit::new(caller);
        let connection = Leashed::until(visit.over(), join(said, told), &leash, (visit, place));
        if sender.send(Ok(connection)).await.is_err() {
            return;
        }
    }
}

/// A place for a process: one that is for everybody, and where there is none, for whoever may be a registered
/// workload, one that is kept.
fn place(counts: &Arc<Quota<u32>>, caller: &Caller, known: &Workloads) -> Option<Slot<u32>> {
    counts.take_leaving(caller.uid, CONNECTIONS_KEPT).or_else(|| {
        let is_somebody = || caller.facts(None).is_ok_and(|facts| known.may_be(&facts).is_ok());
        // Files are read only of users whom a registration may mean.
        (known.may_be_of(caller.uid) && is_somebody()).then(|| counts.take(caller.uid))?
    })
}

/// What a caller says, rewritten; what it is told; who it is, and its place.
type Connection = Leashed<Join<Rewritten, OwnedWriteHalf>, (Visit, Slot<u32>)>;

impl Connected for Connection {
    type ConnectInfo = Visit;

    fn connect_info(&self) -> Visit {
        self.kept.0.clone()
    }
}

struct Rewritten {
    stream: OwnedReadHalf,
    rewriter: Rewriter,
    /// What was read and not handed on yet.
    ready: Vec<u8>,
}

impl AsyncRead for Rewritten {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, rewriter, ready } = &mut *self;
        while ready.is_empty() {
            let mut bytes = [0; READ_BYTES_MAX];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            rewriter.take(read.filled(), ready);
        }
        let count = ready.len().min(buffer.remaining());
        buffer.put_slice(ready.get(..count).unwrap_or_default());
        ready.drain(..count);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Conditions, Workload};

    #[tokio::test]
    async fn places_are_kept_for_whoever_may_be_a_registered_workload() {
        let counts = Quota::new(CONNECTIONS_PER_USER_MAX, CONNECTIONS_MAX);
        let (stream, _other) = tokio::net::UnixStream::pair().unwrap();
        let caller = || Caller::of(&stream).unwrap();
        let uid = caller().uid;
        let known = |uid: &[u32], gid: &[u32], sha256: &[String]| {
            let conditions = Conditions {
                uid: uid.to_vec(),
                gid: gid.to_vec(),
                sha256: sha256.to_vec(),
                ..Conditions::default()
            };
            let id = "spiffe://shop.example/orders".parse().unwrap();
            let (name, hint) = ("orders".to_owned(), "orders".to_owned());
            Workloads { list: vec![Workload { name, id, hint, conditions, nodes: Vec::new() }] }
        };
        // As many as are for everybody, of users whom nobody knows.
        let users = 100_000_u32..;
        let of_everybody = users.map_while(|other| counts.take_leaving(other, CONNECTIONS_KEPT));
        let mut held: Vec<Slot<u32>> = of_everybody.collect();
        assert_eq!(held.len(), CONNECTIONS_MAX - CONNECTIONS_KEPT);
        let digest = ["ab".repeat(32)];
        let (own, other) = ([uid], [uid + 1]);
        for (known, is_let_in) in [
            (Workloads::default(), false),
            (known(&other, &[], &[]), false),
            (known(&other, &[], &digest), false),
            (known(&own, &[u32::MAX - 7], &[]), false),
            (known(&own, &[], &[]), true),
            (known(&own, &[], &digest), true),
        ] {
            assert_eq!(place(&counts, &caller(), &known).is_some(), is_let_in, "{known:?}");
        }
        // Those too are so many of each user, and of all.
        let known = known(&own, &[], &[]);
        let own: Vec<Slot<u32>> = std::iter::from_fn(|| place(&counts, &caller(), &known)).collect();
        assert_eq!(own.len(), CONNECTIONS_PER_USER_MAX);
        drop(own);
        held.extend((200_000..).map_while(|other| counts.take(other)));
        assert_eq!(held.len(), CONNECTIONS_MAX);
        assert!(place(&counts, &caller(), &known).is_none());
    }
}

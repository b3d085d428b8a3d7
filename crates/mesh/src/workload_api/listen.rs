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
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, Server};

use super::authority::Rewriter;
use super::{Api, World};
use crate::attest::Caller;
use crate::error::Error;
use crate::grpc::Leashed;
use crate::quota::{Quota, Slot};
use crate::unix_socket::BoundSocket;

/// Most connections at once.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Most connections of one user at once: nobody keeps the others out.
pub const CONNECTIONS_PER_USER_MAX: usize = 256;
/// Most calls of one connection at once.
const STREAMS_MAX: u32 = 128;
/// Largest header list, bytes.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
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
        let accepting = tokio::spawn(accept(listener, sender, Arc::downgrade(&leash)));
        let serving = tokio::spawn(async move {
            let server = Server::builder()
                .max_concurrent_streams(STREAMS_MAX)
                .http2_max_header_list_size(HEADERS_BYTES_MAX)
                .http2_keepalive_interval(Some(PING_EVERY))
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
    sender: mpsc::Sender<io::Result<Connection>>,
    leash: Weak<watch::Sender<()>>,
) {
    let counts = Quota::new(CONNECTIONS_PER_USER_MAX, CONNECTIONS_MAX);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let caller = match Caller::of(&stream) {
            Ok(caller) => caller,
            Err(error) => {
                tracing::warn!(%error, "mesh: a connection to the Workload API is refused");
                continue;
            }
        };
        let Some(place) = counts.take(caller.uid) else {
            tracing::warn!(uid = caller.uid, "mesh: too many connections to the Workload API");
            continue;
        };
        let Some(leash) = leash.upgrade() else { return };
        let (stream, told) = stream.into_split();
        let said = Rewritten { stream, rewriter: Rewriter::default(), ready: Vec::new() };
        let connection = Leashed::new(join(said, told), &leash, (Arc::new(caller), place));
        if sender.send(Ok(connection)).await.is_err() {
            return;
        }
    }
}

/// What a caller says, rewritten; what it is told; who it is, and its place.
type Connection = Leashed<Join<Rewritten, OwnedWriteHalf>, (Arc<Caller>, Slot<u32>)>;

impl Connected for Connection {
    type ConnectInfo = Arc<Caller>;

    fn connect_info(&self) -> Arc<Caller> {
        Arc::clone(&self.kept.0)
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

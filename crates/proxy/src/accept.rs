//! From a listening socket to a connection that is served: limits first, then TLS,
//! then the protocol.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::ClientNetwork;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

use crate::by_network::ByNetwork;
use crate::deadline::Watch;
use crate::forwarded::append_node;
use crate::handshakes::{RefusedHandshakes, is_refusal};
use crate::held::HeldBudget;
use crate::limits::{Hits, Limits};
use crate::link::{Link, Wire};
use crate::listen::{BACKLOG, Core};
use crate::proxy_protocol::{self, Header};
use crate::tls::{ServerTls, TlsPeer};
use crate::world::{
    ConnectionInfo, Handler as _, ListenerKey, RefusedHandshake, Speaks, World, find_listener,
};
use crate::{opaque, plain_http, serve1, serve2};

/// How long to leave the listener alone when the process is out of file descriptors.
const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(100);
/// How often at most the log says the same of different connections.
const SAY_EVERY_MS: u64 = 100;
/// How often at most it says that none is accepted, which does not end soon.
const SAY_NONE_ACCEPTED_EVERY_MS: u64 = 10_000;
/// How long a client may leave open whether it speaks TLS, where it need not.
const FIRST_BYTE_WITHIN: Duration = Duration::from_millis(500);

/// Open client connections, counted across all cores.
#[derive(Debug)]
pub(crate) struct Connections {
    total: AtomicU64,
    by_address: ByNetwork,
    /// Bytes of bodies that are held before their requests go on.
    pub(crate) held: Arc<HeldBudget>,
    /// Accepted since the start.
    pub(crate) accepted: AtomicU64,
    /// Closed at once because of a limit.
    pub(crate) refused: AtomicU64,
    /// Ended because their client certificate does not count any more.
    pub(crate) cut: AtomicU64,
    /// How often each limit was met.
    pub(crate) hits: Arc<Hits>,
    /// TLS handshakes that failed or took too long.
    pub(crate) handshakes_failed: AtomicU64,
    /// Cleartext where TLS is what should come.
    pub(crate) cleartext: AtomicU64,
    /// What the log says of handshakes that failed, and of callers without TLS.
    handshakes_said: LogLimiter,
    cleartext_said: LogLimiter,
    /// What it says while there are no files for connections.
    none_accepted_said: LogLimiter,
    /// Which of the handshakes that were refused are written down.
    pub(crate) handshakes_refused: RefusedHandshakes,
    /// Requests whose head was read, by core.
    requests: Vec<Padded>,
}

/// Something that is said now and then: a flood of it is counted, not told.
#[derive(Debug)]
struct LogLimiter {
    every_ms: u64,
    /// When it was last said, as a moment of the cores' clock; 0: never.
    last_ms: AtomicU64,
}

impl LogLimiter {
    const fn every(every_ms: u64) -> Self {
        Self { every_ms, last_ms: AtomicU64::new(0) }
    }

    /// Whether it may be said now.
    fn is_due(&self, now_ms: u64) -> bool {
        let last = self.last_ms.load(Ordering::Relaxed);
        (last == 0 || now_ms.saturating_sub(last) >= self.every_ms)
            && self.last_ms.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A counter that one core writes. Its cache line is its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

impl Connections {
    pub(crate) fn new(cores: usize) -> Self {
        let hits = Arc::<Hits>::default();
        Self {
            total: AtomicU64::new(0),
            by_address: ByNetwork::default(),
            held: Arc::new(HeldBudget::new(Arc::clone(&hits))),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            hits,
            handshakes_failed: AtomicU64::new(0),
            cleartext: AtomicU64::new(0),
            handshakes_said: LogLimiter::every(SAY_EVERY_MS),
            cleartext_said: LogLimiter::every(SAY_EVERY_MS),
            none_accepted_said: LogLimiter::every(SAY_NONE_ACCEPTED_EVERY_MS),
            handshakes_refused: RefusedHandshakes::default(),
            requests: (0..cores).map(|_| Padded::default()).collect(),
        }
    }
}

impl Connections {
    /// Counts one more connection, unless it would be one too many for the limit that is
    /// named then. The address is counted by [`Entered::count`].
    fn enter(self: &Arc<Self>, limits: &Limits) -> Result<Entered, &'static str> {
        let fits = |open: u64| (open < limits.connections_max).then_some(open + 1);
        let entered = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        entered.map_err(|_| "connections_max")?;
        // From here on the guard takes the count back.
        Ok(Entered { connections: Arc::clone(self), network: None })
    }

    pub(crate) fn count_request(&self, core: usize) {
        if let Some(counter) = self.requests.get(core) {
            counter.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.iter().map(|counter| counter.0.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn open(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// A counted connection.
#[derive(Debug)]
struct Entered {
    connections: Arc<Connections>,
    network: Option<ClientNetwork>,
}

impl Entered {
    /// Counts it for an address, unless it would be one too many.
    fn count(&mut self, address: IpAddr, limits: &Limits) -> Result<(), &'static str> {
        let network = ClientNetwork::of(address);
        let counted = self.connections.by_address.add(network, 1, limits.connections_per_address_max);
        counted.ok_or("connections_per_address_max")?;
        self.network = Some(network);
        Ok(())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connections.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(network) = self.network {
            self.connections.by_address.take_back(network, 1);
        }
    }
}

/// A listener on one core.
#[derive(Debug)]
pub(crate) struct CoreListener {
    pub(crate) key: ListenerKey,
    closing: Cell<bool>,
    core_draining: Rc<Cell<bool>>,
    stop: Notify,
    /// Held for as long as it, or a connection of it, is there.
    _in_use: Arc<InUse>,
}

/// Whether a listener, or a connection of it, is there on any core.
#[derive(Debug)]
pub(crate) struct InUse;

impl CoreListener {
    pub(crate) fn new(key: ListenerKey, core_draining: &Rc<Cell<bool>>, in_use: Arc<InUse>) -> Rc<Self> {
        let core_draining = Rc::clone(core_draining);
        Rc::new(Self { key, closing: Cell::new(false), core_draining, stop: Notify::new(), _in_use: in_use })
    }

    /// Stops accepting; connections end after their request.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.stop.notify_one();
    }

    /// Whether connections must end after their request.
    pub(crate) fn is_draining(&self) -> bool {
        self.closing.get() || self.core_draining.get()
    }
}

/// Accepts until the listener is closed.
pub(crate) async fn accept<W: World>(
    core: Rc<Core<W>>,
    listener: TcpListener,
    core_listener: Rc<CoreListener>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = core_listener.stop.notified() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => admit_connection(&core, &core_listener, socket, peer),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                let now = core.context().ticker.read_now_ms();
                if core.connections().none_accepted_said.is_due(now) {
                    tracing::warn!(listener = %core_listener.key, %error, "cannot accept connections; waiting");
                }
                let told = tokio::time::timeout(OUT_OF_FILES_PAUSE, core_listener.stop.notified());
                if told.await.is_ok() {
                    break;
                }
            }
        }
    }
    // Those who already wait in the queue would be reset: they are served first, and not those who go
    // on coming.
    let waiting = match still_waiting(listener) {
        Ok(waiting) => waiting,
        Err(error) => {
            tracing::warn!(listener = %core_listener.key, %error, "who waits at a listener that closes is reset");
            return;
        }
    };
    for (_, accepted) in (0..BACKLOG).zip(waiting) {
        match accepted {
            Ok((socket, peer)) => admit_connection(&core, &core_listener, socket, peer),
            Err(error) if is_about_one_connection(&error) => {}
            Err(_) => break,
        }
    }
}

/// Those who wait in the queue of a listener that closes. The kernel is asked: the runtime knows only of
/// those who were there when it last looked.
fn still_waiting(
    listener: TcpListener,
) -> io::Result<impl Iterator<Item = io::Result<(TcpStream, SocketAddr)>>> {
    let listener = listener.into_std()?;
    let taken = |(socket, peer): (std::net::TcpStream, SocketAddr)| {
        socket.set_nonblocking(true)?;
        Ok((TcpStream::from_std(socket)?, peer))
    };
    Ok(std::iter::from_fn(move || match listener.accept() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        accepted => Some(accepted.and_then(taken)),
    }))
}

/// Errors of accept(2) that concern only the connection that was to be accepted.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn admit_connection<W: World>(
    core: &Rc<Core<W>>,
    core_listener: &Rc<CoreListener>,
    socket: TcpStream,
    peer: SocketAddr,
) {
    let current = core.current();
    let connections = core.connections();
    let sends_header = sends_proxy_header(&*current.world, core_listener.key, peer.ip());
    let entered = connections.enter(&current.limits).and_then(|mut entered| {
        // Whom a balancer's connection is from is only known with its header.
        if !sends_header {
            entered.count(peer.ip(), &current.limits)?;
        }
        Ok(entered)
    });
    let mut entered = match entered {
        Ok(entered) => entered,
        Err(limit) => {
            connections.refused.fetch_add(1, Ordering::Relaxed);
            connections.hits.count(limit);
            return;
        }
    };
    connections.accepted.fetch_add(1, Ordering::Relaxed);
    let (core, core_listener) = (Rc::clone(core), Rc::clone(core_listener));
    let open = core.count_open();
    tokio::task::spawn_local(async move {
        // An error here is the connection's end; there is nobody to tell.
        let proxied = sends_header.then_some(&mut entered);
        let ended = serve_connection(&core, &core_listener, socket, peer, proxied).await;
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection ended");
        }
        drop((entered, open));
    });
}

/// Whether a peer begins its connections to a listener with a PROXY protocol header.
fn sends_proxy_header<W: World>(world: &W, listener: ListenerKey, peer: IpAddr) -> bool {
    find_listener(world.listeners(), listener)
        .and_then(|settings| settings.proxy_protocol.as_ref())
        .is_some_and(|senders| senders.contains(peer.to_canonical()))
}

/// Reads who a connection is really from, and counts it for that address.
async fn read_origin<W: World>(
    core: &Rc<Core<W>>,
    socket: &mut TcpStream,
    peer: SocketAddr,
    entered: &mut Entered,
) -> io::Result<SocketAddr> {
    let limits = Rc::clone(&core.current().limits);
    let refused = |error| {
        core.connections().handshakes_failed.fetch_add(1, Ordering::Relaxed);
        Err(error)
    };
    let header = match tokio::time::timeout(limits.handshake_ms_max, proxy_protocol::read(socket)).await {
        Ok(Ok(header)) => header,
        Ok(Err(error)) => return refused(error),
        Err(_) => {
            core.connections().hits.count("handshake_ms_max");
            return refused(io::ErrorKind::TimedOut.into());
        }
    };
    let Header::Proxied(origin) = header else { return Ok(peer) };
    if let Err(limit) = entered.count(origin.source.ip(), &limits) {
        core.connections().refused.fetch_add(1, Ordering::Relaxed);
        core.connections().hits.count(limit);
        return Err(io::Error::other(limit));
    }
    Ok(origin.source)
}

/// A connection on which requests can come.
struct Opened {
    wire: Wire,
    info: Rc<ConnectionInfo>,
    spoken: Spoken,
}

/// What a client speaks, as far as that is clear.
enum Spoken {
    Http1 { may_be_http2: bool },
    Http2,
    Opaque(bytes::Bytes),
}

async fn serve_connection<W: World>(
    core: &Rc<Core<W>>,
    core_listener: &Rc<CoreListener>,
    socket: TcpStream,
    peer: SocketAddr,
    proxied: Option<&mut Entered>,
) -> io::Result<()> {
    // Apart from what follows: what a connection needs to begin takes no room in it later.
    let opened = open(core, core_listener, socket, peer, proxied).await?;
    let Some(Opened { wire, info, spoken }) = opened else { return Ok(()) };
    // In a box is what most connections never need.
    let (link, read) = match spoken {
        Spoken::Opaque(name) => return Box::pin(opaque::serve(core, wire, &info, &name)).await,
        Spoken::Http2 => wire.into_parts(),
        Spoken::Http1 { may_be_http2 } => {
            let mut connection = serve1::Connection::new(core, core_listener, wire, may_be_http2);
            match serve1::serve(core, &mut connection, &info).await? {
                serve1::Ended::Done => return Ok(()),
                serve1::Ended::Http2 => connection.into_wire().into_parts(),
            }
        }
    };
    Box::pin(serve2::serve(core, core_listener, link, read.freeze(), info)).await
}

/// What a connection takes for as long as it is open, besides its buffers, bytes: for tests.
#[doc(hidden)]
pub fn connection_bytes<W: World>() -> usize {
    type Serve<W, F> = fn(
        &'static Rc<Core<W>>,
        &'static Rc<CoreListener>,
        TcpStream,
        SocketAddr,
        Option<&'static mut Entered>,
    ) -> F;
    fn of<W: World, F>(_: Serve<W, F>) -> usize {
        size_of::<F>()
    }
    of::<W, _>(serve_connection)
}

/// Finds out who a connection is from and what is spoken on it, with TLS where that is configured.
/// `None`: it is over, and nothing was wrong.
async fn open<W: World>(
    core: &Rc<Core<W>>,
    core_listener: &Rc<CoreListener>,
    mut socket: TcpStream,
    mut peer: SocketAddr,
    proxied: Option<&mut Entered>,
) -> io::Result<Option<Opened>> {
    socket.set_nodelay(true)?;
    if let Some(entered) = proxied {
        peer = Box::pin(read_origin(core, &mut socket, peer, entered)).await?;
    }
    let mut info = connection_info(core_listener.key, peer, socket.local_addr()?);
    let current = core.current();
    let Some(settings) = find_listener(current.world.listeners(), core_listener.key) else { return Ok(None) };
    let mut speaks = settings.speaks.clone();
    let mut may_be_http2 = settings.http2_cleartext;
    let handshake_max = current.limits.handshake_ms_max;
    let mut tls = settings.tls.clone();
    let takes_cleartext = settings.takes_cleartext;
    drop(current);
    // Nobody has to wait for a server that speaks first over HTTP.
    let within = if speaks == Speaks::Http { handshake_max } else { FIRST_BYTE_WITHIN };
    if tls.is_some() && takes_cleartext && !begins_with_tls(&socket, within).await? {
        tls = None;
        say_cleartext(core, &info);
    }
    let mut chosen = None;
    let link = match tls {
        None => Link::Plain(socket),
        Some(tls) => {
            let handshake = Box::pin(handshake(core, &tls, socket, &info, handshake_max));
            let Some((stream, peer)) = handshake.await? else { return Ok(None) };
            info.tls = Some(peer);
            chosen = stream.get_ref().1.alpn_protocol().map(|name| name == b"h2");
            // What was agreed on needs no finding out.
            if chosen.is_some() && matches!(speaks, Speaks::Either(_)) {
                speaks = Speaks::Http;
            }
            may_be_http2 &= matches!(speaks, Speaks::Either(_));
            Link::TlsServer(stream)
        }
    };
    let mut wire = Wire::new(link);
    let spoken = match speaks {
        Speaks::Http if chosen == Some(true) => Spoken::Http2,
        Speaks::Http => Spoken::Http1 { may_be_http2 },
        Speaks::Opaque(name) => Spoken::Opaque(name),
        Speaks::Either(name) => {
            let watch = Watch::new(&core.context().ticker);
            let is_http = Box::pin(opaque::is_http(&mut wire, &watch)).await?;
            if is_http { Spoken::Http1 { may_be_http2 } } else { Spoken::Opaque(name) }
        }
    };
    Ok(Some(Opened { wire, info: Rc::new(info), spoken }))
}

fn connection_info(listener: ListenerKey, peer: SocketAddr, local: SocketAddr) -> ConnectionInfo {
    // A socket for both families has the addresses of IPv4 mapped.
    let [peer, local] = [peer, local].map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
    let mut peer_node = Vec::new();
    append_node(&mut peer_node, peer.ip());
    ConnectionInfo {
        peer,
        peer_text: peer.ip().to_string().into(),
        peer_node: peer_node.into(),
        local,
        listener,
        tls: None,
    }
}

/// Shakes hands, in the time that there is. `None`: it was a proof for ACME, and is over (RFC 8737 §3).
async fn handshake<W: World>(
    core: &Core<W>,
    tls: &ServerTls,
    socket: TcpStream,
    info: &ConnectionInfo,
    within: Duration,
) -> io::Result<Option<(Box<TlsStream<TcpStream>>, TlsPeer)>> {
    let refused = |error| {
        tell_refused(core, tls, info, &error);
        // Last, so that whoever sees it finds told what there was to tell.
        core.connections().handshakes_failed.fetch_add(1, Ordering::Relaxed);
        Err(error)
    };
    let shaken = async {
        // Who is not asked for a certificate may be a person who mistyped the scheme.
        if !tls.asks_clients() && plain_http::begins(&socket).await? {
            return Err(plain_http::refuse(socket).await);
        }
        tls.accept(socket).await
    };
    let stream = match tokio::time::timeout(within, shaken).await {
        Ok(Ok(Some(stream))) => stream,
        Ok(Ok(None)) => return Ok(None),
        Ok(Err(error)) => return refused(error),
        Err(_) => {
            core.connections().handshakes_failed.fetch_add(1, Ordering::Relaxed);
            core.connections().hits.count("handshake_ms_max");
            return Err(io::ErrorKind::TimedOut.into());
        }
    };
    match TlsPeer::of(stream.get_ref().1, tls, &core.context().ticker) {
        Ok(peer) => Ok(Some((Box::new(stream), peer))),
        Err(error) => refused(io::Error::new(io::ErrorKind::PermissionDenied, error)),
    }
}

/// Says and has written down why a client's certificate was not taken, where one is asked for.
fn tell_refused<W: World>(core: &Core<W>, tls: &ServerTls, info: &ConnectionInfo, error: &io::Error) {
    if !tls.asks_clients() {
        return;
    }
    let now = core.context().ticker.read_now_ms();
    if core.connections().handshakes_said.is_due(now) {
        tracing::warn!(client = %info.peer_text, listener = %info.listener, %error, "TLS handshake refused");
    }
    if is_refusal(error) {
        core.connections().handshakes_refused.take(info.peer.ip(), now, |left_out| {
            let refused = RefusedHandshake { connection: info, reason: &error.to_string(), left_out };
            core.current().handler.handshake_refused(&refused)
        });
    }
}

/// Counts a connection without TLS where it is only tolerated, and says it now and then.
fn say_cleartext<W: World>(core: &Core<W>, info: &ConnectionInfo) {
    core.connections().cleartext.fetch_add(1, Ordering::Relaxed);
    if core.connections().cleartext_said.is_due(core.context().ticker.read_now_ms()) {
        tracing::warn!(
            client = %info.peer_text,
            listener = %info.listener,
            "plain text where the mesh speaks TLS: this caller is not a member yet"
        );
    }
}

/// Whether the first byte is that of a TLS record with a handshake (RFC 8446 §5.1). Nothing
/// is taken from the socket.
///
/// # Errors
/// The client has gone without a word.
async fn begins_with_tls(socket: &TcpStream, within: Duration) -> io::Result<bool> {
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    match tokio::time::timeout(within, socket.peek(&mut first)).await {
        Ok(Ok(0)) => Err(io::ErrorKind::ConnectionAborted.into()),
        Ok(read) => read.map(|_| first == [HANDSHAKE]),
        // Who waits to be spoken to first speaks no TLS.
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_exactly_at_the_limit_and_one_past() {
        let connections = Arc::new(Connections::new(1));
        let limits = Limits { connections_max: 3, connections_per_address_max: 2, ..Limits::default() };
        let [a, b] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let enter = |address| {
            let mut entered = connections.enter(&limits)?;
            entered.count(address, &limits).map(|()| entered)
        };
        let first = enter(a).unwrap();
        let _second = enter(a).unwrap();
        assert_eq!(enter(a).err(), Some("connections_per_address_max"));
        let third = enter(b).unwrap();
        assert_eq!(enter(b).err(), Some("connections_max"));
        assert_eq!(connections.open(), 3);
        drop(first);
        drop(third);
        assert_eq!(connections.open(), 1);
        assert!(enter(a).is_ok());
        // Of IPv6 a whole network counts as one.
        let limits = Limits { connections_max: 9, ..limits };
        let of_network = |host: u16| {
            let mut entered = connections.enter(&limits)?;
            entered.count(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, host).into(), &limits)?;
            Ok(entered)
        };
        let _held: Vec<_> = (1..=2).map(|host| of_network(host).unwrap()).collect();
        assert_eq!(of_network(3).err(), Some("connections_per_address_max"));
    }

    #[tokio::test]
    async fn who_came_since_the_runtime_last_looked_waits_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Nothing is awaited from here on, so the runtime does not look.
        let clients = [(); 3].map(|()| std::net::TcpStream::connect(address).unwrap());
        let waiting: Vec<_> = still_waiting(listener).unwrap().map(|accepted| accepted.unwrap().1).collect();
        assert_eq!(waiting, clients.each_ref().map(|client| client.local_addr().unwrap()));
    }

    #[test]
    fn what_is_said_seldom_is_said_at_once_and_then_once_in_its_time() {
        let limiter = LogLimiter::every(SAY_EVERY_MS);
        let said =
            [1, 2, 1 + SAY_EVERY_MS - 1, 1 + SAY_EVERY_MS, 2 + SAY_EVERY_MS].map(|now| limiter.is_due(now));
        assert_eq!(said, [true, false, false, true, false]);
    }
}

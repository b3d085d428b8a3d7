//! The data plane's cores: one thread each, with its own runtime, listeners and
//! upstream pools, driven by snapshots from the control plane.
//!
//! Every core has a socket of its own on each address (`SO_REUSEPORT`), so that the
//! kernel spreads connections and nothing is handed between threads. That option
//! would also let a second process bind the same port and silently take half of the
//! connections. Two things forbid it: before the shared sockets are made, one without
//! `SO_REUSEPORT` is bound, which fails while anybody listens there; and a claim on
//! the address is held as an abstract Unix socket, which closes the gap between two
//! processes that start in the same moment.

mod bind;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

pub use bind::Inherited;

use crate::accept::{Connections, CoreListener, InUse, accept};
use crate::deadline::Ticker;
use crate::limits::{Hits, Limits};
use crate::serve2::Stream;
use crate::task_pool::TaskPool;
use crate::upstream::Pools;
use crate::world::{ConnectionInfo, CoreContext, ListenerKey, World, accepting};
pub(crate) use bind::BACKLOG;
use bind::{Bound, CoreSocket, bind_new};

/// Snapshots on their way to a core.
const MESSAGES_MAX: usize = 8;

/// Why listening failed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there.
    #[error("{address} is already in use by another process; stop it or choose another address")]
    InUse {
        /// Where.
        address: SocketAddr,
    },
    /// A listener of this process is open on an address that overlaps.
    #[error("{address} overlaps {open}, where this process listens already; such a change takes a restart")]
    Overlaps {
        /// Where.
        address: SocketAddr,
        /// The listener that is open.
        open: SocketAddr,
    },
    /// The socket could not be made.
    #[error("cannot listen on {address}: {source}{}", advice(*address, source))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A core's thread or runtime could not be started, or it is gone.
    #[error("core {core} cannot run: {source}")]
    Core {
        /// Which.
        core: usize,
        /// Why.
        source: io::Error,
    },
}

/// What to do about a socket that could not be made, where that is known.
fn advice(address: SocketAddr, source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; a port below 1024 needs CAP_NET_BIND_SERVICE (`AmbientCapabilities=` of a unit) or a socket of systemd"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

impl ListenError {
    /// The listener that could not be had, where it is about one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::InUse { address } | Self::Overlaps { address, .. } | Self::Bind { address, .. } => {
                Some(*address)
            }
            Self::Core { .. } => None,
        }
    }
}

/// What a core is told.
enum Message<W> {
    World { world: Arc<W>, open: Vec<CoreSocket>, close: Vec<ListenerKey>, done: oneshot::Sender<()> },
    Drain { grace: Duration },
}

/// A core, as its tasks see it.
pub(crate) struct Core<W: World> {
    context: CoreContext,
    current: RefCell<Rc<Current<W>>>,
    connections: Arc<Connections>,
    draining: Rc<Cell<bool>>,
    open: Rc<OpenCount>,
    /// Counts snapshots.
    epoch: Cell<u64>,
    task_pool: Rc<TaskPool<Stream<W>>>,
}

/// The snapshot that new requests on this core see.
pub(crate) struct Current<W: World> {
    pub(crate) world: Arc<W>,
    pub(crate) handler: W::Handler,
    /// A copy of the core's own: counting uses of a shared one would pass a cache line
    /// between cores at every request.
    pub(crate) limits: Rc<Limits>,
}

#[derive(Debug, Default)]
struct OpenCount {
    count: Cell<usize>,
    none: Notify,
}

/// One open connection of a core.
pub(crate) struct Open(Rc<OpenCount>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0 {
            self.0.none.notify_one();
        }
    }
}

impl<W: World> Core<W> {
    /// The snapshot of this moment. A request holds it to its end.
    pub(crate) fn current(&self) -> Rc<Current<W>> {
        Rc::clone(&self.current.borrow())
    }

    pub(crate) fn context(&self) -> &CoreContext {
        &self.context
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Moves with every snapshot.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Whether a connection would still be taken by its listener as it is now. Counts it
    /// when not.
    pub(crate) fn trusts(&self, info: &ConnectionInfo) -> bool {
        let now_ms = self.context.ticker.now_ms();
        let trusted = info.is_still_trusted(self.current().world.listeners(), now_ms);
        if !trusted {
            self.connections.cut.fetch_add(1, Ordering::Relaxed);
        }
        trusted
    }

    /// The tasks that serve streams.
    pub(crate) fn task_pool(&self) -> &Rc<TaskPool<Stream<W>>> {
        &self.task_pool
    }

    pub(crate) fn count_request(&self) {
        self.connections.count_request(self.context.index);
    }

    pub(crate) fn count_open(&self) -> Open {
        self.open.count.set(self.open.count.get() + 1);
        Open(Rc::clone(&self.open))
    }

    fn take(&self, world: Arc<W>) {
        let before = self.current();
        let handler = world.on_core(&self.context, Some(&before.handler));
        let limits = Rc::new(Limits::clone(world.limits()));
        *self.current.borrow_mut() = Rc::new(Current { world, handler, limits });
        self.epoch.set(self.epoch.get() + 1);
    }
}

/// What a connection knows of its client's certificate.
#[derive(Default)]
pub(crate) struct Trust {
    /// The epoch in which it was last judged; `None`: that of the handshake, which may be over.
    judged: Option<u64>,
}

impl Trust {
    /// Whether it still counts; looked at when the world changed, and always when there is one: it
    /// has an end.
    pub(crate) fn holds<W: World>(&mut self, core: &Core<W>, info: &ConnectionInfo) -> bool {
        let certified = info.tls.as_ref().is_some_and(|tls| !tls.chain.is_empty());
        if !certified && self.judged == Some(core.epoch()) {
            return true;
        }
        self.judged = Some(core.epoch());
        core.trusts(info)
    }
}

/// All cores. Dropping it ends them at once; [`Cores::drain`] is the polite way.
pub struct Cores<W: World> {
    senders: Vec<mpsc::Sender<Message<W>>>,
    threads: Vec<JoinHandle<bool>>,
    /// Whether a core may be gone: it is, once its last connection has ended.
    draining: bool,
    listeners: HashMap<ListenerKey, Bound>,
    /// Those that were closed while they had connections.
    closing: Vec<(ListenerKey, Weak<InUse>)>,
    connections: Arc<Connections>,
    /// When their clocks began.
    start: Instant,
}

/// Sums over all cores since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Open client connections now.
    pub connections_open: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections closed at once because of a limit.
    pub connections_refused: u64,
    /// Connections ended because their client certificate does not count any more.
    pub connections_cut: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// Of these, those that were refused where clients are asked for a certificate: how many were
    /// written down, and how many were not.
    pub handshakes_refused: (u64, u64),
    /// Connections without TLS to listeners that should see it.
    pub connections_cleartext: u64,
    /// Requests whose head was read, refused ones included.
    pub requests: u64,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Whether every connection ended by itself.
    pub complete: bool,
}

/// A drain that is under way.
#[derive(Debug)]
pub struct Draining(tokio::task::JoinHandle<bool>);

impl Draining {
    /// Waits for its end. May be called off and called again until it is there.
    pub async fn ended(&mut self) -> Drained {
        Drained { complete: (&mut self.0).await.unwrap_or(false) }
    }
}

impl<W: World> Cores<W> {
    /// Binds every listener and starts `count` cores on this snapshot.
    ///
    /// # Errors
    /// An address that is in use or cannot be bound, a thread that cannot be started.
    /// Nothing keeps running then.
    pub fn start(count: usize, world: Arc<W>) -> Result<Self, ListenError> {
        Self::start_with(count, world, Vec::new())
    }

    /// The same on sockets that are open already, as far as the snapshot names their
    /// listeners; those of others are closed.
    ///
    /// # Errors
    /// As [`Cores::start`].
    pub fn start_with(count: usize, world: Arc<W>, inherited: Vec<Inherited>) -> Result<Self, ListenError> {
        let count = count.max(1);
        let (listeners, mut sockets) = bind_new(&world, &HashMap::new(), count, inherited)?;
        let connections = Arc::new(Connections::new(count));
        let start = Instant::now();
        let (mut senders, mut threads) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for index in 0..count {
            let failed = |source| ListenError::Core { core: index, source };
            let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
            let (ready, started) = std::sync::mpsc::sync_channel(1);
            let open = sockets.pop().unwrap_or_default();
            let (world, connections) = (Arc::clone(&world), Arc::clone(&connections));
            let thread = std::thread::Builder::new()
                .name(format!("core-{index}"))
                .spawn(move || {
                    let runtime =
                        Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                    match runtime {
                        Ok(runtime) => runtime.block_on(async move {
                            let core = new_core(index, start, &world, connections);
                            let _ = ready.send(Ok(()));
                            run(core, open, receiver).await
                        }),
                        Err(error) => {
                            let _ = ready.send(Err(error));
                            false
                        }
                    }
                })
                .map_err(failed)?;
            started.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())).map_err(failed)?;
            senders.push(sender);
            threads.push(thread);
        }
        Ok(Self { senders, threads, draining: false, listeners, closing: Vec::new(), connections, start })
    }

    /// The address of each listener, with the port that the system picked.
    pub fn addresses(&self) -> Vec<(ListenerKey, SocketAddr)> {
        let mut list: Vec<_> = self.listeners.iter().map(|(key, bound)| (*key, bound.address)).collect();
        list.sort_by_key(|(key, _)| (key.address, key.ordinal));
        list
    }

    /// The address of one of them.
    pub fn address(&self, key: ListenerKey) -> Option<SocketAddr> {
        self.listeners.get(&key).map(|bound| bound.address)
    }

    /// Handles of everything that listens, for a process that takes over. While both
    /// hold them, either may accept.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn sockets(&self) -> io::Result<Vec<Inherited>> {
        let again = |(key, bound): (&ListenerKey, &Bound)| {
            Ok(Inherited {
                key: *key,
                address: bound.address,
                sockets: bound.sockets.iter().map(StdListener::try_clone).collect::<io::Result<_>>()?,
                claim: Some(bound.claim.try_clone()?),
            })
        };
        self.listeners.iter().map(again).collect()
    }

    /// Whether a listener is closed and the last of its connections has ended: until then
    /// its settings have to stay in the snapshots.
    pub fn has_ended(&self, key: ListenerKey) -> bool {
        let mut closing = self.closing.iter().filter(|(closed, _)| *closed == key);
        !self.listeners.contains_key(&key) && closing.all(|(_, in_use)| in_use.strong_count() == 0)
    }

    /// Publishes a snapshot and returns when every core uses it. Listeners that it
    /// names as before stay open, new ones open, the others drain, and those that it calls
    /// closing: their sockets are closed when this returns. While all drain, what is open is judged by it, and no listener opens.
    ///
    /// # Errors
    /// A new listener that cannot be bound: nothing has changed then. A core that is
    /// gone.
    pub async fn publish(&mut self, world: Arc<W>) -> Result<(), ListenError> {
        let (mut listeners, mut sockets) = bind_new(&world, &self.listeners, self.senders.len(), Vec::new())?;
        let wanted: Vec<ListenerKey> = accepting(world.listeners()).collect();
        let close: Vec<ListenerKey> =
            self.listeners.keys().filter(|key| !wanted.contains(key)).copied().collect();
        let gone = |core| ListenError::Core { core, source: io::ErrorKind::BrokenPipe.into() };
        let mut pending = Vec::with_capacity(self.senders.len());
        for (core, sender) in self.senders.iter().enumerate() {
            let (done, seen) = oneshot::channel();
            let open = sockets.pop().unwrap_or_default();
            let message = Message::World { world: Arc::clone(&world), open, close: close.clone(), done };
            if sender.send(message).await.is_err() && !self.draining {
                return Err(gone(core));
            }
            pending.push((core, seen));
        }
        for (core, seen) in pending {
            if seen.await.is_err() && !self.draining {
                return Err(gone(core));
            }
        }
        self.closing.retain(|(_, in_use)| in_use.strong_count() > 0);
        for key in close {
            let closed = self.listeners.remove(&key);
            self.closing.extend(closed.map(|bound| (key, Arc::downgrade(&bound.in_use))));
        }
        self.listeners.extend(listeners.drain());
        Ok(())
    }

    /// Sums over all cores.
    pub fn totals(&self) -> Totals {
        totals_of(&self.connections)
    }

    /// A handle that reads [`Totals`] from anywhere.
    pub fn totals_reader(&self) -> TotalsReader {
        TotalsReader { connections: Arc::clone(&self.connections), start: self.start }
    }

    /// Stops accepting and lets open requests end: HTTP/1 answers carry
    /// `Connection: close`, HTTP/2 clients get GOAWAY. What is still open after `grace`
    /// is cut.
    pub async fn drain(mut self, grace: Duration) -> Drained {
        self.begin_drain(grace).await.ended().await
    }

    /// Begins the same, and gives what waits for its end. Meanwhile [`Cores::publish`] has open
    /// requests judged again.
    pub async fn begin_drain(&mut self, grace: Duration) -> Draining {
        self.draining = true;
        // The cores' own handles are the last ones then, and close when nobody waits.
        self.listeners.values_mut().for_each(|bound| bound.sockets.clear());
        for sender in &self.senders {
            // A core that is gone has nothing to drain.
            let _ = sender.send(Message::Drain { grace }).await;
        }
        let threads = std::mem::take(&mut self.threads);
        Draining(tokio::task::spawn_blocking(move || {
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or(false))
                .fold(true, std::ops::BitAnd::bitand)
        }))
    }

    /// Has a drain that has begun end now: what is still open is cut.
    pub fn cut(&mut self) {
        // A core that nobody can tell anything any more ends.
        self.senders.clear();
    }
}

/// Reads [`Totals`].
#[derive(Clone, Debug)]
pub struct TotalsReader {
    connections: Arc<Connections>,
    start: Instant,
}

impl TotalsReader {
    /// How often each limit was met.
    pub fn limit_hits(&self) -> &Hits {
        &self.connections.hits
    }

    /// Sums over all cores.
    pub fn totals(&self) -> Totals {
        totals_of(&self.connections)
    }

    /// The cores' clock: milliseconds since they started ([`Ticker::now_ms`]).
    pub fn now_ms(&self) -> u64 {
        let elapsed = Instant::now().saturating_duration_since(self.start);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

fn totals_of(connections: &Connections) -> Totals {
    Totals {
        connections_open: connections.open(),
        connections_accepted: connections.accepted.load(Ordering::Relaxed),
        connections_refused: connections.refused.load(Ordering::Relaxed),
        connections_cut: connections.cut.load(Ordering::Relaxed),
        handshakes_failed: connections.handshakes_failed.load(Ordering::Relaxed),
        handshakes_refused: connections.handshakes_refused.totals(),
        connections_cleartext: connections.cleartext.load(Ordering::Relaxed),
        requests: connections.requests(),
    }
}

fn new_core<W: World>(
    index: usize,
    start: Instant,
    world: &Arc<W>,
    connections: Arc<Connections>,
) -> Rc<Core<W>> {
    let ticker = Ticker::start(start);
    let pools = Pools::new(&ticker);
    let limit_hits = Arc::clone(&connections.hits);
    let held = Arc::clone(&connections.held);
    let context = CoreContext { index, ticker, pools, limit_hits, held };
    let handler = world.on_core(&context, None);
    let limits = Rc::new(Limits::clone(world.limits()));
    let current = RefCell::new(Rc::new(Current { world: Arc::clone(world), handler, limits }));
    Rc::new(Core {
        context,
        current,
        connections,
        draining: Rc::default(),
        open: Rc::default(),
        epoch: Cell::new(0),
        task_pool: Rc::default(),
    })
}

/// Runs a core until it has drained (true: completely) or its handle is gone (false).
async fn run<W: World>(
    core: Rc<Core<W>>,
    open: Vec<CoreSocket>,
    mut messages: mpsc::Receiver<Message<W>>,
) -> bool {
    let mut core_listeners: CoreListeners = HashMap::new();
    open_listeners(&core, &mut core_listeners, open);
    while let Some(message) = messages.recv().await {
        match message {
            Message::World { world, open, close, done } => {
                core.take(world);
                open_listeners(&core, &mut core_listeners, open);
                let closed = close.iter().filter_map(|key| core_listeners.remove(key)).flatten();
                let closed = closed.map(Accepting::close).collect();
                core.context.ticker.wake_all();
                closed_sockets(closed).await;
                let _ = done.send(());
            }
            Message::Drain { grace } => {
                core.draining.set(true);
                let closed = core_listeners.drain().flat_map(|(_, sockets)| sockets);
                let closed = closed.map(Accepting::close).collect();
                core.context.ticker.wake_all();
                // Those who wait in their queues are taken in.
                closed_sockets(closed).await;
                let all_closed = all_closed(&core, &mut messages);
                return tokio::time::timeout(grace, all_closed).await.unwrap_or(false);
            }
        }
    }
    false
}

/// Waits until no connection is open, and has those that are judged by each snapshot that comes;
/// false: the handle is gone.
async fn all_closed<W: World>(core: &Core<W>, messages: &mut mpsc::Receiver<Message<W>>) -> bool {
    while core.open.count.get() > 0 {
        tokio::select! {
            () = core.open.none.notified() => {}
            message = messages.recv() => match message {
                Some(Message::World { world, done, .. }) => {
                    core.take(world);
                    core.context.ticker.wake_all();
                    let _ = done.send(());
                }
                Some(Message::Drain { .. }) => {}
                None => return false,
            }
        }
    }
    true
}

/// A core's sockets by listener: one, or several that were inherited.
type CoreListeners = HashMap<ListenerKey, Vec<Accepting>>;

/// A socket of a core, and the task that accepts from it.
struct Accepting {
    core_listener: Rc<CoreListener>,
    task: tokio::task::JoinHandle<()>,
}

impl Accepting {
    /// Has it close: it has when the task has ended.
    fn close(self) -> tokio::task::JoinHandle<()> {
        self.core_listener.close();
        self.task
    }
}

/// Waits until sockets that are to close have closed.
async fn closed_sockets(closed: Vec<tokio::task::JoinHandle<()>>) {
    for task in closed {
        // A task that panicked has dropped its socket as well.
        let _ = task.await;
    }
}

fn open_listeners<W: World>(core: &Rc<Core<W>>, core_listeners: &mut CoreListeners, open: Vec<CoreSocket>) {
    for CoreSocket { key, socket, in_use } in open {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => {
                let core_listener = CoreListener::new(key, &core.draining, in_use);
                let task =
                    tokio::task::spawn_local(accept(Rc::clone(core), listener, Rc::clone(&core_listener)));
                core_listeners.entry(key).or_default().push(Accepting { core_listener, task });
            }
            Err(error) => tracing::error!(listener = %key, %error, "cannot watch the listener"),
        }
    }
}

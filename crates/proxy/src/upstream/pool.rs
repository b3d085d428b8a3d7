//! A core's connections to one endpoint.
//!
//! The key holds everything that makes two connections interchangeable: the service,
//! whose bounds count them, the endpoint,
//! the protocol, and of TLS the trusted roots, our own identity and the name that is
//! proved. Nothing that was opened as one identity is ever used as another.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::oneshot;

use super::balance::Latency;
use super::board::Wish;
use super::connection::Connection;
use super::connection_limiter::{ConnectionLimiter, ConnectionLimits, Entered, Waiting};
use super::connection1::Connection1;
use super::connection2::{Session2, Stream2};
use super::dial::{self, DialError, Dialed, Load, Names};
use super::fairness::{Displaced, Holders, Network, Queues, Standing};
use super::in_process::{CallConnection, Line};
use super::{DialCheck, Endpoint, EndpointSettings, Protocol, Service};
use crate::deadline::Ticker;
use crate::limits::Limits;
use crate::proxy_protocol::Origin;
use crate::tls::{ClientTls, TlsFingerprint};

/// How often unused connections are looked at: those that the peer closed go.
const SWEEP: Duration = Duration::from_secs(5);

/// How often is looked whether exchanges may be ended in favour of those who wait, by one for all.
pub(crate) const RELIEF: Duration = Duration::from_millis(RELIEF_MS);
const RELIEF_MS: u64 = 20;
/// So many are ended at once at most.
const RELIEVED_MAX: usize = 8;
/// How long the other cores have to give a place to one that finds all of them taken.
const WISH: Duration = Duration::from_millis(100);

/// A request that waits for a connection.
type Waits<'p> = Standing<'p, Waiting>;

/// What makes two connections interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) service: Arc<str>,
    pub(crate) endpoint: EndpointSettings,
    pub(crate) protocol: Protocol,
    pub(crate) proxy_protocol: bool,
    pub(crate) tls: Option<Arc<TlsFingerprint>>,
}

/// All pools of a core. A pool lives as long as a snapshot uses it.
#[derive(Debug)]
pub struct Pools {
    ticker: Rc<Ticker>,
    map: RefCell<HashMap<Arc<PoolKey>, Weak<Pool>>>,
}

impl Pools {
    /// No pools yet. Must be called on a runtime that can spawn local tasks.
    pub fn new(ticker: &Rc<Ticker>) -> Rc<Self> {
        let pools = Rc::new(Self { ticker: Rc::clone(ticker), map: RefCell::default() });
        let weak = Rc::downgrade(&pools);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(pools) = weak.upgrade() else { return };
                pools.sweep();
            }
        });
        pools
    }

    /// The pool of this key: the one that is there, or a new one.
    pub(crate) fn get(&self, service: &Service, endpoint: &Endpoint, limits: &Limits) -> Rc<Pool> {
        let mut map = self.map.borrow_mut();
        let key = &endpoint.key;
        if let Some(pool) = map.get(key).and_then(Weak::upgrade) {
            pool.set_bounds(service, limits);
            return pool;
        }
        let pool = Rc::new(Pool {
            key: Arc::clone(key),
            tls: endpoint.tls.clone(),
            dial_check: endpoint.dial_check.clone(),
            line: endpoint.in_process.clone().map(Line::open),
            ticker: Rc::clone(&self.ticker),
            in_flight: Cell::new(0),
            latency: Latency::default(),
            limiter: Arc::clone(&endpoint.limiter),
            connection_limits: Cell::new(service.connection_limits),
            slots: Rc::new(Slots {
                open: Cell::new(0),
                connections_max: Cell::new(service.connections_max),
                queues: Queues::default(),
            }),
            holders: Holders::default(),
            stalled: Cell::new(limits.stalled_ms_max),
            relieves_ms: Cell::new(0),
            session_idle: Cell::new(service.idle),
            name: Cell::new(0),
            told_ms: Cell::new(0),
            turn: Cell::new(false),
            idle: RefCell::default(),
            sessions: RefCell::default(),
            dialing: Cell::new(false),
            speaks_http2: Cell::new(key.protocol == Protocol::Http2),
            streams_max: Cell::new(usize::MAX),
            names: Names::default(),
        });
        map.insert(Arc::clone(key), Rc::downgrade(&pool));
        pool.set_bounds(service, limits);
        pool
    }

    fn sweep(&self) {
        // The clock of a core without work stands still.
        let now = self.ticker.read_now_ms();
        self.map.borrow_mut().retain(|_, pool| {
            let Some(pool) = pool.upgrade() else { return false };
            pool.idle.borrow_mut().retain_mut(|connection| connection.is_usable(now));
            pool.sessions.borrow_mut().retain(|session| !session.is_over() && !session.is_expired(now));
            true
        });
    }
}

/// How many connections are open, and who waits for one.
#[derive(Debug)]
struct Slots {
    open: Cell<u32>,
    connections_max: Cell<u32>,
    queues: Queues<Waiting>,
}

/// The right to hold one connection open.
#[derive(Debug)]
pub(crate) struct Slot(Rc<Slots>, #[expect(dead_code, reason = "counted while it lives")] Entered);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.queues.wake_next();
    }
}

#[cfg(test)]
impl Slot {
    /// One of as many as there are, for what holds one.
    pub(crate) fn of_no_pool() -> Self {
        let slots =
            Slots { open: Cell::new(1), connections_max: Cell::new(u32::MAX), queues: Queues::default() };
        let entered = Arc::<ConnectionLimiter>::default().enter(ConnectionLimits::default());
        Self(Rc::new(slots), entered.expect("it has no bound"))
    }
}

/// What a request finds when it looks for a connection.
enum Found {
    /// One that is open.
    Open(Connection),
    /// Room for another one.
    Room(Slot),
}

/// Unused connections. Boxed, so that one moves between the list and a request without
/// being copied.
type Idle = Vec<Box<Connection1>>;

/// A core's connections to one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) key: Arc<PoolKey>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) dial_check: Option<DialCheck>,
    /// The way to a service of this process.
    pub(crate) line: Option<Rc<Line>>,
    pub(crate) ticker: Rc<Ticker>,
    /// Requests that are open.
    pub(crate) in_flight: Cell<u32>,
    pub(crate) latency: Latency,
    /// Counts over all cores.
    limiter: Arc<ConnectionLimiter>,
    connection_limits: Cell<ConnectionLimits>,
    slots: Rc<Slots>,
    /// The exchanges that have a connection.
    pub(crate) holders: Holders,
    /// After so long one that waits for its client may be ended, and not before the next look.
    stalled: Cell<Duration>,
    relieves_ms: Cell<u64>,
    /// How long an HTTP/2 connection without streams is kept.
    session_idle: Cell<Duration>,
    /// Its name among the cores, once a task hears of others that wait, and when it said last what
    /// it has.
    name: Cell<u64>,
    told_ms: Cell<u64>,
    /// Whose turn it is when this core and another wait.
    turn: Cell<bool>,
    /// HTTP/1 connections without a request; the last one used is used next.
    idle: RefCell<Idle>,
    sessions: RefCell<Vec<Rc<Session2>>>,
    /// Whether an HTTP/2 connection is being opened: others wait for it.
    dialing: Cell<bool>,
    speaks_http2: Cell<bool>,
    /// How many streams a new HTTP/2 connection takes at once until the upstream says so itself.
    pub(crate) streams_max: Cell<usize>,
    pub(crate) names: Names,
}

impl Pool {
    /// A connection that is open already, where nobody waits for one.
    pub(crate) fn take(self: &Rc<Self>, origin: Option<Origin>) -> Option<Connection> {
        self.take_in_turn(origin, None)
    }

    /// The same when it is the turn of one that waits.
    fn take_in_turn(
        self: &Rc<Self>,
        origin: Option<Origin>,
        waits: Option<&Waits<'_>>,
    ) -> Option<Connection> {
        // A connection that was opened for one client is of no use to others.
        if (origin.is_some() || self.is_turn(waits, |load| load == Load::Requests))
            && let Some(stream) = self.open_stream(origin)
        {
            return Some(Connection::Two(Box::new(stream)));
        }
        if !self.is_turn(waits, |_| true) {
            return None;
        }
        if let Some(line) = &self.line {
            // One for each request; whoever finds no place waits for one.
            let slot = if line.is_open() { self.enter()? } else { return None };
            return Some(Connection::Call(Box::new(CallConnection::new(line, slot))));
        }
        let now = self.ticker.now_ms();
        loop {
            let mut idle = self.idle.borrow_mut();
            let place = idle.iter().rposition(|connection| connection.origin == origin)?;
            let mut connection = idle.remove(place);
            drop(idle);
            // The peer may have closed it, or sent what nobody asked for.
            if connection.is_usable(now) {
                return Some(Connection::One(connection));
            }
        }
    }

    /// Whether a request may take what others can use as well: INVARIANT: nobody overtakes those who
    /// wait.
    fn is_turn(&self, waits: Option<&Waits<'_>>, can_use: impl Fn(Load) -> bool) -> bool {
        waits.map_or_else(|| self.slots.queues.is_empty(), |waits| waits.is_next(can_use))
    }

    fn open_stream(self: &Rc<Self>, origin: Option<Origin>) -> Option<Stream2> {
        if !self.speaks_http2.get() {
            return None;
        }
        let now = self.ticker.now_ms();
        let mut sessions = self.sessions.borrow_mut();
        sessions.retain(|session| !session.is_over() && !session.is_expired(now));
        let fits = |session: &&Rc<Session2>| session.origin == origin && session.has_room();
        sessions.iter().find(fits).map(|session| Stream2::open(self, session))
    }

    /// When an HTTP/2 connection that is unused from now on is closed.
    pub(crate) fn session_idle_until_ms(&self) -> u64 {
        self.ticker.moment(self.session_idle.get())
    }

    /// Takes the bounds of a new snapshot.
    fn set_bounds(self: &Rc<Self>, service: &Service, limits: &Limits) {
        self.stalled.set(limits.stalled_ms_max);
        self.slots.connections_max.set(service.connections_max);
        self.connection_limits.set(service.connection_limits);
        self.session_idle.set(service.idle);
        if self.is_bounded() {
            self.hear();
        }
    }

    /// Gives up for other cores that wait, from now on: unused connections, exchanges that may be
    /// ended, and places to wait.
    fn hear(self: &Rc<Self>) {
        if self.name.get() != 0 {
            return;
        }
        self.name.set(self.limiter.board.join());
        let (weak, limiter) = (Rc::downgrade(self), Arc::clone(&self.limiter));
        tokio::task::spawn_local(async move {
            loop {
                let wanted = limiter.wanted.notified();
                let Some(pool) = weak.upgrade() else { return };
                if pool.is_bounded() && limiter.waiting() > pool.waiting() {
                    pool.give_up_one();
                    pool.tell();
                }
                let displace = |network, own| {
                    let queues = &pool.slots.queues;
                    queues.displace(queues.of(network) + own)
                };
                limiter.board.grant(displace);
                drop(pool);
                // A pool that nobody uses any more is found out within the time.
                let _ = tokio::time::timeout(SWEEP, wanted).await;
            }
        });
    }

    /// Closes one unused connection, when another core waits for it.
    fn give_up_one(&self) {
        if self.idle.borrow_mut().pop().is_none() {
            self.close_unused_session();
        }
    }

    /// Its place is free when its task has ended, of which those who wait hear.
    fn close_unused_session(&self) {
        let mut sessions = self.sessions.borrow_mut();
        let unused = sessions.iter().position(|session| session.is_unused() && !session.is_over());
        if let Some(unused) = unused {
            sessions.swap_remove(unused);
        }
    }

    /// Opens a connection, or waits for one that becomes free, as one of a network of which
    /// others may wait. The caller bounds the time.
    pub(crate) async fn connect(
        self: &Rc<Self>,
        limits: &Limits,
        origin: Option<Origin>,
        load: Load,
        network: Network,
    ) -> Result<Connection, DialError> {
        let mut waits: Option<Waits<'_>> = None;
        loop {
            let elsewhere = self.limiter.freed.notified();
            if let Some(found) = self.look(origin, load, waits.as_ref()) {
                if let Some(waits) = waits {
                    waits.served();
                }
                return match found {
                    Found::Open(connection) => Ok(connection),
                    Found::Room(slot) => self.dial(slot, limits, origin, load).await,
                };
            }
            match &waits {
                Some(waits) => {
                    self.wait(waits, load, elsewhere).await.map_err(|Displaced| DialError::Full)?
                }
                // Looks once more after it has said so: what became free on another core before that
                // has told nobody.
                None => waits = Some(self.stand(network, load, origin).await?),
            }
        }
    }

    /// What there is for a request, as far as it is its turn.
    fn look(self: &Rc<Self>, origin: Option<Origin>, load: Load, waits: Option<&Waits<'_>>) -> Option<Found> {
        if load == Load::Requests
            && let Some(connection) = self.take_in_turn(origin, waits)
        {
            return Some(Found::Open(connection));
        }
        let is_turn = self.may_open(load) && self.is_turn(waits, |load| self.may_open(load));
        if is_turn { self.enter_or_replace(load).map(Found::Room) } else { None }
    }

    /// Whether what is needed is not being opened already. With the PROXY protocol that is somebody
    /// else's.
    fn may_open(&self, load: Load) -> bool {
        let shares = load == Load::Requests && !self.key.proxy_protocol;
        !(shares && self.speaks_http2.get() && self.dialing.get())
    }

    /// Waits until there may be something for it.
    async fn wait(&self, waits: &Waits<'_>, load: Load, elsewhere: Notified<'_>) -> Result<(), Displaced> {
        if !self.may_open(load) || !waits.is_next(|load| self.may_open(load)) {
            return waits.changed().await;
        }
        // The one whose turn it is looks after all.
        self.limiter.wanted.notify_waiters();
        if self.replaces(load) {
            self.close_unused_session();
        }
        let mut elsewhere = pin!(elsewhere);
        loop {
            tokio::select! {
                changed = waits.changed() => return changed,
                () = &mut elsewhere => return Ok(()),
                // Keeps its turn among the cores, unless there is room that another core was told of and
                // could not use.
                () = tokio::time::sleep(RELIEF) => {
                    self.relieve();
                    if !self.is_full() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Ends exchanges in favour of those who wait, of those first who have least.
    fn relieve(&self) {
        let now = self.ticker.read_now_ms();
        if now < self.relieves_ms.get() {
            return;
        }
        self.relieves_ms.set(now + RELIEF_MS);
        let networks = self.slots.queues.networks();
        // Where it is the other cores that have what there is, they have to give it up.
        let is_full_here = self.slots.open.get() >= self.slots.connections_max.get();
        if self.is_bounded() && !is_full_here {
            self.tell();
            self.limiter.board.ask(&networks, now, RELIEVED_MAX);
            self.tell();
            self.limiter.wanted.notify_waiters();
            return;
        }
        let mut own: Vec<usize> =
            networks.into_iter().map(|network| self.holders.connections(network)).collect();
        own.sort_unstable();
        // What is given up already is enough for as many.
        for own in own.into_iter().skip(self.holders.leaving()).take(RELIEVED_MAX) {
            if !self.holders.relieve(own, now, self.stalled.get()) {
                return;
            }
        }
    }

    async fn dial(
        self: &Rc<Self>,
        slot: Slot,
        limits: &Limits,
        origin: Option<Origin>,
        load: Load,
    ) -> Result<Connection, DialError> {
        let _dialing = Dialing::begin(self);
        match dial::dial(self, slot, limits, origin, load).await? {
            // Says nothing of what other requests would be spoken with.
            Dialed::One(connection) if load != Load::Requests => Ok(Connection::One(connection)),
            Dialed::One(connection) => {
                self.speaks_http2.set(false);
                Ok(Connection::One(connection))
            }
            Dialed::Call(call) => Ok(Connection::Call(call)),
            Dialed::Two(session) => {
                self.speaks_http2.set(true);
                let session = Rc::new(session);
                let stream = Stream2::open(self, &session);
                self.sessions.borrow_mut().push(session);
                Ok(Connection::Two(Box::new(stream)))
            }
        }
    }

    /// A place for a connection; instead of an unused one, when that is of no use here.
    fn enter_or_replace(&self, load: Load) -> Option<Slot> {
        self.enter().or_else(|| {
            let unused = self.replaces(load).then(|| self.idle.borrow_mut().pop()).flatten();
            drop(unused?);
            self.enter()
        })
    }

    /// Whether unused connections are of no use for this load: with the PROXY protocol they
    /// are somebody else's, and only requests share them.
    fn replaces(&self, load: Load) -> bool {
        self.key.proxy_protocol || load != Load::Requests
    }

    fn enter(&self) -> Option<Slot> {
        let open = self.slots.open.get();
        if open >= self.slots.connections_max.get() {
            return None;
        }
        let entered = self.limiter.enter(self.connection_limits.get())?;
        self.slots.open.set(open + 1);
        Some(Slot(Rc::clone(&self.slots), entered))
    }

    /// Whether no further connection may be opened now.
    pub(crate) fn is_full(&self) -> bool {
        let most = self.connection_limits.get().connections_max;
        self.slots.open.get() >= self.slots.connections_max.get()
            || (most != 0 && self.limiter.open() >= most)
    }

    /// Says what this core has, and ends what others have asked it to.
    fn tell(&self) {
        let (now, board) = (self.ticker.read_now_ms(), &self.limiter.board);
        // However many cores ask, it looks once.
        if now >= self.told_ms.get() + RELIEF_MS / 2 {
            self.told_ms.set(now);
            let shares = self.holders.shares(now, self.stalled.get());
            board.tell(self.name.get(), shares, self.holders.leaving(), now);
        }
        for network in board.asked(self.name.get()) {
            self.holders.end_of(network);
        }
    }

    /// Whether the connections of all cores have a bound together.
    fn is_bounded(&self) -> bool {
        self.connection_limits.get().connections_max != 0
    }

    /// A place among those who wait, behind those of the same network.
    async fn stand(
        self: &Rc<Self>,
        network: Network,
        load: Load,
        origin: Option<Origin>,
    ) -> Result<Waits<'_>, DialError> {
        self.hear();
        let queues = &self.slots.queues;
        let place = self.limiter.wait(self.connection_limits.get());
        let place = match place.or_else(|| queues.displace(queues.of(network))) {
            Some(place) => place,
            None => self.wish(network).await.ok_or(DialError::Full)?,
        };
        Ok(queues.stand(network, load, origin, place))
    }

    /// A place of a network of which more wait on another core.
    async fn wish(&self, network: Network) -> Option<Waiting> {
        if self.limiter.waiting() <= self.waiting() {
            return None;
        }
        let (give, given) = oneshot::channel();
        let (core, own) = (self.name.get(), self.slots.queues.of(network));
        if !self.limiter.board.wish(Wish { core, network, own, give }) {
            return None;
        }
        self.limiter.wanted.notify_waiters();
        tokio::time::timeout(WISH, given).await.ok()?.ok()
    }

    /// How many requests of this core wait.
    fn waiting(&self) -> u32 {
        u32::try_from(self.slots.queues.len()).unwrap_or(u32::MAX)
    }

    /// Takes a connection back whose response has ended cleanly.
    pub(crate) fn put(&self, connection: Box<Connection1>) {
        let here = self.waiting();
        let elsewhere = self.is_bounded() && self.limiter.waiting() > here;
        // When both wait they take turns; closing it makes room for the other core.
        let turn = elsewhere && self.turn.replace(!self.turn.get());
        if elsewhere && (here == 0 || turn) {
            return;
        }
        self.idle.borrow_mut().push(connection);
        self.slots.queues.wake_next();
    }

    /// Closes all unused connections: one of them was found closed by the upstream.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// A stream has ended: there is room for another one. What only a request can use
    /// wakes nobody else.
    pub(crate) fn stream_ended(&self, session: &Session2) {
        match session.origin {
            _ if session.is_unused() => self.slots.queues.wake_next(),
            None => self.slots.queues.wake(|load| load == Load::Requests),
            Some(origin) => self.slots.queues.wake_of(origin),
        }
    }

    /// A session that no longer answers gets no new streams.
    pub(crate) fn abandon(&self, session: &Rc<Session2>) {
        self.sessions.borrow_mut().retain(|other| !Rc::ptr_eq(other, session));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.name.get() != 0 {
            self.limiter.board.leave(self.name.get());
        }
    }
}

/// Marks that a connection is being opened.
struct Dialing<'p>(&'p Pool);

impl<'p> Dialing<'p> {
    fn begin(pool: &'p Pool) -> Self {
        pool.dialing.set(true);
        Self(pool)
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.dialing.set(false);
        self.0.slots.queues.wake_next();
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{JoinHandle, LocalSet};
    use tokio::time::Instant;

    use super::*;
    use crate::upstream::{ServiceSettings, Upstreams};

    /// As long as it takes, but not for ever.
    async fn soon<T>(wanted: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), wanted).await.unwrap()
    }

    #[tokio::test]
    async fn room_that_one_core_was_told_of_and_cannot_use_is_found_by_the_next() {
        let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = upstream.local_addr().unwrap();
        let (host, port) = (address.ip().to_string(), address.port());
        let endpoint = EndpointSettings { tls: false, host, port, address: None };
        let bounds = ConnectionLimits { connections_max: 2, waiting_max: 8 };
        let settings = ServiceSettings {
            connections_per_core_max: 1,
            connection_limits: bounds,
            ..ServiceSettings::new("test", vec![endpoint])
        };
        let limits = Arc::new(Limits::default());
        let upstreams = Upstreams::build(vec![settings], Vec::new(), Arc::clone(&limits), None).unwrap();
        let (service, endpoint) = (&upstreams.services()[0], &upstreams.services()[0].endpoints[0]);
        let limiter = &endpoint.limiter;
        let begin = |core: &Rc<Pool>| -> JoinHandle<bool> {
            let (core, limits) = (Rc::clone(core), Arc::clone(&limits));
            tokio::task::spawn_local(async move {
                core.connect(&limits, None, Load::Requests, None).await.is_ok()
            })
        };
        let wait_for = async |count: u32| {
            while limiter.waiting() != count {
                tokio::task::yield_now().await;
            }
        };
        let test = async {
            let [full, other] =
                [(); 2].map(|()| Pools::new(&Ticker::start(Instant::now())).get(service, endpoint, &limits));
            // One has as many as a core may have, and a third core the rest.
            let own = full.enter().unwrap();
            let third = limiter.enter(bounds).unwrap();
            let told = begin(&full);
            wait_for(1).await;
            let next = begin(&other);
            wait_for(2).await;
            drop(third);
            assert!(soon(next).await.unwrap());
            assert!(!told.is_finished());
            drop(own);
            assert!(soon(told).await.unwrap());
            assert_eq!((limiter.open(), limiter.waiting()), (0, 0));
        };
        LocalSet::new().run_until(test).await;
    }
}

//! A core's connections to one endpoint.
//!
//! The key holds everything that makes two connections interchangeable: the endpoint,
//! the protocol, and of TLS the trusted roots, our own identity and the name that is
//! proved. Nothing that was opened as one identity is ever used as another.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::connection::Connection;
use super::connection1::Connection1;
use super::connection2::{Session2, Stream2};
use super::dial::{self, DialError, Dialed, Names};
use super::{EndpointSettings, Protocol};
use crate::deadline::Ticker;
use crate::limits::Limits;
use crate::tls::{ClientTls, TlsFingerprint};

/// How often unused connections are looked at: those that the peer closed go.
const SWEEP: Duration = Duration::from_secs(5);

/// What makes two connections interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) endpoint: EndpointSettings,
    pub(crate) protocol: Protocol,
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
    pub(crate) fn get(&self, key: &Arc<PoolKey>, tls: Option<&ClientTls>, connections_max: u32) -> Rc<Pool> {
        let mut map = self.map.borrow_mut();
        if let Some(pool) = map.get(key).and_then(Weak::upgrade) {
            pool.slots.connections_max.set(connections_max);
            return pool;
        }
        let pool = Rc::new(Pool {
            key: Arc::clone(key),
            tls: tls.cloned(),
            ticker: Rc::clone(&self.ticker),
            in_flight: Cell::new(0),
            slots: Rc::new(Slots {
                open: Cell::new(0),
                connections_max: Cell::new(connections_max),
                freed: Notify::new(),
            }),
            idle: RefCell::default(),
            sessions: RefCell::default(),
            dialing: Cell::new(false),
            speaks_http2: Cell::new(key.protocol == Protocol::Http2),
            names: Names::default(),
        });
        map.insert(Arc::clone(key), Rc::downgrade(&pool));
        pool
    }

    fn sweep(&self) {
        let now = self.ticker.now_ms();
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
    freed: Notify,
}

/// The right to hold one connection open.
#[derive(Debug)]
pub(crate) struct Slot(Rc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.freed.notify_one();
    }
}

/// Unused connections. Boxed, so that one moves between the list and a request without
/// being copied.
type Idle = Vec<Box<Connection1>>;

/// A core's connections to one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) key: Arc<PoolKey>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) ticker: Rc<Ticker>,
    /// Requests that are open.
    pub(crate) in_flight: Cell<u32>,
    slots: Rc<Slots>,
    /// HTTP/1 connections without a request; the last one used is used next.
    idle: RefCell<Idle>,
    sessions: RefCell<Vec<Rc<Session2>>>,
    /// Whether an HTTP/2 connection is being opened: others wait for it.
    dialing: Cell<bool>,
    speaks_http2: Cell<bool>,
    pub(crate) names: Names,
}

impl Pool {
    /// A connection that is open already.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Connection> {
        if let Some(stream) = self.open_stream() {
            return Some(Connection::Two(stream));
        }
        let now = self.ticker.now_ms();
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            // The peer may have closed it, or sent what nobody asked for.
            if connection.is_usable(now) {
                return Some(Connection::One(connection));
            }
        }
    }

    fn open_stream(self: &Rc<Self>) -> Option<Stream2> {
        if !self.speaks_http2.get() {
            return None;
        }
        let mut sessions = self.sessions.borrow_mut();
        sessions.retain(|session| !session.is_over());
        sessions.iter().find(|session| session.has_room()).map(|session| Stream2::open(self, session))
    }

    /// Opens a connection, or waits for one that becomes free. The caller bounds the
    /// time.
    pub(crate) async fn connect(self: &Rc<Self>, limits: &Limits) -> Result<Connection, DialError> {
        loop {
            let free = self.slots.freed.notified();
            if let Some(connection) = self.take() {
                return Ok(connection);
            }
            let must_wait = self.speaks_http2.get() && self.dialing.get();
            let slot = if must_wait { None } else { self.enter() };
            let Some(slot) = slot else {
                free.await;
                continue;
            };
            let _dialing = Dialing::begin(self);
            match dial::dial(self, slot, limits).await? {
                Dialed::One(connection) => {
                    self.speaks_http2.set(false);
                    return Ok(Connection::One(connection));
                }
                Dialed::Two(session) => {
                    self.speaks_http2.set(true);
                    let session = Rc::new(session);
                    let stream = Stream2::open(self, &session);
                    self.sessions.borrow_mut().push(session);
                    return Ok(Connection::Two(stream));
                }
            }
        }
    }

    fn enter(&self) -> Option<Slot> {
        let open = self.slots.open.get();
        if open >= self.slots.connections_max.get() {
            return None;
        }
        self.slots.open.set(open + 1);
        Some(Slot(Rc::clone(&self.slots)))
    }

    /// Takes a connection back whose response has ended cleanly.
    pub(crate) fn put(&self, connection: Box<Connection1>) {
        self.idle.borrow_mut().push(connection);
        self.slots.freed.notify_one();
    }

    /// Closes all unused connections: one of them was found closed by the upstream.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// A stream has ended: there is room for another one.
    pub(crate) fn stream_ended(&self) {
        self.slots.freed.notify_one();
    }

    /// A session that no longer answers gets no new streams.
    pub(crate) fn abandon(&self, session: &Rc<Session2>) {
        self.sessions.borrow_mut().retain(|other| !Rc::ptr_eq(other, session));
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
        self.0.slots.freed.notify_waiters();
        self.0.slots.freed.notify_one();
    }
}

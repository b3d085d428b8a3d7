//! What the hop is driven by: a snapshot of the world that all cores share, and a
//! handler on each core that takes one request after the other through its steps.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::address::AddressList;
use crate::admit::{Admission, Refusal};
use crate::deadline::Ticker;
use crate::exchange::Exchange;
use crate::held::HeldBudget;
use crate::limits::{Hits, Limits};
use crate::tls::{ServerTls, TlsPeer};
use crate::upstream::Pools;
use crate::way::Admitted;

/// One immutable snapshot: built whole, checked whole, then published to every core.
pub trait World: Send + Sync + 'static {
    /// What serves requests on one core.
    type Handler: Handler;

    /// Where to listen. A listener that stands here with the same key as before stays open
    /// over a reload, whatever else of it changed. One that closes stays here until its last
    /// connection has ended ([`crate::Cores::has_ended`]): what it is, and whom it takes,
    /// is asked for each of their requests.
    fn listeners(&self) -> &[ListenerSettings];

    /// The limits of the hop.
    fn limits(&self) -> &Arc<Limits>;

    /// What the configuration says about admission.
    fn admission(&self) -> &Admission;

    /// Whether the peer of this connection is a configured trusted proxy, whose
    /// `Forwarded` and `X-Forwarded-*` are kept.
    fn is_trusted_proxy(&self, connection: &ConnectionInfo) -> bool;

    /// Makes the core's own part of the world. Called on the core's thread, inside its
    /// runtime, once per snapshot. `before` is the handler that it replaces.
    fn on_core(self: &Arc<Self>, core: &CoreContext, before: Option<&Self::Handler>) -> Self::Handler;
}

/// Takes a request from its arrival to the last byte of its answer.
pub trait Handler: 'static {
    /// Serves one request. When it returns, what was queued is written to the client;
    /// an exchange without a head is closed without an answer.
    ///
    /// It may be dropped at any await, when the client's connection ends (HTTP/2) or a
    /// drain runs out of time: what must always happen belongs into a `Drop`.
    fn serve<E: Exchange>(&self, arrival: Arrival<'_>, exchange: &mut E) -> impl Future<Output = ()>;

    /// Writes down that a client was refused before it could ask for anything. Whether that was
    /// done: then it is not counted as left out.
    fn handshake_refused(&self, refused: &RefusedHandshake<'_>) -> bool;
}

/// What a core offers to its handler.
#[derive(Clone, Debug)]
pub struct CoreContext {
    /// The core's number, from 0.
    pub index: usize,
    /// Its coarse clock.
    pub ticker: Rc<Ticker>,
    /// Its connections to upstreams, which outlive snapshots.
    pub pools: Rc<Pools>,
    /// How often each limit was met, over all cores.
    pub limit_hits: Arc<Hits>,
    /// What is held of bodies, over all cores.
    pub held: Arc<HeldBudget>,
}

/// Where to listen, and how.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// The address; port 0 lets the system pick.
    pub address: SocketAddr,
    /// Tells it from others that are configured with the same address (port 0).
    pub ordinal: u16,
    /// Whether it takes no new connections: those that it has are still its own.
    pub closing: bool,
    /// TLS; without it the listener is cleartext.
    pub tls: Option<ServerTls>,
    /// Whether cleartext clients may speak HTTP/2 with prior knowledge (RFC 9113 §3.3).
    /// With TLS, ALPN decides.
    pub http2_cleartext: bool,
    /// Peers that begin each connection with a PROXY protocol header; all
    /// others are served as who they are, and such a header of theirs is malformed.
    pub proxy_protocol: Option<Arc<AddressList>>,
    /// What clients speak there.
    pub speaks: Speaks,
    /// With TLS: whether cleartext is taken besides, and counted. What comes that way has
    /// proved nothing.
    pub takes_cleartext: bool,
}

impl ListenerSettings {
    /// For HTTP alone, with TLS or without.
    pub fn new(address: SocketAddr, tls: Option<ServerTls>) -> Self {
        let speaks = Speaks::default();
        Self {
            address,
            ordinal: 0,
            closing: false,
            tls,
            http2_cleartext: false,
            proxy_protocol: None,
            speaks,
            takes_cleartext: false,
        }
    }

    /// Its key.
    pub fn key(&self) -> ListenerKey {
        ListenerKey { address: self.address, ordinal: self.ordinal }
    }
}

/// What the clients of a listener speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP; with TLS, ALPN says which version.
    #[default]
    Http,
    /// Anything: each connection is opaque, and asks to be let through to this name.
    Opaque(Bytes),
    /// HTTP where ALPN or the first bytes say so; everything else is opaque, for this name.
    Either(Bytes),
}

/// Names a listener over reloads: the configured address, and a number for those that
/// are configured with the same one (port 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// The address as configured.
    pub address: SocketAddr,
    /// Tells it from others of the same address.
    pub ordinal: u16,
}

impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// The listener with this key.
pub fn find_listener(listeners: &[ListenerSettings], key: ListenerKey) -> Option<&ListenerSettings> {
    listeners.iter().find(|settings| settings.key() == key)
}

/// The keys of those that take new connections.
pub(crate) fn accepting(listeners: &[ListenerSettings]) -> impl Iterator<Item = ListenerKey> {
    listeners.iter().filter(|settings| !settings.closing).map(ListenerSettings::key)
}

/// What is known about a client's connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client's end.
    pub peer: SocketAddr,
    /// The client's address as text, written once for all its requests.
    pub peer_text: Box<str>,
    /// The same as a node of `Forwarded` (RFC 7239 §6).
    pub peer_node: Box<[u8]>,
    /// Our end.
    pub local: SocketAddr,
    /// The listener that accepted it.
    pub listener: ListenerKey,
    /// What the TLS handshake said; none on cleartext.
    pub tls: Option<TlsPeer>,
}

impl ConnectionInfo {
    /// Whether the client's certificate would still be accepted by the connection's
    /// listener as these settings make it. Always for connections without TLS; verifies
    /// the chain anew only when the listener's TLS is not the one that last verified it.
    pub fn is_still_trusted(&self, listeners: &[ListenerSettings], now_ms: u64) -> bool {
        let Some(peer) = &self.tls else { return true };
        // One that closes judges its connections to their end.
        let tls = find_listener(listeners, self.listener).map(|settings| settings.tls.as_ref());
        // Without TLS it takes no certificate at all.
        let takes_none = tls.is_some_and(|tls| tls.is_none()) && !peer.chain.is_empty();
        !takes_none && peer.is_still_trusted(tls.flatten(), now_ms)
    }
}

/// A request that has just come: a head that was read, admitted or refused.
#[derive(Debug)]
pub struct Arrival<'c> {
    /// The connection that it came on.
    pub connection: &'c ConnectionInfo,
    /// The admitted request, or why its head was refused. A refused one is answered
    /// and audited like any other; after it an HTTP/1 connection is closed.
    pub admitted: Result<Admitted, Refusal>,
}

/// A client that was refused before it could ask for anything: for its certificate, or for want of
/// one, or because it speaks no TLS where that is asked for.
#[derive(Debug)]
pub struct RefusedHandshake<'c> {
    /// Its connection, which has no [`ConnectionInfo::tls`].
    pub connection: &'c ConnectionInfo,
    /// Why, in one line.
    pub reason: &'c str,
    /// How many more of the same source were refused since the last one that was told of.
    pub left_out: u64,
}

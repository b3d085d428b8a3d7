//! Sockets of listeners: bound once for all cores, kept from other processes, spread over the
//! cores.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::ListenError;
use crate::accept::InUse;
use crate::world::{ListenerKey, World, accepting};

/// Connections that wait to be accepted, per listener and core.
pub(crate) const BACKLOG: i32 = 1024;

/// A listener's real address, and the claim that keeps other processes away from it.
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    pub(super) claim: UnixListener,
    /// Handles of the cores' sockets, to be handed to a process that takes over.
    pub(super) sockets: Vec<StdListener>,
    /// What the cores hold for as long as they have connections of it.
    pub(super) in_use: Arc<InUse>,
}

/// A socket of a listener, for one core.
pub(super) struct CoreSocket {
    pub(super) key: ListenerKey,
    pub(super) socket: StdListener,
    pub(super) in_use: Arc<InUse>,
}

/// A listener that another process opened: the one that is taken over from, or systemd.
#[derive(Debug)]
pub struct Inherited {
    /// The listener that it is for.
    pub key: ListenerKey,
    /// The address that it has.
    pub address: SocketAddr,
    /// Its sockets, never empty: one per core of a process that is taken over from.
    pub sockets: Vec<StdListener>,
    /// The other process' claim on the address; without it one is made.
    pub claim: Option<UnixListener>,
}

/// One socket per core for a listener.
type PerCore = Vec<Vec<CoreSocket>>;

/// Binds the listeners that are not open yet, one socket per core.
pub(super) fn bind_new<W: World>(
    world: &Arc<W>,
    open: &HashMap<ListenerKey, Bound>,
    cores: usize,
    mut inherited: Vec<Inherited>,
) -> Result<(HashMap<ListenerKey, Bound>, PerCore), ListenError> {
    let mut bound = HashMap::new();
    let mut per_core: PerCore = (0..cores).map(|_| Vec::new()).collect();
    for key in accepting(world.listeners()).filter(|key| !open.contains_key(key)) {
        let known = inherited.iter().position(|listener| listener.key == key);
        let (address, claim, sockets) = match known.map(|place| inherited.swap_remove(place)) {
            Some(Inherited { address, sockets, claim, .. }) if !sockets.is_empty() => {
                (address, claim.map_or_else(|| claim_name(address), Ok)?, sockets)
            }
            _ => {
                let (address, claim) = claim(key.address).map_err(|error| match error {
                    ListenError::InUse { address } => own(address, open).unwrap_or(error),
                    other => other,
                })?;
                let bind = |_| Ok::<StdListener, ListenError>(bind(address, true)?.into());
                (address, claim, (0..cores).map(bind).collect::<Result<_, _>>()?)
            }
        };
        let new = Bound { address, claim, sockets, in_use: Arc::new(InUse) };
        spread(key, &new, &mut per_core)?;
        bound.insert(key, new);
    }
    Ok((bound, per_core))
}

/// That an address is in use by ourselves. A reload opens before it closes, so that
/// nothing is lost when it cannot open.
fn own(address: SocketAddr, open: &HashMap<ListenerKey, Bound>) -> Option<ListenError> {
    let open = open.values().map(|bound| bound.address).find(|&open| overlap(address, open))?;
    Some(ListenError::Overlaps { address, open })
}

/// Whether two listeners would take the same connections.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // The unspecified address of IPv6 takes the clients of IPv4 as well.
    let covers = |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4());
    let (ip, other_ip) = (one.ip(), other.ip());
    one.port() == other.port() && (ip == other_ip || covers(ip, other_ip) || covers(other_ip, ip))
}

/// Gives every core a socket of a listener, and every socket a core: one that nobody
/// accepted from would swallow its share of the connections.
fn spread(key: ListenerKey, bound: &Bound, per_core: &mut PerCore) -> Result<(), ListenError> {
    let (cores, sockets) = (per_core.len(), &bound.sockets);
    let failed = |source| ListenError::Bind { address: bound.address, source };
    for place in 0..cores.max(sockets.len()) {
        let socket = sockets.iter().cycle().nth(place % sockets.len().max(1));
        let (Some(socket), Some(list)) = (socket, per_core.get_mut(place % cores)) else { continue };
        socket.set_nonblocking(true).map_err(failed)?;
        let (socket, in_use) = (socket.try_clone().map_err(failed)?, Arc::clone(&bound.in_use));
        list.push(CoreSocket { key, socket, in_use });
    }
    Ok(())
}

/// Makes sure that nobody else listens on the address, and that nobody will. Gives the
/// address with the port that the system picked.
fn claim(wanted: SocketAddr) -> Result<(SocketAddr, UnixListener), ListenError> {
    let probe = bind(wanted, false)?;
    let address = probe
        .local_addr()
        .and_then(|address| address.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into()))
        .map_err(|source| ListenError::Bind { address: wanted, source })?;
    Ok((address, claim_name(address)?))
}

/// The claim alone, on an address that is bound already.
fn claim_name(address: SocketAddr) -> Result<UnixListener, ListenError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        _ => ListenError::Bind { address, source },
    };
    let name = UnixAddress::from_abstract_name(format!("bastide-listener-{address}")).map_err(failed)?;
    UnixListener::bind_addr(&name).map_err(failed)
}

fn bind(address: SocketAddr, shared: bool) -> Result<Socket, ListenError> {
    let make = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the last run to time out. For the
        // probe this still fails while a socket listens on the address.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        if shared {
            socket.listen(BACKLOG)?;
        }
        Ok(socket)
    };
    make().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        _ => ListenError::Bind { address, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_or_an_address_that_cannot_be_had_says_what_to_do() {
        for (address, kind, says) in [
            ("127.0.0.1:443", io::ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
            ("127.0.0.1:8443", io::ErrorKind::PermissionDenied, "127.0.0.1:8443: permission denied"),
            ("192.0.2.1:8443", io::ErrorKind::AddrNotAvailable, "this machine has no such address"),
        ] {
            let fault = ListenError::Bind { address: address.parse().unwrap(), source: kind.into() };
            assert!(fault.to_string().contains(says), "{fault}");
        }
    }

    #[test]
    fn listeners_overlap_where_they_take_the_same_connections() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("127.0.0.1:1", "0.0.0.0:2", false),
            ("127.0.0.1:1", "[::]:1", true),
            ("0.0.0.0:1", "[::]:1", true),
            ("[::1]:1", "[::]:1", true),
            ("[::1]:1", "0.0.0.0:1", false),
        ] {
            let (a, b) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((overlap(a, b), overlap(b, a)), (expected, expected), "{one} {other}");
        }
    }
}

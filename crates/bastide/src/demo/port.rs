//! Ports of loopback for processes that are yet to be started.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// Addresses that are kept for whoever is started to listen there. Each is held by a socket that does
/// not listen, so that nobody gets it by chance; who listens with `SO_REUSEADDR`, as every common server
/// does, still can.
#[derive(Debug, Default)]
pub struct Ports(Vec<Socket>);

impl Ports {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more, which the system picks.
    ///
    /// # Errors
    /// What the system said.
    pub fn another(&mut self) -> io::Result<SocketAddr> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        self.0.push(socket);
        address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

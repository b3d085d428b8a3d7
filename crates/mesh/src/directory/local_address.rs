//! The address of this machine at which others reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalAddress {
    /// Nothing.
    #[default]
    Unknown,
    /// It is this one.
    At(IpAddr),
    /// It is the one that this machine sends from by its default route, at the moment of the question.
    ByRoute,
}

/// Where the default route leads: addresses that are nobody's (RFC 5737, RFC 3849).
const BEYOND: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
];
/// Any port: nothing is sent.
const DISCARD: u16 = 9;

impl LocalAddress {
    /// The address now; `None`: it is not known.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Unknown => None,
            Self::At(address) => Some(address),
            Self::ByRoute => BEYOND.into_iter().find_map(|(own, other)| {
                let socket = UdpSocket::bind((own, 0)).ok()?;
                // Of a datagram socket it only asks the routing table.
                socket.connect((other, DISCARD)).ok()?;
                let found = socket.local_addr().ok()?.ip();
                Some(found).filter(|found| !found.is_loopback() && !found.is_unspecified())
            }),
        }
    }
}

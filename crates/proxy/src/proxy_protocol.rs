//! PROXY protocol version 2: who a connection is really from, told by the balancer in
//! front of us, or by us to an upstream.
//!
//! Read only from peers that are configured as senders of it, because whoever may send
//! such a header may claim any address. Version 1 (text) is not read.
//!
//! Source: "The PROXY protocol, versions 1 & 2" by Willy Tarreau, section 2.2.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes behind the first sixteen: addresses and extensions.
pub const REST_BYTES_MAX: usize = 2048;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const START_BYTES: usize = 16;

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The client's end.
    pub source: SocketAddr,
    /// The end that it connected to.
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The connection is the sender's own, a health check for example.
    Local,
    /// It is forwarded from somewhere.
    Proxied(Origin),
}

/// Why a header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Other bytes stand where the signature should.
    #[error("expected a PROXY protocol header of version 2, found something else")]
    NoSignature,
    /// Version or command is unknown.
    #[error("PROXY protocol header with unknown version or command {0:#04x}")]
    Command(u8),
    /// It claims to be longer than allowed.
    #[error("PROXY protocol header with {0} bytes behind its start, more than {REST_BYTES_MAX}")]
    TooLong(usize),
    /// Its addresses are no TCP over IPv4 or IPv6, or incomplete.
    #[error("PROXY protocol header without TCP addresses")]
    Addresses,
}

/// Reads the first sixteen bytes: the command, the family, and how many bytes follow.
fn start(bytes: [u8; START_BYTES]) -> Result<(u8, u8, usize), HeaderFault> {
    let [signature @ .., command, family, high, low] = bytes;
    if signature != SIGNATURE {
        return Err(HeaderFault::NoSignature);
    }
    if !matches!(command, 0x20 | 0x21) {
        return Err(HeaderFault::Command(command));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > REST_BYTES_MAX {
        return Err(HeaderFault::TooLong(length));
    }
    Ok((command, family, length))
}

/// Reads what follows. Extensions (TLVs) are passed over.
fn rest(command: u8, family: u8, bytes: &[u8]) -> Result<Header, HeaderFault> {
    if command == 0x20 {
        return Ok(Header::Local);
    }
    let origin = match family {
        0x11 => addresses::<4, _>(bytes, IpAddr::from),
        // An address that was mapped is what it maps.
        0x21 => addresses::<16, _>(bytes, |octets| IpAddr::from(octets).to_canonical()),
        _ => None,
    };
    origin.map(Header::Proxied).ok_or(HeaderFault::Addresses)
}

fn addresses<const N: usize, F: Fn([u8; N]) -> IpAddr>(bytes: &[u8], address: F) -> Option<Origin> {
    let (source, bytes) = bytes.split_first_chunk::<N>()?;
    let (destination, bytes) = bytes.split_first_chunk::<N>()?;
    let (&[a, b, c, d], _) = bytes.split_first_chunk::<4>()?;
    let port = |high, low| u16::from_be_bytes([high, low]);
    Some(Origin {
        source: SocketAddr::new(address(*source), port(a, b)),
        destination: SocketAddr::new(address(*destination), port(c, d)),
    })
}

/// Reads a header from its bytes, and how many those are. For tests and fuzzing; a
/// connection is read with [`read`].
///
/// # Errors
/// Anything but a whole header of version 2.
pub fn parse(bytes: &[u8]) -> Result<(Header, usize), HeaderFault> {
    let (first, more) = bytes.split_first_chunk::<START_BYTES>().ok_or(HeaderFault::NoSignature)?;
    let (command, family, length) = start(*first)?;
    let more = more.get(..length).ok_or(HeaderFault::Addresses)?;
    Ok((rest(command, family, more)?, START_BYTES + length))
}

/// Reads a header from the beginning of a connection, and not one byte more.
///
/// # Errors
/// The connection ended or broke, or begins with anything else.
pub async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Header> {
    let invalid = |fault| io::Error::new(io::ErrorKind::InvalidData, fault);
    let mut first = [0; START_BYTES];
    socket.read_exact(&mut first).await?;
    let (command, family, length) = start(first).map_err(invalid)?;
    let mut more = [0; REST_BYTES_MAX];
    let more = more.get_mut(..length).ok_or_else(|| invalid(HeaderFault::TooLong(length)))?;
    socket.read_exact(more).await?;
    rest(command, family, more).map_err(invalid)
}

/// Writes a header: of this connection, or without one that the connection is our own.
pub fn write(origin: Option<Origin>, out: &mut Vec<u8>) {
    out.extend_from_slice(&SIGNATURE);
    let Some(Origin { source, destination }) = origin else {
        out.extend_from_slice(&[0x20, 0, 0, 0]);
        return;
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&as_v6(from).octets());
            out.extend_from_slice(&as_v6(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(source: &str, destination: &str) -> Origin {
        Origin { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn written(origin: Option<Origin>) -> Vec<u8> {
        let mut out = Vec::new();
        write(origin, &mut out);
        out
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (source, destination) in
            [("192.0.2.7:54321", "198.51.100.1:443"), ("[2001:db8::7]:54321", "[2001:db8::1]:443")]
        {
            let origin = origin(source, destination);
            let mut bytes = written(Some(origin));
            let length = bytes.len();
            // Extensions come behind the addresses.
            bytes.extend_from_slice(&[0x04, 0, 2, 1, 1]);
            bytes[15] += 5;
            assert_eq!(parse(&bytes), Ok((Header::Proxied(origin), length + 5)));
        }
        assert_eq!(parse(&written(None)), Ok((Header::Local, 16)));
        let mixed = origin("192.0.2.7:1", "[2001:db8::1]:2");
        assert_eq!(parse(&written(Some(mixed))).unwrap().0, Header::Proxied(mixed), "IPv4 again");
    }

    #[test]
    fn anything_else_is_refused() {
        let good = written(Some(origin("192.0.2.7:1", "198.51.100.1:2")));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let long = |bytes: usize| {
            let mut header = good.clone();
            header[14..16].copy_from_slice(&u16::try_from(bytes).unwrap().to_be_bytes());
            header.resize(16 + bytes, 0);
            header
        };
        for (name, bytes, fault) in [
            (
                "text of version 1",
                b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(),
                HeaderFault::NoSignature,
            ),
            ("a request", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), HeaderFault::NoSignature),
            ("version 1", with(12, 0x11), HeaderFault::Command(0x11)),
            ("command", with(12, 0x22), HeaderFault::Command(0x22)),
            ("UDP", with(13, 0x12), HeaderFault::Addresses),
            ("Unix", with(13, 0x31), HeaderFault::Addresses),
            ("no family", with(13, 0), HeaderFault::Addresses),
            ("IPv6 with the bytes of IPv4", with(13, 0x21), HeaderFault::Addresses),
            ("cut", good[..20].to_vec(), HeaderFault::Addresses),
            ("short addresses", long(11), HeaderFault::Addresses),
            ("one past the limit", long(REST_BYTES_MAX + 1), HeaderFault::TooLong(REST_BYTES_MAX + 1)),
        ] {
            assert_eq!(parse(&bytes), Err(fault), "{name}");
        }
        assert!(parse(&long(REST_BYTES_MAX)).is_ok(), "at the limit");
        assert_eq!(parse(&good).unwrap().1, good.len());
    }

    proptest! {
        #[test]
        fn fuzz_smoke_parse_never_panics(tail in proptest::collection::vec(any::<u8>(), 0..80), signed: bool) {
            let mut bytes = if signed { SIGNATURE.to_vec() } else { Vec::new() };
            bytes.extend(tail);
            if let Ok((_, length)) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}

//! PROXY protocol: who a connection is really from, told by the balancer in front of us, in
//! version 1 (a line of text) or 2, or by us to an upstream, in version 2.
//!
//! Read only from peers that are configured as senders of it, because whoever may send
//! such a header may claim any address.
//!
//! Source: "The PROXY protocol, versions 1 & 2" by Willy Tarreau, sections 2.1 and 2.2.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes behind the first sixteen: addresses and extensions.
pub const REST_BYTES_MAX: usize = 2048;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const START_BYTES: usize = 16;
/// How a header of version 1 begins.
const TEXT_SIGNATURE: &[u8] = b"PROXY ";
/// The shortest header of version 1, and of any: `PROXY UNKNOWN` and its line end.
const SHORTEST_BYTES: usize = 15;
/// Most bytes of a header of version 1, with its line end.
pub const TEXT_BYTES_MAX: usize = 107;
/// Spaces in one that names addresses.
const TEXT_SPACES: usize = 5;

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
    #[error("expected a PROXY protocol header of version 1 or 2, found something else")]
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
    /// It is of version 1, and not one line that ends within its limit.
    #[error("PROXY protocol header of version 1 that is no line of at most {TEXT_BYTES_MAX} bytes with CRLF")]
    Line,
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

/// How many bytes of a header of version 1 are still to come at least; 0: it is whole. So read, it is
/// read to its end in few steps and not past it.
fn text_missing(line: &[u8]) -> Result<usize, HeaderFault> {
    let missing = match memchr::memchr2(b'\r', b'\n', line) {
        Some(end) if line.get(end..) == Some(b"\r\n") => return Ok(0),
        Some(end) if line.get(end..) == Some(b"\r") => 1,
        Some(_) => return Err(HeaderFault::Line),
        // Nothing more is said of what an unknown one holds.
        None if line.starts_with(b"PROXY UNKNOWN") => 2,
        // The line end, and of each field that is missing its space and a byte.
        None => 2 + 2 * TEXT_SPACES.saturating_sub(memchr::memchr_iter(b' ', line).count()),
    };
    if line.len() + missing > TEXT_BYTES_MAX { Err(HeaderFault::Line) } else { Ok(missing) }
}

/// Reads a whole line of version 1.
fn text(line: &[u8]) -> Result<Header, HeaderFault> {
    let line = line.strip_suffix(b"\r\n").and_then(|line| str::from_utf8(line).ok());
    let line = line.and_then(|line| line.strip_prefix("PROXY ")).ok_or(HeaderFault::Line)?;
    // A receiver ignores what stands behind it.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(Header::Local);
    }
    text_addresses(line).map(Header::Proxied).ok_or(HeaderFault::Addresses)
}

fn text_addresses(line: &str) -> Option<Origin> {
    let mut fields = line.split(' ');
    let mut next = || fields.next();
    let (family, from, to, from_port, to_port) = (next()?, next()?, next()?, next()?, next()?);
    if next().is_some() {
        return None;
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse().ok().map(IpAddr::V4),
        // An address that was mapped is what it maps.
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical()),
        _ => None,
    };
    let port = |text: &str| {
        let is_number =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        if is_number { text.parse().ok() } else { None }
    };
    Some(Origin {
        source: SocketAddr::new(address(from)?, port(from_port)?),
        destination: SocketAddr::new(address(to)?, port(to_port)?),
    })
}

/// Reads a header from its bytes, and how many those are. For tests and fuzzing; a
/// connection is read with [`read`].
///
/// # Errors
/// Anything but a whole header.
pub fn parse(bytes: &[u8]) -> Result<(Header, usize), HeaderFault> {
    if bytes.starts_with(TEXT_SIGNATURE) {
        let mut line = bytes.get(..SHORTEST_BYTES).ok_or(HeaderFault::Line)?;
        loop {
            match text_missing(line)? {
                0 => return Ok((text(line)?, line.len())),
                missing => line = bytes.get(..line.len() + missing).ok_or(HeaderFault::Line)?,
            }
        }
    }
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
    let mut shortest = [0; SHORTEST_BYTES];
    socket.read_exact(&mut shortest).await?;
    if shortest.starts_with(TEXT_SIGNATURE) {
        return read_text(socket, &shortest).await;
    }
    let mut first = [0; START_BYTES];
    let (begun, last) = first.split_at_mut(SHORTEST_BYTES);
    begun.copy_from_slice(&shortest);
    socket.read_exact(last).await?;
    let (command, family, length) = start(first).map_err(invalid)?;
    let mut more = [0; REST_BYTES_MAX];
    let more = more.get_mut(..length).ok_or_else(|| invalid(HeaderFault::TooLong(length)))?;
    socket.read_exact(more).await?;
    rest(command, family, more).map_err(invalid)
}

/// Reads on in a header of version 1, of which so much has come.
async fn read_text(socket: &mut (impl AsyncRead + Unpin), begun: &[u8]) -> io::Result<Header> {
    let invalid = |fault| io::Error::new(io::ErrorKind::InvalidData, fault);
    let mut line = Vec::with_capacity(TEXT_BYTES_MAX);
    line.extend_from_slice(begun);
    loop {
        let missing = text_missing(&line).map_err(invalid)?;
        if missing == 0 {
            return text(&line).map_err(invalid);
        }
        let read = line.len();
        line.resize(read + missing, 0);
        socket.read_exact(line.get_mut(read..).unwrap_or_default()).await?;
    }
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

    #[test]
    fn a_line_of_version_1_is_read_and_not_a_byte_more() {
        let proxied = |source, destination| Header::Proxied(origin(source, destination));
        let longest6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY TCP6 {longest6} {longest6} 65535 65535");
        let socket = format!("[{longest6}]:65535");
        let unknown = format!("PROXY UNKNOWN {}", "x".repeat(TEXT_BYTES_MAX - 16));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (line, header) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 54321 443", proxied("192.0.2.7:54321", "198.51.100.1:443")),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 0 1", proxied("1.1.1.1:0", "2.2.2.2:1")),
            ("PROXY TCP6 ::1 2001:db8::1 1 65535", proxied("[::1]:1", "[2001:db8::1]:65535")),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2", proxied("192.0.2.7:1", "[::1]:2")),
            (&*longest, proxied(&socket, &socket)),
            ("PROXY UNKNOWN", Header::Local),
            ("PROXY UNKNOWN 192.0.2.7 198.51.100.1 1 2", Header::Local),
            (&*unknown, Header::Local),
        ] {
            let bytes = format!("{line}\r\nGET / HTTP/1.1\r\n");
            assert_eq!(parse(bytes.as_bytes()), Ok((header, line.len() + 2)), "{line}");
            let mut rest = bytes.as_bytes();
            assert_eq!(runtime.block_on(read(&mut rest)).unwrap(), header, "{line}");
            assert_eq!(rest, b"GET / HTTP/1.1\r\n", "{line}");
        }
        assert_eq!(unknown.len() + 2, TEXT_BYTES_MAX, "at the limit");
    }

    #[test]
    fn any_other_line_is_refused() {
        use HeaderFault::{Addresses, Line};
        let past = format!("PROXY UNKNOWN {}\r\n", "x".repeat(TEXT_BYTES_MAX - 15));
        let endless = format!("PROXY TCP4 {}", "1".repeat(200));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (line, fault) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n.............", Line),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r.............", Line),
            ("PROXY TCP4 \r\n192.0.2.7 198.51.100.1 1 2\r\n", Line),
            (&*past, Line),
            (&*endless, Line),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", Addresses),
            ("PROXY TCP4 192.0.2.7  198.51.100.1 1 2\r\n", Addresses),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n", Addresses),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 01 22\r\n", Addresses),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 1 +2\r\n", Addresses),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n", Addresses),
            ("PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n", Addresses),
            ("PROXY TCP4 ::1 ::1 1 2.................\r\n", Addresses),
            ("PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n", Addresses),
            ("PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n", Addresses),
            ("PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", Addresses),
            ("PROXY UNKNOWNS\r\n", Addresses),
            ("PROXY TCP4 aé 198.51.100.1 1 2 ......\r\n", Addresses),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(fault), "{line:?}");
            let read = runtime.block_on(read(&mut line.as_bytes())).unwrap_err();
            assert_eq!((read.kind(), read.to_string()), (io::ErrorKind::InvalidData, fault.to_string()));
        }
    }

    proptest! {
        #[test]
        fn fuzz_smoke_parse_never_panics(tail in proptest::collection::vec(any::<u8>(), 0..80), signed: bool) {
            for signature in [&SIGNATURE[..], TEXT_SIGNATURE, b"PROXY TCP4 "] {
                let mut bytes = if signed { signature.to_vec() } else { Vec::new() };
                bytes.extend(&tail);
                if let Ok((_, length)) = parse(&bytes) {
                    prop_assert!(length <= bytes.len());
                }
            }
        }
    }
}

//! Syslog over UDP, TCP, TLS and local sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use audit::sink::syslog::{Header, Syslog, framed};
use proxy::fetch::{FetchRules, Stream, open, resolve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UdpSocket, UnixDatagram};

use super::{Delivery, Fate};
use crate::config::{self, Sink, Transport};
use crate::process::outward;

pub(super) struct Sender {
    syslog: Syslog,
    transport: Transport,
    rules: FetchRules,
    link: Option<Link>,
}

/// An open way to the receiver.
enum Link {
    Udp(UdpSocket),
    Unix(UnixDatagram),
    Stream(Stream),
}

impl Sender {
    pub(super) fn new(sink: &Sink, settings: &config::Syslog) -> anyhow::Result<Self> {
        let header = Header {
            facility: settings.facility,
            hostname: hostname(),
            app_name: settings.app_name.clone(),
            process: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
        };
        Ok(Self {
            syslog: Syslog::new(header, settings.message_bytes_max),
            transport: settings.transport.clone(),
            rules: outward::rules(&sink.outward, 0)?,
            link: None,
        })
    }

    pub(super) async fn deliver(&mut self, lines: &[Vec<u8>]) -> Delivery {
        let messages: Vec<_> = lines.iter().map(|line| self.syslog.message(line)).collect();
        let mut fates: Vec<Fate> =
            messages.iter().map(|made| if made.is_some() { Fate::Later } else { Fate::Refused }).collect();
        let too_long = || Some("an event makes no message within message_bytes_max".to_owned());
        let mut fault = messages.iter().any(Option::is_none).then(too_long).flatten();
        let timeout = self.rules.timeout;
        let sent = tokio::time::timeout(timeout, self.send(&messages, &mut fates)).await;
        if let Some(error) = sent.unwrap_or_else(|_| Err(late(timeout))).err() {
            // What was written on a stream may or may not have arrived.
            self.link = None;
            fault = Some(error.to_string());
        }
        Delivery { fates, fault, after: None, smaller: false }
    }

    async fn send(&mut self, messages: &[Option<Vec<u8>>], fates: &mut [Fate]) -> io::Result<()> {
        if let Some(link) = &mut self.link
            && !link.is_open().await
        {
            self.link = None;
        }
        let link = match self.link.take() {
            Some(link) => link,
            None => connect(&self.transport, &self.rules).await?,
        };
        let link = self.link.insert(link);
        let made = messages.iter().zip(fates).filter_map(|(made, fate)| Some((made.as_ref()?, fate)));
        if let Link::Stream(stream) = link {
            let (mut frames, mut waiting) = (Vec::new(), Vec::new());
            for (message, fate) in made {
                framed(message, &mut frames);
                waiting.push(fate);
            }
            stream.write_all(&frames).await?;
            stream.flush().await?;
            waiting.into_iter().for_each(|fate| *fate = Fate::Taken);
            return Ok(());
        }
        for (message, fate) in made {
            let sent = match link {
                Link::Udp(socket) => socket.send(message).await,
                Link::Unix(socket) => socket.send(message).await,
                Link::Stream(_) => return Ok(()),
            };
            *fate = match sent {
                Ok(_) => Fate::Taken,
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                    Fate::Refused
                }
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }
}

impl Link {
    /// Whether the receiver has not closed it. A datagram socket is always open.
    async fn is_open(&mut self) -> bool {
        let Self::Stream(stream) = self else { return true };
        // Receivers say nothing; one that closes is read as the end.
        let mut said = [0; 64];
        !matches!(tokio::time::timeout(Duration::ZERO, stream.read(&mut said)).await, Ok(Ok(0) | Err(_)))
    }
}

async fn connect(transport: &Transport, rules: &FetchRules) -> io::Result<Link> {
    match transport {
        Transport::Udp(host, port) => {
            let addresses = resolve(host, *port, rules).await.map_err(io::Error::other)?;
            let address = addresses.first().copied().ok_or(io::ErrorKind::NotFound)?;
            let from = match address {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let socket = UdpSocket::bind(from).await?;
            socket.connect(address).await?;
            Ok(Link::Udp(socket))
        }
        Transport::Tcp(host, port) => stream(host, *port, false, rules).await,
        Transport::Tls(host, port) => stream(host, *port, true, rules).await,
        Transport::Unix(path) => unix(path),
    }
}

async fn stream(host: &str, port: u16, tls: bool, rules: &FetchRules) -> io::Result<Link> {
    open(host, port, tls, rules).await.map(Link::Stream).map_err(io::Error::other)
}

fn unix(path: &Path) -> io::Result<Link> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path).map_err(|error| {
        io::Error::new(error.kind(), format!("{} (a datagram socket is expected): {error}", path.display()))
    })?;
    Ok(Link::Unix(socket))
}

fn late(timeout: Duration) -> io::Error {
    let why = format!("the receiver took nothing within {} ms", timeout.as_millis());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// This machine's name; `-` when it has none (RFC 5424 §6.2.4).
pub(super) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "-".to_owned() } else { name.to_owned() }
}

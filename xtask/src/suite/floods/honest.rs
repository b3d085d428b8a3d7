//! Honest clients, from an address of their own: a request every few milliseconds on kept
//! connections, and a new connection now and then.

use super::field::Field;
use crate::clock::Stopwatch;
use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where they come from. The attacks come from other addresses.
const FROM: ([u8; 4], u16) = ([127, 0, 0, 9], 0);
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
/// Requests on one connection.
const REQUESTS_PER_CONNECTION: usize = 50;
/// An answer that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// How they fared.
pub(super) struct Fared {
    pub(super) answered: usize,
    pub(super) failed: usize,
    /// 99th percentile from the first byte sent to the last received, milliseconds. A new
    /// connection's time is part of its first request's.
    pub(super) p99_ms: f64,
    pub(super) elapsed: Duration,
}

/// Lets them go on for the field's time, and longer while `meanwhile` runs.
pub(super) fn go_on(field: &Field, meanwhile: impl FnOnce(&Field) -> Result<()> + Send) -> Result<Fared> {
    let watch = Stopwatch::start();
    let over = AtomicBool::new(false);
    let (mut times, failed) = std::thread::scope(|scope| -> Result<_> {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(field.address(), &over))).collect();
        let outcome = meanwhile(field);
        if let Some(rest) = field.time().checked_sub(watch.elapsed()) {
            std::thread::sleep(rest);
        }
        over.store(true, Ordering::Relaxed);
        outcome?;
        let (mut times, mut failed) = (Vec::new(), 0);
        for client in clients {
            let (own, lost) = client.join().map_err(|_| anyhow::anyhow!("an honest client panicked"))?;
            times.extend(own);
            failed += lost;
        }
        Ok((times, failed))
    })?;
    times.sort();
    let place = times.len().saturating_sub(1) * 99 / 100;
    let p99 = times.get(place).copied().context("no honest request was answered")?;
    Ok(Fared { answered: times.len(), failed, p99_ms: p99.as_secs_f64() * 1000.0, elapsed: watch.elapsed() })
}

fn client(address: SocketAddr, over: &AtomicBool) -> (Vec<Duration>, usize) {
    let (mut times, mut failed) = (Vec::new(), 0);
    let mut connection: Option<(TcpStream, usize)> = None;
    while !over.load(Ordering::Relaxed) {
        let watch = Stopwatch::start();
        let (mut stream, used) = match connection.take() {
            Some(kept) => kept,
            None => match connect(address) {
                Ok(stream) => (stream, 0),
                Err(_) => {
                    failed += 1;
                    std::thread::sleep(PAUSE);
                    continue;
                }
            },
        };
        match ask(&mut stream) {
            Ok(()) => times.push(watch.elapsed()),
            Err(_) => failed += 1,
        }
        if used + 1 < REQUESTS_PER_CONNECTION && stream.peer_addr().is_ok() {
            connection = Some((stream, used + 1));
        }
        std::thread::sleep(PAUSE);
    }
    (times, failed)
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(FROM).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET /open/honest HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let (mut got, mut piece) = (Vec::new(), [0; 4096]);
    while !got.ends_with(b"\r\n\r\nok") {
        let count = stream.read(&mut piece)?;
        if count == 0 || got.len() > 16 * 1024 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        got.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    if got.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

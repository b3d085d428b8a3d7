//! The upstream: keeps every byte that arrives, connection by connection, and answers
//! each request that a lenient reader finds in them.

use super::readers::{self, Kind, LENIENT, Rest};
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the last request of every input asks for; its answer says so.
pub(super) const SENTINEL: &[u8] = b"/sentinel";
/// The body of the sentinel's answer.
pub(super) const SENTINEL_BODY: &[u8] = b"sentinel";
/// How long a front end may take to let go of its connections after an input.
const SETTLE: Duration = Duration::from_millis(300);
/// How long the recorder's own threads may take once nothing comes any more.
const END_WITHIN: Duration = Duration::from_secs(30);
/// How long a connection may be silent before it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Most bytes that are kept of one connection.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Raw bytes that answer everything but the sentinel.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) answer: Vec<u8>,
    /// Whether the connection ends behind them.
    pub(super) then_close: bool,
}

#[derive(Default)]
struct State {
    connections: Vec<Vec<u8>>,
    open: Vec<TcpStream>,
    running: usize,
    script: Option<Script>,
}

struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One recording upstream. Its threads end with the process.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Recorder {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { state: Mutex::default(), ended: Condvar::new() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        Ok(Self { address, shared })
    }

    /// Answers with this from now on; `None`: with 200 and a short body.
    pub(super) fn script(&self, script: Option<Script>) {
        self.shared.state().script = script;
    }

    /// Ends all connections and gives what came on each since the last call.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        let mut state = self.shared.state();
        let open = std::mem::take(&mut state.open);
        // First ours, then theirs, should they not let go. They may be gone already.
        for (how, longest) in [(Shutdown::Write, SETTLE), (Shutdown::Both, END_WITHIN)] {
            open.iter().for_each(|stream| drop(stream.shutdown(how)));
            (state, _) = self
                .shared
                .ended
                .wait_timeout_while(state, longest, |state| state.running > 0)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state.connections)
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(SILENCE_MAX));
    let _ = stream.set_nodelay(true);
    let number = {
        let mut state = shared.state();
        state.running += 1;
        if let Ok(clone) = stream.try_clone() {
            state.open.push(clone);
        }
        state.connections.push(Vec::new());
        state.connections.len() - 1
    };
    // An error is the connection's end, and what came until then is kept.
    let _ = talk(shared, &mut stream, number);
    let _ = stream.shutdown(Shutdown::Both);
    shared.state().running -= 1;
    shared.ended.notify_all();
}

fn talk(shared: &Shared, stream: &mut TcpStream, number: usize) -> std::io::Result<()> {
    let mut piece = [0; 16 * 1024];
    let mut seen = Vec::new();
    let (mut answered, mut continued) = (0, 0);
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 || seen.len() > KEPT_BYTES_MAX {
            return Ok(());
        }
        seen.extend_from_slice(piece.get(..count).unwrap_or_default());
        let script = {
            let mut state = shared.state();
            if let Some(kept) = state.connections.get_mut(number) {
                kept.clone_from(&seen);
            }
            state.script.clone()
        };
        let reading = readers::read(&seen, LENIENT, Kind::Requests);
        for (place, message) in reading.messages.iter().enumerate() {
            if !message.complete {
                if message.expects && continued <= place {
                    continued = place + 1;
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                continue;
            }
            if place < answered {
                continue;
            }
            answered = place + 1;
            let sentinel = message.second.ends_with(SENTINEL);
            match &script {
                Some(script) if !sentinel => {
                    stream.write_all(&script.answer)?;
                    if script.then_close {
                        return stream.shutdown(Shutdown::Write);
                    }
                }
                _ => stream.write_all(&honest(sentinel, &message.first))?,
            }
        }
        if reading.rest == Rest::Malformed {
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
            return Ok(());
        }
    }
}

fn honest(sentinel: bool, method: &[u8]) -> Vec<u8> {
    let body = if sentinel { SENTINEL_BODY } else { b"ok" };
    // A connection per request: what one input leaves behind does not meet the next.
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())
            .into_bytes();
    if method != b"HEAD" {
        answer.extend_from_slice(body);
    }
    answer
}

//! A front end under test with the recording upstream behind it, and what came of one
//! input on both of its sides.

use super::readers::{self, Kind, MODELS, Message, Reading};
use super::recorder::{Recorder, SENTINEL, Script};
use crate::suite::servers::Server;
use anyhow::Result;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// A front end that says nothing for so long waits for more bytes of the input.
const SILENCE: Duration = Duration::from_millis(700);
/// How long varnish may go on talking to the upstream after it has given up on a client.
const AFTERMATH: Duration = Duration::from_millis(150);
/// Most bytes that are read of an answer.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bastide and its peers, in the order of the report.
pub(super) const PEERS: [&str; 3] = ["nginx", "haproxy", "varnish"];

/// One of them, running.
pub(super) struct Front {
    pub(super) name: &'static str,
    server: Server,
    recorder: Recorder,
}

/// What came of one input.
pub(super) struct Seen {
    /// What the client got.
    pub(super) client: Vec<u8>,
    /// Whether the front end ended the connection; otherwise it waits for more.
    pub(super) closed: bool,
    /// What the upstream got, per connection.
    pub(super) upstream: Vec<Vec<u8>>,
}

impl Front {
    pub(super) fn bastide(binary: &Path, folder: &Path) -> Result<Self> {
        let recorder = Recorder::start()?;
        let rest = format!(
            "workers: 1\nlisten:\n  - address: 127.0.0.1:0\nservices:\n  one:\n    endpoints: [ http://{} ]\n    \
             protocol: http1\n    retries: 0\n    eject: false\nroutes:\n  - match: /**\n    \
             to: one\n    authenticate: none\n    allow: anyone\n",
            recorder.address
        );
        let server = Server::bastide(binary, &folder.join("bastide"), &rest)?;
        Ok(Self { name: "bastide", server, recorder })
    }

    pub(super) fn peer(name: &'static str, folder: &Path) -> Result<Self> {
        let recorder = Recorder::start()?;
        let folder = folder.join(name);
        let server = match name {
            "nginx" => Server::nginx(&folder, recorder.address)?,
            "haproxy" => Server::haproxy(&folder, recorder.address)?,
            _ => Server::varnish(&folder, recorder.address)?,
        };
        Ok(Self { name, server, recorder })
    }

    /// Sends raw requests, the sentinel behind them.
    pub(super) fn send_requests(&self, bytes: &[u8]) -> Result<Seen> {
        self.recorder.script(None);
        self.send(&[bytes, &sentinel()].concat())
    }

    /// Asks with `method`, answered by raw bytes, and for the sentinel behind it.
    pub(super) fn send_response(&self, method: &str, script: Script) -> Result<Seen> {
        self.recorder.script(Some(script));
        let ask = format!("{method} /asked HTTP/1.1\r\nHost: shop.example.org\r\n\r\n");
        self.send(&[ask.as_bytes(), &sentinel()].concat())
    }

    fn send(&self, bytes: &[u8]) -> Result<Seen> {
        let mut stream = TcpStream::connect(self.server.address)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        // A front end that has refused does not read on: the answer tells.
        let _ = stream.write_all(bytes);
        let (mut client, mut piece) = (Vec::new(), [0; 16 * 1024]);
        let closed = loop {
            match stream.read(&mut piece) {
                Ok(0) => break true,
                Ok(count) => client.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
            if client.len() > ANSWER_BYTES_MAX {
                break false;
            }
        };
        drop(stream);
        if self.name == "varnish" && client.starts_with(b"HTTP/1.1 503") {
            // Its other side goes on for a while behind its back.
            std::thread::sleep(AFTERMATH);
        }
        Ok(Seen { client, closed, upstream: self.recorder.take() })
    }
}

fn sentinel() -> Vec<u8> {
    let target = String::from_utf8_lossy(SENTINEL);
    format!("GET {target} HTTP/1.1\r\nHost: sentinel.example.org\r\nConnection: close\r\n\r\n").into_bytes()
}

/// A request as it reached the upstream, in the form in which those of different front
/// ends are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    fn of(message: &Message) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mut target, mut host) = (text(&message.second), text(&message.host));
        // An absolute target says the same as its path with the host that it names (RFC
        // 9112 §3.2.2).
        if !target.starts_with('/')
            && let Some((authority, path)) = target
                .split_once("://")
                .map(|(_, rest)| rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at)))
        {
            host = authority.to_owned();
            target = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        }
        Self {
            method: text(&message.first),
            target,
            // `a.` is the name `a`.
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            body: message.body.clone(),
        }
    }
}

/// What the upstream understood.
pub(super) struct Understood {
    /// Requests that came whole, without the sentinel.
    pub(super) requests: Vec<Request>,
    /// Whether the sentinel came as a request of its own.
    pub(super) sentinel: bool,
}

impl Seen {
    /// The requests as the upstream's own reader took them.
    pub(super) fn understood(&self) -> Understood {
        let mut understood = Understood { requests: Vec::new(), sentinel: false };
        for bytes in &self.upstream {
            for message in readers::read(bytes, readers::LENIENT, Kind::Requests).complete() {
                if message.second.ends_with(SENTINEL) {
                    understood.sentinel = true;
                } else {
                    understood.requests.push(Request::of(message));
                }
            }
        }
        understood
    }

    /// How the models read what the upstream got: the first one, and any that differs.
    pub(super) fn disagreement(&self) -> Option<String> {
        self.upstream.iter().find_map(|bytes| disagreement(bytes, Kind::Requests))
    }

    /// Statuses of the final answers.
    pub(super) fn statuses(&self) -> Vec<String> {
        let kind = Kind::Responses { methods: &[], closed: self.closed };
        let reading = readers::read(&self.client, readers::LENIENT, kind);
        let all =
            reading.messages.iter().map(|message| String::from_utf8_lossy(&message.second).into_owned());
        all.filter(|status| !status.starts_with('1') || status == "101").collect()
    }
}

/// What two readers make of the same bytes, when it is not the same.
pub(super) fn disagreement(bytes: &[u8], kind: Kind<'_>) -> Option<String> {
    let all: Vec<(&str, Reading)> =
        MODELS.iter().map(|model| (model.name, readers::read(bytes, *model, kind))).collect();
    let ((name, first), others) = all.split_first()?;
    let (other, reading) = others.iter().find(|(_, reading)| reading != first)?;
    Some(format!("{name} reads {}, {other} reads {}", show(first), show(reading)))
}

fn show(reading: &Reading) -> String {
    let message = |message: &Message| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
        let end = if message.complete { "" } else { " (incomplete)" };
        format!("{} {} + {} bytes{end}", text(&message.first), text(&message.second), message.body.len())
    };
    let messages: Vec<_> = reading.messages.iter().map(message).collect();
    format!("[{}] then {:?}", messages.join(", "), reading.rest)
}

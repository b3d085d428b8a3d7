//! Clients and upstreams made of raw bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy::upstream::{ForwardSettings, ServiceSettings};
use proxy::{Cores, Limits, ListenerSettings};
use tokio::time::Instant;

use crate::support::{TestRoute, TestWorld, cleartext, service, settings};

/// So long a test waits for what must come. Nothing is asserted about it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A running hop.
pub struct TestBed {
    pub cores: Option<Cores<TestWorld>>,
    pub address: SocketAddr,
    pub runtime: tokio::runtime::Runtime,
    pub outcomes: Arc<Mutex<Vec<String>>>,
}

/// Waits until something holds; for ever, where it never does.
pub fn wait_for(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl TestBed {
    /// One listener, one service, one route for everything.
    pub fn new(endpoints: &[SocketAddr]) -> Self {
        Self::with(service("test", endpoints), settings(0), Limits::default())
    }

    pub fn with(service: ServiceSettings, settings: ForwardSettings, limits: Limits) -> Self {
        Self::behind(cleartext(anywhere()), service, settings, limits)
    }

    pub fn behind(
        listener: ListenerSettings,
        service: ServiceSettings,
        settings: ForwardSettings,
        limits: Limits,
    ) -> Self {
        let routes = vec![TestRoute { path: "/**", settings }];
        Self::reporting(TestWorld::new(vec![listener], vec![service], routes, limits, None))
    }

    /// A hop that writes down how each request ended.
    pub fn reporting(mut world: TestWorld) -> Self {
        let outcomes: Arc<Mutex<Vec<String>>> = Arc::default();
        let reported = Arc::clone(&outcomes);
        world.report = Some(Arc::new(move |outcome| {
            let error = outcome.error.as_ref().map(ToString::to_string).unwrap_or_default();
            reported.lock().unwrap().push(format!("{} {error}", outcome.attempts));
        }));
        Self::start(world, outcomes)
    }

    pub fn start(world: TestWorld, outcomes: Arc<Mutex<Vec<String>>>) -> Self {
        // One core, so that upstream pools are not spread.
        let cores = Cores::start(1, Arc::new(world)).unwrap();
        let address = cores.addresses()[0].1;
        Self { cores: Some(cores), address, runtime: runtime(), outcomes }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A client of another address of loopback.
    pub fn client_from(&self, source: IpAddr) -> Client {
        let stream = runtime().block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(source, 0)).unwrap();
            socket.connect(self.address).await.unwrap().into_std().unwrap()
        });
        stream.set_nonblocking(false).unwrap();
        Client::over(stream)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.client().get(path)
    }
}

/// Reads on where a process that was stopped for a while is interrupted: nothing has come, and nobody
/// has gone.
fn steadily(mut read: impl FnMut() -> std::io::Result<usize>) -> std::io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// A socket that is read so: rustls itself would say that nothing has come in time.
pub struct Steady(pub TcpStream);

impl Read for Steady {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        steadily(|| self.0.read(bytes))
    }
}

impl Write for Steady {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A client of raw bytes.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
    /// Whether the message was complete.
    pub whole: bool,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have closed already: the answer tells.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        self.reply()
    }

    /// The status of a request; `None` when the connection ends without one.
    pub fn status(&mut self, path: &str) -> Option<u16> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        Some(self.answer_to("GET")?.status)
    }

    /// Reads more; false at the end.
    fn more(&mut self) -> bool {
        let mut chunk = [0; 16384];
        match steadily(|| self.stream.read(&mut chunk)) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came; so far: {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => false,
        }
    }

    fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                let rest = self.buffer.split_off(at + mark.len());
                return Some(std::mem::replace(&mut self.buffer, rest));
            }
            if !self.more() {
                return None;
            }
        }
    }

    pub fn head(&mut self) -> Option<String> {
        self.until(b"\r\n\r\n").map(|head| String::from_utf8(head).unwrap())
    }

    pub fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.more() {
                return None;
            }
        }
        let rest = self.buffer.split_off(count);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    pub fn reply(&mut self) -> Reply {
        self.reply_to("GET")
    }

    /// Reads one response to a request with this method.
    pub fn reply_to(&mut self, method: &str) -> Reply {
        self.answer_to(method)
            .unwrap_or_else(|| panic!("no head; {:?}", String::from_utf8_lossy(&self.buffer)))
    }

    fn answer_to(&mut self, method: &str) -> Option<Reply> {
        let head = self.head()?;
        let status = head[9..12].parse().unwrap();
        let mut reply = Reply { status, head, body: Vec::new(), trailers: String::new(), whole: true };
        if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            return Some(reply);
        }
        if let Some(length) = reply.field("content-length") {
            match self.exactly(length.parse().unwrap()) {
                Some(body) => reply.body = body,
                None => reply.whole = false,
            }
        } else if reply.field("transfer-encoding").is_some() {
            self.chunks(&mut reply);
        } else {
            while self.more() {}
            reply.body = std::mem::take(&mut self.buffer);
        }
        Some(reply)
    }

    fn chunks(&mut self, reply: &mut Reply) {
        loop {
            let Some(line) = self.until(b"\r\n") else {
                reply.whole = false;
                return;
            };
            let size = usize::from_str_radix(str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            if size == 0 {
                loop {
                    let line = String::from_utf8(self.until(b"\r\n").unwrap()).unwrap();
                    if line == "\r\n" {
                        return;
                    }
                    reply.trailers.push_str(&line);
                }
            }
            let Some(data) = self.exactly(size + 2) else {
                reply.whole = false;
                return;
            };
            reply.body.extend_from_slice(&data[..size]);
        }
    }

    /// Reads to the end of the connection: whether that was a reset, and not in order.
    pub fn ends_by_reset(&mut self) -> bool {
        let error = loop {
            match self.stream.read(&mut [0; 16384]) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        true
    }

    /// Whether the other side has ended the connection and nothing more came.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more()
    }
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An upstream of raw bytes. Its script gets each connection and its number.
pub struct Upstream {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Heads of the requests that it saw.
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    pub fn new(script: impl Fn(usize, &mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(anywhere()).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (counted, noted, script) = (Arc::clone(&connections), Arc::clone(&seen), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let (script, seen) = (Arc::clone(&script), Arc::clone(&noted));
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    script(number, &mut Peer { client: Client { stream, buffer: Vec::new() }, seen });
                });
            }
        });
        Self { address, connections, seen }
    }

    /// Answers every request with this text.
    pub fn answering(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::new(move |_, peer| {
            while peer.request().is_some() {
                peer.send(&answer);
            }
        })
    }

    /// Answers every request with 200 and this body.
    pub fn honest(body: &str) -> Self {
        Self::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn last(&self) -> String {
        self.seen.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

/// One connection from the hop.
pub struct Peer {
    pub client: Client,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Reads one request with its body; `None` at the end.
    pub fn request(&mut self) -> Option<Reply> {
        let mut request = self.request_head()?;
        if let Some(length) = request.field("content-length") {
            request.body = self.client.exactly(length.parse().unwrap())?;
        } else if request.field("transfer-encoding").is_some() {
            self.client.chunks(&mut request);
        }
        Some(request)
    }

    pub fn request_head(&mut self) -> Option<Reply> {
        let head = self.client.head()?;
        self.seen.lock().unwrap().push(head.clone());
        Some(Reply { status: 0, head, body: Vec::new(), trailers: String::new(), whole: true })
    }

    pub fn send(&mut self, text: &str) {
        self.client.send(text);
    }

    pub fn close(&mut self) {
        let _ = self.client.stream.shutdown(Shutdown::Both);
    }
}

/// An address at which nobody listens: all others here are those of another address of loopback.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.99:0").unwrap().local_addr().unwrap()
}

/// What `attempt` gives when it is not held up. It gives nothing only when it was, for `least` or longer:
/// a machine that stands still for a moment proves nothing.
pub fn undisturbed<T>(what: &str, least: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        let tried = Instant::now();
        if let Some(found) = attempt() {
            return found;
        }
        assert!(tried.elapsed() >= least, "not held up, and no {what}");
        assert!(begun.elapsed() < 2 * PATIENCE, "held up all the time: no {what}");
    }
}

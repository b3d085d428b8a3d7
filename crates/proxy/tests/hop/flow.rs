//! Back-pressure with HTTP/2 on either side: whoever does not read holds back what is theirs, and
//! nobody else's.

use std::future::poll_fn;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use proxy::Limits;
use proxy::upstream::{ForwardSettings, Protocol, ServiceSettings, Timeouts};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::resilience::{testbed_with, until};
use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{PATIENCE, TestBed, Upstream, anywhere, runtime, undisturbed};
use crate::upstream::ejecting;

/// What the hop keeps of one body towards either side: a window, and what waits to be sent.
const HELD_BYTES_MAX: usize = (128 + 64) * 1024;
/// What a peer takes of one body that it does not read, where the test says so.
const WINDOW: u32 = 64 * 1024;
/// The library's own frames.
const FRAME_BYTES: usize = 16 * 1024;

/// How much was sent of each body.
type Sent = Arc<AtomicUsize>;

/// An upstream of HTTP/2: each stream is a task of its own.
fn upstream<S>(serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> S + Send + 'static) -> SocketAddr
where
    S: Future<Output = ()> + Send + 'static,
{
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind(anywhere()).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            // Several sessions, though these tests see that one is enough.
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(WINDOW).initial_connection_window_size(1 << 30);
            let (requests, mut arrived) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(async move {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    let (builder, requests) = (builder.clone(), requests.clone());
                    tokio::spawn(async move {
                        let mut connection = builder.handshake(socket).await.unwrap();
                        while let Some(Ok(request)) = connection.accept().await {
                            let _ = requests.send(request);
                        }
                    });
                }
            });
            while let Some((request, respond)) = arrived.recv().await {
                tokio::spawn(serve(request, respond));
            }
        });
    });
    told.recv().unwrap()
}

fn http2(address: SocketAddr) -> ServiceSettings {
    ServiceSettings { protocol: Protocol::Http2, ..service("test", &[address]) }
}

/// Sends a body in pieces as the windows allow; false when the other side has gone.
async fn send_body(stream: &mut SendStream<Bytes>, total: usize, piece: usize, sent: &Sent) -> bool {
    let mut left = total;
    while left > 0 {
        let wanted = piece.min(left);
        stream.reserve_capacity(wanted);
        while stream.capacity() < wanted {
            let Some(Ok(_)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        }
        if stream.send_data(Bytes::from(vec![b'x'; wanted]), left == wanted).is_err() {
            return false;
        }
        left -= wanted;
        sent.fetch_add(wanted, Ordering::SeqCst);
    }
    true
}

/// Reads a body to its end.
async fn read_body(body: &mut RecvStream) -> Result<usize, h2::Error> {
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        length += data.len();
    }
    Ok(length)
}

/// An upstream whose answers are so long, and how much of all of them it has sent.
fn downloads(total: usize, piece: usize) -> (SocketAddr, Sent) {
    let sent = Sent::default();
    let counted = Arc::clone(&sent);
    let address = upstream(move |_, mut respond| {
        let counted = Arc::clone(&counted);
        async move {
            let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
            send_body(&mut stream, total, piece, &counted).await;
        }
    });
    (address, sent)
}

/// A client that takes nothing of a body until it is told to.
async fn reluctant(address: SocketAddr) -> (SendRequest<Bytes>, oneshot::Sender<()>) {
    let socket = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0).initial_connection_window_size(1 << 30);
    let (send, mut connection) = builder.handshake(socket).await.unwrap();
    let (open, opened) = oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            _ = &mut connection => return,
            opened = opened => if opened.is_err() { return },
        }
        connection.set_initial_window_size(1 << 20).unwrap();
        let _ = connection.await;
    });
    (send.ready().await.unwrap(), open)
}

async fn ask(send: &mut SendRequest<Bytes>, method: &str, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    *send = send.clone().ready().await.unwrap();
    let request = Request::builder().method(method).uri(format!("http://test{path}")).body(()).unwrap();
    send.send_request(request, method == "GET").unwrap()
}

/// Waits for a condition beside what runs on this runtime.
async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Limits under which who does not read is not cut, however long.
fn endless() -> Limits {
    Limits { body_idle_ms_max: 60 * PATIENCE, ..Limits::default() }
}

/// Answers of one upstream connection that nobody reads: another client gets its own at once, what
/// is held for them stays small, and they can still be read to their end.
fn unread_answers(streams: usize, total: usize, piece: usize, stalled_at: usize) {
    let (address, sent) = downloads(total, piece);
    let testbed = TestBed::with(http2(address), settings(0), endless());
    runtime().block_on(async {
        let (mut slow, open) = reluctant(testbed.address).await;
        let mut answers = Vec::new();
        for _ in 0..streams {
            let (answer, _) = ask(&mut slow, "GET", "/").await;
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            answers.push(answer.into_body());
        }
        wait_until("answers that wait to be read", || sent.load(Ordering::SeqCst) >= stalled_at).await;

        let address = testbed.address;
        let other = tokio::task::spawn_blocking(move || crate::testbed::Client::connect(address).get("/"));
        let reply = other.await.unwrap();
        assert_eq!((reply.status, reply.body.len(), reply.whole), (200, total, true));
        let held = sent.load(Ordering::SeqCst) - total;
        assert!(held <= streams * HELD_BYTES_MAX, "{held} bytes were taken for those who read nothing");

        open.send(()).unwrap();
        for mut answer in answers {
            assert_eq!(read_body(&mut answer).await.unwrap(), total);
        }
    });
}

#[test]
fn clients_that_do_not_read_stop_nobody_elses_answer_of_an_http2_upstream() {
    unread_answers(40, 400_000, FRAME_BYTES, 4 * 1024 * 1024);
}

#[test]
fn small_messages_that_nobody_reads_end_no_connection_to_an_upstream() {
    unread_answers(20, 170_000, 64, 1024 * 1024);
    // Of these few streams would use up what the library lets a connection's frames cost.
    unread_answers(40, 170_000, 25, 4 * 1024 * 1024);
}

/// How often an upload was taken to its end.
type Taken = Arc<AtomicUsize>;

/// An upstream that reads the uploads to `/slow` when it is told to, and all others at once.
fn uploads() -> (SocketAddr, watch::Sender<bool>, Taken) {
    let (go, going) = watch::channel(false);
    let taken = Taken::default();
    let counted = Arc::clone(&taken);
    let address = upstream(move |request, mut respond| {
        let (mut going, counted) = (going.clone(), Arc::clone(&counted));
        async move {
            let is_slow = request.uri().path() == "/slow";
            let mut body = request.into_body();
            if is_slow && going.wait_for(|going| *going).await.is_err() {
                return;
            }
            let Ok(length) = read_body(&mut body).await else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
            let _ = stream.send_data(Bytes::from(length.to_string()), true);
        }
    });
    (address, go, taken)
}

async fn text(answer: ResponseFuture) -> (u16, String) {
    let (parts, mut body) = answer.await.unwrap().into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data.unwrap());
    }
    (parts.status.as_u16(), String::from_utf8(text).unwrap())
}

#[test]
fn uploads_that_are_not_read_stop_no_other_upload_of_a_proxy_and_are_held_back() {
    const STREAMS: usize = 12;
    const TOTAL: usize = 600_000;
    let (address, go, taken) = uploads();
    let timeouts =
        Timeouts { idle: 60 * PATIENCE, total: Duration::ZERO, connect: PATIENCE, ..Timeouts::default() };
    let routes = vec![TestRoute { path: "/**", settings: ForwardSettings { timeouts, ..settings(0) } }];
    let listeners = vec![cleartext(anywhere())];
    let mut world = TestWorld::new(listeners, vec![http2(address)], routes, endless(), None);
    world.trusts_proxies = true;
    let testbed = TestBed::start(world, Arc::default());
    runtime().block_on(async {
        let socket = TcpStream::connect(testbed.address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let sent = Sent::default();
        let mut answers = Vec::new();
        for _ in 0..STREAMS {
            let (answer, mut stream) = ask(&mut send, "POST", "/slow").await;
            let sent = Arc::clone(&sent);
            tokio::spawn(async move { send_body(&mut stream, TOTAL, FRAME_BYTES, &sent).await });
            answers.push(answer);
        }
        let upstreams_window = STREAMS * WINDOW as usize;
        let stalled_at = 1024 * 1024 + upstreams_window;
        wait_until("uploads that wait", || sent.load(Ordering::SeqCst) >= stalled_at).await;

        let (answer, mut stream) = ask(&mut send, "POST", "/fast").await;
        tokio::spawn(async move { send_body(&mut stream, TOTAL, FRAME_BYTES, &Sent::default()).await });
        let answer = tokio::time::timeout(PATIENCE, text(answer)).await;
        assert_eq!(answer.expect("an answer"), (200, TOTAL.to_string()));
        let held = sent.load(Ordering::SeqCst) - upstreams_window;
        assert!(held <= STREAMS * HELD_BYTES_MAX, "{held} bytes were taken for those who read nothing");

        go.send(true).unwrap();
        for answer in answers {
            assert_eq!(text(answer).await, (200, TOTAL.to_string()));
        }
        assert_eq!(taken.load(Ordering::SeqCst), STREAMS + 1);
    });
}

/// More than all buffers between the two ends take.
const MUCH: usize = 48 * 1024 * 1024;

#[test]
fn a_client_of_http1_that_does_not_read_holds_an_http2_upstream_back() {
    let (address, sent) = downloads(MUCH, FRAME_BYTES);
    let testbed = TestBed::with(http2(address), settings(0), Limits::default());
    let mut client = testbed.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let taken = quiet(&sent);
    assert!(taken < MUCH / 2, "{taken} bytes were taken for a client that reads nothing");
    let reply = client.reply();
    assert_eq!((reply.status, reply.body.len(), reply.whole), (200, MUCH, true));
}

/// How much was sent when no more was for a while.
fn quiet(sent: &Sent) -> usize {
    let (mut before, mut same) = (0, 0);
    until("an end of the sending", || {
        let now = sent.load(Ordering::SeqCst);
        same = if now == before && now > 0 { same + 1 } else { 0 };
        before = now;
        same == 50
    });
    before
}

#[test]
fn a_client_of_http2_that_does_not_read_holds_an_http1_upstream_back() {
    let sent = Sent::default();
    let counted = Arc::clone(&sent);
    let upstream = Upstream::new(move |_, peer| {
        peer.request();
        peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n"));
        for _ in 0..MUCH / FRAME_BYTES {
            if peer.client.stream.write_all(&[b'x'; FRAME_BYTES]).is_err() {
                return;
            }
            counted.fetch_add(FRAME_BYTES, Ordering::SeqCst);
        }
    });
    let testbed = TestBed::new(&[upstream.address]);
    runtime().block_on(async {
        let (mut slow, open) = reluctant(testbed.address).await;
        let (answer, _) = ask(&mut slow, "GET", "/").await;
        let mut answer = answer.await.unwrap().into_body();
        let watched = Arc::clone(&sent);
        let taken = tokio::task::spawn_blocking(move || quiet(&watched)).await.unwrap();
        assert!(taken < MUCH / 2, "{taken} bytes were taken for a client that reads nothing");
        open.send(()).unwrap();
        assert_eq!(read_body(&mut answer).await.unwrap(), MUCH);
    });
}

#[test]
fn an_http1_upstream_that_does_not_read_holds_a_client_of_http2_back() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::new(move |_, peer| {
        let head = peer.request_head().unwrap();
        let _ = wait.lock().unwrap().recv();
        assert_eq!(head.field("content-length").unwrap(), MUCH.to_string());
        peer.client.exactly(MUCH).unwrap();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let much = ForwardSettings { body_bytes_max: u64::MAX, ..settings(0) };
    let testbed = TestBed::with(service("test", &[upstream.address]), much, Limits::default());
    runtime().block_on(async {
        let socket = TcpStream::connect(testbed.address).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let mut send = send.ready().await.unwrap();
        let request = Request::post("http://test/").header("content-length", MUCH).body(()).unwrap();
        let (answer, mut stream) = send.send_request(request, false).unwrap();
        let sent = Sent::default();
        let watched = Arc::clone(&sent);
        tokio::spawn(async move { send_body(&mut stream, MUCH, FRAME_BYTES, &sent).await });
        let taken = tokio::task::spawn_blocking({
            let watched = Arc::clone(&watched);
            move || quiet(&watched)
        });
        let taken = taken.await.unwrap();
        assert!(taken < MUCH / 2, "{taken} bytes were taken for an upstream that reads nothing");
        go.send(()).unwrap();
        assert_eq!(text(answer).await, (200, "ok".to_owned()));
    });
}

/// More than all buffers between the two ends take, and less than is allowed.
const UPLOAD: usize = 12 * 1024 * 1024;

/// An upstream of HTTP/2 that takes a request and nothing of its body, or not even a connection's
/// beginning.
fn stalling(reads: bool) -> SocketAddr {
    if reads {
        return upstream(async |request, respond| {
            let _held = (request, respond);
            std::future::pending::<()>().await;
        });
    }
    let listener = std::net::TcpListener::bind(anywhere()).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    address
}

#[test]
fn an_http2_endpoint_that_stalls_an_upload_is_charged_and_its_client_is_not() {
    let idle = Duration::from_millis(500);
    let timeouts = Timeouts { idle, ..Timeouts::default() };
    for (reads, client_is_http2) in [(true, false), (true, true), (false, false), (false, true)] {
        // A client that is held up for that long stalls itself.
        undisturbed("504", idle, || {
            let service =
                ServiceSettings { protocol: Protocol::Http2, ..ejecting(&[stalling(reads)], 1, PATIENCE) };
            let (testbed, upstreams) = testbed_with(service, ForwardSettings { timeouts, ..settings(0) });
            let status = match client_is_http2 {
                true => runtime().block_on(uploads_by_http2(testbed.address)),
                false => {
                    let mut client = testbed.client();
                    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {UPLOAD}\r\n\r\n"));
                    let mut writer = client.stream.try_clone().unwrap();
                    std::thread::spawn(move || writer.write_all(&vec![b'x'; UPLOAD]));
                    client.reply().status
                }
            };
            let ejections = upstreams.services()[0].endpoints[0].health.ejections();
            (status != 408).then(|| assert_eq!((status, ejections), (504, 1), "{reads} {client_is_http2}"))
        });
    }
}

/// How an upload is answered that takes more than all windows.
async fn uploads_by_http2(address: SocketAddr) -> u16 {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let (answer, mut stream) = ask(&mut send, "POST", "/").await;
    tokio::spawn(async move { send_body(&mut stream, UPLOAD, FRAME_BYTES, &Sent::default()).await });
    text(answer).await.0
}

#[test]
fn a_client_of_http2_that_stalls_its_upload_gets_408_and_no_endpoint_is_charged() {
    let idle = Duration::from_millis(500);
    let timeouts = Timeouts { idle, ..Timeouts::default() };
    let (address, _go, taken) = uploads();
    let service = ServiceSettings { protocol: Protocol::Http2, ..ejecting(&[address], 1, PATIENCE) };
    let (testbed, upstreams) = testbed_with(service, ForwardSettings { timeouts, ..settings(0) });
    runtime().block_on(async {
        let socket = TcpStream::connect(testbed.address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let (answer, mut stream) = ask(&mut send, "POST", "/fast").await;
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        assert_eq!(text(answer).await.0, 408);
        assert_eq!(upstreams.services()[0].endpoints[0].health.ejections(), 0);
        // Its other streams go on, and the endpoint is there for them. One that is held up for that long
        // stalls itself.
        let begun = Instant::now();
        let answered = loop {
            let tried = Instant::now();
            let (answer, mut stream) = ask(&mut send, "POST", "/fast").await;
            stream.send_data(Bytes::from_static(b"whole"), true).unwrap();
            match text(answer).await {
                (408, _) if tried.elapsed() >= idle && begun.elapsed() < PATIENCE => {}
                answered => break answered,
            }
        };
        assert_eq!(answered, (200, "5".to_owned()));
        assert_eq!(taken.load(Ordering::SeqCst), 1);
    });
}

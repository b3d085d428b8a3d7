//! HTTP/1 clients.

use std::io::Write;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use proxy::Limits;
use proxy::upstream::ForwardSettings;

use crate::support::{TestWorld, cleartext, service, settings};
use crate::testbed::{Client, PATIENCE, TestBed, Upstream, anywhere, undisturbed};
use tokio::time::Instant;

#[test]
fn pipelined_requests_are_answered_in_order_over_one_connection_each_side() {
    let upstream = Upstream::new(|_, peer| {
        while let Some(request) = peer.request() {
            let path = request.head.split(' ').nth(1).unwrap().to_owned();
            peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()));
        }
    });
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    let all: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: test\r\n\r\n")).collect();
    client.send(all);
    for n in 0..50 {
        assert_eq!(client.reply().text(), format!("/{n}"));
    }
    assert_eq!(upstream.connections(), 1);
}

/// Tens of thousands may be open at once: what serves one takes no room for what it needs once, as a
/// handshake, or never, as HTTP/2 and opaque connections.
#[test]
fn an_open_connection_is_small() {
    let bytes = proxy::connection_bytes::<TestWorld>();
    assert!(bytes <= 1600, "{bytes}");
}

/// Requests that are refused at once wait for nothing: whoever has hundreds of them in the
/// core's hands must not keep it to themselves.
#[test]
fn pipelined_refusals_leave_others_their_turn() {
    let mut world =
        TestWorld::new(vec![cleartext(anywhere())], Vec::new(), Vec::new(), Limits::default(), None);
    let outcomes: Arc<Mutex<Vec<String>>> = Arc::default();
    let refused = Arc::clone(&outcomes);
    let ((begun, told), (go, wait)) = (mpsc::channel(), mpsc::channel());
    let wait = Mutex::new(wait);
    world.refused = Some(Arc::new(move |path| {
        refused.lock().unwrap().push(path.to_owned());
        if path == "/first" {
            // The core stands still until everything else is there.
            begun.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
    }));
    let testbed = TestBed::start(world, outcomes);
    let (mut flood, mut other) = (testbed.client(), testbed.client());
    for client in [&mut flood, &mut other] {
        assert_eq!(client.get("/before").status, 404);
    }
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    flood.send(request("/first"));
    told.recv().unwrap();
    const FLOOD: usize = 1000;
    flood.send(request("/flood").repeat(FLOOD));
    other.send(request("/other"));
    go.send(()).unwrap();
    for _ in 0..=FLOOD {
        assert_eq!(flood.reply().status, 404);
    }
    assert_eq!(other.reply().status, 404);
    let outcomes = testbed.outcomes.lock().unwrap();
    let place = |path: &str| outcomes.iter().position(|one| one == path).unwrap();
    let run = place("/other") - place("/first");
    assert!(run < 64, "{run} refusals before another's turn");
}

#[test]
fn an_old_client_gets_its_connection_closed_unless_it_asks_otherwise() {
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let sized = Upstream::honest("ok");
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send("GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    assert!(reply.field("transfer-encoding").is_none(), "HTTP/1.0 knows no chunks: {}", reply.head);

    let testbed = TestBed::new(&[sized.address]);
    let mut client = testbed.client();
    client.send("GET / HTTP/1.0\r\nhost: test\r\nconnection: keep-alive\r\n\r\n");
    assert_eq!(client.reply().field("connection"), Some("keep-alive"));
    client.send("GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    assert!(client.is_closed());
}

#[test]
fn answers_without_a_body_leave_the_connection_in_order() {
    let upstream = Upstream::new(|_, peer| {
        while let Some(request) = peer.request() {
            peer.send(match &request.head {
                head if head.starts_with("HEAD") => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
                head if head.contains("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                head if head.contains("/304") => "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            });
        }
    });
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(client.reply_to("HEAD").field("content-length"), Some("1000"));
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(client.get("/304").status, 304);
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn continue_is_sent_when_the_body_is_wanted_and_not_when_it_is_refused() {
    let upstream = Upstream::honest("ok");
    let limits = Limits::default();
    let testbed = TestBed::with(
        service("test", &[upstream.address]),
        ForwardSettings { body_bytes_max: 10, ..settings(0) },
        limits,
    );
    let mut client = testbed.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.reply().status, 100);
    assert_eq!(upstream.requests(), 0, "the upstream sees nothing before the body begins");
    client.send("hello");
    assert_eq!(client.reply().status, 200);
    client.send("POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 11\r\n\r\n");
    let refused = client.reply();
    assert_eq!(refused.status, 413);
    assert!(client.is_closed());
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let upstream = Upstream::new(|_, peer| {
        while let Some(request) = peer.request() {
            let body = format!("{}|{}", String::from_utf8_lossy(&request.body), request.trailers.trim());
            peer.send(&format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nx-sum: 7\r\n\r\n",
                body.len()
            ));
        }
    });
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n");
    // A trailer tells an upstream who asks as little as a header does.
    client.send("2\r\nde\r\n0\r\nx-user: eve\r\nx-digest: 42\r\n\r\n");
    let reply = client.reply();
    assert_eq!(reply.text(), "abcde|x-digest: 42");
    assert_eq!(reply.trailers, "x-sum: 7\r\n");
    // A client that did not say that it reads trailers gets none, and the next request works.
    let plain = client.get("/");
    assert_eq!((plain.trailers.as_str(), plain.whole), ("", true));
}

#[test]
fn refused_heads_and_bodies_reach_no_upstream_and_end_the_connection() {
    let upstream = Upstream::honest("ok");
    let testbed = TestBed::new(&[upstream.address]);
    let table = [
        ("length and chunked", "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("two lengths", "content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        ("chunk size", "transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"),
        ("second chunk", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n-1\r\n\r\n"),
        ("chunk end", "transfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n"),
        ("underscore", "x_user: evil\r\ncontent-length: 0\r\n\r\n"),
    ];
    for (name, rest) in table {
        let mut client = testbed.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nhost: test\r\n{rest}GET /smuggled HTTP/1.1\r\nhost: test\r\n\r\n"
        ));
        let reply = client.reply();
        assert_eq!((reply.status, reply.field("connection")), (400, Some("close")), "{name}");
        assert!(client.is_closed(), "{name}");
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(testbed.get("/").status, 200, "the honest one passes");
}

#[test]
fn a_body_passes_at_its_limit_and_is_refused_one_past() {
    let upstream = Upstream::new(|_, peer| {
        while let Some(request) = peer.request() {
            let length = request.body.len().to_string();
            peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{length}", length.len()));
        }
    });
    let limits = Limits::default();
    let settings = ForwardSettings { body_bytes_max: 1000, ..settings(0) };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings, limits);
    for (length, status) in [(1000, 200), (1001, 413)] {
        let body = "x".repeat(length);
        let sized = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}");
        let chunked = format!(
            "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3e8\r\n{}\r\n{}0\r\n\r\n",
            &body[..1000],
            if length > 1000 { "1\r\nx\r\n" } else { "" }
        );
        for request in [sized, chunked] {
            let mut client = testbed.client();
            client.send(&request);
            assert_eq!(client.reply().status, status, "{length}");
        }
    }
}

#[test]
fn slow_heads_idle_connections_and_silent_bodies_end() {
    let upstream = Upstream::honest("ok");
    let short = Duration::from_millis(100);
    let testbed = |limits| TestBed::with(service("test", &[upstream.address]), settings(0), limits);
    let heads = testbed(Limits { header_read_ms_max: short, ..Limits::default() });
    let mut head = heads.client();
    head.send("GET / HTTP/1.1\r\nhost: te");
    assert!(head.is_closed(), "half a head");
    let idles = testbed(Limits { idle_ms_max: short, ..Limits::default() });
    // One that is held up before it asks is idle already.
    let mut idle = undisturbed("request in time", short, || {
        let mut idle = idles.client();
        (idle.status("/")? == 200).then_some(idle)
    });
    assert!(idle.is_closed(), "no request");
    let bodies = testbed(Limits { body_idle_ms_max: short, ..Limits::default() });
    let mut body = bodies.client();
    body.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(body.reply().status, 408);
    assert!(body.is_closed());
}

#[test]
fn a_connection_that_was_quiet_is_answered_and_one_that_stays_so_ends() {
    let upstream = Upstream::honest("ok");
    // Longer than it takes until a connection gives its buffers back.
    let idle = Duration::from_millis(1500);
    let limits = Limits { idle_ms_max: idle, ..Limits::default() };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
    let mut client = undisturbed("request after a pause that is short enough", Duration::ZERO, || {
        let mut client = testbed.client();
        let mut asked = Instant::now();
        for number in 0..3 {
            if number > 0 {
                std::thread::sleep(Duration::from_millis(1250));
            }
            let before = Instant::now();
            let status = client.status("/");
            if status.is_none() && asked.elapsed() >= idle {
                return None;
            }
            assert_eq!(status, Some(200), "it was never quiet for as long as it may");
            asked = before;
        }
        Some(client)
    });
    assert!(client.is_closed(), "and then it was");
}

#[test]
fn a_client_that_never_finishes_its_head_is_cut_however_it_drips() {
    let upstream = Upstream::honest("ok");
    let limits = Limits { header_read_ms_max: Duration::from_millis(200), ..Limits::default() };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
    let mut client = testbed.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n");
    let begun = Instant::now();
    while client.stream.write_all(b"x").is_ok() {
        assert!(begun.elapsed() < PATIENCE, "bytes that trickle in prolong the time for a head");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let (answered, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::new(move |_, peer| {
        peer.request_head();
        peer.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
        // Closed while bytes come that it has not read, its answer could be lost.
        let _ = wait.lock().unwrap().recv();
        peer.close();
    });
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n\r\nbegin");
    let reply = client.reply();
    assert_eq!((reply.status, reply.text().as_str(), reply.field("connection")), (403, "no", Some("close")));
    drop(answered);
}

#[test]
fn a_small_body_that_nobody_reads_does_not_end_the_connection() {
    let upstream = Upstream::honest("ok");
    let limits = Limits::default();
    let settings = ForwardSettings { body_bytes_max: 3, ..settings(0) };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings, limits);
    let mut client = testbed.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.reply().status, 413);
    assert_eq!(client.get("/").status, 200, "the body was read away");
}

/// An upstream that sends `total` bytes and says how many the hop took when it stalled.
fn flood(total: usize) -> (Upstream, mpsc::Receiver<usize>) {
    let (report, stalled) = mpsc::channel();
    let report = std::sync::Mutex::new(report);
    let upstream = Upstream::new(move |_, peer| {
        peer.request();
        peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n"));
        let stream = &mut peer.client.stream;
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let chunk = [b'x'; 65536];
        let (mut sent, mut told) = (0, false);
        while sent < total {
            match stream.write(&chunk[..chunk.len().min(total - sent)]) {
                Ok(count) => sent += count,
                Err(_) if !told => {
                    told = true;
                    report.lock().unwrap().send(sent).unwrap();
                }
                Err(_) => {}
            }
        }
    });
    (upstream, stalled)
}

#[test]
fn a_slow_reader_holds_the_upstream_back_and_still_gets_everything() {
    let total = 100_000_000;
    let (upstream, stalled) = flood(total);
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    // Socket buffers of the kernel hold some megabytes; the hop itself holds little.
    let taken = stalled.recv_timeout(crate::testbed::PATIENCE).unwrap();
    assert!(taken < total / 2, "{taken} bytes were taken for a client that reads nothing");
    assert_eq!(client.reply().body.len(), total);
}

#[test]
fn an_upload_goes_on_after_its_answer_has_begun() {
    let total = 30_000_000;
    let upstream = Upstream::new(move |_, peer| {
        peer.request_head();
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        // Long enough for the whole way to fill up.
        std::thread::sleep(Duration::from_millis(300));
        peer.client.exactly(total).unwrap();
        peer.send("2\r\nok\r\n0\r\n\r\n");
    });
    let settings = ForwardSettings { body_bytes_max: u64::MAX, ..settings(0) };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings, Limits::default());
    let mut client = testbed.client();
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let head = format!("PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: {total}\r\n\r\n");
        writer.write_all(head.as_bytes()).unwrap();
        writer.write_all(&vec![b'x'; total]).unwrap();
    });
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.whole), ("ok", true));
    sender.join().unwrap();
}

#[test]
fn events_pass_when_they_come() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::new(move |_, peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n");
        for n in 2..4 {
            // Not before the client has the one before.
            wait.lock().unwrap().recv().unwrap();
            peer.send(&format!("data: {n}\n\n"));
        }
        wait.lock().unwrap().recv().unwrap();
        peer.close();
    });
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(client.head().unwrap().contains("text/event-stream"));
    for n in 1..4 {
        let expected = format!("9\r\ndata: {n}\n\n\r\n");
        assert_eq!(client.exactly(expected.len()).unwrap(), expected.as_bytes());
        go.send(()).unwrap();
    }
    assert_eq!(client.exactly(5).unwrap(), b"0\r\n\r\n");
}

#[test]
fn a_client_that_goes_away_frees_its_upstream() {
    let (gone, told) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::new(move |_, peer| {
        peer.request();
        // Never answers; sees the hop close instead.
        gone.lock().unwrap().send(peer.client.is_closed()).unwrap();
    });
    let testbed = TestBed::new(&[upstream.address]);
    let mut client: Client = testbed.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    while upstream.requests() == 0 {
        std::thread::yield_now();
    }
    client.stream.shutdown(Shutdown::Both).unwrap();
    assert!(told.recv_timeout(crate::testbed::PATIENCE).unwrap());
    while testbed.outcomes.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    assert!(testbed.outcomes.lock().unwrap()[0].contains("went away"));
}

#[test]
fn requests_on_one_connection_end_at_their_number() {
    let upstream = Upstream::honest("ok");
    let limits = Limits { requests_per_connection_max: 3, ..Limits::default() };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
    let mut client = testbed.client();
    for n in 1..=3 {
        let expected = (n == 3).then_some("close");
        assert_eq!(client.get("/").field("connection"), expected, "{n}");
    }
    assert!(client.is_closed());
}

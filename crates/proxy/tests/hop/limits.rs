//! Limits of whole connections and requests, beside those that the other files hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proxy::Limits;
use proxy::upstream::{ForwardSettings, Timeouts};

use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{PATIENCE, TestBed, Upstream, anywhere, runtime, undisturbed, wait_for};
use tokio::time::Instant;

#[test]
fn a_request_that_never_ends_is_ended() {
    let upstream = Upstream::honest("ok");
    let most = Duration::from_millis(300);
    let limits = Limits { request_ms_max: most, ..Limits::default() };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
    // Whoever is held up for as long is late too.
    undisturbed("requests on one connection that are each in time", most, || {
        let mut honest = testbed.client();
        for number in 0..4 {
            if number > 0 {
                // Together they take longer than one may: each has its own time.
                std::thread::sleep(Duration::from_millis(120));
            }
            let asked = Instant::now();
            let status = honest.status("/");
            if status != Some(200) && asked.elapsed() >= most {
                return None;
            }
            assert_eq!(status, Some(200), "each request has its own time");
        }
        Some(())
    });
    // A body of which nothing more comes would be open for `body_idle_ms_max`.
    let mut endless = testbed.client();
    endless.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
    let reply = endless.reply();
    assert!(matches!(reply.status, 408 | 504), "{}", reply.status);
    assert!(endless.is_closed());
}

/// A test bed where only the limit of a request's time bounds it, over an upstream that begins an
/// answer, when it does, and goes on with it for ever.
fn dripping(most: Duration, answers: bool) -> TestBed {
    let upstream = Upstream::new(move |_, peer| {
        while let Some(request) = peer.request() {
            let is_short = request.head.contains("/short");
            match (is_short, answers) {
                (true, _) => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
                (false, false) => assert!(peer.client.is_closed(), "nobody waits any more"),
                (false, true) => {
                    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                    while std::io::Write::write_all(&mut peer.client.stream, b"1\r\nx\r\n").is_ok() {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    return;
                }
            }
        }
    });
    let unbounded = Timeouts {
        connect: PATIENCE,
        first_byte: 60 * PATIENCE,
        idle: 60 * PATIENCE,
        total: Duration::ZERO,
        tunnel: None,
    };
    let settings = ForwardSettings { timeouts: unbounded, ..settings(0) };
    let limits = Limits { request_ms_max: most, ..Limits::default() };
    TestBed::with(service("test", &[upstream.address]), settings, limits)
}

fn hits(testbed: &TestBed) -> u64 {
    let totals = testbed.cores.as_ref().unwrap().totals_reader();
    let hits = totals.limit_hits().iter().find(|(row, _)| row.name == "request_ms_max");
    hits.map(|(_, count)| count).unwrap()
}

#[test]
fn an_answer_that_never_begins_or_never_ends_is_ended() {
    let most = Duration::from_millis(300);
    for answers in [false, true] {
        let testbed = dripping(most, answers);
        // Whoever is held up for as long gets no answer either.
        undisturbed("answer in time", most, || {
            testbed.client().status("/short").filter(|status| *status == 200)
        });
        let before = hits(&testbed);
        let reply = testbed.get("/long");
        // Also of one that goes on for ever nothing may have come in time.
        let began = answers && reply.status == 200;
        assert_eq!((reply.status, reply.whole), if began { (200, false) } else { (504, true) });
        assert_eq!(hits(&testbed), before + 1);

        // The same over HTTP/2.
        runtime().block_on(async {
            let socket = tokio::net::TcpStream::connect(testbed.address).await.unwrap();
            let (send, connection) = h2::client::handshake(socket).await.unwrap();
            tokio::spawn(connection);
            let mut send = send.ready().await.unwrap();
            let request = http::Request::get("http://test/long").body(()).unwrap();
            let (response, _) = send.send_request(request, true).unwrap();
            let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
            let began = answers && response.status() == 200;
            assert!(began || response.status() == 504, "{}", response.status());
            let mut body = response.into_body();
            let rest = async {
                while let Some(data) = body.data().await {
                    data?;
                }
                Ok::<_, h2::Error>(())
            };
            let rest = tokio::time::timeout(PATIENCE, rest).await.unwrap();
            assert_eq!(rest.is_err(), began, "the answer was not whole");
        });
        assert_eq!(hits(&testbed), before + 2);
    }
    // Nobody is ended before the time.
    let testbed = dripping(60 * PATIENCE, true);
    let mut client = testbed.client();
    client.send("GET /long HTTP/1.1\r\nhost: test\r\n\r\n");
    client.head().unwrap();
    assert!(client.exactly(6 * 30).is_some());
    assert_eq!(hits(&testbed), 0);
}

#[test]
fn a_client_is_told_how_many_streams_it_may_open() {
    let upstream = Upstream::honest("ok");
    for most in [1_u32, 7] {
        let limits = Limits { http2_streams_max: most, ..Limits::default() };
        let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
        runtime().block_on(async {
            let socket = tokio::net::TcpStream::connect(testbed.address).await.unwrap();
            let (send, connection) = h2::client::handshake(socket).await.unwrap();
            tokio::spawn(connection);
            let mut send = send.ready().await.unwrap();
            let request = http::Request::get("http://test/").body(()).unwrap();
            let (response, _) = send.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
            // The library refuses streams past it (RFC 9113 §5.1.2).
            assert_eq!(send.current_max_send_streams(), most as usize);
        });
    }
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A request whose body has so many frames without data in it. The answer's status; `None` when the
/// connection ends without one.
fn with_empty_data(testbed: &TestBed, frames: usize) -> Option<u16> {
    let mut client = testbed.client();
    // :method POST, and as below.
    let head = [&[0x83, 0x86, 0x84, 0x41, 4][..], b"test"].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 0b100, 1, &head));
    for _ in 0..frames {
        bytes.extend(frame(0, 0, 1, &[]));
    }
    bytes.extend(frame(0, 0, 1, b"h"));
    bytes.extend(frame(0, 1, 1, b"i"));
    client.send(bytes);
    loop {
        let head = client.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = client.exactly(length)?;
        match head[3] {
            // Indexed :status 200 (RFC 7541 §A).
            1 => return Some(if payload.first() == Some(&0x88) { 200 } else { 0 }),
            3 | 7 => return None,
            _ => {}
        }
    }
}

#[test]
fn data_without_data_is_counted_by_its_limit_alone() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    // SETTINGS, and the client's word that it has ours, count too.
    let limits = Limits { http2_idle_frames_max: 500, ..Limits::default() };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
    assert_eq!(with_empty_data(&testbed, 150), Some(200));
    assert_eq!(with_empty_data(&testbed, 499), Some(200));
    assert!(upstream.last().contains("POST / "), "{}", upstream.last());
    assert_eq!(with_empty_data(&testbed, 500), None);
    let totals = testbed.cores.as_ref().unwrap().totals_reader();
    let hits = totals.limit_hits().iter().find(|(row, _)| row.name == "http2_idle_frames_max");
    assert_eq!(hits.map(|(_, count)| count), Some(1));
}

#[test]
fn one_stream_more_than_allowed_is_refused_and_the_others_are_served() {
    // Answers when all streams have arrived.
    let most = 3_u32;
    let arrived = std::sync::Arc::new(std::sync::Barrier::new(3));
    let upstream = Upstream::new(move |_, peer| {
        while peer.request().is_some() {
            arrived.wait();
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let limits = Limits { http2_streams_max: most, ..Limits::default() };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
    let mut client = testbed.client();
    // A client that does not ask how many it may open. :method GET, :scheme http, :path /
    // and :authority (RFC 7541 §A).
    let head = [&[0x82, 0x86, 0x84, 0x41, 4][..], b"test"].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for stream in 0..=most {
        bytes.extend(frame(1, 0b101, 2 * stream + 1, &head));
    }
    client.send(bytes);
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    while answered.len() + refused.len() <= most as usize {
        let head = client.exactly(9).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = client.exactly(length).unwrap();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match head[3] {
            1 => answered.push(stream),
            // REFUSED_STREAM (RFC 9113 §7).
            3 => refused.push((stream, payload[3])),
            _ => {}
        }
    }
    answered.sort_unstable();
    assert_eq!((answered, refused), (vec![1, 3, 5], vec![(7, 7)]));
}

/// The statuses of as many requests that are open at once, each with a head of 8 fields of 3,900
/// bytes, of which so many are served; 0 for one that is refused (REFUSED_STREAM). HPACK makes few
/// bytes of all but the first.
fn with_large_heads(testbed: &TestBed, requests: usize, served: usize, answers: &AtomicBool) -> Vec<u16> {
    answers.store(false, Ordering::SeqCst);
    runtime().block_on(async {
        let socket = tokio::net::TcpStream::connect(testbed.address).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let mut send = send.ready().await.unwrap();
        let ask = |send: &mut h2::client::SendRequest<bytes::Bytes>, path: &str| {
            let mut request = http::Request::get(format!("http://test{path}"));
            for _ in 0..8 {
                request = request.header("x", "v".repeat(3_900));
            }
            send.send_request(request.body(()).unwrap(), true).unwrap().0
        };
        // The client learns how many streams there may be.
        assert_eq!(ask(&mut send, "/at-once").await.unwrap().status(), 200);
        let mut open: Vec<_> = (0..requests).map(|_| ask(&mut send, "/together")).collect();
        let (mut statuses, refused) = (Vec::new(), open.split_off(served));
        for answer in refused {
            let error = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM), "{error}");
            statuses.push(0);
        }
        answers.store(true, Ordering::SeqCst);
        for answer in open {
            let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
            statuses.push(answer.status().as_u16());
        }
        // What they held is free again.
        assert_eq!(ask(&mut send, "/at-once").await.unwrap().status(), 200);
        statuses
    })
}

#[test]
fn heads_that_reference_one_large_value_are_bounded_by_their_sum() {
    let answers = Arc::new(AtomicBool::new(false));
    let may_answer = Arc::clone(&answers);
    let behind = Upstream::new(move |_, peer| {
        while let Some(request) = peer.request() {
            if request.head.contains("/together") {
                wait_for(|| may_answer.load(Ordering::SeqCst));
            }
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    // Each takes 8 × 3,933 bytes, and its target.
    let limits = Limits { http2_heads_bytes_max: 3 * (8 * 3_933 + 9), ..Limits::default() };
    let testbed = TestBed::with(service("test", &[behind.address]), settings(0), limits.clone());
    assert_eq!(with_large_heads(&testbed, 3, 3, &answers), [200; 3]);
    assert_eq!(with_large_heads(&testbed, 5, 3, &answers), [0, 0, 200, 200, 200]);
    let totals = testbed.cores.as_ref().unwrap().totals_reader();
    let hits = totals.limit_hits().iter().find(|(row, _)| row.name == "http2_heads_bytes_max");
    assert_eq!(hits.map(|(_, count)| count), Some(2));

    let limits = Limits { http2_heads_bytes_max: limits.http2_heads_bytes_max - 1, ..limits };
    let testbed = TestBed::with(service("test", &[behind.address]), settings(0), limits.clone());
    assert_eq!(with_large_heads(&testbed, 3, 2, &answers), [0, 200, 200]);

    // The heads of a proxy's many clients do not push out each other.
    let services = vec![service("test", &[behind.address])];
    let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
    let mut world = TestWorld::new(vec![cleartext(anywhere())], services, routes, limits, None);
    world.trusts_proxies = true;
    assert_eq!(with_large_heads(&TestBed::reporting(world), 5, 5, &answers), [200; 5]);
}

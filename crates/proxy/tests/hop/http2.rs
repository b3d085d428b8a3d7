//! HTTP/2 on both sides, with the `h2` crate as client and as upstream.

use std::future::poll_fn;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use proxy::Limits;
use proxy::upstream::{ForwardSettings, Protocol, ServiceSettings};
use tokio::net::{TcpListener, TcpStream};

use crate::resilience::testbed;
use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{PATIENCE, TestBed, Upstream, anywhere, runtime};
use tokio::time::Instant;

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://test{path}"))
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

async fn read(response: Response<h2::RecvStream>) -> Result<Got, h2::Error> {
    let (parts, mut body) = response.into_parts();
    let mut got =
        Got { status: parts.status.as_u16(), headers: parts.headers, body: Vec::new(), trailers: None };
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        got.body.extend_from_slice(&data);
    }
    got.trailers = body.trailers().await?;
    Ok(got)
}

async fn exchange(
    send: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: Option<&'static [u8]>,
) -> Result<Got, h2::Error> {
    let (response, mut stream) = send.send_request(request, body.is_none())?;
    if let Some(body) = body {
        stream.send_data(Bytes::from_static(body), true)?;
    }
    read(response.await?).await
}

#[test]
fn many_streams_share_a_connection_and_reach_an_http1_upstream() {
    let upstream = Upstream::new(|_, peer| {
        while let Some(request) = peer.request() {
            let text = format!("{}{}", request.head.split(' ').nth(1).unwrap(), request.text());
            peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()));
        }
    });
    let testbed = TestBed::new(&[upstream.address]);
    runtime().block_on(async {
        let send = connect(testbed.address).await;
        let tasks: Vec<_> = (0..50)
            .map(|n| {
                let mut send = send.clone();
                tokio::spawn(async move {
                    let request = request("POST", &format!("/{n}")).body(()).unwrap();
                    let got = exchange(&mut send, request, Some(b"-body")).await.unwrap();
                    assert_eq!((got.status, got.body), (200, format!("/{n}-body").into_bytes()));
                    assert_eq!(got.headers["x-generation"], "1");
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(upstream.requests(), 50);
    assert!(upstream.last().contains("host: test\r\n"), "{}", upstream.last());
}

#[test]
fn the_same_admission_judges_http2() {
    let upstream = Upstream::honest("ok");
    let testbed = TestBed::new(&[upstream.address]);
    let table = [
        ("/fine", None, 200),
        ("/a/..;/b", None, 400),
        ("/a%2f..%2fb", None, 400),
        ("/a", Some("x_user"), 400),
        ("/a", Some("x-user"), 200),
    ];
    runtime().block_on(async {
        let mut send = connect(testbed.address).await;
        for (path, header, status) in table {
            let mut request = request("GET", path);
            if let Some(name) = header {
                request = request.header(name, "evil");
            }
            let got = exchange(&mut send, request.body(()).unwrap(), None).await.unwrap();
            assert_eq!(got.status, status, "{path} {header:?}");
        }
    });
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn a_length_that_lies_reaches_no_one_whole() {
    let upstream = Upstream::honest("ok");
    let testbed = TestBed::new(&[upstream.address]);
    runtime().block_on(async {
        let mut send = connect(testbed.address).await;
        for length in ["2", "100"] {
            let lying = request("POST", "/").header("content-length", length).body(()).unwrap();
            let got = exchange(&mut send, lying, Some(b"hello")).await;
            assert!(got.is_err() || got.is_ok_and(|got| got.status == 400), "{length}");
        }
        let honest = request("POST", "/").header("content-length", "5").body(()).unwrap();
        assert_eq!(exchange(&mut send, honest, Some(b"hello")).await.unwrap().status, 200);
    });
}

#[test]
fn a_body_passes_at_its_limit_and_is_refused_one_past() {
    let upstream = Upstream::honest("ok");
    let settings = ForwardSettings { body_bytes_max: 5, ..settings(0) };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings, Limits::default());
    runtime().block_on(async {
        let mut send = connect(testbed.address).await;
        for (body, status) in [(&b"12345"[..], 200), (b"123456", 413)] {
            let request = request("POST", "/").body(()).unwrap();
            assert_eq!(exchange(&mut send, request, Some(body)).await.unwrap().status, status);
        }
    });
}

/// A gRPC-shaped upstream: sends each message back as it comes, then trailers.
fn grpc() -> (SocketAddr, std::thread::JoinHandle<()>) {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind(anywhere()).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(echo(request, respond));
                    }
                });
            }
        });
    });
    (told.recv().unwrap(), thread)
}

async fn echo(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let te = request.headers().get("te").cloned();
    let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut body = request.into_body();
    let mut stream = respond.send_response(response, false).unwrap();
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        body.flow_control().release_capacity(data.len()).unwrap();
        let mut left = data;
        while !left.is_empty() {
            stream.reserve_capacity(left.len());
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            stream.send_data(left.split_to(room.min(left.len())), false).unwrap();
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    if let Ok(Some(sent)) = body.trailers().await {
        trailers.extend(sent);
    }
    if te.is_some() {
        trailers.insert("x-te", "yes".parse().unwrap());
    }
    let _ = stream.send_trailers(trailers);
}

fn http2(address: SocketAddr) -> ServiceSettings {
    ServiceSettings { protocol: Protocol::Http2, ..service("test", &[address]) }
}

#[test]
fn grpc_streams_both_ways_with_trailers() {
    let (address, _upstream) = grpc();
    let testbed = TestBed::with(http2(address), settings(0), Limits::default());
    runtime().block_on(async {
        let mut send = connect(testbed.address).await;
        let request = request("POST", "/shop.Orders/Watch").header("te", "trailers").body(()).unwrap();
        let (response, mut stream) = send.send_request(request, false).unwrap();
        // The answer's head comes before any message was sent.
        let (parts, mut body) = response.await.unwrap().into_parts();
        assert_eq!(parts.headers["content-type"], "application/grpc");
        for n in 0..10 {
            let message = format!("message {n}");
            stream.send_data(Bytes::from(message.clone()), false).unwrap();
            let back = body.data().await.unwrap().unwrap();
            assert_eq!(back, message);
            body.flow_control().release_capacity(back.len()).unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-mine", "1".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-mine"], &trailers["x-te"]),
            (&"0".parse().unwrap(), &"1".parse().unwrap(), &"yes".parse().unwrap())
        );
    });
}

#[test]
fn a_large_body_goes_through_http2_on_both_sides() {
    let (address, _upstream) = grpc();
    let testbed = TestBed::with(http2(address), settings(0), Limits::default());
    runtime().block_on(async {
        let mut send = connect(testbed.address).await;
        let (response, mut stream) =
            send.send_request(request("POST", "/").body(()).unwrap(), false).unwrap();
        let total = 5_000_000;
        let sender = tokio::spawn(async move {
            let mut left = Bytes::from(vec![7; total]);
            while !left.is_empty() {
                stream.reserve_capacity(left.len());
                let room = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                stream.send_data(left.split_to(room), left.is_empty()).unwrap();
            }
            stream
        });
        let result = read(response.await.unwrap()).await;
        let got = result.unwrap_or_else(|error| panic!("{error}: {:?}", testbed.outcomes.lock().unwrap()));
        assert_eq!((got.status, got.body.len()), (200, total));
        drop(sender.await.unwrap());
    });
}

#[test]
fn an_http1_client_reaches_an_http2_upstream() {
    let (address, _upstream) = grpc();
    let testbed = TestBed::with(http2(address), settings(0), Limits::default());
    let mut client = testbed.client();
    client.send(
        "POST / HTTP/1.1\r\nhost: test\r\nte: trailers\r\nconnection: te\r\ncontent-length: 5\r\n\r\nhello",
    );
    let reply = client.reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    assert!(reply.trailers.contains("grpc-status: 0"), "{}", reply.trailers);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_query_that_no_uri_has_reaches_an_http2_upstream_encoded() {
    let behind = Upstream::honest("ok");
    let upstream = TestBed::new(&[behind.address]);
    let (testbed, _) = testbed(http2(upstream.address));
    for (query, seen) in [
        ("q=\"<a>\"", "q=%22%3Ca%3E%22"),
        (">", "%3E"),
        ("a\"b", "a%22b"),
        ("a=%22'{|}\\^`", "a=%22'{|}\\^`"),
        ("", ""),
    ] {
        assert_eq!(testbed.get(&format!("/x?{query}")).status, 200, "{query}");
        assert!(behind.last().starts_with(&format!("GET /x?{seen} HTTP/1.1\r\n")), "{}", behind.last());
    }
}

#[test]
fn a_request_that_http2_cannot_say_is_not_charged_to_the_upstream() {
    let behind = Upstream::honest("ok");
    let upstream = TestBed::new(&[behind.address]);
    let limits = Limits { uri_bytes_max: 64 * 1024, head_bytes_max: 128 * 1024, ..Limits::default() };
    let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
    let world =
        TestWorld::new(vec![cleartext(anywhere())], vec![http2(upstream.address)], routes, limits, None);
    let upstreams = Arc::clone(&world.upstreams);
    let testbed = TestBed::start(world, Arc::default());
    assert_eq!(testbed.get("/").status, 200);
    // Three bytes each as it goes on.
    let long = "\"".repeat(22_000);
    for _ in 0..5 {
        let mut client = testbed.client();
        client.send(format!("POST /?{long} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n"));
        let reply = client.reply();
        assert!(reply.status == 502 && reply.text().contains("65534"), "{}", reply.text());
    }
    assert_eq!(testbed.get("/").status, 200);
    assert_eq!(upstreams.services()[0].endpoints[0].health.ejections(), 0);
    let accepted = upstream.cores.as_ref().unwrap().totals().connections_accepted;
    assert_eq!((accepted, behind.requests()), (1, 2), "the others' connection is kept");
}

#[test]
fn a_client_that_resets_streams_without_end_is_cut_and_others_are_not() {
    let upstream = Upstream::new(|_, peer| {
        peer.request();
        peer.client.is_closed();
    });
    let fine = Upstream::honest("ok");
    let limits = Limits { http2_resets_max: 50, ..Limits::default() };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits.clone());
    runtime().block_on(async {
        let mut send = connect(testbed.address).await;
        let (begun, mut opened) = (Instant::now(), 0);
        while let Ok(ready) = send.clone().ready().await {
            send = ready;
            let Ok((response, mut stream)) = send.send_request(request("GET", "/").body(()).unwrap(), false)
            else {
                break;
            };
            tokio::time::sleep(Duration::from_millis(2)).await;
            stream.send_reset(h2::Reason::CANCEL);
            drop((stream, response));
            opened += 1;
            assert!(opened < 10_000, "cut far too late, or never");
            assert!(begun.elapsed() < PATIENCE, "never cut, after {opened}");
        }
        assert!(opened >= 50, "cut after {opened}");
    });
    // By our count, not by a bound that the library has of its own.
    let totals = testbed.cores.as_ref().unwrap().totals_reader();
    let hits = totals.limit_hits().iter();
    assert_eq!(hits.filter(|(row, count)| row.name == "http2_resets_max" && *count > 0).count(), 1);
    let testbed = TestBed::with(service("test", &[fine.address]), settings(0), limits);
    runtime().block_on(async {
        let mut send = connect(testbed.address).await;
        for _ in 0..200 {
            let got = exchange(&mut send, request("GET", "/").body(()).unwrap(), None).await.unwrap();
            assert_eq!(got.status, 200);
        }
    });
}

#[test]
fn a_flood_of_settings_and_pings_is_cut() {
    let upstream = Upstream::honest("ok");
    let limits = Limits { http2_idle_frames_max: 100, ..Limits::default() };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
    for frame in [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]] {
        let mut client = testbed.client();
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        let flood = frame.repeat(102);
        let _ = client.stream.write_all(&flood);
        while client.exactly(1).is_some() {}
    }
    assert_eq!(testbed.get("/").status, 200);
}

#[test]
fn a_drain_says_goaway_and_lets_streams_end() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::new(move |_, peer| {
        while peer.request().is_some() {
            wait.lock().unwrap().recv().unwrap();
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let mut testbed = TestBed::new(&[upstream.address]);
    let cores = testbed.cores.take().unwrap();
    let complete = runtime().block_on(async {
        let mut send = connect(testbed.address).await;
        let (response, _) = send.send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        while upstream.requests() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let drain = cores.drain(PATIENCE);
        let rest = async {
            // No new stream is taken once GOAWAY has come.
            while let Ok(mut ready) = send.clone().ready().await {
                if ready.send_request(request("GET", "/").body(()).unwrap(), true).is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                go.send(()).unwrap();
            }
            go.send(()).unwrap();
            let got = read(response.await.unwrap()).await.unwrap();
            assert_eq!(got.body, b"ok");
        };
        tokio::join!(drain, rest).0.complete
    });
    assert!(complete);
}

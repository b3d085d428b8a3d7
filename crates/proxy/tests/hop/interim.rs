//! Interim answers (1xx, RFC 9110 §15.2): what of an upstream's reaches which client.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use http::{Request, Response};
use proxy::Limits;
use proxy::upstream::{Protocol, ServiceSettings};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{service, settings};
use crate::testbed::{TestBed, Upstream, anywhere, runtime};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n";

#[test]
fn they_reach_the_client_up_to_their_number() {
    for (count, status) in [(0, 200), (1, 200), (8, 200), (9, 502)] {
        let upstream = Upstream::answering(format!("{}{OK}", HINT.repeat(count)));
        let testbed = TestBed::new(&[upstream.address]);
        let mut client = testbed.client();
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
            for _ in 0..count.min(8) {
                assert_eq!(client.head().unwrap(), HINT, "{count}");
            }
            let reply = client.reply();
            assert_eq!(reply.status, status, "{count}: {}", reply.head);
            assert!(reply.field("link").is_none());
        }
    }
}

#[test]
fn one_reaches_the_client_while_the_answer_is_still_awaited() {
    let (tell, told) = mpsc::channel();
    let told = Mutex::new(told);
    let upstream = Upstream::new(move |_, peer| {
        while peer.request().is_some() {
            peer.send("HTTP/1.1 102 Processing\r\n\r\n");
            told.lock().unwrap().recv().unwrap();
            peer.send(OK);
        }
    });
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_eq!(client.head().unwrap(), "HTTP/1.1 102 Processing\r\n\r\n");
        tell.send(()).unwrap();
        assert_eq!(client.reply().text(), "ok");
    }
}

#[test]
fn one_loses_what_the_final_head_would_lose_and_gains_nothing() {
    let hint = "HTTP/1.1 103 Early Hints\r\nx-generation: 7\r\nconnection: x-hop\r\nx-hop: 1\r\n\
                keep-alive: timeout=5\r\nlink: </x>\r\n\r\n";
    let upstream = Upstream::answering(format!("{hint}{OK}"));
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(client.head().unwrap(), "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
    assert_eq!(client.reply().field("x-generation"), Some("1"));
}

#[test]
fn one_that_could_split_the_answer_ends_it() {
    for evil in ["content-length: 5", "transfer-encoding: chunked", "x: a\nb", "x: a\0b"] {
        let upstream = Upstream::answering(format!("HTTP/1.1 103 Early Hints\r\n{evil}\r\n\r\n{OK}"));
        let testbed = TestBed::new(&[upstream.address]);
        assert_eq!(testbed.get("/").status, 502, "{evil:?}");
    }
}

#[test]
fn http10_clients_and_those_that_wait_for_ours_get_none_that_is_not_theirs() {
    let continues = "HTTP/1.1 100 Continue\r\n\r\n";
    let upstream = Upstream::answering(format!("{continues}{HINT}{continues}{OK}"));
    let testbed = TestBed::new(&[upstream.address]);
    let mut old = testbed.client();
    old.send("GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    assert_eq!(old.reply().status, 200);
    let mut waits = testbed.client();
    waits.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(waits.head().unwrap(), continues, "ours");
    waits.send("hi");
    assert_eq!(waits.head().unwrap(), HINT);
    assert_eq!(waits.reply().status, 200);
}

#[test]
fn all_of_a_request_take_no_more_bytes_than_one_head_may() {
    let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: </{}>\r\n\r\n", "x".repeat(500));
    let limits = Limits { head_bytes_max: 1200, ..Limits::default() };
    let upstream = Upstream::answering(format!("{}{OK}", hint.repeat(4)));
    let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
    let mut client = testbed.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_eq!((client.head().unwrap(), client.head().unwrap()), (hint.clone(), hint.clone()));
        assert_eq!(client.reply().status, 200);
    }
}

/// An upstream of HTTP/2 that hints before it answers.
fn hinting() -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind(anywhere()).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let hint = Response::builder().status(103).header("link", "</x>; rel=preload");
                respond.send_informational(hint.header("x-generation", "7").body(()).unwrap()).unwrap();
                respond.send_response(Response::new(()), true).unwrap();
            }
        });
    });
    told.recv().unwrap()
}

#[test]
fn http2_carries_them_on_both_sides() {
    let one = Upstream::answering(format!("{HINT}{OK}"));
    let two = ServiceSettings { protocol: Protocol::Http2, ..service("test", &[hinting()]) };
    for service in [service("test", &[one.address]), two] {
        let testbed = TestBed::with(service, settings(0), Limits::default());
        runtime().block_on(async {
            let socket = TcpStream::connect(testbed.address).await.unwrap();
            let (send, connection) = h2::client::handshake(socket).await.unwrap();
            tokio::spawn(connection);
            let request = Request::builder().uri("http://test/").body(()).unwrap();
            let (mut response, _) = send.ready().await.unwrap().send_request(request, true).unwrap();
            let hint = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!((hint.status().as_u16(), hint.headers().len()), (103, 1), "{hint:?}");
            assert_eq!(hint.headers()["link"], "</x>; rel=preload");
            assert_eq!(response.await.unwrap().status(), 200);
        });
        let mut client = testbed.client();
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_eq!(client.head().unwrap(), HINT);
        assert_eq!(client.reply().status, 200);
    }
}

//! Upgraded connections.

use std::sync::{Mutex, mpsc};

use proxy::Limits;
use proxy::tls::{ClientTlsSettings, ServerOffer, ServerTlsSettings};
use proxy::upstream::{ForwardSettings, ServiceSettings, Timeouts};

use crate::resilience::{testbed, testbed_with, until};
use crate::support::{service, settings};
use crate::testbed::{PATIENCE, Peer, TestBed, Upstream};
use crate::tls::{Authority, listener, tls_service};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
const ASK: &str = "GET /ws HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: y\r\n\r\n";

/// Switches, then sends everything back in upper case.
fn echo() -> Upstream {
    Upstream::new(|_, peer| {
        let request = peer.request_head().unwrap();
        if request.field("upgrade").is_none() {
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain");
            return;
        }
        switch(peer);
    })
}

fn switch(peer: &mut Peer) {
    peer.send(SWITCH);
    while let Some(bytes) = peer.client.exactly(4) {
        peer.client.send(bytes.to_ascii_uppercase());
    }
    peer.close();
}

/// Answers when told to, and switches at once.
fn patient() -> (Upstream, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::new(move |_, peer| {
        while let Some(request) = peer.request_head() {
            if request.field("upgrade").is_some() {
                return switch(peer);
            }
            let Ok(()) = wait.lock().unwrap().recv() else { return };
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain");
        }
    });
    (upstream, go)
}

#[test]
fn a_websocket_is_a_tunnel_both_ways() {
    let upstream = echo();
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    // The first bytes come along with the head.
    client.send(format!("{ASK}ping"));
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    assert!(head.contains("sec-websocket-accept: x"));
    assert!(upstream.last().contains("sec-websocket-key: y"));
    assert_eq!(client.exactly(4).unwrap(), b"PING");
    // Bytes that look like requests are just bytes.
    for text in ["GET ", "\0\0\0\0", "abcd"] {
        client.send(text);
        assert_eq!(client.exactly(4).unwrap(), text.to_ascii_uppercase().as_bytes());
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed());
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn much_goes_through_a_tunnel_without_loss() {
    let upstream = echo();
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send(ASK);
    client.head().unwrap();
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        use std::io::Write;
        for n in 0..250_000_u32 {
            writer.write_all(format!("{:04x}", n % 65536).as_bytes()).unwrap();
        }
    });
    for n in 0..250_000_u32 {
        assert_eq!(client.exactly(4).unwrap(), format!("{:04X}", n % 65536).as_bytes());
    }
    sender.join().unwrap();
}

#[test]
fn a_protocol_that_the_route_does_not_allow_is_not_asked_for() {
    let upstream = echo();
    let settings = ForwardSettings { upgrades: Vec::new(), ..settings(0) };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings, Limits::default());
    let mut client = testbed.client();
    client.send(ASK);
    let reply = client.reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "plain"));
    assert!(!upstream.last().contains("upgrade"), "{}", upstream.last());
}

#[test]
fn a_refused_upgrade_leaves_an_ordinary_connection() {
    let upstream = Upstream::honest("no");
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send(ASK);
    assert_eq!(client.reply().text(), "no");
    // Nothing was tunnelled: what follows is a request and is judged as one.
    client.send("GET /a/..;/b HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(client.reply().status, 400);
}

#[test]
fn an_upgrade_takes_the_place_of_an_unused_connection() {
    let (upstream, go) = patient();
    let one = ServiceSettings { connections_per_core_max: 1, ..service("test", &[upstream.address]) };
    let (testbed, upstreams) = testbed(one);
    for tunnels in 1..3 {
        go.send(()).unwrap();
        assert_eq!(testbed.get("/").text(), "plain");
        let mut client = testbed.client();
        client.send(format!("{ASK}ping"));
        assert!(client.head().unwrap().starts_with("HTTP/1.1 101"));
        assert_eq!(client.exactly(4).unwrap(), b"PING");
        assert_eq!(upstream.connections(), 2 * tunnels);
        drop(client);
        until("its end", || upstreams.services()[0].endpoints[0].limiter.open() == 0);
    }
}

#[test]
fn an_upgrade_that_waits_takes_no_requests_turn_and_then_the_place_of_their_connection() {
    let authority = Authority::new();
    let (behind, go) = patient();
    // Speaks HTTP/2 with two streams at a time, and HTTP/1.1.
    let tls = ServerTlsSettings {
        identities: vec![authority.issue(&["upstream.test"])],
        offers: ServerOffer::Http,
        ..Default::default()
    };
    let limits = Limits { http2_streams_max: 2, ..Limits::default() };
    let upstream = TestBed::behind(listener(&tls), service("test", &[behind.address]), settings(0), limits);
    let tls = ClientTlsSettings {
        roots: vec![authority.der()],
        server_name: Some("upstream.test".to_owned()),
        ..Default::default()
    };
    let one = ServiceSettings { connections_per_core_max: 1, ..tls_service(&upstream, tls) };
    let timeouts = Timeouts { connect: 3 * PATIENCE, ..Timeouts::default() };
    let (testbed, upstreams) = testbed_with(one, ForwardSettings { timeouts, ..settings(0) });
    let waiting = || upstreams.services()[0].endpoints[0].limiter.waiting();
    go.send(()).unwrap();
    assert_eq!(testbed.get("/").text(), "plain");

    let mut open: Vec<_> = (0..2).map(|_| testbed.client()).collect();
    for client in &mut open {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    until("both", || behind.requests() == 3);
    let (mut upgrade, mut late) = (testbed.client(), testbed.client());
    upgrade.send(format!("{ASK}ping"));
    until("the upgrade to wait", || waiting() == 1);
    late.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    until("the request to wait", || waiting() == 2);
    go.send(()).unwrap();
    until("the request to take the stream that has ended", || behind.requests() == 4);
    assert_eq!(waiting(), 1);
    (0..2).for_each(|_| go.send(()).unwrap());
    for client in open.iter_mut().chain([&mut late]) {
        assert_eq!(client.reply().text(), "plain");
    }
    assert!(upgrade.head().unwrap().starts_with("HTTP/1.1 101"));
    assert_eq!(upgrade.exactly(4).unwrap(), b"PING");
    assert_eq!(upstream.cores.as_ref().unwrap().totals().connections_accepted, 2);
}

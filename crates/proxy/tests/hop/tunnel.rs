//! Upgraded connections.

use proxy::Limits;
use proxy::upstream::ForwardSettings;

use crate::support::{service, settings};
use crate::town::{Town, Upstream};

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
        peer.send(SWITCH);
        while let Some(bytes) = peer.client.exactly(4) {
            peer.client.send(bytes.to_ascii_uppercase());
        }
        peer.close();
    })
}

#[test]
fn a_websocket_is_a_tunnel_both_ways() {
    let upstream = echo();
    let town = Town::new(&[upstream.address]);
    let mut client = town.client();
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
    let town = Town::new(&[upstream.address]);
    let mut client = town.client();
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
    let town = Town::with(service("test", &[upstream.address]), settings, Limits::default());
    let mut client = town.client();
    client.send(ASK);
    let reply = client.reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "plain"));
    assert!(!upstream.last().contains("upgrade"), "{}", upstream.last());
}

#[test]
fn a_refused_upgrade_leaves_an_ordinary_connection() {
    let upstream = Upstream::honest("no");
    let town = Town::new(&[upstream.address]);
    let mut client = town.client();
    client.send(ASK);
    assert_eq!(client.reply().text(), "no");
    // Nothing was tunnelled: what follows is a request and is judged as one.
    client.send("GET /a/..;/b HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(client.reply().status, 400);
}

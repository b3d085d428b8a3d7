//! Limits of whole connections and requests, beside those that the other files hold.

use std::time::Duration;

use proxy::Limits;

use crate::support::{service, settings};
use crate::town::{Town, Upstream, runtime, undisturbed};
use tokio::time::Instant;

#[test]
fn a_request_that_never_ends_is_ended() {
    let upstream = Upstream::honest("ok");
    let most = Duration::from_millis(300);
    let limits = Limits { request_ms_max: most, ..Limits::default() };
    let town = Town::with(service("test", &[upstream.address]), settings(0), limits);
    // Whoever is held up for as long is late too.
    undisturbed("requests on one connection that are each in time", most, || {
        let mut honest = town.client();
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
    let mut endless = town.client();
    endless.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
    let reply = endless.reply();
    assert!(matches!(reply.status, 408 | 504), "{}", reply.status);
    assert!(endless.is_closed());
}

#[test]
fn a_client_is_told_how_many_streams_it_may_open() {
    let upstream = Upstream::honest("ok");
    for most in [1_u32, 7] {
        let limits = Limits { http2_streams_max: most, ..Limits::default() };
        let town = Town::with(service("test", &[upstream.address]), settings(0), limits);
        runtime().block_on(async {
            let socket = tokio::net::TcpStream::connect(town.address).await.unwrap();
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
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
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
    let town = Town::with(service("test", &[upstream.address]), settings(0), limits);
    let mut client = town.client();
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

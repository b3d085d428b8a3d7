//! Limits of whole connections and requests, beside those that the other files hold.

use std::time::Duration;

use proxy::Limits;

use crate::support::{service, settings};
use crate::town::{Town, Upstream, runtime};

#[test]
fn a_request_that_never_ends_is_ended() {
    let upstream = Upstream::honest("ok");
    let limits = Limits { request_ms_max: Duration::from_millis(300), ..Limits::default() };
    let town = Town::with(service("test", &[upstream.address]), settings(0), limits);
    let mut honest = town.client();
    for _ in 0..3 {
        assert_eq!(honest.get("/").status, 200, "each request has its own time");
    }
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

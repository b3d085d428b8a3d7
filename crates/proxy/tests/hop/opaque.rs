//! Opaque connections: bytes pass as they are, each side ends by itself, and what is bounded
//! ends at its bound. Telling HTTP from the rest.

use std::net::Shutdown;
use std::time::Duration;

use bytes::Bytes;
use proxy::upstream::{ForwardSettings, ServiceSettings, Timeouts};
use proxy::{Limits, ListenerSettings, Speaks};

use crate::support::{cleartext, service, settings};
use crate::testbed::{TestBed, Upstream, anywhere, undisturbed};

const SHORT: Duration = Duration::from_millis(150);

fn listener(speaks: fn(Bytes) -> Speaks) -> ListenerSettings {
    ListenerSettings { speaks: speaks(Bytes::from_static(b"test")), ..cleartext(anywhere()) }
}

fn testbed(speaks: fn(Bytes) -> Speaks, upstream: &Upstream, timeouts: Timeouts, limits: Limits) -> TestBed {
    let service = ServiceSettings { connections_per_core_max: 2, ..service("test", &[upstream.address]) };
    TestBed::behind(listener(speaks), service, ForwardSettings { timeouts, ..settings(0) }, limits)
}

/// Speaks first, then gives back what comes, and a last word when no more does.
fn echo() -> Upstream {
    Upstream::new(|_, peer| {
        peer.send("hello\n");
        while let Some(byte) = peer.client.exactly(1) {
            peer.client.send(byte);
        }
        peer.send("bye");
    })
}

#[test]
fn bytes_pass_both_ways_and_the_client_may_end_first() {
    let upstream = echo();
    let testbed = testbed(Speaks::Opaque, &upstream, Timeouts::default(), Limits::default());
    let mut client = testbed.client();
    assert_eq!(client.exactly(6).unwrap(), b"hello\n");
    client.send(b"GET / HTTP/1.1\r\n\r\n\x00\xff");
    assert_eq!(client.exactly(20).unwrap(), b"GET / HTTP/1.1\r\n\r\n\x00\xff", "nothing is read of it");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.exactly(3).unwrap(), b"bye");
    assert!(client.is_closed());
}

#[test]
fn the_server_may_end_first_and_hears_the_rest() {
    let (heard, rest) = std::sync::mpsc::channel();
    let heard = std::sync::Mutex::new(heard);
    let upstream = Upstream::new(move |_, peer| {
        peer.client.stream.shutdown(Shutdown::Write).unwrap();
        let _ = heard.lock().unwrap().send(peer.client.exactly(5));
    });
    let testbed = testbed(Speaks::Opaque, &upstream, Timeouts::default(), Limits::default());
    let mut client = testbed.client();
    assert!(client.is_closed());
    client.send("still");
    assert_eq!(rest.recv().unwrap().unwrap(), b"still");
}

#[test]
fn silence_and_the_time_for_all_of_it_end_a_connection() {
    let idle = Timeouts { idle: SHORT, ..Timeouts::default() };
    let whole = Timeouts { tunnel: Some(SHORT), ..Timeouts::default() };
    for timeouts in [idle, whole] {
        let upstream = echo();
        let testbed = testbed(Speaks::Opaque, &upstream, timeouts, Limits::default());
        // A server that is held up before it speaks is silent already.
        let mut client = undisturbed("word in time", SHORT, || {
            let mut client = testbed.client();
            client.exactly(6).map(|said| {
                assert_eq!(said, b"hello\n");
                client
            })
        });
        // Not an orderly end: something may be missing.
        assert_eq!(client.exactly(1), None);
    }
    // The time for a request is none for a connection.
    let timeouts = Timeouts { total: SHORT, first_byte: SHORT, ..Timeouts::default() };
    let upstream = echo();
    let testbed = testbed(Speaks::Opaque, &upstream, timeouts, Limits::default());
    let mut client = testbed.client();
    assert_eq!(client.exactly(6).unwrap(), b"hello\n");
    std::thread::sleep(SHORT * 3);
    client.send("x");
    assert_eq!(client.exactly(1).unwrap(), b"x");
}

#[test]
fn one_connection_past_the_bound_waits_and_is_given_up() {
    let upstream = echo();
    // Longer than a connection takes that need not wait for a place.
    let connect = Duration::from_secs(1);
    let timeouts = Timeouts { connect, ..Timeouts::default() };
    let testbed = testbed(Speaks::Opaque, &upstream, timeouts, Limits::default());
    let connected = |what| {
        undisturbed(what, connect, || {
            let mut client = testbed.client();
            client.exactly(6).map(|said| {
                assert_eq!(said, b"hello\n");
                client
            })
        })
    };
    let mut open: Vec<_> = (0..2).map(|_| connected("place for each of two")).collect();
    let asked = upstream.connections();
    assert!(testbed.client().is_closed(), "no byte, and the end");
    assert_eq!(upstream.connections(), asked, "one past the bound was connected");
    drop(open.pop());
    let mut again = connected("place that comes free");
    again.send("x");
    assert_eq!(again.exactly(1).unwrap(), b"x");
}

#[test]
fn nobody_reads_and_the_other_side_waits() {
    const MUCH: usize = 64 * 1024 * 1024;
    let (done, sent) = std::sync::mpsc::channel();
    let done = std::sync::Mutex::new(done);
    let upstream = Upstream::new(move |_, peer| {
        peer.client.stream.set_write_timeout(Some(SHORT * 4)).unwrap();
        let written = std::io::Write::write_all(&mut peer.client.stream, &vec![7; MUCH]);
        let _ = done.lock().unwrap().send(written.is_err());
    });
    let testbed = testbed(Speaks::Opaque, &upstream, Timeouts::default(), Limits::default());
    let _client = testbed.client();
    assert!(sent.recv().unwrap(), "{MUCH} bytes went where nobody reads");
}

#[test]
fn http_is_told_from_the_rest_where_both_are_taken() {
    let http = Upstream::honest("ok");
    let testbed = testbed(Speaks::Either, &http, Timeouts::default(), Limits::default());
    assert_eq!(testbed.get("/").text(), "ok");
    // In pieces, and with prior knowledge of HTTP/2, it is HTTP still.
    let mut slow = testbed.client();
    for piece in ["GE", "T / HT", "TP/1.1\r\nhost: test\r\n\r\n"] {
        slow.send(piece);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(slow.reply().status, 200);
    drop(testbed);

    let upstream = echo();
    let testbed = self::testbed(Speaks::Either, &upstream, Timeouts::default(), Limits::default());
    let mut silent = testbed.client();
    assert_eq!(silent.exactly(6).unwrap(), b"hello\n", "who waits is connected");
    let mut other = testbed.client();
    other.send("EHLO there\r\n");
    assert_eq!(other.exactly(18).unwrap(), b"hello\nEHLO there\r\n");
}

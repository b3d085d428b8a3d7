//! Upstreams of HTTP/2 that restart, or refuse single streams: what was never looked at is sent
//! again, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use proxy::Limits;
use proxy::upstream::{ForwardSettings, Protocol, ServiceSettings};

use crate::limits::frame;
use crate::support::{service, settings};
use crate::testbed::{PATIENCE, Peer, TestBed, Upstream};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A connection of an upstream, frame by frame (RFC 9113 §4).
struct Session<'p>(&'p mut Peer);

impl<'p> Session<'p> {
    /// Says how many streams may be open.
    fn begin(peer: &'p mut Peer, streams_max: u32) -> Option<Self> {
        peer.client.exactly(24)?;
        let mut session = Self(peer);
        session.allow(streams_max);
        Some(session)
    }

    fn allow(&mut self, streams_max: u32) {
        let setting = [&[0, 3][..], &streams_max.to_be_bytes()].concat();
        self.0.client.send(frame(SETTINGS, 0, 0, &setting));
    }

    /// The next frame: kind, flags and stream.
    fn next(&mut self) -> Option<(u8, u8, u32)> {
        let head = self.0.client.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        self.0.client.exactly(length)?;
        let (kind, flags) = (head[3], head[4]);
        if kind == SETTINGS && flags == 0 {
            self.0.client.send(frame(SETTINGS, 1, 0, &[]));
        }
        Some((kind, flags, u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
    }

    /// The stream of the next request.
    fn request(&mut self) -> Option<u32> {
        loop {
            let (kind, _, stream) = self.next()?;
            if kind == HEADERS {
                return Some(stream);
            }
        }
    }

    /// Returns when all that was said has been heard.
    fn heard(&mut self) {
        self.0.client.send(frame(PING, 0, 0, &[7; 8]));
        while let Some((kind, flags, _)) = self.next() {
            if (kind, flags) == (PING, 1) {
                return;
            }
        }
    }

    /// Status 200, and nothing else (RFC 7541 §A).
    fn answer(&mut self, stream: u32) {
        self.0.client.send(frame(HEADERS, 0b101, stream, &[0x88]));
    }

    fn reset(&mut self, stream: u32, reason: u32) {
        self.0.client.send(frame(RST_STREAM, 0, stream, &reason.to_be_bytes()));
    }

    fn go_away(&mut self, last: u32, reason: u32) {
        let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
        self.0.client.send(frame(GOAWAY, 0, 0, &payload));
    }
}

fn testbed(upstream: &Upstream, retries: u8) -> TestBed {
    let service = ServiceSettings { protocol: Protocol::Http2, ..service("test", &[upstream.address]) };
    let settings = ForwardSettings { retries: retries.into(), ..settings(0) };
    TestBed::with(service, settings, Limits::default())
}

const POST: &str = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi";
const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

#[test]
fn sessions_that_end_while_they_are_busy_cost_no_request() {
    for request in [GET, POST] {
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let upstream = Upstream::new(move |number, peer| {
            let ends = number < 3;
            let Some(mut session) = Session::begin(peer, if ends { 1 } else { 100 }) else { return };
            let say = || tell.lock().unwrap().send(()).unwrap();
            if ends {
                // Its only request stays open while it is told to go.
                session.request();
                session.heard();
                say();
                wait.lock().unwrap().recv().unwrap();
                session.allow(100);
                session.go_away(0x7fff_ffff, NO_ERROR);
                session.heard();
                say();
            }
            while let Some(stream) = session.request() {
                if ends {
                    session.go_away(1, NO_ERROR);
                } else {
                    session.answer(stream);
                }
            }
        });
        let testbed = testbed(&upstream, 0);
        let hear = || told.recv_timeout(PATIENCE).unwrap();
        let mut busy: Vec<_> = (0..3).map(|_| testbed.client()).collect();
        for client in &mut busy {
            client.send(GET);
            hear();
        }
        (0..3).for_each(|_| go.send(()).unwrap());
        (0..3).for_each(|_| hear());
        let mut client = testbed.client();
        client.send(request);
        assert_eq!(client.reply().status, 200, "{request}");
        assert_eq!(upstream.connections(), 4);
    }
}

#[test]
fn over_http2_only_what_was_never_looked_at_is_sent_again() {
    /// What an upstream does with its first request.
    type Does = fn(&mut Session<'_>, u32);
    let table: [(&str, Does, u16, usize); 6] = [
        ("refused", |session, stream| session.reset(stream, REFUSED_STREAM), 200, 2),
        ("never seen", |session, _| session.go_away(0, NO_ERROR), 200, 2),
        ("failed", |session, stream| session.reset(stream, INTERNAL_ERROR), 502, 1),
        ("told to be calm", |session, stream| session.reset(stream, ENHANCE_YOUR_CALM), 502, 1),
        (
            "seen, and gone",
            |session, stream| {
                session.go_away(stream, NO_ERROR);
                session.heard();
                session.0.close();
            },
            502,
            1,
        ),
        (
            "seen, and gone with an error",
            |session, stream| {
                session.go_away(stream, INTERNAL_ERROR);
                session.0.close();
            },
            502,
            1,
        ),
    ];
    for (name, does, status, times) in table {
        // The first request of a connection, and one that follows others.
        for before in [0, 1] {
            let seen = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&seen);
            let upstream = Upstream::new(move |_, peer| {
                let Some(mut session) = Session::begin(peer, 100) else { return };
                while let Some(stream) = session.request() {
                    if counted.fetch_add(1, Ordering::SeqCst) == before {
                        does(&mut session, stream);
                    } else {
                        session.answer(stream);
                    }
                }
            });
            let testbed = testbed(&upstream, 1);
            for _ in 0..before {
                assert_eq!(testbed.get("/").status, 200);
            }
            let mut client = testbed.client();
            client.send(POST);
            let reply = client.reply();
            assert_eq!(reply.status, status, "{name}, after {before}: {}", reply.text());
            assert_eq!(seen.load(Ordering::SeqCst) - before, times, "{name}, after {before}");
            assert_eq!(testbed.get("/").status, 200, "{name}: the next one");
        }
    }
}

#[test]
fn data_without_data_ends_no_connection_to_an_upstream() {
    let upstream = Upstream::new(|_, peer| {
        let Some(mut session) = Session::begin(peer, 100) else { return };
        while let Some(stream) = session.request() {
            let mut answer = frame(HEADERS, 0b100, stream, &[0x88]);
            for _ in 0..150 {
                answer.extend(frame(DATA, 0, stream, &[]));
                answer.extend(frame(DATA, 0, stream, b"x"));
            }
            answer.extend(frame(DATA, 1, stream, &[]));
            session.0.client.send(answer);
        }
    });
    let testbed = testbed(&upstream, 0);
    for _ in 0..3 {
        let reply = testbed.get("/");
        assert_eq!((reply.status, reply.text(), reply.whole), (200, "x".repeat(150), true));
    }
    assert_eq!(upstream.connections(), 1);
}

/// Does something with each stream of each connection, and counts them.
fn does_with_each(
    streams_max: u32,
    does: impl Fn(&mut Session<'_>, u32) + Send + Sync + 'static,
) -> (Upstream, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let upstream = Upstream::new(move |_, peer| {
        let Some(mut session) = Session::begin(peer, streams_max) else { return };
        while let Some(stream) = session.request() {
            counted.fetch_add(1, Ordering::SeqCst);
            does(&mut session, stream);
        }
    });
    (upstream, seen)
}

/// So many clients ask at once: the statuses that they get.
fn together(testbed: &TestBed, count: usize) -> Vec<u16> {
    let mut clients: Vec<_> = (0..count).map(|_| testbed.client()).collect();
    clients.iter_mut().for_each(|client| client.send(POST));
    clients.iter_mut().map(|client| client.reply().status).collect()
}

#[test]
fn an_upstream_that_refuses_everything_is_asked_a_few_times() {
    const CLIENTS: usize = 50;
    type Does = fn(&mut Session<'_>, u32);
    let table: [(&str, Does); 2] = [
        ("refused", |session, stream| session.reset(stream, REFUSED_STREAM)),
        ("gone away", |session, _| session.go_away(0, NO_ERROR)),
    ];
    for (name, does) in table {
        let (upstream, seen) = does_with_each(100, does);
        let alone = testbed(&upstream, 1);
        assert_eq!(alone.get("/").status, 502);
        assert_eq!(seen.swap(0, Ordering::SeqCst), 2, "{name}: asked anew once more");
        // Who waits for a connection shares it with others.
        for _ in 0..3 {
            assert_eq!(together(&alone, CLIENTS), [502; CLIENTS]);
            let times = seen.swap(0, Ordering::SeqCst);
            assert!(times <= 4 * CLIENTS, "{name}: {CLIENTS} requests were sent {times} times");
        }
    }
}

#[test]
fn who_is_refused_at_one_endpoint_asks_another() {
    const CLIENTS: usize = 50;
    let (refuses, refused) = does_with_each(100, |session, stream| session.reset(stream, REFUSED_STREAM));
    let (answers, _) = does_with_each(100, |session, stream| session.answer(stream));
    let service =
        ServiceSettings { protocol: Protocol::Http2, ..service("test", &[refuses.address, answers.address]) };
    let testbed = TestBed::with(service, settings(0), Limits::default());
    for _ in 0..3 {
        assert_eq!(together(&testbed, CLIENTS), [200; CLIENTS]);
    }
    let times = refused.load(Ordering::SeqCst);
    assert!(times <= 3 * CLIENTS, "{times}");
}

/// An upstream that takes few streams at once has been sent more before it can say so.
#[test]
fn streams_that_an_upstream_has_no_room_for_are_answered_on_further_connections() {
    const CLIENTS: usize = 40;
    const STREAMS_MAX: usize = 5;
    let upstream = Upstream::new(|number, peer| {
        let Some(_) = peer.client.exactly(24) else { return };
        let mut session = Session(peer);
        let mut came = Vec::new();
        let wanted = if number == 0 { CLIENTS } else { 1 };
        while came.len() < wanted {
            let Some(stream) = session.request() else { return };
            came.push(stream);
        }
        // And whatever is on its way besides.
        session.0.client.send(frame(PING, 0, 0, &[7; 8]));
        loop {
            match session.next() {
                Some((HEADERS, _, stream)) => came.push(stream),
                Some((PING, 1, _)) => break,
                Some(_) => {}
                None => return,
            }
        }
        session.allow(STREAMS_MAX as u32);
        for (place, stream) in came.into_iter().enumerate() {
            if place < STREAMS_MAX {
                session.answer(stream);
            } else {
                session.reset(stream, REFUSED_STREAM);
            }
        }
        while let Some(stream) = session.request() {
            session.answer(stream);
        }
    });
    let testbed = testbed(&upstream, 0);
    assert_eq!(together(&testbed, CLIENTS), [200; CLIENTS]);
}

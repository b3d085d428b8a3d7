//! What is cut is seen to be cut, at both ends: a peer that reads until the end must not take a
//! part for the whole.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use proxy::upstream::{ForwardSettings, Timeouts};
use proxy::{Limits, ListenerSettings, Speaks};

use crate::revocation::Fickle;
use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{Client, PATIENCE, TestBed, Upstream, anywhere, runtime};

/// What reads until the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A connection of which nothing is read.
    Opaque,
    /// One that was upgraded.
    Upgraded,
    /// The body of an answer to a client of HTTP/1.0.
    Body,
}

const TUNNELS: [Kind; 2] = [Kind::Opaque, Kind::Upgraded];

const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// A hop, and an upstream that says "hello" and whether its connection ended with a reset.
struct Scene {
    testbed: TestBed,
    judge: Arc<Fickle>,
    build: Box<dyn Fn() -> TestWorld>,
    ends: mpsc::Receiver<bool>,
}

impl Scene {
    fn new(kind: Kind, timeouts: Timeouts) -> Self {
        let (tell, ends) = mpsc::channel();
        let tell = Mutex::new(tell);
        let upstream = Upstream::new(move |_, peer| {
            if kind != Kind::Opaque {
                peer.request_head();
            }
            peer.send(match kind {
                Kind::Opaque => "",
                Kind::Upgraded => SWITCH,
                Kind::Body => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            });
            peer.send(if kind == Kind::Body { "5\r\nhello\r\n" } else { "hello" });
            let _ = tell.lock().unwrap().send(peer.client.ends_by_reset());
        });
        let judge = Arc::new(Fickle { epoch: AtomicU64::new(0), holds_for: None, falls: true });
        let (judged, address) = (Arc::clone(&judge), upstream.address);
        let build = move || {
            let opaque = Speaks::Opaque(Bytes::from_static(b"test"));
            let speaks = if kind == Kind::Opaque { opaque } else { Speaks::Http };
            let listener = ListenerSettings { speaks, ..cleartext(anywhere()) };
            let settings = ForwardSettings { timeouts, ..settings(0) };
            let routes = vec![TestRoute { path: "/**", settings }];
            let services = vec![service("test", &[address])];
            let mut world = TestWorld::new(vec![listener], services, routes, Limits::default(), None);
            world.judge = judged.clone();
            world
        };
        Self { testbed: TestBed::start(build(), Arc::default()), judge, build: Box::new(build), ends }
    }

    /// A client that has heard the upstream's word.
    fn client(&self, kind: Kind) -> Client {
        let mut client = self.testbed.client();
        match kind {
            Kind::Opaque => {}
            Kind::Upgraded => client.send(UPGRADE),
            Kind::Body => client.send("GET / HTTP/1.0\r\nhost: test\r\n\r\n"),
        }
        if kind != Kind::Opaque {
            client.head().unwrap();
        }
        assert_eq!(client.exactly(5).unwrap(), b"hello");
        client
    }

    /// Whether the upstream's connection ended with a reset.
    fn server_saw_a_reset(&self) -> bool {
        self.ends.recv_timeout(PATIENCE).unwrap()
    }
}

fn patient() -> Timeouts {
    Timeouts { connect: PATIENCE, ..Timeouts::default() }
}

#[test]
fn an_upload_that_its_client_breaks_off_does_not_end_in_order_for_the_server() {
    for kind in TUNNELS {
        let scene = Scene::new(kind, patient());
        let mut client = scene.client(kind);
        client.send("half of it");
        socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert!(scene.server_saw_a_reset(), "{kind:?}");

        // The honest neighbour has sent it all.
        let client = scene.client(kind);
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert!(!scene.server_saw_a_reset(), "{kind:?}");
    }
}

#[test]
fn what_is_cut_when_its_permit_falls_ends_in_order_for_nobody() {
    for kind in TUNNELS {
        let mut scene = Scene::new(kind, patient());
        let mut client = scene.client(kind);
        client.send("half of it");
        scene.judge.epoch.store(1, Ordering::SeqCst);
        let next = Arc::new((scene.build)());
        let cores = scene.testbed.cores.as_mut().unwrap();
        scene.testbed.runtime.block_on(cores.publish(next)).unwrap();
        assert!(client.ends_by_reset(), "{kind:?}");
        assert!(scene.server_saw_a_reset(), "{kind:?}");
    }
}

#[test]
fn a_tunnel_that_is_silent_for_too_long_ends_in_order_for_nobody() {
    let idle = Duration::from_millis(300);
    for kind in TUNNELS {
        let scene = Scene::new(kind, Timeouts { idle, ..patient() });
        let mut client = crate::testbed::undisturbed("word in time", idle, || {
            let mut client = scene.testbed.client();
            if kind == Kind::Upgraded {
                client.send(UPGRADE);
                client.head()?;
            }
            client.exactly(5).map(|_| client)
        });
        assert!(client.ends_by_reset(), "{kind:?}");
        assert!(scene.server_saw_a_reset(), "{kind:?}");
    }
}

#[test]
fn a_body_that_only_the_end_delimits_breaks_off_with_a_reset() {
    let table = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\nshort", false),
    ];
    for (answer, breaks_off) in table {
        let upstream = Upstream::new(move |_, peer| {
            peer.request();
            peer.send(answer);
            peer.close();
        });
        let testbed = TestBed::new(&[upstream.address]);
        let mut client = testbed.client();
        client.send("GET / HTTP/1.0\r\nhost: test\r\n\r\n");
        let head = client.head().unwrap();
        // Something delimits the first one for everybody.
        let delimited = head.contains("content-length");
        assert_eq!(client.exactly(5).unwrap(), b"short", "{answer}");
        assert_eq!(client.ends_by_reset(), breaks_off && !delimited, "{answer}");
    }
}

#[test]
fn what_a_drain_cuts_ends_in_order_for_nobody() {
    for kind in [Kind::Opaque, Kind::Upgraded, Kind::Body] {
        let mut scene = Scene::new(kind, patient());
        let mut client = scene.client(kind);
        if kind != Kind::Body {
            client.stream.write_all(b"half of it").unwrap();
        }
        let cores = scene.testbed.cores.take().unwrap();
        assert!(!runtime().block_on(cores.drain(Duration::from_millis(100))).complete);
        assert!(client.ends_by_reset(), "{kind:?}");
        if kind != Kind::Body {
            assert!(scene.server_saw_a_reset(), "{kind:?}");
        }
    }
}

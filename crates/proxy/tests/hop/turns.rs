//! Networks take turns at a service, tunnels too, and over all cores.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use proxy::upstream::{ConnectionLimits, ForwardSettings, ServiceSettings, Timeouts};
use proxy::{Cores, Limits, ListenerSettings, Speaks};
use tokio::runtime::{Builder, Runtime};

use crate::fairness::{STALLED, connect, hits};
use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{Client, Peer, TestBed, Upstream, anywhere, runtime, wait_for};

const MANY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const HONEST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: y\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn limits() -> Limits {
    Limits { stalled_ms_max: STALLED, ..Limits::default() }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

/// A hop on so many cores before a service with so many connections, which are the core's or all.
fn testbed(
    listener: ListenerSettings,
    service: ServiceSettings,
    cores: usize,
    waiting_max: u32,
    connections: u32,
) -> (TestBed, Counts) {
    let connections_max = if cores > 1 { connections } else { 0 };
    let service = ServiceSettings {
        connections_per_core_max: connections,
        connection_limits: ConnectionLimits { connections_max, waiting_max },
        ..service
    };
    let timeouts = Timeouts { connect: Duration::from_secs(5), ..Timeouts::default() };
    let upgrades = vec![Bytes::from_static(b"websocket")];
    let settings = ForwardSettings { timeouts, upgrades, ..settings(0) };
    let routes = vec![TestRoute { path: "/**", settings }];
    let world = TestWorld::new(vec![listener], vec![service], routes, limits(), None);
    let upstreams = Arc::clone(&world.upstreams);
    let counts: Counts = Box::new(move || {
        let limiter = &upstreams.services()[0].endpoints[0].limiter;
        (limiter.open(), limiter.waiting())
    });
    let cores = Cores::start(cores, Arc::new(world)).unwrap();
    let address = cores.addresses()[0].1;
    (TestBed { cores: Some(cores), address, runtime: runtime(), outcomes: Arc::default() }, counts)
}

/// Connections that are open, and requests that wait.
type Counts = Box<dyn Fn() -> (u32, u32)>;

/// Answers each request once its gate is open.
fn gated(peer: &mut Peer, gate: &AtomicBool) {
    while peer.request().is_some() {
        while !gate.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        peer.send(OK);
    }
}

/// The place of a path among the requests that an upstream saw.
fn place(upstream: &Upstream, path: &str) -> usize {
    let seen = upstream.seen.lock().unwrap();
    seen.iter().position(|head| head.starts_with(&format!("GET {path} "))).unwrap()
}

#[test]
fn nobody_overtakes_those_who_wait_not_even_the_next_request_of_the_same_connection() {
    let gate: Arc<AtomicBool> = Arc::default();
    let opened = Arc::clone(&gate);
    let upstream = Upstream::new(move |_, peer| gated(peer, &opened));
    let (testbed, counts) = testbed(cleartext(anywhere()), service("test", &[upstream.address]), 1, 128, 1);
    let mut many = testbed.client_from(MANY);
    many.send(get("/many").repeat(20));
    wait_for(|| upstream.requests() == 1);
    let mut honest = testbed.client_from(HONEST);
    honest.send(get("/honest"));
    wait_for(|| counts() == (1, 1));
    // The next request of the other is ready as soon as the first is answered.
    gate.store(true, Ordering::SeqCst);
    assert_eq!(honest.reply().status, 200);
    assert!((0..20).all(|_| many.reply().status == 200));
    assert_eq!(place(&upstream, "/honest"), 1);
}

#[test]
fn a_network_has_one_turn_also_where_each_of_its_clients_needs_a_connection_of_its_own() {
    let gate: Arc<AtomicBool> = Arc::default();
    let opened = Arc::clone(&gate);
    let upstream = Upstream::new(move |_, peer| {
        peer.client.stream.read_exact(&mut [0; 28]).unwrap();
        gated(peer, &opened);
    });
    let one = ServiceSettings { proxy_protocol: true, ..service("test", &[upstream.address]) };
    let (testbed, counts) = testbed(cleartext(anywhere()), one, 1, 128, 1);
    let mut many: Vec<_> = (0..20).map(|_| testbed.client_from(MANY)).collect();
    many.iter_mut().for_each(|client| client.send(get("/many")));
    wait_for(|| counts() == (1, 19));
    let mut honest = testbed.client_from(HONEST);
    honest.send(get("/honest"));
    wait_for(|| counts() == (1, 20));
    gate.store(true, Ordering::SeqCst);
    assert_eq!(honest.reply().status, 200);
    assert!(many.iter_mut().all(|client| client.reply().status == 200));
    // One had the connection, and one was before it.
    assert_eq!(place(&upstream, "/honest"), 2);
}

/// Switches to a WebSocket, where that is asked for, and gives back what comes.
fn switching() -> Upstream {
    Upstream::new(|_, peer| {
        while let Some(request) = peer.request_head() {
            if request.field("upgrade").is_none() {
                peer.send(OK);
                continue;
            }
            peer.send(SWITCH);
            while let Some(byte) = peer.client.exactly(1) {
                peer.client.send(byte);
            }
        }
    })
}

fn tunnels(testbed: &TestBed, from: IpAddr, count: usize) -> Vec<Client> {
    let open = |_| {
        let mut client = testbed.client_from(from);
        client.send(WEBSOCKET);
        assert!(client.head().unwrap().starts_with("HTTP/1.1 101 "));
        client
    };
    (0..count).map(open).collect()
}

fn echoes(client: &mut Client) -> bool {
    client.send("x");
    client.exactly(1).as_deref() == Some(b"x")
}

#[test]
fn tunnels_of_one_network_keep_no_other_from_a_service_and_rest_while_nobody_waits() {
    let upstream = switching();
    let (testbed, counts) = testbed(cleartext(anywhere()), service("test", &[upstream.address]), 1, 128, 4);
    let mut tunnels = tunnels(&testbed, MANY, 4);
    assert_eq!(counts().0, 4);
    std::thread::sleep(2 * STALLED);
    // Nobody waits, and then only one of their own.
    assert!(tunnels.iter_mut().all(echoes));
    let mut own = testbed.client_from(MANY);
    own.send(get("/own"));
    std::thread::sleep(2 * STALLED);
    assert!(tunnels.iter_mut().all(echoes));
    assert_eq!(hits(&testbed, "stalled_ms_max"), 0);

    assert_eq!(testbed.client_from(HONEST).status("/"), Some(200));
    assert_eq!(hits(&testbed, "stalled_ms_max"), 1);
    // The oldest one ended, and not in order.
    assert!(tunnels.remove(0).ends_by_reset());
    assert!(tunnels.iter_mut().all(echoes));
    assert_eq!(own.reply().status, 200);
}

#[test]
fn a_tunnel_of_a_network_that_has_no_more_than_others_is_not_ended() {
    let upstream = switching();
    let (testbed, _) = testbed(cleartext(anywhere()), service("test", &[upstream.address]), 1, 128, 2);
    let mut one = tunnels(&testbed, MANY, 1);
    let mut other = tunnels(&testbed, HONEST, 1);
    let mut third = testbed.client_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4)));
    third.send(get("/"));
    std::thread::sleep(3 * STALLED);
    assert!(echoes(&mut one[0]) && echoes(&mut other[0]));
    assert_eq!(hits(&testbed, "stalled_ms_max"), 0);
    drop(one);
    assert_eq!(third.reply().status, 200);
}

#[test]
fn opaque_connections_count_as_their_networks_and_are_shared_out_too() {
    let upstream = Upstream::new(|_, peer| {
        while let Some(byte) = peer.client.exactly(1) {
            peer.client.send(byte);
        }
    });
    let listener =
        ListenerSettings { speaks: Speaks::Opaque(Bytes::from_static(b"test")), ..cleartext(anywhere()) };
    let (testbed, counts) = testbed(listener, service("test", &[upstream.address]), 1, 128, 4);
    let mut many: Vec<_> = (0..4).map(|_| testbed.client_from(MANY)).collect();
    assert!(many.iter_mut().all(echoes));
    assert_eq!(counts().0, 4);
    let mut honest = testbed.client_from(HONEST);
    assert!(echoes(&mut honest));
    let mut second = testbed.client_from(HONEST);
    assert!(echoes(&mut second));
    assert_eq!(hits(&testbed, "stalled_ms_max"), 2);
    // Two each: more would only change places.
    let mut third = testbed.client_from(HONEST);
    third.send("x");
    std::thread::sleep(3 * STALLED);
    assert_eq!(hits(&testbed, "stalled_ms_max"), 2);
    assert!(many.drain(..2).all(|mut client| client.ends_by_reset()));
    assert!(many.iter_mut().all(echoes) && echoes(&mut honest) && echoes(&mut second));
}

/// An upstream that answers `POST` at once, and ends that when a last byte comes.
fn talking() -> Upstream {
    Upstream::new(|_, peer| {
        while let Some(request) = peer.request_head() {
            if !request.head.starts_with("POST") {
                peer.send(OK);
                continue;
            }
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n");
            while peer.client.exactly(1).is_some_and(|byte| byte != b"!") {}
            peer.send("0\r\n\r\n");
        }
    })
}

#[test]
fn who_talks_with_a_service_both_ways_does_not_wait_for_its_client_and_who_owes_a_rest_does() {
    for (head, ended) in [
        ("transfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n", false),
        ("content-length: 20000\r\n\r\nbegin", true),
    ] {
        let upstream = talking();
        let (testbed, _) = testbed(cleartext(anywhere()), service("test", &[upstream.address]), 1, 128, 4);
        let mut talks: Vec<_> = (0..4).map(|_| testbed.client_from(MANY)).collect();
        for client in &mut talks {
            client.send(format!("POST / HTTP/1.1\r\nhost: test\r\n{head}"));
            assert!(client.head().unwrap().starts_with("HTTP/1.1 200 "));
        }
        let mut honest = testbed.client_from(HONEST);
        honest.send(get("/"));
        std::thread::sleep(3 * STALLED);
        assert_eq!(hits(&testbed, "stalled_ms_max") > 0, ended, "{head}");
        talks.iter_mut().for_each(|client| client.send("1\r\n!\r\n0\r\n\r\n"));
        assert_eq!(honest.reply().status, 200);
    }
}

/// So often something is tried that takes two cores: which of them a connection comes to is the
/// kernel's choice, and half of the tries prove nothing.
const TRIES: usize = 8;

/// Requests on one connection of HTTP/2, and so on one core, which stay open while this is there.
fn streams(testbed: &TestBed, request: impl Fn() -> Request<()>, count: usize) -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = testbed.address;
    let ends = request().method() == Method::GET;
    let mut send = runtime.block_on(async {
        let socket = connect(address, MANY).await;
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        send
    });
    for _ in 0..count {
        let request = request();
        runtime.block_on(async {
            send = send.clone().ready().await.unwrap();
            let (answer, mut body) = send.send_request(request, ends).unwrap();
            if !ends {
                body.send_data(Bytes::from_static(b"begin"), false).unwrap();
            }
            tokio::spawn(async move {
                let _ = answer.await;
                drop(body);
            });
        });
    }
    runtime.spawn(async move {
        std::future::pending::<()>().await;
        drop(send);
    });
    runtime
}

#[test]
fn a_network_that_stalls_on_one_core_keeps_no_other_from_the_service_on_another() {
    for _ in 0..TRIES {
        let upstream = Upstream::honest("ok");
        let (testbed, counts) =
            testbed(cleartext(anywhere()), service("test", &[upstream.address]), 2, 128, 4);
        let owes = || Request::post("http://test/").header("content-length", "20000").body(()).unwrap();
        let stalled = streams(&testbed, owes, 4);
        wait_for(|| counts().0 == 4);
        assert_eq!(testbed.client_from(HONEST).status("/"), Some(200));
        assert_eq!(hits(&testbed, "stalled_ms_max"), 1);
        stalled.shutdown_background();
    }
}

#[test]
fn those_who_wait_on_one_core_leave_places_for_another_network_on_another() {
    for _ in 0..TRIES {
        let gate: Arc<AtomicBool> = Arc::default();
        let opened = Arc::clone(&gate);
        let upstream = Upstream::new(move |_, peer| gated(peer, &opened));
        let (testbed, counts) = testbed(cleartext(anywhere()), service("test", &[upstream.address]), 2, 8, 1);
        let get_many = || Request::get("http://test/many").body(()).unwrap();
        let waiting = streams(&testbed, get_many, 9);
        wait_for(|| counts() == (1, 8));
        let mut honest = testbed.client_from(HONEST);
        honest.send(get("/honest"));
        std::thread::sleep(STALLED);
        gate.store(true, Ordering::SeqCst);
        assert_eq!(honest.reply().status, 200);
        waiting.shutdown_background();
    }
}

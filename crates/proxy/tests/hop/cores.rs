//! Cores, listeners, reloads and drains.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use proxy::{Cores, Limits, ListenError, ListenerSettings, Upstreams};

use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{Client, PATIENCE, TestBed, Upstream, anywhere, runtime, wait_for};
use tokio::time::Instant;

/// So long an idle connection may still ask once a drain has begun.
const LAST_CHANCE: Duration = Duration::from_secs(1);

fn world(
    listeners: Vec<ListenerSettings>,
    upstream: SocketAddr,
    generation: u64,
    before: Option<&Upstreams>,
) -> Arc<TestWorld> {
    let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
    let services = vec![service("test", &[upstream])];
    let mut world = TestWorld::new(listeners, services, routes, Limits::default(), before);
    world.generation = generation;
    Arc::new(world)
}

fn refused(address: SocketAddr) -> bool {
    std::net::TcpStream::connect(address).is_err()
}

#[test]
fn a_second_process_on_the_same_address_is_refused_at_start() {
    let upstream = Upstream::honest("ok");
    // An address of its own: what is free at once must not be another test's by then.
    let own = cleartext("127.0.0.4:0".parse().unwrap());
    let first = Cores::start(2, world(vec![own], upstream.address, 1, None)).unwrap();
    let address = first.addresses()[0].1;
    let second = Cores::start(2, world(vec![cleartext(address)], upstream.address, 1, None));
    assert!(matches!(second, Err(ListenError::InUse { address: found }) if found == address));
    // The same port on every address overlaps as well.
    let everywhere = SocketAddr::new([0, 0, 0, 0].into(), address.port());
    let third = Cores::start(2, world(vec![cleartext(everywhere)], upstream.address, 1, None));
    assert!(matches!(third, Err(ListenError::InUse { .. })));
    assert_eq!(Client::connect(address).get("/").status, 200);
    // When the first has gone, the address is free at once.
    assert!(runtime().block_on(first.drain(PATIENCE)).complete);
    let fourth = Cores::start(1, world(vec![cleartext(address)], upstream.address, 1, None)).unwrap();
    assert_eq!(Client::connect(address).get("/").status, 200);
    runtime().block_on(fourth.drain(PATIENCE));
}

/// As between two processes, with fewer, as many and more cores than before.
#[test]
fn sockets_that_are_handed_over_are_all_accepted_from() {
    for (before, after) in [(3, 1), (2, 2), (1, 3)] {
        let upstream = Upstream::honest("ok");
        let listeners = || vec![cleartext(anywhere())];
        let old = Cores::start(before, world(listeners(), upstream.address, 1, None)).unwrap();
        let address = old.addresses()[0].1;
        let mut kept = Client::connect(address);
        assert_eq!(kept.get("/").field("x-generation"), Some("1"));
        let handed = old.sockets().unwrap();
        assert_eq!(handed[0].sockets.len(), before);
        let new = Cores::start_with(after, world(listeners(), upstream.address, 2, None), handed).unwrap();
        assert_eq!(new.addresses()[0].1, address);
        let begun = Instant::now();
        let draining = std::thread::spawn(move || runtime().block_on(old.drain(PATIENCE)));
        // An idle connection may ask once more, and is told to go; until its core has heard of the
        // drain it may ask as ever. Held up for longer than it may wait, it is closed.
        loop {
            std::thread::sleep(Duration::from_millis(250));
            kept.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
            let Some(head) = kept.head() else {
                assert!(begun.elapsed() >= LAST_CHANCE, "an idle connection was closed at once");
                break;
            };
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            assert_eq!(kept.exactly(2).unwrap(), b"ok");
            if head.contains("connection: close\r\n") {
                assert!(kept.is_closed());
                break;
            }
        }
        assert!(draining.join().unwrap().complete);
        for _ in 0..40 {
            assert_eq!(Client::connect(address).get("/").field("x-generation"), Some("2"));
        }
        runtime().block_on(new.drain(PATIENCE));
        assert!(refused(address));
    }
}

#[test]
fn sockets_that_nobody_wants_are_closed() {
    let upstream = Upstream::honest("ok");
    let old = Cores::start(1, world(vec![cleartext(anywhere())], upstream.address, 1, None)).unwrap();
    let address = old.addresses()[0].1;
    let handed = old.sockets().unwrap();
    let other = vec![cleartext("127.0.0.2:0".parse().unwrap())];
    let new = Cores::start_with(1, world(other, upstream.address, 2, None), handed).unwrap();
    runtime().block_on(old.drain(PATIENCE));
    assert!(refused(address));
    assert_eq!(Client::connect(new.addresses()[0].1).get("/").status, 200);
}

#[test]
fn a_reload_keeps_listeners_connections_and_pools() {
    let upstream = Upstream::honest("ok");
    let [kept, removed] = [cleartext(anywhere()), cleartext("127.0.0.2:0".parse().unwrap())];
    let first = world(vec![kept.clone(), removed], upstream.address, 1, None);
    let shared = Arc::clone(&first.upstreams);
    let mut cores = Cores::start(1, first).unwrap();
    let addresses: Vec<SocketAddr> = cores.addresses().into_iter().map(|(_, address)| address).collect();
    let mut on_kept = Client::connect(addresses[0]);
    let mut on_removed = Client::connect(addresses[1]);
    assert_eq!(on_kept.get("/").field("x-generation"), Some("1"));
    assert_eq!(on_removed.get("/").field("x-generation"), Some("1"));

    let added = cleartext("127.0.0.3:0".parse().unwrap());
    let second = world(vec![kept, added], upstream.address, 2, Some(&shared));
    runtime().block_on(cores.publish(second)).unwrap();
    let after: Vec<SocketAddr> = cores.addresses().into_iter().map(|(_, address)| address).collect();
    assert_eq!(after[0], addresses[0], "the listener that did not change has its port");
    assert_eq!(on_kept.get("/").field("x-generation"), Some("2"), "an open connection sees the new world");
    assert_eq!(Client::connect(after[1]).get("/").field("x-generation"), Some("2"), "the new listener");
    assert!(on_removed.is_closed() && refused(addresses[1]), "the removed one has drained");
    assert_eq!(upstream.connections(), 1, "the pool outlived the reload");
    runtime().block_on(cores.drain(PATIENCE));
}

#[test]
fn nothing_is_lost_over_many_reloads_under_load() {
    let upstream = Upstream::honest("ok");
    let listener = cleartext(anywhere());
    let mut cores = Cores::start(2, world(vec![listener.clone()], upstream.address, 0, None)).unwrap();
    let address = cores.addresses()[0].1;
    let (stop, stopped) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), 4);
    let clients: Vec<_> = (0..stopped)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut requests = 0;
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    let mut client = Client::connect(address);
                    (0..5).for_each(|_| assert_eq!(client.get("/").status, 200));
                    requests += 5;
                }
                requests
            })
        })
        .collect();
    for generation in 1..50 {
        runtime()
            .block_on(cores.publish(world(vec![listener.clone()], upstream.address, generation, None)))
            .unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let requests: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(cores.totals().requests, requests);
    runtime().block_on(cores.drain(PATIENCE));
}

#[test]
fn a_reload_that_cannot_bind_changes_nothing() {
    let upstream = Upstream::honest("ok");
    let taken = std::net::TcpListener::bind(anywhere()).unwrap();
    let listener = cleartext(anywhere());
    let mut cores = Cores::start(1, world(vec![listener.clone()], upstream.address, 1, None)).unwrap();
    let address = cores.addresses()[0].1;
    let bad = world(vec![listener, cleartext(taken.local_addr().unwrap())], upstream.address, 2, None);
    assert!(matches!(runtime().block_on(cores.publish(bad)), Err(ListenError::InUse { .. })));
    assert_eq!(Client::connect(address).get("/").field("x-generation"), Some("1"));
    runtime().block_on(cores.drain(PATIENCE));
}

#[test]
fn a_reload_says_when_it_is_our_own_listener_that_is_in_its_way() {
    let upstream = Upstream::honest("ok");
    for (here, there) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")] {
        let at = |ip: &str, port: u16| cleartext(format!("{ip}:{port}").parse().unwrap());
        let mut cores = Cores::start(1, world(vec![at(here, 0)], upstream.address, 1, None)).unwrap();
        let open = cores.addresses()[0].1;
        let other = world(vec![at(there, open.port())], upstream.address, 2, None);
        let error = runtime().block_on(cores.publish(other)).unwrap_err();
        assert!(matches!(error, ListenError::Overlaps { open: found, .. } if found == open), "{error}");
        let said = error.to_string();
        assert!(said.contains(&open.to_string()) && said.contains("takes a restart"), "{said}");
        let client = SocketAddr::new([127, 0, 0, 1].into(), open.port());
        assert_eq!(Client::connect(client).get("/").field("x-generation"), Some("1"));
        runtime().block_on(cores.drain(PATIENCE));
    }
}

/// An upstream that answers when told to.
fn patient() -> (Upstream, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::new(move |_, peer| {
        while peer.request().is_some() {
            let _ = wait.lock().unwrap().recv();
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    (upstream, go)
}

#[test]
fn a_drain_lets_open_requests_end_and_takes_no_new_ones() {
    let (upstream, go) = patient();
    let mut testbed = TestBed::new(&[upstream.address]);
    let mut idle = testbed.client();
    go.send(()).unwrap();
    assert_eq!(idle.get("/").status, 200);
    let mut open = testbed.client();
    open.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    wait_for(|| upstream.requests() == 2);
    let (cores, address) = (testbed.cores.take().unwrap(), testbed.address);
    let drain = std::thread::spawn(move || runtime().block_on(cores.drain(PATIENCE)));
    assert!(idle.is_closed(), "an idle connection ends at once");
    wait_for(|| refused(address));
    go.send(()).unwrap();
    let reply = open.reply();
    assert_eq!((reply.status, reply.field("connection")), (200, Some("close")));
    assert!(drain.join().unwrap().complete);
}

#[test]
fn a_drain_is_bounded() {
    let (upstream, _go) = patient();
    let mut testbed = TestBed::new(&[upstream.address]);
    let mut open = testbed.client();
    open.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    wait_for(|| upstream.requests() == 1);
    let cores = testbed.cores.take().unwrap();
    assert!(!runtime().block_on(cores.drain(Duration::from_millis(100))).complete);
    assert!(open.is_closed());
}

#[test]
fn connections_pass_at_their_limits_and_not_one_past() {
    let upstream = Upstream::honest("ok");
    for limits in [
        Limits { connections_max: 3, ..Limits::default() },
        Limits { connections_per_address_max: 3, ..Limits::default() },
    ] {
        let testbed = TestBed::with(service("test", &[upstream.address]), settings(0), limits);
        let mut clients: Vec<_> = (0..3).map(|_| testbed.client()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/").status, 200);
        }
        let mut fourth = testbed.client();
        fourth.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        assert!(fourth.is_closed());
        drop(clients.pop());
        let cores = testbed.cores.as_ref().unwrap();
        wait_for(|| cores.totals().connections_open == 2);
        assert_eq!(testbed.client().get("/").status, 200, "room again");
        assert_eq!(cores.totals().connections_refused, 1);
    }
}

/// Runs a world's publication; what holds the core up is let go once the core has been told.
fn publish_then(cores: &mut Cores<TestWorld>, world: Arc<TestWorld>, told: impl FnOnce()) {
    runtime().block_on(async {
        let (published, ()) = tokio::join!(cores.publish(world), async { told() });
        published.unwrap();
    });
}

#[test]
fn who_waits_to_be_accepted_when_a_listener_closes_is_served() {
    let upstream = Upstream::honest("ok");
    let listener = cleartext("127.0.0.5:0".parse().unwrap());
    let (held, is_held) = mpsc::channel::<()>();
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
    let services = vec![service("test", &[upstream.address])];
    let mut first = TestWorld::new(vec![listener.clone()], services, routes, Limits::default(), None);
    // Stands still on the core's own thread.
    first.report = Some(Arc::new(move |_| {
        let _ = held.send(());
        let _ = wait.lock().unwrap().recv();
    }));
    let mut cores = Cores::start(1, Arc::new(first)).unwrap();
    let (key, address) = cores.addresses()[0];
    let mut first = Client::connect(address);
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    is_held.recv().unwrap();
    // More than a task may do in one turn.
    let mut waiting: Vec<_> = (0..200).map(|_| Client::connect(address)).collect();
    waiting.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n"));
    let closing = ListenerSettings { closing: true, ..listener };
    let second = world(vec![closing.clone()], upstream.address, 2, None);
    publish_then(&mut cores, second, || drop(go));
    for client in &mut waiting {
        let reply = client.reply();
        assert_eq!((reply.status, reply.field("connection")), (200, Some("close")));
        assert!(client.is_closed());
    }
    assert!(refused(address));
    assert_eq!(first.reply().status, 200);
    assert!(first.is_closed());
    wait_for(|| cores.has_ended(key));
    runtime().block_on(cores.drain(PATIENCE));
}

/// Whoever published knows that nobody is let in any more, and may say so to others.
#[test]
fn a_listener_is_closed_when_its_end_is_published_however_busy_its_core_is() {
    const BUSY: usize = 10;
    let upstream = Upstream::honest("ok");
    let listener = cleartext("127.0.0.8:0".parse().unwrap());
    let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
    let services = vec![service("test", &[upstream.address])];
    let mut first = TestWorld::new(vec![listener.clone()], services, routes, Limits::default(), None);
    // On the core's own thread, which has others' turns between that of the snapshot and that of the
    // listener.
    first.report = Some(Arc::new(|_| std::thread::sleep(Duration::from_millis(5))));
    let mut cores = Cores::start(1, Arc::new(first)).unwrap();
    let (_, address) = cores.addresses()[0];
    let mut clients: Vec<_> = (0..BUSY).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n".repeat(20));
    }
    wait_for(|| upstream.requests() > BUSY);
    let closing = ListenerSettings { closing: true, ..listener };
    runtime().block_on(cores.publish(world(vec![closing], upstream.address, 2, None))).unwrap();
    assert!(refused(address));
    runtime().block_on(cores.drain(PATIENCE));
}

#[test]
fn a_listener_has_ended_when_the_last_of_its_connections_has() {
    let (upstream, go) = patient();
    let listener = cleartext("127.0.0.6:0".parse().unwrap());
    let mut cores = Cores::start(2, world(vec![listener.clone()], upstream.address, 1, None)).unwrap();
    let (key, address) = cores.addresses()[0];
    assert!(!cores.has_ended(key), "it is open");
    let mut open = Client::connect(address);
    open.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    wait_for(|| upstream.requests() == 1);
    for generation in 2..4 {
        let closing = ListenerSettings { closing: true, ..listener.clone() };
        runtime().block_on(cores.publish(world(vec![closing], upstream.address, generation, None))).unwrap();
        assert!(cores.addresses().is_empty());
        assert!(refused(address));
        assert!(!cores.has_ended(key), "a request is open");
    }
    go.send(()).unwrap();
    assert_eq!(open.reply().status, 200);
    assert!(open.is_closed());
    wait_for(|| cores.has_ended(key));
    // Opened again, it is there again.
    runtime().block_on(cores.publish(world(vec![listener], upstream.address, 4, None))).unwrap();
    assert!(!cores.has_ended(key));
    runtime().block_on(cores.drain(PATIENCE));
}

/// Which of several at one address is which does not depend on their places.
#[test]
fn a_listener_that_goes_leaves_the_others_of_its_address_as_they_are() {
    let upstream = Upstream::honest("ok");
    let own = cleartext("127.0.0.7:0".parse().unwrap());
    let numbered = |ordinal| ListenerSettings { ordinal, ..own.clone() };
    let three = (0..3).map(numbered).collect();
    let mut cores = Cores::start(1, world(three, upstream.address, 1, None)).unwrap();
    let before = cores.addresses();
    let rest = vec![numbered(2), numbered(1)];
    runtime().block_on(cores.publish(world(rest, upstream.address, 2, None))).unwrap();
    assert_eq!(cores.addresses(), before[1..]);
    for (_, address) in &before[1..] {
        assert_eq!(Client::connect(*address).get("/").field("x-generation"), Some("2"));
    }
    assert!(refused(before[0].1));
    runtime().block_on(cores.drain(PATIENCE));
}

//! Services that fail: the breaker, the budget of retries, bounds on connections, and
//! connections that are not kept for ever.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use proxy::upstream::{
    Balance, BreakerRule, BreakerState, Budget, ConnectionLimits, Eject, ForwardSettings, Protocol,
    ServiceSettings,
};
use proxy::{Cores, Limits, Upstreams};

use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{Client, PATIENCE, TestBed, Upstream, anywhere, nobody, undisturbed};
use tokio::time::Instant;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FAILED: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// Never ejects, so that what is tested is the only thing that helps.
fn bare(endpoints: &[SocketAddr]) -> ServiceSettings {
    ServiceSettings { eject: Eject { failures: 0, ..Eject::default() }, ..service("test", endpoints) }
}

/// A test bed, and the state that its cores share.
pub fn testbed(service: ServiceSettings) -> (TestBed, Arc<Upstreams>) {
    testbed_with(service, settings(0))
}

pub fn testbed_with(service: ServiceSettings, settings: ForwardSettings) -> (TestBed, Arc<Upstreams>) {
    let routes = vec![TestRoute { path: "/**", settings }];
    let world = TestWorld::new(vec![cleartext(anywhere())], vec![service], routes, Limits::default(), None);
    let upstreams = Arc::clone(&world.upstreams);
    (TestBed::reporting(world), upstreams)
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("waited in vain for {what}");
}

/// Answers with 503 until it is told that all is well.
fn recovering() -> (Upstream, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let upstream = Upstream::new(move |_, peer| {
        while peer.request().is_some() {
            peer.send(if told.load(Ordering::SeqCst) { OK } else { FAILED });
        }
    });
    (upstream, well)
}

#[test]
fn an_open_breaker_answers_503_without_asking_and_closes_when_the_service_is_well() {
    let broken = |open| {
        let (upstream, well) = recovering();
        let rule = BreakerRule { failures_percent: 50, requests_min: 5, open, trials: 2 };
        let (testbed, upstreams) =
            testbed(ServiceSettings { breaker: Some(rule), ..bare(&[upstream.address]) });
        (0..5).for_each(|_| assert_eq!(testbed.get("/").status, 503));
        let opened = upstreams.services()[0].guard.breaker.opened_total();
        assert_eq!((upstream.requests(), opened), (5, 1));
        (upstream, well, testbed, upstreams)
    };
    let (upstream, _, testbed, _) = broken(Duration::from_secs(3600));
    for _ in 0..3 {
        let reply = testbed.get("/");
        assert!(reply.text().contains("circuit breaker"), "{}", reply.text());
        assert_eq!((reply.status, upstream.requests()), (503, 5), "nobody asked the service");
    }

    // A trial that fails opens it again.
    let (upstream, well, testbed, upstreams) = broken(Duration::from_millis(300));
    let guard = &upstreams.services()[0].guard;
    until("a trial", || testbed.get("/").status == 503 && upstream.requests() == 6);
    until("the second opening", || guard.breaker.opened_total() == 2);
    well.store(true, Ordering::SeqCst);
    until("an answer", || testbed.get("/").status == 200);
    assert_eq!(testbed.get("/").status, 200);
    assert_eq!(guard.breaker.state(u64::MAX), BreakerState::Closed);
}

#[test]
fn a_trial_that_fails_is_not_retried() {
    let closing = || {
        Upstream::new(|_, peer| {
            peer.request();
            peer.close();
        })
    };
    let (one, other) = (closing(), closing());
    let rule = BreakerRule { requests_min: 5, open: Duration::from_millis(300), ..BreakerRule::default() };
    let service = ServiceSettings { breaker: Some(rule), ..bare(&[one.address, other.address]) };
    let (testbed, upstreams) = testbed_with(service, ForwardSettings { retries: 2, ..settings(0) });
    let breaker = &upstreams.services()[0].guard.breaker;
    until("it to open", || testbed.get("/").status == 502 && breaker.opened_total() == 1);
    for trials in 1..3 {
        let asked = || one.requests() + other.requests();
        let before = asked();
        until("a trial", || testbed.get("/").status == 502);
        assert_eq!((asked(), breaker.opened_total()), (before + 1, trials + 1));
    }
}

#[test]
fn without_a_breaker_every_request_asks() {
    let (upstream, _) = recovering();
    let (testbed, _) = testbed(bare(&[upstream.address]));
    (0..30).for_each(|_| assert_eq!(testbed.get("/").status, 503));
    assert_eq!(upstream.requests(), 30);
}

#[test]
fn a_breaker_stays_closed_while_too_few_fail() {
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::new(move |_, peer| {
        while peer.request().is_some() {
            let third = asked.fetch_add(1, Ordering::SeqCst) % 3 == 2;
            peer.send(if third { FAILED } else { OK });
        }
    });
    let rule = BreakerRule { requests_min: 5, ..BreakerRule::default() };
    let (testbed, upstreams) = testbed(ServiceSettings { breaker: Some(rule), ..bare(&[upstream.address]) });
    (0..30).for_each(|_| _ = testbed.get("/"));
    assert_eq!(upstream.requests(), 30);
    assert_eq!(upstreams.services()[0].guard.breaker.opened_total(), 0);
}

/// How many of `requests` were answered although every first attempt fails; `None`: it took so long
/// that there is another budget by now.
fn answered(budget: Budget, requests: usize) -> Option<(usize, u64, u64)> {
    let alive = Upstream::honest("ok");
    // Two dead endpoints, and a choice that never learns.
    let endpoints = [alive.address, nobody(), nobody()];
    let service = ServiceSettings {
        budget,
        balance: Balance::Random,
        weights: vec![1, 1000, 1000],
        ..bare(&endpoints)
    };
    let routes = vec![TestRoute { path: "/**", settings: ForwardSettings { retries: 2, ..settings(0) } }];
    let world = TestWorld::new(vec![cleartext(anywhere())], vec![service], routes, Limits::default(), None);
    let upstreams = Arc::clone(&world.upstreams);
    let testbed = TestBed::start(world, Arc::default());
    let begun = Instant::now();
    let good = (0..requests).filter(|_| testbed.get("/").status == 200).count();
    let retries = &upstreams.services()[0].guard.retries;
    // Later what was spent at first comes back.
    (begun.elapsed() < Duration::from_secs(8)).then(|| (good, retries.spent_total(), retries.refused_total()))
}

#[test]
fn retries_end_with_their_budget_and_not_before() {
    // Each request needs two retries.
    let within = |budget| undisturbed("requests of one budget", Duration::ZERO, || answered(budget, 30));
    let (good, spent, refused) = within(Budget { percent: 0, per_second_min: 2 });
    assert_eq!(spent, 20, "two per second for ten seconds, and not one more");
    assert!((9..=13).contains(&good), "{good}");
    assert!(refused >= 15, "{refused}");
    let (good, _, refused) = within(Budget { percent: 200, per_second_min: 10 });
    assert_eq!((good, refused), (30, 0), "the honest neighbour");
}

#[test]
fn weights_say_how_requests_are_shared_out() {
    let (heavy, light) = (Upstream::honest("ok"), Upstream::honest("ok"));
    let endpoints = [heavy.address, light.address];
    let (testbed, _) = testbed(ServiceSettings {
        weights: vec![9, 1],
        balance: Balance::Random,
        ..service("test", &endpoints)
    });
    let mut client = testbed.client();
    (0..200).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert!((5..50).contains(&light.requests()), "{}", light.requests());
    assert_eq!(heavy.requests() + light.requests(), 200);
}

#[test]
fn the_slower_of_two_endpoints_gets_fewer_requests() {
    const PAUSE: Duration = Duration::from_millis(60);
    let slow = Upstream::new(|_, peer| {
        while peer.request().is_some() {
            std::thread::sleep(PAUSE);
            peer.send(OK);
        }
    });
    let fast = Upstream::honest("fast");
    undisturbed("endpoint that is the slower one all the time", PAUSE / 2, || {
        let before = slow.requests();
        let (testbed, _) = testbed(service("test", &[slow.address, fast.address]));
        let mut client = testbed.client();
        for _ in 0..60 {
            let asked = Instant::now();
            let reply = client.get("/");
            assert_eq!(reply.status, 200);
            if reply.text() == "fast" && asked.elapsed() > PAUSE / 2 {
                return None;
            }
        }
        let asked = slow.requests() - before;
        assert!((1..10).contains(&asked), "{asked}");
        Some(())
    });
}

/// Holds every answer until it is released.
fn held() -> (Upstream, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::new(move |_, peer| {
        while peer.request().is_some() {
            let Ok(()) = wait.lock().unwrap().recv() else { return };
            peer.send(OK);
        }
    });
    (upstream, go)
}

#[test]
fn who_waits_for_a_connection_is_bounded_and_one_more_gets_503() {
    let (upstream, go) = held();
    let connection_limits = ConnectionLimits { connections_max: 1, waiting_max: 2 };
    let (testbed, upstreams) = testbed(ServiceSettings { connection_limits, ..bare(&[upstream.address]) });
    let state = &upstreams.services()[0].endpoints[0].limiter;
    let mut clients: Vec<Client> = (0..3).map(|_| testbed.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        until("it to arrive", || state.open() == 1 && state.waiting() as usize == number);
    }
    let reply = testbed.get("/");
    assert_eq!((reply.status, state.refused_total()), (503, 1), "{}", reply.text());
    (0..3).for_each(|_| go.send(()).unwrap());
    for client in &mut clients {
        assert_eq!(client.reply().status, 200, "those who may wait are served");
    }
    assert_eq!((upstream.connections(), state.waiting()), (1, 0));
    assert_eq!(upstreams.services()[0].endpoints[0].health.ejections(), 0);
}

#[test]
fn the_bound_on_connections_holds_over_all_cores_and_a_core_gives_up_what_it_does_not_use() {
    let upstream = Upstream::honest("ok");
    let connection_limits = ConnectionLimits { connections_max: 2, waiting_max: 1024 };
    let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
    let one = ServiceSettings { connection_limits, ..bare(&[upstream.address]) };
    let world = TestWorld::new(vec![cleartext(anywhere())], vec![one], routes, Limits::default(), None);
    let upstreams = Arc::clone(&world.upstreams);
    let cores = Cores::start(4, Arc::new(world)).unwrap();
    let address = cores.addresses()[0].1;
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            // Each on a core that the kernel picks.
            scope.spawn(|| {
                for _ in 0..40 {
                    assert_eq!(Client::connect(address).get("/").status, 200);
                    let open = upstreams.services()[0].endpoints[0].limiter.open();
                    most.fetch_max(open as usize, Ordering::Relaxed);
                }
            });
        }
    });
    assert!((1..=2).contains(&most.load(Ordering::Relaxed)), "{most:?}");
    assert_eq!(upstream.requests(), 16 * 40);
}

#[test]
fn an_unused_http2_connection_is_kept_as_long_as_the_service_says() {
    for (idle, connections) in [(Duration::from_millis(100), 2), (Duration::from_secs(60), 1)] {
        let behind = Upstream::honest("ok");
        let upstream = TestBed::new(&[behind.address]);
        let one = ServiceSettings { protocol: Protocol::Http2, idle, ..bare(&[upstream.address]) };
        let (testbed, _) = testbed(one);
        assert_eq!(testbed.get("/").status, 200);
        // Longer than the idle time and the coarseness of the clock.
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(testbed.get("/").status, 200);
        let accepted = upstream.cores.as_ref().unwrap().totals().connections_accepted;
        assert_eq!(accepted, connections, "{idle:?}");
    }
}

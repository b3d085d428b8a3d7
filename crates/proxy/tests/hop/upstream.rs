//! Upstreams, honest and evil.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use proxy::Limits;
use proxy::upstream::{Balance, DialCheck, Eject, ForwardSettings, ServiceSettings, Timeouts};

use crate::resilience::{testbed_with, until};
use crate::support::{service, settings};
use crate::testbed::{PATIENCE, TestBed, Upstream, nobody, undisturbed};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// More than all buffers between a client and an upstream take.
const UPLOAD_BYTES: usize = 16 * 1024 * 1024;

#[test]
fn ambiguous_answers_become_502_and_nothing_of_them_passes() {
    let table = [
        (
            "length and chunked",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"),
        ("chunked twice", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("sign", "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello"),
        (
            "unasked switch",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        ("bare LF", "HTTP/1.1 200 OK\ncontent-length: 5\n\nhello"),
        ("no HTTP", "hello\r\n\r\n"),
        ("cut head", "HTTP/1.1 200 OK\r\ncontent-le"),
    ];
    for (name, answer) in table {
        let evil = format!("{answer}SECRET");
        let upstream = Upstream::new(move |_, peer| {
            peer.request();
            peer.send(&evil);
            peer.close();
        });
        let testbed = TestBed::new(&[upstream.address]);
        let mut client = testbed.client();
        let reply = client.get("/");
        assert_eq!(reply.status, 502, "{name}: {}", reply.head);
        assert!(!reply.text().contains("SECRET") && !reply.text().contains("hello"), "{name}");
        // The client's connection is not at fault.
        assert_eq!(client.get("/").status, 502, "{name}");
    }
}

#[test]
fn nothing_is_connected_to_that_the_check_of_the_service_does_not_permit() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let upstream = Upstream::new(move |_, peer| {
        count.fetch_add(1, Ordering::SeqCst);
        while peer.request().is_some() {
            peer.send(OK);
        }
    });
    let (permitted, expected) = (Arc::new(AtomicBool::new(false)), upstream.address);
    let asked = Arc::clone(&permitted);
    let check = DialCheck::new(move |address, _| match asked.load(Ordering::SeqCst) && address == expected {
        true => Ok(()),
        false => Err("somebody else listens there".to_owned()),
    });
    let service = ServiceSettings { dial_check: Some(check), ..service("test", &[upstream.address]) };
    let testbed = TestBed::with(service, settings(0), Limits::default());
    assert_eq!(testbed.get("/").status, 502);
    permitted.store(true, Ordering::SeqCst);
    assert_eq!(testbed.get("/").status, 200);
    assert_eq!(reached.load(Ordering::SeqCst), 1);
}

#[test]
fn nothing_is_sent_to_whom_the_check_of_the_service_does_not_permit_once_it_is_connected() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (told, ends) = (Arc::clone(&heard), Arc::new(Mutex::new(Vec::new())));
    let upstream = Upstream::new(move |_, peer| {
        told.lock().unwrap().push(peer.request().is_some());
        peer.send(OK);
    });
    let (permitted, expected, seen) = (Arc::new(AtomicBool::new(false)), upstream.address, Arc::clone(&ends));
    let asked = Arc::clone(&permitted);
    let check = DialCheck::new(move |address, own_end| {
        assert_eq!(address, expected);
        let Some(own_end) = own_end else { return Ok(()) };
        seen.lock().unwrap().push(own_end);
        if asked.load(Ordering::SeqCst) { Ok(()) } else { Err("somebody else has come".to_owned()) }
    });
    let service = ServiceSettings { dial_check: Some(check), ..service("test", &[upstream.address]) };
    let testbed = TestBed::with(service, settings(0), Limits::default());
    assert_eq!(testbed.get("/").status, 502);
    until("the connection", || heard.lock().unwrap().len() == 1);
    permitted.store(true, Ordering::SeqCst);
    assert_eq!(testbed.get("/").status, 200);
    assert_eq!(*heard.lock().unwrap(), [false, true]);
    let ends = ends.lock().unwrap();
    assert!(ends.len() == 2 && ends.iter().all(|end| end.ip() == expected.ip() && end.port() > 0));
}

#[test]
fn bytes_after_an_answer_are_never_the_next_clients() {
    let stray = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON";
    // With the answer, and a moment after it on the idle connection.
    for pause in [0, 50] {
        let sent = Arc::new(AtomicUsize::new(0));
        let strays = Arc::clone(&sent);
        let upstream = Upstream::new(move |_, peer| {
            while peer.request().is_some() {
                if pause == 0 {
                    peer.send(&format!("{OK}{stray}"));
                } else {
                    peer.send(OK);
                    std::thread::sleep(Duration::from_millis(pause));
                    peer.send(stray);
                }
                strays.fetch_add(1, Ordering::SeqCst);
            }
        });
        let testbed = TestBed::new(&[upstream.address]);
        let mut client = testbed.client();
        for number in 1..=3 {
            assert_eq!(client.get("/").text(), "ok");
            // Sent later than the next request, it could be an answer to that.
            until("the stray", || sent.load(Ordering::SeqCst) == number);
        }
        assert_eq!(upstream.connections(), 3, "each connection was discarded");
    }
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_be_incomplete() {
    let table = [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\nZZ\r\n",
    ];
    for answer in table {
        let upstream = Upstream::new(move |_, peer| {
            peer.request();
            peer.send(answer);
            peer.close();
        });
        let testbed = TestBed::new(&[upstream.address]);
        let reply = testbed.get("/");
        assert_eq!((reply.status, reply.whole), (200, false), "{answer}");
    }
}

#[test]
fn connections_are_used_again() {
    let upstream = Upstream::honest("ok");
    let testbed = TestBed::new(&[upstream.address]);
    for _ in 0..20 {
        assert_eq!(testbed.get("/").status, 200);
    }
    assert_eq!((upstream.connections(), upstream.requests()), (1, 20));
}

/// Answers the first request of each connection and closes when the second comes.
fn forgetful() -> Upstream {
    Upstream::new(|_, peer| {
        peer.request();
        peer.send(OK);
        peer.request();
        peer.close();
    })
}

#[test]
fn a_pooled_connection_that_dies_costs_an_idempotent_request_nothing_and_others_a_502() {
    for (request, second) in [
        ("GET / HTTP/1.1\r\nhost: test\r\n\r\n", 200),
        ("PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello", 200),
        ("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello", 502),
    ] {
        let upstream = forgetful();
        let testbed = TestBed::new(&[upstream.address]);
        let mut client = testbed.client();
        assert_eq!(client.get("/").status, 200);
        client.send(request);
        assert_eq!(client.reply().status, second, "{request}");
        // 1 answered; 1 lost; for an idempotent one, 1 more answered.
        assert_eq!(upstream.requests(), if second == 200 { 3 } else { 2 });
    }
}

#[test]
fn a_request_that_may_have_had_an_effect_is_not_sent_twice() {
    let closing = || {
        Upstream::new(|_, peer| {
            peer.request();
            peer.close();
        })
    };
    for (method, requests) in [("GET", 2), ("DELETE", 2), ("POST", 1), ("PATCH", 1)] {
        let (one, other) = (closing(), closing());
        let testbed = TestBed::new(&[one.address, other.address]);
        let mut client = testbed.client();
        client.send(format!("{method} / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n"));
        assert_eq!(client.reply().status, 502, "{method}");
        assert_eq!(one.requests() + other.requests(), requests, "{method}");
    }
}

pub fn ejecting(endpoints: &[SocketAddr], failures: u32, duration: Duration) -> ServiceSettings {
    let eject = Eject { failures, duration, ..Eject::default() };
    // A dead endpoint is drawn as often as others until it is ejected.
    ServiceSettings { eject, balance: Balance::LeastRequests, ..service("test", endpoints) }
}

#[test]
fn a_dead_endpoint_is_passed_over_and_then_left_alone() {
    let alive = Upstream::honest("ok");
    let service = ejecting(&[alive.address, nobody()], 3, Duration::from_secs(600));
    let testbed = TestBed::with(service, settings(0), Limits::default());
    for n in 0..40 {
        // Nothing was sent to the dead one, so that even POST goes elsewhere.
        let mut client = testbed.client();
        client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi");
        assert_eq!(client.reply().status, 200, "{n}");
    }
    let outcomes = testbed.outcomes.lock().unwrap();
    let retried = outcomes.iter().filter(|outcome| outcome.starts_with('2')).count();
    assert_eq!(retried, 3, "after three failures it gets no requests: {outcomes:?}");
}

#[test]
fn the_last_endpoint_is_tried_even_when_ejected_and_recovers() {
    let upstream = Upstream::new(|number, peer| {
        peer.request();
        peer.send(if number < 3 {
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
        } else {
            OK
        });
        peer.close();
    });
    let service = ejecting(&[upstream.address], 2, Duration::from_secs(600));
    let testbed = TestBed::with(service, settings(0), Limits::default());
    let statuses: Vec<u16> = (0..5).map(|_| testbed.get("/").status).collect();
    assert_eq!(statuses, [503, 503, 503, 200, 200]);
}

#[test]
fn nobody_there_is_502() {
    let testbed = TestBed::new(&[nobody(), nobody()]);
    assert_eq!(testbed.get("/").status, 502);
    assert_eq!(testbed.outcomes.lock().unwrap()[0].chars().next(), Some('2'), "both were tried");
}

#[test]
fn silence_before_the_head_is_504_and_in_the_body_an_incomplete_answer() {
    let short = Duration::from_millis(100);
    let silent = |answer: &'static str| {
        Upstream::new(move |_, peer| {
            peer.request();
            peer.send(answer);
            peer.client.is_closed();
        })
    };
    for timeouts in [
        Timeouts { first_byte: short, ..Timeouts::default() },
        Timeouts { total: short, ..Timeouts::default() },
    ] {
        let upstream = silent("");
        let settings = ForwardSettings { timeouts, ..settings(0) };
        let testbed = TestBed::with(service("test", &[upstream.address]), settings, Limits::default());
        let mut client = testbed.client();
        client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.reply().status, 504);
        // The upstream may read it later than the hop gives up.
        until("the request", || upstream.requests() > 0);
        assert_eq!(upstream.requests(), 1, "a POST is not tried again");
    }
    let upstream = silent("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    let timeouts = Timeouts { idle: short, ..Timeouts::default() };
    let settings = ForwardSettings { timeouts, ..settings(0) };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings, Limits::default());
    let reply = testbed.get("/");
    assert_eq!((reply.status, reply.whole), (200, false));
}

#[test]
fn a_client_that_stalls_its_upload_gets_408_and_no_endpoint_is_charged() {
    let short = Duration::from_millis(500);
    for timeouts in
        [Timeouts { idle: short, ..Timeouts::default() }, Timeouts { total: short, ..Timeouts::default() }]
    {
        let upstream = Upstream::honest("ok");
        // Held up for that long before it has a connection, the hop takes the endpoint for the slow one.
        undisturbed("408 for all", short, || {
            let service = ejecting(&[upstream.address], 5, Duration::from_secs(600));
            let (testbed, upstreams) = testbed_with(service, ForwardSettings { timeouts, ..settings(0) });
            let mut clients: Vec<_> = (0..5).map(|_| testbed.client()).collect();
            for client in &mut clients {
                client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhalf");
            }
            let all = clients.iter_mut().all(|client| client.reply().status == 408);
            (all && upstreams.services()[0].endpoints[0].health.ejections() == 0).then_some(())
        });
        // Asked where it has all the time it needs.
        assert_eq!(TestBed::new(&[upstream.address]).get("/").status, 200, "the honest neighbour");
    }
}

#[test]
fn an_endpoint_that_stalls_an_upload_is_charged() {
    let idle = Duration::from_millis(300);
    let timeouts = Timeouts { idle, ..Timeouts::default() };
    // A client that is held up for that long stalls itself.
    undisturbed("504", idle, || {
        let (_go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let upstream = Upstream::new(move |_, peer| {
            peer.request_head();
            let _ = wait.lock().unwrap().recv();
        });
        let service = ejecting(&[upstream.address], 1, Duration::from_secs(600));
        let (testbed, upstreams) = testbed_with(service, ForwardSettings { timeouts, ..settings(0) });
        let mut client = testbed.client();
        client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {UPLOAD_BYTES}\r\n\r\n"));
        let mut writer = client.stream.try_clone().unwrap();
        std::thread::spawn(move || writer.write_all(&vec![b'x'; UPLOAD_BYTES]));
        let status = client.reply().status;
        let ejections = upstreams.services()[0].endpoints[0].health.ejections();
        (status != 408).then(|| assert_eq!((status, ejections), (504, 1)))
    });
}

#[test]
fn without_a_total_only_the_other_times_bound_a_request() {
    let answering_after = |pause| {
        Upstream::new(move |_, peer| {
            while peer.request().is_some() {
                std::thread::sleep(pause);
                peer.send(OK);
            }
        })
    };
    let timeouts =
        |first_byte| Timeouts { total: Duration::ZERO, first_byte, connect: PATIENCE, ..Timeouts::default() };
    // Neither waiting for the connection nor for the answer ends at once.
    let upstream = answering_after(Duration::from_millis(300));
    let one = ServiceSettings { connections_per_core_max: 1, ..service("test", &[upstream.address]) };
    let patient = ForwardSettings { timeouts: timeouts(PATIENCE), ..settings(0) };
    let testbed = TestBed::with(one, patient, Limits::default());
    let mut clients = [testbed.client(), testbed.client()];
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi");
    }
    for client in &mut clients {
        assert_eq!(client.reply().status, 200);
    }
    // A failure may still be followed by another attempt: there is time.
    let (late, other) = (answering_after(Duration::from_secs(3)), Upstream::honest("ok"));
    let quick = ForwardSettings { timeouts: timeouts(Duration::from_secs(1)), ..settings(0) };
    let service = ejecting(&[late.address, other.address], 5, Duration::from_secs(600));
    let both = TestBed::with(service, quick, Limits::default());
    // A good end of a second attempt: whoever is held up in both has none.
    until("another attempt", || {
        let status = both.get("/").status;
        assert!(matches!(status, 200 | 504), "{status}");
        both.outcomes.lock().unwrap().iter().any(|outcome| outcome == "2 ")
    });
}

#[test]
fn connections_to_an_endpoint_are_bounded_and_others_wait() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::new(move |_, peer| {
        while peer.request().is_some() {
            wait.lock().unwrap().recv().unwrap();
            peer.send(OK);
        }
    });
    let service = ServiceSettings { connections_per_core_max: 2, ..service("test", &[upstream.address]) };
    let timeouts = Timeouts { connect: PATIENCE, ..Timeouts::default() };
    let settings = ForwardSettings { timeouts, ..settings(0) };
    let testbed = TestBed::with(service, settings, Limits::default());
    let mut clients: Vec<_> = (0..6).map(|_| testbed.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    (0..6).for_each(|_| go.send(()).unwrap());
    for client in &mut clients {
        assert_eq!(client.reply().status, 200);
    }
    assert_eq!((upstream.connections(), upstream.requests()), (2, 6));
}

#[test]
fn a_prefix_is_stripped_by_whole_segments_and_the_host_can_be_the_upstreams() {
    let upstream = Upstream::honest("ok");
    let settings = ForwardSettings { strip_prefix: Some("/shop".into()), keep_host: false, ..settings(0) };
    let testbed = TestBed::with(service("test", &[upstream.address]), settings, Limits::default());
    let table = [("/shop/a?q=1", "/a?q=1"), ("/shop", "/"), ("/shop/", "/"), ("/shopping/a", "/shopping/a")];
    for (asked, seen) in table {
        assert_eq!(testbed.get(asked).status, 200);
        assert!(
            upstream.last().starts_with(&format!("GET {seen} HTTP/1.1\r\n")),
            "{asked}: {}",
            upstream.last()
        );
        assert!(upstream.last().contains(&format!("host: {}\r\n", upstream.address)));
    }
}

#[test]
fn the_address_of_an_ipv6_upstream_is_named_in_brackets() {
    let upstream = Upstream::honest("ok");
    let settings = ForwardSettings { keep_host: false, ..settings(0) };
    let mut service = service("test", &[upstream.address]);
    let port = upstream.address.port();
    for (host, seen) in [
        ("2001:db8::1", format!("host: [2001:db8::1]:{port}\r\n")),
        ("orders.internal", format!("host: orders.internal:{port}\r\n")),
    ] {
        service.endpoints[0].host = host.to_owned();
        service.endpoints[0].address = Some(upstream.address.ip());
        let testbed = TestBed::with(service.clone(), settings.clone(), Limits::default());
        assert_eq!(testbed.get("/").status, 200, "{host}");
        assert!(upstream.last().contains(&seen), "{host}: {}", upstream.last());
    }
}

#[test]
fn what_was_not_held_against_the_routes_contract_reaches_nobody() {
    let upstream = Upstream::honest("ok");
    let testbed = |contract| {
        let settings = ForwardSettings { contract, ..settings(0) };
        TestBed::with(service("test", &[upstream.address]), settings, Limits::default())
    };
    assert_eq!(testbed(7).get("/").status, 500);
    assert_eq!(upstream.requests(), 0);
    assert_eq!(testbed(0).get("/").status, 200);
}

#[test]
fn a_rewritten_path_is_admitted_again() {
    use proxy::forward::{PathPiece, PathTemplate};
    let upstream = Upstream::honest("ok");
    let testbed = |text: &'static str| {
        let pieces = vec![PathPiece::Text(text.into()), PathPiece::Rest(1)];
        let settings = ForwardSettings { template: Some(PathTemplate { pieces }), ..settings(0) };
        TestBed::with(service("test", &[upstream.address]), settings, Limits::default())
    };
    let honest = testbed("/v2/");
    assert_eq!(honest.get("/x/a/b?q=1").status, 200);
    assert!(upstream.last().starts_with("GET /v2/a/b?q=1 HTTP/1.1\r\n"), "{}", upstream.last());
    for text in ["/v2/../", "/v2//", "/v2/.", "/%2e/", "v2/"] {
        assert_eq!(testbed(text).get("/x/./a").status, if text == "/v2/." { 200 } else { 400 }, "{text}");
    }
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn what_belongs_to_one_connection_stays_on_it() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nx-end: 1\r\n\r\nok",
    );
    let testbed = TestBed::new(&[upstream.address]);
    let mut client = testbed.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: x-mine\r\nx-mine: 1\r\nx-through: 1\r\n\r\n");
    let reply = client.reply();
    assert_eq!(
        (reply.field("x-hop"), reply.field("keep-alive"), reply.field("x-end")),
        (None, None, Some("1"))
    );
    let seen = upstream.last();
    assert!(!seen.contains("x-mine") && seen.contains("x-through: 1"), "{seen}");
}

//! Services that live in this process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header, request, response};
use proxy::upstream::in_process::{Call, CallBody, GATHERED_BYTES_MAX, Untold, in_process_pair};
use proxy::upstream::{ConnectionLimits, ForwardSettings, InProcessListener, ServiceSettings, Timeouts};
use proxy::{Limits, Upstreams};

use crate::resilience::{testbed_with, until};
use crate::revocation::Fickle;
use crate::support::{TestRoute, TestWorld, cleartext, settings};
use crate::testbed::{PATIENCE, TestBed, anywhere};

/// Hands each call to the test.
fn hand_on(listener: InProcessListener) -> mpsc::Receiver<Call> {
    let (sender, calls) = mpsc::channel();
    serve(listener, move |call| {
        let _ = sender.send(call);
        std::future::ready(())
    });
    calls
}

/// A hop that takes so many calls at once, of whom nobody has to wait.
fn of_few_places(
    connections_per_core_max: u32,
    waiting_max: u32,
) -> (TestBed, InProcessListener, Arc<Upstreams>) {
    let (connector, listener) = in_process_pair();
    let connection_limits = ConnectionLimits { connections_max: 0, waiting_max };
    let service = ServiceSettings {
        connections_per_core_max,
        connection_limits,
        ..ServiceSettings::in_process("few", connector)
    };
    let (testbed, upstreams) = testbed_with(service, settings(0));
    (testbed, listener, upstreams)
}

/// Works on each call with `work`, on a runtime of its own, until nobody can come any more.
fn serve<F>(mut listener: InProcessListener, work: impl Fn(Call) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        runtime.block_on(async {
            let mut calls = Vec::new();
            while listener.accept(&mut calls, 8).await > 0 {
                calls.drain(..).for_each(|call| drop(tokio::spawn(work(call))));
            }
        });
    });
}

fn testbed(listener: impl FnOnce(InProcessListener), limits: Limits) -> TestBed {
    let (connector, taken) = in_process_pair();
    listener(taken);
    TestBed::with(ServiceSettings::in_process("echo", connector), patient(), limits)
}

/// What ends in a test does not end by time.
fn patient() -> ForwardSettings {
    let (connect, first_byte, idle) = (PATIENCE, 2 * PATIENCE, 2 * PATIENCE);
    let timeouts = Timeouts { connect, first_byte, idle, ..Timeouts::default() };
    ForwardSettings { timeouts, ..settings(0) }
}

fn good() -> response::Parts {
    http::Response::new(()).into_parts().0
}

/// Reads a body to its end; the error of one that broke off.
async fn read(body: CallBody) -> Result<Vec<u8>, String> {
    let mut pieces = match body {
        CallBody::Whole(whole) => return Ok(whole.to_vec()),
        CallBody::Pieces(pieces) => pieces,
    };
    let mut all = Vec::new();
    while let Some(piece) = std::future::poll_fn(|cx| pieces.poll_piece(cx)).await {
        all.extend_from_slice(&piece.map_err(|error| error.to_string())?);
    }
    Ok(all)
}

/// Answers with what `answer` makes of head and body, whole.
async fn whole(call: Call, answer: impl Fn(&request::Parts, Vec<u8>) -> Vec<u8>) {
    let (head, body) = call.request.into_parts();
    let body = answer(&head, read(body).await.unwrap());
    call.answerer.whole(good(), Bytes::from(body), &mut Untold::default());
}

fn impatient(first_byte: Duration) -> ForwardSettings {
    let timeouts = Timeouts { first_byte, connect: first_byte, ..Timeouts::default() };
    ForwardSettings { timeouts, retries: 0, ..settings(0) }
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: shop\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    request
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[test]
fn requests_and_bodies_larger_than_what_is_gathered_go_both_ways() {
    let reversed = |listener| {
        serve(listener, |call| {
            whole(call, |head, body| {
                assert_eq!((head.method.as_str(), head.uri.to_string()), ("POST", "/echo?a=1&b".to_owned()));
                assert_eq!(head.headers.get_all(header::HOST).iter().collect::<Vec<_>>(), ["shop"]);
                assert_eq!(head.headers[header::CONTENT_LENGTH], HeaderValue::from(body.len()));
                body.into_iter().rev().collect()
            })
        });
    };
    let testbed = testbed(reversed, Limits::default());
    let mut client = testbed.client();
    for length in [0, 1, GATHERED_BYTES_MAX - 1, GATHERED_BYTES_MAX, GATHERED_BYTES_MAX * 3 + 7] {
        let body = bytes(length);
        client.send(post("/echo?a=1&b", &body));
        let reply = client.reply();
        assert_eq!((reply.status, reply.whole), (200, true), "{length}");
        assert!(reply.body.iter().eq(body.iter().rev()), "{length}");
    }
}

#[test]
fn many_at_once_get_each_its_own_answer() {
    let named = |listener| {
        serve(listener, |call| async move {
            let path = call.request.uri().path().to_owned();
            // Later ones overtake earlier ones.
            let place: u64 = path.rsplit_once('/').unwrap().1.parse().unwrap();
            tokio::time::sleep(Duration::from_millis(50 - place)).await;
            whole(call, |_, body| [path.as_bytes(), b" ", &body].concat()).await;
        });
    };
    let testbed = testbed(named, Limits::default());
    let mut clients: Vec<_> = (0..50).map(|_| testbed.client()).collect();
    for round in 0..3 {
        for (place, client) in clients.iter_mut().enumerate() {
            client.send(post(&format!("/{round}/{place}"), format!("{place} of {round}").as_bytes()));
        }
        for (place, client) in clients.iter_mut().enumerate() {
            let reply = client.reply();
            let expected = format!("/{round}/{place} {place} of {round}");
            assert_eq!((reply.status, String::from_utf8(reply.body).unwrap()), (200, expected));
        }
    }
}

#[test]
fn a_service_that_has_ended_is_a_502_and_one_that_does_not_answer_a_504() {
    let testbed = testbed(drop, Limits::default());
    assert_eq!(testbed.get("/").status, 502);

    let (silent, _listener) = in_process_pair();
    let soon = impatient(Duration::from_millis(200));
    let testbed = TestBed::with(ServiceSettings::in_process("silent", silent), soon, Limits::default());
    assert_eq!(testbed.get("/").status, 504);
    // It ends with a call in its hands, and with another that it has not taken.
    let (testbed, mut listener, upstreams) = of_few_places(2, 0);
    let mut clients = [testbed.client(), testbed.client()];
    let mut calls = Vec::new();
    clients[0].send(post("/", b"x"));
    testbed.runtime.block_on(listener.accept(&mut calls, 1));
    clients[1].send(post("/", b"x"));
    until("the other", || upstreams.services()[0].endpoints[0].limiter.open() == 2);
    drop((listener, calls));
    for client in &mut clients {
        assert_eq!(client.reply().status, 502);
    }
}

#[test]
fn a_call_that_its_client_gave_up_keeps_its_place_until_the_service_lets_go_of_it() {
    let (testbed, mut listener, upstreams) = of_few_places(2, 0);
    for path in ["/first", "/second"] {
        let mut client = testbed.client();
        client.send(post(path, b"x"));
        let state = &upstreams.services()[0].endpoints[0].limiter;
        until("the call", || state.open() == if path == "/first" { 1 } else { 2 });
        drop(client);
    }
    until("both to be given up", || testbed.outcomes.lock().unwrap().len() == 2);
    // Nobody waits, and yet there is no place for more: as where both are open.
    let reply = testbed.get("/");
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(upstreams.services()[0].endpoints[0].limiter.refused_total(), 1);
    let mut calls = Vec::new();
    testbed.runtime.block_on(async {
        while calls.len() < 2 {
            listener.accept(&mut calls, 2).await;
        }
    });
    assert!(calls.iter().all(|call| call.answerer.is_gone()));
    drop(calls);
    serve(listener, |call| whole(call, |_, body| body));
    until("a place", || testbed.get("/").status == 200);
}

#[test]
fn an_answer_that_never_comes_is_a_502_and_takes_no_other_with_it() {
    let some = |listener| {
        serve(listener, |call| async move {
            if call.request.uri().path() != "/dropped" {
                whole(call, |_, body| body).await;
            }
        });
    };
    let testbed = testbed(some, Limits::default());
    let mut client = testbed.client();
    for (path, status) in [("/dropped", 502), ("/good", 200), ("/dropped", 502), ("/good", 200)] {
        client.send(post(path, b"x"));
        assert_eq!(client.reply().status, status, "{path}");
    }
}

#[test]
fn a_request_that_broke_off_never_looks_whole_and_is_given_up() {
    let (sender, seen) = mpsc::channel();
    let (taken, is_taken) = mpsc::channel();
    let told = |listener| {
        serve(listener, move |call| {
            let (sender, taken) = (sender.clone(), taken.clone());
            async move {
                taken.send(()).unwrap();
                let body = read(call.request.into_parts().1).await;
                std::future::poll_fn(|cx| call.answerer.poll_gone(cx)).await;
                sender.send(body).unwrap();
            }
        });
    };
    let testbed = testbed(told, Limits::default());
    // A body that is announced as short would be read to its end first.
    for (promised, sent) in [(16 * 1024 + 1, 3), (GATHERED_BYTES_MAX * 3, GATHERED_BYTES_MAX * 2)] {
        let mut client = testbed.client();
        client.send(format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {promised}\r\n\r\n"));
        client.send(bytes(sent));
        is_taken.recv_timeout(PATIENCE).unwrap();
        drop(client);
        assert!(seen.recv_timeout(PATIENCE).unwrap().is_err(), "{sent} of {promised}");
    }
    // Whole, but nobody waits for the answer.
    let mut client = testbed.client();
    client.send(post("/", b"all of it"));
    is_taken.recv_timeout(PATIENCE).unwrap();
    drop(client);
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), Ok(b"all of it".to_vec()));
}

#[test]
fn an_answer_comes_by_and_by_and_one_that_breaks_off_is_not_whole() {
    let pieces = |listener| {
        serve(listener, |call| async move {
            let path = call.request.uri().path().to_owned();
            let mut head = good();
            if path == "/length" {
                head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(6));
            }
            let mut body = call.answerer.begin(head);
            for piece in ["ab", "", "cd"] {
                assert!(body.send(Bytes::from(piece)).await);
            }
            if path != "/broken" {
                assert!(body.send(Bytes::from("ef")).await);
                body.end().await;
            }
        });
    };
    let testbed = testbed(pieces, Limits::default());
    for (path, expected, is_whole) in
        [("/chunked", "abcdef", true), ("/length", "abcdef", true), ("/broken", "abcd", false)]
    {
        let reply = testbed.get(path);
        assert_eq!((reply.status, reply.whole), (200, is_whole), "{path}");
        assert_eq!(reply.body, expected.as_bytes(), "{path}");
    }
}

#[test]
fn an_answer_is_judged_as_an_upstreams() {
    let evil = |listener| {
        serve(listener, |call| async move {
            let mut head = good();
            match call.request.uri().path() {
                "/good" => {}
                hop @ ("/connection" | "/keep-alive" | "/proxy-connection" | "/transfer-encoding"
                | "/upgrade") => {
                    let name = header::HeaderName::from_bytes(&hop.as_bytes()[1..]).unwrap();
                    head.headers.insert(name, HeaderValue::from_static("x"));
                }
                "/lengths" => {
                    for length in [1, 2] {
                        head.headers.append(header::CONTENT_LENGTH, HeaderValue::from(length));
                    }
                }
                "/short" => drop(head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(9))),
                "/interim" => head.status = http::StatusCode::PROCESSING,
                _ => head.status = http::StatusCode::SWITCHING_PROTOCOLS,
            }
            call.answerer.whole(head, Bytes::from("two"), &mut Untold::default());
        });
    };
    let testbed = testbed(evil, Limits::default());
    let hop = ["/connection", "/keep-alive", "/proxy-connection", "/transfer-encoding", "/upgrade"];
    for path in hop.iter().chain(&["/lengths", "/interim", "/switch"]) {
        assert_eq!(testbed.get(path).status, 502, "{path}");
    }
    let reply = testbed.get("/short");
    assert_eq!((reply.status, reply.whole), (200, false));
    assert_eq!(testbed.get("/good").body, b"two");
}

#[test]
fn an_answer_may_come_before_the_request_is_over_which_nobody_reads_then() {
    let unread = |listener| {
        serve(listener, |call| async move {
            drop(call.request);
            call.answerer.whole(good(), Bytes::from("enough"), &mut Untold::default());
        });
    };
    let testbed = testbed(unread, Limits::default());
    // A body that is announced as short would be read to its end first.
    for (sent, promised) in [(3, 16 * 1024 + 1), (GATHERED_BYTES_MAX * 2, GATHERED_BYTES_MAX * 2 + 1)] {
        let mut client = testbed.client();
        client.send(format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {promised}\r\n\r\n"));
        client.send(bytes(sent));
        let reply = client.reply();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"enough"[..]), "{sent}");
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_the_service_makes() {
    let (told, gone) = mpsc::channel();
    let never_ends = |listener| {
        serve(listener, move |call| {
            let told = told.clone();
            async move {
                if call.request.uri().path() == "/whole" {
                    return call.answerer.whole(good(), Bytes::from("text"), &mut Untold::default());
                }
                let body = call.answerer.begin(good());
                body.gone().await;
                told.send(()).unwrap();
            }
        });
    };
    let testbed = testbed(never_ends, Limits::default());
    let mut client = testbed.client();
    for path in ["/whole", "/pieces", "/whole"] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: shop\r\n\r\n"));
        assert_eq!(client.reply_to("HEAD").status, 200, "{path}");
    }
    gone.recv_timeout(PATIENCE).unwrap();
    assert_eq!(client.get("/whole").body, b"text", "nothing of them stands before it");
}

#[test]
fn a_request_that_is_too_large_is_a_413_and_breaks_off_for_the_service() {
    let (sender, seen) = mpsc::channel();
    let (taken, is_taken) = mpsc::channel();
    let (connector, listener) = in_process_pair();
    serve(listener, move |call| {
        let (sender, taken) = (sender.clone(), taken.clone());
        async move {
            taken.send(()).unwrap();
            let body = read(call.request.into_parts().1).await;
            let is_whole = body.is_ok();
            sender.send(body.map(|body| body.len())).unwrap();
            if is_whole {
                call.answerer.whole(good(), Bytes::new(), &mut Untold::default());
            }
        }
    });
    let limit = GATHERED_BYTES_MAX * 2;
    let bounded = ForwardSettings { body_bytes_max: limit as u64, ..settings(0) };
    let testbed = TestBed::with(ServiceSettings::in_process("some", connector), bounded, Limits::default());
    for (length, status) in [(limit, 200), (limit + 1, 413)] {
        let mut client = testbed.client();
        client.send(b"POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = |length| [format!("{length:x}\r\n").as_bytes(), &bytes(length), b"\r\n"].concat();
        client.send(chunk(GATHERED_BYTES_MAX));
        // The service has it before it is known to be too large.
        is_taken.recv_timeout(PATIENCE).unwrap();
        client.send([chunk(length - GATHERED_BYTES_MAX), b"0\r\n\r\n".to_vec()].concat());
        assert_eq!(client.reply().status, status, "{length}");
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap().ok(), (status == 200).then_some(length));
    }
    // What says so itself does not come so far.
    let mut client = testbed.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {}\r\n\r\n", limit + 1));
    assert_eq!(client.reply().status, 413);
    assert!(is_taken.try_recv().is_err());
}

#[test]
fn the_service_hears_of_whoever_is_cut_or_leaves_before_its_answer_or_while_that_is_silent() {
    let (told, gone) = mpsc::channel();
    let (taken, is_taken) = mpsc::channel();
    let (connector, listener) = in_process_pair();
    serve(listener, move |call| {
        let (told, taken) = (told.clone(), taken.clone());
        async move {
            taken.send(()).unwrap();
            if call.request.uri().path() == "/waits" {
                std::future::poll_fn(|cx| call.answerer.poll_gone(cx)).await;
            } else {
                let mut body = call.answerer.begin(good());
                body.send(Bytes::from("hello")).await;
                body.gone().await;
            }
            told.send(()).unwrap();
        }
    });
    let judge = Arc::new(Fickle { epoch: AtomicU64::new(0), holds_for: None, falls: true });
    let judged = Arc::clone(&judge);
    let build = move || {
        let routes = vec![TestRoute { path: "/**", settings: patient() }];
        let services = vec![ServiceSettings::in_process("held", connector.clone())];
        let mut world =
            TestWorld::new(vec![cleartext(anywhere())], services, routes, Limits::default(), None);
        world.judge = judged.clone();
        world
    };
    let mut testbed = TestBed::start(build(), Arc::default());
    let begin = |testbed: &TestBed, path: &str| {
        let mut client = testbed.client();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n"));
        is_taken.recv_timeout(PATIENCE).unwrap();
        if path == "/silent" {
            client.head().unwrap();
            assert_eq!(client.exactly(10).unwrap(), b"5\r\nhello\r\n");
        }
        client
    };
    drop(begin(&testbed, "/silent"));
    gone.recv_timeout(PATIENCE).unwrap();
    for path in ["/silent", "/waits"] {
        judge.epoch.store(0, Ordering::SeqCst);
        let _client = begin(&testbed, path);
        judge.epoch.store(1, Ordering::SeqCst);
        let cores = testbed.cores.as_mut().unwrap();
        testbed.runtime.block_on(cores.publish(Arc::new(build()))).unwrap();
        gone.recv_timeout(PATIENCE).unwrap();
    }
}

// How much both sides of a call hold is told exactly beside them; these two show that it reaches the client.

#[test]
fn an_answer_that_nobody_reads_stops_at_its_bound() {
    let (sender, went) = mpsc::channel();
    let flood = |listener| {
        serve(listener, move |call| {
            let sender = sender.clone();
            async move {
                let mut body = call.answerer.begin(good());
                let piece = Bytes::from(vec![b'x'; 0x10000]);
                let mut written = 0;
                // Sockets between hop and client hold some megabytes; the rest stays with us. Whoever
                // is held up before that is only slow.
                let longest = |written| if written > 0x10000 { Duration::from_secs(1) } else { PATIENCE };
                while let Ok(more) = tokio::time::timeout(longest(written), body.send(piece.clone())).await {
                    assert!(more);
                    written += piece.len();
                    assert!(written < 256 * 1024 * 1024, "nothing holds the service back");
                }
                sender.send(written).unwrap();
            }
        });
    };
    let testbed = testbed(flood, Limits::default());
    let mut client = testbed.client();
    client.send(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert!(went.recv_timeout(PATIENCE).unwrap() > 0x10000);
}

#[test]
fn a_request_that_nobody_takes_stops_at_its_bound() {
    // Dropped pieces of the call would end it.
    let mut calls = None;
    let testbed = testbed(
        |listener| calls = Some(hand_on(listener)),
        Limits { request_ms_max: PATIENCE, ..Limits::default() },
    );
    let mut client = testbed.client();
    client.send(b"POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n");
    client.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let mut written = 0;
    while std::io::Write::write_all(&mut client.stream, &chunk).is_ok() {
        written += chunk.len();
        assert!(written < 256 * 1024 * 1024, "nothing holds the client back");
    }
    let call = calls.unwrap().recv_timeout(PATIENCE).unwrap();
    assert!(matches!(call.request.body(), CallBody::Pieces(_)));
}

#[test]
fn no_more_calls_at_once_than_the_service_takes() {
    let (testbed, listener, upstreams) = of_few_places(2, 1);
    let calls = hand_on(listener);
    let mut clients: Vec<_> = (0..3).map(|_| testbed.client()).collect();
    for client in &mut clients {
        client.send(post("/", b"x"));
    }
    let first = calls.recv_timeout(PATIENCE).unwrap();
    let second = calls.recv_timeout(PATIENCE).unwrap();
    until("the third to wait", || {
        assert!(calls.try_recv().is_err(), "a third at once");
        upstreams.services()[0].endpoints[0].limiter.waiting() == 1
    });
    first.answerer.whole(good(), Bytes::new(), &mut Untold::default());
    let third = calls.recv_timeout(PATIENCE).unwrap();
    for call in [second, third] {
        call.answerer.whole(good(), Bytes::new(), &mut Untold::default());
    }
    for client in &mut clients {
        assert_eq!(client.reply().status, 200);
    }
}

//! Services that live in this process.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header, request, response};
use proxy::Limits;
use proxy::upstream::in_process::{Call, CallBody, GATHERED_BYTES_MAX, Untold, in_process_pair};
use proxy::upstream::{ForwardSettings, InProcessListener, ServiceSettings, Timeouts};

use crate::support::settings;
use crate::testbed::{PATIENCE, TestBed};

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
    TestBed::with(ServiceSettings::in_process("echo", connector), settings(0), limits)
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

    let (silent, listener) = in_process_pair();
    let soon = impatient(Duration::from_millis(200));
    let testbed = TestBed::with(ServiceSettings::in_process("silent", silent), soon, Limits::default());
    assert_eq!(testbed.get("/").status, 504);
    // It ends with the call in its hands, and with another that it has not taken.
    let mut client = testbed.client();
    client.send(post("/", b"x"));
    drop(listener);
    assert_eq!(client.reply().status, 502);
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
    let told = |listener| {
        serve(listener, move |call| {
            let sender = sender.clone();
            async move {
                let body = read(call.request.into_parts().1).await;
                std::future::poll_fn(|cx| call.answerer.poll_gone(cx)).await;
                sender.send(body).unwrap();
            }
        });
    };
    let testbed = testbed(told, Limits::default());
    for (promised, sent) in [(10, 3), (GATHERED_BYTES_MAX * 3, GATHERED_BYTES_MAX * 2)] {
        let mut client = testbed.client();
        client.send(format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {promised}\r\n\r\n"));
        client.send(bytes(sent));
        drop(client);
        assert!(seen.recv_timeout(PATIENCE).unwrap().is_err(), "{sent} of {promised}");
    }
    // Whole, but nobody waits for the answer.
    let mut client = testbed.client();
    client.send(post("/", b"all of it"));
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
                "/hop" => drop(head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("x"))),
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
    for path in ["/hop", "/lengths", "/interim", "/switch"] {
        assert_eq!(testbed.get(path).status, 502, "{path}");
    }
    let reply = testbed.get("/short");
    assert_eq!((reply.status, reply.whole), (200, false));
}

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
    let (sender, calls) = mpsc::channel();
    let kept = move |listener| {
        serve(listener, move |call| {
            sender.send(call).unwrap();
            std::future::ready(())
        });
    };
    let testbed = testbed(kept, Limits { request_ms_max: PATIENCE, ..Limits::default() });
    let mut client = testbed.client();
    client.send(b"POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n");
    client.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let mut written = 0;
    while std::io::Write::write_all(&mut client.stream, &chunk).is_ok() {
        written += chunk.len();
        assert!(written < 256 * 1024 * 1024, "nothing holds the client back");
    }
    let call = calls.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(call.request.body(), CallBody::Pieces(_)));
}

#[test]
fn no_more_calls_at_once_than_the_service_takes() {
    let (sender, calls) = mpsc::channel();
    let kept = move |listener| {
        serve(listener, move |call| {
            sender.send(call).unwrap();
            std::future::ready(())
        });
    };
    let (connector, listener) = in_process_pair();
    kept(listener);
    let service =
        ServiceSettings { connections_per_core_max: 2, ..ServiceSettings::in_process("two", connector) };
    let testbed = TestBed::with(service, settings(0), Limits::default());
    let mut clients: Vec<_> = (0..3).map(|_| testbed.client()).collect();
    for client in &mut clients {
        client.send(post("/", b"x"));
    }
    let first = calls.recv_timeout(PATIENCE).unwrap();
    let second = calls.recv_timeout(PATIENCE).unwrap();
    assert!(calls.recv_timeout(Duration::from_millis(300)).is_err(), "a third at once");
    first.answerer.whole(good(), Bytes::new(), &mut Untold::default());
    let third = calls.recv_timeout(PATIENCE).unwrap();
    for call in [second, third] {
        call.answerer.whole(good(), Bytes::new(), &mut Untold::default());
    }
    for client in &mut clients {
        assert_eq!(client.reply().status, 200);
    }
}

//! Who a connection is from, told by the PROXY protocol; requests that are shared out
//! and copied.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use proxy::address::AddressList;
use proxy::forward::mirror::MIRROR_TIME_MAX;
use proxy::proxy_protocol::{Header, Origin, parse, write};
use proxy::tls::{ClientTlsSettings, ServerOffer, ServerTlsSettings};
use proxy::upstream::{ForwardSettings, Mirror, Protocol, ServiceSettings, Split, Timeouts};
use proxy::{Limits, ListenerSettings};

use crate::resilience::until;
use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{Client, PATIENCE, TestBed, Upstream, anywhere, undisturbed};
use crate::tls::{Authority, listener, tls_service};
use tokio::time::Instant;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An upstream that reads a header first and notes it, then answers.
fn told() -> (Upstream, Arc<Mutex<Vec<Header>>>) {
    let headers: Arc<Mutex<Vec<Header>>> = Arc::default();
    let noted = Arc::clone(&headers);
    let upstream = Upstream::new(move |_, peer| {
        let mut header = [0; 28];
        peer.client.stream.read_exact(&mut header).unwrap();
        noted.lock().unwrap().push(parse(&header).unwrap().0);
        while peer.request().is_some() {
            peer.send(OK);
        }
    });
    (upstream, headers)
}

fn from(sender: &str) -> ListenerSettings {
    let senders = AddressList::new([sender.parse().unwrap()]);
    ListenerSettings { proxy_protocol: Some(Arc::new(senders)), ..cleartext(anywhere()) }
}

fn connect(testbed: &TestBed, source: &str) -> Client {
    let mut header = Vec::new();
    let origin = Origin { source: source.parse().unwrap(), destination: "198.51.100.1:443".parse().unwrap() };
    write(Some(origin), &mut header);
    let mut client = testbed.client();
    client.send(header);
    client
}

#[test]
fn the_clients_address_comes_from_a_sender_and_goes_to_the_upstream_one_connection_each() {
    let (upstream, headers) = told();
    let one = ServiceSettings { proxy_protocol: true, ..service("test", &[upstream.address]) };
    let testbed = TestBed::behind(from("127.0.0.1/32"), one, settings(0), Limits::default());
    let mut clients = ["192.0.2.7:1111", "192.0.2.8:2222"].map(|source| connect(&testbed, source));
    for _ in 0..3 {
        for client in &mut clients {
            assert_eq!(client.get("/").status, 200);
        }
    }
    let seen: Vec<String> = headers
        .lock()
        .unwrap()
        .iter()
        .map(|header| match header {
            Header::Proxied(origin) => origin.source.to_string(),
            Header::Local => "local".to_owned(),
        })
        .collect();
    // Used again for the same client, never for another.
    assert_eq!(seen, ["192.0.2.7:1111", "192.0.2.8:2222"]);
}

#[test]
fn a_client_of_ipv4_is_one_to_the_upstream_at_a_listener_for_both_families_too() {
    let (upstream, headers) = told();
    let one = ServiceSettings { proxy_protocol: true, ..service("test", &[upstream.address]) };
    let both = cleartext("[::]:0".parse().unwrap());
    let testbed = TestBed::behind(both, one, settings(0), Limits::default());
    let mut client = Client::connect(([127, 0, 0, 1], testbed.address.port()).into());
    assert_eq!(client.get("/").status, 200);
    let origin = Origin {
        source: client.stream.local_addr().unwrap(),
        destination: client.stream.peer_addr().unwrap(),
    };
    assert_eq!(*headers.lock().unwrap(), [Header::Proxied(origin)]);
}

#[test]
fn an_http2_connection_that_somebody_else_left_makes_room() {
    let behind = Upstream::honest("ok");
    let here = || from("127.0.0.1/32");
    let upstream = TestBed::behind(here(), service("up", &[behind.address]), settings(0), Limits::default());
    let one = ServiceSettings {
        proxy_protocol: true,
        protocol: Protocol::Http2,
        connections_per_core_max: 1,
        ..service("test", &[upstream.address])
    };
    let testbed = TestBed::behind(here(), one, settings(0), Limits::default());
    let mut clients = ["192.0.2.7:1111", "192.0.2.8:2222"].map(|source| connect(&testbed, source));
    for connections in [1, 2, 3, 4] {
        let client = &mut clients[(connections + 1) % 2];
        for _ in 0..2 {
            assert_eq!(client.get("/").status, 200);
        }
        let accepted = upstream.cores.as_ref().unwrap().totals().connections_accepted;
        assert_eq!(accepted, connections as u64, "one for each change of the client");
    }
}

#[test]
fn a_stream_that_ends_makes_room_for_its_own_client_whoever_waits_longer() {
    let [(go, wait), (_never, never)] = [mpsc::channel::<()>(), mpsc::channel::<()>()];
    let waits = [wait, never].map(Mutex::new);
    let behind = Upstream::new(move |_, peer| {
        while let Some(request) = peer.request_head() {
            let wait = &waits[usize::from(request.head.contains("/other"))];
            if !request.head.contains("/first") && wait.lock().unwrap().recv().is_err() {
                return;
            }
            peer.send(OK);
        }
    });
    let here = || from("127.0.0.1/32");
    let limits = Limits { http2_streams_max: 2, ..Limits::default() };
    let upstream = TestBed::behind(here(), service("up", &[behind.address]), settings(0), limits);
    let one = ServiceSettings {
        proxy_protocol: true,
        protocol: Protocol::Http2,
        connections_per_core_max: 2,
        ..service("test", &[upstream.address])
    };
    let timeouts = Timeouts { connect: 3 * PATIENCE, ..Timeouts::default() };
    let routes = vec![TestRoute { path: "/**", settings: ForwardSettings { timeouts, ..settings(0) } }];
    let world = TestWorld::new(vec![here()], vec![one], routes, Limits::default(), None);
    let upstreams = Arc::clone(&world.upstreams);
    let testbed = TestBed::start(world, Arc::default());
    let waiting =
        |count| until("it to wait", || upstreams.services()[0].endpoints[0].limiter.waiting() == count);
    let [mine, other] = ["192.0.2.7:1111", "192.0.2.8:2222"].map(|source| connect(&testbed, source).stream);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ask = |client: &mut SendRequest<Bytes>, path: &str| {
        let request = Request::get(format!("http://test{path}")).body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    let mut clients = [mine, other].map(|stream| {
        stream.set_nonblocking(true).unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut send = send.ready().await.unwrap();
            assert_eq!(ask(&mut send, "/first").await.unwrap().status(), 200);
            send
        })
    });
    let mut open = Vec::new();
    for (client, path) in clients.iter_mut().zip(["/mine", "/other"]) {
        open.extend((0..2).map(|_| ask(client, path)));
    }
    until("all four", || behind.requests() == 6);
    open.push(ask(&mut clients[1], "/other"));
    waiting(1);
    open.push(ask(&mut clients[0], "/mine"));
    waiting(2);
    go.send(()).unwrap();
    waiting(1);
    until("the one that waited", || behind.requests() == 7);
    assert!(behind.last().contains("/mine"), "{}", behind.last());
}

#[test]
fn nobody_waits_for_an_http2_connection_that_is_opened_for_somebody_else() {
    let authority = Authority::new();
    let identities = vec![authority.issue(&["upstream.test"])];
    let tls = ServerTlsSettings { identities, offers: ServerOffer::Http, ..Default::default() };
    let tls = ListenerSettings { proxy_protocol: from("127.0.0.1/32").proxy_protocol, ..listener(&tls) };
    let behind = Upstream::honest("ok");
    let secure = TestBed::behind(tls, service("up", &[behind.address]), settings(0), Limits::default());
    // Says nothing on the first connection, and hands on the others.
    let address = secure.address;
    let upstream = Upstream::new(move |number, peer| {
        let mut client = peer.client.stream.try_clone().unwrap();
        if number == 0 {
            let _ = std::io::copy(&mut client, &mut std::io::sink());
            return;
        }
        let mut server = TcpStream::connect(address).unwrap();
        let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let _ = std::io::copy(&mut client, &mut server);
    });
    let proved = ClientTlsSettings {
        roots: vec![authority.der()],
        server_name: Some("upstream.test".to_owned()),
        ..Default::default()
    };
    let mut one = tls_service(&secure, proved);
    one.endpoints[0].port = upstream.address.port();
    let one = ServiceSettings { proxy_protocol: true, protocol: Protocol::Http2, ..one };
    let timeouts = Timeouts { connect: 3 * PATIENCE, ..Timeouts::default() };
    let settings = ForwardSettings { timeouts, ..settings(0) };
    let testbed = TestBed::behind(from("127.0.0.1/32"), one, settings, Limits::default());
    let mut hanging = connect(&testbed, "192.0.2.7:1111");
    hanging.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    until("the first connection", || upstream.connections() == 1);
    assert_eq!(connect(&testbed, "192.0.2.8:2222").get("/").status, 200);
}

#[test]
fn a_sender_without_a_header_is_cut_and_a_header_of_anybody_else_is_no_request() {
    let upstream = Upstream::honest("ok");
    let one = || service("test", &[upstream.address]);
    let testbed = TestBed::behind(from("127.0.0.1/32"), one(), settings(0), Limits::default());
    let mut client = testbed.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(client.head().is_none(), "no header, no answer");
    let mut local = Vec::new();
    write(None, &mut local);
    let mut client = testbed.client();
    client.send(local);
    assert_eq!(client.get("/").status, 200, "the sender's own health check");

    // Somebody who is not a sender may not say who he is.
    let testbed = TestBed::behind(from("192.0.2.0/24"), one(), settings(0), Limits::default());
    assert_eq!(testbed.get("/").status, 200);
    let mut forger = connect(&testbed, "10.0.0.1:1");
    forger.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(forger.head().is_none_or(|head| head.starts_with("HTTP/1.1 400")));
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for_without_end() {
    let upstream = Upstream::honest("ok");
    let most = Duration::from_millis(200);
    let limits = Limits { handshake_ms_max: most, ..Limits::default() };
    let testbed =
        TestBed::behind(from("127.0.0.1/32"), service("test", &[upstream.address]), settings(0), limits);
    let mut silent: TcpStream = testbed.client().stream;
    silent.write_all(b"\r\n\r\n\0\r\nQUIT\n").unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0);
    // One that is held up for as long comes again.
    let served = || (connect(&testbed, "192.0.2.7:1111").status("/")? == 200).then_some(());
    undisturbed("header in time", most, served);
}

#[test]
fn connections_are_counted_for_the_address_that_the_header_names() {
    let upstream = Upstream::honest("ok");
    let limits = Limits { connections_per_address_max: 1, ..Limits::default() };
    let testbed =
        TestBed::behind(from("127.0.0.1/32"), service("test", &[upstream.address]), settings(0), limits);
    let mut first = connect(&testbed, "192.0.2.7:1111");
    assert_eq!(first.get("/").status, 200);
    let mut second = connect(&testbed, "192.0.2.7:2222");
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(second.head().is_none(), "one past the limit of this address");
    assert_eq!(connect(&testbed, "192.0.2.8:1111").get("/").status, 200, "another address");
}

/// A test bed with several services and one route.
fn shared(upstreams: &[&Upstream], settings: ForwardSettings) -> (TestBed, Arc<proxy::Upstreams>) {
    let services = upstreams.iter().enumerate().map(|(n, u)| service(&format!("s{n}"), &[u.address]));
    let routes = vec![TestRoute { path: "/**", settings }];
    let world =
        TestWorld::new(vec![cleartext(anywhere())], services.collect(), routes, Limits::default(), None);
    let shared = Arc::clone(&world.upstreams);
    (TestBed::start(world, Arc::default()), shared)
}

#[test]
fn requests_are_shared_out_by_weight_and_those_with_a_field_go_where_it_says() {
    let [old, new, beta] = ["old", "new", "beta"].map(Upstream::honest);
    let split = |service, weight| Split { service, weight, headers: Vec::new() };
    let field = |name: &'static str| vec![(Bytes::from_static(name.as_bytes()), Bytes::from_static(b"yes"))];
    let splits = vec![split(0, 9), split(1, 1), Split { headers: field("x-beta"), ..split(2, 0) }];
    let (testbed, _) = shared(&[&old, &new, &beta], ForwardSettings { splits, ..settings(0) });
    let mut client = testbed.client();
    (0..200).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(beta.requests(), 0);
    assert!((5..50).contains(&new.requests()), "{}", new.requests());
    assert_eq!(old.requests() + new.requests(), 200);
    for (value, text) in [("yes", "beta"), ("no", "")] {
        for _ in 0..5 {
            client.send(format!("GET / HTTP/1.1\r\nhost: test\r\nx-beta: {value}\r\n\r\n"));
            let found = client.reply().text();
            assert_eq!(found == "beta", text == "beta", "{value}: {found}");
        }
    }
}

#[test]
fn a_mirror_gets_what_the_service_got_and_its_answer_goes_nowhere() {
    let (service, shadow) = (Upstream::honest("real"), Upstream::honest("SHADOW"));
    let mirror = Some(Mirror { service: 1, percent: 100 });
    let (testbed, state) = shared(&[&service, &shadow], ForwardSettings { mirror, ..settings(0) });
    let mut client = testbed.client();
    for (number, request) in (1..).zip([
        "GET /a?b=1 HTTP/1.1\r\nhost: test\r\nx-mine: 1\r\n\r\n",
        "POST /b HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello",
        "PUT /c HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ]) {
        let before = shadow.requests();
        client.send(request);
        assert_eq!(client.reply().text(), "real");
        until("the copy", || shadow.requests() == before + 1);
        assert_eq!(shadow.last(), service.last());
        // Before the next one, for whose copy its connection is used again.
        until("its end", || state.services()[1].guard.mirrors.totals() == [number, 0, 0]);
    }
    assert_eq!(shadow.connections(), 1, "used again");

    // Too large to be kept: the service gets it, the mirror does not.
    client.send("POST /large HTTP/1.1\r\nhost: test\r\ncontent-length: 70000\r\n\r\n");
    client.send(vec![b'x'; 70_000]);
    assert_eq!(client.reply().text(), "real");
    until("it to be left out", || state.services()[1].guard.mirrors.totals() == [3, 0, 1]);
    assert_eq!(shadow.requests(), 3);
}

#[test]
fn a_mirror_that_hangs_or_is_gone_changes_nothing_and_copies_are_bounded() {
    let service = Upstream::honest("real");
    let hanging = Upstream::new(|_, peer| {
        peer.request();
        peer.client.is_closed();
    });
    let mirror = Some(Mirror { service: 1, percent: 100 });
    let timeouts = Timeouts { total: Duration::from_secs(300), ..Timeouts::default() };
    undisturbed("requests while the first copies are under way", MIRROR_TIME_MAX, || {
        let settings = ForwardSettings { mirror, timeouts, ..settings(0) };
        let (testbed, state) = shared(&[&service, &hanging], settings);
        let (begun, before) = (Instant::now(), hanging.requests());
        let mut client = testbed.client();
        (0..120).for_each(|_| assert_eq!(client.get("/").text(), "real"));
        let totals = state.services()[1].guard.mirrors.totals();
        if begun.elapsed() >= MIRROR_TIME_MAX {
            return None;
        }
        // A hundred are under way; the others were left out.
        assert_eq!(totals, [0, 0, 20]);
        assert!(hanging.requests() - before <= 100);
        Some(())
    });
}

#[test]
fn a_share_of_the_requests_is_mirrored() {
    let (service, shadow) = (Upstream::honest("real"), Upstream::honest("SHADOW"));
    let mirror = Some(Mirror { service: 1, percent: 10 });
    let (testbed, state) = shared(&[&service, &shadow], ForwardSettings { mirror, ..settings(0) });
    let mut client = testbed.client();
    (0..300).for_each(|_| assert_eq!(client.get("/").text(), "real"));
    let copies = || state.services()[1].guard.mirrors.totals();
    until("copies", || copies()[0] >= 10);
    assert!(copies()[0] < 70 && copies()[2] == 0, "{:?}", copies());
}

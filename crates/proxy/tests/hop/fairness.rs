//! No network of clients keeps the others from a service, however it goes about it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use proxy::Limits;
use proxy::upstream::{ConnectionLimits, ForwardSettings, ServiceSettings, Timeouts};

use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{Client, PATIENCE, TestBed, Upstream, anywhere, wait_for};

pub const STALLED: Duration = Duration::from_millis(200);
const CONNECTIONS: u32 = 4;
const WAITING_MAX: u32 = 128;
/// On each of its connections, of an attacker.
const STREAMS: usize = 100;
const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const HONEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));
/// More than all buffers between two sockets of this machine take.
const MUCH: usize = 16 << 20;

/// An upstream that reads requests whole, and answers `/much` with much.
fn upstream() -> Upstream {
    let much = "x".repeat(MUCH);
    Upstream::new(move |_, peer| {
        while let Some(request) = peer.request() {
            let body = if request.head.contains("/much") { &much } else { "ok" };
            peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        }
    })
}

/// A service that can be taken whole, and how many connections to it are open.
fn testbed(limits: Limits) -> (TestBed, impl Fn() -> u32) {
    let connection_limits = ConnectionLimits { connections_max: 0, waiting_max: WAITING_MAX };
    let behind = upstream();
    let service = ServiceSettings {
        connections_per_core_max: CONNECTIONS,
        connection_limits,
        ..service("test", &[behind.address])
    };
    // Much longer than anybody may keep a connection, and shorter than all who wait take in turn.
    let timeouts = Timeouts { connect: Duration::from_secs(5), ..Timeouts::default() };
    let routes = vec![TestRoute { path: "/**", settings: ForwardSettings { timeouts, ..settings(0) } }];
    let world = TestWorld::new(vec![cleartext(anywhere())], vec![service], routes, limits, None);
    let upstreams = Arc::clone(&world.upstreams);
    let open = move || upstreams.services()[0].endpoints[0].limiter.open();
    (TestBed::reporting(world), open)
}

fn limits() -> Limits {
    Limits { stalled_ms_max: STALLED, ..Limits::default() }
}

pub fn hits(testbed: &TestBed, name: &str) -> u64 {
    let totals = testbed.cores.as_ref().unwrap().totals_reader();
    totals.limit_hits().iter().find(|(row, _)| row.name == name).map(|(_, count)| count).unwrap()
}

pub async fn connect(address: SocketAddr, from: IpAddr) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    socket.connect(address).await.unwrap()
}

/// How an attacker keeps a connection to the service.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The rest of a body comes never.
    Silent,
    /// It comes byte by byte.
    Trickling,
    /// The answer is not read.
    Unread,
}

/// Keeps one stream as busy as the hop allows, and opens it again when it is ended.
async fn attack(send: SendRequest<Bytes>, way: Way) {
    loop {
        let Ok(mut send) = send.clone().ready().await else { return };
        let unread = matches!(way, Way::Unread);
        let request = match way {
            Way::Unread => Request::get("http://test/much").body(()),
            _ => Request::post("http://test/").header("content-length", "100000").body(()),
        };
        let Ok((answer, mut body)) = send.send_request(request.unwrap(), unread) else { return };
        let pushing = async {
            let pause = if matches!(way, Way::Trickling) { STALLED / 10 } else { PATIENCE };
            loop {
                // Where there is no body, it is over.
                let _ = body.send_data(Bytes::from_static(b"x"), false);
                tokio::time::sleep(pause).await;
            }
        };
        let ended = async {
            let Ok(answer) = answer.await else { return };
            let _ = answer.into_body().data().await;
        };
        tokio::select! {
            () = pushing => {}
            () = ended => {}
        }
        // Who is refused at once does not turn the test into a race for the processor.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Two connections of one network with all their streams, for as long as this is there.
fn flood(address: SocketAddr, way: Way) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for _ in 0..2 {
        runtime.block_on(async {
            let socket = connect(address, ATTACKER).await;
            let window = if matches!(way, Way::Unread) { 0 } else { 65_535 };
            let builder = h2::client::Builder::new().initial_window_size(window).handshake(socket).await;
            let (send, connection) = builder.unwrap();
            tokio::spawn(connection);
            for _ in 0..STREAMS {
                tokio::spawn(attack(send.clone(), way));
            }
        });
    }
    runtime
}

#[test]
fn one_network_that_stalls_all_it_can_does_not_keep_others_from_a_service() {
    for way in [Way::Silent, Way::Trickling, Way::Unread] {
        let (testbed, open) = testbed(limits());
        let attackers = flood(testbed.address, way);
        wait_for(|| open() == CONNECTIONS);
        for number in 0..8 {
            let mut honest = testbed.client_from(HONEST);
            assert_eq!(honest.status("/"), Some(200), "{way:?} {number}");
        }
        assert!(hits(&testbed, "stalled_ms_max") > 0, "{way:?}");
        attackers.shutdown_background();
    }
}

/// Clients of one network that owe their bodies, as many as there are connections.
fn stalling(testbed: &TestBed, open: impl Fn() -> u32) -> Vec<Client> {
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| testbed.client_from(ATTACKER)).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 20000\r\n\r\nhalf");
    }
    wait_for(|| open() == CONNECTIONS);
    clients
}

#[test]
fn who_stalls_is_told_408_and_only_as_many_as_others_need() {
    let (testbed, open) = testbed(limits());
    let mut slow = stalling(&testbed, open);
    assert_eq!(testbed.client_from(HONEST).status("/"), Some(200));
    assert_eq!(hits(&testbed, "stalled_ms_max"), 1);
    // The others end as if nothing had been.
    let statuses: Vec<u16> = slow
        .iter_mut()
        .map(|client| {
            client.send("x".repeat(20_000 - 4));
            client.reply().status
        })
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 408).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
}

#[test]
fn nobody_is_ended_for_those_of_its_own_network_or_where_nobody_waits() {
    let (testbed, open) = testbed(limits());
    let mut slow = stalling(&testbed, open);
    std::thread::sleep(2 * STALLED);
    let mut waits = testbed.client_from(ATTACKER);
    waits.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    std::thread::sleep(2 * STALLED);
    for client in &mut slow {
        client.send("x".repeat(20_000 - 4));
        assert_eq!(client.reply().status, 200);
    }
    assert_eq!(waits.reply().status, 200);
    assert_eq!(hits(&testbed, "stalled_ms_max"), 0);
}

#[test]
fn a_short_body_has_no_connection_before_it_is_whole() {
    // Nobody is ended here.
    let (testbed, open) = testbed(Limits { stalled_ms_max: PATIENCE, ..Limits::default() });
    let post = |length: usize| {
        let mut client = testbed.client_from(ATTACKER);
        client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\nbegin"));
        client
    };
    let mut short: Vec<_> = (0..2 * CONNECTIONS).map(|_| post(16 * 1024)).collect();
    assert_eq!(testbed.client_from(HONEST).status("/"), Some(200));
    assert_eq!(open(), 1);
    // One byte more is sent on as it comes.
    let mut longer = [post(16 * 1024 + 1), post(16 * 1024 + 1)];
    wait_for(|| open() == 2);
    for (client, length) in
        short.iter_mut().map(|one| (one, 16 * 1024)).chain(longer.iter_mut().map(|one| (one, 16 * 1024 + 1)))
    {
        client.send("x".repeat(length - 5));
        assert_eq!(client.reply().status, 200);
    }
}

#[test]
fn short_bodies_that_are_waited_for_count_as_held() {
    let limits = Limits { held_bytes_per_address_max: 4 * 1024, ..Limits::default() };
    let (testbed, _) = testbed(limits);
    let begin = |from: IpAddr| {
        let mut client = testbed.client_from(from);
        client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nbegin");
        client
    };
    let mut first = begin(ATTACKER);
    // Which of the two came first is not known.
    let mut second = begin(ATTACKER);
    wait_for(|| hits(&testbed, "held_bytes_per_address_max") == 1);
    let mut other = begin(HONEST);
    other.send("more");
    assert_eq!(other.reply().status, 200);
    for client in [&mut first, &mut second] {
        client.send("more");
    }
    let mut statuses = [first.reply().status, second.reply().status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
}

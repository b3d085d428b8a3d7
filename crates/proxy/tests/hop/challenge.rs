//! TLS-ALPN-01 (RFC 8737) on a listener, and listeners that have no certificate for every
//! name.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use proxy::challenge::Challenges;
use proxy::tls::{ClientCertificates, Identity, ServerTls, ServerTlsSettings};
use proxy::{Limits, ListenerSettings};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{service, settings};
use crate::testbed::{PATIENCE, Steady, TestBed, Upstream, anywhere};
use crate::tls::Authority;

fn testbed(tls: ServerTls) -> (TestBed, Upstream) {
    let upstream = Upstream::honest("ok");
    let listener = ListenerSettings::new(anywhere(), Some(tls));
    let testbed =
        TestBed::behind(listener, service("test", &[upstream.address]), settings(0), Limits::default());
    (testbed, upstream)
}

/// A finished handshake: what was shown, which protocol was agreed on, and whether the
/// server then closed.
#[derive(Debug)]
struct Shaken {
    leaf: Vec<u8>,
    protocol: Vec<u8>,
    closed: bool,
}

/// A connection on which the handshake is over.
fn connect(
    address: SocketAddr,
    authority: &Authority,
    name: &str,
    protocols: &[&[u8]],
) -> Result<StreamOwned<ClientConnection, Steady>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = Steady(stream);
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| error.to_string())?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Shakes hands, and listens for so long.
fn shake(
    address: SocketAddr,
    authority: &Authority,
    name: &str,
    protocols: &[&[u8]],
    longest: Duration,
) -> Result<Shaken, String> {
    let mut client = connect(address, authority, name, protocols)?;
    client.sock.0.set_read_timeout(Some(longest)).unwrap();
    // A refusal of the client's (missing) certificate comes after its own handshake.
    let closed = match client.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
        Err(error) => return Err(error.to_string()),
    };
    let leaf = client.conn.peer_certificates().unwrap()[0].to_vec();
    let protocol = client.conn.alpn_protocol().unwrap_or_default().to_vec();
    Ok(Shaken { leaf, protocol, closed })
}

const PROOF: &[&[u8]] = &[b"acme-tls/1"];
/// So long a connection must be silent to be taken for one that goes on.
const SILENCE: Duration = Duration::from_millis(500);

#[test]
fn a_proof_is_shown_for_its_name_and_protocol_alone_and_nothing_follows() {
    let authority = Authority::new();
    let (usual, proof) = (authority.issue(&["shop.test", "api.test"]), authority.issue(&["shop.test"]));
    let challenges = Arc::new(Challenges::default());
    for client in [ClientCertificates::None, ClientCertificates::Required(vec![authority.der()])] {
        let asks = client != ClientCertificates::None;
        let identities = vec![usual.clone()];
        let tls = ServerTlsSettings {
            identities,
            client,
            offers: proxy::tls::ServerOffer::Http,
            ..Default::default()
        };
        let (testbed, _upstream) = testbed(ServerTls::build(&tls).unwrap().with_challenges(&challenges));
        let refused = |name: &str, protocols: &[&[u8]]| {
            shake(testbed.address, &authority, name, protocols, PATIENCE).unwrap_err()
        };
        assert!(refused("shop.test", PROOF).contains("NoApplicationProtocol"));
        let offered = challenges.offer_tls("SHOP.test", proof.clone()).unwrap();
        let shown = shake(testbed.address, &authority, "shop.test", PROOF, PATIENCE).unwrap();
        assert_eq!((&shown.leaf[..], &shown.protocol[..]), (&proof.chain[0][..], PROOF[0]));
        assert!(shown.closed, "the connection goes on after the proof");
        // Nobody ordered for this name.
        assert!(refused("api.test", PROOF).contains("NoApplicationProtocol"));
        // Whoever speaks another protocol besides is a client like any other.
        for protocols in [&[b"h2", PROOF[0]][..], &[PROOF[0], b"h2"], &[b"h2"], &[b"http/1.1"], &[]] {
            let longest = if asks { PATIENCE } else { SILENCE };
            match shake(testbed.address, &authority, "shop.test", protocols, longest) {
                Ok(shown) => {
                    assert!(!asks);
                    assert_eq!(shown.leaf, &usual.chain[0][..], "{protocols:?}");
                    assert!(shown.protocol != PROOF[0] && !shown.closed, "{protocols:?}: {shown:?}");
                }
                Err(error) => {
                    assert!(asks && error.contains("CertificateRequired"), "{protocols:?}: {error}")
                }
            }
        }
        drop(offered);
        assert!(refused("shop.test", PROOF).contains("NoApplicationProtocol"));
    }
}

/// Asks on a connection; `true`: served.
fn is_served(client: &mut StreamOwned<ClientConnection, Steady>) -> bool {
    client.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while !answer.ends_with(b"ok") {
        match client.read(&mut piece).unwrap() {
            0 => return false,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    answer.starts_with(b"HTTP/1.1 200 ")
}

#[test]
fn proofs_that_come_go_and_are_looked_at_all_the_time_disturb_nobody() {
    let authority = Authority::new();
    let (usual, proof) = (authority.issue(&["shop.test"]), authority.issue(&["shop.test"]));
    let challenges = Arc::new(Challenges::default());
    let tls = ServerTlsSettings { identities: vec![usual], ..Default::default() };
    let (testbed, _upstream) = testbed(ServerTls::build(&tls).unwrap().with_challenges(&challenges));
    let (address, stop, all) = (testbed.address, AtomicBool::new(false), AtomicUsize::new(0));
    let looked: u32 = std::thread::scope(|scope| {
        let _offered = challenges.offer_tls("shop.test", proof.clone()).unwrap();
        let look = || {
            let mut looked = 0;
            // Bounded, for when what stops them panics.
            while !stop.load(Ordering::Relaxed) && looked < 5_000 {
                assert!(shake(address, &authority, "shop.test", PROOF, PATIENCE).unwrap().closed);
                looked += 1;
                all.fetch_add(1, Ordering::Relaxed);
            }
            looked
        };
        let lookers: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
        let mut kept = connect(address, &authority, "shop.test", &[]).unwrap();
        for number in 0.. {
            // Those who panic look no more.
            let is_over =
                all.load(Ordering::Relaxed) > 20 || lookers.iter().all(|looker| looker.is_finished());
            if number >= 200 && is_over {
                break;
            }
            drop(challenges.offer_tls("api.test", proof.clone()).unwrap());
            assert!(is_served(&mut kept), "request {number} of a connection that was there before");
            if number % 10 == 0 {
                let mut new = connect(address, &authority, "shop.test", &[]).unwrap();
                assert!(is_served(&mut new), "a new connection at {number}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        lookers.into_iter().map(|looker| looker.join().unwrap()).sum()
    });
    assert!(looked > 20, "{looked} handshakes beside them");
}

#[test]
fn with_strict_names_nobody_is_shown_another_names_certificate() {
    let authority = Authority::new();
    let shop = authority.issue(&["shop.test", "*.wild.test"]);
    let strict = |identities: Vec<Identity>| {
        testbed(
            ServerTls::build(&ServerTlsSettings { identities, strict_names: true, ..Default::default() })
                .unwrap(),
        )
    };
    let (testbed, _upstream) = strict(vec![shop.clone()]);
    for (name, served) in
        [("shop.test", true), ("a.wild.test", true), ("other.test", false), ("127.0.0.1", false)]
    {
        let shaken = shake(testbed.address, &authority, name, &[], SILENCE);
        assert_eq!(shaken.is_ok(), served, "{name}: {shaken:?}");
        if let Err(error) = shaken {
            assert!(error.contains("AccessDenied"), "{name}: {error}");
        }
    }
    // Before there is any certificate the listener is there and refuses.
    let (empty, _upstream) = strict(Vec::new());
    let refused = shake(empty.address, &authority, "shop.test", &[], PATIENCE).unwrap_err();
    assert!(refused.contains("AccessDenied"), "{refused}");
    let lax = ServerTlsSettings::default();
    assert!(ServerTls::build(&lax).is_err());
}

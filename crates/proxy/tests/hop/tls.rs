//! TLS on both sides, with rustls as the client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use proxy::tls::{
    ClientCertificates, ClientTls, ClientTlsSettings, Identity, ServerTls, ServerTlsSettings, TlsVersion,
};
use proxy::upstream::{EndpointSettings, ServiceSettings};
use proxy::{Limits, ListenerSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{TestRoute, TestWorld, service, settings};
use crate::testbed::{PATIENCE, Steady, TestBed, Upstream, anywhere, undisturbed, wait_for};

/// A certificate authority.
pub struct Authority(pub CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn issue(&self, names: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Identity { chain: vec![certificate.der().clone()], key }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }
}

pub fn listener(tls: &ServerTlsSettings) -> ListenerSettings {
    let tls = Some(ServerTls::build(tls).unwrap());
    ListenerSettings::new(anywhere(), tls)
}

fn testbed(tls: &ServerTlsSettings) -> (TestBed, Upstream) {
    let upstream = Upstream::honest("ok");
    let testbed =
        TestBed::behind(listener(tls), service("test", &[upstream.address]), settings(0), Limits::default());
    (testbed, upstream)
}

type TlsClient = StreamOwned<ClientConnection, Steady>;

fn connect(
    address: SocketAddr,
    authority: &Authority,
    name: &str,
    identity: Option<&Identity>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsClient {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), Steady(stream))
}

/// The status of a request, or why there was none.
fn get(client: &mut TlsClient, host: &str) -> Result<u16, String> {
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    client.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    // A small answer comes in one piece.
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
        match client.read(&mut chunk) {
            Ok(0) => return Err("closed".to_owned()),
            Ok(count) => seen.extend_from_slice(&chunk[..count]),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(str::from_utf8(&seen[9..12]).unwrap().parse().unwrap())
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

#[test]
fn the_certificate_follows_the_name() {
    let authority = Authority::new();
    let identities = vec![
        authority.issue(&["default.test"]),
        authority.issue(&["shop.test", "*.wild.test"]),
        authority.issue(&["a.wild.test"]),
    ];
    let leaves: Vec<_> = identities.iter().map(|identity| identity.chain[0].clone()).collect();
    let (testbed, _upstream) = testbed(&ServerTlsSettings { identities, ..Default::default() });
    let table = [
        ("default.test", 0, true),
        ("shop.test", 1, true),
        ("SHOP.test", 1, true),
        ("b.wild.test", 1, true),
        ("a.wild.test", 2, true),
        // No certificate fits: the first is shown, and the client refuses it.
        ("other.test", 0, false),
        ("a.b.wild.test", 0, false),
        ("wild.test", 0, false),
    ];
    for (name, shown, accepted) in table {
        let mut client = connect(testbed.address, &authority, name, None, BOTH);
        let result = get(&mut client, "test");
        assert_eq!(result.is_ok(), accepted, "{name}: {result:?}");
        if accepted {
            assert_eq!(client.conn.peer_certificates().unwrap()[0], leaves[shown], "{name}");
        }
    }
}

#[test]
fn the_handshake_is_hybrid_post_quantum_and_old_versions_can_be_refused() {
    let authority = Authority::new();
    let identities = vec![authority.issue(&["test"])];
    let (testbed, _upstream) =
        testbed(&ServerTlsSettings { identities: identities.clone(), ..Default::default() });
    let mut client = connect(testbed.address, &authority, "test", None, BOTH);
    assert_eq!(get(&mut client, "test"), Ok(200));
    let group = client.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    let mut old = connect(testbed.address, &authority, "test", None, &[&rustls::version::TLS12]);
    assert_eq!(get(&mut old, "test"), Ok(200));

    let version_min = TlsVersion::Tls13;
    let (strict, _upstream) =
        self::testbed(&ServerTlsSettings { identities, version_min, ..Default::default() });
    let mut old = connect(strict.address, &authority, "test", None, &[&rustls::version::TLS12]);
    assert!(get(&mut old, "test").is_err());
}

#[test]
fn client_certificates_are_asked_for_and_verified() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (member, stranger) = (clients.issue(&["client"]), strangers.issue(&["client"]));
    let roots = vec![clients.der()];
    let table = [
        ("required", ClientCertificates::Required(roots.clone()), [true, false, false]),
        ("optional", ClientCertificates::Optional(roots), [true, true, false]),
        ("none", ClientCertificates::None, [true, true, true]),
    ];
    for (name, client, expected) in table {
        let identities = vec![authority.issue(&["test"])];
        let (testbed, _upstream) = testbed(&ServerTlsSettings { identities, client, ..Default::default() });
        for (identity, expected) in [Some(&member), None, Some(&stranger)].into_iter().zip(expected) {
            for versions in [BOTH, &[&rustls::version::TLS12]] {
                let mut connection = connect(testbed.address, &authority, "test", identity, versions);
                let result = get(&mut connection, "test");
                assert_eq!(result.is_ok(), expected, "{name}: {result:?}");
            }
        }
    }
}

#[test]
fn plain_http_where_tls_is_spoken_is_told_so_and_reaches_nobody() {
    let authority = Authority::new();
    let roots = ClientCertificates::Optional(vec![authority.der()]);
    for (client, is_told) in [(ClientCertificates::None, true), (roots, false)] {
        let identities = vec![authority.issue(&["test"])];
        let (testbed, upstream) = testbed(&ServerTlsSettings { identities, client, ..Default::default() });
        for request in ["GET / HTTP/1.1\r\nhost: test\r\n\r\n", "P"] {
            let mut stream = TcpStream::connect(testbed.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut told = Vec::new();
            let _ = stream.read_to_end(&mut told);
            let told = String::from_utf8_lossy(&told).into_owned();
            let is_answer = told.starts_with("HTTP/1.1 400 ") && told.contains("use https://");
            assert_eq!(is_answer, is_told, "{request:?}: {told:?}");
        }
        wait_for(|| testbed.cores.as_ref().unwrap().totals().handshakes_failed == 2);
        assert_eq!(upstream.requests(), 0);
        assert_eq!(get(&mut connect(testbed.address, &authority, "test", None, BOTH), "test"), Ok(200));
    }
}

#[test]
fn each_client_that_is_refused_for_its_certificate_is_told_of_and_no_other() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (member, stranger) = (clients.issue(&["client"]), strangers.issue(&["client"]));
    let upstream = Upstream::honest("ok");
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let testbed = |client: ClientCertificates| {
        let identities = vec![authority.issue(&["test"])];
        let listener = listener(&ServerTlsSettings { identities, client, ..Default::default() });
        let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
        let services = vec![service("test", &[upstream.address])];
        let mut world = TestWorld::new(vec![listener], services, routes, Limits::default(), None);
        let reasons = Arc::clone(&told);
        world.refused_handshake =
            Some(Arc::new(move |reason| reasons.lock().unwrap().push(reason.to_owned())));
        TestBed::start(world, Arc::default())
    };
    let asks = testbed(ClientCertificates::Required(vec![clients.der()]));
    let failed = |testbed: &TestBed, count| {
        wait_for(|| testbed.cores.as_ref().unwrap().totals().handshakes_failed == count);
        testbed.cores.as_ref().unwrap().totals().handshakes_refused
    };
    let mut honest = connect(asks.address, &authority, "test", Some(&member), BOTH);
    assert_eq!(get(&mut honest, "test"), Ok(200));
    assert_eq!(failed(&asks, 0), (0, 0));
    for (count, identity, expected) in
        [(1, None, "peer sent no certificates"), (2, Some(&stranger), "invalid peer certificate")]
    {
        assert!(get(&mut connect(asks.address, &authority, "test", identity, BOTH), "test").is_err());
        assert_eq!(failed(&asks, count), (count, 0));
        let last = told.lock().unwrap().last().cloned().unwrap_or_default();
        assert!(last.contains(expected), "{last}");
    }
    TcpStream::connect(asks.address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(failed(&asks, 3), (3, 0), "who speaks no TLS is refused too");
    // Who goes away, or does not trust us, was not refused.
    drop(TcpStream::connect(asks.address).unwrap());
    assert_eq!(failed(&asks, 4), (3, 0));
    assert!(get(&mut connect(asks.address, &strangers, "test", Some(&member), BOTH), "test").is_err());
    assert_eq!(failed(&asks, 5), (3, 0));
    // Where nobody is asked for a certificate, nobody is refused for it.
    let open = testbed(ClientCertificates::None);
    TcpStream::connect(open.address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(failed(&open, 1), (0, 0));
    assert_eq!(told.lock().unwrap().len(), 3);
}

#[test]
fn a_certificate_shown_to_one_name_is_not_used_for_another() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let identities = vec![authority.issue(&["a.test", "b.test"])];
    let member = clients.issue(&["client"]);
    let asking = ServerTlsSettings {
        identities: identities.clone(),
        client: ClientCertificates::Optional(vec![clients.der()]),
        ..Default::default()
    };
    let plain = ServerTlsSettings { identities, ..Default::default() };
    for (settings, other) in [(asking, 421), (plain, 200)] {
        let (testbed, _upstream) = testbed(&settings);
        let mut client = connect(testbed.address, &authority, "a.test", Some(&member), BOTH);
        assert_eq!(get(&mut client, "A.test"), Ok(200));
        assert_eq!(get(&mut client, "b.test"), Ok(other));
    }
}

#[test]
fn a_new_certificate_is_used_without_closing_anything() {
    let authority = Authority::new();
    let upstream = Upstream::honest("ok");
    let address = anywhere();
    let world = |identity: Identity| {
        let identities = vec![identity];
        let tls = ServerTls::build(&ServerTlsSettings { identities, ..Default::default() }).unwrap();
        let listener = ListenerSettings::new(address, Some(tls));
        let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
        let services = vec![service("test", &[upstream.address])];
        TestWorld::new(vec![listener], services, routes, Limits::default(), None)
    };
    let (old, new) = (authority.issue(&["test"]), authority.issue(&["test"]));
    let mut testbed = TestBed::start(world(old.clone()), Arc::default());
    let mut before = connect(testbed.address, &authority, "test", None, BOTH);
    assert_eq!(get(&mut before, "test"), Ok(200));
    let cores = testbed.cores.as_mut().unwrap();
    testbed.runtime.block_on(cores.publish(Arc::new(world(new.clone())))).unwrap();
    let mut after = connect(testbed.address, &authority, "test", None, BOTH);
    assert_eq!(get(&mut after, "test"), Ok(200));
    assert_eq!(after.conn.peer_certificates().unwrap()[0], new.chain[0]);
    assert_eq!(get(&mut before, "test"), Ok(200), "the old connection goes on");
    assert_eq!(before.conn.peer_certificates().unwrap()[0], old.chain[0]);
}

/// A hop that serves TLS itself stands for a TLS upstream.
pub fn tls_service(upstream: &TestBed, tls: ClientTlsSettings) -> ServiceSettings {
    let endpoint = EndpointSettings {
        tls: true,
        host: "127.0.0.1".to_owned(),
        port: upstream.address.port(),
        address: None,
    };
    ServiceSettings {
        endpoints: vec![endpoint],
        tls: Some(ClientTls::build(&tls).unwrap()),
        ..service("test", &[])
    }
}

#[test]
fn an_upstream_must_prove_its_name() {
    let (authority, other, clients) = (Authority::new(), Authority::new(), Authority::new());
    let member = clients.issue(&["gateway"]);
    let (upstream, _origin) = testbed(&ServerTlsSettings {
        identities: vec![authority.issue(&["upstream.test"])],
        client: ClientCertificates::Required(vec![clients.der()]),
        offers: proxy::tls::ServerOffer::Http,
        ..Default::default()
    });
    let settings_for = |roots: &Authority, name: &str, identity: Option<&Identity>| ClientTlsSettings {
        roots: vec![roots.der()],
        identity: identity.cloned(),
        server_name: Some(name.to_owned()),
        verifier: None,
    };
    let table = [
        ("honest", settings_for(&authority, "upstream.test", Some(&member)), 200),
        ("another authority", settings_for(&other, "upstream.test", Some(&member)), 502),
        ("another name", settings_for(&authority, "other.test", Some(&member)), 502),
        ("no certificate of ours", settings_for(&authority, "upstream.test", None), 502),
        ("public authorities", ClientTlsSettings::default(), 502),
    ];
    for (name, tls, status) in table {
        for protocol in [proxy::upstream::Protocol::Auto, proxy::upstream::Protocol::Http1] {
            let mut service = tls_service(&upstream, tls.clone());
            service.protocol = protocol;
            let testbed = TestBed::with(service, settings(0), Limits::default());
            let mut client = testbed.client();
            // The upstream asks for certificates, so host and server name must agree.
            client.send("GET / HTTP/1.1\r\nhost: upstream.test\r\n\r\n");
            assert_eq!(client.reply().status, status, "{name}");
        }
    }
}

#[test]
fn curl_speaks_both_protocols_over_tls() {
    let authority = Authority::new();
    let identities = vec![authority.issue(&["localhost"])];
    let (testbed, _upstream) = testbed(&ServerTlsSettings {
        identities,
        offers: proxy::tls::ServerOffer::Http,
        ..Default::default()
    });
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let url = format!("https://127.0.0.1:{}/", testbed.address.port());
        let run = std::process::Command::new("curl")
            .args(["-sk", flag, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", &url])
            .output();
        // Without curl on this machine there is nothing to compare with.
        let Ok(output) = run else { return };
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("200 {version}"));
    }
}

#[test]
fn a_handshake_that_does_not_come_to_its_end_is_ended() {
    let authority = Authority::new();
    let identities = vec![authority.issue(&["shop.test"])];
    let upstream = Upstream::honest("ok");
    let most = std::time::Duration::from_millis(300);
    let limits = Limits { handshake_ms_max: most, ..Limits::default() };
    let tls = listener(&ServerTlsSettings { identities, ..Default::default() });
    let testbed = TestBed::behind(tls, service("test", &[upstream.address]), settings(0), limits);
    // Nothing at all, and the beginning of a ClientHello that trickles.
    let mut silent = testbed.client();
    let mut slow = testbed.client();
    slow.send([22, 3, 1, 0, 200, 1, 0, 0, 196]);
    // One that is held up for as long is ended too, and comes again.
    let mut tries = 0;
    let mut honest = undisturbed("handshake in time", most, || {
        tries += 1;
        let mut honest = connect(testbed.address, &authority, "shop.test", None, BOTH);
        (get(&mut honest, "shop.test") == Ok(200)).then_some(honest)
    });
    assert!(silent.is_closed() && slow.is_closed());
    // One that is through has no such time any more.
    assert_eq!(get(&mut honest, "shop.test"), Ok(200));
    let totals = testbed.cores.as_ref().unwrap().totals_reader();
    let hits = totals.limit_hits().iter();
    let counted: u64 = hits.filter(|(row, _)| row.name == "handshake_ms_max").map(|(_, hits)| hits).sum();
    assert!((2..=1 + tries).contains(&counted), "{counted} of {tries} tries and two that do not end");
}

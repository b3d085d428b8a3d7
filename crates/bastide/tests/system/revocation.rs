//! What is revoked ends, while it is in use: long answers, HTTP/2 streams and tunnels,
//! by token, session, subject, API key, policy, route, address and certificate. Beside
//! each stands an honest one that goes on.

use std::net::SocketAddr;
use std::time::Duration;

use bastide::demo::client::http1::Connection;
use bastide::demo::client::{ClientCertificate, Endpoint, Request, Trust, http2};
use bastide::process::clock::SystemClock;
use keys::{Algorithm, LocalSigner, SystemRandom, publish, sign_token};
use model::Clock as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::endless::endless;
use crate::handover::{Heir, ready};
use crate::support::{CONNECTIONS, PATIENCE, TestBed, Upstream, read, until, until_each_core};

/// How long silence must last to be taken for an open connection.
const SILENCE: Duration = Duration::from_millis(700);

/// Signs tokens for the test bed.
struct Issuer(LocalSigner);

impl Issuer {
    fn new(testbed: &TestBed) -> Self {
        let signer = LocalSigner::generate(Algorithm::EdDsa, &SystemRandom::new()).unwrap().0;
        std::fs::write(testbed.path("jwks.json"), publish(&[&signer])).unwrap();
        Self(signer)
    }

    /// A token that is good for `seconds`.
    fn token(&self, subject: &str, id: &str, session: &str, seconds: u64) -> String {
        let now = SystemClock::start().now().unix_seconds();
        let claims: Value = json!({
            "iss": "https://id.test", "aud": "town", "sub": subject, "jti": id, "sid": session,
            "iat": now - 5, "exp": now + seconds, "client_id": "shop",
        });
        sign_token(&self.0, "at+jwt", claims.as_object().unwrap()).unwrap()
    }
}

fn rules(upstream: SocketAddr, forbid: &str, match_: &str, deny: &str) -> String {
    format!(
        "authentication:\n  audience: town\n  issuers:\n    - issuer: https://id.test\n      jwks_file: jwks.json\n      leeway: 0s\n\
         services:\n  long: [ http://{upstream} ]\n  other: [ http://{upstream} ]\naddresses: {{ deny: [ {deny} ] }}\n\
         routes:\n  - name: long\n    match: {match_}\n    to: long\n    authenticate: [ jwt, api_key ]\n    \
         upgrades: [ websocket ]\npolicies:\n  inline: |\n    permit (principal, action, resource);\n    \
         {forbid}\n"
    )
}

/// The status that a credential gets now. Asked for no body, so that the answer has an end.
async fn status(testbed: &TestBed, credential: &str) -> std::io::Result<u16> {
    let request = Request::new("HEAD", "localhost", "/long").field("authorization", credential);
    Ok(bastide::demo::client::http1::ask(&testbed.endpoint(), &request).await?.status)
}

/// Waits until a credential is answered so by each core.
async fn answered(testbed: &TestBed, credential: &str, statuses: &[u16]) {
    until_each_core(&format!("{credential} to be answered with {statuses:?}"), async || {
        // Let in by a core that does not know yet, it may be cut as well.
        status(testbed, credential).await.is_ok_and(|status| statuses.contains(&status))
    })
    .await;
}

async fn known(testbed: &TestBed, key: &str) {
    answered(testbed, &format!("ApiKey {key}"), &[200]).await;
}

/// An exchange that was begun and does not end by itself.
pub(crate) enum Live {
    Http1(Connection),
    Http2(JoinHandle<std::io::Result<bastide::demo::client::Answer>>),
}

impl Live {
    pub(crate) async fn begin(endpoint: &Endpoint, credential: &str, how: usize) -> Self {
        if how == 2 {
            let connection = http2::Connection::open(endpoint).await.unwrap();
            let mut request = Request::new("GET", "localhost", "/long");
            request.fields.push(("authorization".to_owned(), credential.to_owned()));
            let begun = tokio::time::timeout(PATIENCE, connection.begin(&request)).await;
            let begun = begun.expect("the answer begins").unwrap();
            assert_eq!(begun.status(), 200);
            return Self::Http2(tokio::spawn(begun.rest()));
        }
        let upgrade = if how == 1 { "connection: upgrade\r\nupgrade: websocket\r\n" } else { "" };
        let mut connection = Connection::open(endpoint).await.unwrap();
        let credential =
            if credential.is_empty() { String::new() } else { format!("authorization: {credential}\r\n") };
        let head = format!("GET /long HTTP/1.1\r\nhost: localhost\r\n{credential}{upgrade}\r\n");
        connection.send(head.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        until("the answer to begin", async || {
            let (more, closed) = connection.leftovers(Duration::from_millis(50)).await;
            seen.extend(more);
            assert!(!closed, "{}", String::from_utf8_lossy(&seen));
            seen.windows(5).any(|window| window == b"hello").then_some(())
        })
        .await;
        Self::Http1(connection)
    }

    pub(crate) async fn ends(self) -> bool {
        match self {
            Self::Http1(mut connection) => {
                until("a cut", async || connection.leftovers(Duration::from_secs(1)).await.1.then_some(()))
                    .await;
                true
            }
            Self::Http2(task) => {
                let ended = tokio::time::timeout(PATIENCE, task).await.expect("a cut");
                ended.unwrap().is_err()
            }
        }
    }

    pub(crate) async fn is_open(&mut self) -> bool {
        match self {
            Self::Http1(connection) => !connection.leftovers(SILENCE).await.1,
            Self::Http2(task) => {
                tokio::time::sleep(SILENCE).await;
                !task.is_finished()
            }
        }
    }
}

/// Its name, whose exchanges it ends, how it comes, and what the log says.
type Cause<'a> = (&'a str, String, Box<dyn Fn() + 'a>, &'a str);

/// Makes an API key: its id and itself.
pub(crate) fn api_key(testbed: &TestBed, name: &str) -> (String, String) {
    let arguments = ["key", "new", "--name", name, "--owner", "ci", "--output", "json"];
    let (code, text, error) = testbed.bastide(&arguments);
    assert_eq!(code, 0, "{error}");
    let made: Value = serde_json::from_str(&text).unwrap();
    let key = made["key"].as_str().unwrap().to_owned();
    (key.split('_').nth(1).unwrap().to_owned(), key)
}

#[tokio::test]
async fn each_cause_cuts_what_it_names_and_nothing_else() {
    let upstream = endless().await.unwrap();
    let mut testbed = TestBed::prepare(&rules(upstream, "", "/**", ""));
    let issuer = Issuer::new(&testbed);
    testbed.start_gateway().await;
    let (key_id, key) = api_key(&testbed, "doomed");
    let (_, kept) = api_key(&testbed, "kept");
    known(&testbed, &key).await;
    known(&testbed, &kept).await;
    let bearer = |subject: &str, id: &str, session: &str| {
        format!("Bearer {}", issuer.token(subject, id, session, 600))
    };
    let innocents = [bearer("bob", "t9", "s9"), format!("ApiKey {kept}")];
    let mut open = Vec::new();
    for credential in &innocents {
        // On HTTP/2 one is begun beside each cause.
        for how in 0..2 {
            open.push(Live::begin(&testbed.endpoint(), credential, how).await);
        }
    }
    let forbid = "forbid (principal == User::\\\"mallory\\\", action, resource);".replace('\\', "");
    let causes: [Cause<'_>; 5] = [
        (
            "token",
            bearer("alice", "t1", "s1"),
            Box::new(|| {
                assert_eq!(testbed.bastide(&["revoke", "token", "t1"]).0, 0);
            }),
            "revoked by its token",
        ),
        (
            "session",
            bearer("alice", "t2", "s2"),
            Box::new(|| {
                assert_eq!(
                    testbed
                        .bastide(&[
                            "revoke",
                            "session",
                            "s2",
                            "--issuer",
                            "https://id.test",
                            "--expires",
                            "1h"
                        ])
                        .0,
                    0
                );
            }),
            "revoked by its session",
        ),
        (
            "subject",
            bearer("eve", "t3", "s3"),
            Box::new(|| {
                assert_eq!(testbed.bastide(&["revoke", "subject", "eve"]).0, 0);
            }),
            "revoked by its subject",
        ),
        (
            "API key",
            format!("ApiKey {key}"),
            Box::new(|| {
                assert_eq!(testbed.bastide(&["key", "revoke", &key_id]).0, 0);
            }),
            "API key",
        ),
        (
            "policy",
            bearer("mallory", "t4", "s4"),
            Box::new(|| {
                testbed.configure(&rules(upstream, &forbid, "/**", ""));
            }),
            "forbidden by",
        ),
    ];
    for (cause, credential, revoke, reason) in causes {
        let mut victims = Vec::new();
        for how in 0..3 {
            victims.push(Live::begin(&testbed.endpoint(), &credential, how).await);
        }
        let mut honest = Live::begin(&testbed.endpoint(), &innocents[0], 2).await;
        revoke();
        for (how, victim) in victims.into_iter().enumerate() {
            assert!(victim.ends().await, "{cause}, {how}: {}", testbed.log());
        }
        assert!(honest.is_open().await, "{cause}: an honest stream was cut");
        // And no new one is let in.
        answered(&testbed, &credential, &[401, 403]).await;
        until(&format!("the events of {cause}"), async || {
            let events = events(&testbed);
            let cuts = events.lines().filter(|line| line.contains("cut after the answer had begun"));
            (cuts.filter(|line| line.contains(reason)).count() == 3).then_some(())
        })
        .await;
    }
    for live in &mut open {
        assert!(live.is_open().await, "an honest one was cut: {}", testbed.log());
    }
    let metrics = String::from_utf8(testbed.admin("/metrics").await.body).unwrap();
    assert!(metrics.contains("bastide_exchanges_cut_total 15"), "{metrics}");

    // The address, and then the route: everybody goes.
    testbed.configure(&rules(upstream, "", "/**", "192.0.2.0/24"));
    for live in &mut open {
        assert!(live.is_open().await, "another address was denied");
    }
    let rest = open.split_off(2);
    testbed.configure(&rules(upstream, "", "/elsewhere", ""));
    for live in open.into_iter().chain(rest) {
        assert!(live.ends().await);
    }
}

fn events(testbed: &TestBed) -> String {
    let folder = std::fs::read_dir(testbed.path("state/audit")).into_iter().flatten().flatten();
    folder.map(|entry| read(&entry.path())).collect()
}

#[tokio::test]
async fn what_is_revoked_ends_although_its_process_drains() {
    for upgrade in [true, false] {
        let upstream = endless().await.unwrap();
        let mut testbed = TestBed::prepare(
            &(rules(upstream, "", "/**", "") + "limits: { drain_ms_max: 1h }\nworkers: 2\n"),
        );
        let issuer = Issuer::new(&testbed);
        testbed.start_gateway().await;
        let (key_id, key) = api_key(&testbed, "doomed");
        known(&testbed, &key).await;
        let bearer = |subject: &str| format!("Bearer {}", issuer.token(subject, subject, subject, 600));
        let mut victims = Vec::new();
        for how in 0..3 {
            victims.push(Live::begin(&testbed.endpoint(), &bearer("alice"), how).await);
        }
        let mut by_key = Live::begin(&testbed.endpoint(), &format!("ApiKey {key}"), 1).await;
        let mut honest = Live::begin(&testbed.endpoint(), &bearer("bob"), 1).await;
        let first = ready(&testbed).unwrap();
        testbed.gateway().signal(if upgrade { Signal::USR2 } else { Signal::TERM });
        let other = async || ready(&testbed).filter(|process| *process != first).map(Heir);
        let _heir = if upgrade { Some(until("the heir", other).await) } else { None };
        until("the drain", async || testbed.log().contains("draining, at most").then_some(())).await;
        assert!(honest.is_open().await && by_key.is_open().await, "{}", testbed.log());
        assert_eq!(testbed.bastide(&["revoke", "subject", "alice"]).0, 0);
        for (how, victim) in victims.into_iter().enumerate() {
            assert!(victim.ends().await, "upgrade: {upgrade}, {how}: {}", testbed.log());
        }
        assert!(by_key.is_open().await, "another's was cut: {}", testbed.log());
        assert_eq!(testbed.bastide(&["key", "revoke", &key_id]).0, 0);
        assert!(by_key.ends().await, "upgrade: {upgrade}: {}", testbed.log());
        assert!(honest.is_open().await, "an honest one was cut: {}", testbed.log());
    }
}

#[tokio::test]
async fn an_exchange_ends_with_its_token_and_with_its_address() {
    let upstream = endless().await.unwrap();
    let mut testbed = TestBed::prepare(&rules(upstream, "", "/**", ""));
    let issuer = Issuer::new(&testbed);
    testbed.start_gateway().await;
    // Long enough for three answers to begin.
    let brief = format!("Bearer {}", issuer.token("alice", "t1", "s1", 12));
    let long = format!("Bearer {}", issuer.token("alice", "t2", "s1", 600));
    let mut victims = Vec::new();
    for how in 0..3 {
        victims.push(Live::begin(&testbed.endpoint(), &brief, how).await);
    }
    let mut honest = Live::begin(&testbed.endpoint(), &long, 1).await;
    for victim in victims {
        assert!(victim.ends().await);
    }
    assert!(honest.is_open().await);
    testbed.configure(&rules(upstream, "", "/**", "127.0.0.0/8"));
    assert!(honest.ends().await);
}

#[tokio::test]
async fn a_body_that_is_read_ahead_does_not_outlive_its_token() {
    let upstream = Upstream::start().await;
    // The contract reads the whole body before anything is forwarded.
    let validate = "    validate: { body: any.json }\npolicies:";
    let mut testbed =
        TestBed::prepare(&rules(upstream.address, "", "/**", "").replacen("policies:", validate, 1));
    std::fs::write(testbed.path("any.json"), "{}").unwrap();
    let issuer = Issuer::new(&testbed);
    testbed.start_gateway().await;
    // One that ends while the body is on its way, and one that does not.
    for (seconds, expected) in [(3, 401), (600, 200)] {
        let before = upstream.seen();
        let mut connection = until("a token that is taken", async || {
            let ends = SystemClock::start().now().unix_seconds() + seconds;
            let mut connection = Connection::open(&testbed.endpoint()).await.unwrap();
            let token = issuer.token("alice", "t1", "s1", seconds);
            let head = format!(
                "POST /long HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
            );
            connection.send(head.as_bytes()).await.unwrap();
            // Whoever is told to go on was let in.
            let (seen, _) = connection.leftovers(Duration::from_millis(500)).await;
            seen.starts_with(b"HTTP/1.1 100 ").then_some((connection, ends))
        })
        .await;
        if expected == 401 {
            let over = async || (SystemClock::start().now().unix_seconds() > connection.1).then_some(());
            until("the end of the token", over).await;
        }
        connection.0.send(b"{}").await.unwrap();
        let answer = connection.0.answer(false).await.unwrap();
        assert_eq!(answer.status, expected, "{}", testbed.log());
        let challenge = answer.fields.iter().find(|(name, _)| name == "www-authenticate");
        assert_eq!(challenge.is_some(), expected == 401, "{:?}", answer.fields);
        assert_eq!(upstream.seen() - before, u64::from(expected == 200));
    }
}

#[tokio::test]
async fn a_revocation_list_that_cannot_be_read_changes_nothing_and_is_said() {
    let upstream = endless().await.unwrap();
    let mut testbed = TestBed::prepare(&rules(upstream, "", "/**", ""));
    let issuer = Issuer::new(&testbed);
    testbed.start_gateway().await;
    let token = format!("Bearer {}", issuer.token("alice", "t1", "s1", 600));
    assert_eq!(testbed.bastide(&["revoke", "token", "t2"]).0, 0);
    until("the list to be taken", async || {
        testbed.log().contains("the revocation list has changed").then_some(())
    })
    .await;
    let revoked = format!("Bearer {}", issuer.token("alice", "t2", "s1", 600));
    answered(&testbed, &revoked, &[401]).await;
    let mut live = Live::begin(&testbed.endpoint(), &token, 0).await;
    std::fs::write(testbed.path("state/revocations.json"), "{ \"version\": 1, \"entries\": [ {} ] }")
        .unwrap();
    until("the fault", async || testbed.log().contains("expected exactly one of token").then_some(())).await;
    assert!(live.is_open().await);
    for _ in 0..CONNECTIONS {
        assert_eq!(status(&testbed, &revoked).await.unwrap(), 401);
    }
    assert_eq!(testbed.bastide(&["revoke", "undo", "t2"]).0, 3);
}

#[tokio::test]
async fn a_key_is_revoked_although_the_configuration_on_disk_cannot_be_taken() {
    let upstream = endless().await.unwrap();
    let good = rules(upstream, "", "/**", "");
    let mut testbed = TestBed::prepare(&good);
    // The command line reads one without faults.
    std::fs::copy(testbed.path("bastide.yaml"), testbed.path("good.yaml")).unwrap();
    Issuer::new(&testbed);
    testbed.start_gateway().await;
    let (_, kept) = api_key(&testbed, "kept");
    known(&testbed, &kept).await;
    let kept = format!("ApiKey {kept}");
    let refused = async |testbed: &TestBed, is: bool| {
        let line = format!("bastide_reload_refused {}", u8::from(is));
        until(&line, async || {
            let metrics = String::from_utf8(testbed.admin("/metrics").await.body).unwrap();
            metrics.contains(&line).then_some(())
        })
        .await;
    };
    for (name, fault) in [("a-fault", "nonsense: 1\n"), ("a-restart", "workers: 7\n")] {
        let (id, key) = api_key(&testbed, name);
        known(&testbed, &key).await;
        let key = format!("ApiKey {key}");
        let victim = Live::begin(&testbed.endpoint(), &key, 0).await;
        let mut honest = Live::begin(&testbed.endpoint(), &kept, 0).await;
        testbed.configure(&format!("{good}{fault}"));
        refused(&testbed, true).await;
        assert_eq!(testbed.bastide(&["key", "revoke", "--config", "good.yaml", &id]).0, 0);
        assert!(victim.ends().await, "{name}: {}", testbed.log());
        answered(&testbed, &key, &[401]).await;
        assert!(honest.is_open().await, "{name}: an honest stream was cut: {}", testbed.log());
        testbed.configure(&good);
        refused(&testbed, false).await;
    }
}

/// Nobody has to guess how long to wait after a command, and nothing else is loaded anew for it.
#[tokio::test]
async fn what_a_command_has_changed_counts_when_it_returns() {
    let upstream = endless().await.unwrap();
    let mut testbed = TestBed::prepare(&rules(upstream, "", "/**", ""));
    let issuer = Issuer::new(&testbed);
    testbed.start_gateway().await;
    for round in 0..5 {
        let (id, key) = api_key(&testbed, &format!("key-{round}"));
        let key = format!("ApiKey {key}");
        assert_eq!(status(&testbed, &key).await.unwrap(), 200, "round {round}: {}", testbed.log());
        assert_eq!(testbed.bastide(&["key", "revoke", &id]).0, 0);
        assert_eq!(status(&testbed, &key).await.unwrap(), 401, "round {round}: {}", testbed.log());
        let token = format!("t-{round}");
        let bearer = format!("Bearer {}", issuer.token("alice", &token, "s1", 600));
        assert_eq!(testbed.bastide(&["revoke", "token", &token]).0, 0);
        assert_eq!(status(&testbed, &bearer).await.unwrap(), 401, "round {round}: {}", testbed.log());
        assert_eq!(testbed.bastide(&["revoke", "undo", &token]).0, 0);
        assert_eq!(status(&testbed, &bearer).await.unwrap(), 200, "round {round}: {}", testbed.log());
    }
    let log = testbed.log();
    assert!(log.contains("API keys were read again") && !log.contains("reloaded"), "{log}");
}

#[tokio::test]
async fn what_is_revoked_does_not_wait_for_names_that_dns_does_not_answer() {
    let upstream = endless().await.unwrap();
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let named = |name: &str| {
        let dns = format!("dns: [ \"{}\" ]\nservices:\n", silent.local_addr().unwrap());
        let services = format!("{dns}  named: [ \"http://{name}.test:1\" ]\n");
        rules(upstream, "", "/**", "").replacen("services:\n", &services, 1)
    };
    let mut testbed = TestBed::prepare(&named("first"));
    let issuer = Issuer::new(&testbed);
    testbed.start_gateway().await;
    // Until the machine lets all of it happen within the time for which a reload waits.
    let mut attempt = 0;
    until("a cut during a reload", async || {
        attempt += 1;
        let (id, name) = (format!("t{attempt}"), format!("name{attempt}"));
        let victim =
            Live::begin(&testbed.endpoint(), &format!("Bearer {}", issuer.token("alice", &id, "s1", 600)), 0)
                .await;
        let taken = || {
            let log = testbed.log();
            ["the revocation list has changed", "reloaded ("]
                .map(|line| (log.matches(line).count(), log.rfind(line)))
        };
        let [(lists, _), (reloads, _)] = taken();
        testbed.configure(&named(&name));
        until("the question", async || {
            let mut packet = [0; 512];
            let length = silent.recv(&mut packet).await.ok()?;
            let asked = packet[..length].windows(name.len()).any(|part| part == name.as_bytes());
            asked.then_some(())
        })
        .await;
        assert_eq!(testbed.bastide(&["revoke", "token", &id]).0, 0);
        assert!(victim.ends().await, "{}", testbed.log());
        until("list and reload", async || {
            let [list, reload] = taken();
            (list.0 > lists && reload.0 > reloads).then_some(list.1 < reload.1)
        })
        .await
        .then_some(())
    })
    .await;
}

/// A certificate of the file's authority with this serial number, and a list of the
/// revoked ones.
pub(crate) struct Partners {
    pub(crate) issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Partners {
    pub(crate) fn new() -> Self {
        Self::called("partners")
    }

    /// Of another name: lists are told apart by it.
    pub(crate) fn called(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self { issuer: rcgen::CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub(crate) fn issue(&self, serial: u8) -> ClientCertificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("partner-{serial}"));
        params.serial_number = Some(vec![serial].into());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        ClientCertificate { chain: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn revoke(&self, testbed: &TestBed, serials: &[u8]) {
        let now = std::time::UNIX_EPOCH + Duration::from_secs(SystemClock::start().now().unix_seconds());
        let revoked = serials.iter().map(|serial| rcgen::RevokedCertParams {
            serial_number: vec![*serial].into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = rcgen::CertificateRevocationListParams {
            this_update: (now - Duration::from_secs(60)).into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap().pem().unwrap();
        std::fs::write(testbed.path("new.crl"), list).unwrap();
        std::fs::rename(testbed.path("new.crl"), testbed.path("partners.crl")).unwrap();
    }
}

#[tokio::test]
async fn a_revoked_certificate_ends_its_connections_and_tickets() {
    let upstream = endless().await.unwrap();
    let partners = Partners::new();
    let mut testbed = TestBed::prepare("");
    let text = format!(
        "state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\nlisten:\n  - address: 127.0.0.1:0\n    tls:\n      local: true\n      \
         client: {{ ca: partners.pem, mode: required, crl: partners.crl }}\n  - address: 127.0.0.1:0\n\
         services:\n  long: [ http://{upstream} ]\nroutes:\n  - name: long\n    match: /**\n    to: long\n    \
         authenticate: mtls\n    allow: authenticated\n    upgrades: [ websocket ]\n"
    );
    std::fs::write(testbed.path("bastide.yaml"), text).unwrap();
    std::fs::write(testbed.path("partners.pem"), partners.issuer.pem()).unwrap();
    partners.revoke(&testbed, &[]);
    testbed.start_gateway().await;
    let authority = std::fs::read(testbed.path("state/ca/ca.pem")).unwrap();
    let endpoint = |serial| {
        let trust = Trust::new("localhost", &authority, Some(&partners.issue(serial))).unwrap();
        Endpoint { address: testbed.tls_address(), tls: Some(trust), from: None }
    };
    let (honest, stolen) = (endpoint(1), endpoint(2));
    let mut kept = Vec::new();
    let mut victims = Vec::new();
    for how in 0..3 {
        kept.push(Live::begin(&honest, "", how).await);
        victims.push(Live::begin(&stolen, "", how).await);
    }
    let mut idle = Connection::open(&stolen).await.unwrap();
    assert!(!idle.leftovers(Duration::from_millis(100)).await.1);
    partners.revoke(&testbed, &[2]);
    for victim in victims {
        assert!(victim.ends().await);
    }
    assert!(idle.leftovers(PATIENCE).await.1, "an idle connection stays");
    let request = Request::new("GET", "localhost", "/long");
    assert!(bastide::demo::client::http1::ask(&stolen, &request).await.is_err());
    for live in &mut kept {
        assert!(live.is_open().await, "an honest one was cut: {}", testbed.log());
    }
    kept.push(Live::begin(&honest, "", 0).await);
}

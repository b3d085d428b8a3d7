//! Files beside the configuration that cannot be used: each holds up what it is for, and nothing
//! else.

use std::time::Duration;

use bastide::demo::client::http1::{Connection, ask};
use bastide::demo::client::{ClientCertificate, Endpoint, Request, Trust};

use crate::endless::endless;
use crate::revocation::{Live, Partners};
use crate::support::{TestBed, Upstream, until, until_each_core};

/// An authority of server certificates.
struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self(rcgen::CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Writes a certificate for a name to `NAME.pem` and its key to `NAME.key`.
    fn issue(&self, testbed: &TestBed, name: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        replace(testbed, &format!("{name}.key"), &key.serialize_pem());
        replace(testbed, &format!("{name}.pem"), &certificate.pem());
    }
}

/// Writes a file, whole or not at all.
fn replace(testbed: &TestBed, name: &str, text: &str) {
    std::fs::write(testbed.path("half"), text).unwrap();
    std::fs::rename(testbed.path("half"), testbed.path(name)).unwrap();
}

/// Waits until so many files are refused.
async fn refused(testbed: &TestBed, count: u8) {
    let told = format!("bastide_files_refused {count}\n");
    until(&told, async || {
        let page = testbed.admin("/metrics").await.body;
        String::from_utf8_lossy(&page).contains(&told).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_does_not_fit_keeps_no_revoked_certificate_good() {
    let upstream = endless().await.unwrap();
    let (partners, strangers) = (Partners::new(), Partners::called("strangers"));
    let authority = Authority::new();
    let mut testbed = TestBed::prepare("");
    let text = format!(
        "state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\nlisten:\n  - address: 127.0.0.1:0\n    tls:\n      \
         certificates: [ {{ cert: localhost.pem, key: localhost.key }}, {{ cert: other.pem, key: other.key }} ]\n      \
         client: {{ ca: partners.pem, mode: required, crl: [ partners.crl, strangers.crl ] }}\n  \
         - address: 127.0.0.1:0\nservices:\n  long: [ http://{upstream} ]\nroutes:\n  - name: long\n    match: /**\n    \
         to: long\n    authenticate: mtls\n    allow: authenticated\n"
    );
    std::fs::write(testbed.path("bastide.yaml"), text).unwrap();
    for name in ["localhost", "other"] {
        authority.issue(&testbed, name);
    }
    let both = partners.issuer.pem() + &strangers.issuer.pem();
    std::fs::write(testbed.path("partners.pem"), &both).unwrap();
    strangers.revoke(&testbed, &[]);
    std::fs::rename(testbed.path("partners.crl"), testbed.path("strangers.crl")).unwrap();
    partners.revoke(&testbed, &[]);
    testbed.start_gateway().await;
    let address = testbed.tls_address();
    let endpoint = |name: &str, authority: &Authority, client: ClientCertificate| {
        let trust = Trust::new(name, authority.0.pem().as_bytes(), Some(&client)).unwrap();
        Endpoint { address, tls: Some(trust), from: None }
    };
    let [honest, stolen] = [1, 2].map(|serial| endpoint("localhost", &authority, partners.issue(serial)));
    let stranger = endpoint("localhost", &authority, strangers.issue(3));
    let mut kept = Live::begin(&honest, "", 0).await;
    let victim = Live::begin(&stolen, "", 0).await;
    let distrusted = Live::begin(&stranger, "", 0).await;

    // A renewal that went wrong, in one of two certificates.
    replace(&testbed, "localhost.key", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    refused(&testbed, 1).await;
    partners.revoke(&testbed, &[2]);
    assert!(victim.ends().await, "{}", testbed.log());
    let request = Request::new("HEAD", "localhost", "/long");
    let is_refused = async |endpoint: &Endpoint| ask(endpoint, &request).await.is_err();
    until_each_core("the revoked one to be refused", async || is_refused(&stolen).await).await;
    assert!(kept.is_open().await, "an honest one was cut: {}", testbed.log());
    assert_eq!(ask(&honest, &request).await.unwrap().status, 200, "with the certificate of before");
    // So do not authorities that are trusted no longer, though a list that is for them is broken, too.
    replace(&testbed, "strangers.crl", "half a list");
    refused(&testbed, 2).await;
    replace(&testbed, "partners.pem", &partners.issuer.pem());
    assert!(distrusted.ends().await, "{}", testbed.log());
    until_each_core("the stranger to be refused", async || is_refused(&stranger).await).await;
    // And the other certificate is renewed.
    let newer = Authority::new();
    newer.issue(&testbed, "other");
    let renewed = endpoint("other", &newer, partners.issue(4));
    let request = Request::new("HEAD", "other", "/long");
    until_each_core("the renewed certificate", async || ask(&renewed, &request).await.is_ok()).await;
    assert!(kept.is_open().await, "an honest one was cut: {}", testbed.log());
    refused(&testbed, 2).await;

    authority.issue(&testbed, "localhost");
    std::fs::copy(testbed.path("partners.crl"), testbed.path("strangers.crl")).unwrap();
    refused(&testbed, 0).await;
    until_each_core("the revoked one to be refused", async || is_refused(&stolen).await).await;
}

#[tokio::test]
async fn a_key_of_ours_that_cannot_be_read_keeps_no_authority_of_a_service_trusted() {
    let behind = Upstream::start().await;
    let upstream = TestBed::start(&format!(
        "services: {{ real: [ \"http://{}\" ] }}\nroutes: [ {{ match: /**, to: real, allow: anyone }} ]\n",
        behind.address
    ))
    .await;
    let authority = std::fs::read_to_string(upstream.path("state/ca/ca.pem")).unwrap();
    let mut testbed = TestBed::prepare(&format!(
        "services:\n  real:\n    endpoints: [ \"https://localhost:{}\" ]\n    \
         tls: {{ ca: ca.pem, client: {{ cert: ours.pem, key: ours.key }} }}\n\
         routes: [ {{ match: /**, to: real, allow: anyone }} ]\n",
        upstream.tls_address().port()
    ));
    replace(&testbed, "ca.pem", &authority);
    Authority::new().issue(&testbed, "ours");
    testbed.start_gateway().await;
    assert_eq!(testbed.get("/").await.status, 200, "{}", testbed.log());
    replace(&testbed, "ours.key", "half a key");
    refused(&testbed, 1).await;
    assert_eq!(testbed.get("/").await.status, 200, "{}", testbed.log());
    replace(&testbed, "ca.pem", &Authority::new().0.pem());
    until_each_core("the authority to be trusted no more", async || testbed.get("/").await.status == 502)
        .await;
    replace(&testbed, "ca.pem", &authority);
    until_each_core("the authority to be trusted", async || testbed.get("/").await.status == 200).await;
    refused(&testbed, 1).await;
}

#[tokio::test]
async fn files_of_a_listener_that_closes_are_missed_by_nobody() {
    let upstream = endless().await.unwrap();
    let authority = Authority::new();
    let rest = format!(
        "services: {{ long: [ \"http://{upstream}\" ] }}\n\
         routes: [ {{ name: long, match: /**, to: long, allow: anyone }} ]\n"
    );
    let with = format!(
        "  - {{ address: \"127.0.0.1:0\", tls: {{ certificates: [ {{ cert: localhost.pem, key: localhost.key }} ] }} }}\n{rest}"
    );
    let mut testbed = TestBed::prepare(&with);
    authority.issue(&testbed, "localhost");
    testbed.start_gateway().await;
    let trust = Trust::new("localhost", authority.0.pem().as_bytes(), None).unwrap();
    let mut open =
        Live::begin(&Endpoint { address: testbed.address(2), tls: Some(trust), from: None }, "", 0).await;
    testbed.configure(&rest);
    let told = |what: &str| testbed.log().matches(what).count();
    until("the reload", async || (told("reloaded (") == 1).then_some(())).await;
    for name in ["localhost.pem", "localhost.key"] {
        std::fs::remove_file(testbed.path(name)).unwrap();
    }
    // A configuration that is refused has what stands beside it read again, as a registry has.
    let read = "revocation lists were read again";
    for times in 1..=2 {
        testbed.configure(&format!("{rest}nonsense: {times}\n"));
        until("a renewal", async || (told(read) == times).then_some(())).await;
    }
    // What is missing and tried again is told of with the renewal. The second pause would be four
    // seconds long.
    assert_eq!(told("what was before stays"), 0, "{}", testbed.log());
    assert!(!open_for(&mut open, Duration::from_secs(5)).await, "it was cut: {}", testbed.log());
    refused(&testbed, 0).await;
    assert_eq!(told("what could not be had is there now"), 0, "{}", testbed.log());
    assert_eq!(told("a listener that closes stays as it was"), 1, "{}", testbed.log());
}

/// Whether it ends within this time.
async fn open_for(live: &mut Live, time: Duration) -> bool {
    let Live::Http1(connection) = live else { return true };
    let connection: &mut Connection = connection;
    connection.leftovers(time).await.1
}

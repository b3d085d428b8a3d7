//! Files beside the configuration that cannot be used: each holds up what it is for, and nothing
//! else.

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

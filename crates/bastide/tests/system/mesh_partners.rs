//! Another trust domain whose bundle is fetched: which of its bundles count, whatever its
//! endpoint comes to say later.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use mesh::Bundle;
use mesh::workload_api::Client;
use serde_json::{Value, json};

use crate::support::{TestBed, until};

/// An authority's certificate, DER.
fn anchor() -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

/// The bundle endpoint of `partner.example`: a gateway of its own, before something that says
/// whatever the test wants.
struct Partner {
    testbed: TestBed,
    says: Arc<Mutex<String>>,
}

impl Partner {
    async fn start() -> Self {
        let says: Arc<Mutex<String>> = Arc::default();
        let saying = Arc::clone(&says);
        let answer = move || {
            let document = saying.lock().unwrap().clone();
            async move { ([(CONTENT_TYPE, "application/json")], document) }
        };
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(socket, Router::new().fallback(answer)).await });
        let testbed = TestBed::start(&format!(
            "services: {{ publisher: [ \"http://{address}\" ] }}\n\
             routes: [ {{ match: /**, to: publisher, authenticate: none, allow: anyone }} ]\n"
        ))
        .await;
        Self { testbed, says }
    }

    /// What a trust domain that federates with it says of it.
    fn entry(&self) -> String {
        let (address, ca) = (self.testbed.tls_address(), self.testbed.path("state/ca/ca.pem"));
        format!("endpoint: https://{address}/\n      ca: {}", ca.display())
    }

    /// Says this from now on, and to come again after a second.
    fn say(&self, sequence: u64, anchor: &[u8]) {
        let bundle = Bundle {
            trust_domain: "partner.example".to_owned(),
            x509: vec![anchor.to_vec()],
            jwt: Vec::new(),
            sequence,
            refresh: Duration::from_secs(1),
        };
        *self.says.lock().unwrap() = bundle.to_document();
    }
}

/// What is trusted of the partner now.
async fn trusted(testbed: &TestBed) -> Option<Vec<Vec<u8>>> {
    let client = Client::connect(&testbed.path("api.sock")).await.ok()?;
    let context = client.x509().await.ok()?.next().await.ok()??;
    context.anchors.get("partner.example").cloned()
}

/// Waits until this alone is.
async fn trusts(testbed: &TestBed, anchor: &[u8]) {
    until("the bundle", async || (trusted(testbed).await? == [anchor]).then_some(())).await;
}

/// A trust domain that federates with the partner, by this entry, and with these others; `known.json`
/// is beside it.
fn shop(entry: &str, others: &str, known: &str) -> TestBed {
    let testbed = TestBed::prepare("");
    std::fs::write(testbed.path("known.json"), known).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    testbed.configure(&format!(
        "routes: []\nmesh:\n  trust_domain: shop.example\n  socket: api.sock\n  workloads:\n    \
         orders: {{ uid: {uid} }}\n  federates:\n    partner.example:\n      {entry}\n      \
         allow_private_addresses: true\n{others}"
    ));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed
}

async fn refused(testbed: &TestBed) -> u64 {
    let page = String::from_utf8(testbed.admin("/metrics").await.body).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix("bastide_mesh_outdated_bundles_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_older_bundle_of_a_partner_takes_the_place_of_no_newer_one() {
    let partner = Partner::start().await;
    let [first, older, renewed, newest] = [(); 4].map(|()| anchor());
    partner.say(5, &first);
    let mut testbed = shop(&partner.entry(), "", "");
    testbed.start_gateway().await;
    trusts(&testbed, &first).await;
    let status = |testbed: &TestBed| -> Value {
        let (code, out, err) = testbed.bastide(&["mesh", "status", "--output", "json"]);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<Value>(&out).unwrap()["partners"][0].take()
    };
    let fetched = status(&testbed);
    assert_eq!((&fetched["trust_domain"], &fetched["sequence"]), (&json!("partner.example"), &json!(5)));
    assert!(fetched["fetched_s"].is_u64() && fetched["error"].is_null(), "{fetched}");

    partner.say(4, &older);
    until("the refusal", async || (refused(&testbed).await >= 2).then_some(())).await;
    assert_eq!(trusted(&testbed).await.unwrap(), std::slice::from_ref(&first));
    let logged = async |words: &str| until(words, async || testbed.log().contains(words).then_some(())).await;
    logged("its sequence number is 4, below 5 of the bundle in use").await;
    let failed = status(&testbed);
    assert_eq!(failed["error"], "its sequence number is 4, below 5 of the bundle in use", "{failed}");
    assert!(failed["failed_s"].is_u64() && failed["fetched_s"].is_u64(), "{failed}");
    let (_, text, _) = testbed.bastide(&["mesh", "status"]);
    let line = text.lines().find(|line| line.starts_with("  partner  partner.example, bundle 5, fetched "));
    assert!(
        line.is_some_and(
            |line| line.ends_with(" s ago: its sequence number is 4, below 5 of the bundle in use")
        ),
        "{text}"
    );
    assert!(!testbed.log().contains("without a new sequence number"), "{}", testbed.log());

    // Another one of the same number is taken, and said.
    partner.say(5, &renewed);
    trusts(&testbed, &renewed).await;
    logged("without a new sequence number").await;
    partner.say(6, &newest);
    trusts(&testbed, &newest).await;

    // A restart forgets nothing of it.
    testbed.stop_gateway().await;
    let kept = status(&testbed);
    assert_eq!((&kept["sequence"], kept["fetched_s"].is_null()), (&json!(6), true), "{kept}");
    partner.say(5, &first);
    testbed.start_gateway().await;
    until("the refusal after the restart", async || (refused(&testbed).await >= 2).then_some(())).await;
    assert_eq!(trusted(&testbed).await.unwrap(), [newest]);
}

/// Proxies and agents are sent the bundles of all domains in one message.
#[tokio::test]
async fn a_bundle_for_which_the_others_leave_no_room_is_not_taken() {
    let partner = Partner::start().await;
    let jwk = |bytes: usize| json!({ "use": "jwt-svid", "kid": "a", "more": "x".repeat(bytes) });
    let small = anchor();
    partner.say(5, &small);
    let others: String =
        (0..13).map(|number| format!("    p{number}.example: {{ bundle: known.json }}\n")).collect();
    let mut testbed = shop(&partner.entry(), &others, &json!({ "keys": [jwk(240_000)] }).to_string());
    testbed.start_gateway().await;
    trusts(&testbed, &small).await;

    *partner.says.lock().unwrap() =
        json!({ "keys": [jwk(100_000)], "spiffe_sequence": 6, "spiffe_refresh_hint": 1 }).to_string();
    until("the refusal", async || testbed.log().contains("all together have at most 3145728").then_some(()))
        .await;
    trusts(&testbed, &small).await;
}

/// Two Bastides: one publishes its bundle under its SPIFFE ID, the other fetches it.
#[tokio::test]
async fn a_bundle_is_fetched_by_the_spiffe_id_of_its_endpoint_without_a_certificate_of_one_s_own() {
    let mut partner = TestBed::prepare("");
    partner.configure(
        "  - { address: 127.0.0.1:0, to: bundle, tls: { mesh: true } }\n  \
         - { address: 127.0.0.1:0, tls: { mesh: true } }\n\
         mesh: partner.example\nroutes:\n\
         - { match: /bundle, to: bundle, authenticate: none, allow: anyone }\n\
         - { match: /hello, respond: { status: 200 }, authenticate: none, allow: anyone }\n",
    );
    let (code, out, err) = partner.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    partner.start_gateway().await;
    let ask = |listener: usize, path: &str| {
        let url = format!("https://{}{path}", partner.address(listener));
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{http_code}", &url]);
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    // There, and nothing else; at other listeners of the mesh nobody gets without a certificate.
    for (listener, path, status) in
        [(2, "/bundle", "200"), (2, "/hello", "421"), (3, "/bundle", "000"), (3, "/hello", "000")]
    {
        assert_eq!(ask(listener, path), status, "{listener} {path}: {}", partner.log());
    }
    let (code, known, err) = partner.bastide(&["mesh", "bundle"]);
    assert_eq!(code, 0, "{err}");
    let anchors = |document: &str| Bundle::parse("partner.example", document.as_bytes()).unwrap().x509;
    let (code, out, err) = partner.bastide(&["mesh", "prepare"]);
    assert_eq!(code, 0, "{out}{err}");
    let (_, prepared, _) = partner.bastide(&["mesh", "bundle"]);
    assert_ne!(anchors(&prepared), anchors(&known));

    for (id, trusted_then) in [("gateway", &prepared), ("other", &known)] {
        let mut testbed = shop(
            &format!(
                "endpoint: https://{}/bundle\n      endpoint_id: spiffe://partner.example/{id}\n      bundle: known.json",
                partner.address(2)
            ),
            "",
            &known,
        );
        testbed.start_gateway().await;
        if id == "other" {
            until("the refusal", async || testbed.log().contains("no new bundle could be had").then_some(()))
                .await;
        }
        until("the bundle", async || (trusted(&testbed).await? == anchors(trusted_then)).then_some(())).await;
    }
}

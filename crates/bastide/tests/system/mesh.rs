//! The mesh of `bastide serve`: identities given and refused by its socket, followed through
//! reloads, rotation by hand and a restart, and the bundle endpoint.

use serde_json::Value;

use crate::support::{TestBed, read, until};

/// Named in each configuration: with a mesh or without, it is the same store.
const STORE: &str = "storage: state/store.db\n";

fn rules(uid: u32, more: &str) -> String {
    format!(
        "routes: [ {{ name: bundle, match: localhost/bundle, to: bundle, authenticate: none, allow: anyone }} ]\n\
         mesh:\n  trust_domain: shop.example\n  socket: api.sock\n  workloads:\n    orders: {{ uid: {uid} }}\n{more}"
    )
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

async fn testbed(rules: &str) -> TestBed {
    let mut testbed = TestBed::prepare("routes: []\n");
    testbed.configure(rules);
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    testbed
}

fn svid(testbed: &TestBed) -> (i32, String) {
    let (code, out, err) = testbed.bastide(&["mesh", "svid", "--socket", "api.sock", "--out", "mine"]);
    (code, out + &err)
}

fn status(testbed: &TestBed) -> Value {
    let (code, out, err) = testbed.bastide(&["mesh", "status", "--output", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// Whether OpenSSL takes the certificate under this bundle.
fn openssl_takes(testbed: &TestBed, bundle: &str) -> bool {
    let folder = testbed.path("mine");
    let run = std::process::Command::new("openssl")
        .current_dir(folder)
        .args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            bundle,
            "-untrusted",
            "svid.pem",
            "svid.pem",
        ])
        .output();
    run.unwrap().status.success()
}

#[tokio::test]
async fn a_registered_process_gets_its_certificate_and_each_step_is_followed() {
    let mut testbed = testbed(&rules(me(), STORE)).await;
    assert_eq!(svid(&testbed), (0, "spiffe://shop.example/orders\n".to_owned()), "{}", testbed.log());
    assert!(openssl_takes(&testbed, "bundle.pem"));
    let before = status(&testbed);
    assert_eq!((&before["trust_domain"], &before["certificates"]), (&"shop.example".into(), &1.into()));
    let published = testbed.get("/bundle").await;
    assert_eq!((published.status, published.json()["keys"].as_array().unwrap().len()), (200, 2));

    // Who was given what stands in the log.
    until("the event", async || {
        let log: String = std::fs::read_dir(testbed.path("state/audit"))
            .ok()?
            .filter_map(|entry| Some(read(&entry.ok()?.path())))
            .collect();
        log.contains("/SpiffeWorkloadAPI/FetchX509SVID")
            .then(|| assert!(log.contains("spiffe://shop.example/orders")))
    })
    .await;

    // Tainted by hand, another authority signs; revoked, the old certificate is taken no more.
    let id =
        before["authorities"].as_array().unwrap().iter().find(|one| one["kind"] == "issuing").unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
    let (code, out, err) = testbed.bastide(&["mesh", "revoke", &id]);
    assert!(code == 1 && err.contains("it has to be tainted"), "{code} {out}{err}");
    let (code, out, err) = testbed.bastide(&["mesh", "taint", &id[..8]]);
    assert_eq!(code, 0, "{out}{err}");
    std::fs::copy(testbed.path("mine/svid.pem"), testbed.path("old.pem")).unwrap();
    until("another authority", async || {
        svid(&testbed);
        (read(&testbed.path("mine/svid.pem")) != read(&testbed.path("old.pem"))
            && openssl_takes(&testbed, "bundle.pem"))
        .then_some(())
    })
    .await;
    assert_eq!(testbed.bastide(&["mesh", "revoke", &id]).0, 0);
    until("the bundle without it", async || {
        (testbed.get("/bundle").await.json()["keys"]
            .as_array()?
            .iter()
            .filter(|key| key["use"] == "x509-svid")
            .count()
            == 1)
            .then_some(())
    })
    .await;
    svid(&testbed);
    assert!(openssl_takes(&testbed, "bundle.pem"));
    std::fs::copy(testbed.path("old.pem"), testbed.path("mine/svid.pem")).unwrap();
    assert!(!openssl_takes(&testbed, "bundle.pem"), "a revoked authority's certificate");

    // The same authorities after a restart.
    let sequence = status(&testbed)["sequence"].clone();
    testbed.stop_gateway().await;
    assert!(!testbed.path("api.sock").exists());
    testbed.start_gateway().await;
    assert_eq!((svid(&testbed).0, status(&testbed)["sequence"].clone()), (0, sequence));
}

#[tokio::test]
async fn who_is_registered_follows_a_reload_and_a_refused_one_changes_nobody() {
    let testbed = testbed(&rules(me() + 1, STORE)).await;
    let (code, said) = svid(&testbed);
    assert!(code == 1 && said.contains("no identity issued") && !said.contains("uid"), "{said}");
    until("the reason in the log", async || {
        testbed.log().contains("it is not orders by its uid").then_some(())
    })
    .await;
    testbed.configure(&rules(me(), STORE));
    until("the reload", async || (svid(&testbed).0 == 0).then_some(())).await;

    // A configuration that is refused leaves the registration alone: its socket cannot be.
    std::fs::write(testbed.path("file"), "").unwrap();
    let refused = rules(me() + 1, STORE).replace("api.sock", "file");
    testbed.configure(&refused);
    until("the refusal", async || testbed.log().contains("no socket").then_some(())).await;
    assert_eq!(svid(&testbed).0, 0);
    // Without a mesh there is no socket.
    testbed.configure(&format!("routes: []\n{STORE}"));
    until("the end of the mesh", async || (!testbed.path("api.sock").exists()).then_some(())).await;
}

#[tokio::test]
async fn a_process_that_may_be_nobody_refuses_to_become_a_member_and_still_ends_when_it_is_told() {
    let mut testbed = testbed(&rules(me(), STORE)).await;
    let (code, out, err) =
        testbed.bastide(&["mesh", "revoke", "--identity", "spiffe://shop.example/gateway"]);
    assert_eq!(code, 0, "{out}{err}");
    // Something needs its own identity from here on.
    testbed.configure(&rules(me(), &format!("  services: {{ payments: 127.0.0.1:1 }}\n{STORE}")));
    until("the refusal", async || testbed.log().contains("got no certificate").then_some(())).await;
    assert_eq!(svid(&testbed).0, 0, "what was served before is not any more");
    testbed.stop_gateway().await;
}

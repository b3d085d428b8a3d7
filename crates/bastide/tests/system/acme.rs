//! Certificates that are ordered: from Pebble, by either challenge, through its absence,
//! renewed under load, kept over restarts.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bastide::demo::client::http1::{self, Connection};
use bastide::demo::client::{Endpoint, Request, Trust};
use bastide::process::clock::SystemClock;
use model::Clock;

use crate::pebble::Pebble;
use crate::peers::{free_address, has};
use crate::support::{PATIENCE, TestBed, Upstream, read, until};

fn acme(pebble: &Pebble, more: &str) -> String {
    format!(
        "acme: {{ email: ops@example.org, directory: \"{}\", trust: {}, allow_private_addresses: true{more} }}",
        pebble.directory(),
        pebble.trust()
    )
}

/// `shop.test` proves itself by tls-alpn-01, `api.test` by http-01 on a listener that
/// sends everybody else to https.
fn both(pebble: &Pebble, api: SocketAddr, upstream: &Upstream, more: &str) -> String {
    format!(
        "  - address: {}\n    tls: {{ {} }}\n  - address: {api}\n    tls: {{ {} }}\n  - address: {}\n    https_redirect: {}\n\
         services:\n  here: [ http://{} ]\nroutes:\n  - name: shop\n    match: shop.test/**\n    to: here\n    \
         authenticate: none\n    allow: anyone\n  - name: api\n    match: api.test/**\n    to: here\n    authenticate: none\n    \
         allow: anyone\n",
        pebble.tls,
        acme(pebble, &format!(", names: shop.test{more}")),
        acme(pebble, &format!(", names: api.test, challenge: http-01{more}")),
        pebble.http,
        api.port(),
        upstream.address,
    )
}

/// Status and body, asked by curl, which trusts `root` alone; `Err` is what it says.
async fn curl(root: &std::path::Path, name: &str, address: SocketAddr) -> Result<String, String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--write-out", " %{http_code}", "--cacert"]).arg(root);
    curl.args(["--resolve", &format!("{name}:{}:127.0.0.1", address.port())]);
    curl.arg(format!("https://{name}:{}/", address.port()));
    let output = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The leaf's serial number that is shown for a name; `None` when the handshake is refused.
pub(crate) async fn serial(address: SocketAddr, name: &str) -> Option<String> {
    shown(address, name).await.map(|(serial, _)| serial)
}

/// The leaf's serial number and its end, in seconds since 1970.
async fn shown(address: SocketAddr, name: &str) -> Option<(String, u64)> {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &address.to_string(), "-servername", name]);
    client.stdin(std::process::Stdio::null());
    let output = tokio::task::spawn_blocking(move || client.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let pem = text[begin..].to_owned();
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let leaf = pem.parse_x509().unwrap();
    Some((leaf.raw_serial_as_string(), u64::try_from(leaf.validity().not_after.timestamp()).unwrap()))
}

async fn metric(testbed: &TestBed, line: &str) -> Option<u64> {
    let text = String::from_utf8(testbed.admin("/metrics").await.body).unwrap();
    text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
}

/// Waits until the test bed is ready, and says what its log says when it never is.
async fn ready(testbed: &TestBed, pebble: &Pebble) {
    let ready = async || (testbed.admin("/readyz").await.status == 200).then_some(());
    let waited = tokio::time::timeout(PATIENCE * 9 / 10, until("readiness", ready)).await;
    assert!(waited.is_ok(), "{}\n{}", testbed.log(), pebble.log());
}

fn missing() -> bool {
    ["pebble", "dnsmasq", "curl", "openssl"].into_iter().any(|program| !has(program))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_challenges_get_certificates_that_outlive_the_server_and_restarts() {
    if missing() {
        return;
    }
    let upstream = Upstream::start().await;
    let api = free_address();
    let mut testbed = TestBed::prepare("");
    let mut pebble = Pebble::prepare(testbed.folder.path(), None).await;
    testbed.configure(&both(&pebble, api, &upstream, ""));

    // The server is down: the listeners are there and refuse, and everybody is told why.
    testbed.start_gateway().await;
    let unready = testbed.admin("/readyz").await;
    assert_eq!(unready.status, 503);
    until("the reason", async || {
        let reasons = String::from_utf8(testbed.admin("/readyz").await.body).unwrap();
        reasons.contains("no certificate for shop.test: ").then_some(())?;
        reasons.contains("cannot connect to 127.0.0.1").then_some(())
    })
    .await;
    let again = "no certificate for shop.test, again in";
    until("the word about it", async || testbed.log().contains(again).then_some(())).await;
    assert_eq!(serial(pebble.tls, "shop.test").await, None);
    assert_eq!(metric(&testbed, "bastide_acme_order_failing{name=\"shop.test\"}").await, Some(1));

    // It comes back.
    pebble.run().await;
    ready(&testbed, &pebble).await;
    let issued = "bastide_acme_orders_total{result=\"issued\"}";
    until("both", async || (metric(&testbed, issued).await == Some(2)).then_some(())).await;
    let root = pebble.root().await;
    for (name, address) in [("shop.test", pebble.tls), ("api.test", api)] {
        until("the certificate to be shown", async || serial(address, name).await).await;
        assert_eq!(curl(&root, name, address).await.as_deref(), Ok("here 200"), "{}", testbed.log());
        let end = metric(&testbed, &format!("bastide_certificate_expiry_seconds{{name=\"{name}\"}}")).await;
        assert!(end.unwrap() > 1_795_384_267, "{end:?}");
    }
    assert_eq!(metric(&testbed, "bastide_acme_order_failing{name=\"shop.test\"}").await, Some(0));
    // A name without a certificate is refused, not shown another's; and so is no name.
    for name in ["api.test", "other.test"] {
        assert_eq!(serial(pebble.tls, name).await, None, "{name}");
    }
    the_listener_on_port_80(&testbed, &pebble, api).await;
    keys_are_their_owners(&testbed);

    // Down again, and a restart: nothing is ordered anew, and what is there is shown.
    let before = serial(pebble.tls, "shop.test").await;
    pebble.kill();
    testbed.stop_gateway().await;
    testbed.start_gateway().await;
    assert_eq!(testbed.admin("/readyz").await.status, 200);
    assert_eq!(serial(pebble.tls, "shop.test").await, before);
    assert_eq!(curl(&root, "api.test", api).await.as_deref(), Ok("here 200"));
    assert_eq!(metric(&testbed, issued).await, Some(0));
    assert_eq!(metric(&testbed, "bastide_acme_orders_total{result=\"failed\"}").await, Some(0));
}

/// No token is answered that was not ordered; everybody else is sent to https.
async fn the_listener_on_port_80(testbed: &TestBed, pebble: &Pebble, api: SocketAddr) {
    let ask = async |endpoint: SocketAddr, host: &str, target: &str| {
        http1::ask(&Endpoint::clear(endpoint), &Request::new("GET", host, target)).await.unwrap()
    };
    let unknown = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    for target in ["/cart?x=1&y=%2e", unknown] {
        let answer = ask(pebble.http, "api.test", target).await;
        assert_eq!(answer.status, 308, "{target}");
        let place = format!("https://api.test:{}{target}", api.port());
        assert_eq!(answer.field("location"), Some(place.as_str()));
    }
    // On a listener with routes such a path is one like any other.
    assert_eq!(ask(testbed.clear_address(), "elsewhere.test", unknown).await.status, 404);
    assert_eq!(ask(testbed.clear_address(), "shop.test", unknown).await.status, 200);
}

fn keys_are_their_owners(testbed: &TestBed) {
    let mut files = 0;
    let mut folders = vec![testbed.path("state/acme")];
    while let Some(folder) = folders.pop() {
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.path());
                files += 1;
            }
        }
    }
    assert_eq!(files, 3, "an account and two certificates");
}

/// Asks without a pause until it is told to stop: what failed.
async fn load(endpoint: Endpoint, stop: Arc<AtomicBool>, keeps: bool) -> (u64, Vec<String>) {
    let (mut answered, mut faults, mut kept) = (0, Vec::new(), None);
    while !stop.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => match Connection::open(&endpoint).await {
                Ok(connection) => connection,
                Err(error) => {
                    faults.push(format!("connecting: {error}"));
                    continue;
                }
            },
        };
        match connection.ask(&Request::new("GET", "shop.test", "/")).await {
            Ok(answer) if answer.status == 200 => {
                answered += 1;
                kept = keeps.then_some(connection);
            }
            Ok(answer) => faults.push(format!("status {}", answer.status)),
            Err(error) => faults.push(format!("asking (kept: {keeps}): {error}")),
        }
    }
    (answered, faults)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_under_load_and_through_the_servers_death() {
    if missing() {
        return;
    }
    let upstream = Upstream::start().await;
    let api = free_address();
    let mut testbed = TestBed::prepare("");
    let mut pebble = Pebble::prepare(testbed.folder.path(), None).await;
    pebble.run().await;
    testbed.configure(&both(&pebble, api, &upstream, ""));
    testbed.start_gateway().await;
    ready(&testbed, &pebble).await;
    let first = until("the first certificate", async || serial(pebble.tls, "shop.test").await).await;
    // Not from the metric: the test bed's local certificate is for this name too, and ends sooner.
    let (_, end) = shown(pebble.tls, "shop.test").await.unwrap();

    // Pebble's certificates last for years, so they are wanted new when a few seconds of
    // that are over: for each of them again.
    let root = pebble.root().await;
    let trust = Trust::new("shop.test", &std::fs::read(&root).unwrap(), None).unwrap();
    let endpoint = Endpoint { address: pebble.tls, tls: Some(trust), from: None };
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        [true, false].map(|keeps| tokio::spawn(load(endpoint.clone(), Arc::clone(&stop), keeps))).into();
    let now = SystemClock::start().now().unix_seconds();
    testbed.configure(&both(&pebble, api, &upstream, &format!(", renew_before: {}s", end - now - 2)));
    let mut serials = vec![first];
    while serials.len() < 4 {
        let next = until("the next certificate", async || {
            serial(pebble.tls, "shop.test").await.filter(|serial| !serials.contains(serial))
        });
        let next = tokio::time::timeout(PATIENCE * 9 / 10, next).await;
        serials.push(next.unwrap_or_else(|_| panic!("{serials:?}\n{}\n{}", testbed.log(), pebble.log())));
    }
    // Each one is good for the same authority, and no request has noticed.
    assert_eq!(curl(&root, "shop.test", pebble.tls).await.as_deref(), Ok("here 200"));
    pebble.kill();
    let failing = "bastide_acme_order_failing{name=\"shop.test\"}";
    until("a failure", async || (metric(&testbed, failing).await == Some(1)).then_some(())).await;
    assert_eq!(testbed.admin("/readyz").await.status, 200, "the old certificate is good for years");
    assert_eq!(curl(&root, "shop.test", pebble.tls).await.as_deref(), Ok("here 200"));
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        let (answered, faults) = client.await.unwrap();
        assert!(faults.is_empty() && answered > 50, "{answered} {faults:?}\n{}", testbed.log());
    }
    // It comes back without any memory: the account is opened anew, and it goes on.
    let last = serial(pebble.tls, "shop.test").await;
    pebble.run().await;
    until("another one", async || serial(pebble.tls, "shop.test").await.filter(|s| Some(s) != last.as_ref()))
        .await;
    until("the log", async || testbed.log().contains("does not know the account any more").then_some(()))
        .await;
    let root = pebble.root().await;
    assert_eq!(curl(&root, "shop.test", pebble.tls).await.as_deref(), Ok("here 200"));
}

#[tokio::test]
async fn an_account_is_bound_to_one_elsewhere_and_a_refusal_is_said() {
    if missing() {
        return;
    }
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let upstream = Upstream::start().await;
    let api = free_address();
    let mut testbed = TestBed::prepare("");
    let mut pebble = Pebble::prepare(testbed.folder.path(), Some(("kid-1", KEY))).await;
    pebble.run().await;
    let with = |key: &str| format!(", external_account: {{ key_id: kid-1, hmac_key: \"{key}\" }}");
    // Who may come near routes says nothing about who may look at a proof.
    let configure =
        |key: &str| both(&pebble, api, &upstream, &with(key)) + "addresses: { allow: 192.0.2.1 }\n";
    // The wrong key first.
    let wrong = KEY.replace("zWND", "AAAA");
    testbed.configure(&configure(&wrong));
    testbed.start_gateway().await;
    until("the refusal", async || {
        testbed.log().contains("no certificate for api.test, again in").then_some(())
    })
    .await;
    assert!(testbed.log().contains("urn:ietf:params:acme:error:"), "{}", testbed.log());
    assert!(!testbed.log().contains(&wrong), "the key stands in the log");
    // The right one is taken by a reload, without waiting out the pause.
    testbed.configure(&configure(KEY));
    ready(&testbed, &pebble).await;
    // Another mail address is told to the server, by the same account.
    let account = || {
        let folder = std::fs::read_dir(testbed.path("state/acme")).unwrap().next().unwrap().unwrap();
        let text = read(&folder.path().join("account.json"));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let before = account();
    testbed.configure(&configure(KEY).replace("ops@example.org", "security@example.org"));
    until("the address", async || (account()["email"] == "security@example.org").then_some(())).await;
    assert_eq!(account()["credentials"], before["credentials"]);

    // A name that leads elsewhere: what the server found is said, with what to do.
    testbed.configure(&configure(KEY).replace("names: api.test", "names: nowhere.test"));
    until("the advice", async || {
        let log = testbed.log();
        let mut lines = log.lines().filter(|line| line.contains("no certificate for nowhere.test, again in"));
        // The server refuses every fifth nonce, and now and then each of an order's tries.
        let line = lines.find(|line| !line.contains(":badNonce"))?;
        assert!(line.contains("nowhere.test was not proven: "), "{line}");
        assert!(line.contains("(http-01: port 80 of the name has to lead to a listener"), "{line}");
        Some(())
    })
    .await;
    // One name that fails keeps the others as they are.
    assert_eq!(testbed.admin("/readyz").await.status, 200);
    assert!(serial(pebble.tls, "shop.test").await.is_some());
    assert!(!read(&testbed.path("state/acme")).contains("nowhere"));
}

//! The identity provider behind the gateway: discovered, asked for tokens that its own
//! gateway takes without any network between them, changed by a reload, sealed.

use bastide::demo::client::{Answer, Request, http1};
use serde_json::Value;

use crate::support::{TestBed, Upstream, get_request, until};

const SECRET: &str = "a-client-secret-of-more-than-32-characters";

fn rules(upstream: &Upstream, client: &str, storage: &str) -> String {
    format!(
        "{storage}realms:\n  town:\n    issuer: https://localhost\n    scopes: {{ \"orders:read\": see your orders }}\n    \
         resources: {{ \"https://orders.test\": {{}} }}\n    clients:\n      {client}:\n        \
         secret: ${{file:secret.txt}}\n        scopes: [ \"orders:read\" ]\n        resources: [ \"https://orders.test\" ]\n\
         authentication:\n  audience: https://orders.test\n  issuers: [ https://localhost ]\n\
         services: {{ orders: [ http://{} ] }}\nroutes:\n  - name: id\n    match: localhost/**\n    to: identity\n    \
         authenticate: none\n    allow: anyone\n  - name: orders\n    match: localhost/orders/**\n    to: orders\n    \
         strip_prefix: /orders\n    authenticate: jwt\n    allow: authenticated\n",
        upstream.address
    )
}

async fn testbed(upstream: &Upstream, storage: &str) -> TestBed {
    let testbed = TestBed::prepare("routes: []\n");
    std::fs::write(testbed.path("secret.txt"), SECRET).unwrap();
    testbed.configure(&rules(upstream, "importer", storage));
    testbed
}

async fn token(testbed: &TestBed, client: &str, secret: &str) -> Answer {
    let form = format!(
        "grant_type=client_credentials&client_id={client}&client_secret={secret}&resource=https://orders.test"
    );
    let mut request = Request::new("POST", "localhost", "/token")
        .field("content-type", "application/x-www-form-urlencoded");
    request.body = form.into_bytes();
    http1::ask(&testbed.endpoint(), &request).await.unwrap()
}

async fn orders(testbed: &TestBed, token: &str) -> u16 {
    let request = get_request("/orders/").bearer(token);
    http1::ask(&testbed.endpoint(), &request).await.unwrap().status
}

#[tokio::test]
async fn a_realm_issues_tokens_that_its_own_gateway_takes() {
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, "").await;
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;

    let discovered = testbed.get("/.well-known/openid-configuration").await;
    assert_eq!((discovered.status, &discovered.json()["issuer"]), (200, &"https://localhost".into()));
    let jwks = testbed.get("/jwks").await.json();
    assert!(jwks["keys"].as_array().is_some_and(|keys| keys.len() >= 3), "{jwks}");

    let issued = token(&testbed, "importer", SECRET).await;
    assert_eq!(issued.status, 200, "{}", issued.json());
    let access = issued.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(orders(&testbed, &access).await, 200, "{}", testbed.log());
    // Beside it what is refused: nothing, another key's signature, another secret.
    assert_eq!(testbed.get("/orders/").await.status, 401);
    assert_eq!(orders(&testbed, &format!("{}AAAA", &access[..access.len() - 4])).await, 401);
    let wrong = token(&testbed, "importer", &SECRET.replace('a', "b")).await;
    assert_eq!((wrong.status, &wrong.json()["error"]), (401, &"invalid_client".into()));

    // What its client takes back is refused at the gateway too; another one goes on.
    let other = token(&testbed, "importer", SECRET).await.json()["access_token"].as_str().unwrap().to_owned();
    let mut revoke = Request::new("POST", "localhost", "/revoke")
        .field("content-type", "application/x-www-form-urlencoded");
    revoke.body = format!("token={other}&client_id=importer&client_secret={SECRET}").into_bytes();
    assert_eq!(orders(&testbed, &other).await, 200);
    assert_eq!(http1::ask(&testbed.endpoint(), &revoke).await.unwrap().status, 200);
    until("the revocation", async || (orders(&testbed, &other).await == 401).then_some(())).await;
    assert_eq!(orders(&testbed, &access).await, 200);

    // Every request to the platform's own endpoints is audited like any other.
    let id = wrong.request_id().unwrap().to_string();
    let out = until("the event", async || {
        let (code, out, _) = testbed.bastide(&["explain", &id]);
        (code == 0).then_some(out)
    })
    .await;
    assert!(out.contains("POST localhost /token") && out.contains("\"id\""), "{out}");

    // What a client says under the names of the connection's headers reaches nobody.
    let forged =
        get_request("/.well-known/openid-configuration").field("x-bastide-client-certificate", "AAAA");
    assert_eq!(http1::ask(&testbed.endpoint(), &forged).await.unwrap().status, 200);

    // A client that is declared no more is switched off, although the scope that it had is
    // gone with it, and another one works.
    testbed.configure(&rules(&upstream, "exporter", "").replace("orders:read", "orders:list"));
    until("the new client", async || {
        let answer = token(&testbed, "exporter", SECRET).await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(token(&testbed, "importer", SECRET).await.json()["error"], "invalid_client");
    until("the end of its token", async || (orders(&testbed, &access).await == 401).then_some(())).await;
    let access =
        token(&testbed, "exporter", SECRET).await.json()["access_token"].as_str().unwrap().to_owned();

    // The keys and clients are still there after a restart.
    testbed.stop_gateway().await;
    testbed.start_gateway().await;
    assert_eq!(orders(&testbed, &access).await, 200, "{}", testbed.log());
    assert_eq!(token(&testbed, "exporter", SECRET).await.status, 200);
    let mut stored = std::fs::read(testbed.path("state/store.db")).unwrap();
    stored.extend(std::fs::read(testbed.path("state/store.db-wal")).unwrap_or_default());
    let finds = |needle: &[u8]| stored.windows(needle.len()).any(|window| window == needle);
    assert!(!finds(SECRET.as_bytes()) && !finds(b"exporter"), "the store says what it should hide");
}

/// What a client in a page does (oidc-client-ts): preflights, and refusals that it can read.
#[tokio::test]
async fn pages_of_an_allowed_origin_use_the_realm_and_read_refusals() {
    const PAGE: &str = "https://app.test";
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, "").await;
    let rules = rules(&upstream, "importer", "")
        .replace("    allow: anyone\n", "    allow: anyone\n    cors: [ https://app.test ]\n")
        .replace(
            "    allow: authenticated\n",
            "    allow: authenticated\n    cors: [ https://app.test ]\n    limit: 2/hour per address\n",
        );
    testbed.configure(&rules);
    assert_eq!(testbed.bastide(&["init"]).0, 0);
    testbed.start_gateway().await;
    let ask = async |request: Request| http1::ask(&testbed.endpoint(), &request).await.unwrap();
    let preflight = ask(Request::new("OPTIONS", "localhost", "/userinfo")
        .field("origin", PAGE)
        .field("access-control-request-method", "GET")
        .field("access-control-request-headers", "authorization"))
    .await;
    let headers = preflight.field("access-control-allow-headers").unwrap_or_default();
    assert_eq!((preflight.status, headers), (204, "authorization, content-type, dpop"));
    let allowed = |answer: &Answer| answer.field("access-control-allow-origin").map(str::to_owned);
    let userinfo = ask(get_request("/userinfo").field("origin", PAGE).bearer("x")).await;
    assert_eq!((userinfo.status, allowed(&userinfo).as_deref()), (401, Some(PAGE)));
    assert_eq!(userinfo.field("access-control-expose-headers"), Some("dpop-nonce, www-authenticate"));
    // Metadata and keys are for every page.
    for (path, origin, expected) in [
        ("/jwks", PAGE, Some(PAGE)),
        ("/jwks", "https://other.test", Some("*")),
        ("/.well-known/openid-configuration", "https://other.test", Some("*")),
        ("/userinfo", "https://other.test", None),
    ] {
        let answer = ask(get_request(path).field("origin", origin)).await;
        assert_eq!(allowed(&answer).as_deref(), expected, "{path} {origin}");
    }
    // The gateway's own refusals, to whom the rules allow to read them.
    for (origin, status, expected) in [
        (PAGE, 401, Some(PAGE)),
        ("https://evil.test", 401, None),
        (PAGE, 429, Some(PAGE)),
        ("https://evil.test", 429, None),
    ] {
        let answer = ask(get_request("/orders/").field("origin", origin)).await;
        assert_eq!((answer.status, allowed(&answer).as_deref()), (status, expected), "{origin}");
        let sent = answer.fields.iter().filter(|(name, _)| name.starts_with("access-control-"));
        assert_eq!(sent.count(), usize::from(expected.is_some()), "{origin}");
        if expected.is_some() {
            assert_eq!(answer.field("vary"), Some("origin"));
        }
    }
    let plain = ask(get_request("/orders/")).await;
    assert_eq!((plain.status, allowed(&plain)), (429, None));
}

#[tokio::test]
async fn a_sealed_store_answers_503_and_everything_else_is_served() {
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, "storage: { unseal: shares }\n").await;
    let (code, out, err) =
        testbed.bastide(&["init", "--shares", "2", "--threshold", "2", "--output", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    let made: Value = serde_json::from_str(&out).unwrap();
    testbed.start_gateway().await;
    let sealed = testbed.get("/jwks").await;
    assert_eq!((sealed.status, sealed.field("retry-after")), (503, Some("5")));
    assert_eq!(testbed.get("/orders/").await.status, 401);
    // Its own realm's keys are nowhere else, and nobody is sent to look for them there.
    let ready = testbed.admin("/readyz").await;
    let reasons = String::from_utf8(ready.body).unwrap();
    assert!(ready.status == 503 && reasons.contains("the store is sealed"), "{reasons}");
    let log = testbed.log();
    assert!(!log.contains("public address") && log.contains("the store is sealed"), "{log}");
    for (share, expected) in made["shares"].as_array().unwrap().iter().zip([1, 0]) {
        let (code, out, err) = fed(&testbed, share.as_str().unwrap());
        assert_eq!(code, expected, "{out}{err}");
    }
    until("the realm", async || (testbed.get("/jwks").await.status == 200).then_some(())).await;
}

fn fed(testbed: &TestBed, share: &str) -> (i32, String, String) {
    use std::io::Write as _;
    let mut child = std::process::Command::new(crate::support::BASTIDE)
        .args(["unseal"])
        .current_dir(testbed.folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{share}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn people_are_added_listed_and_switched_off() {
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, "roles: { customer: {} }\n").await;
    assert_eq!(testbed.bastide(&["init"]).0, 0);
    let (code, out, err) =
        testbed.bastide(&["user", "add", "alice", "--role", "customer", "--output", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    let alice: Value = serde_json::from_str(&out).unwrap();
    assert!(alice["password"].as_str().is_some_and(|password| password.len() == 20), "{alice}");
    assert_eq!(testbed.bastide(&["user", "add", "Alice"]).0, 1, "names are compared without case");
    let (code, _, err) = testbed.bastide(&["user", "add", "bob", "--role", "custmer"]);
    assert_eq!(code, 3);
    assert!(err.contains("declared are: customer"), "{err}");
    assert_eq!(testbed.bastide(&["user", "disable", "alice"]).0, 0);
    let (_, out, _) = testbed.bastide(&["user", "list", "--output", "json"]);
    let list: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&list[0]["username"], &list[0]["disabled"]), (&"alice".into(), &true.into()));
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(testbed.bastide(&["user", "password", "nobody"]).0, 1);
    testbed.start_gateway().await;
    until("the log", async || testbed.log().contains("listening").then_some(())).await;
}

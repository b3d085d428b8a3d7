//! Opaque tokens: asked once for all who wait, remembered for as long as is right, refused
//! when the issuer is silent; and of several proofs that a request brings the first of the
//! route's list decides.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use bastide::demo::client::{Request, http1};
use bastide::process::clock::SystemClock;
use keys::{Algorithm, LocalSigner, SystemRandom, publish, sign_token};
use model::Clock as _;
use serde_json::{Value, json};

use crate::support::{TestBed, Upstream, get_request, until};

/// An authorization server whose answers the test decides.
struct Issuer {
    address: SocketAddr,
    desk: Arc<Desk>,
}

#[derive(Default)]
struct Desk {
    asked: AtomicU64,
    answer: Mutex<(u16, Value)>,
    seen: Mutex<(String, String)>,
    pause: Mutex<Duration>,
}

impl Issuer {
    async fn start() -> Self {
        let desk = Arc::new(Desk::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state((Arc::clone(&desk), address));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, desk }
    }

    fn says(&self, status: u16, answer: Value) {
        *self.desk.answer.lock().unwrap() = (status, answer);
    }

    fn asked(&self) -> u64 {
        self.desk.asked.load(Ordering::SeqCst)
    }
}

async fn answer(
    State((desk, address)): State<(Arc<Desk>, SocketAddr)>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let issuer = format!("http://{address}");
    if uri.path() == "/.well-known/openid-configuration" {
        let introspect = format!("{issuer}/introspect");
        let jwks = format!("{issuer}/jwks");
        return axum::Json(
            json!({ "issuer": issuer, "jwks_uri": jwks, "introspection_endpoint": introspect }),
        )
        .into_response();
    }
    if uri.path() != "/introspect" {
        return axum::Json(json!({ "keys": [] })).into_response();
    }
    desk.asked.fetch_add(1, Ordering::SeqCst);
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    *desk.seen.lock().unwrap() = (authorization.unwrap_or_default().to_owned(), body);
    let pause = *desk.pause.lock().unwrap();
    tokio::time::sleep(pause).await;
    let (status, answer) = desk.answer.lock().unwrap().clone();
    (StatusCode::from_u16(status).unwrap(), axum::Json(answer)).into_response()
}

fn seconds() -> u64 {
    SystemClock::start().now().unix_seconds()
}

fn yes() -> Value {
    json!({ "active": true, "sub": "alice", "aud": "town", "exp": seconds() + 300, "scope": "read" })
}

fn rules(issuer: &Issuer, upstream: &Upstream, cache: &str) -> String {
    format!(
        "workers: 2\nauthentication:\n  audience: town\n  issuers:\n    - issuer: http://{}\n      allow_private_addresses: true\n      \
         leeway: 0s\n      introspection: {{ client: gateway, secret: \"${{file:secret.txt}}\", cache: {cache} }}\n\
         services: {{ orders: [ http://{} ] }}\nroutes:\n  - name: orders\n    match: /**\n    to: orders\n    \
         authenticate: opaque\n    allow: authenticated\n",
        issuer.address, upstream.address
    )
}

async fn testbed(issuer: &Issuer, upstream: &Upstream, cache: &str) -> TestBed {
    let mut testbed = TestBed::prepare("");
    std::fs::write(testbed.path("secret.txt"), "s+cret/with:signs").unwrap();
    testbed.configure(&rules(issuer, upstream, cache));
    testbed.start_gateway().await;
    testbed
}

async fn status(testbed: &TestBed, token: &str) -> u16 {
    http1::ask(&testbed.endpoint(), &get_request("/").bearer(token)).await.unwrap().status
}

#[tokio::test]
async fn an_opaque_token_is_asked_for_once_by_all_who_wait() {
    let (issuer, upstream) = (Issuer::start().await, Upstream::start().await);
    let testbed = testbed(&issuer, &upstream, "1m").await;
    issuer.says(200, yes());
    *issuer.desk.pause.lock().unwrap() = Duration::from_millis(300);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let endpoint = testbed.endpoint();
        tasks.spawn(async move {
            http1::ask(&endpoint, &get_request("/").bearer("opaque-token")).await.unwrap().status
        });
    }
    let statuses = tasks.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?} {}", testbed.log());
    assert_eq!(issuer.asked(), 1, "50 requests over two cores, one question");
    // RFC 6749 §2.3.1: id and secret are form-encoded.
    let (authorization, body) = issuer.desk.seen.lock().unwrap().clone();
    assert_eq!(
        authorization,
        format!("Basic {}", keys::encoding::encode_base64(b"gateway:s%2Bcret%2Fwith%3Asigns"))
    );
    assert!(body.contains("token=opaque-token"), "{body}");
    assert_eq!(status(&testbed, "another").await, 200);
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn only_a_yes_for_us_that_lasts_is_a_yes() {
    let (issuer, upstream) = (Issuer::start().await, Upstream::start().await);
    let testbed = testbed(&issuer, &upstream, "1m").await;
    let with = |name: &str, value: Value| {
        let mut answer = yes();
        answer[name] = value;
        answer
    };
    let mut nobody = yes();
    nobody.as_object_mut().unwrap().remove("aud");
    let cases = [
        ("a yes", 200, yes(), 200),
        ("without an end", 200, json!({ "active": true, "sub": "a", "aud": ["town"] }), 200),
        ("a client's own", 200, json!({ "active": true, "client_id": "c", "aud": "town" }), 200),
        ("a no", 200, json!({ "active": false }), 401),
        ("another's audience", 200, with("aud", json!("other")), 401),
        ("nobody's audience", 200, nobody, 401),
        ("over", 200, with("exp", json!(seconds() - 1)), 401),
        ("not yet", 200, with("nbf", json!(seconds() + 100)), 401),
        ("another issuer", 200, with("iss", json!("https://evil.example")), 401),
        (
            "bound to a key",
            200,
            with("cnf", json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" })),
            401,
        ),
        ("nobody", 200, json!({ "active": true, "aud": "town" }), 401),
        ("a yes as a text", 200, with("active", json!("true")), 503),
        ("no word of it", 200, json!({ "sub": "alice" }), 503),
        ("no answer", 500, yes(), 503),
        ("a redirect", 302, yes(), 503),
        ("not us", 401, json!({ "error": "invalid_client" }), 503),
    ];
    for (number, (name, code, answer, expected)) in cases.into_iter().enumerate() {
        issuer.says(code, answer);
        assert_eq!(status(&testbed, &format!("token-{number}")).await, expected, "{name}: {}", testbed.log());
    }
    let challenged = http1::ask(&testbed.endpoint(), &get_request("/")).await.unwrap();
    assert_eq!((challenged.status, challenged.field("www-authenticate")), (401, Some("Bearer")));
}

#[tokio::test]
async fn a_yes_is_remembered_until_its_end_a_no_for_a_moment_and_silence_refuses() {
    let (issuer, upstream) = (Issuer::start().await, Upstream::start().await);
    let testbed = testbed(&issuer, &upstream, "1s").await;
    issuer.says(200, yes());
    let begun = tokio::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(status(&testbed, "one").await, 200);
    }
    let (before, most) = (issuer.asked(), begun.elapsed().as_secs() + 2);
    assert!(before <= most, "remembered for a second: asked {before} times, at most {most} may be");
    issuer.says(200, json!({ "active": false }));
    until("the no", async || (status(&testbed, "one").await == 401).then_some(())).await;
    issuer.says(200, yes());
    until("the yes again", async || (status(&testbed, "one").await == 200).then_some(())).await;
    // Down: what is remembered counts until it is over, then nothing does.
    issuer.says(503, json!({}));
    until("the silence", async || (status(&testbed, "one").await == 503).then_some(())).await;
    let answer = http1::ask(&testbed.endpoint(), &get_request("/").bearer("one")).await.unwrap();
    assert_eq!(answer.field("retry-after"), Some("5"));
    let id = answer.request_id().unwrap().to_string();
    let out = until("the event", async || {
        Some(testbed.bastide(&["explain", &id]).1).filter(|out| out.contains("503"))
    })
    .await;
    assert!(out.contains("cannot be introspected"), "{out}");
}

/// Every pair of ways: the first is brought and bad, the second is brought and good.
#[tokio::test]
async fn a_bad_credential_never_falls_through_to_another_way() {
    let (issuer, upstream) = (Issuer::start().await, Upstream::start().await);
    let signer = LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0;
    let mut testbed = TestBed::prepare("");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let partners = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let certificate = |name: Option<&str>| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
        }
        let certificate = params.signed_by(&key, &partners).unwrap();
        bastide::demo::client::ClientCertificate { chain: certificate.pem(), key: key.serialize_pem() }
    };
    std::fs::write(testbed.path("partners.pem"), partners.pem()).unwrap();
    std::fs::write(testbed.path("jwks.json"), publish(&[&signer])).unwrap();
    std::fs::write(testbed.path("secret.txt"), "secret").unwrap();
    const WAYS: [&str; 4] = ["jwt", "opaque", "api_key", "mtls"];
    let mut routes = String::new();
    for first in WAYS {
        for second in WAYS.into_iter().filter(|second| *second != first) {
            routes.push_str(&format!(
                "  - match: /{first}/{second}\n    to: orders\n    authenticate: [ {first}, {second} ]\n    allow: authenticated\n"
            ));
        }
    }
    let text = format!(
        "state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\nlisten:\n  - address: 127.0.0.1:0\n    tls:\n      local: true\n      \
         client: {{ ca: partners.pem, mode: optional, prefix: partner/ }}\n  - address: 127.0.0.1:0\nauthentication:\n  api_keys: state\n  \
         audience: town\n  issuers:\n    - issuer: http://{}\n      jwks_file: jwks.json\n      allow_private_addresses: true\n      \
         introspection: {{ client: gateway, secret: \"${{file:secret.txt}}\" }}\nservices: {{ orders: [ http://{} ] }}\nroutes:\n{routes}",
        issuer.address, upstream.address
    );
    std::fs::write(testbed.path("bastide.yaml"), text).unwrap();
    let (code, out, err) =
        testbed.bastide(&["key", "new", "--owner", "ci@example.org", "--name", "ci", "--output", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    let made: Value = serde_json::from_str(&out).unwrap();
    let api_key = made["key"].as_str().unwrap().to_owned();
    let claims = json!({
        "iss": format!("http://{}", issuer.address), "aud": "town", "sub": "alice", "exp": seconds() + 300,
    });
    let good_jwt = sign_token(&signer, "at+jwt", claims.as_object().unwrap()).unwrap();
    let bad_jwt = format!("{}AAAA", &good_jwt[..good_jwt.len() - 4]);
    let bad_key = format!("{}AAAA", &api_key[..api_key.len() - 4]);
    let authority = std::fs::read(testbed.path("state/ca/ca.pem")).unwrap();
    let ask = async |first: &str, second: &str, with: &[(&str, bool)]| {
        let mut request = Request::new("GET", "localhost", &format!("/{first}/{second}"));
        let mut shown = None;
        for (way, good) in with {
            request = match (*way, *good) {
                ("jwt", true) => request.bearer(&good_jwt),
                ("jwt", false) => request.bearer(&bad_jwt),
                ("opaque", good) => {
                    issuer.says(200, if good { yes() } else { json!({ "active": false }) });
                    request.bearer(&format!("opaque-{first}-{second}-{good}"))
                }
                ("api_key", good) => request.field("x-api-key", if good { &api_key } else { &bad_key }),
                (_, good) => {
                    shown = Some(certificate(good.then_some("partner")));
                    request
                }
            };
        }
        let trust = bastide::demo::client::Trust::new("localhost", &authority, shown.as_ref()).unwrap();
        let endpoint =
            bastide::demo::client::Endpoint { address: testbed.tls_address(), tls: Some(trust), from: None };
        http1::ask(&endpoint, &request).await.unwrap().status
    };
    for first in WAYS {
        for second in WAYS.into_iter().filter(|second| *second != first) {
            let two_bearers = ["jwt", "opaque"].contains(&first) && ["jwt", "opaque"].contains(&second);
            assert_eq!(ask(first, second, &[(first, true)]).await, 200, "{first} on [{first}, {second}]");
            assert_eq!(ask(first, second, &[(second, true)]).await, 200, "{second} on [{first}, {second}]");
            assert_eq!(ask(first, second, &[(first, false)]).await, 401, "bad {first} alone");
            // One field holds one bearer token: its form says which of the two it is.
            if !two_bearers {
                let both = ask(first, second, &[(first, false), (second, true)]).await;
                assert_eq!(both, 401, "bad {first} before good {second}");
                let both = ask(first, second, &[(first, true), (second, false)]).await;
                assert_eq!(both, 200, "good {first} before bad {second}");
            }
        }
    }
}

//! Browsers' sessions: the login and what attackers do with it, against a provider whose
//! every answer the test decides; and against a realm of the same process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bastide::demo::client::{Answer, Endpoint, Request, http1};
use bastide::process::clock::SystemClock;
use keys::{Algorithm, LocalSigner, SystemRandom, publish, sign_token};
use model::Clock as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{TestBed, Upstream, until};

fn seconds() -> u64 {
    SystemClock::start().now().unix_seconds()
}

/// An OpenID provider without pages: the test plays the person.
struct Provider {
    issuer: String,
    desk: Arc<Desk>,
}

struct Desk {
    address: SocketAddr,
    signer: LocalSigner,
    /// Claims of ID tokens besides the usual ones.
    claims: Mutex<Value>,
    nonce: Mutex<String>,
    lifetime: AtomicU64,
    /// `expires_in` of refreshed tokens.
    renewed_for: AtomicU64,
    refreshes: AtomicU64,
    redeemed: AtomicU64,
    access_token: Mutex<String>,
    refresh_token: Mutex<String>,
    forms: Mutex<Vec<BTreeMap<String, String>>>,
    refuse_refresh: AtomicU64,
    /// What it answers to pushed requests, which it then takes alone.
    pushing: Mutex<Option<(StatusCode, Value)>>,
    /// What was pushed, and `Authorization`.
    pushed: Mutex<Vec<(String, BTreeMap<String, String>)>>,
}

impl Provider {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let desk = Arc::new(Desk {
            address,
            signer: LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0,
            claims: Mutex::new(json!({})),
            nonce: Mutex::default(),
            lifetime: AtomicU64::new(300),
            renewed_for: AtomicU64::new(300),
            refreshes: AtomicU64::new(0),
            redeemed: AtomicU64::new(0),
            access_token: Mutex::new("opaque".to_owned()),
            refresh_token: Mutex::default(),
            forms: Mutex::default(),
            refuse_refresh: AtomicU64::new(0),
            pushing: Mutex::default(),
            pushed: Mutex::default(),
        });
        let app = Router::new().fallback(provide).with_state(Arc::clone(&desk));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { issuer: format!("http://{address}"), desk }
    }

    fn logout_token(&self, changes: Value) -> String {
        let mut claims = json!({
            "iss": self.issuer, "aud": "shop", "sub": "alice", "sid": "s-1", "iat": seconds(), "exp": seconds() + 60,
            "jti": "l-1", "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        change(&mut claims, &changes);
        sign_token(&self.desk.signer, "logout+jwt", claims.as_object().unwrap()).unwrap()
    }
}

fn change(claims: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
}

async fn provide(State(desk): State<Arc<Desk>>, uri: Uri, fields: HeaderMap, body: String) -> Response {
    let issuer = format!("http://{}", desk.address);
    let pushing = desk.pushing.lock().unwrap().clone();
    match uri.path() {
        "/.well-known/openid-configuration" => axum::Json(json!({
            "issuer": issuer, "jwks_uri": format!("{issuer}/jwks"),
            "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
            "end_session_endpoint": format!("{issuer}/logout"), "authorization_response_iss_parameter_supported": true,
            "pushed_authorization_request_endpoint": format!("{issuer}/par"),
            "require_pushed_authorization_requests": pushing.is_some(),
        }))
        .into_response(),
        "/jwks" => publish(&[&desk.signer]).into_response(),
        "/token" => token(&desk, &issuer, &body).await,
        "/par" => {
            let who = fields.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
            let form = url_decoded(&body).into_iter().collect();
            desk.pushed.lock().unwrap().push((who.unwrap_or_default(), form));
            let (status, answer) = pushing.unwrap();
            (status, axum::Json(answer)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn token(desk: &Desk, issuer: &str, body: &str) -> Response {
    let form: BTreeMap<String, String> = url_decoded(body).into_iter().collect();
    desk.forms.lock().unwrap().push(form.clone());
    let refused =
        |error: &str| (StatusCode::BAD_REQUEST, axum::Json(json!({ "error": error }))).into_response();
    let refresh = form["grant_type"] == "refresh_token";
    if refresh {
        let count = desk.refreshes.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let current = desk.refresh_token.lock().unwrap().clone();
        match desk.refuse_refresh.load(Ordering::SeqCst) {
            0 if form["refresh_token"] == current => {}
            503 => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
            _ => return refused("invalid_grant"),
        }
        *desk.refresh_token.lock().unwrap() = format!("refresh-{}", count + 2);
    } else {
        if form["code"] != format!("code-{}", desk.redeemed.load(Ordering::SeqCst) + 1) {
            return refused("invalid_grant");
        }
        desk.redeemed.fetch_add(1, Ordering::SeqCst);
        *desk.refresh_token.lock().unwrap() = "refresh-1".to_owned();
    }
    let mut claims = json!({
        "iss": issuer, "aud": "shop", "sub": "alice", "sid": "s-1", "iat": seconds(), "exp": seconds() + 600,
        "auth_time": seconds(), "roles": ["customer"],
    });
    if !refresh {
        claims["nonce"] = json!(*desk.nonce.lock().unwrap());
    }
    change(&mut claims, &desk.claims.lock().unwrap());
    let id_token = sign_token(&desk.signer, "JWT", claims.as_object().unwrap()).unwrap();
    let lifetime = if refresh { &desk.renewed_for } else { &desk.lifetime };
    axum::Json(json!({
        "access_token": *desk.access_token.lock().unwrap(), "token_type": "Bearer", "expires_in": lifetime.load(Ordering::SeqCst), "id_token": id_token,
        "refresh_token": *desk.refresh_token.lock().unwrap(),
    }))
    .into_response()
}

fn url_decoded(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| {
        let mut bytes = Vec::new();
        let mut rest = part.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'+' => bytes.push(b' '),
                b'%' => {
                    let hex: Vec<u8> = rest.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                }
                other => bytes.push(other),
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(n, v)| (decode(n), decode(v))).collect()
}

/// A browser with one jar of cookies for one host.
#[derive(Clone)]
struct Browser {
    endpoint: Endpoint,
    host: String,
    jar: BTreeMap<String, String>,
}

impl Browser {
    fn new(testbed: &TestBed) -> Self {
        Self { endpoint: testbed.endpoint(), host: "localhost".to_owned(), jar: BTreeMap::new() }
    }

    async fn send(&mut self, mut request: Request) -> Answer {
        let cookies: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.field("cookie", &cookies.join("; "));
        }
        let answer = http1::ask(&self.endpoint, &request).await.unwrap();
        for (_, set) in answer.fields.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, rest) = set.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if set.contains("Max-Age=0") || value.is_empty() {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    fn request(&self, method: &'static str, target: &str) -> Request {
        Request::new(method, &self.host, target)
    }

    /// Opens a page.
    async fn open(&mut self, target: &str) -> Answer {
        let request =
            self.request("GET", target).field("accept", "text/html,*/*").field("sec-fetch-mode", "navigate");
        self.send(request).await
    }

    /// What a script of a page calls.
    async fn call(&mut self, target: &str) -> Answer {
        let request =
            self.request("GET", target).field("accept", "application/json").field("sec-fetch-mode", "cors");
        self.send(request).await
    }

    async fn post(&mut self, target: &str, from: &[(&str, &str)]) -> Answer {
        let mut request = self.request("POST", target);
        for (name, value) in from {
            request = request.field(name, value);
        }
        request.body = b"{}".to_vec();
        self.send(request).await
    }

    fn session(&self) -> Option<&String> {
        self.jar.get("__Host-bastide-session")
    }
}

/// Where a redirect to the provider leads: its parameters.
fn sent_to(answer: &Answer, provider: &Provider) -> BTreeMap<String, String> {
    assert_eq!(answer.status, 303, "{answer:?}");
    let location = answer.field("location").unwrap();
    let query = location.strip_prefix(&format!("{}/authorize?", provider.issuer)).expect("the provider");
    url_decoded(query).into_iter().collect()
}

/// What a provider is asked for is this client's login.
fn assert_is_the_shops(asked: &BTreeMap<String, String>) {
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "shop"),
        ("redirect_uri", "https://localhost/auth/callback"),
        ("scope", "openid"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(asked[name], value);
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Comes back from the provider with the next code.
async fn come_back(browser: &mut Browser, provider: &Provider, asked: &BTreeMap<String, String>) -> Answer {
    let code = provider.desk.redeemed.load(Ordering::SeqCst) + 1;
    *provider.desk.nonce.lock().unwrap() = asked["nonce"].clone();
    let target =
        format!("/auth/callback?code=code-{code}&state={}&iss={}", asked["state"], encoded(&provider.issuer));
    browser.open(&target).await
}

async fn log_in(browser: &mut Browser, provider: &Provider, target: &str) -> Answer {
    let away = browser.open(target).await;
    let asked = sent_to(&away, provider);
    come_back(browser, provider, &asked).await
}

fn rules(provider: &Provider, upstream: &Upstream) -> String {
    format!(
        "workers: 2\nroles: {{ customer: {{}} }}\nauthentication:\n  audience: town\n  issuers:\n    - issuer: {}\n      \
         allow_private_addresses: true\n      leeway: 0s\n  session: {{ client: shop, secret: \"${{file:secret.txt}}\" }}\n  \
         step_up: [ {{ acr: gold, amr: [ pwd, otp ], max_age: 5m }} ]\n\
         services: {{ shop: [ http://{} ] }}\nroutes:\n  - match: localhost/auth/**\n    to: sessions\n    authenticate: none\n    \
         allow: anyone\n  - match: other.test/auth/**\n    to: sessions\n    authenticate: none\n    allow: anyone\n  \
         - name: shop\n    match: localhost/shop/**\n    to: shop\n    authenticate: [ session, jwt ]\n    upgrades: [ websocket ]\n  \
         - name: vip\n    match: localhost/vip/**\n    to: shop\n    authenticate: [ session, jwt ]\npolicies:\n  inline: |\n    \
         permit (principal in Role::\"customer\", action, resource == Route::\"shop\");\n    \
         permit (principal in Role::\"customer\", action, resource == Route::\"vip\")\n      \
         when {{ context has acr && context.acr == \"gold\" }};\n",
        provider.issuer, upstream.address
    )
}

async fn testbed(provider: &Provider, upstream: &Upstream) -> TestBed {
    testbed_of(&rules(provider, upstream)).await
}

async fn testbed_of(rules: &str) -> TestBed {
    let mut testbed = TestBed::prepare("");
    std::fs::write(testbed.path("secret.txt"), "a-secret").unwrap();
    testbed.configure(rules);
    testbed.start_gateway().await;
    let mut browser = Browser::new(&testbed);
    until("the provider's metadata", async || (browser.open("/shop/").await.status == 303).then_some(()))
        .await;
    testbed
}

/// Who names no host has come to our own address, which may be one that only those behind a translation know.
#[tokio::test]
async fn nobody_is_told_by_a_login_which_address_they_have_come_to() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed_of(&rules(&provider, &upstream).replace("match: localhost/", "match: /")).await;
    for (line, status) in [
        ("GET /shop/list HTTP/1.0\r\n", "401"),
        ("GET /auth/login?return=/shop/list HTTP/1.0\r\n", "400"),
        ("GET /auth/login?return=/shop/list HTTP/1.0\r\nx-forwarded-host: localhost\r\n", "400"),
        ("GET /shop/list HTTP/1.0\r\nhost: localhost\r\n", "303"),
        ("GET /auth/login?return=/shop/list HTTP/1.0\r\nhost: localhost\r\n", "303"),
    ] {
        let mut socket = tokio::net::TcpStream::connect(testbed.clear_address()).await.unwrap();
        socket.write_all(format!("{line}accept: text/html\r\n\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{line}{said}");
        assert_eq!(said.contains("redirect_uri="), status == "303", "{line}{said}");
    }
}

/// Over `http://` jars return neither a cookie that is `Secure` nor one called `__Host-…`.
#[tokio::test]
async fn on_this_machine_a_session_comes_back_without_tls_too() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    let mut browser = Browser { endpoint: testbed.clear_endpoint(), ..Browser::new(&testbed) };
    let away = browser.open("/shop/list").await;
    let asked = sent_to(&away, &provider);
    assert_eq!(asked["redirect_uri"], "http://localhost/auth/callback");
    let back = come_back(&mut browser, &provider, &asked).await;
    assert_eq!((back.status, back.field("location")), (303, Some("/shop/list")), "{}", testbed.log());
    for (name, set) in away.fields.iter().chain(&back.fields).filter(|(name, _)| name == "set-cookie") {
        assert!(set.starts_with("bastide-") && !set.contains("Secure"), "{name}: {set}");
    }
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["bastide-session"]);
    assert_eq!(browser.open("/shop/list").await.status, 200);
    // Over TLS that cookie is nobody's.
    browser.endpoint = testbed.endpoint();
    assert_eq!(browser.open("/shop/list").await.status, 303);
}

#[tokio::test]
async fn a_browser_logs_in_comes_back_and_logs_out() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    let mut browser = Browser::new(&testbed);
    // A call is told, a page is sent away; nothing has reached the service.
    let told = browser.call("/shop/list").await;
    assert_eq!((told.status, told.field("location")), (401, None));
    assert_eq!(
        browser.post("/shop/list", &[("accept", "text/html")]).await.status,
        401,
        "a form is not replayed"
    );
    let away = browser.open("/shop/list?page=2").await;
    let asked = sent_to(&away, &provider);
    assert_eq!(upstream.seen(), 0);
    assert_is_the_shops(&asked);
    let back = come_back(&mut browser, &provider, &asked).await;
    assert_eq!((back.status, back.field("location")), (303, Some("/shop/list?page=2")), "{}", testbed.log());
    let cookie =
        back.fields.iter().find(|(name, value)| name == "set-cookie" && value.contains("session")).unwrap();
    for attribute in ["Path=/;", "Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.1.contains(attribute), "{attribute}: {}", cookie.1);
    }
    assert_eq!(browser.jar.len(), 1, "the login's own cookie is gone: {:?}", browser.jar.keys());
    let form = provider.desk.forms.lock().unwrap()[0].clone();
    assert_eq!(form["redirect_uri"], "https://localhost/auth/callback");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, form["code_verifier"].as_bytes());
    assert_eq!(keys::encoding::encode_base64url(hash.as_ref()), asked["code_challenge"]);
    assert_eq!(browser.open("/shop/list").await.status, 200, "{}", testbed.log());
    assert_eq!(browser.call("/shop/list").await.status, 200);
    // Logging out ends it here and there, and its cookie is worth nothing afterwards.
    let stolen = browser.clone();
    let own = [("origin", "https://localhost")];
    let out = browser.post("/auth/logout", &own).await;
    let location = out.field("location").unwrap();
    assert!(location.starts_with(&format!("{}/logout?id_token_hint=", provider.issuer)), "{location}");
    assert!(browser.session().is_none());
    for mut browser in [stolen, browser] {
        assert_eq!(browser.call("/shop/list").await.status, 401);
        sent_to(&browser.open("/shop/list").await, &provider);
    }
}

#[tokio::test]
async fn fifty_requests_at_the_end_of_the_tokens_refresh_once() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    provider.desk.lifetime.store(1, Ordering::SeqCst);
    let mut browser = Browser::new(&testbed);
    assert_eq!(log_in(&mut browser, &provider, "/shop/").await.status, 303, "{}", testbed.log());
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut browser = browser.clone();
        tasks.spawn(async move { browser.call("/shop/").await.status });
    }
    let statuses = tasks.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?} {}", testbed.log());
    assert_eq!(provider.desk.refreshes.load(Ordering::SeqCst), 1, "one refresh for all, over two cores");
    // Where the provider cannot be asked, it is said; where it refuses, the session is over.
    provider.desk.renewed_for.store(1, Ordering::SeqCst);
    let mut second = Browser::new(&testbed);
    provider.desk.lifetime.store(1, Ordering::SeqCst);
    assert_eq!(log_in(&mut second, &provider, "/shop/").await.status, 303);
    provider.desk.refuse_refresh.store(503, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(second.call("/shop/").await.status, 503);
    assert!(second.session().is_some());
    provider.desk.refuse_refresh.store(400, Ordering::SeqCst);
    until("the refusal", async || (second.call("/shop/").await.status == 401).then_some(())).await;
    provider.desk.refuse_refresh.store(0, Ordering::SeqCst);
    assert_eq!(second.call("/shop/").await.status, 401, "what was refused once is over");
    assert_eq!(browser.call("/shop/").await.status, 200, "another's session goes on");
}

#[tokio::test]
async fn an_answer_that_no_login_of_this_browser_asked_for_opens_nothing() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    let mut victim = Browser::new(&testbed);
    let asked = sent_to(&victim.open("/shop/").await, &provider);
    *provider.desk.nonce.lock().unwrap() = asked["nonce"].clone();
    let (state, issuer) = (&asked["state"], encoded(&provider.issuer));
    let mut attacker = Browser::new(&testbed);
    let foreign = sent_to(&attacker.open("/shop/").await, &provider)["state"].clone();
    for (why, target) in [
        ("no state", format!("/auth/callback?code=code-1&iss={issuer}")),
        ("the attacker's state", format!("/auth/callback?code=code-1&state={foreign}&iss={issuer}")),
        ("another state", format!("/auth/callback?code=code-1&state={}x&iss={issuer}", &state[..8])),
        ("two states", format!("/auth/callback?code=code-1&state={state}&state={state}&iss={issuer}")),
    ] {
        let answer = victim.open(&target).await;
        assert_eq!((answer.status, victim.session()), (400, None), "{why}");
    }
    assert_eq!(provider.desk.redeemed.load(Ordering::SeqCst), 0, "no code was redeemed");
    // Mix-up (RFC 9207): another server's answer to our question, or one that does not say.
    for (why, end) in [("another issuer", "&iss=https%3A%2F%2Fevil.example"), ("no issuer", "")] {
        let mut victim = victim.clone();
        let answer = victim.open(&format!("/auth/callback?code=code-1&state={state}{end}")).await;
        assert_eq!((answer.status, victim.session()), (400, None), "{why}");
    }
    assert!(provider.desk.forms.lock().unwrap().is_empty(), "no code left the gateway");
    // The honest answer; the same once more finds no login.
    let back = come_back(&mut victim, &provider, &asked).await;
    assert_eq!(back.status, 303, "{}", testbed.log());
    assert_eq!(
        victim.open(&format!("/auth/callback?code=code-1&state={state}&iss={issuer}")).await.status,
        400
    );
}

#[tokio::test]
async fn an_id_token_is_for_us_and_for_this_login() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    for (why, changes, status) in [
        ("honest", json!({}), 303),
        ("another login's nonce", json!({ "nonce": "another" }), 400),
        ("no nonce", json!({ "nonce": null }), 400),
        ("another client's", json!({ "aud": "other" }), 400),
        ("two audiences and no party", json!({ "aud": ["shop", "other"] }), 400),
        ("two audiences and we are the party", json!({ "aud": ["shop", "other"], "azp": "shop" }), 303),
        ("another party", json!({ "azp": "other" }), 400),
        ("another issuer", json!({ "iss": "https://evil.example" }), 400),
        ("over", json!({ "exp": seconds() - 1 }), 400),
        ("another access token's hash", json!({ "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" }), 400),
        ("a logout token", json!({ "events": {} }), 400),
    ] {
        *provider.desk.claims.lock().unwrap() = changes;
        let mut browser = Browser::new(&testbed);
        assert_eq!(
            log_in(&mut browser, &provider, "/shop/").await.status,
            status,
            "{why}: {}",
            testbed.log()
        );
        assert_eq!(browser.session().is_some(), status == 303, "{why}");
    }
}

#[tokio::test]
async fn a_cookie_is_good_where_it_was_given_and_as_it_was_given() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let mut testbed = testbed(&provider, &upstream).await;
    let mut browser = Browser::new(&testbed);
    let mut fixed = Browser::new(&testbed);
    assert_eq!(log_in(&mut fixed, &provider, "/shop/").await.status, 303);
    // Session fixation: a login never goes on in the session that was there before.
    browser.jar = fixed.jar.clone();
    let asked = sent_to(&browser.open("/auth/login?return=/shop/").await, &provider);
    assert_eq!(come_back(&mut browser, &provider, &asked).await.status, 303);
    assert_ne!(browser.session(), fixed.session());
    assert_eq!(browser.call("/shop/").await.status, 200);
    assert_eq!(fixed.call("/shop/").await.status, 401, "whoever fixed it has nothing");
    let good = browser.session().unwrap().clone();
    let login = sent_to(&Browser::new(&testbed).open("/shop/").await, &provider);
    drop(login);
    for (why, cookie) in [
        ("tampered", format!("{}AAAA", &good[..good.len() - 4])),
        ("cut", good[..good.len() - 8].to_owned()),
        ("nothing", String::new()),
        ("long", "A".repeat(9000)),
        ("text", "alice".to_owned()),
    ] {
        let mut thief = Browser::new(&testbed);
        thief.jar.insert("__Host-bastide-session".to_owned(), cookie);
        assert_eq!(thief.call("/shop/").await.status, 401, "{why}");
    }
    // Of another place, as another name, twice; over cleartext it is another origin's.
    let mut elsewhere = browser.clone();
    elsewhere.host = "other.test".to_owned();
    let out = elsewhere.post("/auth/logout", &[("origin", "https://other.test")]).await;
    assert!(
        out.field("location").is_some_and(|to| to.starts_with("https://other.test/auth/signed-out")),
        "{out:?}"
    );
    assert_eq!(browser.call("/shop/").await.status, 200, "another host's cookie ends nothing here");
    let twice = browser.request("GET", "/shop/").field("cookie", &format!("__Host-bastide-session={good}"));
    assert_eq!(browser.send(twice).await.status, 401, "two of one name");
    let clear = Browser { endpoint: testbed.clear_endpoint(), ..browser.clone() }.call("/shop/").await;
    assert_eq!(clear.status, 401);
    // The service never sees it.
    assert_eq!(browser.call("/shop/").await.status, 200);
    // A process that has other keys knows nothing of it.
    testbed.stop_gateway().await;
    testbed.start_gateway().await;
    browser.endpoint = testbed.endpoint();
    assert_eq!(browser.call("/shop/").await.status, 401);
}

#[tokio::test]
async fn other_sites_change_nothing_with_a_session() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    let mut browser = Browser::new(&testbed);
    assert_eq!(log_in(&mut browser, &provider, "/shop/").await.status, 303);
    let before = upstream.seen();
    for (from, status) in [
        (vec![("origin", "https://localhost")], 200),
        (vec![("sec-fetch-site", "same-origin")], 200),
        (vec![], 403),
        (vec![("origin", "https://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("origin", "http://localhost")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("sec-fetch-site", "same-site")], 403),
        (vec![("origin", "https://localhost"), ("sec-fetch-site", "cross-site")], 403),
    ] {
        assert_eq!(browser.post("/shop/buy", &from).await.status, status, "{from:?}");
        let logout = browser.clone().post("/auth/logout", &from).await.status;
        assert!(status == 200 || logout == 403, "logout from {from:?}: {logout}");
        if status == 200 {
            // It was ended by the honest logout above.
            assert_eq!(log_in(&mut browser, &provider, "/shop/").await.status, 303);
        }
    }
    assert_eq!(upstream.seen() - before, 2, "the service saw the site's own alone");
    // A WebSocket of another site's page (cross-site WebSocket hijacking).
    let socket = |origin: &str| {
        browser
            .request("GET", "/shop/live")
            .field("connection", "upgrade")
            .field("upgrade", "websocket")
            .field("origin", origin)
    };
    let (evil, own) = (socket("https://evil.example"), socket("https://localhost"));
    assert_eq!(browser.send(evil).await.status, 403);
    assert_ne!(browser.send(own).await.status, 403);
    // Reading is no change: links from elsewhere work.
    let link = browser.request("GET", "/shop/").field("sec-fetch-site", "cross-site");
    assert_eq!(browser.send(link).await.status, 200);
}

#[tokio::test]
async fn nobody_is_sent_to_another_host_after_a_login() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    for (wanted, expected) in [
        ("/shop/a%3Fb", "/shop/a?b"),
        ("//evil.example", "/"),
        ("/%5Cevil.example", "/"),
        ("https://evil.example", "/"),
        ("%2F%2Fevil.example", "/"),
        ("/%0d%0aset-cookie:a=b", "/"),
        ("", "/"),
    ] {
        let mut browser = Browser::new(&testbed);
        let away = browser.open(&format!("/auth/login?return={wanted}")).await;
        let asked = sent_to(&away, &provider);
        let back = come_back(&mut browser, &provider, &asked).await;
        assert_eq!((back.status, back.field("location")), (303, Some(expected)), "{wanted}");
    }
}

#[tokio::test]
async fn the_provider_ends_sessions_by_back_channel_logout() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    let mut browser = Browser::new(&testbed);
    assert_eq!(log_in(&mut browser, &provider, "/shop/").await.status, 303);
    *provider.desk.claims.lock().unwrap() = json!({ "sub": "bob", "sid": "s-2" });
    let mut other = Browser::new(&testbed);
    assert_eq!(log_in(&mut other, &provider, "/shop/").await.status, 303);
    let tell = async |token: &str| {
        let mut request = Request::new("POST", "localhost", "/auth/backchannel-logout")
            .field("content-type", "application/x-www-form-urlencoded");
        request.body = format!("logout_token={token}").into_bytes();
        http1::ask(&testbed.endpoint(), &request).await.unwrap().status
    };
    let honest = provider.logout_token(json!({}));
    for (why, token) in [
        ("none", String::new()),
        ("tampered", format!("{}AAAA", &honest[..honest.len() - 4])),
        ("another client's", provider.logout_token(json!({ "aud": "other" }))),
        ("another issuer's", provider.logout_token(json!({ "iss": "https://evil.example" }))),
        ("old", provider.logout_token(json!({ "iat": seconds() - 301 }))),
        ("without the event", provider.logout_token(json!({ "events": {} }))),
        ("an ID token", provider.logout_token(json!({ "events": null, "nonce": "x" }))),
        ("with a nonce", provider.logout_token(json!({ "nonce": "x" }))),
    ] {
        assert_eq!(tell(&token).await, 400, "{why}");
        assert_eq!(browser.call("/shop/").await.status, 200, "{why}");
    }
    assert_eq!(tell(&honest).await, 200, "{}", testbed.log());
    assert_eq!(browser.call("/shop/").await.status, 401);
    assert_eq!(other.call("/shop/").await.status, 200, "another person's session goes on");
}

#[tokio::test]
async fn a_policy_that_wants_a_stronger_login_gets_it_asked_for_once() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    let mut browser = Browser::new(&testbed);
    assert_eq!(log_in(&mut browser, &provider, "/shop/").await.status, 303);
    // Who only calls is told (RFC 9470).
    let told = browser.call("/vip/").await;
    let challenge = told.field("www-authenticate").unwrap_or_default();
    assert_eq!(told.status, 401);
    for part in ["insufficient_user_authentication", "acr_values=\"gold\"", "max_age=\"300\""] {
        assert!(challenge.contains(part), "{challenge}");
    }
    let asked = sent_to(&browser.open("/vip/").await, &provider);
    assert_eq!((asked["acr_values"].as_str(), asked["max_age"].as_str()), ("gold", "300"));
    // A provider that does not do it: no circle.
    assert_eq!(come_back(&mut browser, &provider, &asked).await.status, 303);
    assert_eq!(browser.open("/vip/").await.status, 403, "{}", testbed.log());
    assert_eq!(browser.open("/shop/").await.status, 200);
    // Whoever leaves `max_age` out on the way gets an old login from the provider.
    let gold = |auth_time: Value| json!({ "acr": "gold", "amr": ["pwd", "otp"], "auth_time": auth_time });
    for (auth_time, status) in [
        (json!(seconds() - 3600), 400),
        (json!(seconds() - 302), 400),
        (Value::Null, 400),
        (json!("now"), 400),
        (json!(seconds() - 200), 303),
    ] {
        *provider.desk.claims.lock().unwrap() = gold(auth_time.clone());
        let mut browser = browser.clone();
        let asked = sent_to(&browser.open("/auth/login?return=/vip/&acr=gold").await, &provider);
        let back = come_back(&mut browser, &provider, &asked).await;
        assert_eq!(back.status, status, "{auth_time}: {}", testbed.log());
        let vip = if status == 303 { 200 } else { 403 };
        assert_eq!(browser.open("/vip/").await.status, vip, "{auth_time}");
    }
    *provider.desk.claims.lock().unwrap() = gold(json!(seconds()));
    let mut strong = Browser::new(&testbed);
    assert_eq!(log_in(&mut strong, &provider, "/shop/").await.status, 303);
    assert_eq!(strong.open("/vip/").await.status, 200);
    // A bearer of a token; one whom no login would help gets a plain no.
    let token = |roles: Value, acr: &str| {
        let claims = json!({
            "iss": provider.issuer, "aud": "town", "sub": "x", "exp": seconds() + 60, "roles": roles, "acr": acr,
        });
        sign_token(&provider.desk.signer, "at+jwt", claims.as_object().unwrap()).unwrap()
    };
    for (roles, acr, status) in
        [(json!(["customer"]), "silver", 401), (json!(["customer"]), "gold", 200), (json!([]), "silver", 403)]
    {
        let request = Request::new("GET", "localhost", "/vip/").bearer(&token(roles, acr));
        let answer = http1::ask(&testbed.endpoint(), &request).await.unwrap();
        assert_eq!(answer.status, status, "{acr}: {}", testbed.log());
        let told = answer.field("www-authenticate").unwrap_or_default();
        assert_eq!(told.contains("insufficient_user_authentication"), status == 401, "{told}");
    }
}

#[tokio::test]
async fn a_reload_that_makes_something_else_of_tokens_ends_the_sessions_of_before() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    let mut browser = Browser::new(&testbed);
    assert_eq!(log_in(&mut browser, &provider, "/shop/").await.status, 303);
    assert_eq!(browser.call("/shop/").await.status, 200, "{}", testbed.log());
    // What is about something else ends nothing.
    let before = rules(&provider, &upstream);
    let other = before.replace("max_age: 5m", "max_age: 6m");
    testbed.configure(&other);
    until("the reload", async || {
        let challenge = browser.call("/vip/").await;
        challenge.field("www-authenticate").is_some_and(|told| told.contains("max_age=\"360\"")).then_some(())
    })
    .await;
    assert_eq!(browser.call("/shop/").await.status, 200, "{}", testbed.log());
    // Roles come from another claim: a token would lose its own at once, and so does a session.
    testbed.configure(&other.replacen("leeway: 0s", "leeway: 0s\n      roles: [ groups ]", 1));
    until("the reload", async || (browser.call("/shop/").await.status == 401).then_some(())).await;
    assert_eq!(log_in(&mut browser, &provider, "/shop/").await.status, 303);
    assert_eq!(browser.call("/shop/").await.status, 403, "{}", testbed.log());
}

#[tokio::test]
async fn where_requests_are_pushed_a_browser_carries_but_their_name() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let pushing = |status, answer: Value| *provider.desk.pushing.lock().unwrap() = Some((status, answer));
    let named = |name: &str| json!({ "request_uri": name, "expires_in": 60 });
    pushing(StatusCode::CREATED, named("urn:x:1"));
    let testbed = testbed(&provider, &upstream).await;
    let mut browser = Browser::new(&testbed);
    let here = |answer: &Answer| {
        assert_eq!(answer.status, 303, "{answer:?}");
        answer.field("location").unwrap().strip_prefix("https://localhost").unwrap().to_owned()
    };
    // The page itself asks nobody, and begins nothing.
    let own = here(&browser.open("/shop/list?page=2").await);
    assert_eq!(own, "/auth/login?return=%2Fshop%2Flist%3Fpage%3D2");
    assert!(browser.jar.is_empty() && provider.desk.pushed.lock().unwrap().is_empty());
    let carried = sent_to(&browser.open(&own).await, &provider);
    let carries = [("client_id", "shop"), ("request_uri", "urn:x:1")];
    let carries = carries.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(carried, BTreeMap::from(carries));
    let (who, asked) = provider.desk.pushed.lock().unwrap().pop().unwrap();
    assert_eq!(who, format!("Basic {}", keys::encoding::encode_base64(b"shop:a-secret")));
    assert_is_the_shops(&asked);
    let back = come_back(&mut browser, &provider, &asked).await;
    assert_eq!((back.status, back.field("location")), (303, Some("/shop/list?page=2")), "{}", testbed.log());
    assert_eq!(browser.open("/shop/list").await.status, 200);
    // A stronger login too.
    let own = here(&browser.open("/vip/").await);
    sent_to(&browser.open(&own).await, &provider);
    let (_, asked) = provider.desk.pushed.lock().unwrap().pop().unwrap();
    assert_eq!((asked["acr_values"].as_str(), asked["max_age"].as_str()), ("gold", "300"));
    // Nobody is sent to a provider that does not take the request.
    let (longest, longer) = ("u".repeat(512), "u".repeat(513));
    for (status, answer, sent) in [
        (StatusCode::CREATED, named(&longest), 303),
        (StatusCode::CREATED, named(&longer), 503),
        (StatusCode::CREATED, named(""), 503),
        (StatusCode::CREATED, json!({}), 503),
        (StatusCode::OK, named("urn:x:2"), 503),
        (StatusCode::BAD_REQUEST, json!({ "error": "invalid_request" }), 503),
        (StatusCode::SERVICE_UNAVAILABLE, json!({}), 503),
    ] {
        pushing(status, answer.clone());
        let mut browser = Browser::new(&testbed);
        let away = browser.open("/auth/login?return=/shop/").await;
        assert_eq!(away.status, sent, "{status} {answer}: {}", testbed.log());
        assert_eq!(browser.jar.is_empty(), sent == 503, "{status} {answer}");
    }
}

/// A realm and the gateway whose browsers log in at it, with more settings of `session:`, and
/// whom its route lets in; and a person's password.
async fn testbed_with_a_realm(upstream: &Upstream, session: &str, allow: &str) -> (TestBed, String) {
    let mut testbed = TestBed::prepare("");
    std::fs::write(testbed.path("secret.txt"), "a-client-secret-of-more-than-32-characters").unwrap();
    testbed.configure(&format!(
        "roles: {{ customer: {{}} }}\nrealms:\n  town:\n    issuer: https://localhost\n    \
         require_pushed_requests: true\n    resources: {{ \"https://shop.test\": {{}} }}\n    clients:\n      shop:\n        secret: \"${{file:secret.txt}}\"\n        \
         redirect_uris: [ https://localhost/auth/callback ]\n        \
         post_logout_redirect_uris: [ https://localhost/auth/signed-out ]\n        scopes: [ openid ]\n        \
         resources: [ \"https://shop.test\" ]\n        trusted: true\n\
         authentication:\n  audience: https://shop.test\n  issuers: [ https://localhost ]\n  \
         session: {{ client: shop, secret: \"${{file:secret.txt}}\", resource: \"https://shop.test\"{session} }}\n\
         services: {{ shop: [ http://{} ] }}\nroutes:\n  - match: localhost/**\n    to: identity\n    authenticate: none\n    \
         allow: anyone\n  - match: localhost/auth/**\n    to: sessions\n    authenticate: none\n    allow: anyone\n  \
         - name: shop\n    match: localhost/shop/**\n    to: shop\n    authenticate: session\n    allow: {allow}\n\
         policies:\n  inline: |\n    permit (principal in Role::\"customer\", action, resource == Route::\"shop\");\n",
        upstream.address
    ));
    assert_eq!(testbed.bastide(&["init"]).0, 0);
    let (code, out, err) =
        testbed.bastide(&["user", "add", "alice", "--role", "customer", "--output", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    let password = serde_json::from_str::<Value>(&out).unwrap()["password"].as_str().unwrap().to_owned();
    testbed.start_gateway().await;
    (testbed, password)
}

/// Logs a person in at the realm of the same process, on its pages.
async fn log_in_at_realm(browser: &mut Browser, password: &str) -> Answer {
    let away = until("the metadata", async || {
        let answer = browser.open("/shop/list").await;
        (answer.status == 303).then_some(answer)
    })
    .await;
    let mut location = away.field("location").unwrap().strip_prefix("https://localhost").unwrap().to_owned();
    let page = loop {
        let answer = browser.open(&location).await;
        match answer.field("location") {
            Some(next) => location = next.strip_prefix("https://localhost").unwrap_or(next).to_owned(),
            None => break answer,
        }
    };
    let html = String::from_utf8_lossy(&page.body).into_owned();
    let attribute = |before: &str| html.split(before).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let form = format!(
        "flow={}&csrf={}&username=alice&password={password}",
        encoded(attribute("name=\"flow\" value=\"")),
        encoded(attribute("name=\"csrf\" value=\""))
    );
    let mut submit = browser
        .request("POST", attribute("action=\""))
        .field("content-type", "application/x-www-form-urlencoded")
        .field("origin", "https://localhost")
        .field("accept", "text/html");
    submit.body = form.into_bytes();
    let mut answer = browser.send(submit).await;
    while let Some(next) = answer.field("location").map(str::to_owned) {
        let next = next.strip_prefix("https://localhost").unwrap_or(&next).to_owned();
        answer = browser.open(&next).await;
    }
    answer
}

#[tokio::test]
async fn a_realm_of_this_process_is_a_provider_like_any_other() {
    let upstream = Upstream::start().await;
    let (testbed, password) = testbed_with_a_realm(&upstream, ", claims_from: access_token", "policy").await;
    let mut browser = Browser::new(&testbed);
    let answer = log_in_at_realm(&mut browser, &password).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"here".as_slice()), "{}", testbed.log());
    // What ends at the provider ends here: the person's session there is revoked.
    let out = browser.post("/auth/logout", &[("origin", "https://localhost")]).await;
    assert!(out.field("location").is_some_and(|to| to.contains("/logout?id_token_hint=")), "{out:?}");
    assert_eq!(browser.call("/shop/list").await.status, 401);
}

#[tokio::test]
async fn a_session_ends_with_its_grant_whichever_token_it_is_of() {
    let upstream = Upstream::start().await;
    for session in ["", ", claims_from: access_token"] {
        let (testbed, password) = testbed_with_a_realm(&upstream, session, "authenticated").await;
        let (mut browser, mut other) = (Browser::new(&testbed), Browser::new(&testbed));
        assert_eq!(log_in_at_realm(&mut browser, &password).await.status, 200, "{}", testbed.log());
        let (code, out, err) = testbed.bastide(&["session", "grants", "alice", "--output", "json"]);
        assert_eq!(code, 0, "{out}{err}");
        let grants: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(log_in_at_realm(&mut other, &password).await.status, 200, "{}", testbed.log());
        let grant = grants[0]["id"].as_str().unwrap_or_else(|| panic!("{out}"));
        assert_eq!(testbed.bastide(&["revoke", "grant", grant]).0, 0);
        until("the revocation", async || (browser.call("/shop/list").await.status == 401).then_some(()))
            .await;
        assert_eq!(other.call("/shop/list").await.status, 200, "another grant's goes on: {session}");
    }
}

#[tokio::test]
async fn a_session_of_an_id_token_ends_with_its_access_token() {
    let (provider, upstream) = (Provider::start().await, Upstream::start().await);
    let testbed = testbed(&provider, &upstream).await;
    let mut browsers = Vec::new();
    for id in ["t-1", "t-2"] {
        let claims = json!({ "iss": provider.issuer, "aud": "api", "sub": "alice", "exp": seconds() + 600, "jti": id });
        let token = sign_token(&provider.desk.signer, "at+jwt", claims.as_object().unwrap()).unwrap();
        *provider.desk.access_token.lock().unwrap() = token;
        let mut browser = Browser::new(&testbed);
        assert_eq!(log_in(&mut browser, &provider, "/shop/").await.status, 303);
        assert_eq!(browser.call("/shop/").await.status, 200, "{}", testbed.log());
        browsers.push(browser);
    }
    assert_eq!(testbed.bastide(&["revoke", "token", "t-1"]).0, 0);
    until("the revocation", async || (browsers[0].call("/shop/").await.status == 401).then_some(())).await;
    assert_eq!(browsers[1].call("/shop/").await.status, 200, "another login's goes on");
    // An access token without `iat` is no older than its ID token.
    assert_eq!(testbed.bastide(&["revoke", "subject", "alice"]).0, 0);
    until("the revocation", async || (browsers[1].call("/shop/").await.status == 401).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(log_in(&mut browsers[1], &provider, "/shop/").await.status, 303);
    assert_eq!(browsers[1].call("/shop/").await.status, 200, "what is issued later is good");
}

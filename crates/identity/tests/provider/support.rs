//! A realm with clients and people, a clock that is moved by hand, and a browser.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use identity::deliver::Delivery;
use identity::mail::MailTransport;
use identity::observe::{Event, Observe, Place, Reserving};
use identity::{
    Client, ClientAuthentication, Deliver, GrantType, Realm, RealmSettings, Resource, User, World, router,
};
use keys::encoding::{decode_base64url, encode_base64url};
use keys::{Algorithm, KeySet, SystemRandom};
use model::principal::{Peer, TlsPeer};
use model::{Clock, Secret, Timestamp};
use serde_json::Value;
use tower::ServiceExt as _;

pub(crate) const ISSUER: &str = "https://id.example.org/realms/shop";
pub(crate) const NOW: u64 = 1_795_384_267;
pub(crate) const SECRET: &str = "a-secret-of-the-web-client-0123456789";
pub(crate) const CALLBACK: &str = "https://app.example/cb";
pub(crate) const ORDERS: &str = "https://orders.example.org";
pub(crate) const PAYMENTS: &str = "https://payments.example.org";
pub(crate) const PASSWORD: &str = "correct horse battery staple";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// A clock that stands still until it is moved.
pub(crate) struct HandClock {
    nanos: AtomicU64,
    /// What somebody else does meanwhile, once it was read so often.
    meanwhile: Mutex<Option<(usize, Meanwhile)>>,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        let nanos = AtomicU64::new(Timestamp::from_unix_seconds(NOW).unix_nanos());
        Arc::new(Self { nanos, meanwhile: Mutex::default() })
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.nanos.fetch_add(seconds * 1_000_000_000, Ordering::SeqCst);
    }

    pub(crate) fn set_back(&self, seconds: u64) {
        self.nanos.fetch_sub(seconds * 1_000_000_000, Ordering::SeqCst);
    }

    /// Has somebody else do something when it is read next, after so many times. The runtime has
    /// to have several threads, and the store another clock.
    pub(crate) fn meanwhile(&self, reads: usize, act: impl Future<Output = ()> + Send + 'static) {
        let act = || tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(act));
        *self.meanwhile.lock().unwrap() = Some((reads, Box::new(act)));
    }

    /// Whether that was done; if not, it will not be.
    pub(crate) fn was_done(&self) -> bool {
        self.meanwhile.lock().unwrap().take().is_none()
    }

    fn due(&self) -> Option<Meanwhile> {
        let mut meanwhile = self.meanwhile.lock().unwrap();
        let (left, act) = meanwhile.take()?;
        if left == 0 {
            return Some(act);
        }
        *meanwhile = Some((left - 1, act));
        None
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        if let Some(act) = self.due() {
            act();
        }
        Timestamp::from_unix_nanos(self.nanos.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp::default())
    }
}

/// Takes down what would be delivered; fails, or is silent, while told to.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(crate) letters: Mutex<Vec<(String, String)>>,
    pub(crate) closed: std::sync::atomic::AtomicBool,
    /// Whoever is here never answers; empty: everybody does.
    pub(crate) silent: Mutex<String>,
    /// Nothing is delivered below this, and whoever registers is told; empty: everywhere.
    pub(crate) refuses: Mutex<String>,
}

impl Deliver for Mailbox {
    fn deliver(&self, url: String, form: String) -> Delivery<'_> {
        Box::pin(async move {
            if self.closed.load(Ordering::SeqCst) {
                return Err("closed".to_owned());
            }
            let silent = *self.silent.lock().unwrap() == url;
            if silent {
                std::future::pending::<()>().await;
            }
            self.letters.lock().unwrap().push((url, form));
            Ok(())
        })
    }

    fn refusal(&self, url: &str) -> Option<String> {
        let refuses = self.refuses.lock().unwrap();
        (!refuses.is_empty() && url.starts_with(refuses.as_str())).then(|| "nothing gets there".to_owned())
    }
}

/// Takes down what it is told of; has no place while it is full.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) is_full: std::sync::atomic::AtomicBool,
}

impl Observe for Diary {
    fn reserve(&self, _: Timestamp) -> Reserving<'_> {
        let events = Arc::clone(&self.events);
        let write = move |event| events.lock().unwrap().push(event);
        let place = (!self.is_full.load(Ordering::SeqCst)).then(|| Box::new(write) as Place);
        Box::pin(async move { place })
    }
}

/// What tokio lets a task do before it has to let others.
const BUDGET: usize = 128;

/// Something that is done step by step: in each poll the store answers once, however fast it is,
/// because everything else that tokio lets a task do is done before. Dropped, it goes no further.
pub(crate) struct Steps<'a, T>(Pin<Box<dyn Future<Output = T> + 'a>>);

impl<'a, T> Steps<'a, T> {
    pub(crate) fn of(future: impl Future<Output = T> + 'a) -> Self {
        Self(Box::pin(future))
    }

    /// Goes so many steps; what comes of it, if that was all.
    pub(crate) async fn go(&mut self, polls: usize) -> Option<T> {
        tokio::task::yield_now().await;
        let mut left = polls;
        let step = std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            for _ in 1..BUDGET {
                assert!(pin!(tokio::task::coop::consume_budget()).poll(context).is_ready());
            }
            self.0.as_mut().poll(context).map(Some)
        });
        step.await
    }
}

pub(crate) struct TestBed {
    pub(crate) realm: Arc<Realm>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) diary: Arc<Diary>,
    pub(crate) store: store::Store,
    /// Scheme and host of its issuer.
    origin: String,
    router: Router,
}

/// A response, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    /// Whatever a client is told is in the characters of RFC 6749 §4.1.2.1 and §5.2.
    fn assert_description_fits(&self) {
        let in_body = serde_json::from_str::<Value>(&self.text).ok();
        let in_body = in_body.and_then(|body| Some(body.get("error_description")?.as_str()?.to_owned()));
        for told in in_body.into_iter().chain(query(self.field("location")).remove("error_description")) {
            let fits = |byte: u8| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            assert!(told.bytes().all(fits), "{told}");
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts an OAuth error.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, error: &str) {
        assert_eq!(
            (self.status.as_u16(), self.json()["error"].as_str().unwrap()),
            (status, error),
            "{self:?}"
        );
    }

    /// The parameters of the address that it leads to.
    #[track_caller]
    pub(crate) fn answer(&self) -> BTreeMap<String, String> {
        let address = self.field("location");
        assert!(address.starts_with(CALLBACK), "{self:?}");
        query(address)
    }
}

pub(crate) fn query(address: &str) -> BTreeMap<String, String> {
    let query = address.split_once('?').map_or("", |(_, query)| query);
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

pub(crate) fn client(id: &str, authentication: ClientAuthentication) -> Client {
    let mut client = Client::new(id, authentication);
    client.id_token_algorithm = Some(Algorithm::Es256);
    client
}

pub(crate) fn secret() -> ClientAuthentication {
    ClientAuthentication::Secret { hashes: vec![Client::secret_hash(SECRET).unwrap()] }
}

fn texts<T: FromIterator<String>>(names: &[&str]) -> T {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A client of people: everything allowed, no consent asked.
pub(crate) fn web(id: &str, authentication: ClientAuthentication) -> Client {
    let mut web = client(id, authentication);
    web.grant_types = [GrantType::AuthorizationCode, GrantType::RefreshToken].into();
    web.redirect_uris = vec![CALLBACK.to_owned()];
    web.post_logout_redirect_uris = vec!["https://app.example/bye".to_owned()];
    web.scopes = texts(&["openid", "profile", "email", "offline_access", "orders:read", "orders:write"]);
    web.resources = texts(&[ORDERS]);
    web.trusted = true;
    web
}

impl TestBed {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut RealmSettings)) -> Self {
        let clock = HandClock::new();
        let store = store::Store::in_memory(Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        Self::on(store, clock, change).await
    }

    /// With a way to a mail server.
    pub(crate) async fn with_mail(
        mail_transport: Arc<dyn MailTransport>,
        change: impl FnOnce(&mut RealmSettings),
    ) -> Self {
        let clock = HandClock::new();
        let store = store::Store::in_memory(Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        Self::whole(store, clock, Some(mail_transport), change).await
    }

    pub(crate) async fn on(
        store: store::Store,
        clock: Arc<HandClock>,
        change: impl FnOnce(&mut RealmSettings),
    ) -> Self {
        Self::whole(store, clock, None, change).await
    }

    pub(crate) async fn whole(
        store: store::Store,
        clock: Arc<HandClock>,
        mail_transport: Option<Arc<dyn MailTransport>>,
        change: impl FnOnce(&mut RealmSettings),
    ) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let diary = Arc::new(Diary::default());
        let world = World {
            store: store.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(SystemRandom::new()),
            deliver: Arc::clone(&mailbox) as Arc<dyn Deliver>,
            observer: Arc::clone(&diary) as Arc<dyn Observe>,
            mail_transport,
        };
        let mut settings = RealmSettings::new("shop", ISSUER);
        settings.scopes = [("orders:read", "see your orders"), ("orders:write", ""), ("pay", "")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into();
        settings.resources = [ORDERS, PAYMENTS].map(|name| (name.to_owned(), Resource::default())).into();
        change(&mut settings);
        let origin = settings.issuer.split("/realms/").next().unwrap().to_owned();
        let realm = Realm::open(settings, world).await.unwrap();
        let testbed =
            Self { router: router(Arc::clone(&realm)), realm, clock, mailbox, diary, store, origin };
        testbed.populate().await;
        testbed
    }

    async fn populate(&self) {
        self.put(web("web", secret())).await;
        self.put(web("spa", ClientAuthentication::None)).await;
        let mut service = client("service", secret());
        service.grant_types = [GrantType::ClientCredentials, GrantType::TokenExchange].into();
        service.scopes = texts(&["orders:read", "orders:write", "pay"]);
        service.resources = texts(&[ORDERS, PAYMENTS]);
        service.serves = texts(&[ORDERS]);
        service.roles = texts(&["machine"]);
        self.put(service).await;
        let mut api = client("api", secret());
        api.may_introspect = true;
        self.put(api).await;
        for name in ["alice", "bob"] {
            let mut user = User::new(name, name, self.clock.now());
            user.email = Some(format!("{name}@example.org"));
            user.roles = texts(&["customer"]);
            self.realm.put_user(&user).await.unwrap();
        }
        self.realm.set_password("alice", Secret::new(PASSWORD.to_owned())).await.unwrap();
    }

    pub(crate) async fn give_password(&self, user: &str) {
        self.realm.set_password(user, Secret::new(PASSWORD.to_owned())).await.unwrap();
    }

    /// Gives a user these roles and no others.
    pub(crate) async fn set_roles(&self, user: &str, roles: &[&str]) {
        let mut user = self.realm.find_user(user).await.unwrap().unwrap();
        user.roles = texts(roles);
        self.realm.put_user(&user).await.unwrap();
    }

    pub(crate) async fn put(&self, client: Client) {
        self.realm.put_client(&client).await.unwrap();
    }

    /// Waits for what goes on although whoever asked for it was dropped.
    pub(crate) async fn settle(&self) {
        // In each round it comes an answer of the store further at least, and never needs as many.
        for _ in 0..8 {
            tokio::task::yield_now().await;
            self.put(web("later", secret())).await;
        }
        tokio::task::yield_now().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(seconds);
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let reply = Reply { status: head.status, headers: head.headers, text };
        reply.assert_description_fits();
        reply
    }

    pub(crate) async fn get(&self, address: &str) -> Reply {
        self.send(Request::get(address).body(Body::empty()).unwrap()).await
    }

    /// Posts a form without any cookie.
    pub(crate) async fn post(&self, endpoint: &str, pairs: &[(&str, &str)]) -> Reply {
        self.send(form_request(endpoint).body(Body::from(form(pairs))).unwrap()).await
    }

    /// The same with a field of the head.
    pub(crate) async fn post_with(
        &self,
        endpoint: &str,
        field: (&str, &str),
        pairs: &[(&str, &str)],
    ) -> Reply {
        self.send(form_request(endpoint).header(field.0, field.1).body(Body::from(form(pairs))).unwrap())
            .await
    }

    /// The same over a connection with a client certificate.
    pub(crate) async fn post_by(&self, certificate: &[u8], endpoint: &str, pairs: &[(&str, &str)]) -> Reply {
        let mut request = form_request(endpoint).body(Body::from(form(pairs))).unwrap();
        request.extensions_mut().insert(peer(certificate));
        self.send(request).await
    }

    /// The claims of a token that the realm's published keys verify, and its type.
    pub(crate) async fn claims(&self, token: &str) -> (String, Value) {
        let jwks = self.get(&format!("{ISSUER}/jwks")).await.text;
        let (keys, _) = KeySet::parse(jwks.as_bytes(), &Algorithm::ALL).unwrap();
        let token = keys::jws::Unverified::parse(token.as_bytes()).unwrap();
        let verified = keys.verify(token, ISSUER).unwrap();
        let claims = serde_json::from_slice(verified.payload()).unwrap();
        (verified.token_type().unwrap().to_owned(), claims)
    }

    /// Whether introspection says that a token is good.
    pub(crate) async fn is_active(&self, token: &str) -> bool {
        let pairs = [("token", token), ("client_id", "api"), ("client_secret", SECRET)];
        let reply = self.post("/introspect", &pairs).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        reply.json()["active"].as_bool().unwrap()
    }

    /// Tokens for alice by the whole way: browser, login, code.
    pub(crate) async fn tokens(&self, client: &str, scope: &str) -> Value {
        let mut browser = Browser::new(self);
        let answer = browser.log_in_for(client, &[("scope", scope)]).await;
        let reply = self.redeem(client, &answer["code"]).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        reply.json()
    }

    pub(crate) async fn redeem(&self, client: &str, code: &str) -> Reply {
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
            ("client_id", client),
        ];
        if client != "spa" {
            pairs.push(("client_secret", SECRET));
        }
        self.post("/token", &pairs).await
    }

    pub(crate) async fn refresh(&self, client: &str, token: &str) -> Reply {
        let mut pairs =
            vec![("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client)];
        if client != "spa" {
            pairs.push(("client_secret", SECRET));
        }
        self.post("/token", &pairs).await
    }
}

pub(crate) fn peer(certificate: &[u8]) -> Arc<Peer> {
    let socket = "127.0.0.1:1".parse().unwrap();
    let tls = TlsPeer { version: "1.3", server_name: None, client_chain: vec![certificate.to_vec()] };
    Arc::new(Peer { address: std::net::Ipv4Addr::LOCALHOST.into(), socket, tls: Some(tls) })
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn form_request(endpoint: &str) -> axum::http::request::Builder {
    Request::post(format!("{ISSUER}{endpoint}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
}

pub(crate) fn challenge() -> String {
    encode_base64url(digest(&SHA256, VERIFIER.as_bytes()).as_ref())
}

/// The claims of a token, unverified.
pub(crate) fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&decode_base64url(part.as_bytes()).unwrap()).unwrap()
}

/// A browser: cookies, and following our own redirects.
pub(crate) struct Browser<'a> {
    pub(crate) testbed: &'a TestBed,
    pub(crate) cookies: BTreeMap<String, String>,
    /// Where it comes from.
    pub(crate) address: Option<IpAddr>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(testbed: &'a TestBed) -> Self {
        Self { testbed, cookies: BTreeMap::new(), address: None }
    }

    pub(crate) fn at(testbed: &'a TestBed, address: &str) -> Self {
        Self { address: Some(address.parse().unwrap()), ..Self::new(testbed) }
    }

    async fn send(&mut self, builder: axum::http::request::Builder, body: String) -> Reply {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let builder =
            if cookies.is_empty() { builder } else { builder.header(header::COOKIE, cookies.join("; ")) };
        let mut request = builder.body(Body::from(body)).unwrap();
        if let Some(address) = self.address {
            let peer = Peer { address, socket: (address, 1).into(), tls: None };
            request.extensions_mut().insert(Arc::new(peer));
        }
        let reply = self.testbed.send(request).await;
        for cookie in reply.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            // What jars refuse to take or return over http (RFC 6265 §5.4, RFC 6265bis §4.1.3).
            let is_https = self.testbed.origin.starts_with("https://");
            let realm = self.testbed.realm.issuer().rsplit('/').next().unwrap();
            let prefix = format!("{}{realm}-", if is_https { "__Host-" } else { "" });
            assert!(cookie.starts_with(&prefix), "{cookie}");
            for (attribute, expected) in
                [("Path=/", true), ("Secure", is_https), ("HttpOnly", true), ("SameSite=Lax", true)]
            {
                assert_eq!(cookie.contains(&format!("; {attribute}")), expected, "{cookie}");
            }
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            match value {
                "" => drop(self.cookies.remove(name)),
                value => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        reply
    }

    /// Goes to an address and on, as long as it leads to a page of ours.
    pub(crate) async fn go(&mut self, address: &str) -> Reply {
        let mut reply = self.send(Request::get(address), String::new()).await;
        for _ in 0..8 {
            let next = reply.field("location").to_owned();
            if !next.starts_with('/') {
                return reply;
            }
            reply = self.send(Request::get(next), String::new()).await;
        }
        panic!("led in a circle: {reply:?}");
    }

    /// Fills in the form of a page and sends it, and goes on.
    pub(crate) async fn submit(&mut self, page: &Reply, pairs: &[(&str, &str)]) -> Reply {
        let (action, mut fields) = read_form(&page.text);
        for (name, value) in pairs {
            fields.insert((*name).to_owned(), (*value).to_owned());
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.post(&action, &fields).await
    }

    pub(crate) async fn post(&mut self, address: &str, fields: &[(&str, &str)]) -> Reply {
        let reply = self.post_and_stay(address, fields).await;
        match reply.field("location").to_owned() {
            next if next.starts_with('/') => self.go(&next).await,
            _ => reply,
        }
    }

    /// Posts, and does not follow where the answer leads.
    pub(crate) async fn post_and_stay(&mut self, address: &str, fields: &[(&str, &str)]) -> Reply {
        let builder = Request::post(address)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ORIGIN, &self.testbed.origin);
        self.send(builder, form(fields)).await
    }

    /// Begins an authorization; more pairs replace the usual ones.
    pub(crate) async fn authorize(&mut self, client: &str, pairs: &[(&str, &str)]) -> Reply {
        self.go(&authorization(client, pairs)).await
    }

    pub(crate) async fn log_in(&mut self, page: &Reply) -> Reply {
        self.submit(page, &[("username", "alice"), ("password", PASSWORD)]).await
    }

    /// The whole way for a client that needs no consent; gives its answer.
    pub(crate) async fn log_in_for(
        &mut self,
        client: &str,
        pairs: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let page = self.authorize(client, pairs).await;
        self.log_in(&page).await.answer()
    }

    pub(crate) fn session(&self) -> Option<&String> {
        self.cookies.get("__Host-shop-session")
    }
}

/// The address of an authorization request; an empty value leaves a parameter out.
pub(crate) fn authorization(client: &str, pairs: &[(&str, &str)]) -> String {
    let challenge = challenge();
    let mut all: BTreeMap<&str, &str> = BTreeMap::from([
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("scope", "openid"),
        ("state", "the state"),
        ("nonce", "the nonce"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ]);
    all.extend(pairs.iter().copied());
    all.retain(|_, value| !value.is_empty());
    let all: Vec<_> = all.into_iter().collect();
    format!("{ISSUER}/authorize?{}", form(&all))
}

/// Action and hidden fields of the form of a page.
pub(crate) fn read_form(page: &str) -> (String, BTreeMap<String, String>) {
    let attribute = |tag: &str, name: &str| {
        let value = tag.split_once(&format!("{name}=\"")).map_or("", |(_, rest)| rest);
        let value = value.split('"').next().unwrap();
        value.replace("&#38;", "&").replace("&amp;", "&").replace("&#34;", "\"").replace("&#x2F;", "/")
    };
    let form = page.split_once("<form").unwrap_or_else(|| panic!("no form: {page}")).1;
    let action = attribute(form.split('>').next().unwrap(), "action");
    let inputs = form.split("<input").skip(1).map(|input| input.split('>').next().unwrap());
    let hidden = inputs.filter(|input| input.contains("type=\"hidden\""));
    (action, hidden.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect())
}

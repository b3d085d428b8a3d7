//! A provider to try clients on: two realms with clients and people that everybody knows.
//! `cargo xtask suite oidc` runs certified clients against it. For trying out only: the
//! secrets stand in this file.
//!
//! ```sh
//! cargo run -p identity --example provider -- [--store FILE] [--listen 127.0.0.1:0] [--logout http://127.0.0.1:PORT/logout]
//! ```
//!
//! Prints one line of JSON with the issuers when it is ready.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use identity::deliver::Delivery;
use identity::{
    Client, ClientAuthentication, Deliver, GrantType, NoObserver, Realm, RealmSettings, Resource, User,
    World, router,
};
use keys::{Algorithm, SystemRandom};
use model::{Clock, Secret, Timestamp};
use serde_json::json;
use store::{CacheLimits, Store, UnsealKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SECRET: &str = "a-secret-that-everybody-knows-0123456789";
const PASSWORD: &str = "correct horse battery staple";
const ORDERS: &str = "https://orders.example.org";
const PAYMENTS: &str = "https://payments.example.org";
/// The public key of `jwt`; its private half stands in the suite's scripts.
const CLIENT_KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"jwt-1",
    "x":"lTUSxj305EDUwuaNng7WatbUp4BqqrZQuU3u0pSj8cU","y":"AsIJPGOSptb6U3bfDAwnmMhGcXTsJsjk8qHlSWHLWbs"}]}"#;

type Failure = Box<dyn std::error::Error>;

struct SystemClock(Instant);

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the edge of this program")]
    fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the edge of this program")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::default().plus(since)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Posts to loopback without TLS: all that the suite's clients need.
struct Loopback;

impl Deliver for Loopback {
    fn deliver(&self, url: String, form: String) -> Delivery<'_> {
        Box::pin(async move {
            let rest = url.strip_prefix("http://127.0.0.1:").ok_or("only http://127.0.0.1:PORT/…")?;
            let (port, path) = rest.split_once('/').unwrap_or((rest, ""));
            let port: u16 = port.parse().map_err(|_| "no port")?;
            let length = form.len();
            let request = format!(
                "POST /{path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\
                 content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
            );
            let told = async {
                let mut stream =
                    tokio::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await?;
                stream.write_all(request.as_bytes()).await?;
                let mut answer = Vec::new();
                stream.take(4096).read_to_end(&mut answer).await?;
                Ok::<_, std::io::Error>(answer)
            };
            let told = tokio::time::timeout(Duration::from_secs(5), told).await;
            let answer = told.map_err(|_| "no answer in five seconds")?.map_err(|error| error.to_string())?;
            let good = answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.1 204");
            if good { Ok(()) } else { Err(format!("{url}: not 200 or 204")) }
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut listen = "127.0.0.1:0".to_owned();
    let mut file = None;
    let mut logout = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next();
        match (argument.as_str(), value) {
            ("--listen", Some(value)) => listen = value,
            ("--store", Some(value)) => file = Some(value),
            ("--logout", Some(value)) => logout = Some(value),
            _ => {
                eprintln!("usage: provider [--store FILE] [--listen ADDRESS] [--logout URL]");
                return Err("unknown argument".into());
            }
        }
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let store = match file {
        None => Store::in_memory(Arc::clone(&clock))?,
        Some(file) => {
            let key = UnsealKey::generate()?;
            let path = Path::new(&file);
            Store::initialise_sqlite(path, &key)?;
            Store::open_sqlite(path, key, Arc::clone(&clock), CacheLimits::default())?
        }
    };
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    let address = listener.local_addr()?;
    let random = Arc::new(SystemRandom::new());
    let world = World {
        store,
        clock,
        random,
        deliver: Arc::new(Loopback),
        observer: Arc::new(NoObserver),
        mail_transport: None,
    };
    let shop = Realm::open(settings("shop", address), world.clone()).await?;
    let mut strict = settings("strict", address);
    strict.require_dpop_nonce = true;
    strict.require_pushed_requests = true;
    let strict = Realm::open(strict, world.clone()).await?;
    // At a name, which passkeys are bound to.
    let mut people = settings("people", address);
    people.issuer = format!("http://localhost:{}/realms/people", address.port());
    people.display_name = "The town".to_owned();
    let people = Realm::open(people, world).await?;
    for realm in [&shop, &strict, &people] {
        populate(realm, logout.clone()).await?;
        tokio::spawn(Arc::clone(realm).run());
    }
    println!("{}", json!({ "shop": shop.issuer(), "strict": strict.issuer(), "people": people.issuer() }));
    axum::serve(listener, router(shop).merge(router(strict)).merge(router(people))).await?;
    Ok(())
}

fn settings(name: &str, address: SocketAddr) -> RealmSettings {
    let mut settings = RealmSettings::new(name, &format!("http://{address}/realms/{name}"));
    settings.scopes = [("orders:read", "see your orders"), ("orders:write", "change your orders")]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
    settings.resources = [ORDERS, PAYMENTS].map(|name| (name.to_owned(), Resource::default())).into();
    settings.lifetimes.device_interval = Duration::from_secs(1);
    settings
}

fn texts(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn populate(realm: &Realm, logout: Option<String>) -> Result<(), Failure> {
    let hash = Client::secret_hash(SECRET)?;
    let secret = || ClientAuthentication::Secret { hashes: vec![hash.clone()] };
    let jwks = serde_json::from_str(CLIENT_KEY)?;
    for (id, authentication, algorithm) in [
        ("web", secret(), Some(Algorithm::Es256)),
        ("web-rs256", secret(), None),
        ("web-eddsa", secret(), Some(Algorithm::EdDsa)),
        ("consent", secret(), Some(Algorithm::Es256)),
        ("office", secret(), Some(Algorithm::Es256)),
        ("spa", ClientAuthentication::None, Some(Algorithm::Es256)),
        ("jwt", ClientAuthentication::PrivateKeyJwt { jwks }, Some(Algorithm::Es256)),
    ] {
        let mut client = Client::new(id, authentication);
        client.id_token_algorithm = algorithm;
        client.trusted = id != "consent";
        client.acr = (id == "office").then(|| "2".to_owned());
        client.backchannel_logout_uri = logout.clone().filter(|_| id == "web");
        client.grant_types = [GrantType::AuthorizationCode, GrantType::RefreshToken].into();
        if !client.is_public() {
            client.grant_types.insert(GrantType::ClientCredentials);
        }
        client.redirect_uris = vec!["http://127.0.0.1/cb".to_owned()];
        client.post_logout_redirect_uris = vec!["http://127.0.0.1/bye".to_owned()];
        client.scopes =
            texts(&["openid", "profile", "email", "offline_access", "orders:read", "orders:write"]);
        client.resources = texts(&[ORDERS]);
        realm.put_client(&client).await?;
    }
    let mut orders = Client::new("orders", secret());
    orders.grant_types = [GrantType::TokenExchange].into();
    orders.serves = texts(&[ORDERS]);
    orders.resources = texts(&[PAYMENTS]);
    orders.may_introspect = true;
    realm.put_client(&orders).await?;
    let mut device = Client::new("tv", ClientAuthentication::None);
    device.grant_types = [GrantType::DeviceCode, GrantType::RefreshToken].into();
    device.scopes = texts(&["openid", "orders:read"]);
    device.id_token_algorithm = Some(Algorithm::Es256);
    realm.put_client(&device).await?;
    let mut alice = User::new("alice-1", "alice", Timestamp::default());
    alice.name = Some("Alice Example".to_owned());
    alice.email = Some("alice@example.org".to_owned());
    alice.email_verified = true;
    alice.roles = texts(&["customer"]);
    realm.put_user(&alice).await?;
    realm.set_password(&alice.id, Secret::new(PASSWORD.to_owned())).await?;
    Ok(())
}

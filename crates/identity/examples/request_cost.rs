//! What a request to a realm costs without a gateway and a socket: a client's token, a question
//! about a token, a rotation of a refresh token. The store is a file.
//!
//! ```sh
//! cargo run --release -p identity --example request_cost -- credentials 10000
//! valgrind --tool=callgrind --toggle-collect='request_cost::ask' target/release/examples/request_cost credentials 1000
//! ```
//!
//! Under callgrind what is collected is the requests alone, on the thread that asks: of a refresh
//! not what the thread that writes does.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "a measurement prints")]

#[path = "../../model/examples/support/real_clock.rs"]
mod real_clock;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use identity::{
    Client, ClientAuthentication, GrantType, NoDelivery, NoObserver, Realm, RealmSettings, Resource, User,
    World, router,
};
use keys::{Algorithm, SystemRandom};
use model::{Clock, Secret, Timestamp};
use real_clock::RealClock;
use serde_json::Value;
use store::{CacheLimits, Store, UnsealKey};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const ISSUER: &str = "https://id.example.org/realms/cost";
const CALLBACK: &str = "https://app.example/cb";
const ORDERS: &str = "https://orders.example.org";
const SECRET: &str = "a-secret-that-everybody-knows-0123456789";
const CLIENT: &str = "client_id=web&client_secret=a-secret-that-everybody-knows-0123456789";
const PASSWORD: &str = "correct horse battery staple";
/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(way), Some(count)) = (arguments.first(), arguments.get(1)) else {
        return Err("usage: request_cost credentials|introspection|refresh COUNT".into());
    };
    let count: u32 = count.parse()?;
    let folder = tempfile::tempdir_in(".")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router = runtime.block_on(start(&folder.path().join("store.db")))?;
    let token = runtime.block_on(async {
        match way.as_str() {
            "introspection" => text(&post(&router, "/token", &credentials()).await?, "access_token"),
            "refresh" => first_refresh_token(&router).await,
            _ => Ok(String::new()),
        }
    })?;
    let begin = Instant::now();
    ask(&runtime, &router, (way, token), count)?;
    println!("{way}: {:.1} µs each", begin.elapsed().as_secs_f64() * 1e6 / f64::from(count.max(1)));
    Ok(())
}

async fn start(path: &Path) -> Outcome<Router> {
    let key = UnsealKey::generate()?;
    Store::initialise_sqlite(path, &key)?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock(Instant::now()));
    let store = Store::open_sqlite(path, key, Arc::clone(&clock), CacheLimits::default())?;
    let random = Arc::new(SystemRandom::new());
    let world = World {
        store,
        clock,
        random,
        deliver: Arc::new(NoDelivery),
        observer: Arc::new(NoObserver),
        mail_transport: None,
    };
    let realm = Realm::open(settings(), world).await?;
    populate(&realm).await?;
    Ok(router(realm))
}

/// What is measured, and nothing else.
#[inline(never)]
fn ask(runtime: &Runtime, router: &Router, (way, mut token): (&str, String), count: u32) -> Outcome<()> {
    runtime.block_on(async {
        for _ in 0..count {
            match way {
                "credentials" => drop(text(&post(router, "/token", &credentials()).await?, "access_token")?),
                "introspection" => {
                    let told = post(router, "/introspect", &format!("{CLIENT}&token={token}")).await?;
                    if told.get("active") != Some(&Value::Bool(true)) {
                        return Err(format!("expected a good token, found {told}").into());
                    }
                }
                "refresh" => {
                    let form = format!("{CLIENT}&grant_type=refresh_token&refresh_token={token}");
                    token = text(&post(router, "/token", &form).await?, "refresh_token")?;
                }
                other => return Err(format!("no way {other:?}").into()),
            }
        }
        Ok(())
    })
}

fn credentials() -> String {
    format!("{CLIENT}&grant_type=client_credentials&scope=orders")
}

fn settings() -> RealmSettings {
    let mut settings = RealmSettings::new("cost", ISSUER);
    settings.algorithms = vec![Algorithm::Es256, Algorithm::Rs256];
    settings.scopes = [("orders".to_owned(), String::new())].into();
    settings.resources = [(ORDERS.to_owned(), Resource::default())].into();
    settings
}

async fn populate(realm: &Realm) -> Outcome<()> {
    let mut web =
        Client::new("web", ClientAuthentication::Secret { hashes: vec![Client::secret_hash(SECRET)?] });
    web.id_token_algorithm = Some(Algorithm::Es256);
    web.grant_types =
        [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials].into();
    web.redirect_uris = vec![CALLBACK.to_owned()];
    web.scopes = ["openid", "offline_access", "orders"].map(str::to_owned).into();
    web.resources = [ORDERS.to_owned()].into();
    web.trusted = true;
    realm.put_client(&web).await?;
    realm.put_user(&User::new("alice", "alice", Timestamp::default())).await?;
    realm.set_password("alice", Secret::new(PASSWORD.to_owned())).await?;
    Ok(())
}

/// One request, with a browser's cookies; the answer, its cookies, and where it leads.
async fn send(router: &Router, request: Request<Body>) -> Outcome<(Vec<u8>, Vec<String>, String)> {
    let response = router.clone().oneshot(request).await?;
    let of = |name| response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
    let pair = |cookie: &str| cookie.split(';').next().unwrap_or_default().to_owned();
    let cookies = of(header::SET_COOKIE).map(pair).collect();
    let leads = of(header::LOCATION).next().unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await?;
    Ok((body.to_vec(), cookies, leads))
}

fn form(path: &str, cookies: &[String], body: &str) -> Outcome<Request<Body>> {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::COOKIE, cookies.join("; "));
    Ok(request.body(Body::from(body.to_owned()))?)
}

async fn post(router: &Router, endpoint: &str, body: &str) -> Outcome<Value> {
    let request = Request::post(format!("/realms/cost{endpoint}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(body.to_owned()))?;
    Ok(serde_json::from_slice(&send(router, request).await?.0)?)
}

fn text(answer: &Value, name: &str) -> Outcome<String> {
    let found = answer.get(name).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| format!("no {name} in {answer}").into())
}

/// By login and code.
async fn first_refresh_token(router: &Router) -> Outcome<String> {
    let begin = format!(
        "/realms/cost/authorize?client_id=web&response_type=code&redirect_uri={CALLBACK}\
         &scope=openid+offline_access+orders&code_challenge={CHALLENGE}&code_challenge_method=S256"
    );
    let (_, mut cookies, mut leads) = send(router, Request::get(begin).body(Body::empty())?).await?;
    let go = |leads: &str, cookies: &[String]| {
        Request::get(leads).header(header::COOKIE, cookies.join("; ")).body(Body::empty())
    };
    leads = send(router, go(&leads, &cookies)?).await?.2;
    let page = String::from_utf8(send(router, go(&leads, &cookies)?).await?.0)?;
    let hidden = |name: &str| {
        let rest = page.split_once(&format!("name=\"{name}\" value=\"")).map_or("", |(_, rest)| rest);
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let password = PASSWORD.replace(' ', "+");
    let body = format!("username=alice&password={password}&flow={}&csrf={}", hidden("flow"), hidden("csrf"));
    let (_, more, leads) = send(router, form("/realms/cost/login", &cookies, &body)?).await?;
    cookies.extend(more);
    let (_, _, leads) = send(router, go(&leads, &cookies)?).await?;
    let code = leads.split_once("code=").and_then(|(_, rest)| rest.split('&').next()).unwrap_or_default();
    let body = format!("{CLIENT}&grant_type=authorization_code&code={code}&code_verifier={VERIFIER}");
    text(&post(router, "/token", &body).await?, "refresh_token")
}

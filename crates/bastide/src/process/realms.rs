//! The identity provider of this process: the realms of the configuration, open on the
//! store, as the service that routes with `to: identity` lead to.
//!
//! The way through it: [`Realms::start`] serves whatever router is current on the control
//! plane; [`Realms::follow`] opens the realms of a configuration, writes the clients that it
//! declares, and only then puts their router in the place of the one before.
//!
//! What it must never do: serve realms half open, or leave a client usable that the
//! configuration declared once and declares no more.

mod audit;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::step::identity::{HEADER_CLIENT_ADDRESS, HEADER_CLIENT_CERTIFICATE, HEADER_CLIENT_TLS};
use identity::mail::MailTransport;
use identity::{Busy, Observe, Realm, RevocationFeed, World};
use keys::{Answered, FormRequest, Revocation, SystemRandom};
use model::Clock;
use model::principal::{Peer, TlsPeer};
use proxy::upstream::{InProcessConnector, in_process_pair};
use serde_json::{Value, json};
use store::{Store, Watch};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use super::back_channel::BackChannelWay;
use super::in_process;
use super::mail::MailServer;
use crate::config;

pub use audit::RealmAudit;

/// After the store could not be read.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Why nothing is answered before there is a store.
const SEALED: &str = "the store is sealed";
/// Marks a client as declared by the configuration, among its attributes.
pub const DECLARED: &str = "bastide.declared";

/// The realms of this process.
pub struct Realms {
    connector: InProcessConnector,
    current: Arc<RwLock<Option<Arc<Current>>>>,
    /// The realms of the newest configuration.
    wanted: Mutex<Vec<config::Realm>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    revoked: Arc<Revoked>,
    /// Told when a realm has to be opened anew.
    resettled: Arc<Notify>,
    server: JoinHandle<()>,
    clock: Arc<dyn Clock>,
    random: Arc<SystemRandom>,
    observer: Arc<dyn Observe>,
}

/// What the realms have taken back, by realm, for the gateway.
#[derive(Default)]
struct Revoked {
    by_realm: Mutex<BTreeMap<String, Vec<Revocation>>>,
    changed: Notify,
}

impl Revoked {
    /// Forgets the realms that are no more.
    fn keep(&self, realms: &[config::Realm]) {
        let is_there = |name: &String| realms.iter().any(|realm| realm.settings.name == *name);
        lock(&self.by_realm).retain(|name, _| is_there(name));
    }

    fn set(&self, realm: &str, list: Vec<Revocation>) {
        let before = lock(&self.by_realm).insert(realm.to_owned(), list.clone());
        // A realm that is new and has taken nothing back changes nothing.
        if before.unwrap_or_default() != list {
            self.changed.notify_one();
        }
    }
}

/// What is served.
struct Current {
    /// By the host name of the issuers: realms of two hosts may have the same paths.
    hosts: BTreeMap<String, Host>,
    realms: Vec<Arc<Realm>>,
}

/// The realms of one host.
#[derive(Default)]
struct Host {
    router: Router,
    /// By the path of their issuers.
    realms: Vec<(String, Arc<Realm>)>,
}

impl Host {
    /// The endpoint that needs no router, where the request goes to one.
    fn busy(&self, request: &Request) -> Option<(Busy, Arc<Realm>)> {
        let busy = |(path, realm): &(String, Arc<Realm>)| Some((Busy::of(path, request)?, Arc::clone(realm)));
        self.realms.iter().find_map(busy)
    }
}

impl Current {
    fn of(realms: &[Arc<Realm>]) -> Self {
        let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
        for realm in realms {
            let here = hosts.entry(config::issuer_host(realm.issuer())).or_default();
            here.router = std::mem::take(&mut here.router).merge(identity::router(Arc::clone(realm)));
            here.realms.push((realm.settings().path().to_owned(), Arc::clone(realm)));
        }
        Self { hosts, realms: realms.to_vec() }
    }

    /// Whether an address lies below one of the issuers.
    fn has(&self, url: &str) -> bool {
        self.realms.iter().any(|realm| is_below(realm.issuer(), url))
    }

    /// The realms of a host; where there is one host alone, whatever the client calls it.
    fn host(&self, host: &str) -> Option<&Host> {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
        });
        let only = || self.hosts.values().next().filter(|_| self.hosts.len() == 1);
        self.hosts.get(&name.to_ascii_lowercase()).or_else(only)
    }
}

impl Realms {
    /// Serves whoever connects in process; until [`Self::follow`] with 503. Must be
    /// called on the control plane's runtime.
    pub fn start(clock: Arc<dyn Clock>, random: Arc<SystemRandom>, observer: Arc<dyn Observe>) -> Self {
        let (connector, listener) = in_process_pair();
        let current: Arc<RwLock<Option<Arc<Current>>>> = Arc::default();
        let serving = Arc::clone(&current);
        let server = in_process::serve(listener, Arc::clone(&clock), move |request: Request| {
            answer(read(&serving), request)
        });
        let server = tokio::spawn(server);
        Self {
            connector,
            current,
            wanted: Mutex::default(),
            tasks: Mutex::default(),
            revoked: Arc::default(),
            resettled: Arc::default(),
            server,
            clock,
            random,
            observer,
        }
    }

    /// The way in.
    pub fn connector(&self) -> &InProcessConnector {
        &self.connector
    }

    /// Whether these are the realms that it was last told to serve.
    pub fn are(&self, realms: &[config::Realm]) -> bool {
        *lock(&self.wanted) == realms
    }

    /// Takes the realms of a configuration in the place of those before; without a store
    /// when it is unsealed ([`Self::open_wanted`]).
    ///
    /// # Errors
    /// As [`Self::open_wanted`]; those before are served as ever. They are not what was wanted
    /// last ([`Self::are`]): clients of the refused ones may be written already, until those
    /// before are followed again.
    pub async fn follow(
        &self,
        realms: &[config::Realm],
        store: Option<&Store>,
    ) -> Result<(), identity::Error> {
        let before = std::mem::replace(&mut *lock(&self.wanted), realms.to_vec());
        // None were wanted and none are.
        let (Some(store), false) = (store, realms.is_empty() && before.is_empty()) else { return Ok(()) };
        self.open(realms, store).await
    }

    /// Opens the realms of the newest configuration.
    ///
    /// # Errors
    /// A realm cannot be opened, or a client not be written.
    pub async fn open_wanted(&self, store: &Store) -> Result<(), identity::Error> {
        let wanted = lock(&self.wanted).clone();
        self.open(&wanted, store).await
    }

    /// Puts realms in the place of those before.
    ///
    /// # Errors
    /// A realm cannot be opened, or a client not be written; those before stay.
    async fn open(&self, realms: &[config::Realm], store: &Store) -> Result<(), identity::Error> {
        let mut opened = Vec::with_capacity(realms.len());
        for realm in realms {
            let world = World {
                store: store.clone(),
                clock: Arc::clone(&self.clock),
                random: self.random.clone(),
                deliver: Arc::new(back_channel(realm)?),
                observer: Arc::clone(&self.observer),
                mail_transport: mail_transport(realm, &self.clock)?,
            };
            opened.push(Realm::open(realm.settings.clone(), world).await?);
        }
        let mut feeds = Vec::with_capacity(opened.len());
        for realm in &opened {
            feeds.push(realm.follow_revocations().await?);
        }
        // Last: what is written here is in use at once, by the realms before too.
        for (realm, wanted) in opened.iter().zip(realms) {
            declare(realm, &wanted.clients).await?;
        }
        // From here on nothing fails: the realms before stay, or these are there whole.
        let next = Arc::new(Current::of(&opened));
        self.revoked.keep(realms);
        let mut kept = Vec::with_capacity(3 * opened.len());
        for ((realm, wanted), feed) in opened.into_iter().zip(realms).zip(feeds) {
            let name = wanted.settings.name.clone();
            // Before their keys are published: what was taken back is not good for a moment.
            self.revoked.set(&name, feed.list());
            let resettled = Arc::clone(&self.resettled);
            kept.push(tokio::spawn(tell_settings(realm.watch_settings(), resettled)));
            kept.push(tokio::spawn(tell_revocations(feed, name, Arc::clone(&self.revoked))));
            kept.push(tokio::spawn(realm.run()));
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(next);
        let before = std::mem::replace(&mut *lock(&self.tasks), kept);
        before.iter().for_each(JoinHandle::abort);
        Ok(())
    }

    /// The realms that are served, by name; `None` while the store is sealed.
    pub fn opened(&self) -> Option<BTreeMap<String, Arc<Realm>>> {
        if lock(&self.wanted).is_empty() {
            return Some(BTreeMap::new());
        }
        let name = |realm: &Arc<Realm>| (realm.settings().name.clone(), Arc::clone(realm));
        read(&self.current).map(|current| current.realms.iter().map(name).collect())
    }

    /// What the realms have taken back and would otherwise still be good.
    pub fn revocations(&self) -> Vec<Revocation> {
        lock(&self.revoked.by_realm).values().flatten().cloned().collect()
    }

    /// Waits until [`Self::revocations`] is another list.
    pub async fn revocations_changed(&self) {
        self.revoked.changed.notified().await;
    }

    /// Waits until settings of a realm were changed, here or by another process on the same
    /// store: it is time for [`Self::open_wanted`].
    pub async fn settings_changed(&self) {
        self.resettled.notified().await;
    }

    /// What one of these realms publishes at an address, without the network; `None` for
    /// addresses that are not theirs.
    pub async fn published(&self, url: &str, bytes_max: usize) -> Option<Result<Vec<u8>, String>> {
        let answered = self.asked(url, bytes_max, Request::get(url).body(Body::empty())).await?;
        Some(answered.and_then(|answered| match answered.status {
            200 => Ok(answered.body),
            other => Err(format!("the realm answers {other}")),
        }))
    }

    /// What one of these realms answers to a form, without the network; `None` for
    /// addresses that are not theirs.
    pub async fn posted(&self, form: &FormRequest) -> Option<Result<Answered, String>> {
        let mut post =
            Request::post(&form.url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(value) = &form.authorization {
            post = post.header(header::AUTHORIZATION, value.expose());
        }
        let body = Body::from(form.form.expose().clone());
        self.asked(&form.url, form.bytes_max, post.body(body)).await
    }

    async fn asked(
        &self,
        url: &str,
        bytes_max: usize,
        request: Result<Request, axum::http::Error>,
    ) -> Option<Result<Answered, String>> {
        let Some(current) = read(&self.current) else {
            // What is a realm's own is nobody's on the network.
            let below = |realm: &config::Realm| is_below(&realm.settings.issuer, url);
            return lock(&self.wanted).iter().any(below).then(|| Err(SEALED.to_owned()));
        };
        let is_there = current.has(url);
        let asked = async {
            let answer = answer(Some(current), request.map_err(|error| error.to_string())?).await;
            let status = answer.status().as_u16();
            let body = axum::body::to_bytes(answer.into_body(), bytes_max).await;
            body.map(|bytes| Answered { status, body: bytes.to_vec() }).map_err(|error| error.to_string())
        };
        if is_there { Some(asked.await) } else { None }
    }
}

impl Drop for Realms {
    fn drop(&mut self) {
        self.server.abort();
        lock(&self.tasks).iter().for_each(JoinHandle::abort);
    }
}

/// Says when the settings of a realm are others.
async fn tell_settings(mut watch: Watch, resettled: Arc<Notify>) {
    loop {
        match watch.next().await {
            Ok(_) => resettled.notify_one(),
            Err(store::Error::Closed) => return,
            Err(error) => {
                tracing::error!(%error, "identity: settings cannot be read");
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
        }
    }
}

/// Hands on what a realm takes back, as it does.
async fn tell_revocations(mut feed: RevocationFeed, name: String, revoked: Arc<Revoked>) {
    loop {
        match feed.changed().await {
            Ok(()) => revoked.set(&name, feed.list()),
            Err(identity::Error::Store(store::Error::Closed)) => return,
            Err(error) => {
                tracing::error!(realm = name, %error, "identity: revocations cannot be read");
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
        }
    }
}

/// Whether an address lies below an issuer.
fn is_below(issuer: &str, url: &str) -> bool {
    url.strip_prefix(issuer).is_some_and(|rest| rest.starts_with('/'))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(current: &RwLock<Option<Arc<Current>>>) -> Option<Arc<Current>> {
    current.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Writes the clients that the configuration declares, and switches those off that it
/// declares no more.
async fn declare(realm: &Realm, clients: &[identity::Client]) -> Result<(), identity::Error> {
    let known = realm.clients().await?;
    // Whoever may do less first: at no moment may both.
    for mut gone in known.iter().cloned() {
        // What it was allowed may be gone with it.
        let declared = gone.attributes.contains_key(DECLARED);
        if declared && !gone.disabled && !clients.iter().any(|client| client.id == gone.id) {
            tracing::info!(
                client = gone.id,
                "identity: the configuration no longer declares it; it is disabled"
            );
            gone.disabled = true;
            realm.put_client(&gone).await?;
        }
    }
    for client in clients {
        let mut client = client.clone();
        client.attributes.insert(DECLARED.to_owned(), Value::Bool(true));
        if !known.contains(&client) {
            realm.put_client(&client).await?;
        }
    }
    Ok(())
}

/// How a realm sends mail.
fn mail_transport(
    realm: &config::Realm,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<dyn MailTransport>>, identity::Error> {
    let Some(mail) = &realm.mail else { return Ok(None) };
    let name = config::issuer_host(&realm.settings.issuer);
    let server = MailServer::new(mail, &name, Arc::clone(clock)).map_err(|why| refused(realm, why))?;
    Ok(Some(Arc::new(server)))
}

/// How a realm sends logout tokens.
fn back_channel(realm: &config::Realm) -> Result<BackChannelWay, identity::Error> {
    BackChannelWay::new(&realm.back_channel).map_err(|why| refused(realm, why))
}

fn refused(realm: &config::Realm, why: String) -> identity::Error {
    identity::Error::Settings { realm: realm.settings.name.clone(), why }
}

async fn answer(current: Option<Arc<Current>>, mut request: Request) -> Response {
    let Some(current) = current else {
        let problem = json!({
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": SEALED,
        });
        let fields = [(header::CONTENT_TYPE, "application/problem+json"), (header::RETRY_AFTER, "5")];
        return (StatusCode::SERVICE_UNAVAILABLE, fields, problem.to_string()).into_response();
    };
    let peer = peer(request.headers()).map(Arc::new);
    let host = request.uri().host().or_else(|| request.headers().get(header::HOST)?.to_str().ok());
    let Some(host) = host.and_then(|host| current.host(host)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some((busy, realm)) = host.busy(&request) {
        return busy.answer(realm, peer, request).await;
    }
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let Ok(response) = host.router.clone().oneshot(request).await;
    response
}

/// What the gateway says of the client's connection, under names that no client can send.
fn peer(fields: &HeaderMap) -> Option<Peer> {
    const ADDRESS: HeaderName = HeaderName::from_static(HEADER_CLIENT_ADDRESS);
    const TLS: HeaderName = HeaderName::from_static(HEADER_CLIENT_TLS);
    const CERTIFICATE: HeaderName = HeaderName::from_static(HEADER_CLIENT_CERTIFICATE);
    let address: IpAddr = fields.get(ADDRESS)?.to_str().ok()?.parse().ok()?;
    let version = match fields.get(TLS).map(HeaderValue::as_bytes) {
        Some(b"1.3") => Some("1.3"),
        Some(b"1.2") => Some("1.2"),
        _ => None,
    };
    let tls = version.map(|version| {
        let leaf = fields.get(CERTIFICATE).and_then(|value| STANDARD.decode(value).ok());
        TlsPeer { version, server_name: None, client_chain: leaf.into_iter().collect() }
    });
    Some(Peer { address, socket: SocketAddr::new(address, 0), tls })
}

#[cfg(test)]
mod tests;

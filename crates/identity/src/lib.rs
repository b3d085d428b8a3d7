//! An OAuth 2.1 authorization server and OpenID Connect provider, as an axum
//! [`Router`] per realm.
//!
//! ```text
//! Realm::open(settings, world) ─ router(realm) ─┬─ discovery, jwks                what clients find out
//!                                               ├─ authorize ─ login ─ consent    people, in a browser
//!                                               ├─ account                        the same, about themselves
//!                                               ├─ token ─ grant/…                clients, for tokens
//!                                               └─ introspect, revoke, userinfo, logout, device, par
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use identity::claim::{ClaimRule, Source, Target};
//! use identity::{Client, ClientAuthentication, GrantType, NoDelivery, NoObserver, Realm, RealmSettings, User, World};
//! # struct Still;
//! # impl model::Clock for Still {
//! #     fn now(&self) -> model::Timestamp { model::Timestamp::from_unix_seconds(1_800_000_000) }
//! #     fn monotonic(&self) -> std::time::Duration { std::time::Duration::ZERO }
//! # }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! # let clock: Arc<dyn model::Clock> = Arc::new(Still);
//! // What it is given of the world: a store, the time, randomness, and who delivers what it sends.
//! let world = World {
//!     store: store::Store::in_memory(Arc::clone(&clock))?,
//!     clock: Arc::clone(&clock),
//!     random: Arc::new(keys::SystemRandom::new()),
//!     deliver: Arc::new(NoDelivery),
//!     observer: Arc::new(NoObserver),
//!     mail_transport: None,
//! };
//! let mut settings = RealmSettings::new("town", "https://id.example.org");
//! settings.claims.push(ClaimRule {
//!     claim: "department".to_owned(),
//!     from: Source::Attribute("department".to_owned()),
//!     scope: None,
//!     into: [Target::AccessToken].into(),
//! });
//! let realm = Realm::open(settings, world).await?;
//!
//! let secret = Client::secret_hash("a-client-secret-of-more-than-32-characters")?;
//! let mut importer = Client::new("importer", ClientAuthentication::Secret { hashes: vec![secret] });
//! importer.grant_types = [GrantType::ClientCredentials].into();
//! realm.put_client(&importer).await?;
//!
//! let alice = User::new(&realm.new_user_id()?, "alice", clock.now());
//! realm.put_user(&alice).await?;
//! realm.set_password(&alice.id, model::Secret::new("correct horse".to_owned())).await?;
//! // An authenticator app whose secret is known, as a move from another provider has it.
//! realm.put_totp(&alice.id, "phone", model::Secret::new(vec![7; 20])).await?;
//! assert_eq!(realm.factors(&alice.id).await?.len(), 1);
//!
//! // Served by whatever serves axum; `Realm::run` rotates keys and sends mail beside it.
//! let app: axum::Router = identity::router(realm);
//! # drop(app);
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! The way through it: a [`Realm`] is opened from its [`RealmSettings`] with what it is given
//! of the [`World`]; it administers its [`User`]s and [`Client`]s; [`router()`] serves it. A
//! request is read, the client is authenticated, one file per grant or endpoint decides, and
//! what has to be kept are typed records of the store. A "no" is the specification's code and
//! a sentence for the client, and a reason for the log.
//!
//! What it must never do:
//! - send a browser or an error to an address that is not registered for the client;
//! - let a code, a refresh token, an assertion or a proof count twice: each use is one
//!   compare-and-set in the store;
//! - keep a secret other than as its hash where a hash will do, or derive one from less than
//!   256 random bits;
//! - begin a session before everything was shown that it needs;
//! - tell a client one reason for a failed login or a failed client authentication from another;
//! - read the clock, make random numbers or open a connection by itself: they are given.

mod account;
mod authorize;
mod busy;
mod caches;
mod call;
pub mod claim;
pub mod client;
pub mod deliver;
mod device;
mod discovery;
mod error;
mod factor;
#[doc(hidden)]
pub mod fuzz;
mod grant;
mod introspect;
mod key;
mod live;
pub mod login;
mod logout;
pub mod mail;
mod method;
mod mint;
pub mod observe;
mod page;
mod parameter;
mod pkce;
mod proof;
mod random;
mod realm;
mod record;
mod recover;
mod refusal;
mod resource;
mod revocation;
mod scope;
mod seen;
mod session;
pub mod settings;
mod sign_out;
#[cfg(test)]
mod testing;
mod text;
pub mod theme;
mod throttle;
mod token;
mod user;
mod userinfo;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

pub use busy::Busy;
pub use client::{Client, ClientAuthentication, GrantType, Pkce};
pub use deliver::{Deliver, NoDelivery};
pub use error::Error;
pub use factor::totp::TotpSecret;
pub use factor::{FACTOR_NAME_CHARACTERS_MAX, FACTORS_MAX, Factor, FactorKind, factor_id_fault};
pub use key::SigningKey;
pub use login::password::breached::check as check_breached_passwords;
pub use login::password::hash::{check as check_password_hash, of as hash_password};
pub use login::password::strength::{PasswordRules, Weakness};
pub use observe::{NoObserver, Observe};
pub use realm::{Listing, Realm, World};
pub use record::Written;
pub use revocation::RevocationFeed;
pub use settings::{FactorRules, Lifetimes, RealmSettings, Resource, SettingsChange};
pub use sign_out::{GrantInfo, SessionInfo};
pub use text::Language;
pub use theme::Theme;
pub use user::User;

/// Every endpoint of a realm, at the paths below its issuer. Realms of one host can be
/// merged into one router.
///
/// A request may carry an `Arc<model::principal::Peer>` as an extension: client
/// certificates are read from it, and from nowhere else.
pub fn router(realm: Arc<Realm>) -> Router {
    let path = realm.settings.path().to_owned();
    let at = |endpoint: &str| format!("{path}{endpoint}");
    // RFC 8414 §3.1 puts the issuer's path behind, OpenID Connect Discovery §4 before.
    let inserted = format!("/.well-known/oauth-authorization-server{path}");
    let router = Router::new()
        .route(&at("/.well-known/openid-configuration"), get(discovery::metadata))
        .route(&inserted, get(discovery::metadata))
        .route(&at("/jwks"), get(discovery::jwks))
        .route(&at("/authorize"), get(authorize::endpoint).post(authorize::endpoint))
        .route(&at("/flow"), get(authorize::go_on))
        .route(&at("/login"), get(login::page).post(login::endpoint))
        .route(&at("/login/passkey"), post(login::passkey::endpoint))
        .route(&at("/login/factor"), get(login::factor::page).post(login::factor::endpoint))
        .route(&at("/login/enrol"), get(login::enrol::page).post(login::enrol::endpoint))
        .route(&at("/consent"), get(authorize::consent::page).post(authorize::consent::endpoint))
        .route(&at("/par"), post(authorize::pushed::endpoint))
        .route(&at("/token"), post(token::endpoint))
        .route(&at("/introspect"), post(introspect::endpoint))
        .route(&at("/revoke"), post(revocation::endpoint))
        .route(&at("/userinfo"), get(userinfo::endpoint).post(userinfo::endpoint))
        .route(&at("/device_authorization"), post(device::endpoint))
        .route(&at("/device"), get(device::page).post(device::submit))
        .route(&at("/account"), get(account::page))
        .route(&at("/account/sessions"), post(account::session::endpoint))
        .route(&at("/account/factors"), post(account::factor::change))
        .route(&at("/account/factor"), get(account::factor::add).post(account::factor::add))
        .route(&at("/account/password"), get(account::password::endpoint).post(account::password::endpoint))
        .route(&at("/account/applications"), post(account::grant::endpoint))
        .route(&at("/logout"), get(logout::endpoint).post(logout::endpoint))
        .route(&at("/passkey.js"), get(page::passkey_script))
        .route(&at("/recover"), get(recover::page).post(recover::endpoint))
        .route(&at("/recover/password"), get(recover::password_page).post(recover::password_endpoint))
        .route(&at("/verify"), get(recover::verify_page).post(recover::verify_endpoint))
        .route(&at("/language"), get(text::choose))
        .route(&at("/style.css"), get(theme::style))
        .route(&at("/theme.css"), get(theme::theme_style))
        .route(&at("/logo"), get(theme::logo))
        .route(&at("/icon.svg"), get(theme::icon));
    // Many clients put it behind all the same, and others answer there.
    let router = match path.is_empty() {
        true => router,
        false => router.route(&at("/.well-known/oauth-authorization-server"), get(discovery::metadata)),
    };
    router.with_state(realm)
}

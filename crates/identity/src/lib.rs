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
//! The way of a request: [`call`](crate::call) reads it, [`client`] says who the client is,
//! one file per grant or endpoint decides, [`mint`](crate::mint) signs, and
//! [`record`](crate::record) keeps what has to be kept as typed records of the store. A
//! "no" is a [`refusal`](crate::refusal): the specification's code and a sentence for the
//! client, the reason for the log.
//!
//! What it must never do:
//! - send a browser or an error to an address that is not registered for the client;
//! - let a code, a refresh token, an assertion or a proof count twice: each use is one
//!   compare-and-set in the store;
//! - keep a secret other than as its hash where a hash will do, or derive one from less than
//!   256 random bits;
//! - begin a session before everything was shown that it needs;
//! - tell one reason for a failed login or a failed client authentication from another;
//! - read the clock, make random numbers or open a connection by itself: they are given.

mod account;
mod authorize;
mod call;
pub mod claim;
pub mod client;
pub mod deliver;
mod device;
mod discovery;
mod error;
mod factor;
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
mod page;
mod parameter;
mod pkce;
mod proof;
mod random;
mod realm;
mod record;
mod recover;
mod refusal;
mod remembered;
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

pub use client::{Client, ClientAuthentication, GrantType};
pub use deliver::{Deliver, NoDelivery};
pub use error::Error;
pub use factor::{FACTOR_NAME_CHARACTERS_MAX, FACTORS_MAX, Factor, FactorKind};
pub use key::SigningKey;
pub use login::password::breached::check as check_breached_passwords;
pub use login::password::hash::check as check_password_hash;
pub use login::password::strength::{PasswordRules, Weakness};
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
    Router::new()
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
        .with_state(realm)
}

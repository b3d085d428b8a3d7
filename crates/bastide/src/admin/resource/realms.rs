//! Realms, the roles that policies know, and the document.

use std::collections::BTreeMap;

use identity::Realm;
use schemars::JsonSchema;
use serde::Serialize;

use super::Page;
use crate::admin::openapi;
use crate::admin::problem::Problem;
use crate::admin::serve::{Asked, Reply};

/// A realm. Its settings stand in the configuration and are changed there.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RealmOut {
    /// Its name.
    pub name: String,
    /// `iss`, and where its endpoints are.
    pub issuer: String,
    /// What its pages call it.
    pub display_name: String,
    /// What it signs with; the first is the default.
    pub algorithms: Vec<String>,
    /// Its scopes besides OpenID Connect's own, and what the consent page says of each.
    pub scopes: BTreeMap<String, String>,
    /// The APIs that access tokens can be for.
    pub resources: Vec<String>,
    /// How long everything lasts, seconds.
    pub lifetimes: BTreeMap<String, u64>,
    /// Every client has to push its authorization requests.
    pub require_pushed_requests: bool,
    /// DPoP proofs have to carry a nonce.
    pub require_dpop_nonce: bool,
}

/// A role.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RoleOut {
    /// Its name.
    pub name: String,
    /// Roles that its holder holds too.
    pub includes: Vec<String>,
    /// Principals that have it by configuration: `User::"alice"`.
    pub members: Vec<String>,
}

fn describe(realm: &Realm) -> RealmOut {
    let settings = realm.settings();
    let lifetimes = &settings.lifetimes;
    let named = [
        ("access_token", lifetimes.access_token),
        ("id_token", lifetimes.id_token),
        ("code", lifetimes.code),
        ("refresh_idle", lifetimes.refresh_idle),
        ("refresh_absolute", lifetimes.refresh_absolute),
        ("refresh_grace", lifetimes.refresh_grace),
        ("session_idle", lifetimes.session_idle),
        ("session_absolute", lifetimes.session_absolute),
        ("key_signs", lifetimes.key_signs),
        ("key_prepared", lifetimes.key_prepared),
    ];
    RealmOut {
        name: settings.name.clone(),
        issuer: settings.issuer.clone(),
        display_name: settings.display_name.clone(),
        algorithms: settings.algorithms.iter().map(|algorithm| algorithm.name().to_owned()).collect(),
        scopes: settings.scopes.clone(),
        resources: settings.resources.keys().cloned().collect(),
        lifetimes: named.into_iter().map(|(name, life)| (name.to_owned(), life.as_secs())).collect(),
        require_pushed_requests: settings.require_pushed_requests,
        require_dpop_nonce: settings.require_dpop_nonce,
    }
}

/// `GET /v1/realms`
pub async fn list(asked: &Asked) -> Result<Reply, Problem> {
    let realms = asked.desk.towns.all()?;
    Reply::ok(&Page::whole(realms.values().map(|realm| describe(realm)).collect()))
}

/// `GET /v1/realms/{realm}`
pub async fn get(asked: &Asked) -> Result<Reply, Problem> {
    Reply::ok(&describe(&*asked.realm()?))
}

/// `GET /v1/roles`
pub async fn roles(asked: &Asked) -> Result<Reply, Problem> {
    let roles = asked.view.configuration.roles.iter().map(|role| RoleOut {
        name: role.name.clone(),
        includes: role.includes.clone(),
        members: role
            .members
            .iter()
            .map(|member| format!("{}::{:?}", member.kind.name(), member.id))
            .collect(),
    });
    Reply::ok(&Page::whole(roles.collect()))
}

/// `GET /v1/openapi.json`
pub async fn document(_: &Asked) -> Result<Reply, Problem> {
    Reply::ok(&openapi::document())
}

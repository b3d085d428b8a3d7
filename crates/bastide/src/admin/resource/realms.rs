//! Realms, the roles that policies know, and the document.

use std::collections::BTreeMap;

use identity::{Realm, SettingsChange, Written};
use schemars::JsonSchema;
use serde::Serialize;

use super::Page;
use crate::admin::openapi;
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};

/// A realm. What names things stands in the configuration and is changed there, and so does
/// whatever else it writes; see `settings` for the rest.
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
    /// The sessions that one person may have.
    pub sessions_per_person: usize,
    /// Those of these settings that the configuration writes, and that are changed there.
    pub written: Vec<String>,
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
    let mut lifetimes = settings.lifetimes.clone();
    let lifetimes = lifetimes.named().map(|(name, life)| (name.to_owned(), life.as_secs()));
    RealmOut {
        name: settings.name.clone(),
        issuer: settings.issuer.clone(),
        display_name: settings.display_name.clone(),
        algorithms: settings.algorithms.iter().map(|algorithm| algorithm.name().to_owned()).collect(),
        scopes: settings.scopes.clone(),
        resources: settings.resources.keys().cloned().collect(),
        lifetimes: lifetimes.into(),
        require_pushed_requests: settings.require_pushed_requests,
        require_dpop_nonce: settings.require_dpop_nonce,
        sessions_per_person: settings.sessions_per_person,
        written: realm.written().map(str::to_owned).collect(),
    }
}

/// `GET /v1/realms`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let realms = asked.state.realms.all()?;
    Reply::ok(&Page::whole(realms.values().map(|realm| describe(realm)).collect()))
}

/// `GET /v1/realms/{realm}`
pub async fn get(asked: &Call) -> Result<Reply, Problem> {
    Reply::ok(&describe(&*asked.realm()?))
}

/// `GET /v1/realms/{realm}/settings`
pub async fn settings(asked: &Call) -> Result<Reply, Problem> {
    settings_of(&*asked.realm()?).await
}

async fn settings_of(realm: &Realm) -> Result<Reply, Problem> {
    match realm.settings_change().await? {
        Some((change, version)) => Ok(Reply::ok(&change)?.of(version)),
        None => Reply::ok(&SettingsChange::default()),
    }
}

/// `PUT /v1/realms/{realm}/settings`
pub async fn change_settings(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let change: SettingsChange = asked.body()?;
    if let Some(name) = change.names().iter().find(|name| realm.written().any(|written| written == *name)) {
        return Err(Problem::conflict(format!(
            "{name} is written in the configuration; change it in `realms:`"
        )));
    }
    if asked.is_dry_run() {
        asked.check_expected(realm.settings_change().await?.map(|(_, version)| version))?;
        realm.check_settings(&change)?;
        return Ok(Reply::ok(&change)?.judged());
    }
    match realm.change_settings(&change, asked.expect()).await? {
        Written::Conflict => Err(Problem::changed()),
        Written::Done => settings_of(&realm).await,
    }
}

/// `GET /v1/roles`
pub async fn roles(asked: &Call) -> Result<Reply, Problem> {
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
pub async fn document(_: &Call) -> Result<Reply, Problem> {
    Reply::ok(&openapi::document())
}

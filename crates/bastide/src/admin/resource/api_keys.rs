//! API keys of the gateway.

use std::collections::BTreeMap;
use std::time::Duration;

use ::keys::{ApiKeyFile, ApiKeyRecord, NewApiKey, create_api_key, list_api_keys, revoke_api_key};
use model::principal::Attribute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Page;
use super::holder::Holder;
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};
use crate::config::Area;

/// An API key, without what would let anybody use it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ApiKeyOut {
    /// The part of the key between the underscores.
    pub id: String,
    /// The principal: `ApiKey::"<name>"` in policies.
    pub name: String,
    /// The person or team that is responsible for it.
    pub owner: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// What policies may read as claims: texts, numbers, truth values.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub attributes: BTreeMap<String, Attribute>,
    /// When it was made, Unix seconds.
    pub created: u64,
    /// When it ends, Unix seconds.
    pub expires: Option<u64>,
    /// When it was revoked, Unix seconds.
    pub revoked: Option<u64>,
}

/// An API key that was made.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CreatedApiKey {
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its members are described")]
    pub record: ApiKeyOut,
    /// The key: shown this once.
    pub key: String,
}

/// An API key that is to be made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKeyIn {
    /// The principal's name; the owner's when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The person or team that is responsible for it.
    pub owner: String,
    /// Declared roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// What policies may read as claims: texts, numbers, truth values.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub attributes: BTreeMap<String, Attribute>,
    /// For how long it is good, seconds; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub expires_in: Option<u64>,
}

impl From<&ApiKeyRecord> for ApiKeyOut {
    fn from(record: &ApiKeyRecord) -> Self {
        let seconds = |time: Option<model::Timestamp>| time.map(model::Timestamp::unix_seconds);
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            owner: record.owner.clone(),
            roles: record.roles.clone(),
            scopes: record.scopes.clone(),
            attributes: record.attributes.clone(),
            created: record.created.unix_seconds(),
            expires: seconds(record.expires),
            revoked: seconds(record.revoked),
        }
    }
}

fn file(asked: &Call) -> ApiKeyFile {
    ApiKeyFile::new(&asked.view.configuration.authentication.api_keys, asked.state.random.clone())
}

/// `GET /v1/api-keys`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let file = file(asked);
    Reply::ok(&Page::whole(list_api_keys(&file)?.iter().map(ApiKeyOut::from).collect()))
}

/// `POST /v1/api-keys`
pub async fn make(asked: &Call) -> Result<Reply, Problem> {
    let given: NewApiKeyIn = asked.body()?;
    asked.view.check_roles(&given.roles)?;
    if given.expires_in == Some(0) {
        return Err(Problem::unfit("expires_in: expected more than nothing"));
    }
    let name = given.name.unwrap_or_else(|| given.owner.clone());
    asked.also(Area::ApiKeys, "POST", &[("name", &name)])?;
    Holder::api_key(asked, &name, &given.roles).check(asked)?;
    let now = asked.state.now();
    let wanted = NewApiKey {
        name,
        owner: given.owner,
        roles: given.roles,
        scopes: given.scopes,
        attributes: given.attributes,
        expires: given.expires_in.map(|seconds| now.plus(Duration::from_secs(seconds))),
    };
    let made = create_api_key(&file(asked), &wanted, now, asked.state.random.as_ref());
    let (key, record) = made.map_err(|error| Problem::unfit(error.to_string()))?;
    asked.state.file_written().await;
    let made = CreatedApiKey { record: ApiKeyOut::from(&record), key: key.expose().to_owned() };
    Ok(Reply::ok(&made)?.created(format!("/v1/api-keys/{}", record.id)))
}

/// `DELETE /v1/api-keys/{key}`
pub async fn revoke(asked: &Call) -> Result<Reply, Problem> {
    let (file, id) = (file(asked), asked.parameter("key"));
    if !list_api_keys(&file)?.iter().any(|record| record.id == id) {
        // Not what was given: it may be a part of a key.
        return Err(Problem::not_found("API key of this id"));
    }
    revoke_api_key(&file, id, asked.state.now())?;
    asked.state.file_written().await;
    Ok(Reply::done())
}

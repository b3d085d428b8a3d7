//! Sessions and grants, and their end.

use identity::{GrantInfo, SessionInfo};
use schemars::JsonSchema;
use serde::Serialize;

use super::Page;
use super::users::find;
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};

/// A session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SessionOut {
    /// Its `sid`.
    pub id: String,
    /// The id of the user who logged in.
    pub user: String,
    /// When the person last showed who they are, Unix seconds.
    pub authenticated: u64,
    /// When it was last used, to the minute, Unix seconds.
    pub seen: u64,
    /// When it ends if it is not used, Unix seconds.
    pub expires: u64,
    /// The class of the authentication.
    pub acr: Option<String>,
    /// Its methods (RFC 8176).
    pub amr: Vec<String>,
}

/// What a person allowed a client.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct GrantOut {
    /// Its id.
    pub id: String,
    /// The client.
    pub client: String,
    /// The session that it began in.
    pub session: String,
    /// What was allowed.
    pub scopes: Vec<String>,
    /// Whether it goes on without its session.
    pub offline: bool,
    /// When it ends at the latest, Unix seconds.
    pub until: u64,
}

/// What a sign-out ended.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SignedOut {
    /// Sessions and grants that were open.
    pub ended: usize,
}

impl From<SessionInfo> for SessionOut {
    fn from(session: SessionInfo) -> Self {
        Self {
            id: session.id,
            user: session.user,
            authenticated: session.authenticated.unix_seconds(),
            seen: session.seen.unix_seconds(),
            expires: session.expires.unix_seconds(),
            acr: session.acr,
            amr: session.amr,
        }
    }
}

impl From<GrantInfo> for GrantOut {
    fn from(grant: GrantInfo) -> Self {
        Self {
            id: grant.id,
            client: grant.client,
            session: grant.session,
            scopes: grant.scopes,
            offline: grant.offline,
            until: grant.until.unix_seconds(),
        }
    }
}

/// `GET …/users/{user}/sessions`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (user, _) = find(asked, &realm).await?;
    let sessions = realm.sessions(&user.id).await?;
    Reply::ok(&Page::whole(sessions.into_iter().map(SessionOut::from).collect()))
}

/// `DELETE …/users/{user}/sessions`
pub async fn sign_out(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (user, _) = find(asked, &realm).await?;
    Reply::ok(&SignedOut { ended: realm.sign_out(&user.id).await? })
}

/// `DELETE …/sessions/{session}`
pub async fn end(asked: &Call) -> Result<Reply, Problem> {
    match asked.realm()?.end_session(asked.parameter("session")).await? {
        true => Ok(Reply::done()),
        false => Err(Problem::not_found("session of this id")),
    }
}

/// `GET …/users/{user}/grants`
pub async fn grants(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (user, _) = find(asked, &realm).await?;
    let grants = realm.grants(&user.id).await?;
    Reply::ok(&Page::whole(grants.into_iter().map(GrantOut::from).collect()))
}

/// `DELETE …/grants/{grant}`
pub async fn end_grant(asked: &Call) -> Result<Reply, Problem> {
    match asked.realm()?.end_grant(asked.parameter("grant")).await? {
        true => Ok(Reply::done()),
        false => Err(Problem::not_found("grant of this id")),
    }
}

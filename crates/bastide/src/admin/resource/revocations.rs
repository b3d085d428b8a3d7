//! What is revoked at the gateway before its time, whoever issued it.

use std::time::Duration;

use ::keys::{Revocation, RevocationFile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Page;
use crate::admin::problem::Problem;
use crate::admin::serve::{Asked, Reply};

/// What is to be revoked: exactly one of `token`, `grant`, `session` and `subject`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRevocation {
    /// A token's `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub token: Option<String>,
    /// All tokens whose `jti` begins with this and a dot, as the realms' of one grant do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub grant: Option<String>,
    /// A session's `sid`: all its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub session: Option<String>,
    /// A principal's id as events name it: what was issued until now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub subject: Option<String>,
    /// With `subject`: what is issued from now on, too.
    #[serde(default)]
    pub all: bool,
    /// Only tokens of this `iss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,
    /// For how long it is remembered, seconds: until nothing that it names is good any more.
    /// Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub expires_in: Option<u64>,
}

/// What is revoked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RevocationOut {
    /// A token's `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// A grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    /// A session's `sid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    /// A principal's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// With `subject`: what was issued until then, Unix seconds. Absent: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_until: Option<u64>,
    /// Only tokens of this `iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// When it is forgotten, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl From<Revocation> for RevocationOut {
    fn from(entry: Revocation) -> Self {
        Self {
            token: entry.token,
            grant: entry.grant,
            session: entry.session,
            subject: entry.subject,
            issued_until: entry.issued_until,
            issuer: entry.issuer,
            until: entry.until,
        }
    }
}

fn file(asked: &Asked) -> RevocationFile {
    RevocationFile::new(&asked.desk.revocations, asked.desk.random.clone())
}

/// `GET /v1/revocations`
pub async fn list(asked: &Asked) -> Result<Reply, Problem> {
    Reply::ok(&Page::whole(file(asked).entries()?.into_iter().map(RevocationOut::from).collect()))
}

/// `POST /v1/revocations`
pub async fn revoke(asked: &Asked) -> Result<Reply, Problem> {
    let given: NewRevocation = asked.body()?;
    let now = asked.desk.now();
    if given.all && given.subject.is_none() {
        return Err(Problem::unfit("all: stands only with subject"));
    }
    if given.expires_in == Some(0) {
        return Err(Problem::unfit("expires_in: expected more than nothing"));
    }
    let entry = Revocation {
        issued_until: (given.subject.is_some() && !given.all).then(|| now.unix_seconds()),
        token: given.token,
        grant: given.grant,
        session: given.session,
        subject: given.subject,
        issuer: given.issuer,
        until: given.expires_in.map(|seconds| now.plus(Duration::from_secs(seconds)).unix_seconds()),
    };
    entry.check().map_err(Problem::unfit)?;
    file(asked).add(std::slice::from_ref(&entry), now)?;
    Ok(Reply::ok(&RevocationOut::from(entry))?.created("/v1/revocations".to_owned()))
}

/// `DELETE /v1/revocations/{name}`
pub async fn undo(asked: &Asked) -> Result<Reply, Problem> {
    let name = asked.parameter("name");
    match file(asked).remove(name, asked.desk.now())? {
        0 => Err(Problem::not_found(format!("revocation of {name:?}"))),
        _ => Ok(Reply::done()),
    }
}

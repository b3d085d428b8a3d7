//! The authorities of the mesh: which there are, and the steps of their lives that people take.

use ::mesh::authority::{Entry, Kind, State};
use ::mesh::{Step, TrustDomain};
use model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Page, why};
use crate::admin::problem::Problem;
use crate::admin::serve::{Asked, Reply};

/// An authority, without what signs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AuthorityOut {
    /// The thumbprint of its key (RFC 7638).
    id: String,
    /// What it signs.
    #[schemars(with = "String", extend("enum" = ["root", "issuing", "jwt"]))]
    kind: Kind,
    /// What it is now.
    #[schemars(with = "String", extend("enum" = ["prepared", "active", "retired", "tainted", "revoked"]))]
    state: State,
    /// Since when it signs, or from when on it will, Unix seconds.
    signs_from: u64,
    /// When it signs no more, if another one does by then, Unix seconds.
    signs_until: u64,
    /// When nothing that it signed is valid any more, Unix seconds.
    ends: u64,
}

impl AuthorityOut {
    fn of(entry: &Entry, now: Timestamp) -> Self {
        Self {
            id: entry.id.clone(),
            kind: entry.kind,
            state: entry.state(now),
            signs_from: entry.active_from.unix_seconds(),
            signs_until: entry.active_until.unix_seconds(),
            ends: entry.ends.unix_seconds(),
        }
    }
}

/// An authority that is to be prepared.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAuthority {
    /// What it is to sign.
    #[schemars(with = "String", extend("enum" = ["root", "issuing", "jwt"]))]
    kind: Kind,
}

async fn all(domain: &TrustDomain) -> Result<Page<AuthorityOut>, Problem> {
    let (record, now) = (domain.record().await?, domain.now());
    Ok(Page::whole(record.entries.iter().map(|entry| AuthorityOut::of(entry, now)).collect()))
}

async fn take(asked: &Asked, step: Step, done: String) -> Result<Reply, Problem> {
    let (domain, why) = (asked.desk.trust.domain()?, why(asked)?);
    domain.step(&step).await?;
    Ok(Reply::ok(&all(&domain).await?)?.about(done + &why))
}

/// `GET /v1/authorities`
pub async fn list(asked: &Asked) -> Result<Reply, Problem> {
    Reply::ok(&all(asked.desk.trust.domain()?.as_ref()).await?)
}

/// `POST /v1/authorities`
pub async fn prepare(asked: &Asked) -> Result<Reply, Problem> {
    let kind = asked.body::<NewAuthority>()?.kind;
    take(asked, Step::Prepare(kind), format!("prepared: another {} authority", kind.name())).await
}

/// `POST /v1/authorities/{authority}/activate`
pub async fn activate(asked: &Asked) -> Result<Reply, Problem> {
    let id = asked.parameter("authority").to_owned();
    let done = format!("activated: {id}");
    take(asked, Step::Activate(id), done).await
}

/// `POST /v1/authorities/{authority}/taint`
pub async fn taint(asked: &Asked) -> Result<Reply, Problem> {
    let id = asked.parameter("authority").to_owned();
    let done = format!("tainted: {id}");
    take(asked, Step::Taint(id), done).await
}

/// `POST /v1/authorities/{authority}/revoke`
pub async fn revoke(asked: &Asked) -> Result<Reply, Problem> {
    let id = asked.parameter("authority").to_owned();
    let done = format!("revoked: {id}");
    take(asked, Step::Revoke(id), done).await
}

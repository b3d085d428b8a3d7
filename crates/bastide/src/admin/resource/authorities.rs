//! The authorities of the mesh: which there are, and the steps of their lives that people take.

use ::mesh::Step;
use ::mesh::authority::{Entry, Kind, Record, State};
use model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Page, done, why};
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};

/// An authority, without what signs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AuthorityOut {
    /// The thumbprint of its key (RFC 7638).
    id: String,
    /// What it signs.
    #[schemars(with = "String", extend("enum" = ["root", "issuing", "jwt"]))]
    kind: Kind,
    /// Its state: prepared, active, retired, tainted or revoked.
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

fn shown(record: &Record, now: Timestamp) -> Page<AuthorityOut> {
    Page::whole(record.entries.iter().map(|entry| AuthorityOut::of(entry, now)).collect())
}

/// Takes a step of the life of the authority that the path names.
async fn take(asked: &Call, taken: &str, step: fn(String) -> Step) -> Result<Reply, Problem> {
    let (domain, why) = (asked.state.trust.domain()?, why(asked)?);
    let id = asked.parameter("authority");
    let record = domain.step(&step(id.to_owned())).await?;
    Ok(Reply::ok(&shown(&record, domain.now()))?.about(done(format!("{taken}: {id}"), &why)))
}

/// `GET /v1/authorities`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let domain = asked.state.trust.domain()?;
    Reply::ok(&shown(&domain.record().await?, domain.now()))
}

/// `POST /v1/authorities`
pub async fn prepare(asked: &Call) -> Result<Reply, Problem> {
    let kind = asked.body::<NewAuthority>()?.kind;
    let (domain, why) = (asked.state.trust.domain()?, why(asked)?);
    let record = domain.step(&Step::Prepare(kind)).await?;
    // The newest of its kind.
    let id = record.entries.iter().rfind(|entry| entry.kind == kind).map_or("", |entry| &entry.id);
    let prepared = format!("prepared: another {} authority, {id}", kind.name());
    Ok(Reply::ok(&shown(&record, domain.now()))?.about(done(prepared, &why)))
}

/// `POST /v1/authorities/{authority}/activate`
pub async fn activate(asked: &Call) -> Result<Reply, Problem> {
    take(asked, "activated", Step::Activate).await
}

/// `POST /v1/authorities/{authority}/taint`
pub async fn taint(asked: &Call) -> Result<Reply, Problem> {
    take(asked, "tainted", Step::Taint).await
}

/// `POST /v1/authorities/{authority}/revoke`
pub async fn revoke(asked: &Call) -> Result<Reply, Problem> {
    take(asked, "revoked", Step::Revoke).await
}

//! The nodes of the mesh with an agent: which may join, which of them no more, and which again.

use std::time::Duration;

use ::mesh::node;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::workloads::check_node;
use super::{done, why};
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};

/// How long a token may be used when nothing is said.
const LIFE: Duration = Duration::from_secs(3600);

/// A node that was evicted.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EvictedOut {
    /// The node's name.
    node: String,
    /// How many keys of this name were attested, and are no more.
    keys: usize,
}

/// A token with which a node may join.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For how long it may be used, seconds: at most seven days. Absent: an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub expires_in: Option<u64>,
}

/// A token that was made.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TokenOut {
    /// The token, with the key that agents know the control plane by: shown this once.
    token: String,
    /// What the node is called.
    node: String,
    /// When it ends, Unix seconds.
    ends: u64,
}

/// `POST /v1/nodes/{node}/token`
pub async fn token(asked: &Call) -> Result<Reply, Problem> {
    let (node, why) = (asked.parameter("node").to_owned(), why(asked)?);
    let life = asked.body::<NewToken>()?.expires_in.map_or(LIFE, Duration::from_secs);
    check_node(asked, &node).await?;
    let domain = asked.state.trust.domain()?;
    let token = node::make_token(&domain, &node, life).await?.to_string();
    let made = format!("made: a token with which {node} may join within {} s", life.as_secs());
    let ends = domain.now().plus(life).unix_seconds();
    Ok(Reply::ok(&TokenOut { token, node, ends })?.about(done(made, &why)))
}

/// `PUT /v1/nodes/{node}/eviction`
pub async fn evict(asked: &Call) -> Result<Reply, Problem> {
    let (name, why) = (asked.parameter("node").to_owned(), why(asked)?);
    let domain = asked.state.trust.domain()?;
    let keys = node::evict(&domain, &name).await?;
    let known = if keys == 1 { "1 key of it is".to_owned() } else { format!("{keys} keys of it are") };
    let evicted = format!("evicted: {name}, {known} known no more");
    Ok(Reply::ok(&EvictedOut { node: name, keys })?.about(done(evicted, &why)))
}

/// `DELETE /v1/nodes/{node}/eviction`
pub async fn admit(asked: &Call) -> Result<Reply, Problem> {
    let (name, why) = (asked.parameter("node"), why(asked)?);
    check_node(asked, name).await?;
    let domain = asked.state.trust.domain()?;
    if !node::readmit(&domain, name).await? {
        return Err(Problem::not_found(format!("eviction of {name:?}")));
    }
    Ok(Reply::done().about(done(format!("admitted: {name}"), &why)))
}

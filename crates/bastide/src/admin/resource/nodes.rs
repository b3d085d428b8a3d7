//! The nodes of the mesh with an agent: which of them may come no more, and which may again.

use ::mesh::node;
use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::problem::Problem;
use crate::admin::serve::{Asked, Reply};

/// Longest reason of an operator, characters.
const WHY_CHARACTERS_MAX: usize = 256;

/// A node that was evicted.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EvictedOut {
    /// What it is called.
    node: String,
    /// How many keys of this name were attested, and are no more.
    keys: usize,
}

/// What moved whoever asks, as the end of a line of the audit log; empty when it was not said.
fn why(asked: &Asked) -> Result<String, Problem> {
    let Some(why) = asked.query("why") else { return Ok(String::new()) };
    if why.chars().count() > WHY_CHARACTERS_MAX || why.chars().any(char::is_control) {
        return Err(Problem::malformed(format!(
            "why: expected one line of at most {WHY_CHARACTERS_MAX} characters"
        )));
    }
    Ok(format!(", because: {why}"))
}

/// `PUT /v1/nodes/{node}/eviction`
pub async fn evict(asked: &Asked) -> Result<Reply, Problem> {
    let (name, why) = (asked.parameter("node").to_owned(), why(asked)?);
    let domain = asked.desk.trust.domain()?;
    let keys = node::evict(&domain, &name).await?;
    let about = format!("evicted: {name}, {keys} keys of it are known no more{why}");
    Ok(Reply::ok(&EvictedOut { node: name, keys })?.about(about))
}

/// `DELETE /v1/nodes/{node}/eviction`
pub async fn admit(asked: &Asked) -> Result<Reply, Problem> {
    let (name, why) = (asked.parameter("node"), why(asked)?);
    let domain = asked.desk.trust.domain()?;
    if !node::readmit(&domain, name).await? {
        return Err(Problem::not_found(format!("eviction of {name:?}")));
    }
    Ok(Reply::done().about(format!("admitted: {name}{why}")))
}

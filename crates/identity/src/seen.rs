//! Names that may be used once: `jti`s of assertions and proofs.

use model::Timestamp;
use store::Expect;

use crate::Error;
use crate::realm::Realm;
use crate::record::{Kind, Written};

/// Writes down that `owner` used `id`, until it could not be used anyway.
/// [`Written::Conflict`]: it was used before. Exact over all processes and restarts.
pub(crate) async fn first(realm: &Realm, owner: &str, id: &str, until: Timestamp) -> Result<Written, Error> {
    let name = crate::random::hash(&format!("{} {owner} {id}", owner.len()));
    realm.records.put(Kind::Seen, &[&name], &(), Some(until), Expect::Absent).await
}

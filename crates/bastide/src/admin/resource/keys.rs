//! The signing keys of a realm.

use identity::Realm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Page;
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};

/// A signing key, without what signs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KeyOut {
    /// Its `kid`.
    pub id: String,
    /// Its algorithm.
    pub algorithm: String,
    /// When it was made and published, Unix seconds.
    pub created: u64,
    /// From when on it signs, Unix seconds.
    pub signs_from: u64,
    /// Until when it signs, Unix seconds.
    pub signs_until: u64,
    /// Until when it is published, Unix seconds.
    pub published_until: u64,
}

/// How keys are rotated.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// What the keys of before signed is good no more: for keys that somebody else may know.
    #[serde(default)]
    pub forget: bool,
}

fn page(realm: &Realm) -> Page<KeyOut> {
    let keys = realm.signing_keys().into_iter().map(|key| KeyOut {
        id: key.id,
        algorithm: key.algorithm.name().to_owned(),
        created: key.created.unix_seconds(),
        signs_from: key.signs_from.unix_seconds(),
        signs_until: key.signs_until.unix_seconds(),
        published_until: key.published_until.unix_seconds(),
    });
    Page::whole(keys.collect())
}

/// `GET …/keys`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    realm.rotate_keys().await?;
    Reply::ok(&page(&realm))
}

/// `POST …/keys/rotate`
pub async fn rotate(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let wanted: Rotate = asked.body()?;
    realm.replace_keys(wanted.forget).await?;
    Reply::ok(&page(&realm))
}

//! People.

use std::collections::{BTreeMap, BTreeSet};

use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

/// Longest user name, bytes.
pub(crate) const USERNAME_BYTES_MAX: usize = 255;

/// A person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// `sub`: never given to somebody else (OpenID Connect Core §2).
    pub id: String,
    /// What they log in with, without case.
    pub username: String,
    /// The full name.
    #[serde(default)]
    pub name: Option<String>,
    /// The e-mail address.
    #[serde(default)]
    pub email: Option<String>,
    /// Whether they showed that it is theirs.
    #[serde(default)]
    pub email_verified: bool,
    /// The roles.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// The groups.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// Everything else, by name; claim rules read it.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    /// Switched off: no login, no refresh, no token is active.
    #[serde(default)]
    pub disabled: bool,
    /// What they began before this is over: sessions and grants. Kept by the realm, which
    /// moves it when they are switched off, get another password, or are signed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_out: Option<Timestamp>,
    /// How often they lost a role or a group. Their tokens say so, and those that say less are
    /// revoked. Kept by the realm.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub role_version: u64,
    /// When they were made.
    pub created: Timestamp,
    /// When they were changed.
    pub updated: Timestamp,
}

impl User {
    /// A user with nothing yet.
    pub fn new(id: &str, username: &str, now: Timestamp) -> Self {
        Self {
            id: id.to_owned(),
            username: username.to_owned(),
            name: None,
            email: None,
            email_verified: false,
            roles: BTreeSet::new(),
            groups: BTreeSet::new(),
            attributes: BTreeMap::new(),
            disabled: false,
            signed_out: None,
            role_version: 0,
            created: now,
            updated: now,
        }
    }

    /// Whether what they began at this time is over.
    pub(crate) fn is_over(&self, begun: Timestamp) -> bool {
        self.signed_out.is_some_and(|end| begun < end)
    }

    /// Whether they have a role or a group that they would not have any more.
    pub(crate) fn loses(&self, after: &Self) -> bool {
        !self.roles.is_subset(&after.roles) || !self.groups.is_subset(&after.groups)
    }

    /// Checks the form.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub fn check(&self) -> Result<(), Error> {
        let readable =
            |text: &str| !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
        let why = if !readable(&self.id) || self.id.len() > 255 || !self.id.is_ascii() {
            "id: expected 1 to 255 ASCII characters (OpenID Connect Core §2)"
        } else if !readable(&self.username) || self.username.len() > USERNAME_BYTES_MAX {
            "username: expected 1 to 255 bytes without control characters and outer spaces"
        } else if self.email.as_deref().is_some_and(|email| !is_plain(email)) {
            "email: expected one address, without spaces and control characters"
        } else {
            return Ok(());
        };
        Err(Error::Record { what: described(&self.username), why: why.to_owned() })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Whether a text can be an address, and nothing that a message's header would read as more.
fn is_plain(email: &str) -> bool {
    email.contains('@')
        && email.len() <= 320
        && !email.chars().any(|one| one.is_control() || one.is_whitespace())
}

/// What an error calls a user of this name.
pub(crate) fn described(username: &str) -> String {
    format!("user \"{}\"", keys::encoding::quote(username))
}

/// How user names are compared: without case.
pub(crate) fn folded(username: &str) -> String {
    username.trim().to_lowercase()
}

//! What the operations do, one file per resource, and the shapes in which they tell it.

pub mod api_keys;
pub mod authorities;
pub mod clients;
mod holder;
pub mod keys;
pub mod nodes;
pub mod partners;
pub mod realms;
pub mod revocations;
pub mod sessions;
pub mod users;
pub mod workloads;

pub use api_keys::{ApiKeyOut, CreatedApiKey, NewApiKeyIn};
pub use authorities::{AuthorityOut, NewAuthority};
pub use clients::{ClientOut, NewSecret};
pub use keys::{KeyOut, Rotate};
pub use nodes::{EvictedOut, NewToken, TokenOut};
pub use partners::PartnerOut;
pub use realms::{RealmOut, RoleOut};
pub use revocations::{NewRevocation, RevocationOut};
pub use sessions::{GrantOut, SessionOut, SignedOut};
pub use users::{FactorIn, FactorOut, GroupOut, PasswordIn, UserIn, UserOut};
pub use workloads::WorkloadOut;

use schemars::JsonSchema;
use serde::Serialize;
use store::Cursor;

use super::problem::Problem;
use super::serve::Call;

/// Items of a page when nothing is said.
const LIMIT_DEFAULT: usize = 100;
/// Most items of a page.
const LIMIT_MAX: usize = 1_000;

/// How often a change of one record is tried again that others change at the same time.
const ATTEMPTS_MAX: usize = 8;

/// One page of a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// `cursor` of the next page; absent: nothing is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// All there is.
    fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// Something that is shown this once.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Made {
    /// The password or secret that was made; absent when it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// `limit` and `cursor`.
fn paging(asked: &Call) -> Result<(usize, Option<Cursor>), Problem> {
    let limit = match asked.query("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => {
            let number = text.parse().ok().filter(|number| (1..=LIMIT_MAX).contains(number));
            number.ok_or_else(|| Problem::malformed(format!("limit: expected 1 to {LIMIT_MAX}")))?
        }
    };
    let wrong = |_| Problem::malformed("cursor: expected `next` of the page before");
    let cursor = asked.query("cursor").map(|text| Cursor::parse(text).map_err(wrong)).transpose()?;
    Ok((limit, cursor))
}

/// Longest reason of an operator, characters.
const WHY_CHARACTERS_MAX: usize = 256;

/// What moved whoever asks, for the audit log; empty when it was not said.
fn why(asked: &Call) -> Result<String, Problem> {
    let Some(why) = asked.query("why") else { return Ok(String::new()) };
    if why.chars().count() > WHY_CHARACTERS_MAX || why.chars().any(char::is_control) {
        return Err(Problem::malformed(format!(
            "why: expected one line of at most {WHY_CHARACTERS_MAX} characters"
        )));
    }
    Ok(format!("because: {why}"))
}

/// What was done, and the reason if one was given.
fn done(what: String, why: &str) -> String {
    if why.is_empty() { what } else { format!("{what}, {why}") }
}

/// A segment of a path for `Location`.
pub fn encoded(segment: &str) -> String {
    use std::fmt::Write as _;
    segment.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

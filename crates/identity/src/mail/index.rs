//! Who has which address: kept with the users, so that somebody is found by the one that
//! they type.

use store::{Expect, Transaction};

use super::is_address;
use crate::Error;
use crate::record::{Kind, Records};
use crate::user::{User, folded};

/// Adds what changes when a user is written; without `after`, when they go.
pub(crate) fn change(
    records: &Records,
    mut changes: Transaction,
    before: Option<&User>,
    after: Option<&User>,
) -> Result<Transaction, Error> {
    let address = |user: &User| user.email.as_deref().filter(|email| is_address(email)).map(folded);
    let old = before.and_then(|user| Some((address(user)?, user.id.as_str())));
    let new = after.and_then(|user| Some((address(user)?, user.id.as_str())));
    if old == new {
        return Ok(changes);
    }
    if let Some((address, id)) = old {
        changes = changes.delete(records.key(Kind::UserEmail, &[&address, id]), Expect::Any);
    }
    match new {
        Some((address, id)) => {
            records.write(changes, Kind::UserEmail, &[&address, id], &(), None, Expect::Any)
        }
        None => Ok(changes),
    }
}

//! Who has which address: kept with the users, so that somebody is found by the one that
//! they type.
//!
//! Many may have an address written down, one at most owns it: whoever showed that it is theirs.
//!
//! INVARIANT: who owns an address is one record, which is written with the user in one transaction and
//! only as it was read: of two who show at once that it is theirs, one does. Where somebody owns an
//! address, it is nobody else's: no link of anybody else's goes there, and none that went there before is
//! good any more.
//!
//! Before there was that record, users of one address could all have it verified. They keep what they
//! have: their address is theirs together, and nobody else's, until it is of one of them alone.

use store::{Expect, Key, Transaction};

use super::is_address;
use crate::Error;
use crate::record::{Kind, Records};
use crate::user::{User, described, folded};

/// Adds what changes when a user is written; without `after`, when they go.
///
/// # Errors
/// [`Error::Owned`] where they would own an address that somebody else does.
pub(crate) async fn change(
    records: &Records,
    mut changes: Transaction,
    before: Option<&User>,
    after: Option<&User>,
) -> Result<Transaction, Error> {
    let (old, new) = (before.and_then(claimed), after.and_then(claimed));
    if old != new {
        if let Some((address, id)) = old {
            changes = changes.delete(records.key(Kind::UserEmail, &[&address, id]), Expect::Any);
        }
        if let Some((address, id)) = new {
            changes = records.write(changes, Kind::UserEmail, &[&address, id], &(), None, Expect::Any)?;
        }
    }
    let (old, new) = (before.and_then(verified), after.and_then(verified));
    if old == new {
        return Ok(changes);
    }
    if let Some((address, id)) = old
        && let Some(owner) = records.get::<String>(Kind::EmailOwner, &[&address]).await?
        && owner.value == id
    {
        let key = records.key(Kind::EmailOwner, &[&address]);
        changes = changes.delete(key, Expect::Version(owner.version));
    }
    if let Some((address, id)) = new {
        let (owned, expect) = look(records, &address, id).await?;
        if owned {
            let username = after.map_or(id, |user| user.username.as_str());
            return Err(Error::Owned { what: described(username) });
        }
        changes = records.write(changes, Kind::EmailOwner, &[&address], &id, None, expect)?;
    }
    Ok(changes)
}

/// Whether an address that a user has written down is somebody else's, and the record that says whose it
/// is, as it was read: whatever is done because it is not, is done only while that is so.
pub(crate) async fn is_anothers(
    records: &Records,
    user: &User,
    email: &str,
) -> Result<(bool, (Key, Expect)), Error> {
    let address = folded(email);
    let (owned, expect) = look(records, &address, &user.id).await?;
    // Who verified it as well before anybody could own it has as much of it.
    let together = user.email_verified && expect == Expect::Absent;
    Ok((owned && !together, (records.key(Kind::EmailOwner, &[&address]), expect)))
}

/// Whose an address is, by id: the one who owns it, or those who verified it when nobody could. Where it is
/// nobody's, all who have it written down.
pub(crate) async fn people(records: &Records, typed: &str, most: usize) -> Result<Vec<String>, Error> {
    let address = folded(typed);
    if let Some(owner) = records.get::<String>(Kind::EmailOwner, &[&address]).await? {
        return Ok(vec![owner.value]);
    }
    let all = claims(records, &address).await?;
    let verified: Vec<String> = all.iter().filter(|user| user.email_verified).map(id_of).collect();
    let mut people = if verified.is_empty() { all.iter().map(id_of).collect() } else { verified };
    people.truncate(most);
    Ok(people)
}

/// Whether somebody else owns an address, and the record of its owner as it was read.
async fn look(records: &Records, address: &str, id: &str) -> Result<(bool, Expect), Error> {
    if let Some(owner) = records.get::<String>(Kind::EmailOwner, &[address]).await? {
        return Ok((owner.value != id, Expect::Version(owner.version)));
    }
    let others = claims(records, address).await?;
    let owned = others.iter().any(|user| user.id != id && user.email_verified);
    Ok((owned, Expect::Absent))
}

/// Everybody who has an address written down.
async fn claims(records: &Records, address: &str) -> Result<Vec<User>, Error> {
    let mut users = Vec::new();
    for (id, _) in records.list_all::<()>(Kind::UserEmail, &[address]).await? {
        let user = records.get::<User>(Kind::User, &[&id]).await?.map(|stored| stored.value);
        users.extend(user.filter(|user| user.email.as_deref().map(folded).as_deref() == Some(address)));
    }
    Ok(users)
}

fn id_of(user: &User) -> String {
    user.id.clone()
}

/// The address that a user has written down, where messages can go to it.
fn claimed(user: &User) -> Option<(String, &str)> {
    let email = user.email.as_deref().filter(|email| is_address(email))?;
    Some((folded(email), user.id.as_str()))
}

/// The address that a user has shown to be theirs.
fn verified(user: &User) -> Option<(String, &str)> {
    let email = user.email.as_deref().filter(|_| user.email_verified)?;
    Some((folded(email), user.id.as_str()))
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;
    use crate::realm::Realm;
    use crate::record::Written;
    use crate::testing::realm;

    const ADDRESS: &str = "office@example.org";

    fn person(name: &str, email_verified: bool) -> User {
        let mut user = User::new(name, name, Timestamp::default());
        (user.email, user.email_verified) = (Some(ADDRESS.to_owned()), email_verified);
        user
    }

    /// Somebody as they were written before an address could be owned.
    async fn of_before(realm: &Realm, name: &str, email_verified: bool) -> User {
        let user = person(name, false);
        realm.put_user(&user).await.unwrap();
        let as_before = User { email_verified, ..user };
        let written = realm.records.put(Kind::User, &[name], &as_before, None, Expect::Present).await;
        assert_eq!(written.unwrap(), Written::Done);
        as_before
    }

    async fn meant(realm: &Realm) -> Vec<String> {
        let mut people = people(&realm.records, " Office@example.org", 5).await.unwrap();
        people.sort_unstable();
        people
    }

    async fn is_others(realm: &Realm, user: &User) -> bool {
        is_anothers(&realm.records, user, ADDRESS).await.unwrap().0
    }

    #[tokio::test]
    async fn who_verified_an_address_before_it_could_be_owned_has_it() {
        let realm = realm(None).await;
        let alice = of_before(&realm, "alice", true).await;
        let eve = of_before(&realm, "eve", false).await;
        assert_eq!(meant(&realm).await, ["alice"]);
        assert!(is_others(&realm, &eve).await && !is_others(&realm, &alice).await);
        assert!(matches!(realm.put_user(&person("eve", true)).await, Err(Error::Owned { .. })));
        // Written again, she is as she was.
        realm.put_user(&User { name: Some("Alice".to_owned()), ..alice.clone() }).await.unwrap();
        assert_eq!(meant(&realm).await, ["alice"]);
        realm.put_user(&person("alice", false)).await.unwrap();
        realm.put_user(&person("eve", true)).await.unwrap();
        assert_eq!(meant(&realm).await, ["eve"]);
        assert!(is_others(&realm, &person("alice", false)).await);
    }

    #[tokio::test]
    async fn those_who_had_verified_one_address_keep_it_together_until_it_is_of_one_of_them() {
        let realm = realm(None).await;
        let (alice, bob) = (of_before(&realm, "alice", true).await, of_before(&realm, "bob", true).await);
        let eve = of_before(&realm, "eve", false).await;
        assert_eq!(meant(&realm).await, ["alice", "bob"]);
        assert!(!is_others(&realm, &alice).await && !is_others(&realm, &bob).await);
        assert!(is_others(&realm, &eve).await);
        for user in [&alice, &bob] {
            realm.put_user(&User { name: Some("X".to_owned()), ..user.clone() }).await.unwrap();
        }
        // Who gives it up has it back only when nobody else has it.
        realm.put_user(&person("bob", false)).await.unwrap();
        assert!(matches!(realm.put_user(&bob).await, Err(Error::Owned { .. })));
        assert_eq!(meant(&realm).await, ["alice"]);
    }
}

//! Refresh tokens (RFC 6749 §6): rotated at each use by one compare-and-set.
//!
//! A refresh token names its grant and its generation, and proves both. The grant's
//! record knows the current generation, and that is all the state there is:
//!
//! | presented | answer |
//! |---|---|
//! | current | the next generation, if this write is the first on this version of the record |
//! | the one before, within the grace | the current one again, and the grant is not written: a lost answer, a second tab |
//! | older, or after the grace | stolen: the whole family is revoked |
//!
//! Of two at once one write wins; the other reads again and finds itself in the second
//! line. There is no moment at which both count (CVE-2026-1035).

use model::Timestamp;
use store::{Expect, Transaction};
use subtle::ConstantTimeEq as _;

use super::{Family, Grant, Narrowed, Parties, USER_OVER, Why, check_class, is_strong_enough, revoke};
use crate::Error;
use crate::client::Client;
use crate::realm::Realm;
use crate::record::{ATTEMPTS_MAX, Kind, Stored, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::session;
use crate::token::{Asking, Issued};
use crate::user::User;

/// Longest refresh token that is read, bytes.
const TOKEN_BYTES_MAX: usize = 256;

/// What a genuine refresh token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Current,
    /// The one before, within the grace.
    Repeated,
    Reused,
}

impl Family {
    fn standing(&self, generation: u64, realm: &Realm, now: Timestamp) -> Standing {
        if generation == self.generation {
            return Standing::Current;
        }
        let before = generation.checked_add(1) == Some(self.generation);
        let grace = realm.settings.lifetimes.refresh_grace;
        if before && now.since(self.rotated) < grace { Standing::Repeated } else { Standing::Reused }
    }
}

/// The grant and generation of a refresh token that we gave out, whatever it is worth now.
pub(crate) async fn find(realm: &Realm, token: &str) -> Result<Option<(Stored<Grant>, u64)>, Error> {
    // Most that are asked about are access tokens, and much longer.
    if token.len() > TOKEN_BYTES_MAX {
        return Ok(None);
    }
    let mut parts = token.split('.');
    let (Some(id), Some(generation), Some(tag), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Ok(None);
    };
    let Ok(generation) = generation.parse::<u64>() else { return Ok(None) };
    let Some(stored) = realm.records.get::<Grant>(Kind::Grant, &[id]).await? else { return Ok(None) };
    let Some(family) = &stored.value.family else { return Ok(None) };
    let expected = stored.value.refresh_tag(realm, family, generation);
    let genuine = bool::from(expected.as_bytes().ct_eq(tag.as_bytes()));
    Ok(genuine.then_some((stored, generation)))
}

/// Whether a refresh token would be taken from its client now.
pub(crate) async fn is_good(
    realm: &Realm,
    client: &Client,
    (grant, generation): (&Grant, u64),
    now: Timestamp,
) -> Result<bool, Error> {
    let standing = grant.family.as_ref().map(|family| family.standing(generation, realm, now));
    if grant.until <= now || !matches!(standing, Some(Standing::Current | Standing::Repeated)) {
        return Ok(false);
    }
    let in_session =
        grant.is_offline() || session::get(realm, &grant.authentication.session, now).await?.is_some();
    let user = grant.user(realm).await?;
    let is_enough = |user: &User| is_strong_enough(realm, client, user, &grant.authentication.amr);
    Ok(in_session && user.as_ref().is_some_and(is_enough))
}

pub(crate) async fn exchange(asking: &Asking<'_>) -> Answer<Issued> {
    let token = asking.call.parameters.require("refresh_token")?;
    for attempt in 0..ATTEMPTS_MAX {
        asking.realm.records.pause(attempt).await;
        let found = find(asking.realm, token).await?;
        let (stored, generation) =
            found.ok_or_else(|| refused("no such refresh token, or it was revoked"))?;
        if let Some(issued) = rotate(asking, stored, generation).await? {
            return Ok(issued);
        }
    }
    Err(Error::Contended("a refresh token").into())
}

/// One attempt; `None` when somebody else wrote the record in between.
async fn rotate(asking: &Asking<'_>, stored: Stored<Grant>, generation: u64) -> Answer<Option<Issued>> {
    let realm = asking.realm;
    let now = asking.now();
    let client = &asking.authenticated.client;
    let mut grant = stored.value;
    // Before anything is revoked: only the client itself can end its family by reuse.
    if grant.client != client.id {
        return Err(refused(format!("it is of client {:?}, not {:?}", grant.client, client.id)));
    }
    if !grant.binding.is_bearer() && grant.binding != *asking.shown() {
        return Err(refused("it is bound to another key or certificate"));
    }
    let Some(family) = &mut grant.family else { return Err(refused("the grant has none")) };
    let standing = family.standing(generation, realm, now);
    match standing {
        Standing::Current => {
            family.generation += 1;
            family.rotated = now;
        }
        Standing::Repeated => {}
        Standing::Reused => {
            let reason = format!("generation {generation} of {} again", family.generation);
            revoke(realm, &grant.id, Why::RefreshTokenReused).await?;
            return Err(refused(reason));
        }
    }
    if grant.until <= now {
        return Err(refused("the grant is over"));
    }
    let session = if grant.is_offline() {
        None
    } else {
        let session = session::get(realm, &grant.authentication.session, now).await?;
        Some(session.ok_or_else(|| refused("its session has ended"))?)
    };
    let user = grant.user(realm).await?.ok_or_else(|| refused(USER_OVER))?;
    // Nothing is written: the same token is good again when no more is asked than was shown.
    check_class(realm, client, &user, &grant.authentication.amr)?;
    // After what takes back: a request that is sent again whole, its proof too, shows a copy as well.
    let binding = asking.binding().await?;
    if let Some(session) = &session {
        // An application that refreshes is somebody at work.
        session::touch(realm, session, now).await?;
    }
    let narrowed = narrowed(asking, &grant)?;
    let parties = Parties { client, user: &user, binding };
    let known_until = grant.tokens_until;
    let issued = grant.issue(realm, parties, narrowed, None, now)?;
    let expires = issued.access.expires;
    if standing == Standing::Repeated && expires <= known_until {
        // Whoever ends the grant ends this token too, be it at this moment: nothing is to be written.
        return Ok(Some(issued));
    }
    // With those that repetitions of this one get.
    grant.tokens_until = grant.tokens_until.max(expires.plus(realm.settings.lifetimes.refresh_grace));
    let changes = grant.write(realm, Transaction::new(), Expect::Version(stored.version), now)?;
    Ok(match realm.records.commit(changes).await? {
        Written::Done => Some(issued),
        Written::Conflict => None,
    })
}

/// What is asked for of the grant. What its client lost since is not granted again.
fn narrowed(asking: &Asking<'_>, grant: &Grant) -> Answer<Narrowed> {
    let client = &asking.authenticated.client;
    let allowed = grant.scopes.intersection(&client.scopes).cloned().collect();
    let reachable = grant.resources.intersection(&client.resources).cloned().collect();
    Ok(Narrowed { scopes: asking.scopes_within(&allowed)?, resources: asking.resources_within(&reachable)? })
}

fn refused(reason: impl Into<String>) -> Box<Refusal> {
    Refusal::new(Code::InvalidGrant, "the refresh token is not valid", reason)
}

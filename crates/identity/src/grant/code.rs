//! The authorization code grant (RFC 6749 §4.1.3, OAuth 2.1): a code is good once, for
//! its client, with the verifier of the challenge that it was asked for with.

use serde::{Deserialize, Serialize};
use store::Expect;

use super::{Decided, Grant, Narrowed, Parties, Why, check_class, revoke};
use crate::Error;
use crate::pkce;
use crate::realm::Realm;
use crate::record::{ATTEMPTS_MAX, Kind, Stored, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::token::{Asking, Issued};
use model::Timestamp;
use std::time::Duration;

/// How long a code that was used is remembered, to see it used again.
const USED_REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// A code, as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    decided: Decided,
    redirect_uri: String,
    /// `None`: it was asked for without one.
    challenge: Option<String>,
    /// RFC 9449 §10: the key that has to come for it.
    jkt: Option<String>,
    /// The grant that it became.
    used: Option<String>,
}

/// Makes a code for what a person decided.
pub(crate) async fn make(
    realm: &Realm,
    decided: Decided,
    redirect_uri: &str,
    challenge: Option<&str>,
    jkt: Option<String>,
    now: Timestamp,
) -> Result<String, Error> {
    let code = crate::random::secret(realm.random.as_ref())?;
    let until = now.plus(realm.settings.lifetimes.code);
    let record = Record {
        decided,
        redirect_uri: redirect_uri.to_owned(),
        challenge: challenge.map(str::to_owned),
        jkt,
        used: None,
    };
    let name = crate::random::hash(&code);
    match realm.records.put(Kind::Code, &[&name], &record, Some(until), Expect::Absent).await? {
        Written::Done => Ok(code),
        Written::Conflict => Err(Error::Random),
    }
}

pub(crate) async fn exchange(asking: &Asking<'_>) -> Answer<Issued> {
    let realm = asking.realm;
    let name = crate::random::hash(asking.call.parameters.require("code")?);
    let stored = realm.records.get::<Record>(Kind::Code, &[&name]).await?;
    let stored = stored.ok_or_else(|| refused("no such code, or it is over"))?;
    check(asking, &stored, &name).await?;
    let record = &stored.value;
    if let Some(grant) = &record.used {
        // OAuth 2.1 §4.1.3: whoever comes second shows that somebody has a copy.
        revoke(realm, grant, Why::CodeReused).await?;
        return Err(refused("the code was used before; what it gave is revoked"));
    }
    let client = &asking.authenticated.client;
    let (user, changes) = record.decided.stands(realm).await?.map_err(refused)?;
    check_class(realm, client, &user, &record.decided.authentication.amr)?;
    // After what takes back: a request that is sent again whole, its proof too, shows a copy as well.
    let binding = asking.binding().await?;
    let mut grant = Grant::begin(realm, client, &record.decided, binding, asking.now())?;
    let narrowed =
        Narrowed { scopes: grant.scopes.clone(), resources: asking.resources_within(&grant.resources)? };
    let parties = Parties { client, user: &user, binding };
    let issued = grant.issue(realm, parties, narrowed, record.decided.nonce.as_deref(), asking.now())?;

    // One transaction: a code that becomes two grants cannot be.
    let used = Record { used: Some(grant.id.clone()), ..record.clone() };
    let remembered = Some(asking.now().plus(USED_REMEMBERED));
    let expect = Expect::Version(stored.version);
    let records = &realm.records;
    let changes = records.write(changes, Kind::Code, &[&name], &used, remembered, expect)?;
    let changes = grant.write_new(realm, changes, asking.now())?;
    match records.commit(changes).await? {
        Written::Done => Ok(issued),
        Written::Conflict => lost(asking, &name).await,
    }
}

/// Somebody else was faster, the session has ended, or its person took it back. Where another
/// process was, that is seen here a moment later.
async fn lost(asking: &Asking<'_>, name: &str) -> Answer<Issued> {
    for attempt in 0..ATTEMPTS_MAX {
        asking.realm.records.pause(attempt).await;
        let stored = asking.realm.records.get::<Record>(Kind::Code, &[name]).await?;
        if let Some(grant) = stored.and_then(|stored| stored.value.used) {
            revoke(asking.realm, &grant, Why::CodeReused).await?;
            return Err(refused("the code was used twice at once; what it gave is revoked"));
        }
    }
    Err(refused("the session has ended, or the person withdrew it"))
}

/// Whether the code is this client's, and whether this is who asked for it.
async fn check(asking: &Asking<'_>, stored: &Stored<Record>, name: &str) -> Answer<()> {
    let record = &stored.value;
    let client = &asking.authenticated.client;
    if record.decided.client != client.id {
        return Err(refused(format!(
            "the code is of client {:?}, not {:?}",
            record.decided.client, client.id
        )));
    }
    let parameters = &asking.call.parameters;
    let same = match parameters.get("redirect_uri") {
        Some(given) => given == record.redirect_uri,
        // OAuth 2.1 §10.2 leaves it to PKCE to tie a code to its request; without, the address does, but
        // where there is one alone (RFC 6749 §4.1.3).
        None => record.challenge.is_some() || client.redirect_uris.len() == 1,
    };
    if !same {
        return Err(refused("`redirect_uri` is not the one of the authorization request"));
    }
    if let Some(jkt) = &record.jkt
        && asking.shown().jkt.as_ref() != Some(jkt)
    {
        return Err(refused("the code is bound to another key (dpop_jkt)"));
    }
    let verifier = parameters.get("code_verifier");
    if let Err(refusal) = pkce::check(client, record.challenge.as_deref(), verifier) {
        // A code without its verifier is a stolen one. Whoever has it gets no second try;
        // what it became already stays, so that a thief cannot end it.
        if record.used.is_none() {
            asking.realm.records.remove(Kind::Code, &[name]).await?;
        }
        return Err(refusal);
    }
    Ok(())
}

fn refused(reason: impl Into<String>) -> Box<Refusal> {
    Refusal::new(Code::InvalidGrant, "the code is not valid", reason)
}

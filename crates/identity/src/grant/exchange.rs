//! Token exchange (RFC 8693): a service that was called calls on, in the name of whoever
//! called it. It may exchange only what was sent to it, for no more than that was worth and the
//! service may ask for itself, and the new token says who acts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{actor, check_class};
use crate::claim::Subject;
use crate::client::Client;
use crate::live::{self, Live};
use crate::mint::{self, AccessToken, Authentication};
use crate::refusal::{Answer, Code, Refusal};
use crate::token::{Asking, Issued};
use model::Timestamp;

/// The one kind of token that is exchanged (§3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Longest chain of actors.
const ACTORS_MAX: usize = 8;

pub(crate) async fn exchange(asking: &Asking<'_>) -> Answer<Issued> {
    let parameters = &asking.call.parameters;
    if parameters.get("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN && wanted != JWT) {
        return Err(Refusal::plain(Code::InvalidRequest, "`requested_token_type` has to be an access token"));
    }
    let subject = token(asking, "subject_token", "subject_token_type").await?;
    for_us(asking, &subject, "subject_token")?;
    let acting = acting(asking, &subject).await?;
    let scopes = asking.scopes_within(&scopes(&subject, &asking.authenticated.client))?;
    let resources = resources(asking)?;
    let client = &asking.authenticated.client;
    let authentication = authentication(&subject);
    if let Some(user) = subject.user() {
        let amr = authentication.as_ref().map_or(&[][..], |shown| &shown.amr);
        check_class(asking.realm, client, user, amr)?;
    }
    // A client on its own behalf goes on as itself.
    let own = match subject.user() {
        Some(_) => None,
        None => asking.realm.client(subject.text("sub").unwrap_or_default()).await?,
    };
    let about = match (subject.user(), &own) {
        (Some(user), _) => Subject::User(user),
        (None, Some(client)) => Subject::Client(client),
        (None, None) => {
            return Err(Refusal::plain(Code::InvalidRequest, "`subject_token` is about nobody"));
        }
    };
    let binding = asking.binding().await?;
    let what = AccessToken {
        subject: about,
        client: &client.id,
        scopes: &scopes,
        resources: &resources,
        authentication: authentication.as_ref(),
        session: subject.text("sid"),
        grant: subject.grant().map(|grant| grant.id.as_str()),
        binding,
        actor: Some(acting),
        // Nothing that comes of a token outlives it.
        until: Some(subject.expires()),
    };
    let access = mint::access_token(asking.realm, &what, asking.now())?;
    Ok(Issued {
        access,
        token_type: binding.token_type(),
        scopes,
        refresh_token: None,
        id_token: None,
        issued_token_type: Some(ACCESS_TOKEN),
        subject: about.id().to_owned(),
    })
}

async fn token(asking: &Asking<'_>, name: &'static str, kind: &'static str) -> Answer<Live> {
    let parameters = &asking.call.parameters;
    if ![ACCESS_TOKEN, JWT].contains(&parameters.require(kind)?) {
        return Err(Refusal::plain(Code::InvalidRequest, format!("`{kind}` has to be an access token")));
    }
    let found = live::access_token(asking.realm, parameters.require(name)?, asking.now()).await?;
    // §2.2.2: invalid_request, not invalid_grant.
    found.map_err(|why| Refusal::new(Code::InvalidRequest, format!("`{name}` is not valid"), why))
}

/// A token that was sent to somebody else, and found or taken, is none to exchange.
fn for_us(asking: &Asking<'_>, token: &Live, name: &str) -> Answer<()> {
    let client = &asking.authenticated.client;
    let serves = |audience: &str| audience == client.id || client.serves.contains(audience);
    let audiences = token.audiences();
    if audiences.iter().any(|audience| serves(audience)) {
        return Ok(());
    }
    let reason = format!("client {:?}: {name} is for {audiences:?}", client.id);
    Err(Refusal::new(Code::InvalidTarget, format!("`{name}` was not sent to this client"), reason))
}

/// `act` of the new token: the client, or whom its `actor_token` is about, before those
/// who acted already.
async fn acting(asking: &Asking<'_>, subject: &Live) -> Answer<Value> {
    let before = subject.claims().get("act");
    let mut depth = 0;
    let mut link = before;
    while let Some(actor) = link {
        depth += 1;
        link = actor.get("act");
    }
    if depth >= ACTORS_MAX {
        return Err(Refusal::plain(Code::InvalidRequest, format!("more than {ACTORS_MAX} actors")));
    }
    let client = &asking.authenticated.client.id;
    if asking.call.parameters.get("actor_token").is_none() {
        // §2.1: who names the type of a token that is not there has lost it on the way.
        if asking.call.parameters.get("actor_token_type").is_some() {
            let told = "`actor_token_type` without `actor_token`";
            return Err(Refusal::plain(Code::InvalidRequest, told));
        }
        return Ok(actor(client, before));
    }
    let acting = token(asking, "actor_token", "actor_token_type").await?;
    if acting.text("client_id") != Some(client.as_str()) {
        let reason = format!("actor_token of client {:?}", acting.text("client_id"));
        return Err(Refusal::new(Code::InvalidRequest, "`actor_token` is another client's", reason));
    }
    Ok(actor(acting.text("sub").unwrap_or(client), before))
}

/// What the token was worth, of which the client gets no more than it may ask for.
fn scopes(subject: &Live, client: &Client) -> BTreeSet<String> {
    let scopes = subject.text("scope").unwrap_or_default().split(' ');
    // Not for the next service: those open userinfo, or go on without the person.
    let own = ["openid", "offline_access"];
    let scopes = scopes.filter(|scope| !own.contains(scope) && client.scopes.contains(*scope));
    scopes.map(str::to_owned).collect()
}

/// Where the new token may go: `resource`, or `audience` in the same words (§2.1); named,
/// so that nobody gets a token for everything by forgetting it.
fn resources(asking: &Asking<'_>) -> Answer<BTreeSet<String>> {
    let (client, settings) = (&asking.authenticated.client, &asking.realm.settings);
    let mut resources = crate::resource::requested(&asking.call.parameters, client, settings)?;
    for audience in asking.call.parameters.all("audience") {
        if !settings.resources.contains_key(audience) || !client.may_reach(audience) {
            return Err(Refusal::plain(Code::InvalidTarget, "no such `audience` for this client"));
        }
        resources.insert(audience.to_owned());
    }
    if resources.is_empty() {
        return Err(Refusal::plain(Code::InvalidTarget, "`resource` or `audience` is missing"));
    }
    Ok(resources)
}

fn authentication(subject: &Live) -> Option<Authentication> {
    let time = subject.claims().get("auth_time").and_then(Value::as_u64)?;
    let amr = subject.claims().get("amr").and_then(Value::as_array).cloned().unwrap_or_default();
    Some(Authentication {
        session: subject.text("sid").unwrap_or_default().to_owned(),
        time: Timestamp::from_unix_seconds(time),
        acr: subject.text("acr").map(str::to_owned),
        amr: amr.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

//! Client credentials (RFC 6749 §4.4): a client on its own behalf.

use std::collections::BTreeSet;

use crate::claim::Subject;
use crate::mint::{self, AccessToken};
use crate::refusal::{Answer, Code, Refusal};
use crate::settings::STANDARD_SCOPES;
use crate::token::{Asking, Issued, Whose};

pub(crate) async fn exchange(asking: &Asking<'_>) -> Answer<Issued> {
    let client = &asking.authenticated.client;
    // Nobody logged in: the scopes of OpenID Connect mean nothing here.
    let own = |scope: &str| client.scopes.contains(scope) && !STANDARD_SCOPES.contains(&scope);
    let all = || client.scopes.iter().filter(|scope| own(scope)).cloned().collect();
    let scopes = asking.scopes_that(Whose::Client, own, all)?;
    let resources = asking.resources_within(&client.resources)?;
    if resources.iter().any(|name| !reaches(asking, name, &scopes)) {
        return Err(Refusal::plain(Code::InvalidScope, "no such `scope` at this `resource`"));
    }
    let binding = asking.binding().await?;
    let what = AccessToken {
        subject: Subject::Client(client),
        client: &client.id,
        scopes: &scopes,
        resources: &resources,
        authentication: None,
        session: None,
        grant: None,
        binding,
        actor: None,
        until: None,
    };
    let access = mint::access_token(asking.realm, &what, asking.now())?;
    Ok(Issued {
        access,
        token_type: binding.token_type(),
        scopes,
        refresh_token: None,
        id_token: None,
        issued_token_type: None,
        subject: client.id.clone(),
    })
}

/// Whether one of the scopes that were named means something at this API.
fn reaches(asking: &Asking<'_>, resource: &str, scopes: &BTreeSet<String>) -> bool {
    let known = asking.realm.settings.resources.get(resource);
    let named = asking.call.parameters.get("scope").is_some();
    known.is_some_and(|known| !named || known.scopes.is_empty() || !known.scopes.is_disjoint(scopes))
}

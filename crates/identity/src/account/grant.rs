//! Which applications a person allowed something, and taking it back.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::{Done, Owner, PATH, Visit, day, done, visit};
use crate::authorize::consent::{self, describe};
use crate::call::Call;
use crate::grant;
use crate::page;
use crate::realm::Realm;
use crate::refusal::Answer;
use crate::text::Language;

/// An application, as it is shown.
pub(super) struct Row {
    pub(super) client: String,
    pub(super) name: String,
    pub(super) since: String,
    pub(super) scopes: Vec<String>,
}

/// What the person consented to.
pub(super) async fn rows(realm: &Realm, owner: &Owner, language: Language) -> Answer<Vec<Row>> {
    let mut rows = Vec::new();
    for (id, consent) in consent::of_user(realm, &owner.user.id).await? {
        // One that is switched off can still be taken back from.
        let client = realm.client(&id).await?;
        rows.push(Row {
            name: client.map_or_else(|| id.clone(), |client| client.display_name().to_owned()),
            client: id,
            since: day(consent.at),
            scopes: describe(realm, language, &consent.scopes),
        });
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(rows)
}

/// Answers `POST /account/applications`: takes back what one was allowed.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, submit(&realm, &call).await)
}

async fn submit(realm: &Realm, call: &Call) -> Answer {
    let owner = match visit(realm, call, PATH).await? {
        Visit::Owner(owner) => owner,
        Visit::Elsewhere(response) => return Ok(response),
    };
    owner.check_form(realm, call)?;
    let client = call.parameters.require("client")?;
    // The consent first: what is granted while the rest ends is asked for again.
    if realm.find_client(client).await?.is_some() {
        consent::withdraw(realm, &owner.user.id, client, call.now).await?;
    }
    grant::revoke_of(realm, &owner.user.id, client, grant::Why::Withdrawn).await?;
    Ok(done(realm, Done::Withdrawn))
}

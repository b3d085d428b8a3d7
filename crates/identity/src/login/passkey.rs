//! A passkey alone: it has to say whose it is, and to verify who holds it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::{advance, count_attempt, show};
use crate::authorize::interaction::{self, Interaction};
use crate::call::Call;
use crate::factor::passkey::{self, Signed};
use crate::factor::{self, Factors};
use crate::method;
use crate::page;
use crate::realm::Realm;
use crate::record::Stored;
use crate::refusal::Answer;
use crate::session::Shown;
use crate::text::Notice;

/// One text for every reason.
pub(crate) const REFUSED: Notice = Notice::PasskeyRefused;

/// What is signed in a login: another at each attempt, and each attempt is one.
pub(super) fn challenge(realm: &Realm, waiting: &Stored<Interaction>) -> String {
    let Interaction { csrf, attempts, .. } = &waiting.value;
    realm.key_ring().derive("passkey", &format!("{csrf} {attempts}"))
}

/// What the browser is asked with; `None`: this realm has no passkeys.
pub(super) fn options(
    realm: &Realm,
    waiting: &Stored<Interaction>,
    factors: Option<&Factors>,
) -> Option<String> {
    passkey::request(realm, factors, &challenge(realm, waiting))
}

/// Answers `POST /login/passkey`.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, submit(&realm, &call).await)
}

async fn submit(realm: &Realm, call: &Call) -> Answer {
    let waiting = interaction::open(realm, call).await?;
    interaction::check_form(realm, call, &waiting.value.csrf)?;
    let challenge = challenge(realm, &waiting);
    count_attempt(realm, call, waiting).await?;
    let shown = judge(realm, call, &challenge).await?;
    let waiting = interaction::open(realm, call).await?;
    match shown {
        Some(shown) => advance(realm, call, waiting, shown).await,
        None => show(realm, call, &waiting, Some(REFUSED)),
    }
}

/// Whose passkey it is, if it is good.
async fn judge(realm: &Realm, call: &Call, challenge: &str) -> Answer<Option<Shown>> {
    let Some(signed) = Signed::parse(call.parameters.get("credential").unwrap_or_default()) else {
        return Ok(None);
    };
    let Some(user) = factor::owner(realm, &signed).await? else { return Ok(None) };
    let Some(user) = realm.user(&user).await? else { return Ok(None) };
    let proved = factor::take_passkey(realm, &user.id, challenge, &signed, call.now).await?;
    // Possession alone is not enough to be let in by.
    let Some(proved) = proved.filter(|proved| proved.verified) else { return Ok(None) };
    let methods = method::add(&[], &proved.methods);
    Ok(Some(Shown::by(&user, methods, call.now)))
}

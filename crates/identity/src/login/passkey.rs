//! A passkey alone: it has to say whose it is, and to verify who holds it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::{advance, count_told, logon, show};
use crate::authorize::interaction::{self, Interaction, Waiting};
use crate::call::Call;
use crate::factor::passkey::{self, Signed};
use crate::factor::{self, Factors};
use crate::method;
use crate::observe::Failure;
use crate::page;
use crate::realm::Realm;
use crate::refusal::Answer;
use crate::session::Shown;
use crate::text::Notice;
use crate::user::User;

/// One text for every reason.
pub(crate) const REFUSED: Notice = Notice::PasskeyRefused;

/// What is signed in a login: another at each attempt, and each attempt is one.
pub(super) fn challenge(realm: &Realm, waiting: &Waiting) -> String {
    let Interaction { csrf, attempts, .. } = &waiting.value;
    realm.key_ring().derive("passkey", &format!("{csrf} {attempts}"))
}

/// What the browser is asked with; `None`: this realm has no passkeys.
pub(super) fn options(realm: &Realm, waiting: &Waiting, factors: Option<&Factors>) -> Option<String> {
    passkey::request(realm, factors, &challenge(realm, waiting))
}

/// Answers `POST /login/passkey`.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, submit(&realm, &call).await)
}

async fn submit(realm: &Realm, call: &Call) -> Answer {
    let waiting = interaction::open(realm, call).await?;
    interaction::check_form(realm, call, &waiting.value.csrf)?;
    let event = logon(realm, call, &waiting);
    // What is nobody's passkey leaves no record: whoever sends it may be anybody.
    let Some((signed, user)) = owner(realm, call).await? else {
        realm.tell(event.failed(Failure::WrongPasskey)).await;
        return show(realm, call, &waiting, Some(REFUSED));
    };
    let challenge = challenge(realm, &waiting);
    let event = event.by(&user);
    count_told(realm, call, waiting, &event).await?;
    let shown = judge(realm, call, &challenge, &signed, &user).await?;
    if shown.is_none() {
        realm.tell(event.failed(Failure::WrongPasskey)).await;
    }
    let waiting = interaction::open(realm, call).await?;
    match shown {
        Some(shown) => advance(realm, call, waiting, shown).await,
        None => show(realm, call, &waiting, Some(REFUSED)),
    }
}

/// What was sent, and whose passkey it says that it is of.
async fn owner(realm: &Realm, call: &Call) -> Answer<Option<(Signed, User)>> {
    let Some(signed) = Signed::parse(call.parameters.get("credential").unwrap_or_default()) else {
        return Ok(None);
    };
    let Some(user) = factor::owner(realm, &signed).await? else { return Ok(None) };
    Ok(realm.user(&user).await?.map(|user| (signed, user)))
}

/// What they showed, if it is good.
async fn judge(
    realm: &Realm,
    call: &Call,
    challenge: &str,
    signed: &Signed,
    user: &User,
) -> Answer<Option<Shown>> {
    let proved = factor::take_passkey(realm, &user.id, challenge, signed, call.now).await?;
    // Possession alone is not enough to be let in by.
    let Some(proved) = proved.filter(|proved| proved.verified) else { return Ok(None) };
    let methods = method::add(&[], &proved.methods);
    Ok(Some(Shown::by(user, methods, call.now)))
}

//! From one step of a login to the next, and its end: the session.

use std::time::Duration;

use axum::http::header;
use model::Timestamp;

use super::step::{self, Class, Have, Next, Wanted};
use crate::authorize::interaction::{self, Interaction, Then, Waiting};
use crate::authorize::request;
use crate::call::Call;
use crate::client::Client;
use crate::factor::{self, FactorKind, Factors, Offer, passkey};
use crate::logout::{self, Ends};
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};
use crate::session::{self, Session, Shown, set_cookie};
use crate::text::Notice;
use crate::user::User;
use store::{Transaction, Version};

/// How fresh a login has to be for somebody without a factor to enrol in one: a stolen
/// session does not become a stronger one.
const ENROL_WITHIN: Duration = Duration::from_secs(600);

/// The kinds of factors that can be enrolled in a realm.
pub(crate) fn available(realm: &Realm) -> Vec<FactorKind> {
    let passkeys = passkey::party(&realm.settings).map(|_| FactorKind::Passkey);
    passkeys.into_iter().chain([FactorKind::Totp]).collect()
}

/// Whether somebody without a factor may enrol in one by what they showed; if not, they show it
/// anew.
pub(super) fn may_enrol(shown: &Shown, now: Timestamp) -> bool {
    now.since(shown.at) <= ENROL_WITHIN
}

/// What is asked of a person for an authorization.
pub(crate) fn wanted(
    realm: &Realm,
    client: Option<&str>,
    asked: Option<&request::Request>,
    user: &User,
) -> Wanted {
    let rules = &realm.settings.factors;
    // INVARIANT: a group that is called like a role counts like it: a gateway that reads roles from
    // `groups` makes no difference between them.
    let of_roles = user.roles.iter().chain(&user.groups).filter_map(|role| rules.roles.get(role));
    let classes = of_roles.chain(rules.users.get(&user.id));
    let mut required: Vec<Vec<String>> = classes.map(|class| vec![class.clone()]).collect();
    required.extend(client.map(|class| vec![class.to_owned()]));
    let essential = asked.map(|request| request.asked.essential_acr.clone()).unwrap_or_default();
    required.extend((!essential.is_empty()).then_some(essential));
    let wished = asked.map(|request| request.acr_values.clone()).unwrap_or_default();
    Wanted { required, wished, enrolled: false }
}

/// What a session is worth for a client that does not ask by an authorization request.
pub(crate) async fn class(realm: &Realm, client: &Client, session: &Session) -> Answer<Class> {
    let Some(user) = realm.user(&session.user).await? else { return Ok(Class::Unmet) };
    let factors = factor::get(realm, &user.id).await?;
    let (levels, wanted) = (&realm.settings.acr_levels, wanted(realm, client.acr.as_deref(), None, &user));
    let have = Have { shown: &session.amr, factors: &factors, declined: false };
    let next = step::next(levels, &wanted, &have, &available(realm));
    Ok(step::class(levels, &wanted, &session.amr, &next))
}

/// What its person is told where that is [`Class::Unmet`].
pub(crate) fn unmet(client: &Client) -> Box<Refusal> {
    let reason = format!("client {:?}: the class of authentication cannot be reached", client.id);
    Refusal::person(Code::UnmetAuthenticationRequirements, Notice::LoginTooWeak, reason)
}

/// A login, and what is known of whom.
pub(super) struct Standing {
    pub(super) user: User,
    version: Version,
    pub(super) factors: Factors,
    pub(super) next: Next,
}

impl Standing {
    /// That its person is as they were judged, and the session there that is stepped up.
    pub(super) fn as_judged(&self, realm: &Realm, shown: &Shown) -> Transaction {
        realm.as_judged(Transaction::new(), (&self.user.id, self.version), shown.session.as_deref())
    }
}

/// Where a login stands with what was shown. What was shown before its person was signed out or
/// got another password counts for nothing: whoever showed it may be why.
pub(super) async fn standing(realm: &Realm, waiting: &Interaction, shown: &Shown) -> Answer<Standing> {
    let gone = || {
        let reason = "the user is gone, disabled, or was signed out since the login began";
        Refusal::person(Code::AccessDenied, Notice::InteractionOver, reason)
    };
    let found = realm.find_user_by_id(&shown.user).await?;
    let (user, version) =
        found.filter(|(user, _)| !user.disabled && !shown.is_over(user)).ok_or_else(gone)?;
    let factors = factor::get(realm, &user.id).await?;
    let mut wanted = match &waiting.then {
        Then::Authorize(request) => {
            let client = request::client_still(realm, request).await?;
            wanted(realm, client.acr.as_deref(), Some(request), &user)
        }
        Then::Reach { client, .. } => {
            wanted(realm, request::client(realm, client).await?.acr.as_deref(), None, &user)
        }
        Then::Visit(_) | Then::Confirm(_) => wanted(realm, None, None, &user),
    };
    // What is changed after a confirmation may be the factors themselves.
    let confirm = matches!(waiting.then, Then::Confirm(_));
    wanted.enrolled = shown.session.is_none() && (realm.settings.factors.ask_enrolled || confirm);
    let have = Have { shown: &shown.methods, factors: &factors, declined: waiting.declined };
    let next = step::next(&realm.settings.acr_levels, &wanted, &have, &available(realm));
    Ok(Standing { user, version, factors, next })
}

/// The next step of a login: a page, or its end.
pub(crate) async fn advance(realm: &Realm, call: &Call, waiting: Waiting, shown: Shown) -> Answer {
    let standing = standing(realm, &waiting.value, &shown).await?;
    let page = match standing.next {
        Next::Done => {
            let judged = (&standing.user, standing.version);
            return complete(realm, call, waiting, shown, judged).await;
        }
        Next::Show(_) => "/login/factor",
        Next::Enrol { .. } if may_enrol(&shown, call.now) => "/login/enrol",
        Next::Enrol { .. } => "/login",
    };
    // What has to be shown anew counts for nothing until then.
    let shown = (page != "/login").then_some(shown);
    let offer = Offer::new(realm)?;
    let keep = |interaction: &mut Interaction| {
        interaction.shown.clone_from(&shown);
        interaction.offer.get_or_insert_with(|| offer.clone());
    };
    interaction::change(realm, call, waiting, keep).await?;
    interaction::go_to(realm, call, page)
}

/// Begins the session, or renews the one that is stepped up: its secret is another in any
/// case, so that a cookie of before is worth nothing.
async fn complete(
    realm: &Realm,
    call: &Call,
    waiting: Waiting,
    mut shown: Shown,
    (user, judged): (&User, Version),
) -> Answer {
    let before = session::current(realm, call).await?.map(|before| before.value);
    let stepped_up = shown.session.take();
    if stepped_up.is_some() && stepped_up.as_ref() != before.as_ref().map(|before| &before.id) {
        let reason = "the session that is stepped up is over";
        return Err(Refusal::person(Code::AccessDenied, Notice::SessionEnded, reason));
    }
    let event = super::logon(realm, call, &waiting).by(user).by_methods(&shown.methods);
    // INVARIANT: where the audit log has no place for it nothing begins, and nothing ends either. Nobody
    // gets the cookie of a session that is not told of.
    let admitted = realm.admit(event).await.ok_or_else(|| {
        let reason = "the audit log has no place for the login";
        Refusal::person(Code::TemporarilyUnavailable, Notice::OutOfOrder, reason)
    })?;
    let renewed = match before {
        Some(before) if stepped_up.is_some() || before.user == shown.user => Some(before.id),
        // The browser's session is another person's.
        Some(before) => {
            let ends = Ends { why: "another_person_logged_in", call: Some(call) };
            logout::end(realm, &before, ends, call.now).await?;
            None
        }
        None => None,
    };
    if stepped_up.is_none() {
        // `auth_time`: a login is over when all of it was shown.
        shown.at = call.now;
    }
    let begun = session::begin(realm, call, shown, renewed, judged, admitted).await?;
    make_room(realm, call, &begun.session).await?;
    interaction::logged_in(realm, call, waiting, &begun.session.id).await?;
    let mut response = interaction::go_on(realm, call)?;
    let cookie = set_cookie(realm, &session::cookie_name(realm), &begun.cookie, None)?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Ends the sessions that were not used for longest where a person has too many.
async fn make_room(realm: &Realm, call: &Call, begun: &Session) -> Answer<()> {
    let mut sessions = session::of_user(realm, &begun.user, call.now).await?;
    let most = realm.settings.sessions_per_person;
    if sessions.len() <= most {
        return Ok(());
    }
    // The one of now stays, whatever the clock says.
    sessions.sort_by_key(|session| (session.id == begun.id, session.seen));
    for session in sessions.iter().take(sessions.len() - most) {
        tracing::info!(user = begun.user, most, "identity: a session makes room for another");
        let ends = Ends { why: "too_many_sessions", call: Some(call) };
        logout::end(realm, session, ends, call.now).await?;
    }
    Ok(())
}

/// What was shown in a login that waits for more.
pub(super) fn shown(waiting: &Interaction) -> Answer<Shown> {
    waiting.shown.clone().ok_or_else(|| {
        Refusal::person(Code::InvalidRequest, Notice::InteractionOver, "nothing was shown yet")
    })
}

//! An authorization that waits for a person: bound to their browser.
//!
//! The address of each page names the interaction; a cookie proves that the browser is
//! the one that began it; a token in each form proves that the form is ours.
//!
//! INVARIANT: the name carries the interaction until somebody does something about it: only then is
//! there a record. One that is over leaves a note until its name opens nothing any more.

mod sealed;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use sealed::Begun;
use serde::{Deserialize, Serialize};
use store::Expect;
use subtle::ConstantTimeEq as _;

use super::request::Request;
use super::respond::see_other;
use crate::Error;
use crate::call::Call;
use crate::client::redirect;
use crate::factor::Offer;
use crate::parameter::with_query;
use crate::realm::Realm;
use crate::record::{ATTEMPTS_MAX, Kind, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::session::{Shown, set_cookie};
use crate::text::{self, Language, Notice};
use crate::throttle;

/// What comes after login.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Then {
    /// An answer to a client.
    Authorize(Box<Request>),
    /// A page of ours, by its path below the issuer.
    Visit(String),
    /// The same, for somebody who shows anew who they are.
    Confirm(String),
    /// The same, for somebody who shows as much as this client asks for.
    Reach { path: String, client: String },
}

/// An authorization that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Interaction {
    pub(crate) then: Then,
    /// The token in its forms.
    pub(crate) csrf: String,
    /// The hash of the browser's cookie.
    browser: String,
    /// The session that was begun for it.
    pub(crate) session: Option<String>,
    /// Who consented.
    pub(crate) consented: Option<String>,
    /// What was shown for it so far: no session yet.
    #[serde(default)]
    pub(crate) shown: Option<Shown>,
    /// What the person is offered to enrol.
    #[serde(default)]
    pub(crate) offer: Option<Offer>,
    /// The person put off enrolling where they may.
    #[serde(default)]
    pub(crate) declined: bool,
    /// Passwords and codes that were tried.
    pub(crate) attempts: u32,
    until: model::Timestamp,
}

impl Interaction {
    fn new(begun: Begun, csrf: String) -> Self {
        let Begun { then, browser, until } = begun;
        Self {
            then,
            csrf,
            browser,
            session: None,
            consented: None,
            shown: None,
            offer: None,
            declined: false,
            attempts: 0,
            until,
        }
    }

    /// The client that is waited for.
    pub(crate) fn client(&self) -> Option<&str> {
        match &self.then {
            Then::Authorize(request) => Some(&request.client),
            Then::Reach { client, .. } => Some(client),
            Then::Visit(_) | Then::Confirm(_) => None,
        }
    }

    /// Where its forms may lead in the end.
    pub(crate) fn form_target(&self) -> Option<String> {
        match &self.then {
            Then::Authorize(request) => Some(redirect::form_action(&request.target.redirect_uri)),
            Then::Visit(_) | Then::Confirm(_) | Then::Reach { .. } => None,
        }
    }
}

/// An interaction as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) value: Interaction,
    /// What stands in the store while nobody else does anything about it.
    stands: Expect,
}

/// The name of the cookie that binds interactions to their browser.
fn cookie_name(realm: &Realm) -> String {
    realm.settings.cookie_name("browser")
}

/// The browser of a request, by a cookie that it has or gets.
pub(crate) struct Browser {
    value: String,
    set: HeaderValue,
}

impl Browser {
    /// The token in its forms where nobody is logged in and nothing waits.
    pub(crate) fn csrf(&self, realm: &Realm) -> String {
        realm.key_ring().derive("browser form", &self.value)
    }

    /// Sends the cookie along.
    pub(crate) fn keep(self, mut response: Response) -> Response {
        response.headers_mut().append(header::SET_COOKIE, self.set);
        response
    }
}

/// The browser of a request. One cookie for all of its tabs.
pub(crate) fn browser(realm: &Realm, call: &Call) -> Result<Browser, Error> {
    let known = call.cookie(&cookie_name(realm)).filter(|value| value.len() == 43).map(str::to_owned);
    let value = match known {
        Some(known) => known,
        None => crate::random::secret(realm.random.as_ref())?,
    };
    let set = set_cookie(realm, &cookie_name(realm), &value, None)?;
    Ok(Browser { value, set })
}

/// Sends the browser on its way with a request; to pages in the language that the client asked
/// for, if it did.
pub(crate) async fn begin(realm: &Realm, call: &Call, then: Then, language: Option<Language>) -> Answer {
    let browser = browser(realm, call)?;
    let until = call.now.plus(realm.settings.lifetimes.interaction);
    let begun = Begun { then, browser: crate::random::hash(&browser.value), until };
    let id = match begun.seal(realm, call.now)? {
        Some(flow) => flow,
        None => keep_long(realm, call, begun).await?,
    };
    let mut response = browser.keep(see_other(&with_query(&realm.path("/flow"), &[("flow", &id)])));
    if let Some(language) = language {
        let cookie = set_cookie(realm, &text::cookie_name(realm), language.tag(), None)?;
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Keeps what is too long for a name, of which a stranger has only so many here.
async fn keep_long(realm: &Realm, call: &Call, begun: Begun) -> Answer<String> {
    throttle::keep_for_stranger(realm, call).await?;
    let random = realm.random.as_ref();
    let (id, csrf) = (crate::random::secret(random)?, crate::random::secret(random)?);
    let interaction = Interaction::new(begun, csrf);
    match keep(realm, &crate::random::hash(&id), Some(&interaction), interaction.until, Expect::Absent)
        .await?
    {
        Written::Done => Ok(id),
        Written::Conflict => Err(Error::Random.into()),
    }
}

/// The name of the record that a request is about.
fn name(call: &Call) -> Answer<String> {
    Ok(crate::random::hash(call.parameters.require("flow")?))
}

/// The interaction that a request is about, when its browser is the one that began it.
pub(crate) async fn open(realm: &Realm, call: &Call) -> Answer<Waiting> {
    let over = |reason: &str| Refusal::person(Code::InvalidRequest, Notice::InteractionOver, reason);
    let found = realm.records.get::<Option<Interaction>>(Kind::Interaction, &[&name(call)?]).await?;
    let found = match found {
        Some(stored) => {
            let value = stored.value.ok_or_else(|| over("the interaction is over"))?;
            Waiting { value, stands: Expect::Version(stored.version) }
        }
        None => {
            let flow = call.parameters.require("flow")?;
            let begun = Begun::open(realm, flow, call.now)?.ok_or_else(|| over("no such interaction"))?;
            let csrf = realm.key_ring().derive("interaction form", flow);
            Waiting { value: Interaction::new(begun, csrf), stands: Expect::Absent }
        }
    };
    let browser = call.cookie(&cookie_name(realm)).map(crate::random::hash).unwrap_or_default();
    if !bool::from(browser.as_bytes().ct_eq(found.value.browser.as_bytes())) {
        return Err(over("the interaction is of another browser"));
    }
    Ok(found)
}

/// What the interaction of a request was begun for, over or not; `None`: nothing that its name says.
pub(crate) fn begun_for(realm: &Realm, call: &Call) -> Option<Then> {
    let begun = Begun::read(realm, call.parameters.get("flow")?).ok()??;
    Some(begun.then)
}

/// Checks that a form is one of ours, sent by our page (CSRF).
pub(crate) fn check_form(realm: &Realm, call: &Call, csrf: &str) -> Answer<()> {
    let refused = |reason: String| Refusal::person(Code::InvalidRequest, Notice::FormForeign, reason);
    let given = call.parameters.get("csrf").unwrap_or_default();
    if csrf.is_empty() || !bool::from(given.as_bytes().ct_eq(csrf.as_bytes())) {
        return Err(refused("the form's token is wrong or missing".to_owned()));
    }
    let origin = call.field(header::ORIGIN)?;
    if origin.is_some_and(|origin| origin != realm.settings.origin()) {
        return Err(refused(format!("the form is of origin {origin:?}")));
    }
    Ok(())
}

/// Writes an interaction; `None`: that it is over.
async fn keep(
    realm: &Realm,
    name: &str,
    interaction: Option<&Interaction>,
    until: model::Timestamp,
    expect: Expect,
) -> Result<Written, Error> {
    realm.records.put(Kind::Interaction, &[name], &interaction, Some(until), expect).await
}

/// Notes that a person logged in for it.
pub(crate) async fn logged_in(realm: &Realm, call: &Call, waiting: Waiting, session: &str) -> Answer<()> {
    let logged_in = |interaction: &mut Interaction| {
        interaction.session = Some(session.to_owned());
        (interaction.shown, interaction.offer) = (None, None);
    };
    change(realm, call, waiting, logged_in).await
}

/// Notes that this person consented.
pub(crate) async fn consented(realm: &Realm, call: &Call, waiting: Waiting, user: &str) -> Answer<()> {
    let consented = |interaction: &mut Interaction| interaction.consented = Some(user.to_owned());
    change(realm, call, waiting, consented).await
}

/// Writes what changed, also where a form that was sent twice changed it at this moment: a browser
/// shows the answer to the last, and that is none of an error that nobody made.
pub(crate) async fn change(
    realm: &Realm,
    call: &Call,
    waiting: Waiting,
    change: impl Fn(&mut Interaction),
) -> Answer<()> {
    let mut waiting = waiting;
    for attempt in 1..=ATTEMPTS_MAX {
        change(&mut waiting.value);
        if written(realm, call, &waiting).await? == Written::Done {
            return Ok(());
        }
        realm.records.pause(attempt).await;
        waiting = open(realm, call).await?;
    }
    let reason = "the interaction changed meanwhile, time and again";
    Err(Refusal::person(Code::InvalidRequest, Notice::FormTwice, reason))
}

/// Writes what changed of it.
pub(crate) async fn written(realm: &Realm, call: &Call, changed: &Waiting) -> Answer<Written> {
    let Waiting { value, stands } = changed;
    Ok(keep(realm, &name(call)?, Some(value), value.until, *stands).await?)
}

/// Ends it; a second end is a conflict, so that it has one answer.
pub(crate) async fn end(realm: &Realm, call: &Call, waiting: &Waiting) -> Answer<()> {
    let Waiting { value, stands } = waiting;
    match keep(realm, &name(call)?, None, value.until, *stands).await? {
        Written::Done => Ok(()),
        Written::Conflict => {
            let reason = "an interaction answered twice";
            Err(Refusal::person(Code::InvalidRequest, Notice::InteractionOver, reason))
        }
    }
}

/// Sends the browser to a page of the interaction.
pub(crate) fn go_to(realm: &Realm, call: &Call, page: &str) -> Answer {
    let flow = call.parameters.require("flow")?;
    Ok(see_other(&with_query(&realm.path(page), &[("flow", flow)])))
}

/// Sends the browser to the next step.
pub(crate) fn go_on(realm: &Realm, call: &Call) -> Answer {
    go_to(realm, call, "/flow")
}

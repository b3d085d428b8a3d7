//! What has to happen before a request can be answered. Pure: facts in, a step out.

use model::Timestamp;

use super::request::Request;
use crate::client::Client;
use crate::factor::{FactorKind, Factors};
use crate::login::step::{self, Class, Have, Next, Wanted};
use crate::refusal::Code;
use crate::session::Session;
use crate::settings::RealmSettings;

/// What is known of browser and person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) session: Option<&'a Session>,
    /// The person showed who they are for this very request.
    pub(super) fresh: bool,
    /// The person consented to all of it before.
    pub(super) consented: bool,
    /// The person consented for this very request.
    pub(super) decided: bool,
    /// The person put off enrolling for this very request.
    pub(super) declined: bool,
    /// What is asked of the person.
    pub(super) wanted: &'a Wanted,
    /// What the person enrolled in, and could.
    pub(super) factors: &'a Factors,
    pub(super) available: &'a [FactorKind],
    pub(super) now: Timestamp,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Login,
    /// The person is known, and more is to be shown.
    More,
    Consent,
    Answer,
    /// The client is told so.
    Refuse(Code, &'static str),
}

pub(super) fn next(settings: &RealmSettings, client: &Client, request: &Request, facts: &Facts<'_>) -> Step {
    let asking = |step: Step, code: Code, why| match request.prompt.none {
        true => Step::Refuse(code, why),
        false => step,
    };
    let login = || asking(Step::Login, Code::LoginRequired, "the person has to log in");
    let Some(session) = facts.session else { return login() };
    if !facts.fresh && (request.prompt.login || is_too_old(request, session, facts.now)) {
        return login();
    }
    if request.subject.as_ref().is_some_and(|subject| *subject != session.user) {
        // Logged in for this, and as somebody else: asking again would never end.
        let other = Step::Refuse(Code::LoginRequired, "another person is logged in than was asked for");
        return if facts.fresh { other } else { login() };
    }
    match class(settings, request, session, facts) {
        Class::Good => {}
        Class::StepUp => return asking(Step::More, Code::LoginRequired, "the person has to show more"),
        Class::Unmet => {
            let why = "the class of authentication cannot be reached";
            return Step::Refuse(Code::UnmetAuthenticationRequirements, why);
        }
    }
    let ask =
        request.prompt.consent || !(client.trusted || facts.consented) || is_anybodys(client, request, facts);
    if ask && !facts.decided {
        return asking(Step::Consent, Code::ConsentRequired, "the person has to consent");
    }
    Step::Answer
}

fn is_too_old(request: &Request, session: &Session, now: Timestamp) -> bool {
    request.max_age.is_some_and(|most| most == 0 || now.since(session.authenticated).as_secs() > most)
}

/// `acr_values` are wishes (OpenID Connect Core §3.1.2.1): what cannot be reached is left.
/// Essential ones (§5.5.1.1), and those by role and client, are not.
fn class(settings: &RealmSettings, request: &Request, session: &Session, facts: &Facts<'_>) -> Class {
    let levels = &settings.acr_levels;
    let have = Have { shown: &session.amr, factors: facts.factors, declined: facts.declined };
    match step::next(levels, facts.wanted, &have, facts.available) {
        // Nobody may be asked, and it is a wish.
        Next::Enrol { may_wait: true, .. } if request.prompt.none => Class::Good,
        next => step::class(levels, facts.wanted, &session.amr, &next),
    }
}

/// Whether whoever is at this machine could have asked in the client's name: a public
/// client that gets its answer at an address of the machine's own. A person who did nothing
/// for this request is asked then, whatever was allowed before (OAuth 2.1 §7.3.1, RFC 8252
/// §8.6).
fn is_anybodys(client: &Client, request: &Request, facts: &Facts<'_>) -> bool {
    client.is_public() && !request.target.redirect_uri.starts_with("https://") && !facts.fresh
}

//! What has to happen before a request can be answered. Pure: facts in, a step out.

use model::Timestamp;

use super::request::Request;
use crate::client::Client;
use crate::login::{acr, methods};
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
    pub(super) now: Timestamp,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Login,
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
    match class(settings, request, session, facts.fresh) {
        Class::Good => {}
        Class::StepUp => return login(),
        Class::Unmet => {
            let why = "the class of authentication cannot be reached";
            return Step::Refuse(Code::UnmetAuthenticationRequirements, why);
        }
    }
    let ask = request.prompt.consent || !(client.trusted || facts.consented);
    if ask && !facts.decided {
        return asking(Step::Consent, Code::ConsentRequired, "the person has to consent");
    }
    Step::Answer
}

fn is_too_old(request: &Request, session: &Session, now: Timestamp) -> bool {
    request.max_age.is_some_and(|most| most == 0 || now.since(session.authenticated).as_secs() > most)
}

enum Class {
    Good,
    StepUp,
    Unmet,
}

/// `acr_values` are wishes (OpenID Connect Core §3.1.2.1): what cannot be reached is left.
/// Essential ones (§5.5.1.1) are not.
fn class(settings: &RealmSettings, request: &Request, session: &Session, fresh: bool) -> Class {
    let levels = &settings.acr_levels;
    let have = session.acr.as_deref();
    let methods: Vec<String> = methods().into_iter().collect();
    let reachable = acr::reached(levels, &methods);
    for (wanted, essential) in [(&request.asked.essential_acr, true), (&request.acr_values, false)] {
        if wanted.is_empty() || acr::satisfies(levels, have, wanted) {
            continue;
        }
        if !fresh && acr::satisfies(levels, reachable, wanted) {
            return Class::StepUp;
        }
        if essential {
            return Class::Unmet;
        }
    }
    Class::Good
}

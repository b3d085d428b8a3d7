//! A stronger authentication, where that is all that policies miss: whoever asks is told
//! which one (RFC 9470), and a browser is sent to the provider for it.

use std::sync::Arc;

use http::StatusCode;
use model::event::Step;
use model::{Credential, Principal, Switch};
use policy::{Circumstances, Denied};
use proxy::Routed;

use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::session::Level;
use crate::step::session;

/// How a request that policy denies can still be permitted: `None` when no configured
/// level would change the answer.
pub(crate) fn ask(
    gateway: &Gateway,
    journey: &Journey<'_>,
    principal: &Arc<Principal>,
    circumstances: &Circumstances,
    denied: &Denied<Routed>,
) -> Option<Stop> {
    if Switch::StepUp.is_off() {
        return None;
    }
    if !matches!(principal.credential, Credential::Session | Credential::Jwt | Credential::Opaque) {
        return None;
    }
    let snapshot = gateway.snapshot();
    let would = |level: &&Level| {
        let raised = raise(principal, level);
        policy::would_permit(&snapshot.policies, &raised, circumstances, denied.subject())
    };
    let level = snapshot.levels.iter().find(would)?;
    let head = denied.subject().head();
    let why = format!(
        "policy asks for acr {:?}, the login was {:?}",
        level.acr,
        principal.acr.as_deref().unwrap_or("another")
    );
    if principal.credential == Credential::Session {
        // The login asked for it already: asking again would go round in a circle.
        if session::current(gateway, journey, head)?.asked() == Some(level.acr.as_str()) {
            return None;
        }
        if session::is_navigation(head) {
            let reason = (Step::Authorize, "step_up", why);
            return Some(session::send_to_provider(gateway, journey, head, Some(level), reason));
        }
    }
    let refusal = Refusal::new(Step::Authorize, "step_up", StatusCode::UNAUTHORIZED, why);
    Some(refusal.with("www-authenticate", challenge(level)).into())
}

fn raise(principal: &Principal, level: &Level) -> Principal {
    let amr = if level.amr.is_empty() { &principal.amr } else { &level.amr };
    Principal { acr: Some(level.acr.clone()), amr: amr.clone(), ..principal.clone() }
}

/// RFC 9470 §3.
fn challenge(level: &Level) -> String {
    let mut text = format!(
        "Bearer error=\"insufficient_user_authentication\", \
         error_description=\"A stronger authentication is required\", acr_values=\"{}\"",
        level.acr
    );
    if let Some(age) = level.max_age {
        text.push_str(&format!(", max_age=\"{}\"", age.as_secs()));
    }
    text
}

//! The decision.

use std::net::IpAddr;
use std::sync::Arc;

use model::{Principal, PrincipalKind, Switch, Timestamp};
use serde::{Deserialize, Serialize};

use crate::evaluate::{Answer, Question, ask};
use crate::load::Policies;
use crate::permit::{Denied, Determining, Permit, Reason, Subject};
use crate::values::Live;
use crate::vocabulary::Access;

/// What the connection and the clock say about a request. Made once per request; the
/// certificate is shared by all requests of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Now.
    pub now: Timestamp,
    /// The client's address: the socket's, or the one a trusted proxy vouched for.
    pub address: IpAddr,
    /// `"1.2"` or `"1.3"`; `None` for cleartext.
    pub tls_version: Option<&'static str>,
    /// The verified client certificate.
    pub certificate: Option<Arc<Certificate>>,
}

/// What policies can read of a verified client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// The subject's distinguished name (RFC 4514).
    pub subject: String,
    /// The issuer's distinguished name (RFC 4514).
    pub issuer: String,
    /// SHA-256 of the DER, 64 lower-case hexadecimal digits.
    pub fingerprint: String,
    /// The SPIFFE ID, when it carries one.
    pub spiffe_id: Option<String>,
    /// DNS names of the subject alternative name, lower case.
    pub dns_names: Vec<String>,
}

/// Decides. On a route with [`crate::Access::Policy`] a policy must permit; on the
/// others everybody, or everybody who proved who they are, is permitted unless a
/// `forbid` applies. A `forbid` always wins, and an error denies.
///
/// This is the only place where a [`Permit`] is made.
///
/// # Errors
/// Not permitted: the subject comes back inside the denial.
pub fn decide<S: Subject>(
    policies: &Policies,
    principal: &Arc<Principal>,
    circumstances: &Circumstances,
    subject: S,
) -> Result<Permit<S>, Box<Denied<S>>> {
    let principal = Arc::clone(principal);
    let generation = policies.generation();
    let circumstances = circumstances.clone();
    match judge(policies, &principal, &circumstances, &subject) {
        Ok(determining) => {
            let expires = principal.expires;
            Ok(Permit { subject, principal, generation, expires, circumstances, determining })
        }
        Err((reason, determining)) => {
            Err(Box::new(Denied { subject, principal, generation, circumstances, determining, reason }))
        }
    }
}

fn judge(
    policies: &Policies,
    principal: &Principal,
    circumstances: &Circumstances,
    subject: &impl Subject,
) -> Result<Determining, (Reason, Determining)> {
    let alone = |reason| (reason, Determining::new());
    if Switch::Authorize.is_off() {
        return Ok(Determining::new());
    }
    if principal.expires.is_some_and(|end| end <= circumstances.now) {
        return Err(alone(Reason::Expired));
    }
    let number = subject.route();
    let action = policies.schema().action(subject.method());
    let route = policies.vocabulary().routes.get(number).ok_or_else(|| alone(Reason::UnknownRoute))?;
    let slice = policies.slice(number, action).ok_or_else(|| alone(Reason::UnknownRoute))?;
    let names = policies.names();
    let question = Question {
        kind: principal.kind,
        id: &principal.id,
        roles: names.closed(names.roles_given(principal)),
        route: number,
        action,
        reader: Live { principal, circumstances, subject, route },
    };
    conclude(policies, route.access, principal.kind, ask(policies, slice, &question))
}

/// What the policies' answer means on a route.
pub(crate) fn conclude(
    policies: &Policies,
    access: Access,
    kind: PrincipalKind,
    answer: Answer,
) -> Result<Determining, (Reason, Determining)> {
    match answer {
        Answer::Forbidden(by) => {
            let id = by.first().map_or("", |first| policies.id(*first)).to_owned();
            Err((Reason::Forbidden(id), by))
        }
        Answer::Failed(number, message) => {
            let policy = number.map_or("", |number| policies.id(number)).to_owned();
            Err((Reason::Error { policy, message }, number.into_iter().collect()))
        }
        Answer::Permitted(by) if access == Access::Policy => Ok(by),
        Answer::Silent if access == Access::Policy => Err((Reason::Default, Determining::new())),
        Answer::Permitted(by) if access == Access::Public || kind != PrincipalKind::Anonymous => Ok(by),
        Answer::Silent if access == Access::Public || kind != PrincipalKind::Anonymous => {
            Ok(Determining::new())
        }
        Answer::Permitted(_) | Answer::Silent => Err((Reason::Unauthenticated, Determining::new())),
    }
}

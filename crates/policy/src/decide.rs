//! The decision.

use std::net::IpAddr;
use std::sync::Arc;

use model::{Principal, PrincipalKind, Switch, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cache::{Asked, DecisionCache, Known, Missing, Verdict};
use crate::evaluate::{Answer, Question, ask};
use crate::load::Policies;
use crate::permit::{Decided, Denied, Determining, Permit, Reason, Subject};
use crate::record;
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
    /// The end user on whose behalf a service of the mesh calls, as a verified token says; its
    /// roles hold those that they include. What is permitted ends with its `expires`, as with the
    /// principal's.
    pub user: Option<Arc<Principal>>,
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
/// On a route whose policies are tried ([`crate::Route::dry_run`]) what they deny is permitted
/// too, and the permit says why it would not have been. An expired credential is none there
/// either.
///
/// A [`Permit`] is made here and in [`decide_cached`], and nowhere else.
///
/// # Errors
/// Not permitted: the subject comes back inside the denial.
pub fn decide<S: Subject>(
    policies: &Policies,
    principal: &Arc<Principal>,
    circumstances: &Circumstances,
    subject: S,
) -> Result<Permit<S>, Box<Denied<S>>> {
    let verdict = judge(policies, principal, circumstances, &subject);
    answer(policies, principal, circumstances, subject, verdict, None)
}

/// Decides as [`decide`] does, and remembers: what the cache knows is not asked again.
/// The answer, its reason and its record are the same.
///
/// # Errors
/// Not permitted: the subject comes back inside the denial.
pub fn decide_cached<S: Subject>(
    cache: &mut DecisionCache,
    policies: &Policies,
    principal: &Arc<Principal>,
    circumstances: &Circumstances,
    subject: S,
) -> Result<Permit<S>, Box<Denied<S>>> {
    if Switch::Authorize.is_off() || has_expired(principal, circumstances) {
        return decide(policies, principal, circumstances, subject);
    }
    let number = subject.route();
    let action = policies.schema().action(subject.method());
    let Some(route) = policies.vocabulary().routes.get(number) else {
        return decide(policies, principal, circumstances, subject);
    };
    let reader = Live { principal, circumstances, subject: &subject, route };
    let user = circumstances.user.as_deref();
    let asked = Asked { principal, user, route: number, method: subject.method() };
    match cache.find(policies, policies.slice_reads(number, action), &asked, &reader) {
        Ok(known) => {
            let Known { verdict, record } = known.clone();
            answer(policies, principal, circumstances, subject, verdict, Some(record))
        }
        Err(Missing::Uncacheable) => decide(policies, principal, circumstances, subject),
        Err(Missing::Unknown) => {
            let verdict = judge(policies, principal, circumstances, &subject);
            let (Ok(determining) | Err((_, determining))) = &verdict;
            let mut record = Vec::with_capacity(512);
            let generation = policies.generation();
            record::append(
                &mut record,
                policies,
                generation,
                principal,
                circumstances,
                &subject,
                determining,
            );
            cache.keep(&verdict, &record);
            answer(policies, principal, circumstances, subject, verdict, Some(record.into()))
        }
    }
}

fn answer<S: Subject>(
    policies: &Policies,
    principal: &Arc<Principal>,
    circumstances: &Circumstances,
    subject: S,
    verdict: Verdict,
    recorded: Option<Arc<[u8]>>,
) -> Result<Permit<S>, Box<Denied<S>>> {
    let (expires, route) = (end(principal, circumstances), subject.route());
    let decided = |determining| Decided {
        subject,
        principal: Arc::clone(principal),
        generation: policies.generation(),
        circumstances: circumstances.clone(),
        determining,
        recorded,
    };
    match verdict {
        Ok(determining) => Ok(Permit { decided: decided(determining), expires, would_deny: None }),
        Err((reason, determining)) if is_only_tried(policies, route, &reason) => {
            Ok(Permit { decided: decided(determining), expires, would_deny: Some(reason) })
        }
        Err((reason, determining)) => Err(Box::new(Denied { decided: decided(determining), reason })),
    }
}

/// Whether what policies say is only taken down here. Who proved nothing, or nothing that is
/// still good, is refused all the same.
fn is_only_tried(policies: &Policies, route: usize, reason: &Reason) -> bool {
    let of_policies = matches!(reason, Reason::Default | Reason::Forbidden(_) | Reason::Error { .. });
    of_policies && policies.vocabulary().routes.get(route).is_some_and(|route| route.dry_run)
}

/// Whether a request would be permitted if it were this principal's: a question about
/// somebody who does not exist, which makes no [`Permit`] and is not remembered.
pub fn would_permit<S: Subject>(
    policies: &Policies,
    principal: &Principal,
    circumstances: &Circumstances,
    subject: &S,
) -> bool {
    judge(policies, principal, circumstances, subject).is_ok()
}

/// When what was proved ends: who asks, or for whom, whichever is sooner.
fn end(principal: &Principal, circumstances: &Circumstances) -> Option<Timestamp> {
    let user = circumstances.user.as_ref().and_then(|user| user.expires);
    principal.expires.into_iter().chain(user).min()
}

/// A credential that has ended permits nothing, whatever was decided before.
pub(crate) fn has_expired(principal: &Principal, circumstances: &Circumstances) -> bool {
    end(principal, circumstances).is_some_and(|end| end <= circumstances.now)
}

fn judge(
    policies: &Policies,
    principal: &Principal,
    circumstances: &Circumstances,
    subject: &impl Subject,
) -> Verdict {
    let alone = |reason| (reason, Determining::new());
    if Switch::Authorize.is_off() {
        return Ok(Determining::new());
    }
    if has_expired(principal, circumstances) {
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
pub(crate) fn conclude(policies: &Policies, access: Access, kind: PrincipalKind, answer: Answer) -> Verdict {
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

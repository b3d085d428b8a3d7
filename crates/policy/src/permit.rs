//! The proof that policy was asked.

use std::sync::Arc;

use model::event::DecisionRecord;
use model::{Principal, Timestamp};
use smallvec::SmallVec;

use crate::decide::Circumstances;
use crate::load::Policies;

/// What a decision is about, as the decider reads it: the routed request. The decider
/// takes it by value and hands it back inside the [`Permit`], so that what was judged
/// is what is forwarded.
pub trait Subject {
    /// The route's number in the snapshot's list of routes.
    fn route(&self) -> usize;
    /// The request's method.
    fn method(&self) -> &str;
    /// The normalised path.
    fn path(&self) -> &[u8];
    /// The host, lower case.
    fn host(&self) -> &[u8];
    /// The value of a path parameter, percent-decoded.
    fn parameter(&self, name: &str) -> Option<&str>;
    /// All values of a header field, by lower-case name.
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;
}

/// Numbers of the policies that decided; few, so kept inline.
pub(crate) type Determining = SmallVec<[u32; 4]>;

/// The proof that policy permitted `S`. Made by [`crate::decide()`] and
/// [`crate::decide_cached()`]; nowhere else.
///
/// There is no way to make one by hand:
/// ```compile_fail,E0451
/// fn forge(real: policy::Permit<()>) -> policy::Permit<()> {
///     policy::Permit { expires: None, ..real }
/// }
/// ```
/// nor to use one twice:
/// ```compile_fail,E0382
/// fn spend(_: policy::Permit<()>) {}
/// fn twice(permit: policy::Permit<()>) {
///     spend(permit);
///     spend(permit);
/// }
/// ```
/// nor to clone one:
/// ```compile_fail,E0277
/// fn needs_clone<T: Clone>() {}
/// needs_clone::<policy::Permit<()>>();
/// ```
/// nor to take the subject out of one and put another in:
/// ```compile_fail,E0616
/// fn swap(mut permit: policy::Permit<u8>) {
///     permit.decided.subject = 2;
/// }
/// ```
/// To read one and to give one up is fine:
/// ```
/// fn spend(permit: policy::Permit<u8>) -> u8 {
///     let _who = permit.principal();
///     let _until = permit.expires();
///     permit.into_subject()
/// }
/// ```
#[derive(Debug)]
pub struct Permit<S> {
    pub(crate) decided: Decided<S>,
    pub(crate) expires: Option<Timestamp>,
    /// Why it would have been denied, where policies are only tried.
    pub(crate) would_deny: Option<Reason>,
}

/// What was decided about, and on what, whichever way it went.
#[derive(Debug)]
pub(crate) struct Decided<S> {
    pub(crate) subject: S,
    pub(crate) principal: Arc<Principal>,
    pub(crate) generation: u64,
    pub(crate) circumstances: Circumstances,
    pub(crate) determining: Determining,
    /// The record, when the decision was made before.
    pub(crate) recorded: Option<Arc<[u8]>>,
}

impl<S: Subject> Decided<S> {
    fn record(&self, policies: &Policies) -> DecisionRecord {
        let mut text = Vec::new();
        self.append_record(policies, &mut text);
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn append_record(&self, policies: &Policies, out: &mut Vec<u8>) {
        if let Some(record) = self.recorded.as_deref().filter(|_| self.generation == policies.generation()) {
            out.extend_from_slice(record);
            return;
        }
        crate::record::append(
            out,
            policies,
            self.generation,
            &self.principal,
            &self.circumstances,
            &self.subject,
            &self.determining,
        );
    }
}

impl<S> Permit<S> {
    /// What was permitted.
    pub fn subject(&self) -> &S {
        &self.decided.subject
    }

    /// Gives the permit up and the subject back, for requests that end before they
    /// are forwarded.
    pub fn into_subject(self) -> S {
        self.decided.subject
    }

    /// To whom.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.decided.principal
    }

    /// For which end user, when a service of the mesh called for one.
    pub fn user(&self) -> Option<&Arc<Principal>> {
        self.decided.circumstances.user.as_ref()
    }

    /// By which generation of policies.
    pub fn generation(&self) -> u64 {
        self.decided.generation
    }

    /// Why it would have been denied, on a route whose policies are tried and not kept.
    pub fn would_deny(&self) -> Option<&Reason> {
        self.would_deny.as_ref()
    }

    /// When it ends: with the credential, or with what proves the end user, whichever is sooner.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

impl<S: Subject> Permit<S> {
    /// What the audit log keeps of the decision. `policies` are those that made it;
    /// with another generation the record holds only the numbers.
    pub fn record(&self, policies: &Policies) -> DecisionRecord {
        let would_deny = self.would_deny.as_ref().map(ToString::to_string);
        DecisionRecord { would_deny, ..self.decided.record(policies) }
    }

    /// Appends the same as JSON, building nothing beside it.
    pub fn append_record(&self, policies: &Policies, out: &mut Vec<u8>) {
        self.decided.append_record(policies, out);
        if let Some(reason) = &self.would_deny {
            crate::record::append_would_deny(out, reason);
        }
    }
}

/// A request that policy did not permit, handed back with the reason.
#[derive(Debug)]
pub struct Denied<S> {
    pub(crate) decided: Decided<S>,
    pub(crate) reason: Reason,
}

/// Why a request was not permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing permitted it.
    Default,
    /// A `forbid` applied: the policy's id.
    Forbidden(String),
    /// A policy could not be evaluated: its id and what happened.
    Error {
        /// The policy's id; empty when the request itself could not be read.
        policy: String,
        /// What happened.
        message: String,
    },
    /// The route asks for somebody who proved who they are.
    Unauthenticated,
    /// The credential ended before the decision.
    Expired,
    /// The route's number is not in this generation: the caller mixed snapshots.
    UnknownRoute,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("no policy permits it"),
            Self::Forbidden(policy) => write!(f, "forbidden by {policy}"),
            Self::Error { policy, message } if policy.is_empty() => write!(f, "not decidable: {message}"),
            Self::Error { policy, message } => write!(f, "policy {policy} failed: {message}"),
            Self::Unauthenticated => f.write_str("the route asks for a proven identity"),
            Self::Expired => f.write_str("the credential has expired"),
            Self::UnknownRoute => f.write_str("the route is not in this generation of policies"),
        }
    }
}

impl<S> Denied<S> {
    /// Why, for operator and audit; never for the client.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Whether a credential could change the answer: 401 rather than 403
    /// (RFC 9110 §15.5.2).
    pub fn asks_for_credentials(&self) -> bool {
        self.decided.principal.kind == model::PrincipalKind::Anonymous || self.reason == Reason::Expired
    }

    /// What was refused.
    pub fn subject(&self) -> &S {
        &self.decided.subject
    }

    /// Gives the subject back.
    pub fn into_subject(self) -> S {
        self.decided.subject
    }

    /// To whom.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.decided.principal
    }

    /// By which generation of policies.
    pub fn generation(&self) -> u64 {
        self.decided.generation
    }
}

impl<S: Subject> Denied<S> {
    /// What the audit log keeps of the decision. `policies` are those that made it;
    /// with another generation the record holds only the numbers.
    pub fn record(&self, policies: &Policies) -> DecisionRecord {
        self.decided.record(policies)
    }

    /// Appends the same as JSON, building nothing beside it.
    pub fn append_record(&self, policies: &Policies, out: &mut Vec<u8>) {
        self.decided.append_record(policies, out);
    }
}

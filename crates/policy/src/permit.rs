//! The proof that policy was asked.

use std::sync::Arc;

use model::{Principal, Timestamp};

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

/// The proof that policy permitted `S`. Made by `decide` and, for routes that the
/// configuration declares public, by `decide_public`; nowhere else.
///
/// ```compile_fail
/// // There is no way to make one by hand.
/// let permit: policy::Permit<()> = policy::Permit { subject: () };
/// ```
#[derive(Debug)]
pub struct Permit<S> {
    pub(crate) subject: S,
    pub(crate) principal: Arc<Principal>,
    pub(crate) generation: u64,
    pub(crate) expires: Option<Timestamp>,
}

impl<S> Permit<S> {
    /// What was permitted.
    pub fn subject(&self) -> &S {
        &self.subject
    }

    /// Gives the permit up and the subject back, for requests that end before they
    /// are forwarded.
    pub fn into_subject(self) -> S {
        self.subject
    }

    /// To whom.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// By which generation of policies.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When it ends: the end of the credential.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

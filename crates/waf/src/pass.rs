//! The firewall's word that a request may go on.

use crate::{Transaction, Verdict};

/// What a request needs from the firewall to be forwarded. Made only here: by
/// [`crate::Transaction::pass`] after both request phases found nothing that stops it, by
/// [`crate::Transaction::detected`] where nothing is stopped, or by the one mint for requests
/// that no firewall is configured for.
///
/// None is made by hand:
/// ```compile_fail,E0423
/// fn forge() -> waf::Pass {
///     waf::Pass(())
/// }
/// ```
/// It is not copied: one inspection clears one request.
/// ```compile_fail,E0277
/// fn copy(pass: waf::Pass) {
///     fn twice<T: Clone>(_: T) {}
///     twice(pass);
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Pass(());

impl Pass {
    /// No firewall is configured for this request.
    ///
    /// INVARIANT: called in one place of each service, which has looked that there is
    /// none.
    pub const fn without_firewall() -> Self {
        Self(())
    }
}

impl Transaction {
    /// The word that the request may go on: both request phases are done and nothing
    /// stops it.
    pub fn pass(&self) -> Option<Pass> {
        (self.request_is_judged() && self.verdict() == Verdict::Pass).then_some(Pass(()))
    }

    /// The same for a caller that only writes down what is found: the first phase is done,
    /// whatever it came to. The second may look at a copy of the body while that goes on.
    pub fn detected(&self) -> Option<Pass> {
        self.head_is_judged().then_some(Pass(()))
    }
}

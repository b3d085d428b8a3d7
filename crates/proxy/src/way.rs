//! The types of the way: `Admitted → Routed → Permit → Cleared`. Each is made only by
//! the step that earns it, from the one before it; none can be cloned or taken apart.
//!
//! INVARIANT: nothing but [`crate::forward()`] sends a client's request to an upstream,
//! and it takes only a [`Cleared`].

use model::Timestamp;
use policy::Permit;

use crate::head::RequestHead;
use crate::rate::Grant;
use crate::route::{Parameters, RouteId};

/// A request whose framing, target and fields every reader reads alike. Made by
/// [`crate::admit::admit`] alone.
#[derive(Debug)]
pub struct Admitted {
    pub(crate) head: RequestHead,
}

impl Admitted {
    /// The head.
    pub fn head(&self) -> &RequestHead {
        &self.head
    }
}

/// An admitted request for which exactly one route stands. Made by
/// [`crate::route::Router::route`] alone.
#[derive(Debug)]
pub struct Routed {
    pub(crate) head: RequestHead,
    pub(crate) route: RouteId,
    pub(crate) parameters: Parameters,
}

impl Routed {
    /// The head.
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// The route's number in the snapshot.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// Path parameters by name, percent-decoded.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

/// A request that may be forwarded: policy permitted it and the limiter granted it.
/// Made by [`clear`] alone.
#[derive(Debug)]
pub struct Cleared {
    pub(crate) permit: Permit<Routed>,
    pub(crate) grant: Grant,
}

impl Cleared {
    /// The request.
    pub fn routed(&self) -> &Routed {
        self.permit.subject()
    }

    /// The permit that it carries.
    pub fn permit(&self) -> &Permit<Routed> {
        &self.permit
    }

    /// The grant that it carries.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
}

/// Joins what policy said with what the limiter granted.
///
/// # Errors
/// The permit has expired since it was made; it is handed back.
#[expect(clippy::result_large_err, reason = "the permit is handed back by value, as it came")]
pub fn clear(permit: Permit<Routed>, grant: Grant, now: Timestamp) -> Result<Cleared, Permit<Routed>> {
    if permit.expires().is_some_and(|end| end <= now) {
        return Err(permit);
    }
    Ok(Cleared { permit, grant })
}

impl policy::Subject for Routed {
    fn route(&self) -> usize {
        self.route.0 as usize
    }

    fn method(&self) -> &str {
        self.head.method.as_str()
    }

    fn path(&self) -> &[u8] {
        &self.head.path
    }

    fn host(&self) -> &[u8] {
        &self.head.host
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)
    }

    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        // What was dropped does not reach the upstream, so policy does not see it either.
        self.head.fields.kept_named(name.as_bytes())
    }
}

//! The types of the way: `Admitted → Routed → Permit → Cleared`. Each is made only by
//! the step that earns it, from the one before it; none can be cloned or taken apart.
//!
//! INVARIANT: nothing but [`crate::forward()`] sends a client's request to an upstream,
//! and it takes only a [`Cleared`].

use model::Timestamp;
use policy::Permit;

use crate::head::{Fields, RequestHead};
use crate::rate::Grant;
use crate::route::{Parameters, RouteId};

/// A request whose framing, target and fields every reader reads alike. Made by
/// [`crate::admit::admit`] alone.
///
/// ```
/// fn read(admitted: &proxy::Admitted) -> &[u8] {
///     &admitted.head().path
/// }
/// ```
/// None is made by hand, from however true a head:
/// ```compile_fail,E0451
/// fn forge(head: proxy::RequestHead) -> proxy::Admitted {
///     proxy::Admitted { head: Box::new(head) }
/// }
/// ```
/// What was admitted is not changed afterwards:
/// ```compile_fail,E0616
/// fn change(mut admitted: proxy::Admitted) {
///     admitted.head.path = bytes::Bytes::from_static(b"/admin");
/// }
/// ```
/// ```compile_fail,E0594
/// fn change(mut admitted: proxy::Admitted) {
///     admitted.head().path = bytes::Bytes::from_static(b"/admin");
/// }
/// ```
/// It is not copied:
/// ```compile_fail,E0277
/// fn copy(admitted: proxy::Admitted) {
///     fn twice<T: Clone>(_: T) {}
///     twice(admitted);
/// }
/// ```
#[derive(Debug)]
pub struct Admitted {
    /// In a box: it moves from step to step, and what moves is small.
    pub(crate) head: Box<RequestHead>,
}

impl Admitted {
    /// The head.
    pub fn head(&self) -> &RequestHead {
        &self.head
    }
}

/// An admitted request for which exactly one route stands. Made by
/// [`crate::route::Router::route`] alone.
///
/// ```
/// fn route(router: &proxy::Router, admitted: proxy::Admitted) -> Option<proxy::Routed> {
///     router.route(admitted).ok()
/// }
/// ```
/// A request is routed once:
/// ```compile_fail,E0382
/// fn route(router: &proxy::Router, admitted: proxy::Admitted) -> Option<proxy::Routed> {
///     router.route(admitted).ok();
///     router.route(admitted).ok()
/// }
/// ```
/// Admission is not skipped:
/// ```compile_fail,E0308
/// fn route(router: &proxy::Router, raw: proxy::RawRequest) -> Option<proxy::Routed> {
///     router.route(raw).ok()
/// }
/// ```
/// None is made by hand, and the route is not exchanged:
/// ```compile_fail,E0451
/// fn forge(head: proxy::RequestHead) -> proxy::Routed {
///     let head = Box::new(head);
///     proxy::Routed { head, route: proxy::RouteId(0), parameters: Default::default() }
/// }
/// ```
/// ```compile_fail,E0616
/// fn exchange(mut routed: proxy::Routed) {
///     routed.route = proxy::RouteId(0);
/// }
/// ```
/// It is not copied:
/// ```compile_fail,E0277
/// fn copy(routed: proxy::Routed) {
///     fn twice<T: Clone>(_: T) {}
///     twice(routed);
/// }
/// ```
#[derive(Debug)]
pub struct Routed {
    pub(crate) head: Box<RequestHead>,
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

/// A request that may be forwarded: policy permitted it, the limiter granted it, it was
/// held against its route's contract, and the firewall let it pass.
/// Made by [`clear`] alone.
///
/// ```
/// fn look(cleared: &proxy::Cleared) -> proxy::RouteId {
///     cleared.routed().route()
/// }
/// ```
/// None is made by hand, from however true parts:
/// ```compile_fail,E0451
/// fn forge(
///     permit: policy::Permit<proxy::Routed>, grant: proxy::rate::Grant, contract: contract::Pass,
///     firewall: waf::Pass,
/// ) -> proxy::Cleared {
///     proxy::Cleared { permit, grant, contract, firewall }
/// }
/// ```
/// It is not copied: one decision forwards one request.
/// ```compile_fail,E0277
/// fn copy(cleared: proxy::Cleared) {
///     fn twice<T: Clone>(_: T) {}
///     twice(cleared);
/// }
/// ```
/// Only a cleared request is forwarded:
/// ```
/// use proxy::forward::{ResponseEdit, forward};
/// use proxy::{Additions, Cleared, Exchange, Judge, upstream::CoreUpstreams};
/// async fn send<E: Exchange>(
///     cleared: Cleared, exchange: &mut E, to: &CoreUpstreams, add: &Additions, edit: ResponseEdit<'_>,
///     judge: &dyn Judge,
/// ) {
///     forward(cleared, exchange, to, add, edit, judge, None).await;
/// }
/// ```
/// ```compile_fail,E0308
/// use proxy::forward::{ResponseEdit, forward};
/// use proxy::{Additions, Exchange, Judge, Routed, upstream::CoreUpstreams};
/// async fn send<E: Exchange>(
///     permit: policy::Permit<Routed>, exchange: &mut E, to: &CoreUpstreams, add: &Additions, edit: ResponseEdit<'_>,
///     judge: &dyn Judge,
/// ) {
///     forward(permit, exchange, to, add, edit, judge, None).await;
/// }
/// ```
#[derive(Debug)]
pub struct Cleared {
    pub(crate) permit: Permit<Routed>,
    pub(crate) grant: Grant,
    pub(crate) contract: contract::Pass,
    pub(crate) firewall: waf::Pass,
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

    /// The proof that it carries of having been held against its route's contract.
    pub fn contract(&self) -> &contract::Pass {
        &self.contract
    }

    /// The firewall's word that it carries.
    pub fn firewall(&self) -> &waf::Pass {
        &self.firewall
    }
}

/// Joins what policy said with what the limiter granted, what the contract said and what
/// the firewall said.
///
/// # Errors
/// The permit has expired since it was made; it is handed back.
///
/// ```
/// use {contract::Pass, model::Timestamp, policy::Permit, proxy::rate::Grant, proxy::{Cleared, Routed, clear}};
/// fn all(permit: Permit<Routed>, grant: Grant, pass: Pass, word: waf::Pass, now: Timestamp) -> Option<Cleared> {
///     clear(permit, grant, pass, word, now).ok()
/// }
/// ```
/// Policy is not skipped:
/// ```compile_fail,E0308
/// use {contract::Pass, model::Timestamp, policy::Permit, proxy::rate::Grant, proxy::{Cleared, Routed, clear}};
/// fn one(routed: Routed, grant: Grant, pass: Pass, word: waf::Pass, now: Timestamp) -> Option<Cleared> {
///     clear(routed, grant, pass, word, now).ok()
/// }
/// ```
/// The limiter is not skipped:
/// ```compile_fail,E0308
/// use {contract::Pass, model::Timestamp, policy::Permit, proxy::rate::Grant, proxy::{Cleared, Routed, clear}};
/// fn other(permit: Permit<Routed>, pass: Pass, word: waf::Pass, now: Timestamp) -> Option<Cleared> {
///     clear(permit, (), pass, word, now).ok()
/// }
/// ```
/// The contract is not skipped:
/// ```compile_fail,E0308
/// use {contract::Pass, model::Timestamp, policy::Permit, proxy::rate::Grant, proxy::{Cleared, Routed, clear}};
/// fn third(permit: Permit<Routed>, grant: Grant, word: waf::Pass, now: Timestamp) -> Option<Cleared> {
///     clear(permit, grant, (), word, now).ok()
/// }
/// ```
/// The firewall is not skipped, and its verdict is no word that anybody may say:
/// ```compile_fail,E0308
/// use {contract::Pass, model::Timestamp, policy::Permit, proxy::rate::Grant, proxy::{Cleared, Routed, clear}};
/// fn unseen(permit: Permit<Routed>, grant: Grant, pass: Pass, now: Timestamp) -> Option<Cleared> {
///     clear(permit, grant, pass, (), now).ok()
/// }
/// ```
/// ```compile_fail,E0308
/// use {contract::Pass, model::Timestamp, policy::Permit, proxy::rate::Grant, proxy::{Cleared, Routed, clear}};
/// fn said(permit: Permit<Routed>, grant: Grant, pass: Pass, now: Timestamp) -> Option<Cleared> {
///     clear(permit, grant, pass, waf::Verdict::Pass, now).ok()
/// }
/// ```
/// A permit for something else does not serve:
/// ```compile_fail,E0308
/// use {contract::Pass, model::Timestamp, policy::Permit, proxy::rate::Grant, proxy::{Admitted, Cleared, clear}};
/// fn another(permit: Permit<Admitted>, grant: Grant, pass: Pass, word: waf::Pass, now: Timestamp) -> Option<Cleared> {
///     clear(permit, grant, pass, word, now).ok()
/// }
/// ```
#[expect(clippy::result_large_err, reason = "the permit is handed back by value, as it came")]
pub fn clear(
    permit: Permit<Routed>,
    grant: Grant,
    contract: contract::Pass,
    firewall: waf::Pass,
    now: Timestamp,
) -> Result<Cleared, Permit<Routed>> {
    if permit.expires().is_some_and(|end| end <= now) {
        return Err(permit);
    }
    Ok(Cleared { permit, grant, contract, firewall })
}

impl contract::Fields for Fields {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        // What was dropped does not reach the other side.
        self.kept_named(name.as_bytes())
    }
}

impl contract::Fields for RequestHead {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        contract::Fields::values(&self.fields, name)
    }
}

impl contract::Head for RequestHead {
    fn method(&self) -> &str {
        self.method.as_str()
    }

    fn path(&self) -> &[u8] {
        &self.path
    }

    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref()
    }
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

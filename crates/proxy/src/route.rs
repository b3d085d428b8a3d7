//! Which route a request takes.
//!
//! A request takes the most specific of the routes that match it whole (host, path,
//! method, header fields). More specific is, in this order:
//! 1. host: exact, then the longest wildcard, then any;
//! 2. path, segment by segment from the left: literal, then `{parameter}`, then `**`
//!    (a path that ends where another goes on with `**` comes first);
//! 3. a route that names methods before one that takes all;
//! 4. the route with more conditions on header fields and query parameters.
//!
//! Two routes that are equal in all four and can match the same request are an error
//! when the router is built. A wildcard host `*.example.org` stands for one or more
//! labels, never for `example.org` itself. `/x/**` matches `/x`, `/x/` and everything
//! below. `{parameter}` matches one segment that is not empty.

mod build;
mod pattern;
mod trie;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::Method;
use model::Switch;

pub use build::Conflict;
pub use pattern::{HostMatch, InvalidMatch, PathMatch, RouteMatch, Segment};

use crate::admit::path::{decode_into, hexadecimal};
use crate::head::RequestHead;
use crate::way::{Admitted, Routed};
use trie::Trie;

/// A route's number in the snapshot's list of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub u32);

/// Path parameters by name, percent-decoded.
#[derive(Debug, Default)]
pub struct Parameters {
    list: Vec<(Arc<str>, String)>,
}

impl Parameters {
    /// The value of the parameter with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(n, _)| &**n == name).map(|(_, value)| value.as_str())
    }

    /// Name and value of each, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(name, value)| (&**name, value.as_str()))
    }
}

/// A path has more segments than any limit lets through (`path_segments_max`).
const SEGMENTS_INLINE: usize = 16;

/// The segments of a path between its slashes.
type Segments<'a> = smallvec::SmallVec<[&'a [u8]; SEGMENTS_INLINE]>;

/// Finds the route of a request. Built whole, never changed.
#[derive(Debug)]
pub struct Router {
    exact: HashMap<Box<[u8]>, Trie, RandomState>,
    /// By what follows `*.`.
    wildcards: HashMap<Box<[u8]>, Trie, RandomState>,
    any: Trie,
    routes: Vec<Route>,
}

/// What the router keeps of a route beside its place in a trie.
#[derive(Debug)]
struct Route {
    methods: Vec<Method>,
    headers: Vec<HeaderCondition>,
    query: Vec<QueryCondition>,
    /// Which segment of the path each parameter is.
    parameters: Vec<(usize, Arc<str>)>,
    encoded_slashes: bool,
}

/// A field that must be there with exactly this value.
#[derive(Debug)]
struct HeaderCondition {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl HeaderCondition {
    /// Of several fields of the name, each must have the value: a reader that takes
    /// the first and one that takes the last agree.
    fn holds(&self, head: &RequestHead) -> bool {
        let mut found = head.fields.kept_named(&self.name).peekable();
        found.peek().is_some() && found.all(|value| *value == *self.value)
    }
}

/// A query parameter that must be there with exactly this value, both decoded.
#[derive(Debug)]
struct QueryCondition {
    name: String,
    value: String,
}

impl QueryCondition {
    /// Of several parameters of the name, each must have the value.
    fn holds(&self, head: &RequestHead) -> bool {
        let query = head.query.as_deref().unwrap_or_default();
        let mut found = false;
        for pair in query.split(|&byte| byte == b'&') {
            let mut halves = pair.splitn(2, |&byte| byte == b'=');
            let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
            if is_encoded(name, &self.name) {
                if !is_encoded(value, &self.value) {
                    return false;
                }
                found = true;
            }
        }
        found
    }
}

/// Whether a part of a query stands for a text; `+` is a space there.
fn is_encoded(part: &[u8], text: &str) -> bool {
    let mut bytes = part.iter().copied();
    let mut expected = text.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'+' => b' ',
            b'%' => match (bytes.next().and_then(hexadecimal), bytes.next().and_then(hexadecimal)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return false,
            },
            other => other,
        };
        if expected.next() != Some(decoded) {
            return false;
        }
    }
    expected.next().is_none()
}

/// No route stands for a request.
pub struct Unrouted {
    /// The request, for audit and answer.
    pub admitted: Admitted,
    /// Why.
    pub why: WhyUnrouted,
}

impl fmt::Debug for Unrouted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unrouted").field("why", &self.why).finish_non_exhaustive()
    }
}

/// Why no route stands for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyUnrouted {
    /// 404: nothing matches host, path and header fields.
    NotFound,
    /// 405: routes match, but for other methods.
    MethodNotAllowed {
        /// The value of `Allow` (RFC 9110 §10.2.1).
        allow: String,
    },
    /// 400: the path holds `%2F` and the route does not allow it
    /// ([`crate::admit::Class::EncodedSlash`]).
    EncodedSlash {
        /// The route that would have stood.
        route: RouteId,
    },
}

impl WhyUnrouted {
    /// The status with which the client is answered.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::EncodedSlash { .. } => 400,
        }
    }
}

impl Router {
    /// Builds a router. A route's place in the list is its [`RouteId`].
    ///
    /// # Errors
    /// Every pair of routes that are equally specific and can match the same request.
    pub fn build(routes: Vec<RouteMatch>) -> Result<Self, Vec<Conflict>> {
        build::build(routes)
    }

    /// The route of a request.
    ///
    /// # Errors
    /// No route stands; the request is handed back.
    pub fn route(&self, admitted: Admitted) -> Result<Routed, Box<Unrouted>> {
        match self.stands(&admitted.head) {
            Ok((route, parameters)) => Ok(Routed { head: admitted.head, route, parameters }),
            Err(why) => Err(Box::new(Unrouted { admitted, why })),
        }
    }

    /// The route that stands for a head, and what it calls parts of the path.
    fn stands(&self, head: &RequestHead) -> Result<(RouteId, Parameters), WhyUnrouted> {
        let segments = segments(&head.path);
        let found = self.find(head, &segments);
        let Some(id) = found.or_else(|| Switch::Route.is_off().then_some(RouteId(0))) else {
            return Err(self.why_not(head, &segments));
        };
        let route = self.routes.get(id.0 as usize);
        if head.encoded_slash && !route.is_some_and(|route| route.encoded_slashes) {
            return Err(WhyUnrouted::EncodedSlash { route: id });
        }
        let parameters = route.map(|route| parameters(route, &segments)).unwrap_or_default();
        Ok((id, parameters))
    }

    /// The route that a request would take now that took one before, under another
    /// configuration. What is sent stays what was admitted.
    ///
    /// # Errors
    /// No route stands any more.
    pub fn reroute(&self, routed: &Routed) -> Result<Routed, WhyUnrouted> {
        let (route, parameters) = self.stands(&routed.head)?;
        Ok(Routed { head: routed.head.clone(), route, parameters })
    }

    /// The route that this request would take with another method: a CORS preflight asks
    /// for the request that it announces.
    pub fn route_for(&self, head: &RequestHead, method: &Method) -> Option<RouteId> {
        let segments = segments(&head.path);
        self.tries(&head.host)
            .find_map(|trie| trie.find(&segments, &mut |id| self.takes(id, head, Some(method)).then_some(id)))
    }

    /// The most specific route that matches.
    fn find(&self, head: &RequestHead, segments: &[&[u8]]) -> Option<RouteId> {
        self.tries(&head.host).find_map(|trie| {
            trie.find(segments, &mut |id| self.takes(id, head, Some(&head.method)).then_some(id))
        })
    }

    fn why_not(&self, head: &RequestHead, segments: &[&[u8]]) -> WhyUnrouted {
        let mut allowed: Vec<&Method> = Vec::new();
        for trie in self.tries(&head.host) {
            trie.find(segments, &mut |id| {
                if self.takes(id, head, None) {
                    allowed.extend(self.routes.get(id.0 as usize).into_iter().flat_map(|r| &r.methods));
                }
                None::<()>
            });
        }
        if allowed.is_empty() {
            return WhyUnrouted::NotFound;
        }
        allowed.sort_unstable_by_key(|method| method.as_str());
        allowed.dedup();
        let names: Vec<&str> = allowed.iter().map(|method| method.as_str()).collect();
        WhyUnrouted::MethodNotAllowed { allow: names.join(", ") }
    }

    /// The tries in which a host's routes stand, the most specific first.
    fn tries<'a>(&'a self, host: &'a [u8]) -> impl Iterator<Item = &'a Trie> {
        let suffixes = memchr::memchr_iter(b'.', host)
            .filter(|_| !self.wildcards.is_empty())
            .filter_map(move |dot| self.wildcards.get(host.get(dot + 1..)?));
        self.exact.get(host).into_iter().chain(suffixes).chain(std::iter::once(&self.any))
    }

    /// Whether a route takes this request: with this method, or with any.
    fn takes(&self, id: RouteId, head: &RequestHead, method: Option<&Method>) -> bool {
        let Some(route) = self.routes.get(id.0 as usize) else { return false };
        let method = method.is_none_or(|method| route.methods.is_empty() || route.methods.contains(method));
        method
            && route.headers.iter().all(|condition| condition.holds(head))
            && route.query.iter().all(|condition| condition.holds(head))
    }
}

/// The segments of a normalised path: `/a/b` has two, `/a/` has two, `/` has one.
fn segments(path: &[u8]) -> Segments<'_> {
    path.get(1..).unwrap_or_default().split(|&byte| byte == b'/').collect()
}

fn parameters(route: &Route, segments: &[&[u8]]) -> Parameters {
    let decode = |text: &&[u8]| {
        let mut decoded = Vec::with_capacity(text.len());
        decode_into(text, &mut decoded);
        // Admission let only UTF-8 through.
        String::from_utf8(decoded).unwrap_or_default()
    };
    let value = |place: usize| segments.get(place).map(decode).unwrap_or_default();
    Parameters { list: route.parameters.iter().map(|(place, name)| (name.clone(), value(*place))).collect() }
}

#[cfg(test)]
mod tests;

//! Building a router: every route finds its place, ties are faults.

use std::collections::HashMap;

use super::pattern::{HostMatch, PathMatch, RouteMatch, Segment};
use super::trie::Trie;
use super::{HeaderCondition, QueryCondition, Route, RouteId, Router};

/// Two routes are equally specific and can match the same request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "routes {first_name:?} and {second_name:?} both match {example}: make one of them more specific by host, path, method or header"
)]
pub struct Conflict {
    /// The earlier route.
    pub first: RouteId,
    /// Its name.
    pub first_name: String,
    /// The later route.
    pub second: RouteId,
    /// Its name.
    pub second_name: String,
    /// Host and path that both match.
    pub example: String,
}

/// Where a route stands: host, shape of the path (parameters without names), whether
/// it names methods, how many header conditions it has.
type Place = (HostMatch, Vec<Option<Box<[u8]>>>, bool, bool, usize);

/// How many conditions a route has besides host, path and method.
fn conditions(route: &RouteMatch) -> usize {
    route.headers.len() + route.query.len()
}

fn place(route: &RouteMatch) -> Place {
    let shape = route.path.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => Some(text.clone()),
        Segment::Parameter(_) => None,
    });
    (route.host.clone(), shape.collect(), route.path.rest, route.methods.is_empty(), conditions(route))
}

pub(super) fn build(routes: Vec<RouteMatch>) -> Result<Router, Vec<Conflict>> {
    let conflicts = conflicts(&routes);
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    let mut router = Router {
        exact: HashMap::default(),
        wildcards: HashMap::default(),
        any: Trie::default(),
        routes: Vec::new(),
    };
    // The most specific first in each list of a trie: methods, then header conditions.
    let mut order: Vec<usize> = (0..routes.len()).collect();
    order.sort_by_key(|&at| {
        routes.get(at).map(|route| (route.methods.is_empty(), usize::MAX - conditions(route)))
    });
    for at in order {
        let (Some(route), Ok(id)) = (routes.get(at), u32::try_from(at)) else { continue };
        let trie = match &route.host {
            HostMatch::Any => &mut router.any,
            HostMatch::Exact(name) => router.exact.entry(name.clone()).or_default(),
            HostMatch::Wildcard(suffix) => router.wildcards.entry(suffix.clone()).or_default(),
        };
        trie.place(&route.path).push(RouteId(id));
    }
    router.routes = routes.into_iter().map(keep).collect();
    Ok(router)
}

fn keep(route: RouteMatch) -> Route {
    Route {
        parameters: route.path.parameters().map(|(place, name)| (place, name.clone())).collect(),
        methods: route.methods,
        headers: route
            .headers
            .into_iter()
            .map(|(name, value)| HeaderCondition {
                name: name.into_bytes().into(),
                value: value.into_bytes().into(),
            })
            .collect(),
        query: route.query.into_iter().map(|(name, value)| QueryCondition { name, value }).collect(),
        encoded_slashes: route.encoded_slashes,
    }
}

fn conflicts(routes: &[RouteMatch]) -> Vec<Conflict> {
    let mut places: HashMap<Place, Vec<usize>> = HashMap::new();
    let mut found = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let neighbours = places.entry(place(route)).or_default();
        for &earlier in neighbours.iter() {
            let Some(other) = routes.get(earlier) else { continue };
            if overlap(other, route) {
                found.push(conflict((earlier, other), (at, route)));
            }
        }
        neighbours.push(at);
    }
    found
}

fn conflict((first, one): (usize, &RouteMatch), (second, other): (usize, &RouteMatch)) -> Conflict {
    let id = |at| RouteId(u32::try_from(at).unwrap_or(u32::MAX));
    Conflict {
        first: id(first),
        first_name: one.name.clone(),
        second: id(second),
        second_name: other.name.clone(),
        example: example(&one.host, &one.path),
    }
}

fn example(host: &HostMatch, path: &PathMatch) -> String {
    let host = match host {
        HostMatch::Any => "any host".to_owned(),
        other => other.to_string(),
    };
    format!("{host} {path}")
}

/// Whether some request matches both of two routes in one place.
fn overlap(one: &RouteMatch, other: &RouteMatch) -> bool {
    let methods = one.methods.is_empty() || one.methods.iter().any(|method| other.methods.contains(method));
    let disjoint =
        |(name, value): &(String, String)| other.headers.iter().any(|(n, v)| n == name && v != value);
    let asked = |(name, value): &(String, String)| other.query.iter().any(|(n, v)| n == name && v != value);
    methods && !one.headers.iter().any(disjoint) && !one.query.iter().any(asked)
}

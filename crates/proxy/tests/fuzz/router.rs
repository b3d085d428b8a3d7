//! Random routes and requests: the router against the naive matcher.

use proptest::prelude::*;
use proxy::Router;
use proxy::route::RouteMatch;

use crate::properties;

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("{p}"), Just("")];
    let methods = prop_oneof![4 => Just(""), 1 => Just("GET "), 1 => Just("PUT,GET "), 1 => Just("PUT ")];
    let host = prop_oneof![3 => Just(""), 1 => Just("a.b"), 1 => Just("*.b"), 1 => Just("*.a.b")];
    (methods, host, prop::collection::vec(segment, 1..4), any::<bool>()).prop_map(
        |(methods, host, segments, rest)| {
            let mut path = String::new();
            for (place, segment) in segments.iter().enumerate() {
                let segment = if *segment == "{p}" { format!("{{p{place}}}") } else { (*segment).to_owned() };
                path.push('/');
                path.push_str(&segment);
            }
            if rest {
                path.push_str("/**");
            }
            format!("{methods}{host}{path}")
        },
    )
}

proptest! {
    /// The naive reading of the module's first paragraph, one route after the other.
    #[test]
    fn the_router_does_what_reading_the_rules_one_by_one_does(
        patterns in prop::collection::vec(pattern(), 1..12),
        method in prop_oneof![Just("GET"), Just("PUT"), Just("DELETE")],
        host in prop_oneof![Just("a.b"), Just("x.a.b"), Just("b"), Just("c")],
        path in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 0..5),
        slash in any::<bool>(),
    ) {
        let mut routes = Vec::new();
        for pattern in patterns {
            // Faulty and tying ones are left out.
            let Ok(route) = RouteMatch::parse(&pattern) else { continue };
            routes.push(route);
            if Router::build(routes.clone()).is_err() {
                routes.pop();
            }
        }
        let slash = if slash || path.is_empty() { "/" } else { "" };
        let text = format!("{method} {host} {}{}{slash}", if path.is_empty() { "" } else { "/" }, path.join("/"));
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap();
        let head = format!("{0} {2} HTTP/1.1\r\nHost: {1}\r\n\r\n", word(), word(), word());
        properties::agree(routes, properties::over_http1(head.as_bytes()).unwrap());
    }
}

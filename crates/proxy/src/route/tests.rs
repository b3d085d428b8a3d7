use bytes::BytesMut;

use super::*;
use crate::Limits;
use crate::admit::{Admission, admit};
use crate::http1::request::Reader;

fn request(text: &str) -> Admitted {
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap();
    let (method, host, target) = (word(), word(), word());
    let fields: String = words.map(|field| format!("{}\r\n", field.replace('=', ": "))).collect();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    let limits = Limits::default();
    let raw = Reader::new().read(&mut BytesMut::from(head.as_bytes()), &limits).unwrap().unwrap();
    admit(raw, &Admission::default(), &limits, false).unwrap()
}

fn router(routes: &[&str]) -> Router {
    Router::build(routes.iter().map(|text| RouteMatch::parse(text).unwrap()).collect()).unwrap()
}

/// The short form of the route that a request takes, or why it takes none.
fn taken(routes: &[&'static str], asked: &str) -> Result<&'static str, WhyUnrouted> {
    match router(routes).route(request(asked)) {
        Ok(routed) => Ok(routes[routed.route().0 as usize]),
        Err(unrouted) => Err(unrouted.why),
    }
}

#[test]
fn the_most_specific_route_wins_whatever_the_order() {
    // Each row: the winner first, then routes that match as well.
    for (asked, routes) in [
        ("GET a.b.org /x", &["a.b.org/**", "*.b.org/x", "/x"][..]),
        ("GET a.b.c.org /x", &["*.b.c.org/**", "*.c.org/x", "*.org/x", "/x"]),
        ("GET a /x/y", &["/x/y", "/x/{a}", "/{a}/y", "/x/**", "/**"]),
        ("GET a /x/y", &["/x/{a}", "/x/**", "/{a}/y", "/{a}/**"]),
        ("GET a /x/y", &["/{a}/y", "/{a}/{b}", "/{a}/**", "/**"]),
        ("GET a /x", &["/x", "/x/**", "/{a}", "/**"]),
        ("GET a /x", &["GET /x", "/x"]),
        ("GET a /x/", &["/x/", "/x/**", "/**"]),
    ] {
        for turn in 0..routes.len() {
            let mut turned = routes.to_vec();
            turned.rotate_left(turn);
            assert_eq!(taken(&turned, asked), Ok(routes[0]), "{asked} {turned:?}");
        }
    }
}

#[test]
fn a_route_that_does_not_match_whole_leaves_the_request_to_the_next() {
    assert_eq!(taken(&["GET /x/y", "/x/**"], "POST a /x/y"), Ok("/x/**"));
    assert_eq!(taken(&["a.org/x", "*.org/y", "/z"], "GET a.org /z"), Ok("/z"));
    assert_eq!(taken(&["/x/{a}/z", "/x/**"], "GET a /x/y/w"), Ok("/x/**"));
    assert_eq!(taken(&["/a/b/c", "/{x}/b/d"], "GET a /a/b/d"), Ok("/{x}/b/d"));
}

#[test]
fn patterns_match_what_they_say_and_nothing_beside() {
    for (route, honest, strange) in [
        (
            "/x",
            &["GET a /x", "GET a /x?y", "GET a //x"][..],
            &["GET a /x/", "GET a /X", "GET a /xy", "GET a /x/y"][..],
        ),
        ("/x/**", &["GET a /x", "GET a /x/", "GET a /x/y/z"], &["GET a /xy", "GET a /", "GET a /y/x"]),
        ("/**", &["GET a /", "GET a /x/y"], &[]),
        ("/", &["GET a /", "GET a /x/.."], &["GET a /x"]),
        (
            "/x/{a}",
            &["GET a /x/y", "GET a /x/%20"],
            &["GET a /x", "GET a /x/", "GET a /x/y/", "GET a /x/y/z"],
        ),
        (
            "*.b.org/**",
            &["GET a.b.org /", "GET x.a.B.org. /"],
            &["GET b.org /", "GET ab.org /", "GET a.b.org.c /"],
        ),
        ("B.org/**", &["GET b.org /", "GET B.ORG:81 /", "GET b.org. /"], &["GET a.b.org /"]),
        ("/caf\u{e9} x", &["GET a /caf%c3%a9%20x"], &["GET a /cafe%20x"]),
        ("/%41~", &["GET a /A%7e"], &["GET a /a~"]),
    ] {
        // A route with a space in its path has no short form.
        let path = route.find('/').unwrap();
        let matched = RouteMatch {
            name: route.to_owned(),
            host: route[..path].parse().unwrap(),
            path: route[path..].parse().unwrap(),
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            encoded_slashes: false,
        };
        let router = Router::build(vec![matched]).unwrap();
        for asked in honest {
            assert!(router.route(request(asked)).is_ok(), "{route} must match {asked}");
        }
        for asked in strange {
            let why = router.route(request(asked)).unwrap_err().why;
            assert_eq!(why, WhyUnrouted::NotFound, "{route} must not match {asked}");
        }
    }
}

#[test]
fn parameters_are_decoded_and_named() {
    let routed =
        router(&["/{shop}/orders/{order}/**"]).route(request("GET a /caf%c3%a9/orders/a%20b%3F/x")).unwrap();
    let parameters: Vec<_> = routed.parameters().iter().collect();
    assert_eq!(parameters, [("shop", "caf\u{e9}"), ("order", "a b?")]);
    assert_eq!(routed.parameters().get("order"), Some("a b?"));
    assert_eq!(routed.parameters().get("owner"), None);
}

#[test]
fn query_conditions_hold_for_each_parameter_of_the_name() {
    let asked = RouteMatch { query: vec![("a b".into(), "1&2".into())], ..RouteMatch::parse("/x").unwrap() };
    let plain = RouteMatch::parse("/x").unwrap();
    let router = Router::build(vec![plain.clone(), asked.clone()]).unwrap();
    for (target, route) in [
        ("GET h /x?a%20b=1%262", 1),
        ("GET h /x?a+b=%31%262", 1),
        ("GET h /x?c=3&a+b=1%262", 1),
        ("GET h /x?a+b=1%262&a+b=1%262", 1),
        ("GET h /x?a+b=1%262&a+b=3", 0),
        ("GET h /x?a+b=1", 0),
        ("GET h /x?a+b", 0),
        ("GET h /x?a+b=1%262x", 0),
        ("GET h /x?a+b=1%26", 0),
        ("GET h /x?a+b=1%2", 0),
        ("GET h /x", 0),
    ] {
        assert_eq!(router.route(request(target)).unwrap().route(), RouteId(route), "{target}");
    }
    let other = RouteMatch { query: vec![("c".into(), "3".into())], ..RouteMatch::parse("/x").unwrap() };
    assert_eq!(Router::build(vec![asked.clone(), other]).unwrap_err().len(), 1);
    let apart = RouteMatch { query: vec![("a b".into(), "3".into())], ..RouteMatch::parse("/x").unwrap() };
    assert!(Router::build(vec![asked, apart]).is_ok());
}

#[test]
fn routes_in_one_place_name_their_parameters_apart() {
    let routes = ["GET /{a}", "POST /{b}"];
    for (asked, name) in [("GET h /x", "a"), ("POST h /x", "b")] {
        let routed = router(&routes).route(request(asked)).unwrap();
        assert_eq!(routed.parameters().get(name), Some("x"));
    }
}

#[test]
fn another_method_is_told_which_ones_there_are() {
    let routes = ["GET,HEAD /x", "*.org/x/**", "PUT /{a}"];
    let why = taken(&routes, "DELETE a /x").unwrap_err();
    assert_eq!(why, WhyUnrouted::MethodNotAllowed { allow: "GET, HEAD, PUT".to_owned() });
    assert_eq!(why.status(), 405);
    assert_eq!(taken(&routes, "DELETE a /y/z").unwrap_err().status(), 404);
}

#[test]
fn header_conditions_must_all_hold() {
    let mut beta = RouteMatch::parse("/x").unwrap();
    beta.header("X-Beta", "1").unwrap();
    let mut both = beta.clone();
    both.header("x-tenant", "a").unwrap();
    let routes = vec![RouteMatch::parse("/x").unwrap(), beta.clone(), both];
    let router = Router::build(routes).unwrap();
    for (asked, expected) in [
        ("GET a /x", 0),
        ("GET a /x x-beta=2", 0),
        ("GET a /x X-Beta=1", 1),
        ("GET a /x x-beta=1 x-tenant=a", 2),
        ("GET a /x x-tenant=a", 0),
        // Readers disagree which of two counts, so neither does.
        ("GET a /x x-beta=1 x-beta=2", 0),
    ] {
        assert_eq!(router.route(request(asked)).unwrap().route().0, expected, "{asked}");
    }
    assert!(beta.header("x_beta", "1").is_err());
}

#[test]
fn an_encoded_slash_is_refused_unless_the_route_allows_it() {
    let open = RouteMatch { encoded_slashes: true, ..RouteMatch::parse("/packages/{name}").unwrap() };
    let router = Router::build(vec![open, RouteMatch::parse("/**").unwrap()]).unwrap();
    let routed = router.route(request("GET a /packages/@a%2fb")).unwrap();
    assert_eq!(routed.parameters().get("name"), Some("@a/b"));
    let why = router.route(request("GET a /x%2fy")).unwrap_err().why;
    assert_eq!(why, WhyUnrouted::EncodedSlash { route: RouteId(1) });
    assert!(router.route(request("GET a /x/y")).is_ok());
}

#[test]
fn ties_are_faults_that_name_both_routes() {
    let build = |routes: &[&str]| {
        let routes: Vec<_> = routes.iter().map(|text| RouteMatch::parse(text).unwrap()).collect();
        Router::build(routes).map(drop)
    };
    for tie in [
        &["/x", "/x"][..],
        &["/{a}", "/{b}"],
        &["GET,PUT /x", "PUT,POST /x"],
        &["a.org/x/**", "A.org./x/**"],
        &["*.org/{a}/b", "*.org/{c}/b"],
        &["/%41", "/A"],
    ] {
        let conflicts = build(tie).unwrap_err();
        assert_eq!(conflicts.len(), 1, "{tie:?}");
        let told = conflicts[0].to_string();
        assert!(told.contains(tie[0]) && told.contains(tie[1]), "{told}");
    }
    for honest in
        [&["/x", "/x/"][..], &["GET /x", "PUT /x"], &["GET /x", "/x"], &["a.org/x", "/x"], &["/x", "/{a}"]]
    {
        assert_eq!(build(honest), Ok(()), "{honest:?}");
    }
}

#[test]
fn header_conditions_that_exclude_each_other_are_no_tie() {
    let with = |name: &str, value: &str| {
        let mut made = RouteMatch::parse("/x").unwrap();
        made.header(name, value).unwrap();
        made
    };
    assert!(Router::build(vec![with("x-a", "1"), with("x-a", "2")]).is_ok());
    assert_eq!(Router::build(vec![with("x-a", "1"), with("x-b", "2")]).unwrap_err().len(), 1);
}

#[test]
fn patterns_that_no_request_could_meet_are_faults() {
    for wrong in [
        "x", "", "/a//b", "/./a", "/a/../b", "/a\\b", "/a%zz", "/a?b", "/a#b", "/*", "/a*", "/**/a", "/{a",
        "/{}", "/{a}b", "/{a}/{a}", "/{a b}", "/%252e", "/..;/a",
    ] {
        assert!(wrong.parse::<PathMatch>().is_err(), "{wrong}");
    }
    for wrong in ["a..b", "*", "a*.org", "*.*.org", "a/b", "a:80"] {
        assert!(wrong == "*" || wrong.parse::<HostMatch>().is_err(), "{wrong}");
    }
    for wrong in ["get /x", "GET, /x", "TRACE /x", "G_T /x", "GET"] {
        assert!(RouteMatch::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn ten_thousand_routes_are_as_many_steps_as_ten() {
    let many = |count: usize| {
        let routes: Vec<_> =
            (0..count).map(|n| RouteMatch::parse(&format!("/api/{n}/{{id}}/**")).unwrap()).collect();
        let router = Router::build(routes).unwrap();
        let mut offered = 0;
        router.any.find(&segments(b"/api/7/x/y"), &mut |_| {
            offered += 1;
            None::<()>
        });
        offered
    };
    assert_eq!((many(10), many(10_000)), (1, 1), "only the routes on the path's own way are looked at");
}

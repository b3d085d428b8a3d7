//! Attacks beside innocents for every row of `admit::table::CLASSES`: over HTTP/1, over
//! HTTP/2 through a real server of the `h2` crate, for bodies and for responses.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is the report"
)]

mod cases;
mod facts;
mod http2;
mod message_cases;
mod target_cases;

use bytes::BytesMut;
use http::Method;
use proxy::admit::table::Source;
use proxy::admit::{Admission, CLASSES, Effect, IdentityHeaders, admit};
use proxy::http1::encode::{UpstreamRequest, request_framing};
use proxy::http1::{body, request, response};
use proxy::route::{RouteMatch, WhyUnrouted};
use proxy::{Admitted, BodyError, Class, Frame, Limits, RequestHead, Router};

/// What is sent.
#[derive(Debug)]
pub(crate) enum Input {
    /// A request that both protocols can say: method, target, host, further fields.
    Both { method: String, target: String, host: String, fields: Vec<(String, String)> },
    /// Bytes of an HTTP/1 request head.
    Http1(Vec<u8>),
    /// Field lines of an HTTP/2 request head, and whether it ends the stream.
    Http2(Vec<http2::Line>, bool),
    /// Bytes of a chunked or otherwise framed body.
    Body(proxy::head::Framing, Vec<u8>),
    /// Bytes of a response head to a request with this method.
    Response(Method, Vec<u8>),
}

/// What must come of it.
pub(crate) enum Then {
    /// It is refused with the case's class.
    Refused,
    /// It is admitted.
    Admitted,
    /// It is admitted with this path.
    Path(&'static str),
    /// It is admitted with this host.
    Host(&'static str),
    /// It is admitted, and the field of this name is not sent on.
    Drops(&'static str),
    /// It is admitted, and the field of this name is sent on.
    Keeps(&'static str),
    /// It is admitted without a protocol to switch to.
    NoUpgrade,
    /// It is admitted with this protocol to switch to.
    Upgrade(&'static str),
}

/// One input.
pub(crate) struct Case {
    pub(crate) class: Class,
    /// Whether it belongs to the class (an attack), or only looks like it.
    pub(crate) attack: bool,
    pub(crate) input: Input,
    pub(crate) then: Then,
}

fn admission() -> Admission {
    Admission {
        identity_headers: IdentityHeaders::new(["X-User", "X-Bastide-Identity"]),
        ..Admission::default()
    }
}

fn router() -> Router {
    let everything = RouteMatch::parse("/**").unwrap();
    let packages = RouteMatch { encoded_slashes: true, ..RouteMatch::parse("/packages/**").unwrap() };
    Router::build(vec![everything, packages]).unwrap()
}

/// Where clients of HTTP/1 have connected to.
const LOCAL: &str = "[::ffff:192.0.2.1]:8080";
/// Its host.
const LOCAL_HOST: &str = "192.0.2.1";

/// A refusal counts by its class; one of the `h2` crate has none.
type Judged = Result<Option<Admitted>, Option<Class>>;

fn over_http1(head: &[u8]) -> Judged {
    let limits = Limits::default();
    let mut buffer = BytesMut::from(head);
    match request::Reader::new().read(&mut buffer, &limits) {
        Ok(Some(mut raw)) => {
            raw.local = Some(LOCAL.parse().unwrap());
            admit(raw, &admission(), &limits, false).map(Some).map_err(|refusal| Some(refusal.class))
        }
        Ok(None) => panic!("the head is incomplete: {:?}", String::from_utf8_lossy(head)),
        Err(refusal) => Err(Some(refusal.class)),
    }
}

async fn over_http2(lines: &[http2::Line], ended: bool) -> Judged {
    let limits = Limits::default();
    match http2::read(lines, ended, &limits).await {
        http2::Read::Ours(Ok(raw)) => {
            admit(raw, &admission(), &limits, false).map(Some).map_err(|refusal| Some(refusal.class))
        }
        http2::Read::Ours(Err(refusal)) => Err(Some(refusal.class)),
        http2::Read::Reset => Err(None),
    }
}

fn over_body(framing: proxy::head::Framing, bytes: &[u8]) -> Judged {
    let mut limits = Limits::default();
    limits.set("body_bytes_max", 64).unwrap();
    let mut decoder = body::Decoder::new(framing, &limits);
    let mut buffer = BytesMut::from(bytes);
    loop {
        let step = match decoder.decode(&mut buffer) {
            Ok(None) => decoder.end_of_input(),
            Ok(Some(frame)) => Ok(frame),
            Err(error) => Err(error),
        };
        match step {
            Ok(Frame::Data(_)) => {}
            Ok(Frame::End | Frame::Trailers(_)) => return Ok(None),
            Err(BodyError::TooLarge { .. }) => return Err(Some(Class::BodyTooLarge)),
            Err(BodyError::Malformed(name)) => {
                return Err(CLASSES.iter().find(|row| row.name == name).map(|row| row.class));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn over_response(method: &Method, bytes: &[u8]) -> Judged {
    let asked = response::Asked { method, upgrade: Some(b"websocket") };
    let mut buffer = BytesMut::from(bytes);
    match response::Reader::new().read(&mut buffer, &Limits::default(), asked) {
        Ok(Some(_)) => Ok(None),
        Ok(None) => panic!("the head is incomplete: {:?}", String::from_utf8_lossy(bytes)),
        Err(refusal) => Err(Some(refusal.class)),
    }
}

fn http1_head(method: &str, target: &str, host: &str, fields: &[(String, String)]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn http2_head(method: &str, target: &str, host: &str, fields: &[(String, String)]) -> Vec<http2::Line> {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", host), (":path", target)];
    let mut lines: Vec<http2::Line> =
        pseudo.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
    lines.extend(fields.iter().map(|(n, v)| (n.to_ascii_lowercase().into_bytes(), v.as_bytes().to_vec())));
    lines
}

/// Every way in which a case is sent: the protocol's name and what came of it.
async fn send(input: &Input) -> Vec<(&'static str, Judged)> {
    match input {
        Input::Both { method, target, host, fields } => {
            let lines = http2_head(method, target, host, fields);
            vec![
                ("HTTP/1", over_http1(&http1_head(method, target, host, fields))),
                ("HTTP/2", over_http2(&lines, true).await),
            ]
        }
        Input::Http1(head) => vec![("HTTP/1", over_http1(head))],
        Input::Http2(lines, ended) => vec![("HTTP/2", over_http2(lines, *ended).await)],
        Input::Body(framing, bytes) => vec![("body", over_body(*framing, bytes))],
        Input::Response(method, bytes) => vec![("response", over_response(method, bytes))],
    }
}

/// Refusals that wait for the route are taken here.
fn routed(judged: Judged) -> Result<Judged, String> {
    let Ok(Some(admitted)) = judged else { return Ok(judged) };
    match router().route(admitted) {
        Ok(routed) => readmit(routed.head()).map(|again| Ok(Some(again))),
        Err(unrouted) => match unrouted.why {
            WhyUnrouted::EncodedSlash { .. } => Ok(Err(Some(Class::EncodedSlash))),
            why => Err(format!("the router of this test takes everything: {why:?}")),
        },
    }
}

/// What was admitted is written as it goes upstream, and read again: it must come out
/// as the same request, whatever was done to it.
fn readmit(head: &RequestHead) -> Result<Admitted, String> {
    let mut written = Vec::new();
    let additions = proxy::Additions::default();
    let request = UpstreamRequest {
        head,
        path: &head.path,
        additions: &additions,
        framing: request_framing(head.framing),
        upgrade: head.upgrade.is_some(),
        expect: head.expects_continue,
    };
    proxy::http1::encode::request(&mut written, &request);
    let Ok(Some(again)) = over_http1(&written) else {
        return Err(format!("what goes upstream is refused: {:?}", String::from_utf8_lossy(&written)));
    };
    let (one, other) = (head, again.head());
    let said = |head: &RequestHead| {
        let fields: Vec<_> =
            head.fields.kept().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let target = (head.path.clone(), head.query.clone());
        (head.method.clone(), target, head.host.clone(), head.port, head.upgrade.clone(), fields)
    };
    if said(one) == said(other) { Ok(again) } else { Err(format!("{one:?} goes upstream as {other:?}")) }
}

/// What is wrong with how a case came out.
fn check(case: &Case, judged: Judged) -> Result<(), String> {
    let head = match (&case.then, routed(judged)?) {
        (Then::Refused, Err(Some(class))) if class == case.class => return Ok(()),
        // What the library in front of us refuses does not reach us at all.
        (Then::Refused, Err(None)) => return Ok(()),
        (_, Err(class)) => return Err(format!("refused as {class:?}")),
        (Then::Refused, Ok(_)) => return Err("admitted".to_owned()),
        (Then::Admitted, Ok(_)) => return Ok(()),
        (_, Ok(admitted)) => admitted.ok_or("not a request")?,
    };
    let head = head.head();
    let sends = |name: &str| head.fields.kept_named(name.as_bytes()).next().is_some();
    let right = match case.then {
        Then::Path(path) => head.path == path,
        Then::Host(host) => head.host == host,
        Then::Drops(field) => !sends(field),
        Then::Keeps(field) => sends(field),
        Then::NoUpgrade => head.upgrade.is_none(),
        Then::Upgrade(protocol) => head.upgrade.as_deref() == Some(protocol.as_bytes()),
        Then::Refused | Then::Admitted => true,
    };
    if right { Ok(()) } else { Err(format!("admitted as {head:?}")) }
}

fn all_cases() -> Vec<Case> {
    let mut all = cases::cases();
    all.extend(target_cases::cases());
    all.extend(message_cases::cases());
    all
}

#[tokio::test]
async fn every_class_does_what_the_table_says() {
    let mut wrong = Vec::new();
    for case in all_cases() {
        for (protocol, judged) in send(&case.input).await {
            if let Err(found) = check(&case, judged) {
                let kind = if case.attack { "attack" } else { "innocent" };
                let input: String = format!("{:?}", case.input).chars().take(300).collect();
                wrong.push(format!("{kind} on {} over {protocol}: {found}\n  {input}", case.class.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases came out wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_class_has_an_attack_per_protocol_and_an_innocent_beside_it() {
    let cases = all_cases();
    for row in CLASSES {
        let of =
            |attack: bool| cases.iter().filter(move |case| case.class == row.class && case.attack == attack);
        let http1 = of(true).any(|case| matches!(case.input, Input::Both { .. } | Input::Http1(_)));
        let http2 = of(true).any(|case| matches!(case.input, Input::Both { .. } | Input::Http2(..)));
        let covered = match row.source {
            Source::Both => http1 && http2,
            Source::Http1 => http1,
            Source::Http2 => http2,
            Source::Body => of(true).any(|case| matches!(case.input, Input::Body(..))),
            Source::Response => of(true).any(|case| matches!(case.input, Input::Response(..))),
        };
        assert!(covered, "{} lacks an attack", row.name);
        assert!(of(false).next().is_some(), "{} lacks an innocent", row.name);
        for case in of(true) {
            let refused = matches!(case.then, Then::Refused);
            assert_eq!(refused, matches!(row.effect, Effect::Refuse(_)), "{}", row.name);
        }
        assert!(of(false).all(|case| !matches!(case.then, Then::Refused)), "{}", row.name);
    }
}

#[test]
fn the_table_names_each_class_once_and_says_why() {
    for (at, row) in CLASSES.iter().enumerate() {
        assert_eq!(row.class.row(), *row);
        assert!(CLASSES.iter().skip(at + 1).all(|other| other.name != row.name), "{}", row.name);
        assert!(!row.why.is_empty() && !row.references.is_empty(), "{}", row.name);
        let known = |text: &&str| text.starts_with("RFC ") || text.starts_with("CVE-");
        assert!(row.references.iter().all(known), "{}", row.name);
    }
}

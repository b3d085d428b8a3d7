use super::*;
use crate::admit::{Admission, admit};
use crate::head::RequestHead;

fn parts(fields: &[(&str, &str)]) -> request::Parts {
    let mut built = http::Request::builder().method("POST").uri("https://shop.example.org:8443/a?b");
    for (name, value) in fields {
        built = built.header(*name, *value);
    }
    built.body(()).unwrap().into_parts().0
}

fn admitted(fields: &[(&str, &str)], ended: bool) -> RequestHead {
    let limits = Limits::default();
    let raw = from_h2(&parts(fields), ended, Vec::new(), &limits).unwrap();
    admit(raw, &Admission::default(), &limits, false).unwrap().head().clone()
}

#[test]
fn boundary_http2_header_list_bytes_max() {
    let mut limits = Limits::default();
    limits.set("http2_header_list_bytes_max", 1024).unwrap();
    // RFC 9113 §6.5.2: name, value and 32 bytes for each field.
    let read = |size: usize| {
        let value = "v".repeat(size - 33);
        from_h2(&parts(&[("x", &value)]), true, Vec::new(), &limits).map_err(|refusal| refusal.class)
    };
    assert!(read(1024).is_ok());
    assert_eq!(read(1025).unwrap_err(), Class::HeadTooLarge);
}

#[test]
fn crumbs_of_a_cookie_become_one_field() {
    let head = admitted(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")], true);
    assert_eq!(head.fields.named(b"cookie").collect::<Vec<_>>(), [&b"a=1; b=2"[..]]);
    let head = admitted(&[("cookie", "a=1")], true);
    assert_eq!(head.fields.named(b"cookie").collect::<Vec<_>>(), [&b"a=1"[..]]);
}

#[test]
fn framing_is_told_by_the_stream() {
    assert_eq!(admitted(&[], true).framing, Framing::None);
    assert_eq!(admitted(&[], false).framing, Framing::Stream);
    assert_eq!(admitted(&[("content-length", "5")], false).framing, Framing::Length(5));
}

#[test]
fn a_request_goes_on_over_http2_as_it_came() {
    let head = admitted(
        &[("accept", "a"), ("te", "trailers"), ("x-request-id", "evil"), ("content-length", "5")],
        false,
    );
    let mut additions = Additions::default();
    additions.push("x-request-id", b"ours").unwrap();
    let request = encode::UpstreamRequest {
        head: &head,
        path: &head.path,
        additions: &additions,
        framing: head.framing,
        upgrade: false,
        expect: false,
    };
    let sent = to_h2_request(&request, true).unwrap();
    assert_eq!(sent.uri(), "https://shop.example.org:8443/a?b");
    let mut fields: Vec<_> =
        sent.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [("accept", "a"), ("content-length", "5"), ("te", "trailers"), ("x-request-id", "ours")]
    );
}

#[test]
fn a_response_is_judged_as_one_of_http1_is() {
    let read = |status: u16, fields: &[(&str, &str)], ended: bool, method: Method| {
        let mut built = http::Response::builder().status(status);
        for (name, value) in fields {
            built = built.header(*name, *value);
        }
        let parts = built.body(()).unwrap().into_parts().0;
        response_from_h2(&parts, ended, &method, Vec::new())
            .map(|head| head.framing)
            .map_err(|refusal| refusal.class)
    };
    let get = Method::GET;
    assert_eq!(read(200, &[("content-length", "5")], false, get.clone()), Ok(Framing::Length(5)));
    assert_eq!(read(200, &[], false, get.clone()), Ok(Framing::Stream));
    assert_eq!(read(200, &[], true, get.clone()), Ok(Framing::None));
    assert_eq!(read(200, &[("content-length", "5")], true, Method::HEAD), Ok(Framing::None));
    let bad = Err(Class::BadResponseFraming);
    assert_eq!(read(200, &[("content-length", "5")], true, get.clone()), bad);
    assert_eq!(read(200, &[("content-length", "5"), ("content-length", "5")], false, get.clone()), bad);
    assert_eq!(read(200, &[("content-length", "+5")], false, get.clone()), bad);
    assert_eq!(read(200, &[("connection", "close")], false, get.clone()), bad);
    assert_eq!(read(200, &[("transfer-encoding", "chunked")], false, get.clone()), bad);
    assert_eq!(read(101, &[], false, get), Err(Class::UnexpectedSwitch));
}

#[test]
fn an_answer_without_body_says_so_unless_its_status_does() {
    let sent = |status: u16, framing: Framing, method: &Method| {
        let head = ResponseHead {
            status: StatusCode::from_u16(status).unwrap(),
            fields: Fields::default(),
            framing,
        };
        let sent = to_h2_response(&head, None, method).unwrap();
        sent.headers().get("content-length").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(sent(200, Framing::None, &Method::GET).as_deref(), Some("0"));
    assert_eq!(sent(200, Framing::Length(7), &Method::GET).as_deref(), Some("7"));
    assert_eq!(sent(200, Framing::Stream, &Method::GET), None);
    assert_eq!(sent(200, Framing::None, &Method::HEAD), None);
    assert_eq!(sent(204, Framing::None, &Method::GET), None);
}

#[test]
fn trailers_follow_the_rules_of_chunked_bodies() {
    let read = |name: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert(name, HeaderValue::from_static("1"));
        trailers_from_h2(&trailers, &Limits::default()).map(|fields| fields.len())
    };
    assert_eq!(read("grpc-status"), Ok(1));
    for forbidden in ["content-length", "authorization", "host", "x-forwarded-for", "x_user"] {
        assert_eq!(read(forbidden), Err(Class::ForbiddenTrailer), "{forbidden}");
    }
}

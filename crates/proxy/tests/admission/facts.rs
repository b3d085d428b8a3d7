//! Inputs that widespread front ends let through, each by its raw bytes, refused with
//! 400 or normalised; over HTTP/2 as well where HTTP/2 can say them. Beside each stands
//! the honest request that it resembles.

use bytes::BytesMut;
use proxy::admit::admit;
use proxy::head::Framing;
use proxy::http1::request;
use proxy::{Class, Limits};

use super::{Judged, admission, http1_head, http2, http2_head, over_body, over_http1, over_http2, routed};

fn http1(head: &str) -> Judged {
    routed(over_http1(head.as_bytes())).unwrap()
}

async fn http2(lines: &[(&str, &str)], ended: bool) -> Judged {
    let lines: Vec<http2::Line> =
        lines.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    routed(over_http2(&lines, ended).await).unwrap()
}

async fn get2(target: &str, host: &str, fields: &[(String, String)]) -> Judged {
    routed(over_http2(&http2_head("GET", target, host, fields), true).await).unwrap()
}

fn refused(judged: Judged, class: Class) {
    assert_eq!(class.status(), 400);
    match judged {
        Err(Some(found)) => assert_eq!(found, class),
        // Refused by the `h2` crate already.
        Err(None) => {}
        Ok(_) => panic!("admitted"),
    }
}

fn path(judged: Judged) -> String {
    let admitted = judged.unwrap().unwrap();
    String::from_utf8(admitted.head().path.to_vec()).unwrap()
}

fn framing(judged: Judged) -> Framing {
    judged.unwrap().unwrap().head().framing
}

const POST2: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/")];

#[tokio::test]
async fn content_length_and_transfer_encoding_together() {
    let both = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(http1(both), Class::ContentLengthWithTransferEncoding);
    let lines = [&POST2[..], &[("content-length", "4"), ("transfer-encoding", "chunked")]].concat();
    refused(http2(&lines, false).await, Class::ConnectionFieldInHttp2);
    let one = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(framing(http1(one)), Framing::Chunked);
    let other = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(framing(http1(other)), Framing::Length(4));
}

#[tokio::test]
async fn identical_duplicate_content_length() {
    let twice = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n";
    refused(http1(twice), Class::DuplicateContentLength);
    let lines = [&POST2[..], &[("content-length", "4"), ("content-length", "4")]].concat();
    refused(http2(&lines, false).await, Class::DuplicateContentLength);
    let once = [&POST2[..], &[("content-length", "4")]].concat();
    assert_eq!(framing(http2(&once, false).await), Framing::Length(4));
}

#[test]
fn duplicate_transfer_encoding_chunked() {
    let twice =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(http1(twice), Class::DuplicateTransferEncoding);
    let once = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(framing(http1(once)), Framing::Chunked);
}

#[test]
fn bare_lf_line_ends() {
    refused(http1("GET / HTTP/1.1\nHost: a\n\n"), Class::BareLineFeed);
    refused(http1("GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n"), Class::BareLineFeed);
    assert_eq!(path(http1("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), "/");
}

#[tokio::test]
async fn missing_host() {
    refused(http1("GET / HTTP/1.1\r\n\r\n"), Class::MissingHost);
    refused(
        http2(&[(":method", "GET"), (":scheme", "https"), (":path", "/")], true).await,
        Class::MissingHost,
    );
    let by_field = [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "a")];
    assert_eq!(path(http2(&by_field, true).await), "/");
}

#[tokio::test]
async fn two_hosts() {
    refused(http1("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Class::DuplicateHost);
    let lines = [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "a"), ("host", "b")];
    refused(http2(&lines, true).await, Class::DuplicateHost);
    let agreeing = [&POST2[..], &[("host", "a")]].concat();
    assert_eq!(path(http2(&agreeing, true).await), "/");
}

#[tokio::test]
async fn absolute_uri_different_from_host() {
    refused(http1("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"), Class::HostDisagrees);
    refused(http2(&[&POST2[..], &[("host", "b")]].concat(), true).await, Class::HostDisagrees);
    assert_eq!(path(http1("GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n")), "/x");
}

#[tokio::test]
async fn semicolon_on_a_dot_segment_with_encoded_slashes_behind() {
    let target = "/a/..;/b//c%2f..%2fd";
    refused(http1(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")), Class::DotSegmentParameter);
    refused(get2(target, "a", &[]).await, Class::DotSegmentParameter);
    let rest = "/b//c%2f..%2fd";
    refused(http1(&format!("GET {rest} HTTP/1.1\r\nHost: a\r\n\r\n")), Class::HiddenDotSegment);
    refused(get2(rest, "a", &[]).await, Class::HiddenDotSegment);
    assert_eq!(path(get2("/a/b;v=1//c", "a", &[]).await), "/a/b;v=1/c");
}

#[tokio::test]
async fn encoded_dot_segments_are_resolved_before_routing() {
    assert_eq!(path(http1("GET /pub/%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n")), "/x");
    assert_eq!(path(get2("/pub/%2e%2e/x", "a", &[]).await), "/x");
    assert_eq!(path(get2("/pub/%2e%2ex", "a", &[]).await), "/pub/..x");
}

#[tokio::test]
async fn dot_segments_are_resolved_before_routing() {
    assert_eq!(path(http1("GET /pub/../x HTTP/1.1\r\nHost: a\r\n\r\n")), "/x");
    assert_eq!(path(get2("/pub/../x", "a", &[]).await), "/x");
    refused(http1("GET /pub/../../x HTTP/1.1\r\nHost: a\r\n\r\n"), Class::AboveRoot);
    refused(get2("/pub/../../x", "a", &[]).await, Class::AboveRoot);
}

#[tokio::test]
async fn underscore_alias_of_an_identity_header() {
    refused(http1("GET / HTTP/1.1\r\nHost: a\r\nX_User: evil\r\n\r\n"), Class::UnderscoreName);
    let alias = [("x_user".to_owned(), "evil".to_owned())];
    refused(get2("/", "a", &alias).await, Class::UnderscoreName);
    let forged = http1("GET / HTTP/1.1\r\nHost: a\r\nX-User: evil\r\n\r\n").unwrap().unwrap();
    assert_eq!(forged.head().fields.kept_named(b"x-user").count(), 0);
    let honest = [("x-used".to_owned(), "1".to_owned())];
    assert_eq!(path(get2("/", "a", &honest).await), "/");
}

#[tokio::test]
async fn who_refuses_a_name_says_which() {
    let limits = Limits::default();
    let said = |raw| admit(raw, &admission(), &limits, false).unwrap_err().to_string();
    for (name, class) in [("user_id", "underscore_name"), ("x-http-method-override", "method_override")] {
        let fields = [("x-first".to_owned(), "1".to_owned()), (name.to_owned(), "1".to_owned())];
        let head = http1_head("GET", "/", "a", &fields);
        let raw = request::Reader::new().read(&mut BytesMut::from(&*head), &limits).unwrap().unwrap();
        let lines = http2_head("GET", "/", "a", &fields);
        let http2::Read::Ours(Ok(raw2)) = http2::read(&lines, true, &limits).await else { panic!("{name}") };
        for said in [said(raw), said(raw2)] {
            assert!(said.starts_with(class) && said.ends_with(&format!(" ({name:?})")), "{said}");
        }
    }
    let head = http1_head("GET", "/", "a", &[("host".to_owned(), "b".to_owned())]);
    let raw = request::Reader::new().read(&mut BytesMut::from(&*head), &limits).unwrap().unwrap();
    assert!(!said(raw).contains('('));
}

#[test]
fn malformed_chunk() {
    refused(over_body(Framing::Chunked, b"zz\r\nhello\r\n0\r\n\r\n"), Class::BadChunk);
    refused(over_body(Framing::Chunked, b"5\r\nhelloX\r\n0\r\n\r\n"), Class::BadChunk);
    over_body(Framing::Chunked, b"5\r\nhello\r\n0\r\n\r\n").unwrap();
}

#[tokio::test]
async fn what_the_peers_refuse_as_well() {
    let head = |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}\r\n\r\n");
    refused(http1(&head("Content-Length: 4\r\nContent-Length: 5")), Class::DuplicateContentLength);
    refused(http1(&head("Content-Length: +3")), Class::BadContentLength);
    refused(http1(&head("Transfer-Encoding: xchunked")), Class::BadTransferEncoding);
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(http1(old), Class::TransferEncodingInHttp10);
    refused(http1(&head("Content-Length : 3")), Class::SpaceBeforeColon);
    refused(http1(&head("X: 1\r\n  2")), Class::ObsFold);
    refused(http1(&head("X: a\0b")), Class::ControlInHeader);
    let differing = [&POST2[..], &[("content-length", "4"), ("content-length", "5")]].concat();
    refused(http2(&differing, false).await, Class::DuplicateContentLength);
    refused(http2(&[&POST2[..], &[("content-length", "+3")]].concat(), false).await, Class::BadContentLength);
    refused(http2(&[&POST2[..], &[("x", "a\0b")]].concat(), false).await, Class::ControlInHeader);
    assert_eq!(framing(http1(&head("Content-Length: 3"))), Framing::Length(3));
}

use bytes::BytesMut;

use super::*;
use crate::Limits;
use crate::admit::{Admission, admit};
use crate::head::FieldsBuilder;
use crate::http1::request::Reader;

fn admitted(head: &str) -> RequestHead {
    let limits = Limits::default();
    let raw = Reader::new().read(&mut BytesMut::from(head.as_bytes()), &limits).unwrap().unwrap();
    *admit(raw, &Admission::default(), &limits, false).unwrap().head
}

fn written(head: &RequestHead, additions: &Additions, upgrade: bool) -> String {
    let mut out = Vec::new();
    let framing = request_framing(head.framing);
    request(
        &mut out,
        &UpstreamRequest { head, path: &head.path, additions, framing, upgrade, expect: false },
    );
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request_goes_on_normalised_with_our_fields_in_place_of_the_clients() {
    let head = admitted(
        "PUT /a/../b?q=%2e HTTP/1.1\r\nHost: Shop.example.org:81\r\nX-Request-Id: evil\r\nAccept: a\r\n\
         Connection: x-hop\r\nX-Hop: 1\r\nContent-Length: 3\r\n\r\n",
    );
    let mut additions = Additions::default();
    additions.push("x-request-id", b"ours").unwrap();
    assert_eq!(
        written(&head, &additions, false),
        "PUT /b?q=%2e HTTP/1.1\r\nhost: shop.example.org:81\r\naccept: a\r\nx-request-id: ours\r\n\
         content-length: 3\r\n\r\n"
    );
}

#[test]
fn each_request_has_one_framing() {
    for (fields, expected) in [
        ("Content-Length: 3\r\n", "content-length: 3\r\n"),
        ("Transfer-Encoding: chunked\r\n", "transfer-encoding: chunked\r\n"),
        ("Content-Length: 0\r\n", "content-length: 0\r\n"),
        ("", "content-length: 0\r\n"),
    ] {
        let head = admitted(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(
            written(&head, &Additions::default(), false),
            format!("POST / HTTP/1.1\r\nhost: a\r\n{expected}\r\n")
        );
    }
    let get = admitted("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(written(&get, &Additions::default(), false), "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(request_framing(Framing::Stream), Framing::Chunked);
}

#[test]
fn te_trailers_survives_and_upgrade_only_when_it_is_allowed() {
    let grpc = admitted(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: te\r\nTE: gzip, trailers\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(written(&grpc, &Additions::default(), false).ends_with("connection: te\r\nte: trailers\r\n\r\n"));
    let switch = admitted("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert!(!written(&switch, &Additions::default(), false).contains("upgrade"));
    assert!(
        written(&switch, &Additions::default(), true)
            .ends_with("connection: upgrade\r\nupgrade: websocket\r\n\r\n")
    );
}

fn answer(status: u16, framing: Framing, fields: &[(&str, &str)], client: &Client<'_>) -> (String, Framing) {
    let mut builder = FieldsBuilder::default();
    for (name, value) in fields {
        builder.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    let head =
        ResponseHead { status: StatusCode::from_u16(status).unwrap(), fields: builder.finish(), framing };
    let mut out = Vec::new();
    let chosen = response(&mut out, &head, None, client);
    (String::from_utf8(out).unwrap(), chosen)
}

#[test]
fn a_response_is_framed_for_its_client() {
    let to = |version, method| Client { version, method, keep_alive: true, upgrade: None };
    let http11 = to(Version::Http11, &Method::GET);
    let http10 = to(Version::Http10, &Method::GET);
    let head = to(Version::Http11, &Method::HEAD);
    let ok = "HTTP/1.1 200 OK\r\n";
    for (status, framing, client, text, chosen) in [
        (200, Framing::Length(5), &http11, format!("{ok}content-length: 5\r\n\r\n"), Framing::Length(5)),
        (200, Framing::None, &http11, format!("{ok}content-length: 0\r\n\r\n"), Framing::None),
        (200, Framing::Chunked, &http11, format!("{ok}transfer-encoding: chunked\r\n\r\n"), Framing::Chunked),
        (200, Framing::Close, &http11, format!("{ok}transfer-encoding: chunked\r\n\r\n"), Framing::Chunked),
        (200, Framing::Stream, &http11, format!("{ok}transfer-encoding: chunked\r\n\r\n"), Framing::Chunked),
        (200, Framing::Chunked, &http10, format!("{ok}connection: close\r\n\r\n"), Framing::Close),
        (
            200,
            Framing::Length(5),
            &http10,
            format!("{ok}content-length: 5\r\nconnection: keep-alive\r\n\r\n"),
            Framing::Length(5),
        ),
        (200, Framing::Length(5), &head, format!("{ok}content-length: 5\r\n\r\n"), Framing::None),
        (200, Framing::Chunked, &head, format!("{ok}\r\n"), Framing::None),
        (204, Framing::None, &http11, "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), Framing::None),
        (304, Framing::None, &http11, "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), Framing::None),
        (103, Framing::None, &http11, "HTTP/1.1 103 Early Hints\r\n\r\n".to_owned(), Framing::None),
    ] {
        assert_eq!(answer(status, framing, &[], client), (text, chosen), "{status} {framing:?}");
    }
}

#[test]
fn the_length_of_a_head_answer_is_written_once() {
    let client = Client { version: Version::Http11, method: &Method::HEAD, keep_alive: true, upgrade: None };
    let (text, _) = answer(200, Framing::Length(9), &[("Content-Length", "9")], &client);
    assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
}

#[test]
fn chunks_have_the_size_of_their_data() {
    for length in [1_usize, 9, 10, 15, 16, 255, 256, 4096, 65_537] {
        let mut out = Vec::new();
        chunk_start(&mut out, length);
        assert_eq!(out, format!("{length:x}\r\n").into_bytes());
    }
    let mut out = Vec::new();
    chunk(&mut out, &Bytes::new());
    assert!(out.is_empty(), "an empty chunk would end the body");
    chunk(&mut out, &Bytes::from_static(b"hello"));
    assert_eq!(out, b"5\r\nhello\r\n");
}

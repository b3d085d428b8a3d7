use super::*;

fn read(head: &str, method: &Method) -> Result<UpstreamHead, Class> {
    let asked = Asked { method, upgrade: None };
    let mut buffer = BytesMut::from(head.as_bytes());
    match Reader::new().read(&mut buffer, &Limits::default(), asked) {
        Ok(read) => Ok(read.expect("a complete head")),
        Err(refusal) => Err(refusal.class),
    }
}

#[test]
fn framing_follows_method_status_and_fields() {
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (status, method, fields, expected) in [
        (200, Method::GET, length, Framing::Length(5)),
        (200, Method::GET, "Content-Length: 0\r\n", Framing::None),
        (200, Method::GET, chunked, Framing::Chunked),
        (200, Method::GET, "", Framing::Close),
        (404, Method::POST, length, Framing::Length(5)),
        (200, Method::HEAD, length, Framing::None),
        (200, Method::HEAD, chunked, Framing::None),
        (304, Method::GET, length, Framing::None),
        (204, Method::GET, "", Framing::None),
        (103, Method::GET, "", Framing::None),
    ] {
        let read = read(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n"), &method).unwrap();
        assert_eq!(read.head.framing, expected, "{status} {method} {fields}");
    }
}

#[test]
fn the_length_of_a_body_that_is_not_sent_goes_on_and_no_other() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let sent = |method| read(head, &method).unwrap().head.fields.kept_named(b"content-length").count();
    assert_eq!((sent(Method::HEAD), sent(Method::GET)), (1, 0));
}

#[test]
fn a_connection_is_kept_only_when_both_versions_and_framing_allow_it() {
    for (head, kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, close\r\n\r\n", false),
    ] {
        assert_eq!(read(head, &Method::GET).unwrap().keep_alive, kept, "{head}");
    }
}

#[test]
fn fields_of_the_upstreams_hop_are_not_sent_on() {
    let head = "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: Basic\r\n\
                Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n";
    let read = read(head, &Method::GET).unwrap();
    let kept: Vec<_> = read.head.fields.kept().collect();
    assert_eq!(kept, [(&b"set-cookie"[..], &b"a"[..]), (b"set-cookie", b"b")]);
}

#[test]
fn several_heads_follow_each_other_and_the_body_stays() {
    let mut buffer = BytesMut::from(
        &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..],
    );
    let mut reader = Reader::new();
    let asked = Asked { method: &Method::GET, upgrade: None };
    for status in [100, 103, 200] {
        let read = reader.read(&mut buffer, &Limits::default(), asked).unwrap().unwrap();
        assert_eq!(read.head.status, status);
    }
    assert_eq!(buffer, &b"hi"[..]);
}

#[test]
fn a_switch_without_being_asked_is_refused() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(read(head, &Method::GET).unwrap_err(), Class::UnexpectedSwitch);
    let asked = Asked { method: &Method::GET, upgrade: Some(b"websocket") };
    let mut buffer = BytesMut::from(head.as_bytes());
    let read = Reader::new().read(&mut buffer, &Limits::default(), asked).unwrap().unwrap();
    assert_eq!((read.head.status.as_u16(), read.keep_alive), (101, false));
}

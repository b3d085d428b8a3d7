use bytes::BytesMut;

use super::*;
use crate::http1::request::Reader;

/// A head over HTTP/1, all the way to admission.
fn http1(head: &[u8]) -> Result<Admitted, Class> {
    let mut buffer = BytesMut::from(head);
    let limits = Limits::default();
    let raw = Reader::new().read(&mut buffer, &limits).map_err(|refusal| refusal.class)?;
    let raw = raw.expect("a complete head");
    let admission = Admission { identity_headers: IdentityHeaders::new(["X-User"]), ..Admission::default() };
    admit(raw, &admission, &limits, false).map_err(|refusal| refusal.class)
}

#[test]
fn an_honest_request_is_admitted() {
    let admitted = http1(
        b"GET /a/%7eb?q=1 HTTP/1.1\r\nHost: Shop.Example.org:8443\r\nX-User: eve\r\nAccept: */*\r\n\r\n",
    )
    .unwrap();
    let head = admitted.head();
    assert_eq!(
        (&head.path[..], &head.host[..], head.port),
        (&b"/a/~b"[..], &b"shop.example.org"[..], Some(8443))
    );
    assert_eq!(head.raw_target, "/a/%7eb?q=1");
    assert_eq!(head.query.as_deref(), Some(&b"q=1"[..]));
    let kept: Vec<_> = head.fields.kept().collect();
    assert_eq!(kept, [(&b"accept"[..], &b"*/*"[..])]);
}

#[test]
fn boundary_path_segments_max() {
    let mut limits = Limits::default();
    limits.set("path_segments_max", 3).unwrap();
    let read = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let raw = Reader::new().read(&mut BytesMut::from(head.as_bytes()), &limits).unwrap().unwrap();
        admit(raw, &Admission::default(), &limits, false).map_err(|refusal| refusal.class)
    };
    // As it stands, and written anew.
    for (at, past) in [("/a/b/c", "/a/b/c/d"), ("/a//b/%41", "/a//b/c/%41"), ("/a/b/x/../c", "/a/b/c/x/..")] {
        assert!(read(at).is_ok(), "{at}");
        assert_eq!(read(past).unwrap_err(), Class::TooManySegments, "{past}");
    }
}

#[test]
fn forwarding_headers_are_kept_from_a_trusted_proxy_and_identity_is_not() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-User: eve\r\n\r\n";
    let kept = |trusted: bool, trusted_proxies_set_identity: bool| -> Vec<Vec<u8>> {
        let identity_headers = IdentityHeaders::new(["X-User"]);
        let admission = Admission { identity_headers, trusted_proxies_set_identity, ..Admission::default() };
        let limits = Limits::default();
        let raw = Reader::new().read(&mut BytesMut::from(&head[..]), &limits).unwrap().unwrap();
        let admitted = admit(raw, &admission, &limits, trusted).unwrap();
        admitted.head().fields.kept().map(|(name, _)| name.to_vec()).collect()
    };
    assert!(kept(false, false).is_empty());
    assert!(kept(false, true).is_empty(), "an untrusted peer sets no identity, whatever is configured");
    assert_eq!(kept(true, false), [&b"x-forwarded-for"[..], b"forwarded"]);
    assert_eq!(kept(true, true), [&b"x-forwarded-for"[..], b"forwarded", b"x-user"]);
}

#[test]
fn a_path_that_is_normal_already_is_shared() {
    let admitted = http1(b"GET /a/b.c/d?e HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let head = admitted.head();
    assert_eq!(head.path.as_ptr(), head.raw_target.as_ptr());
    assert!(std::ptr::eq(head.host.as_ptr(), head.fields.get(Known::Host).unwrap().as_ptr()));
}

#[test]
fn expectations_and_connections_are_told() {
    let head = |version: &str, rest: &str| {
        let head = format!("POST / HTTP/{version}\r\nHost: a\r\n{rest}\r\n");
        let admitted = http1(head.as_bytes()).unwrap();
        (admitted.head().expects_continue, admitted.head().keep_alive)
    };
    assert_eq!(head("1.1", "Expect: 100-continue\r\nContent-Length: 5\r\n"), (true, true));
    assert_eq!(head("1.1", "Expect: 100-continue\r\nConnection: close\r\n"), (false, false));
    assert_eq!(head("1.0", "Expect: 100-continue\r\nContent-Length: 5\r\n"), (false, false));
    assert_eq!(head("1.0", "Connection: keep-alive\r\n"), (false, true));
    assert_eq!(head("1.0", "Connection: keep-alive, close\r\n"), (false, false));
}

#[test]
fn trailers_set_no_identity() {
    let identity = IdentityHeaders::new(["X-User"]);
    let mut trailers = crate::head::FieldsBuilder::default();
    for name in ["x-user", "x.user", "x-usher"] {
        trailers.push(name.as_bytes(), b"eve").unwrap();
    }
    let mut trailers = trailers.finish();
    identity.strip(&mut trailers);
    assert_eq!(trailers.kept().collect::<Vec<_>>(), [(&b"x-usher"[..], &b"eve"[..])]);
}

#[test]
fn a_reserved_prefix_holds_for_names_that_nobody_has_listed() {
    let identity = IdentityHeaders::new(["X-Request-Id"]).with_prefix("x-bastide-");
    for (name, ours, alias) in [
        ("x-bastide-anything", true, true),
        ("x-bastide-", true, true),
        ("x-request-id", true, true),
        ("x.bastide.anything", false, true),
        ("x-bastion", false, false),
        ("bastide-anything", false, false),
    ] {
        assert_eq!(identity.contains(name.as_bytes()), ours, "{name}");
        assert_eq!(identity.is_alias(name.as_bytes()), alias, "{name}");
    }
    let none = IdentityHeaders::new([]);
    assert!(!none.contains(b"x-bastide-anything") && !none.is_alias(b"x-bastide-anything"));
}

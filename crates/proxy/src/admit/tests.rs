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

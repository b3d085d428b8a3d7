use super::{BodyKind, args};
use crate::body::urlencoded::query;

fn read(body: &str) -> crate::body::Parsed {
    super::read(BodyKind::Urlencoded, "application/x-www-form-urlencoded", body)
}

#[test]
fn names_and_values_are_decoded() {
    for (body, found) in [
        ("", &[][..]),
        ("a=1&b=2", &["a=1", "b=2"]),
        ("a=1&a=2", &["a=1", "a=2"]),
        ("a", &["a="]),
        ("a=", &["a="]),
        ("=1", &["=1"]),
        ("a=b=c", &["a=b=c"]),
        ("a=1&&b=2", &["a=1", "=", "b=2"]),
        ("a=1&", &["a=1"]),
        ("&a=1", &["=", "a=1"]),
        ("n%61me=v+1%2B", &["name=v 1+"]),
        ("a=%26b", &["a=&b"]),
    ] {
        let parsed = read(body);
        assert_eq!(args(&parsed), found, "{body}");
        assert!(!parsed.urlencoded_error && parsed.error.is_none(), "{body}");
    }
}

#[test]
fn a_broken_encoding_stays_and_is_said() {
    for (body, found) in [("a=%zz", "a=%zz"), ("a=%4", "a=%4"), ("a=100%", "a=100%"), ("%=1", "%=1")] {
        let parsed = read(body);
        assert_eq!(args(&parsed), [found], "{body}");
        assert!(parsed.urlencoded_error, "{body}");
    }
}

#[test]
fn a_query_reads_as_a_form_does() {
    for text in ["a=1&b=%41&&c", "a=%zz", "", "x", "a=1&", "&"] {
        let (form, query) = (read(text), query(text.as_bytes(), b'&', 1000));
        assert_eq!(form.args, query.args, "{text}");
        assert_eq!(form.urlencoded_error, query.broken, "{text}");
        assert!(!query.over_limit);
    }
    assert_eq!(query(b"a=1;b=2", b';', 1000).args.len(), 2);
}

#[test]
fn a_query_ends_at_its_limit() {
    assert!(!query(b"a&b", b'&', 2).over_limit);
    let over = query(b"a&b&c", b'&', 2);
    assert!(over.over_limit && over.args.len() == 2);
}

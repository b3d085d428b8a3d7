use super::{BodyKind, BodyLimits, args, read_with};

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
fn arguments_are_parted_by_the_separator_that_is_set() {
    let limits = BodyLimits { separator: b';', ..BodyLimits::default() };
    let read = read_with(BodyKind::Urlencoded, "", "a=1;b=2&c", &limits);
    assert_eq!(args(&read), ["a=1", "b=2&c"]);
}

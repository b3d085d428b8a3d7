//! Each processor: what it reads, what it refuses, each flag and each limit.

mod json;
mod limits;
mod multipart;
mod urlencoded;
mod xml;

use super::{BodyKind, BodyLimits, BodyReader, Parsed};

/// Reads a body in one piece.
fn read(kind: BodyKind, content_type: &str, body: impl AsRef<[u8]>) -> Parsed {
    read_with(kind, content_type, body, &BodyLimits::default())
}

fn read_with(kind: BodyKind, content_type: &str, body: impl AsRef<[u8]>, limits: &BodyLimits) -> Parsed {
    let mut reader = BodyReader::new(kind, content_type.as_bytes(), limits);
    reader.feed(body.as_ref());
    reader.finish()
}

/// Arguments as text: `name=value`.
fn args(parsed: &Parsed) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut last = &b""[..];
    let named = parsed.args.iter().map(|(name, value)| {
        last = name.as_deref().unwrap_or(last);
        format!("{}={}", text(last), text(value))
    });
    named.collect()
}

#[test]
fn processors_have_the_names_that_rules_use() {
    for kind in BodyKind::ALL {
        assert_eq!(BodyKind::from_name(kind.name().as_bytes()), Some(kind));
        assert_eq!(BodyKind::from_name(kind.name().to_lowercase().as_bytes()), Some(kind));
    }
    assert_eq!(BodyKind::from_name(b"YAML"), None);
}

#[test]
fn only_forms_are_read_without_being_asked() {
    let of = |text: &str| BodyKind::from_content_type(text.as_bytes());
    assert_eq!(of("application/x-www-form-urlencoded; charset=utf-8"), Some(BodyKind::Urlencoded));
    assert_eq!(of("Multipart/Form-Data; boundary=x"), Some(BodyKind::Multipart));
    assert_eq!(of("application/json"), None);
    assert_eq!(of("text/xml"), None);
    assert_eq!(of(""), None);
}

mod pieces {
    use proptest::prelude::*;

    /// Bodies that get further than random bytes do.
    fn likely() -> impl Strategy<Value = Vec<u8>> {
        let word = prop::sample::select(vec![
            "--xyz",
            "--xyz--",
            "\r\n",
            "\n",
            "\r",
            "Content-Disposition: form-data; name=\"a\"",
            "; filename=\"b\"",
            "Content-Type: text/plain",
            " ",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"a\"",
            "\"",
            "\\u00e9",
            "\\ud83d",
            "\\ude00",
            "1.5e3",
            "true",
            "null",
            "<a b='c'>",
            "</a>",
            "<a/>",
            "&amp;",
            "&#x41;",
            "&x;",
            "<![CDATA[x]]>",
            "<!DOCTYPE a>",
            "<?xml version='1.0'?>",
            "a=b&",
            "%41",
            "%",
            "+",
            "x",
        ]);
        prop::collection::vec(word, 0..40).prop_map(|words| words.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn fuzz_smoke_bodies_never_panic(first: u8, body: Vec<u8>) {
            super::super::fuzz(&[&[first][..], &body].concat());
        }

        #[test]
        fn fuzz_smoke_likely_bodies_read_alike_in_pieces(first: u8, body in likely()) {
            super::super::fuzz(&[&[first][..], &body].concat());
        }
    }
}

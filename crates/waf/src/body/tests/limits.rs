//! Each limit holds at its number and one past it, while reading.

use super::{BodyKind, BodyLimits, args, read_with};

fn at(no_files_bytes_max: u64) -> BodyLimits {
    BodyLimits { no_files_bytes_max, ..BodyLimits::default() }
}

#[test]
fn bytes_besides_files() {
    for (kind, body) in [
        (BodyKind::Urlencoded, "a=1&b=22"),
        (BodyKind::Json, "{\"a\":\"bc\"}"),
        (BodyKind::Xml, "<a k='v'>b</a>"),
    ] {
        let length = body.len() as u64;
        let fits = read_with(kind, "", body, &at(length));
        assert_eq!((fits.error, fits.over_no_files_limit), (None, false), "{kind:?}");
        let over = read_with(kind, "", body, &at(length - 1));
        assert!(over.over_no_files_limit, "{kind:?}");
        assert!(over.error.unwrap().contains(&format!("({})", length - 1)), "{kind:?}");
    }
}

#[test]
fn what_fits_is_seen_when_the_rest_is_refused() {
    let over = read_with(BodyKind::Urlencoded, "", "a=1&b=22", &at(7));
    assert_eq!(args(&over), ["a=1", "b=2"]);
    let over = read_with(BodyKind::Json, "", "{\"a\":\"bcd\"}", &at(8));
    assert_eq!(args(&over), ["json.a=bc"]);
}

#[test]
fn nothing_is_kept_past_the_limit() {
    let over = read_with(BodyKind::Urlencoded, "", "a".repeat(1 << 20), &at(100));
    assert_eq!(over.args[0].0.as_ref().unwrap().len(), 100);
}

#[test]
fn arguments() {
    let limits = BodyLimits { arguments_max: 2, ..BodyLimits::default() };
    for (kind, fits, over) in
        [(BodyKind::Urlencoded, "a=1&b=2", "a=1&b=2&c=3"), (BodyKind::Json, "[1,2]", "[1,2,3]")]
    {
        assert_eq!(read_with(kind, "", fits, &limits).error, None);
        let over = read_with(kind, "", over, &limits);
        assert_eq!(over.args.len(), 2);
        assert!(over.error.unwrap().contains("SecArgumentsLimit"), "{kind:?}");
    }
}

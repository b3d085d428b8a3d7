use super::{BodyKind, BodyLimits, args, read_with};

fn read(body: impl AsRef<[u8]>) -> crate::body::Parsed {
    super::read(BodyKind::Json, "application/json", body)
}

#[test]
fn each_scalar_becomes_an_argument_named_by_its_path() {
    for (body, found) in [
        ("", &[][..]),
        ("{}", &[]),
        ("[]", &[]),
        (r#"{"a":1}"#, &["json.a=1"]),
        (r#"{"a":{"b":"c"}}"#, &["json.a.b=c"]),
        (r#"{"a":[1,"x",{"b":null}]}"#, &["json.a.a=1", "json.a.a=x", "json.a.a.b="]),
        ("[[1,2],3]", &["json.array.array.array=1", "json.array.array.array=2", "json.array.array=3"]),
        ("  true ", &["json=true"]),
        ("-1.5e+3", &["json=-1.5e+3"]),
        (r#""text""#, &["json=text"]),
        (r#"{"a":"x","b":[],"c":{}}"#, &["json.a=x", "json.b=", "json.c="]),
        ("{\"a\" : [ ] ,\r\n\t\"b\":false}", &["json.a=", "json.b=false"]),
        (r#"{"":1}"#, &["json.=1"]),
    ] {
        let parsed = read(body);
        assert_eq!(parsed.error, None, "{body}");
        assert_eq!(args(&parsed), found, "{body}");
    }
}

#[test]
fn a_key_that_stands_twice_gives_two_arguments() {
    assert_eq!(args(&read(r#"{"a":"1","a":"2"}"#)), ["json.a=1", "json.a=2"]);
}

/// RFC 8259 §8.1.
#[test]
fn what_is_behind_a_byte_order_mark_is_read_and_a_second_one_is_an_error() {
    let mark = b"\xef\xbb\xbf";
    for (body, found) in
        [("{\"a\":\"<script>\"}", "json.a=<script>"), (" [1]", "json.array.array=1"), ("true", "json=true")]
    {
        let parsed = read([mark, body.as_bytes()].concat());
        assert_eq!((parsed.error.as_deref(), args(&parsed)), (None, vec![found.to_owned()]), "{body}");
    }
    for wrong in [
        &b"\xef\xbb\xbf"[..],
        b"\xef\xbb\xbf ",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b" \xef\xbb\xbf{}",
        b"\xef\xbb{}",
        b"\xef{}",
        b"\xef\xbf\xbb{}",
        b"\xef\xbb\xbf{}\xef\xbb\xbf",
        b"{\xef\xbb\xbf}",
        b"[\xef\xbb\xbf1]",
        b"\xfe\xff\0{\0}",
        b"\xff\xfe{\0}\0",
    ] {
        assert!(read(wrong).error.is_some(), "{wrong:?}");
    }
}

#[test]
fn escapes_are_undone() {
    for (body, value) in [
        (r#""\u003cscript\u003e""#, "<script>"),
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""\ud83d\ude00""#, "😀"),
        (r#""\ud83dx""#, "\u{fffd}x"),
        (r#""\ud83d\n""#, "\u{fffd}\n"),
        (r#""\ude00""#, "\u{fffd}"),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\u0000""#, "\0"),
        ("\"ü\"", "ü"),
    ] {
        let parsed = read(body);
        assert_eq!(parsed.error, None, "{body}");
        assert_eq!(parsed.args[0].1, value.as_bytes(), "{body}");
    }
    assert_eq!(args(&read(r#"{"\u0061\"":1}"#)), ["json.a\"=1"]);
}

#[test]
fn what_is_no_json_is_an_error() {
    for body in [
        "{",
        "[",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "[1,]",
        "[,1]",
        "{,}",
        "{a:1}",
        "{'a':1}",
        "1 2",
        "{}x",
        "}",
        "]",
        "[}",
        "{]",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "0x10",
        "nul",
        "True",
        "NaN",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "{\"a\" 1}",
        "{1:1}",
        " ",
        "\u{feff}\u{feff}{}",
        "/**/{}",
    ] {
        assert!(read(body).error.is_some(), "{body} was taken for JSON");
    }
    assert!(read(b"\"\xff\"").error.unwrap().contains("UTF-8"));
}

#[test]
fn what_stood_before_an_error_is_seen() {
    assert_eq!(args(&read(r#"{"a":"<script>", oops"#)), ["json.a=<script>"]);
    assert_eq!(args(&read(r#"{"a":"<script>"#)), ["json.a=<script>"]);
    assert_eq!(args(&read(r#"{"<script>"#)), ["json.<script>="]);
    assert_eq!(args(&read(b"{\"a\":\"<script>\xff\"}"))[0], "json.a=<script>\u{fffd}");
}

#[test]
fn depth_is_held_at_its_limit() {
    let limits = BodyLimits { json_depth_max: 3, ..BodyLimits::default() };
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let read = |body: String| read_with(BodyKind::Json, "application/json", body, &limits);
    assert_eq!(read(nested(3)).error, None);
    assert!(read(nested(4)).error.unwrap().contains("deeper than 3"));
}

#[test]
fn a_very_long_number_is_an_error() {
    assert_eq!(read("1".repeat(1024)).error, None);
    assert!(read("1".repeat(1025)).error.is_some());
}

#[test]
fn a_very_long_name_is_an_error_and_seen() {
    let named = |length: usize| read(format!("{{\"{}\":1}}", "k".repeat(length - "json.".len())));
    assert_eq!(named(4096).error, None);
    let over = named(4097);
    assert!(over.error.unwrap().contains("longer than 4096"));
    assert_eq!(over.args[0].0.as_ref().unwrap().len(), 4096);
    // Lists in lists repeat their key.
    let nested = |depth: usize| {
        read(format!("{{\"{}\":{}1{}}}", "k".repeat(100), "[".repeat(depth), "]".repeat(depth)))
    };
    assert_eq!(nested(39).error, None);
    assert!(nested(40).error.unwrap().contains("longer than 4096"));
}

#[test]
fn names_are_not_given_out_for_more_than_the_body_may_have() {
    // Each of these carries the long key; items of a list share it.
    let key = "k".repeat(2_000);
    let members = |count: usize| {
        let all: Vec<_> = (0..count).map(|number| format!("\"m{number}\":1")).collect();
        read(format!("{{\"{key}\":{{{}}}}}", all.join(",")))
    };
    assert_eq!(members(65).error, None);
    let over = members(66);
    assert!(over.error.unwrap().contains("names of more than 131072 bytes in all"));
    assert_eq!(over.args.len(), 65);
    let items = read(format!("{{\"{key}\":[{}1]}}", "1,".repeat(999)));
    assert_eq!((items.error.as_deref(), items.args.len()), (None, 1_000));
    let names: usize = items.args.iter().filter_map(|(name, _)| name.as_ref().map(Vec::len)).sum();
    assert_eq!(names, "json..".len() + 2 * key.len());
    // A thousand honest ones of a hundred bytes each fit.
    let honest: Vec<_> = (0..1_000).map(|number| format!("\"{number:0>100}\":1")).collect();
    assert_eq!(read(format!("{{{}}}", honest.join(","))).error, None);
}

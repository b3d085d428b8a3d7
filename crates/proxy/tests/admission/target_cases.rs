//! Targets and paths.

use proxy::Class;

use super::cases::{http1, http2, target};
use super::{Case, Then};

pub(crate) fn cases() -> Vec<Case> {
    [forms(), characters(), climbing(), normalised()].into_iter().flatten().collect()
}

fn all(class: Class, targets: &[&str]) -> impl Iterator<Item = Case> {
    targets.iter().map(move |text| target(class, true, text, Then::Refused))
}

fn forms() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let mut cases = vec![
        http1(BadTargetForm, true, b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadTargetForm, true, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadTargetForm, true, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadTargetForm, true, b"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadTargetForm, false, b"GET http://a?x=/y HTTP/1.1\r\nHost: a\r\n\r\n", Path("/")),
        target(BadTargetForm, false, "/http://a/b", Path("/http:/a/b")),
        http1(Fragment, true, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(Fragment, true, b"GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(Fragment, true, b"GET http://a#b HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(Fragment, false, b"GET /a%23b?c=%23 HTTP/1.1\r\nHost: a\r\n\r\n", Path("/a%23b")),
    ];
    let path =
        |path: &'static str| [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", path)];
    for wrong in ["x", "*", "?x", "http://a/", ""] {
        cases.push(http2(BadTargetForm, true, &path(wrong), Refused));
    }
    cases.push(http2(FragmentCut, true, &path("/pub#/../admin"), Path("/pub")));
    cases.push(http2(FragmentCut, false, &path("/pub%23"), Path("/pub%23")));
    cases
}

fn characters() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let mut cases: Vec<Case> = Vec::new();
    cases.extend(all(TargetCharacter, &["/caf\u{e9}", "/a?caf\u{e9}"]));
    cases.push(target(TargetCharacter, false, "/caf%C3%A9?q=caf%C3%A9", Path("/caf%C3%A9")));
    for control in [b"GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n"] {
        // `httparse` stops at them before admission looks.
        cases.push(http1(BadRequestLine, true, control, Refused));
    }
    cases.extend(all(BadPercentEncoding, &["/%", "/%4", "/a%zz", "/%%41", "/a%2", "/%u002e"]));
    cases.push(target(BadPercentEncoding, false, "/100%25?q=100%", Path("/100%25")));
    cases.extend(all(
        InvalidUtf8Path,
        &["/%c0%ae%c0%ae/etc", "/%c0%af", "/%e0%80%af", "/%ff", "/%c3", "/%ed%a0%80", "/%f8%80%80%80%af"],
    ));
    cases.push(target(InvalidUtf8Path, false, "/%e2%82%ac", Path("/%E2%82%AC")));
    cases.extend(all(Backslash, &["/a\\b", "/..\\admin", "/a%5cb", "/a%5Cb", "/a/..%5c..%5cetc"]));
    cases.push(target(Backslash, false, "/a?b=c\\d", Path("/a")));
    cases.extend(all(EncodedControl, &["/a%00", "/a%00.png", "/%0d%0aSet-Cookie:x", "/%7f", "/a%09b"]));
    cases.push(target(EncodedControl, false, "/a%20b?x=%00", Path("/a%20b")));
    cases.extend(all(EncodedSlash, &["/a%2fb", "/a%2Fb", "/a%2f", "/%2f", "/%2fadmin"]));
    cases.push(target(EncodedSlash, false, "/packages/@scope%2fname", Path("/packages/@scope%2Fname")));
    cases.push(target(EncodedSlash, false, "/a?next=%2fb", Path("/a")));
    cases.push(target(EncodedSlash, false, "/a%2fb/../c", Path("/c")));
    cases.extend(all(
        DoubleEncoding,
        &["/%252e%252e/x", "/%252f", "/a%255cb", "/%2500", "/%25252e/x", "/a%253b", "/%252E"],
    ));
    // What hides behind the second encoding is encoded itself.
    cases.extend(all(
        DoubleEncoding,
        &["/%25%32%65/x", "/%252%65/x", "/%25%32f", "/a%25%35%63b", "/%25%32%35%32%65/x", "/%25%30%30"],
    ));
    cases.push(target(DoubleEncoding, false, "/%25%34%31", Path("/%2541")));
    cases.push(target(DoubleEncoding, false, "/100%2525/%25", Path("/100%2525/%25")));
    cases.push(target(DoubleEncoding, false, "/%2541", Path("/%2541")));
    cases
}

fn climbing() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let mut cases: Vec<Case> = Vec::new();
    cases.extend(all(
        HiddenDotSegment,
        &[
            "/packages/..%2fx",
            "/packages/x%2f..%2f..%2fadmin",
            "/packages/%2e%2e%2fx",
            "/packages/a%2f.%2fb",
            "/a%2f..",
        ],
    ));
    cases.push(target(HiddenDotSegment, false, "/packages/a%2f..b", Path("/packages/a%2F..b")));
    cases.extend(all(
        DotSegmentParameter,
        &[
            "/pub/..;/admin",
            "/pub/.;/x",
            "/pub/..;a=b/x",
            "/pub/%2e%2e;/x",
            "/pub/..%3b/x",
            "/pub/..%3B",
            "/pub/;/admin",
            "/;x=y",
            "/packages/a%2f..;/b",
            "/..;/..;/x",
        ],
    ));
    cases.push(
        target(DotSegmentParameter, false, "/cars;color=red/..;x=y.txt;v", Refused)
            .innocent("/cars;color=red/a;b"),
    );
    cases.extend(all(
        AboveRoot,
        &[
            "/..",
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/.%2e/x",
            "//../x",
            "/a/./../../x",
            "/pub/../../etc/passwd",
        ],
    ));
    cases.push(target(AboveRoot, false, "/a/../x", Path("/x")));
    let deep = "/a".repeat(129);
    cases.push(target(TooManySegments, true, &deep, Refused));
    cases.push(target(TooManySegments, true, &format!("/%41{deep}"), Refused));
    cases.push(target(TooManySegments, false, &"/a".repeat(128), Admitted));
    cases
}

impl Case {
    /// An innocent of the same class with this target.
    fn innocent(self, text: &'static str) -> Self {
        target(self.class, false, text, Then::Path(text))
    }
}

fn normalised() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let same = |class, text: &'static str| target(class, false, text, Path(text));
    let becomes = |class, text: &str, path: &'static str| target(class, true, text, Path(path));
    vec![
        becomes(DotSegments, "/pub/../x", "/x"),
        becomes(DotSegments, "/pub/%2e%2e/x", "/x"),
        becomes(DotSegments, "/pub/%2E./x", "/x"),
        becomes(DotSegments, "/a/./b/.", "/a/b/"),
        becomes(DotSegments, "/a/b/..", "/a/"),
        becomes(DotSegments, "/a/..", "/"),
        becomes(DotSegments, "/.", "/"),
        becomes(DotSegments, "/a/%2e/b?x=/../y", "/a/b"),
        becomes(DotSegments, "/a//../b", "/b"),
        same(DotSegments, "/a/...b/..c/d../e."),
        same(DotSegments, "/a/.well-known/x"),
        becomes(DuplicateSlashes, "/a//b///c", "/a/b/c"),
        becomes(DuplicateSlashes, "//a", "/a"),
        becomes(DuplicateSlashes, "/a//", "/a/"),
        becomes(DuplicateSlashes, "//", "/"),
        same(DuplicateSlashes, "/a/b/"),
        same(DuplicateSlashes, "/"),
        becomes(UnreservedEncoded, "/%41dmin/%7e%2Dx%5f", "/Admin/~-x_"),
        becomes(UnreservedEncoded, "/a%c3%a9", "/a%C3%A9"),
        same(UnreservedEncoded, "/a%3Fb%23c%3Bd%20e"),
        becomes(UnsafePathCharacter, "/a[0]|b", "/a%5B0%5D%7Cb"),
        becomes(UnsafePathCharacter, "/{id}", "/%7Bid%7D"),
        same(UnsafePathCharacter, "/a:b@c!$&'()*+,;=~"),
    ]
}

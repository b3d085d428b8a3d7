//! Lines, fields, framing, connection, methods and hosts.

use proxy::Class;

use super::http2::Line;
use super::{Case, Input, LOCAL_HOST, Then};

const HOST: &str = "shop.example.org";

/// A GET over both protocols, with these further fields.
pub(crate) fn fields(class: Class, attack: bool, fields: &[(&str, &str)], then: Then) -> Case {
    whole(class, attack, ("GET", "/x", HOST), fields, then)
}

/// A GET of this target over both protocols.
pub(crate) fn target(class: Class, attack: bool, target: &str, then: Then) -> Case {
    whole(class, attack, ("GET", target, HOST), &[], then)
}

/// A request over both protocols.
pub(crate) fn whole(
    class: Class,
    attack: bool,
    (method, target, host): (&str, &str, &str),
    fields: &[(&str, &str)],
    then: Then,
) -> Case {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let input =
        Input::Both { method: method.to_owned(), target: target.to_owned(), host: host.to_owned(), fields };
    Case { class, attack, input, then }
}

/// Raw bytes over HTTP/1.
pub(crate) fn http1(class: Class, attack: bool, head: &[u8], then: Then) -> Case {
    Case { class, attack, input: Input::Http1(head.to_vec()), then }
}

/// An HTTP/1.1 head that begins with `POST /x` and `Host`, and goes on with `rest`.
fn post1(class: Class, attack: bool, rest: &str, then: Then) -> Case {
    let head = format!("POST /x HTTP/1.1\r\nHost: {HOST}\r\n{rest}\r\n\r\n");
    http1(class, attack, head.as_bytes(), then)
}

/// Raw field lines over HTTP/2 in a head that does not end the stream.
pub(crate) fn http2(class: Class, attack: bool, lines: &[(&str, &str)], then: Then) -> Case {
    let lines: Vec<Line> =
        lines.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
    Case { class, attack, input: Input::Http2(lines, false), then }
}

const POST2: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/x")];

/// A POST over HTTP/2 with these further fields.
fn post2(class: Class, attack: bool, rest: &[(&str, &str)], then: Then) -> Case {
    http2(class, attack, &[&POST2, rest].concat(), then)
}

pub(crate) fn cases() -> Vec<Case> {
    [lines(), names(), framing(), connection(), upgrades(), methods(), hosts(), pseudo(), identity()]
        .into_iter()
        .flatten()
        .collect()
}

fn lines() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let many = |count: usize| -> Vec<(String, String)> {
        (0..count).map(|number| (format!("x-{number}"), "1".to_owned())).collect()
    };
    let borrowed = |list: &[(String, String)], class, attack, then| {
        let list: Vec<(&str, &str)> = list.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        fields(class, attack, &list, then)
    };
    let large: Vec<(String, String)> =
        (0..9).map(|number| (format!("x-{number}"), "v".repeat(7500))).collect();
    vec![
        borrowed(&large, HeadTooLarge, true, Refused),
        borrowed(&large[..8], HeadTooLarge, false, Admitted),
        borrowed(&many(101), TooManyHeaders, true, Refused),
        borrowed(&many(99), TooManyHeaders, false, Admitted),
        target(TargetTooLong, true, &format!("/{}", "a".repeat(8192)), Refused),
        target(TargetTooLong, false, &format!("/{}", "a".repeat(8191)), Admitted),
        http1(LeadingEmptyLine, true, b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Path("/")),
        http1(LeadingEmptyLine, false, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Path("/")),
        http1(BadRequestLine, true, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BareLineFeed, true, b"GET / HTTP/1.1\nHost: a\n\n", Refused),
        http1(BareLineFeed, true, b"GET / HTTP/1.1\r\nHost: a\n\r\n", Refused),
        http1(BareLineFeed, true, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\nContent-Length: 5\r\n\r\n", Refused),
        http1(BareLineFeed, true, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BareLineFeed, false, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Admitted),
        http1(
            BareCarriageReturn,
            true,
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\rContent-Length: 5\r\n\r\n",
            Refused,
        ),
        http1(BareCarriageReturn, true, b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Refused),
        http1(BareCarriageReturn, false, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", Admitted),
        http1(BadRequestLine, true, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadRequestLine, true, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadRequestLine, true, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadRequestLine, true, b"GET /\r\nHost: a\r\n\r\n", Refused),
        http1(BadRequestLine, true, b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadRequestLine, true, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadRequestLine, false, b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", Admitted),
        http1(BadVersion, true, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Refused),
        http1(BadVersion, true, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Refused),
        http1(BadVersion, true, b"GET / http/1.1\r\nHost: a\r\n\r\n", Refused),
        http1(BadVersion, false, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", Admitted),
        http1(ObsFold, true, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", Refused),
        http1(ObsFold, true, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refused),
        http1(
            ObsFold,
            true,
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n",
            Refused,
        ),
        http1(ObsFold, false, b"GET / HTTP/1.1\r\nHost: a\r\nX:   1 2  \r\n\r\n", Keeps("x")),
        http1(SpaceBeforeColon, true, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refused),
        http1(
            SpaceBeforeColon,
            true,
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n",
            Refused,
        ),
        http1(SpaceBeforeColon, false, b"GET / HTTP/1.1\r\nHost:a\r\nX:\t1\r\n\r\n", Keeps("x")),
    ]
}

fn names() -> Vec<Case> {
    use Class::*;
    use Then::*;
    vec![
        http1(BadHeaderName, true, b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", Refused),
        http1(BadHeaderName, true, b"GET / HTTP/1.1\r\nHost: a\r\nX(Y): 1\r\n\r\n", Refused),
        http1(BadHeaderName, true, b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", Refused),
        http1(BadHeaderName, true, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length\x00: 5\r\n\r\n", Refused),
        post2(BadHeaderName, true, &[("X-Upper", "1")], Refused),
        post2(BadHeaderName, true, &[("x y", "1")], Refused),
        post2(BadHeaderName, true, &[("", "1")], Refused),
        fields(BadHeaderName, false, &[("x-honest.name", "1")], Keeps("x-honest.name")),
        http1(ControlInHeader, true, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", Refused),
        http1(ControlInHeader, true, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n", Refused),
        http1(ControlInHeader, true, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", Refused),
        post2(ControlInHeader, true, &[("x", "a\0b")], Refused),
        post2(ControlInHeader, true, &[("x", "a\r\nb: c")], Refused),
        post2(ControlInHeader, true, &[("x", "a\x7fb")], Refused),
        fields(ControlInHeader, false, &[("x", "caf\u{e9}\tau lait")], Keeps("x")),
        post2(PaddedValue, true, &[("x", " 1")], Refused),
        post2(PaddedValue, true, &[("x", "1\t")], Refused),
        post2(PaddedValue, false, &[("x", "1 2")], Keeps("x")),
        fields(UnderscoreName, true, &[("X_User", "eve")], Refused),
        fields(UnderscoreName, true, &[("content_length", "5")], Refused),
        fields(UnderscoreName, true, &[("_", "1")], Refused),
        fields(UnderscoreName, false, &[("x-under", "a_b")], Keeps("x-under")),
        fields(DuplicateSingleton, true, &[("Authorization", "a"), ("Authorization", "b")], Refused),
        fields(DuplicateSingleton, true, &[("Content-Type", "a/b"), ("content-type", "a/b")], Refused),
        fields(DuplicateSingleton, true, &[("Origin", "https://a"), ("Origin", "https://b")], Refused),
        fields(
            DuplicateSingleton,
            false,
            &[("Accept", "a"), ("Accept", "b"), ("Authorization", "a")],
            Keeps("accept"),
        ),
    ]
}

fn framing() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let with_both = ContentLengthWithTransferEncoding;
    vec![
        post1(DuplicateContentLength, true, "Content-Length: 5\r\nContent-Length: 5", Refused),
        post1(DuplicateContentLength, true, "Content-Length: 5\r\nContent-Length: 6", Refused),
        post2(DuplicateContentLength, true, &[("content-length", "5"), ("content-length", "5")], Refused),
        post1(DuplicateContentLength, false, "Content-Length: 5", Drops("content-length")),
        post1(BadContentLength, true, "Content-Length: +3", Refused),
        post1(BadContentLength, true, "Content-Length: -3", Refused),
        post1(BadContentLength, true, "Content-Length: 0x3", Refused),
        post1(BadContentLength, true, "Content-Length: 3, 3", Refused),
        post1(BadContentLength, true, "Content-Length: 3 3", Refused),
        post1(BadContentLength, true, "Content-Length:", Refused),
        post1(BadContentLength, true, "Content-Length: 18446744073709551616", Refused),
        post2(BadContentLength, true, &[("content-length", "+3")], Refused),
        post2(BadContentLength, true, &[("content-length", "3, 3")], Refused),
        post1(BadContentLength, false, "Content-Length: 18446744073709551615", Admitted),
        post2(BadContentLength, false, &[("content-length", "3")], Drops("content-length")),
        Case { class: ContentLengthMismatch, attack: true, input: ended_with_length("5"), then: Refused },
        Case { class: ContentLengthMismatch, attack: false, input: ended_with_length("0"), then: Admitted },
        post1(with_both, true, "Content-Length: 5\r\nTransfer-Encoding: chunked", Refused),
        post1(with_both, true, "Transfer-Encoding: chunked\r\nContent-Length: 0", Refused),
        post1(with_both, false, "Transfer-Encoding: chunked", Drops("transfer-encoding")),
        post1(with_both, false, "Content-Length: 5", Admitted),
        post1(
            DuplicateTransferEncoding,
            true,
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Refused,
        ),
        post1(
            DuplicateTransferEncoding,
            true,
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            Refused,
        ),
        post1(DuplicateTransferEncoding, false, "Transfer-Encoding: Chunked", Admitted),
        post1(BadTransferEncoding, true, "Transfer-Encoding: identity", Refused),
        post1(BadTransferEncoding, true, "Transfer-Encoding: gzip, chunked", Refused),
        post1(BadTransferEncoding, true, "Transfer-Encoding: chunked, chunked", Refused),
        post1(BadTransferEncoding, true, "Transfer-Encoding: xchunked", Refused),
        post1(BadTransferEncoding, true, "Transfer-Encoding: chunked;q=1", Refused),
        post1(BadTransferEncoding, true, "Transfer-Encoding: \"chunked\"", Refused),
        post1(BadTransferEncoding, true, "Transfer-Encoding: \u{b}chunked", Refused).class(ControlInHeader),
        post1(BadTransferEncoding, true, "Transfer-Encoding:", Refused),
        post1(BadTransferEncoding, false, "transfer-encoding:chunked", Admitted),
        http1(
            TransferEncodingInHttp10,
            true,
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refused,
        ),
        http1(
            TransferEncodingInHttp10,
            false,
            b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
            Admitted,
        ),
        fields(BadExpectation, true, &[("Expect", "200-maybe")], Refused),
        fields(BadExpectation, true, &[("Expect", "100-continue, x")], Refused),
        post1(BadExpectation, false, "Expect: 100-Continue\r\nContent-Length: 5", Drops("x")),
        fields(BadExpectation, false, &[("Expect", "100-continue")], Admitted),
    ]
}

impl Case {
    /// The same input, refused for another reason than the one it attacks.
    fn class(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

fn ended_with_length(length: &str) -> Input {
    let lines = [&POST2[..], &[("content-length", length)]].concat();
    Input::Http2(lines.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect(), true)
}

fn connection() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let mut cases = vec![
        post1(HopByHopField, true, "Connection: close, X-Hop\r\nX-Hop: 1", Drops("x-hop")),
        post1(HopByHopField, true, "Keep-Alive: timeout=5", Drops("keep-alive")),
        post1(HopByHopField, true, "Proxy-Connection: keep-alive", Drops("proxy-connection")),
        post1(HopByHopField, true, "Proxy-Authorization: Basic x", Drops("proxy-authorization")),
        post1(HopByHopField, true, "Connection: TE\r\nTE: trailers, gzip", Drops("gzip")),
        post1(HopByHopField, false, "Connection: close\r\nX-Hop: 1", Keeps("x-hop")),
        post1(
            ProtectedConnectionOption,
            false,
            "Connection: keep-alive, X-Hop\r\nCookie: a=b",
            Keeps("cookie"),
        ),
        post2(ConnectionFieldInHttp2, false, &[("x-connection", "close")], Keeps("x-connection")),
        post2(BadTe, true, &[("te", "gzip")], Refused),
        post2(BadTe, true, &[("te", "trailers, gzip")], Refused),
        post2(BadTe, false, &[("te", "trailers")], Admitted),
    ];
    for named in [
        "content-length",
        "Content-Length",
        "transfer-encoding",
        "host",
        "authorization",
        "cookie",
        "x-forwarded-for",
        "X-Forwarded-Proto",
        "forwarded",
        "x-real-ip",
        "x-user",
        "X-Bastide-Identity",
        "origin",
        "content-type",
        "expect",
        "x_user",
        "x.user",
        "content-encoding",
        "traceparent",
        ":path",
        "cache-control",
    ] {
        let rest = format!("Connection: close, {named}\r\nContent-Length: 5\r\nX-User: eve");
        cases.push(post1(ProtectedConnectionOption, true, &rest, Refused));
    }
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
    ] {
        cases.push(post2(ConnectionFieldInHttp2, true, &[(name, value)], Refused));
    }
    cases
}

fn upgrades() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let get = |rest: &str| format!("GET /x HTTP/1.1\r\nHost: a\r\n{rest}\r\n\r\n").into_bytes();
    let http10 = b"GET /x HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let honest = get("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket");
    let with_body = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    vec![
        http1(UpgradeIgnored, true, &get("Upgrade: websocket"), NoUpgrade),
        http1(UpgradeIgnored, true, &get("Connection: close\r\nUpgrade: websocket"), NoUpgrade),
        http1(
            UpgradeIgnored,
            true,
            &get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"),
            NoUpgrade,
        ),
        http1(UpgradeIgnored, true, &get("HTTP2-Settings: AAMAAABk"), Drops("http2-settings")),
        http1(UpgradeIgnored, true, http10, NoUpgrade),
        http1(UpgradeIgnored, false, &honest, Upgrade("websocket")),
        http1(UpgradeAmbiguous, true, &get("Connection: upgrade\r\nUpgrade: websocket, h2c"), Refused),
        http1(UpgradeAmbiguous, true, &get("Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b"), Refused),
        http1(UpgradeAmbiguous, true, &get("Connection: upgrade\r\nUpgrade:"), Refused),
        http1(UpgradeAmbiguous, false, &honest, Upgrade("websocket")),
        post1(UpgradeWithBody, true, &format!("{with_body}Content-Length: 5"), Refused),
        post1(UpgradeWithBody, true, &format!("{with_body}Transfer-Encoding: chunked"), Refused),
        http1(UpgradeWithBody, false, &honest, Upgrade("websocket")),
        post1(UpgradeWithBody, false, &format!("{with_body}Content-Length: 0"), Upgrade("websocket")),
    ]
}

fn methods() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let method = |class, attack, name: &str, then| whole(class, attack, (name, "/x", HOST), &[], then);
    let mut cases = vec![
        http2(
            BadMethod,
            true,
            &[(":method", "GE T"), (":scheme", "https"), (":authority", HOST), (":path", "/")],
            Refused,
        ),
        http2(
            BadMethod,
            true,
            &[(":method", ""), (":scheme", "https"), (":authority", HOST), (":path", "/")],
            Refused,
        ),
        method(BadMethod, false, "PROPFIND", Admitted),
        method(MethodTooLong, true, &"M".repeat(33), Refused),
        method(MethodTooLong, false, &"M".repeat(32), Admitted),
        method(MethodCase, true, "get", Refused),
        method(MethodCase, true, "Delete", Refused),
        method(MethodCase, true, "connect", Refused),
        method(MethodCase, false, "GET", Admitted),
        method(MethodCase, false, "M-SEARCH", Admitted),
        method(ForbiddenMethod, true, "TRACE", Refused),
        method(ForbiddenMethod, true, "TRACK", Refused),
        http1(ForbiddenMethod, true, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refused),
        http1(BadTargetForm, true, b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        http2(ForbiddenMethod, true, &[(":method", "CONNECT"), (":authority", "a:443")], Refused),
        method(ForbiddenMethod, true, "PRI", Refused),
        method(ForbiddenMethod, false, "PATCH", Admitted),
        method(ForbiddenMethod, false, "PRINT", Admitted),
        fields(MethodOverride, false, &[("x-method", "DELETE")], Keeps("x-method")),
    ];
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        cases.push(fields(MethodOverride, true, &[(name, "DELETE")], Refused));
    }
    cases
}

fn hosts() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let host = |class, attack, name: &str, then| whole(class, attack, ("GET", "/x", name), &[], then);
    let absolute = |class, attack, target: &str, name: &str, then| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {name}\r\n\r\n");
        http1(class, attack, head.as_bytes(), then)
    };
    let two = |authority: &'static str, name: &'static str| {
        [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/"), ("host", name)]
    };
    let alone: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
    let mut cases = vec![
        http1(MissingHost, true, b"GET / HTTP/1.1\r\n\r\n", Refused),
        http2(MissingHost, true, &alone, Refused),
        http1(MissingHost, false, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", Host("a")),
        http2(MissingHost, false, &[&alone[..], &[("host", "a")]].concat(), Host("a")),
        http1(HostlessHttp10, true, b"GET / HTTP/1.0\r\n\r\n", Host(LOCAL_HOST)),
        http1(HostlessHttp10, true, b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n", Host(LOCAL_HOST)),
        http1(HostlessHttp10, false, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", Host("a")),
        http1(HostlessHttp10, false, b"GET http://a/ HTTP/1.0\r\n\r\n", Host("a")),
        http1(DuplicateHost, true, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Refused),
        http1(DuplicateHost, true, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refused),
        http2(DuplicateHost, true, &[&alone[..], &[("host", "a"), ("host", "b")]].concat(), Refused),
        http1(DuplicateHost, false, b"GET / HTTP/1.1\r\nHost: a\r\nX-Host: b\r\n\r\n", Host("a")),
        absolute(HostDisagrees, true, "http://a/", "b", Refused),
        absolute(HostDisagrees, true, "http://a:81/", "a", Refused),
        absolute(HostDisagrees, true, "https://a/", "a:80", Refused),
        absolute(HostDisagrees, false, "http://A:80/", "a", Host("a")),
        absolute(HostDisagrees, false, "https://a", "a:443", Host("a")),
        http2(HostDisagrees, true, &two("a", "b"), Refused),
        http2(HostDisagrees, true, &two("a:1", "a:2"), Refused),
        http2(HostDisagrees, false, &two("a", "A."), Host("a")),
        absolute(BadScheme, true, "ftp://a/", "a", Refused),
        absolute(BadScheme, true, "javascript://a/", "a", Refused),
        http2(
            BadScheme,
            true,
            &[(":method", "GET"), (":scheme", "ftp"), (":authority", "a"), (":path", "/")],
            Refused,
        ),
        absolute(BadScheme, false, "HTTP://a/", "a", Host("a")),
        http2(
            BadScheme,
            false,
            &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")],
            Host("a"),
        ),
        host(HostNormalised, true, "Shop.EXAMPLE.org.", Host("shop.example.org")),
        host(HostNormalised, true, "[2001:DB8:0::1]:8443", Host("[2001:db8::1]")),
        host(HostNormalised, false, "shop.example.org:8443", Host("shop.example.org")),
        host(BadHost, false, "127.0.0.1:80", Host("127.0.0.1")),
        host(BadHost, false, "my_service-1:7001", Host("my_service-1")),
        host(BadHost, false, "[::1]", Host("[::1]")),
    ];
    let long_label = "a".repeat(64);
    let long_name = "a.".repeat(127) + "a";
    for wrong in [
        "a..b",
        ".a",
        ".",
        "a b",
        "a:0",
        "a:",
        "a:65536",
        "a:080",
        "a:+80",
        "a:80:80",
        "user@a",
        "a/b",
        "a?b",
        "a%41",
        "[::1",
        "::1",
        "[::1]x",
        "[fe80::1%25eth0]",
        "[127.0.0.1]",
        "a,b",
        "caf\u{e9}",
        "a\\b",
        &long_label,
        &long_name,
    ] {
        cases.push(host(BadHost, true, wrong, Refused));
    }
    cases.push(http1(BadHost, true, b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Refused));
    cases
}

fn pseudo() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let whole: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    let without =
        |name: &str| -> Vec<(&str, &str)> { whole.iter().copied().filter(|(n, _)| *n != name).collect() };
    let with = |name, value| -> Vec<(&str, &str)> { [&whole[..], &[(name, value)]].concat() };
    let without_path_and_authority = [(":method", "GET"), (":scheme", "https"), ("host", "a")];
    let late = [("x", "1"), (":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    vec![
        http2(BadPseudoHeader, true, &without(":method"), Refused),
        http2(BadPseudoHeader, true, &without(":scheme"), Refused),
        http2(BadPseudoHeader, true, &without(":path"), Refused),
        http2(BadPseudoHeader, true, &without_path_and_authority, Refused),
        http2(BadPseudoHeader, true, &with(":path", "/admin"), Refused),
        http2(BadPseudoHeader, true, &with(":authority", "b"), Refused),
        http2(BadPseudoHeader, true, &with(":method", "POST"), Refused),
        http2(BadPseudoHeader, true, &with(":status", "200"), Refused),
        http2(BadPseudoHeader, true, &with(":protocol", "websocket"), Refused),
        http2(BadPseudoHeader, true, &with(":forwarded", "1"), Refused),
        http2(BadPseudoHeader, true, &late, Refused),
        http2(BadPseudoHeader, false, &whole, Path("/")),
        http2(BadPseudoHeader, false, &with("path", "/admin"), Path("/")),
    ]
}

fn identity() -> Vec<Case> {
    use Class::*;
    use Then::*;
    let mut cases = vec![
        fields(IdentityHeader, true, &[("X-User", "eve")], Drops("x-user")),
        fields(
            IdentityHeader,
            true,
            &[("x-bastide-identity", "eve"), ("x", "1")],
            Drops("x-bastide-identity"),
        ),
        fields(IdentityHeader, false, &[("X-Usher", "eve")], Keeps("x-usher")),
        fields(IdentityAlias, true, &[("X.User", "eve")], Refused),
        fields(IdentityAlias, true, &[("x-bastide.identity", "eve")], Refused),
        fields(IdentityAlias, true, &[("x~forwarded~for", "10.0.0.1")], Refused),
        fields(IdentityAlias, true, &[("x.real.ip", "10.0.0.1")], Refused),
        fields(IdentityAlias, false, &[("x.usher", "1")], Keeps("x.usher")),
        fields(ForwardedHeader, false, &[("x-forward", "1")], Keeps("x-forward")),
        fields(ProxyHeader, true, &[("Proxy", "http://evil")], Drops("proxy")),
        fields(ProxyHeader, false, &[("x-proxy", "1")], Keeps("x-proxy")),
    ];
    for name in [
        "Content.Length",
        "Transfer~Encoding",
        "transfer'encoding",
        "Content|Type",
        "Keep.Alive",
        "Proxy+Authorization",
    ] {
        cases.push(fields(KnownAlias, true, &[(name, "33")], Refused));
    }
    for name in ["content.lengths", "x.content-length", "h.o.s.t", "contentlength"] {
        cases.push(fields(KnownAlias, false, &[(name, "33")], Keeps(name)));
    }
    for name in [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-client-cert",
        "x-real-ip",
        "x-client-ip",
        "true-client-ip",
        "x-original-host",
        "x-original-url",
        "x-rewrite-url",
        "x-original-uri",
        "x-original-method",
        "client-ip",
        "x-cluster-client-ip",
        "fastly-client-ip",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "cf-pseudo-ipv4",
        "x-appengine-user-ip",
        "x-forwarded",
        "forwarded-for",
        "x-original-forwarded-for",
        "x-envoy-external-address",
        "x-envoy-original-path",
        "client-cert",
        "client-cert-chain",
        "x-client-cert",
        "x-client-dn",
        "x-client-verify",
        "x-ssl-client-verify",
        "ssl-client-cert",
        "remote-user",
        "x-remote-user",
        "x-webauth-user",
        "x-auth-request-email",
    ] {
        let then = Drops(name);
        cases.push(fields(ForwardedHeader, true, &[(name, "10.0.0.1")], then));
    }
    cases
}

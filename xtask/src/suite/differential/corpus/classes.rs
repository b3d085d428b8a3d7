//! One pair or more for every class of attacks to which gateways and proxies fell, by the
//! ids of their advisories.

use super::{Expect, Honest, Pair, Side};

/// A request that must never arrive as one of its own.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
const HOST: &str = "Host: shop.example.org\r\n";

/// What is written behind `METHOD TARGET HTTP/1.1` and `Host`.
struct Rest<'a>(&'a str, &'a str, &'a str);

fn bytes(rest: &Rest<'_>) -> Vec<u8> {
    let Rest(method, target, rest) = rest;
    format!("{method} {target} HTTP/1.1\r\n{HOST}{rest}").into_bytes()
}

fn refused(id: &str, attack: &Rest<'_>, honest: &Rest<'_>, body: &str) -> Pair {
    Pair {
        name: id.to_owned(),
        side: Side::Client,
        attack: bytes(attack),
        expect: Expect::Refused,
        honest: Honest { bytes: bytes(honest), body: body.into() },
    }
}

fn harmless(id: &str, attack: &Rest<'_>, honest: &Rest<'_>, body: &str) -> Pair {
    Pair { expect: Expect::Harmless, ..refused(id, attack, honest, body) }
}

pub(super) fn pairs() -> Vec<Pair> {
    [framing(), switching(), hop(), paths(), names(), speaking()].into_iter().flatten().collect()
}

fn post(rest: &str) -> Rest<'_> {
    Rest("POST", "/x", rest)
}

fn framing() -> Vec<Pair> {
    let sized = "Content-Length: 5\r\n\r\nhello";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let both = format!(
        "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}",
        HIDDEN.len() + 5
    );
    let reversed = format!(
        "Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{HIDDEN}",
        HIDDEN.len() + 5
    );
    let two = format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len());
    let folded = format!("Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n\r\n5e\r\n{HIDDEN}");
    let mut pairs = vec![
        refused("CVE-2026-2835", &post(&both), &post(chunked), "hello"),
        refused("CVE-2025-4366", &post(&reversed), &post(sized), "hello"),
        refused("CVE-2025-4366", &post(&two), &post(sized), "hello"),
        refused("CVE-2025-58056", &post(&folded), &post(chunked), "hello"),
    ];
    for extension in ["\n", ";\n", ";a=b\n", ";\r", ";a\rb\r\n", ";\"\n\""] {
        let rest = format!("Transfer-Encoding: chunked\r\n\r\n5{extension}hello\r\n0\r\n\r\n{HIDDEN}");
        let honest = "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n";
        pairs.push(refused("CVE-2025-55315", &post(&rest), &post(honest), "hello"));
    }
    for size in ["+5", "-5", "0x5", " 5", "5 ", "5_", "10000000000000005"] {
        let rest = format!("Transfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n");
        pairs.push(refused("CVE-2025-58056", &post(&rest), &post(chunked), "hello"));
    }
    for coding in ["xchunked", "chunked, identity", "gzip, chunked", "identity", "\x0bchunked", "chunked;a"] {
        let rest = format!("Transfer-Encoding: {coding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        pairs.push(refused("CVE-2025-4366", &post(&rest), &post(chunked), "hello"));
    }
    let field = |end: &str| format!("X: y{end}Content-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len());
    for end in ["\n", "\r", "\r\r\n"] {
        pairs.push(refused("CVE-2025-58056", &post(&field(end)), &post(sized), "hello"));
    }
    pairs
}

fn switching() -> Vec<Pair> {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let body = format!("{websocket}Content-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len());
    let chunked = format!("{websocket}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}");
    let several = "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n";
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let plain = Rest("GET", "/x", "X-Upgrade: websocket\r\n\r\n");
    vec![
        refused("CVE-2026-2833", &Rest("GET", "/x", &body), &plain, ""),
        refused("CVE-2026-73548", &Rest("GET", "/x", &chunked), &plain, ""),
        refused("CVE-2026-71324", &Rest("GET", "/x", several), &plain, ""),
        harmless("CVE-2026-71324", &Rest("GET", "/x", h2c), &plain, ""),
        refused("CVE-2026-2833", &Rest("CONNECT", "a:443", &format!("\r\n{HIDDEN}")), &plain, ""),
        refused("CVE-2026-2833", &Rest("CONNECT", "/x", "\r\n"), &plain, ""),
    ]
}

fn hop() -> Vec<Pair> {
    let sized = "Content-Length: 5\r\n\r\nhello";
    let named = |name: &str| format!("Connection: close, {name}\r\nX-Forwarded-For: 10.0.0.1\r\n{sized}");
    let honest = format!("Connection: keep-alive, x-hop\r\nX-Hop: 1\r\n{sized}");
    [
        ("CVE-2026-6338", "Content-Length"),
        ("CVE-2026-6338", "Transfer-Encoding"),
        ("CVE-2024-45410", "X-Forwarded-For"),
        ("CVE-2024-45410", "X-Forwarded-Host"),
        ("CVE-2026-29054", "Authorization"),
        ("CVE-2026-29054", "x-real-ip"),
        ("CVE-2026-29054", "Cookie"),
        ("CVE-2026-29054", "Host"),
    ]
    .into_iter()
    .map(|(id, name)| refused(id, &post(&named(name)), &post(&honest), "hello"))
    .collect()
}

fn paths() -> Vec<Pair> {
    let attacks = [
        ("CVE-2025-66490", "/a%2f..%2fadmin", Expect::Refused),
        ("CVE-2025-66490", "/a%5c..%5cadmin", Expect::Refused),
        ("CVE-2025-66490", "/a\\..\\admin", Expect::Refused),
        ("CVE-2025-66490", "/a%00", Expect::Refused),
        ("CVE-2025-66490", "/a#/../admin", Expect::Refused),
        ("CVE-2025-66490", "/a%3b/x", Expect::Harmless),
        ("CVE-2025-66490", "/a%3f/x", Expect::Harmless),
        ("CVE-2025-66490", "/a%23/x", Expect::Harmless),
        ("CVE-2021-29492", "/a%2Fb", Expect::Refused),
        ("CVE-2021-29492", "/a%5Cb", Expect::Refused),
        ("CVE-2026-41059", "/a%00b", Expect::Refused),
        ("CVE-2026-41059", "/a%0d%0ab", Expect::Refused),
        ("CVE-2025-32431", "/pub/../admin", Expect::Harmless),
        ("CVE-2025-32431", "/pub/%2e%2e/admin", Expect::Harmless),
        ("CVE-2025-32431", "/pub/%2e%2e%2fadmin", Expect::Refused),
        ("CVE-2025-47952", "/../admin", Expect::Refused),
        ("CVE-2025-47952", "//admin", Expect::Harmless),
        ("CVE-2026-48020", "/a/../../admin", Expect::Refused),
        ("CVE-2026-40912", "/pub/%252e%252e/admin", Expect::Refused),
        ("CVE-2026-40912", "/pub/%252fadmin", Expect::Refused),
        ("CVE-2026-40912", "/pub/%25%32%65%25%32%65/admin", Expect::Refused),
        ("CVE-2026-33494", "/pub/..%2fadmin", Expect::Refused),
        ("CVE-2026-73511", "/pub/..;/admin", Expect::Refused),
        ("CVE-2026-73511", "/pub/..;a=b/admin", Expect::Refused),
        ("CVE-2026-73511", "/pub/%2e%2e;/admin", Expect::Refused),
        ("CVE-2026-73511", "/;a/admin", Expect::Refused),
        ("CVE-2026-27588", "/pub/%c0%ae%c0%ae/admin", Expect::Refused),
        ("CVE-2026-27588", "/pub/%zz", Expect::Refused),
    ];
    let honest = Rest("GET", "/pub/a;b=c/%C3%A9?x=%2f..%2f", "\r\n");
    let mut pairs: Vec<Pair> = attacks
        .into_iter()
        .map(|(id, target, expect)| Pair { expect, ..refused(id, &Rest("GET", target, "\r\n"), &honest, "") })
        .collect();
    for host in ["SHOP.example.org", "shop.example.org.", "shop.example.org:80"] {
        let attack = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        pairs.push(Pair { attack, ..harmless("CVE-2026-27587", &honest, &honest, "") });
    }
    for attack in [
        "GET http://admin.example.org/x HTTP/1.1\r\nHost: shop.example.org\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: shop.example.org\r\nHost: admin.example.org\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: shop.example.org@admin\r\n\r\n",
        "GET /x HTTP/1.1\r\n\r\n",
    ] {
        pairs.push(Pair { attack: attack.into(), ..refused("CVE-2026-27587", &honest, &honest, "") });
    }
    pairs
}

fn names() -> Vec<Pair> {
    let honest = Rest("GET", "/x", "X-User-Agent: 1\r\n\r\n");
    let mut pairs = Vec::new();
    for (id, line) in [
        ("CVE-2025-64484", "X_Bastide_Identity: eve"),
        ("CVE-2025-64484", "X_Forwarded_For: 127.0.0.1"),
        ("CVE-2026-52845", "x_y: z"),
        ("CVE-2026-52845", "x.bastide.identity: eve"),
        ("CVE-2026-26308", "Authorization: a\r\nAuthorization: b"),
        ("CVE-2026-26308", "Content-Type: a\r\nContent-Type: b"),
        ("CVE-2026-30851", "X-HTTP-Method-Override: DELETE"),
        ("CVE-2025-58056", "X : y"),
        ("CVE-2025-58056", " X: y"),
        ("CVE-2025-58056", "X\0: y"),
    ] {
        let rest = format!("{line}\r\n\r\n");
        pairs.push(refused(id, &Rest("GET", "/x", &rest), &honest, ""));
    }
    pairs
}

fn speaking() -> Vec<Pair> {
    let honest = Rest("GET", "/x", "X-Forward: 1\r\n\r\n");
    let mut pairs = Vec::new();
    for (id, line) in [
        ("CVE-2026-40575", "X-Forwarded-For: 127.0.0.1"),
        ("CVE-2026-33495", "X-Forwarded-Uri: /admin"),
        ("CVE-2026-35051", "X-Forwarded-Proto: https"),
        ("CVE-2026-35051", "Forwarded: for=127.0.0.1"),
        ("CVE-2026-44087", "X-Bastide-Identity: eve"),
        ("CVE-2026-30851", "X-Real-IP: 127.0.0.1"),
        ("CVE-2025-54576", "User-Agent: /public/healthz"),
        ("CVE-2016-5385", "Proxy: http://evil.example.org"),
    ] {
        let rest = format!("{line}\r\n\r\n");
        pairs.push(harmless(id, &Rest("GET", "/x", &rest), &honest, ""));
    }
    pairs.push(harmless("CVE-2026-34457", &Rest("GET", "/x?/healthz", "\r\n\r\n"), &honest, ""));
    pairs
}

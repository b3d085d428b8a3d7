//! What an upstream sends: honest answers, and those that make a front end and its client
//! disagree where one answer ends and the next begins.

use super::{Expect, Honest, Pair, Side};

/// An answer that must never be taken for the next request's.
const HIDDEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden";

const SIZED: (&str, &str) = ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello");
const CHUNKED: (&str, &str) = (
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Digest: 1\r\n\r\n",
    "hello",
);
const CLOSED: (&str, &str) = ("HTTP/1.1 200 OK\r\n\r\nhello", "hello");
const OLD: (&str, &str) = ("HTTP/1.0 200 OK\r\n\r\nhello", "hello");
const INTERIM: (&str, &str) = (
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "hello",
);

fn pair(name: &str, method: &'static str, attack: Vec<u8>, expect: Expect, honest: (&str, &str)) -> Pair {
    // An answer without a length ends with its connection.
    let framed = honest.0.contains("Content-Length") || honest.0.contains("chunked");
    let then_close = !framed || honest.0.starts_with("HTTP/1.0");
    let honest = Honest { bytes: honest.0.into(), body: honest.1.into() };
    Pair {
        name: format!("answer {name}"),
        side: Side::Upstream { method, then_close },
        attack,
        expect,
        honest,
    }
}

pub(super) fn pairs() -> Vec<Pair> {
    [framing(), heads(), chunks(), bodiless(), switches()].into_iter().flatten().collect()
}

fn refused(name: &str, attack: &str, honest: (&str, &str)) -> Pair {
    pair(name, "GET", attack.into(), Expect::Refused, honest)
}

fn harmless(name: &str, attack: &str, honest: (&str, &str)) -> Pair {
    pair(name, "GET", attack.into(), Expect::Harmless, honest)
}

fn ok(rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{rest}")
}

fn framing() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (name, fields) in [
        ("length-and-chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("chunks-and-length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("two-lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("two-equal-lengths", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        ("list-of-lengths", "Content-Length: 5, 5\r\n"),
        ("length-sign", "Content-Length: +5\r\n"),
        ("length-negative", "Content-Length: -5\r\n"),
        ("length-hex", "Content-Length: 0x5\r\n"),
        ("length-empty", "Content-Length:\r\n"),
        ("length-overflow", "Content-Length: 18446744073709551621\r\n"),
        ("length-point", "Content-Length: 5.0\r\n"),
        ("two-codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("coding-list", "Transfer-Encoding: gzip, chunked\r\n"),
        ("coding-identity", "Transfer-Encoding: identity\r\n"),
        ("coding-x", "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n"),
        ("coding-control", "Transfer-Encoding: \x0bchunked\r\n"),
        ("coding-folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("length-space", "Content-Length : 5\r\n"),
        ("names-length", "Connection: content-length\r\nContent-Length: 5\r\n"),
    ] {
        let attack = ok(&format!("{fields}\r\n5\r\nhello\r\n0\r\n\r\n{HIDDEN}"));
        pairs.push(refused(name, &attack, SIZED));
    }
    pairs.push(harmless("length-short", &ok("Content-Length: 50\r\n\r\nhello"), SIZED));
    pairs.push(harmless("second-answer", &format!("{}{HIDDEN}", SIZED.0), SIZED));
    pairs.push(harmless("second-answer-behind-chunks", &format!("{}{HIDDEN}", CHUNKED.0), CHUNKED));
    pairs.push(harmless(
        "underscore-length",
        &ok(&format!("Content_Length: 5\r\nContent-Length: 0\r\n\r\n{HIDDEN}")),
        SIZED,
    ));
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    pairs.push(refused("old-version-with-chunks", old, OLD));
    pairs.push(harmless("no-length-then-more", &ok(&format!("\r\nhello{HIDDEN}")), CLOSED));
    pairs
}

fn heads() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (name, start) in [
        ("version", "HTTP/1.2 200 OK"),
        ("version-2", "HTTP/2 200 OK"),
        ("version-case", "http/1.1 200 OK"),
        ("version-space", "HTTP/1.1  200 OK"),
        ("no-status", "HTTP/1.1 OK"),
        ("status-short", "HTTP/1.1 20 OK"),
        ("status-long", "HTTP/1.1 2000 OK"),
        ("status-letters", "HTTP/1.1 2OO OK"),
        ("status-low", "HTTP/1.1 099 OK"),
        ("status-high", "HTTP/1.1 700 OK"),
        ("reason-control", "HTTP/1.1 200 O\0K"),
        ("reason-return", "HTTP/1.1 200 O\rK"),
        ("icy", "ICY 200 OK"),
        ("space-in-front", " HTTP/1.1 200 OK"),
    ] {
        let expect = if name == "reason-control" { Expect::Harmless } else { Expect::Refused };
        let attack = format!("{start}\r\nContent-Length: 5\r\n\r\nhello");
        pairs.push(pair(name, "GET", attack.into(), expect, SIZED));
    }
    for (name, line) in [
        ("line-feed", "X: y\nContent-Length: 0\r\n"),
        ("bare-return", "X: y\rContent-Length: 0\r\n"),
        ("fold", "X: y\r\n z\r\n"),
        ("fold-first", " X: y\r\n"),
        ("no-colon", "X\r\n"),
        ("empty-name", ": y\r\n"),
        ("space-before-colon", "X : y\r\n"),
        ("control-in-value", "X: \0\r\n"),
        ("control-in-name", "X\x01: y\r\n"),
        ("escape-in-value", "Set-Cookie: a=\x1b\r\n"),
    ] {
        let attack = ok(&format!("{line}Content-Length: 5\r\n\r\nhello"));
        pairs.push(refused(name, &attack, SIZED));
    }
    let line_feeds = "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello";
    pairs.push(refused("line-feeds", line_feeds, SIZED));
    let splitting = ok(&format!("X: a\r\n\r\n{HIDDEN}"));
    pairs.push(harmless("split", &splitting, CLOSED));
    pairs.push(harmless("empty-line-in-front", &format!("\r\n{}", SIZED.0), SIZED));
    pairs
}

fn chunks() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (name, chunks) in [
        ("size-sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("size-hex", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("size-space", "5 \r\nhello\r\n0\r\n\r\n"),
        ("size-space-in-front", " 5\r\nhello\r\n0\r\n\r\n"),
        ("size-overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("line-feeds", "5\nhello\n0\n\n"),
        ("data-end", "5\r\nhelloX\r\n0\r\n\r\n"),
        ("data-end-missing", "5\r\nhello0\r\n\r\n"),
        ("extension-line-feed", "5;a\nhello\r\n0\r\n\r\n"),
        ("last-line-feed", "5\r\nhello\r\n0\n\n"),
        ("last-negative", "5\r\nhello\r\n-0\r\n\r\n"),
        ("size-letters", "xyz\r\nhello\r\n0\r\n\r\n"),
        ("truncated", "5\r\nhel"),
        ("no-last", "5\r\nhello\r\n"),
        ("trailer-length", "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"),
        ("trailer-line-feed", "5\r\nhello\r\n0\r\nX: y\n\r\n"),
        ("trailer-no-colon", "5\r\nhello\r\n0\r\nX\r\n\r\n"),
    ] {
        let attack = ok(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}{HIDDEN}"));
        pairs.push(harmless(&format!("chunk-{name}"), &attack, CHUNKED));
    }
    pairs
}

fn bodiless() -> Vec<Pair> {
    let head = ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "");
    let mut pairs = vec![
        pair("head-with-body", "HEAD", format!("{}{HIDDEN}", head.0).into(), Expect::Harmless, head),
        pair(
            "head-two-lengths",
            "HEAD",
            ok("Content-Length: 5\r\nContent-Length: 6\r\n\r\n").into(),
            Expect::Refused,
            head,
        ),
        pair(
            "head-both",
            "HEAD",
            ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n").into(),
            Expect::Refused,
            head,
        ),
    ];
    let none = ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "");
    let fresh = ("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n", "");
    for (name, attack, expect, honest) in [
        (
            "204-with-length",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
            Expect::Refused,
            none,
        ),
        (
            "204-with-chunks",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Expect::Refused,
            none,
        ),
        (
            "304-with-body",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\nhello",
            Expect::Harmless,
            fresh,
        ),
        (
            "304-with-chunks",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Expect::Harmless,
            fresh,
        ),
        (
            "103-with-length",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello",
            Expect::Refused,
            INTERIM,
        ),
        ("103-for-ever", &"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20), Expect::Refused, INTERIM),
    ] {
        pairs.push(pair(name, "GET", attack.into(), expect, honest));
    }
    pairs
}

fn switches() -> Vec<Pair> {
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n{HIDDEN}"
    );
    let bare = format!("HTTP/1.1 101 Switching Protocols\r\n\r\n{HIDDEN}");
    vec![
        refused("switch-unasked CVE-2026-2833", &switch, SIZED),
        refused("switch-bare CVE-2026-2833", &bare, SIZED),
        harmless("continue-unasked", &format!("HTTP/1.1 100 Continue\r\n\r\n{}", SIZED.0), SIZED),
    ]
}

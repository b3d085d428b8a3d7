//! Bodies and responses.

use http::Method;
use proxy::Class;
use proxy::head::Framing;

use super::{Case, Input, Then};

pub(crate) fn cases() -> Vec<Case> {
    [chunks(), bodies(), responses()].into_iter().flatten().collect()
}

fn body(class: Class, attack: bool, framing: Framing, bytes: &[u8]) -> Case {
    let then = if attack { Then::Refused } else { Then::Admitted };
    Case { class, attack, input: Input::Body(framing, bytes.to_vec()), then }
}

fn chunked(class: Class, attack: bool, bytes: &[u8]) -> Case {
    body(class, attack, Framing::Chunked, bytes)
}

fn chunks() -> Vec<Case> {
    use Class::*;
    let mut cases = Vec::new();
    for wrong in [
        &b"5\nhello\r\n0\r\n\r\n"[..],
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloo\r\n0\r\n\r\n",
        b"\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"g\r\n",
        b";a\r\n",
        b"5\rhello",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a=\"\r\nhello\r\n0\r\n\r\n",
        b"5;\x00\r\nhello\r\n0\r\n\r\n",
        b"10000000000000000\r\n",
        b"ffffffffffffffff\r\n",
        b"00000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5,5\r\nhello\r\n0\r\n\r\n",
    ] {
        cases.push(chunked(BadChunk, true, wrong));
    }
    for honest in [
        &b"5\r\nhello\r\n0\r\n\r\n"[..],
        b"0\r\n\r\n",
        b"005\r\nhello\r\nA;name=value;q=\"a;b\\\"c\"\r\n0123456789\r\n000\r\n\r\n",
    ] {
        cases.push(chunked(BadChunk, false, honest));
    }
    let extension = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(length - 1)).into_bytes();
    cases.push(chunked(ChunkExtensionTooLong, true, &extension(257)));
    cases.push(chunked(ChunkExtensionTooLong, false, &extension(256)));
    for wrong in [
        &b"0\r\nX: 1\n\r\n"[..],
        b"0\r\nX: 1\r\n\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n : 1\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nX: a\x00\r\n\r\n",
        b"0\r\nX: 1\r\n folded\r\n\r\n",
        b"0\r\n: 1\r\n\r\n",
    ] {
        cases.push(chunked(BadTrailer, true, wrong));
    }
    cases.push(chunked(BadTrailer, false, b"0\r\nGrpc-Status: 0\r\nGrpc-Message:\r\n\r\n"));
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Content-Type",
        "Content-Encoding",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "X-Forwarded-For",
        "Forwarded",
        "Cache-Control",
        "Range",
        "If-Match",
        "Proxy-Authorization",
        "X_User",
        "WWW-Authenticate",
        "Location",
        "Content.Length",
        "Transfer~Encoding",
    ] {
        cases.push(chunked(ForbiddenTrailer, true, format!("0\r\n{name}: 1\r\n\r\n").as_bytes()));
    }
    cases.push(chunked(
        ForbiddenTrailer,
        false,
        b"0\r\nETag: \"1\"\r\nServer-Timing: a\r\nContent-Digest: x\r\n\r\n",
    ));
    // A field line of n bytes and the empty line of two.
    let trailer = |bytes: usize| format!("0\r\nX: {}\r\n\r\n", "v".repeat(bytes - 7)).into_bytes();
    cases.push(chunked(TrailerTooLarge, true, &trailer(8193)));
    cases.push(chunked(TrailerTooLarge, false, &trailer(8192)));
    cases
}

fn bodies() -> Vec<Case> {
    use Class::*;
    let sized = |length: usize| format!("{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length)).into_bytes();
    vec![
        body(BodyTooLarge, true, Framing::Length(65), &[b'x'; 65]),
        body(BodyTooLarge, true, Framing::Length(u64::MAX), b"x"),
        body(BodyTooLarge, true, Framing::Close, &[b'x'; 65]),
        chunked(BodyTooLarge, true, &sized(65)),
        body(BodyTooLarge, false, Framing::Length(64), &[b'x'; 64]),
        body(BodyTooLarge, false, Framing::Close, &[b'x'; 64]),
        chunked(BodyTooLarge, false, &sized(64)),
        body(BodyTruncated, true, Framing::Length(5), b"hell"),
        chunked(BodyTruncated, true, b"5\r\nhello\r\n"),
        chunked(BodyTruncated, true, b"5\r\nhello\r\n0\r\n"),
        chunked(BodyTruncated, true, b"5\r\nhel"),
        body(BodyTruncated, false, Framing::Length(5), b"hello"),
        body(BodyTruncated, false, Framing::Close, b"hell"),
        body(BodyTruncated, false, Framing::None, b""),
    ]
}

fn response(class: Class, attack: bool, method: Method, head: &str) -> Case {
    let then = if attack { Then::Refused } else { Then::Admitted };
    Case { class, attack, input: Input::Response(method, format!("{head}\r\n\r\n").into_bytes()), then }
}

fn responses() -> Vec<Case> {
    use Class::*;
    let mut cases = Vec::new();
    let mut add = |class, attack, head: &str| cases.push(response(class, attack, Method::GET, head));
    for wrong in [
        "HTTP/1.1 200 OK\nContent-Length: 0",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 600 Far",
        "HTTP/1.1 099 Low",
        "HTTP/2.0 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 200 OK\r\nX: 1\r\n folded",
        "HTTP/1.1 200 OK\r\nContent-Length : 0",
        "HTTP/1.1 200 OK\r\nX: a\0b",
        "HTTP/1.1 200 OK\r\nX: a\rb",
    ] {
        add(BadResponseHead, true, wrong);
    }
    add(BadResponseHead, false, "HTTP/1.1 200 \r\nx_lower: 1\r\nContent-Length: 0");
    add(BadResponseHead, false, "HTTP/1.0 404 Not Found");
    add(ResponseHeadTooLarge, true, &format!("HTTP/1.1 200 OK\r\nX: {}", "v".repeat(64 * 1024)));
    let many = |count: usize| "\r\nX: 1".repeat(count);
    add(ResponseHeadTooLarge, true, &format!("HTTP/1.1 200 OK{}", many(101)));
    add(ResponseHeadTooLarge, false, &format!("HTTP/1.1 200 OK{}", many(100)));
    for wrong in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        "HTTP/1.1 200 OK\r\nContent-Length: +5",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 0",
        "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked",
    ] {
        add(BadResponseFraming, true, wrong);
    }
    for honest in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>",
    ] {
        add(BadResponseFraming, false, honest);
    }
    for wrong in [
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket",
        "HTTP/1.0 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket",
    ] {
        add(UnexpectedSwitch, true, wrong);
    }
    add(
        UnexpectedSwitch,
        false,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket",
    );
    for named in
        ["content-length", "set-cookie", "Transfer-Encoding", "content-type", "strict-transport-security"]
    {
        add(ProtectedResponseOption, true, &format!("HTTP/1.1 200 OK\r\nConnection: close, {named}"));
    }
    add(ProtectedResponseOption, false, "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1");
    cases
}

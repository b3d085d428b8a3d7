//! The table of changes: what a client can do to a request so that readers disagree.

use super::Random;
use super::generate::Draft;

type Change = fn(&mut Draft, &mut Random);

/// A request that must never arrive as one of its own.
const HIDDEN: &[u8] = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// Names of all changes.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    CHANGES.iter().map(|(name, _)| *name)
}

/// Every change by its name.
pub(super) const CHANGES: &[(&str, Change)] = &[
    // Lines
    ("line-end", |draft, random| draft.line_end = random.pick(ENDS, b"\n").to_vec()),
    ("field-end", |draft, random| {
        let at = random.below(draft.fields.len());
        if let Some(line) = draft.fields.get_mut(at) {
            line.end = random.pick(ENDS, b"\n").to_vec();
        }
    }),
    ("head-end", |draft, random| draft.head_end = random.pick(ENDS, b"\n").to_vec()),
    ("empty-lines-in-front", |draft, random| {
        let lines: &[u8] = random.pick(&[&b"\r\n\r\n"[..], b"\n", b"\r\n\n", b" \r\n", b"\r", b"\0"], b"\n");
        draft.method.splice(0..0, lines.iter().copied());
    }),
    // Request line
    ("spaces-in-line", |draft, random| {
        let space: &[u8] =
            random.pick(&[&b"  "[..], b"\t", b"\x0b", b"\x0c", b" \t", b"\r", b"\0", b""], b"  ");
        if random.one_in(2) {
            draft.before_target = space.to_vec();
        } else {
            draft.before_version = space.to_vec();
        }
    }),
    ("version", |draft, random| {
        draft.version = random.pick(VERSIONS, b"HTTP/1.2").to_vec();
    }),
    ("method", |draft, random| draft.method = random.pick(METHODS, b"get").to_vec()),
    // Target
    ("target-part", |draft, random| {
        let path = draft.target.iter().position(|&byte| byte == b'?').unwrap_or(draft.target.len());
        let slashes: Vec<usize> =
            (0..path).filter(|&at| draft.target.get(at) == Some(&b'/')).chain([path]).collect();
        let at = random.pick(&slashes, path);
        let part = random.pick(TARGET_PARTS, b"/../");
        draft.target.splice(at..at, part.iter().copied());
    }),
    ("target-form", |draft, random| draft.target = random.pick(TARGET_FORMS, b"*").to_vec()),
    ("query-part", |draft, random| {
        let part: &[u8] =
            random.pick(&[&b"?#/../x"[..], b"?\xc3\xa9", b"?a\x7f", b"?a\\..\\b", b"?\x01"], b"?#");
        draft.target.extend_from_slice(part);
    }),
    // Fields
    ("field-line", |draft, random| {
        let line = random.pick(FIELD_LINES, b"X : y");
        let at = random.below(draft.fields.len() + 1);
        let line = super::generate::Line {
            name: line.to_vec(),
            colon: Vec::new(),
            value: Vec::new(),
            end: b"\r\n".to_vec(),
        };
        draft.fields.insert(at, line);
    }),
    ("colon", |draft, random| {
        let at = random.below(draft.fields.len());
        if let Some(line) = draft.fields.get_mut(at) {
            line.colon =
                random.pick(&[&b" : "[..], b"\t:", b"", b"::", b"\0:", b":\r\n ", b" "], b" :").to_vec();
        }
    }),
    ("value", |draft, random| {
        let at = random.below(draft.fields.len());
        if let Some(line) = draft.fields.get_mut(at) {
            let part: &[u8] =
                random.pick(&[&b"\0"[..], b"\r", b"\n", b"\x0b", b"\x7f", b"\x1b", b"\r\n\tx"], b"\0");
            line.value.extend_from_slice(part);
            line.value.extend_from_slice(b"z");
        }
    }),
    ("no-host", |draft, _| draft.fields.retain(|line| !line.name.eq_ignore_ascii_case(b"host"))),
    ("two-hosts", |draft, random| {
        draft.push(b"Host", random.pick(&[&b"other.example.org"[..], b"shop.example.org", b""], b""));
    }),
    ("host", |draft, random| {
        let value = random.pick(HOSTS, b"a b");
        if let Some(line) = draft.field("host") {
            line.value = value.to_vec();
        }
    }),
    ("absolute-other-host", |draft, _| {
        let path = if draft.target.starts_with(b"/") { draft.target.clone() } else { b"/".to_vec() };
        draft.target = [b"http://other.example.org", path.as_slice()].concat();
    }),
    // Framing
    ("length-value", |draft, random| {
        let value = random.pick(LENGTHS, b"+5");
        draft.with_length(b"hello");
        if let Some(line) = draft.field("content-length") {
            line.value = value.to_vec();
        }
    }),
    ("two-lengths", |draft, random| {
        draft.with_length(b"hello");
        draft.push(b"Content-Length", random.pick(&[&b"5"[..], b"0", b"6", b""], b"0"));
    }),
    ("length-hides-request", |draft, random| {
        // One reader takes the request behind the head for a body, another one does not.
        draft.with_length(HIDDEN);
        let name: &[u8] = random.pick(
            &[&b"Content_Length"[..], b"Content-Length ", b"\x0bContent-Length", b"Content.Length"],
            b"",
        );
        if let Some(line) = draft.field("content-length") {
            line.name = name.to_vec();
        }
    }),
    ("length-and-chunks", |draft, random| {
        draft.with_chunks(&[b"0\r\n\r\n", HIDDEN].concat());
        let length: &[u8] = random.pick(&[&b"5"[..], b"0", b"39", b"1"], b"5");
        draft.push(b"Content-Length", length);
        if random.one_in(2) {
            draft.fields.reverse();
        }
    }),
    ("coding", |draft, random| {
        draft.with_chunks(b"5\r\nhello\r\n0\r\n\r\n");
        let value = random.pick(CODINGS, b"xchunked");
        if let Some(line) = draft.field("transfer-encoding") {
            line.value = value.to_vec();
        }
        if random.one_in(2) {
            draft.push(b"Content-Length", b"15");
        }
    }),
    ("coding-name", |draft, random| {
        draft.with_length(b"5\r\nhello\r\n0\r\n\r\n");
        draft.fields.push(super::generate::Line {
            name: random.pick(CODING_NAMES, b"Transfer_Encoding").to_vec(),
            colon: b": ".to_vec(),
            value: b"chunked".to_vec(),
            end: b"\r\n".to_vec(),
        });
    }),
    ("two-codings", |draft, random| {
        draft.with_chunks(b"5\r\nhello\r\n0\r\n\r\n");
        draft.push(b"Transfer-Encoding", random.pick(CODINGS, b"identity"));
    }),
    ("old-version-with-chunks", |draft, _| {
        draft.with_chunks(b"5\r\nhello\r\n0\r\n\r\n");
        draft.version = b"HTTP/1.0".to_vec();
        draft.push(b"Connection", b"keep-alive");
    }),
    ("body-short", |draft, random| {
        draft.with_length(b"hello");
        draft.body.truncate(random.below(5));
    }),
    ("body-long", |draft, _| {
        draft.with_length(b"hello");
        draft.body.extend_from_slice(HIDDEN);
    }),
    ("body-without-framing", |draft, _| {
        draft.unframe();
        draft.body = b"hello\r\n\r\n".to_vec();
    }),
    // Chunks
    ("chunk", |draft, random| draft.with_chunks(random.pick(CHUNKS, b"+5\r\nhello\r\n0\r\n\r\n"))),
    ("trailer", |draft, random| {
        let line = random.pick(TRAILERS, b"Host: b\r\n");
        draft.with_chunks(&[b"5\r\nhello\r\n0\r\n", line, b"\r\n"].concat());
    }),
    // Hop by hop
    ("connection", |draft, random| {
        draft.with_length(b"hello");
        draft.push(b"Connection", random.pick(OPTIONS, b"content-length"));
    }),
    ("upgrade", |draft, random| {
        draft.push(b"Connection", b"Upgrade");
        draft.push(b"Upgrade", random.pick(UPGRADES, b"websocket"));
        draft.body.extend_from_slice(HIDDEN);
    }),
    ("expect", |draft, random| {
        draft.with_length(b"hello");
        draft.push(
            b"Expect",
            random.pick(&[&b"100-continue, x"[..], b"200-ok", b"100-Continue", b"", b"100"], b""),
        );
    }),
    ("forwarding", |draft, random| {
        let (name, value) = random.pick(FORWARDING, ("X-Forwarded-For", "127.0.0.1"));
        draft.push(name.as_bytes(), value.as_bytes());
    }),
];

const ENDS: &[&[u8]] =
    &[b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\t", b"\0\r\n", b"\x0b\r\n", b" \n"];

const VERSIONS: &[&[u8]] = &[
    b"HTTP/1.2",
    b"HTTP/1.10",
    b"HTTP/2.0",
    b"http/1.1",
    b"HTTP/1",
    b"HTTP/01.1",
    b"HTTP/0.9",
    b"HTTP/1.1 ",
    b"HTTP/1.1\t",
    b"HTTP/1,1",
    b"HTTP / 1.1",
    b"HTTP/1.1 x",
    b"",
    b"ICY/1.1",
    b"HTTP/1.1\0",
    b"HTTP/+1.1",
    b"HTTP/3",
];

const METHODS: &[&[u8]] = &[
    b"get",
    b"Get",
    b"G\0ET",
    b"GET\t",
    b"",
    b"GET:",
    b"POST,GET",
    b"(GET)",
    b"TRACE",
    b"TRACK",
    b"CONNECT",
    b"PRI",
    b"GE\xffT",
    b"\x7fGET",
    b"POST\r",
    b"Post",
    b"M-SEARCH",
    b"PURGE",
];

const TARGET_PARTS: &[&[u8]] = &[
    b"/../",
    b"/./",
    b"//",
    b"/..;/",
    b"/.;x/",
    b"/;x/",
    b"/..;x=y/",
    b"/%2e%2e/",
    b"/%2E./",
    b"/.%2e/",
    b"/%252e%252e/",
    b"/%2f",
    b"/a%2f..%2fb",
    b"/%2F%2F",
    b"/%5c",
    b"/..%5c",
    b"\\",
    b"/..\\",
    b"/%00",
    b"\0",
    b"/%0a",
    b"/%0d%0aX:%20y",
    b"/%7f",
    b"/%zz",
    b"/%",
    b"/%u002e",
    b"/%c0%ae%c0%ae/",
    b"/%e0%80%af",
    b"/%ff",
    b"\xff",
    b"\xc3\xa9",
    b"#/x",
    b"%23",
    b"/%3f",
    b"/%3b",
    b"/..%3b/",
    b"/%252f",
    b"/%25%32%65/",
    b"/ /",
    b"\t",
    b"\x01",
    b"\x7f",
    b"/a|b",
    b"/a\"b",
    b"/<a>",
    b"/{a}",
    b"/[a]",
    b"/a^b`c",
    b"/%2e%2e%2f",
    b"/..%00/",
    b"/.../",
    b"/..%c0%af",
    b"/..%ef%bc%8f",
    b"/%uff0e",
    b"*",
];

const TARGET_FORMS: &[&[u8]] = &[
    b"*",
    b"a:80",
    b"a",
    b"",
    b"?x=1",
    b"#",
    b"ftp://a/",
    b"http:/a",
    b"http:///a",
    b"//other.example.org/x",
    b"/../../x",
    b"..",
    b"./x",
    b"\\x",
    b"http://a@b/x",
    b"http://a:99999/x",
    b"http://a b/x",
    b"HTTP://a/x",
    b"https://a/x",
    b"http://[::1]/x",
    b"http://[::1/x",
    b"http://a#b",
    b"http://a\\@b/x",
    b"http://a?x",
    b"http://",
    b"http://a/../x",
    b"javascript:x",
    b"/x HTTP/1.1\r\nX: y",
    b"@a/x",
    b":80/x",
];

const FIELD_LINES: &[&[u8]] = &[
    b"X",
    b": y",
    b" X: y",
    b"\tX: y",
    b"X Y: z",
    b"X(Y): z",
    b"X\0: y",
    b"X\xff: y",
    b"X_User: eve",
    b"X.User: eve",
    b"X-User\x0b: eve",
    b"\"X\": y",
    b"X@: y",
    b"X: y\r",
    b"X: \r\r\n z",
    b"X:y\0\r\nZ: a",
    b"X=y: z",
    b"\0",
    b"X\r: y",
    b"Content-Type: a\r\nContent-Type: b",
    b"Authorization: a\r\nauthorization: b",
    b"Cookie: a\r\nCookie: b",
    b"X-HTTP-Method-Override: DELETE",
    b"Content_Type: x",
    b"Proxy: http://evil.example.org",
    b"X: \x01",
    b"\xef\xbb\xbfX: y",
    b"Transfer-Encoding:\r\n chunked",
    b"Host\t: b",
    b"[X]: y",
    b"X/Y: z",
    b"X\\Y: z",
    b"{X}: y",
    b"Origin: a\r\nOrigin: b",
];

const HOSTS: &[&[u8]] = &[
    b"",
    b"a b",
    b"a,b",
    b"a/b",
    b"a?b",
    b"a#b",
    b"a@b",
    b"a:b",
    b"a:",
    b"a:0",
    b"a:65536",
    b"a:080",
    b"a:+80",
    b"a:80:80",
    b"[::1",
    b"::1",
    b"[::1]x",
    b"[::1]:80",
    b"[::ffff:1.2.3.4]",
    b"a..b",
    b".a",
    b"a.",
    b"A.EXAMPLE.org",
    b"a%41",
    b"a\\b",
    b"a\0b",
    b"a\tb",
    b"http://a",
    b"\"a\"",
    b"a;b",
    b"a'b",
    b"\xff",
    b"127.1",
    b"0x7f.1",
    b"a_b",
];

const LENGTHS: &[&[u8]] = &[
    b"+5",
    b"-5",
    b"5 5",
    b"5, 5",
    b"5,5",
    b"0x5",
    b"5.0",
    b"",
    b"5;",
    b"\"5\"",
    b"5\t6",
    b"5e0",
    b"05",
    b"005",
    b"5_0",
    b"18446744073709551621",
    b"99999999999999999999999999",
    b"\x0b5",
    b"5\x0b",
    b"\xef\xbc\x95",
    b"5\0",
    b"4294967301",
    b"five",
    b"5 ",
    b"\t5",
];

const CODINGS: &[&[u8]] = &[
    b"xchunked",
    b"chunkedx",
    b"chunked, identity",
    b"identity",
    b"gzip, chunked",
    b"chunked, gzip",
    b"chunked;q=1",
    b"\x0bchunked",
    b"chunked\x0b",
    b"\"chunked\"",
    b"'chunked'",
    b"chunked,",
    b", chunked",
    b"chunked, chunked",
    b"",
    b" ",
    b"chunk",
    b"chunked chunked",
    b"\0chunked",
    b"chunked\0",
    b"identity, chunked",
    b"CHUNKED",
    b"chunKed",
    b"cow",
    b"chunked\r\n x",
    b"deflate",
    b"trailers",
    b"chunked\xa0",
];

const CODING_NAMES: &[&[u8]] = &[
    b"Transfer_Encoding",
    b"Transfer-Encoding ",
    b"Transfer-Encoding\t",
    b" Transfer-Encoding",
    b"X: y\nTransfer-Encoding",
    b"X: y\rTransfer-Encoding",
    b"Transfer-Encoding\0",
    b"Transfer Encoding",
    b"Transfer-Encoding\x0b",
    b"Transfer.Encoding",
    b"TRANSFER-ENCODING",
    b"Transfer-Encod\xefng",
    b"Transfer-Encoding:",
    b"\0Transfer-Encoding",
    b"X: y\n\nTransfer-Encoding",
];

const CHUNKS: &[&[u8]] = &[
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\rhello\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhello\r\n\r\n0\r\n\r\n",
    b"5;\nhello\r\n0\r\n\r\n",
    b"5;a=\"\r\nhello\r\n0\r\n\r\n",
    b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b"5;\0\r\nhello\r\n0\r\n\r\n",
    b"5\t;a\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"100000005\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n-0\r\n\r\n",
    b"5\r\nhello\r\n0\n\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"5\r\nhello\r\n0 \r\n\r\n",
    b"5\r\nhello\r\n",
    b"5\r\nhello\r\n0\r\n",
    b"5\r\nhello\r\n0;\r\n\r\n",
    b"5\r\nhello\r\n00000000000000000000\r\n\r\n",
    b"g\r\nhello\r\n0\r\n\r\n",
    b"\r\n5\r\nhello\r\n0\r\n\r\n",
    b"5\r\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\r\n0\r\n\r\n",
    b"0005;x\n\r\nhello\r\n0\r\n\r\n",
    b"5,5\r\nhello\r\n0\r\n\r\n",
    b"5 ;a\r\nhello\r\n0\r\n\r\n",
    b"5;a=b;\x0bc\r\nhello\r\n0\r\n\r\n",
    b"2;\nxx\r\n4c\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0\r\n\r\n",
    b"5;a=\"b\nc\"\r\nhello\r\n0\r\n\r\n",
];

const TRAILERS: &[&[u8]] = &[
    b"Host: b\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Authorization: x\r\n",
    b"X: y\n",
    b"X\r\n",
    b" X: y\r\n",
    b"X : y\r\n",
    b"X_Y: z\r\n",
    b"X: \0\r\n",
    b"Connection: close\r\n",
    b"X: y\r\n z\r\n",
    b": y\r\n",
    b"X: y\rZ: a\r\n",
    b"X-Bastide-Identity: eve\r\n",
    b"X-Forwarded-For: 127.0.0.1\r\n",
    b"Expect: 100-continue\r\n",
    b"\n",
];

const OPTIONS: &[&[u8]] = &[
    b"content-length",
    b"Content-Length, close",
    b"host",
    b"transfer-encoding",
    b"authorization",
    b"cookie",
    b"x-forwarded-for",
    b"keep-alive, x-bastide-identity",
    b"connection",
    b"close, \0",
    b"cl ose",
    b"x-hop",
    b"te",
    b"Keep-Alive, Host",
    b"content-type",
    b"upgrade",
    b",",
    b"\"content-length\"",
    b"content_length",
];

const UPGRADES: &[&[u8]] = &[
    b"websocket",
    b"h2c",
    b"websocket, h2c",
    b"",
    b"TLS/1.0",
    b"WebSocket",
    b"websocket\0",
    b"HTTP/2.0",
    b"web socket",
];

const FORWARDING: &[(&str, &str)] = &[
    ("X-Forwarded-For", "127.0.0.1"),
    ("Forwarded", "for=127.0.0.1;host=admin"),
    ("X-Real-IP", "127.0.0.1"),
    ("X-Forwarded-Host", "admin.example.org"),
    ("X_Forwarded_For", "127.0.0.1"),
    ("X-Original-URL", "/admin"),
    ("X-Rewrite-URL", "/admin"),
    ("X-Bastide-Identity", "eve"),
    ("X.Forwarded.Proto", "https"),
];

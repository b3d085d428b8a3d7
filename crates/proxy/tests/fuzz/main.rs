//! The stable stand-in of the fuzzers in `fuzz/`: each property on mutations of a small
//! corpus, the same ones on every run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is the report"
)]
#![allow(unreachable_pub, reason = "the fuzzers outside of the workspace use the properties too")]

mod properties;
mod router;

/// Mutations per seed.
const ROUNDS: usize = 1500;

/// Inputs that reach far into each property, as seeds for mutations.
fn corpus(property: &str) -> &'static [&'static [u8]] {
    match property {
        "head" => &[
            b"\x02GET /a/b?c=d HTTP/1.1\r\nHost: shop.example.org:8443\r\nAccept: */*\r\nX-Y: 1\r\n\r\nGET / HTTP/1.1\r\n",
            b"\x00\r\nPOST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
            b"\x1eGET http://a/%2e%2e/x HTTP/1.1\nHost: a\r\n X: 1\r\n\r\n",
        ],
        "response" => &[
            b"\x03HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\r\nhello",
            b"\x01HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"\x07HTTP/1.0 304 Not Modified\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        ],
        "chunk" => &[
            b"\x025\r\nhello\r\n1a;name=\"va\\\"lue\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\nGET /",
            b"\x003\r\nabc\r\n0\r\nGrpc-Status: 0\r\nGrpc-Message: no\r\n\r\nrest",
            b"\x0affffffffffffffff\r\n",
        ],
        "admit" => &[
            b"GET\n/a/%2e%2E/b//c;d/%41?e=f&g=%00\nShop.Example.org.:80\naccept: */*\nte: trailers\nx-user: eve",
            b"POST\n/packages/@scope%2fname/..%3b/%c0%ae\n[2001:db8::1]:443\nexpect: 100-continue\ncontent-length: 5",
            b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x-hop\r\nUpgrade: websocket\r\nX-Hop: 1\r\n\r\n",
            b"DELETE\n/a[0]|b/./..;/%252e\na_b\nx-forwarded-for: 1\ncookie: a\ncookie: b\nauthorization: c",
            b"GET\n/a/%25%32%65/b\na\nx: 1",
            b"GET /a/%25%32%65/b HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
        _ => &[
            b"a.example.org/x/{id}/**\n*.example.org/x/y\n/x/**\nGET /x/y\nPOST,PUT *.org/{a}/{b}\n/**\n\nGET a.example.org /x/y/z",
            b"/\n/{a}/\n/{a}/b\n/a/{b}\n/a/b\nGET /a/**\n\nGET b /a/b",
            b"/packages/{name}\nPOST /packages/**\n\nGET a.b.c /packages/%41%2fb",
        ],
    }
}

/// A small generator (SplitMix64), so that every run does the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Pieces that parsers stumble over.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"/",
    b"//",
    b"/../",
    b"/..;/",
    b"%2e",
    b"%2f",
    b"%25",
    b"%00",
    b"%c3%a9",
    b";",
    b"?",
    b"#",
    b"\\",
    b"\0",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"{a}",
];

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] = random.next() as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.drain(at..(at + random.below(8)).min(bytes.len()))),
            3 => {
                let end = (at + random.below(24)).min(bytes.len());
                let copied = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copied);
            }
            4 => bytes.truncate(at.max(1)),
            _ => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
        }
    }
    bytes
}

fn smoke(property: &str) {
    let run = properties::ALL.iter().find(|(name, _)| *name == property).unwrap().1;
    let mut random = Random(1);
    for seed in corpus(property) {
        run(seed);
        for _ in 0..ROUNDS {
            let input = mutate(seed, &mut random);
            if std::panic::catch_unwind(|| run(&input)).is_err() {
                panic!("{property} fails on b\"{}\"", input.escape_ascii());
            }
        }
    }
}

#[test]
fn fuzz_smoke_head() {
    smoke("head");
}

#[test]
fn fuzz_smoke_response() {
    smoke("response");
}

#[test]
fn fuzz_smoke_chunk() {
    smoke("chunk");
}

#[test]
fn fuzz_smoke_admit() {
    smoke("admit");
}

#[test]
fn fuzz_smoke_router() {
    smoke("router");
}

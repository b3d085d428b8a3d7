//! The stable stand-in of the fuzzer: mutations of a small corpus, the same ones on every
//! run.

const SEEDS: &[&[u8]] = &[
    b"client_id=web&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&scope=openid+email&resource=https://a.example/",
    b"redirect_uri=http://127.0.0.1:51004/cb&scope=a&claims={\"id_token\":{\"acr\":{\"essential\":true,\"values\":[\"2\"]}}}",
    b"claims=%7B%22userinfo%22%3A%7B%22email%22%3Anull%7D%7D&scope=%00&redirect_uri=http://127.0.0.1:1@x/cb",
];

const COOKIES: &[&[u8]] = &[
    b"__Host-shop-session=a.b; __Host-shop-known=x~1~y; theme=dark",
    b"a=1; a=2\n__Host-shop-flow=b;;=; c\n\xff=1",
];

#[test]
fn fuzz_smoke_requests() {
    smoke(identity::fuzz::request, SEEDS, b"%&=+:/@#?\"{");
}

#[test]
fn fuzz_smoke_cookies() {
    smoke(identity::fuzz::cookies, COOKIES, b"=;, \n\0\"_\xff");
}

fn smoke(run: fn(&[u8]), seeds: &[&[u8]], put: &[u8]) {
    let mut state = 1_u64;
    let mut below = |end: usize| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    };
    for seed in seeds {
        run(seed);
        for _ in 0..3000 {
            let mut bytes = seed.to_vec();
            for _ in 0..=below(4) {
                if bytes.is_empty() {
                    break;
                }
                let at = below(bytes.len());
                match below(4) {
                    0 => bytes[at] = below(256) as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, put[below(put.len())]),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            run(&bytes);
        }
    }
}

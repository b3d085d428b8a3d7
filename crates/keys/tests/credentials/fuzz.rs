//! The stable stand-ins of the fuzzers of tokens and key sets: mutations of a small
//! corpus, the same ones on every run.

use keys::fuzz::{introspection, key_set, proof, token};

use crate::dpop::EXAMPLE;

/// Mutations per seed.
const ROUNDS: usize = 3000;

const TOKENS: &[&[u8]] = &[
    // RFC 8037 §A.4.
    b"\x00eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    b"\x01{\"alg\":\"EdDSA\",\"kid\":\"a\",\"typ\":\"at+jwt\"}\n{\"iss\":\"https://id.example.org\",\"exp\":1795384267}\n0123456789",
    b"\x01{\"alg\":\"none\",\"crit\":[\"b64\"],\"b64\":false}\n{\"iss\":1,\"iss\":\"a\"}\n",
    b"\x01{\"alg\":\"HS256\",\"jwk\":{},\"zip\":\"DEF\"}\n[[[[[[[[\nx",
];

const KEY_SETS: &[&[u8]] = &[
    br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    br#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","alg":"ES256"}"#,
    br#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"oct","k":"AA"},{"kid":1}]}"#,
    b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n",
];

const ANSWERS: &[&[u8]] = &[
    br#"{"active":true,"sub":"alice","client_id":"web","aud":"orders","iss":"https://id.example.org","exp":1795384300}"#,
    br#"{"active":true,"aud":["orders","payments"],"client_id":"importer","scope":"a b","cnf":{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}"#,
    br#"{"active":false,"aud":"orders","active":true}"#,
];

/// A small generator (SplitMix64), so that every run does the same.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }
}

fn smoke(run: fn(&[u8]), seeds: &[&[u8]]) {
    let mut random = Random(1);
    for seed in seeds {
        run(seed);
        for _ in 0..ROUNDS {
            let mut bytes = seed.to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..(at + random.below(6)).min(bytes.len()))),
                    2 => bytes.insert(at, b"\"{}[]:,.=\n0a-_\\"[random.below(15)]),
                    _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                    _ => {}
                }
            }
            run(&bytes);
        }
    }
}

#[test]
fn fuzz_smoke_token() {
    smoke(token, TOKENS);
}

#[test]
fn fuzz_smoke_key_set() {
    smoke(key_set, KEY_SETS);
}

#[test]
fn fuzz_smoke_proofs() {
    let example = format!("\0{EXAMPLE}");
    let open = b"\x01{\"typ\":\"dpop+jwt\",\"alg\":\"ES256\",\"jwk\":{\"kty\":\"EC\"}}\n{\"htm\":\"POST\",\"iat\":1}\nx";
    smoke(proof, &[example.as_bytes(), open]);
}

#[test]
fn fuzz_smoke_introspection_answers() {
    smoke(introspection, ANSWERS);
}

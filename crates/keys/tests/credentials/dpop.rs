//! DPoP proofs: the example of RFC 9449, and what a thief or a careless client sends.

use keys::dpop::{Expected, PROOF_AGE_MAX, PROOF_AHEAD_MAX, PROOF_BYTES_MAX, Proof};
use keys::encoding::encode_base64url;
use keys::{Algorithm, LocalSigner, Signer, thumbprint};
use model::Timestamp;
use serde_json::{Value, json};

use crate::support::{NOW_SECONDS, now, signer};

/// RFC 9449 §4.1.
pub(crate) const EXAMPLE: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

fn expected() -> Expected<'static> {
    Expected { method: "POST", url: "https://server.example.com/token", access_token: None, now: now() }
}

fn proof(signer: &dyn Signer, header: Value, claims: Value) -> String {
    let mut jwk = signer.public_jwk();
    for name in ["kid", "use"] {
        jwk.as_object_mut().unwrap().remove(name);
    }
    let mut whole = json!({ "typ": "dpop+jwt", "alg": signer.algorithm().name(), "jwk": jwk });
    for (name, value) in header.as_object().unwrap() {
        match value {
            Value::Null => drop(whole.as_object_mut().unwrap().remove(name)),
            value => whole[name] = value.clone(),
        }
    }
    let mut body =
        json!({ "htm": "POST", "htu": "https://server.example.com/token", "iat": NOW_SECONDS, "jti": "1" });
    for (name, value) in claims.as_object().unwrap() {
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(name)),
            value => body[name] = value.clone(),
        }
    }
    let input = [whole, body].map(|part| encode_base64url(part.to_string().as_bytes())).join(".");
    let signature = encode_base64url(&signer.sign(input.as_bytes()).unwrap());
    format!("{input}.{signature}")
}

#[test]
fn the_specifications_example_is_a_proof() {
    let now = Timestamp::from_unix_seconds(1_562_262_616);
    let found = Proof::verify(EXAMPLE.as_bytes(), Expected { now, ..expected() }).unwrap();
    assert_eq!(found.thumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    assert_eq!((found.id.as_str(), found.issued, found.nonce), ("-BwC3ESc6acc2lTc", now, None));
    assert!(Proof::verify(EXAMPLE.as_bytes(), expected()).unwrap_err().contains("iat"), "years old");
    let mut tampered = EXAMPLE.to_owned();
    tampered.replace_range(EXAMPLE.len() - 4.., "AAAA");
    assert!(Proof::verify(tampered.as_bytes(), Expected { now, ..expected() }).is_err());
}

#[test]
fn each_kind_of_key_proves_and_is_named_by_its_thumbprint() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let signer = signer(algorithm);
        let found = Proof::verify(proof(&signer, json!({}), json!({})).as_bytes(), expected()).unwrap();
        assert_eq!(found.thumbprint, signer.key_id(), "{algorithm}");
        assert_eq!(thumbprint(signer.public_jwk().as_object().unwrap()).as_deref(), Some(signer.key_id()));
    }
}

#[test]
fn a_proof_is_for_one_request_and_one_token() {
    let signer = signer(Algorithm::Es256);
    let ath = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";
    let token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    let judge = |header: Value, claims: Value, expected: Expected<'_>| {
        Proof::verify(proof(&signer, header, claims).as_bytes(), expected)
    };
    let with_token = Expected { access_token: Some(token), ..expected() };
    // RFC 9449 §7.1's own token and hash.
    assert!(judge(json!({}), json!({ "ath": ath }), with_token).is_ok());
    for (name, url) in [
        ("query", "https://server.example.com/token?a=b#c"),
        ("case", "HTTPS://Server.Example.com/token"),
        ("port", "https://server.example.com:443/token"),
    ] {
        assert!(judge(json!({}), json!({ "htu": url }), expected()).is_ok(), "{name}");
    }
    for (why, header, claims, expected) in [
        ("another method", json!({}), json!({ "htm": "GET" }), expected()),
        ("the method's case", json!({}), json!({ "htm": "post" }), expected()),
        ("another host", json!({}), json!({ "htu": "https://evil.example/token" }), expected()),
        ("another path", json!({}), json!({ "htu": "https://server.example.com/tokens" }), expected()),
        ("another scheme", json!({}), json!({ "htu": "http://server.example.com/token" }), expected()),
        ("another port", json!({}), json!({ "htu": "https://server.example.com:80/token" }), expected()),
        ("no address", json!({}), json!({ "htu": "/token" }), expected()),
        ("no hash", json!({}), json!({}), with_token),
        ("another token", json!({}), json!({ "ath": ath.replace('f', "g") }), with_token),
        ("no jti", json!({}), json!({ "jti": null }), expected()),
        ("an empty jti", json!({}), json!({ "jti": "" }), expected()),
        ("a jti of a number", json!({}), json!({ "jti": 1 }), expected()),
        ("a long jti", json!({}), json!({ "jti": "x".repeat(257) }), expected()),
        ("no iat", json!({}), json!({ "iat": null }), expected()),
        ("a nonce of a number", json!({}), json!({ "nonce": 1 }), expected()),
        ("another type", json!({ "typ": "JWT" }), json!({}), expected()),
        ("no type", json!({ "typ": null }), json!({}), expected()),
        ("no key", json!({ "jwk": null }), json!({}), expected()),
        ("a list for a key", json!({ "jwk": [] }), json!({}), expected()),
        ("no algorithm", json!({ "alg": "none" }), json!({}), expected()),
        ("a shared secret", json!({ "alg": "HS256" }), json!({}), expected()),
        ("another algorithm", json!({ "alg": "EdDSA" }), json!({}), expected()),
        ("a critical extension", json!({ "crit": ["x"] }), json!({}), expected()),
    ] {
        assert!(judge(header, claims, expected).is_err(), "{why}");
    }
}

#[test]
fn a_proof_brings_a_public_key_that_signed_it() {
    let (mine, other) = (signer(Algorithm::Es256), signer(Algorithm::Es256));
    let mut jwk = other.public_jwk();
    assert!(Proof::verify(proof(&mine, json!({ "jwk": jwk }), json!({})).as_bytes(), expected()).is_err());
    jwk = mine.public_jwk();
    assert!(Proof::verify(proof(&mine, json!({ "jwk": jwk }), json!({})).as_bytes(), expected()).is_ok());
    jwk["d"] = json!("AAAA");
    let private = proof(&mine, json!({ "jwk": jwk }), json!({}));
    assert!(Proof::verify(private.as_bytes(), expected()).unwrap_err().contains("secret"));
    let symmetric = json!({ "kty": "oct", "k": "AAAA" });
    assert!(
        Proof::verify(proof(&mine, json!({ "jwk": symmetric }), json!({})).as_bytes(), expected()).is_err()
    );
}

#[test]
fn a_proof_is_fresh_and_short() {
    let signer: LocalSigner = signer(Algorithm::EdDsa);
    let at = |seconds: u64| {
        let text = proof(&signer, json!({}), json!({ "iat": seconds }));
        Proof::verify(text.as_bytes(), expected()).is_ok()
    };
    assert!(at(NOW_SECONDS - PROOF_AGE_MAX.as_secs()) && at(NOW_SECONDS + PROOF_AHEAD_MAX.as_secs()));
    assert!(!at(NOW_SECONDS - PROOF_AGE_MAX.as_secs() - 1));
    assert!(!at(NOW_SECONDS + PROOF_AHEAD_MAX.as_secs() + 1));
    let long = proof(&signer, json!({}), json!({ "x": "x".repeat(PROOF_BYTES_MAX) }));
    assert!(Proof::verify(long.as_bytes(), expected()).unwrap_err().contains("bytes"));
}

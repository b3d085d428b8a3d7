//! `jsonwebtoken`, an implementation that we did not write, signs what we verify and
//! verifies what we sign.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use keys::jws::Unverified;
use keys::{Algorithm, KeySet, Refusal, Signer as _, SystemRandom, sign_token};
use serde_json::{Map, Value, json};

use crate::support::{AUDIENCE, claims, signer};

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn their_name(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    algorithm.name().parse().unwrap()
}

struct Made {
    jwk: Value,
    key: EncodingKey,
}

fn rsa() -> (Value, Vec<u8>) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let document: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
    // jsonwebtoken wants the PKCS #1 key: what the PKCS #8 document wraps.
    let (_, info) = x509_parser::der_parser::parse_der(document.as_ref()).unwrap();
    let inner = info.as_sequence().unwrap()[2].as_slice().unwrap().to_vec();
    let (_, parts) = x509_parser::der_parser::parse_der(&inner).unwrap();
    let number = |place: usize| {
        let bytes = parts.as_sequence().unwrap()[place].as_slice().unwrap();
        base64url(&bytes[bytes.iter().take_while(|byte| **byte == 0).count()..])
    };
    (json!({ "kty": "RSA", "n": number(1), "e": number(2) }), inner)
}

fn made(algorithm: Algorithm, rsa: &(Value, Vec<u8>)) -> Made {
    let random = SystemRandom::new();
    let elliptic = |scheme, curve: &str, bytes: usize| {
        let document = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(scheme, document.as_ref()).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = (base64url(&point[..bytes]), base64url(&point[bytes..]));
        Made {
            jwk: json!({ "kty": "EC", "crv": curve, "x": x, "y": y }),
            key: EncodingKey::from_ec_der(document.as_ref()),
        }
    };
    let mut made = match algorithm {
        Algorithm::Es256 => elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32),
        Algorithm::Es384 => elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48),
        Algorithm::EdDsa => {
            let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
            let x = base64url(pair.public_key().as_ref());
            Made {
                jwk: json!({ "kty": "OKP", "crv": "Ed25519", "x": x }),
                key: EncodingKey::from_ed_der(document.as_ref()),
            }
        }
        _ => Made { jwk: rsa.0.clone(), key: EncodingKey::from_rsa_der(&rsa.1) },
    };
    made.jwk["kid"] = json!("k1");
    made.jwk["alg"] = json!(algorithm.name());
    made
}

fn their_token(algorithm: jsonwebtoken::Algorithm, key: &EncodingKey, claims: &Map<String, Value>) -> String {
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

fn set(jwk: &Value) -> KeySet {
    let document = json!({ "keys": [jwk] }).to_string();
    KeySet::parse(document.as_bytes(), &Algorithm::ALL).unwrap().0
}

fn verify(set: &KeySet, token: &str) -> Result<(), Refusal> {
    set.verify(Unverified::parse(token.as_bytes())?, "test").map(drop)
}

/// ES512 is not in the list because `jsonwebtoken` does not have it; Wycheproof and
/// the round trip of the library stand for it.
const THEIRS: [Algorithm; 9] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

#[test]
fn verifies_what_jsonwebtoken_signs_and_nothing_beside_it() {
    let rsa = rsa();
    for algorithm in THEIRS {
        let made = made(algorithm, &rsa);
        let token = their_token(their_name(algorithm), &made.key, &claims());
        let set = set(&made.jwk);
        assert_eq!(verify(&set, &token), Ok(()), "{algorithm}");

        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for place in [0, bytes.len() / 2, bytes.len() - 1] {
            bytes[place] ^= 1;
            let changed = format!("{message}.{}", base64url(&bytes));
            assert_eq!(verify(&set, &changed), Err(Refusal::Signature), "{algorithm} {place}");
            bytes[place] ^= 1;
        }
        let empty = format!("{message}.");
        assert_eq!(verify(&set, &empty), Err(Refusal::Signature), "{algorithm}");
    }
}

#[test]
fn the_key_decides_the_algorithm_and_the_header_only_agrees() {
    let rsa = rsa();
    for bound in THEIRS.into_iter().filter(|algorithm| algorithm.name().ends_with("256")) {
        let of_key = made(bound, &rsa);
        let set = set(&of_key.jwk);
        for asked in THEIRS.into_iter().filter(|asked| *asked != bound) {
            // For RSA the very same private key signs with another algorithm.
            let token = their_token(their_name(asked), &made(asked, &rsa).key, &claims());
            let refusal = Refusal::AlgorithmOfKey { expected: bound, found: asked };
            assert_eq!(verify(&set, &token), Err(refusal), "{bound} {asked}");
        }
    }
}

#[test]
fn hmac_with_the_public_key_and_none_are_impossible() {
    let rsa = rsa();
    let made = made(Algorithm::Rs256, &rsa);
    let public = made.jwk.to_string();
    let secrets = [public.as_bytes(), made.jwk["n"].as_str().unwrap().as_bytes(), b""];
    for algorithm in ["HS256", "HS384", "HS512"] {
        for secret in secrets {
            let key = EncodingKey::from_secret(secret);
            let token = their_token(algorithm.parse().unwrap(), &key, &claims());
            let refusal = Refusal::AlgorithmUnknown { found: algorithm.to_owned() };
            assert_eq!(verify(&set(&made.jwk), &token), Err(refusal));
        }
    }
    let body = base64url(Value::Object(claims()).to_string().as_bytes());
    for none in ["none", "None", "NONE", "nOnE", "", "none\0"] {
        let header = base64url(json!({ "alg": none, "kid": "k1" }).to_string().as_bytes());
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{body}.{signature}");
            let found = verify(&set(&made.jwk), &token);
            assert!(matches!(found, Err(Refusal::AlgorithmUnknown { .. })), "{none:?} {found:?}");
        }
    }
}

#[test]
fn jsonwebtoken_verifies_what_we_sign() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let signer = signer(algorithm);
        let token = sign_token(&signer, "at+jwt", &claims()).unwrap();
        let jwk = serde_json::from_value(signer.public_jwk()).unwrap();
        let mut validation = Validation::new(their_name(algorithm));
        validation.set_audience(&[AUDIENCE]);
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let data = jsonwebtoken::decode::<Map<String, Value>>(&token, &key, &validation).unwrap();
        assert_eq!(data.claims, claims());
        assert_eq!(data.header.kid.as_deref(), Some(signer.key_id()));
        assert_eq!(data.header.typ.as_deref(), Some("at+jwt"));
    }
}

//! The little of JOSE that the demo's forger, its sceptic and its owners of keys need. It
//! shares nothing with the gateway's own token code on purpose: what this writes and
//! the gateway reads, or the other way round, was written twice.

use anyhow::{Context, bail};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A P-256 key that signs with ES256 (RFC 7518 §3.4).
pub(crate) struct SigningKey {
    pair: EcdsaKeyPair,
    kid: String,
}

impl SigningKey {
    /// A fresh key that calls itself `kid`.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub(crate) fn generate(kid: &str) -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("cannot make a key")?;
        Ok(Self { pair, kid: kid.to_owned() })
    }

    /// The public half as a JWK (RFC 7517, RFC 7518 §6.2).
    pub(crate) fn public_jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        // Uncompressed: 0x04, 32 bytes of x, 32 bytes of y (SEC 1 §2.3.3).
        let x = point.get(1..33).unwrap_or_default();
        let y = point.get(33..65).unwrap_or_default();
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
                "x": encode(x), "y": encode(y) })
    }

    /// A signed token with these claims.
    ///
    /// # Errors
    /// The signature could not be made.
    pub(crate) fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let text = signing_input(&json!({ "alg": "ES256", "typ": "at+jwt", "kid": self.kid }), claims);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), text.as_bytes())
            .context("cannot sign with the demo's key")?;
        Ok(format!("{text}.{}", encode(signature.as_ref())))
    }
}

/// A proof of possession (DPoP, RFC 9449 §4.2) for one request with one access token.
pub(crate) struct Proof<'p> {
    /// The request's method.
    pub(crate) method: &'p str,
    /// Its address without the query.
    pub(crate) url: &'p str,
    /// The access token that it comes with; none at the token endpoint.
    pub(crate) token: Option<&'p str>,
    /// The proof's own name.
    pub(crate) id: &'p str,
    /// Now, Unix seconds.
    pub(crate) seconds: u64,
}

impl SigningKey {
    /// A proof by this key.
    ///
    /// # Errors
    /// The signature could not be made.
    pub(crate) fn prove(&self, proof: &Proof<'_>) -> anyhow::Result<String> {
        let mut jwk = self.public_jwk();
        if let Some(members) = jwk.as_object_mut() {
            members.retain(|name, _| !matches!(name.as_str(), "kid" | "use" | "alg"));
        }
        let mut claims =
            json!({ "htm": proof.method, "htu": proof.url, "jti": proof.id, "iat": proof.seconds });
        if let (Some(token), Some(claims)) = (proof.token, claims.as_object_mut()) {
            let hash = encode(digest(&SHA256, token.as_bytes()).as_ref());
            claims.insert("ath".to_owned(), json!(hash));
        }
        let text = signing_input(&json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": jwk }), &claims);
        let signed = self.pair.sign(&SystemRandom::new(), text.as_bytes());
        let signature = signed.context("cannot sign with the demo's key")?;
        Ok(format!("{text}.{}", encode(signature.as_ref())))
    }
}

/// A token that nobody signed: `alg: none` (RFC 7518 §3.6).
pub(crate) fn unsigned(claims: &Value) -> String {
    format!("{}.", signing_input(&json!({ "alg": "none", "typ": "at+jwt" }), claims))
}

/// A token signed with HS256 under `secret`: what a forger sends who hopes that the
/// verifier takes the issuer's *public* key for a shared secret.
pub(crate) fn hs256(kid: &str, secret: &[u8], claims: &Value) -> String {
    let text = signing_input(&json!({ "alg": "HS256", "typ": "at+jwt", "kid": kid }), claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", encode(tag.as_ref()))
}

/// `token` with its claims changed and its signature left as it was.
///
/// # Errors
/// `token` is not a token.
pub(crate) fn tampered(token: &str, change: impl FnOnce(&mut Value)) -> anyhow::Result<String> {
    let [header, _, signature] = parts(token)?;
    let mut claims = claims(token)?;
    change(&mut claims);
    Ok(format!("{header}.{}.{signature}", encode(claims.to_string().as_bytes())))
}

/// The claims of a token, unverified.
///
/// # Errors
/// `token` is not a token.
pub(crate) fn claims(token: &str) -> anyhow::Result<Value> {
    let [_, claims, _] = parts(token)?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?)
}

/// The `kid` of a token.
///
/// # Errors
/// `token` is not a token, or names no key.
pub(crate) fn key_id(token: &str) -> anyhow::Result<String> {
    let [header, ..] = parts(token)?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    Ok(header.get("kid").and_then(Value::as_str).context("the token names no key")?.to_owned())
}

/// Verifies a token with the key of its `kid` in a JWK set, by ES256 or EdDSA
/// (RFC 8037), and gives its claims back. Only the signature is checked.
///
/// # Errors
/// It is signed by another algorithm, the set has no such key, or the signature is not
/// by it.
pub(crate) fn verify(jwks: &Value, token: &str) -> anyhow::Result<Value> {
    let [header, payload, signature] = parts(token)?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    let kid = header.get("kid").context("the token names no key")?;
    let keys = jwks.get("keys").and_then(Value::as_array).context("not a JWK set")?;
    let key = keys.iter().find(|key| key.get("kid") == Some(kid)).context("no published key has its kid")?;
    let coordinate = |name: &str| -> anyhow::Result<Vec<u8>> {
        let text = key.get(name).and_then(Value::as_str).context("the key is not whole")?;
        Ok(URL_SAFE_NO_PAD.decode(text)?)
    };
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    let input = token.rsplit_once('.').map(|(input, _)| input).unwrap_or_default().as_bytes();
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    let verified = match algorithm {
        "ES256" => {
            let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(input, &signature)
        }
        "EdDSA" | "Ed25519" => UnparsedPublicKey::new(&ED25519, coordinate("x")?).verify(input, &signature),
        other => bail!("expected a signature by ES256 or EdDSA, found alg {other:?}"),
    };
    verified.context("the signature is not by the published key")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?)
}

fn parts(token: &str) -> anyhow::Result<[&str; 3]> {
    let parts: Vec<&str> = token.split('.').collect();
    <[&str; 3]>::try_from(parts).map_err(|found| {
        anyhow::anyhow!("expected a compact token of three parts, found {} of them", found.len())
    })
}

fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_verifies_and_what_is_tampered_with_does_not() {
        let key = SigningKey::generate("k1").unwrap();
        let jwks = json!({ "keys": [key.public_jwk()] });
        let token = key.sign(&json!({ "sub": "alice" })).unwrap();
        assert_eq!(verify(&jwks, &token).unwrap(), json!({ "sub": "alice" }));

        let forged = tampered(&token, |claims| claims["sub"] = json!("bob")).unwrap();
        assert_eq!(claims(&forged).unwrap(), json!({ "sub": "bob" }));
        assert!(verify(&jwks, &forged).is_err());

        let other = SigningKey::generate("k1").unwrap().sign(&json!({ "sub": "alice" })).unwrap();
        assert!(verify(&jwks, &other).is_err());
        assert!(verify(&jwks, &unsigned(&json!({ "sub": "alice" }))).is_err());
        assert!(verify(&jwks, &hs256("k1", b"secret", &json!({ "sub": "alice" }))).is_err());
    }
}

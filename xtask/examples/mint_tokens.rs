//! Signs the tokens of the whole-way benchmark: a JWKS with one ES256 key, and files of
//! lines `PATH TOKEN`. A program of its own, so that xtask itself needs no cryptography.
//!
//! Usage: `mint_tokens FOLDER ISSUER AUDIENCE ROUTES FILE=COUNT…`

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::SystemTime;

/// Tokens outlive any benchmark.
const LIFETIME_SECONDS: u64 = 24 * 3_600;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("expected {what}"));
    let folder = PathBuf::from(next("FOLDER")?);
    let (issuer, audience) = (next("ISSUER")?, next("AUDIENCE")?);
    let routes: u64 = next("ROUTES")?.parse()?;

    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    // An uncompressed point: 4, then 32 bytes of x and 32 of y.
    let point = key.public_key().as_ref();
    let coordinate =
        |range: std::ops::Range<usize>| point.get(range).map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let jwks = serde_json::json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench",
        "x": coordinate(1..33).context("a P-256 point has 65 bytes")?,
        "y": coordinate(33..65).context("a P-256 point has 65 bytes")?,
    }]});
    std::fs::write(folder.join("jwks.json"), jwks.to_string())?;

    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"ES256","kid":"bench","typ":"at+jwt"}"#);
    #[expect(clippy::disallowed_methods, reason = "tokens are issued now")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut serial = 0_u64;
    for file in arguments {
        let (name, count) = file.split_once('=').context("expected FILE=COUNT")?;
        let mut lines = String::new();
        for number in 0..count.parse::<u64>()? {
            serial += 1;
            let subject = format!("user-{}", number % 1_000);
            let claims = serde_json::json!({
                "iss": issuer, "aud": audience, "sub": subject, "client_id": "bench-app", "scope": "orders:read",
                "iat": now, "nbf": now, "exp": now + LIFETIME_SECONDS, "jti": serial.to_string(), "roles": ["customer"],
            });
            let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
            let signature = key.sign(&random, signed.as_bytes())?;
            let route = number % routes;
            writeln!(
                lines,
                "/service-{route:02}/{subject}/items/{} {signed}.{}",
                number % 7,
                URL_SAFE_NO_PAD.encode(signature.as_ref())
            )?;
        }
        std::fs::write(folder.join(name), lines)?;
    }
    Ok(())
}

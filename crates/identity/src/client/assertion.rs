//! Client authentication by a signed assertion: `private_key_jwt` (RFC 7523 §3).

use std::time::Duration;

use keys::encoding::{parse_object, quote, text_of};
use keys::jws::Unverified;
use model::Timestamp;
use serde_json::{Map, Value};

use super::Client;

/// How far in the future an assertion may end: its `jti` is remembered until then. An hour
/// is what widespread clients ask for.
const ASSERTION_LIFETIME_MAX: Duration = Duration::from_secs(3600);
/// How far two clocks may be apart.
const LEEWAY: Duration = Duration::from_secs(10);
/// Longest `jti`, bytes.
const ID_BYTES_MAX: usize = 256;

/// An assertion that is its client's and for us. That it is used once is the caller's to
/// see to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assertion {
    pub(super) id: String,
    pub(super) expires: Timestamp,
}

/// Whom an unverified assertion says that it is from.
pub(super) fn unverified_client(assertion: &str) -> Result<String, String> {
    let token = Unverified::parse(assertion.as_bytes()).map_err(|refusal| refusal.to_string())?;
    let claims = parse_object(token.unverified_payload()).map_err(|error| quote(&error.to_string()))?;
    Ok(text_of(&claims, "sub")?.to_owned())
}

/// Checks an assertion (RFC 7523 §3). `audiences` are our names; an assertion is for
/// exactly one of them, so that one for somebody else is never one for us.
pub(super) fn verify(
    assertion: &str,
    client: &Client,
    audiences: &[&str],
    now: Timestamp,
) -> Result<Assertion, String> {
    let keys = client.assertion_keys()?;
    let token = Unverified::parse(assertion.as_bytes()).map_err(|refusal| refusal.to_string())?;
    let verified = keys.verify(token, &client.id).map_err(|refusal| refusal.to_string())?;
    if !matches!(verified.token_type(), None | Some("JWT" | "jwt" | "client-authentication+jwt")) {
        return Err(format!("typ \"{}\"", quote(verified.token_type().unwrap_or_default())));
    }
    let claims = parse_object(verified.payload()).map_err(|error| quote(&error.to_string()))?;
    for name in ["iss", "sub"] {
        let found = text_of(&claims, name)?;
        if found != client.id {
            return Err(format!("{name} \"{}\", expected the client's id", quote(found)));
        }
    }
    let audience = match claims.get("aud") {
        Some(Value::String(one)) => one,
        Some(Value::Array(list)) => match list.as_slice() {
            [Value::String(one)] => one,
            _ => return Err(format!("aud with {} values, expected one", list.len())),
        },
        _ => return Err("`aud` is missing or not a text".to_owned()),
    };
    if !audiences.contains(&audience.as_str()) {
        return Err(format!("aud \"{}\", expected one of {}", quote(audience), audiences.join(", ")));
    }
    let expires = date(&claims, "exp")?.ok_or("`exp` is missing")?;
    if expires.plus(LEEWAY) <= now {
        return Err(format!("exp {}: it is {}", expires.unix_seconds(), now.unix_seconds()));
    }
    if expires.since(now) > ASSERTION_LIFETIME_MAX + LEEWAY {
        let most = ASSERTION_LIFETIME_MAX.as_secs();
        return Err(format!("exp more than {most} s ahead"));
    }
    for name in ["iat", "nbf"] {
        if date(&claims, name)?.is_some_and(|from| from > now.plus(LEEWAY)) {
            return Err(format!("{name} is still to come"));
        }
    }
    let id = text_of(&claims, "jti")?;
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(format!("jti of {} bytes, expected 1 to {ID_BYTES_MAX}", id.len()));
    }
    Ok(Assertion { id: id.to_owned(), expires: expires.plus(LEEWAY) })
}

fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, String> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_u64().or_else(|| {
        let seconds = value.as_f64()?;
        (0.0..1e12).contains(&seconds).then_some(seconds as u64)
    });
    seconds
        .map(|seconds| Some(Timestamp::from_unix_seconds(seconds)))
        .ok_or_else(|| format!("`{name}` is not a number of seconds"))
}

#[cfg(test)]
mod tests {
    use keys::{Algorithm, LocalSigner, Signer, SystemRandom, publish, sign_token};
    use serde_json::json;

    use super::*;
    use crate::client::ClientAuthentication;

    const NOW: u64 = 1_795_384_267;
    const US: [&str; 2] = ["https://id.example.org", "https://id.example.org/token"];

    fn testbed() -> (LocalSigner, Client) {
        let signer = LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0;
        let jwks = serde_json::from_str(&publish(&[&signer])).unwrap();
        (signer, Client::new("orders", ClientAuthentication::PrivateKeyJwt { jwks }))
    }

    fn claims(change: Value) -> Map<String, Value> {
        let mut claims = json!({
            "iss": "orders", "sub": "orders", "aud": US[0], "jti": "1", "iat": NOW, "exp": NOW + 60,
        });
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims.as_object().cloned().unwrap()
    }

    #[test]
    fn an_assertion_is_the_clients_own_fresh_and_for_us_alone() {
        let (signer, client) = testbed();
        let judge = |token_type: &str, change: Value| {
            let text = sign_token(&signer, token_type, &claims(change)).unwrap();
            verify(&text, &client, &US, Timestamp::from_unix_seconds(NOW))
        };
        let good = judge("JWT", json!({})).unwrap();
        assert_eq!(good, Assertion { id: "1".to_owned(), expires: Timestamp::from_unix_seconds(NOW + 70) });
        for change in [
            json!({ "aud": US[1] }),
            json!({ "aud": [US[0]] }),
            json!({ "iat": null }),
            json!({ "exp": NOW + 3610 }),
        ] {
            assert!(judge("client-authentication+jwt", change).is_ok());
        }
        for (why, token_type, change) in [
            ("another issuer", "JWT", json!({ "iss": "payments" })),
            ("another subject", "JWT", json!({ "sub": "payments" })),
            ("another audience", "JWT", json!({ "aud": "https://evil.example" })),
            ("an audience among others", "JWT", json!({ "aud": [US[0], "https://evil.example"] })),
            ("no audience", "JWT", json!({ "aud": null })),
            ("an audience without a value", "JWT", json!({ "aud": [] })),
            ("no end", "JWT", json!({ "exp": null })),
            ("ended", "JWT", json!({ "exp": NOW - 10 })),
            ("ends late", "JWT", json!({ "exp": NOW + 3611 })),
            ("an end of another type", "JWT", json!({ "exp": "tomorrow" })),
            ("not yet", "JWT", json!({ "nbf": NOW + 60 })),
            ("from the future", "JWT", json!({ "iat": NOW + 60 })),
            ("no jti", "JWT", json!({ "jti": null })),
            ("an empty jti", "JWT", json!({ "jti": "" })),
            ("a long jti", "JWT", json!({ "jti": "x".repeat(257) })),
            ("a proof", "dpop+jwt", json!({})),
            ("an access token", "at+jwt", json!({})),
        ] {
            assert!(judge(token_type, change).is_err(), "{why}");
        }
    }

    #[test]
    fn no_algorithm_but_the_keys_own() {
        let (signer, client) = testbed();
        let other = testbed().0;
        let judge = |text: &str| verify(text, &client, &US, Timestamp::from_unix_seconds(NOW));
        let good = sign_token(&signer, "JWT", &claims(json!({}))).unwrap();
        assert!(judge(&good).is_ok());
        assert!(judge(&sign_token(&other, "JWT", &claims(json!({}))).unwrap()).is_err());
        let [_, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
        // The public key as a shared secret, no algorithm, and a key in the header.
        let mut jwk = signer.public_jwk();
        jwk["alg"] = json!("HS256");
        let secret = jwk.to_string();
        let hmac = jsonwebtoken::encode(
            &jsonwebtoken::Header { kid: Some(signer.key_id().to_owned()), ..Default::default() },
            &claims(json!({})),
            &jsonwebtoken::EncodingKey::from_secret(secret.as_bytes()),
        )
        .unwrap();
        assert!(judge(&hmac).is_err());
        for header in [
            json!({ "alg": "none" }),
            json!({ "alg": "ES256", "jwk": other.public_jwk() }),
            json!({ "alg": "EdDSA", "kid": signer.key_id() }),
        ] {
            let header = keys::encoding::encode_base64url(header.to_string().as_bytes());
            assert!(judge(&format!("{header}.{payload}.{signature}")).is_err());
            assert!(judge(&format!("{header}.{payload}.")).is_err());
        }
    }
}

//! Ourselves as a client of an authorization server: how a request to its token,
//! introspection or pushed-request endpoint shows who sends it (RFC 6749 §2.3, RFC 7523
//! §2.2).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SecureRandom;
use model::{Secret, Timestamp};
use serde_json::{Value, json};

use crate::encoding::{encode_base64, hex};
use crate::error::Error;
use crate::signer::{Signer, sign_token};

/// How long an assertion is good.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(60);
/// `client_assertion_type` of the one kind that there is (RFC 7523 §2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a client shows.
#[derive(Clone)]
pub enum ClientCredential {
    /// Nothing: a public client, held to PKCE.
    None,
    /// A secret in `Authorization: Basic` (client_secret_basic).
    Secret(Arc<Secret<String>>),
    /// A signed assertion (private_key_jwt).
    Key(Arc<dyn Signer>),
}

/// Who we are at an authorization server.
#[derive(Clone)]
pub struct OwnClient {
    /// `client_id`.
    pub id: String,
    /// What it shows.
    pub credential: ClientCredential,
}

impl fmt::Debug for OwnClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnClient").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Parameters of a form, in their order.
pub type Form = Vec<(&'static str, String)>;

impl OwnClient {
    /// Adds to a form what shows who sends it, and gives the value of `Authorization`
    /// where that is how. `issuer` is the audience of an assertion.
    ///
    /// # Errors
    /// [`Error::Cryptography`].
    pub fn sign_in(
        &self,
        form: &mut Form,
        issuer: &str,
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<Option<Secret<String>>, Error> {
        match &self.credential {
            ClientCredential::None => {
                form.push(("client_id", self.id.clone()));
                Ok(None)
            }
            // RFC 6749 §2.3.1: both form-encoded before they are joined.
            ClientCredential::Secret(secret) => {
                let encode =
                    |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
                let pair = Secret::new(format!("{}:{}", encode(&self.id), encode(secret.expose())));
                let field = format!("Basic {}", encode_base64(pair.expose().as_bytes()));
                Ok(Some(Secret::new(field)))
            }
            ClientCredential::Key(signer) => {
                let assertion = self.assertion(signer.as_ref(), issuer, now, random)?;
                form.push(("client_id", self.id.clone()));
                form.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
                form.push(("client_assertion", assertion));
                Ok(None)
            }
        }
    }

    fn assertion(
        &self,
        signer: &dyn Signer,
        issuer: &str,
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<String, Error> {
        let mut id = [0; 16];
        random.fill(&mut id).map_err(|_| Error::Cryptography("random numbers"))?;
        let claims = json!({
            "iss": self.id,
            "sub": self.id,
            "aud": issuer,
            "jti": hex(&id),
            "iat": now.unix_seconds(),
            "exp": now.plus(ASSERTION_LIFETIME).unix_seconds(),
        });
        let Value::Object(claims) = claims else { return Err(Error::Request("no claims".to_owned())) };
        sign_token(signer, "JWT", &claims)
    }
}

/// A form as `application/x-www-form-urlencoded`.
pub fn encode_form(form: &[(&'static str, String)]) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form {
        text.append_pair(name, value);
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::encoding::decode_base64url;
    use crate::signer::LocalSigner;
    use aws_lc_rs::rand::SystemRandom;

    fn sign_in(credential: ClientCredential) -> (Form, Option<String>) {
        let client = OwnClient { id: "a b:c".to_owned(), credential };
        let mut form = Form::new();
        let now = Timestamp::from_unix_seconds(1_000);
        let field = client.sign_in(&mut form, "https://id.example", now, &SystemRandom::new()).unwrap();
        (form, field.map(|field| field.expose().clone()))
    }

    #[test]
    fn each_credential_is_shown_in_its_one_way() {
        let (form, field) = sign_in(ClientCredential::None);
        assert_eq!((form, field), (vec![("client_id", "a b:c".to_owned())], None));
        // The characters that RFC 6749 §2.3.1 wants encoded do not end the pair early.
        let secret = Arc::new(Secret::new("p+q:r/%".to_owned()));
        let (form, field) = sign_in(ClientCredential::Secret(secret));
        assert!(form.is_empty());
        assert_eq!(field.unwrap(), format!("Basic {}", encode_base64(b"a+b%3Ac:p%2Bq%3Ar%2F%25")));
        let signer = LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0;
        let (form, field) = sign_in(ClientCredential::Key(Arc::new(signer)));
        assert!(field.is_none());
        let assertion = &form.iter().find(|(name, _)| *name == "client_assertion").unwrap().1;
        let payload = decode_base64url(assertion.split('.').nth(1).unwrap().as_bytes()).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((&claims["aud"], &claims["exp"]), (&"https://id.example".into(), &1_060.into()));
        assert_eq!((&claims["iss"], &claims["sub"]), (&"a b:c".into(), &"a b:c".into()));
    }

    #[test]
    fn forms_are_encoded() {
        let form = [("a", "1 &=2".to_owned()), ("b", "ü".to_owned())];
        assert_eq!(encode_form(&form), "a=1+%26%3D2&b=%C3%BC");
    }
}

//! Tokens that are bound to a key (DPoP, RFC 9449 §6) or to a client certificate (RFC 8705
//! §3): good, and worth something only to whoever shows that they hold what is named.
//!
//! [`crate::CoreVerifier`] gives such a token out as a [`Bound`], and only
//! [`Bound::prove`] makes a principal of it: nobody can forget to ask.

use std::sync::Arc;

use model::Principal;
use serde_json::{Map, Value};

use crate::digest::sha256;
use crate::encoding::{encode_base64url, quote};
use crate::proofs::ProvenKey;
use crate::refusal::{Holding, Refusal};

/// Longest thumbprint that is read, bytes. SHA-256 in base64url has 43.
const THUMBPRINT_BYTES_MAX: usize = 43;

/// What a token is bound to (`cnf`, RFC 7800 §3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    key: Option<Box<str>>,
    certificate: Option<Box<str>>,
}

impl Binding {
    /// Out of a token's claims; `None` for a token that is bound to nothing.
    ///
    /// # Errors
    /// [`Refusal::Confirmation`]: a way to confirm that nobody here can check. Whoever
    /// passed over it would take a bound token for a bearer token.
    pub(crate) fn of(claims: &Map<String, Value>) -> Result<Option<Arc<Self>>, Refusal> {
        let Some(confirmation) = claims.get("cnf") else { return Ok(None) };
        let refused = |found: &str| Refusal::Confirmation { found: quote(found) };
        let members = confirmation.as_object().ok_or_else(|| refused("no object"))?;
        if members.is_empty() {
            return Err(refused("nothing"));
        }
        let mut binding = Self::default();
        for (name, value) in members {
            let place = match name.as_str() {
                "jkt" => &mut binding.key,
                "x5t#S256" => &mut binding.certificate,
                other => return Err(refused(other)),
            };
            let text = value.as_str().filter(|text| text.len() == THUMBPRINT_BYTES_MAX);
            *place = Some(text.ok_or_else(|| refused("a thumbprint that is none"))?.into());
        }
        Ok(Some(Arc::new(binding)))
    }
}

/// What a request shows besides the token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Possession<'a> {
    /// The key of its DPoP proof.
    pub key: Option<&'a ProvenKey>,
    /// The leaf of its connection's verified client certificate, DER.
    pub certificate: Option<&'a [u8]>,
}

/// Whom a good token speaks of, once it is shown that it is in the right hands.
#[derive(Clone, Debug)]
pub struct Bound {
    principal: Arc<Principal>,
    binding: Arc<Binding>,
}

impl Bound {
    pub(crate) const fn new(principal: Arc<Principal>, binding: Arc<Binding>) -> Self {
        Self { principal, binding }
    }

    /// Whether it takes a DPoP proof.
    pub fn wants_proof(&self) -> bool {
        self.binding.key.is_some()
    }

    /// The principal, when the request shows everything that the token is bound to.
    ///
    /// # Errors
    /// [`Refusal::NotProven`], [`Refusal::OtherKey`], [`Refusal::OtherCertificate`].
    pub fn prove(self, shown: Possession<'_>) -> Result<Arc<Principal>, Refusal> {
        if let Some(bound) = &self.binding.key {
            let proven = shown.key.ok_or(Refusal::NotProven { by: Holding::Key })?;
            if proven.thumbprint() != &**bound {
                return Err(Refusal::OtherKey);
            }
        }
        self.prove_again(shown.certificate)
    }

    /// The principal of an exchange that proved the key when it began: its certificate is
    /// asked again, a proof of possession is for the one request that it came with.
    ///
    /// # Errors
    /// As [`Self::prove`].
    pub fn prove_again(self, certificate: Option<&[u8]>) -> Result<Arc<Principal>, Refusal> {
        if let Some(bound) = &self.binding.certificate {
            let leaf = certificate.ok_or(Refusal::NotProven { by: Holding::Certificate })?;
            if encode_base64url(&sha256(leaf)) != **bound {
                return Err(Refusal::OtherCertificate);
            }
        }
        Ok(self.principal)
    }
}

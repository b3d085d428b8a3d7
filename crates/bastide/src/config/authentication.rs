//! `authentication:`: which proofs of identity count.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Which proofs of identity count.
#[derive(Clone, Debug, PartialEq)]
pub struct Authentication {
    /// Token issuers.
    pub issuers: Vec<Issuer>,
    /// Claims that become principal attributes, by name.
    pub claims: BTreeMap<String, ClaimKind>,
    /// The file of API key hashes. Default: `api-keys.json` in the state folder.
    pub api_keys: PathBuf,
    /// How client certificates become principals.
    pub certificates: CertificatePrincipals,
}

/// The type of a declared claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// A text.
    Text,
    /// A whole number.
    Long,
    /// A truth value.
    Boolean,
    /// A list of texts.
    Texts,
}

/// A signature algorithm (RFC 7518 §3.1, RFC 8037). Only asymmetric ones exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is the algorithm of that name")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

/// One token issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// The exact `iss` of its tokens.
    pub issuer: String,
    /// A token must name one of these in `aud`. Never empty. Default:
    /// `authentication.audience`, and without that the exact hosts named in routes.
    pub audience: Vec<String>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Algorithms that are accepted. Never empty.
    pub algorithms: Vec<Algorithm>,
    /// Put in front of `sub`. At most one issuer has the empty prefix.
    pub prefix: String,
    /// Claim paths that carry role names.
    pub roles: Vec<String>,
    /// A claim whose presence says that the token belongs to a machine client.
    /// `None`: `sub` equals `client_id` or `azp`.
    pub client_claim: Option<String>,
    /// Whether the key fetch may go to loopback and private addresses.
    pub allow_private_addresses: bool,
    /// Clock skew that is forgiven in `exp`, `nbf` and `iat`.
    pub leeway: Duration,
    /// Keys older than this are not used, even when the issuer is down.
    pub key_age_max: Duration,
    /// Accepted `typ` header values, lower case, without `application/`.
    pub types: Vec<String>,
    /// Whether a token without `typ` is accepted.
    pub untyped: bool,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// `<issuer>/.well-known/openid-configuration` says where (OpenID Connect
    /// Discovery §4).
    Discovery,
    /// A JWKS at this URL (RFC 7517 §5).
    Url(String),
    /// A JWKS file.
    File(PathBuf),
    /// One public JWK or a JWKS, as JSON text.
    Json(String),
    /// One public key, as PEM text.
    Pem(String),
}

/// How a verified client certificate becomes a principal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CertificatePrincipals {
    /// SPIFFE IDs of this trust domain make services; any other SPIFFE ID is refused.
    /// `None`: SPIFFE IDs are not read and every certificate makes a client.
    pub trust_domain: Option<String>,
}

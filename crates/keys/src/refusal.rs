//! Why a credential was refused: the full story for the operator, one constant line
//! for the client.

use std::fmt;

use model::Timestamp;

use crate::algorithm::Algorithm;

/// What shows that a bound token is in the right hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A DPoP proof (RFC 9449 §4).
    Key,
    /// The connection's client certificate (RFC 8705 §3).
    Certificate,
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "a DPoP proof",
            Self::Certificate => "a client certificate",
        })
    }
}

/// Asks for a token that is bound to the key of a proof (RFC 9449 §7.1).
const DPOP_TOKEN: &str = "DPoP error=\"invalid_token\", \
    algs=\"ES256 ES384 ES512 EdDSA PS256 PS384 PS512 RS256 RS384 RS512\"";
/// Asks for another proof.
const DPOP_PROOF: &str = "DPoP error=\"invalid_dpop_proof\", \
    algs=\"ES256 ES384 ES512 EdDSA PS256 PS384 PS512 RS256 RS384 RS512\"";

/// Why a token, API key or certificate was refused. The text (`Display`) is one line
/// for the operator's log: what was expected, what was found. It never holds a secret
/// or a whole credential, and what came from the client is escaped and cut.
///
/// INVARIANT: none of it is told to the client; [`Refusal::challenge`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    // ── tokens: form ────────────────────────────────────────────────────────────
    /// Longer than [`crate::TOKEN_BYTES_MAX`].
    TooLong {
        /// Bytes that came.
        bytes: usize,
    },
    /// Not three strict base64url parts with a JSON header (RFC 7515 §7.1).
    Malformed {
        /// What of it.
        what: &'static str,
    },
    /// A JSON document in it is not one, or has two members of one name.
    Json {
        /// `"header"` or `"claims"`.
        part: &'static str,
        /// What the parser said.
        why: String,
    },
    /// Five parts: an encrypted token (RFC 7516), which nobody here can read.
    Encrypted,
    // ── tokens: header ──────────────────────────────────────────────────────────
    /// `alg` is not a supported asymmetric algorithm: `none`, HMAC, or unknown.
    AlgorithmUnknown {
        /// What it asked for.
        found: String,
    },
    /// `alg` is not the one algorithm of the key that it names.
    AlgorithmOfKey {
        /// The key's algorithm.
        expected: Algorithm,
        /// The header's.
        found: Algorithm,
    },
    /// `alg` is not among those that the issuer may use.
    AlgorithmNotAllowed {
        /// The header's.
        found: Algorithm,
    },
    /// Who signed a token about an end user may not, or is not who it says.
    UserTokenSigner {
        /// Why not.
        why: String,
    },
    /// A header parameter that changes what the token means: `crit`, `b64`, `jwk`, `zip`.
    HeaderParameter {
        /// Which.
        name: &'static str,
    },
    /// `typ` is not an accepted one.
    Type {
        /// What was found; empty when it was absent.
        found: String,
        /// The accepted ones.
        expected: String,
    },
    // ── tokens: keys ────────────────────────────────────────────────────────────
    /// No key of the issuer has this `kid`, even after asking (or asking was not due).
    KeyUnknown {
        /// The token's `kid`; empty when it had none.
        key_id: String,
        /// The issuer.
        issuer: String,
    },
    /// Without a `kid`, more than one or no key of the issuer could be meant.
    KeyAmbiguous {
        /// How many keys have the algorithm.
        candidates: usize,
    },
    /// The issuer's keys could not be fetched, or are older than their maximum age.
    KeysUnavailable {
        /// The issuer.
        issuer: String,
        /// What happened at the last attempt.
        why: String,
    },
    /// The signature is not the key's.
    Signature,
    // ── tokens: claims ──────────────────────────────────────────────────────────
    /// No issuer of this name is configured.
    IssuerUnknown {
        /// The token's `iss`.
        found: String,
    },
    /// A required claim is absent.
    ClaimMissing {
        /// Which.
        claim: &'static str,
    },
    /// A claim has another type or range than it must (CVE-2026-25537).
    ClaimType {
        /// Which.
        claim: String,
        /// What it must be.
        expected: &'static str,
        /// The JSON type that it is.
        found: &'static str,
    },
    /// No accepted audience is among the token's.
    Audience {
        /// The accepted ones.
        expected: String,
        /// The token's.
        found: String,
    },
    /// Past `exp` by more than the leeway.
    Expired {
        /// When it ended.
        at: Timestamp,
        /// The gateway's time.
        now: Timestamp,
    },
    /// Before `nbf` by more than the leeway.
    NotYetValid {
        /// When it starts.
        at: Timestamp,
        /// The gateway's time.
        now: Timestamp,
    },
    /// `iat` lies in the future by more than the leeway.
    IssuedInFuture {
        /// When it says it was made.
        at: Timestamp,
        /// The gateway's time.
        now: Timestamp,
    },
    /// It was revoked: by its `jti`, its session, or its subject.
    Revoked {
        /// `token`, `session` or `subject`.
        by: &'static str,
    },
    // ── sessions ────────────────────────────────────────────────────────────────
    /// The browser's session is none of ours, or is over.
    Session {
        /// Which of these.
        why: &'static str,
    },
    /// The session's tokens have ended and cannot be refreshed at the moment.
    SessionUnavailable,
    // ── opaque tokens ───────────────────────────────────────────────────────────
    /// The authorization server says that it is not good, or knows nothing of it.
    Inactive,
    /// The authorization server could not be asked, or gave no answer that counts.
    IntrospectionUnavailable {
        /// Why.
        why: String,
    },
    /// `cnf` names something that cannot be checked here (RFC 7800 §3.1).
    Confirmation {
        /// What was found.
        found: String,
    },
    // ── tokens: possession ──────────────────────────────────────────────────────
    /// It is bound, and the request shows nothing of what it is bound to.
    NotProven {
        /// What would show it.
        by: Holding,
    },
    /// It came with a DPoP proof and is bound to no key (RFC 9449 §7.1).
    NotBound,
    /// It is bound to another key than the proof's.
    OtherKey,
    /// It is bound to another certificate than the connection's.
    OtherCertificate,
    /// The DPoP proof is not valid for this request.
    Proof {
        /// What is wrong with it.
        why: String,
    },
    /// The DPoP proof was used before.
    ProofReplayed {
        /// Its `jti`.
        id: String,
    },
    /// So many proofs came that this one could not be remembered.
    ProofsFull,
    // ── tokens: claims that concern others ──────────────────────────────────────
    /// The subject would read as another issuer's.
    SubjectOfOtherIssuer {
        /// The subject.
        found: String,
        /// The other issuer's prefix.
        prefix: String,
    },
    // ── API keys ────────────────────────────────────────────────────────────────
    /// Not of the form `bst_<id>_<secret and checksum>`, or the checksum is wrong.
    ApiKeyMalformed,
    /// No such key.
    ApiKeyUnknown {
        /// The id part, which is no secret.
        id: String,
    },
    /// The id exists, the secret is another.
    ApiKeySecret {
        /// The id part.
        id: String,
    },
    /// It was revoked.
    ApiKeyRevoked {
        /// The id part.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// Past its end.
    ApiKeyExpired {
        /// The id part.
        id: String,
        /// When it ended.
        at: Timestamp,
    },
    // ── client certificates ─────────────────────────────────────────────────────
    /// Not an X.509 certificate, or with a field that readers read differently.
    Certificate {
        /// What of it.
        what: &'static str,
    },
    /// Outside of its validity.
    CertificateValidity {
        /// When it starts.
        not_before: Timestamp,
        /// When it ends.
        not_after: Timestamp,
        /// The gateway's time.
        now: Timestamp,
    },
    /// Not exactly one URI name where a SPIFFE ID is carried (X509-SVID §2).
    CertificateUris {
        /// How many.
        found: usize,
    },
    /// Its URI is not a valid SPIFFE ID.
    SpiffeId {
        /// The URI.
        found: String,
    },
    /// A SPIFFE ID of another trust domain.
    TrustDomain {
        /// The configured one; empty when none is.
        expected: String,
        /// The certificate's.
        found: String,
    },
    /// A SPIFFE ID of a trust domain for which the certificate's issuer cannot speak.
    ReservedTrustDomain {
        /// The trust domain.
        found: String,
    },
    /// The name of a certificate begins like those that an issuer of tokens gives.
    NameOfOther {
        /// The client that it would make.
        found: String,
        /// The issuer's prefix.
        prefix: String,
    },
}

impl Refusal {
    /// A short name for metrics and events; one of a fixed set.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "token_too_long",
            Self::Malformed { .. } | Self::Json { .. } => "token_malformed",
            Self::Encrypted => "token_encrypted",
            Self::AlgorithmUnknown { .. } => "algorithm_unknown",
            Self::AlgorithmOfKey { .. } => "algorithm_of_key",
            Self::AlgorithmNotAllowed { .. } => "algorithm_not_allowed",
            Self::HeaderParameter { .. } => "header_parameter",
            Self::UserTokenSigner { .. } => "user_token_signer",
            Self::Type { .. } => "type",
            Self::KeyUnknown { .. } => "key_unknown",
            Self::KeyAmbiguous { .. } => "key_ambiguous",
            Self::KeysUnavailable { .. } => "keys_unavailable",
            Self::Signature => "signature",
            Self::IssuerUnknown { .. } => "issuer_unknown",
            Self::ClaimMissing { .. } => "claim_missing",
            Self::ClaimType { .. } => "claim_type",
            Self::Audience { .. } => "audience",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::IssuedInFuture { .. } => "issued_in_future",
            Self::Revoked { .. } => "revoked",
            Self::Session { .. } => "session",
            Self::SessionUnavailable => "session_unavailable",
            Self::Inactive => "inactive",
            Self::IntrospectionUnavailable { .. } => "introspection_unavailable",
            Self::Confirmation { .. } => "confirmation",
            Self::NotProven { .. } => "not_proven",
            Self::NotBound => "not_bound",
            Self::OtherKey => "other_key",
            Self::OtherCertificate => "other_certificate",
            Self::Proof { .. } => "proof",
            Self::ProofReplayed { .. } => "proof_replayed",
            Self::ProofsFull => "proofs_full",
            Self::SubjectOfOtherIssuer { .. } => "subject_of_other_issuer",
            Self::ApiKeyMalformed => "api_key_malformed",
            Self::ApiKeyUnknown { .. } => "api_key_unknown",
            Self::ApiKeySecret { .. } => "api_key_secret",
            Self::ApiKeyRevoked { .. } => "api_key_revoked",
            Self::ApiKeyExpired { .. } => "api_key_expired",
            Self::Certificate { .. } => "certificate",
            Self::CertificateValidity { .. } => "certificate_validity",
            Self::CertificateUris { .. } => "certificate_uris",
            Self::SpiffeId { .. } => "spiffe_id",
            Self::TrustDomain { .. } | Self::ReservedTrustDomain { .. } => "trust_domain",
            Self::NameOfOther { .. } => "certificate",
        }
    }

    /// The value of `WWW-Authenticate` in the 401 answer (RFC 6750 §3, RFC 9110
    /// §11.6.1). Constant, so that it tells an attacker nothing. `None` for
    /// certificates, which no HTTP scheme asks for.
    pub const fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::ApiKeyMalformed
            | Self::ApiKeyUnknown { .. }
            | Self::ApiKeySecret { .. }
            | Self::ApiKeyRevoked { .. }
            | Self::ApiKeyExpired { .. } => Some("ApiKey"),
            Self::Certificate { .. }
            | Self::CertificateValidity { .. }
            | Self::CertificateUris { .. }
            | Self::SpiffeId { .. }
            | Self::TrustDomain { .. }
            | Self::ReservedTrustDomain { .. }
            | Self::NameOfOther { .. }
            | Self::Session { .. }
            | Self::SessionUnavailable => None,
            Self::NotProven { by: Holding::Key } | Self::NotBound | Self::OtherKey => Some(DPOP_TOKEN),
            Self::Proof { .. } | Self::ProofReplayed { .. } => Some(DPOP_PROOF),
            _ => Some("Bearer error=\"invalid_token\""),
        }
    }

    /// Whether the same credential may be good later without any change to it: the
    /// issuer could not be reached. The request is refused all the same.
    pub const fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::KeysUnavailable { .. }
                | Self::IntrospectionUnavailable { .. }
                | Self::SessionUnavailable
                | Self::ProofsFull
        )
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => {
                write!(f, "token has {bytes} bytes, at most {} are read", crate::TOKEN_BYTES_MAX)
            }
            Self::Malformed { what } => write!(f, "token is not a compact JWS: {what}"),
            Self::Json { part, why } => write!(f, "token {part}: expected strict JSON: {why}"),
            Self::Encrypted => f.write_str("token is encrypted (JWE), expected a signed one (JWS)"),
            Self::AlgorithmUnknown { found } => {
                write!(f, "alg \"{found}\": {}", crate::algorithm::UnknownAlgorithm)
            }
            Self::AlgorithmOfKey { expected, found } => {
                write!(f, "alg {found}: the key is for {expected} alone")
            }
            Self::AlgorithmNotAllowed { found } => {
                write!(f, "alg {found} is not among the issuer's `algorithms`")
            }
            Self::HeaderParameter { name } => write!(f, "header parameter `{name}` is not accepted"),
            Self::UserTokenSigner { why } => write!(f, "its signer may not speak for users: {why}"),
            Self::Type { found, expected } if found.is_empty() => {
                write!(f, "typ is absent, expected one of {expected}")
            }
            Self::Type { found, expected } => write!(f, "typ \"{found}\", expected one of {expected}"),
            Self::KeyUnknown { key_id, issuer } => write!(f, "{issuer} has no key with kid \"{key_id}\""),
            Self::KeyAmbiguous { candidates } => {
                write!(f, "token has no kid and {candidates} keys of the issuer have its algorithm")
            }
            Self::KeysUnavailable { issuer, why } => write!(f, "no usable keys of {issuer}: {why}"),
            Self::Signature => f.write_str("signature does not verify"),
            Self::IssuerUnknown { found } => write!(f, "iss \"{found}\" is not a configured issuer"),
            Self::ClaimMissing { claim } => write!(f, "claim `{claim}` is missing"),
            Self::ClaimType { claim, expected, found } => {
                write!(f, "claim `{claim}`: expected {expected}, found {found}")
            }
            Self::Audience { expected, found } => {
                write!(f, "aud {found}: expected one of {expected}")
            }
            Self::Expired { at, now } => write_time(f, "exp", "passed", *at, *now),
            Self::NotYetValid { at, now } => write_time(f, "nbf", "is still to come", *at, *now),
            Self::IssuedInFuture { at, now } => write_time(f, "iat", "is still to come", *at, *now),
            Self::Revoked { by } => write!(f, "the token was revoked by its {by}"),
            Self::Session { why } => write!(f, "no session of this browser: {why}"),
            Self::SessionUnavailable => {
                f.write_str("the session's tokens have ended, and the provider cannot be asked for others")
            }
            Self::Inactive => f.write_str("the authorization server says that the token is not active"),
            Self::IntrospectionUnavailable { why } => write!(f, "the token cannot be introspected: {why}"),
            Self::Confirmation { found } => {
                write!(f, "cnf \"{found}\": expected `jkt` or `x5t#S256`, each with a SHA-256 thumbprint")
            }
            Self::NotProven { by } => write!(f, "the token is bound, and came without {by}"),
            Self::NotBound => f.write_str("the token came with the scheme DPoP and is bound to no key"),
            Self::OtherKey => f.write_str("the token is bound to another key than the DPoP proof's"),
            Self::OtherCertificate => {
                f.write_str("the token is bound to another client certificate than the connection's")
            }
            Self::Proof { why } => write!(f, "DPoP proof: {why}"),
            Self::ProofReplayed { id } => write!(f, "DPoP proof: jti \"{id}\" of this key was used before"),
            Self::ProofsFull => f.write_str("too many DPoP proofs of the last minute to remember one more"),
            Self::SubjectOfOtherIssuer { found, prefix } => {
                write!(f, "subject \"{found}\" begins with \"{prefix}\", the prefix of another issuer")
            }
            Self::ApiKeyMalformed => f.write_str("not an API key of Bastide, or its checksum is wrong"),
            Self::ApiKeyUnknown { id } => write!(f, "no API key has id {id}"),
            Self::ApiKeySecret { id } => write!(f, "API key {id}: wrong secret"),
            Self::ApiKeyRevoked { id, at } => {
                write!(f, "API key {id} was revoked at {} (Unix seconds)", at.unix_seconds())
            }
            Self::ApiKeyExpired { id, at } => {
                write!(f, "API key {id} ended at {} (Unix seconds)", at.unix_seconds())
            }
            Self::Certificate { what } => write!(f, "client certificate: {what}"),
            Self::CertificateValidity { not_before, not_after, now } => write!(
                f,
                "client certificate is valid from {} to {}, it is {} (Unix seconds)",
                not_before.unix_seconds(),
                not_after.unix_seconds(),
                now.unix_seconds()
            ),
            Self::CertificateUris { found } => {
                write!(f, "client certificate has {found} URI names, expected exactly one SPIFFE ID")
            }
            Self::SpiffeId { found } => write!(f, "client certificate: \"{found}\" is not a SPIFFE ID"),
            Self::TrustDomain { expected, found } if expected.is_empty() => {
                write!(f, "client certificate of trust domain {found}, but no `trust_domain` is configured")
            }
            Self::TrustDomain { expected, found } => {
                write!(f, "client certificate of trust domain {found}, expected {expected}")
            }
            Self::ReservedTrustDomain { found } => write!(
                f,
                "client certificate with a name of {found}, the mesh, which did not issue it: only \
                 listeners with `tls: {{mesh: true}}` take certificates of the mesh"
            ),
            Self::NameOfOther { found, prefix } => {
                write!(
                    f,
                    "client certificate of \"{found}\", which begins with \"{prefix}\", the prefix of an issuer"
                )
            }
        }
    }
}

fn write_time(
    f: &mut fmt::Formatter<'_>,
    claim: &str,
    happened: &str,
    at: Timestamp,
    now: Timestamp,
) -> fmt::Result {
    let away = at.since(now).max(now.since(at)).as_secs();
    write!(
        f,
        "{claim} {} {happened}: it is {} (Unix seconds), {away} s away",
        at.unix_seconds(),
        now.unix_seconds()
    )
}

//! Everything that signs or verifies: tokens, API keys, client certificates, and the
//! local certificate authority.
//!
//! The way of a credential through it:
//!
//! ```text
//! Bearer token ─ CoreVerifier::verify ─ cache ─ jws::Unverified ─ KeySet ─ Verified ─ jwt::judge ─┐
//! API key ────── ApiKeys::verify ─────────────────────────────────────────────────────────────────┼─ Principal
//! certificate ── certificate::identify ───────────────────────────────────────────────────────────┘    or Refusal
//! ```
//!
//! Each core owns a [`CoreVerifier`]; all share one [`Issuers`], whose keys one task on
//! the control plane keeps fresh ([`Issuers::run`]) through a [`Fetch`] that the binary
//! supplies. Going out: a [`Signer`] makes the short-lived token that tells an upstream
//! who asks ([`sign_identity`]); an [`svid::X509Authority`] over a signer makes the
//! certificates of workloads.
//!
//! What it must never do:
//! - let a token choose how it is verified: each [`VerifyingKey`] has one algorithm, and
//!   neither `none` nor HMAC exists as an [`Algorithm`];
//! - read a claim of the wrong type as anything but a refusal;
//! - answer from the cache for another configuration, other keys, or past an end;
//! - keep a secret where `Debug`, an error or a log line shows it;
//! - read the clock: time is an argument.

mod algorithm;
pub mod api_key;
mod api_key_file;
mod binding;
pub mod ca;
pub mod certificate;
pub mod client;
mod digest;
mod discovery;
pub mod dpop;
pub mod encoding;
mod error;
mod fetch;
mod file;
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod introspection;
mod issuer;
mod jwk;
mod jwks;
pub mod jws;
pub mod jwt;
mod proofs;
mod refusal;
pub mod revocation;
mod roca;
mod seal;
mod signer;
pub mod svid;
mod user_token;
mod verifier;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use api_key::{
    ApiKeyRecord, ApiKeyStore, ApiKeys, NewApiKey, api_key_id, api_key_secrets, create_api_key,
    list_api_keys, revoke_api_key,
};
pub use api_key_file::ApiKeyFile;
pub use aws_lc_rs::rand::{SecureRandom, SystemRandom};
pub use binding::{Binding, Bound, Possession};
pub use ca::{Leaf, LocalCa};
pub use certificate::{CertificateIdentity, CertificateRules, identify};
pub use digest::sha256;
pub use discovery::Metadata;
pub use error::Error;
pub use fetch::{
    Answered, Fetch, FetchFailure, FetchFuture, FetchRequest, Fetched, FormRequest, Post, PostFuture,
};
pub use identity::{CoreIdentities, IdentitySettings};
pub use introspection::{IntrospectionSettings, IntrospectionWait, Introspector, Look};
pub use issuer::{
    ClientRule, IssuerSettings, KEY_AGE_MAX_DEFAULT, KEY_AGE_MAX_LEAST, KeySource, LEEWAY_DEFAULT,
    LEEWAY_MAX, check_issuers,
};
pub use jwk::{
    JWKS_BYTES_MAX, JWKS_KEYS_MAX, KEY_ID_BYTES_MAX, KEYS_TRIED_MAX, KeySet, VerifyingKey, spki_jwk,
    thumbprint,
};
pub use jwks::{
    Issuers, IssuersSettings, KeyWait, REFRESH_DEFAULT, REFRESH_LEAST, REFRESH_MOST, RETRY_FIRST,
    UNKNOWN_KEY_BURST, UNKNOWN_KEY_EVERY,
};
pub use jws::TOKEN_BYTES_MAX;
pub use proofs::{ProvenKey, SeenProofs};
pub use refusal::{Holding, Refusal};
pub use revocation::{REVOCATIONS_MAX, Revocation, RevocationFile, Revocations, TokenMarks};
pub use seal::{SEAL_KEY_BYTES, SEALED_BYTES_MAX, SealKey, SealRing};
pub use signer::{
    IDENTITY_TOKEN_LIFETIME_MAX, IdentityToken, LocalSigner, Signer, TokenHeader, publish, sign_headed,
    sign_identity, sign_token,
};
pub use user_token::{USER_TOKEN_LEEWAY, UserToken, open_user_token};
pub use verifier::{
    CACHE_BYTES_MAX, CACHE_ENTRIES_MAX, CoreVerifier, Proven, Verdict, VerifierCounts, prove_once,
};

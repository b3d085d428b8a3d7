//! Token issuers.

use keys::{Algorithm, ClaimType, ClientRule, IssuerSettings, KeySet, KeySource};

use crate::config::{self, Authentication, ClaimKind, Issuer};

/// All issuers.
///
/// # Errors
/// A key that is written down cannot be read.
pub fn settings(authentication: &Authentication) -> anyhow::Result<Vec<IssuerSettings>> {
    authentication.issuers.iter().map(|issuer| one(issuer, authentication)).collect()
}

pub(super) fn one(issuer: &Issuer, authentication: &Authentication) -> anyhow::Result<IssuerSettings> {
    let algorithms: Vec<Algorithm> = issuer.algorithms.iter().map(|a| algorithm(*a)).collect();
    let source = match &issuer.keys {
        config::KeySource::Discovery => KeySource::Discovery,
        config::KeySource::Url(url) => KeySource::JwksUrl(url.clone()),
        config::KeySource::File(path) => KeySource::JwksFile(path.clone()),
        config::KeySource::Json(text) | config::KeySource::Pem(text) => {
            KeySource::Pinned(KeySet::parse_pinned(text.as_bytes(), &algorithms)?)
        }
    };
    let claims = authentication.claims.iter().map(|(name, kind)| (name.clone(), claim(*kind)));
    Ok(IssuerSettings {
        issuer: issuer.issuer.clone(),
        source,
        audiences: issuer.audience.clone(),
        algorithms,
        prefix: issuer.prefix.clone(),
        role_claims: issuer.roles.clone(),
        client: issuer.client_claim.clone().map_or(ClientRule::SubjectIsClient, ClientRule::HasClaim),
        claims: claims.collect(),
        leeway: issuer.leeway,
        types: issuer.types.clone(),
        type_may_be_absent: issuer.untyped,
        key_age_max: issuer.key_age_max,
        allow_private_addresses: issuer.allow_private_addresses,
    })
}

const fn claim(kind: ClaimKind) -> ClaimType {
    match kind {
        ClaimKind::Text => ClaimType::Text,
        ClaimKind::Long => ClaimType::Long,
        ClaimKind::Boolean => ClaimType::Boolean,
        ClaimKind::Texts => ClaimType::Texts,
    }
}

const fn algorithm(algorithm: config::Algorithm) -> Algorithm {
    match algorithm {
        config::Algorithm::RS256 => Algorithm::Rs256,
        config::Algorithm::RS384 => Algorithm::Rs384,
        config::Algorithm::RS512 => Algorithm::Rs512,
        config::Algorithm::PS256 => Algorithm::Ps256,
        config::Algorithm::PS384 => Algorithm::Ps384,
        config::Algorithm::PS512 => Algorithm::Ps512,
        config::Algorithm::ES256 => Algorithm::Es256,
        config::Algorithm::ES384 => Algorithm::Es384,
        config::Algorithm::ES512 => Algorithm::Es512,
        config::Algorithm::EdDSA => Algorithm::EdDsa,
    }
}

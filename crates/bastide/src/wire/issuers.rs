//! Token issuers.

use keys::{ClientRule, IssuerSettings, KeySet, KeySource};

use crate::config::{self, Authentication, Issuer};

/// All issuers.
///
/// # Errors
/// A key that is written down cannot be read.
pub fn settings(authentication: &Authentication) -> anyhow::Result<Vec<IssuerSettings>> {
    authentication.issuers.iter().map(|issuer| one(issuer, authentication)).collect()
}

pub(super) fn one(issuer: &Issuer, authentication: &Authentication) -> anyhow::Result<IssuerSettings> {
    let source = match &issuer.keys {
        config::KeySource::Discovery => KeySource::Discovery,
        config::KeySource::Url(url) => KeySource::JwksUrl(url.clone()),
        config::KeySource::File(path) => KeySource::JwksFile(path.clone()),
        config::KeySource::Json(text) | config::KeySource::Pem(text) => {
            KeySource::Pinned(KeySet::parse_pinned(text.as_bytes(), &issuer.algorithms)?)
        }
    };
    Ok(IssuerSettings {
        issuer: issuer.issuer.clone(),
        source,
        audiences: issuer.audience.clone(),
        algorithms: issuer.algorithms.clone(),
        prefix: issuer.prefix.clone(),
        role_claims: issuer.roles.clone(),
        client: issuer.client_claim.clone().map_or(ClientRule::SubjectIsClient, ClientRule::HasClaim),
        claims: authentication.claims.clone(),
        leeway: issuer.leeway,
        types: issuer.types.clone(),
        type_may_be_absent: issuer.untyped,
        key_age_max: issuer.key_age_max,
        allow_private_addresses: issuer.allow_private_addresses,
    })
}

//! What this process says and believes about end users in the mesh.

use std::sync::Arc;
use std::time::Duration;

use gateway::step::user::{UserSettings, UserSigner, UserVerifier};
use keys::encoding::encode_base64;

use super::Parts;
use crate::config::Configuration;
use crate::process::mesh::Role;

/// How long a token about an end user is good, at most.
const LIFETIME_MAX: Duration = Duration::from_secs(300);

/// The gateway vouches for its users, with its own SVID, wherever it calls services of the mesh;
/// a service's proxy believes the workload that the configuration names as the gateway.
///
/// # Errors
/// This process has no identity in the mesh yet.
pub(super) fn settings(parts: &Parts, configuration: &Configuration) -> anyhow::Result<UserSettings> {
    let Some(mesh) = &configuration.mesh else { return Ok(UserSettings::default()) };
    let audience = format!("spiffe://{}", mesh.settings.trust_domain);
    if let Role::Workload(_) = parts.mesh.role() {
        let verify = parts.mesh.member()?.signers(&mesh.identity.id)?;
        return Ok(UserSettings { signer: None, verifier: Some(UserVerifier { verify, audience }) });
    }
    if !configuration.services.iter().any(|service| service.tls.mesh.is_some()) {
        return Ok(UserSettings::default());
    }
    let member = parts.mesh.member()?;
    let settings = keys::IdentitySettings {
        issuer: member.id().to_string(),
        lifetime: configuration.identity.lifetime.min(LIFETIME_MAX),
        certificates: member.identity().chain.iter().map(|der| encode_base64(der)).collect(),
    };
    let (signer, random) = (Arc::new(member.signer()?), parts.random.clone());
    let signer = UserSigner { signer, settings, audience, random };
    Ok(UserSettings { signer: Some(signer), verifier: None })
}

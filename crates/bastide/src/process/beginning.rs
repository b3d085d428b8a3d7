//! What `bastide serve` begins with: numbers, settings, and what waits for the store.

use std::sync::Arc;

use anyhow::Context as _;
use keys::{SecureRandom as _, SystemRandom};

use super::health::Shared;
use super::mesh::MeshHost;
use super::otlp::Destination;
use super::realms::Realms;
use crate::config::Configuration;

/// After what an unsealed store holds could not be opened.
const OPENED_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// A store that needs people to unseal it opens its realms and the mesh when they have.
pub(super) async fn take_when_unsealed(shared: Arc<Shared>, realms: Arc<Realms>, mesh: Arc<MeshHost>) {
    let Some(storage) = &shared.storage else { return };
    if storage.store().is_some() {
        return;
    }
    let Some(store) = storage.opened().await else { return };
    // What is wanted may be another configuration by the time that it works.
    while let Err(fault) = realms.open_wanted(&store).await {
        tracing::error!(%fault, "the realms cannot be opened; trying again");
        tokio::time::sleep(OPENED_AGAIN_AFTER).await;
    }
    while let Err(fault) = mesh.open_wanted(&store).await {
        tracing::error!(fault = format!("{fault:#}"), "the mesh cannot be opened; trying again");
        tokio::time::sleep(OPENED_AGAIN_AFTER).await;
    }
}

/// One data-plane thread for each.
pub(super) fn all_cores() -> anyhow::Result<usize> {
    Ok(std::thread::available_parallelism().context("how many cores there are; set `workers:`")?.get())
}

/// A random number.
pub(super) fn number(random: &SystemRandom) -> anyhow::Result<u64> {
    random_bytes(random).map(u64::from_ne_bytes)
}

/// So many random bytes.
pub(super) fn random_bytes<const COUNT: usize>(random: &SystemRandom) -> anyhow::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system's random number generator failed"))?;
    Ok(bytes)
}

/// Where telemetry goes, if anywhere.
pub(super) fn destination(configuration: &Configuration) -> anyhow::Result<Option<Arc<Destination>>> {
    configuration.telemetry.as_ref().map(|telemetry| Destination::new(telemetry).map(Arc::new)).transpose()
}

//! What the running gateway serves, kept in the state folder for `bastide diff`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use keys::SystemRandom;
use keys::encoding::hex;

use super::beginning::random_bytes;
use super::state::write_atomically;
use crate::config::{Configuration, Disk, Outline, Written};

const FILE: &str = "running.json";
/// What a gateway says of itself once it serves.
pub(super) const READY: &str = "ready.json";

/// The folder of the audit log of the gateway on this state folder, as it says itself.
pub fn audit_folder(state: &Path) -> Option<PathBuf> {
    let ready: serde_json::Value = serde_json::from_slice(&std::fs::read(state.join(READY)).ok()?).ok()?;
    Some(ready.get("audit")?.as_str()?.into())
}

/// Keeps the outline of a configuration that is served now. The gateway serves without it
/// too, so a failure is only said.
pub(super) fn keep(state: &Path, configuration: &Configuration, written: &Written) {
    let kept = salt().and_then(|salt| {
        let outline = Outline::of(configuration, written, &salt, &Disk);
        Ok(write_atomically(&state.join(FILE), &serde_json::to_vec(&outline)?)?)
    });
    if let Err(fault) = kept {
        tracing::warn!("`bastide diff` will not know what is served: {fault:#}");
    }
}

/// A key for digests, new each time.
///
/// # Errors
/// The system's random number generator failed.
pub fn salt() -> anyhow::Result<String> {
    Ok(hex(&random_bytes::<16>(&SystemRandom::new())?))
}

/// The outline of what the gateway on this state folder serves.
///
/// # Errors
/// None is running, or what it kept cannot be read.
pub fn outline(state: &Path) -> anyhow::Result<Outline> {
    anyhow::ensure!(
        state.join(READY).exists(),
        "no gateway is running on state folder {}; `bastide diff OLD NEW` compares two files",
        state.display()
    );
    let path = state.join(FILE);
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not what a gateway keeps", path.display()))
}

//! What `cargo metadata` says about the workspace's own crates.

use crate::command;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// The workspace's crates with what they declare.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    /// The workspace's own crates only (`--no-deps`).
    pub(crate) packages: Vec<Package>,
}

/// One crate of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
}

/// A declared dependency.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Absent for crates that lie beside this one.
    pub(crate) source: Option<String>,
    /// `None` for a normal one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// Something that cargo builds of a crate.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    /// Without these features cargo leaves it out.
    #[serde(default, rename = "required-features")]
    pub(crate) required_features: Vec<String>,
}

impl Metadata {
    /// Asks cargo about the workspace at `root`. Reads no network.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let text =
            command::read(command::cargo(root).args(["metadata", "--no-deps", "--format-version", "1"]))?;
        Self::parse(&text)
    }

    /// Reads what `cargo metadata --no-deps` printed.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .context("cargo metadata printed something else than expected (format version 1)")
    }

    /// A crate by its name.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

//! npm's packages in the target folder, installed once: clients and a provider that we did
//! not write.

use crate::{command, workspace};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// What npm installs, exactly.
pub(crate) const PACKAGES: [&str; 3] = ["openid-client@6.9.0", "oidc-provider@9.13.3", "jose@6.2.18"];
/// Its folder under the target folder.
const FOLDER: &str = "node-oidc-2";
/// The oldest Node on which the packages run.
const NODE_MAJOR_MIN: u32 = 20;

/// A script, written where Node finds the packages from it: from its own folder upwards.
///
/// # Errors
/// No Node, or the packages cannot be installed.
pub(crate) fn script(name: &str, text: &str) -> Result<PathBuf> {
    let file = packages()?.join(name);
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

/// Finds or makes the folder with the packages.
fn packages() -> Result<PathBuf> {
    let folder = workspace::target()?.join(FOLDER);
    let version = command::read(Command::new("node").arg("--version")).context("expected node 20")?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|text| text.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_MAJOR_MIN) {
        bail!("expected node {NODE_MAJOR_MIN} or newer, found {}", version.trim());
    }
    if folder.join("node_modules/openid-client/package.json").exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("package.json"), "{\"private\":true}\n")?;
    println!("installing {} into {}", PACKAGES.join(" "), folder.display());
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]).args(PACKAGES);
    command::run(install.current_dir(&folder)).context("npm install")?;
    Ok(folder)
}

//! A Python environment with packages of PyPI in the target folder, made once: clients
//! and attackers that we did not write.

use crate::{command, workspace};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// What is installed into it, by name, and what it is imported as.
const PACKAGES: [(&str, &str); 6] = [
    ("h2", "h2.connection"),
    ("websockets", "websockets"),
    ("grpcio", "grpc"),
    // Receivers of OpenTelemetry's protocol.
    ("oteltap", "oteltap"),
    ("rotel", "rotel"),
    // A mail server that keeps what it gets.
    ("aiosmtpd", "aiosmtpd.controller"),
];
/// Its folder under the target folder; the system tests look there too.
const FOLDER: &str = "python-tests";

/// Finds or makes the environment, and gives its interpreter.
///
/// # Errors
/// No Python 3 with `venv`, or the packages cannot be installed.
pub(crate) fn environment() -> Result<PathBuf> {
    environment_of(FOLDER, &PACKAGES)
}

/// The same in another folder, with other packages.
///
/// # Errors
/// No Python 3 with `venv`, or the packages cannot be installed.
pub(crate) fn environment_of(folder: &str, packages: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = workspace::target()?.join(folder);
    let interpreter = folder.join("bin/python3");
    let imports: Vec<_> = packages.iter().map(|(_, module)| format!("import {module}")).collect();
    let has_packages = || command::read(Command::new(&interpreter).args(["-c", &imports.join(";")])).is_ok();
    if has_packages() {
        return Ok(interpreter);
    }
    let names: Vec<_> = packages.iter().map(|(name, _)| *name).collect();
    println!("installing {} into {}", names.join(" "), folder.display());
    command::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .context("expected python3 with venv")?;
    let mut install = Command::new(&interpreter);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(names);
    command::run(&mut install)?;
    if !has_packages() {
        bail!("the packages were installed and cannot be imported");
    }
    Ok(interpreter)
}

//! What is tried, built one way: the same profile, packages and features everywhere, so that
//! nothing is compiled twice. The features of dependencies follow from what is selected; every
//! test, example and binary is therefore built with the whole workspace selected.

use crate::{command, workspace};
use anyhow::Result;
use std::path::PathBuf;

/// What else each such build has, after `cargo COMMAND`. Protections that can be switched off one
/// by one are in no binary that is released, and on where nobody switches them off.
pub(crate) const EVERYWHERE: [&str; 4] = ["--workspace", "--locked", "--features", "bastide/switch-off"];

/// The gateway, as the whole-system tests start it.
pub(crate) fn bastide() -> Result<PathBuf> {
    examples()?;
    Ok(workspace::target()?.join("debug/bastide"))
}

/// The folder of all examples of the crates. They bring the features that tests have: the binary is
/// built beside them.
pub(crate) fn examples() -> Result<PathBuf> {
    let mut build = command::cargo(&workspace::root()?);
    command::run(build.args(["build", "--quiet"]).args(EVERYWHERE).args(["--bin", "bastide", "--examples"]))?;
    Ok(workspace::target()?.join("debug/examples"))
}

/// The binary of the release build.
pub(crate) fn released() -> Result<PathBuf> {
    let arguments = ["build", "--release", "--locked", "--quiet", "-p", "bastide", "--bin", "bastide"];
    command::run(command::cargo(&workspace::root()?).args(arguments))?;
    Ok(workspace::target()?.join("release/bastide"))
}

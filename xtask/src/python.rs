//! A Python environment with PyPI's h2 in the target folder, made once.

use crate::{command, workspace};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// What is installed into it, by name.
const PACKAGES: [&str; 1] = ["h2"];
/// The program of the attacks.
const ATTACK: &str = include_str!("attack.py");

/// An interpreter that has the packages, and the program that it runs.
#[derive(Clone)]
pub(super) struct Python {
    interpreter: PathBuf,
    program: PathBuf,
}

impl Python {
    /// The command of one attack, at the lowest priority: its own hunger for the processor
    /// is not what is measured.
    pub(super) fn attack(&self, words: &[String]) -> Command {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(&self.interpreter).arg(&self.program).args(words);
        command
    }
}

/// Finds or makes the environment.
///
/// # Errors
/// No Python 3 with `venv`, or the packages cannot be installed.
pub(super) fn environment() -> Result<Python> {
    let folder = workspace::target()?.join("python-floods");
    let interpreter = folder.join("bin/python3");
    let has_packages = || {
        command::read(Command::new(&interpreter).args(["-c", "import h2.connection, hyperframe, hpack"]))
            .is_ok()
    };
    if !has_packages() {
        println!("installing {} into {}", PACKAGES.join(" "), folder.display());
        command::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            .context("expected python3 with venv")?;
        let mut install = Command::new(&interpreter);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
        command::run(&mut install)?;
        if !has_packages() {
            bail!("the packages were installed and cannot be imported");
        }
    }
    let program = folder.join("attack.py");
    std::fs::write(&program, ATTACK)?;
    Ok(Python { interpreter, program })
}

//! schemathesis against a route that is held against its API document. Behind the gateway
//! openapi-core judges what arrives: nothing that breaks the document may. And against the
//! administration, by the document that it ships.

use super::{Counts, servers};
use crate::{command, python, workspace};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

const GATEWAY: &str = include_str!("gateway.py");
const JUDGE: &str = include_str!("judge.py");
const ADMINISTRATION: &str = include_str!("administration.py");
const DOCUMENT: &str = include_str!("api.yaml");
/// Fewer requests than this mean that nothing was tried.
const ARRIVED_LEAST: u64 = 20;

/// How much is tried.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// Generated requests for each operation
    #[arg(long, default_value_t = 200)]
    examples: u32,
    /// The binary under test; the one of the tests when left out
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl Options {
    /// The bounded part that is a check of every run.
    pub(crate) fn bounded() -> Self {
        Self { examples: 20, binary: None }
    }
}

/// What the judge says at its end.
#[derive(serde::Deserialize)]
struct Verdict {
    arrived: u64,
    wrong: u64,
    refused_by_schemathesis: bool,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<Counts> {
    let binary = servers::binary(options.binary.as_deref())?;
    let interpreter = match python::environment_of("python-schemathesis", &PACKAGES) {
        Ok(interpreter) => interpreter,
        Err(error) => {
            let skipped = vec![format!("PyPI's schemathesis and openapi-core: {error:#}")];
            return Ok(Counts { passed: 0, failed: 0, skipped });
        }
    };
    let folder = tempfile::tempdir()?;
    let (judge, document) = (script(folder.path(), "judge.py", JUDGE)?, folder.path().join("api.yaml"));
    std::fs::write(&document, DOCUMENT)?;
    let mut run = Command::new(&interpreter);
    let said = command::read(run.arg(judge).arg(&binary).arg(document).arg(options.examples.to_string()))?;
    let (shown, last) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim_end()));
    let verdict: Verdict = serde_json::from_str(last).context("the judge's last line")?;
    if !shown.is_empty() {
        println!("{shown}");
    }
    println!("{} requests arrived, {} of them break the document", verdict.arrived, verdict.wrong);
    let administered = administration(&interpreter, &binary, options.examples)?;
    let held = [
        verdict.wrong == 0,
        !verdict.refused_by_schemathesis,
        verdict.arrived >= ARRIVED_LEAST,
        administered,
    ];
    let failed = held.iter().filter(|held| !**held).count();
    Ok(Counts { passed: held.len() - failed, failed, skipped: Vec::new() })
}

/// The administration against the document that it ships: no server error, no answer that is not
/// in the document, nothing that breaks it accepted.
fn administration(interpreter: &Path, binary: &Path, examples: u32) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let script = script(folder.path(), "administration.py", ADMINISTRATION)?;
    let document = workspace::root()?.join("docs/openapi.json");
    let mut run = Command::new(interpreter);
    run.arg(script).arg(binary).arg(document).arg(examples.to_string());
    let said = command::read(&mut run)?;
    println!("{}", said.trim_end());
    Ok(said.trim_end().ends_with("administration: as its document says"))
}

/// A script in the folder, beside what both share.
fn script(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    std::fs::write(folder.join("gateway.py"), GATEWAY)?;
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

/// What is installed, by name, and what it is imported as.
const PACKAGES: [(&str, &str); 3] =
    [("schemathesis", "schemathesis"), ("openapi-core", "openapi_core"), ("werkzeug", "werkzeug")];

//! The identity provider under clients that we did not write: npm's `openid-client`, a
//! certified relying party, PyPI's `authlib`, and Chromium. Each script runs one flow after another
//! against `crates/identity/examples/provider.rs` and prints a line for each. And the gateway as
//! relying party of a provider that we did not write, npm's `oidc-provider`.

use super::Counts;
use crate::process::{Process, free_port};
use crate::{built, command, node, python};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What pip installs, and what each is imported as.
const PYPI_PACKAGES: [(&str, &str); 5] = [
    ("authlib", "authlib"),
    ("requests", "requests"),
    ("joserfc", "joserfc"),
    ("websockets", "websockets"),
    ("pyotp", "pyotp"),
];
const PYPI_FOLDER: &str = "python-oidc";

const EXAMPLES: &str = "Examples:
  cargo xtask suite oidc                    every client, the store in memory
  cargo xtask suite oidc --sqlite           the store in a SQLite file
  cargo xtask suite oidc --client openid-client";

/// Which clients, over which store.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// One client alone
    #[arg(long, value_enum)]
    client: Option<Client>,
    /// Keep the provider's records in a SQLite file instead of memory
    #[arg(long)]
    sqlite: bool,
    /// Where Chromium leaves pictures of the pages that it sees
    #[arg(long)]
    screenshots: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Client {
    /// npm, certified by the OpenID Foundation
    #[value(name = "openid-client")]
    Certified,
    /// PyPI
    Authlib,
    /// A browser, by keyboard alone
    Chromium,
    /// The gateway itself, at npm's provider (certified by the OpenID Foundation)
    #[value(name = "gateway")]
    Gateway,
}

impl Options {
    /// Every client, in memory.
    pub(super) fn bounded() -> Self {
        Self { client: None, sqlite: false, screenshots: None }
    }
}

/// Runs the scripts and counts what they print.
pub(super) fn run(options: &Options) -> Result<Counts> {
    let program = built::examples()?.join("provider");
    let mut counts = Counts { passed: 0, failed: 0, skipped: Vec::new() };
    for client in [Client::Certified, Client::Authlib, Client::Chromium, Client::Gateway] {
        if options.client.is_some_and(|only| only != client) {
            continue;
        }
        let folder = tempfile::tempdir()?;
        let script = match script(client, folder.path()) {
            Ok(script) => script,
            Err(reason) => {
                counts.skipped.push(format!("{reason:#}"));
                continue;
            }
        };
        match client {
            Client::Gateway => run_gateway(folder.path(), script, &mut counts)?,
            _ => run_one(&program, folder.path(), options, script, &mut counts)?,
        }
    }
    Ok(counts)
}

/// The program that runs a client's script, or why it cannot run here.
fn script(client: Client, folder: &Path) -> Result<Command> {
    let mut command = match client {
        Client::Certified => {
            let mut command = Command::new("node");
            command.arg(node::script("openid-client.mjs", include_str!("openid-client.mjs"))?);
            command
        }
        Client::Gateway => {
            let mut command = Command::new("node");
            command.arg(node::script("relying.mjs", include_str!("relying.mjs"))?);
            command
        }
        Client::Authlib => pypi(folder, "authlib_client.py", include_str!("authlib_client.py"))?,
        Client::Chromium => {
            command::read(Command::new("chromium").arg("--version"))
                .context("no Chromium (Debian's chromium)")?;
            pypi(folder, "chromium.py", include_str!("chromium.py"))?
        }
    };
    command.current_dir(folder);
    Ok(command)
}

/// A script with the environment of Python.
fn pypi(folder: &Path, name: &str, text: &str) -> Result<Command> {
    let mut command = Command::new(python::environment_of(PYPI_FOLDER, &PYPI_PACKAGES)?);
    let file = folder.join(name);
    std::fs::write(&file, text)?;
    command.arg(file);
    Ok(command)
}

/// The script starts the gateway, and the provider and the service in its own process.
fn run_gateway(folder: &Path, mut script: Command, counts: &mut Counts) -> Result<()> {
    script.arg(built::bastide()?).arg(folder);
    for _ in 0..3 {
        script.arg(free_port()?.to_string());
    }
    judge(&mut script, counts)
}

/// Runs a script and counts what it says.
fn judge(script: &mut Command, counts: &mut Counts) -> Result<()> {
    let mut lines = Vec::new();
    let well = command::run_seeing(script, |line| lines.push(line.to_owned()))?;
    let count = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count();
    let (passed, failed) = (count("ok "), count("FAIL "));
    counts.passed += passed;
    counts.failed += failed;
    if (!well && failed == 0) || passed + failed == 0 {
        counts.failed += 1;
    }
    Ok(())
}

fn run_one(
    program: &Path,
    folder: &Path,
    options: &Options,
    mut script: Command,
    counts: &mut Counts,
) -> Result<()> {
    let logout = format!("http://127.0.0.1:{}/logout", free_port()?);
    let mut provider = Command::new(program);
    provider.args(["--logout", &logout]);
    if options.sqlite {
        provider.arg("--store").arg(folder.join("identity.db"));
    }
    let log = folder.join("provider.log");
    let mut running = Process::start("provider", folder, &mut provider)?;
    let issuers = running.wait(|| {
        let said = std::fs::read_to_string(&log).ok()?;
        said.lines().find(|line| line.starts_with('{')).map(str::to_owned)
    })?;
    if let Some(folder) = &options.screenshots {
        std::fs::create_dir_all(folder)?;
        script.env("SCREENSHOTS", folder.canonicalize()?);
    }
    judge(script.arg(issuers).arg(&logout), counts)
}

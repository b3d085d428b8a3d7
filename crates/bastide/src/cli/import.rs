//! `bastide import`: configurations of other gateways, translated.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueHint};
use keys::SystemRandom;
use serde_json::json;

use super::help::{examples, help};
use super::{COULD_NOT_RUN, Output, check, exit_code, say, say_json};
use crate::config::{self, Disk};
use crate::import::{Imported, Outcome, Unreadable, keycloak, kong};

/// Most bytes of a source.
const BYTES_MAX: u64 = 256 << 20;

/// Arguments of `bastide import`.
#[derive(Debug, Args)]
#[command(after_help = examples(
    "deck gateway dump -o kong.yaml && bastide import kong kong.yaml --out shop\n\
     bastide import keycloak shop-realm.json --issuer https://id.example.org/realms/shop"
))]
pub struct ImportArguments {
    #[command(subcommand)]
    from: From,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum From {
    /// A decK file of Kong, format 1.1 or 3.0 (`deck gateway dump`).
    #[command(after_help = help(
        "It writes OUT/bastide.yaml, its policies and certificates, readable for their owner alone. The report\n\
         says what became of each entity, with its location in the source. What protects a route in Kong and\n\
         cannot be translated closes the route: a forbid policy that names the reason stands in its place.\n\
         The result is laid out by `bastide fmt` and checked as by `bastide check`. See docs/migration.md.",
        "0 translated, 1 a route is closed or the result has faults, 2 wrong usage, 3 the file cannot be read or OUT cannot be written",
        "deck gateway dump -o kong.yaml && bastide import kong kong.yaml --out shop\n\
         bastide import kong kong.yaml --output json | jq '.findings[] | select(.outcome == \"closed\")'"
    ))]
    Kong {
        /// The decK file; `-` reads standard input.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The folder that is written; it must not exist, unless --force is given.
        #[arg(long, default_value = "imported", value_hint = ValueHint::DirPath)]
        out: PathBuf,
        /// Replace files in OUT.
        #[arg(long)]
        force: bool,
        /// Where the result listens for cleartext, as Kong's 8000.
        #[arg(long, default_value = "0.0.0.0:8000", value_name = "ADDRESS")]
        http: String,
        /// Where the result listens for TLS, as Kong's 8443.
        #[arg(long, default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
        https: String,
    },
    /// A realm of Keycloak (`kc.sh export --users realm_file`), with its users' hashes.
    #[command(after_help = help(
        "It writes OUT/realm.yaml for the configuration (the realm and its roles) and OUT/NAME.json with clients and\n\
         users for `bastide apply`, readable for their owner alone. The report says what became of each entity,\n\
         with its location in the source. What would become more open is closed: addresses with wildcards are left out,\n\
         clients whose secrets, keys or login cannot be imported are disabled, and users whose second factor cannot.\n\
         See docs/migration.md.",
        "0 translated, 1 a client or user is closed, 2 wrong usage, 3 a file cannot be read or OUT cannot be written",
        "kc.sh export --realm shop --users realm_file --file shop-realm.json\n\
         bastide import keycloak shop-realm.json --issuer https://id.example.org/realms/shop\n\
         bastide apply -f imported/shop.json --dry-run"
    ))]
    Keycloak {
        /// The export of the realm, and further files with its users.
        #[arg(required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// The folder that is written; it must not exist, unless --force is given.
        #[arg(long, default_value = "imported", value_hint = ValueHint::DirPath)]
        out: PathBuf,
        /// Replace files in OUT.
        #[arg(long)]
        force: bool,
        /// The realm's issuer. Default: https://id.example.org/realms/NAME
        #[arg(long, value_name = "URL")]
        issuer: Option<String>,
    },
}

/// Translates a source into files and prints the report; the exit code is 1 if anything is closed.
///
/// # Errors
/// The source cannot be read, or the folder cannot be written.
pub fn run(arguments: &ImportArguments) -> anyhow::Result<ExitCode> {
    match &arguments.from {
        From::Kong { file, out, force, http, https } => {
            free(out, *force)?;
            let text = read(file)?;
            let listen = kong::Listen { http: http.clone(), https: https.clone() };
            match kong::import(&text, listen) {
                Ok(imported) => gateway(file, out, &imported.written_to(out), arguments.output),
                Err(unreadable) => Ok(complain(file, &unreadable, arguments.output)),
            }
        }
        From::Keycloak { files, out, force, issuer } => {
            free(out, *force)?;
            let texts = files.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<_>>>()?;
            let wanted = keycloak::Wanted { issuer: issuer.clone(), hash };
            let first = files.first().map_or(Path::new("-"), PathBuf::as_path);
            match keycloak::import(&texts, &wanted) {
                Ok(imported) => realm(first, out, &imported.written_to(out), arguments.output),
                Err(unreadable) => Ok(complain(first, &unreadable, arguments.output)),
            }
        }
    }
}

/// The hash of a password in clear.
fn hash(password: &str) -> Result<String, String> {
    identity::hash_password(password, &SystemRandom::new()).map_err(|error| error.to_string())
}

fn free(out: &Path, force: bool) -> anyhow::Result<()> {
    anyhow::ensure!(force || !out.exists(), "{} exists; --force replaces its files", out.display());
    Ok(())
}

fn complain(file: &Path, unreadable: &Unreadable, output: Output) -> ExitCode {
    let text = format!("{}:{unreadable}", file.display());
    match output {
        Output::Text => say_error(&text),
        Output::Json => say_json(&json!({ "file": file, "error": text })),
    }
    ExitCode::from(COULD_NOT_RUN)
}

/// A configuration: written, and checked.
fn gateway(file: &Path, out: &Path, imported: &Imported, output: Output) -> anyhow::Result<ExitCode> {
    write(out, imported)?;
    let path = out.join("bastide.yaml");
    // A variable that is not set here will be where the gateway runs.
    let environment = |name: &str| check::environment(name).or_else(|| Some("1".to_owned()));
    let report = config::check_with(&path, &environment, &Disk);
    match output {
        Output::Text => say(format_args!("{}{report}", text_report(file, imported))),
        Output::Json => say_json(&json!({
            "file": file, "out": out, "findings": imported.findings,
            "next_steps": imported.next_steps, "closed": imported.is_closed(), "check": report,
        })),
    }
    let good = report.ok && !imported.is_closed();
    Ok(exit_code(good))
}

/// A realm: a part of a configuration, and records.
fn realm(file: &Path, out: &Path, imported: &Imported, output: Output) -> anyhow::Result<ExitCode> {
    write(out, imported)?;
    match output {
        Output::Text => say(text_report(file, imported).trim_end()),
        Output::Json => say_json(&json!({
            "file": file, "out": out, "findings": imported.findings,
            "next_steps": imported.next_steps, "closed": imported.is_closed(),
        })),
    }
    Ok(exit_code(!imported.is_closed()))
}

#[expect(clippy::print_stderr, reason = "a fault of the source")]
fn say_error(text: &str) {
    eprintln!("{text}");
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let cannot = || format!("cannot read {}", file.display());
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    } else {
        let source = std::fs::File::open(file).with_context(cannot)?;
        source.take(BYTES_MAX + 1).read_to_end(&mut bytes).with_context(cannot)?;
    }
    anyhow::ensure!(bytes.len() as u64 <= BYTES_MAX, "{} has more than {BYTES_MAX} bytes", file.display());
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", file.display()))
}

/// Everything for the owner alone: header values and keys can be secrets.
fn write(out: &Path, imported: &Imported) -> anyhow::Result<()> {
    for file in &imported.files {
        let path = out.join(&file.path);
        let cannot = || format!("cannot write {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
        }
        // A new file, so that it has these permissions whatever stood there.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(cannot);
            }
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&path);
        opened.and_then(|mut target| target.write_all(&file.bytes)).with_context(cannot)?;
    }
    Ok(())
}

fn text_report(file: &Path, imported: &Imported) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for finding in &imported.findings {
        let _ = writeln!(
            text,
            "{}:{}:{}: {}: {}: {}",
            file.display(),
            finding.line,
            finding.column,
            finding.what,
            finding.outcome.name(),
            finding.note
        );
    }
    if !imported.next_steps.is_empty() {
        text.push_str("\nLeft to do:\n");
    }
    for step in &imported.next_steps {
        let _ = writeln!(text, "  {step}");
    }
    let count = |outcome| imported.findings.iter().filter(|finding| finding.outcome == outcome).count();
    let counts = [Outcome::Translated, Outcome::Changed, Outcome::Dropped, Outcome::Closed]
        .map(|outcome| format!("{} {}", count(outcome), outcome.name()));
    let _ = writeln!(text, "\n{}", counts.join(", "));
    text
}

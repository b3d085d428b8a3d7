//! `bastide store`: what an operator does with the store: look, back up, restore, rotate.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueHint};
use serde_json::json;
use store::{Shares, Store, UnsealKey};

use super::admin_context::below;
use super::help::{examples, help};
use super::{Output, exit_code, refuse_with, say, say_json, warn};
use crate::admin::client::AdminClient;
use crate::config::{Configuration, Unseal};
use crate::process::clock::SystemClock;
use crate::process::state::{ACME, IDENTITY_KEY, LOCAL_AUTHORITY, REVOCATIONS};
use crate::process::storage;

/// Arguments of `bastide store`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "All of it works while `bastide serve` runs on the same store.",
    "0 done, 1 the answer is no (damage was found, records would be replaced), 2 wrong usage, 3 could not run (faults of the configuration included)",
    "bastide store status --output json\n\
     bastide store backup /backup/$(date +%F).bastide\n\
     bastide store check /backup/2026-11-29.bastide\n\
     bastide store restore /backup/2026-11-29.bastide --replace\n\
     bastide store rotate                      makes new keys, and re-encrypts everything with them"
))]
pub struct StoreArguments {
    #[command(subcommand)]
    command: StoreCommand,
    /// The configuration, which says where the store is.
    #[arg(long, short, default_value = "bastide.yaml", global = true, value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// With `unseal: shares`, a file that holds a share; may be given several times. Default:
    /// standard input.
    #[arg(long = "share-file", global = true, value_hint = ValueHint::FilePath)]
    share_files: Vec<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Shows the state of the store: records, keys, size.
    #[command(after_help = examples(
        "bastide store status\n\
         bastide store status --output json"
    ))]
    Status,
    /// Writes a snapshot of everything to a new, encrypted file, and checks it.
    #[command(after_help = examples("bastide store backup /backup/$(date +%F).bastide"))]
    Backup {
        /// The new file.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Replaces everything by the contents of a backup, at one moment.
    #[command(after_help = examples(
        "bastide store restore /backup/2026-11-29.bastide             into an empty store\n\
         bastide store restore /backup/2026-11-29.bastide --replace\n\
         bastide store restore /backup/2026-11-29.bastide --key-file old.key    of a store with another key"
    ))]
    Restore {
        /// The backup.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Do it even if there are records, which are then lost.
        #[arg(long)]
        replace: bool,
        /// The unseal key that the backup was made under. Default: that of the store.
        #[arg(long, value_hint = ValueHint::FilePath)]
        key_file: Option<PathBuf>,
    },
    /// Reads everything in the store or a backup, and reports whether it is intact.
    #[command(after_help = examples(
        "bastide store check                                  the store\n\
         bastide store check /backup/2026-11-29.bastide       a backup\n\
         bastide store check /backup/2026-11-29.bastide --key-file old.key"
    ))]
    Check {
        /// A backup. Default: the store.
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// The unseal key that the backup was made under. Default: that of the store.
        #[arg(long, requires = "file", value_hint = ValueHint::FilePath)]
        key_file: Option<PathBuf>,
    },
    /// Makes new keys, re-encrypts everything with them and destroys the old ones. Can be
    /// interrupted, and continues with --resume, or by itself while `bastide serve` runs.
    #[command(after_help = examples(
        "bastide store rotate\n\
         bastide store rotate --resume      continues a rotation that was interrupted"
    ))]
    Rotate {
        /// Make no new keys, only finish an earlier rotation.
        #[arg(long)]
        resume: bool,
    },
}

/// Carries out a command on the store, which may be in use.
///
/// # Errors
/// The configuration has faults, or the store cannot be opened, read or written.
pub fn run(arguments: StoreArguments) -> anyhow::Result<ExitCode> {
    let configuration = super::check::load_or_report(&arguments.config, arguments.output)?;
    let key = unlock(&configuration, &arguments.share_files)?;
    let output = arguments.output;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let StoreCommand::Check { file: Some(file), key_file } = &arguments.command {
        let key = key_file.as_deref().map(read_key).transpose()?.unwrap_or(key);
        let checked = store::check_backup(file, &key).map(|backup| backup.records);
        // What cannot be read is neither whole nor damaged.
        if let Err(fault @ store::Error::File { .. }) = checked {
            return Err(fault.into());
        }
        return Ok(show_check(checked, output));
    }
    let database = &configuration.storage.database;
    let opened = runtime.block_on(storage::open(database, key, Arc::new(SystemClock::start())));
    let store = opened.with_context(|| storage::place(database))?;
    match arguments.command {
        StoreCommand::Status => runtime.block_on(status(&store, output)),
        StoreCommand::Backup { file } => {
            note(&configuration, "backup", &file.display().to_string())?;
            runtime.block_on(backup(&store, &configuration, &file, output))
        }
        StoreCommand::Restore { file, replace, key_file } => {
            let key = key_file.as_deref().map(read_key).transpose()?;
            let there = runtime.block_on(store.status())?.records;
            if there > 0 && !replace {
                let why = format!(
                    "the store holds {there} records, which would be gone; with --replace the backup takes their place"
                );
                return Ok(refuse_with(&why, output, json!({ "restored": false, "records": there })));
            }
            note(&configuration, "restore", &file.display().to_string())?;
            runtime.block_on(restore(&store, &file, key, output))
        }
        StoreCommand::Check { .. } => Ok(show_check(runtime.block_on(store.verify()), output)),
        StoreCommand::Rotate { resume } => {
            note(&configuration, "rotate", if resume { "resumed" } else { "" })?;
            runtime.block_on(rotate(&store, resume, output))
        }
    }
}

/// Leaves the event of what is begun: in the log of the process that runs, or, without one, in the configured log.
fn note(configuration: &Configuration, work: &str, about: &str) -> anyhow::Result<()> {
    let admin = AdminClient::without_realms(configuration)?;
    let answer = admin.call("POST", &below(&["store", work], &[]), Some(&json!({ "about": about })))?;
    if answer.status == 404 {
        warn("the process that runs is of an earlier version, and its audit log has no event of this");
        return Ok(());
    }
    answer.done().map(drop)
}

async fn backup(
    store: &Store,
    configuration: &Configuration,
    file: &std::path::Path,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let backup = store.backup(file).await?;
    let beside = beside_the_store(configuration);
    match output {
        Output::Json => say_json(&json!({ "file": file, "backup": backup, "not_in_it": beside })),
        Output::Text => {
            say(format_args!(
                "{}: {} records up to version {}, {} bytes, read back and whole",
                file.display(),
                backup.records,
                backup.version,
                backup.bytes
            ));
            if !beside.is_empty() {
                let beside: Vec<_> = beside.iter().map(|path| path.display().to_string()).collect();
                say(format_args!("not in it, to be copied with it: {}", beside.join(", ")));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the state folder holds besides the store, logs apart, where it is there.
fn beside_the_store(configuration: &Configuration) -> Vec<PathBuf> {
    let names = [REVOCATIONS, IDENTITY_KEY, LOCAL_AUTHORITY, ACME];
    let in_the_folder = names.map(|name| configuration.state.join(name));
    let all = std::iter::once(configuration.authentication.api_keys.clone()).chain(in_the_folder);
    all.filter(|path| path.exists()).collect()
}

/// The unseal key: of this machine, or made up of shares that are given now.
pub(super) fn unlock(configuration: &Configuration, share_files: &[PathBuf]) -> anyhow::Result<UnsealKey> {
    let unseal = &configuration.storage.unseal;
    anyhow::ensure!(
        *unseal == Unseal::Shares || share_files.is_empty(),
        "--share-file needs `unseal: shares`; the configuration says otherwise"
    );
    if let Some(key) = storage::local_key(unseal)? {
        return Ok(key);
    }
    let mut shares = Shares::new();
    for text in super::unseal::shares(share_files)? {
        if let Some(key) = shares.add(store::Share::parse(&text)?)? {
            return Ok(key);
        }
    }
    let needed = shares.needed().unwrap_or(0);
    let were = if shares.given() == 1 { "share was" } else { "shares were" };
    anyhow::bail!("{} of {needed} {were} given; give them one per line, or by --share-file", shares.given())
}

fn read_key(path: &std::path::Path) -> anyhow::Result<UnsealKey> {
    Ok(UnsealKey::read_file(path, rustix::process::geteuid().as_raw())?)
}

async fn status(store: &Store, output: Output) -> anyhow::Result<ExitCode> {
    let status = store.status().await?;
    match output {
        Output::Json => say_json(&status),
        Output::Text => {
            say(format_args!("database    {}, {} bytes", status.backend, status.bytes));
            say(format_args!(
                "records     {}, and {} deletions that are remembered",
                status.records, status.deletions
            ));
            say(format_args!("version     {}", status.version));
            let stale = match status.stale {
                0 => "everything is under them".to_owned(),
                stale => format!("{stale} records wait for them: bastide store rotate --resume"),
            };
            say(format_args!("keys        generation {}, {stale}", status.generation));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn restore(
    store: &Store,
    file: &std::path::Path,
    key: Option<UnsealKey>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let backup = store.restore(file, key).await?;
    match output {
        Output::Json => say_json(&json!({ "restored": true, "backup": backup })),
        Output::Text => say(format_args!("restored {} records", backup.records)),
    }
    Ok(ExitCode::SUCCESS)
}

fn show_check(checked: Result<u64, store::Error>, output: Output) -> ExitCode {
    let whole = checked.is_ok();
    match (output, checked) {
        (Output::Json, Ok(records)) => say_json(&json!({ "whole": true, "records": records })),
        (Output::Json, Err(fault)) => say_json(&json!({ "whole": false, "error": fault.to_string() })),
        (Output::Text, Ok(records)) => say(format_args!("whole: {records} records were read and opened")),
        (Output::Text, Err(fault)) => say(format_args!("not whole: {fault}")),
    }
    exit_code(whole)
}

async fn rotate(store: &Store, resume: bool, output: Output) -> anyhow::Result<ExitCode> {
    let generation = if resume { None } else { Some(store.rotate().await?) };
    let all = store.status().await?;
    let mut work = store.reencryption();
    let mut done = 0;
    loop {
        let count = work.step().await?;
        if count == 0 {
            break;
        }
        done += u64::try_from(count).unwrap_or(0);
        progress(done, all.stale);
    }
    let generation = generation.unwrap_or(all.generation);
    match output {
        Output::Json => say_json(&json!({ "generation": generation, "reencrypted": done })),
        Output::Text => {
            say(format_args!(
                "{done} records are under generation {generation} now; older keys are destroyed"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says on a terminal how far it is.
fn progress(done: u64, all: u64) {
    use std::io::{IsTerminal as _, Write as _};
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let end = if done >= all { "\n" } else { "" };
        let _ = write!(terminal, "\r{done} of {all} records{end}");
    }
}

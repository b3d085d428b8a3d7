//! `bastide diff`: what a reload would change.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};

use super::help::help;
use super::{Output, check, exit_code, say, say_json};
use crate::config::{Changes, Disk, Outline};
use crate::process::running;

/// Arguments of `bastide diff`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "The value behind ${…} is never shown; that it differs is.",
    "0 nothing would change, 1 something would, 2 wrong usage, 3 a configuration has faults or no gateway is running",
    "bastide diff                                  bastide.yaml compared with what the gateway serves now\n\
     bastide diff --config /etc/bastide/bastide.yaml --output json\n\
     bastide diff old/bastide.yaml new/bastide.yaml   two files"
))]
pub struct DiffArguments {
    /// The old configuration.
    #[arg(requires = "new", value_hint = ValueHint::FilePath)]
    old: Option<PathBuf>,
    /// The new configuration.
    #[arg(value_hint = ValueHint::FilePath)]
    new: Option<PathBuf>,
    /// Without OLD and NEW: the configuration file, compared with what the gateway on its state folder
    /// serves now.
    #[arg(
        long,
        short,
        default_value = "bastide.yaml",
        conflicts_with_all = ["old", "new"],
        value_hint = ValueHint::FilePath
    )]
    config: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Prints the differences; the exit code is 1 if there are any.
///
/// # Errors
/// No gateway is running on the state folder, or what it kept cannot be read.
pub fn run(arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let load = |path: &Path| check::load_written_or_report(path, arguments.output);
    let (old, new) = match (&arguments.old, &arguments.new) {
        (Some(old), Some(new)) => {
            let (old, new) = (load(old)?, load(new)?);
            let salt = running::salt()?;
            (Outline::of(&old.0, &old.1, &salt, &Disk), Outline::of(&new.0, &new.1, &salt, &Disk))
        }
        _ => {
            let (configuration, written) = load(&arguments.config)?;
            let old = running::outline(&configuration.state)?;
            let new = Outline::of(&configuration, &written, &old.salt, &Disk);
            (old, new)
        }
    };
    let changes = Changes::between(&old, &new);
    match arguments.output {
        Output::Text => say(changes.to_string().trim_end()),
        Output::Json => say_json(&changes),
    }
    Ok(exit_code(changes.is_empty()))
}

//! `bastide check`: what a reload would say, without reloading.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{Output, say};
use crate::config::{self, Configuration};

/// Arguments of `bastide check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bastide check\n  bastide check /etc/bastide/bastide.yaml --output json\n  bastide check --schema > bastide.schema.json\n\nIn an editor with the YAML language server, the first line of a file names the schema:\n  # yaml-language-server: $schema=bastide.schema.json\n\nExit codes: 0 good, 1 faults were found, 2 wrong usage, 3 could not run."
)]
pub struct CheckArguments {
    /// The configuration file.
    #[arg(default_value = "bastide.yaml", value_hint = clap::ValueHint::FilePath)]
    config: PathBuf,
    /// Print the JSON Schema of the configuration, for editors, and check nothing.
    #[arg(long)]
    schema: bool,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs the command.
///
/// # Errors
/// Never; faults are its result.
pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    if arguments.schema {
        say(config::json_schema().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    Ok(report(&arguments.config, arguments.output))
}

/// Checks and prints what came of it.
pub(super) fn report(path: &Path, output: Output) -> ExitCode {
    let report = config::check(path, &environment);
    match output {
        Output::Text => say(&report),
        Output::Json => say(report.to_json()),
    }
    ExitCode::from(report.exit_code())
}

/// The configuration, or its report printed and nothing.
pub(super) fn load_or_report(path: &Path, output: Output) -> anyhow::Result<Option<Configuration>> {
    match config::load(path, &environment, &config::Disk) {
        Ok(configuration) => Ok(Some(configuration)),
        Err(_) => {
            report(path, output);
            Ok(None)
        }
    }
}

/// The same of what `bastide run` makes of a town's configuration for one service; without a
/// service, of the file itself.
pub(super) fn load_service_or_report(
    service: Option<&str>,
    path: &Path,
    output: Output,
) -> anyhow::Result<Option<Configuration>> {
    let Some(service) = service else { return load_or_report(path, output) };
    match crate::process::run::configuration(service, path)? {
        Ok(configuration) => Ok(Some(configuration)),
        Err(findings) => {
            let report = config::Report::bad(path, findings);
            match output {
                Output::Text => say(&report),
                Output::Json => say(report.to_json()),
            }
            Ok(None)
        }
    }
}

/// The process' environment, for `${NAME}`.
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

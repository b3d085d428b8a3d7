//! `bastide check`: what a reload would say, without reloading.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::help::help;
use super::{Output, say, say_beside, say_json};
use crate::admin::client::AdminClient;
use crate::config::{self, Configuration, Fault, Written};

/// Arguments of `bastide check`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "In an editor with the YAML language server, the first line of a file names the schema:\n\
     \x20 # yaml-language-server: $schema=bastide.schema.json",
    "0 good, 1 faults were found, 2 wrong usage, 3 could not run",
    "bastide check\n\
     bastide check /etc/bastide/bastide.yaml --output json\n\
     bastide check mesh.yaml --service orders        as `bastide run --service orders` reads it\n\
     bastide check --schema > bastide.schema.json"
))]
pub struct CheckArguments {
    /// The configuration file.
    #[arg(default_value = "bastide.yaml", value_hint = clap::ValueHint::FilePath)]
    config: PathBuf,
    /// Check the file as `bastide run` of this service reads it: one that all services of a mesh share has
    /// neither listeners nor routes.
    #[arg(long, conflicts_with = "schema")]
    service: Option<String>,
    /// Print the JSON Schema of the configuration, for editors, and check nothing.
    #[arg(long)]
    schema: bool,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Prints the report on a configuration, or the schema; the exit code is 1 if there are faults.
///
/// # Errors
/// Never; faults are its result.
pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    if arguments.schema {
        say(config::json_schema().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(service) = &arguments.service else { return Ok(report(&arguments.config, arguments.output)) };
    let path = &arguments.config;
    let report = match crate::process::run::configuration(service, path)? {
        Ok(configuration) => config::Report::good(path, &configuration),
        Err(findings) => config::Report::bad(path, findings),
    };
    print(&report, arguments.output);
    Ok(ExitCode::from(report.exit_code()))
}

/// Checks and prints the report.
fn report(path: &Path, output: Output) -> ExitCode {
    let mut report = config::check(path, &environment);
    hint(path, &mut report.faults, "`bastide check FILE` checks another");
    print(&report, output);
    ExitCode::from(report.exit_code())
}

fn print(report: &config::Report, output: Output) {
    match output {
        Output::Text => say(report),
        Output::Json => say_json(report),
    }
}

/// Says what keeps another command from its result. Where people read it, that is not the place of the result, which
/// may be a file.
fn print_beside(path: &Path, mut findings: Vec<Fault>, output: Output) {
    hint(path, &mut findings, ANOTHER);
    let report = config::Report::bad(path, findings);
    match output {
        Output::Text => say_beside(report),
        Output::Json => say_json(&report),
    }
}

/// What commands call another configuration.
pub(crate) const ANOTHER: &str = "--config FILE names another";

/// What to do about a configuration that is not there: most often another is meant.
pub(crate) fn hint(path: &Path, faults: &mut [Fault], what: &str) {
    if let [fault] = faults
        && fault.line == 0
        && !path.exists()
    {
        fault.suggestion = Some(what.to_owned());
    }
}

/// A configuration cannot be loaded, and its faults are reported already.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has faults")]
pub(crate) struct Reported;

/// The configuration that a command works with.
///
/// # Errors
/// [`Reported`]: it has faults.
pub(super) fn load_or_report(path: &Path, output: Output) -> Result<Configuration, Reported> {
    load_written_or_report(path, output).map(|(configuration, _)| configuration)
}

/// What a command works with that needs a process to ask, and of the configuration no more than which.
pub(super) enum Loaded {
    /// The configuration.
    Whole(Box<Configuration>),
    /// The state folder of a process that runs although the file has faults now.
    Running(PathBuf),
}

/// The configuration; where it has faults, what the process that runs all the same goes by.
///
/// # Errors
/// [`Reported`]: it has faults, and no process runs.
pub(super) fn load_or_running(path: &Path, output: Output) -> Result<Loaded, Reported> {
    let faults = match config::load(path, &environment, &config::Disk) {
        Ok(configuration) => return Ok(Loaded::Whole(Box::new(configuration))),
        Err(faults) => faults,
    };
    let state = config::state_folder(path, &environment, &config::Disk);
    let Some(state) = state.filter(|state| AdminClient::answers(state)) else {
        print_beside(path, faults, output);
        return Err(Reported);
    };
    let is_fault = |fault: &&Fault| fault.severity == config::Severity::Fault;
    let faults: usize = faults.iter().filter(is_fault).map(|fault| fault.count).sum();
    super::warn(format_args!(
        "{} has {} (`bastide check` lists them); that of the process that runs in {} is used",
        path.display(),
        super::count_of(faults, "fault"),
        state.display()
    ));
    Ok(Loaded::Running(state))
}

/// The configuration, and its values as they are written.
///
/// # Errors
/// [`Reported`]: it has faults.
pub(super) fn load_written_or_report(
    path: &Path,
    output: Output,
) -> Result<(Configuration, Written), Reported> {
    config::load_written(path, &environment, &config::Disk).map_err(|refused| {
        print_beside(path, refused.faults, output);
        Reported
    })
}

/// What `bastide run` makes of the configuration shared by the mesh's services for one service; without a
/// service, the file itself.
///
/// # Errors
/// [`Reported`]: it has faults. Others: it cannot be read.
pub(super) fn load_service_or_report(
    service: Option<&str>,
    path: &Path,
    output: Output,
) -> anyhow::Result<Configuration> {
    let Some(service) = service else { return Ok(load_or_report(path, output)?) };
    let loaded = crate::process::run::configuration(service, path)?;
    Ok(loaded.map_err(|findings| {
        print_beside(path, findings, output);
        Reported
    })?)
}

/// The process' environment, for `${NAME}`.
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

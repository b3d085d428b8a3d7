//! `bastide waf`: the operator's tools of the firewall. [`check`] reads rule files,
//! [`trial`] judges requests from files, [`replay`] and [`exclude`] read what the running
//! firewall wrote down.
//!
//! The way through it: [`rules`] turns options or a configuration into a loaded rule set,
//! [`message`] reads raw requests and answers, [`log`] reads the firewall's log,
//! [`settings`] says what a replay is held against, and [`verdict`] computes what a line
//! of the log would have come to.
//!
//! What it must never do: guess what a log does not say, or show a secret that the
//! firewall's own log would mask.

mod check;
mod evidence;
mod exclude;
mod log;
mod message;
mod profile;
mod proposal;
mod replay;
mod rules;
mod settings;
mod trial;
mod verdict;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::help::{EXIT_CODES, help};

/// Arguments of `bastide waf`.
#[derive(Debug, Args)]
#[command(after_help = help("", EXIT_CODES, EXAMPLES))]
pub struct WafArguments {
    #[command(subcommand)]
    command: WafCommand,
}

const EXAMPLES: &str = "\
bastide waf check /opt/coreruleset
bastide waf test --rules /opt/coreruleset --timing request.http
bastide waf replay --paranoia 1 --inbound-threshold 10 bastide-state/firewall
bastide waf exclude --from-log bastide-state/firewall";

#[derive(Debug, Subcommand)]
enum WafCommand {
    /// Reads rule files and reports faults, and rules that can never match or never run.
    Check(check::CheckArguments),
    /// Judges raw requests from files: matched rules, scores, the verdict.
    Test(trial::TrialArguments),
    /// Says which requests of the firewall's log other settings would block or let through.
    Replay(replay::ReplayArguments),
    /// Proposes exclusions for false positives in the firewall's log.
    Exclude(exclude::ExcludeArguments),
}

/// Runs one of the firewall's tools.
///
/// # Errors
/// It could not run: a file cannot be read, a configuration has faults.
pub fn run(arguments: &WafArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        WafCommand::Check(arguments) => check::run(arguments),
        WafCommand::Test(arguments) => trial::run(arguments),
        WafCommand::Replay(arguments) => replay::run(arguments),
        WafCommand::Exclude(arguments) => exclude::run(arguments),
    }
}

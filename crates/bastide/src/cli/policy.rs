//! `bastide policy`: tests of policies, the schema that they are written against, and what
//! a change of them would do.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use policy::testing::{Case, Report, run_with};
use serde::Deserialize;

use super::help::{examples, help};
use super::{Output, exit_code, say, say_json};
use crate::config::Configuration;
use crate::wire;

/// Arguments of `bastide policy`.
#[derive(Debug, Args)]
#[command(after_help = help(PROSE, CODES, EXAMPLES))]
pub struct PolicyArguments {
    #[command(subcommand)]
    command: PolicyCommand,
    /// The configuration whose policies are meant.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = clap::ValueHint::FilePath, global = true)]
    config: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

const PROSE: &str = "\
A test file is a list of cases:
  - name: a customer reads their own order
    principal: { kind: User, id: alice, roles: [customer] }
    request: { method: GET, host: shop.example.org, path: /orders/alice/17 }
    expect: allow
    why: own-orders";

const CODES: &str =
    "0 done, 1 a case failed, 2 wrong usage, 3 could not run (faults of the configuration included)";

const EXAMPLES: &str = "\
bastide policy test policies/tests.yaml
bastide policy schema > bastide.cedarschema
bastide policy diff bastide.yaml new/bastide.yaml --against bastide-state/audit
bastide policy suggest --from-log bastide-state/audit > suggested.cedar";

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Runs the cases of a file against the configured policies.
    #[command(after_help = help(
        "",
        "0 every case passed, 1 a case failed, 2 wrong usage, 3 could not run (faults of the configuration included)",
        "bastide policy test policies/tests.yaml\n\
         bastide policy test policies/tests.yaml --config new/bastide.yaml --output json"
    ))]
    Test {
        /// The file, YAML or JSON.
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Prints the Cedar schema that is generated from the configuration; with `--output json` as Cedar's JSON.
    #[command(after_help = examples(
        "bastide policy schema > bastide.cedarschema\n\
         bastide policy schema --output json > schema.json"
    ))]
    Schema,
    /// Replays the audit log under other policies, and lists requests that would be decided differently.
    Diff(super::policy_diff::DiffArguments),
    /// Proposes policies that permit what the audit log contains and nothing more.
    Suggest(super::policy_suggest::SuggestArguments),
}

/// The cases, as a list or under `cases:`.
#[derive(Deserialize)]
#[serde(untagged)]
enum TestFile {
    List(Vec<Case>),
    Named { cases: Vec<Case> },
}

/// Tests policies, prints their schema, replays the log or suggests policies.
///
/// # Errors
/// The configuration or the file cannot be read.
pub fn run(arguments: &PolicyArguments) -> anyhow::Result<ExitCode> {
    let load = || super::check::load_or_report(&arguments.config, arguments.output);
    match &arguments.command {
        PolicyCommand::Suggest(suggest) => {
            super::policy_suggest::run(suggest, &arguments.config, arguments.output)
        }
        PolicyCommand::Diff(diff) => super::policy_diff::run(diff, &arguments.config, arguments.output),
        PolicyCommand::Test { file } => {
            let configuration = load()?;
            let report = test(&configuration, file)?;
            match arguments.output {
                Output::Text => say(report.to_string().trim_end()),
                Output::Json => say_json(&report),
            }
            Ok(exit_code(report.passed()))
        }
        PolicyCommand::Schema => {
            let configuration = load()?;
            let policies = wire::load_policies(&configuration, 0)?;
            match arguments.output {
                Output::Text => say(policy::schema_text(policies.vocabulary()).trim_end()),
                Output::Json => {
                    let schema = policy::schema_json(policies.vocabulary());
                    say_json(&schema.map_err(|fault| anyhow::anyhow!("the schema: {fault}"))?);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn test(configuration: &Configuration, file: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let cases = match serde_saphyr::from_str::<TestFile>(&text) {
        Ok(TestFile::List(cases) | TestFile::Named { cases }) => cases,
        // The list alone gives the better position.
        Err(_) => serde_saphyr::from_str::<Vec<Case>>(&text)
            .map_err(|fault| anyhow::anyhow!("{}: {fault}", file.display()))?,
    };
    let policies = wire::load_policies(configuration, 0)?;
    let finder = wire::Finder::new(configuration)?;
    Ok(run_with(&policies, &cases, &|what| finder.find(what)))
}

//! The command line: what each command takes, and which function does it.

pub mod admin_context;
pub mod agent;
pub mod apply;
pub mod blast_radius;
pub mod check;
pub mod diff;
pub mod explain;
pub mod fmt;
pub mod generated;
pub(crate) mod help;
pub mod import;
pub mod init;
pub mod key;
pub mod mesh;
pub mod mesh_tap;
pub mod policy;
pub mod policy_diff;
pub mod policy_suggest;
pub mod realm;
mod recorded;
pub mod revoke;
pub mod run;
pub mod store;
pub mod undocumented;
pub mod unseal;
pub mod user;
pub mod waf;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{
    ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, ValueHint,
};

use help::{EXIT_CODES, help};
use model::printable;

/// The security layer for microservices in one binary.
#[derive(Debug, Parser)]
#[command(name = "bastide", version, propagate_version = true, after_help = help("", EXIT_CODES, EXAMPLES))]
#[command(mut_subcommand("role", realm::role_help), mut_subcommand("group", realm::group_help))]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
bastide demo                              a sample shop to play with, thrown away at the end
bastide demo --tour                       every attack of the tour, and what refused it
bastide check bastide.yaml                all faults of a configuration, with their locations
bastide fmt bastide.yaml                  the same configuration, laid out canonically
bastide diff                              what a reload would change
bastide import kong kong.yaml --out shop  a decK file, translated
bastide serve --config bastide.yaml       the gateway
bastide explain 0192f3c8a1b2…             why a request was refused
bastide blast-radius --service orders     what a compromised service can reach
bastide waf check rules/*.conf            faults of firewall rules, and rules that never match
bastide key new --owner ci --expires 90d  an API key, shown once
bastide init                              the encrypted store and its key";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway.
    Serve(ServeArguments),
    /// Starts the sample shop, real services behind the gateway, on loopback.
    Demo(crate::demo::DemoArguments),
    /// Reports all faults of a configuration with file, line and column.
    Check(check::CheckArguments),
    /// Shows what a compromised service, a stolen token or a role can reach, and through which policies.
    BlastRadius(blast_radius::BlastRadiusArguments),
    /// Shows which step and policy decided a request, and on which values.
    Explain(explain::ExplainArguments),
    /// Makes, lists and revokes API keys.
    Key(key::KeyArguments),
    /// Revokes tokens, grants, sessions and subjects.
    Revoke(revoke::RevokeArguments),
    /// Tests policies, prints their schema, and shows what a change of them would do.
    Policy(policy::PolicyArguments),
    /// Makes the encrypted store and its unseal key.
    Init(init::InitArguments),
    /// Gives a share of the unseal key to a process that is waiting for it.
    Unseal(unseal::UnsealArguments),
    /// Adds, lists, disables and signs out users of the identity provider's realms.
    User(user::UserArguments),
    /// Adds, shows and removes clients of a realm, and makes their secrets.
    Client(realm::ClientArguments),
    /// Lists roles and their holders, grants and revokes them.
    Role(realm::MembersArguments),
    /// Lists groups and their members, adds and removes users.
    Group(realm::MembersArguments),
    /// Shows realms, changes their settings, rotates their signing keys.
    Realm(realm::RealmArguments),
    /// Makes clients, users, role grants and settings match files, or shows the difference.
    Apply(apply::ApplyArguments),
    /// Lists and ends sessions and grants.
    Session(realm::SessionArguments),
    /// Runs one service of the mesh: a program with an identity, mutual TLS in front of it, and an
    /// outbound proxy to the others.
    Run(run::RunArguments),
    /// Serves the Workload API of the mesh on a node without a store, with documents from the control
    /// plane.
    Agent(agent::AgentArguments),
    /// Inspects the mesh's trust domain, rotates its authorities by hand, revokes, lets nodes join,
    /// requests certificates.
    Mesh(mesh::MeshArguments),
    /// Inspects the store, backs it up, restores it, rotates its keys.
    Store(store::StoreArguments),
    /// Lists requested endpoints that no OpenAPI document describes.
    Undocumented(undocumented::UndocumentedArguments),
    /// Shows what a reload would change, or what differs between two configurations.
    Diff(diff::DiffArguments),
    /// Translates configurations of other gateways.
    Import(import::ImportArguments),
    /// Formats configuration files canonically, without changing their meaning.
    Fmt(fmt::FmtArguments),
    /// Prints completions for a shell.
    Completions(generated::CompletionsArguments),
    /// Writes manual pages, one for each command.
    Man(generated::ManArguments),
    /// Checks, tests and tunes the firewall's rules.
    Waf(waf::WafArguments),
    /// Prints the version, as `--version` does.
    Version(generated::VersionArguments),
    /// Becomes the program of `bastide run`.
    #[command(hide = true)]
    BecomeProgram(crate::process::BecomeArguments),
    /// One service of the sample shop.
    #[command(hide = true)]
    DemoService(crate::demo::ServiceArguments),
}

/// Arguments of `bastide serve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = help(
    "",
    "0 ended by a signal, 2 wrong usage, 3 could not start or continue",
    "bastide serve --config /etc/bastide/bastide.yaml\n\
     kill -HUP $PID               reload now (changed files are noticed by themselves)\n\
     kill -TERM $PID              drain and end\n\
     kill -USR2 $PID              start the binary again and hand over to it, for upgrades\n\
     bastide serve --take-over    the same, begun from the new binary"
))]
pub struct ServeArguments {
    /// The configuration file.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// Take over the sockets of the process that runs on the same state folder, without a moment in
    /// which nobody listens. That process drains once this one serves.
    #[arg(long)]
    pub take_over: bool,
    /// The format of the log on standard error.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub log_format: Output,
    /// Allow core dumps and debuggers: both can read the keys in this process' memory.
    #[arg(long)]
    pub danger_core_dumps: bool,
    /// End when standard input closes: for programs that start a gateway as a child.
    #[arg(long, hide = true)]
    pub leash: bool,
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// How long something lasts, for people, by its two largest units: `45 s`, `2 h 10 min`, `3 d`.
pub(crate) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = UNITS.iter().position(|(length, _)| seconds >= *length).unwrap_or(UNITS.len() - 1);
    let mut left = seconds;
    let parts = UNITS.iter().skip(first).take(2).map(|(length, unit)| {
        let count = left / length;
        left %= length;
        (count, unit)
    });
    let parts: Vec<String> = parts
        .enumerate()
        .filter(|(place, (count, _))| *place == 0 || *count > 0)
        .map(|(_, (count, unit))| format!("{count} {unit}"))
        .collect();
    parts.join(" ")
}

/// The exit code for "could not run": a missing file, a port in use.
const COULD_NOT_RUN: u8 = 3;

/// The exit code for wrong usage, which is clap's too.
const WRONG_USAGE: u8 = 2;

/// Arguments that mean nothing, which only the command itself can see: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongUsage(pub(crate) String);

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let output = output_of(&matches);
    let cli =
        Cli::from_arg_matches(&matches).unwrap_or_else(|fault| fault.format(&mut Cli::command()).exit());
    let code = cli.run().unwrap_or_else(|fault| {
        // The report of a configuration with faults is said already.
        if !fault.is::<check::Reported>() {
            say_error(&fault, output);
        }
        ExitCode::from(if fault.is::<WrongUsage>() { WRONG_USAGE } else { COULD_NOT_RUN })
    });
    unless_unsaid(code)
}

/// How the command that was asked for prints its result.
fn output_of(matches: &ArgMatches) -> Output {
    let here = matches.try_get_one::<Output>("output").ok().flatten().copied();
    let below = matches.subcommand().map(|(_, matches)| output_of(matches));
    if [here, below].contains(&Some(Output::Json)) { Output::Json } else { Output::Text }
}

impl Cli {
    /// Runs the command that the arguments name.
    fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(arguments) => crate::process::serve::run(&arguments),
            Command::Demo(arguments) => crate::demo::run(arguments),
            Command::DemoService(arguments) => crate::demo::run_service(arguments),
            Command::Check(arguments) => check::run(&arguments),
            Command::BlastRadius(arguments) => blast_radius::run(&arguments),
            Command::Explain(arguments) => explain::run(&arguments),
            Command::Key(arguments) => key::run(arguments),
            Command::Revoke(arguments) => revoke::run(arguments),
            Command::Policy(arguments) => policy::run(&arguments),
            Command::Init(arguments) => init::run(&arguments),
            Command::Unseal(arguments) => unseal::run(&arguments),
            Command::User(arguments) => user::run(arguments),
            Command::Client(arguments) => realm::run_client(arguments),
            Command::Role(arguments) => realm::run_members(arguments, "roles"),
            Command::Group(arguments) => realm::run_members(arguments, "groups"),
            Command::Apply(arguments) => apply::run(arguments),
            Command::Realm(arguments) => realm::run(arguments),
            Command::Session(arguments) => realm::run_session(arguments),
            Command::Run(arguments) => run::run(&arguments),
            Command::BecomeProgram(arguments) => crate::process::become_program(&arguments),
            Command::Agent(arguments) => agent::run(&arguments),
            Command::Mesh(arguments) => mesh::run(arguments),
            Command::Store(arguments) => store::run(arguments),
            Command::Undocumented(arguments) => undocumented::run(&arguments),
            Command::Diff(arguments) => diff::run(&arguments),
            Command::Import(arguments) => import::run(&arguments),
            Command::Fmt(arguments) => fmt::run(&arguments),
            Command::Completions(arguments) => generated::completions(&arguments),
            Command::Man(arguments) => generated::man(&arguments),
            Command::Waf(arguments) => waf::run(&arguments),
            Command::Version(arguments) => generated::version(&arguments),
        }
    }
}

/// Says why a command could not run: where its result would have been, if a program reads that.
fn say_error(fault: &anyhow::Error, output: Output) {
    match output {
        Output::Text => warn(in_full(fault)),
        Output::Json => say_json(&serde_json::json!({ "error": in_full(fault) })),
    }
}

/// Says something beside the result, to people.
pub(crate) fn warn(text: impl std::fmt::Display) {
    say_beside(format_args!("bastide: {text}"));
}

/// The same of something that says itself what it is about: a fault with its place in a file.
#[expect(clippy::print_stderr, reason = "the command line's one place for errors")]
pub(crate) fn say_beside(text: impl std::fmt::Display) {
    eprintln!("{}", printable::lines(&text.to_string()));
}

/// An error and its causes in one line. Many an error tells its cause itself, which is not said again.
pub(crate) fn in_full(fault: &anyhow::Error) -> String {
    fault.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        _ if said.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

/// A number of things: `1 key`, `2 keys`.
pub(crate) fn count_of(count: impl TryInto<u64>, thing: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {thing}"),
        count => format!("{count} {thing}s"),
    }
}

/// `name=value` of an option, in its two parts.
pub(crate) fn name_and_value(pair: &str) -> Result<(&str, &str), &'static str> {
    pair.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected name=value")
}

/// The exit code of an answer.
pub(crate) const fn exit_code(yes: bool) -> ExitCode {
    if yes { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says that the answer is no, and why: to people beside the result, which may be a file.
pub(crate) fn refuse(why: &str, output: Output) -> ExitCode {
    refuse_with(why, output, serde_json::json!({}))
}

/// The same; programs are told what else is known.
pub(crate) fn refuse_with(why: &str, output: Output, mut known: serde_json::Value) -> ExitCode {
    match output {
        Output::Text => warn(why),
        Output::Json => {
            if let Some(members) = known.as_object_mut() {
                members.insert("error".to_owned(), why.into());
            }
            say_json(&known);
        }
    }
    ExitCode::FAILURE
}

/// Prints a document as JSON, laid out for people too.
pub(crate) fn say_json(document: &impl serde::Serialize) {
    say_json_text(serde_json::to_string_pretty(document));
}

/// Prints a document as one line of JSON.
pub(crate) fn say_json_line(document: &impl serde::Serialize) {
    say_json_text(serde_json::to_string(document));
}

fn say_json_text(text: serde_json::Result<String>) {
    match text {
        Ok(text) => say_as_it_is(printable::json(&text)),
        Err(fault) => say_json(&serde_json::json!({ "error": fault.to_string() })),
    }
}

/// Prints one line, or the whole of a text, to standard output. What is no text in it does not
/// reach the terminal: much of what is printed was written by strangers.
pub fn say(text: impl std::fmt::Display) {
    say_as_it_is(printable::lines(&text.to_string()));
}

/// Prints one line: what strangers wrote begins none.
pub(crate) fn say_line(text: impl std::fmt::Display) {
    say_as_it_is(printable::line(&text.to_string()));
}

/// Prints a text with what is no text in it: our own colours. What cannot be printed is told at the end.
pub(crate) fn say_as_it_is(text: impl std::fmt::Display) {
    use std::io::Write;
    if let Err(why) = writeln!(std::io::stdout().lock(), "{text}") {
        let _ = UNSAID.set(why);
    }
}

/// Why something could not be printed, the first time. There is one standard output, and many print to it.
static UNSAID: OnceLock<io::Error> = OnceLock::new();

/// Whether whoever reads standard output has had everything so far.
pub(crate) fn is_heard() -> bool {
    UNSAID.get().is_none()
}

/// The exit code of a command whose result was printed: what is not there was not done. Whoever closed the pipe
/// has read enough.
fn unless_unsaid(code: ExitCode) -> ExitCode {
    match UNSAID.get() {
        Some(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            warn(format_args!("the result cannot be written to standard output: {why}"));
            ExitCode::from(COULD_NOT_RUN)
        }
        _ => code,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (seconds, said) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h"),
            (3_659, "1 h"),
            (7_800, "2 h 10 min"),
            (86_400, "1 d"),
            (86_459, "1 d"),
            (90_000, "1 d 1 h"),
            (31_536_000, "365 d"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }

    #[test]
    fn a_cause_that_an_error_tells_itself_is_said_once() {
        let denied = || std::io::Error::from_raw_os_error(13);
        let own = denied().to_string();
        let kept = keys::Error::File { path: "a".into(), source: denied() };
        for (fault, said) in [
            (anyhow::Error::new(kept).context("the keys"), format!("the keys: a: {own}")),
            (
                anyhow::Error::new(denied()).context(format!("cannot read a: {own}")),
                format!("cannot read a: {own}"),
            ),
            (Err::<(), _>(denied()).context("a").unwrap_err(), format!("a: {own}")),
            (anyhow::anyhow!("alone"), "alone".to_owned()),
        ] {
            assert_eq!(in_full(&fault), said);
        }
    }

    #[test]
    fn the_output_is_that_of_the_command_that_was_asked_for() {
        for (line, output) in [
            ("bastide key list", Output::Text),
            ("bastide key list --output json", Output::Json),
            ("bastide key --output json list", Output::Json),
            ("bastide diff --output json", Output::Json),
            ("bastide store check --output json", Output::Json),
            ("bastide serve", Output::Text),
        ] {
            let matches = Cli::command().try_get_matches_from(line.split(' ')).unwrap();
            assert_eq!(output_of(&matches), output, "{line}");
        }
    }
}

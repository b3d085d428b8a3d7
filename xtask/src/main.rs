//! What the repository does to itself: checks, benchmarks against peers, generated
//! documents. `cargo xtask --help` lists them, [`test`] is the whole list of checks.
//!
//! The way through it: [`test`] runs named steps, most of them programs, some of them
//! checks of ours ([`deps`], [`floors`], [`house`]); [`bench`] measures the product
//! beside its peers; [`suite`] tries it beside them and under attack; [`fuzz`] and [`docs`]
//! drive the fuzzers and the generated pages.
//!
//! What it must never do: pass because something was missing. What cannot run is said
//! to be skipped, by name and with the reason.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks on its terminal")]

mod bench;
mod built;
mod clock;
mod command;
mod deps;
mod docs;
mod floors;
mod fuzz;
mod house;
mod metadata;
mod node;
mod process;
mod python;
mod suite;
mod test;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  cargo xtask test                       every check, as .ci/run does
  cargo xtask test --only clippy         one step (repeat --only for more)
  cargo xtask test --list                the steps and what each holds
  cargo xtask deps --online              dependency check against today's advisories
  cargo xtask floors                     direction of imports between crates
  cargo xtask fuzz head --seconds 60
  cargo xtask bench gateway              CPU per request beside nginx, five rounds
  cargo xtask bench gateway --only whole --rounds 3 --profile
  cargo xtask bench waf                  the firewall beside nginx with ModSecurity
  cargo xtask bench identity --rounds 3  the identity provider beside npm's oidc-provider
  cargo xtask bench mesh                 a call in the mesh beside Envoy and nginx
  cargo xtask suite differential         the same bytes through Bastide, nginx, haproxy, varnish
  cargo xtask suite schemathesis         generated requests against an API document
  cargo xtask suite floods               attacks beside honest clients: memory, p99
  cargo xtask suite oidc                 certified clients against the identity provider
  cargo xtask suite store                the store, killed 1,000 times while it writes
  cargo xtask suite timing               can refusals be told apart by how long they take?
  cargo xtask suite crs                  the Core Rule Set's own tests, through the gateway
  cargo xtask suite sqlmap               sqlmap against an open search behind the firewall
  cargo xtask suite spiffe               third-party clients of the Workload API, and Envoy
  cargo xtask suite storm                certificates of seconds under load
  cargo xtask docs --check               are the generated documents current?";

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks, benchmarks and generated documents of Bastide", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every check: format, clippy, tests, dependencies, floors, fuzz smoke, whole system
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --only clippy --only house\n  cargo xtask test --list"
    )]
    Test(test::Options),
    /// Check dependencies: advisories, licences, bans, sources
    #[command(
        after_help = "Examples:\n  cargo xtask deps\n  cargo xtask deps --online             against today's advisories"
    )]
    Deps(deps::Options),
    /// Check the direction of imports between the workspace's crates
    #[command(after_help = "Examples:\n  cargo xtask floors")]
    Floors,
    /// Check the house rules: file length, paths of one machine, links in documents
    #[command(after_help = "Examples:\n  cargo xtask house")]
    House,
    /// Run a fuzzer of `fuzz/` with cargo-fuzz
    #[command(
        after_help = "Examples:\n  cargo xtask fuzz                      every fuzzer, a minute each\n  cargo xtask fuzz head --seconds 600"
    )]
    Fuzz(fuzz::Options),
    /// Measure beside peers and write docs/benchmarks.md; exits 1 naming each row past its bound
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Try the product beside its peers and under attack
    #[command(subcommand)]
    Suite(suite::Suite),
    /// Regenerate the generated documents, or check that they are current
    #[command(after_help = "Examples:\n  cargo xtask docs\n  cargo xtask docs --check")]
    Docs(docs::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.task {
        Task::Test(options) => test::run(&options),
        Task::Deps(options) => deps::run(&options),
        Task::Floors => floors::run(),
        Task::House => house::run(),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Bench(bench) => bench::run(&bench),
        Task::Suite(suite) => suite::run(&suite),
        Task::Docs(options) => docs::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }

    #[test]
    fn each_task_ends_its_help_with_examples_that_are_taken() {
        let mut commands = vec![("cargo xtask".to_owned(), super::Arguments::command())];
        while let Some((name, command)) = commands.pop() {
            let below = command.get_subcommands();
            commands.extend(below.map(|one| (format!("{name} {}", one.get_name()), one.clone())));
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = text.split_once("Examples:\n").map(|(_, examples)| examples);
            assert!(examples.is_some() || command.has_subcommands(), "{name} has no examples");
            for line in examples.unwrap_or_default().lines() {
                assert!(line.trim_start().starts_with(&name), "{name}: {line:?}");
                // Two spaces end a command, and a comment follows.
                let words = line.trim_start().split("  ").next().unwrap().split(' ').skip(1);
                if let Err(fault) = super::Arguments::command().try_get_matches_from(words) {
                    panic!("{line}: {fault}");
                }
            }
        }
    }
}

//! What each step runs. Everything that compiles is built as [`built`] says.

use super::{Context, Tally, tools};
use crate::{built, command, deps, docs, floors, house, python, suite};
use anyhow::{Result, bail};
use std::process::Command;

/// The crate whose integration tests boot the whole system.
const WHOLE_SYSTEM: &str = "bastide";
/// The feature of [`WHOLE_SYSTEM`] with which single steps can be switched off.
const SWITCH_OFF: &str = "switch-off";

pub(super) fn tools(_: &Context) -> Result<Tally> {
    // A test that needs one that is missing says so itself; what does not need it runs.
    let programs = tools::ensure(tools::FOR_TESTS).err().map(|error| error.to_string());
    let packages = python::environment().err().map(|error| format!("packages of PyPI: {error:#}"));
    let missing: Vec<_> = programs.into_iter().chain(packages).collect();
    Ok(if missing.is_empty() { Tally::passed() } else { Tally::skipped(missing.join("; ")) })
}

pub(super) fn format(context: &Context) -> Result<Tally> {
    command::run(command::cargo(&context.root).args(["fmt", "--all", "--check"]))?;
    Ok(Tally::passed())
}

pub(super) fn floors(_: &Context) -> Result<Tally> {
    floors::run()?;
    Ok(Tally::passed())
}

pub(super) fn house(_: &Context) -> Result<Tally> {
    house::run()?;
    Ok(Tally::passed())
}

pub(super) fn dependencies(context: &Context) -> Result<Tally> {
    Ok(match deps::check(&context.dependencies)? {
        deps::Outcome::Complete => Tally::passed(),
        deps::Outcome::Partial(reason) => Tally { skipped: Some(reason), ..Tally::passed() },
    })
}

pub(super) fn clippy(context: &Context) -> Result<Tally> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    command::run(command::cargo(&context.root).args(arguments))?;
    Ok(Tally::passed())
}

pub(super) fn tests(context: &Context) -> Result<Tally> {
    // The whole-system tests and the fuzz smoke have steps of their own.
    let mut arguments = parts(context);
    arguments.extend(["--", "--skip", "fuzz_smoke"].map(str::to_owned));
    cargo_test(context, &arguments)
}

pub(super) fn doctests(context: &Context) -> Result<Tally> {
    cargo_test(context, &["--doc".to_owned()])
}

pub(super) fn fuzz(context: &Context) -> Result<Tally> {
    let mut arguments = parts(context);
    arguments.extend(["--", "fuzz_smoke"].map(str::to_owned));
    let tally = cargo_test(context, &arguments)?;
    if tally.passed + tally.failed == 0 {
        bail!("no test is named fuzz_smoke…: expected one for each parser of what comes from outside");
    }
    Ok(tally)
}

pub(super) fn system(context: &Context) -> Result<Tally> {
    let names = integration_tests(context, |package| package == WHOLE_SYSTEM);
    if names.is_empty() {
        bail!("no whole-system test: expected files in crates/{WHOLE_SYSTEM}/tests");
    }
    let mut arguments = arguments_for(&names);
    // A system waits more than it works: for its processes to start, and for what is to happen in time.
    let at_once = std::thread::available_parallelism().map_or(2, |cores| cores.get().div_ceil(2) * 3);
    arguments.extend(["--".to_owned(), format!("--test-threads={at_once}")]);
    cargo_test(context, &arguments)
}

pub(super) fn differential(_: &Context) -> Result<Tally> {
    suite::bounded_differential().map(tally)
}

pub(super) fn floods(_: &Context) -> Result<Tally> {
    suite::bounded_floods().map(tally)
}

pub(super) fn schemathesis(_: &Context) -> Result<Tally> {
    suite::bounded_schemathesis().map(tally)
}

pub(super) fn oidc(_: &Context) -> Result<Tally> {
    suite::bounded_oidc().map(tally)
}

pub(super) fn sqlmap(_: &Context) -> Result<Tally> {
    suite::bounded_sqlmap().map(tally)
}

fn tally(counts: suite::Counts) -> Tally {
    let suite::Counts { passed, failed, skipped } = counts;
    Tally { passed, failed, skipped: (!skipped.is_empty()).then(|| skipped.join("; ")) }
}

pub(super) fn switch_off(context: &Context) -> Result<Tally> {
    let package = context.metadata.package(WHOLE_SYSTEM);
    let names: Vec<_> = package
        .into_iter()
        .flat_map(|package| &package.targets)
        .filter(|target| target.required_features.iter().any(|feature| feature == SWITCH_OFF))
        .map(|target| target.name.clone())
        .collect();
    if names.is_empty() {
        bail!(
            "no test of crates/{WHOLE_SYSTEM} requires the feature `{SWITCH_OFF}` (required-features in its Cargo.toml)"
        );
    }
    cargo_test(context, &arguments_for(&names))
}

pub(super) fn demo(context: &Context) -> Result<Tally> {
    command::run(Command::new(built::bastide()?).current_dir(&context.root).args(["demo", "--tour"]))?;
    Ok(Tally::passed())
}

pub(super) fn crs(context: &Context) -> Result<Tally> {
    let places = match suite::CrsPlaces::usual(&context.root) {
        Ok(places) => places,
        Err(missing) => return Ok(Tally::skipped(missing.to_string())),
    };
    let tally = suite::crs(&places)?;
    let skipped = (tally.skipped > 0).then(|| format!("{} tests", tally.skipped));
    Ok(Tally { passed: tally.passed, failed: tally.failed, skipped })
}

pub(super) fn docs(_: &Context) -> Result<Tally> {
    docs::run(&docs::Options { check: true })?;
    Ok(Tally::passed())
}

/// What cargo is told to test of the crates themselves: everything but the whole system.
fn parts(context: &Context) -> Vec<String> {
    let elsewhere = integration_tests(context, |package| package == WHOLE_SYSTEM);
    let mut names = integration_tests(context, |package| package != WHOLE_SYSTEM);
    names.retain(|name| !elsewhere.contains(name));
    let mut arguments = vec!["--lib".to_owned(), "--bins".to_owned(), "--examples".to_owned()];
    arguments.extend(arguments_for(&names));
    arguments
}

/// Integration tests (files of `tests/`) of the packages that `chosen` picks, without
/// those that need a feature.
fn integration_tests(context: &Context, chosen: impl Fn(&str) -> bool) -> Vec<String> {
    let packages = context.metadata.packages.iter().filter(|package| chosen(&package.name));
    let targets = packages.flat_map(|package| &package.targets);
    let tests = targets.filter(|target| {
        target.kind.iter().any(|kind| kind == "test") && target.required_features.is_empty()
    });
    let mut names: Vec<_> = tests.map(|target| target.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

fn arguments_for(names: &[String]) -> Vec<String> {
    names.iter().flat_map(|name| ["--test".to_owned(), name.clone()]).collect()
}

/// Runs `cargo test` over the workspace and counts what its harnesses report.
fn cargo_test(context: &Context, arguments: &[String]) -> Result<Tally> {
    let mut tally = Tally { passed: 0, failed: 0, skipped: None };
    let mut command = command::cargo(&context.root);
    command.arg("test").args(built::EVERYWHERE).arg("--no-fail-fast").args(arguments);
    let well = command::run_seeing(&mut command, |line| {
        if let Some((passed, failed)) = test_result(line) {
            tally.passed += passed;
            tally.failed += failed;
        }
    })?;
    // Did not compile, or a harness died before it could report.
    if !well && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// Reads `test result: ok. 12 passed; 0 failed; …`.
pub(crate) fn test_result(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |word: &str| {
        let words: Vec<_> = rest.split([' ', ';']).filter(|text| !text.is_empty()).collect();
        let at = words.iter().position(|text| *text == word)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    Some((count("passed")?, count("failed")?))
}

#[cfg(test)]
mod tests {
    use super::test_result;

    #[test]
    fn results_of_the_harness_are_counted() {
        for (line, counts) in [
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
                Some((12, 0)),
            ),
            ("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", Some((3, 2))),
            ("test a::b ... ok", None),
            ("test result: gone", None),
        ] {
            assert_eq!(test_result(line), counts, "{line}");
        }
    }
}

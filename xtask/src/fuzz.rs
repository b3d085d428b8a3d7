//! The fuzzers of `fuzz/`, run by `cargo fuzz`. Their stand-ins without instrumentation
//! are ordinary tests named `fuzz_smoke…`, which `cargo xtask test` runs.

use crate::{command, workspace};
use anyhow::{Context, Result, bail};

/// Memory that a fuzzer may take, MiB; more is a finding.
const MEMORY_MB_MAX: u32 = 3_000;
/// How long one input may take; longer is a finding.
const INPUT_SECONDS_MAX: u32 = 30;

/// Which fuzzer, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The fuzzer's name, a file of fuzz/fuzz_targets; all of them when left out
    target: Option<String>,
    /// Seconds for each fuzzer
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs the fuzzers one after another; red at the first crash.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let targets = targets(&root.join("fuzz/fuzz_targets"))?;
    let chosen: Vec<_> = match &options.target {
        None => targets.iter().collect(),
        Some(name) => targets.iter().filter(|target| *target == name).collect(),
    };
    if chosen.is_empty() {
        bail!("no fuzzer `{}`; there are: {}", options.target.as_deref().unwrap_or("*"), targets.join(", "));
    }
    command::read(command::cargo(&root).args(["fuzz", "--version"])).context(
        "the fuzzers need `cargo install --locked cargo-fuzz`; \
         without it `cargo xtask test --only fuzz` runs the smoke tests",
    )?;
    for target in chosen {
        println!("fuzz {target}, {} s", options.seconds);
        // The instrumentation is unstable: this toolchain takes it when it is told that
        // it may, so that no nightly one is needed and the code under test is what ships.
        command::run(
            command::cargo(&root)
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["fuzz", "run", "--no-default-features", "--features", feature(target), target, "--"])
                .arg(format!("-max_total_time={}", options.seconds))
                .arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"))
                .arg(format!("-timeout={INPUT_SECONDS_MAX}")),
        )?;
    }
    Ok(())
}

/// The feature of `fuzz/Cargo.toml` that a fuzzer belongs to: the firewall's build
/// without the gateway.
fn feature(target: &str) -> &'static str {
    if target.starts_with("waf_") { "waf" } else { "gateway" }
}

fn targets(folder: &std::path::Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("no fuzzers in {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

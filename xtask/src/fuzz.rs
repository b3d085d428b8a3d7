//! The fuzzers of `fuzz/`, run by `cargo fuzz` with the nightly toolchain. Their stable
//! stand-ins are ordinary tests named `fuzz_smoke…`, which `cargo xtask test` runs.

use crate::{command, workspace};
use anyhow::{Context, Result, bail};
use std::process::Command;

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
    command::read(Command::new("cargo").args(["+nightly", "fuzz", "--version"])).context(
        "the fuzzers need `rustup toolchain install nightly` and `cargo install cargo-fuzz`; \
         without them `cargo xtask test --only fuzz` runs the smoke tests",
    )?;
    for target in chosen {
        println!("fuzz {target}, {} s", options.seconds);
        // Not $CARGO: that is the stable cargo, which does not understand `+nightly`.
        command::run(
            Command::new("cargo")
                .current_dir(&root)
                .env_remove("CARGO")
                .env_remove("RUSTUP_TOOLCHAIN")
                .args(["+nightly", "fuzz", "run", target, "--"])
                .arg(format!("-max_total_time={}", options.seconds)),
        )?;
    }
    Ok(())
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

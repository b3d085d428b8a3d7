//! What it costs to build and to keep: a clean release build, the binary, memory at rest.

use super::{page, peer::Ground, shipped_binary, verdict::verdict};
use crate::{clock::Stopwatch, command, workspace};
use anyhow::{Result, bail};

/// At most so long for a clean release build on two cores.
const BUILD_MINUTES_MAX: f64 = 10.0;

/// What to leave out.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Do not measure the clean release build (it takes minutes)
    #[arg(long)]
    skip_build: bool,
}

/// Measures and writes the section; red when the build takes too long.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let mut text = page::stamp("cargo xtask bench footprint")?;
    text.push_str("\n| what | figure | at most | verdict |\n|---|---|---|---|\n");
    let mut late = false;
    if !options.skip_build {
        let folder = tempfile::tempdir()?;
        let watch = Stopwatch::start();
        command::run(
            command::cargo(&root)
                .args(["build", "--release", "--locked", "-p", "bastide", "--bin", "bastide", "--target-dir"])
                .arg(folder.path()),
        )?;
        let minutes = watch.elapsed().as_secs_f64() / 60.0;
        late = minutes > BUILD_MINUTES_MAX;
        let verdict = verdict(!late);
        text.push_str(&format!(
            "| clean `cargo build --release`, dependencies downloaded | {minutes:.1} min | {BUILD_MINUTES_MAX} min | {verdict} |\n"
        ));
    }
    let binary = shipped_binary(&root)?;
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    text.push_str(&format!(
        "| binary, dist profile | {:.1} MiB | – | reported |\n",
        mebibytes(std::fs::metadata(&binary)?.len())
    ));

    let folder = workspace::target()?.join("bench-footprint");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let ground = Ground::set(&folder)?;
    let (server, _) = ground.bastide(&binary, false)?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    text.push_str(&format!(
        "| memory at rest, resident, two routes, one worker | {:.1} MiB | – | reported |\n",
        mebibytes(server.resident_kib()? * 1_024)
    ));
    println!("{text}");
    page::write(&root, "footprint", "Building and keeping it", &text)?;
    if late {
        bail!("past the bound: a clean release build takes more than {BUILD_MINUTES_MAX} minutes");
    }
    Ok(())
}

//! Where the workspace lies and which files git tracks in it.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The workspace's root folder.
pub(crate) fn root() -> Result<PathBuf> {
    // Cargo says where it found xtask now; the folder that it was compiled in is the
    // answer for those who start the program by hand.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here)
        .parent()
        .map(Path::to_path_buf)
        .context("xtask lies in a folder of the workspace, expected a parent folder")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "cargo's own setting; xtask is a command line")]
    let chosen = std::env::var("CARGO_TARGET_DIR");
    Ok(match chosen {
        Ok(folder) => root()?.join(folder),
        Err(_) => root()?.join("target"),
    })
}

/// Files under git's care, and new ones that it does not ignore, relative to `root`.
pub(crate) fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("could not run git; install it: this check reads the list of tracked files")?;
    if !output.status.success() {
        bail!("git ls-files failed in {}: {}", root.display(), String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    Ok(files.filter(|file| root.join(file).is_file()).collect())
}

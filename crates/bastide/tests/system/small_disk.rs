//! Gateways that have one of their folders on a small disk.

use std::process::{Command, Stdio};

use crate::support::{BASTIDE, TestBed};

/// Whether this machine lets an ordinary test mount a small disk of its own.
pub(crate) fn can_mount() -> bool {
    let script = "mount -t tmpfs -o size=64k tmpfs /mnt";
    let output =
        Command::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Starts a gateway whose `folder` is a disk of this size, as `mount` reads it; with `file`, its name
/// and its bytes, on it.
pub(crate) async fn start(testbed: &mut TestBed, folder: &str, size: &str, file: Option<(&str, u64)>) {
    std::fs::create_dir(testbed.path(folder)).unwrap();
    let fill = file.map(|(name, bytes)| format!("head -c {bytes} /dev/zero > {folder}/{name} && "));
    let script = format!(
        "mount -t tmpfs -o size={size},mode=0700 tmpfs {folder} && {}exec {BASTIDE} serve --config bastide.yaml",
        fill.unwrap_or_default()
    );
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(testbed.folder.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(testbed.path("log")).unwrap());
    testbed.start_gateway_by(command).await;
}

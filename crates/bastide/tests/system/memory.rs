//! Who can read the memory of a process that holds keys: neither a core dump, nor another program of its user.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, getuid};
use serde_json::Value;

use crate::support::{TestBed, Upstream, read, until_started};

/// A user that is not root: root reads everybody's memory.
const NOBODY: u32 = 65_534;

/// The same command as somebody who is not root.
fn as_somebody(command: &Command) -> Command {
    if !getuid().is_root() {
        let mut same = Command::new(command.get_program());
        same.args(command.get_args());
        return same;
    }
    let mut somebody = Command::new("setpriv");
    let id = NOBODY.to_string();
    somebody.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
    somebody.arg(command.get_program()).args(command.get_args());
    somebody
}

fn serve(testbed: &TestBed, more: &[&str]) -> Command {
    let mut command = testbed.serve("log");
    let mut somebody = as_somebody(command.args(more));
    somebody.current_dir(testbed.folder.path()).stderr(std::fs::File::create(testbed.path("log")).unwrap());
    somebody
}

/// Whether another program of the same user gets to what the kernel shows of the memory.
fn is_read(process: u32) -> bool {
    let maps = format!("/proc/{process}/maps");
    let output = as_somebody(Command::new("cat").arg(maps)).output().unwrap();
    output.status.success()
}

fn dumps(process: u32) -> String {
    let limits = read(Path::new(&format!("/proc/{process}/limits")));
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    line.split_whitespace().nth(4).unwrap().to_owned()
}

fn process(testbed: &TestBed) -> Option<u32> {
    let ready: Value = serde_json::from_str(&read(&testbed.path("state/ready.json"))).ok()?;
    u32::try_from(ready["process"].as_u64()?).ok()
}

/// What is to run as somebody who is not root, before it does.
fn prepared(upstream: &Upstream) -> TestBed {
    let testbed = TestBed::prepare(&format!(
        "services:\n  here: [ http://{} ]\nroutes:\n  - {{ match: /**, to: here, allow: anyone }}\n",
        upstream.address
    ));
    if getuid().is_root() {
        chown(testbed.folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    testbed
}

#[tokio::test]
async fn nobody_else_reads_the_memory_of_a_gateway_nor_of_the_one_that_succeeds_it() {
    let upstream = Upstream::start().await;
    let mut testbed = prepared(&upstream);
    testbed.start_gateway_by(serve(&testbed, &[])).await;
    let first = process(&testbed).unwrap();
    assert!(!is_read(first), "the memory is shown to others of the user");
    assert_eq!(dumps(first), "0");
    let mode = std::fs::metadata(testbed.path("state/handover.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // What it reads of itself it reads all the same.
    let figures = String::from_utf8(testbed.admin("/metrics").await.body.to_vec()).unwrap();
    let open = figures.lines().find_map(|line| line.strip_prefix("process_open_fds "));
    assert!(open.is_some_and(|open| open.parse::<f64>().unwrap() > 0.0), "{figures}");
    // It starts its binary anew and hands over, and that one keeps its memory to itself, too.
    testbed.gateway().signal(Signal::USR2);
    let second =
        until_started("the new process", async || process(&testbed).filter(|one| *one != first)).await;
    assert!(!is_read(second), "the memory of the new process is shown to others of the user");
    assert_eq!(testbed.get("/").await.status, 200);
    assert!(testbed.gateway().ended().await.success(), "{}", testbed.log());
    let end = as_somebody(Command::new("kill").args(["-TERM", &second.to_string()])).status().unwrap();
    assert!(end.success());
}

#[tokio::test]
async fn core_dumps_are_allowed_only_where_that_is_asked_for() {
    let upstream = Upstream::start().await;
    let mut testbed = prepared(&upstream);
    testbed.start_gateway_by(serve(&testbed, &["--danger-core-dumps"])).await;
    assert!(is_read(process(&testbed).unwrap()));
    assert!(testbed.log().contains("--danger-core-dumps: core dumps"), "{}", testbed.log());
}

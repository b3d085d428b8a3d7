//! The demo, as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bastide::demo::tour::ROWS;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{BASTIDE, Process, read, until, until_started};
use crate::waf::core_rule_set;

fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BASTIDE);
    // The test bed is built in the folder for temporary files: this one is the test's.
    command.arg("demo").args(arguments).env("TMPDIR", folder).stdin(Stdio::null());
    command
}

/// Processes that work in this folder.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let folder = folder.canonicalize().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read_link(entry.path().join("cwd")).ok())
        .filter(|cwd| cwd.starts_with(&folder))
        .collect()
}

fn assert_nothing_left(folder: &Path) {
    assert_eq!(processes_in(folder), Vec::<PathBuf>::new());
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(files, Vec::<PathBuf>::new());
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn every_row_of_the_tour_comes_out_as_it_must_and_nothing_is_left() {
    walk(|_| {});
}

#[test]
fn every_row_comes_out_so_with_the_core_rule_set() {
    let Some(rules) = core_rule_set() else { return };
    walk(|command| _ = command.env("BASTIDE_CRS", rules));
}

/// Walks the whole tour in a folder of its own.
fn walk(prepare: impl FnOnce(&mut Command)) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = demo(folder.path(), &["--tour", "--output", "json"]);
    prepare(&mut command);
    let output = command.output().unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {}", text(&output)));
    let rows = report["rows"].as_array().unwrap();
    let wrong: Vec<_> = rows.iter().filter(|row| row["passed"] != true).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows.len(), ROWS.len());
    assert_eq!(report["passed"], true);
    assert!(output.status.success(), "{}", text(&output));

    // Every refusal names its step and its reason, read back from the audit log.
    for trial in rows.iter().flat_map(|row| row["trials"].as_array().unwrap()) {
        let refused = trial["came_back"].as_str().unwrap().starts_with('4') && trial["id"].is_string();
        if refused {
            assert_ne!(trial["step"], "", "{trial}");
            assert_ne!(trial["reason"], "", "{trial}");
        }
    }
    assert_nothing_left(folder.path());
}

#[test]
fn a_row_that_is_not_there_is_wrong_usage_and_says_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path(), &["--tour", "--only", "qouta"]).output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("did you mean \"quota\"?"), "{}", text(&output));
    assert_nothing_left(folder.path());
}

#[tokio::test]
async fn the_demo_prints_commands_that_work_and_ends_on_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().with_extension("printed");
    let mut command = demo(folder.path(), &[]);
    let mut process = Process::spawn(command.stdout(std::fs::File::create(&printed).unwrap()));
    let text = until_started("the town to stand", async || {
        let text = read(&printed);
        text.contains("Ctrl-C").then_some(text)
    })
    .await;
    std::fs::remove_file(&printed).unwrap();

    // What it tells people to copy, copied: the first line, then each command. The
    // first three are served, the others refused with a problem document.
    let copied = |from: &str| -> Vec<String> {
        let (_, rest) = text.split_once(from).unwrap();
        let lines = rest.lines().skip(1).take_while(|line| !line.trim().is_empty());
        lines.map(|line| line.trim().to_owned()).collect()
    };
    let setup = copied("Copy this first:").join("\n");
    for (heading, served) in [("These work:", true), ("These do not:", false)] {
        for line in copied(heading) {
            let output = Command::new("bash").args(["-c", &format!("{setup}\n{line}")]).output().unwrap();
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            let answer: Value =
                serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{line}: {answer:?}"));
            assert_eq!(answer["data"].is_null(), !served, "{line}: {answer}");
            assert_eq!(answer["status"].is_null(), served, "{line}: {answer}");
        }
    }

    process.signal(Signal::INT);
    assert!(process.ended().await.success());
    assert_nothing_left(folder.path());
}

#[tokio::test]
async fn a_demo_that_is_killed_takes_its_processes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().with_extension("printed");
    let mut command = demo(folder.path(), &[]);
    let process = Process::spawn(command.stdout(std::fs::File::create(&printed).unwrap()));
    until_started("the town to stand", async || read(&printed).contains("Ctrl-C").then_some(())).await;
    std::fs::remove_file(&printed).unwrap();
    assert!(!processes_in(folder.path()).is_empty());

    process.signal(Signal::KILL);
    until("its processes to end", async || processes_in(folder.path()).is_empty().then_some(())).await;
}

//! The operator's tools: schema, formatting, differences, completions, manual pages.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{BASTIDE, Process, TestBed, Upstream, read, until};

fn one_route(upstream: &Upstream, limit: &str, more: &str) -> String {
    format!(
        "services:\n  here: [ http://{} ]\nroutes:\n  - name: here\n    match: /here/**\n    to: here\n    \
         authenticate: none\n    allow: anyone\n    limit: {limit}\n{more}",
        upstream.address
    )
}

/// A program of others; `None`, and a word about it, when it is not here.
fn other(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: no {:?} here: {error}", command.get_program());
            None
        }
    }
}

#[test]
fn check_prints_the_schema_of_the_documents() {
    let testbed = TestBed::prepare("");
    let (code, schema, _) = testbed.bastide(&["check", "--schema"]);
    assert_eq!(code, 0);
    let document = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bastide.schema.json"));
    assert_eq!(schema, read(document));
}

#[test]
fn fmt_lays_out_in_place_and_check_shows_what_it_would_do() {
    let testbed = TestBed::prepare("");
    let written = "# town\nlisten:   [127.0.0.1:1]\nroutes:\n- match: /**   # all\n  to: x\n";
    let formatted = "# town\nlisten: [ 127.0.0.1:1 ]\nroutes:\n  - match: /** # all\n    to: x\n";
    std::fs::write(testbed.path("a.yaml"), written).unwrap();
    std::os::unix::fs::symlink("a.yaml", testbed.path("link.yaml")).unwrap();
    let (code, diff, _) = testbed.bastide(&["fmt", "--check", "a.yaml"]);
    assert_eq!(code, 1);
    assert!(diff.starts_with("--- a.yaml\n+++ a.yaml (formatted)\n"), "{diff}");
    assert!(diff.contains("\n-listen:   [127.0.0.1:1]\n+listen: [ 127.0.0.1:1 ]\n"), "{diff}");
    assert_eq!(read(&testbed.path("a.yaml")), written);
    let (_, json, _) = testbed.bastide(&["fmt", "--check", "--output", "json", "a.yaml"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["files"][0]["changed"], true);
    assert_eq!(testbed.bastide(&["fmt", "link.yaml"]), (0, String::new(), String::new()));
    assert_eq!(read(&testbed.path("a.yaml")), formatted);
    assert!(testbed.path("link.yaml").is_symlink());
    assert_eq!(testbed.bastide(&["fmt", "--check", "a.yaml"]).0, 0);
    // What cannot be read stays as it is.
    std::fs::write(testbed.path("b.yaml"), "a: [1\nb: 2\n").unwrap();
    let (code, _, said) = testbed.bastide(&["fmt", "b.yaml"]);
    assert_eq!(code, 1);
    assert!(said.starts_with("b.yaml:2:"), "{said}");
    assert_eq!(read(&testbed.path("b.yaml")), "a: [1\nb: 2\n");
    assert_eq!(testbed.bastide(&["fmt", "none.yaml"]).0, 3);
    let output = Command::new(BASTIDE)
        .args(["fmt", "-"])
        .stdin(std::fs::File::open(testbed.path("a.yaml")).unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), formatted);
}

#[test]
fn fmt_leaves_a_file_to_those_who_could_read_it() {
    const GROUP: u32 = 12_345;
    let testbed = TestBed::prepare("");
    let file = testbed.path("a.yaml");
    std::fs::write(&file, "listen:   [127.0.0.1:1]\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    if std::os::unix::fs::chown(&file, Some(GROUP + 1), Some(GROUP)).is_err() {
        println!("skipped: only root can give a file away");
        return;
    }
    assert_eq!(testbed.bastide(&["fmt", "a.yaml"]), (0, String::new(), String::new()));
    assert_eq!(read(&file), "listen: [ 127.0.0.1:1 ]\n");
    let found = std::fs::metadata(&file).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (GROUP + 1, GROUP, 0o640));
}

#[test]
fn a_result_that_cannot_be_written_is_no_success() {
    let testbed = TestBed::prepare(
        "storage: { unseal: shares }\nroutes: [ { match: /**, allow: anyone, respond: 404 } ]\n",
    );
    let into = |target: Stdio, arguments: &[&str]| {
        let mut command = Command::new(BASTIDE);
        let command = command.args(arguments).current_dir(testbed.folder.path());
        let output = command.stdout(target).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for arguments in [
        &["check", "--schema"][..],
        &["check", "--output", "json"],
        &["key", "new", "--owner", "ci@example.org"],
        &["init", "--shares", "3", "--threshold", "2"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (code, said) = into(full.into(), arguments);
        assert_eq!(code, Some(3), "{arguments:?}: {said}");
        assert!(said.contains("standard output: No space left on device"), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    // Whoever reads no further has read enough.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(into(writer.into(), &["check", "--schema"]), (Some(0), String::new()));
    assert_eq!(into(Stdio::null(), &["check"]).0, Some(0));
}

#[test]
fn init_names_the_folder_that_cannot_be_made() {
    let testbed = TestBed::prepare("routes: [ { match: /**, allow: anyone, respond: 404 } ]\n");
    let text = read(&testbed.path("bastide.yaml")).replace("./state", "bastide.yaml/state");
    std::fs::write(testbed.path("bastide.yaml"), text).unwrap();
    let (code, _, said) = testbed.bastide(&["init"]);
    assert_eq!(code, 3);
    assert!(said.contains("cannot make bastide.yaml/state: Not a directory"), "{said}");
}

#[tokio::test]
async fn mesh_tap_ends_when_nobody_reads_it_any_more() {
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&one_route(&upstream, "1000/minute per address", "")).await;
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(BASTIDE);
    command.args(["mesh", "tap", "--from-log", "state/audit"]).current_dir(testbed.folder.path());
    let mut tap = Process::spawn(command.stdout(writer));
    drop((command, reader));
    // It tells what ends from its start on.
    until("the tap to end", async || {
        assert_eq!(testbed.get("/here").await.status, 200);
        tap.ended_within(Duration::from_millis(100)).then_some(())
    })
    .await;
    assert!(tap.ended().await.success());
}

#[tokio::test]
async fn diff_says_what_a_reload_would_change_and_the_reload_does_it() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::start(&one_route(&upstream, "100/minute per address", "")).await;
    let when = |file: &str| std::fs::metadata(testbed.path(file)).unwrap().modified().unwrap();
    assert!(when("state/running.json") <= when("state/ready.json"), "it is ready before it can be compared");
    assert_eq!(testbed.bastide(&["diff"]), (0, "nothing would change\n".to_owned(), String::new()));
    let absolute = testbed.path("bastide.yaml").display().to_string();
    assert_eq!(testbed.bastide(&["diff", "--config", &absolute]).0, 0);
    // The same in other words changes nothing.
    let same = one_route(&upstream, "{ rate: 100, per: minute, by: address }", "# a comment\n");
    let configure = |rest: &str| {
        let text = read(&testbed.path("bastide.yaml"));
        let (head, _) = text.split_once("services:").unwrap();
        std::fs::write(testbed.path("next.yaml"), format!("{head}{rest}")).unwrap();
    };
    configure(&same);
    assert_eq!(testbed.bastide(&["diff", "--config", "next.yaml"]).0, 0);
    configure(&one_route(
        &upstream,
        "5/minute per address",
        "limits: { drain_ms_max: 1s }\naudit: elsewhere\n",
    ));
    let (code, said, _) = testbed.bastide(&["diff", "--config", "next.yaml"]);
    assert_eq!(code, 1);
    for line in [
        "~ route \"here\"\n    limit: 100/minute per address → 5/minute per address\n",
        "+ limit \"drain_ms_max\"\n    1s\n",
        "+ setting \"audit\"\n",
        "  * `audit` takes a restart: a reload is refused",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    // What diff says of a restart is what the gateway does.
    std::fs::copy(testbed.path("next.yaml"), testbed.path("bastide.yaml")).unwrap();
    until("the reload to be refused", async || {
        testbed.log().contains(":8: `audit` changed, which takes a restart").then_some(())
    })
    .await;
    assert_eq!(testbed.bastide(&["diff"]).0, 1);
    testbed.configure(&one_route(&upstream, "5/minute per address", ""));
    until("the reload", async || (testbed.bastide(&["diff"]).0 == 0).then_some(())).await;
    let kept = std::fs::metadata(testbed.path("state/running.json")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&kept.permissions()) & 0o777, 0o600);
    testbed.gateway().signal(Signal::TERM);
    testbed.gateway().ended().await;
    let (code, _, said) = testbed.bastide(&["diff"]);
    assert_eq!(code, 3);
    assert!(said.contains("no gateway is running"), "{said}");
}

#[test]
fn diff_of_two_files_tells_listeners_policies_and_secrets_apart() {
    let testbed = TestBed::prepare("");
    let one = "listen: [ 127.0.0.1:8001, 127.0.0.1:8002 ]\nservices: { a: http://127.0.0.1:1 }\nroutes:\n  - name: a\n    match: /a/**\n    to: a\n    authenticate: none\n    headers: { request: { set: { x-key: \"${KEY}\" } } }\npolicies:\n  - inline: '@id(\"all\") permit (principal, action, resource);'\n";
    let two = "listen: [ 127.0.0.1:8001, 127.0.0.1:8003 ]\nservices: { a: http://127.0.0.1:2 }\nroutes:\n  - name: a\n    match: /a/**\n    to: a\n    allow: anyone\n    headers: { request: { set: { x-key: \"${OTHER}\" } } }\npolicies:\n  - inline: '@id(\"all\") permit (principal is User, action, resource);'\n";
    std::fs::write(testbed.path("1.yaml"), one).unwrap();
    std::fs::write(testbed.path("2.yaml"), two).unwrap();
    let run = |arguments: &[&str], keys: [&str; 2]| {
        let output = Command::new(BASTIDE)
            .args(arguments)
            .current_dir(testbed.folder.path())
            .env("KEY", keys[0])
            .env("OTHER", keys[1])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = run(&["diff", "1.yaml", "2.yaml"], ["hush", "secret"]);
    assert_eq!(code, Some(1));
    for line in [
        "- listener \"127.0.0.1:8002\"\n",
        "+ listener \"127.0.0.1:8003\"\n",
        "~ service \"a\"\n    endpoints: http://127.0.0.1:1 → http://127.0.0.1:2\n",
        "    allow: (not set) → anyone\n",
        "~ policy \"all\"\n",
        "* 127.0.0.1:8002 closes; its connections end after their open requests\n",
        "* 127.0.0.1:8003 opens\n",
        "* open requests of route \"a\" are judged again\n",
        "* route \"a\" lets everybody in",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(!said.contains("hush") && !said.contains("secret"), "{said}");
    let (_, json) = run(&["diff", "1.yaml", "2.yaml", "--output", "json"], ["hush", "secret"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["consequences"].as_array().unwrap().iter().any(|c| c["effect"] == "weaker"));
    assert_eq!(run(&["diff", "1.yaml", "1.yaml"], ["a", "b"]).0, Some(0));
    std::fs::write(testbed.path("3.yaml"), "listen: 1\n").unwrap();
    assert_eq!(run(&["diff", "1.yaml", "3.yaml"], ["a", "b"]).0, Some(3));
}

#[test]
fn every_command_but_check_ends_with_3_on_a_configuration_with_faults() {
    let testbed = TestBed::prepare("");
    std::fs::write(
        testbed.path("bastide.yaml"),
        "listen: [ 127.0.0.1:0 ]\nroutes: [ { match: /**, to: oders } ]\n",
    )
    .unwrap();
    std::fs::write(testbed.path("people.yaml"), "users: { alice: {} }\n").unwrap();
    std::fs::create_dir(testbed.path("log")).unwrap();
    for arguments in [
        "serve",
        "explain 019a8f0c3b7e5d1f2a4c6e8091b3d5f7",
        "blast-radius --role merchant",
        "key list",
        "revoke list",
        "policy schema",
        "policy test cases.yaml",
        "policy diff bastide.yaml bastide.yaml --against log",
        "policy suggest --from-log log",
        "init",
        "unseal --status",
        "user list",
        "client list",
        "role list",
        "group list",
        "realm list",
        "session list alice",
        "apply -f people.yaml",
        "mesh status",
        "mesh workload list",
        "mesh tap",
        "store status",
        "undocumented",
        "diff",
        "waf replay --config bastide.yaml log",
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let (code, said, complained) = testbed.bastide(&words);
        assert_eq!(code, 3, "{arguments}: {said}{complained}");
        // What would have been its result may go to a file.
        assert_eq!(said, "", "{arguments}");
        let fault = "unknown service \"oders\"";
        assert_eq!(complained.matches(fault).count(), 1, "{arguments}: the fault is reported once");
        if !matches!(words[0], "serve" | "waf") && arguments != "policy schema" {
            let (code, said, complained) = testbed.bastide(&[&words[..], &["--output", "json"]].concat());
            assert_eq!((code, complained.as_str()), (3, ""), "{arguments}: {said}");
            let document: Value = serde_json::from_str(&said).unwrap();
            let faults = document["faults"].as_array().unwrap();
            assert_eq!(faults.iter().filter(|one| one["message"] == fault).count(), 1, "{said}");
        }
    }
    let (code, said, complained) = testbed.bastide(&["check"]);
    assert_eq!((code, complained.as_str()), (1, ""));
    assert!(said.contains("bastide.yaml: refused: 2 faults,"), "{said}");
    // Where there is none, another is meant.
    std::fs::remove_file(testbed.path("bastide.yaml")).unwrap();
    for (arguments, hint) in [
        ("check", "`bastide check FILE` checks another"),
        ("serve", "--config FILE names another"),
        ("realm list", "--config FILE names another"),
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let (_, said, complained) = testbed.bastide(&words);
        let expected =
            format!("bastide.yaml: cannot read it: No such file or directory (os error 2) ({hint})\n");
        assert!((said + &complained).contains(&expected), "{arguments}: {complained}");
    }
}

#[test]
fn wrong_usage_ends_with_2_whatever_the_configuration_is() {
    let testbed = TestBed::prepare("");
    for (arguments, says) in [
        ("explain", "required"),
        ("explain xyz", "a request id is 32 hexadecimal digits"),
        ("explain --as User:alice", "--url"),
        ("explain --role x --url a/", "--as"),
        ("explain --url a/ --header x", "expected `name: value`"),
        ("key new --owner ci --expires 90x", "expected"),
        ("key new --owner ci --expires 0d", "expected a second or more"),
        ("key new --owner ci --attribute foo", "expected name=value"),
        ("revoke token x --expires 5", "expected"),
        ("user add alice --attribute foo", "expected name=value"),
        ("user password alice --invite --password-stdin", "cannot be used with"),
        ("mesh token edge-1 --expires 1", "expected"),
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let (code, said, complained) = testbed.bastide(&words);
        assert_eq!(code, 2, "{arguments}: {said}{complained}");
        assert!(complained.contains(says), "{arguments}: {complained}");
    }
}

#[test]
fn what_could_not_run_is_said_once_and_where_the_result_would_have_been() {
    let testbed = TestBed::prepare(
        "services: { here: [ http://127.0.0.1:1 ] }\nroutes: [ { match: /**, to: here, authenticate: none, allow: anyone } ]\n\
         realms: { town: https://id.example.org }\nauthentication: { api_keys: api-keys.json }\n",
    );
    std::fs::write(testbed.path("api-keys.json"), "garbage").unwrap();
    std::fs::create_dir(testbed.path("state")).unwrap();
    std::fs::write(testbed.path("state/revocations.json"), "garbage").unwrap();
    for (name, mode) in [("state", 0o700), ("state/revocations.json", 0o600), ("api-keys.json", 0o600)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(testbed.path(name), mode).unwrap();
    }
    for (arguments, says) in [
        ("diff", "no gateway is running"),
        ("fmt nofile.yaml", "os error 2"),
        ("policy test nofile.yaml", "os error 2"),
        ("undocumented", "os error 2"),
        ("user list", "there is no unseal key"),
        // Who does it is told why, although nobody else would be.
        ("key list", "api-keys.json: "),
        ("revoke list", "revocations.json: "),
        ("blast-radius --service here", "expected mesh.yaml beside the configuration"),
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let (code, said, complained) = testbed.bastide(&words);
        assert_eq!((code, said.as_str()), (3, ""), "{arguments}: {complained}");
        assert_eq!(complained.matches(says).count(), 1, "{arguments}: {complained}");
        let (code, said, complained) = testbed.bastide(&[&words[..], &["--output", "json"]].concat());
        assert_eq!((code, complained.as_str()), (3, ""), "{arguments}: {said}");
        let document: Value = serde_json::from_str(&said).unwrap();
        assert!(document["error"].as_str().unwrap().contains(says), "{arguments}: {said}");
    }
    // A "no" is no result either, which may go to a file.
    assert_eq!(testbed.bastide(&["init"]).0, 0);
    for (arguments, says) in [
        ("realm export --realm shop", "has no realm \"shop\"; there are: town"),
        ("client show none", "there is no client"),
        ("init", "there is a store already"),
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let (code, said, complained) = testbed.bastide(&words);
        assert_eq!((code, said.as_str()), (1, ""), "{arguments}: {complained}");
        assert!(complained.contains(says), "{arguments}: {complained}");
        let (code, said, complained) = testbed.bastide(&[&words[..], &["--output", "json"]].concat());
        assert_eq!((code, complained.as_str()), (1, ""), "{arguments}: {said}");
        let document: Value = serde_json::from_str(&said).unwrap();
        assert!(document["error"].as_str().unwrap().contains(says), "{arguments}: {said}");
    }
    // What is not there is neither whole nor damaged.
    std::fs::remove_file(testbed.path("state/revocations.json")).unwrap();
    let (code, said, complained) = testbed.bastide(&["store", "check", "none.bastide"]);
    assert_eq!((code, said.as_str()), (3, ""), "{complained}");
    assert_eq!(complained.matches("os error 2").count(), 1, "{complained}");
    std::fs::write(testbed.path("none.bastide"), "garbage").unwrap();
    assert_eq!(testbed.bastide(&["store", "check", "none.bastide"]).0, 1);
    let (code, _, complained) = testbed.bastide(&["store", "backup", "none.bastide"]);
    assert!(code == 3 && complained.contains("none.bastide: there is one already"), "{complained}");
    let (code, said, _) = testbed.bastide(&["check", "."]);
    assert!(code == 1 && said.starts_with(".: cannot read it: Is a directory"), "{said}");
    // What names nobody is done, and said.
    let (code, _, complained) =
        testbed.bastide(&["revoke", "subject", "alice", "--issuer", "https://id.example.com"]);
    assert!(code == 0 && complained.contains("has no issuer \"https://id.example.com\""), "{complained}");
    // A level that is none would silence the log.
    let output = testbed.serve("log").env("BASTIDE_LOG", "inf").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(testbed.log().contains("unknown level \"inf\" (did you mean \"info\"?)"), "{}", testbed.log());
}

#[test]
fn root_leaves_nothing_in_the_state_folder_of_another_user() {
    let testbed = TestBed::prepare(
        "services: { here: [ http://127.0.0.1:1 ] }\nroutes: [ { match: /**, to: here, authenticate: none, allow: anyone } ]\n\
         roles: { customer: {} }\n",
    );
    let state = testbed.path("state");
    std::fs::create_dir(&state).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&state, private).unwrap();
    // Only root can give it away.
    if std::os::unix::fs::chown(&state, Some(4_242), None).is_err() {
        return;
    }
    let commands = ["revoke subject User:alice", "key new --owner shop --name ci --role customer", "init"];
    for arguments in commands {
        let words: Vec<&str> = arguments.split(' ').collect();
        let (code, said, complained) = testbed.bastide(&words);
        assert_eq!((code, said.as_str()), (3, ""), "{arguments}: {complained}");
        assert!(complained.contains("runuser -u \"$(id -nu 4242)\" --"), "{arguments}: {complained}");
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "{arguments}");
    }
    std::os::unix::fs::chown(&state, Some(0), None).unwrap();
    for arguments in commands {
        let words: Vec<&str> = arguments.split(' ').collect();
        let (code, _, complained) = testbed.bastide(&words);
        assert_eq!(code, 0, "{arguments}: {complained}");
    }
}

/// Whoever has to revoke something does not have to mend a file first.
#[tokio::test]
async fn a_running_gateway_takes_what_is_revoked_although_its_file_has_faults() {
    let upstream = Upstream::start().await;
    let rest = one_route(
        &upstream,
        "100/minute per address",
        "audit: elsewhere\nauthentication: { api_keys: api-keys.json }\n",
    );
    let mut testbed = TestBed::start(&rest).await;
    let (code, key, _) = testbed.bastide(&["key", "new", "--owner", "ci", "--output", "json"]);
    assert_eq!(code, 0);
    let key: Value = serde_json::from_str(&key).unwrap();
    let id = key["id"].as_str().unwrap();
    let answer = testbed.get("/here/1").await;
    let request = answer.field("x-request-id").unwrap().to_owned();
    // It has no store that could be sealed.
    let standing = testbed.bastide(&["unseal", "--status"]);
    assert_eq!(standing, (0, "nothing is sealed: there is no store\n".to_owned(), String::new()));
    let (code, _, complained) = testbed.bastide(&["unseal"]);
    assert!(code == 3 && complained.contains("bastide.yaml has no store"), "{complained}");
    let good = read(&testbed.path("bastide.yaml"));
    for (fault, number) in [("routs: []\n", "1 fault"), ("a: [\n", "1 fault")] {
        std::fs::write(testbed.path("bastide.yaml"), good.clone() + fault).unwrap();
        let run = |arguments: &[&str]| {
            let (code, said, complained) = testbed.bastide(arguments);
            let expected = format!(
                "bastide: bastide.yaml has {number} (`bastide check` lists them); that of the process that runs in state is used\n"
            );
            assert_eq!((code, complained), (0, expected), "{fault}{arguments:?}: {said}");
            said
        };
        assert!(run(&["key", "list"]).contains(id));
        run(&["key", "new", "--owner", "another"]);
        run(&["revoke", "token", "4f1c"]);
        assert!(run(&["revoke", "list"]).contains("4f1c"));
        run(&["revoke", "undo", "4f1c"]);
        until("the event", async || (testbed.bastide(&["explain", &request]).0 == 0).then_some(())).await;
        assert!(run(&["explain", &request]).contains("/here/1"));
    }
    let (code, _, _) = testbed.bastide(&["key", "revoke", id]);
    assert_eq!(code, 0);
    assert!(read(&testbed.path("api-keys.json")).contains("\"revoked\": 1"), "it is written down");
    // Without a process nobody says where anything is.
    testbed.stop_gateway().await;
    let (code, said, complained) = testbed.bastide(&["key", "list"]);
    assert!(code == 3 && said.is_empty() && complained.contains("bastide.yaml:"), "{said}{complained}");
}

const POLICIES: &str = "policies:\n  - inline: |\n      @id(\"all\") permit (principal, action, resource);\n";

#[tokio::test]
async fn policy_diff_replays_the_log() {
    let upstream = Upstream::start().await;
    let routes = format!(
        "services:\n  here: [ http://{} ]\nroutes:\n  - name: here\n    match: /here/{{id}}\n    to: here\n    \
         authenticate: none\npolicy: {{ headers: [ x-tenant ] }}\n",
        upstream.address
    );
    let mut testbed = TestBed::start(&(routes.clone() + POLICIES)).await;
    for target in ["/here/1", "/here/1", "/here/2", "/nowhere"] {
        testbed.get(target).await;
    }
    // Calls of the administration stand in the same log.
    assert_eq!(testbed.bastide(&["key", "new", "--owner", "ci@example.org", "--name", "importer"]).0, 0);
    testbed.stop_gateway().await;
    // And logins, which are no requests that were refused.
    let log = std::fs::read_dir(testbed.path("state/audit")).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).max().unwrap();
    let lines = read(&log);
    let refused = lines.lines().find(|line| line.contains("/nowhere")).unwrap();
    let login = refused.replace("\"class_uid\":4002", "\"class_uid\":3002");
    std::fs::write(&log, format!("{lines}{login}\n")).unwrap();
    let (code, said, why) = testbed.bastide(&["policy", "suggest", "--from-log", "state/audit"]);
    assert_eq!(code, 0, "{said}{why}");
    for line in ["// 3 calls; ", "// 1 were calls of the administration", "// 1 were refused before policies"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    let head = read(&testbed.path("bastide.yaml")).split_once("services:").unwrap().0.to_owned();
    let diff = |condition: &str, more: &[&str]| {
        let policy = format!(
            "policies:\n  - inline: |\n      @id(\"new\") permit (principal, action, resource) {condition};\n"
        );
        std::fs::write(testbed.path("new.yaml"), format!("{head}{routes}{policy}")).unwrap();
        let arguments = ["policy", "diff", "bastide.yaml", "new.yaml", "--against", "state/audit"];
        testbed.bastide(&[&arguments[..], more].concat())
    };
    let (code, said, _) = diff("", &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("4 decisions replayed: 4 stay, 0 differ, undecidable: 0\n"), "{said}");
    assert!(said.contains("1 requests were refused before policies were asked"), "{said}");
    let (code, said, _) = diff("when { !context.tls }", &[]);
    assert_eq!(code, 1);
    assert!(said.contains("4 decisions replayed: 1 stay, 3 differ, undecidable: 0\n"), "{said}");
    assert!(said.contains("denied now: 3 × GET on route \"here\" by Anonymous::\"anonymous\"\n  old: permitted by all\n  new: no policy permits it\n"), "{said}");
    let id = said.split_once("requests: ").unwrap().1.split(',').next().unwrap().trim().to_owned();
    assert_eq!(testbed.bastide(&["explain", &id]).0, 0);
    // The old policies read neither path nor parameter: the event and the route say them.
    for condition in
        ["resource.params has id && resource.params.id == \"1\"", "context.path like \"/here/1\""]
    {
        let (code, said, _) = diff(&format!("when {{ {condition} && context.host == \"localhost\" }}"), &[]);
        assert_eq!(code, 1);
        assert!(said.contains("4 decisions replayed: 3 stay, 1 differ, undecidable: 0\n"), "{said}");
    }
    // They read no header, and nothing else says those.
    let (code, said, _) = diff(
        "when { context.headers has \"x-tenant\" && context.headers[\"x-tenant\"].contains(\"1\") }",
        &["--output", "json"],
    );
    assert_eq!(code, 1);
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["undecidable"], &json["different"]), (&3.into(), &0.into()), "{said}");
    assert_eq!(json["lacks"][0]["lack"], "the log does not say context.headers.x-tenant");
    assert_eq!(json["lacks"][0]["samples"].as_array().unwrap().len(), 3);
    // Generations of the state folder are policies too.
    let (code, _, said) =
        testbed.bastide(&["policy", "diff", "1", "bastide.yaml", "--against", "state/audit"]);
    assert_eq!(code, 0, "{said}");
}

/// A caller is taken as it is printed, and what no policy is asked about is explained too.
#[test]
fn explanations_take_their_own_words_and_say_what_no_route_takes() {
    let testbed = TestBed::prepare(
        "services: { here: [ http://127.0.0.1:1 ] }\nroutes:\n  - { match: \"GET localhost/here/**\", to: here, \
         authenticate: jwt }\nauthentication: { audience: a.b, issuers: [ { issuer: https://id.example.org } ] }\n\
         policies:\n  inline: |\n    permit (principal == User::\"al\\\"ice:1\", action, resource);\n",
    );
    let ask = |arguments: &[&str]| testbed.bastide(&[&["explain"][..], arguments].concat());
    for (who, code) in [
        ("User::\"al\\\"ice:1\"", 0),
        ("User:al\"ice:1", 0),
        ("User::\"alice\"", 1),
        ("User:alice", 1),
        ("anonymous", 1),
    ] {
        let (found, said, err) = ask(&["--as", who, "--url", "localhost/here/1"]);
        assert_eq!(found, code, "{who}: {said}{err}");
    }
    for wrong in ["User::\"alice", "Nobody::\"alice\"", "User:", "User::\"\""] {
        let (code, said, err) = ask(&["--as", wrong, "--url", "localhost/here/1"]);
        assert!(
            code == 2 && err.contains("expected \"anonymous\" or Kind:id"),
            "{wrong}: {code} {said}{err}"
        );
    }
    assert_eq!(ask(&["--url", "localhost/here/1"]).0, 1, "nobody who proved anything");
    std::fs::create_dir_all(testbed.path("state/audit")).unwrap();
    let (code, said, err) = ask(&["019a8f0c3b7e5d1f2a4c6e8091b3d5f7"]);
    assert!(
        code == 1 && said.is_empty() && err.contains("no event of request 019a8f0c"),
        "{code} {said}{err}"
    );
    for (arguments, expected) in [
        (&["--url", "http://localhost/nothing"][..], "nothing matches host, path and header fields (404)"),
        (&["--url", "localhost/here/1", "--method", "post"], "only for other methods, GET"),
        (&["--url", "localhost/here/..;/1"], "admission would refuse it"),
    ] {
        let (code, said, err) = ask(arguments);
        assert!(code == 1 && said.contains(expected), "{arguments:?}: {code} {said}{err}");
        let (code, said, _) = ask(&[arguments, &["--output", "json"]].concat());
        let json: Value = serde_json::from_str(&said).unwrap();
        assert!(code == 1 && json["refused"].as_str().unwrap().contains(expected), "{json}");
    }
}

#[test]
fn waf_replay_compares_with_the_configuration_that_is_there() {
    let testbed = TestBed::prepare("");
    testbed.configure(
        "services: { here: [ http://127.0.0.1:1 ] }\nroutes: [ { match: /**, to: here, allow: anyone } ]\n",
    );
    std::fs::write(testbed.path("empty.jsonl"), "").unwrap();
    let (code, said, why) = testbed.bastide(&["waf", "replay", "empty.jsonl"]);
    assert_eq!(code, 0, "{said}{why}");
    std::fs::remove_file(testbed.path("bastide.yaml")).unwrap();
    let (code, said, why) = testbed.bastide(&["waf", "replay", "empty.jsonl"]);
    assert_eq!(code, 3, "{said}");
    assert!(why.contains("choose what to compare with"), "{why}");
}

/// All commands and subcommands that `--help` shows.
fn commands() -> Vec<Vec<String>> {
    let testbed = TestBed::prepare("");
    let below = |path: &[String]| -> Vec<String> {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let (code, help, _) = testbed.bastide(&arguments);
        assert_eq!(code, 0, "{path:?}");
        let Some((_, rest)) = help.split_once("\nCommands:\n") else { return Vec::new() };
        let lines = rest.lines().take_while(|line| !line.is_empty());
        let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = names.filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(str::to_owned).collect()
    };
    let mut all = vec![Vec::new()];
    let mut at = 0;
    while at < all.len() {
        let path = all[at].clone();
        all.extend(below(&path).into_iter().map(|name| [path.clone(), vec![name]].concat()));
        at += 1;
    }
    all
}

#[test]
fn the_version_is_a_command_too() {
    let testbed = TestBed::prepare("");
    let (code, said, _) = testbed.bastide(&["version"]);
    assert_eq!((code, said.as_str()), (0, concat!("bastide ", env!("CARGO_PKG_VERSION"), "\n")));
    assert_eq!(testbed.bastide(&["--version"]).1, said);
    let (_, said, _) = testbed.bastide(&["version", "--output", "json"]);
    let document: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(document, serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }));
}

#[test]
fn shells_take_the_completions() {
    let testbed = TestBed::prepare("");
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let (code, script, _) = testbed.bastide(&["completions", shell]);
        assert_eq!(code, 0);
        let file = testbed.path(&format!("completions.{shell}"));
        std::fs::write(&file, &script).unwrap();
        let Some(output) = other(Command::new(shell).arg(check).arg(&file)) else { continue };
        assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for shell in ["elvish", "powershell"] {
        assert!(testbed.bastide(&["completions", shell]).1.contains("bastide"));
    }
    let complete = "source completions.bash; COMP_WORDS=(bastide fmt --ch); COMP_CWORD=2; \
                    _bastide bastide --ch fmt; echo \"${COMPREPLY[*]}\"";
    let Some(output) = other(Command::new("bash").args(["-c", complete]).current_dir(testbed.folder.path()))
    else {
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "--check");
}

#[test]
fn every_command_has_a_page_that_man_and_mandoc_take() {
    let testbed = TestBed::prepare("");
    assert_eq!(testbed.bastide(&["man", "pages"]).0, 0);
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for path in commands {
        let name = [vec!["bastide".to_owned()], path].concat().join("-");
        let page = testbed.path("pages").join(format!("{name}.1"));
        assert!(page.exists(), "no page of {name}");
        if let Some(output) = other(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(&page)) {
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
        }
        let mut man = Command::new("man");
        man.args(["--warnings", "-l"]).arg(&page).env("MANPAGER", "cat").env("LC_ALL", "C.UTF-8");
        if let Some(output) = other(&mut man) {
            assert!(output.status.success(), "{name}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let order = ["SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES"].map(|part| text.find(part));
            assert!(order.is_sorted() && order[0].is_some(), "{name}: {order:?} in {text}");
        }
    }
}

#[test]
fn the_schema_of_policies_is_printed_for_people_and_as_cedars_json() {
    let testbed = TestBed::prepare(
        "services: { orders: http://127.0.0.1:1 }\nroutes: [ { name: orders, match: \"/o/{id}\", to: orders, allow: anyone } ]\n",
    );
    let (code, text, said) = testbed.bastide(&["policy", "schema"]);
    assert!(code == 0 && text.contains("entity Route"), "{text}{said}");
    let (code, json, said) = testbed.bastide(&["policy", "schema", "--output", "json"]);
    assert_eq!(code, 0, "{said}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names = |of: &serde_json::Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let (entities, actions) = (names(&json[""]["entityTypes"]), names(&json[""]["actions"]));
    assert!(entities.contains(&"Route".to_owned()) && actions.contains(&"GET".to_owned()), "{json}");
}

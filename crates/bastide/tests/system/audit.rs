//! A full disk under the audit log.

use std::process::Command;

use crate::administration;
use crate::small_disk::{self, can_mount};
use crate::support::{BASTIDE, TestBed, Upstream};

#[tokio::test]
async fn requests_are_refused_once_no_event_can_be_kept() {
    if !can_mount() {
        println!("skipped: no user namespaces here, so no small disk");
        return;
    }
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::prepare(&format!(
        "workers: 1\nservices:\n  here: [ http://{} ]\nroutes:\n  - match: /**\n    to: here\n    \
         authenticate: none\n    allow: anyone\naudit: {{ folder: audit }}\n",
        upstream.address
    ));
    small_disk::start(&mut testbed, "audit", "64k", None).await;
    assert_eq!(testbed.get("/").await.status, 200);

    let mut connection =
        bastide::demo::client::http1::Connection::open(&testbed.clear_endpoint()).await.unwrap();
    let request = crate::support::get_request("/");
    // By so many requests it is full, however long they take.
    let mut refused = None;
    for _ in 0..50_000 {
        let before = upstream.seen();
        let answer = connection.ask(&request).await.unwrap();
        if answer.status != 200 {
            refused = Some((answer, before));
            break;
        }
    }
    let (answer, before) = refused.expect("the log is not full");
    assert_eq!(answer.status, 503);
    assert_eq!(upstream.seen(), before, "a request without an event reached the upstream");
    let health = testbed.admin("/healthz").await;
    assert_eq!(health.status, 503);
    assert!(String::from_utf8_lossy(&health.body).contains("audit"), "{health:?}");
    let metrics = testbed.admin("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.body).contains("audit"));
}

/// What docs/audit.md says of a full disk, by those whom nobody lets in.
#[tokio::test]
async fn refusals_that_fill_the_disk_are_refused_and_all_is_well_when_there_is_room() {
    if !can_mount() {
        println!("skipped: no user namespaces here, so no small disk");
        return;
    }
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::prepare(&format!(
        "workers: 1\nservices:\n  here: [ http://{} ]\nroutes:\n  - {{ match: /open, to: here, authenticate: none, allow: anyone }}\n  \
         - {{ match: /closed, to: here, authenticate: api_key, allow: authenticated }}\n\
         authentication: {{ api_keys: api-keys.json }}\naudit: {{ folder: disk/audit }}\n",
        upstream.address
    ));
    small_disk::start(&mut testbed, "disk", "8m", Some(("ballast", 8_323_072))).await;
    let mut connection =
        bastide::demo::client::http1::Connection::open(&testbed.clear_endpoint()).await.unwrap();
    let mut ask = async |path: &str| {
        let answer = connection.ask(&crate::support::get_request(path)).await.unwrap();
        answer.status
    };
    assert_eq!((ask("/closed").await, ask("/open").await), (401, 200));
    let mut answered = 2;
    while ask("/closed").await == 401 {
        answered += 1;
        assert!(answered < 50_000, "the log is not full");
    }
    let seen = upstream.seen();
    assert_eq!((ask("/closed").await, ask("/open").await), (503, 503));
    assert_eq!(upstream.seen(), seen, "a request without an event reached the upstream");
    assert_eq!(testbed.admin("/healthz").await.status, 503);
    let metrics = String::from_utf8_lossy(&testbed.admin("/metrics").await.body).into_owned();
    assert!(metrics.contains("\nbastide_audit_healthy 0"), "{metrics}");

    // Room again: nothing has to be done, and every request that was answered has its event.
    let disk = format!("/proc/{}/root{}", testbed.gateway().id(), testbed.path("disk").display());
    std::fs::remove_file(format!("{disk}/ballast")).unwrap();
    crate::support::until("the log to be well", async || {
        (testbed.admin("/healthz").await.status == 200).then_some(())
    })
    .await;
    assert_eq!((ask("/closed").await, ask("/open").await), (401, 200));
    answered += 2;
    let events = || {
        let files = std::fs::read_dir(format!("{disk}/audit")).unwrap().flatten();
        let lines: String = files
            .filter(|file| file.path().extension().is_some_and(|end| end == "jsonl"))
            .map(|file| crate::support::read(&file.path()))
            .collect();
        let parsed = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let codes = parsed.filter(|event| {
            let code = &event["http_response"]["code"];
            *code == 401 || *code == 200
        });
        codes.count()
    };
    crate::support::until("an event for each", async || (events() == answered).then_some(())).await;
}

/// A command without a process, with its audit log on a disk that has room for so many bytes: its exit
/// code, and what it complains of.
fn on_a_small_disk(testbed: &TestBed, room: usize, arguments: &str) -> (Option<i32>, String) {
    const SIZE: usize = 256 << 10;
    let fill = SIZE - room;
    let script = format!(
        "mount -t tmpfs -o size={SIZE},mode=0700 tmpfs state/audit && head -c {fill} /dev/zero > state/audit/ballast && \
         exec {BASTIDE} {arguments} --config bastide.yaml"
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    let output = command.current_dir(testbed.folder.path()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_command_whose_event_finds_no_disk_does_nothing_or_says_that_it_is_lost() {
    if !can_mount() {
        println!("skipped: no user namespaces here, so no small disk");
        return;
    }
    let upstream = Upstream::start().await;
    let testbed = administration::testbed(&upstream, administration::POLICIES).await;
    assert_eq!(testbed.bastide(&["user", "add", "carol"]).0, 0);
    let (code, complaint) = on_a_small_disk(&testbed, 0, "user add dave");
    assert_eq!(code, Some(3), "{complaint}");
    assert!(complaint.contains("without a place in the audit log nothing is done"), "{complaint}");
    let users = testbed.bastide(&["user", "list"]).1;
    assert!(users.contains("carol") && !users.contains("dave"), "{users}");

    // Room for some, not for all.
    let many: String = (0..200).map(|number| format!("  u{number}: {{}}\n")).collect();
    std::fs::write(testbed.path("many.yaml"), format!("realm: town\nusers:\n{many}")).unwrap();
    let (code, complaint) = on_a_small_disk(&testbed, 68 << 10, "apply -f many.yaml");
    assert_eq!(code, Some(3), "{complaint}");
    assert!(complaint.contains("the audit log does not have its event"), "{complaint}");
    assert!(!testbed.bastide(&["user", "list"]).1.contains("u199"), "it goes on without");
}

//! A full disk under the audit log.

use std::process::{Command, Stdio};

use crate::support::{BASTIDE, TestBed, Upstream};

/// Whether this machine lets an ordinary test mount a small disk of its own.
fn can_mount() -> bool {
    let script = "mount -t tmpfs -o size=64k tmpfs /mnt";
    let output =
        Command::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).output();
    output.is_ok_and(|output| output.status.success())
}

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
    std::fs::create_dir(testbed.path("audit")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64k,mode=0700 tmpfs audit && exec {BASTIDE} serve --config bastide.yaml"
    );
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(testbed.folder.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(testbed.path("log")).unwrap());
    testbed.start_gateway_by(command).await;
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

//! Workloads of the mesh that are registered while it runs, over the administration.

use bastide::admin::client::{AdminClient, socket};
use mesh::workload_api::{Client, Code};
use serde_json::{Value, json};

use crate::support::{TestBed, read, until};

/// A user that no process here runs as.
const NOBODY: &str = "4000000";

const POLICIES: &str = r#"
    @id("not this one")
    forbid (principal, action, resource == Route::"administration:workloads")
    when { resource.params has workload && resource.params.workload == "forbidden" };
"#;

fn configure(testbed: &TestBed, workloads: &str) {
    testbed.configure(&format!(
        "mesh:\n  trust_domain: shop.example\n  socket: api.sock\n  workloads: {{ {workloads} }}\n\
         realms: {{ town: https://localhost }}\npolicies: shop.cedar\n\
         routes: [ {{ name: id, match: localhost/**, to: identity, authenticate: none, allow: anyone }} ]\n"
    ));
}

/// What this process is, as the Workload API says; empty: nobody.
fn names(testbed: &TestBed) -> Vec<String> {
    let (code, out, err) = testbed.bastide(&["mesh", "svid", "--socket", "api.sock"]);
    assert!(code == 0 || (code == 1 && err.contains("PermissionDenied")), "{out}{err}");
    let mut names: Vec<String> = out
        .lines()
        .filter_map(|line| line.strip_prefix("spiffe://shop.example/"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// `bastide mesh workload`, and what it prints as JSON.
fn workload(testbed: &TestBed, arguments: &[&str]) -> (i32, Value) {
    let (code, out, err) =
        testbed.bastide(&[&["mesh", "workload"], arguments, &["--output", "json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out}{err}")))
}

fn refused(testbed: &TestBed, arguments: &[&str], why: &str) {
    let (code, said) = workload(testbed, arguments);
    assert!(code == 1 && said["error"].as_str().unwrap().contains(why), "{code} {said}");
}

#[tokio::test]
async fn a_process_is_whom_it_is_registered_as_until_that_is_taken_back() {
    let mut testbed = TestBed::prepare("");
    std::fs::write(testbed.path("shop.cedar"), POLICIES).unwrap();
    configure(&testbed, &format!("orders: {{ uid: {NOBODY} }}"));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    let uid = rustix::process::geteuid().as_raw().to_string();
    assert_eq!(names(&testbed), [""; 0]);

    let (code, said) = workload(&testbed, &["add", "stock", "--id", "ns/stock", "--uid", &uid]);
    assert_eq!((code, &said["id"]), (0, &"spiffe://shop.example/ns/stock".into()), "{said}");
    assert_eq!(names(&testbed), ["ns/stock"]);

    // One name is one workload's, and the configuration's come first.
    refused(&testbed, &["add", "stock", "--uid", &uid], "is registered already");
    refused(&testbed, &["add", "orders", "--uid", &uid], "\"orders\" of the configuration");
    refused(&testbed, &["change", "orders", "--uid", &uid], "\"orders\" of the configuration");
    refused(&testbed, &["add", "other", "--id", "/orders", "--uid", &uid], "\"orders\" of the configuration");
    refused(&testbed, &["add", "other", "--id", "gateway", "--uid", &uid], "`mesh.identity`");
    refused(&testbed, &["remove", "orders"], "remove it from `mesh.workloads`");
    refused(&testbed, &["change", "stock", "--id", "else", "--uid", &uid], "remove it before another");
    refused(&testbed, &["change", "absent", "--uid", &uid], "no workload \"absent\" is registered");
    refused(&testbed, &["remove", "absent"], "there is no workload \"absent\"");
    refused(&testbed, &["add", "open"], "has no condition");
    refused(&testbed, &["add", "a", "--path", "bin/a"], "path: expected the absolute path");
    refused(&testbed, &["add", "forbidden", "--uid", &uid], "the policies do not permit it");
    let admin = AdminClient::Running(socket(&testbed.path("state")));
    let put = |name: &str, body: Value| {
        admin.call("PUT", &format!("/v1/workloads/{name}"), Some(&body)).unwrap().status
    };
    assert_eq!(put("orders", json!({ "uid": [1] })), 409);
    assert_eq!(put("stock", json!({ "uid": [1], "user": 1 })), 400, "unknown members are faults");
    assert_eq!(names(&testbed), ["ns/stock"]);

    // With no process, on the store; and all of it is there after a restart.
    drop(admin);
    testbed.stop_gateway().await;
    assert_eq!(workload(&testbed, &["add", "extra", "--uid", &uid]).0, 0);
    testbed.start_gateway().await;
    assert_eq!(names(&testbed), ["extra", "ns/stock"]);
    let (_, list) = workload(&testbed, &["list"]);
    let shown = |one: &Value| (one["name"].as_str().unwrap().to_owned(), one["declared"] == true);
    let shown: Vec<(String, bool)> = list.as_array().unwrap().iter().map(shown).collect();
    assert_eq!(
        shown,
        [("orders", true), ("extra", false), ("stock", false)].map(|(name, own)| (name.to_owned(), own))
    );

    // Who holds a stream is told at once.
    let client = Client::connect(&testbed.path("api.sock")).await.unwrap();
    let mut updates = client.x509().await.unwrap();
    assert_eq!(updates.next().await.unwrap().unwrap().identities.len(), 2);
    assert_eq!(workload(&testbed, &["remove", "extra"]).0, 0);
    let left = until("the update", async || {
        let identities = updates.next().await.unwrap().unwrap().identities;
        (identities.len() == 1).then_some(identities)
    })
    .await;
    assert_eq!(left[0].hint, "stock");
    assert_eq!(workload(&testbed, &["change", "stock", "--uid", NOBODY]).0, 0);
    assert_eq!(updates.next().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(names(&testbed), [""; 0]);

    // Removed, what it had is good no more.
    assert_eq!(workload(&testbed, &["remove", "stock"]).0, 0);
    let (_, status, _) = testbed.bastide(&["mesh", "status", "--output", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(status["revoked"]["certificates"].as_array().unwrap().len() >= 2, "{status}");
    assert_eq!(status["revoked"]["identities"], json!([]));
    assert_eq!(status["workloads"], json!(["spiffe://shop.example/orders"]));

    // The configuration comes to declare what was registered.
    assert_eq!(workload(&testbed, &["add", "later", "--uid", &uid]).0, 0);
    assert_eq!(names(&testbed), ["later"]);
    configure(&testbed, &format!("later: {{ uid: {NOBODY} }}"));
    until("the new configuration", async || names(&testbed).is_empty().then_some(())).await;
    let aside = until("the word about it", async || {
        let (_, list) = workload(&testbed, &["list"]);
        list[1]["set_aside"].as_str().map(str::to_owned)
    })
    .await;
    assert!(aside.contains("of the configuration"), "{aside}");

    // Who did what is in the audit log.
    let audited = until("the events", async || {
        let folder = std::fs::read_dir(testbed.path("state/audit")).ok()?;
        let log: String = folder.filter_map(|entry| Some(read(&entry.ok()?.path()))).collect();
        log.contains("registered: spiffe://shop.example/later").then_some(log)
    })
    .await;
    for text in ["administration:workloads", "removed: spiffe://shop.example/ns/stock", "not this one"] {
        assert!(audited.contains(text), "{text}");
    }
}

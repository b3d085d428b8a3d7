//! Workloads of the mesh that are registered while it runs, over the administration.

use bastide::admin::client::{AdminClient, socket};
use mesh::workload_api::{Client, Code};
use serde_json::{Value, json};

use crate::support::{Town, read, until};

/// A user that no process here runs as.
const NOBODY: &str = "4000000";

const POLICIES: &str = r#"
    @id("not this one")
    forbid (principal, action, resource == Route::"administration:workloads")
    when { resource.params has workload && resource.params.workload == "forbidden" };
"#;

fn configure(town: &Town, workloads: &str) {
    town.configure(&format!(
        "mesh:\n  trust_domain: shop.example\n  socket: api.sock\n  workloads: {{ {workloads} }}\n\
         realms: {{ town: https://localhost }}\npolicies: shop.cedar\n\
         routes: [ {{ name: id, match: localhost/**, to: identity, authenticate: none, allow: anyone }} ]\n"
    ));
}

/// What this process is, as the Workload API says; empty: nobody.
fn names(town: &Town) -> Vec<String> {
    let (code, out, err) = town.bastide(&["mesh", "svid", "--socket", "api.sock"]);
    assert!(code == 0 || (code == 1 && out.contains("PermissionDenied")), "{out}{err}");
    let mut names: Vec<String> = out
        .lines()
        .filter_map(|line| line.strip_prefix("spiffe://shop.example/"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// `bastide mesh workload`, and what it prints as JSON.
fn workload(town: &Town, arguments: &[&str]) -> (i32, Value) {
    let (code, out, err) = town.bastide(&[&["mesh", "workload"], arguments, &["--output", "json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out}{err}")))
}

fn refused(town: &Town, arguments: &[&str], why: &str) {
    let (code, said) = workload(town, arguments);
    assert!(code == 1 && said["refused"].as_str().unwrap().contains(why), "{code} {said}");
}

#[tokio::test]
async fn a_process_is_whom_it_is_registered_as_until_that_is_taken_back() {
    let mut town = Town::prepare("");
    std::fs::write(town.path("shop.cedar"), POLICIES).unwrap();
    configure(&town, &format!("orders: {{ uid: {NOBODY} }}"));
    let (code, out, err) = town.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    town.start_gateway().await;
    let uid = rustix::process::geteuid().as_raw().to_string();
    assert_eq!(names(&town), [""; 0]);

    let (code, said) = workload(&town, &["add", "stock", "--id", "ns/stock", "--uid", &uid]);
    assert_eq!((code, &said["id"]), (0, &"spiffe://shop.example/ns/stock".into()), "{said}");
    assert_eq!(names(&town), ["ns/stock"]);

    // One name is one workload's, and the configuration's come first.
    refused(&town, &["add", "stock", "--uid", &uid], "is registered already");
    refused(&town, &["add", "orders", "--uid", &uid], "\"orders\" of the configuration");
    refused(&town, &["change", "orders", "--uid", &uid], "\"orders\" of the configuration");
    refused(&town, &["add", "other", "--id", "/orders", "--uid", &uid], "\"orders\" of the configuration");
    refused(&town, &["add", "other", "--id", "gateway", "--uid", &uid], "`mesh.identity`");
    refused(&town, &["remove", "orders"], "remove it from `mesh.workloads`");
    refused(&town, &["change", "stock", "--id", "else", "--uid", &uid], "remove it before another");
    refused(&town, &["change", "absent", "--uid", &uid], "no workload \"absent\" is registered");
    refused(&town, &["remove", "absent"], "there is no workload \"absent\"");
    refused(&town, &["add", "open"], "has no condition");
    refused(&town, &["add", "a", "--path", "bin/a"], "path: expected the absolute path");
    refused(&town, &["add", "forbidden", "--uid", &uid], "the policies do not permit it");
    let admin = AdminClient::Running(socket(&town.path("state")));
    let put = |name: &str, body: Value| {
        admin.call("PUT", &format!("/v1/workloads/{name}"), Some(&body)).unwrap().status
    };
    assert_eq!(put("orders", json!({ "uid": [1] })), 409);
    assert_eq!(put("stock", json!({ "uid": [1], "user": 1 })), 400, "unknown members are faults");
    assert_eq!(names(&town), ["ns/stock"]);

    // With no process, on the store; and all of it is there after a restart.
    drop(admin);
    town.stop_gateway().await;
    assert_eq!(workload(&town, &["add", "extra", "--uid", &uid]).0, 0);
    town.start_gateway().await;
    assert_eq!(names(&town), ["extra", "ns/stock"]);
    let (_, list) = workload(&town, &["list"]);
    let shown = |one: &Value| (one["name"].as_str().unwrap().to_owned(), one["declared"] == true);
    let shown: Vec<(String, bool)> = list.as_array().unwrap().iter().map(shown).collect();
    assert_eq!(
        shown,
        [("orders", true), ("extra", false), ("stock", false)].map(|(name, own)| (name.to_owned(), own))
    );

    // Who holds a stream is told at once.
    let client = Client::connect(&town.path("api.sock")).await.unwrap();
    let mut updates = client.x509().await.unwrap();
    assert_eq!(updates.next().await.unwrap().unwrap().identities.len(), 2);
    assert_eq!(workload(&town, &["remove", "extra"]).0, 0);
    let left = until("the update", async || {
        let identities = updates.next().await.unwrap().unwrap().identities;
        (identities.len() == 1).then_some(identities)
    })
    .await;
    assert_eq!(left[0].hint, "stock");
    assert_eq!(workload(&town, &["change", "stock", "--uid", NOBODY]).0, 0);
    assert_eq!(updates.next().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(names(&town), [""; 0]);

    // Removed, what it had is good no more.
    assert_eq!(workload(&town, &["remove", "stock"]).0, 0);
    let (_, status, _) = town.bastide(&["mesh", "status", "--output", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(status["revoked"]["certificates"].as_array().unwrap().len() >= 2, "{status}");
    assert_eq!(status["revoked"]["identities"], json!([]));
    assert_eq!(status["workloads"], json!(["spiffe://shop.example/orders"]));

    // The configuration comes to declare what was registered.
    assert_eq!(workload(&town, &["add", "later", "--uid", &uid]).0, 0);
    assert_eq!(names(&town), ["later"]);
    configure(&town, &format!("later: {{ uid: {NOBODY} }}"));
    until("the new configuration", async || names(&town).is_empty().then_some(())).await;
    let aside = until("the word about it", async || {
        let (_, list) = workload(&town, &["list"]);
        list[1]["set_aside"].as_str().map(str::to_owned)
    })
    .await;
    assert!(aside.contains("of the configuration"), "{aside}");

    // Who did what is in the audit log.
    let audited = until("the events", async || {
        let folder = std::fs::read_dir(town.path("state/audit")).ok()?;
        let log: String = folder.filter_map(|entry| Some(read(&entry.ok()?.path()))).collect();
        log.contains("registered: spiffe://shop.example/later").then_some(log)
    })
    .await;
    for text in ["administration:workloads", "removed: spiffe://shop.example/ns/stock", "not this one"] {
        assert!(audited.contains(text), "{text}");
    }
}

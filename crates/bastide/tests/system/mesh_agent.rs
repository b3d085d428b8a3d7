//! `bastide agent`: a node joins the control plane, serves its workloads, goes on while the control
//! plane is killed and started again, and is the same node after a restart of its own.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use mesh::workload_api::Client;
use rustix::process::Signal;
use serde_json::Value;

use crate::peers::free_port;
use crate::support::{BASTIDE, Process, TestBed, read, until};

fn agent(testbed: &TestBed, log: &str, more: &[&str], port: u16) -> Process {
    let mut command = Command::new(BASTIDE);
    command
        .args(["agent", "--server", &format!("127.0.0.1:{port}"), "--socket", "node.sock"])
        .args(["--state", "node-state"])
        .args(more)
        .current_dir(testbed.folder.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(testbed.path(log)).unwrap());
    Process::spawn(&mut command)
}

fn svid(testbed: &TestBed) -> (i32, String) {
    let (code, out, err) = testbed.bastide(&["mesh", "svid", "--socket", "node.sock", "--out", "mine"]);
    (code, out + &err)
}

async fn serial(testbed: &TestBed) -> String {
    until("a certificate", async || {
        (svid(testbed).0 == 0).then(|| {
            let run = Command::new("openssl")
                .args(["x509", "-noout", "-serial", "-in"])
                .arg(testbed.path("mine/svid.pem"))
                .output();
            String::from_utf8(run.unwrap().stdout).unwrap().trim().to_owned()
        })
    })
    .await
}

#[tokio::test]
async fn a_node_joins_and_goes_on_without_its_control_plane() {
    let port = free_port();
    let mut testbed = TestBed::prepare("");
    testbed.configure(&configuration(port, 10, ""));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    let (code, token, err) = testbed.bastide(&["mesh", "token", "edge-1"]);
    assert_eq!(code, 0, "{err}");
    std::fs::write(testbed.path("join"), &token).unwrap();
    let mut node = agent(&testbed, "agent.log", &["--token-file", "join"], port);
    until("its socket", async || testbed.path("node.sock").exists().then_some(())).await;
    assert_eq!(
        svid(&testbed),
        (0, "spiffe://shop.example/orders\n".to_owned()),
        "{}",
        read(&testbed.path("agent.log"))
    );
    let (_, text, _) = testbed.bastide(&["mesh", "nodes"]);
    let left = ["1 d more", "23 h 59 min more"].map(|left| format!("edge-1 by token, attested for {left}"));
    assert!(left.iter().any(|left| text.contains(left)), "{text}");
    let (_, status, _) = testbed.bastide(&["mesh", "nodes", "--output", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["nodes"][0]["node"], &status["nodes"][0]["by"]), (&"edge-1".into(), &"token".into()));
    assert!(token.trim().ends_with(status["pin"].as_str().unwrap()));
    // Beside the control plane nobody has what is registered for the node.
    let (_, out, _) = testbed.bastide(&["mesh", "svid", "--socket", "api.sock"]);
    assert_eq!(out, "spiffe://shop.example/local\n");

    // Killed without a word, the control plane is not missed until a certificate ends: one that has
    // just come, so that the next does not come in between.
    let first = serial(&testbed).await;
    let before =
        until("a fresh certificate", async || Some(serial(&testbed).await).filter(|serial| *serial != first))
            .await;
    testbed.gateway().signal(Signal::KILL);
    testbed.gateway().ended().await;
    assert_eq!(serial(&testbed).await, before);
    testbed.start_gateway().await;
    until("the next certificate", async || (serial(&testbed).await != before).then_some(())).await;

    // Started again, it is the same node: its token is used up, its key is not. Nor is the token's file needed.
    node.signal(Signal::TERM);
    assert_eq!(node.ended().await.code(), Some(0), "{}", read(&testbed.path("agent.log")));
    assert!(!testbed.path("node.sock").exists());
    std::fs::write(testbed.path("join"), "").unwrap();
    let _node = agent(&testbed, "again.log", &["--token-file", "join"], port);
    serial(&testbed).await;

    // What it was given stands in both logs, in the control plane's with its name.
    for (folder, text) in [("state/audit", "node edge-1"), ("node-state/audit", "FetchX509SVID")] {
        until("the event", async || {
            let log: String = std::fs::read_dir(testbed.path(folder))
                .ok()?
                .filter_map(|entry| Some(read(&entry.ok()?.path())))
                .collect();
            (log.contains(text) && log.contains("spiffe://shop.example/orders")).then_some(())
        })
        .await;
    }

    // Evicted, it gets nothing further, and its token does not let it in again.
    std::fs::write(testbed.path("join"), &token).unwrap();
    assert_eq!(testbed.bastide(&["mesh", "evict", "edge-1"]).0, 0);
    assert_eq!(testbed.bastide(&["mesh", "evict", "edge-1"]).0, 1);
    let refusal = "not attested: its join token is unknown, used or expired, or its node was evicted since";
    until("the refusal", async || read(&testbed.path("again.log")).contains(refusal).then_some(())).await;
    until("the end of its certificate", async || (svid(&testbed).0 != 0).then_some(())).await;
}

/// A control plane with a node: certificates live for `seconds`.
fn configuration(port: u16, seconds: u32, more: &str) -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!(
        "routes: []\nmesh:\n  trust_domain: shop.example\n  socket: api.sock\n  agents: 127.0.0.1:{port}\n  \
         lifetimes: {{ authority: 60s, x509_svid: {seconds}s, jwt_svid: 8s }}\n  workloads:\n    \
         orders: {{ uid: {uid}, node: edge-1 }}\n    local: {{ uid: {uid} }}\n{more}"
    )
}

async fn with_a_node(port: u16) -> (TestBed, Process) {
    let mut testbed = TestBed::prepare("");
    testbed.configure(&configuration(port, 8, ""));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    let (_, token, _) = testbed.bastide(&["mesh", "token", "edge-1"]);
    std::fs::write(testbed.path("join"), &token).unwrap();
    let node = agent(&testbed, "agent.log", &["--token-file", "join"], port);
    serial(&testbed).await;
    (testbed, node)
}

async fn reloads(testbed: &TestBed, result: &str) -> u64 {
    let metrics = String::from_utf8(testbed.admin("/metrics").await.body).unwrap();
    let name = format!("bastide_reloads_total{{result=\"{result}\"}}");
    let line = metrics.lines().find(|line| line.starts_with(&name));
    line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap()
}

/// Both endpoints answer somebody new, who gets a certificate that is made now.
async fn serves(testbed: &TestBed, what: &str) {
    let beside = testbed.bastide(&["mesh", "svid", "--socket", "api.sock"]);
    assert_eq!(beside.1, "spiffe://shop.example/local\n", "{what}: {}{}", beside.2, testbed.log());
    let before = serial(testbed).await;
    until(what, async || (serial(testbed).await != before).then_some(())).await;
}

#[tokio::test]
async fn a_reload_and_a_hand_over_keep_both_sockets_of_the_mesh() {
    let port = free_port();
    let (mut testbed, _node) = with_a_node(port).await;
    // The authorities' settings change: another trust domain is opened in the place of this one.
    testbed.configure(&configuration(port, 6, ""));
    until("the reload", async || (reloads(&testbed, "good").await >= 1).then_some(())).await;
    assert_eq!(reloads(&testbed, "refused").await, 0, "{}", testbed.log());
    serves(&testbed, "a certificate after the reload").await;

    // They change again, with something that cannot be taken.
    testbed.configure(&configuration(
        port,
        5,
        "policies: { inline: \"permit (principl, action, resource);\" }\n",
    ));
    until("the refusal", async || (reloads(&testbed, "refused").await >= 1).then_some(())).await;
    serves(&testbed, "a certificate after the refused reload").await;
    // Nor can a process that is to take over.
    let mut faulty = testbed.serve("faulty.log");
    faulty.arg("--take-over");
    assert!(!Process::spawn(&mut faulty).ended().await.success());
    serves(&testbed, "a certificate after the hand-over that failed").await;

    testbed.configure(&configuration(port, 6, ""));
    let mut heir = testbed.serve("heir.log");
    heir.arg("--take-over");
    let mut heir = Process::spawn(&mut heir);
    assert!(
        testbed.gateway().ended().await.success(),
        "{}\n{}",
        testbed.log(),
        read(&testbed.path("heir.log"))
    );
    until("the heir's log", async || read(&testbed.path("heir.log")).contains("took over").then_some(()))
        .await;
    serves(&testbed, "a certificate of the heir").await;
    heir.signal(Signal::TERM);
    assert!(heir.ended().await.success());
    assert!(!testbed.path("api.sock").exists());
    let left: Vec<String> = std::fs::read_dir(testbed.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".sock") && name != "node.sock")
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn a_reload_whose_listener_for_agents_cannot_be_had_changes_nothing_of_the_mesh() {
    let (port, taken) = (free_port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (testbed, _node) = with_a_node(port).await;
    let (_, bundle, _) = testbed.bastide(&["mesh", "bundle"]);
    std::fs::write(testbed.path("partner.json"), bundle).unwrap();
    let known = async || {
        let client = Client::connect(&testbed.path("api.sock")).await.unwrap();
        let context = client.x509().await.unwrap().next().await.unwrap().unwrap();
        context.anchors.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(known().await, ["shop.example"]);
    let more = "  federates: { partner.example: { bundle: partner.json } }\n";
    let other = configuration(taken.local_addr().unwrap().port(), 8, more);
    testbed.configure(&other.replace("api.sock", "other.sock"));
    until("the refusal", async || (reloads(&testbed, "refused").await >= 1).then_some(())).await;
    until("the log", async || testbed.log().contains("listener for agents").then_some(())).await;
    assert_eq!(known().await, ["shop.example"], "a partner of the refused configuration is trusted");
    assert!(!testbed.path("other.sock").exists());
    serves(&testbed, "a certificate after the refusal").await;
}

#[tokio::test]
async fn an_agent_without_a_proof_or_with_a_broken_one_does_not_start() {
    let testbed = TestBed::prepare("");
    std::fs::write(testbed.path("broken"), "no token").unwrap();
    for (arguments, code, said) in [
        (&[][..], 2, "required"),
        (&["--cert", "node.pem"], 2, "--key"),
        (&["--kubernetes-token", "token"], 2, "--pin"),
        (&["--pin", "4fab", "--kubernetes-token", "token"], 2, "64 hexadecimal digits"),
        (&["--token-file", "broken"], 3, "bastide mesh token"),
        (&["--token-file", "nowhere"], 3, "nowhere"),
    ] {
        let common = ["agent", "--server", "127.0.0.1:1", "--socket", "node.sock"];
        let (found, _, err) = testbed.bastide(&[&common[..], arguments].concat());
        assert!(found == code && err.contains(said), "{arguments:?}: {found} {err}");
    }
}

/// The events about nodes: who, how, at which path, and what came of it.
async fn about_nodes(testbed: &TestBed, count: usize) -> Vec<(String, String, String)> {
    about(testbed, "administration:nodes", count).await
}

async fn about(testbed: &TestBed, route: &str, count: usize) -> Vec<(String, String, String)> {
    let told = async || {
        let files = std::fs::read_dir(testbed.path("state/audit")).ok()?;
        let log: String = files.filter_map(|entry| Some(read(&entry.ok()?.path()))).collect();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let events: Vec<_> = events
            .filter(|event| event["unmapped"]["route"] == route)
            .map(|event| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let (request, who) = (&event["http_request"], text(&event["actor"]["user"]["name"]));
                let call = text(&request["http_method"]) + " " + &text(&request["url"]["path"]);
                (who, call, text(&event["status_detail"]))
            })
            .collect();
        (events.len() >= count).then_some(events)
    };
    until("the events", told).await
}

/// With a process and without one.
#[tokio::test]
async fn who_evicts_and_admits_a_node_leaves_one_event_each_time() {
    let mut testbed = TestBed::prepare("");
    testbed.configure(&configuration(free_port(), 8, ""));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    let nodes = |arguments: &[&str]| testbed.bastide(&[&["mesh"], arguments].concat());
    assert_eq!(nodes(&["evict", "x509/edge-2", "--why", "stolen from the van"]).0, 1, "it is not there now");
    assert!(nodes(&["nodes"]).1.contains("x509/edge-2 evicted"));
    assert_eq!(
        nodes(&["admit", "x509/edge-2"]),
        (0, "x509/edge-2 may come again\n".to_owned(), String::new())
    );
    assert_eq!(nodes(&["admit", "x509/edge-2"]).0, 1);
    let (code, _, err) = nodes(&["evict", "edge-1", "--why", "two\nlines"]);
    assert!(code == 1 && err.contains("one line of at most 256 characters"), "{err}");
    assert!(nodes(&["evict", "no node"]).2.contains("names no node"));
    let who = format!("local:{}", rustix::process::geteuid().as_raw());
    let other = ("x509%2Fedge-2", "x509/edge-2");
    let mut expected = vec![
        (
            "PUT",
            other.0,
            format!("evicted: {}, 0 keys of it are known no more, because: stolen from the van", other.1),
        ),
        ("DELETE", other.0, format!("admitted: {}", other.1)),
        ("DELETE", other.0, format!("there is no eviction of {:?}", other.1)),
        ("PUT", "edge-1", "why: expected one line of at most 256 characters".to_owned()),
        ("PUT", "no%20node", "\"no node\" names no node".to_owned()),
    ];
    let seen = |expected: &[(&str, &str, String)]| -> Vec<(String, String, String)> {
        let one = |(method, node, why): &(&str, &str, String)| {
            (who.clone(), format!("{method} /v1/nodes/{node}/eviction"), why.clone())
        };
        expected.iter().map(one).collect()
    };
    assert_eq!(about_nodes(&testbed, expected.len()).await, seen(&expected));

    testbed.stop_gateway().await;
    assert_eq!(testbed.bastide(&["mesh", "evict", "edge-3"]).0, 1);
    assert_eq!(testbed.bastide(&["mesh", "admit", "edge-3", "--why", "found"]).0, 0);
    expected.push(("PUT", "edge-3", "evicted: edge-3, 0 keys of it are known no more".to_owned()));
    expected.push(("DELETE", "edge-3", "admitted: edge-3, because: found".to_owned()));
    assert_eq!(about_nodes(&testbed, expected.len()).await, seen(&expected));
}

/// With a process and without one.
#[tokio::test]
async fn who_makes_join_tokens_and_moves_authorities_leaves_one_event_each_time() {
    let mut testbed = TestBed::prepare("");
    testbed.configure(&configuration(free_port(), 8, ""));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    let who = format!("local:{}", rustix::process::geteuid().as_raw());
    let (mut tokens, mut nodes, mut authorities) = (Vec::new(), Vec::new(), Vec::new());
    for is_running in [true, false] {
        if is_running {
            testbed.start_gateway().await;
        } else {
            testbed.stop_gateway().await;
        }
        let mesh = |arguments: &[&str]| testbed.bastide(&[&["mesh"], arguments].concat());
        let (code, token, err) = mesh(&["token", "edge-1", "--expires", "10m", "--why", "a new van"]);
        assert_eq!(code, 0, "{err}");
        tokens.push(token.trim().split('.').next().unwrap().to_owned());
        assert!(mesh(&["token", "a/b"]).2.contains("names no node"));
        assert_eq!(mesh(&["token", "edge-1", "--expires", "8d"]).0, 1);
        let at = |node: &str| format!("POST /v1/nodes/{node}/token");
        nodes.push((
            who.clone(),
            at("edge-1"),
            "made: a token with which edge-1 may join within 600 s, because: a new van".to_owned(),
        ));
        nodes.push((
            who.clone(),
            at("a%2Fb"),
            "\"a/b\" names no node: expected letters, digits, `-`, `.` and `_`".to_owned(),
        ));
        nodes.push((
            who.clone(),
            at("edge-1"),
            "a join token is good for at most 604800s, found 691200s".to_owned(),
        ));

        let (code, out, err) = mesh(&["prepare", "jwt", "--output", "json", "--why", "drill"]);
        assert_eq!(code, 0, "{out}{err}");
        let list = serde_json::from_str::<Value>(&out).unwrap()["authorities"].as_array().unwrap().clone();
        let of = |state: &str| {
            let mut found = list.iter().filter(|one| one["kind"] == "jwt" && one["state"] == state);
            found.next().unwrap()["id"].as_str().unwrap().to_owned()
        };
        let (next, old) = (of("prepared"), of("active"));
        assert_eq!(mesh(&["activate", &next[..12], "--why", "drill"]).0, 0);
        let (code, _, err) = mesh(&["revoke", &old]);
        assert!(code == 1 && err.contains("it has to be tainted"), "{err}");
        assert_eq!(mesh(&["taint", &old, "--why", "leaked"]).0, 0);
        let (code, out, _) = mesh(&["revoke", &old, "--why", "leaked"]);
        assert!(code == 0 && out.contains(&format!("jwt     revoked   {old}")), "{out}");
        let mut add = |path: String, why: String| {
            authorities.push((who.clone(), format!("POST /v1/authorities{path}"), why));
        };
        add(String::new(), format!("prepared: another jwt authority, {next}, because: drill"));
        add(format!("/{next}/activate"), format!("activated: {next}, because: drill"));
        add(format!("/{old}/revoke"), format!("the authority {old} is active; it has to be tainted"));
        add(format!("/{old}/taint"), format!("tainted: {old}, because: leaked"));
        add(format!("/{old}/revoke"), format!("revoked: {old}, because: leaked"));
        assert_eq!(about_nodes(&testbed, nodes.len()).await, nodes);
        let writes = |events: Vec<(String, String, String)>| -> Vec<(String, String, String)> {
            events.into_iter().filter(|(_, call, _)| call.starts_with("POST")).collect()
        };
        // A beginning of an id is looked up first.
        let seen = until("the events", async || {
            let seen = writes(about(&testbed, "administration:authorities", 1).await);
            (seen.len() >= authorities.len()).then_some(seen)
        });
        assert_eq!(seen.await, authorities);
    }
    let files = std::fs::read_dir(testbed.path("state/audit")).unwrap();
    let log: String = files.filter_map(|entry| Some(read(&entry.ok()?.path()))).collect();
    assert!(tokens.iter().all(|token| token.len() > 20 && !log.contains(token)));

    // What the policies do not permit is not done.
    std::fs::write(
        testbed.path("shop.cedar"),
        r#"forbid (principal, action in Action::"write", resource == Route::"administration:authorities");"#,
    )
    .unwrap();
    let administered = "realms: { town: https://localhost }\npolicies: shop.cedar\nroutes: [ { name: id, \
        match: localhost/**, to: identity, authenticate: none, allow: anyone } ]";
    testbed.configure(&configuration(free_port(), 8, "").replace("routes: []", administered));
    let (code, _, err) = testbed.bastide(&["mesh", "prepare", "jwt"]);
    assert!(code == 1 && err.contains("policies do not permit"), "{code} {err}");
}

//! Services that are found without an address in any configuration: instances come, are killed, end
//! in order and are revoked, the control plane is killed and comes back, and callers go on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bastide::demo::client::{Endpoint, Request, http1};
use mesh::workload_api::{Client, Code};
use model::SpiffeId;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::Instant;

use crate::clients::script;
use crate::hosts::{CONTROL_TO_CALLER, Host, Hosts};
use crate::peers::free_address;
use crate::support::{BASTIDE, Process, TestBed, read, until};

/// Longer than an address that is not renewed stays.
const EXPIRY: Duration = Duration::from_secs(60);

/// An instance of a service, at a port that the system picks, whose program says its own name.
struct Instance {
    process: Process,
    program: Pid,
}

impl Instance {
    async fn start(testbed: &TestBed, service: &str, name: &str, more: &[&str]) -> Self {
        let log = testbed.path(&format!("{name}.log"));
        let mut command = Command::new(BASTIDE);
        command
            .args(["run", "--service", service, "--listen", "127.0.0.1:0", "--state", name])
            .args(more)
            .args(["--", "python3"])
            .arg(script("answers.py"))
            .arg(name)
            .current_dir(testbed.folder.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap());
        let process = Process::spawn(&mut command);
        until("the instance to be registered", async || {
            read(&log).contains("mesh: registered").then_some(())
        })
        .await;
        Self { process, program: program(&log) }
    }

    /// Kills it without a word.
    async fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.ended().await;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Of a `bastide run` that was killed it is nobody's child any more.
        let _ = kill_process(self.program, Signal::KILL);
    }
}

/// The process that the log names.
fn program(log: &Path) -> Pid {
    let text = read(log);
    let after = text.split("process=").nth(1).unwrap();
    let number: String = after.chars().take_while(char::is_ascii_digit).collect();
    Pid::from_raw(number.parse().unwrap()).unwrap()
}

fn id(name: &str) -> SpiffeId {
    format!("spiffe://shop.example/{name}").parse().unwrap()
}

/// What is registered of a service: its addresses, and their ages in seconds.
fn listed(testbed: &TestBed, service: &str) -> Vec<(SocketAddr, u64)> {
    let (code, out, err) = testbed.bastide(&["mesh", "status", "--output", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    let status: Value = serde_json::from_str(&out).unwrap();
    let endpoints = status["endpoints"].as_array().unwrap().iter();
    let own = endpoints.filter(|one| one["service"] == id(service).as_str());
    own.map(|one| (one["address"].as_str().unwrap().parse().unwrap(), one["age_s"].as_u64().unwrap()))
        .collect()
}

/// Asks for orders over somebody's outbound proxy: status, and who answered.
async fn ask(outbound: SocketAddr) -> (u16, String) {
    let answer =
        http1::ask(&Endpoint::clear(outbound), &Request::new("GET", "orders", "/hello")).await.unwrap();
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    (answer.status, body.split(' ').next().unwrap_or_default().to_owned())
}

/// Asks until all of these have answered; everybody who does is one of them.
async fn answers(what: &str, outbound: SocketAddr, expected: &[&str]) {
    let mut seen = BTreeSet::new();
    until(what, async || {
        let (status, name) = ask(outbound).await;
        assert!(status == 200 && expected.contains(&name.as_str()), "{what}: {status} {name}");
        seen.insert(name);
        (seen.len() == expected.len()).then_some(())
    })
    .await;
}

async fn testbed() -> TestBed {
    let mut testbed = TestBed::prepare("");
    let uid = rustix::process::geteuid().as_raw();
    let own = std::env::current_exe().unwrap();
    let shared = format!(
        "mesh:\n  trust_domain: shop.example\n  socket: api.sock\n  services:\n    orders: registry\n    \
         shop: {{ at: registry }}\n  workloads:\n    orders: {{ uid: {uid}, path: {BASTIDE} }}\n    \
         shop: {{ uid: {uid}, path: {BASTIDE} }}\n    tester: {{ uid: {uid}, path: {} }}\n\
         policies: shop.cedar\n",
        own.display()
    );
    std::fs::write(testbed.path("mesh.yaml"), shared).unwrap();
    let policies =
        r#"permit (principal is Service, action, resource) when { resource.service == "orders" };"#;
    std::fs::write(testbed.path("shop.cedar"), policies).unwrap();
    testbed.configure(
        "include: mesh.yaml\nroutes: [ { name: shop, match: localhost/**, to: orders, authenticate: none, allow: anyone } ]\n",
    );
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    testbed
}

#[tokio::test]
async fn callers_follow_the_registry_through_deaths_of_instances_and_of_the_control_plane() {
    let mut testbed = testbed().await;
    let outbound = free_address();
    let port = outbound.port().to_string();
    assert_eq!(testbed.get("/hello").await.status, 503, "nobody is there yet");
    let _shop = Instance::start(&testbed, "shop", "shop", &["--outbound-port", &port]).await;
    assert_eq!(ask(outbound).await.0, 503);
    let mut one = Instance::start(&testbed, "orders", "one", &[]).await;
    let two = Instance::start(&testbed, "orders", "two", &[]).await;
    let here = async || {
        let (status, _) = ask(outbound).await;
        (status == 200 && testbed.get("/hello").await.status == 200).then_some(())
    };
    until("the first answer", here).await;
    answers("both instances", outbound, &["one", "two"]).await;
    let at_first = listed(&testbed, "orders");
    let ports: BTreeSet<u16> = at_first.iter().map(|(address, _)| address.port()).collect();
    assert!(ports.len() == 2 && !ports.contains(&0), "{at_first:?}");
    assert_eq!(listed(&testbed, "shop").len(), 1);

    // Who is not orders does not become it by saying so.
    let client = Client::connect(&testbed.path("api.sock")).await.unwrap();
    let stolen: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let refused = client.register(&id("orders"), stolen).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    client.register(&id("tester"), stolen).await.expect("as itself it may");
    client.withdraw(&id("tester"), stolen).await.unwrap();
    assert_eq!(listed(&testbed, "orders").len(), 2);

    // Killed without a word: nobody notices, though its address is registered still.
    one.kill().await;
    let killed = Instant::now();
    for _ in 0..50 {
        assert_eq!(ask(outbound).await, (200, "two".to_owned()));
        assert_eq!(testbed.get("/hello").await.status, 200);
    }
    assert_eq!(listed(&testbed, "orders").len(), 2);
    // Whoever comes is asked when its program answers, and not before.
    let (mut three, ()) = tokio::join!(Instance::start(&testbed, "orders", "three", &[]), async {
        until("the third's first answer", async || {
            let (status, name) = ask(outbound).await;
            assert_eq!(status, 200, "{name}");
            (name == "three").then_some(())
        })
        .await;
    });
    answers("the two that are there", outbound, &["two", "three"]).await;
    while listed(&testbed, "orders").len() == 3 {
        assert!(killed.elapsed() < EXPIRY, "{:?}", listed(&testbed, "orders"));
        assert_eq!(ask(outbound).await.0, 200);
    }

    let log = read(&testbed.path("shop.log"));
    assert!(!log.contains("does not say where services are"), "one stream tells everything: {log}");

    // Without a control plane callers go on, and when it is back so does everything.
    testbed.gateway().signal(Signal::KILL);
    testbed.gateway().ended().await;
    answers("both without a control plane", outbound, &["two", "three"]).await;
    testbed.start_gateway().await;
    assert_eq!(testbed.get("/hello").await.status, 200, "what is registered outlives it");
    answers("both with the next one", outbound, &["two", "three"]).await;
    let _four = Instance::start(&testbed, "orders", "four", &[]).await;
    let fourth = async || (ask(outbound).await == (200, "four".to_owned())).then_some(());
    until("the fourth's first answer", fourth).await;

    // One that ends in order is gone before it does, and no call fails.
    three.process.signal(Signal::TERM);
    while !three.process.ended_within(Duration::from_millis(20)) {
        assert_eq!(ask(outbound).await.0, 200);
    }
    assert_eq!(listed(&testbed, "orders").len(), 2);
    answers("those that are left", outbound, &["two", "four"]).await;

    // Revoked, the service is nowhere.
    let (code, out, err) = testbed.bastide(&["mesh", "revoke", "--identity", id("orders").as_str()]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(listed(&testbed, "orders"), []);
    until("the end of its calls", async || (ask(outbound).await.0 == 503).then_some(())).await;
    drop(two);

    // Who came and went, and who was refused, is written down.
    until("the events", async || {
        let folder = std::fs::read_dir(testbed.path("state/audit")).ok()?;
        let log: String = folder.filter_map(|entry| Some(read(&entry.ok()?.path()))).collect();
        let has = |text: &str| log.contains(text);
        let first = format!("endpoint {}", at_first[0].0);
        (has("Endpoints/Register")
            && has("Endpoints/Withdraw")
            && has(&first)
            && has("orders\\\", which it is not"))
        .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_address_of_one_machine_is_not_advertised() {
    let testbed = TestBed::prepare("");
    for (said, why) in [
        ("10.0.0.5", "expected an address and a port such as 10.0.0.5:7001"),
        ("orders:7001", "expected an address and a port"),
        ("10.0.0.5:0", "port 0"),
        ("0.0.0.0:7001", "every address of this machine"),
        ("224.0.0.1:7001", "cannot be advertised"),
    ] {
        let arguments =
            ["run", "--service", "orders", "--listen", "127.0.0.1:0", "--advertise", said, "--", "true"];
        let (code, _, err) = testbed.bastide(&arguments);
        assert!(code == 2 && err.contains(why), "{said}: {code} {err}");
    }
}

#[tokio::test]
async fn a_service_on_a_node_says_where_it_is_and_is_nowhere_once_the_node_is_evicted() {
    let endpoint = free_address();
    let uid = rustix::process::geteuid().as_raw();
    let mut testbed = TestBed::prepare("");
    testbed.configure(&format!(
        "routes: []\nmesh:\n  trust_domain: shop.example\n  socket: api.sock\n  agents: {endpoint}\n  workloads:\n    \
         stock: {{ uid: {uid}, node: edge-1 }}\n    local: {{ uid: {uid} }}\n"
    ));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    let (_, token, _) = testbed.bastide(&["mesh", "token", "edge-1"]);
    std::fs::write(testbed.path("join"), token).unwrap();
    let start = |arguments: &[&str], log: &str| {
        let mut command = Command::new(BASTIDE);
        command.args(arguments).current_dir(testbed.folder.path()).stdout(Stdio::null());
        Process::spawn(command.stderr(std::fs::File::create(testbed.path(log)).unwrap()))
    };
    let server = endpoint.to_string();
    let _agent = start(
        &["agent", "--server", &server, "--socket", "node.sock", "--state", "node", "--token-file", "join"],
        "agent.log",
    );
    until("its socket", async || testbed.path("node.sock").exists().then_some(())).await;
    let advertise = |socket: &str, service: &str, log: &str| {
        start(&["mesh", "advertise", "--socket", socket, "--service", service, "0.0.0.0:7001"], log)
    };
    let log = |name: &str| read(&testbed.path(name));

    // Beside the control plane nobody is what is registered for the node, nor the other way round.
    for (socket, service, name) in [("api.sock", "stock", "a.log"), ("node.sock", "local", "b.log")] {
        assert!(!advertise(socket, service, name).ended().await.success());
        assert!(
            log(name).contains(&format!("this process is not the workload {service:?}")),
            "{}",
            log(name)
        );
    }
    let mut stock = advertise("node.sock", "stock", "stock.log");
    until("the word", async || log("stock.log").contains("mesh: registered").then_some(())).await;
    let at: SocketAddr = "127.0.0.1:7001".parse().unwrap();
    assert_eq!(listed(&testbed, "stock").iter().map(|(address, _)| *address).collect::<Vec<_>>(), [at]);
    let (_, status, _) = testbed.bastide(&["mesh", "status"]);
    assert!(status.contains("spiffe://shop.example/stock at 127.0.0.1:7001 on edge-1, since "), "{status}");
    stock.signal(Signal::TERM);
    assert!(stock.ended().await.success());
    assert_eq!(listed(&testbed, "stock"), []);

    let _stock = advertise("node.sock", "stock", "again.log");
    until("the word", async || log("again.log").contains("mesh: registered").then_some(())).await;
    assert_eq!(testbed.bastide(&["mesh", "evict", "edge-1"]).0, 0);
    assert_eq!(listed(&testbed, "stock"), []);
    until("its refusal", async || log("again.log").contains("could not be registered").then_some(())).await;
    assert_eq!(listed(&testbed, "stock"), []);
}

#[tokio::test]
async fn every_address_beside_the_control_plane_is_that_of_its_route_or_refused_with_what_to_do() {
    let Some(hosts) = Hosts::build("the address of a service that listens at every one") else { return };
    let uid = rustix::process::geteuid().as_raw();
    let mut testbed = TestBed::prepare("");
    testbed.configure(&format!(
        "routes: []\nmesh:\n  trust_domain: shop.example\n  socket: api.sock\n  workloads: {{ stock: {{ uid: {uid} }} }}\n"
    ));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    let mut serve = hosts.command(Host::Control, BASTIDE);
    serve.args(["serve", "--config", "bastide.yaml"]).current_dir(testbed.folder.path());
    serve.stdout(Stdio::null()).stderr(std::fs::File::create(testbed.path("log")).unwrap());
    testbed.start_gateway_by(serve).await;
    let mut advertise = hosts.command(Host::Control, BASTIDE);
    advertise.args(["mesh", "advertise", "--socket", "api.sock", "--service", "stock", "0.0.0.0:7001"]);
    let log = std::fs::File::create(testbed.path("stock.log")).unwrap();
    advertise.current_dir(testbed.folder.path()).stdout(Stdio::null()).stderr(log);
    let _stock = Process::spawn(&mut advertise);
    until("what to do", async || {
        read(&testbed.path("stock.log")).contains("name one by --advertise").then_some(())
    })
    .await;
    assert_eq!(listed(&testbed, "stock"), []);
    hosts.route(CONTROL_TO_CALLER);
    until("the address", async || {
        read(&testbed.path("stock.log")).contains("mesh: registered").then_some(())
    })
    .await;
    let at: SocketAddr = "10.66.1.1:7001".parse().unwrap();
    assert_eq!(listed(&testbed, "stock").iter().map(|(address, _)| *address).collect::<Vec<_>>(), [at]);
}

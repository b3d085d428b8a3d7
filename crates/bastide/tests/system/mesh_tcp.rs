//! Opaque connections between services of the mesh: servers that speak first, either side
//! ending first, who is let through and for how long; what speaks HTTP and what does not;
//! callers without TLS while services move in.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::peers::free_port;
use crate::support::{BASTIDE, PATIENCE, Process, TestBed, read, until};

/// Speaks first. `echo`: gives back what comes. `count`: ends its own side, and counts what
/// still comes.
pub(crate) const SPEAKS_FIRST: &str = r#"
import os, socket, threading
def serve(peer):
    peer.sendall(b"220 ready\n")
    stream = peer.makefile("rb")
    word = stream.readline()
    if word == b"echo\n":
        while data := stream.read1(65536):
            peer.sendall(data)
        peer.sendall(b"bye")
    if word == b"count\n":
        peer.shutdown(socket.SHUT_WR)
        print("counted", len(stream.read()), flush=True)
    stream.close()
    peer.close()
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
print("the program is up", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// Answers HTTP/1.1.
pub(crate) const SPEAKS_HTTP: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{self.command} {self.path}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
print("the program is up", flush=True)
server.serve_forever()
"#;

/// Does nothing; its `bastide run` is the caller.
pub(crate) const CALLS: &str = "print('the program is up', flush=True)\nimport signal\nsignal.pause()\n";

/// A trust domain, and services in it. Ended in order, so that no program is left.
pub(crate) struct Mesh {
    pub(crate) testbed: TestBed,
    ports: Vec<(String, u16)>,
    running: Vec<Process>,
}

impl Mesh {
    /// With these services, of each its name and what else its entry says, and these policies.
    pub(crate) async fn start(services: &[(&str, &str)], policies: &str) -> Self {
        Self::start_with(services, policies, "", "routes: []\n").await
    }

    /// The same, with more under `mesh:`, and more of the gateway's configuration.
    pub(crate) async fn start_with(
        services: &[(&str, &str)],
        policies: &str,
        more: &str,
        gateway: &str,
    ) -> Self {
        let mut testbed = TestBed::prepare("routes: []\n");
        let uid = rustix::process::geteuid().as_raw();
        let ports: Vec<(String, u16)> =
            services.iter().map(|(name, _)| ((*name).to_owned(), free_port())).collect();
        let mut text =
            format!("mesh:\n  trust_domain: shop.example\n  socket: api.sock\n{more}  services:\n");
        for ((name, more), (_, port)) in services.iter().zip(&ports) {
            text += &format!("    {name}: {{ at: \"127.0.0.1:{port}\"{more} }}\n");
        }
        text += "  workloads:\n";
        for name in services.iter().map(|(name, _)| *name).chain(["intruder"]) {
            text += &format!("    {name}: {{ uid: {uid} }}\n");
        }
        std::fs::write(testbed.path("mesh.yaml"), text + "policies: shop.cedar\n").unwrap();
        std::fs::write(testbed.path("shop.cedar"), policies).unwrap();
        testbed.configure(&format!("include: mesh.yaml\n{gateway}"));
        let (code, out, err) = testbed.bastide(&["init"]);
        assert_eq!(code, 0, "{out}{err}");
        testbed.start_gateway().await;
        Self { testbed, ports, running: Vec::new() }
    }

    pub(crate) fn port(&self, name: &str) -> u16 {
        self.ports.iter().find(|(known, _)| known == name).map_or_else(free_port, |(_, port)| *port)
    }

    /// Runs a Python program as this service, and waits until it is up.
    pub(crate) async fn run(&mut self, name: &str, more: &[&str], program: &str) {
        let listen = format!("127.0.0.1:{}", self.port(name));
        self.run_at(name, &listen, more, program).await;
    }

    /// The same, and it is reached at this address.
    pub(crate) async fn run_at(&mut self, name: &str, listen: &str, more: &[&str], program: &str) {
        std::fs::write(self.testbed.path(&format!("{name}.py")), program).unwrap();
        let script = format!("{name}.py");
        self.spawn(name, listen, more, &["python3", &script]);
        until("the program", async || self.say(name).contains("the program is up").then_some(())).await;
    }

    /// Runs a Python program as an instance of a service, with a name of its own, and waits until it
    /// is up.
    pub(crate) async fn run_instance(&mut self, (service, name): (&str, &str), port: u16, program: &str) {
        let script = format!("{name}.py");
        std::fs::write(self.testbed.path(&script), program).unwrap();
        let state = format!("bastide-{name}");
        let listen = format!("127.0.0.1:{port}");
        self.spawn_as(name, service, &listen, &["--state", &state], &["python3", &script]);
        until("the program", async || self.say(name).contains("the program is up").then_some(())).await;
    }

    pub(crate) async fn run_command(&mut self, name: &str, more: &[&str], program: &[&str]) {
        let listen = format!("127.0.0.1:{}", self.port(name));
        self.spawn(name, &listen, more, program);
        until("the service", async || self.say(name).contains("started").then_some(())).await;
    }

    /// Starts `bastide run`, in a process group of its own.
    pub(crate) fn spawn(&mut self, name: &str, listen: &str, more: &[&str], program: &[&str]) {
        self.spawn_as(name, name, listen, more, program);
    }

    /// The same with another name than that of the service, as one of several.
    fn spawn_as(&mut self, name: &str, service: &str, listen: &str, more: &[&str], program: &[&str]) {
        let mut command = Command::new(BASTIDE);
        command.args(["run", "--service", service, "--listen", listen]).args(more).arg("--").args(program);
        command.process_group(0);
        command.current_dir(self.testbed.folder.path()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(self.testbed.path(&format!("{name}.log"))).unwrap());
        self.running.push(Process::spawn(&mut command));
    }

    /// The n-th that was started.
    pub(crate) fn running(&mut self, number: usize) -> &mut Process {
        &mut self.running[number]
    }

    /// Adds to the configuration that all services share.
    pub(crate) fn add(&self, text: &str) {
        let shared = self.testbed.path("mesh.yaml");
        std::fs::write(&shared, read(&shared) + text).unwrap();
    }

    /// Runs a caller with a loopback port that leads to a service; gives the port.
    pub(crate) async fn reach(&mut self, name: &str, service: &str) -> u16 {
        let port = free_port();
        self.run(name, &["--reach", &format!("{service}={port}")], CALLS).await;
        port
    }

    /// The log of a service.
    pub(crate) fn say(&self, name: &str) -> String {
        read(&self.testbed.path(&format!("{name}.log")))
    }

    /// The audit log of a service.
    pub(crate) fn audit(&self, name: &str) -> String {
        let folder = std::fs::read_dir(self.testbed.path(&format!("bastide-{name}/audit")));
        folder.into_iter().flatten().flatten().map(|entry| read(&entry.path())).collect()
    }

    /// The metrics of a service.
    pub(crate) async fn metrics(&self, name: &str) -> String {
        let ready: serde_json::Value =
            serde_json::from_str(&read(&self.testbed.path(&format!("bastide-{name}/ready.json")))).unwrap();
        let address = ready["admin"].as_str().unwrap().parse().unwrap();
        let endpoint = bastide::demo::client::Endpoint::clear(address);
        let request = crate::support::get_request("/metrics");
        let answer = bastide::demo::client::http1::ask(&endpoint, &request).await.unwrap();
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// curl with more arguments: status and body.
    pub(crate) fn curl(&self, arguments: &[&str]) -> (String, String) {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--insecure",
            "--max-time",
            "50",
            "--noproxy",
            "*",
            "--write-out",
            "\n%{http_code}",
        ]);
        let output = curl.args(arguments).current_dir(self.testbed.folder.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let moment = Duration::from_millis(20);
        self.running.retain_mut(|process| !process.ended_within(moment));
        self.running.iter().for_each(|process| process.signal(Signal::TERM));
        for process in &mut self.running {
            process.ended_within(Duration::from_secs(10));
        }
    }
}

/// A connection to a port of loopback; what is waited for comes in time or fails the test.
fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads the greeting; empty when the connection ends first.
fn greeting(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"\n") && stream.read_exact(&mut byte).is_ok() {
        said.push(byte[0]);
    }
    String::from_utf8(said).unwrap()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

const ORDERS_TO_DB: &str = r#"
    @id("orders uses the database")
    permit (principal == Service::"spiffe://shop.example/orders", action == Action::"CONNECT", resource)
    when { resource.service == "db" };
"#;

#[tokio::test]
async fn a_server_that_speaks_first_is_reached_by_name_and_either_side_may_end_first() {
    let mut mesh = Mesh::start(&[("orders", ""), ("db", ", protocol: tcp")], ORDERS_TO_DB).await;
    mesh.run("db", &[], SPEAKS_FIRST).await;
    let port = mesh.reach("orders", "db").await;
    let echoed = blocking(move || {
        let mut client = connect(port);
        assert_eq!(greeting(&mut client), "220 ready\n");
        client.write_all(b"echo\n").unwrap();
        // More than all buffers on the way hold: whoever does not read makes the others wait.
        let sent: Vec<u8> = (0..8_000_000_u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
        let (mut half, expected) = (client.try_clone().unwrap(), sent.clone());
        let writer = std::thread::spawn(move || {
            half.write_all(&sent).unwrap();
            half.shutdown(Shutdown::Write).unwrap();
        });
        std::thread::sleep(Duration::from_millis(300));
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        writer.join().unwrap();
        // What the server says after the client has ended its side arrives too.
        got == [&expected[..], b"bye"].concat()
    });
    assert!(echoed.await, "{}{}", mesh.say("orders"), mesh.say("db"));
    // The server ends first, and still hears what the client says.
    blocking(move || {
        let mut client = connect(port);
        assert_eq!(greeting(&mut client), "220 ready\n");
        client.write_all(b"count\n").unwrap();
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
        client.write_all(&[7; 100_000]).unwrap();
    })
    .await;
    until("the count", async || mesh.say("db").contains("counted 100000").then_some(())).await;
    until("the event", async || {
        let log = mesh.audit("db");
        (log.contains("\"CONNECT\"") && log.contains("spiffe://shop.example/orders")).then_some(())
    })
    .await;

    // The tools speak of such calls as of others.
    let of_db = ["--service", "db", "--config", "mesh.yaml"];
    let log = ["--from-log", "bastide-db/audit", "--output", "json"];
    let (code, said, err) = mesh.testbed.bastide(&[&["policy", "suggest"][..], &log, &of_db].concat());
    let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    assert_eq!(code, 0, "{said}{err}");
    assert!(report["calls"].as_u64() >= Some(1) && report["calls"] == report["replayed_allowed"], "{said}");
    let policies = report["policies"].as_array().unwrap();
    assert_eq!(policies.len(), 1, "{said}");
    assert!(policies[0]["policy"].as_str().unwrap().contains("action == Action::\"CONNECT\""), "{said}");
    for (who, code) in [("orders", 0), ("intruder", 1)] {
        let who = format!("Service:spiffe://shop.example/{who}");
        let asked = ["explain", "--as", &who, "--method", "CONNECT", "--url", "db"];
        let explained = mesh.testbed.bastide(&[&asked[..], &of_db].concat());
        assert_eq!(explained.0, code, "{explained:?}");
    }
}

#[tokio::test]
async fn who_may_not_connect_gets_nothing_and_who_may_no_longer_is_cut() {
    let mut mesh = Mesh::start(&[("orders", ""), ("db", ", protocol: tcp")], ORDERS_TO_DB).await;
    mesh.run("db", &[], SPEAKS_FIRST).await;
    let port = mesh.reach("orders", "db").await;
    let other = mesh.reach("intruder", "db").await;
    let refused = blocking(move || greeting(&mut connect(other))).await;
    assert_eq!(refused, "", "not one byte of the server");
    until("the denial", async || {
        let log = mesh.audit("db");
        (log.contains("spiffe://shop.example/intruder") && log.contains("no policy permits")).then_some(())
    })
    .await;
    let (mut client, said) = blocking(move || {
        let mut client = connect(port);
        let said = greeting(&mut client);
        (client, said)
    })
    .await;
    assert_eq!(said, "220 ready\n");
    client.write_all(b"echo\nhere\n").unwrap();
    assert_eq!(greeting(&mut client), "here\n");
    // The policy goes: the open connection too, and nobody comes in again.
    std::fs::write(mesh.testbed.path("shop.cedar"), ORDERS_TO_DB.replace("CONNECT", "GET")).unwrap();
    let cut = blocking(move || client.read_to_end(&mut Vec::new())).await;
    // Not an orderly end, which would look like the end of what the server had to say.
    assert!(cut.is_err(), "{cut:?}");
    until("the cut", async || mesh.audit("db").contains("cut after").then_some(())).await;
    assert_eq!(blocking(move || greeting(&mut connect(port))).await, "");
}

/// Where nothing is declared, the first bytes tell; what needs HTTP is not passed by bytes
/// that are none.
#[tokio::test]
async fn what_does_not_begin_with_http_is_denied_where_a_rule_needs_http() {
    let policies = r#"
        @id("orders") permit (principal == Service::"spiffe://shop.example/orders", action, resource)
        when { resource.service == "open" || resource.service == "guarded" };
        @id("no admin") forbid (principal, action, resource)
        when { resource.service == "guarded" && context.path like "/admin*" };
        @id("paths alone") permit (principal, action, resource)
        when { resource.service == "paths" && context.path like "/*" };
    "#;
    let services =
        [("orders", ""), ("open", ""), ("guarded", ""), ("paths", ""), ("strict", ", protocol: http")];
    let mut mesh = Mesh::start(&services, policies).await;
    for name in ["open", "guarded", "paths", "strict"] {
        mesh.run(name, &[], if name == "open" { SPEAKS_FIRST } else { SPEAKS_HTTP }).await;
    }
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let reach: Vec<String> = ["open", "guarded", "paths"]
        .iter()
        .zip(&ports)
        .flat_map(|(name, port)| ["--reach".to_owned(), format!("{name}={port}")])
        .collect();
    let reach: Vec<&str> = reach.iter().map(String::as_str).collect();
    mesh.run("orders", &reach, CALLS).await;
    // A server that speaks first is reached although nothing was declared.
    let first = ports[0];
    assert_eq!(blocking(move || greeting(&mut connect(first))).await, "220 ready\n");
    // HTTP through the same kind of port is HTTP at the other end, and judged as that.
    let (code, body) = mesh.curl(&[&format!("http://127.0.0.1:{}/any", ports[2])]);
    assert_eq!((code.as_str(), body.as_str()), ("200", "GET /any"));
    // The caller's own proxy knows the policies too, and cannot look into what passes there.
    let needs = "policy no admin failed: it needs context.path, and this connection is not HTTP";
    assert_eq!(mesh.curl(&[&format!("http://127.0.0.1:{}/shop", ports[1])]).0, "000");
    until("the caller's denial", async || mesh.audit("orders").contains(needs).then_some(())).await;
    let (code, out, err) = mesh.testbed.bastide(&["mesh", "svid", "--socket", "api.sock", "--out", "mine"]);
    assert!(code == 0 && out.starts_with("spiffe://shop.example/orders"), "{out}{err}");
    let mine = ["--cert", "mine/svid.pem", "--key", "mine/svid.key"];
    for (path, status) in [("shop", "200"), ("admin", "403")] {
        let url = format!("https://127.0.0.1:{}/{path}", mesh.port("guarded"));
        assert_eq!(mesh.curl(&[&mine[..], &[&url]].concat()).0, status, "{path}");
    }
    for (name, why) in [("guarded", needs), ("paths", "no policy permits it"), ("strict", "400")] {
        let mut client = Command::new("openssl");
        client
            .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", mesh.port(name))])
            .args(["-ign_eof"]);
        client
            .args(["-cert", "mine/svid.pem", "-key", "mine/svid.key"])
            .current_dir(mesh.testbed.folder.path());
        let mut client =
            client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        client.stdin.as_mut().unwrap().write_all(b"\x00\x01binary\r\n\r\n").unwrap();
        let answer = blocking(move || client.wait_with_output().unwrap().stdout).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || (name == "strict" && answer.starts_with("HTTP/1.1 400")),
            "{name}: {answer}"
        );
        until(name, async || mesh.audit(name).contains(why).then_some(())).await;
    }
}

#[tokio::test]
async fn a_service_that_moves_in_reports_who_calls_in_plain_text() {
    let policies = r#"
        @id("moving") permit (principal, action == Action::"GET", resource)
        when { resource.service == "moving" && context.path == "/open" };
        @id("members") permit (principal is Service, action == Action::"GET", resource);
    "#;
    let mut mesh = Mesh::start(
        &[("moving", ", mode: permissive"), ("settled", ""), ("plain", ", danger_plain_text: true")],
        &policies.replace("\"moving\" &&", "\"moving\" && principal is Anonymous &&").replace(
            "@id(\"members\")",
            "@id(\"plain\") permit (principal, action, resource) when { resource.service == \"plain\" };\n@id(\"members\")",
        ),
    )
    .await;
    for name in ["moving", "settled", "plain"] {
        mesh.run(name, &[], SPEAKS_HTTP).await;
    }
    let (code, out, err) = mesh.testbed.bastide(&["mesh", "svid", "--socket", "api.sock", "--out", "mine"]);
    assert_eq!(code, 0, "{out}{err}");
    let [moving, settled, plain] = ["moving", "settled", "plain"].map(|name| mesh.port(name));
    let ask = |arguments: &[&str]| mesh.curl(arguments).0;
    let mine = ["--cert", "mine/svid.pem", "--key", "mine/svid.key"];
    let member = |url: String| ask(&[&mine[..], &[&url]].concat());
    assert_eq!(member(format!("https://127.0.0.1:{moving}/any")), "200");
    assert_eq!(ask(&[&format!("http://127.0.0.1:{moving}/open")]), "200");
    // Nobody has proved anything: policies decide as for everybody else.
    assert_eq!(ask(&[&format!("http://127.0.0.1:{moving}/any")]), "401");
    assert_eq!(ask(&[&format!("https://127.0.0.1:{moving}/open")]), "000", "TLS without a certificate");
    assert_eq!(ask(&[&format!("http://127.0.0.1:{settled}/open")]), "000");
    assert_eq!(member(format!("https://127.0.0.1:{settled}/open")), "200");
    assert_eq!(ask(&[&format!("http://127.0.0.1:{plain}/open")]), "200");
    for (name, words) in [("moving", "plain text where the mesh speaks TLS"), ("plain", "danger_plain_text")]
    {
        until(words, async || mesh.say(name).contains(words).then_some(())).await;
    }
    until("the events", async || {
        mesh.audit("moving").contains("reported, not refused: plain text").then_some(())
    })
    .await;
    let metrics = mesh.metrics("moving").await;
    assert!(metrics.contains("bastide_plain_text_connections_total 2"), "{metrics}");
    assert!(mesh.metrics("settled").await.contains("bastide_plain_text_connections_total 0"));
}

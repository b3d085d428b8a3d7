//! How `bastide run` ends, and what a listener that closes still is: the endpoint first, the outbound proxy
//! last, whoever is connected already kept to what the endpoint is for.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh::workload_api::Client;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::endless::endless;
use crate::mesh_revoke::client_config;
use crate::mesh_tcp::{Mesh, SPEAKS_FIRST};
use crate::support::{PATIENCE, TestBed, read, until};

/// Answers, `/slow` only when there is a file `go`; told to end it stays until then.
const STAYS: &str = r#"
import http.server, os, signal, threading, time
slow = 0
parent = os.getppid()
def wait_for_go():
    while not os.path.exists("go") and os.getppid() == parent:
        time.sleep(0.02)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        global slow
        self.send_response(200)
        if self.path == "/slow":
            slow += 1
            self.send_header("content-length", "10")
            self.end_headers()
            self.wfile.write(b"begun")
            wait_for_go()
            self.wfile.write(b"whole")
            slow -= 1
        else:
            self.send_header("content-length", "9")
            self.end_headers()
            self.wfile.write(b"an answer")
    do_POST = do_GET
    def log_message(self, *_):
        pass
def end():
    wait_for_go()
    while slow:
        time.sleep(0.02)
    os._exit(7)
def told(*_):
    print("told", "to end", flush=True)
    threading.Thread(target=end).start()
signal.signal(signal.SIGTERM, told)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
print("the program is", "up", flush=True)
server.serve_forever()
"#;

/// As an identity that the Workload API gives this process, and without a server's name.
async fn connect(
    testbed: &TestBed,
    identity: &str,
    protocol: Option<&str>,
    endpoint: SocketAddr,
) -> TlsStream<TcpStream> {
    let client = Client::connect(&testbed.path("api.sock")).await.unwrap();
    let context = client.x509().await.unwrap().next().await.unwrap().unwrap();
    let mut config = client_config(&context, identity);
    config.alpn_protocols = protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(endpoint).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// Reads until one of these texts has come, or the end; gives all that came.
async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), texts: &[&str]) -> String {
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if texts.iter().any(|expected| text.contains(expected)) {
            return text;
        }
        match timeout(PATIENCE, stream.read_buf(&mut seen)).await.expect("an answer comes") {
            Ok(count) if count > 0 => {}
            _ => return text,
        }
    }
}

/// A request in one frame of HTTP/2 (RFC 9113 §6.2), its fields literal (RFC 7541 §6.2.2).
fn request(stream: u8, method: &str, authority: &str, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in
        [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
    {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let length = u8::try_from(block.len()).unwrap();
    [&[0, 0, length, 1, 5, 0, 0, 0, stream], &block[..]].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A head without its end.
const PAY: &[u8] = b"POST /charges HTTP/1.1\r\nhost: payments\r\ncontent-length: 0\r\n";
const REFUSED: &str = "\"status\":421";

#[tokio::test]
async fn who_is_connected_while_a_service_ends_does_not_get_to_its_outbound_proxy() {
    let policies = r#"
        @id("orders is called")
        permit (principal == Service::"spiffe://shop.example/intruder", action, resource)
        when { resource.service == "orders" };
        @id("orders pays")
        permit (principal == Service::"spiffe://shop.example/orders", action, resource)
        when { resource.service == "payments" };
    "#;
    let mut mesh = Mesh::start(&[("orders", ""), ("payments", "")], policies).await;
    mesh.add("limits: { header_read_ms_max: 5m }\n");
    mesh.run("payments", &[], STAYS).await;
    mesh.run("orders", &[], STAYS).await;
    let endpoint = SocketAddr::from(([127, 0, 0, 1], mesh.port("orders")));
    let mut before = connect(&mesh.testbed, "intruder", None, endpoint).await;
    before.write_all(&[PAY, b"\r\n"].concat()).await.unwrap();
    let answer = read_until(&mut before, &["}"]).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");

    let mut http1 = connect(&mesh.testbed, "intruder", None, endpoint).await;
    http1.write_all(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n").await.unwrap();
    assert!(read_until(&mut http1, &["an answer"]).await.starts_with("HTTP/1.1 200 "));
    http1.write_all(PAY).await.unwrap();
    let mut http2 = connect(&mesh.testbed, "intruder", Some("h2"), endpoint).await;
    http2.write_all(&[PREFACE, &request(1, "GET", "orders", "/slow")].concat()).await.unwrap();
    assert!(read_until(&mut http2, &["begun"]).await.contains("begun"));
    mesh.running(1).signal(Signal::TERM);
    until("the signal", async || mesh.say("orders").contains("told to end").then_some(())).await;

    http1.write_all(b"\r\n").await.unwrap();
    let answer = read_until(&mut http1, &["}", "an answer"]).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    http2.write_all(&request(3, "POST", "payments", "/charges")).await.unwrap();
    let answer = read_until(&mut http2, &[REFUSED, "an answer"]).await;
    assert!(answer.contains(REFUSED), "{answer}");
    assert!(!mesh.audit("payments").contains("spiffe://shop.example/orders"), "{}", mesh.audit("payments"));
    // Nobody new comes in, and who was let in before is answered to the end.
    assert!(TcpStream::connect(endpoint).await.is_err());
    std::fs::write(mesh.testbed.path("go"), "").unwrap();
    assert!(read_until(&mut http2, &["whole"]).await.contains("whole"));
    drop((before, http1, http2));
    assert_eq!(mesh.running(1).ended().await.code(), Some(7), "{}", mesh.say("orders"));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_no_listener_open_when_a_service_ends() {
    let policies = r#"@id("nobody") forbid (principal, action, resource);"#;
    let mut mesh = Mesh::start(&[("orders", "")], policies).await;
    mesh.run("orders", &[], STAYS).await;
    let endpoint = SocketAddr::from(([127, 0, 0, 1], mesh.port("orders")));
    drop(TcpStream::connect(endpoint).await.unwrap());
    std::fs::write(mesh.testbed.path("bastide-orders/api-keys.json"), "neither keys nor JSON").unwrap();
    mesh.running(0).signal(Signal::TERM);
    until("the signal", async || mesh.say("orders").contains("told to end").then_some(())).await;
    assert!(TcpStream::connect(endpoint).await.is_err(), "{}", mesh.say("orders"));
    std::fs::write(mesh.testbed.path("go"), "").unwrap();
    assert_eq!(mesh.running(0).ended().await.code(), Some(7), "{}", mesh.say("orders"));
}

#[tokio::test]
async fn an_answer_in_plain_text_is_whole_when_the_service_ends_meanwhile() {
    let policies = r#"@id("anybody") permit (principal is Anonymous, action, resource);"#;
    let mut mesh = Mesh::start(&[("moving", ", mode: permissive")], policies).await;
    mesh.run("moving", &[], STAYS).await;
    let mut plain = TcpStream::connect(("127.0.0.1", mesh.port("moving"))).await.unwrap();
    plain.write_all(b"GET /slow HTTP/1.1\r\nhost: moving\r\n\r\n").await.unwrap();
    let begun = read_until(&mut plain, &["begun"]).await;
    assert!(begun.starts_with("HTTP/1.1 200 "), "{begun}{}", mesh.say("moving"));
    mesh.running(0).signal(Signal::TERM);
    until("the signal", async || mesh.say("moving").contains("told to end").then_some(())).await;
    std::fs::write(mesh.testbed.path("go"), "").unwrap();
    assert_eq!(read_until(&mut plain, &["whole"]).await, "whole", "{}", mesh.audit("moving"));
    assert_eq!(mesh.running(0).ended().await.code(), Some(7));
}

/// Told to end, it looks at its own endpoint, and calls others by both ways.
const CALLS_AT_THE_END: &str = r#"
import json, os, signal, socket, urllib.request
def end(*_):
    host, port = json.load(open("bastide-orders/ready.json"))["listen"][0].split(":")
    try:
        socket.create_connection((host, int(port)))
        print("the endpoint is", "open", flush=True)
    except ConnectionRefusedError:
        print("the endpoint is", "closed", flush=True)
    print("paid", urllib.request.urlopen("http://payments/", timeout=50).status, flush=True)
    host, port = os.environ["BASTIDE_TO_DB"].split(":")
    print("greeted", socket.create_connection((host, int(port))).makefile().readline(), flush=True)
    os._exit(7)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
print("the program is", "up", flush=True)
while True:
    signal.pause()
"#;

#[tokio::test]
async fn the_listener_closes_before_the_program_is_told_and_the_outbound_proxy_after_it_has_ended() {
    let policies = r#"
        @id("orders calls")
        permit (principal == Service::"spiffe://shop.example/orders", action, resource);
    "#;
    let services = [("orders", ""), ("payments", ""), ("db", ", protocol: tcp")];
    let mut mesh = Mesh::start(&services, policies).await;
    mesh.run("payments", &[], STAYS).await;
    mesh.run("db", &[], SPEAKS_FIRST).await;
    // Payments does not have to be waited for.
    std::fs::write(mesh.testbed.path("go"), "").unwrap();
    for (number, signal) in [Signal::TERM, Signal::INT].into_iter().enumerate() {
        // All its listeners are configured with the same address.
        mesh.run_at("orders", "127.0.0.1:0", &["--reach", "db"], CALLS_AT_THE_END).await;
        mesh.running(2 + number).signal(signal);
        let status = mesh.running(2 + number).ended().await;
        let said = mesh.say("orders");
        assert_eq!(status.code(), Some(7), "{said}");
        for expected in ["the endpoint is closed", "paid 200", "greeted 220 ready"] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
}

/// Says which signals it gets; ends by SIGQUIT.
const SAYS_SIGNALS: &str = r#"
import os, signal
def got(number, _):
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGQUIT:
        os._exit(9)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
    signal.signal(number, got)
print("the program is", "up", flush=True)
while True:
    signal.pause()
"#;

#[tokio::test]
async fn each_signal_reaches_the_program_once() {
    let mut mesh = Mesh::start(&[("orders", "")], "").await;
    mesh.run("orders", &[], SAYS_SIGNALS).await;
    for (signal, name) in [(Signal::USR1, "USR1"), (Signal::USR2, "USR2"), (Signal::ALARM, "ALRM")] {
        mesh.running(0).signal(signal);
        let got = format!("got SIG{name}");
        until(&got, async || mesh.say("orders").contains(&got).then_some(())).await;
    }
    // That one is ours: who does not expect it would end by it.
    mesh.running(0).signal(Signal::HUP);
    until("the reload", async || mesh.say("orders").contains("reloaded (SIGHUP)").then_some(())).await;
    // As a terminal sends it: to all in our group.
    let group = Pid::from_raw(i32::try_from(mesh.running(0).id()).unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    until("SIGINT", async || mesh.say("orders").contains("got SIGINT").then_some(())).await;
    mesh.running(0).signal(Signal::QUIT);
    assert_eq!(mesh.running(0).ended().await.code(), Some(9), "{}", mesh.say("orders"));
    let said = mesh.say("orders");
    let got = |name: &str| said.matches(&format!("got {name}")).count();
    let all = ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGINT", "SIGQUIT", "SIGHUP"].map(got);
    assert_eq!(all, [1, 1, 1, 1, 1, 0], "{said}");
}

#[tokio::test]
async fn a_program_that_does_not_end_in_time_is_killed_with_all_that_it_started() {
    let mut mesh = Mesh::start(&[("orders", "")], "").await;
    mesh.add("limits: { drain_ms_max: 1s }\n");
    let program = r#"
import os, signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"])
open("child", "w").write(str(child.pid))
print("the program is", "up", flush=True)
while True:
    signal.pause()
"#;
    mesh.run("orders", &[], program).await;
    mesh.running(0).signal(Signal::TERM);
    assert_eq!(mesh.running(0).ended().await.code(), Some(137), "{}", mesh.say("orders"));
    assert!(mesh.say("orders").contains("did not end within 1 s"), "{}", mesh.say("orders"));
    let child = format!("/proc/{}/cmdline", read(&mesh.testbed.path("child")));
    until("the end of its child", async || (!read(child.as_ref()).contains("sleep")).then_some(())).await;
}

/// In a container this process is the first, and the parent of whatever the program's processes leave behind.
#[tokio::test]
async fn what_the_program_leaves_behind_is_let_go_of_in_a_container() {
    let first = ["--user", "--map-current-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
    if !std::process::Command::new("unshare").args(first).arg("true").status().is_ok_and(|ran| ran.success())
    {
        println!("skipped: no user namespaces here, so no container");
        return;
    }
    let mesh = Mesh::start(&[("orders", "")], "").await;
    let program = "for left in 1 2 3; do (sleep 0.1 &); done; sleep 1; \
                   cat /proc/[0-9]*/stat > seen; touch whole; exit 7";
    let mut command = std::process::Command::new("unshare");
    command.args(first).arg(crate::support::BASTIDE);
    command.args(["run", "--service", "orders", "--listen", "127.0.0.1:0", "--", "sh", "-c", program]);
    command.current_dir(mesh.testbed.folder.path());
    let mut container = crate::support::Process::spawn(&mut command);
    assert_eq!(container.ended().await.code(), Some(7), "how the program ended is known all the same");
    let seen = read(&mesh.testbed.path("seen"));
    assert!(mesh.testbed.path("whole").exists() && seen.contains("(bastide)"), "{seen}");
    assert!(!seen.contains("(sleep) Z"), "{seen}");
}

#[tokio::test]
async fn a_program_starts_only_when_there_is_an_identity() {
    let mut mesh = Mesh::start(&[("orders", "")], "").await;
    mesh.testbed.stop_gateway().await;
    mesh.spawn("orders", "127.0.0.1:0", &[], &["sh", "-c", "touch started; sleep 1000"]);
    let waits = "the Workload API issues no identity";
    until("two attempts", async || (mesh.say("orders").matches(waits).count() > 1).then_some(())).await;
    assert!(!mesh.testbed.path("started").exists(), "{}", mesh.say("orders"));
    assert!(mesh.say("orders").contains("this process waits for one"), "{}", mesh.say("orders"));
    mesh.testbed.start_gateway().await;
    until("the program", async || mesh.testbed.path("started").exists().then_some(())).await;
    mesh.running(0).signal(Signal::TERM);
    assert_eq!(mesh.running(0).ended().await.code(), Some(143), "{}", mesh.say("orders"));
}

/// Told to end while it waits, it has begun nothing.
#[tokio::test]
async fn a_run_that_waits_for_an_identity_ends_when_it_is_told() {
    let mut mesh = Mesh::start(&[("orders", "")], "").await;
    mesh.testbed.stop_gateway().await;
    for (number, signal) in [Signal::TERM, Signal::INT, Signal::QUIT].into_iter().enumerate() {
        mesh.spawn("orders", "127.0.0.1:0", &[], &["touch", "started"]);
        let waits = "the Workload API issues no identity";
        until("an attempt", async || mesh.say("orders").contains(waits).then_some(())).await;
        // What is for the program is nobody's yet.
        mesh.running(number).signal(Signal::USR1);
        mesh.running(number).signal(signal);
        assert_eq!(mesh.running(number).ended().await.code(), Some(0), "{}", mesh.say("orders"));
    }
    assert!(!mesh.testbed.path("started").exists());
}

/// The gateway's own listeners.
#[tokio::test]
async fn a_listener_that_a_reload_takes_away_keeps_its_service_and_its_judgement() {
    // At an address of its own, and at one that others are configured with too.
    for address in ["127.0.0.3:0", "127.0.0.1:0"] {
        is_kept_to_its_service(address).await;
    }
}

async fn is_kept_to_its_service(address: &str) {
    let upstream = endless().await.unwrap();
    let mut testbed = TestBed::prepare("routes: []\n");
    let uid = rustix::process::geteuid().as_raw();
    let rules = |listeners: &str| {
        format!(
            "{listeners}limits: {{ header_read_ms_max: 5m }}\nmesh:\n  trust_domain: shop.example\n  \
             socket: api.sock\n  services: {{ payments: \"127.0.0.1:1\" }}\n  \
             workloads: {{ orders: {{ uid: {uid} }}, honest: {{ uid: {uid} }} }}\n\
             services: {{ long: [ \"http://{upstream}\" ], other: [ \"http://{upstream}\" ] }}\n\
             policies: {{ inline: \"permit (principal, action, resource);\" }}\n\
             routes:\n  - {{ name: long, match: long/**, to: long, authenticate: mtls }}\n  \
             - {{ name: other, match: payments/**, to: other, authenticate: none, allow: anyone }}\n"
        )
    };
    let closes = format!("  - {{ address: {address}, to: long, tls: {{ mesh: true }} }}\n");
    let stays =
        "  - { address: 127.0.0.1:0, to: other }\n  - { address: 127.0.0.2:0, tls: { mesh: true } }\n";
    testbed.configure(&rules(&format!("{closes}{stays}")));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    let (endpoint, other) = (testbed.address(2), testbed.address(3));
    let begin = async |name| {
        let mut stream = connect(&testbed, name, None, endpoint).await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: long\r\n\r\n").await.unwrap();
        assert!(read_until(&mut stream, &["hello"]).await.contains("hello"), "{}", testbed.log());
        stream
    };
    let (mut stolen, mut honest) = (begin("orders").await, begin("honest").await);
    let mut half = connect(&testbed, "honest", None, endpoint).await;
    half.write_all(PAY).await.unwrap();

    testbed.configure(&rules(stays));
    until("the closed endpoint", async || TcpStream::connect(endpoint).await.is_err().then_some(())).await;
    // The one behind it is still where it was, and what it was.
    let mut client = TcpStream::connect(other).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: payments\r\n\r\n").await.unwrap();
    assert!(read_until(&mut client, &["hello"]).await.contains("hello"), "{}", testbed.log());
    half.write_all(b"\r\n").await.unwrap();
    let answer = read_until(&mut half, &["}", "hello"]).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");

    let revoke = ["mesh", "revoke", "--identity", "spiffe://shop.example/orders"];
    let (code, out, err) = testbed.bastide(&revoke);
    assert_eq!(code, 0, "{out}{err}");
    let rest = timeout(PATIENCE, stolen.read_to_end(&mut Vec::new())).await;
    rest.expect("what is revoked goes on at a listener that closes").ok();
    // Somebody else's goes on; the neighbour too.
    let silence = std::time::Duration::from_millis(300);
    assert!(timeout(silence, honest.read(&mut [0; 64])).await.is_err(), "an honest one was cut");
    assert!(timeout(silence, client.read(&mut [0; 64])).await.is_err(), "the neighbour's was cut");
}

/// Starts a command in a terminal of its own, and takes the terminal away when there is a file
/// `gone`.
const IN_A_TERMINAL: &str = r#"
import os, pty, sys, time
child, terminal = pty.fork()
if child == 0:
    os.dup2(os.open("orders.log", os.O_WRONLY | os.O_CREAT, 0o600), 2)
    os.execvp(sys.argv[1], sys.argv[1:])
with open("process", "w") as file:
    file.write(str(child))
while not os.path.exists("gone"):
    time.sleep(0.02)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// Killed when the test ends, whatever it still has started.
struct Left(Pid);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// Runs orders in a terminal of its own, with a program that says when it is up.
async fn in_a_terminal(mesh: &Mesh, prefix: &[&str]) -> (crate::support::Process, Left) {
    let up = "echo the program is up; touch started; exec sleep 1000";
    let mut command = std::process::Command::new("python3");
    command.args(["-c", IN_A_TERMINAL]).args(prefix).arg(crate::support::BASTIDE);
    command.args(["run", "--service", "orders", "--listen", "127.0.0.1:0", "--", "sh", "-c", up]);
    command.current_dir(mesh.testbed.folder.path());
    for old in ["gone", "process", "orders.log"] {
        let _ = std::fs::remove_file(mesh.testbed.path(old));
    }
    let terminal = crate::support::Process::spawn(&mut command);
    let process = mesh.testbed.path("process");
    let process = until("the process", async || read(&process).parse().ok().and_then(Pid::from_raw)).await;
    (terminal, Left(process))
}

/// Also where this test itself is run by `nohup`.
const HEARS_OF_IT: &[&str] = &["env", "--default-signal=HUP"];

#[tokio::test]
async fn a_run_that_waits_for_an_identity_ends_with_the_terminal_that_it_was_started_from() {
    let mut mesh = Mesh::start(&[("orders", "")], "").await;
    mesh.testbed.stop_gateway().await;
    for (prefix, ends) in [(&["nohup"][..], false), (HEARS_OF_IT, true)] {
        let (mut terminal, left) = in_a_terminal(&mesh, prefix).await;
        let attempts = || mesh.say("orders").matches("the Workload API issues no identity").count();
        until("an attempt", async || (attempts() > 0).then_some(())).await;
        std::fs::write(mesh.testbed.path("gone"), "").unwrap();
        if !ends {
            let before = attempts();
            until("further attempts", async || (attempts() > before + 1).then_some(())).await;
            kill_process(left.0, Signal::TERM).unwrap();
        }
        assert_eq!(terminal.ended().await.code(), Some(0), "{}", mesh.say("orders"));
    }
    assert!(!mesh.testbed.path("started").exists());
}

#[tokio::test]
async fn a_program_ends_with_the_terminal_that_it_was_started_from() {
    let mesh = Mesh::start(&[("orders", "")], "").await;
    for (prefix, ends) in [(&["nohup"][..], false), (HEARS_OF_IT, true)] {
        let (mut terminal, left) = in_a_terminal(&mesh, prefix).await;
        let started = "stream=\"stdout\"";
        until("the program", async || mesh.say("orders").contains(started).then_some(())).await;
        std::fs::write(mesh.testbed.path("gone"), "").unwrap();
        if !ends {
            let reloaded = "reloaded (SIGHUP)";
            until("the reload", async || mesh.say("orders").contains(reloaded).then_some(())).await;
            let said = mesh.say("orders");
            kill_process(left.0, Signal::TERM).unwrap();
            assert!(!said.contains("the program ended"), "{said}");
        }
        // 128 and the signal, of the program; python gives what it was given.
        let code = terminal.ended().await.code();
        assert_eq!(code, Some(if ends { 129 } else { 143 }), "{}", mesh.say("orders"));
    }
}

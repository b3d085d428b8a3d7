//! Servers and clients that we did not write, as services of the mesh: PostgreSQL and NATS
//! behind opaque ports, PyPI's grpcio and websockets, curl. Where one of them is missing, the test
//! is skipped with a word about it, or fails where everything has to be tested.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::clients::{python, run, script};
use crate::hosts::all_or_skip;
use crate::mesh_tcp::{Mesh, SPEAKS_HTTP};
use crate::peers::free_port;
use crate::support::{PATIENCE, until};

/// Where PostgreSQL's programs lie.
pub(crate) fn postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists())
}

/// The words before a program that refuses to run as root.
pub(crate) fn as_nobody_special(folder: &Path) -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let chown = Command::new("chown").arg("-R").arg("postgres").arg(folder).status();
    assert!(chown.is_ok_and(|status| status.success()));
    ["setpriv", "--reuid", "postgres", "--clear-groups", "--"].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn postgresql_is_reached_through_the_mesh_by_whom_policies_name() {
    let Some(bin) = postgres() else {
        all_or_skip("PostgreSQL through the mesh", "Debian's postgresql is not installed");
        return;
    };
    let policies = r#"
        @id("orders keeps its rows") permit (principal == Service::"spiffe://shop.example/orders", action == Action::"CONNECT", resource)
        when { resource.service == "db" };
    "#;
    let mut mesh = Mesh::start(&[("orders", ""), ("db", ", protocol: tcp")], policies).await;
    let folder = tempfile::Builder::new().prefix("bastide-pg").tempdir().unwrap();
    let before = as_nobody_special(folder.path());
    let program = |name: &str| [&before[..], &[bin.join(name).display().to_string()]].concat();
    let data = folder.path().join("data").display().to_string();
    let initdb = program("initdb");
    let made = Command::new(&initdb[0])
        .args(&initdb[1..])
        .args([
            "--auth=trust",
            "--username=shop",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--pgdata",
            &data,
        ])
        .current_dir("/")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (port, sockets) = (free_port().to_string(), folder.path().display().to_string());
    let server = [
        program("postgres"),
        ["-D", &data, "-h", "127.0.0.1", "-p", &port, "-k", &sockets].map(str::to_owned).to_vec(),
    ]
    .concat();
    let server: Vec<&str> = server.iter().map(String::as_str).collect();
    mesh.run_command("db", &["--to", &port], &server).await;
    until("PostgreSQL", async || mesh.say("db").contains("ready to accept connections").then_some(())).await;
    let reach = mesh.reach("orders", "db").await;
    let other = mesh.reach("intruder", "db").await;
    let psql = |port: u16, input: &str| {
        let address = format!("host=127.0.0.1 port={port} user=shop dbname=postgres connect_timeout=10");
        let mut psql = Command::new("psql");
        psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", &address, "-c", input]);
        let output = psql.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (good, out, err) = psql(reach, "SELECT current_user, 6 * 7");
    assert!(good && out == "shop|42", "{out}{err}{}{}", mesh.say("orders"), mesh.say("db"));
    let (good, _, err) =
        psql(reach, "CREATE TABLE rows AS SELECT n, repeat('x', 100) FROM generate_series(1, 100000) n");
    assert!(good, "{err}");
    let (good, out, err) = psql(reach, "SELECT * FROM rows");
    assert!(good && out.lines().count() == 100_000, "{err}");
    let (good, _, err) = psql(other, "SELECT 1");
    assert!(!good && err.contains("server closed the connection"), "{err}");
    until("the denial", async || mesh.audit("db").contains("no policy permits it").then_some(())).await;
}

#[tokio::test]
async fn nats_which_speaks_first_is_reached_without_a_word_about_it() {
    if Command::new("nats-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        all_or_skip("NATS through the mesh", "Debian's nats-server is not installed");
        return;
    }
    let policies = r#"permit (principal == Service::"spiffe://shop.example/orders", action == Action::"CONNECT", resource)
        when { resource.service == "news" };"#;
    let mut mesh = Mesh::start(&[("orders", ""), ("news", "")], policies).await;
    let port = free_port().to_string();
    mesh.run_command("news", &["--to", &port], &["nats-server", "-a", "127.0.0.1", "-p", &port]).await;
    until("NATS", async || mesh.say("news").contains("Server is ready").then_some(())).await;
    let reach = mesh.reach("orders", "news").await;
    let said = tokio::task::spawn_blocking(move || {
        let stream = TcpStream::connect(("127.0.0.1", reach)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut lines, mut stream) = (BufReader::new(stream.try_clone().unwrap()), stream);
        let mut line = || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            line
        };
        let info = line();
        let talk = b"CONNECT {\"verbose\":false}\r\nSUB shop 1\r\nPUB shop 5\r\nhello\r\nPING\r\n";
        stream.write_all(talk).unwrap();
        [info, line(), line(), line()]
    });
    let said = said.await.unwrap();
    assert!(said[0].starts_with("INFO {") && said[0].contains("\"server_id\""), "{said:?}");
    assert_eq!(said[1..], ["MSG shop 1 5\r\n", "hello\r\n", "PONG\r\n"]);
}

/// What a caller of this name asks its outbound proxy.
fn outbound(mesh: &Mesh, name: &str) -> String {
    let log = mesh.say(name);
    let (_, rest) = log.split_once("outbound proxy at 127.0.0.1:").unwrap_or_else(|| panic!("{log}"));
    rest.chars().take_while(char::is_ascii_digit).collect()
}

const SAYS_ITS_OUTBOUND_PROXY: &str = r#"
import os, signal
print("outbound proxy at", os.environ["BASTIDE_OUTBOUND_PROXY"].removeprefix("http://"), flush=True)
print("the program is up", flush=True)
signal.pause()
"#;

/// A client and a server in Python, each behind its proxy, to whose requests `matched` applies.
async fn echoes(package: &str, (file, protocol): (&str, &str), matched: &str, ask: &[&str]) {
    let Some(python) = python(package) else {
        all_or_skip(&format!("{package} through the mesh"), "the package of PyPI is not installed");
        return;
    };
    let policies = format!(
        "permit (principal == Service::\"spiffe://shop.example/orders\", action, resource) \
         when {{ resource.service == \"echo\" && {matched} }};"
    );
    let mut mesh = Mesh::start(&[("orders", ""), ("echo", protocol)], &policies).await;
    let server = [python.display().to_string(), script(file).display().to_string(), "serve".to_owned()];
    mesh.run_command("echo", &[], &server.each_ref().map(String::as_str)).await;
    until("the server", async || mesh.say("echo").contains("the program is up").then_some(())).await;
    mesh.run("orders", &[], SAYS_ITS_OUTBOUND_PROXY).await;
    let mut client = Command::new(&python);
    client.arg(script(file)).arg("ask").args(ask).args(["-", "echo", &outbound(&mesh, "orders")]);
    let said = run(client).await;
    let good = said.trim().ends_with("all as it must be");
    assert!(good, "{said}\n{}\n{}", mesh.say("orders"), mesh.say("echo"));
}

#[tokio::test]
async fn grpcio_calls_through_both_proxies() {
    let matched = "action == Action::\"POST\" && context.path like \"/*.*/*\"";
    echoes("grpc", ("rpc.py", ", protocol: http2"), matched, &[]).await;
}

#[tokio::test]
async fn websockets_talks_through_both_proxies() {
    let matched = "action == Action::\"GET\" && context.path like \"/ws/*\"";
    echoes("websockets", ("websocket.py", ""), matched, &["ws://echo"]).await;
}

/// curl as a program's client over HTTP/1.1 and HTTP/2, and as somebody with the right
/// certificate at the service's own endpoint.
#[tokio::test]
async fn curl_calls_by_both_versions_and_no_other_spelling_of_a_request_passes() {
    let policies = r#"
        @id("orders pays") permit (principal == Service::"spiffe://shop.example/orders", action == Action::"POST", resource)
        when { resource.service == "payments" && context.path == "/charges" && context.host == "payments" };
    "#;
    let mut mesh = Mesh::start(&[("orders", ""), ("payments", "")], policies).await;
    mesh.run("payments", &[], SPEAKS_HTTP).await;
    mesh.run("orders", &[], SAYS_ITS_OUTBOUND_PROXY).await;
    let out = outbound(&mesh, "orders");
    let proxy = format!("http://127.0.0.1:{out}");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let connect = format!("payments:80:127.0.0.1:{out}");
        let (status, body) =
            mesh.curl(&[version, "--connect-to", &connect, "--data", "", "http://payments/charges"]);
        assert_eq!((status.as_str(), body.as_str()), ("200", "POST /charges"), "{version}");
    }
    let (status, body) =
        mesh.curl(&["--noproxy", "", "--proxy", &proxy, "--data", "", "http://payments/charges"]);
    assert_eq!((status.as_str(), body.as_str()), ("200", "POST /charges"));

    let (code, said, err) = mesh.testbed.bastide(&["mesh", "svid", "--socket", "api.sock", "--out", "mine"]);
    assert!(code == 0 && said.starts_with("spiffe://shop.example/orders"), "{said}{err}");
    let endpoint = mesh.port("payments");
    let connect = format!("::127.0.0.1:{endpoint}");
    for version in ["--http1.1", "--http2"] {
        let knock = |method: &str, host: &str, path: &str| {
            let url = format!("https://payments{path}");
            let host = format!("host: {host}");
            mesh.curl(&[
                version,
                "--connect-to",
                &connect,
                "--cert",
                "mine/svid.pem",
                "--key",
                "mine/svid.key",
                "--path-as-is",
                "--request",
                method,
                "--header",
                &host,
                &url,
            ])
            .0
        };
        // The right one, and what reads alike for everybody: a host has no case, a doubled slash
        // is one.
        for (method, host, path) in [
            ("POST", "payments", "/charges"),
            ("POST", "PayMents", "/charges"),
            ("POST", "payments", "//charges"),
        ] {
            assert_eq!(knock(method, host, path), "200", "{version} {method} {host} {path}");
        }
        for (method, host, path, status) in [
            ("GET", "payments", "/charges", "403"),
            ("post", "payments", "/charges", "400"),
            ("Post", "payments", "/charges", "400"),
            ("POST", "refunds", "/charges", "421"),
            ("POST", "payments", "/refunds", "403"),
            ("POST", "payments", "/charges/", "403"),
            ("POST", "payments", "/Charges", "403"),
            ("POST", "payments", "/%2Fcharges", "400"),
            ("POST", "payments", "/charges%2F", "400"),
            ("POST", "payments", "/%5Ccharges", "400"),
            ("POST", "payments", "/charges\\", "400"),
            ("POST", "payments", "/charges/..;/refunds", "400"),
            ("POST", "payments", "/charges/../refunds", "403"),
        ] {
            let said = knock(method, host, path);
            assert_eq!(said, status, "{version} {method} {host} {path}");
        }
        // What follows `#` is no part of a request: refused in one version, in the other dropped
        // before anybody reads it, so that nothing hides behind it.
        for (target, status) in [("/charges#x", ["400", "200"]), ("/refunds#/charges", ["400", "403"])] {
            let said = mesh.curl(&[
                version,
                "--connect-to",
                &connect,
                "--cert",
                "mine/svid.pem",
                "--key",
                "mine/svid.key",
                "--request",
                "POST",
                "--request-target",
                target,
                "https://payments/charges",
            ]);
            assert_eq!(said.0, status[usize::from(version == "--http2")], "{version} {target}: {}", said.1);
        }
    }
    until("the reasons", async || {
        let log = mesh.audit("payments");
        ["no policy permits it", "method_case", "encoded_slash", "backslash"]
            .iter()
            .all(|reason| log.contains(reason))
            .then_some(())
    })
    .await;
}

//! Clients and upstreams that we did not write: PyPI's websockets and grpcio, and
//! Chromium. `cargo xtask test` installs them; without them a test says what it skipped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::peers::free_address;
use crate::support::{TestBed, read, until};

/// The interpreter with the packages, where `cargo xtask test` puts it.
pub(crate) fn python(package: &str) -> Option<PathBuf> {
    let interpreter = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("python-tests/bin/python3");
    let import = format!("import {package}");
    let here = Command::new(&interpreter).args(["-c", &import]).stderr(Stdio::null()).status();
    here.is_ok_and(|status| status.success()).then_some(interpreter)
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/clients").join(name)
}

/// A server in Python that prints its port; ends with the test.
struct Serving {
    child: Child,
    port: u16,
    /// What it says after its port goes here: with nobody at the other end it would die of it.
    _said: BufReader<ChildStdout>,
}

impl Serving {
    fn start(python: &Path, name: &str) -> Self {
        let mut child =
            Command::new(python).arg(script(name)).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        Self { port: line.trim().parse().unwrap(), child, _said: said }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a client to its end; its last word says that all was well.
pub(crate) async fn run(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stderr), text(&output.stdout))
}

#[tokio::test]
async fn websockets_talks_through_an_upgrade_that_its_route_allows() {
    let Some(python) = python("websockets") else {
        println!("skipped: no PyPI websockets here (cargo xtask test installs it)");
        return;
    };
    let serving = Serving::start(&python, "websocket.py");
    let testbed = TestBed::start(&format!(
        "services:\n  echo: [ http://127.0.0.1:{} ]\nroutes:\n  \
         - {{ name: ws, match: /ws/**, to: echo, authenticate: none, allow: anyone }}\n  \
         - {{ name: plain, match: /plain/**, to: echo, authenticate: none, allow: anyone, upgrades: [] }}\n",
        serving.port
    ))
    .await;
    let port = testbed.tls_address().port();
    let mut client = Command::new(&python);
    client.arg(script("websocket.py")).args(["ask", "wss://localhost"]).arg(testbed.path("state/ca/ca.pem"));
    client.args(["localhost", &port.to_string()]);
    let said = run(client).await;
    assert!(said.trim().ends_with("all as it must be"), "{said}\n{}", testbed.log());
    let why = Some("a WebSocket, and the route allows none (upgrades; with HTTP/2 there are none)");
    until("the refusal's event", async || {
        crate::contract::events(&testbed).into_iter().find(|event| event["status_detail"].as_str() == why)
    })
    .await;
}

#[tokio::test]
async fn grpcio_calls_through_http2_on_both_sides() {
    let Some(python) = python("grpc") else {
        println!("skipped: no PyPI grpcio here (cargo xtask test installs it)");
        return;
    };
    let serving = Serving::start(&python, "rpc.py");
    let testbed = TestBed::start(&format!(
        "authentication: {{ api_keys: state }}\nservices:\n  \
         echo: {{ endpoints: [ http://127.0.0.1:{} ], protocol: http2 }}\n  gone: http://{}\nroutes:\n  \
         - {{ name: echo, match: /shop.Echo/**, to: echo, authenticate: none, allow: anyone, body_max: 2MiB }}\n  \
         - {{ name: keys, match: /shop.Keys/**, to: echo, authenticate: api_key, allow: authenticated }}\n  \
         - {{ name: often, match: /shop.Often/**, to: echo, allow: anyone, limit: 1/hour per address }}\n  \
         - {{ name: gone, match: /shop.Gone/**, to: gone, allow: anyone }}\n",
        serving.port,
        free_address()
    ))
    .await;
    for what in ["ask", "refused"] {
        let mut client = Command::new(&python);
        client.arg(script("rpc.py")).arg(what).arg(testbed.path("state/ca/ca.pem"));
        client.args(["localhost", &testbed.tls_address().port().to_string()]);
        let said = run(client).await;
        assert!(said.trim().ends_with("all as it must be"), "{said}\n{}", testbed.log());
    }
}

const PAGE: &str =
    "<!doctype html><title>shop</title><p id=out>nothing</p><script src=/page/app.js></script>";
const PROGRAM: &str = "\
const out = document.getElementById('out');
const asked = [...Array(20).keys()].map((n) => fetch('/page/item/' + n).then((r) => r.text()));
const sent = fetch('/page/sent', { method: 'POST', body: 'x'.repeat(100000) }).then((r) => r.text());
const refused = fetch('/nowhere').then((r) => r.status);
Promise.all([Promise.all(asked), sent, refused]).then(([items, sent, refused]) => {
  const navigation = performance.getEntriesByType('navigation')[0];
  out.textContent = [navigation.nextHopProtocol, items.join('+'), sent, refused].join(' | ');
});
";

async fn page(request: Request) -> impl IntoResponse {
    let path = request.uri().path().to_owned();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    match path.as_str() {
        "/page/" => ([(CONTENT_TYPE, "text/html")], PAGE.to_owned()),
        "/page/app.js" => ([(CONTENT_TYPE, "text/javascript")], PROGRAM.to_owned()),
        "/page/sent" => ([(CONTENT_TYPE, "text/plain")], format!("{} bytes", body.len())),
        item => ([(CONTENT_TYPE, "text/plain")], item.rsplit('/').next().unwrap_or_default().to_owned()),
    }
}

#[tokio::test]
async fn chromium_loads_a_page_over_http2() {
    if Command::new("chromium").arg("--version").output().is_err() {
        println!("skipped: no Chromium here (Debian's chromium)");
        return;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let app = Router::new().fallback(async move |request: Request| {
        noted.lock().unwrap().push(request.uri().path().to_owned());
        page(request).await
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    let testbed = TestBed::start(&format!(
        "services:\n  page: [ http://{upstream} ]\nroutes:\n  \
         - {{ name: page, match: /page/**, to: page, authenticate: none, allow: anyone }}\n"
    ))
    .await;
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new("chromium");
    // The local authority is nobody that a browser knows; what the page may do stays as it is.
    browser.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--ignore-certificate-errors",
        "--no-first-run",
    ]);
    browser.args(["--disable-background-networking", "--virtual-time-budget=20000", "--dump-dom"]);
    browser.arg(format!("--user-data-dir={}", profile.path().display()));
    browser.arg(format!("https://localhost:{}/page/", testbed.tls_address().port()));
    let dumped = run(browser).await;
    let items: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let expected = format!("h2 | {} | 100000 bytes | 404", items.join("+"));
    assert!(dumped.contains(&expected), "{dumped}\n{}", read(&testbed.path("log")));
    assert_eq!(seen.lock().unwrap().len(), 23);
}

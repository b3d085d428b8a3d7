//! Traces and metrics at receivers that we did not write: PyPI's `oteltap` (an OTLP
//! receiver that prints what it reads) and `rotel` (an OpenTelemetry collector); the
//! metrics, alerts and dashboard at Debian's Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bastide::demo::client::{Endpoint, Request, http1};
use serde_json::Value;

use crate::clients::python;
use crate::peers::{free_address, has};
use crate::support::{Process, TestBed, get_request, read, until};

/// An upstream in nginx's place that shows what it was sent: HTTP/1.1, one answer.
async fn mirror() -> SocketAddr {
    use axum::http::HeaderMap;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let show = async |headers: HeaderMap| {
        let field = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        serde_json::json!({ "traceparent": field("traceparent"), "tracestate": field("tracestate") })
            .to_string()
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(show)).await });
    address
}

fn routes(more: &str, upstream: SocketAddr) -> String {
    format!(
        "services:\n  here: [ http://{upstream} ]\n  shaky:\n    endpoints: [ http://{}, http://{upstream} ]\n    \
         balance: random\n    retries: 1\n\
         routes:\n  - {{ name: open, match: /open/**, to: here, authenticate: none, allow: anyone }}\n  \
         - {{ name: shut, match: /shut/**, to: here, allow: authenticated, authenticate: api_key }}\n  \
         - {{ name: shaky, match: /shaky/**, to: shaky, authenticate: none, allow: anyone }}\n{more}",
        free_address()
    )
}

/// The receiver, and the file with what it has read.
fn oteltap(folder: &Path) -> Option<(Process, SocketAddr, PathBuf)> {
    let Some(python) = python("oteltap") else {
        println!("skipped: no PyPI oteltap here (cargo xtask test installs it)");
        return None;
    };
    let (address, out) = (free_address(), folder.join("oteltap"));
    let mut command = Command::new(python);
    command.args(["-u", "-m", "oteltap", "--port", &address.port().to_string()]);
    command.stdout(std::fs::File::create(&out).unwrap()).stderr(Stdio::null());
    Some((Process::spawn(&mut command), address, out))
}

/// Every span that the receiver has read.
fn spans(out: &Path) -> Vec<Value> {
    let lines = read(out);
    let values = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values.filter(|value| value["spanId"].is_string()).collect()
}

fn attribute<'v>(of: &'v Value, name: &str) -> Option<&'v Value> {
    let found = of["attributes"].as_array()?.iter().find(|pair| pair["key"] == name)?;
    found["value"].as_object()?.values().next()
}

fn text<'v>(of: &'v Value, name: &str) -> &'v str {
    attribute(of, name).and_then(Value::as_str).unwrap_or_default()
}

fn telemetry(address: SocketAddr, traces: &str) -> String {
    format!(
        "telemetry:\n  endpoint: http://{address}\n  allow_private_addresses: true\n  \
         headers: {{ x-tenant: hunter2 }}\n  resource: {{ deployment.environment.name: test }}\n  \
         traces: {traces}\n  metrics: {{ interval: 1s }}\n"
    )
}

async fn ask(testbed: &TestBed, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let request = fields.iter().fold(get_request(path), |request, (name, value)| request.field(name, value));
    let answer = http1::ask(&testbed.clear_endpoint(), &request).await.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

#[tokio::test]
async fn a_trace_goes_on_through_the_gateway_as_its_caller_decided() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_receiver, address, out)) = oteltap(folder.path()) else { return };
    until("the receiver", async || tokio::net::TcpStream::connect(address).await.ok().map(drop)).await;
    let upstream = mirror().await;
    // By the ratio nothing is sampled: what comes is what callers decided.
    let more = telemetry(address, "{ ratio: 0, interval: 100ms, refusals: false, failures: false }");
    let testbed = TestBed::start(&routes(&more, upstream)).await;

    let parent = format!("{CALLER}-01");
    let (status, seen) =
        ask(&testbed, "/open/a?secret=hunter2", &[("traceparent", &parent), ("tracestate", "a=1,b=2")]).await;
    assert_eq!(status, 200);
    // Neither of these is sampled, and the second goes on as it came.
    let (_, begun) = ask(&testbed, "/open/b", &[]).await;
    let unsampled = format!("{CALLER}-00");
    let (_, passed) = ask(&testbed, "/open/c", &[("traceparent", &unsampled), ("tracestate", "c=3")]).await;
    assert!(begun["traceparent"].as_str().unwrap().ends_with("-00"), "{begun}");
    assert_eq!(
        (passed["traceparent"].as_str(), passed["tracestate"].as_str()),
        (Some(&*unsampled), Some("c=3"))
    );

    // One of the server, one of the attempt, three of steps.
    let found = until("the spans", async || {
        let found = spans(&out);
        (found.len() >= 5).then_some(found)
    })
    .await;
    let of_kind = |kind: u64| found.iter().filter(|span| span["kind"] == kind).collect::<Vec<_>>();
    let [server] = of_kind(2)[..] else { panic!("{found:?}") };
    let [client] = of_kind(3)[..] else { panic!("{found:?}") };
    assert!(found.iter().all(|span| span["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736"));
    assert_eq!(
        (&server["parentSpanId"], &server["traceState"]),
        (&"00f067aa0ba902b7".into(), &"a=1,b=2".into())
    );
    assert_eq!(client["parentSpanId"], server["spanId"]);
    // The upstream's parent is the attempt to reach it.
    let told = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", client["spanId"].as_str().unwrap());
    assert_eq!((seen["traceparent"].as_str(), seen["tracestate"].as_str()), (Some(&*told), Some("a=1,b=2")));
    assert_eq!(server["name"], "GET /open/**");
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "/open/**"),
        ("url.scheme", "http"),
        ("url.path", "/open/a"),
        ("server.address", "localhost"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("bastide.route", "open"),
        ("bastide.outcome", "allowed"),
    ] {
        assert_eq!(text(server, name), value, "{name}");
    }
    assert_eq!(text(client, "url.full"), format!("http://{upstream}/open/a"));
    assert_eq!(text(client, "server.port"), upstream.port().to_string());
    let steps: BTreeSet<&str> = of_kind(1).iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(steps, BTreeSet::from(["authenticate", "authorize", "inspect"]));
    let decision = &server["events"][0];
    assert_eq!((&decision["name"], text(decision, "bastide.step")), (&"bastide.decision".into(), "forward"));
    // Times lie within each other, and what may hold a credential is nowhere.
    let time = |span: &Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    for inner in found.iter().filter(|span| span["kind"] != 2) {
        assert!(time(server, "startTimeUnixNano") <= time(inner, "startTimeUnixNano"));
        assert!(time(inner, "endTimeUnixNano") <= time(server, "endTimeUnixNano"));
    }
    assert!(!read(&out).contains("hunter2") && !testbed.log().contains("hunter2"));
    // The two that were not sampled have left nothing.
    let paths: BTreeSet<&str> =
        found.iter().map(|span| text(span, "url.path")).filter(|p| !p.is_empty()).collect();
    assert_eq!(paths, BTreeSet::from(["/open/a"]));
}

#[tokio::test]
async fn refusals_leave_their_span_sampled_or_not_and_each_attempt_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_receiver, address, out)) = oteltap(folder.path()) else { return };
    until("the receiver", async || tokio::net::TcpStream::connect(address).await.ok().map(drop)).await;
    let upstream = mirror().await;
    let testbed =
        TestBed::start(&routes(&telemetry(address, "{ ratio: 0, interval: 100ms }"), upstream)).await;
    assert_eq!(ask(&testbed, "/open/a", &[]).await.0, 200);
    assert_eq!(ask(&testbed, "/shut/a", &[]).await.0, 401);
    assert_eq!(ask(&testbed, "/nowhere", &[]).await.0, 404);
    let refused = until("both refusals", async || {
        let found = spans(&out);
        let has = |path: &str| found.iter().any(|span| text(span, "url.path") == path);
        (has("/shut/a") && has("/nowhere")).then_some(found)
    })
    .await;
    let of = |path: &str| refused.iter().find(|span| text(span, "url.path") == path).unwrap();
    let shut = of("/shut/a");
    assert_eq!((text(shut, "bastide.outcome"), text(shut, "error.type")), ("denied", "no_credential"));
    assert_eq!((text(shut, "http.response.status_code"), &shut["status"]["code"]), ("401", &Value::Null));
    assert_eq!(text(&shut["events"][0], "bastide.step"), "authenticate");
    assert_eq!(text(of("/nowhere"), "http.route"), "");
    assert!(refused.iter().all(|span| text(span, "url.path") != "/open/a"));
    // The audit event has the span's trace id, although it was refused before any upstream.
    let event: Value = until("its event", async || {
        let logs = std::fs::read_dir(testbed.path("state/audit")).unwrap();
        let logged: String = logs.map(|file| read(&file.unwrap().path())).collect();
        let event = logged.lines().find(|line| line.contains(text(shut, "bastide.request.id")))?;
        serde_json::from_str(event).ok()
    })
    .await;
    assert_eq!(event["unmapped"]["trace_id"], shut["traceId"]);

    let parent = format!("{CALLER}-01");
    let mut told = BTreeMap::new();
    let again = until("a request that was tried twice", async || {
        let (status, seen) = ask(&testbed, "/shaky/x", &[("traceparent", &parent)]).await;
        assert_eq!(status, 200);
        let parent_id = seen["traceparent"].as_str().unwrap().split('-').nth(2).unwrap().to_owned();
        told.insert(parent_id, ());
        let found = spans(&out);
        let resent = found.iter().find(|span| text(span, "http.request.resend_count") == "1")?;
        // Its sibling may be written after it.
        let first = found.iter().find(|span| {
            span["kind"] == 3
                && span["parentSpanId"] == resent["parentSpanId"]
                && span["spanId"] != resent["spanId"]
        })?;
        Some((first.clone(), resent.clone()))
    })
    .await;
    let (first, second) = again;
    assert_eq!((text(&first, "error.type"), &first["status"]["code"]), ("connect", &2.into()));
    assert_eq!(text(&second, "http.response.status_code"), "200");
    // Only the second reached anybody, and it named itself.
    assert!(told.contains_key(second["spanId"].as_str().unwrap()));
    assert!(!told.contains_key(first["spanId"].as_str().unwrap()));
}

#[tokio::test]
async fn a_collector_takes_traces_and_metrics_and_its_loss_costs_no_request() {
    let Some(python) = python("rotel") else {
        println!("skipped: no PyPI rotel here (cargo xtask test installs it)");
        return;
    };
    let output = Command::new(python)
        .args(["-c", "import pathlib, rotel; print(pathlib.Path(rotel.__file__).parent / 'rotel-agent')"])
        .output()
        .unwrap();
    let agent = String::from_utf8(output.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (address, out) = (free_address(), folder.path().join("rotel"));
    let start = || {
        let mut command = Command::new(agent.trim());
        command
            .args(["start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"])
            .args(["--debug-log", "traces", "--debug-log", "metrics"])
            .args(["--otlp-http-endpoint", &address.to_string()])
            .args(["--otlp-grpc-endpoint", &free_address().to_string()])
            .arg("--pid-file")
            .arg(folder.path().join("pid"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&out).unwrap();
        Process::spawn(command.stdout(file).stderr(Stdio::null()))
    };
    let upstream = mirror().await;
    let testbed =
        TestBed::start(&routes(&telemetry(address, "{ ratio: 1, interval: 100ms }"), upstream)).await;
    // Nobody listens yet: requests are answered all the same.
    for _ in 0..20 {
        assert_eq!(ask(&testbed, "/open/a", &[]).await.0, 200);
    }
    let failed = "bastide_telemetry_requests_total{signal=\"traces\",result=\"failed\"}";
    until("a failed export", async || (value(&testbed, failed).await > 0).then_some(())).await;
    let collector = start();
    let told = until("what the collector has read", async || {
        let told = read(&out);
        let metric =
            told.contains("bastide_requests_total") && told.contains("bastide_request_duration_seconds");
        (metric && told.contains("GET /open/**")).then_some(told)
    })
    .await;
    assert!(told.contains("deployment.environment.name: Str(test)"), "{told}");
    assert!(told.contains("service.name: Str(bastide)"), "{told}");
    // What waited for it was not lost: 20 requests of five spans.
    let sent = "bastide_telemetry_spans_total{result=\"sent\"}";
    until("all spans", async || (value(&testbed, sent).await >= 100).then_some(())).await;
    assert_eq!(value(&testbed, "bastide_telemetry_spans_total{result=\"dropped\"}").await, 0);
    drop(collector);
    assert_eq!(ask(&testbed, "/open/a", &[]).await.0, 200);
}

async fn metrics(testbed: &TestBed) -> String {
    String::from_utf8(testbed.admin("/metrics").await.body.to_vec()).unwrap()
}

/// A sample's value; 0 while it is not there.
pub(crate) async fn value(testbed: &TestBed, series: &str) -> u64 {
    let page = metrics(testbed).await;
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/observability").join(name)
}

/// Every query of the dashboard.
fn queries(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            into.extend(entries.get("expr").and_then(Value::as_str).map(str::to_owned));
            entries.values().for_each(|value| queries(value, into));
        }
        Value::Array(items) => items.iter().for_each(|value| queries(value, into)),
        _ => {}
    }
}

/// The names of metrics of ours in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("bastide_")).collect()
}

#[tokio::test]
async fn alerts_and_dashboard_name_only_metrics_that_exist() {
    let testbed = TestBed::start(&routes("", mirror().await)).await;
    let page = metrics(&testbed).await;
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let families: BTreeSet<String> = families.map(str::to_owned).collect();
    let exists = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        families.contains(name) || base.is_some_and(|base| families.contains(base))
    };
    for file in ["alerts.yaml", "alerts_test.yaml", "dashboard.json"] {
        let text = read(&shipped(file));
        let missing: Vec<_> = names(&text).into_iter().filter(|name| !exists(name)).collect();
        assert!(names(&text).len() > 5, "{file}");
        assert_eq!(missing, [""; 0], "{file}");
    }
    assert!(!exists("bastide_no_such_total"));
}

#[tokio::test]
async fn prometheus_takes_the_metrics_the_alerts_and_every_query_of_the_dashboard() {
    if !has("prometheus") || !has("promtool") {
        return;
    }
    let testbed =
        TestBed::start(&routes("audit: { sinks: [ { json: sink.jsonl } ] }\n", mirror().await)).await;
    assert_eq!(ask(&testbed, "/open/a", &[]).await.0, 200);
    assert_eq!(ask(&testbed, "/shut/a", &[]).await.0, 401);
    promtool(&testbed, &["check", "metrics"], Some(&metrics(&testbed).await));
    promtool(&testbed, &["check", "rules", shipped("alerts.yaml").to_str().unwrap()], None);
    promtool(&testbed, &["test", "rules", shipped("alerts_test.yaml").to_str().unwrap()], None);

    let listen = free_address();
    let configuration = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [ {} ]\n\
         scrape_configs: [ {{ job_name: bastide, static_configs: [ {{ targets: [ \"{}\" ] }} ] }} ]\n",
        shipped("alerts.yaml").canonicalize().unwrap().display(),
        testbed.admin_address()
    );
    std::fs::write(testbed.path("prometheus.yml"), configuration).unwrap();
    let mut command = Command::new("prometheus");
    command
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", "--log.level=warn"])
        .arg(format!("--web.listen-address={listen}"))
        .current_dir(testbed.folder.path())
        .stderr(std::fs::File::create(testbed.path("prometheus.log")).unwrap());
    let _prometheus = Process::spawn(command.stdout(Stdio::null()));
    let endpoint = Endpoint::clear(listen);
    let api = async |path: String| -> Option<Value> {
        let answer = http1::ask(&endpoint, &Request::new("GET", "localhost", &path)).await.ok()?;
        serde_json::from_slice(&answer.body).ok()
    };
    let query = async |text: &str| {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        api(format!("/api/v1/query?query={encoded}")).await
    };
    let scraped = "bastide_requests_total{route=\"open\",status=\"2xx\",step=\"forward\"}";
    until("a scrape", async || {
        let found = query(scraped).await?;
        (found["data"]["result"][0]["value"][1] == "1").then_some(())
    })
    .await;
    until("every rule to be evaluated", async || {
        let groups = api("/api/v1/rules".to_owned()).await?;
        let rules = groups["data"]["groups"][0]["rules"].as_array()?.clone();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
        assert!(rules.iter().all(|rule| rule["state"] != "firing"), "{rules:?}");
        (rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok")).then_some(())
    })
    .await;
    let dashboard: Value = serde_json::from_str(&read(&shipped("dashboard.json"))).unwrap();
    let mut all = Vec::new();
    queries(&dashboard, &mut all);
    assert!(all.len() > 30, "{}", all.len());
    for text in all {
        let text =
            text.replace("$__rate_interval", "1m").replace("$__interval", "1m").replace("$instance", ".*");
        let answer = query(&text).await.unwrap();
        assert_eq!(answer["status"], "success", "{text}: {answer}");
    }
}

/// Runs `promtool`, which must have nothing to say against it.
fn promtool(testbed: &TestBed, arguments: &[&str], input: Option<&str>) {
    let input_path = testbed.path("input");
    std::fs::write(&input_path, input.unwrap_or_default()).unwrap();
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(testbed.folder.path())
        .stdin(std::fs::File::open(&input_path).unwrap())
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    if input.is_some() {
        assert_eq!(said, "", "promtool {arguments:?}");
    }
}

//! Events at whoever is told besides the log. Syslog at Debian's rsyslog, over every way
//! that it takes. Splunk and Elasticsearch cannot be had from the registries: a server of
//! the test's own stands for them, which answers as their manuals say.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::observability::value;
use crate::peers::{authority, certificate, free_address, has};
use crate::support::{Process, TestBed, Upstream, read, until};

fn configuration(upstream: &Upstream, sinks: &str) -> String {
    format!(
        "workers: 1\nservices:\n  here: [ http://{} ]\nroutes:\n  - {{ name: here, match: /**, to: here, \
         authenticate: none, allow: anyone }}\naudit:\n  sinks:\n{sinks}",
        upstream.address
    )
}

/// The ids of all events of the log.
fn logged(testbed: &TestBed) -> BTreeSet<String> {
    let files = std::fs::read_dir(testbed.path("state/audit")).unwrap();
    let mut ids = BTreeSet::new();
    for file in files {
        let text = read(&file.unwrap().path());
        // A line that is being written is none yet.
        let whole = text.get(..text.rfind('\n').map_or(0, |end| end + 1)).unwrap();
        for line in whole.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            ids.insert(event["metadata"]["uid"].as_str().unwrap().to_owned());
        }
    }
    ids
}

async fn ask(testbed: &TestBed, times: usize) {
    for number in 0..times {
        assert_eq!(testbed.get(&format!("/{number}")).await.status, 200);
    }
}

/// rsyslog with a way in of each kind, and the file that it writes.
struct Rsyslog {
    _process: Process,
    out: PathBuf,
}

struct Ways {
    udp: SocketAddr,
    tcp: SocketAddr,
    tls: SocketAddr,
    local: PathBuf,
}

async fn rsyslog(folder: &Path, ways: &Ways) -> Rsyslog {
    let out = folder.join("out");
    let here = folder.display();
    let fields = "%pri%\\t%timereported:::date-rfc3339%\\t%hostname%\\t%app-name%\\t%procid%\\t%msgid%\\t%structured-data%\\t%msg%\\n";
    let configuration = format!(
        r#"global(workDirectory="{here}" maxMessageSize="128k" defaultNetstreamDriverCAFile="{here}/ca.pem"
                defaultNetstreamDriverCertFile="{here}/server.pem" defaultNetstreamDriverKeyFile="{here}/server.key")
        module(load="imudp") input(type="imudp" address="127.0.0.1" port="{}")
        module(load="imtcp" StreamDriver.Name="ptcp")
        input(type="imtcp" address="127.0.0.1" port="{}")
        input(type="imtcp" address="127.0.0.1" port="{}" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
        module(load="imuxsock" SysSock.Use="off") input(type="imuxsock" Socket="{}" UseSpecialParser="off" CreatePath="on" RateLimit.Interval="0")
        template(name="fields" type="string" string="{fields}")
        action(type="omfile" file="{}" template="fields")
        "#,
        ways.udp.port(),
        ways.tcp.port(),
        ways.tls.port(),
        ways.local.display(),
        out.display()
    );
    let file = folder.join("rsyslog.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("/usr/sbin/rsyslogd");
    command.arg("-n").arg("-f").arg(&file).arg("-i").arg(folder.join("pid"));
    let said = std::fs::File::create(folder.join("said")).unwrap();
    let process = Process::spawn(command.stdout(Stdio::null()).stderr(said));
    until("rsyslog", async || {
        let listens = tokio::net::TcpStream::connect(ways.tls).await.is_ok() && ways.local.exists();
        listens.then_some(())
    })
    .await;
    Rsyslog { _process: process, out }
}

impl Rsyslog {
    /// What came from this `APP-NAME`: the fields of each message.
    fn from(&self, app_name: &str) -> Vec<Vec<String>> {
        let text = read(&self.out);
        let fields = text.lines().map(|line| line.splitn(8, '\t').map(str::to_owned).collect::<Vec<_>>());
        fields.filter(|fields| fields.len() == 8 && fields[3] == app_name).collect()
    }
}

/// Whether rsyslog is here with its TLS.
fn has_rsyslog() -> bool {
    let drivers = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let tls = drivers.iter().any(|folder| Path::new(folder).join("rsyslog/lmnsd_ossl.so").exists());
    if !tls {
        println!("skipped: rsyslog-openssl is not installed");
    }
    has("rsyslogd") && tls
}

fn ways(folder: &Path) -> Ways {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Ways { udp, tcp: free_address(), tls: free_address(), local: folder.join("log") }
}

#[tokio::test]
async fn rsyslog_reads_every_event_by_every_way() {
    if !has_rsyslog() || !has("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "ca");
    certificate(folder.path(), "ca", "server", "IP:127.0.0.1");
    let ways = ways(folder.path());
    let rsyslog = rsyslog(folder.path(), &ways).await;
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&configuration(
        &upstream,
        &format!(
            "    - {{ name: udp, app_name: by-udp, facility: local3, syslog: udp://{}, allow_private_addresses: true }}\n    \
             - {{ name: tcp, app_name: by-tcp, syslog: tcp://{}, allow_private_addresses: true }}\n    \
             - {{ name: tls, app_name: by-tls, syslog: tls://{}, allow_private_addresses: true, ca: {}/ca.pem }}\n    \
             - {{ name: unix, app_name: by-unix, syslog: \"unix:{}\" }}\n",
            ways.udp,
            ways.tcp,
            ways.tls,
            folder.path().display(),
            ways.local.display()
        ),
    ))
    .await;
    ask(&testbed, 20).await;
    let refused = http_refused(&testbed).await;
    assert_eq!(refused, 400);
    for (app_name, facility) in [("by-udp", 19), ("by-tcp", 10), ("by-tls", 10), ("by-unix", 10)] {
        let found = until(app_name, async || {
            let found = rsyslog.from(app_name);
            (found.len() == 21).then_some(found)
        })
        .await;
        let mut ids = BTreeSet::new();
        for (number, fields) in found.iter().enumerate() {
            let [priority, time, host, _, process, msgid, data, event] = &fields[..] else {
                panic!("{fields:?}")
            };
            let event: Value = serde_json::from_str(event).unwrap();
            let severity = if event["http_response"]["code"] == 200 { 6 } else { 5 };
            assert_eq!(*priority, (facility * 8 + severity).to_string(), "{app_name}");
            assert!(time.starts_with("20") && time.contains('.'), "{time}");
            assert!(!host.is_empty() && process.parse::<u32>().is_ok() && msgid == "access", "{fields:?}");
            let numbered = format!("[meta sequenceId=\"{}\"]", number + 1);
            assert!(data.contains("[origin software=\"Bastide\"") && data.ends_with(&numbered), "{data}");
            ids.insert(event["metadata"]["uid"].as_str().unwrap().to_owned());
        }
        until("the log to have the same", async || (ids == logged(&testbed)).then_some(())).await;
    }
    for sink in ["udp", "tcp", "tls", "unix"] {
        // Counted once they are sent.
        let sent = format!("bastide_audit_sink_events_total{{sink=\"{sink}\",result=\"sent\"}}");
        until(&sent, async || (value(&testbed, &sent).await >= 21).then_some(())).await;
        assert_eq!(value(&testbed, &sent).await, 21, "{sink}");
    }
}

/// A request that admission refuses.
async fn http_refused(testbed: &TestBed) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(testbed.clear_address()).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_dead_sink_costs_no_request_and_no_logged_event_and_gets_what_its_buffer_held() {
    if !has_rsyslog() || !has("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "ca");
    certificate(folder.path(), "ca", "server", "IP:127.0.0.1");
    let ways = ways(folder.path());
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&configuration(
        &upstream,
        &format!(
            "    - {{ name: wide, app_name: wide, syslog: tcp://{0}, allow_private_addresses: true }}\n    \
             - {{ name: narrow, app_name: narrow, syslog: tcp://{0}, allow_private_addresses: true, buffer_events: 5 }}\n",
            ways.tcp
        ),
    ))
    .await;
    ask(&testbed, 20).await;
    until("the log to have all", async || (logged(&testbed).len() == 20).then_some(())).await;
    until("the sinks to be unwell", async || {
        let page = String::from_utf8(testbed.admin("/metrics").await.body.to_vec()).unwrap();
        page.contains("bastide_audit_sink_healthy{sink=\"wide\"} 0").then_some(())
    })
    .await;
    // Told besides the log, they may hear of the last ones later.
    for (series, count) in [
        ("bastide_audit_sink_pending_events{sink=\"wide\"}", 20),
        ("bastide_audit_sink_events_total{sink=\"narrow\",result=\"dropped\"}", 15),
        ("bastide_audit_sink_pending_events{sink=\"narrow\"}", 5),
    ] {
        until(series, async || (value(&testbed, series).await == count).then_some(())).await;
    }
    assert_eq!(testbed.admin("/healthz").await.status, 200);

    let rsyslog = rsyslog(folder.path(), &ways).await;
    until("what the buffers held", async || {
        (rsyslog.from("wide").len() == 20 && rsyslog.from("narrow").len() == 5).then_some(())
    })
    .await;
    ask(&testbed, 3).await;
    until("what came later", async || (rsyslog.from("narrow").len() == 8).then_some(())).await;
    let healthy = "bastide_audit_sink_healthy{sink=\"narrow\"}";
    until("the sink to be well", async || (value(&testbed, healthy).await == 1).then_some(())).await;
}

#[tokio::test]
async fn a_full_sink_that_blocks_refuses_requests_until_it_is_emptied_or_taken_away() {
    let upstream = Upstream::start().await;
    let dead = free_address();
    let sinks = format!(
        "    - {{ syslog: tcp://{dead}, allow_private_addresses: true, buffer_events: 3, block: true }}\n"
    );
    let testbed = TestBed::start(&configuration(&upstream, &sinks)).await;
    let refused = until("a refusal", async || {
        let before = upstream.seen();
        let answer = testbed.get("/").await;
        (answer.status != 200).then_some((answer.status, before))
    })
    .await;
    assert_eq!(refused.0, 503);
    assert!(refused.1 >= 3);
    assert_eq!(upstream.seen(), refused.1, "a refused request reached the upstream");
    until("the log to have what passed", async || (logged(&testbed).len() as u64 == refused.1).then_some(()))
        .await;
    // After a reload without it requests are taken.
    testbed.configure(&configuration(&upstream, "    - { json: sink.jsonl }\n"));
    until("requests to be taken", async || (testbed.get("/").await.status == 200).then_some(())).await;
    until("the new sink to be told", async || {
        (read(&testbed.path("sink.jsonl")).lines().count() >= 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn json_lines_on_standard_output_and_in_a_file_are_the_logs_own() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::prepare(&configuration(
        &upstream,
        "    - { json: stdout }\n    - { json: sink.jsonl, name: file }\n",
    ));
    let mut command = testbed.serve("log");
    command.stdout(std::fs::File::create(testbed.path("stdout")).unwrap());
    testbed.start_gateway_by(command).await;
    ask(&testbed, 5).await;
    // The end of the process sends what is left.
    testbed.stop_gateway().await;
    let log: String = std::fs::read_dir(testbed.path("state/audit"))
        .unwrap()
        .map(|file| read(&file.unwrap().path()))
        .collect();
    assert_eq!(log.lines().count(), 5);
    assert_eq!(read(&testbed.path("stdout")), log);
    assert_eq!(read(&testbed.path("sink.jsonl")), log);
}

#[tokio::test]
async fn a_refused_reload_takes_no_sink_away() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::prepare(&configuration(&upstream, "    - { json: sink.jsonl, name: file }\n"));
    testbed.start_gateway().await;
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = configuration(&upstream, "    - { json: other.jsonl, name: other }\n");
    testbed.configure(&format!("  - {}\n{other}", occupied.local_addr().unwrap()));
    until("the refusal", async || testbed.log().contains("reload refused").then_some(())).await;
    ask(&testbed, 3).await;
    until("its events", async || (read(&testbed.path("sink.jsonl")).lines().count() == 3).then_some(()))
        .await;
    assert_eq!(read(&testbed.path("other.jsonl")), "");
}

type Answer = (StatusCode, Vec<(&'static str, &'static str)>, Value);
/// Makes the answer to a batch.
type Answering = Box<dyn Fn(&[Value]) -> Answer + Send>;

/// A batch as it came in.
struct Seen {
    at: Instant,
    uri: Uri,
    headers: HeaderMap,
    objects: Vec<Value>,
}

/// What stands for Splunk and Elasticsearch: gives these answers in turn, then the last
/// one, made of the batch.
struct Desk {
    answers: Mutex<VecDeque<Answering>>,
    seen: Mutex<Vec<Seen>>,
}

impl Desk {
    async fn start(
        good: impl Fn(&[Value]) -> Answer + Send + Sync + Clone + 'static,
        answers: Vec<Answering>,
    ) -> (Arc<Self>, SocketAddr) {
        let desk = Arc::new(Self { answers: Mutex::new(answers.into()), seen: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let held = Arc::clone(&desk);
        let app = axum::Router::new().fallback(async move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let objects = serde_json::Deserializer::from_slice(&body).into_iter::<Value>();
            let objects: Vec<Value> = objects.map(Result::unwrap).collect();
            let next = held.answers.lock().unwrap().pop_front();
            let (status, fields, answer) = next.map_or_else(|| good(&objects), |answer| answer(&objects));
            held.seen.lock().unwrap().push(Seen { at: Instant::now(), uri, headers, objects });
            let fields: HeaderMap = fields
                .into_iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect();
            (status, fields, answer.to_string())
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        (desk, address)
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

#[tokio::test]
async fn splunk_gets_each_event_once_through_busy_answers_and_a_poisoned_event() {
    let good = |_: &[Value]| (StatusCode::OK, Vec::new(), json!({ "text": "Success", "code": 0 }));
    let busy = |_: &[Value]| {
        let answer = json!({ "text": "Server is busy", "code": 9 });
        (StatusCode::SERVICE_UNAVAILABLE, vec![("retry-after", "1")], answer)
    };
    // The second of a batch, or the only one.
    let bad = |objects: &[Value]| objects.len().min(2) - 1;
    let poisoned = move |objects: &[Value]| {
        let answer =
            json!({ "text": "Invalid data format", "code": 6, "invalid-event-number": bad(objects) });
        (StatusCode::BAD_REQUEST, Vec::new(), answer)
    };
    let (desk, address) = Desk::start(good, vec![Box::new(busy), Box::new(poisoned)]).await;
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&configuration(
        &upstream,
        &format!("    - {{ splunk: http://{address}, token: hunter2, index: security, allow_private_addresses: true }}\n"),
    ))
    .await;
    ask(&testbed, 6).await;
    let of = |result: &str| format!("bastide_audit_sink_events_total{{sink=\"splunk\",result=\"{result}\"}}");
    until("all events", async || (value(&testbed, &of("sent")).await == 5).then_some(())).await;
    assert_eq!(value(&testbed, &of("failed")).await, 1);
    assert!(value(&testbed, &of("retried")).await >= 1);
    let mut taken = BTreeSet::new();
    {
        let seen = desk.seen.lock().unwrap();
        // It was left alone for as long as it said.
        assert!(seen[1].at.duration_since(seen[0].at) >= Duration::from_secs(1));
        for (number, Seen { uri, headers, objects, .. }) in seen.iter().enumerate() {
            assert_eq!(
                (uri.path(), &headers["authorization"]),
                ("/services/collector/event", &"Splunk hunter2".parse().unwrap())
            );
            for (place, event) in objects.iter().enumerate() {
                assert_eq!(
                    (&event["index"], &event["sourcetype"]),
                    (&"security".into(), &"bastide:access".into())
                );
                let was_taken = number > 1 || (number == 1 && place < bad(objects));
                let id = event["event"]["metadata"]["uid"].as_str().unwrap();
                assert!(!was_taken || taken.insert(id.to_owned()), "twice: {id}");
            }
        }
    }
    assert_eq!(taken.len(), 5);
    until("the log to have them", async || taken.is_subset(&logged(&testbed)).then_some(())).await;
    assert!(!testbed.log().contains("hunter2"), "{}", testbed.log());
}

#[tokio::test]
async fn elastics_answers_count_event_by_event() {
    let good = |objects: &[Value]| {
        let items: Vec<Value> = objects.chunks(2).map(|_| json!({ "create": { "status": 201 } })).collect();
        (StatusCode::OK, Vec::new(), json!({ "errors": false, "items": items }))
    };
    // The first is indexed, the second comes too fast, the third is no document; others are
    // there already.
    let mixed = |objects: &[Value]| {
        let status = |place: usize| [201, 429, 400].get(place).copied().unwrap_or(409);
        let item = |place: usize| json!({ "create": { "status": status(place), "error": { "type": "x" } } });
        let items: Vec<Value> = (0..objects.len() / 2).map(item).collect();
        (StatusCode::OK, Vec::new(), json!({ "errors": true, "items": items }))
    };
    let busy = |_: &[Value]| (StatusCode::TOO_MANY_REQUESTS, Vec::new(), json!({}));
    let (desk, address) = Desk::start(good, vec![Box::new(busy), Box::new(mixed)]).await;
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&configuration(
        &upstream,
        &format!("    - {{ elastic: http://{address}, index: logs-x, api_key: hunter2, allow_private_addresses: true }}\n"),
    ))
    .await;
    // All in one batch: the first answer is slow to come back from.
    ask(&testbed, 5).await;
    until("the refusals", async || (desk.count() >= 2).then_some(())).await;
    let of =
        |result: &str| format!("bastide_audit_sink_events_total{{sink=\"elastic\",result=\"{result}\"}}");
    until("all events", async || {
        let (sent, failed) = (value(&testbed, &of("sent")).await, value(&testbed, &of("failed")).await);
        (sent + failed == 5).then_some(())
    })
    .await;
    let failed = value(&testbed, &of("failed")).await;
    let seen = desk.seen.lock().unwrap();
    let batch = seen[1].objects.len() / 2;
    assert_eq!(failed, u64::from(batch > 2));
    for Seen { uri, headers, objects, .. } in seen.iter() {
        assert!(uri.path() == "/_bulk" && headers["authorization"] == "ApiKey hunter2");
        for pair in objects.chunks(2) {
            let id = &pair[1]["metadata"]["uid"];
            assert_eq!((&pair[0]["create"]["_index"], &pair[0]["create"]["_id"]), (&"logs-x".into(), id));
            assert_eq!(pair[1]["@timestamp"], pair[1]["time"]);
        }
    }
    // What came too fast, and only that of its batch, comes again.
    let id = |objects: &[Value], place: usize| objects[place * 2]["create"]["_id"].clone();
    if batch > 1 {
        let again = seen[2..]
            .iter()
            .flat_map(|seen| seen.objects.chunks(2).map(|pair| pair[0]["create"]["_id"].clone()));
        let again: Vec<Value> = again.collect();
        for place in 0..batch {
            assert_eq!(again.contains(&id(&seen[1].objects, place)), place == 1, "{place}");
        }
    }
    drop(seen);
    assert!(!testbed.log().contains("hunter2"));
}

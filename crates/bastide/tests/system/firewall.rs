//! The firewall on the way: what it stops, what it lets pass, what is written down.
//! [`packed`] has compressed bodies, [`bounds`] what it may cost, [`seen`] what is seen and
//! written down of requests that are refused anyway or go away, [`detect`] what detect mode leaves
//! as it is, [`crs`] what ordinary clients send past the Core Rule Set.

mod bounds;
mod crs;
mod detect;
mod packed;
mod seen;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bastide::demo::client::http1::{self, Connection};
use bastide::demo::client::{Answer, Request};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::support::{PATIENCE, TestBed, get_request, read, until};

const RULES: &str = r#"
SecRequestBodyAccess On
SecResponseBodyAccess On
SecResponseBodyMimeType text/html text/event-stream
SecRequestBodyLimit 4096
SecRequestBodyNoFilesLimit 4096
SecRule REQUEST_HEADERS:X-Probe "@contains attack" "id:10,phase:1,deny,log,msg:'probe',tag:'attack-probe'"
SecRule REQUEST_HEADERS:X-Note "@contains note" "id:11,phase:1,pass,log,msg:'a note'"
SecRule ARGS "@contains attack" "id:20,phase:2,deny,log,severity:CRITICAL,msg:'attack in %{MATCHED_VAR_NAME}',logdata:'found %{MATCHED_VAR}',tag:'attack-x'"
SecRule ARGS:q "@streq teapot" "id:21,phase:2,deny,status:418,log,msg:'teapot'"
SecRule ARGS:q "@streq silence" "id:22,phase:2,drop,log,msg:'silence'"
SecRule ARGS:q "@streq elsewhere" "id:23,phase:2,redirect:https://example.org/,log,msg:'elsewhere'"
SecRule RESPONSE_HEADERS:X-Leak "@streq yes" "id:30,phase:3,deny,log,msg:'leaking header'"
SecRule RESPONSE_BODY "@contains leak" "id:40,phase:4,deny,log,msg:'leak'"
"#;

/// An upstream that answers as it is asked: `/asked` with the request's head in small letters,
/// `/echo` with its body, `/reflect` the same under the coding and type that the request names,
/// `/stall` the same without an end, `/page` and `/leak` with HTML, `/head` with a header,
/// `/events` with a stream, of the type that the request names, that goes on when it is released,
/// `/turns` with the same before the request's body has ended, `/switch` with another protocol, in
/// which it says what it is told, `/rest` with what came behind the head of a chunked request.
struct Upstream {
    address: SocketAddr,
    seen: Arc<AtomicU64>,
    release: Arc<Semaphore>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, release) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let (seen_too, release_too) = (Arc::clone(&seen), Arc::clone(&release));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, release) = (Arc::clone(&seen_too), Arc::clone(&release_too));
                tokio::spawn(async move { answer(stream, &seen, &release).await });
            }
        });
        Self { address, seen, release }
    }

    fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, seen: &AtomicU64, release: &Semaphore) {
    let mut bytes = Vec::new();
    let mut piece = [0; 16_384];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return,
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < head + length {
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let path = text.split([' ', '?']).nth(1).unwrap_or_default();
    while path == "/rest" && !bytes[head..].ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    seen.fetch_add(1, Ordering::SeqCst);
    let (body, rest) = (&bytes[head..head + length], &bytes[head..]);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    if path == "/events" || path == "/turns" {
        let content_type = Some(field("x-type: ")).filter(|named| !named.is_empty());
        let first = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {}\r\nconnection: close\r\n\r\ndata: first\n\n",
            content_type.unwrap_or("text/event-stream")
        );
        stream.write_all(first.as_bytes()).await.unwrap();
        while path == "/turns" && !bytes.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut piece).await {
                Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
                _ => return,
            }
        }
        if path == "/events" {
            release.acquire().await.unwrap().forget();
        }
        let _ = stream.write_all(b"data: last leak\n\n").await;
        return;
    }
    if path == "/switch" {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        return;
    }
    let reflected =
        format!("content-encoding: {}\r\ncontent-type: {}", field("x-coding: "), field("x-type: "));
    if path == "/stall" {
        let head = format!("HTTP/1.1 200 OK\r\n{reflected}\r\nconnection: close\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        release.acquire().await.unwrap().forget();
        return;
    }
    let (fields, body): (&str, &[u8]) = match path {
        "/reflect" => (&reflected, body),
        "/echo" => ("content-type: application/octet-stream", body),
        "/rest" => ("content-type: application/octet-stream", rest),
        "/asked" => ("content-type: text/plain", text.as_bytes()),
        "/leak" => ("content-type: text/html", b"<p>a leak</p>"),
        "/image" => ("content-type: image/png", b"a leak"),
        "/head" => ("x-leak: yes", b"fine"),
        _ => ("content-type: text/html", b"<p>fine</p>"),
    };
    let head =
        format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
}

fn configuration(upstream: &Upstream, waf: &str, route: &str) -> String {
    format!(
        "workers: 1\nservices:\n  here: [ http://{} ]\nroutes:\n  - match: /**\n    to: here\n    \
         authenticate: none\n    allow: anyone\n{route}waf:\n  rules: rules.conf\n{waf}",
        upstream.address
    )
}

async fn testbed(upstream: &Upstream, waf: &str, route: &str) -> TestBed {
    testbed_with(upstream, RULES, waf, route).await
}

/// A gateway with rules of its own.
async fn testbed_with(upstream: &Upstream, rules: &str, waf: &str, route: &str) -> TestBed {
    started(&configuration(upstream, waf, route), rules).await
}

async fn started(configuration: &str, rules: &str) -> TestBed {
    let mut testbed = TestBed::prepare(configuration);
    std::fs::write(testbed.path("rules.conf"), rules).unwrap();
    testbed.start_gateway().await;
    testbed
}

/// A route that wants a credential.
fn testbed_with_keys(upstream: &Upstream) -> String {
    let key = "  - match: /private/**\n    to: here\n    authenticate: api_key\n    allow: authenticated\n";
    configuration(upstream, "", key).replace("services:", "authentication: { api_keys: state }\nservices:")
}

fn form(target: &str, body: &str) -> Request {
    let mut request =
        Request::new("POST", "localhost", target).field("content-type", "application/x-www-form-urlencoded");
    request.body = body.as_bytes().to_vec();
    request
}

async fn ask(testbed: &TestBed, request: &Request) -> Answer {
    http1::ask(&testbed.clear_endpoint(), request).await.unwrap()
}

/// The most memory that a process has held so far, KiB.
fn peak_kib(testbed: &mut TestBed) -> u64 {
    let status = read(std::path::Path::new(&format!("/proc/{}/status", testbed.gateway().id())));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The lines of the firewall's log.
fn lines(testbed: &TestBed) -> Vec<Value> {
    let folder = std::fs::read_dir(testbed.path("state/firewall")).unwrap();
    let files = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    files
        .flat_map(|file| {
            read(&file).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

/// Waits for the line of a request.
async fn line(testbed: &TestBed, id: &str) -> Value {
    until("the firewall's line", async || lines(testbed).into_iter().find(|line| line["request"] == id)).await
}

fn ids(line: &Value) -> Vec<u64> {
    line["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn an_attack_is_refused_told_plainly_and_explained() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "", "").await;
    let honest = ask(&testbed, &form("/echo", "q=hello&n=1")).await;
    assert_eq!(
        (honest.status, honest.body.as_slice()),
        (200, &b"q=hello&n=1"[..]),
        "the body was read and goes on whole"
    );
    let refused = ask(&testbed, &form("/echo?id=7", "q=an+attack")).await;
    assert_eq!((refused.status, upstream.seen()), (403, 1));
    let problem = refused.json();
    let mut names: Vec<&String> = problem.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["id", "status", "title", "type"], "the client is told more than it needs");
    let id = problem["id"].as_str().unwrap().to_owned();

    let line = line(&testbed, &id).await;
    assert_eq!(
        (ids(&line), line["verdict"].as_str(), line["rule"].as_u64()),
        (vec![20], Some("blocked"), Some(20))
    );
    assert_eq!(line["rules"][0]["msg"], "attack in ARGS:q");
    assert!(line["client_port"].as_u64().unwrap() > 0);
    assert_eq!(line["status"], 403);

    let (code, said, error) = until("the event", async || {
        let explained = testbed.bastide(&["explain", &id]);
        (!explained.1.is_empty()).then_some(explained)
    })
    .await;
    assert_eq!(code, 1, "{error}");
    for part in ["by step inspect with 403", "rule 20", "attack in ARGS:q", "attack-x", "block mode"] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
}

#[tokio::test]
async fn the_rule_of_the_documentation_looks_at_queries_and_forms() {
    let text = read(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/firewall.md")));
    let example = text.split("```apache\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let upstream = Upstream::start().await;
    let testbed = testbed_with(&upstream, example, "", "").await;
    for (request, status) in [
        (get_request("/?q=O'Brien"), 200),
        (get_request("/?q=1%27%20OR%20%271%27=%271"), 403),
        (form("/echo", "q=O'Brien"), 200),
        (form("/echo", "q=1' OR '1'='1"), 403),
        (form("/echo", &"&".repeat(2_000)), 400),
    ] {
        assert_eq!(ask(&testbed, &request).await.status, status, "{}", request.target);
    }
    let off = testbed_with(&upstream, &format!("SecRequestBodyAccess Off\n{example}"), "", "").await;
    assert_eq!(ask(&off, &form("/echo", "q=1' OR '1'='1")).await.status, 200, "the files said so");
}

#[tokio::test]
async fn each_action_answers_as_it_says() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "", "").await;
    let status = async |q: &str| ask(&testbed, &get_request(&format!("/?q={q}"))).await.status;
    assert_eq!(status("honest").await, 200);
    assert_eq!(status("teapot").await, 418);
    let elsewhere = ask(&testbed, &get_request("/?q=elsewhere")).await;
    assert_eq!((elsewhere.status, elsewhere.field("location")), (302, Some("https://example.org/")));
    assert!(
        http1::ask(&testbed.clear_endpoint(), &get_request("/?q=silence")).await.is_err(),
        "an answer to what is dropped"
    );
    assert_eq!(upstream.seen(), 1);
}

#[tokio::test]
async fn detect_mode_has_no_effect_but_the_log() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "  mode: detect\n", "").await;
    for target in ["/?q=attack", "/?q=teapot", "/?q=silence", "/?q=elsewhere", "/leak", "/head"] {
        let answer = ask(&testbed, &get_request(target)).await;
        assert_eq!(answer.status, 200, "{target}");
        let line = line(&testbed, &answer.request_id().unwrap().to_string()).await;
        assert_eq!(
            (line["verdict"].as_str(), line["rules"].as_array().unwrap().len(), &line["unfinished"]),
            (Some("detected"), 1, &Value::Null),
            "{target}"
        );
    }
    let over = ask(&testbed, &form("/echo", &format!("q={}", "a".repeat(5000)))).await;
    assert_eq!((over.status, over.body.len()), (200, 5002));
    assert_eq!(upstream.seen(), 7);
}

#[tokio::test]
async fn answers_are_judged_before_the_client_sees_them() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "", "").await;
    for (target, status, body) in [
        ("/page", 200, Some("<p>fine</p>")),
        ("/leak", 403, None),
        ("/image", 200, Some("a leak")),
        ("/head", 403, None),
    ] {
        let answer = ask(&testbed, &get_request(target)).await;
        assert_eq!(answer.status, status, "{target}");
        if let Some(body) = body {
            assert_eq!(String::from_utf8_lossy(&answer.body), body, "{target}");
        } else {
            assert_eq!(answer.json()["status"], 403, "{target}: {answer:?}");
        }
    }
    let over_http2 =
        bastide::demo::client::http2::ask(&testbed.endpoint(), &get_request("/leak")).await.unwrap();
    assert_eq!(over_http2.status, 403);
}

#[tokio::test]
async fn an_event_stream_is_never_held_back() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "", "").await;
    let mut stream = TcpStream::connect(testbed.clear_address()).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    read_until(&mut stream, &mut got, "data: first").await;
    upstream.release.add_permits(1);
    read_until(&mut stream, &mut got, "data: last leak").await;
}

/// Reads until so much has come.
async fn read_until(stream: &mut TcpStream, got: &mut Vec<u8>, wanted: &str) {
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(got).contains(wanted) {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut piece));
        let count = read.await.unwrap_or_else(|_| panic!("{wanted:?} was held back")).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(got));
        got.extend_from_slice(&piece[..count]);
    }
}

#[tokio::test]
async fn a_head_that_admission_refuses_still_names_its_attack() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "", "").await;
    let mut connection = Connection::open(&testbed.clear_endpoint()).await.unwrap();
    let raw = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-probe: an attack\r\ncontent-length: x\r\n\r\n";
    connection.send(raw).await.unwrap();
    let refused = connection.answer(false).await.unwrap();
    assert_eq!(refused.status, 400, "admission's refusal stands");
    let found = line(&testbed, refused.json()["id"].as_str().unwrap()).await;
    assert_eq!(ids(&found), [10]);
    let mut connection = Connection::open(&testbed.clear_endpoint()).await.unwrap();
    connection.send(b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n").await.unwrap();
    let honest = connection.answer(false).await.unwrap();
    assert_eq!(ids(&line(&testbed, honest.json()["id"].as_str().unwrap()).await), [0_u64; 0]);
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn over_http2_too_a_refused_head_names_its_attack() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "", "").await;
    let connection = bastide::demo::client::http2::Connection::open(&testbed.endpoint()).await.unwrap();
    for (target, probe, found) in [
        ("/%00", "an attack", vec![10]),
        ("/%00?q=attack", "none", vec![20]),
        ("/%00?q=honest", "none", vec![]),
    ] {
        let refused = connection.ask(&get_request(target).field("x-probe", probe)).await.unwrap();
        assert_eq!(refused.status, 400, "{target}: admission's refusal stands");
        let line = line(&testbed, refused.json()["id"].as_str().unwrap()).await;
        assert_eq!(ids(&line), found, "{target}");
    }
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn secrets_do_not_reach_the_log() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "", "").await;
    let refused = ask(&testbed, &form("/echo", "password=my-attack-hunter2")).await;
    assert_eq!(refused.status, 403);
    let id = refused.json()["id"].as_str().unwrap().to_owned();
    let found = line(&testbed, &id).await;
    assert_eq!(found["rules"][0]["data"], "***");
    let _ = until("the event", async || {
        let (_, said, _) = testbed.bastide(&["explain", &id]);
        (!said.is_empty()).then_some(said)
    })
    .await;
    for folder in ["state/firewall", "state/audit"] {
        for entry in std::fs::read_dir(testbed.path(folder)).unwrap() {
            assert!(!read(&entry.unwrap().path()).contains("hunter2"), "in {folder}");
        }
    }
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_or_goes_on_whole_as_configured() {
    let upstream = Upstream::start().await;
    let rejecting = testbed(&upstream, "", "").await;
    let fits = form("/echo", &format!("q={}", "a".repeat(4000)));
    let over = form("/echo", &format!("q={}", "a".repeat(5000)));
    assert_eq!(ask(&rejecting, &fits).await.status, 200);
    let refused = ask(&rejecting, &over).await;
    assert!(refused.status >= 400, "{refused:?}");
    let partial = testbed(&upstream, "  request_body: { over: partial }\n", "").await;
    let passed = ask(&partial, &over).await;
    assert_eq!((passed.status, passed.body.len()), (200, 5002), "nothing of it is lost");
    let attack = form("/echo", &format!("q=attack{}", "a".repeat(5000)));
    assert_eq!(ask(&partial, &attack).await.status, 403, "what fits is inspected");
}

#[tokio::test]
async fn a_reload_with_broken_rules_keeps_the_old_ones() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "", "").await;
    assert_eq!(ask(&testbed, &get_request("/?q=attack")).await.status, 403);
    std::fs::write(
        testbed.path("rules.conf"),
        format!("{RULES}SecRule ARGS \"@contians x\" \"id:99,phase:2,deny\"\n"),
    )
    .unwrap();
    until("the reload to be refused", async || testbed.log().contains("reload refused").then_some(())).await;
    assert!(testbed.log().contains("rules.conf:15:16: unknown operator"), "{}", testbed.log());
    assert_eq!(ask(&testbed, &get_request("/?q=attack")).await.status, 403);
    std::fs::write(testbed.path("rules.conf"), RULES.replace("@streq teapot", "@streq kettle")).unwrap();
    until("the new rules", async || {
        (ask(&testbed, &get_request("/?q=kettle")).await.status == 418).then_some(())
    })
    .await;
    let (code, said, _) = testbed.bastide(&["check"]);
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn a_route_may_go_without_and_may_exclude() {
    let upstream = Upstream::start().await;
    let routes = "    waf: { exclusions: [ { rule: 20, target: \"ARGS:comment\" } ] }\n  - match: /open/**\n    to: here\n    authenticate: none\n    allow: anyone\n    waf: off\n";
    let testbed = testbed(&upstream, "", routes).await;
    let status = async |target: &str| ask(&testbed, &get_request(target)).await.status;
    assert_eq!(status("/?q=attack").await, 403);
    assert_eq!(status("/?comment=attack").await, 200);
    assert_eq!(status("/open/?q=attack").await, 200);
}

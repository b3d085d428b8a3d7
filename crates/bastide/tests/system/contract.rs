//! A route that is held against its API document, and what is shaped on the way: the
//! real binary, an upstream that says what it saw, curl.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::support::{TestBed, read, until};

/// What the upstream saw, in its order: method, target, headers, length of the body.
type Seen = Arc<Mutex<Vec<(String, HeaderMap, usize)>>>;

/// An upstream that says what it saw. `?answer=…` chooses what it answers.
async fn upstream() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(answer).with_state(Arc::clone(&seen));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, seen)
}

async fn answer(
    State(seen): State<Seen>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let answer = headers.get("x-answer").map(|value| value.to_str().unwrap().to_owned());
    seen.lock().unwrap().push((format!("{method} {uri}"), headers, body.len()));
    let json = [("content-type", "application/json")];
    match answer.as_deref() {
        Some("leak") => (json, r#"{"id":1,"secret":"s"}"#.to_owned()).into_response(),
        Some("long") => (json, format!("[{}1]", "1,".repeat(40_000))).into_response(),
        Some("events") => {
            ([("content-type", "text/event-stream")], "data: x\n\n".repeat(500)).into_response()
        }
        _ => (json, r#"{"id":1}"#.to_owned()).into_response(),
    }
}

const API: &str = r##"
openapi: 3.0.3
paths:
  /orders:
    post:
      requestBody:
        required: true
        content:
          application/json:
            schema: { type: object, required: [ item ], additionalProperties: false, properties: { item: { type: string, maxLength: 100000 }, big: { type: array } } }
      responses:
        "200": { description: ok, content: { application/json: { schema: { $ref: "#/components/schemas/Answer" } } } }
  /orders/{id}:
    get:
      parameters:
        - { name: id, in: path, required: true, schema: { type: integer } }
        - { name: tag, in: query, schema: { type: array, items: { type: string, maxLength: 3 } } }
      responses:
        "200": { description: ok, content: { application/json: { schema: { $ref: "#/components/schemas/Answer" } } } }
components:
  schemas:
    Answer: { type: object, required: [ id ], additionalProperties: false, properties: { id: { type: integer } } }
"##;

struct Asked {
    status: u16,
    head: String,
    body: String,
}

/// curl in the test bed, over HTTP/1.1 or HTTP/2; `None` without curl.
async fn curl(testbed: &TestBed, arguments: &[&str], target: &str) -> Option<Asked> {
    let port = testbed.tls_address().port();
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--include", "--cacert", "state/ca/ca.pem", "--path-as-is"])
        .args(["--connect-to", &format!("::127.0.0.1:{port}")])
        .args(arguments)
        .arg(format!("https://shop.localhost{target}"))
        .current_dir(testbed.folder.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut rest = text.as_str();
    loop {
        let Some((head, body)) = rest.split_once("\r\n\r\n") else {
            panic!("no answer: {text} {}", String::from_utf8_lossy(&output.stderr));
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status == 100 {
            rest = body;
            continue;
        }
        return Some(Asked { status, head: head.to_ascii_lowercase(), body: body.to_owned() });
    }
}

fn testbed(rest: &str) -> TestBed {
    let testbed = TestBed::prepare(rest);
    std::fs::write(testbed.path("api.yaml"), API).unwrap();
    testbed
}

/// The audit events so far.
pub(crate) fn events(testbed: &TestBed) -> Vec<Value> {
    let mut events = Vec::new();
    for entry in std::fs::read_dir(testbed.path("state/audit")).into_iter().flatten() {
        let text = read(&entry.unwrap().path());
        events.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    events
}

const JSON: &str = "content-type: application/json";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_breaks_the_document_reaches_the_upstream() {
    let (address, seen) = upstream().await;
    let mut testbed = testbed(&format!(
        "services: {{ here: [ http://{address} ] }}\nroutes:\n  - match: shop.localhost/**\n    to: here\n    \
         authenticate: none\n    allow: anyone\n    validate: {{ openapi: api.yaml, body_max: 200KiB }}\n"
    ));
    testbed.start_gateway().await;
    if curl(&testbed, &[], "/orders/1").await.is_none() {
        println!("skipped: no curl here");
        return;
    }
    let long = format!("{{\"item\":\"{}\"}}", "a".repeat(90_000));
    let longer = format!("{{\"item\":\"a\",\"big\":[{}1]}}", "1,".repeat(150_000));
    std::fs::write(testbed.path("longer"), longer).unwrap();
    std::fs::write(testbed.path("long"), long).unwrap();
    for protocol in ["--http1.1", "--http2"] {
        let chunked = if protocol == "--http1.1" { "transfer-encoding: chunked" } else { "x-a: b" };
        for (arguments, target, status) in [
            (&[][..], "/orders/1", 200),
            (&[], "/orders/1?tag=a&tag=b", 200),
            (&[], "/orders/x", 400),
            (&[], "/orders/1?tag=a&tag=long", 400),
            (&[], "/orders/1?other=1", 400),
            (&[], "/other", 404),
            (&["-X", "DELETE"], "/orders/1", 405),
            (&["-H", JSON, "-d", r#"{"item":"tea"}"#], "/orders", 200),
            (&["-H", JSON, "-H", chunked, "-d", r#"{"item":"tea"}"#], "/orders", 200),
            (&["-H", JSON, "-d", r#"{"item":5}"#], "/orders", 400),
            (&["-H", JSON, "-H", chunked, "-d", r#"{"item":5}"#], "/orders", 400),
            (&["-H", JSON, "-d", r#"{"item":"a","item":"b"}"#], "/orders", 400),
            (&["-H", "content-type: text/plain", "-d", "{}"], "/orders", 415),
            (&["-X", "POST"], "/orders", 400),
            (&["-H", JSON, "--data-binary", "@long"], "/orders", 200),
            (&["-H", JSON, "--data-binary", "@longer"], "/orders", 413),
        ] {
            let before = seen.lock().unwrap().len();
            let asked = curl(&testbed, &[&[protocol], arguments].concat(), target).await.unwrap();
            assert_eq!(asked.status, status, "{protocol} {arguments:?} {target}: {}", asked.body);
            let reached = seen.lock().unwrap().len() - before;
            assert_eq!(reached, usize::from(status == 200), "{protocol} {arguments:?} {target}");
            if status != 200 {
                let problem: Value = serde_json::from_str(&asked.body).unwrap();
                let mut names: Vec<&str> = problem.as_object().unwrap().keys().map(String::as_str).collect();
                names.sort_unstable();
                assert_eq!(names, ["id", "status", "title", "type"], "{target}");
            }
            if status == 405 {
                assert!(asked.head.contains("allow: get"), "{}", asked.head);
            }
        }
    }
    // What was long arrived whole.
    assert!(seen.lock().unwrap().iter().any(|(_, _, length)| *length == 90_011));
    let reason = until("the audit event with pointer and keyword", async || {
        let reasons = events(&testbed).into_iter().map(|event| event.to_string());
        reasons.into_iter().find(|text| text.contains("body /item: type"))
    })
    .await;
    assert!(!reason.contains("\"item\":5"), "{reason}");
    let report = testbed.admin("/undocumented").await.json();
    let paths: Vec<&str> =
        report["endpoints"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"/other") && paths.contains(&"/orders/{}"), "{report}");
    let (code, listed, _) = testbed.bastide(&["undocumented"]);
    assert!(code == 1 && listed.contains("GET /other"), "{code} {listed}");
    let (code, listed, _) = testbed.bastide(&["undocumented", "--output", "json"]);
    assert!(code == 1 && serde_json::from_str::<Value>(&listed).is_ok(), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_reports_lets_pass_and_says_so() {
    let (address, seen) = upstream().await;
    let mut testbed = testbed(&format!(
        "services: {{ here: [ http://{address} ] }}\nroutes:\n  - match: shop.localhost/**\n    to: here\n    \
         authenticate: none\n    allow: anyone\n    validate: {{ openapi: api.yaml, mode: report, responses: report }}\n"
    ));
    testbed.start_gateway().await;
    for (target, answer) in
        [("/orders/x", "x-answer: none"), ("/other", "x-answer: none"), ("/orders/1", "x-answer: leak")]
    {
        let Some(asked) = curl(&testbed, &["-H", answer], target).await else {
            println!("skipped: no curl here");
            return;
        };
        assert_eq!(asked.status, 200, "{target}");
    }
    assert_eq!(seen.lock().unwrap().len(), 3);
    for said in
        ["reported, not refused: path parameter", "path: undocumented", "response body: additionalProperties"]
    {
        until(said, async || {
            events(&testbed).iter().any(|event| event.to_string().contains(said)).then_some(())
        })
        .await;
    }
    let metrics = testbed.admin("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.body).contains("bastide_contract_reports_total 3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_held_against_the_document_bounded_and_compressed() {
    let (address, _) = upstream().await;
    let mut testbed = testbed(&format!(
        "services: {{ here: [ http://{address} ] }}\nroutes:\n  - match: shop.localhost/orders/**\n    to: here\n    \
         authenticate: none\n    allow: anyone\n    validate: {{ openapi: api.yaml, responses: enforce }}\n  \
         - match: shop.localhost/plain/**\n    to: here\n    authenticate: none\n    allow: anyone\n    compress: true\n  \
         - match: shop.localhost/small/**\n    to: here\n    authenticate: none\n    allow: anyone\n    response_max: 1KiB\n"
    ));
    testbed.start_gateway().await;
    let run = async |arguments: &[&str], target: &str| curl(&testbed, arguments, target).await;
    if run(&[], "/plain/a").await.is_none() {
        println!("skipped: no curl here");
        return;
    }
    for protocol in ["--http1.1", "--http2"] {
        for (answer, target, status) in [
            ("x-answer: none", "/orders/1", 200),
            ("x-answer: leak", "/orders/1", 502),
            ("x-answer: long", "/orders/1", 502),
            ("x-answer: none", "/small/a", 200),
            ("x-answer: long", "/small/a", 502),
            ("x-answer: long", "/plain/a", 200),
        ] {
            let asked = run(&[protocol, "-H", answer], target).await.unwrap();
            assert_eq!(asked.status, status, "{protocol} {answer} {target}: {}", asked.body);
            assert!(status != 502 || !asked.body.contains("secret"), "{}", asked.body);
        }
        for (coding, headers, packed) in [
            ("gzip", &["-H", "accept-encoding: gzip"][..], true),
            ("br", &["-H", "accept-encoding: gzip;q=0.5, br"], true),
            ("zstd", &["-H", "accept-encoding: zstd, gzip"], true),
            ("gzip", &["-H", "accept-encoding: gzip;q=0"], false),
            ("gzip", &["-H", "accept-encoding: identity"], false),
            ("gzip", &["-H", "accept-encoding: gzip", "-H", "sec-fetch-site: cross-site"], false),
        ] {
            let long = [&[protocol, "-H", "x-answer: long"], headers].concat();
            let asked = run(&long, "/plain/a").await.unwrap();
            let coded = asked.head.contains(&format!("content-encoding: {coding}"));
            assert_eq!(coded, packed, "{protocol} {headers:?}: {}", asked.head);
            assert!(asked.head.contains("vary: accept-encoding"), "{}", asked.head);
        }
        // curl undoes what it asked for.
        let asked = run(&[protocol, "--compressed", "-H", "x-answer: long"], "/plain/a").await.unwrap();
        assert_eq!((asked.body.len(), asked.body.ends_with("1,1]")), (80_003, true));
        for (answer, target) in [("x-answer: events", "/plain/a"), ("x-answer: none", "/plain/a")] {
            let asked = run(&[protocol, "-H", "accept-encoding: gzip", "-H", answer], target).await.unwrap();
            assert!(!asked.head.contains("content-encoding"), "{answer}: {}", asked.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_rewritten_redirected_and_answered() {
    let (address, seen) = upstream().await;
    let mut testbed = testbed(&format!(
        r#"services: {{ here: [ http://{address} ] }}
routes:
  - {{ match: "shop.localhost/t/{{tenant}}/**", to: here, authenticate: none, allow: anyone, rewrite: "/in/{{tenant}}/{{**}}", headers: {{ request: {{ set: {{ x-tenant: "t-{{tenant}}" }}, add: {{ x-via: edge }}, remove: [ x-gone ] }}, response: {{ set: {{ x-said: "{{tenant}}" }} }} }} }}
  - {{ match: shop.localhost/strip/**, to: here, authenticate: none, allow: anyone, strip_prefix: /strip, add_prefix: /v2 }}
  - {{ match: shop.localhost/enc/**, to: here, authenticate: none, allow: anyone, encoded_slashes: true, rewrite: "/e/{{**}}" }}
  - {{ match: shop.localhost/old/**, authenticate: none, allow: anyone, redirect: {{ to: "https://{{host}}/new/{{**}}", status: 307 }} }}
  - {{ match: shop.localhost/robots.txt, authenticate: none, allow: anyone, respond: {{ body: "go away" }} }}
  - {{ name: picked, match: {{ host: shop.localhost, path: /pick, query: {{ v: "2" }} }}, authenticate: none, allow: anyone, respond: {{ body: two }} }}
  - {{ match: shop.localhost/pick, authenticate: none, allow: anyone, respond: {{ body: other }} }}
  - {{ match: {{ host: shop.localhost, grpc: shop.v1.Orders }}, authenticate: none, allow: anyone, respond: {{ body: service }} }}
  - {{ match: {{ host: shop.localhost, grpc: shop.v1.Orders/Place }}, authenticate: none, allow: anyone, respond: {{ body: method }} }}
"#
    ));
    testbed.start_gateway().await;
    let run = async |arguments: &[&str], target: &str| curl(&testbed, arguments, target).await;
    if run(&[], "/robots.txt").await.is_none() {
        println!("skipped: no curl here");
        return;
    }
    for (target, arrived) in [
        ("/t/ann/a/b?q=1", "GET /in/ann/a/b?q=1"),
        ("/t/a%20b/", "GET /in/a%20b/"),
        ("/t/ann", "GET /in/ann"),
        ("/strip/a", "GET /v2/a"),
        ("/strip", "GET /v2/"),
        ("/enc/a%2Fb", "GET /e/a%2Fb"),
    ] {
        let asked = run(&["-H", "x-gone: 1", "-H", "x-via: client"], target).await.unwrap();
        assert_eq!(asked.status, 200, "{target}: {}", asked.body);
        assert_eq!(seen.lock().unwrap().last().unwrap().0, arrived, "{target}");
    }
    let asked = run(&["-H", "x-gone: 1", "-H", "x-via: client"], "/t/%C3%A9/a").await.unwrap();
    assert!(asked.head.contains("x-said: %c3%a9"), "{}", asked.head);
    let headers = seen.lock().unwrap().last().unwrap().1.clone();
    assert_eq!(headers.get("x-tenant").unwrap(), "t-%C3%A9");
    let via: Vec<&str> = headers.get_all("x-via").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!((via, headers.get("x-gone")), (vec!["client", "edge"], None));
    let before = seen.lock().unwrap().len();
    for (arguments, target, status, found) in [
        (&[][..], "/old/a/b?q=1", 307, "location: https://shop.localhost/new/a/b?q=1"),
        (&[], "/robots.txt", 200, "go away"),
        (&[], "/pick?v=2", 200, "two"),
        (&[], "/pick?v=%32", 200, "two"),
        (&[], "/pick?v=2&v=3", 200, "other"),
        (&[], "/pick", 200, "other"),
        (&["-X", "POST"], "/shop.v1.Orders/Place", 200, "method"),
        (&["-X", "POST"], "/shop.v1.Orders/Cancel", 200, "service"),
        (&[], "/shop.v1.Orders/Cancel", 405, "allow: post"),
        (&["-X", "POST"], "/shop.v1.Other/Cancel", 404, "not found"),
    ] {
        let asked = run(arguments, target).await.unwrap();
        let mut names: Vec<_> = asked.head.lines().filter_map(|line| line.split_once(": ")).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|two| two[0].0 != two[1].0), "{target}: {}", asked.head);
        assert!(names.iter().any(|(name, _)| *name == "x-request-id"), "{target}: {}", asked.head);
        assert_eq!(asked.status, status, "{target}: {}", asked.body);
        let whole = format!("{}\n{}", asked.head, asked.body.to_ascii_lowercase());
        assert!(whole.contains(found), "{target}: {whole}");
    }
    assert_eq!(seen.lock().unwrap().len(), before);
    assert_eq!(json!(0), json!(testbed.bastide(&["undocumented"]).0));
}

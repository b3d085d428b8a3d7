//! Detect mode waits for nothing: bodies go on as they come, and what is found in them is written
//! down.

use super::*;
use bounds::{answered_beside, ask_until, slow_rules, slow_text};

/// The line of the one request so far that asked for `path`.
async fn line_of(testbed: &TestBed, path: &str) -> Value {
    until("the firewall's line", async || lines(testbed).into_iter().find(|line| line["path"] == path)).await
}

#[tokio::test]
async fn an_answer_goes_on_as_it_comes_and_is_judged_beside_that() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "  mode: detect\n", "").await;
    let mut stream = TcpStream::connect(testbed.clear_address()).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\nx-type: text/html\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    read_until(&mut stream, &mut got, "data: first").await;
    upstream.release.add_permits(1);
    read_until(&mut stream, &mut got, "data: last leak").await;
    let found = line_of(&testbed, "/events").await;
    assert_eq!((ids(&found), &found["unfinished"]), (vec![40], &Value::Null));
}

#[tokio::test]
async fn both_sides_may_speak_in_turns_and_the_rules_see_both_to_the_end() {
    let upstream = Upstream::start().await;
    for (content_type, last, found) in [
        ("application/x-www-form-urlencoded", "tack", vec![20, 40]),
        ("application/x-www-form-urlencoded", "tempt", vec![40]),
        ("application/grpc", "tack", vec![40]),
    ] {
        let testbed = testbed(&upstream, "  mode: detect\n", "").await;
        let mut stream = TcpStream::connect(testbed.clear_address()).await.unwrap();
        let head = format!(
            "POST /turns HTTP/1.1\r\nhost: localhost\r\nx-type: text/html\r\ncontent-type: {content_type}\r\n\
             transfer-encoding: chunked\r\n\r\n4\r\nq=at\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        read_until(&mut stream, &mut got, "data: first").await;
        let end = format!("{}\r\n{last}\r\n0\r\n\r\n", last.len());
        stream.write_all(end.as_bytes()).await.unwrap();
        read_until(&mut stream, &mut got, "data: last leak").await;
        let line = line_of(&testbed, "/turns").await;
        assert_eq!((ids(&line), &line["unfinished"]), (found, &Value::Null), "{content_type} {last}");
    }
}

#[tokio::test]
async fn what_goes_by_is_looked_at_as_far_as_the_limits_and_goes_on_whole() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "  mode: detect\n", "").await;
    for (body, found) in [
        (format!("q=attack&r={}", "a".repeat(200_000)), vec![20]),
        (format!("r={}&q=attack", "a".repeat(200_000)), vec![]),
    ] {
        let answer = ask(&testbed, &form("/echo", &body)).await;
        assert!(answer.status == 200 && answer.body == body.as_bytes(), "{}", answer.body.len());
        let line = line(&testbed, &answer.request_id().unwrap().to_string()).await;
        assert_eq!((ids(&line), &line["unfinished"]), (found, &Value::Null));
    }
}

/// A test bed whose API document takes nothing but whole numbers as `n`.
async fn strict_town(upstream: &Upstream, rules: &str) -> TestBed {
    let own = "  - match: /own/**\n    to: here\n    authenticate: none\n    allow: anyone\n    validate: { openapi: api.yaml }\n";
    let mut testbed = TestBed::prepare(&configuration(upstream, "  mode: detect\n", own));
    std::fs::write(testbed.path("rules.conf"), rules).unwrap();
    let document = "openapi: 3.1.0\ninfo: { title: t, version: '1' }\npaths:\n  /own/x:\n    post:\n      \
        requestBody:\n        required: true\n        content:\n          application/x-www-form-urlencoded:\n            \
        schema: { type: object, additionalProperties: false, properties: { n: { type: integer } } }\n      \
        responses: { default: { description: any } }\n";
    std::fs::write(testbed.path("api.yaml"), document).unwrap();
    testbed.start_gateway().await;
    testbed
}

/// Who is refused has the answer while the rules are not through; whoever comes next on the same
/// connection waits for them.
#[tokio::test]
async fn what_an_api_document_refuses_does_not_wait_for_the_rules() {
    let upstream = Upstream::start().await;
    let testbed = strict_town(&upstream, &slow_rules(400, "ARGS", 2)).await;
    let body = format!("n={}", slow_text(20_000));
    let both = format!(
        "POST /own/x HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{body}GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        body.len()
    );
    answered_beside("the rules of a request that was answered", 4, async || {
        let mut connection = Connection::open(&testbed.clear_endpoint()).await.unwrap();
        connection.send(both.as_bytes()).await.unwrap();
        assert_eq!(connection.answer(false).await.unwrap().status, 400);
        let next = tokio::spawn(async move { connection.answer(false).await.unwrap().status });
        let mut quick = Connection::open(&testbed.clear_endpoint()).await.unwrap();
        let meanwhile = ask_until(&mut quick, || next.is_finished()).await;
        assert_eq!(next.await.unwrap(), 200);
        meanwhile
    })
    .await;
}

#[tokio::test]
async fn what_an_api_document_refuses_is_inspected_all_the_same() {
    let upstream = Upstream::start().await;
    let testbed = strict_town(&upstream, RULES).await;
    for (body, status, found) in [("n=attack", 400, vec![20]), ("n=x", 400, vec![]), ("n=1", 200, vec![])] {
        let answer = ask(&testbed, &form("/own/x", body)).await;
        assert_eq!(answer.status, status, "{body}: {}", String::from_utf8_lossy(&answer.body));
        let id = match status {
            200 => answer.request_id().unwrap().to_string(),
            _ => answer.json()["id"].as_str().unwrap().to_owned(),
        };
        let line = line(&testbed, &id).await;
        assert_eq!((ids(&line), &line["unfinished"]), (found, &Value::Null), "{body}");
    }
}

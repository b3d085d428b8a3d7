//! What ordinary clients send, past the Core Rule Set, and what an attack makes of it.

use super::*;
use crate::waf::core_rule_set;

/// A gateway with the real rules. Where they are not here, there is none.
async fn behind_the_core_rule_set(upstream: &Upstream, waf: &str) -> Option<TestBed> {
    let crs = core_rule_set()?;
    let text = configuration(upstream, waf, "").replace("rules: rules.conf", &format!("rules: {crs}"));
    Some(started(&text, "").await)
}

fn request(method: &'static str, content_type: &str, body: &[u8]) -> Request {
    let mut request = Request::new(method, "localhost", "/echo")
        .field("user-agent", "a client")
        .field("accept", "*/*")
        .field("content-type", content_type);
    request.body = body.to_vec();
    request
}

const TYPE: &str = "multipart/form-data; boundary=frontier";
const FIELD: &str = "Content-Disposition: form-data; name=\"a\"";
const FILE: &str = "Content-Disposition: form-data; name=\"f\"; filename=\"a.zip\"\r\nContent-Type: application/octet-stream";

fn multipart(head: &str, content: &[u8]) -> Vec<u8> {
    [format!("--frontier\r\n{head}\r\n\r\n").as_bytes(), content, b"\r\n--frontier--\r\n"].concat()
}

/// Bytes of which nobody knows where two dashes begin a line, and some lines that do.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(bytes)
    .collect();
    noise.splice(bytes / 2..bytes / 2 + 5, *b"\n--\x01\x02");
    noise
}

#[tokio::test]
async fn ordinary_bodies_pass_and_those_that_can_be_read_in_two_ways_do_not() {
    let upstream = Upstream::start().await;
    let Some(testbed) = behind_the_core_rule_set(&upstream, "").await else { return };
    let small = multipart(FIELD, b"one");
    let with = |before: &str, after: &str| [before.as_bytes(), &small, after.as_bytes()].concat();
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let quoted = "multipart/form-data; boundary=\"frontier\"";
    let attack = "1' OR '1'='1' -- ";
    let file = |names: &str| format!("Content-Disposition: form-data; name=\"f\"; {names}");
    for (content_type, body) in [
        (TYPE, multipart(FILE, &noise(3 << 20))),
        (TYPE, multipart(FILE, pem.as_bytes())),
        (TYPE, multipart(FILE, b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-- a\n")),
        (TYPE, multipart(FIELD, b"Yours\r\n-- \r\nBob")),
        (TYPE, with("", "\r\n")),
        (TYPE, with("\r\n", "")),
        (quoted, small.clone()),
        ("multipart/form-data; boundary=frontier; charset=utf-8", small.clone()),
        (TYPE, multipart(&file("filename=a.txt; filename*=utf-8''a.txt"), b"one")),
        (TYPE, multipart(&file("filename*=utf-8''a.txt"), b"one")),
        ("application/json", b"\xef\xbb\xbf{\"a\":\"one\"}".to_vec()),
    ] {
        let answer = ask(&testbed, &request("POST", content_type, &body)).await;
        assert_eq!(
            answer.status,
            200,
            "{content_type} {:?}",
            String::from_utf8_lossy(&body[..body.len().min(300)])
        );
        assert!(answer.body == body, "it goes on as it came");
    }
    let inner = format!("{pem}--fronti\r\n{FIELD}\r\n\r\n{attack}");
    for (content_type, body, rule, told) in [
        (
            TYPE,
            multipart(FILE, format!("{pem}x--frontier").as_bytes()),
            8_000_005,
            "MULTIPART_UNMATCHED_BOUNDARY",
        ),
        (TYPE, multipart(FILE, inner.as_bytes()), 8_000_005, "MULTIPART_UNMATCHED_BOUNDARY"),
        (
            TYPE,
            multipart(FILE, inner.replace("--fronti", "--FRONTIER").as_bytes()),
            8_000_005,
            "MULTIPART_UNMATCHED_BOUNDARY",
        ),
        (TYPE, multipart(FIELD, attack.as_bytes()), 949_110, "ARGS:a"),
        (TYPE, with("", &format!("\r\n{attack}")), 8_000_004, "MULTIPART_DATA_AFTER"),
        (TYPE, with("", &String::from_utf8_lossy(&small)), 8_000_004, "MULTIPART_DATA_AFTER"),
        (TYPE, with("\r\nx\r\n", ""), 8_000_004, "MULTIPART_DATA_BEFORE"),
        (TYPE, with("\n", ""), 8_000_004, "MULTIPART_DATA_BEFORE"),
        (quoted, multipart(FIELD, b"--\"frontier\""), 8_000_003, "REQBODY_ERROR"),
        (quoted, with("x\r\n", ""), 8_000_004, "MULTIPART_DATA_BEFORE"),
        ("multipart/form-data; boundary=frontier; charset=utf-7", small.clone(), 8_000_003, "REQBODY_ERROR"),
        ("multipart/form-data; boundary=frontier; boundary=b", small.clone(), 8_000_003, "REQBODY_ERROR"),
        (TYPE, multipart(&file("filename*=utf-8''a.txt"), attack.as_bytes()), 949_110, "ARGS:f"),
        (TYPE, multipart(&file("filename=a.txt; filename*=utf-8''a.php"), b"one"), 949_110, "FILES:f"),
        (
            TYPE,
            multipart("Content-Disposition: form-data; name*=utf-8''a", b"one"),
            8_000_003,
            "REQBODY_ERROR",
        ),
        ("application/json", format!("\u{feff}{{\"a\":\"{attack}\"}}").into_bytes(), 949_110, "ARGS:json.a"),
        ("application/json", "\u{feff}\u{feff}{}".as_bytes().to_vec(), 8_000_003, "REQBODY_ERROR"),
    ] {
        let answer = ask(&testbed, &request("POST", content_type, &body)).await;
        let found = line(&testbed, &answer.request_id().unwrap().to_string()).await;
        let what = format!("{content_type} {:?}: {found:#}", String::from_utf8_lossy(&body));
        assert!(matches!(answer.status, 400 | 403), "{what}");
        assert!(ids(&found).contains(&rule), "{rule}: {what}");
        assert!(found["rules"].to_string().contains(told), "{told}: {what}");
    }
}

#[tokio::test]
async fn methods_and_media_types_are_allowed_where_that_is_written() {
    let upstream = Upstream::start().await;
    let Some(plain) = behind_the_core_rule_set(&upstream, "").await else { return };
    let allowed = "  methods: [ GET, POST, PATCH ]\n  content_types: [ application/grpc, application/grpc+proto, application/json-patch+json ]\n";
    let allowing = behind_the_core_rule_set(&upstream, allowed).await.unwrap();
    // One message: its flag, its length, and a field of Protocol Buffers.
    let message =
        |text: &str| [&[0, 0, 0, 0, text.len() as u8 + 2, 10, text.len() as u8], text.as_bytes()].concat();
    let call = |text: &str| request("POST", "application/grpc", &message(text)).field("te", "trailers");
    let patch = |path: &str| {
        let body = format!("[{{\"op\":\"replace\",\"path\":\"/a\",\"value\":\"{path}\"}}]");
        request("PATCH", "application/json-patch+json", body.as_bytes())
    };
    for (what, honest, attack, rule) in [
        ("gRPC", call("hello"), call("java.lang.Runtime.getRuntime().exec"), 920_420),
        (
            "a type besides",
            request("POST", "application/grpc+proto", &message("hello")),
            request("POST", "application/grpc-web", &message("hello")),
            920_420,
        ),
        ("PATCH", patch("b"), patch("1' OR '1'='1' -- "), 911_100),
        (
            "PUT",
            request("PATCH", "application/grpc", b"a"),
            request("PUT", "application/grpc", b"a"),
            911_100,
        ),
    ] {
        let refused = ask(&plain, &honest).await;
        let found = line(&plain, &refused.request_id().unwrap().to_string()).await;
        assert!(refused.status == 403 && ids(&found).contains(&rule), "{what}: {found:#}");
        let served = ask(&allowing, &honest).await;
        let found = line(&allowing, &served.request_id().unwrap().to_string()).await;
        assert_eq!(served.status, 200, "{what}: {found:#}");
        let answer = ask(&allowing, &attack).await;
        let found = line(&allowing, &answer.request_id().unwrap().to_string()).await;
        assert_eq!(answer.status, 403, "{what}: {found:#}");
    }
}

//! Compressed bodies: the rules read what they unpack to, and nothing passes unread.

use std::io::Write;
use std::time::Duration;

use super::*;

const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

fn packed(coding: &str, plain: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::best();
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            encoder.write_all(plain).unwrap();
            encoder.into_inner()
        }
        "zstd" => zstd::encode_all(plain, 3).unwrap(),
        _ => plain.to_vec(),
    }
}

/// A page around a text, longer than one slice of unpacking.
fn page(text: &str) -> Vec<u8> {
    let lines: String = (0..12_000).map(|number| format!("<p>line {number} of the page</p>\n")).collect();
    format!("{lines}{text}").into_bytes()
}

/// Asks the upstream to answer with these bytes under this coding and type.
fn reflected(coding: &str, content_type: &str, body: Vec<u8>) -> Request {
    let mut request = Request::new("POST", "localhost", "/reflect")
        .field("content-type", "application/octet-stream")
        .field("x-coding", coding)
        .field("x-type", content_type);
    request.body = body;
    request
}

const WIDE: &str = "  request_body: { limit: 1MiB, no_files_limit: 1MiB }\n";
const LIMITS: &str =
    "  request_body: { limit: 1MiB, no_files_limit: 1MiB }\n  response_body: { limit: 64MiB }\n";

#[tokio::test]
async fn a_compressed_answer_is_read_and_goes_on_as_it_came() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, WIDE, "").await;
    for coding in CODINGS {
        let honest = packed(coding, &page("the end"));
        let answer = ask(&testbed, &reflected(coding, "text/html", honest.clone())).await;
        assert_eq!((answer.status, answer.field("content-encoding")), (200, Some(coding)), "{coding}");
        assert!(answer.body == honest, "{coding}: the client got other bytes than the upstream sent");
        let leaking = packed(coding, &page("a leak"));
        let refused = ask(&testbed, &reflected(coding, "text/html", leaking.clone())).await;
        assert_eq!(refused.status, 403, "{coding}");
        assert_eq!(ids(&line(&testbed, refused.json()["id"].as_str().unwrap()).await), [40], "{coding}");
        let length = leaking.len().to_string();
        let request = reflected(coding, "text/html", leaking).field("content-length", &length);
        let over_http2 = bastide::demo::client::http2::ask(&testbed.endpoint(), &request).await.unwrap();
        assert_eq!(over_http2.status, 403, "{coding}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_unpacked_is_refused_where_a_rule_wants_it() {
    let upstream = Upstream::start().await;
    let blocking = testbed(&upstream, LIMITS, "").await;
    let passing = testbed(&upstream, &LIMITS.replace("64MiB", "64MiB, unreadable: pass"), "").await;
    let detecting = testbed(&upstream, &format!("  mode: detect\n{LIMITS}"), "").await;
    let whole = packed("gzip", b"an honest page");
    for (coding, body, why) in [
        ("compress", whole.clone(), "unknown"),
        ("gzip, gzip", packed("gzip", &whole), "several"),
        ("gzip", b"no such stream".to_vec(), "broken"),
        ("gzip", whole[..whole.len() - 2].to_vec(), "too early"),
        ("br", [packed("br", b"page"), b"more".to_vec()].concat(), "too late"),
        ("gzip", packed("gzip", &vec![b' '; 16 << 20]), "more than 200 bytes"),
    ] {
        let request = reflected(coding, "text/html", body.clone());
        let refused = ask(&blocking, &request).await;
        assert_eq!(refused.status, 502, "{coding} {why}");
        let found = line(&blocking, refused.json()["id"].as_str().unwrap()).await;
        assert_eq!(
            (found["verdict"].as_str(), found["unread"]["body"].as_str()),
            (Some("blocked"), Some("response"))
        );
        let said = found["unread"]["why"].as_str().unwrap();
        assert!(said.contains(why), "{coding}: {said:?} does not say {why:?}");
        for (testbed, name) in [(&passing, "passing"), (&detecting, "detecting")] {
            let answer = ask(testbed, &request).await;
            assert_eq!(answer.status, 200, "{name} {coding} {why}");
            assert!(answer.body == body, "{name} {coding} {why}");
            let found = line(testbed, &answer.request_id().unwrap().to_string()).await;
            assert_eq!(found["verdict"], "detected", "{name} {coding} {why}");
            assert!(found["unread"]["why"].as_str().unwrap().contains(why), "{name} {coding} {why}");
        }
    }
}

#[tokio::test]
async fn an_upstream_is_asked_for_plain_answers_by_who_may_refuse_them() {
    let upstream = Upstream::start().await;
    let gzip = "accept-encoding: gzip";
    for (waf, asked) in
        [("", false), ("  mode: detect\n", true), ("  response_body: { access: false }\n", true)]
    {
        let testbed = testbed(&upstream, waf, "").await;
        let answer = ask(&testbed, &get_request("/asked").field("accept-encoding", "gzip")).await;
        let seen = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(seen.contains(gzip), asked, "{waf:?}: {seen}");
    }
}

#[tokio::test]
async fn an_answer_that_no_rule_wants_is_not_unpacked() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, WIDE, "").await;
    for (coding, content_type, body) in [
        ("compress", "image/png", packed("gzip", b"a leak")),
        ("gzip", "image/png", b"no such stream".to_vec()),
        ("gzip", "text/event-stream", packed("gzip", b"data: a leak\n\n")),
        ("gzip", "application/grpc", packed("gzip", b"a leak")),
        ("gzip", "text/html", Vec::new()),
    ] {
        let answer = ask(&testbed, &reflected(coding, content_type, body.clone())).await;
        assert_eq!((answer.status, answer.body), (200, body), "{coding} {content_type}");
    }
}

#[tokio::test]
async fn the_limit_of_an_answer_counts_what_it_unpacks_to() {
    let upstream = Upstream::start().await;
    let limited = |over: &str| format!("{WIDE}  response_body: {{ limit: 64KiB, over: {over} }}\n");
    let (rejecting, partial) =
        (testbed(&upstream, &limited("reject"), "").await, testbed(&upstream, &limited("partial"), "").await);
    for coding in CODINGS {
        let fits = packed(coding, &page("")[..65_536]);
        assert!(fits.len() < 30_000);
        assert_eq!(ask(&rejecting, &reflected(coding, "text/html", fits)).await.status, 200, "{coding}");
        let over = packed(coding, &page("a leak behind the limit"));
        assert_eq!(
            ask(&rejecting, &reflected(coding, "text/html", over.clone())).await.status,
            500,
            "{coding}"
        );
        let passed = ask(&partial, &reflected(coding, "text/html", over.clone())).await;
        assert_eq!(passed.status, 200, "{coding}");
        assert!(passed.body == over, "{coding}: nothing of it is lost");
        let within = packed(coding, &[b"a leak".to_vec(), page("")].concat());
        assert_eq!(ask(&partial, &reflected(coding, "text/html", within)).await.status, 403, "{coding}");
    }
}

/// The beginning of an endless stream with the longest window that its coding has, and how
/// many bytes that is.
fn endless(coding: &str) -> (Vec<u8>, u64) {
    let plain = page("");
    match coding {
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 24);
            encoder.write_all(&plain).unwrap();
            encoder.flush().unwrap();
            (encoder.get_ref().clone(), 16 << 20)
        }
        _ => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            encoder.set_parameter(zstd::stream::raw::CParameter::WindowLog(23)).unwrap();
            encoder.write_all(&plain).unwrap();
            encoder.flush().unwrap();
            (encoder.get_ref().clone(), 8 << 20)
        }
    }
}

#[tokio::test]
async fn a_stalled_stream_holds_what_it_gave_and_not_its_window() {
    const STREAMS: u64 = 40;
    const UNPACKED_KIB: u64 = 512;
    let upstream = Upstream::start().await;
    let wide = format!("{WIDE}  response_body: {{ limit: 1MiB }}\n");
    for coding in ["br", "zstd"] {
        let mut testbed = testbed(&upstream, &wide, "").await;
        let (body, window) = endless(coding);
        assert!(page("").len() as u64 <= UNPACKED_KIB << 10);
        let mut request = reflected(coding, "text/html", body);
        request.target = "/stall".to_owned();
        let before = upstream.seen();
        let mut stalled = Vec::new();
        let mut first = 0;
        for number in 1..=STREAMS {
            let (endpoint, request) = (testbed.clear_endpoint(), request.clone());
            stalled.push(tokio::spawn(async move { http1::ask(&endpoint, &request).await }));
            until("the upstream", async || (upstream.seen() == before + number).then_some(())).await;
            if number == 1 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                first = peak_kib(&mut testbed);
            }
        }
        // What has come is unpacked in the meantime.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let each = (peak_kib(&mut testbed) - first) / (STREAMS - 1);
        assert!(
            stalled.iter().all(|task| !task.is_finished()),
            "{coding}: an answer without an end was let go"
        );
        assert!(
            each < UNPACKED_KIB * 3,
            "{coding}: {each} KiB for each stream, with a window of {}",
            window >> 10
        );
        upstream.release.add_permits(usize::try_from(STREAMS).unwrap());
    }
}

/// A form, packed.
fn packed_form(coding: &str, form: &[u8]) -> Request {
    let mut request = Request::new("POST", "localhost", "/echo")
        .field("content-type", "application/x-www-form-urlencoded")
        .field("content-encoding", coding);
    request.body = form.to_vec();
    request
}

#[tokio::test]
async fn a_compressed_request_is_refused_unless_the_route_says_otherwise() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, "", "").await;
    for coding in CODINGS.into_iter().chain(["compress"]) {
        let refused = ask(&testbed, &packed_form(coding, &packed(coding, b"q=attack"))).await;
        assert_eq!(refused.status, 415, "{coding}");
        let accepted = if coding == "compress" { "gzip, deflate, br, zstd" } else { "identity" };
        assert_eq!(refused.field("accept-encoding"), Some(accepted), "{coding}");
        let found = line(&testbed, refused.json()["id"].as_str().unwrap()).await;
        assert_eq!(
            (found["verdict"].as_str(), found["unread"]["body"].as_str()),
            (Some("blocked"), Some("request"))
        );
    }
    assert_eq!(upstream.seen(), 0, "a body that the rules cannot read reached the upstream");
    assert_eq!(ask(&testbed, &packed_form("identity", b"q=hello")).await.status, 200);
    assert_eq!(ask(&testbed, &packed_form("identity", b"q=attack")).await.status, 403);
    assert_eq!(
        ask(&testbed, &get_request("/").field("content-encoding", "gzip")).await.status,
        200,
        "no body"
    );
    let id = {
        let refused = ask(&testbed, &packed_form("gzip", &packed("gzip", b"q=hello"))).await;
        refused.json()["id"].as_str().unwrap().to_owned()
    };
    let said = until("the event", async || {
        let (_, said, _) = testbed.bastide(&["explain", &id]);
        (!said.is_empty()).then_some(said)
    })
    .await;
    assert!(said.contains("the request's body was not read: it is compressed (gzip)"), "{said}");
}

#[tokio::test]
async fn a_route_whose_upstream_unpacks_has_its_requests_unpacked_for_the_rules() {
    let upstream = Upstream::start().await;
    let unpacking =
        testbed(&upstream, "  request_body: { compressed: unpack, limit: 4MiB, no_files_limit: 4MiB }\n", "")
            .await;
    for coding in CODINGS {
        let honest = packed(coding, format!("q={}", "hello+".repeat(60_000)).as_bytes());
        let answer = ask(&unpacking, &packed_form(coding, &honest)).await;
        assert_eq!(answer.status, 200, "{coding}");
        assert!(answer.body == honest, "{coding}: the upstream got other bytes than the client sent");
        let attack = packed(coding, format!("a={}&q=attack", "hello+".repeat(60_000)).as_bytes());
        let refused = ask(&unpacking, &packed_form(coding, &attack)).await;
        assert_eq!(refused.status, 403, "{coding}");
        assert_eq!(ids(&line(&unpacking, refused.json()["id"].as_str().unwrap()).await), [20], "{coding}");
    }
    let before = upstream.seen();
    let bomb = packed("gzip", &vec![b'a'; 4 << 20]);
    for (coding, body, status) in [
        ("compress", b"q=hello".to_vec(), 415),
        ("gzip, gzip", packed("gzip", &packed("gzip", b"q=hello")), 415),
        ("gzip", b"q=attack".to_vec(), 400),
        ("gzip", [packed("gzip", b"q=hello"), b"&q=attack".to_vec()].concat(), 400),
        ("gzip", bomb, 413),
    ] {
        assert_eq!(ask(&unpacking, &packed_form(coding, &body)).await.status, status, "{coding}");
    }
    assert_eq!(upstream.seen(), before, "a body that the rules cannot read reached the upstream");
}

#[tokio::test]
async fn compressed_requests_pass_unseen_only_where_that_is_said_and_are_told() {
    let upstream = Upstream::start().await;
    let passing = testbed(&upstream, "  request_body: { compressed: pass }\n", "").await;
    let detecting = testbed(&upstream, "  mode: detect\n", "").await;
    for testbed in [&passing, &detecting] {
        let body = packed("gzip", b"q=attack");
        let answer = ask(testbed, &packed_form("gzip", &body)).await;
        assert_eq!((answer.status, &answer.body), (200, &body));
        let found = line(testbed, &answer.request_id().unwrap().to_string()).await;
        assert_eq!(
            (found["verdict"].as_str(), found["unread"]["body"].as_str()),
            (Some("detected"), Some("request"))
        );
        let honest = ask(testbed, &form("/echo", "q=hello")).await;
        let found = line(testbed, &honest.request_id().unwrap().to_string()).await;
        assert!(found["unread"].is_null() && found["verdict"] == "passed", "{found}");
    }
}

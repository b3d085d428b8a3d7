//! What the firewall may cost, and what happens when it cannot do its work.

use std::fmt::Write as _;
use std::time::Duration;

use super::*;
use crate::small_disk::{self, can_mount};

/// Rules of which none matches and each reads all of what it looks at: no literal is needed,
/// and a counted gap makes more states than are kept.
pub(super) fn slow_rules(count: usize, target: &str, phase: u8) -> String {
    let mut rules =
        "SecRequestBodyAccess On\nSecRequestBodyLimit 1048576\nSecRequestBodyNoFilesLimit 1048576\n"
            .to_owned();
    for number in 0..count {
        let (id, gap) = (1000 + number, 20 + number % 40);
        writeln!(
            rules,
            "SecRule {target} \"@rx (?:[a-f].{{{gap}}}[g-k]){{2}}[l-z][^a-z0-9 ]\" \"id:{id},phase:{phase},deny,t:none,t:lowercase\""
        )
        .unwrap();
    }
    rules
}

/// The same for the bodies of answers.
fn slow_answer_rules(count: usize) -> String {
    let rules = slow_rules(count, "RESPONSE_BODY", 4).replace("id:1", "id:2");
    format!("{rules}SecResponseBodyAccess On\nSecResponseBodyMimeType text/html\n")
}

/// Text that none of them matches.
pub(super) fn slow_text(bytes: usize) -> String {
    "abc7 ghijk fed -m ".chars().cycle().take(bytes).collect()
}

/// So many requests of the same core are answered while `long` is, and one behind it on its
/// connection, which is only answered when everything about the first is over.
async fn lets_others_go_on(what: &str, testbed: &TestBed, long: &Request, least: usize) {
    answered_beside(what, least, async || answered_meanwhile(testbed, long.clone()).await).await;
}

/// So many requests are answered beside something long: `attempt` says how many were, and how long the
/// slowest took. One that took longer than this shows that client or core were held up, and proves
/// nothing: it is tried again. If the core does not rest, that changes nothing.
pub(super) async fn answered_beside(
    what: &str,
    least: usize,
    mut attempt: impl AsyncFnMut() -> (usize, Duration),
) {
    const HELD_UP: Duration = Duration::from_millis(5);
    let begun = Instant::now();
    loop {
        let (meanwhile, slowest) = attempt().await;
        println!("{meanwhile} requests were answered beside {what}, the slowest within {slowest:?}");
        if meanwhile >= least {
            return;
        }
        assert!(slowest > HELD_UP, "{meanwhile} requests were answered beside {what}, none slowly");
        assert!(begun.elapsed() < PATIENCE, "fewer than {least} again and again beside {what}");
    }
}

/// Asks until `is_over`: how often, and how long the slowest answer took.
pub(super) async fn ask_until(quick: &mut Connection, is_over: impl Fn() -> bool) -> (usize, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !is_over() {
        let asked = Instant::now();
        assert_eq!(quick.ask(&get_request("/")).await.unwrap().status, 200);
        (count, slowest) = (count + 1, slowest.max(asked.elapsed()));
    }
    (count, slowest)
}

async fn answered_meanwhile(testbed: &TestBed, long: Request) -> (usize, Duration) {
    let endpoint = testbed.clear_endpoint();
    let mut quick = Connection::open(&endpoint).await.unwrap();
    assert_eq!(quick.ask(&get_request("/")).await.unwrap().status, 200);
    let task = tokio::spawn(async move {
        let mut connection = Connection::open(&endpoint).await.unwrap();
        let answer = connection.ask(&long).await.unwrap();
        assert_eq!(connection.ask(&get_request("/")).await.unwrap().status, 200);
        answer
    });
    // Its body has to arrive before anything is inspected.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let meanwhile = ask_until(&mut quick, || task.is_finished()).await;
    assert_eq!(task.await.unwrap().status, 200);
    meanwhile
}

#[tokio::test]
async fn a_long_inspection_lets_others_of_its_core_go_on() {
    let upstream = Upstream::start().await;
    // Too short to be handed to another thread: the core itself rests between two slices.
    let rules = slow_rules(400, "ARGS", 2);
    let testbed = testbed_with(&upstream, &rules, "", "").await;
    // Without a rest: one, which was there before.
    let long = form("/echo", &format!("q={}", slow_text(20_000)));
    lets_others_go_on("a long body", &testbed, &long, 4).await;
}

#[tokio::test]
async fn rules_behind_the_answer_let_others_of_its_core_go_on_too() {
    let upstream = Upstream::start().await;
    for phase in [3, 4, 5] {
        let testbed = testbed_with(&upstream, &slow_rules(400, "ARGS", phase), "", "").await;
        let long = form("/echo", &format!("q={}", slow_text(20_000)));
        lets_others_go_on(&format!("a request in phase {phase}"), &testbed, &long, 4).await;
    }
}

#[tokio::test]
async fn a_switch_of_protocols_waits_for_its_verdict_and_then_flows() {
    let upstream = Upstream::start().await;
    for phase in [3, 4] {
        let rules = slow_rules(400, "ARGS", phase);
        let testbed = testbed_with(&upstream, &rules, "", "    upgrades: [ websocket ]\n").await;
        let target = format!("/switch?q={}", slow_text(5_000).replace(' ', "+"));
        let head = format!(
            "GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
        let mut stream = TcpStream::connect(testbed.clear_address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0, "{}", String::from_utf8_lossy(&got));
        }
        assert!(got.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&got));
        stream.write_all(b"word").await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"word");
    }
}

#[tokio::test]
async fn past_a_firewall_a_switch_of_protocols_has_to_be_written() {
    let upstream = Upstream::start().await;
    for (more, status) in [
        ("", 403),
        ("    upgrades: [ websocket ]\n", 101),
        ("    waf: off\n", 101),
        ("    waf: { mode: detect }\n", 101),
    ] {
        let testbed = testbed_with(&upstream, "SecAction \"id:1,phase:1,pass,nolog\"\n", "", more).await;
        let mut stream = TcpStream::connect(testbed.clear_address()).await.unwrap();
        let head =
            b"GET /switch HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut got = Vec::new();
        while !got.windows(4).any(|four| four == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0, "{}", String::from_utf8_lossy(&got));
        }
        let got = String::from_utf8_lossy(&got).into_owned();
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{more:?}: {got}");
    }
}

#[tokio::test]
async fn one_rule_over_one_long_value_lets_others_of_its_core_go_on() {
    const BYTES: usize = 900_000;
    // They take long enough that a fast machine is not done before anybody asks.
    const RULES: usize = 24;
    let upstream = Upstream::start().await;
    // Each rule looks at all of the value before the engine can rest: on the core one request
    // would be answered for each of them.
    let rules = slow_rules(RULES, "ARGS", 2) + &slow_answer_rules(RULES);
    let testbed =
        testbed_with(&upstream, &rules, "  response_body: { limit: 1MiB }\n", "    body_max: 16MiB\n").await;
    let form = form("/echo", &format!("q={}", slow_text(BYTES)));
    let mut page = Request::new("POST", "localhost", "/reflect")
        .field("content-type", "application/octet-stream")
        .field("x-type", "text/html");
    page.body = slow_text(BYTES).into_bytes();
    for (what, long) in [("a request", form), ("an answer", page)] {
        lets_others_go_on(what, &testbed, &long, 3 * RULES).await;
    }
}

#[tokio::test]
async fn a_flood_without_credentials_is_shown_to_the_rules_only_within_its_budget() {
    const ASKED: usize = 60;
    let upstream = Upstream::start().await;
    let testbed =
        &mut started(&testbed_with_keys(&upstream), &slow_rules(400, "REQUEST_HEADERS:X-Long", 1)).await;
    let request = get_request("/private/x").field("x-long", &slow_text(12_000));
    let mut connection = Connection::open(&testbed.clear_endpoint()).await.unwrap();
    let begun = tokio::time::Instant::now();
    for _ in 0..ASKED {
        assert_eq!(connection.ask(&request).await.unwrap().status, 401);
    }
    // Each is dearer than a second's budget: one is shown in each second that was begun.
    let most = usize::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    testbed.stop_gateway().await;
    let shown = lines(testbed);
    assert!(shown.iter().all(|line| line["unfinished"] == true), "{shown:?}");
    let shown = shown.len();
    assert!((1..=most).contains(&shown), "{shown} of {ASKED} were shown to the rules, at most {most} may be");
}

#[tokio::test]
async fn an_engine_that_cannot_say_blocks_in_block_mode() {
    let upstream = Upstream::start().await;
    // More variables than a transaction may have.
    let rules = "SecArgumentsLimit 5000\nSecRule ARGS \"@unconditionalMatch\" \"id:1,phase:1,pass,nolog,setvar:tx.%{MATCHED_VAR_NAME}=1\"\n";
    let many = |count: usize| {
        let query: Vec<String> = (0..count).map(|number| format!("a{number}=1")).collect();
        get_request(&format!("/?{}", query.join("&")))
    };
    let blocking = testbed_with(&upstream, rules, "", "").await;
    assert_eq!(ask(&blocking, &many(900)).await.status, 200);
    let refused = ask(&blocking, &many(1100)).await;
    assert_eq!((refused.status, upstream.seen()), (500, 1));
    assert_eq!(line(&blocking, refused.json()["id"].as_str().unwrap()).await["verdict"], "blocked");
    let detecting = testbed_with(&upstream, rules, "  mode: detect\n", "").await;
    assert_eq!(ask(&detecting, &many(1100)).await.status, 200);
}

/// A gateway whose firewall's log lies on a disk of 64 KiB.
async fn testbed_on_a_small_disk(upstream: &Upstream, waf: &str, rules: &str) -> TestBed {
    let mut testbed =
        TestBed::prepare(&format!("{}audit: {{ firewall: small }}\n", configuration(upstream, waf, "")));
    std::fs::write(testbed.path("rules.conf"), rules).unwrap();
    small_disk::start(&mut testbed, "small", "64k", None).await;
    testbed
}

/// Requests after which a log on a small disk is full, and its queue, however long they take.
const FILLED_BY: usize = 50_000;

/// Asks until one is refused: its answer, and how many had reached the upstream before it.
async fn refused(connection: &mut Connection, upstream: &Upstream) -> (Answer, u64) {
    for _ in 0..FILLED_BY {
        let before = upstream.seen();
        let answer = connection.ask(&get_request("/")).await.unwrap();
        if answer.status != 200 {
            return (answer, before);
        }
    }
    panic!("the log is not full after {FILLED_BY} requests");
}

#[tokio::test]
async fn a_log_that_cannot_keep_its_line_refuses_in_block_mode_only() {
    if !can_mount() {
        println!("skipped: no user namespaces here, so no small disk");
        return;
    }
    let upstream = Upstream::start().await;
    let blocking = testbed_on_a_small_disk(&upstream, "", RULES).await;
    let mut connection = Connection::open(&blocking.clear_endpoint()).await.unwrap();
    let (answer, before) = refused(&mut connection, &upstream).await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(upstream.seen(), before, "an inspected request without a line reached the upstream");
    let detecting = testbed_on_a_small_disk(&upstream, "  mode: detect\n", RULES).await;
    let mut connection = Connection::open(&detecting.clear_endpoint()).await.unwrap();
    let mut asked = 0;
    while !String::from_utf8_lossy(&detecting.admin("/healthz").await.body).contains("firewall") {
        for _ in 0..200 {
            assert_eq!(connection.ask(&get_request("/")).await.unwrap().status, 200);
        }
        asked += 200;
        assert!(asked < FILLED_BY, "the log is not full after {asked} requests");
    }
    for _ in 0..2000 {
        assert_eq!(connection.ask(&get_request("/")).await.unwrap().status, 200);
    }
}

/// A record of 128 matches with data of control characters had 0.4 MiB, and 4,096 of them waited.
#[tokio::test]
async fn a_flood_of_long_lines_costs_no_more_memory_than_the_queue_may() {
    const QUEUE_BYTES: usize = 16 << 20;
    const LINE_BYTES: usize = 72 << 10;
    if !can_mount() {
        println!("skipped: no user namespaces here, so no small disk");
        return;
    }
    let upstream = Upstream::start().await;
    let rule = |id| {
        format!(
            "SecRule ARGS:q \"@unconditionalMatch\" \"id:{id},phase:1,pass,log,logdata:'%{{MATCHED_VAR}}'\"\n"
        )
    };
    let rules: String = (1..=128).map(rule).collect();
    let blocking = testbed_on_a_small_disk(&upstream, "", &rules).await;
    let long = get_request(&format!("/?q={}", "%01".repeat(512)));
    let mut connection = Connection::open(&blocking.clear_endpoint()).await.unwrap();
    let mut answered = 0;
    let refused = loop {
        let answer = connection.ask(&long).await.unwrap();
        if answer.status != 200 {
            break answer;
        }
        answered += 1;
        assert!(answered * (LINE_BYTES / 2) < 2 * QUEUE_BYTES, "{answered} long lines wait");
    };
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    // Those that the writer holds, and those that wait.
    assert!(answered * LINE_BYTES > QUEUE_BYTES / 2, "refused after {answered}");
}

/// A body that no processor reads.
fn octets(bytes: usize) -> Request {
    let mut request =
        Request::new("POST", "localhost", "/echo").field("content-type", "application/octet-stream");
    request.body = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    request
}

#[tokio::test]
async fn a_body_of_12_mib_costs_no_more_memory_than_its_limit() {
    const BODY: usize = 12 << 20;
    const LIMIT_KIB: u64 = 256;
    let upstream = Upstream::start().await;
    let rules = format!(
        "{RULES}SecAction \"id:49,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On\"\n\
         SecRule REQUEST_BODY \"@contains attack\" \"id:50,phase:2,deny\"\n"
    );
    let limits = format!("limit: {LIMIT_KIB}KiB, no_files_limit: {LIMIT_KIB}KiB");
    for (over, status) in [("reject", 413), ("partial", 200)] {
        let waf = format!("  request_body: {{ {limits}, over: {over} }}\n");
        let mut testbed = testbed_with(&upstream, &rules, &waf, "    body_max: 16MiB\n").await;
        // Whatever a first body needs.
        assert_eq!(ask(&testbed, &octets(100 << 10)).await.status, 200);
        let before = peak_kib(&mut testbed);
        for _ in 0..3 {
            let answer = ask(&testbed, &octets(BODY)).await;
            assert_eq!(answer.status, status, "{over}");
            assert!(status != 200 || answer.body == octets(BODY).body, "the body went on changed");
        }
        let more = peak_kib(&mut testbed) - before;
        assert!(more < LIMIT_KIB + 4096, "{over}: {more} KiB more for a body of {} KiB", BODY >> 10);
        let line = lines(&testbed).into_iter().last().unwrap();
        assert_eq!(line["verdict"], if status == 413 { "blocked" } else { "passed" }, "{over}");
    }
}

/// It was refused at `held_bytes_per_address_max`, for ever, which nothing compared with `body_max`.
#[tokio::test]
async fn a_body_that_its_route_permits_is_inspected_and_goes_on_while_nothing_else_is_held() {
    const BODY: usize = 40 << 20;
    let upstream = Upstream::start().await;
    let rules = format!(
        "{RULES}SecAction \"id:49,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On\"\n\
         SecRule REQUEST_BODY \"@contains attack\" \"id:50,phase:2,deny\"\n"
    );
    let waf = "  request_body: { limit: 64MiB, no_files_limit: 64MiB }\n";
    let testbed = testbed_with(&upstream, &rules, waf, "    body_max: 64MiB\n").await;
    let answer = ask(&testbed, &octets(BODY)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == octets(BODY).body, "the body went on changed");
}

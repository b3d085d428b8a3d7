//! `bastide serve`: drain, reload, and what it refuses to start on.

use std::process::Command;
use std::time::Duration;

use bastide::demo::client::http1::Connection;
use bastide::demo::client::{Answer, http1, http2};
use bastide::process::clock::SystemClock;
use model::Clock as _;
use rustix::process::Signal;

use crate::import::mirror;
use crate::revocation::api_key;
use crate::support::{BASTIDE, Process, TestBed, Upstream, get_request, read, until, until_each_core};

fn one_route(upstream: &Upstream, path: &str) -> String {
    format!(
        "services:\n  here: [ http://{} ]\nroutes:\n  - name: here\n    match: {path}\n    to: here\n    \
         authenticate: none\n    allow: anyone\n",
        upstream.address
    )
}

async fn body(answer: std::io::Result<Answer>) -> (u16, String) {
    let answer = answer.unwrap();
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn sigterm_lets_open_requests_end_and_takes_no_new_ones() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::start(&one_route(&upstream, "/**")).await;
    let over1 = {
        let mut connection = Connection::open(&testbed.endpoint()).await.unwrap();
        tokio::spawn(async move { connection.ask(&get_request("/slow")).await })
    };
    let over2 = {
        let connection = http2::Connection::open(&testbed.endpoint()).await.unwrap();
        tokio::spawn(async move { connection.ask(&get_request("/slow")).await })
    };
    until("both requests to arrive", async || (upstream.seen() == 2).then_some(())).await;

    testbed.gateway().signal(Signal::TERM);
    let endpoint = testbed.clear_endpoint();
    until("new connections to be refused", async || {
        tokio::net::TcpStream::connect(endpoint.address).await.err().map(drop)
    })
    .await;
    upstream.release();
    upstream.release();
    for request in [over1, over2] {
        assert_eq!(body(request.await.unwrap()).await, (200, "at last".to_owned()));
    }
    let status = testbed.gateway().ended().await;
    assert!(status.success(), "{status}: {}", testbed.log());
}

/// With a request under way that nobody lets end.
async fn stuck(drain_max: &str) -> (TestBed, tokio::task::JoinHandle<std::io::Result<Answer>>) {
    let upstream = Upstream::start().await;
    let rest = one_route(&upstream, "/**") + &format!("limits: {{ drain_ms_max: {drain_max} }}\n");
    let testbed = TestBed::start(&rest).await;
    let mut connection = Connection::open(&testbed.endpoint()).await.unwrap();
    let request = tokio::spawn(async move { connection.ask(&get_request("/slow")).await });
    until("the request to arrive", async || (upstream.seen() == 1).then_some(())).await;
    (testbed, request)
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let (mut testbed, request) = stuck("200").await;
    // The process must end all the same.
    testbed.gateway().signal(Signal::TERM);
    assert!(testbed.gateway().ended().await.success(), "{}", testbed.log());
    assert!(request.await.unwrap().is_err());
}

#[tokio::test]
async fn told_to_end_again_it_cuts_what_is_open_and_writes_its_event() {
    let (mut testbed, request) = stuck("1h").await;
    testbed.gateway().signal(Signal::INT);
    until("the drain", async || testbed.log().contains("draining").then_some(())).await;
    // The terminal tells everybody, and the program between passes it on: that is the same once more.
    testbed.gateway().signal(Signal::TERM);
    assert!(!testbed.gateway().ended_within(Duration::from_millis(1500)), "{}", testbed.log());
    testbed.gateway().signal(Signal::INT);
    assert!(testbed.gateway().ended().await.success(), "{}", testbed.log());
    assert!(request.await.unwrap().is_err());
    let log = testbed.log();
    assert!(log.contains("told to end again") && log.ends_with("ended\n"), "{log}");
    let files = std::fs::read_dir(testbed.path("state/audit")).unwrap();
    let events: String = files.map(|file| read(&file.unwrap().path())).collect();
    assert!(events.contains("\"/slow\""), "{events}");
}

#[tokio::test]
async fn an_expired_certificate_is_told_of_at_the_start_and_after_a_reload() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::prepare("");
    for (name, end) in [("old", 2020), ("new", 2090)] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([format!("{name}.example.org")]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(end, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(testbed.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(testbed.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let both = "{ cert: old.pem, key: old.key }, { cert: new.pem, key: new.key }";
    let listener = format!("  - {{ address: 127.0.0.1:0, tls: {{ certificates: [ {both} ] }} }}\n");
    testbed.configure(&(listener + &one_route(&upstream, "/**")));
    testbed.start_gateway().await;
    let told = |log: &str| log.matches("WARN the certificate for old.example.org expired ").count();
    assert_eq!(told(&testbed.log()), 1, "{}", testbed.log());
    testbed.gateway().signal(Signal::HUP);
    until("the reload", async || (told(&testbed.log()) > 1).then_some(())).await;
    assert!(!testbed.log().contains("new.example.org"), "{}", testbed.log());
}

#[tokio::test]
async fn changed_files_and_sighup_reload_without_closing_connections() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::start(&one_route(&upstream, "/old")).await;
    let mut kept = Connection::open(&testbed.endpoint()).await.unwrap();
    assert_eq!(kept.ask(&get_request("/old")).await.unwrap().status, 200);
    assert_eq!(kept.ask(&get_request("/new")).await.unwrap().status, 404);

    // Noticed by itself.
    testbed.configure(&one_route(&upstream, "/new"));
    until("the changed file to be noticed", async || {
        (kept.ask(&get_request("/new")).await.unwrap().status == 200).then_some(())
    })
    .await;
    assert_eq!(kept.ask(&get_request("/old")).await.unwrap().status, 404);

    // On SIGHUP.
    testbed.configure(&one_route(&upstream, "/newer"));
    testbed.gateway().signal(Signal::HUP);
    until("SIGHUP to be obeyed", async || {
        (kept.ask(&get_request("/newer")).await.unwrap().status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broken_reload_keeps_the_old_configuration_and_says_why() {
    let upstream = Upstream::start().await;
    let good = one_route(&upstream, "/here");
    let mut testbed = TestBed::start(&good).await;
    testbed.configure(&good.replace("to: here", "to: heer"));
    testbed.gateway().signal(Signal::HUP);
    until("the fault to be logged", async || testbed.log().contains("heer").then_some(())).await;
    assert!(testbed.log().contains("did you mean \"here\"?"), "{}", testbed.log());
    assert_eq!(testbed.get("/here").await.status, 200);

    let (code, stdout, stderr) = testbed.bastide(&["check", "bastide.yaml"]);
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!((stdout + &stderr).contains("heer"));

    // And a good one after it is taken again.
    testbed.configure(&one_route(&upstream, "/there"));
    until("the good configuration to be taken", async || {
        (testbed.get("/there").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refused_reload_is_tried_again_when_a_file_that_it_names_is_mended() {
    let upstream = Upstream::start().await;
    let good = one_route(&upstream, "/here");
    let testbed = TestBed::start(&good).await;
    let refused = async |is: u8| {
        let line = format!("bastide_reload_refused {is}\n");
        until(&line, async || {
            let metrics = String::from_utf8(testbed.admin("/metrics").await.body).unwrap();
            metrics.contains(&line).then_some(())
        })
        .await;
    };
    let more = "addresses: { deny: [ 192.0.2.1 ] }\n";
    let permit = "permit (principal, action, resource);";
    for (named, file, before, mended) in [
        ("include: faulty.yaml\n", "faulty.yaml", Some("nonsense: 1\n"), more),
        ("include: not-there-yet.yaml\n", "not-there-yet.yaml", None, more),
        ("policies: faulty.cedar\n", "faulty.cedar", Some("permit ("), permit),
    ] {
        if let Some(text) = before {
            std::fs::write(testbed.path(file), text).unwrap();
        }
        testbed.configure(&(good.clone() + named));
        refused(1).await;
        until("the word about it", async || testbed.log().contains(file).then_some(())).await;
        std::fs::write(testbed.path(file), mended).unwrap();
        refused(0).await;
    }
}

#[tokio::test]
async fn a_broken_configuration_does_not_start() {
    let testbed =
        TestBed::prepare("services: { a: [ http://127.0.0.1:1 ] }\nroutes: [ { match: /**, to: b } ]\n");
    let mut process = Process::spawn(&mut testbed.serve("log"));
    let status = process.ended().await;
    assert!(!status.success());
    assert!(testbed.log().contains("unknown service"), "{}", testbed.log());
}

#[tokio::test]
async fn a_second_process_on_the_same_state_is_refused() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::start(&one_route(&upstream, "/here")).await;
    let mut second = Process::spawn(&mut testbed.serve("log-2"));
    assert!(!second.ended().await.success());
    let log = crate::support::read(&testbed.path("log-2"));
    assert!(log.contains("already runs on this state folder"), "{log}");
    assert_eq!(testbed.get("/here").await.status, 200);

    // Once the first has ended, the state is free again.
    testbed.stop_gateway().await;
    testbed.start_gateway().await;
    assert_eq!(testbed.get("/here").await.status, 200);
}

#[tokio::test]
async fn a_second_process_on_the_same_port_is_refused() {
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&one_route(&upstream, "/here")).await;
    let other = TestBed::prepare("");
    let text = format!(
        "state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\nlisten: [ {{ address: {} }} ]\n{}",
        testbed.clear_address(),
        one_route(&upstream, "/here")
    );
    std::fs::write(other.path("bastide.yaml"), text).unwrap();
    let mut second = Process::spawn(&mut other.serve("log"));
    assert!(!second.ended().await.success());
    assert!(other.log().contains(&testbed.clear_address().to_string()), "{}", other.log());
    assert_eq!(testbed.get("/here").await.status, 200);
}

#[tokio::test]
async fn explain_knows_a_request_after_restart_and_reload() {
    let upstream = Upstream::start().await;
    let with_policy = |condition: &str| {
        format!(
            "services:\n  here: [ http://{} ]\nroutes:\n  - name: here\n    match: /here/{{what}}\n    to: here\n    \
             authenticate: none\n    allow: policy\npolicies:\n  inline: |\n    @id(\"only-bread\")\n    \
             permit (principal, action, resource == Route::\"here\")\n    when {{ {condition} }};\n",
            upstream.address
        )
    };
    let bread = "resource.params has what && resource.params.what == \"bread\"";
    let mut testbed = TestBed::start(&with_policy(bread)).await;
    let refused = testbed.get("/here/wine").await;
    assert_ne!(refused.status, 200);
    let id = refused.request_id().unwrap().to_string();
    assert_eq!(testbed.get("/here/bread").await.status, 200);

    let explained = async |testbed: &TestBed| {
        until("the event to be written", async || {
            let (code, text, _) = testbed.bastide(&["explain", "--config", "bastide.yaml", &id]);
            (code == 1 && text.contains("only-bread") && text.contains("wine")).then_some(())
        })
        .await;
    };
    explained(&testbed).await;

    // The policies change: the old decision is still explained by the old ones.
    testbed.configure(&with_policy("resource.params has what && resource.params.what == \"wine\""));
    until("the new policy", async || (testbed.get("/here/wine").await.status == 200).then_some(())).await;
    explained(&testbed).await;

    testbed.stop_gateway().await;
    testbed.start_gateway().await;
    explained(&testbed).await;
}

#[tokio::test]
async fn health_metrics_and_keys_are_served_on_the_admin_listener_alone() {
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&one_route(&upstream, "/here")).await;
    assert_eq!(testbed.get("/here").await.status, 200);
    for page in ["/healthz", "/readyz", "/metrics", "/.well-known/bastide/jwks.json"] {
        assert_eq!(testbed.admin(page).await.status, 200, "{page}");
        assert_eq!(testbed.get(page).await.status, 404, "{page}");
    }
    let metrics = testbed.admin("/metrics").await;
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("route=\"here\""), "{text}");
    let keys = testbed.admin("/.well-known/bastide/jwks.json").await.json();
    assert!(keys["keys"][0]["kid"].is_string(), "{keys}");
    assert!(keys["keys"][0]["d"].is_null(), "a private key is published");
}

/// RFC 9110 §6.6.1.
#[tokio::test]
async fn answers_of_its_own_have_a_date_and_others_keep_theirs() {
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&one_route(&upstream, "/here")).await;
    let get = get_request("/nowhere");
    let raw = Connection::open(&testbed.endpoint()).await.unwrap();
    let answers = [
        ("HTTP/1.1", http1::ask(&testbed.endpoint(), &get).await.unwrap(), 404),
        ("HTTP/2", http2::Connection::open(&testbed.endpoint()).await.unwrap().ask(&get).await.unwrap(), 404),
        ("malformed", malformed(raw).await, 400),
    ];
    for (how, answer, status) in answers {
        assert_eq!(answer.status, status, "{how}");
        let dates: Vec<_> = answer.fields.iter().filter(|(name, _)| name == "date").collect();
        let [(_, date)] = dates.as_slice() else { panic!("{how}: {:?}", answer.fields) };
        let said = httpdate::parse_http_date(date).unwrap();
        let said = said.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let now = SystemClock::start().now().unix_seconds();
        assert!(said.abs_diff(now) < 60, "{how}: {date}");
    }
    let theirs = testbed.get("/here").await;
    let dates = theirs.fields.iter().filter(|(name, _)| name == "date").count();
    assert!(dates <= 1, "{:?}", theirs.fields);
}

/// What a request with a space in its field's name gets.
async fn malformed(mut connection: Connection) -> Answer {
    connection.send(b"GET /here HTTP/1.1\r\nhost : localhost\r\n\r\n").await.unwrap();
    connection.answer(false).await.unwrap()
}

/// As much of it as is read says that it is too long; its version has not come then.
#[tokio::test]
async fn a_target_is_refused_as_too_long_before_it_ends() {
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&one_route(&upstream, "/here")).await;
    for bytes in [10_000, 66_000, 300_000] {
        let mut connection = Connection::open(&testbed.endpoint()).await.unwrap();
        connection.send(format!("GET /here?{}", "a".repeat(bytes)).as_bytes()).await.unwrap();
        assert_eq!(connection.answer(false).await.unwrap().status, 414, "{bytes}");
    }
}

#[tokio::test]
async fn a_killed_process_leaves_a_state_that_the_next_one_takes() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::start(&one_route(&upstream, "/here")).await;
    let id = testbed.get("/here").await.request_id().unwrap().to_string();
    // Written within some milliseconds; then nothing can take it away any more.
    until("the event to be written", async || {
        let (code, ..) = testbed.bastide(&["explain", "--config", "bastide.yaml", &id]);
        (code == 0).then_some(())
    })
    .await;
    testbed.gateway().signal(Signal::KILL);
    testbed.gateway().ended().await;
    testbed.start_gateway().await;
    assert_eq!(testbed.get("/here").await.status, 200);
    assert_eq!(testbed.bastide(&["explain", "--config", "bastide.yaml", &id]).0, 0);
}

#[tokio::test]
async fn an_api_key_reaches_no_upstream_on_open_routes_either() {
    let upstream = mirror().await;
    let testbed = TestBed::start(&format!(
        "services: {{ here: [ http://{upstream} ] }}\nroutes:\n  \
         - {{ name: open, match: /open, to: here, authenticate: none, allow: anyone }}\n  \
         - {{ name: keyed, match: /keyed, to: here, authenticate: api_key, allow: authenticated }}\n"
    ))
    .await;
    let (_, key) = api_key(&testbed, "ci");
    let ask = async |path: &str, credential: &str| {
        let request = get_request(path).field("authorization", credential);
        http1::ask(&testbed.endpoint(), &request).await.unwrap()
    };
    // By each core: the system picks one for each connection.
    until_each_core("the key to be known", async || {
        ask("/keyed", &format!("Bearer {key}")).await.status == 200
    })
    .await;
    for scheme in ["Bearer", "ApiKey", "bearer "] {
        for path in ["/open", "/keyed"] {
            let answer = ask(path, &format!("{scheme} {key}")).await;
            let seen = String::from_utf8_lossy(&answer.body);
            assert!(answer.status == 200 && !seen.contains("bst_"), "{path}, {scheme}: {seen}");
        }
    }
    // What unlocks nothing here is the upstream's.
    for credential in ["Bearer of-somebody-else", "ApiKey b2Y6c29tZWJvZHk=", "Basic YWxpY2U6c2VjcmV0"] {
        let answer = ask("/open", credential).await;
        assert_eq!(answer.json()["headers"]["authorization"], credential);
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named_with_its_place_in_the_configuration() {
    let upstream = Upstream::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let rest = one_route(&upstream, "/**");
    let mut testbed = TestBed::prepare(&rest);
    let file = testbed.path("bastide.yaml");
    let sound = std::fs::read_to_string(&file).unwrap();
    let with_admin = sound.replace("{ address: 127.0.0.1:0 }", &format!("{{ address: {taken} }}"));
    std::fs::write(&file, with_admin).unwrap();
    let (code, _, said) = testbed.bastide(&["serve"]);
    let place = format!("bastide.yaml:2:8: the admin listener cannot have {taken}");
    assert!(code != 0 && said.contains(&place), "{said}");
    let with_listener = sound.replace("  - address: 127.0.0.1:0\nser", &format!("  - address: {taken}\nser"));
    std::fs::write(&file, &with_listener).unwrap();
    let (code, _, said) = testbed.bastide(&["serve"]);
    let place = format!("bastide.yaml:6:14: {taken} is already in use by another process");
    assert!(code != 0 && said.contains(&place), "{said}");
    // The same at a reload, and the old configuration stays.
    std::fs::write(&file, &sound).unwrap();
    testbed.start_gateway().await;
    std::fs::write(&file, &with_listener).unwrap();
    until("the reload to be refused", async || testbed.log().contains(&place).then_some(())).await;
    assert_eq!(testbed.get("/").await.status, 200);
}

/// As many connections at once as may come with open files for fewer.
const FILES: usize = 128;

#[tokio::test]
async fn too_few_open_files_are_told_of_at_the_start_and_seldom_while_they_are_missing() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::prepare(&one_route(&upstream, "/**"));
    let mut command = Command::new("sh");
    let script = format!("ulimit -Sn 64 && ulimit -Hn {FILES} && exec \"$0\" serve --config bastide.yaml");
    command.args(["-c", &script, BASTIDE]).current_dir(testbed.folder.path());
    command.stderr(std::fs::File::create(testbed.path("log")).unwrap());
    testbed.start_gateway_by(command).await;
    let figures = String::from_utf8(testbed.admin("/metrics").await.body.to_vec()).unwrap();
    assert!(figures.contains(&format!("\nprocess_max_fds {FILES}\n")), "{figures}");
    let told = format!("connections_max is 20000, but this process may open {FILES} files");
    assert_eq!(testbed.log().matches(&told).count(), 1, "{}", testbed.log());
    let endpoint = testbed.clear_endpoint();
    let mut open = Vec::new();
    for _ in 0..2 * FILES {
        open.push(tokio::net::TcpStream::connect(endpoint.address).await.unwrap());
    }
    until("the log", async || testbed.log().contains("cannot accept connections").then_some(())).await;
    // Longer than several pauses of every core.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(testbed.log().matches("cannot accept connections").count(), 1, "{}", testbed.log());
    drop(open);
    assert_eq!(testbed.get("/").await.status, 200);
}

//! Which rules see what, and what the log says of it.

use super::*;

/// Besides the others: rules that look at a form as a whole, and one that runs when all is over.
const MORE: &str = r#"
SecRule REQUEST_BODY "@contains attack" "id:60,phase:2,deny,log"
SecRule REQUEST_HEADERS:X-Note "@streq late" "id:51,phase:5,deny,log,msg:'late'"
"#;

#[tokio::test]
async fn a_form_that_the_engine_keeps_goes_on_whole() {
    let upstream = Upstream::start().await;
    let testbed =
        testbed_with(&upstream, &format!("{RULES}{MORE}"), "  request_body: { over: partial }\n", "").await;
    // Of the longest the rules see 4096 bytes.
    for length in [0, 1, 4000, 4094, 4095, 5000, 200_000] {
        let body = format!("q={}", "ab".repeat(length / 2) + &"c".repeat(length % 2));
        let plain = ask(&testbed, &form("/echo", &body)).await;
        assert!(plain.status == 200 && plain.body == body.as_bytes(), "{length}: {}", plain.body.len());
    }
    let before = upstream.seen();
    assert_eq!(ask(&testbed, &form("/echo", "p=an&attack=1")).await.status, 403);
    assert_eq!(upstream.seen(), before);

    // An upload is longer than what the engine keeps of it.
    let rules = RULES.replace("SecRequestBodyLimit 4096", "SecRequestBodyLimit 1048576");
    for mode in ["block", "detect"] {
        let rules = format!("{rules}SecRule FULL_REQUEST \"@contains attack\" \"id:63,phase:2,deny,log\"\n");
        let testbed = testbed_with(&upstream, &rules, &format!("  mode: {mode}\n"), "").await;
        for length in [0, 3_000, 5_000, 200_000] {
            let head = "--b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n";
            let body = format!("{head}{}\r\n--b--\r\n", "c".repeat(length));
            let mut upload = Request::new("POST", "localhost", "/echo")
                .field("content-type", "multipart/form-data; boundary=b");
            upload.body = body.as_bytes().to_vec();
            let answer = ask(&testbed, &upload).await;
            assert!(answer.status == 200 && answer.body == upload.body, "{mode} {length}: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn a_stream_that_no_rule_looks_at_reaches_its_upstream_before_its_end() {
    let upstream = Upstream::start().await;
    // Detect mode does not wait for what rules look at either.
    for (mode, seen) in [("block", 1), ("detect", 2)] {
        let testbed =
            testbed_with(&upstream, &format!("{RULES}{MORE}"), &format!("  mode: {mode}\n"), "").await;
        let open = |content_type: &str| {
            format!(
                "POST /asked HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
            )
        };
        let before = upstream.seen();
        let mut form = Connection::open(&testbed.clear_endpoint()).await.unwrap();
        form.send(open("application/x-www-form-urlencoded").as_bytes()).await.unwrap();
        let mut stream = Connection::open(&testbed.clear_endpoint()).await.unwrap();
        stream.send(open("application/grpc").as_bytes()).await.unwrap();
        let answer = stream.answer(false).await.unwrap();
        assert_eq!(answer.status, 200, "{mode}");
        until("the upstream", async || (upstream.seen() - before >= seen).then_some(())).await;
        assert_eq!(upstream.seen() - before, seen, "{mode}: the form has no end yet");
        form.send(b"0\r\n\r\n").await.unwrap();
        assert_eq!(form.answer(false).await.unwrap().status, 200, "{mode}");
    }
}

#[tokio::test]
async fn no_trailer_passes_a_blocking_firewall_and_a_detecting_one_tells_of_it() {
    let upstream = Upstream::start().await;
    let rules =
        format!("{RULES}SecRule REQUEST_HEADERS:X-Sum \"@contains attack\" \"id:62,phase:2,deny,log\"\n");
    let block = testbed_with(&upstream, &rules, "", "").await;
    let detect = testbed_with(&upstream, &rules, "  mode: detect\n", "").await;
    let (form, other) = ("application/x-www-form-urlencoded", "application/octet-stream");
    for (testbed, content_type, trailer, status, found, goes_on) in [
        (&block, form, "x-sum: an attack", 403, &[62][..], false),
        (&block, form, "x-sum: honest", 200, &[], false),
        // Phase 1 is over, and of a body that no rule looks at the end is not awaited.
        (&block, form, "x-probe: an attack", 200, &[], false),
        (&block, other, "x-sum: an attack", 200, &[], false),
        (&detect, form, "x-sum: an attack", 200, &[62], true),
        (&detect, form, "x-sum: honest", 200, &[], true),
        (&detect, other, "x-sum: an attack", 200, &[], true),
    ] {
        let before = upstream.seen();
        let mut connection = Connection::open(&testbed.clear_endpoint()).await.unwrap();
        let request = format!(
            "POST /rest HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n3\r\nq=1\r\n0\r\n{trailer}\r\n\r\n"
        );
        connection.send(request.as_bytes()).await.unwrap();
        let answer = connection.answer(false).await.unwrap();
        let what = format!("{} {content_type} {trailer}", testbed.path("").display());
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(upstream.seen() - before, u64::from(status == 200), "{what}");
        let rest = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(rest.contains(trailer), goes_on, "{what}: {rest}");
        assert!(status != 200 || rest.starts_with("3\r\nq=1\r\n0\r\n"), "{what}: {rest}");
        let id = match status {
            200 => answer.request_id().unwrap().to_string(),
            _ => answer.json()["id"].as_str().unwrap().to_owned(),
        };
        assert_eq!(ids(&line(testbed, &id).await), found, "{what}");
    }
}

#[tokio::test]
async fn an_answer_of_grpc_is_never_held_back_even_where_rules_look_at_its_type() {
    let upstream = Upstream::start().await;
    let types = "text/html application/grpc application/grpc+proto application/other";
    let rules = RULES.replace("text/html text/event-stream", types);
    let testbed = testbed_with(&upstream, &rules, "", "").await;
    for (content_type, status) in
        [("application/grpc", 200), ("application/grpc+proto", 200), ("application/other", 403)]
    {
        let mut request = Request::new("POST", "localhost", "/reflect")
            .field("content-type", "application/octet-stream")
            .field("x-type", content_type);
        request.body = b"a leak".to_vec();
        assert_eq!(ask(&testbed, &request).await.status, status, "{content_type}");
    }
}

#[tokio::test]
async fn a_listeners_own_section_counts_over_the_default_and_under_a_routes() {
    let upstream = Upstream::start().await;
    let own = "  - match: /own/**\n    to: here\n    authenticate: none\n    allow: anyone\n    waf: { mode: block }\n";
    // What stands first belongs to the listener before: the one without TLS.
    let testbed = started(&format!("    waf: detect\n{}", configuration(&upstream, "", own)), RULES).await;
    let over_tls = testbed.get("/?q=attack").await;
    assert_eq!(over_tls.status, 403, "the other listener has the default's");
    let detected = ask(&testbed, &get_request("/?q=attack")).await;
    assert_eq!(detected.status, 200);
    let found = line(&testbed, &detected.request_id().unwrap().to_string()).await;
    assert_eq!((found["mode"].as_str(), ids(&found)), (Some("detect"), vec![20]));
    assert_eq!(ask(&testbed, &get_request("/own/?q=attack")).await.status, 403, "the route's counts first");
}

#[tokio::test]
async fn the_last_phase_only_writes_down() {
    let upstream = Upstream::start().await;
    let testbed = testbed_with(&upstream, &format!("{RULES}{MORE}"), "", "").await;
    let late = ask(&testbed, &get_request("/").field("x-note", "late")).await;
    assert_eq!(late.status, 200);
    let found = line(&testbed, &late.request_id().unwrap().to_string()).await;
    assert_eq!((ids(&found), found["verdict"].as_str()), (vec![51], Some("detected")));
    assert_eq!((&found["intended"], &found["unfinished"]), (&Value::Null, &Value::Null));
    // It runs for what was stopped, too.
    let stopped = ask(&testbed, &get_request("/?q=attack").field("x-note", "late")).await;
    assert_eq!(stopped.status, 403);
    assert_eq!(ids(&line(&testbed, stopped.json()["id"].as_str().unwrap()).await), [20, 51]);
}

#[tokio::test]
async fn of_somebody_without_a_credential_only_the_head_is_seen_and_nothing_done() {
    let upstream = Upstream::start().await;
    let denied = "  - name: denied\n    match: /denied/**\n    to: here\n    authenticate: none\n    allow: anyone\n\
        policies:\n  inline: |\n    forbid (principal, action, resource == Route::\"denied\");\n";
    let text = testbed_with_keys(&upstream).replace("waf:\n", &format!("{denied}waf:\n"));
    let rules = RULES.replace("id:10,phase:1,deny", "id:10,phase:1,redirect:https://example.org/");
    let testbed = started(&text, &format!("{rules}{MORE}")).await;
    for (path, status) in [("/private/x", 401), ("/denied/x", 403)] {
        let request = form(&format!("{path}?q=attack"), "q=attack").field("x-probe", "an attack");
        let refused = ask(&testbed, &request.field("x-note", "a note")).await;
        assert_eq!((refused.status, refused.field("location")), (status, None), "{path}");
        let found = line(&testbed, refused.json()["id"].as_str().unwrap()).await;
        // What stands behind the rule that would have stopped it is found as well.
        assert_eq!((ids(&found), found["intended"].as_u64()), (vec![10, 11], Some(10)), "{path}");
        assert_eq!((found["mode"].as_str(), found["verdict"].as_str()), (Some("detect"), Some("detected")));
        assert_eq!(found["unfinished"], Value::Null, "{path}");
    }
    assert_eq!(ask(&testbed, &get_request("/").field("x-probe", "an attack")).await.status, 302);
    assert_eq!(ask(&testbed, &get_request("/?q=attack")).await.status, 403);
}

#[tokio::test]
async fn who_goes_away_before_it_is_judged_leaves_a_line_that_says_so() {
    let upstream = Upstream::start().await;
    let testbed = testbed_with(&upstream, &format!("{RULES}{MORE}"), "", "").await;
    let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\nx-note: late\r\ncontent-length: 100\r\n\r\nq=att";
    let mut stream = TcpStream::connect(testbed.clear_address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    let found = until("the line", async || lines(&testbed).into_iter().next()).await;
    assert_eq!((ids(&found), found["unfinished"].as_bool()), (vec![51], Some(true)));
    assert_eq!(upstream.seen(), 0);

    // In the midst of an answer that is held.
    let stall =
        "POST /stall HTTP/1.1\r\nhost: localhost\r\nx-type: text/html\r\ncontent-length: 4\r\n\r\npage";
    let mut stream = TcpStream::connect(testbed.clear_address()).await.unwrap();
    stream.write_all(stall.as_bytes()).await.unwrap();
    until("the upstream", async || (upstream.seen() == 1).then_some(())).await;
    drop(stream);
    let found = until("the line", async || lines(&testbed).into_iter().nth(1)).await;
    assert_eq!((found["path"].as_str(), found["unfinished"].as_bool()), (Some("/stall"), Some(true)));
    upstream.release.add_permits(1);

    let whole = ask(&testbed, &form("/echo", "q=honest")).await;
    let found = line(&testbed, &whole.request_id().unwrap().to_string()).await;
    assert_eq!((found["verdict"].as_str(), &found["unfinished"]), (Some("passed"), &Value::Null));
}

#[tokio::test]
async fn of_cookies_the_rules_see_what_an_upstream_sees() {
    let upstream = Upstream::start().await;
    let session = "authentication:\n  audience: town\n  issuers: [ { issuer: \"https://127.0.0.1:1\", allow_private_addresses: true } ]\n  session: { client: shop, secret: \"${file:secret.txt}\" }\nservices:";
    let back = "  - match: localhost/auth/**\n    to: sessions\n    authenticate: none\n    allow: anyone\n";
    let rules = format!(
        "{RULES}SecRule REQUEST_COOKIES|REQUEST_HEADERS:Cookie \"@contains attack\" \"id:61,phase:1,deny,log\"\n"
    );
    let mut testbed = TestBed::prepare(&configuration(&upstream, "", back).replace("services:", session));
    std::fs::write(testbed.path("rules.conf"), &rules).unwrap();
    std::fs::write(testbed.path("secret.txt"), "a-secret").unwrap();
    testbed.start_gateway().await;
    let plain = testbed_with(&upstream, &rules, "", "").await;
    let ours = "__Host-bastide-session=an--attack";
    for (testbed, cookies, status) in [
        (&testbed, format!("a=1; {ours}; b=2"), 200),
        (&testbed, ours.to_owned(), 200),
        (&testbed, format!("a=attack; {ours}"), 403),
        (&testbed, format!("{ours}; a=attack"), 403),
        (&testbed, "__Host-other=attack".to_owned(), 403),
        (&plain, ours.to_owned(), 403),
    ] {
        let answer = ask(testbed, &get_request("/asked").field("cookie", &cookies)).await;
        assert_eq!(answer.status, status, "{cookies}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("attack"), "{cookies}");
    }
}

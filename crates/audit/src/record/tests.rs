use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(crate) fn event(id: u128) -> AccessEvent<'static> {
    AccessEvent {
        id: RequestId::new(1_795_384_267_123, id),
        time: Timestamp::from_unix_nanos(1_795_384_267_123_456_789),
        duration_nanos: 2_345_678,
        outcome: Outcome::Allowed,
        step: Step::Forward,
        reason: "".into(),
        status: 200,
        client_address: "192.0.2.7".into(),
        client_port: 50_123,
        tls: "1.3".into(),
        method: "GET".into(),
        host: "shop.example.org".into(),
        path: "/orders/alice/17".into(),
        version: "1.1".into(),
        user_agent: "curl/8".into(),
        route: "orders".into(),
        upstream: "10.0.0.5:7001".into(),
        attempts: 1,
        bytes_in: 0,
        bytes_out: 1024,
        principal_kind: PrincipalKind::User,
        principal: "alice".into(),
        credential: Credential::Jwt,
        issuer: "https://id.example.org".into(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        decision_json: Cow::Borrowed(&[]),
        firewall: None,
        firewall_json: Cow::Borrowed(&[]),
        decision: Some(Cow::Owned(DecisionRecord {
            generation: 7,
            snapshot: "ab".repeat(32),
            policies: vec!["owner-reads".to_owned()],
            read: BTreeMap::from([
                ("principal.id".to_owned(), json!("alice")),
                ("resource.params.owner".to_owned(), json!("alice")),
                ("context.hour".to_owned(), json!(21)),
            ]),
            would_deny: None,
        })),
    }
}

pub(crate) fn line(event: &AccessEvent<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    append(&mut line, event);
    line
}

#[test]
fn fields_have_the_names_of_ocsf() {
    let value: Value = serde_json::from_slice(&line(&event(1))).unwrap();
    for (pointer, expected) in [
        ("/class_uid", json!(4002)),
        ("/category_uid", json!(4)),
        ("/type_uid", json!(400_203)),
        ("/activity_id", json!(3)),
        ("/severity_id", json!(1)),
        ("/status_id", json!(1)),
        ("/action_id", json!(1)),
        ("/time", json!(1_795_384_267_123_u64)),
        ("/duration", json!(2)),
        ("/metadata/version", json!("1.3.0")),
        ("/metadata/product/name", json!("Bastide")),
        ("/metadata/uid", json!(event(1).id.to_string())),
        ("/http_request/uid", json!(event(1).id.to_string())),
        ("/http_request/http_method", json!("GET")),
        ("/http_request/url/hostname", json!("shop.example.org")),
        ("/http_request/url/path", json!("/orders/alice/17")),
        ("/http_request/version", json!("1.1")),
        ("/http_request/user_agent", json!("curl/8")),
        ("/http_response/code", json!(200)),
        ("/src_endpoint/ip", json!("192.0.2.7")),
        ("/src_endpoint/port", json!(50_123)),
        ("/tls/version", json!("1.3")),
        ("/traffic/bytes_out", json!(1024)),
        ("/actor/user/name", json!("alice")),
        ("/actor/user/type", json!("User")),
        ("/actor/idp/name", json!("https://id.example.org")),
        ("/unmapped/step", json!("forward")),
        ("/unmapped/credential", json!("jwt")),
        ("/unmapped/decision/read/context.hour", json!(21)),
    ] {
        assert_eq!(value.pointer(pointer), Some(&expected), "{pointer}");
    }
}

#[test]
fn a_line_is_written_to_the_byte_as_readers_know_it() {
    let id = event(1).id;
    let expected = [
        r#"{"time":1795384267123,"class_uid":4002,"category_uid":4,"metadata":{"version":"1.3.0","uid":""#,
        &id.to_string(),
        r#"","product":{"name":"Bastide","vendor_name":"Bastide"},"profiles":["security_control"]}"#,
        r#","type_uid":400299,"activity_id":99,"activity_name":"PATCH","severity_id":2,"status_id":2"#,
        r#","status_detail":"a \"limit\"","action_id":2,"duration":2,"http_request":{"uid":""#,
        &id.to_string(),
        r#"","http_method":"PATCH","url":{"hostname":"shop.example.org","path":"/orders/alice/17"}"#,
        r#","version":"1.1","user_agent":"curl/8"},"http_response":{"code":429}"#,
        r#","src_endpoint":{"ip":"192.0.2.7","port":50123},"tls":{"version":"1.3"}"#,
        r#","traffic":{"bytes_in":0,"bytes_out":1024},"actor":{"user":{"name":"alice","type":"User"}"#,
        r#","idp":{"name":"https://id.example.org"}},"unmapped":{"time_nanos":1795384267123456789"#,
        r#","duration_nanos":2345678,"outcome":"denied","step":"limit_principal","route":"orders""#,
        r#","upstream":"10.0.0.5:7001","attempts":1,"credential":"jwt""#,
        r#","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","decision":{"generation":7}}}"#,
        "\n",
    ];
    let event = AccessEvent {
        outcome: Outcome::Denied,
        step: Step::LimitPrincipal,
        reason: r#"a "limit""#.into(),
        status: 429,
        method: "PATCH".into(),
        decision: None,
        decision_json: Cow::Borrowed(br#"{"generation":7}"#),
        ..event(1)
    };
    assert_eq!(String::from_utf8(line(&event)).unwrap(), expected.concat());
}

#[test]
fn outcomes_and_methods_have_their_numbers() {
    for (outcome, status_id, action_id, severity_id) in
        [(Outcome::Allowed, 1, 1, 1), (Outcome::Denied, 2, 2, 2), (Outcome::Failed, 2, 1, 3)]
    {
        let value: Value = serde_json::from_slice(&line(&AccessEvent { outcome, ..event(1) })).unwrap();
        let numbers = (&value["status_id"], &value["action_id"], &value["severity_id"]);
        assert_eq!(numbers, (&json!(status_id), &json!(action_id), &json!(severity_id)));
    }
    for (method, number) in [("DELETE", 2), ("POST", 6), ("PATCH", 99), ("BREW", 99), ("", 0)] {
        let value: Value =
            serde_json::from_slice(&line(&AccessEvent { method: method.into(), ..event(1) })).unwrap();
        assert_eq!(value["activity_id"], json!(number), "{method}");
        assert_eq!(value["activity_name"].as_str(), (number == 99).then_some(method));
    }
}

#[test]
fn texts_are_kept_up_to_their_limit_and_cut_one_past_it() {
    for (length, limit, cut) in
        [(PATH_BYTES_MAX, PATH_BYTES_MAX, false), (PATH_BYTES_MAX + 1, PATH_BYTES_MAX, true)]
    {
        let path = "p".repeat(length);
        let stored = parse(&line(&AccessEvent { path: path.into(), ..event(1) })).unwrap();
        assert_eq!((stored.event.path.len(), stored.cut), (limit.min(length), cut));
    }
    for (length, cut) in [(TEXT_BYTES_MAX, false), (TEXT_BYTES_MAX + 1, true)] {
        let user_agent = "u".repeat(length);
        let stored = parse(&line(&AccessEvent { user_agent: user_agent.into(), ..event(1) })).unwrap();
        assert_eq!((stored.event.user_agent.len(), stored.cut), (TEXT_BYTES_MAX, cut));
    }
}

#[test]
fn a_decision_too_long_is_kept_without_what_it_read() {
    let with_value_of = |length: usize| {
        let decision = DecisionRecord {
            read: BTreeMap::from([("principal.claims.note".to_owned(), json!("x".repeat(length)))]),
            ..DecisionRecord::default()
        };
        AccessEvent { decision: Some(Cow::Owned(decision)), ..event(1) }
    };
    let decision_bytes = |event: &AccessEvent<'_>| {
        line(event).len() - line(&AccessEvent { decision: None, ..event.clone() }).len()
    };
    let fixed = decision_bytes(&with_value_of(0));
    for (length, cut) in [(DECISION_BYTES_MAX - fixed, false), (DECISION_BYTES_MAX - fixed + 1, true)] {
        let stored = parse(&line(&with_value_of(length))).unwrap();
        assert_eq!(stored.cut, cut, "{length}");
        assert_eq!(stored.event.decision.unwrap().read.is_empty(), cut);
    }
    // However many policies there are, the line stays bounded.
    let policies = (0..10_000).map(|n| format!("policy-{n}")).collect();
    let decision = DecisionRecord { policies, ..DecisionRecord::default() };
    let bytes = line(&AccessEvent { decision: Some(Cow::Owned(decision)), ..event(1) });
    assert!(bytes.len() < 2 * DECISION_BYTES_MAX, "{}", bytes.len());
    parse(&bytes).unwrap();
}

#[test]
fn the_empty_event_and_the_abandoned_one_are_read_back() {
    let mut bytes = Vec::new();
    append_abandoned(&mut bytes, event(9).id, event(9).time);
    let stored = parse(&bytes).unwrap();
    assert!(stored.abandoned);
    assert_eq!((stored.event.id, stored.event.time), (event(9).id, event(9).time));
    assert_eq!((stored.event.step, stored.event.outcome), (Step::Audit, Outcome::Failed));
    assert!(!parse(&line(&event(1))).unwrap().abandoned);
}

#[test]
fn torn_and_foreign_lines_are_no_events() {
    let whole = line(&event(1));
    for at in 0..whole.len() - 2 {
        assert!(parse(&whole[..at]).is_err(), "torn at {at}");
    }
    for foreign in ["", "{}", "null", r#"{"time":1}"#] {
        assert!(parse(foreign.as_bytes()).is_err());
    }
}

fn any_text() -> impl Strategy<Value = Cow<'static, str>> {
    any::<String>().prop_map(Cow::Owned)
}

proptest! {
    #[test]
    fn any_event_is_one_line_and_read_back_as_it_was(
        texts in prop::collection::vec(any_text(), 14),
        numbers in any::<(u64, u64, u64, u64, u16, u16, u32)>(),
        id in any::<u128>(),
        step in 0usize..10,
        kind in 0usize..5,
        credential in 0usize..4,
        read in prop::collection::btree_map(any::<String>(), any::<String>(), 0..3),
    ) {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap();
        let written = AccessEvent {
            id: RequestId::new(id as u64, id),
            time: Timestamp::from_unix_nanos(numbers.0),
            duration_nanos: numbers.1,
            outcome: [Outcome::Allowed, Outcome::Denied, Outcome::Failed][step % 3],
            step: Step::ALL[step],
            reason: text(),
            status: numbers.4,
            client_address: text(),
            client_port: numbers.5,
            tls: text(),
            method: text(),
            host: text(),
            path: text(),
            version: text(),
            user_agent: text(),
            route: text(),
            upstream: text(),
            attempts: numbers.6,
            bytes_in: numbers.2,
            bytes_out: numbers.3,
            principal_kind: [PrincipalKind::Anonymous, PrincipalKind::User, PrincipalKind::Service, PrincipalKind::Client, PrincipalKind::ApiKey][kind],
            principal: text(),
            credential: [Credential::None, Credential::Jwt, Credential::ApiKey, Credential::Certificate][credential],
            issuer: text(),
            trace_id: text(),
            decision_json: Cow::Borrowed(&[]),
            firewall: None,
            firewall_json: Cow::Borrowed(&[]),
            decision: (!read.is_empty()).then(|| Cow::Owned(DecisionRecord {
                generation: numbers.0,
                snapshot: text().into_owned(),
                policies: read.keys().cloned().collect(),
                would_deny: read.keys().next().cloned(),
                read: read.into_iter().map(|(name, value)| (name, Value::String(value))).collect(),
            })),
        };
        let bytes = line(&written);
        prop_assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1);
        prop_assert_eq!(bytes.last(), Some(&b'\n'));
        let stored = parse(&bytes).unwrap();
        prop_assert!(!stored.cut && !stored.abandoned);
        prop_assert_eq!(stored.event, written);
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}

fn finding(rules: usize) -> model::event::FirewallRecord {
    let one = |id: u64| model::event::FirewallMatch { id, msg: "x".repeat(400), ..Default::default() };
    model::event::FirewallRecord {
        mode: "block".to_owned(),
        verdict: "blocked".to_owned(),
        rule: Some(949_110),
        scores: model::event::FirewallScores {
            inbound: 5,
            inbound_levels: [5, 0, 3, 0],
            ..Default::default()
        },
        rules: (0..rules as u64).map(one).collect(),
        ..Default::default()
    }
}

#[test]
fn what_the_firewall_found_is_read_back() {
    let found = finding(3);
    let json = serde_json::to_vec(&found).unwrap();
    for event in [
        AccessEvent { firewall: Some(Cow::Borrowed(&found)), ..event(1) },
        AccessEvent { firewall_json: Cow::Borrowed(&json), ..event(1) },
    ] {
        let stored = parse(&line(&event)).unwrap();
        assert_eq!((stored.event.firewall.as_deref(), stored.cut), (Some(&found), false));
    }
    assert_eq!(parse(&line(&event(1))).unwrap().event.firewall, None);
}

#[test]
fn a_long_finding_loses_its_last_rules_and_says_so() {
    let whole = finding(1000);
    let json = serde_json::to_vec(&whole).unwrap();
    assert!(json.len() > FIREWALL_BYTES_MAX);
    let written = line(&AccessEvent { firewall_json: Cow::Owned(json), ..event(1) });
    assert!(written.len() < FIREWALL_BYTES_MAX + 4096);
    let stored = parse(&written).unwrap();
    let found = stored.event.firewall.unwrap();
    assert!(stored.cut && !found.rules.is_empty());
    assert_eq!(found.rules.len() as u64 + found.further, 1000);
    assert_eq!((found.rule, found.rules[0].id), (Some(949_110), 0));
}

#[test]
fn what_somebody_did_at_the_identity_provider_has_the_names_of_ocsf_and_is_read_back() {
    use model::event::AccountActivity;
    let of = |activity, outcome, reason: &'static str, status| {
        let access = AccessEvent {
            outcome,
            step: if outcome == Outcome::Allowed { Step::Forward } else { Step::Authenticate },
            reason: reason.into(),
            status,
            client_address: "192.0.2.7".into(),
            method: "POST".into(),
            host: "id.example.org".into(),
            path: "/login".into(),
            user_agent: "curl/8".into(),
            route: "identity".into(),
            principal_kind: PrincipalKind::User,
            principal: "alice".into(),
            issuer: "https://id.example.org".into(),
            ..AccessEvent::bare(
                RequestId::new(1_795_384_267_123, 7),
                Timestamp::from_unix_nanos(1_795_384_267_123_456_789),
            )
        };
        AccountEvent {
            access,
            activity,
            user_id: "u1".to_owned(),
            realm: "town".to_owned(),
            client: "web".to_owned(),
            session: "s1".to_owned(),
            request: "r1".to_owned(),
            methods: vec!["pwd".to_owned(), "mfa".to_owned()],
        }
    };
    let failed = of(AccountActivity::LogOn, Outcome::Denied, "wrong_password", 401);
    let mut line = Vec::new();
    append_account(&mut line, &failed);
    let value: Value = serde_json::from_slice(&line).unwrap();
    for (place, expected) in [
        ("/class_uid", json!(3002)),
        ("/category_uid", json!(3)),
        ("/activity_id", json!(1)),
        ("/type_uid", json!(300_201)),
        ("/status_id", json!(2)),
        ("/severity_id", json!(2)),
        ("/status_detail", json!("wrong_password")),
        ("/user/name", json!("alice")),
        ("/user/uid", json!("u1")),
        ("/actor/user/name", json!("alice")),
        ("/actor/idp/name", json!("https://id.example.org")),
        ("/src_endpoint/ip", json!("192.0.2.7")),
        ("/http_request/uid", json!("r1")),
        ("/session/uid", json!("s1")),
        ("/is_mfa", json!(true)),
        ("/unmapped/client_id", json!("web")),
        ("/unmapped/realm", json!("town")),
        ("/unmapped/amr", json!(["pwd", "mfa"])),
    ] {
        assert_eq!(value.pointer(place), Some(&expected), "{place}: {value}");
    }
    for (activity, number) in
        AccountActivity::ALL.into_iter().zip([300_201, 300_202, 300_103, 300_104, 300_110, 300_111])
    {
        let mut event = of(activity, Outcome::Allowed, "", 200);
        // Whoever is at no address, and in no session.
        event.access.client_address = "".into();
        event.session = String::new();
        let mut line = Vec::new();
        append_account(&mut line, &event);
        let value: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&value["type_uid"], &value["status_id"]), (&json!(number), &json!(1)));
        assert_eq!(parse(&line).unwrap().event, event.access);
    }
    let read = parse(&line).unwrap();
    assert_eq!((&read.event, read.is_request), (&failed.access, false));
    let mut line = Vec::new();
    append(&mut line, &failed.access);
    assert!(parse(&line).unwrap().is_request);
}

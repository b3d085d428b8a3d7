//! Those who may be anybody: what they begin fills no disk.

use identity::{ClientAuthentication, GrantType};
use serde_json::json;
use store::Key;

use crate::dpop;
use crate::support::{
    Browser, CALLBACK, ISSUER, PASSWORD, Reply, SECRET, Steps, TestBed, authorization, challenge, client,
    form, peer, query, read_form, secret, web,
};

/// What is kept at once for strangers of one network.
const KEPT_AT_ONCE: u32 = 200;

/// How often something was written.
fn written(testbed: &TestBed) -> u64 {
    testbed.store.version().number()
}

/// An authorization that is too long for its name to carry it.
fn long() -> String {
    let (state, nonce) = ("s".repeat(2048), "n".repeat(2048));
    authorization("web", &[("state", &state), ("nonce", &nonce)])
}

async fn begin(testbed: &TestBed, address: &str, what: &str) -> Reply {
    Browser::at(testbed, address).go(what).await
}

#[tokio::test]
async fn a_login_that_nobody_goes_on_with_leaves_nothing_in_the_store() {
    let testbed = TestBed::new().await;
    let before = written(&testbed);
    for what in [&authorization("web", &[]), &format!("{ISSUER}/account"), &format!("{ISSUER}/device")] {
        let page = begin(&testbed, "192.0.2.1", what).await;
        assert!(page.text.contains("type=\"password\""), "{page:?}");
        // A form of another page, and what is nobody's passkey.
        let mut browser = Browser::at(&testbed, "192.0.2.1");
        let page = browser.go(what).await;
        let refused = browser.submit(&page, &[("csrf", "x"), ("username", "alice")]).await;
        assert_eq!(refused.status, 400);
        let (_, hidden) = read_form(&page.text);
        let fields = [("flow", hidden["flow"].as_str()), ("csrf", hidden["csrf"].as_str())];
        let refused = browser.post("/realms/shop/login/passkey", &fields).await;
        assert_eq!(refused.status, 401, "{refused:?}");
    }
    assert_eq!(written(&testbed), before);
    // Whoever does log in goes on from there.
    let mut browser = Browser::at(&testbed, "192.0.2.1");
    assert!(browser.log_in_for("web", &[]).await.contains_key("code"));
    assert!(written(&testbed) > before);
}

#[tokio::test]
async fn a_guess_that_is_refused_leaves_nothing_that_lasts() {
    let testbed = TestBed::new().await;
    let mut guesser = Browser::at(&testbed, "192.0.2.1");
    for number in 0..8 {
        let page = guesser.authorize("web", &[]).await;
        let before = written(&testbed);
        let reply = guesser.submit(&page, &[("username", "alice"), ("password", "wrong")]).await;
        let expected = if number < 6 { 401 } else { 429 };
        assert_eq!(reply.status, expected, "{number}");
        assert_eq!(written(&testbed) == before, expected == 429, "{number}");
    }
}

#[tokio::test]
async fn what_is_too_long_to_be_carried_is_kept_for_so_many_strangers_of_a_network() {
    let testbed = TestBed::new().await;
    // One subscriber and many addresses.
    for number in 0..KEPT_AT_ONCE {
        let page = begin(&testbed, &format!("2001:db8:1:{number:x}::1"), &long()).await;
        assert!(page.text.contains("type=\"password\""), "{number}: {page:?}");
    }
    let before = written(&testbed);
    let refused = begin(&testbed, "2001:db8:1:ffff::1", &long()).await;
    assert_eq!((refused.status.as_u16(), refused.field("retry-after")), (429, "2"), "{refused:?}");
    assert_eq!(written(&testbed), before);
    // Nobody else is, nor who sends what fits; and later they are not either.
    let mut other = Browser::at(&testbed, "2001:db8:2::1");
    let page = other.go(&long()).await;
    let answer = other.log_in(&page).await.answer();
    assert_eq!((answer["state"].len(), answer.contains_key("code")), (2048, true));
    let fits = begin(&testbed, "2001:db8:1:ffff::1", &authorization("web", &[])).await;
    assert!(fits.text.contains("type=\"password\""), "{fits:?}");
    testbed.advance(1);
    assert_eq!(begin(&testbed, "2001:db8:1:ffff::1", &long()).await.status, 200);
    assert_eq!(begin(&testbed, "2001:db8:1:ffff::1", &long()).await.status, 429);
}

#[tokio::test]
async fn public_clients_push_and_begin_for_devices_so_many_at_once() {
    let testbed = TestBed::new().await;
    let mut tv = client("tv", ClientAuthentication::None);
    tv.grant_types = [GrantType::DeviceCode].into();
    testbed.put(tv).await;
    let mut known = client("known-tv", secret());
    known.grant_types = [GrantType::DeviceCode].into();
    testbed.put(known).await;
    testbed.put(web("confidential", secret())).await;
    let challenge = challenge();
    let pushed = |client: &'static str| {
        [
            ("client_id", client),
            ("client_secret", SECRET),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]
    };
    // A public client has no secret.
    let public = pushed("spa").into_iter().filter(|(name, _)| *name != "client_secret").collect::<Vec<_>>();
    for number in 0..KEPT_AT_ONCE / 2 {
        let reply = testbed.post_by(b"x", "/par", &public).await;
        assert_eq!(reply.status, 201, "{number}: {reply:?}");
        let reply = testbed.post_by(b"x", "/device_authorization", &[("client_id", "tv")]).await;
        assert_eq!(reply.status, 200, "{number}: {reply:?}");
    }
    let before = written(&testbed);
    testbed.post_by(b"x", "/par", &public).await.refused(429, "access_denied");
    let reply = testbed.post_by(b"x", "/device_authorization", &[("client_id", "tv")]).await;
    reply.refused(429, "access_denied");
    assert_eq!(written(&testbed), before);
    // Who shows who they are is not counted.
    assert_eq!(testbed.post_by(b"x", "/par", &pushed("confidential")).await.status, 201);
    let known = [("client_id", "known-tv"), ("client_secret", SECRET)];
    assert_eq!(testbed.post_by(b"x", "/device_authorization", &known).await.status, 200);
    // Nor is anybody counted of whom nobody says where they are.
    assert_eq!(testbed.post("/par", &public).await.status, 201);
}

#[tokio::test]
async fn what_is_pushed_in_vain_counts_for_nothing_and_leaves_nothing() {
    let testbed = TestBed::new().await;
    let challenge = challenge();
    let with = |redirect_uri| {
        [
            ("client_id", "spa"),
            ("redirect_uri", redirect_uri),
            ("response_type", "code"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]
    };
    let wrong = with("https://evil.example/cb");
    let before = written(&testbed);
    for _ in 0..=KEPT_AT_ONCE {
        testbed.post_by(b"x", "/par", &wrong).await.refused(400, "invalid_request");
    }
    // A proof that comes with it is not written down either.
    let proof = dpop::Key::new().proof("POST", "/par", "1", json!({}));
    testbed.post_with("/par", ("dpop", &proof), &wrong).await.refused(400, "invalid_request");
    assert_eq!(written(&testbed), before);
    // A neighbour behind the same address begins.
    assert_eq!(testbed.post_by(b"x", "/par", &with(CALLBACK)).await.status, 201);
}

#[tokio::test]
async fn a_proof_is_remembered_only_where_there_is_something_to_be_had_by_it() {
    let testbed = TestBed::new().await;
    let mut tv = client("tv", ClientAuthentication::None);
    tv.grant_types = [GrantType::DeviceCode].into();
    testbed.put(tv).await;
    let device = testbed.post("/device_authorization", &[("client_id", "tv")]).await.json();
    let key = dpop::Key::new();
    let mut number = 0;
    let mut ask = async |grant: GrantType, client: &str, name: &str, what: &str| {
        number += 1;
        let proof = key.proof("POST", "/token", &number.to_string(), json!({}));
        let pairs = [("grant_type", grant.name()), ("client_id", client), (name, what)];
        testbed.post_with("/token", ("dpop", &proof), &pairs).await
    };
    let before = written(&testbed);
    ask(GrantType::AuthorizationCode, "spa", "code", "none").await.refused(400, "invalid_grant");
    ask(GrantType::RefreshToken, "spa", "refresh_token", "none").await.refused(400, "invalid_grant");
    ask(GrantType::DeviceCode, "tv", "device_code", "none").await.refused(400, "invalid_grant");
    assert_eq!(written(&testbed), before);
    // A device that asks whether it is allowed leaves that it asked, in its own record.
    let code = device["device_code"].as_str().unwrap();
    ask(GrantType::DeviceCode, "tv", "device_code", code).await.refused(400, "authorization_pending");
    assert_eq!(written(&testbed), before + 1);
    // A code that was used is remembered for a day, and gives whoever finds it nothing; nor does another
    // client's.
    let code = Browser::new(&testbed).log_in_for("spa", &[]).await["code"].clone();
    let used = testbed.redeem("spa", &code).await;
    assert_eq!(used.status, 200, "{used:?}");
    let token = used.json()["refresh_token"].as_str().unwrap().to_owned();
    let fresh = Browser::new(&testbed).log_in_for("spa", &[]).await["code"].clone();
    testbed.put(web("other", ClientAuthentication::None)).await;
    let before = written(&testbed);
    for (grant, client, name, what) in [
        (GrantType::AuthorizationCode, "other", "code", code.as_str()),
        (GrantType::AuthorizationCode, "other", "code", &fresh),
        (GrantType::RefreshToken, "other", "refresh_token", &token),
    ] {
        ask(grant, client, name, what).await.refused(400, "invalid_grant");
    }
    let key = dpop::Key::new();
    let proof = key.proof("POST", "/token", "wrong", json!({}));
    let pairs = [
        ("grant_type", "authorization_code"),
        ("client_id", "spa"),
        ("code", &code),
        ("redirect_uri", "https://wrong.example/"),
    ];
    testbed.post_with("/token", ("dpop", &proof), &pairs).await.refused(400, "invalid_grant");
    assert_eq!(written(&testbed), before);
}

/// The provider itself asks for another proof (RFC 9449 §8): that is no push.
#[tokio::test]
async fn who_is_asked_for_another_proof_is_not_counted_for_their_network() {
    let testbed = TestBed::with(|settings| settings.require_dpop_nonce = true).await;
    let challenge = challenge();
    let pairs = [
        ("client_id", "spa"),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    let key = dpop::Key::new();
    let before = written(&testbed);
    for number in 0..=KEPT_AT_ONCE {
        let proof = key.proof("POST", "/par", &number.to_string(), json!({}));
        let request = axum::http::Request::post(format!("{ISSUER}/par"))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("dpop", proof)
            .extension(peer(b"x"))
            .body(form(&pairs).into())
            .unwrap();
        testbed.send(request).await.refused(400, "use_dpop_nonce");
    }
    assert_eq!(written(&testbed), before);
    assert_eq!(testbed.post_by(b"x", "/par", &pairs).await.status, 201);
}

#[tokio::test]
async fn a_login_that_its_browser_carries_has_one_answer_and_one_end() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let flow = read_form(&page.text).1["flow"].clone();
    let around = format!("{ISSUER}/flow?flow={flow}");
    // Two tabs: the session of the one answers the other, once.
    let mut tab = browser.authorize("web", &[("state", "of the other tab")]).await;
    assert_eq!(browser.log_in(&page).await.answer()["state"], "the state");
    let other = read_form(&tab.text).1["flow"].clone();
    let around_other = format!("{ISSUER}/flow?flow={other}");
    assert_eq!(browser.go(&around_other).await.answer()["state"], "of the other tab");
    for over in [&around, &around_other] {
        let reply = browser.go(over).await;
        assert_eq!((reply.status.as_u16(), reply.field("location")), (400, ""), "{reply:?}");
    }
    tab = browser.log_in(&tab).await;
    assert_eq!(tab.status, 400, "its form too");
    // Also at the last moment, and then it is over without an answer.
    for (after, status) in [(899, 303), (900, 400)] {
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("web", &[]).await;
        testbed.advance(after);
        assert_eq!(browser.log_in(&page).await.status, status, "{after}");
    }
}

#[tokio::test]
async fn nobody_makes_or_changes_what_a_browser_carries() {
    let (testbed, elsewhere) = (TestBed::new().await, TestBed::new().await);
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let flow = read_form(&page.text).1["flow"].clone();
    let good = browser.go(&format!("{ISSUER}/login?flow={flow}")).await;
    assert_eq!(good.status, 200);
    let mut foreign = Browser { cookies: browser.cookies.clone(), ..Browser::new(&elsewhere) };
    let foreign = foreign.authorize("web", &[]).await;
    let foreign = read_form(&foreign.text).1["flow"].clone();
    let mut changed: Vec<String> = vec![foreign, flow[..flow.len() - 1].to_owned(), format!("{flow}A")];
    for place in (0..flow.len()).step_by(7) {
        let mut other = flow.clone().into_bytes();
        other[place] = if other[place] == b'A' { b'B' } else { b'A' };
        changed.push(String::from_utf8(other).unwrap());
    }
    for flow in changed {
        let reply = browser.go(&format!("{ISSUER}/login?flow={flow}")).await;
        assert_eq!(reply.status, 400, "{flow}");
    }
    // What it says is for the realm alone.
    let decoded = keys::encoding::decode_base64url(flow.as_bytes()).unwrap();
    assert!(!decoded.windows(9).any(|window| window == b"the state"), "{decoded:?}");
    // And every process of the realm reads it.
    let other_process = TestBed::on(testbed.store.clone(), testbed.clock.clone(), |_| {}).await;
    let mut there = Browser { cookies: browser.cookies.clone(), ..Browser::new(&other_process) };
    let answer = there.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.answer();
    assert_eq!(answer["state"], "the state");
}

/// Two realms of one store, and one browser, whose cookies have the same value at both.
#[tokio::test]
async fn what_a_browser_carries_is_of_one_realm_alone() {
    let shop = TestBed::new().await;
    let fair = TestBed::on(shop.store.clone(), shop.clock.clone(), |settings| {
        "fair".clone_into(&mut settings.name);
        settings.issuer = settings.issuer.replace("/realms/shop", "/realms/fair");
    });
    let fair = fair.await;
    let mut at_shop = Browser::new(&shop);
    let page = at_shop.authorize("web", &[]).await;
    let of_shop = read_form(&page.text).1["flow"].clone();
    let value = at_shop.cookies["__Host-shop-browser"].clone();
    let mut at_fair = Browser::new(&fair);
    at_fair.cookies.insert("__Host-fair-browser".to_owned(), value);
    let begin = authorization("web", &[]).replace("/realms/shop", "/realms/fair");
    let page = at_fair.go(&begin).await;
    let of_fair = read_form(&page.text).1["flow"].clone();
    assert_eq!(at_shop.cookies["__Host-shop-browser"], at_fair.cookies["__Host-fair-browser"]);
    for (browser, issuer, own, foreign) in
        [(&mut at_shop, ISSUER, &of_shop, &of_fair), (&mut at_fair, fair.realm.issuer(), &of_fair, &of_shop)]
    {
        for (flow, status) in [(own, 200), (foreign, 400)] {
            let reply = browser.go(&format!("{issuer}/login?flow={flow}")).await;
            assert_eq!(reply.status, status, "{issuer}: {reply:?}");
        }
    }
}

/// However far the one has come when the other is sent.
#[tokio::test]
async fn of_two_who_use_what_a_browser_carries_at_once_both_are_counted_in_one_record() {
    let interactions = Key::new("identity").hidden("shop").name("interaction");
    let mut polls = 0;
    loop {
        let testbed = TestBed::new().await;
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("web", &[]).await;
        let wrong = [("username", "alice"), ("password", "wrong")];
        let mut tab = Browser { cookies: browser.cookies.clone(), ..Browser::new(&testbed) };
        let mut first = Steps::of(tab.submit(&page, &wrong));
        polls += 1;
        let begun = first.go(polls).await;
        let whole = begun.is_some();
        let second = browser.submit(&page, &wrong).await;
        let first = match begun {
            Some(reply) => reply,
            None => first.go(usize::MAX).await.unwrap(),
        };
        let statuses = [first.status.as_u16(), second.status.as_u16()];
        let records = testbed.store.scan(&interactions, None, 10).await.unwrap().records;
        assert_eq!(records.len(), 1, "after {polls} polls");
        assert_eq!(statuses, [401; 2], "after {polls} polls");
        let counted = records[0].json::<serde_json::Value>().unwrap()["attempts"].clone();
        assert_eq!(counted, 2, "after {polls} polls");
        if whole {
            break;
        }
    }
}

#[tokio::test]
async fn a_browser_carries_what_an_address_can_hold() {
    let testbed = TestBed::new().await;
    let state = "s".repeat(1500);
    let mut browser = Browser::new(&testbed);
    let before = written(&testbed);
    let page = browser.authorize("web", &[("state", &state)]).await;
    let carried = read_form(&page.text).1["flow"].clone();
    assert_eq!((written(&testbed), carried.len() <= 4096), (before, true), "{}", carried.len());
    let page = browser.go(&long()).await;
    let kept = read_form(&page.text).1["flow"].clone();
    assert!(written(&testbed) > before && kept.len() == 43, "{kept}");
    assert_eq!(query(browser.log_in(&page).await.field("location"))["state"].len(), 2048);
}

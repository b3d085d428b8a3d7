//! The login page: what it looks like, and who tries to get around it.

use axum::http::header;
use identity::ClientAuthentication;

use crate::support::{Browser, CALLBACK, ISSUER, PASSWORD, Reply, TestBed, read_form, secret, web};

/// Without one, browsers ask for `/favicon.ico` of the host and complain that it is not there.
#[tokio::test]
async fn pages_name_their_icon() {
    let testbed = TestBed::new().await;
    let page = Browser::new(&testbed).authorize("web", &[]).await;
    let link = page.text.split("<link rel=\"icon\"").nth(1).unwrap().split('>').next().unwrap().to_owned();
    let target = link.split("href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#x2F;", "/");
    assert_eq!(target, "/realms/shop/icon.svg");
    let icon = testbed.get(&target).await;
    assert_eq!((icon.status.as_u16(), icon.field("content-type")), (200, "image/svg+xml"));
    assert!(icon.text.starts_with("<svg ") && icon.field("cache-control").contains("public"));
    assert!(icon.field("content-security-policy").contains("sandbox"), "a document that does nothing");
}

#[tokio::test]
async fn the_page_works_without_scripts_and_cannot_be_framed() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[("login_hint", "al\"><script>ice")]).await;
    // Passkeys alone need one, which is our own file.
    assert_eq!(page.text.matches("<script").count(), 1, "{}", page.text);
    assert!(page.text.contains("<script src=\"/realms/shop/passkey.js\"></script>"), "{}", page.text);
    for expected in ["<label for=\"password\">", "autocomplete=\"current-password\"", "lang=\"en\""] {
        assert!(page.text.contains(expected), "{expected}");
    }
    let policy = page.field("content-security-policy");
    for expected in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    ] {
        assert!(policy.contains(expected), "{policy}");
    }
    assert_eq!((page.field("x-frame-options"), page.field("cache-control")), ("DENY", "no-store"));
    let style = testbed.get(&format!("{ISSUER}/style.css")).await;
    assert!(style.field("content-type").starts_with("text/css"));
}

#[tokio::test]
async fn a_client_may_send_the_browser_on_from_its_callback() {
    let testbed = TestBed::new().await;
    let mut native = web("native", ClientAuthentication::None);
    native.redirect_uris = ["http://127.0.0.1/cb", "com.example.app:/cb"].map(str::to_owned).to_vec();
    testbed.put(native).await;
    for (client, uri, expected) in [
        ("web", CALLBACK, "form-action 'self' https:;"),
        ("native", "http://127.0.0.1:51004/cb", "form-action 'self' http: https:;"),
        ("native", "com.example.app:/cb", "form-action 'self' com.example.app:;"),
    ] {
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize(client, &[("redirect_uri", uri)]).await;
        assert!(page.text.contains("type=\"password\""), "{page:?}");
        let policy = page.field("content-security-policy");
        assert!(policy.contains(expected), "{uri}: {policy}");
    }
    // A page that leads to no client keeps its forms here.
    let account = Browser::new(&testbed).go(&format!("{ISSUER}/account")).await;
    let policy = account.field("content-security-policy");
    assert!(policy.contains("form-action 'self' ;"), "{policy}");
}

#[tokio::test]
async fn a_realm_without_tls_sets_cookies_that_jars_return() {
    let testbed =
        TestBed::with(|settings| settings.issuer = "http://127.0.0.1:8080/realms/shop".to_owned()).await;
    let mut browser = Browser::new(&testbed);
    browser.go("/realms/shop/language?lang=de&page=/login").await;
    let answer = browser.log_in_for("web", &[]).await;
    assert!(answer.contains_key("code"), "{answer:?}");
    let names: Vec<_> = browser.cookies.keys().map(String::as_str).collect();
    assert_eq!(names, ["shop-browser", "shop-known", "shop-language", "shop-session"]);
    // The whole of it once more by what was kept.
    let again = browser.authorize("web", &[("prompt", "none")]).await.answer();
    assert!(again.contains_key("code"), "{again:?}");
    let reply = browser.go(&format!("{ISSUER}/logout")).await;
    assert!(browser.submit(&reply, &[("decision", "logout")]).await.text.contains("Abgemeldet"));
    assert!(!browser.cookies.contains_key("shop-session"));
}

#[tokio::test]
async fn nobody_learns_which_users_exist() {
    let testbed = TestBed::new().await;
    let mut bob = identity::User::new("carol", "carol", model::Timestamp::default());
    bob.disabled = true;
    testbed.realm.put_user(&bob).await.unwrap();
    testbed.give_password("carol").await;
    let mut pages = Vec::new();
    for (username, password) in [
        ("alice", "wrong"),
        ("alice", ""),
        ("bob", PASSWORD),
        ("carol", PASSWORD),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("alice", &"x".repeat(2000)),
    ] {
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("web", &[]).await;
        let failed = browser.submit(&page, &[("username", username), ("password", password)]).await;
        assert_eq!(failed.status, 401, "{username}");
        assert!(browser.session().is_none());
        let (_, hidden) = read_form(&failed.text);
        let mut text = failed.text.clone();
        let challenge =
            text.split("challenge&#34;:&#34;").nth(1).unwrap().split('&').next().unwrap().to_owned();
        for value in hidden.values().chain([&challenge]).filter(|value| !value.is_empty()) {
            text = text.replace(value.as_str(), "…");
        }
        let value = format!("value=\"{username}\"");
        pages.push(text.replace(&value, "value=\"\"").replace(" autofocus", ""));
    }
    assert!(pages.windows(2).all(|pair| pair[0] == pair[1]), "{pages:#?}");
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let good = browser.submit(&page, &[("username", " Alice "), ("password", PASSWORD)]).await;
    assert!(good.answer().contains_key("code"), "user names have no case");
}

#[tokio::test]
async fn a_form_is_taken_only_from_our_page_in_the_browser_that_began() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let (action, hidden) = read_form(&page.text);
    let flow = hidden["flow"].as_str();
    let good =
        [("username", "alice"), ("password", PASSWORD), ("flow", flow), ("csrf", hidden["csrf"].as_str())];
    // The attacker's own form, with a token of another login of theirs.
    let mut attacker = Browser::new(&testbed);
    let own = attacker.authorize("web", &[]).await;
    let (_, own) = read_form(&own.text);
    for csrf in ["", "x", own["csrf"].as_str()] {
        let mut forged = good;
        forged[3].1 = csrf;
        assert_eq!(browser.post(&action, &forged).await.status, 400);
    }
    // The victim's address in the attacker's browser, and the other way.
    assert_eq!(attacker.post(&action, &good).await.status, 400);
    assert_eq!(attacker.go(&format!("/realms/shop/login?flow={flow}")).await.status, 400);
    assert_eq!(Browser::new(&testbed).go(&format!("/realms/shop/flow?flow={flow}")).await.status, 400);
    // From another origin, though everything else is right.
    let cookies: Vec<_> = browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let foreign = |origin: &str| {
        axum::http::Request::post(format!("https://id.example.org{action}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::COOKIE, cookies.join("; "))
            .header(header::ORIGIN, origin)
            .body(crate::support::form(&good).into())
            .unwrap()
    };
    for origin in ["https://evil.example", "null", "http://id.example.org"] {
        assert_eq!(testbed.send(foreign(origin)).await.status, 400, "{origin}");
    }
    assert_eq!(testbed.send(foreign("https://id.example.org")).await.status, 303);
    // Sent twice, it is over.
    let next = browser.go(&format!("/realms/shop/flow?flow={flow}")).await;
    assert_eq!(next.status, 200, "the session's cookie went to nobody: {next:?}");
}

#[tokio::test]
async fn a_planted_session_is_worth_nothing_after_login() {
    let testbed = TestBed::new().await;
    testbed.give_password("bob").await;
    // The attacker logs in and plants their cookies in the victim's browser.
    let mut attacker = Browser::new(&testbed);
    let page = attacker.authorize("web", &[]).await;
    attacker.submit(&page, &[("username", "bob"), ("password", PASSWORD)]).await.answer();
    let planted = attacker.session().unwrap().clone();
    let mut victim = Browser::new(&testbed);
    victim.cookies.insert("__Host-shop-session".to_owned(), planted.clone());
    let page = victim.authorize("web", &[("prompt", "login")]).await;
    victim.log_in(&page).await.answer();
    assert_ne!(victim.session().unwrap(), &planted);
    // Bob's session was ended, and is not alice's.
    assert!(attacker.authorize("web", &[]).await.text.contains("type=\"password\""));
    // The same person again: a new secret, and the old cookie is worth nothing.
    let before = victim.session().unwrap().clone();
    let page = victim.authorize("web", &[("prompt", "login")]).await;
    victim.log_in(&page).await.answer();
    let mut thief = Browser::new(&testbed);
    thief.cookies.insert("__Host-shop-session".to_owned(), before);
    assert!(thief.authorize("web", &[]).await.text.contains("type=\"password\""));
    assert!(victim.authorize("web", &[]).await.answer().contains_key("code"));
    for forged in ["", ".", "x.y", &victim.session().unwrap().replace('.', ".x")] {
        thief.cookies.insert("__Host-shop-session".to_owned(), forged.to_owned());
        assert!(thief.authorize("web", &[]).await.text.contains("type=\"password\""), "{forged}");
    }
}

#[tokio::test]
async fn a_login_with_many_wrong_passwords_begins_anew() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let mut page = browser.authorize("web", &[]).await;
    for _ in 0..10 {
        testbed.advance(20);
        page = browser.submit(&page, &[("username", "alice"), ("password", "wrong")]).await;
        assert_eq!(page.status, 401);
    }
    testbed.advance(20);
    assert_eq!(browser.log_in(&page).await.status, 400, "not even the right one");
    // Alice herself is not locked out.
    let page = browser.authorize("web", &[]).await;
    assert!(browser.log_in(&page).await.answer().contains_key("code"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passwords_that_are_tried_at_once_are_not_tried_uncounted() {
    let testbed = std::sync::Arc::new(TestBed::new().await);
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let (action, hidden) = read_form(&page.text);
    let tries = (0..32).map(|_| {
        let (testbed, cookies) = (std::sync::Arc::clone(&testbed), browser.cookies.clone());
        let (action, hidden) = (action.clone(), hidden.clone());
        tokio::spawn(async move {
            let fields = [("username", "alice"), ("password", "wrong")];
            let fields =
                fields.into_iter().chain(hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let fields: Vec<_> = fields.collect();
            let mut browser = Browser { cookies, ..Browser::new(&testbed) };
            browser.post(&action, &fields).await.status.as_u16()
        })
    });
    let mut tried = 0;
    for status in tries.collect::<Vec<_>>() {
        match status.await.unwrap() {
            401 => tried += 1,
            // By the login, or by the account.
            other => assert!(matches!(other, 400 | 429), "{other}"),
        }
    }
    assert!((1..=10).contains(&tried), "{tried} passwords were tried in one login of ten");
}

/// A form that is sent several times at once, as by a double click: what each is answered, and the browser
/// as it is when it has the last answer.
async fn sent_at_once<'a>(
    testbed: &'a std::sync::Arc<TestBed>,
    browser: &Browser<'_>,
    page: &Reply,
    fields: &'static [(&'static str, &'static str)],
) -> Vec<(Reply, Browser<'a>)> {
    let (action, hidden) = read_form(&page.text);
    let sent = (0..3).map(|_| {
        let (testbed, cookies, address) =
            (std::sync::Arc::clone(testbed), browser.cookies.clone(), browser.address);
        let (action, hidden) = (action.clone(), hidden.clone());
        tokio::spawn(async move {
            let hidden = hidden.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let fields: Vec<_> = hidden.chain(fields.iter().copied()).collect();
            let mut browser = Browser { testbed: &testbed, cookies, address };
            let reply = browser.post_and_stay(&action, &fields).await;
            (reply, browser.cookies)
        })
    });
    let mut answers = Vec::new();
    for one in sent.collect::<Vec<_>>() {
        let (reply, cookies) = one.await.unwrap();
        answers.push((reply, Browser { testbed, cookies, address: browser.address }));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_form_that_is_sent_twice_at_once_leads_on_whichever_answer_is_shown() {
    let testbed = std::sync::Arc::new(TestBed::new().await);
    let mut other = web("other", secret());
    other.trusted = false;
    testbed.put(other).await;
    for round in 0..12 {
        // The sessions that make room are those of before.
        testbed.advance(1);
        let mut browser = Browser::at(&testbed, &format!("192.0.2.{round}"));
        let page = browser.authorize("other", &[("prompt", "consent")]).await;
        let answers =
            sent_at_once(&testbed, &browser, &page, &[("username", "alice"), ("password", PASSWORD)]).await;
        let mut shown = None;
        for (reply, browser) in answers {
            assert_eq!(reply.status, 303, "{round}: {reply:?}");
            shown = Some((reply, browser));
        }
        let (reply, mut browser) = shown.unwrap();
        let page = browser.go(reply.field("location")).await;
        let answers = sent_at_once(&testbed, &browser, &page, &[("decision", "allow")]).await;
        for (reply, _) in &answers {
            assert_eq!(reply.status, 303, "{round}: {reply:?}");
        }
        let answer = browser.go(answers[round % 3].0.field("location")).await.answer();
        assert!(answer.contains_key("code"), "{round}: {answer:?}");
    }
}

#[tokio::test]
async fn sessions_and_logins_end() {
    let hour = 3600;
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    testbed.advance(900);
    assert_eq!(browser.log_in(&page).await.status, 400, "a login that nobody finished");
    browser.log_in_for("web", &[]).await;
    testbed.advance(7 * hour);
    assert!(browser.authorize("web", &[]).await.answer().contains_key("code"));
    testbed.advance(7 * hour);
    assert!(browser.authorize("web", &[]).await.answer().contains_key("code"), "used in between");
    testbed.advance(8 * hour);
    assert!(browser.authorize("web", &[]).await.text.contains("type=\"password\""), "idle");
    browser.log_in_for("web", &[]).await;
    for _ in 0..4 {
        testbed.advance(5 * hour);
        assert!(browser.authorize("web", &[]).await.answer().contains_key("code"));
    }
    testbed.advance(4 * hour);
    assert!(browser.authorize("web", &[]).await.text.contains("type=\"password\""), "a day old");
}

/// Where a page leads whose person cannot go on here.
fn ways(page: &str) -> Vec<String> {
    let links = page.split("<p><a href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    links.map(|link| link.replace("&#x2F;", "/").replace("&#x3d;", "=").replace("&#38;", "&")).collect()
}

#[tokio::test]
async fn whoever_is_slowed_down_is_told_for_how_long_and_gets_the_form_again() {
    let testbed = TestBed::new().await;
    for (language, told) in
        [("en", "You can try again in 2 seconds."), ("de", "In 2 Sekunden können Sie es wieder versuchen.")]
    {
        let mut browser = Browser::at(&testbed, if language == "en" { "192.0.2.1" } else { "192.0.2.2" });
        let mut page = browser.authorize("web", &[("ui_locales", language)]).await;
        for _ in 0..6 {
            page = browser.submit(&page, &[("username", "alice"), ("password", "wrong")]).await;
            assert_eq!(page.status.as_u16(), 401);
        }
        let refused = browser.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await;
        assert_eq!((refused.status.as_u16(), refused.field("retry-after")), (429, "2"));
        assert!(refused.text.contains(told), "{}", refused.text);
        let [way] = ways(&refused.text).try_into().unwrap();
        testbed.advance(2);
        let page = browser.go(&way).await;
        assert!(browser.log_in(&page).await.field("location").contains("code="));
    }
}

#[tokio::test]
async fn whoever_has_a_login_that_is_over_finds_back() {
    let testbed = TestBed::new().await;
    let over = async |mut browser: Browser<'_>, page: Reply| {
        testbed.advance(3600);
        let refused = browser.log_in(&page).await;
        assert_eq!(refused.status.as_u16(), 400, "{}", refused.text);
        ways(&refused.text)
    };
    // Of an application: where that begins.
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    assert_eq!(over(browser, page).await, ["https://app.example/"]);
    // Of a page of ours: that page.
    let mut browser = Browser::new(&testbed);
    let page = browser.go("/realms/shop/account").await;
    assert_eq!(over(browser, page).await, ["/realms/shop/account"]);
    // Nobody knows of what.
    let unknown = testbed.get("/realms/shop/login?flow=nothing").await;
    assert_eq!(ways(&unknown.text), ["/realms/shop/account"], "{}", unknown.text);
}

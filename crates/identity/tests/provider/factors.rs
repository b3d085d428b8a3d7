//! Second factors: codes of an app and recovery codes, who is asked for them, and who
//! tries to do without.

use std::sync::Arc;

use identity::FactorKind;
use model::Secret;
use serde_json::json;
use totp_rs::Totp;

use crate::support::{Browser, PASSWORD, Reply, TestBed, payload, read_form, secret, web};

const KEY: &[u8] = b"12345678901234567890";

/// An authenticator app that we did not write.
pub(crate) struct App(Totp);

impl App {
    /// Scans the code of a page.
    pub(crate) fn scan(page: &Reply) -> Self {
        let address = page.text.split_once("href=\"otpauth:").unwrap_or_else(|| panic!("{page:?}")).1;
        let address = address.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
        Self(Totp::from_url(format!("otpauth:{address}")).unwrap())
    }

    pub(crate) fn of(key: &[u8]) -> Self {
        let secret = data_encoding::BASE32_NOPAD.encode(key);
        Self(Totp::from_url(format!("otpauth://totp/x:y?secret={secret}&issuer=x")).unwrap())
    }

    /// The code of so many seconds from now.
    pub(crate) fn code(&self, testbed: &TestBed, seconds: i64) -> String {
        let time = testbed.now().unix_seconds().checked_add_signed(seconds).unwrap();
        self.0.generate(time).to_string()
    }

    /// A code that is none.
    pub(crate) fn wrong(&self, testbed: &TestBed) -> String {
        let good: Vec<String> = [-30, 0, 30].map(|seconds| self.code(testbed, seconds)).into();
        ["000000", "111111", "222222", "333333"]
            .into_iter()
            .find(|code| !good.contains(&(*code).to_owned()))
            .unwrap()
            .to_owned()
    }
}

/// A test bed where alice has an app.
async fn enrolled() -> (TestBed, App) {
    let testbed = TestBed::new().await;
    testbed.realm.put_totp("alice", "phone", Secret::new(KEY.to_vec())).await.unwrap();
    (testbed, App::of(KEY))
}

/// Alice, asked for a code.
async fn asked(browser: &mut Browser<'_>, pairs: &[(&str, &str)]) -> Reply {
    let page = browser.authorize("web", pairs).await;
    let page = browser.log_in(&page).await;
    assert!(page.text.contains("one-time-code"), "{page:?}");
    page
}

async fn id_token(testbed: &TestBed, code: &str) -> serde_json::Value {
    payload(testbed.redeem("web", code).await.json()["id_token"].as_str().unwrap())
}

#[tokio::test]
async fn who_has_an_app_is_asked_for_its_code_and_the_tokens_say_so() {
    let (testbed, app) = enrolled().await;
    let mut browser = Browser::new(&testbed);
    let page = asked(&mut browser, &[]).await;
    assert!(browser.session().is_none(), "the password alone begins nothing");
    // Around the page: the answer is not reached without it.
    let (_, hidden) = read_form(&page.text);
    let around = browser.go(&format!("/realms/shop/flow?flow={}", hidden["flow"])).await;
    assert!(around.text.contains("one-time-code") && browser.session().is_none());
    let wrong = browser.submit(&page, &[("code", &app.wrong(&testbed))]).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.text.contains("aria-describedby=\"error\""), "{}", wrong.text);
    testbed.advance(20);
    let answer = browser.submit(&wrong, &[("code", &app.code(&testbed, 0))]).await.answer();
    let token = id_token(&testbed, &answer["code"]).await;
    assert_eq!((&token["acr"], &token["amr"]), (&json!("2"), &json!(["pwd", "otp", "mfa"])));
    assert_eq!(token["auth_time"], json!(testbed.now().unix_seconds()));
    // Bob has none, and is not asked.
    testbed.give_password("bob").await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let answer = browser.submit(&page, &[("username", "bob"), ("password", PASSWORD)]).await.answer();
    let token = id_token(&testbed, &answer["code"]).await;
    assert_eq!((&token["acr"], &token["amr"]), (&json!("1"), &json!(["pwd"])));
}

#[tokio::test]
async fn a_code_counts_once_and_one_step_apart() {
    let (testbed, app) = enrolled().await;
    let mut one = Browser::new(&testbed);
    let page = asked(&mut one, &[]).await;
    let code = app.code(&testbed, 0);
    assert!(one.submit(&page, &[("code", &code)]).await.answer().contains_key("code"));
    // Seen over the shoulder, with the password known as well.
    let mut thief = Browser::new(&testbed);
    let page = asked(&mut thief, &[]).await;
    let page = thief.submit(&page, &[("code", &code)]).await;
    assert_eq!(page.status, 401);
    let page = thief.submit(&page, &[("code", &app.code(&testbed, -30))]).await;
    assert_eq!(page.status, 401, "an older one");
    let page = thief.submit(&page, &[("code", &app.code(&testbed, 60))]).await;
    assert_eq!(page.status, 401, "two steps ahead");
    let spaced = app.code(&testbed, 30);
    let spaced = format!(" {} {} ", &spaced[..3], &spaced[3..]);
    assert!(thief.submit(&page, &[("code", &spaced)]).await.answer().contains_key("code"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_code_that_is_shown_twenty_times_at_once_counts_once() {
    let (testbed, app) = enrolled().await;
    let testbed = Arc::new(testbed);
    let mut browsers = Vec::new();
    for _ in 0..20 {
        let mut browser = Browser::new(&testbed);
        let page = asked(&mut browser, &[]).await;
        browsers.push((page, browser.cookies));
    }
    let code = app.code(&testbed, 0);
    let tries = browsers.into_iter().map(|(page, cookies)| {
        let (testbed, code) = (Arc::clone(&testbed), code.clone());
        tokio::spawn(async move {
            let mut browser = Browser { cookies, ..Browser::new(&testbed) };
            let reply = browser.submit(&page, &[("code", &code)]).await;
            reply.field("location").contains("code=")
        })
    });
    let mut good = 0;
    for one in tries.collect::<Vec<_>>() {
        good += u32::from(one.await.unwrap());
    }
    assert_eq!(good, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_app_that_is_enrolled_ten_times_at_once_is_one() {
    let testbed = Arc::new(TestBed::new().await);
    let mut browser = Browser::new(&testbed);
    let page = browser.go("/realms/shop/account/factor").await;
    let page = browser.log_in(&page).await;
    let (action, hidden) = read_form(&page.text);
    let app = App::scan(&page);
    let code = app.code(&testbed, 0);
    let cookies = browser.cookies.clone();
    let tries = (0..10).map(|_| {
        let (testbed, cookies, action) = (Arc::clone(&testbed), cookies.clone(), action.clone());
        let (csrf, code) = (hidden["csrf"].clone(), code.clone());
        tokio::spawn(async move {
            let mut browser = Browser { cookies, ..Browser::new(&testbed) };
            browser.post_and_stay(&action, &[("csrf", csrf.as_str()), ("code", code.as_str())]).await.status
        })
    });
    let mut statuses = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        statuses.push(one.await.unwrap().as_u16());
    }
    assert!(statuses.contains(&200), "{statuses:?}");
    assert_eq!(testbed.realm.factors("alice").await.unwrap().len(), 1, "{statuses:?}");
    // Nor one after the other; another person may have the same.
    testbed.realm.put_totp("bob", "phone", Secret::new(KEY.to_vec())).await.unwrap();
    let again = testbed.realm.put_totp("bob", "the same phone", Secret::new(KEY.to_vec())).await;
    assert!(again.unwrap_err().to_string().contains("set up already"));
    testbed.realm.put_totp("alice", "phone", Secret::new(KEY.to_vec())).await.unwrap();
}

#[tokio::test]
async fn guessing_codes_is_bounded_and_locks_nobody_out_of_the_password() {
    let (testbed, app) = enrolled().await;
    let mut guesses = 0;
    // Each login has ten attempts, password included; the person has ten wrong codes.
    'logins: for _ in 0..4 {
        let mut thief = Browser::new(&testbed);
        let mut page = asked(&mut thief, &[]).await;
        loop {
            page = thief.submit(&page, &[("code", &app.wrong(&testbed))]).await;
            match page.status.as_u16() {
                400 => continue 'logins,
                _ if page.text.contains("Too many wrong codes") => break 'logins,
                _ => guesses += 1,
            }
            assert!(guesses <= 10, "unbounded");
        }
    }
    assert_eq!(guesses, 10);
    // The right one is not looked at either, for an hour.
    let mut browser = Browser::new(&testbed);
    let page = asked(&mut browser, &[]).await;
    let page = browser.submit(&page, &[("code", &app.code(&testbed, 0))]).await;
    assert!(page.text.contains("Too many wrong codes"));
    // Bob, whose app it is not, and whoever knows the password up to there: as ever.
    testbed.give_password("bob").await;
    testbed.realm.put_totp("bob", "phone", Secret::new(KEY.to_vec())).await.unwrap();
    let mut bob = Browser::new(&testbed);
    let page = bob.authorize("web", &[]).await;
    let page = bob.submit(&page, &[("username", "bob"), ("password", PASSWORD)]).await;
    assert!(bob.submit(&page, &[("code", &app.code(&testbed, 0))]).await.answer().contains_key("code"));
    testbed.advance(3600);
    let page = asked(&mut browser, &[]).await;
    assert!(browser.submit(&page, &[("code", &app.code(&testbed, 0))]).await.answer().contains_key("code"));
}

#[tokio::test]
async fn who_has_to_have_a_factor_enrols_before_the_login_ends() {
    let testbed =
        TestBed::with(|settings| drop(settings.factors.roles.insert("customer".into(), "2".into()))).await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let page = browser.log_in(&page).await;
    assert!(page.text.contains("Set up a second factor") && browser.session().is_none(), "{page:?}");
    assert!(!page.text.contains("Not now"));
    // No way past it.
    let later = browser.submit(&page, &[("decision", "later")]).await;
    assert_eq!(later.status, 401);
    let (_, hidden) = read_form(&page.text);
    for path in ["flow", "login/factor", "login/enrol", "consent"] {
        let around = browser.go(&format!("/realms/shop/{path}?flow={}", hidden["flow"])).await;
        assert!(!around.field("location").contains("code="), "{path}");
        assert!(browser.session().is_none(), "{path}");
    }
    let app = App::scan(&page);
    let wrong = browser.submit(&page, &[("code", &app.wrong(&testbed))]).await;
    assert_eq!(wrong.status, 401);
    assert!(testbed.realm.factors("alice").await.unwrap().is_empty(), "nothing without a code");
    let codes = browser.submit(&wrong, &[("code", &app.code(&testbed, 0)), ("name", "my phone")]).await;
    assert_eq!(codes.text.matches("<li><code>").count(), 10, "{codes:?}");
    let factors = testbed.realm.factors("alice").await.unwrap();
    assert_eq!((factors.len(), factors[0].kind, factors[0].name.as_str()), (1, FactorKind::Totp, "my phone"));
    let answer = browser.go(&format!("/realms/shop/flow?flow={}", hidden["flow"])).await.answer();
    assert_eq!(id_token(&testbed, &answer["code"]).await["acr"], json!("2"));
    // The code of the enrolment is spent; the next login asks for another.
    let mut again = Browser::new(&testbed);
    let page = asked(&mut again, &[]).await;
    assert_eq!(again.submit(&page, &[("code", &app.code(&testbed, 0))]).await.status, 401);
}

/// A gateway may take a group for a role.
#[tokio::test]
async fn who_has_a_role_by_a_group_is_asked_for_what_it_needs() {
    let testbed =
        TestBed::with(|settings| drop(settings.factors.roles.insert("operator".into(), "2".into()))).await;
    for (group, asked) in [("friends", false), ("operator", true)] {
        let mut alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
        alice.groups = std::collections::BTreeSet::from([group.to_owned()]);
        testbed.realm.put_user(&alice).await.unwrap();
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("web", &[]).await;
        let page = browser.log_in(&page).await;
        assert_eq!(page.text.contains("Set up a second factor"), asked, "{group}: {page:?}");
        assert_eq!(browser.session().is_none(), asked, "{group}");
    }
}

#[tokio::test]
async fn a_recovery_code_lets_in_once() {
    let testbed =
        TestBed::with(|settings| drop(settings.factors.roles.insert("customer".into(), "2".into()))).await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let page = browser.log_in(&page).await;
    let app = App::scan(&page);
    let codes = browser.submit(&page, &[("code", &app.code(&testbed, 0))]).await;
    let code = codes.text.split_once("<li><code>").unwrap().1.split('<').next().unwrap().to_owned();
    assert_eq!(code.len(), 19, "{code}");
    let mut lost = Browser::new(&testbed);
    let page = asked(&mut lost, &[]).await;
    for wrong in ["0000-0000-0000-0000", "x", &code[..18]] {
        assert_eq!(lost.submit(&page, &[("recovery", wrong)]).await.status, 401);
    }
    let typed = code.to_lowercase().replace('-', " ");
    let answer = lost.submit(&page, &[("recovery", &typed)]).await.answer();
    assert_eq!(id_token(&testbed, &answer["code"]).await["acr"], json!("2"));
    let mut thief = Browser::new(&testbed);
    let page = asked(&mut thief, &[]).await;
    assert_eq!(thief.submit(&page, &[("recovery", &code)]).await.status, 401);
    // Another person's codes are no codes.
    testbed.realm.put_totp("bob", "phone", Secret::new(KEY.to_vec())).await.unwrap();
    // With the last factor its recovery codes go.
    let id = testbed.realm.factors("alice").await.unwrap()[0].id.clone();
    assert!(testbed.realm.remove_factor("alice", &id).await.unwrap());
    assert!(!testbed.realm.remove_factor("alice", &id).await.unwrap());
    let page = thief.authorize("web", &[]).await;
    assert!(thief.log_in(&page).await.text.contains("Set up a second factor"));
}

#[tokio::test]
async fn a_step_up_asks_only_for_what_is_missing() {
    let testbed = TestBed::with(|settings| settings.factors.ask_enrolled = false).await;
    testbed.realm.put_totp("alice", "phone", Secret::new(KEY.to_vec())).await.unwrap();
    let app = App::of(KEY);
    let mut browser = Browser::new(&testbed);
    let first = browser.log_in_for("web", &[]).await;
    let first = id_token(&testbed, &first["code"]).await;
    assert_eq!(first["acr"], json!("1"));
    let before = browser.session().unwrap().clone();
    testbed.advance(100);
    let quiet = browser.authorize("web", &[("acr_values", "2"), ("prompt", "none")]).await.answer();
    assert_eq!(quiet["error"], "login_required");
    let page = browser.authorize("web", &[("acr_values", "2")]).await;
    assert!(page.text.contains("one-time-code") && !page.text.contains("type=\"password\""), "{page:?}");
    let answer = browser.submit(&page, &[("code", &app.code(&testbed, 0))]).await.answer();
    let token = id_token(&testbed, &answer["code"]).await;
    assert_eq!((&token["acr"], &token["amr"]), (&json!("2"), &json!(["pwd", "otp", "mfa"])));
    assert_eq!(token["auth_time"], first["auth_time"], "the password was shown then");
    assert_eq!(token["sid"], first["sid"], "the same session");
    // With another secret: a cookie of before is worth nothing.
    assert_ne!(browser.session().unwrap(), &before);
    let mut thief = Browser::new(&testbed);
    thief.cookies.insert("__Host-shop-session".to_owned(), before);
    assert!(thief.authorize("web", &[]).await.text.contains("type=\"password\""));
    // It lasts, and a fresh login is a fresh login.
    let quiet = browser.authorize("web", &[("acr_values", "2"), ("prompt", "none")]).await.answer();
    assert!(quiet.contains_key("code"));
    let aged = browser.authorize("web", &[("acr_values", "2"), ("max_age", "50")]).await;
    assert!(aged.text.contains("type=\"password\""));
    let page = browser.log_in(&aged).await;
    testbed.advance(30);
    let answer = browser.submit(&page, &[("code", &app.code(&testbed, 0))]).await.answer();
    assert_eq!(id_token(&testbed, &answer["code"]).await["auth_time"], json!(testbed.now().unix_seconds()));
}

#[tokio::test]
async fn a_wish_can_wait_and_what_a_client_needs_cannot() {
    let testbed = TestBed::new().await;
    let mut strict = web("strict", secret());
    strict.acr = Some("2".to_owned());
    testbed.put(strict.clone()).await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    // Nobody is there to enrol: a wish is left.
    let quiet = browser.authorize("web", &[("acr_values", "2"), ("prompt", "none")]).await.answer();
    assert!(quiet.contains_key("code"));
    let quiet = browser.authorize("strict", &[("prompt", "none")]).await.answer();
    assert_eq!(quiet["error"], "login_required");
    let page = browser.authorize("web", &[("acr_values", "2")]).await;
    assert!(page.text.contains("Not now"), "{page:?}");
    let answer =
        browser.post("/realms/shop/login/enrol", &with(&page, &[("decision", "later")])).await.answer();
    assert_eq!(id_token(&testbed, &answer["code"]).await["acr"], json!("1"));
    let page = browser.authorize("strict", &[]).await;
    assert!(page.text.contains("Set up a second factor") && !page.text.contains("Not now"), "{page:?}");
    // A session that is not fresh enrols nothing: it may be stolen. Nor does a page that was open
    // when it was, or one that is gone to around the password.
    testbed.advance(601);
    let code = App::scan(&page).code(&testbed, 0);
    let late = browser.submit(&page, &[("code", &code)]).await;
    assert!(late.text.contains("type=\"password\""), "{late:?}");
    for fresh in [late, browser.authorize("strict", &[]).await] {
        assert!(fresh.text.contains("type=\"password\""), "{fresh:?}");
        let (_, hidden) = read_form(&fresh.text);
        let around = browser.go(&format!("/realms/shop/login/enrol?flow={}", hidden["flow"])).await;
        assert!(around.status == 400 && !around.text.contains("otpauth:"), "{around:?}");
        let fields = with(&fresh, &[("code", &code)]);
        let around = browser.post("/realms/shop/login/enrol", &fields).await;
        assert_eq!(around.status, 400, "{around:?}");
    }
    assert!(testbed.realm.factors("alice").await.unwrap().is_empty());
    let page = browser.authorize("strict", &[]).await;
    let page = browser.log_in(&page).await;
    let app = App::scan(&page);
    browser.submit(&page, &[("code", &app.code(&testbed, 0))]).await;
    let (_, hidden) = read_form(&page.text);
    let done = browser.go(&format!("/realms/shop/flow?flow={}", hidden["flow"])).await;
    assert!(done.answer().contains_key("code"));
    // A class that nobody can reach is refused where it is written down.
    strict.acr = Some("9".to_owned());
    assert!(testbed.realm.put_client(&strict).await.is_err());
}

/// The hidden fields of a page's form, with more.
fn with<'p>(page: &Reply, pairs: &[(&'p str, &'p str)]) -> Vec<(&'p str, &'p str)> {
    let (_, hidden) = read_form(&page.text);
    let hidden = hidden.into_iter().map(|(name, value)| (&*name.leak(), &*value.leak()));
    hidden.chain(pairs.iter().copied()).collect()
}

#[tokio::test]
async fn secrets_of_factors_lie_nowhere_in_the_clear() {
    let clock = crate::support::HandClock::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identity.db");
    let key = store::UnsealKey::generate().unwrap();
    store::Store::initialise_sqlite(&file, &key).unwrap();
    let limits = store::CacheLimits::default();
    let store = store::Store::open_sqlite(&file, key, Arc::clone(&clock) as _, limits).unwrap();
    let testbed = TestBed::on(store, clock, |_| {}).await;
    testbed.realm.put_totp("alice", "the blue phone", Secret::new(KEY.to_vec())).await.unwrap();
    assert_eq!(testbed.realm.factors("alice").await.unwrap().len(), 1);
    drop(testbed);
    let base32 = data_encoding::BASE32_NOPAD.encode(KEY);
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        // The journal goes when the store closes.
        let Ok(found) = std::fs::read(entry.unwrap().path()) else { continue };
        bytes += found.len();
        for plain in [KEY, base32.as_bytes(), b"the blue phone", b"alice"] {
            assert!(!found.windows(plain.len()).any(|part| part == plain), "{}", plain.escape_ascii());
        }
    }
    assert!(bytes > 4096);
}

#[tokio::test]
async fn an_app_from_elsewhere_is_given_once_and_asked_for() {
    let testbed = TestBed::new().await;
    let secret = |text: &str| identity::TotpSecret::parse(text).unwrap();
    let (one, other) =
        (secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"), secret("MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U"));
    for secret in [&one, &one, &other] {
        testbed.realm.put_totp_as("alice", "theirs", "phone", secret).await.unwrap();
    }
    let factors = testbed.realm.factors("alice").await.unwrap();
    assert_eq!((factors.len(), factors[0].id.as_str(), factors[0].name.as_str()), (1, "theirs", "phone"));
    // One secret is one factor.
    assert!(testbed.realm.put_totp_as("alice", "again", "phone", &other).await.is_err());
    for (user, id) in [("nobody", "theirs"), ("alice", ""), ("alice", "a b"), ("alice", &"x".repeat(65))] {
        assert!(testbed.realm.put_totp_as(user, id, "phone", &one).await.is_err(), "{user} {id}");
    }
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let page = browser.log_in(&page).await;
    assert!(page.text.contains("name=\"code\""), "{}", page.text);
}

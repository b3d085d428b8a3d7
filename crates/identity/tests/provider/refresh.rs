//! Refresh tokens: rotation, reuse, grace, and many at once.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Clock, Timestamp};
use serde_json::{Value, json};
use store::Store;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::factors::App;
use crate::support::{Browser, HandClock, NOW, SECRET, TestBed, payload};

type Acting = Pin<Box<dyn Future<Output = ()> + Send>>;

fn token(tokens: &Value) -> String {
    tokens["refresh_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_use_rotates_and_an_old_one_ends_the_family() {
    let testbed = TestBed::new().await;
    let first = testbed.tokens("web", "openid offline_access").await;
    testbed.advance(60);
    let second = testbed.refresh("web", &token(&first)).await.json();
    assert_ne!(token(&second), token(&first));
    let (before, now) =
        (payload(first["id_token"].as_str().unwrap()), payload(second["id_token"].as_str().unwrap()));
    // OpenID Connect Core §12.2.
    for same in ["iss", "sub", "aud", "auth_time", "acr", "sid"] {
        assert_eq!(before[same], now[same], "{same}");
    }
    assert!(now["iat"].as_u64() > before["iat"].as_u64() && now.get("nonce").is_none());
    testbed.advance(60);
    let third = testbed.refresh("web", &token(&second)).await.json();
    assert!(testbed.is_active(third["access_token"].as_str().unwrap()).await);

    // Long after its rotation: stolen.
    testbed.refresh("web", &token(&first)).await.refused(400, "invalid_grant");
    testbed.refresh("web", &token(&third)).await.refused(400, "invalid_grant");
    for tokens in [&second, &third] {
        assert!(!testbed.is_active(tokens["access_token"].as_str().unwrap()).await);
    }
    let revoked: BTreeSet<_> =
        testbed.realm.revocations().await.unwrap().into_iter().filter_map(|entry| entry.grant).collect();
    let issued = [&first, &second, &third]
        .map(|tokens| payload(tokens["access_token"].as_str().unwrap())["jti"].clone());
    for id in issued {
        let (grant, _) = id.as_str().unwrap().split_once('.').unwrap();
        assert!(revoked.contains(grant), "{id}: gateways are told of each that is still good");
    }
    // Another family of the same person goes on.
    let other = testbed.tokens("web", "openid offline_access").await;
    assert_eq!(testbed.refresh("web", &token(&other)).await.status, 200);
}

#[tokio::test]
async fn a_lost_answer_is_given_again_within_the_grace_and_not_after() {
    let testbed = TestBed::new().await;
    let first = testbed.tokens("web", "openid offline_access").await;
    let second = testbed.refresh("web", &token(&first)).await.json();
    testbed.advance(9);
    let again = testbed.refresh("web", &token(&first)).await.json();
    assert_eq!(token(&again), token(&second), "the same successor: no second line of descent");
    assert!(testbed.is_active(again["access_token"].as_str().unwrap()).await);
    // The successor was used: the first is two behind, whatever the time.
    let third = testbed.refresh("web", &token(&second)).await.json();
    assert_ne!(token(&third), token(&second));
    testbed.refresh("web", &token(&first)).await.refused(400, "invalid_grant");
    testbed.refresh("web", &token(&third)).await.refused(400, "invalid_grant");

    let first = testbed.tokens("web", "openid offline_access").await;
    let second = testbed.refresh("web", &token(&first)).await.json();
    testbed.advance(10);
    testbed.refresh("web", &token(&first)).await.refused(400, "invalid_grant");
    testbed.refresh("web", &token(&second)).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn a_repetition_writes_nothing_and_its_access_token_ends_with_the_family() {
    let testbed = TestBed::new().await;
    let first = testbed.tokens("web", "openid offline_access").await;
    testbed.refresh("web", &token(&first)).await;
    testbed.advance(9);
    let written = testbed.store.version();
    let again = testbed.refresh("web", &token(&first)).await.json();
    assert_eq!(testbed.store.version(), written, "many repetitions at once would be in each other's way");
    // Reuse.
    testbed.advance(1);
    testbed.refresh("web", &token(&first)).await.refused(400, "invalid_grant");
    let revoked = testbed.realm.revocations().await.unwrap();
    let [revoked] = revoked.as_slice() else { panic!("{revoked:?}") };
    let expires = payload(again["access_token"].as_str().unwrap())["exp"].as_u64().unwrap();
    let leeway = keys::LEEWAY_MAX.as_secs();
    assert!(revoked.until.unwrap() >= expires + leeway, "good again before it ends: {revoked:?}");
}

#[tokio::test]
async fn without_a_grace_every_repetition_is_reuse() {
    let testbed =
        TestBed::with(|settings| settings.lifetimes.refresh_grace = std::time::Duration::ZERO).await;
    let first = testbed.tokens("web", "openid offline_access").await;
    let second = testbed.refresh("web", &token(&first)).await.json();
    testbed.refresh("web", &token(&first)).await.refused(400, "invalid_grant");
    testbed.refresh("web", &token(&second)).await.refused(400, "invalid_grant");
}

/// CVE-2026-1035: concurrent refreshes must not pass by reuse detection.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_refreshes_at_once_there_is_one_successor() {
    for grace in [0, 10] {
        let testbed = TestBed::with(|settings| {
            settings.lifetimes.refresh_grace = std::time::Duration::from_secs(grace);
        });
        let testbed = Arc::new(testbed.await);
        let first = token(&testbed.tokens("web", "openid offline_access").await);
        let uses = (0..64).map(|_| {
            let (testbed, first) = (Arc::clone(&testbed), first.clone());
            tokio::spawn(async move { testbed.refresh("web", &first).await })
        });
        let mut successors = BTreeSet::new();
        let mut refused = 0;
        for reply in uses.collect::<Vec<_>>() {
            let reply = reply.await.unwrap();
            match reply.status.as_u16() {
                200 => drop(successors.insert(token(&reply.json()))),
                _ => {
                    reply.refused(400, "invalid_grant");
                    refused += 1;
                }
            }
        }
        assert_eq!(successors.len(), 1, "grace {grace}: two lines of descent");
        let successor = successors.first().unwrap();
        if grace == 0 {
            assert!(refused > 0);
            testbed.refresh("web", successor).await.refused(400, "invalid_grant");
        } else {
            assert_eq!(refused, 0);
            assert_eq!(testbed.refresh("web", successor).await.status, 200);
        }
    }
}

/// A clock that stands still. Its store looks at it after it has read a record: then somebody else does
/// something, before whoever asked for the record goes on.
#[derive(Default)]
struct BusyClock {
    busy: AtomicBool,
    meanwhile: Mutex<Option<Box<dyn Fn() -> Acting + Send>>>,
}

impl Clock for BusyClock {
    fn now(&self) -> Timestamp {
        if Handle::try_current().is_ok() && !self.busy.swap(true, Ordering::SeqCst) {
            let act = self.meanwhile.lock().unwrap().as_ref().map(|meanwhile| meanwhile());
            if let Some(act) = act {
                block_in_place(|| Handle::current().block_on(act));
            }
            self.busy.store(false, Ordering::SeqCst);
        }
        Timestamp::from_unix_seconds(NOW)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Each answer writes the grant, also that to the token of before within the grace: whoever has one
/// sends it all the time, so that nobody finds the grant as they read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_refreshes_all_the_time_keeps_nobody_from_ending_the_grant() {
    let busy = Arc::new(BusyClock::default());
    let store = Store::in_memory(Arc::clone(&busy) as Arc<dyn Clock>).unwrap();
    let testbed = Arc::new(TestBed::on(store, HandClock::new(), |_| ()).await);
    let first = testbed.tokens("web", "openid offline_access").await;
    let second = testbed.refresh("web", &token(&first)).await.json();
    let third = testbed.refresh("web", &token(&second)).await.json();
    let written = Arc::new(AtomicU32::new(0));
    let (other, repeated, answers) = (Arc::downgrade(&testbed), token(&second), Arc::clone(&written));
    let meanwhile = move || {
        let (other, repeated, answers) = (other.clone(), repeated.clone(), Arc::clone(&answers));
        let refresh = async move {
            let Some(testbed) = other.upgrade() else { return };
            let reply = testbed.refresh("web", &repeated).await;
            answers.fetch_add(u32::from(reply.status == 200), Ordering::SeqCst);
        };
        Box::pin(refresh) as Acting
    };
    *busy.meanwhile.lock().unwrap() = Some(Box::new(meanwhile));
    testbed.refresh("web", &token(&first)).await.refused(400, "invalid_grant");
    *busy.meanwhile.lock().unwrap() = None;
    assert!(written.load(Ordering::SeqCst) > 1, "others wrote it meanwhile");
    testbed.refresh("web", &token(&third)).await.refused(400, "invalid_grant");
    for tokens in [&second, &third] {
        assert!(!testbed.is_active(tokens["access_token"].as_str().unwrap()).await);
    }
}

#[tokio::test]
async fn a_refresh_token_is_its_clients_and_cannot_be_made_up() {
    let testbed = TestBed::new().await;
    let tokens = token(&testbed.tokens("web", "openid offline_access").await);
    testbed.refresh("spa", &tokens).await.refused(400, "invalid_grant");
    let [grant, generation, tag] = tokens.split('.').collect::<Vec<_>>().try_into().unwrap();
    let reversed = tag.chars().rev().collect::<String>();
    for wrong in [
        format!("{grant}.1.{tag}"),
        format!("{grant}.{generation}.{reversed}"),
        format!("{grant}.{generation}."),
        format!("{grant}.-1.{tag}"),
        format!("{grant}.18446744073709551615.{tag}"),
        format!("{tokens}.x"),
        format!("other.{generation}.{tag}"),
        "x".to_owned(),
    ] {
        testbed.refresh("web", &wrong).await.refused(400, "invalid_grant");
    }
    // None of that ended the family.
    assert_eq!(testbed.refresh("web", &tokens).await.status, 200);
}

#[tokio::test]
async fn a_refresh_token_ends_with_its_session_unless_it_is_for_offline() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let online = browser.log_in_for("web", &[("scope", "openid")]).await["code"].clone();
    let online = token(&testbed.redeem("web", &online).await.json());
    let offline =
        browser.authorize("web", &[("scope", "openid offline_access")]).await.answer()["code"].clone();
    let offline = token(&testbed.redeem("web", &offline).await.json());
    let session = browser.session().unwrap().split('.').next().unwrap().to_owned();
    let online = token(&testbed.refresh("web", &online).await.json());
    testbed.realm.end_session(&session).await.unwrap();
    testbed.refresh("web", &online).await.refused(400, "invalid_grant");
    // What goes on offline is good here and at gateways, which were told of the session.
    let offline = testbed.refresh("web", &offline).await.json();
    let access = offline["access_token"].as_str().unwrap();
    assert!(testbed.is_active(access).await);
    assert_eq!(payload(access).get("sid"), None);
    assert_eq!(payload(offline["id_token"].as_str().unwrap())["sid"], json!(session));
}

#[tokio::test]
async fn every_token_of_a_family_ends_with_it_however_many_there_are() {
    let testbed = TestBed::new().await;
    let first = testbed.tokens("web", "openid offline_access").await;
    let mut current = first.clone();
    for _ in 0..20 {
        current = testbed.refresh("web", &token(&current)).await.json();
    }
    let access = first["access_token"].as_str().unwrap();
    assert!(testbed.is_active(access).await);
    testbed.refresh("web", &token(&first)).await.refused(400, "invalid_grant");
    assert!(!testbed.is_active(access).await);
}

#[tokio::test]
async fn refreshing_keeps_a_session_busy_and_nothing_outlives_it() {
    let hour = 3600;
    let testbed = TestBed::new().await;
    let mut tokens = token(&testbed.tokens("web", "openid").await);
    for _ in 0..3 {
        testbed.advance(7 * hour);
        tokens = token(&testbed.refresh("web", &tokens).await.json());
    }
    testbed.advance(3 * hour - 100);
    let last = testbed.refresh("web", &tokens).await.json();
    assert_eq!(last["expires_in"], json!(100), "the session is a day old then");
    testbed.advance(100);
    testbed.refresh("web", &token(&last)).await.refused(400, "invalid_grant");

    let idle = testbed.tokens("web", "openid").await;
    let offline = testbed.tokens("web", "openid offline_access").await;
    testbed.advance(8 * hour);
    testbed.refresh("web", &token(&idle)).await.refused(400, "invalid_grant");
    assert_eq!(testbed.refresh("web", &token(&offline)).await.status, 200);
}

#[tokio::test]
async fn a_refresh_narrows_and_never_widens() {
    let testbed = TestBed::new().await;
    let tokens = testbed.tokens("web", "openid offline_access orders:read").await;
    let ask = |scope: &'static str, token: String| {
        let testbed = &testbed;
        async move {
            let pairs = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token.as_str()),
                ("scope", scope),
                ("client_id", "web"),
                ("client_secret", SECRET),
            ];
            testbed.post("/token", &pairs).await
        }
    };
    ask("orders:write", token(&tokens)).await.refused(400, "invalid_scope");
    let narrow = ask("orders:read", token(&tokens)).await.json();
    assert_eq!((&narrow["scope"], narrow.get("id_token")), (&json!("orders:read"), None));
    let whole = ask("", token(&narrow)).await.json();
    assert_eq!(whole["scope"], "offline_access openid orders:read");
    // What the client lost since is not granted again.
    let mut web = crate::support::web("web", crate::support::secret());
    web.scopes.remove("orders:read");
    testbed.put(web).await;
    assert_eq!(ask("", token(&whole)).await.json()["scope"], "offline_access openid");
}

#[tokio::test]
async fn a_refresh_token_ends_unused_and_in_any_case() {
    let day = 24 * 3600;
    let testbed = TestBed::new().await;
    let tokens = testbed.tokens("web", "openid offline_access").await;
    testbed.advance(14 * day);
    testbed.refresh("web", &token(&tokens)).await.refused(400, "invalid_grant");

    let mut tokens = token(&testbed.tokens("web", "openid offline_access").await);
    for _ in 0..8 {
        testbed.advance(10 * day);
        testbed.realm.rotate_keys().await.unwrap();
        tokens = token(&testbed.refresh("web", &tokens).await.json());
    }
    testbed.advance(10 * day);
    testbed.refresh("web", &tokens).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn a_grant_is_found_by_its_person_for_as_long_as_it_is_refreshed() {
    const DAY: u64 = 24 * 3600;
    let testbed = TestBed::new().await;
    let mut tokens = testbed.tokens("web", "openid offline_access").await;
    // What leads to it lasts longer than it, and is written less often.
    for day in (10..90).step_by(10) {
        testbed.advance(10 * DAY);
        testbed.realm.rotate_keys().await.unwrap();
        let reply = testbed.refresh("web", &token(&tokens)).await;
        assert_eq!(reply.status, 200, "day {day}: {reply:?}");
        tokens = reply.json();
        assert_eq!(testbed.realm.grants("alice").await.unwrap().len(), 1, "day {day}");
    }
    assert_eq!(testbed.realm.sign_out("alice").await.unwrap(), 1);
    testbed.refresh("web", &token(&tokens)).await.refused(400, "invalid_grant");
    // Not refreshed any more, it is nobody's, whatever still leads to it.
    let left = testbed.tokens("web", "openid offline_access").await;
    testbed.advance(15 * DAY);
    testbed.realm.rotate_keys().await.unwrap();
    assert!(testbed.realm.grants("alice").await.unwrap().is_empty());
    testbed.refresh("web", &token(&left)).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn what_is_asked_of_a_person_meanwhile_is_asked_of_their_refresh_tokens() {
    let testbed =
        TestBed::with(|settings| drop(settings.factors.roles.insert("admin".into(), "2".into()))).await;
    for scope in ["openid", "openid offline_access"] {
        let first = testbed.tokens("web", scope).await;
        // Another role, a group that is called like it, another setting of the client.
        for what in ["role", "group", "client"] {
            let change = async |asked: bool| {
                let mut alice = testbed.realm.find_user("alice").await.unwrap().unwrap();
                let mut web = crate::support::web("web", crate::support::secret());
                let added = asked.then(|| "admin".to_owned());
                match what {
                    "role" => alice.roles = added.into_iter().collect(),
                    "group" => alice.groups = added.into_iter().collect(),
                    _ => web.acr = asked.then(|| "2".to_owned()),
                }
                testbed.realm.put_user(&alice).await.unwrap();
                testbed.put(web).await;
            };
            change(true).await;
            let refused = testbed.refresh("web", &token(&first)).await;
            refused.refused(400, "invalid_grant");
            assert_eq!(refused.json()["error_description"], "a stronger login is needed", "{what}");
            assert!(!is_active(&testbed, &token(&first)).await, "{what}");
            change(false).await;
        }
        // It is neither used up nor taken for a stolen one.
        testbed.advance(60);
        assert!(is_active(&testbed, &token(&first)).await);
        let second = testbed.refresh("web", &token(&first)).await.json();
        testbed.set_roles("alice", &["admin"]).await;
        testbed.refresh("web", &token(&second)).await.refused(400, "invalid_grant");
        // A thief's use of an old one ends the family all the same.
        testbed.advance(60);
        testbed.refresh("web", &token(&first)).await.refused(400, "invalid_grant");
        testbed.set_roles("alice", &[]).await;
        testbed.refresh("web", &token(&second)).await.refused(400, "invalid_grant");
    }
}

#[tokio::test]
async fn whoever_showed_enough_refreshes_with_the_role_that_asks_for_it() {
    let testbed =
        TestBed::with(|settings| drop(settings.factors.roles.insert("admin".into(), "2".into()))).await;
    let key = b"12345678901234567890";
    testbed.realm.put_totp("alice", "phone", model::Secret::new(key.to_vec())).await.unwrap();
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[("scope", "openid offline_access")]).await;
    let page = browser.log_in(&page).await;
    let code = App::of(key).code(&testbed, 0);
    let answer = browser.submit(&page, &[("code", &code)]).await.answer();
    let tokens = testbed.redeem("web", &answer["code"]).await.json();
    testbed.set_roles("alice", &["admin"]).await;
    let refreshed = testbed.refresh("web", &token(&tokens)).await.json();
    let claims = payload(refreshed["access_token"].as_str().unwrap());
    assert_eq!((&claims["acr"], &claims["roles"]), (&json!("2"), &json!(["admin"])));
}

/// What its client is told of a refresh token.
async fn is_active(testbed: &TestBed, token: &str) -> bool {
    let pairs = [("token", token), ("client_id", "web"), ("client_secret", SECRET)];
    testbed.post("/introspect", &pairs).await.json()["active"].as_bool().unwrap()
}

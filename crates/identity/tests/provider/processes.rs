//! Several processes on one store: what counts once, counts once over all of them. Here two
//! stores are open on one SQLite file, each with its own cache, as two processes have them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use store::{CacheLimits, Store, UnsealKey};

use crate::support::{Browser, HandClock, Reply, TestBed};

/// Waits until both know what either has written.
async fn seen(testbeds: &[Arc<TestBed>; 2]) {
    let newest = testbeds[0].store.version().max(testbeds[1].store.version());
    for testbed in testbeds {
        for _ in 0..6_000 {
            if testbed.store.version() >= newest {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(testbed.store.version() >= newest, "what another process wrote is not seen");
    }
}

async fn two(grace: u64) -> ([Arc<TestBed>; 2], tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.db");
    let key = UnsealKey::generate().unwrap();
    Store::initialise_sqlite(&path, &key).unwrap();
    let clock = HandClock::new();
    let mut testbeds = Vec::new();
    for _ in 0..2 {
        let key = UnsealKey::parse(&key.to_text(), "the test").unwrap();
        let clock_of_store = Arc::clone(&clock) as Arc<dyn model::Clock>;
        let store = Store::open_sqlite(&path, key, clock_of_store, CacheLimits::default()).unwrap();
        let change = |settings: &mut identity::RealmSettings| {
            settings.lifetimes.refresh_grace = Duration::from_secs(grace);
        };
        testbeds.push(Arc::new(TestBed::on(store, Arc::clone(&clock), change).await));
    }
    (testbeds.try_into().unwrap_or_else(|_| unreachable!()), folder)
}

/// Sixteen at once, half of them to each.
async fn at_once<F: Future<Output = Reply> + Send + 'static>(
    testbeds: &[Arc<TestBed>; 2],
    ask: impl Fn(Arc<TestBed>) -> F,
) -> Vec<Reply> {
    let asked: Vec<_> = (0..16).map(|place| tokio::spawn(ask(Arc::clone(&testbeds[place % 2])))).collect();
    let mut replies = Vec::new();
    for reply in asked {
        replies.push(reply.await.unwrap());
    }
    seen(testbeds).await;
    replies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refresh_token_has_one_successor() {
    for grace in [10, 0] {
        let (testbeds, _folder) = two(grace).await;
        let first = testbeds[0].tokens("web", "openid offline_access").await;
        let first = first["refresh_token"].as_str().unwrap().to_owned();
        seen(&testbeds).await;
        let replies = at_once(&testbeds, |testbed| {
            let first = first.clone();
            async move { testbed.refresh("web", &first).await }
        });
        let good: Vec<_> = replies.await.into_iter().filter(|reply| reply.status == 200).collect();
        let successors: BTreeSet<_> =
            good.iter().map(|reply| reply.json()["refresh_token"].as_str().unwrap().to_owned()).collect();
        assert_eq!(successors.len(), 1, "grace {grace}: two lines of descent");
        for testbed in &testbeds {
            let access = good[0].json()["access_token"].as_str().unwrap().to_owned();
            assert_eq!(testbed.is_active(&access).await, grace > 0, "grace {grace}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_code_is_used_once_and_even_that_is_taken_back() {
    let (testbeds, _folder) = two(10).await;
    let code = Browser::new(&testbeds[0]).log_in_for("web", &[]).await["code"].clone();
    seen(&testbeds).await;
    let replies = at_once(&testbeds, |testbed| {
        let code = code.clone();
        async move { testbed.redeem("web", &code).await }
    });
    let replies = replies.await;
    let good: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(good.len(), 1, "{replies:?}");
    let access = good[0].json()["access_token"].as_str().unwrap().to_owned();
    for testbed in &testbeds {
        assert!(!testbed.is_active(&access).await);
        let told = testbed.realm.revocations().await.unwrap();
        assert_eq!(told.iter().filter(|one| one.grant.is_some()).count(), 1, "{told:?}");
    }
}

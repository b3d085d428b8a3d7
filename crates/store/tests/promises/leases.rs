//! Leases: one holder at a time, and a fence for work that must not be done twice.

use std::time::Duration;

use store::{Error, Expect, Key, Transaction};

use crate::testbed::{TestBed, on_every_store};

on_every_store!(
    a_lease_has_one_holder,
    of_many_who_take_a_lease_one_gets_it,
    a_fence_holds_off_who_lost_the_lease
);

const LIFETIME: Duration = Duration::from_secs(30);

async fn a_lease_has_one_holder(testbed: TestBed) {
    let store = &testbed.store;
    let mut first = store.take_lease("rotation", LIFETIME).await.unwrap().unwrap();
    assert!(store.take_lease("rotation", LIFETIME).await.unwrap().is_none());
    assert!(store.take_lease("other", LIFETIME).await.unwrap().is_some());
    testbed.clock.advance(LIFETIME - Duration::from_secs(1));
    assert!(first.renew(store).await.unwrap());
    testbed.clock.advance(LIFETIME - Duration::from_secs(1));
    assert!(store.take_lease("rotation", LIFETIME).await.unwrap().is_none(), "it was renewed");
    testbed.clock.advance(Duration::from_secs(1));
    let second = store.take_lease("rotation", LIFETIME).await.unwrap().unwrap();
    assert!(!first.renew(store).await.unwrap(), "it was lost");
    first.release(store).await.unwrap();
    assert!(
        store.take_lease("rotation", LIFETIME).await.unwrap().is_none(),
        "giving up what is lost takes nothing"
    );
    second.release(store).await.unwrap();
    assert!(store.take_lease("rotation", LIFETIME).await.unwrap().is_some());
}

async fn of_many_who_take_a_lease_one_gets_it(testbed: TestBed) {
    let takers: Vec<_> = (0..16)
        .map(|_| {
            let store = testbed.store.clone();
            tokio::spawn(async move { store.take_lease("race", LIFETIME).await.unwrap().is_some() })
        })
        .collect();
    let mut holders = 0;
    for taker in takers {
        holders += usize::from(taker.await.unwrap());
    }
    assert_eq!(holders, 1);
}

async fn a_fence_holds_off_who_lost_the_lease(testbed: TestBed) {
    let store = &testbed.store;
    let work = || Transaction::new().put(Key::new("work"), "done", None, Expect::Any);
    let first = store.take_lease("work", LIFETIME).await.unwrap().unwrap();
    store.commit(first.fence(work())).await.unwrap();
    testbed.clock.advance(LIFETIME);
    assert!(store.commit(first.fence(work())).await.is_err(), "past its end");
    let second = store.take_lease("work", LIFETIME).await.unwrap().unwrap();
    assert!(matches!(store.commit(first.fence(work())).await, Err(Error::Conflict { .. })));
    store.commit(second.fence(work())).await.unwrap();
}

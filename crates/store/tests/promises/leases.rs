//! Leases: one holder at a time, and a fence for work that must not be done twice.

use std::time::Duration;

use store::{Error, Expect, Key, Transaction};

use crate::town::{Town, on_every_store};

on_every_store!(
    a_lease_has_one_holder,
    of_many_who_take_a_lease_one_gets_it,
    a_fence_holds_off_who_lost_the_lease
);

const LIFETIME: Duration = Duration::from_secs(30);

async fn a_lease_has_one_holder(town: Town) {
    let store = &town.store;
    let mut first = store.take_lease("rotation", LIFETIME).await.unwrap().unwrap();
    assert!(store.take_lease("rotation", LIFETIME).await.unwrap().is_none());
    assert!(store.take_lease("other", LIFETIME).await.unwrap().is_some());
    town.clock.advance(LIFETIME - Duration::from_secs(1));
    assert!(first.renew(store).await.unwrap());
    town.clock.advance(LIFETIME - Duration::from_secs(1));
    assert!(store.take_lease("rotation", LIFETIME).await.unwrap().is_none(), "it was renewed");
    town.clock.advance(Duration::from_secs(1));
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

async fn of_many_who_take_a_lease_one_gets_it(town: Town) {
    let takers: Vec<_> = (0..16)
        .map(|_| {
            let store = town.store.clone();
            tokio::spawn(async move { store.take_lease("race", LIFETIME).await.unwrap().is_some() })
        })
        .collect();
    let mut holders = 0;
    for taker in takers {
        holders += usize::from(taker.await.unwrap());
    }
    assert_eq!(holders, 1);
}

async fn a_fence_holds_off_who_lost_the_lease(town: Town) {
    let store = &town.store;
    let work = || Transaction::new().put(Key::new("work"), "done", None, Expect::Any);
    let first = store.take_lease("work", LIFETIME).await.unwrap().unwrap();
    store.commit(first.fence(work())).await.unwrap();
    town.clock.advance(LIFETIME);
    assert!(store.commit(first.fence(work())).await.is_err(), "past its end");
    let second = store.take_lease("work", LIFETIME).await.unwrap().unwrap();
    assert!(matches!(store.commit(first.fence(work())).await, Err(Error::Conflict { .. })));
    store.commit(second.fence(work())).await.unwrap();
}

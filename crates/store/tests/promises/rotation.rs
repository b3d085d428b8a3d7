//! Rotation: new keys at once, old records under them in the background, old keys gone.

use store::{Expect, Key, Transaction};

use crate::town::{Town, on_every_store};

on_every_store!(
    rotation_loses_nothing_and_old_keys_end,
    a_reencryption_goes_on_after_an_interruption,
    a_rotation_in_the_middle_of_a_reencryption_leaves_nothing_behind,
    rotation_goes_on_while_others_write,
    another_process_follows_a_rotation,
);

fn user(number: usize) -> Key {
    Key::new("user").hidden(format!("user {number}"))
}

async fn fill(town: &Town, count: usize) {
    for part in (0..count).collect::<Vec<_>>().chunks(400) {
        let some = part
            .iter()
            .fold(Transaction::new(), |all, n| all.put(user(*n), n.to_string().as_str(), None, Expect::Any));
        town.store.commit(some).await.unwrap();
    }
}

async fn rotation_loses_nothing_and_old_keys_end(town: Town) {
    let store = &town.store;
    fill(&town, 700).await;
    store.delete(user(699), Expect::Present).await.unwrap();
    let before: Vec<_> = store.scan_all(&Key::new("user"), 1_000).await.unwrap();
    assert_eq!(store.rotate().await.unwrap(), 2);
    assert_eq!(store.generations().await.unwrap(), [1, 2]);
    assert_eq!(store.status().await.unwrap().stale, 700, "records and the deletion");
    let mut work = store.reencryption();
    let mut taken = 0;
    loop {
        match work.step().await.unwrap() {
            0 => break,
            count => taken += count,
        }
    }
    assert_eq!(taken, 700);
    assert_eq!(store.generations().await.unwrap(), [2], "the old keys are destroyed");
    let status = store.status().await.unwrap();
    assert_eq!((status.generation, status.stale, status.records), (2, 0, 699));
    // Versions stay: nobody who compares and sets is disturbed, no watcher is told.
    assert_eq!(store.scan_all(&Key::new("user"), 1_000).await.unwrap(), before);
    assert_eq!(store.verify().await.unwrap(), 700);
    if let Some(again) = town.again().await {
        assert_eq!(again.scan_all(&Key::new("user"), 1_000).await.unwrap(), before);
    }
}

async fn a_reencryption_goes_on_after_an_interruption(town: Town) {
    let store = &town.store;
    fill(&town, 600).await;
    store.rotate().await.unwrap();
    let first = store.reencryption().step().await.unwrap();
    assert!(first > 0 && first < 600);
    // Rotated once more in the middle: three generations at once.
    store.rotate().await.unwrap();
    assert_eq!(store.generations().await.unwrap(), [1, 2, 3]);
    assert_eq!(store.scan_all(&Key::new("user"), 1_000).await.unwrap().len(), 600);
    let mut rounds = 0;
    while store.generations().await.unwrap().len() > 1 {
        assert!(store.maintain().await.unwrap().unwrap().reencrypted <= 8 * 256);
        rounds += 1;
        assert!(rounds < 10);
    }
    assert_eq!(store.generations().await.unwrap(), [3]);
    assert_eq!(store.scan_all(&Key::new("user"), 1_000).await.unwrap().len(), 600);
}

async fn a_rotation_in_the_middle_of_a_reencryption_leaves_nothing_behind(town: Town) {
    let store = &town.store;
    fill(&town, 600).await;
    store.rotate().await.unwrap();
    let mut work = store.reencryption();
    assert!(work.step().await.unwrap() > 0);
    // What was done until here is old again, and lies behind the place of the work.
    store.rotate().await.unwrap();
    while work.step().await.unwrap() > 0 {}
    assert_eq!(store.generations().await.unwrap(), [3]);
    assert_eq!(store.status().await.unwrap().stale, 0);
    assert_eq!(store.verify().await.unwrap(), 600);
}

async fn rotation_goes_on_while_others_write(town: Town) {
    fill(&town, 300).await;
    let writer = {
        let store = town.store.clone();
        tokio::spawn(async move {
            for round in 0..200 {
                let record = store.get(&user(round)).await.unwrap().unwrap();
                store.put(user(round), "rewritten", None, Expect::Version(record.version)).await.unwrap();
            }
        })
    };
    for _ in 0..3 {
        town.store.rotate().await.unwrap();
        let mut work = town.store.reencryption();
        while work.step().await.unwrap() > 0 {}
    }
    writer.await.unwrap();
    let all = town.store.scan_all(&Key::new("user"), 1_000).await.unwrap();
    assert_eq!(all.iter().filter(|record| &record.value[..] == b"rewritten").count(), 200);
    assert_eq!(all.len(), 300);
    let mut work = town.store.reencryption();
    while work.step().await.unwrap() > 0 {}
    assert_eq!(town.store.status().await.unwrap().stale, 0);
}

async fn another_process_follows_a_rotation(town: Town) {
    let Some(other) = town.again().await else { return };
    fill(&town, 10).await;
    assert_eq!(&other.get(&user(3)).await.unwrap().unwrap().value[..], b"3");
    // Rotated to the end by one: the other reads what it could not open, and writes under
    // the new keys although nobody told it.
    town.store.rotate().await.unwrap();
    let mut work = town.store.reencryption();
    while work.step().await.unwrap() > 0 {}
    other.put(user(20), "20", None, Expect::Absent).await.unwrap();
    assert_eq!(town.store.status().await.unwrap().stale, 0);
    for number in [4, 20] {
        let expected = number.to_string();
        assert_eq!(&other.get(&user(number)).await.unwrap().unwrap().value[..], expected.as_bytes());
        assert_eq!(&town.store.get(&user(number)).await.unwrap().unwrap().value[..], expected.as_bytes());
    }
    assert_eq!(other.scan_all(&Key::new("user"), 100).await.unwrap().len(), 11);
}

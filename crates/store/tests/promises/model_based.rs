//! Random operations on a store and on a map beside it: both must come out alike.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Clock as _, Timestamp};
use proptest::prelude::*;
use store::{Error, Expect, Key, Transaction, Version};

use crate::testbed::TestBed;

/// What a random step does. Keys are few, so that steps meet.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Wanted, Does)>),
    Advance(u8),
    Scan(u8, usize),
    Rotate,
    Reencrypt,
    Maintain,
    Reopen,
}

/// An expectation that holds, or does not, whatever the state is.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Any,
    Absent,
    Present,
    /// The version that stands there.
    Current,
    /// One before it.
    Old,
}

#[derive(Clone, Copy, Debug)]
enum Does {
    Require,
    Put(u16, Option<u8>),
    Delete,
}

struct Modelled {
    value: Vec<u8>,
    version: Version,
    expires: Option<Timestamp>,
}

fn key(number: u8) -> Key {
    match number % 12 {
        n @ 0..4 => Key::new("a").hidden(n.to_string()),
        n @ 4..8 => Key::new("a").hidden("0").number(n.into()),
        n => Key::new("b").name("c").hidden(n.to_string()),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let wanted = prop_oneof![
        4 => Just(Wanted::Any), 2 => Just(Wanted::Absent), 2 => Just(Wanted::Present),
        4 => Just(Wanted::Current), 1 => Just(Wanted::Old),
    ];
    let does = prop_oneof![
        6 => (any::<u16>(), proptest::option::weighted(0.3, 1u8..20)).prop_map(|(v, e)| Does::Put(v, e)),
        3 => Just(Does::Delete),
        1 => Just(Does::Require),
    ];
    let operation = (0u8..12, wanted, does);
    prop_oneof![
        16 => proptest::collection::vec(operation, 1..4).prop_map(Step::Commit),
        3 => (0u8..10).prop_map(Step::Advance),
        4 => (0u8..12, 1usize..5).prop_map(|(prefix, limit)| Step::Scan(prefix, limit)),
        1 => Just(Step::Rotate),
        1 => Just(Step::Reencrypt),
        1 => Just(Step::Maintain),
        1 => Just(Step::Reopen),
    ]
}

/// What a transaction does to the map, when it holds.
type Effects = Vec<(Key, Does)>;

type Model = BTreeMap<Key, Modelled>;

fn standing<'a>(model: &'a Model, key: &Key, now: Timestamp) -> Option<&'a Modelled> {
    model.get(key).filter(|stands| stands.expires.is_none_or(|end| end > now))
}

/// The transaction, and whether it has to hold.
fn transaction(
    model: &Model,
    operations: &[(u8, Wanted, Does)],
    now: Timestamp,
) -> Option<(Transaction, Effects, bool)> {
    let (mut built, mut effects, mut holds) = (Transaction::new(), Vec::new(), true);
    for (number, wanted, does) in operations {
        let key = key(*number);
        let stands = standing(model, &key, now);
        let (expect, fits) = match (wanted, stands) {
            (Wanted::Any, _) => (Expect::Any, true),
            (Wanted::Absent, stands) => (Expect::Absent, stands.is_none()),
            (Wanted::Present, stands) => (Expect::Present, stands.is_some()),
            (Wanted::Current, Some(stands)) => (Expect::Version(stands.version), true),
            (Wanted::Current, None) => (Expect::Absent, true),
            (Wanted::Old, stands) => {
                let version = stands.map_or(1, |stands| stands.version.number() - 1);
                (Expect::Version(Version::from_number(version)), false)
            }
        };
        holds &= fits;
        built = match does {
            Does::Require => built.require(key.clone(), expect),
            Does::Put(value, life) => {
                let expires = life.map(|life| now.plus(Duration::from_secs(life.into())));
                built.put(key.clone(), value.to_be_bytes().to_vec(), expires, expect)
            }
            Does::Delete => built.delete(key.clone(), expect),
        };
        if !matches!(does, Does::Require) {
            if effects.iter().any(|(other, _)| *other == key) {
                return None;
            }
            effects.push((key, *does));
        }
    }
    Some((built, effects, holds))
}

async fn run(mut testbed: TestBed, steps: Vec<Step>) {
    let mut model = Model::new();
    for step in steps {
        let now = testbed.clock.now();
        match step {
            Step::Commit(operations) => {
                let Some((transaction, effects, holds)) = transaction(&model, &operations, now) else {
                    continue;
                };
                match testbed.store.commit(transaction).await {
                    Ok(version) => {
                        assert!(holds, "{operations:?}");
                        for (key, does) in effects {
                            match does {
                                Does::Put(value, life) => {
                                    let expires = life.map(|life| now.plus(Duration::from_secs(life.into())));
                                    let value = value.to_be_bytes().to_vec();
                                    model.insert(key, Modelled { value, version, expires });
                                }
                                _ => {
                                    model.remove(&key);
                                }
                            }
                        }
                    }
                    Err(Error::Conflict { .. }) => assert!(!holds, "{operations:?}"),
                    Err(other) => panic!("{other}"),
                }
            }
            Step::Advance(seconds) => testbed.clock.advance(Duration::from_secs(seconds.into())),
            Step::Scan(prefix, limit) => compare(&testbed, &model, &key(prefix), limit).await,
            Step::Rotate => drop(testbed.store.rotate().await),
            Step::Reencrypt => drop(testbed.store.reencryption().step().await.unwrap()),
            Step::Maintain => drop(testbed.store.maintain().await.unwrap().unwrap()),
            Step::Reopen => {
                if let Some(again) = testbed.again().await {
                    testbed.store = again;
                }
            }
        }
        for number in 0..12 {
            let key = key(number);
            let read = testbed.store.get(&key).await.unwrap();
            let stands = standing(&model, &key, testbed.clock.now());
            assert_eq!(
                read.as_ref().map(|record| (&record.value[..], record.version, record.expires)),
                stands.map(|stands| (&stands.value[..], stands.version, stands.expires)),
                "{key:?}"
            );
        }
    }
    compare(&testbed, &model, &Key::new("a"), 2).await;
    testbed.store.verify().await.unwrap();
}

/// Every page of a scan, beside what the map has below the prefix.
async fn compare(testbed: &TestBed, model: &Model, prefix: &Key, limit: usize) {
    let (mut found, mut after) = (BTreeMap::new(), None);
    loop {
        let page = testbed.store.scan(prefix, after.as_ref(), limit).await.unwrap();
        for record in page.records {
            assert!(found.insert(record.key, record.value.to_vec()).is_none(), "twice");
        }
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    let now = testbed.clock.now();
    let expected: BTreeMap<_, _> = model
        .iter()
        .filter(|(key, _)| key.starts_with(prefix) && standing(model, key, now).is_some())
        .map(|(key, stands)| (key.clone(), stands.value.clone()))
        .collect();
    assert_eq!(found, expected, "{prefix:?}");
}

/// Runs random steps on stores of one kind; each case is a new store.
fn random_steps<F: Future<Output = Option<TestBed>>>(cases: u32, make: impl Fn() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in proptest::collection::vec(step(), 1..60))| {
        runtime.block_on(async {
            if let Some(testbed) = make().await {
                run(testbed, steps).await;
            }
        });
    });
}

#[test]
fn a_store_in_memory_is_a_map() {
    random_steps(64, TestBed::in_memory);
}

#[test]
fn a_store_in_a_file_is_a_map() {
    random_steps(24, TestBed::sqlite);
}

#[test]
fn a_store_in_a_database_is_a_map() {
    random_steps(8, TestBed::postgres);
}

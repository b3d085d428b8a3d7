use proptest::prelude::*;

use super::*;
use crate::key::Segment;

fn barrier() -> Barrier {
    let random = SystemRandom::new();
    Barrier::new(UnsealKey::generate().unwrap(), Keyring::generate(&random).unwrap())
}

fn head(version: u64) -> Head {
    Head { version, expires: Some(77), generation: 1, live: true }
}

fn sealed(barrier: &Barrier, key: &Key, value: &[u8], head: Head) -> Row {
    barrier.seal(&barrier.stored_key(key), head, &Plain::new(key, value)).unwrap()
}

fn key() -> impl Strategy<Value = Key> {
    let segment = prop_oneof![
        prop_oneof![Just("a"), Just("ab"), Just("b")].prop_map(|name| Segment::Name(name.into())),
        any::<u64>().prop_map(Segment::Number),
        "\\PC{0,12}".prop_map(Segment::Hidden),
    ];
    proptest::collection::vec(segment, 1..6).prop_map(Key::from_segments)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_opens_as_it_was(key in key(), value: Vec<u8>, version: u64, expires: Option<u64>, live: bool) {
        let barrier = barrier();
        let head = Head { version, expires, generation: 1, live };
        let opened = barrier.open(&sealed(&barrier, &key, &value, head)).unwrap();
        prop_assert_eq!(opened.key, key);
        prop_assert_eq!(&opened.value[..], value);
    }

    #[test]
    fn any_bit_that_is_flipped_is_noticed(key in key(), value: Vec<u8>, place: usize, bit in 0u8..8) {
        let barrier = barrier();
        let mut row = sealed(&barrier, &key, &value, head(5));
        let place = place % row.sealed.len();
        row.sealed[place] ^= 1 << bit;
        prop_assert!(matches!(barrier.open(&row), Err(Unopened::Damaged)));
    }

    #[test]
    fn a_row_under_another_key_is_noticed(one in key(), other in key(), value: Vec<u8>) {
        prop_assume!(one != other);
        let barrier = barrier();
        let row = sealed(&barrier, &one, &value, head(5));
        let moved = Row { key: barrier.stored_key(&other), ..row };
        prop_assert!(matches!(barrier.open(&moved), Err(Unopened::Damaged)));
    }

    #[test]
    fn a_stored_prefix_is_a_prefix_by_whole_segments(key in key(), other in key(), length in 0usize..6) {
        let keyring = Keyring::generate(&SystemRandom::new()).unwrap();
        let prefix = Key::from_segments(key.segments().iter().take(length).cloned().collect());
        for prefix in [prefix, other] {
            let (long, short) = (keyring.stored_key(&key), keyring.stored_key(&prefix));
            let below = long.as_bytes().starts_with(short.as_bytes());
            prop_assert_eq!(below, key.starts_with(&prefix));
            let ends_before = end_of(short.as_bytes()).is_none_or(|end| long.as_bytes() < end.as_slice());
            prop_assert_eq!(below, long.as_bytes() >= short.as_bytes() && ends_before);
        }
    }

    #[test]
    fn fuzz_smoke_rows(stored: Vec<u8>, sealed: Vec<u8>, plain: Vec<u8>) {
        let row = Row { key: StoredKey::from_bytes(stored.clone()), head: head(1), sealed };
        prop_assert!(barrier().open(&row).is_err());
        // What a row of ours that was sealed by a fault of ours would hold: read or refused.
        let _ = path::read(&row.key, &plain);
    }

    #[test]
    fn fuzz_smoke_keyrings(bytes: Vec<u8>) {
        prop_assert!(Keyring::open(&bytes, &UnsealKey::generate().unwrap()).is_err());
    }
}

#[test]
fn everything_beside_the_sealed_bytes_is_bound_to_them() {
    let barrier = barrier();
    let key = Key::new("user").hidden("alice");
    let honest = sealed(&barrier, &key, b"value", head(5));
    assert!(barrier.open(&honest).is_ok());
    let changes: [fn(&mut Head); 5] = [
        |head| head.version = 6,
        |head| head.expires = Some(78),
        |head| head.expires = None,
        |head| head.live = false,
        |head| head.generation = 2,
    ];
    for (place, change) in changes.iter().enumerate() {
        let mut row = honest.clone();
        change(&mut row.head);
        assert!(barrier.open(&row).is_err(), "change {place}");
    }
    // The absence of an end is not an end of nothing.
    let endless = sealed(&barrier, &key, b"value", Head { expires: None, ..head(5) });
    let row = Row { head: Head { expires: Some(0), ..head(5) }, ..endless };
    assert!(barrier.open(&row).is_err());
    for length in 0..honest.sealed.len() {
        let cut = Row { sealed: honest.sealed[..length].to_vec(), ..honest.clone() };
        assert!(barrier.open(&cut).is_err(), "cut to {length}");
    }
}

/// Each by itself is bound as associated data, beside what the key of the record is derived
/// from.
#[test]
fn no_two_rows_have_the_same_associated_data() {
    let heads = [
        head(5),
        head(6),
        Head { expires: Some(78), ..head(5) },
        Head { expires: None, ..head(5) },
        Head { expires: Some(0), ..head(5) },
        Head { live: false, ..head(5) },
        Head { generation: 2, ..head(5) },
    ];
    let keys = [&b"a"[..], b"b", b""].map(|key| StoredKey::from_bytes(key.to_vec()));
    let mut all: Vec<_> = keys.iter().flat_map(|key| heads.map(|head| associated(key, head))).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

/// The key of a record is one for each version of each record, whatever is beside it.
#[test]
fn no_two_versions_or_records_share_a_key() {
    let keyring = Keyring::generate(&SystemRandom::new()).unwrap();
    let secret = keyring.generation(1).unwrap();
    let sealed = |key: &[u8], version| {
        let cipher = record_key(secret, &StoredKey::from_bytes(key.to_vec()), version).unwrap();
        let mut text = *b"the same text";
        let nonce = Nonce::assume_unique_for_key([0; NONCE_BYTES]);
        let tag = cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut text).unwrap();
        (text, tag.as_ref().to_vec())
    };
    assert_eq!(sealed(b"a", 1), sealed(b"a", 1));
    assert_ne!(sealed(b"a", 1), sealed(b"a", 2));
    assert_ne!(sealed(b"a", 1), sealed(b"b", 1));
}

/// A generation that is in the keyring, but not the one that the row was sealed under.
#[test]
fn another_generation_does_not_open_a_row() {
    let barrier = barrier();
    let random = SystemRandom::new();
    let sealed_keyring =
        barrier.seal_keyring(&barrier.keyring().with_next_generation(&random).unwrap()).unwrap();
    barrier.take_keyring(&sealed_keyring).unwrap();
    let row = sealed(&barrier, &Key::new("a"), b"value", head(1));
    assert!(barrier.open(&row).is_ok());
    let other = Row { head: Head { generation: 2, ..head(1) }, ..row.clone() };
    assert!(matches!(barrier.open(&other), Err(Unopened::Damaged)));
    let unknown = Row { head: Head { generation: 3, ..head(1) }, ..row };
    assert!(matches!(barrier.open(&unknown), Err(Unopened::Generation(3))));
}

#[test]
fn nothing_repeats_where_it_would_tell_something() {
    let barrier = barrier();
    let key = |parent, text| barrier.stored_key(&Key::new(parent).hidden(text));
    assert_eq!(key("a", "alice"), key("a", "alice"));
    assert_ne!(
        key("a", "alice").as_bytes()[3..],
        key("b", "alice").as_bytes()[3..],
        "the same text elsewhere"
    );
    assert_ne!(key("a", "alice"), key("a", "alicf"));
    let other = super::tests::barrier();
    assert_ne!(key("a", "alice"), other.stored_key(&Key::new("a").hidden("alice")), "another store");
    let user = Key::new("user").hidden("alice");
    let twice = [sealed(&barrier, &user, b"value", head(5)), sealed(&barrier, &user, b"value", head(5))];
    assert_ne!(twice[0].sealed, twice[1].sealed, "the same version twice, as after a rollback");
    let next = sealed(&barrier, &user, b"value", head(6));
    assert_ne!(twice[0].sealed[12..], next.sealed[12..]);
}

#[test]
fn a_keyring_opens_with_its_key_alone_and_keeps_what_it_had() {
    let random = SystemRandom::new();
    let unseal_key = UnsealKey::generate().unwrap();
    let first = Keyring::generate(&random).unwrap();
    let second = first.with_next_generation(&random).unwrap();
    assert_eq!((first.numbers(), second.numbers(), second.current()), (vec![1], vec![1, 2], 2));
    assert_eq!(second.without_old_generations().numbers(), [2]);
    assert!(second.same_store(&first) && !second.same_store(&Keyring::generate(&random).unwrap()));
    let bytes = second.seal(&unseal_key, &random).unwrap();
    assert_eq!(Keyring::open(&bytes, &unseal_key).unwrap().numbers(), [1, 2]);
    assert!(matches!(Keyring::open(&bytes, &UnsealKey::generate().unwrap()), Err(Error::WrongKey)));
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(Keyring::open(&changed, &unseal_key).is_err(), "byte {place}");
    }
    // Numbers of generations that ended are not given again.
    let third = second.without_old_generations().with_next_generation(&random).unwrap();
    assert_eq!(third.numbers(), [2, 3]);
    let mut many = first;
    let refused = loop {
        match many.with_next_generation(&random) {
            Ok(more) => many = more,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Error::TooLarge { found: 64, most: 64, .. }));
}

#[test]
fn a_keyring_of_another_store_is_not_taken() {
    let barrier = barrier();
    let other = Keyring::generate(&SystemRandom::new()).unwrap();
    let foreign = barrier.seal_keyring(&other).unwrap();
    assert!(matches!(barrier.take_keyring(&foreign), Err(Error::Corrupt(_))));
}

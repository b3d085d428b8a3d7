use keys::SystemRandom;
use keys::svid::WorkloadKey;
use model::SpiffeId;
use proptest::prelude::*;

use super::*;
use crate::settings::{Given, Lifetimes};
use crate::testing::{NOW, verifies, workload_key};
use std::time::Duration;

const HOUR: u64 = 3600;

fn at(hours: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(hours * HOUR))
}

fn settings(anchor: Anchor) -> Settings {
    Settings { anchor, ..Settings::new("shop.example") }
}

fn start(settings: &Settings) -> Record {
    Record::default().rotated(settings, &SystemRandom::new(), NOW).unwrap().unwrap()
}

fn id_of(record: &Record, kind: Kind, settings: &Settings, now: Timestamp) -> String {
    record.signing(kind, settings, now).unwrap().id.clone()
}

fn given() -> Anchor {
    let random = SystemRandom::new();
    let signer =
        || -> Arc<dyn Signer> { Arc::new(LocalSigner::generate(Algorithm::Es256, &random).unwrap().0) };
    let terms = AuthorityTerms {
        trust_domain: "shop.example",
        from: NOW,
        until: at(100 * 24),
        signs_authorities: true,
    };
    // Two levels above an issuing authority need a longer path than ours have.
    let own = signer();
    let root = X509Authority::self_signed(Arc::clone(&own), &terms, &random).unwrap();
    Anchor::Given(Given { chain: vec![root.certificate().to_vec()], signer: own })
}

#[test]
fn the_next_is_trusted_before_it_signs_and_the_last_until_it_ends() {
    let settings = settings(Anchor::Issuing);
    let random = SystemRandom::new();
    let rotated = |record: &Record, hours| record.rotated(&settings, &random, at(hours)).unwrap();
    let first = start(&settings);
    let first_id = id_of(&first, Kind::Issuing, &settings, NOW);
    let number = |hours| at(hours).unix_seconds();
    assert_eq!((first.entries.len(), first.sequence), (2, number(0)), "one for certificates, one for tokens");
    assert!(rotated(&first, 0).is_none() && rotated(&first, 11).is_none());

    let prepared = rotated(&first, 12).unwrap();
    assert_eq!((prepared.entries.len(), prepared.sequence), (4, number(12)));
    assert_eq!(prepared.anchors(at(12)).unwrap().len(), 2);
    assert_eq!(id_of(&prepared, Kind::Issuing, &settings, at(19)), first_id);
    let second_id = id_of(&prepared, Kind::Issuing, &settings, at(20));
    assert_ne!(second_id, first_id);
    assert!(rotated(&prepared, 20).is_none());

    assert_eq!(prepared.anchors(at(23)).unwrap().len(), 2, "what the first signed is still good");
    let forgotten = rotated(&prepared, 24).unwrap();
    assert_eq!(forgotten.anchors(at(24)).unwrap().len(), 1);
    assert_eq!(id_of(&forgotten, Kind::Issuing, &settings, at(24)), second_id);
}

#[test]
fn after_a_long_silence_there_is_an_authority_at_once() {
    let settings = settings(Anchor::Root);
    let later = start(&settings).rotated(&settings, &SystemRandom::new(), at(400 * 24)).unwrap().unwrap();
    assert!(later.signing(Kind::Issuing, &settings, at(400 * 24)).is_some());
    assert_eq!(later.entries.iter().filter(|entry| entry.kind == Kind::Root).count(), 1, "the root is kept");
}

#[test]
fn numbers_go_on_above_those_of_a_store_that_was_lost_and_behind_a_clock_that_was_set_back() {
    let settings = settings(Anchor::Issuing);
    let random = SystemRandom::new();
    let rotated = |record: &Record, hours| record.rotated(&settings, &random, at(hours)).unwrap().unwrap();
    let first = start(&settings);
    // What partners were told last before the store was lost, and a backup of its beginning is put back.
    let told = rotated(&rotated(&rotated(&first, 12), 24), 36);
    assert!(rotated(&first, 37).sequence > told.sequence);
    assert!(Record::default().rotated(&settings, &random, at(37)).unwrap().unwrap().sequence > told.sequence);
    // Of changes in one second, and in one before, each has a number of its own.
    let other = told.prepared(Kind::Root, &settings, &random, at(30)).unwrap();
    assert_eq!(other.sequence, told.sequence + 1);
}

#[test]
fn a_clock_that_was_ahead_for_a_while_leaves_no_authority_that_is_not_good_yet() {
    for anchor in [Anchor::Issuing, Anchor::Root, given()] {
        let settings = settings(anchor);
        let random = SystemRandom::new();
        let rotated = |record: &Record, hours| record.rotated(&settings, &random, at(hours)).unwrap();
        let ahead = rotated(&start(&settings), 30).unwrap();
        let after = rotated(&ahead, 1).unwrap();
        let entry = after.signing(Kind::Issuing, &settings, at(1)).unwrap();
        let issued = entry.x509().unwrap();
        let id = "spiffe://shop.example/orders".parse().unwrap();
        let lifetime = settings.lifetimes.x509_svid;
        let svid = issued.issue(&id, &workload_key(), at(1), lifetime, &random).unwrap();
        let chain: Vec<Vec<u8>> = std::iter::once(svid.certificate).chain(entry.chain().unwrap()).collect();
        verifies(&chain, &after.anchors(at(1)).unwrap(), at(1)).unwrap();
        assert!(after.signing(Kind::Jwt, &settings, at(1)).is_some());
        // Those of that time are made once, and take their turn when it comes.
        assert!(rotated(&after, 2).is_none());
        assert!(rotated(&after, 13).is_some_and(|next| next.entries.len() == after.entries.len() + 2));
    }
}

#[test]
fn an_authority_is_taken_back_in_order_and_another_signs_at_once() {
    for anchor in [Anchor::Issuing, Anchor::Root, given()] {
        let settings = settings(anchor);
        let random = SystemRandom::new();
        let first = start(&settings);
        let id = id_of(&first, Kind::Issuing, &settings, NOW);
        assert!(first.revoked(&id, at(1)).is_err(), "what is shown by others is replaced first");
        assert!(first.activated(&id, at(1)).is_err() && first.tainted("none", at(1)).is_err());

        let tainted = first.tainted(&id, at(1)).unwrap();
        assert!(tainted.signing(Kind::Issuing, &settings, at(1)).is_none());
        let replaced = tainted.rotated(&settings, &random, at(1)).unwrap().unwrap();
        let other = id_of(&replaced, Kind::Issuing, &settings, at(1));
        assert_ne!(other, id);
        assert!(replaced.revoked(&other, at(1)).is_err());
        let before = replaced.anchors(at(1)).unwrap();
        let revoked = replaced.revoked(&id, at(2)).unwrap();
        let after = revoked.anchors(at(2)).unwrap();
        let own = matches!(settings.anchor, Anchor::Issuing);
        assert_eq!(before.len() - after.len(), usize::from(own), "{:?}", settings.anchor);
        assert!(revoked.sequence > replaced.sequence && replaced.sequence > first.sequence);
    }
}

#[test]
fn a_prepared_authority_takes_over_from_a_tainted_one() {
    let settings = settings(Anchor::Issuing);
    let random = SystemRandom::new();
    let first = start(&settings);
    let id = id_of(&first, Kind::Issuing, &settings, NOW);
    let prepared = first.prepared(Kind::Issuing, &settings, &random, at(1)).unwrap();
    assert!(prepared.prepared(Kind::Issuing, &settings, &random, at(1)).is_err());
    let waiting = prepared.entries.last().unwrap().id.clone();
    assert_eq!(id_of(&prepared, Kind::Issuing, &settings, at(1)), id);
    let tainted = prepared.tainted(&id, at(2)).unwrap();
    let next = tainted.rotated(&settings, &random, at(2)).unwrap().unwrap();
    assert_eq!(id_of(&next, Kind::Issuing, &settings, at(2)), waiting);
    let activated = prepared.activated(&waiting, at(2)).unwrap();
    assert_eq!(id_of(&activated, Kind::Issuing, &settings, at(2)), waiting);
}

#[test]
fn a_tainted_root_takes_what_it_signed_with_it() {
    let settings = settings(Anchor::Root);
    let first = start(&settings);
    let (root, issuing) =
        (id_of(&first, Kind::Root, &settings, NOW), id_of(&first, Kind::Issuing, &settings, NOW));
    let tainted = first.tainted(&root, at(1)).unwrap();
    let next = tainted.rotated(&settings, &SystemRandom::new(), at(1)).unwrap().unwrap();
    assert_ne!(id_of(&next, Kind::Root, &settings, at(1)), root);
    assert_ne!(id_of(&next, Kind::Issuing, &settings, at(1)), issuing);
    assert_eq!(next.anchors(at(1)).unwrap().len(), 2);
    assert_eq!(next.revoked(&root, at(1)).unwrap().anchors(at(1)).unwrap().len(), 1);
}

#[test]
fn a_new_anchor_in_the_settings_is_followed_and_the_old_one_still_trusted() {
    let (before, after) = (settings(Anchor::Issuing), settings(Anchor::Root));
    let first = start(&before);
    let next = first.rotated(&after, &SystemRandom::new(), at(1)).unwrap().unwrap();
    assert_ne!(id_of(&next, Kind::Issuing, &after, at(1)), id_of(&first, Kind::Issuing, &before, NOW));
    assert_eq!(next.anchors(at(1)).unwrap().len(), 2);
}

#[test]
fn no_debug_shows_a_key() {
    let record = start(&settings(Anchor::Issuing));
    let shown = format!("{record:?}");
    assert!(record.entries.iter().all(|entry| !shown.contains(entry.document.as_str())));
}

/// An SVID that was given out.
struct Given1 {
    chain: Vec<Vec<u8>>,
    authority: String,
    not_after: Timestamp,
}

fn issue(record: &Record, settings: &Settings, key: &WorkloadKey, now: Timestamp) -> Given1 {
    let id: SpiffeId = settings.workload("orders").unwrap();
    let entry = record.signing(Kind::Issuing, settings, now).expect("somebody always signs");
    let authority = entry.x509().unwrap();
    let svid = authority.issue(&id, key, now, settings.lifetimes.x509_svid, &SystemRandom::new()).unwrap();
    assert!(svid.not_after <= authority.not_after(), "an SVID outlives its authority");
    let chain = std::iter::once(svid.certificate).chain(entry.chain().unwrap()).collect();
    Given1 { chain, authority: entry.id.clone(), not_after: svid.not_after }
}

/// What may happen between two looks: time passes, or a person does something.
#[derive(Clone, Debug)]
enum Happening {
    Seconds(u64),
    Prepare,
    Activate,
    Taint,
    Revoke,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (1_u64..40).prop_map(Happening::Seconds),
        1 => (100_u64..2_000).prop_map(Happening::Seconds),
        1 => Just(Happening::Prepare),
        1 => Just(Happening::Activate),
        1 => Just(Happening::Taint),
        1 => Just(Happening::Revoke),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Through every order of rotations, pauses and steps: somebody signs, and whatever was
    /// signed verifies with the bundle of the moment until it ends or is revoked; what was
    /// revoked does not.
    #[test]
    fn bundles_hold_what_verifies_each_document(
        happenings in proptest::collection::vec(happening(), 1..40),
        rooted in any::<bool>(),
    ) {
        let anchor = if rooted { Anchor::Root } else { Anchor::Issuing };
        let lifetimes = Lifetimes {
            root: Duration::from_secs(6 * 60),
            authority: Duration::from_secs(60),
            x509_svid: Duration::from_secs(10),
            jwt_svid: Duration::from_secs(10),
        };
        let settings = Settings { anchor, lifetimes, ..Settings::new("shop.example") };
        settings.check().unwrap();
        let (random, key) = (SystemRandom::new(), workload_key());
        let (mut record, mut now, mut given) = (Record::default(), NOW, Vec::<Given1>::new());
        for happening in happenings {
            let of = |record: &Record, state| {
                let found = record.entries.iter().find(|entry| entry.kind != Kind::Jwt && entry.state(now) == state);
                found.map_or("none".to_owned(), |entry| entry.id.clone())
            };
            let stepped = match happening {
                Happening::Seconds(seconds) => {
                    now = now.plus(Duration::from_secs(seconds));
                    None
                }
                Happening::Prepare => record.prepared(Kind::Issuing, &settings, &random, now).ok(),
                Happening::Activate => record.activated(&of(&record, State::Prepared), now).ok(),
                Happening::Taint => record.tainted(&of(&record, State::Active), now).ok(),
                Happening::Revoke => record.revoked(&of(&record, State::Tainted), now).ok(),
            };
            record = stepped.unwrap_or(record);
            match record.rotated(&settings, &random, now) {
                Ok(next) => record = next.unwrap_or(record),
                Err(Error::Authority(_)) => break,
                Err(other) => panic!("{other}"),
            }
            given.push(issue(&record, &settings, &key, now));
            given.retain(|svid| svid.not_after >= now);
            let anchors = record.anchors(now).unwrap();
            for svid in &given {
                let verified = verifies(&svid.chain, &anchors, now);
                let entry = record.entries.iter().find(|entry| entry.id == svid.authority);
                let revoked = entry.is_none_or(|entry| {
                    entry.revoked.is_some() || record.root_of(entry).is_some_and(|root| root.revoked.is_some())
                });
                if !revoked {
                    prop_assert!(verified.is_ok(), "{verified:?} at {now:?}");
                } else if !rooted {
                    prop_assert!(verified.is_err(), "a revoked authority's document is taken");
                }
            }
        }
    }
}

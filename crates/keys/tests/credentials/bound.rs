//! Tokens that are bound to a key or a certificate, and proofs that are good once.

use std::sync::{Arc, Barrier};

use keys::dpop::{PROOF_AGE_MAX, PROOF_AHEAD_MAX, Proof};
use keys::encoding::encode_base64url;
use keys::{Bound, Holding, Possession, Refusal, SeenProofs, Verdict, sign_token};
use serde_json::{Value, json};

use crate::support::{TestBed, later, now, with};

const THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
const OTHER: &str = "1ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
const LEAF: &[u8] = b"a leaf";

fn leaf_thumbprint() -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    encode_base64url(digest(&SHA256, LEAF).as_ref())
}

fn proof(thumbprint: &str, id: &str) -> Proof {
    Proof { thumbprint: thumbprint.to_owned(), id: id.to_owned(), issued: now(), nonce: None }
}

fn verdict(testbed: &mut TestBed, confirmation: Value) -> Verdict {
    let token = sign_token(&testbed.signer, "at+jwt", &with("cnf", confirmation)).unwrap();
    // The second answer comes from the cache and must be the same.
    drop(testbed.verifier.verify(token.as_bytes(), now()));
    testbed.verifier.verify(token.as_bytes(), now())
}

fn bound(testbed: &mut TestBed, confirmation: Value) -> Bound {
    match verdict(testbed, confirmation) {
        Verdict::Bound(bound) => bound,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bound_token_takes_everything_that_it_is_bound_to() {
    let mut testbed = TestBed::new();
    let seen = SeenProofs::default();
    let mine = seen.take(proof(THUMBPRINT, "1"), now()).unwrap();
    let other = seen.take(proof(OTHER, "1"), now()).unwrap();
    let key = json!({ "jkt": THUMBPRINT });
    let certificate = json!({ "x5t#S256": leaf_thumbprint() });
    let both = json!({ "jkt": THUMBPRINT, "x5t#S256": leaf_thumbprint() });
    let no_key = Refusal::NotProven { by: Holding::Key };
    let no_certificate = Refusal::NotProven { by: Holding::Certificate };
    for (cnf, key, certificate, expected) in [
        (&key, Some(&mine), None, None),
        (&key, Some(&mine), Some(LEAF), None),
        (&key, None, Some(LEAF), Some(&no_key)),
        (&key, Some(&other), None, Some(&Refusal::OtherKey)),
        (&certificate, None, Some(LEAF), None),
        (&certificate, Some(&mine), None, Some(&no_certificate)),
        (&certificate, None, Some(b"another".as_slice()), Some(&Refusal::OtherCertificate)),
        (&both, Some(&mine), Some(LEAF), None),
        (&both, Some(&mine), None, Some(&no_certificate)),
        (&both, None, Some(LEAF), Some(&no_key)),
        (&both, Some(&other), Some(LEAF), Some(&Refusal::OtherKey)),
    ] {
        let proven = bound(&mut testbed, cnf.clone()).prove(Possession { key, certificate });
        assert_eq!(proven.as_ref().err(), expected, "{cnf}");
        assert!(proven.is_err() || proven.is_ok_and(|principal| principal.id == "alice"));
    }
    // An exchange under way: its key was proven, its certificate is asked again.
    assert!(bound(&mut testbed, key).prove_again(None).is_ok());
    assert!(bound(&mut testbed, both).prove_again(None).is_err());
}

#[test]
fn a_confirmation_that_nobody_can_check_is_no_bearer_token() {
    let mut testbed = TestBed::new();
    for cnf in [
        json!({}),
        json!("jkt"),
        json!([THUMBPRINT]),
        json!({ "jkt": 1 }),
        json!({ "jkt": "" }),
        json!({ "jkt": &THUMBPRINT[1..] }),
        json!({ "jkt": THUMBPRINT, "jwk": {} }),
        json!({ "kid": "1" }),
        json!({ "x5t": "AAAA" }),
    ] {
        let found = verdict(&mut testbed, cnf.clone());
        assert!(matches!(found, Verdict::Refused(Refusal::Confirmation { .. })), "{cnf}: {found:?}");
    }
    assert!(matches!(verdict(&mut testbed, Value::Null), Verdict::Accepted(_)));
}

#[test]
fn a_proof_is_taken_once_for_as_long_as_it_is_good() {
    let seen = SeenProofs::default();
    assert!(seen.take(proof(THUMBPRINT, "1"), now()).is_ok());
    assert!(seen.take(proof(OTHER, "1"), now()).is_ok(), "another key's");
    assert!(seen.take(proof(THUMBPRINT, "2"), now()).is_ok());
    // However often the remembered ones turn over meanwhile.
    let last = PROOF_AGE_MAX.as_secs() + PROOF_AHEAD_MAX.as_secs() - 1;
    for seconds in [0, 1, last / 2, last] {
        let again = seen.take(proof(THUMBPRINT, "1"), later(seconds));
        assert!(matches!(again, Err(Refusal::ProofReplayed { .. })), "{seconds}");
    }
    assert_eq!(seen.len(), 3);
    let _ = seen.take(proof(THUMBPRINT, "3"), later(1000));
    let _ = seen.take(proof(OTHER, "3"), later(1000));
    assert_eq!(seen.len(), 2, "what is over is forgotten");
    // A clock that is set back forgets nothing.
    assert!(seen.take(proof(THUMBPRINT, "3"), now()).is_err());
}

#[test]
fn a_full_memory_refuses_and_others_go_on() {
    let seen = SeenProofs::with_places(3);
    for id in ["1", "2", "3"] {
        assert!(seen.take(proof(THUMBPRINT, id), now()).is_ok());
    }
    let full = seen.take(proof(THUMBPRINT, "4"), now()).unwrap_err();
    assert_eq!(full, Refusal::ProofsFull);
    assert!(full.is_temporary());
    assert!(matches!(seen.take(proof(THUMBPRINT, "1"), now()), Err(Refusal::ProofReplayed { .. })));
    assert!(seen.take(proof(OTHER, "4"), now()).is_ok(), "another key lies elsewhere");
    assert!(seen.take(proof(THUMBPRINT, "4"), later(70)).is_ok(), "places come free");
}

#[test]
fn of_many_cores_with_one_proof_one_wins() {
    let seen = Arc::new(SeenProofs::default());
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (seen, barrier) = (Arc::clone(&seen), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                (0..500).filter(|id| seen.take(proof(THUMBPRINT, &id.to_string()), now()).is_ok()).count()
            })
        })
        .collect();
    let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(taken, 500);
}

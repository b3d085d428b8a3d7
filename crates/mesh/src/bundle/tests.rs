use keys::{LocalSigner, Signer as _, SystemRandom};
use proptest::prelude::*;

use super::*;
use crate::authority::Record;
use crate::authority_set::AuthoritySet;
use crate::settings::Settings;
use crate::testing::NOW;

fn bundle() -> Bundle {
    let settings = Settings::new("shop.example");
    let record = Record::default().rotated(&settings, &SystemRandom::new(), NOW).unwrap().unwrap();
    AuthoritySet::at(&record, &settings, NOW).unwrap().bundle
}

#[test]
fn a_document_says_what_it_was_made_of() {
    let bundle = bundle();
    let read = Bundle::parse("shop.example", bundle.to_document().as_bytes()).unwrap();
    assert_eq!((&read.x509, read.sequence, read.refresh), (&bundle.x509, 1, REFRESH_DEFAULT));
    assert_eq!(read.jwks(), bundle.jwks());
    assert_eq!(read.jwt_keys().unwrap().len(), 1);
}

#[test]
fn refuses_what_could_be_read_in_two_ways() {
    let good: Value = serde_json::from_str(&bundle().to_document()).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        Bundle::parse("shop.example", document.to_string().as_bytes())
    };
    assert!(changed(&|_| {}).is_ok());
    assert!(
        changed(&|document| document["keys"][1]["use"] = json!("tomorrow")).is_ok_and(|b| b.jwt.is_empty())
    );
    let certificate = good["keys"][0]["x5c"][0].clone();
    type Attack<'a> = (&'static str, &'a dyn Fn(&mut Value));
    let attacks: [Attack<'_>; 10] = [
        ("no keys", &|document| document["keys"] = json!({})),
        ("nothing of use", &|document| document["keys"] = json!([{ "use": "enc" }])),
        ("two certificates", &|document| document["keys"][0]["x5c"] = json!([certificate, certificate])),
        ("no certificate", &|document| document["keys"][0]["x5c"] = json!(["AAAA"])),
        ("a key without a name", &|document| document["keys"][1]["kid"] = Value::Null),
        ("a key with an empty name", &|document| document["keys"][1]["kid"] = json!("")),
        ("two keys of one name", &|document| {
            let key = document["keys"][1].clone();
            document["keys"].as_array_mut().unwrap().push(key);
        }),
        ("a private key", &|document| document["keys"][1]["d"] = json!("AAAA")),
        ("a sequence below zero", &|document| document["spiffe_sequence"] = json!(-1)),
        ("too many keys", &|document| document["keys"] = json!(vec![json!({}); BUNDLE_KEYS_MAX + 1])),
    ];
    for (what, attack) in attacks {
        assert!(matches!(changed(attack), Err(Error::Bundle { .. })), "{what}");
    }
    let large = vec![b' '; BUNDLE_BYTES_MAX + 1];
    assert!(Bundle::parse("shop.example", &large).unwrap_err().to_string().contains("at most"));
}

#[test]
fn a_certificate_of_no_authority_anchors_nothing() {
    let settings = Settings::new("shop.example");
    let record = Record::default().rotated(&settings, &SystemRandom::new(), NOW).unwrap().unwrap();
    let authorities = AuthoritySet::at(&record, &settings, NOW).unwrap();
    let issuing = authorities.issuing.unwrap();
    let key = crate::testing::workload_key();
    let id = settings.workload("orders").unwrap();
    let leaf = issuing.authority.issue(&id, &key, NOW, settings.lifetimes.x509_svid, &SystemRandom::new());
    let bundle = Bundle { x509: vec![leaf.unwrap().certificate], ..authorities.bundle };
    assert!(Bundle::parse("shop.example", bundle.to_document().as_bytes()).is_err());
}

#[test]
fn keys_of_every_kind_become_jwks() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let (signer, _) = LocalSigner::generate(algorithm, &SystemRandom::new()).unwrap();
        let bits = signer.public_key_bits();
        assert!(!bits.is_empty());
        let signer = std::sync::Arc::new(signer);
        let terms = keys::svid::AuthorityTerms {
            trust_domain: "shop.example",
            from: NOW,
            until: NOW.plus(REFRESH_DEFAULT),
            signs_authorities: false,
        };
        let jwk = signer.public_jwk();
        let made = keys::svid::X509Authority::self_signed(signer, &terms, &SystemRandom::new()).unwrap();
        let found = certificate_jwk(made.certificate()).unwrap();
        for member in ["kty", "crv", "x", "y", "n", "e"] {
            assert_eq!(found.get(member), jwk.get(member), "{algorithm} {member}");
        }
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Bundle::parse("shop.example", &bytes);
    }
}

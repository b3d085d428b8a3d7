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
    assert_eq!(
        (&read.x509, read.sequence, read.refresh),
        (&bundle.x509, NOW.unix_seconds(), REFRESH_DEFAULT)
    );
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

/// An authority whose certificate says that it is signed by another algorithm than it is signed by.
fn at_odds_with_itself(certificate: &[u8]) -> Vec<u8> {
    // ecdsa-with-SHA256, inside and outside.
    const OID: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let mut der = certificate.to_vec();
    let outside = der.windows(OID.len()).rposition(|found| found == OID).unwrap();
    der[outside + OID.len() - 1] = 3;
    der
}

#[test]
fn an_authority_that_no_verifier_can_take_is_in_no_bundle() {
    let bundle = bundle();
    let parsed = |x509: Vec<Vec<u8>>| {
        Bundle::parse("shop.example", Bundle { x509, ..bundle.clone() }.to_document().as_bytes())
    };
    let good = &bundle.x509[0];
    assert!(parsed(vec![good.clone()]).is_ok());
    let why = parsed(vec![good.clone(), at_odds_with_itself(good)]).map(drop).unwrap_err().to_string();
    assert!(why.contains("anchors nothing"), "{why}");
}

/// A document with these certificates, in which nothing is said of them that need not be.
fn short_document(certificates: &[Vec<u8>]) -> Vec<u8> {
    let key = |der: &Vec<u8>| json!({ "use": "x509-svid", "x5c": [encode_base64(der)] });
    let keys: Vec<Value> = certificates.iter().map(key).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

#[test]
fn an_authority_with_a_key_of_no_known_kind_is_left_out() {
    let good = bundle().x509[0].clone();
    // The key is on a curve that is not known: the last byte of prime256v1, in the key alone.
    const CURVE: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let mut unknown = good.clone();
    let curve = unknown.windows(CURVE.len()).position(|found| found == CURVE).unwrap();
    unknown[curve + CURVE.len() - 1] = 6;
    let parse = |certificates: &[Vec<u8>]| Bundle::parse("shop.example", &short_document(certificates));
    assert!(parse(&[good.clone(), unknown.clone()]).unwrap().x509 == [good.as_slice()]);
    assert!(parse(&[unknown]).map(drop).unwrap_err().to_string().contains("no key"), "it verifies nothing");
}

#[test]
fn what_is_too_large_with_all_that_is_told_is_refused_where_it_comes() {
    const COUNT: usize = 100;
    let good = bundle().x509[0].clone();
    let document = |bytes: usize| {
        let mut document: Value =
            serde_json::from_slice(&short_document(&vec![good.clone(); COUNT])).unwrap();
        let key = json!({ "use": "jwt-svid", "kid": "1", "kty": "EC", "filled": "" });
        document["keys"].as_array_mut().unwrap().push(key);
        let missing = bytes - document.to_string().len();
        document["keys"][COUNT]["filled"] = json!("-".repeat(missing));
        document.to_string()
    };
    let parse = |document: &str| Bundle::parse("shop.example", document.as_bytes());
    let largest = document(BUNDLE_BYTES_MAX);
    assert_eq!(largest.len(), BUNDLE_BYTES_MAX);
    assert!(parse(&largest).map(drop).unwrap_err().to_string().contains("with all members"));
    // At the limit, and not one past it.
    let some = document(BUNDLE_BYTES_MAX / 2);
    let more = BUNDLE_BYTES_MAX - parse(&some).unwrap().to_document().len();
    let fits = document(some.len() + more);
    let read = parse(&fits).unwrap();
    assert_eq!(read.to_document().len(), BUNDLE_BYTES_MAX);
    assert!(parse(&read.to_document()).unwrap() == read);
    assert!(parse(&document(fits.len() + 1)).is_err());
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

//! API keys: form, checksum, storage, revocation.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use keys::api_key::{
    API_KEY_BYTES, API_KEY_PATTERN, API_KEY_PREFIX, API_KEY_TEXT_BYTES_MAX, CHECKSUM_DIGITS, ID_DIGITS,
    SECRET_DIGITS, is_api_key,
};
use keys::{
    ApiKeyFile, ApiKeyStore as _, ApiKeys, NewApiKey, Refusal, SystemRandom, api_key_id, create_api_key,
    list_api_keys, revoke_api_key,
};
use model::principal::Attribute;
use model::{Credential, PrincipalKind};

use crate::support::{later, now};

fn store(folder: &Path) -> ApiKeyFile {
    ApiKeyFile::new(&folder.join("api-keys.json"), Arc::new(SystemRandom::new()))
}

fn wanted(name: &str) -> NewApiKey {
    NewApiKey { name: name.to_owned(), owner: "ops@example.org".to_owned(), ..NewApiKey::default() }
}

fn create(store: &ApiKeyFile, wanted: &NewApiKey) -> (String, keys::ApiKeyRecord) {
    let (key, record) = create_api_key(store, wanted, now(), &SystemRandom::new()).unwrap();
    (key.expose().clone(), record)
}

fn load(store: &ApiKeyFile) -> ApiKeys {
    let roles = BTreeSet::from(["customer".to_owned()]);
    ApiKeys::new(&store.load().unwrap(), &roles).unwrap()
}

#[test]
fn a_key_is_made_once_and_names_its_principal() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let wanted = NewApiKey {
        roles: vec!["customer".to_owned(), "undeclared".to_owned()],
        scopes: vec!["read".to_owned()],
        attributes: BTreeMap::from([("tenant".to_owned(), Attribute::Text("acme".to_owned()))]),
        expires: Some(later(60)),
        ..wanted("ci")
    };
    let (key, record) = create(&store, &wanted);
    let keys = load(&store);
    let principal = keys.verify(key.as_bytes(), now()).unwrap();
    assert_eq!((principal.kind, principal.id.as_str()), (PrincipalKind::ApiKey, "ci"));
    assert_eq!(principal.credential, Credential::ApiKey);
    assert_eq!(
        (principal.roles.as_slice(), principal.scopes.as_slice()),
        (&["customer".to_owned()][..], &["read".to_owned()][..])
    );
    assert_eq!(principal.claims.get("tenant"), Some(&Attribute::Text("acme".to_owned())));
    assert_eq!(principal.expires, Some(later(60)));
    let own = keys.own_copy().verify(key.as_bytes(), now()).unwrap();
    assert_eq!(own, principal);
    assert!(!Arc::ptr_eq(&own, &principal), "cores share no counter");

    let text = std::fs::read_to_string(store.path()).unwrap();
    let secret = key.rsplit('_').next().unwrap();
    assert!(text.contains(&record.id) && !text.contains(secret) && !text.contains(&key));
    assert_eq!(std::fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_form_is_the_documented_one_and_the_checksum_holds() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (key, record) = create(&store, &wanted("ci"));
    assert_eq!(key.len(), API_KEY_BYTES);
    let parts: Vec<&str> = key.split('_').collect();
    assert_eq!((parts[0], parts[1], parts[2].len()), ("bst", record.id.as_str(), 38));
    assert!(is_api_key(key.as_bytes()));
    let keys = load(&store);
    for place in 0..key.len() {
        let mut changed = key.clone().into_bytes();
        changed[place] = if changed[place] == b'a' { b'b' } else { b'a' };
        assert!(!is_api_key(&changed), "one changed digit is always seen: {place}");
        assert_eq!(keys.verify(&changed, now()), Err(Refusal::ApiKeyMalformed));
    }
    for wrong in ["", "bst_", &key[1..], &key[..key.len() - 1], &format!("{key}0"), &key.to_uppercase()] {
        assert_eq!(keys.verify(wrong.as_bytes(), now()), Err(Refusal::ApiKeyMalformed), "{wrong}");
    }
    // A fixed key, so that the checksum cannot change unnoticed: CRC-32 by `zlib.crc32`.
    assert!(is_api_key(b"bst_0123456789AB_abcdefghijklmnopqrstuvwxyzABCDEF0Tw73p"));
}

#[test]
fn the_pattern_for_scanners_is_that_of_keys_and_of_the_guide() {
    let secret = SECRET_DIGITS + CHECKSUM_DIGITS;
    let pattern = format!(r"\b{API_KEY_PREFIX}[0-9A-Za-z]{{{ID_DIGITS}}}_[0-9A-Za-z]{{{secret}}}\b");
    assert_eq!(API_KEY_PATTERN, pattern);
    assert!(include_str!("../../../../docs/gateway.md").contains(API_KEY_PATTERN));
}

#[test]
fn a_wrong_secret_with_a_right_checksum_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mine, theirs) = (store(one.path()), store(two.path()));
    let (key, record) = create(&mine, &wanted("ci"));
    let (stranger, other) = create(&theirs, &wanted("ci"));
    assert!(load(&mine).verify(key.as_bytes(), now()).is_ok());
    let found = load(&mine).verify(stranger.as_bytes(), now());
    assert_eq!(found, Err(Refusal::ApiKeyUnknown { id: other.id.clone() }));
    // The same id with another secret.
    let mut contents = mine.load().unwrap();
    contents.keys[0].id = other.id.clone();
    let keys = ApiKeys::new(&contents, &BTreeSet::new()).unwrap();
    assert_eq!(keys.verify(stranger.as_bytes(), now()), Err(Refusal::ApiKeySecret { id: other.id }));
    // The same hash under another pepper.
    let mut contents = mine.load().unwrap();
    contents.pepper = theirs.load().unwrap().pepper;
    let keys = ApiKeys::new(&contents, &BTreeSet::new()).unwrap();
    assert_eq!(keys.verify(key.as_bytes(), now()), Err(Refusal::ApiKeySecret { id: record.id }));
}

#[test]
fn an_id_is_told_from_a_key_and_takes_nothing_of_its_secret_along() {
    let folder = tempfile::tempdir().unwrap();
    let (key, record) = create(&store(folder.path()), &wanted("one"));
    let key = key.as_str();
    let written_together = key.replace('_', "").replacen("bst", "bst_", 1);
    for text in [key, &key[..key.len() - 1], &format!("{key}x"), &written_together, &record.id] {
        assert_eq!(api_key_id(text), record.id, "{text}");
    }
    for (text, id) in [("", ""), ("bst_", ""), ("bst_x", "x"), ("nobody_", "nobody_"), ("bst_ééé_x", "ééé")]
    {
        assert_eq!(api_key_id(text), id, "{text}");
    }
}

#[test]
fn keys_end_and_are_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (short, short_record) = create(&store, &NewApiKey { expires: Some(later(60)), ..wanted("short") });
    let (long, long_record) = create(&store, &wanted("long"));
    let keys = load(&store);
    assert!(keys.verify(short.as_bytes(), later(59)).is_ok());
    let ended = Refusal::ApiKeyExpired { id: short_record.id, at: later(60) };
    assert_eq!(keys.verify(short.as_bytes(), later(60)), Err(ended));
    assert!(keys.verify(long.as_bytes(), later(60)).is_ok());

    revoke_api_key(&store, &long_record.id, later(1)).unwrap();
    let again = revoke_api_key(&store, &long, later(9)).unwrap();
    assert_eq!(again.revoked, Some(later(1)), "the first time stays");
    let gone = Refusal::ApiKeyRevoked { id: long_record.id.clone(), at: later(1) };
    assert_eq!(load(&store).verify(long.as_bytes(), now()), Err(gone));
    assert!(load(&store).verify(short.as_bytes(), now()).is_ok());
    assert!(revoke_api_key(&store, "nobody", now()).is_err());
    let listed = list_api_keys(&store).unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().any(|key| key.id == long_record.id && key.revoked.is_some()));
}

#[test]
fn what_cannot_be_a_key_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let refused = |wanted: NewApiKey| create_api_key(&store, &wanted, now(), &SystemRandom::new()).is_err();
    assert!(!refused(wanted("ci")));
    assert!(!refused(wanted("ci")), "a second key of the name, to replace the first");
    assert!(refused(NewApiKey { owner: "mallory".to_owned(), ..wanted("ci") }), "another's name");
    assert!(!refused(wanted(&"n".repeat(API_KEY_TEXT_BYTES_MAX))));
    assert!(refused(wanted(&"n".repeat(API_KEY_TEXT_BYTES_MAX + 1))));
    assert!(refused(wanted("")));
    assert!(refused(wanted("a\nb")));
    assert!(refused(NewApiKey { owner: String::new(), ..wanted("x") }));
    assert!(refused(NewApiKey { roles: vec![String::new()], ..wanted("x") }));
    assert!(refused(NewApiKey { expires: Some(now()), ..wanted("x") }));
    assert_eq!(list_api_keys(&store).unwrap().len(), 3);
}

#[test]
fn a_store_that_others_may_read_or_that_is_broken_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    create(&store, &wanted("ci"));
    let set_mode = |mode| std::fs::set_permissions(store.path(), PermissionsExt::from_mode(mode)).unwrap();
    for mode in [0o644, 0o640, 0o660, 0o602] {
        set_mode(mode);
        let error = store.load().unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
    set_mode(0o600);
    let good = store.load().unwrap();
    let refused = |change: &dyn Fn(&mut keys::api_key::ApiKeyContents)| {
        let mut contents = good.clone();
        change(&mut contents);
        ApiKeys::new(&contents, &BTreeSet::new()).is_err()
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|contents| contents.version = 2));
    assert!(refused(&|contents| contents.pepper = "AAAA".to_owned()));
    assert!(refused(&|contents| contents.keys[0].hash = String::new()));
    assert!(refused(&|contents| contents.keys.push(contents.keys[0].clone())));
    std::fs::write(store.path(), "{").unwrap();
    assert!(store.load().is_err());
    assert!(create_api_key(&store, &wanted("x"), now(), &SystemRandom::new()).is_err());
    assert_eq!(std::fs::read_to_string(store.path()).unwrap(), "{", "a store that is not understood stays");
}

#[test]
fn changes_from_several_sides_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::thread::scope(|scope| {
        for side in 0..4 {
            scope.spawn(move || {
                let store = store(path);
                for place in 0..10 {
                    create(&store, &wanted(&format!("{side}-{place}")));
                }
            });
        }
    });
    assert_eq!(list_api_keys(&store(path)).unwrap().len(), 40);
    let left: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the store and its lock, nothing half-written: {left:?}");
}

//! Project Wycheproof's vectors for JSON Web Signatures and Keys, where they are at
//! hand: in `shared/vectors/wycheproof` beside the repository or above it.

use std::path::Path;

use keys::jws::Unverified;
use keys::{Algorithm, KeySet};
use serde_json::{Value, json};

/// Vectors that Wycheproof calls valid and that are refused here, besides those of
/// HMAC keys.
const STRICTER: [(u64, &str); 4] = [
    (346, "the header says PS384, the key's `alg` PS256"),
    (350, "the header says PS384, the key's `alg` PS256"),
    (347, "the key's `alg` is \"ES521\", which RFC 7518 does not have"),
    (351, "the key's `alg` is \"ES521\", which RFC 7518 does not have"),
];

fn read(name: &str) -> Option<Value> {
    let place = Path::new("shared/vectors/wycheproof").join(name);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(&place));
    let Some(path) = path.into_iter().find(|path| path.is_file()) else {
        println!("skipped: {name}, because there is no shared/vectors/wycheproof beside the repository");
        return None;
    };
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

fn accepts(keys: &Value, token: &str) -> bool {
    let set = match keys.get("keys") {
        Some(_) => keys.clone(),
        None => json!({ "keys": [keys] }),
    };
    let Ok((set, _)) = KeySet::parse(set.to_string().as_bytes(), &Algorithm::ALL) else { return false };
    Unverified::parse(token.as_bytes()).and_then(|token| set.verify(token, "test")).is_ok()
}

fn is_symmetric(keys: &Value) -> bool {
    let list = keys.get("keys").and_then(Value::as_array).cloned().unwrap_or(vec![keys.clone()]);
    list.iter().any(|key| key["kty"] == "oct")
}

/// Runs a file; returns how many were accepted, refused, and refused though valid.
fn run(file: &Value) -> (usize, usize, usize) {
    let (mut accepted, mut refused, mut by_design) = (0, 0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        if group["comment"].as_str().unwrap().starts_with("jwe") {
            continue;
        }
        let keys = group.get("public").unwrap_or(&group["private"]);
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            // One vector is no text but a JWS in JSON serialization.
            let token = test["jws"].as_str().map_or_else(|| test["jws"].to_string(), str::to_owned);
            let accepts = accepts(keys, &token);
            let valid = test["result"] == "valid";
            let stricter = is_symmetric(keys) || STRICTER.iter().any(|(known, _)| *known == id);
            assert_eq!(accepts, valid && !stricter, "{id}: {} {}", group["comment"], test["comment"]);
            match (accepts, valid) {
                (true, _) => accepted += 1,
                (false, true) => by_design += 1,
                (false, false) => refused += 1,
            }
        }
    }
    (accepted, refused, by_design)
}

#[test]
fn signatures_of_wycheproof_are_judged_as_it_says() {
    let Some(file) = read("json_web_signature_test.json") else { return };
    let counts = run(&file);
    println!("accepted, refused, valid but refused by design: {counts:?}");
    assert_eq!(counts, (32, 355, 14));
}

#[test]
fn keys_of_wycheproof_are_judged_as_it_says() {
    let Some(file) = read("json_web_key_test.json") else { return };
    assert_eq!(run(&file), (1, 21, 4));
}

#[test]
fn mixed_vectors_of_wycheproof_are_judged_as_it_says() {
    let Some(file) = read("json_web_crypto_test.json") else { return };
    let (accepted, refused, by_design) = run(&file);
    assert_eq!((accepted, by_design), (2, 2));
    assert!(refused > 40, "{refused}");
}

//! People who come with password hashes of other programs: taken in by the command line,
//! good for a login through the gateway, and ours in the store from then on.

use serde_json::{Value, json};

use crate::administration::{POLICIES, fixture, testbed, tokens};
use crate::support::{TestBed, Upstream};

/// Whose hashes all of these are.
const PASSWORD: &str = "correct horse battery staple";
/// What the hashes of today begin with.
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

#[tokio::test]
async fn people_log_in_with_the_hashes_that_they_brought_and_have_ours_from_then_on() {
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, POLICIES).await;
    let run = |testbed: &TestBed, arguments: &[&str]| {
        let (code, out, err) = testbed.bastide(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    };
    // Keycloak's as its importer writes it, of its two texts of JSON.
    let realm = fixture("keycloak/shop-realm.json");
    assert_eq!(testbed.bastide(&["import", "keycloak", realm.to_str().unwrap()]).0, 1, "a client is closed");
    let imported = std::fs::read(testbed.path("imported/shop.json")).unwrap();
    let imported: Value = serde_json::from_slice(&imported).unwrap();
    let people = [
        ("alice", imported["users"]["alice"]["password_hash"].as_str().unwrap(), "$pbkdf2-sha256$"),
        ("bob", "$2b$10$Yz9aEteeeUZrEnGOvzJn7.ZfKUsFzRrIVAiHnUT39VGlAkovlNg/2", "$2b$"),
        (
            "carol",
            "$scrypt$ln=14,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$11kKyiyYAc8G7rp3KmncMc44YlkdllIqxOa7pq0fMaU",
            "$scrypt$",
        ),
    ];
    let users: serde_json::Map<String, Value> = people
        .iter()
        .map(|(name, hash, _)| ((*name).to_owned(), json!({ "password_hash": hash, "roles": ["customer"] })))
        .collect();
    std::fs::write(testbed.path("people.json"), json!({ "users": users }).to_string()).unwrap();
    run(&testbed, &["apply", "-f", "people.json"]);
    testbed.start_gateway().await;
    let kept = |testbed: &TestBed, name: &str| {
        let exported: Value = serde_json::from_str(&run(testbed, &["realm", "export", "--hashes"])).unwrap();
        exported["users"][name]["password_hash"].as_str().unwrap().to_owned()
    };
    for (name, hash, scheme) in people {
        assert!(hash.starts_with(scheme) && kept(&testbed, name) == hash, "{name}");
        let issued = tokens(&testbed, name, PASSWORD).await;
        assert!(issued["access_token"].is_string(), "{name}: {issued}");
        let renewed = kept(&testbed, name);
        assert!(renewed.starts_with(OURS), "{name}: {renewed}");
        // And it is the hash of the same password.
        assert!(tokens(&testbed, name, PASSWORD).await["access_token"].is_string(), "{name}");
        assert_eq!(kept(&testbed, name), renewed, "{name}");
    }
}

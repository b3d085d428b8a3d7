//! People who come with password hashes of other programs: taken in by the command line,
//! good for a login through the gateway, and ours in the store from then on.

use serde_json::{Value, json};

use crate::administration::{POLICIES, fixture, tokens, town};
use crate::support::{Town, Upstream};

/// Whose hashes all of these are.
const PASSWORD: &str = "correct horse battery staple";
/// What the hashes of today begin with.
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

#[tokio::test]
async fn people_log_in_with_the_hashes_that_they_brought_and_have_ours_from_then_on() {
    let upstream = Upstream::start().await;
    let mut town = town(&upstream, POLICIES).await;
    let run = |town: &Town, arguments: &[&str]| {
        let (code, out, err) = town.bastide(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    };
    // Keycloak's as its importer writes it, of its two texts of JSON.
    let realm = fixture("keycloak/shop-realm.json");
    assert_eq!(town.bastide(&["import", "keycloak", realm.to_str().unwrap()]).0, 1, "a client is closed");
    let imported = std::fs::read(town.path("imported/shop.json")).unwrap();
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
    std::fs::write(town.path("people.json"), json!({ "users": users }).to_string()).unwrap();
    run(&town, &["apply", "-f", "people.json"]);
    town.start_gateway().await;
    let kept = |town: &Town, name: &str| {
        let exported: Value = serde_json::from_str(&run(town, &["realm", "export", "--hashes"])).unwrap();
        exported["users"][name]["password_hash"].as_str().unwrap().to_owned()
    };
    for (name, hash, scheme) in people {
        assert!(hash.starts_with(scheme) && kept(&town, name) == hash, "{name}");
        let issued = tokens(&town, name, PASSWORD).await;
        assert!(issued["access_token"].is_string(), "{name}: {issued}");
        let renewed = kept(&town, name);
        assert!(renewed.starts_with(OURS), "{name}: {renewed}");
        // And it is the hash of the same password.
        assert!(tokens(&town, name, PASSWORD).await["access_token"].is_string(), "{name}");
        assert_eq!(kept(&town, name), renewed, "{name}");
    }
}

//! People who come with password hashes of other programs: taken in by the command line,
//! good for a login through the gateway, and ours in the store from then on. And what is
//! written down of logins.

use serde_json::{Value, json};

use crate::administration::{POLICIES, fixture, log_in, testbed, tokens};
use crate::support::{TestBed, Upstream, until};

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

#[tokio::test]
async fn logins_stand_in_the_audit_log_and_in_the_log_with_their_reason() {
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, POLICIES).await;
    let made = testbed.bastide(&["user", "add", "alice", "--output", "json"]).1;
    let password = serde_json::from_str::<Value>(&made).unwrap()["password"].as_str().unwrap().to_owned();
    testbed.start_gateway().await;
    assert!(tokens(&testbed, "alice", &password).await["access_token"].is_string());
    assert_eq!(log_in(&testbed, "alice", "wrong").await.status, 401);
    assert_eq!(log_in(&testbed, "hunter2-in-the-wrong-field", "wrong").await.status, 401);
    let events = until("the events", async || {
        let mut events = Vec::new();
        for file in std::fs::read_dir(testbed.path("state/audit")).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap_or_default();
            assert!(!text.contains("hunter2"), "{text}");
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            events.extend(lines.filter(|event| event["class_uid"] == 3002));
        }
        (events.len() == 3).then_some(events)
    })
    .await;
    let unknown = events[2]["user"]["name"].as_str().unwrap();
    assert!(unknown.starts_with("unknown:"), "{unknown}");
    for (event, status, reason, user) in
        [(0, 1, "", "alice"), (1, 2, "wrong_password", "alice"), (2, 2, "unknown_user", unknown)]
    {
        let event = &events[event];
        assert_eq!(
            (&event["status_id"], &event["status_detail"]),
            (&json!(status), &json!(reason)),
            "{event}"
        );
        assert_eq!(event["user"]["name"], user, "{event}");
        assert_eq!(event["src_endpoint"]["ip"], "127.0.0.1", "{event}");
        assert_eq!(
            (&event["unmapped"]["client_id"], &event["unmapped"]["realm"]),
            (&json!("web"), &json!("town")),
            "{event}"
        );
        // Of the request that led to it, and of its own.
        for id in [&event["http_request"]["uid"], &event["metadata"]["uid"]] {
            let (_, out, err) = testbed.bastide(&["explain", id.as_str().unwrap()]);
            assert!(out.contains("POST localhost /login"), "{out}{err}");
        }
    }
    let log = testbed.log();
    let line = log.lines().find(|line| line.contains("login failed")).unwrap();
    for expected in ["WARN", "alice", "127.0.0.1", "web", "town", "wrong_password"] {
        assert!(line.contains(expected), "{expected}: {line}");
    }
    assert!(!log.contains("hunter2"), "{log}");
    assert!(!log.contains("the revocation list has changed"), "nothing was revoked: {log}");
}

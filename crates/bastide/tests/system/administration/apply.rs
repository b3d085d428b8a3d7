//! `bastide apply`, and what it takes: exports of a realm, and of Keycloak's.

use bastide::demo::client::{Request, http1};
use serde_json::{Value, json};

use super::{POLICIES, SECRET, fixture, testbed};
use crate::support::{TestBed, Upstream, read};

#[tokio::test]
async fn a_realm_is_exported_and_applied_again() {
    let upstream = Upstream::start().await;
    let mut one = testbed(&upstream, POLICIES).await;
    one.start_gateway().await;
    let file = "realm: town\nclients:\n  job:\n    secret_file: secret.txt\n    grant_types: [ client_credentials ]\n    \
                resources: [ \"https://orders.test\" ]\nusers:\n  alice:\n    email: alice@example.org\n    \
                roles: [ customer ]\n    attributes: { level: 3, badge: \"007\" }\n  bob: { groups: [ staff ] }\n";
    std::fs::write(one.path("town.yaml"), file).unwrap();
    let run = |testbed: &TestBed, arguments: &[&str]| {
        let (code, out, err) = testbed.bastide(arguments);
        (code, format!("{out}{err}"))
    };
    let (code, text) = run(&one, &["apply", "-f", "town.yaml", "--dry-run"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("+ client \"job\"") && text.contains("+ user \"alice\""), "{text}");
    assert!(
        text.contains("(a secret)") && !text.contains(&identity::Client::secret_hash(SECRET).unwrap()),
        "{text}"
    );
    assert_eq!(run(&one, &["user", "show", "alice"]).0, 1, "a dry run changes nothing");
    let (code, text) = run(&one, &["apply", "-f", "town.yaml"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(&one, &["apply", "-f", "town.yaml", "--dry-run"]);
    assert_eq!((code, text.contains("nothing to do")), (0, true), "{text}");
    // Fields that are not mentioned stay; a difference is shown as it is.
    assert_eq!(run(&one, &["user", "password", "alice"]).0, 0);
    std::fs::write(
        one.path("more.yaml"),
        "users:\n  Alice: { name: Alice Archer }\nroles:\n  administrator: [ bob ]\n",
    )
    .unwrap();
    let (code, text) = run(&one, &["apply", "-f", "more.yaml", "--output", "json"]);
    assert_eq!(code, 0, "{text}");
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said["changes"][0]["differences"][0]["to"], "Alice Archer", "{said}");
    assert_eq!(
        (&said["changes"][0]["place"]["line"], said["changes"].as_array().unwrap().len()),
        (&json!(2), 2)
    );
    let (_, text) = run(&one, &["user", "show", "alice"]);
    for part in ["Alice Archer", "alice@example.org", "007", "customer"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Faults are said with their places, and nothing is done.
    std::fs::write(one.path("wrong.yaml"), "users:\n  carol: {}\nclients:\n  x:\n    scops: [ y ]\n")
        .unwrap();
    let (code, text) = run(&one, &["apply", "-f", "wrong.yaml"]);
    assert_eq!(code, 3);
    assert!(text.contains("wrong.yaml:5:5: unknown field \"scops\" (did you mean \"scopes\"?)"), "{text}");
    std::fs::write(one.path("wrong.yaml"), "clients:\n  x:\n    scopes: [ y ]\n    grant_types: []\n")
        .unwrap();
    let (code, text) = run(&one, &["apply", "-f", "wrong.yaml"]);
    assert_eq!(code, 3);
    assert!(text.contains("wrong.yaml:2:3: client \"x\"") && text.contains("unknown scope"), "{text}");

    // The export of one test bed makes another one the same.
    let (code, out, err) = one.bastide(&["realm", "export", "--hashes"]);
    assert_eq!(code, 0, "{err}");
    let exported: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exported["users"].as_object().unwrap().len(), 2, "{exported}");
    assert!(exported["users"]["alice"]["password_hash"].as_str().unwrap().starts_with("$argon2id$"));
    assert!(exported["clients"].get("web").is_none(), "it is declared");
    let mut two = testbed(&upstream, POLICIES).await;
    std::fs::write(two.path("town.json"), &out).unwrap();
    let (code, text) = run(&two, &["apply", "-f", "town.json"]);
    assert_eq!(code, 0, "without a process: {text}");
    two.start_gateway().await;
    let (code, out, err) = two.bastide(&["realm", "export", "--hashes"]);
    assert_eq!(code, 0, "{err}");
    let again: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exported, again);
    let mut request = Request::new("POST", "localhost", "/token")
        .field("content-type", "application/x-www-form-urlencoded");
    request.body = format!("grant_type=client_credentials&client_id=job&client_secret={SECRET}").into_bytes();
    assert_eq!(http1::ask(&two.endpoint(), &request).await.unwrap().status, 200);
    let (_, out, _) = two.bastide(&["realm", "export"]);
    assert!(!out.contains("argon2") && out.contains("\"hashes\": []"), "without hashes: {out}");
    // What it does not say stays, and is no difference.
    std::fs::write(two.path("bare.json"), &out).unwrap();
    let (code, text) = run(&two, &["apply", "-f", "bare.json", "--dry-run"]);
    assert_eq!((code, text.contains("nothing to do")), (0, true), "{text}");

    // What no file mentions goes with --prune alone.
    std::fs::write(two.path("few.yaml"), "users: { bob: {} }\nclients: {}\nroles: { administrator: [] }\n")
        .unwrap();
    assert_eq!(run(&two, &["apply", "-f", "few.yaml", "--dry-run"]).0, 0);
    let (code, text) = run(&two, &["apply", "-f", "few.yaml", "--prune"]);
    assert_eq!(code, 0, "{text}");
    for part in ["- user \"alice\"", "- client \"job\"", "~ role \"administrator\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(run(&two, &["client", "show", "web"]).0, 0, "the configuration's stays");
}

#[tokio::test]
async fn a_realm_of_keycloak_is_imported_and_applied() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, POLICIES).await;
    let realm = fixture("keycloak/shop-realm.json");
    let (code, out, err) = testbed.bastide(&["import", "keycloak", realm.to_str().unwrap()]);
    assert_eq!(code, 1, "a client is closed: {out}{err}");
    for part in ["client \"legacy\": closed", "it has a wildcard", "Left to do"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    // The test bed's own configuration beside the imported part.
    let main = std::fs::read_to_string(testbed.path("bastide.yaml")).unwrap();
    let rest = main.split("roles:").next().unwrap().to_owned();
    std::fs::write(
        testbed.path("shop.yaml"),
        format!("include: imported/realm.yaml\n{rest}routes:\n  - match: id.example.org/**\n    to: identity\n    authenticate: none\n    allow: anyone\n"),
    )
    .unwrap();
    let at = ["--config", "shop.yaml"];
    let run = |arguments: &[&str]| {
        let (code, out, err) = testbed.bastide(&[arguments, &at].concat());
        (code, format!("{out}{err}"))
    };
    let (code, text) = run(&["apply", "-f", "imported/shop.json"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(run(&["apply", "-f", "imported/shop.json", "--dry-run"]).0, 0, "it is what was wanted");
    let (_, text) = run(&["user", "show", "alice"]);
    assert!(text.contains("company/sales") && text.contains("orders-api.reader"), "{text}");
    let (_, out, _) = testbed.bastide(&["realm", "export", "--hashes", "--config", "shop.yaml"]);
    assert!(out.contains("$pbkdf2-sha256$i=27500,l=64$AAECAwQFBgcICQoLDA0ODw$"), "{out}");
    let (_, text) = run(&["client", "list"]);
    assert!(text.lines().any(|line| line.starts_with("legacy") && line.contains("disabled")), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(testbed.path("imported/shop.json")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "hashes are for the owner alone");
}

#[tokio::test]
async fn what_is_refused_of_files_ends_nothing_else_and_removes_nothing() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, POLICIES).await;
    let apply = |file: &str, text: &str, more: &[&str]| {
        std::fs::write(testbed.path(file), text).unwrap();
        let (code, out, err) = testbed.bastide(&[&["apply", "-f", file], more].concat());
        (code, format!("{out}{err}"))
    };
    let (code, text) = apply("before.yaml", "users: { old: {} }\n", &[]);
    assert_eq!(code, 0, "{text}");
    let wanted = "clients:\n  a:b: { redirect_uris: [ https://app.test/cb ], grant_types: [ authorization_code ] }\n  \
                  good: { redirect_uris: [ https://app.test/cb ], grant_types: [ authorization_code ] }\n\
                  users:\n  alice: {}\n  bob: { email: nowhere }\n  carol: {}\n";
    let (code, text) = apply("town.yaml", wanted, &["--prune"]);
    assert_eq!(code, 3, "{text}");
    for part in [
        "town.yaml:2:3: client \"a:b\": ",
        "town.yaml:6:3: user \"bob\": ",
        "email: expected one address",
        "3 changed, 2 refused, 1 left as they were",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, users, _) = testbed.bastide(&["user", "list"]);
    for name in ["alice", "carol", "old"] {
        assert!(users.contains(name), "{name}: {users}");
    }
    assert!(!users.contains("bob"), "{users}");
    assert_eq!(testbed.bastide(&["client", "show", "good"]).0, 0);
    // In words for machines, and once everything fits.
    let (code, out) = apply("town.yaml", wanted, &["--prune", "--output", "json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["changed"], &told["left"]), (3, &json!(0), &json!(1)), "{told}");
    assert_eq!(told["faults"].as_array().unwrap().len(), 2, "{told}");
    let mended = wanted.replace("a:b:", "ab:").replace("nowhere", "bob@town.test");
    let (code, text) = apply("town.yaml", &mended, &["--prune"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("- user \"old\"") && text.contains("3 changed"), "{text}");
}

/// A dry run promises nothing that is refused then.
#[tokio::test]
async fn a_dry_run_judges_as_the_command_itself_does() {
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, POLICIES).await;
    assert_eq!(testbed.bastide(&["user", "add", "alice"]).0, 0);
    for running in [false, true] {
        if running {
            testbed.start_gateway().await;
        }
        for (wanted, says) in [
            (
                "roles: { custmer: [ alice ] }\n",
                "1:10: role \"custmer\" is not declared (did you mean \"customer\"?)",
            ),
            (
                "settings: { lifetimes: { access_token: 900000 } }\n",
                "access_token: expected 1 to 86400 seconds",
            ),
            (
                "clients: { c1: { redirect_uris: [ \"https://*.example.org/cb\" ] } }\n",
                "1:12: client \"c1\": redirect_uris: ",
            ),
            (
                "clients: { c1: { scopes: [ nothing ], grant_types: [ device_code ] } }\n",
                "1:12: client \"c1\": unknown scope",
            ),
            ("users: { bob: { email: nowhere } }\n", "1:10: user \"bob\": email: expected one address"),
        ] {
            std::fs::write(testbed.path("wrong.yaml"), wanted).unwrap();
            let mut found = Vec::new();
            for arguments in [&["apply", "-f", "wrong.yaml", "--dry-run"][..], &["apply", "-f", "wrong.yaml"]]
            {
                let (code, out, err) = testbed.bastide(arguments);
                assert_eq!(code, 3, "{running} {arguments:?} {wanted}: {out}{err}");
                assert_eq!(err.matches(says).count(), 1, "{arguments:?} {wanted}: {err}");
                found.push(err);
            }
            assert_eq!(found[0], found[1], "{wanted}");
            let arguments = ["apply", "-f", "wrong.yaml", "--dry-run", "--output", "json"];
            let (code, out, err) = testbed.bastide(&arguments);
            let told: Value = serde_json::from_str(&out).unwrap();
            assert_eq!((code, told["faults"].as_array().unwrap().len(), err.as_str()), (3, 1, ""), "{told}");
        }
        // A role that nobody declared is no fault of a person's, and said.
        std::fs::write(
            testbed.path("odd.yaml"),
            "users:\n  carol: { roles: [ custmer ] }\n  dan: { roles: [ custmer ] }\n",
        )
        .unwrap();
        for arguments in [&["apply", "-f", "odd.yaml", "--dry-run"][..], &["apply", "-f", "odd.yaml"]] {
            let (_, out, err) = testbed.bastide(arguments);
            let says = "odd.yaml:2:3: role \"custmer\" is not declared (did you mean \"customer\"?): no policy knows it; \
                        2 users in these files\n";
            assert!(out.contains(says), "{arguments:?}: {out}{err}");
        }
        let (_, users, _) = testbed.bastide(&["user", "list"]);
        assert!(!users.contains("bob") && users.contains("carol"), "{users}");
    }
}

#[tokio::test]
async fn who_stands_behind_what_cannot_be_imported_is_imported() {
    let upstream = Upstream::start().await;
    let testbed = testbed(&upstream, POLICIES).await;
    let mut realm: Value = serde_json::from_str(&read(&fixture("keycloak/shop-realm.json"))).unwrap();
    let keys = r#"{"keys":[{"kty":"oct","use":"enc","k":"AA","kid":"1"}]}"#;
    for (id, attributes) in [("urn:shop:web", json!({})), ("by-keys", json!({ "jwks.string": keys }))] {
        let how = if attributes.get("jwks.string").is_some() { "client-jwt" } else { "client-secret" };
        realm["clients"].as_array_mut().unwrap().insert(
            0,
            json!({
                "clientId": id, "secret": SECRET, "clientAuthenticatorType": how, "attributes": attributes,
                "redirectUris": ["https://app.test/cb"],
            }),
        );
    }
    realm["users"].as_array_mut().unwrap().insert(0, json!({ "username": "aa", "email": "nowhere" }));
    // A group that is called like a role is a name.
    realm["groups"].as_array_mut().unwrap().push(json!({ "name": "admin" }));
    let alice = realm["users"].as_array_mut().unwrap().iter_mut().find(|user| user["username"] == "alice");
    alice.unwrap()["groups"].as_array_mut().unwrap().push(json!("/admin"));
    std::fs::write(testbed.path("realm.json"), realm.to_string()).unwrap();
    let (code, out, err) =
        testbed.bastide(&["import", "keycloak", "realm.json", "--issuer", "https://localhost/shop"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("client \"urn:shop:web\": not translated: it cannot be one here"), "{out}");
    assert!(out.contains("client \"by-keys\": closed"), "{out}");
    let main = read(&testbed.path("bastide.yaml"));
    let rest = main.split("roles:").next().unwrap();
    let shop = format!(
        "include: imported/realm.yaml\n{rest}authentication: {{ audience: a.test, issuers: [ https://localhost/shop ] }}\n\
         routes:\n  - match: localhost/shop/**\n    to: identity\n    authenticate: none\n    allow: anyone\n"
    );
    std::fs::write(testbed.path("shop.yaml"), shop).unwrap();
    let at = ["--config", "shop.yaml"];
    let (code, out, err) = testbed.bastide(&[&["apply", "-f", "imported/shop.json"][..], &at].concat());
    assert_eq!(code, 0, "{out}{err}");
    let (_, out, _) = testbed.bastide(&[&["user", "list"][..], &at].concat());
    assert!(out.contains("alice") && out.contains("aa"), "{out}");
    let (_, out, _) = testbed.bastide(&[&["user", "show", "alice", "--output", "json"][..], &at].concat());
    let alice: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(alice["groups"], json!(["admin", "company/sales"]));
    assert!(!alice["roles"].as_array().unwrap().contains(&json!("admin")), "{alice}");
}

use super::*;

mod security;

/// What `kc.sh export --users realm_file` writes of a small realm.
const REALM: &str = include_str!("../../../tests/keycloak/shop-realm.json");

fn wanted() -> Wanted {
    Wanted {
        issuer: None,
        hash: |password| {
            identity::hash_password(password, &keys::SystemRandom::new()).map_err(|e| e.to_string())
        },
    }
}

fn imported() -> (Imported, Value, String) {
    let imported = import(&[REALM.to_owned()], &wanted()).unwrap();
    let file = |name: &str| {
        let file = imported.files.iter().find(|file| file.path.as_os_str() == name).unwrap();
        String::from_utf8(file.bytes.clone()).unwrap()
    };
    let (records, yaml) = (serde_json::from_str(&file("shop.json")).unwrap(), file("realm.yaml"));
    (imported, records, yaml)
}

#[test]
fn people_come_with_their_hashes_roles_and_groups() {
    let (_, records, _) = imported();
    let alice = &records["users"]["alice"];
    assert_eq!(alice["id"], "6a1c1a0e-3f0f-4b8e-9c53-0a4a5a0f7a01");
    assert_eq!((&alice["name"], &alice["email_verified"]), (&json!("Alice Archer"), &json!(true)));
    assert_eq!(
        alice["password_hash"],
        "$pbkdf2-sha256$i=27500,l=64$AAECAwQFBgcICQoLDA0ODw$Ca/W1uHPdOF53bPWSQyrHQQPdk6KOe20VTbaw0U+WWswH2gciKNBqwk+H7RPgAmCshFAhVRLSSar72bo1/g8dA"
    );
    // Of her own, of her group, and of the group above it.
    assert_eq!(alice["roles"], json!(["customer", "orders-api.reader", "staff"]));
    assert_eq!(alice["groups"], json!(["company/sales"]));
    assert_eq!(
        alice["attributes"],
        json!({ "given_name": "Alice", "family_name": "Archer", "department": "sales", "phones": ["1", "2"] })
    );
    let bob = &records["users"]["bob"];
    assert_eq!((&bob["disabled"], bob.get("password_hash")), (&json!(true), None));
    assert!(
        records["users"]["carol"]["password_hash"]
            .as_str()
            .unwrap()
            .starts_with("$argon2id$v=19$m=7168,t=5,p=1$")
    );
    assert!(records["users"].get("service-account-reports").is_none());
}

#[test]
fn clients_come_closed_where_they_would_be_more_open() {
    let (imported, records, _) = imported();
    let clients = &records["clients"];
    assert_eq!(clients["shop"]["redirect_uris"], json!(["https://shop.example.org/callback"]));
    assert_eq!(clients["shop"]["post_logout_redirect_uris"], json!(["https://shop.example.org/bye"]));
    assert_eq!((&clients["shop"]["trusted"], &clients["shop"]["disabled"]), (&json!(false), &json!(false)));
    assert_eq!(clients["reports"]["grant_types"], json!(["client_credentials"]));
    assert_eq!(clients["reports"]["roles"], json!(["orders-api.reader"]));
    let hash = identity::Client::secret_hash("yWl8cXt3aHbq0SxVQm7dZ5uKp2Rf9TnE").unwrap();
    assert_eq!(clients["reports"]["authentication"]["hashes"], json!([hash]));
    assert_eq!(clients["legacy"]["disabled"], true, "its secret is short");
    assert_eq!(clients["wild"]["grant_types"], json!([]), "only wildcards");
    for gone in ["account", "admin-cli", "saml-app", "orders-api"] {
        assert!(clients.get(gone).is_none(), "{gone}");
    }
    let said = |what: &str, outcome: Outcome| {
        imported.findings.iter().any(|found| found.what.contains(what) && found.outcome == outcome)
    };
    for (what, outcome) in [
        ("redirect URI \"https://shop.example.org/*\" of client \"shop\"", Outcome::Dropped),
        ("client \"legacy\"", Outcome::Closed),
        ("authorization_code of client \"wild\"", Outcome::Closed),
        ("client \"saml-app\"", Outcome::Dropped),
        ("client \"orders-api\"", Outcome::Dropped),
        ("password grant of client \"shop\"", Outcome::Dropped),
        ("protocol mapper \"department\"", Outcome::Dropped),
        ("credential \"otp\" of user \"alice\"", Outcome::Translated),
        ("required action UPDATE_PASSWORD of user \"bob\"", Outcome::Changed),
        ("identityProviders", Outcome::Dropped),
        ("group \"/company\"", Outcome::Changed),
    ] {
        assert!(said(what, outcome), "{what}: {:#?}", imported.findings);
    }
    assert!(imported.findings.iter().all(|found| found.line > 1 && found.column > 0));
    assert!(imported.is_closed());
    // Nothing secret is in the report.
    let report = serde_json::to_string(&imported.findings).unwrap();
    assert!(!report.contains("yWl8cXt3") && !report.contains("Ca/W1uHP") && !report.contains("dJRKNqYW"));
}

/// An export with one more client and one more person for each thing that cannot be so here.
pub(crate) fn with_what_cannot_be() -> String {
    let mut realm: Value = serde_json::from_str(REALM).unwrap();
    let client = |id: &str, more: Value| {
        let mut client = json!({
            "clientId": id, "enabled": true, "secret": "yWl8cXt3aHbq0SxVQm7dZ5uKp2Rf9TnE",
            "redirectUris": ["https://app.example.org/cb"],
        });
        client.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client
    };
    let keys = |jwks: &str| json!({ "clientAuthenticatorType": "client-jwt", "attributes": { "jwks.string": jwks } });
    let clients = realm["clients"].as_array_mut().unwrap();
    clients.splice(
        0..0,
        [
            client("urn:shop:web", json!({})),
            client("My app", json!({})),
            client("a\u{e4}", json!({ "publicClient": true })),
            client(&"a".repeat(200), json!({})),
            client("encrypts", keys(r#"{"keys":[{"kty":"oct","use":"enc","k":"AA","kid":"1"}]}"#)),
            client("strange", keys(r#"{"keys":7}"#)),
            client(
                "nameless",
                json!({ "clientAuthenticatorType": "client-x509", "attributes": { "x509.subjectdn": " " } }),
            ),
        ],
    );
    let user = |name: &str, more: Value| {
        let mut user = json!({ "username": name, "enabled": true });
        user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        user
    };
    let users = realm["users"].as_array_mut().unwrap();
    let alices = users[0]["id"].clone();
    let password = |data: &str| {
        json!({ "credentials": [{
            "type": "password", "secretData": r#"{"value":"AAAA","salt":"AAAA"}"#, "credentialData": data,
        }] })
    };
    users.splice(0..0, [
        user(" outer", json!({})),
        user(&"u".repeat(300), json!({})),
        user("mailless", json!({ "email": "two@example.org, three@example.org" })),
        user("odd", json!({ "id": "n\u{f6}" })),
        user("like-a-client", json!({ "id": "shop" })),
        user("dear", password(r#"{"algorithm":"pbkdf2-sha256","hashIterations":4000000000}"#)),
        user("short", password(r#"{"algorithm":"argon2","hashIterations":5,"additionalParameters":{"type":["id"],"version":["1.3"],"memory":["4000000000"],"parallelism":["1"]}}"#)),
    ]);
    users.push(user("twin", json!({ "id": alices })));
    realm.to_string()
}

#[test]
fn what_cannot_be_here_is_left_out_and_said() {
    let imported = import(&[with_what_cannot_be()], &wanted()).unwrap();
    let file = imported.files.iter().find(|file| file.path.as_os_str() == "shop.json").unwrap();
    let records: Value = serde_json::from_slice(&file.bytes).unwrap();
    let said = |what: &str, outcome: Outcome| {
        let found = imported.findings.iter().any(|found| found.what == what && found.outcome == outcome);
        assert!(found, "{what}: {:#?}", imported.findings);
    };
    let long = "a".repeat(200);
    for id in ["urn:shop:web", "My app", "a\u{e4}", &long] {
        assert!(records["clients"].get(id).is_none(), "{id}");
        said(&format!("client {id:?}"), Outcome::Dropped);
    }
    for id in ["encrypts", "strange", "nameless"] {
        let client = &records["clients"][id];
        assert_eq!((&client["disabled"], &client["grant_types"]), (&json!(true), &json!([])), "{id}");
        assert_eq!(client["authentication"]["hashes"], json!([client::NOBODYS_HASH]), "{id}");
        said(&format!("client {id:?}"), Outcome::Closed);
    }
    for name in [" outer", &"u".repeat(300)] {
        assert!(records["users"].get(name).is_none(), "{name}");
        said(&format!("user {name:?}"), Outcome::Dropped);
    }
    for (name, without, what, outcome) in [
        ("mailless", "email", "e-mail address", Outcome::Dropped),
        ("odd", "id", "id", Outcome::Changed),
        ("like-a-client", "id", "id", Outcome::Changed),
        ("twin", "id", "id", Outcome::Changed),
        ("dear", "password_hash", "password", Outcome::Dropped),
        ("short", "password_hash", "password", Outcome::Dropped),
    ] {
        let user = records["users"].get(name).unwrap();
        assert!(user.get(without).is_none(), "{name}: {user}");
        said(&format!("{what} of user {name:?}"), outcome);
    }
    // All that is left can be written here.
    let settings = RealmSettings::new("shop", "https://id.example.org");
    for (id, client) in records["clients"].as_object().unwrap() {
        let mut client = client.clone();
        client["id"] = json!(id);
        let mut client: identity::Client = serde_json::from_value(client).unwrap();
        client.disabled = true;
        client.check(&settings).unwrap();
    }
}

/// A realm as people write one for tests: scopes are Keycloak's own, passwords stand in clear.
#[test]
fn a_realm_that_was_written_by_hand_has_keycloaks_scopes_and_clear_passwords() {
    let realm = json!({
        "realm": "hand", "enabled": true,
        "clients": [
            { "clientId": "web", "publicClient": true, "redirectUris": ["https://app.example/cb"] },
            { "clientId": "bare", "publicClient": true, "redirectUris": ["https://app.example/cb"], "defaultClientScopes": [] },
            { "clientId": "told", "publicClient": true, "redirectUris": ["https://app.example/cb"],
              "attributes": { "backchannel.logout.url": "http://app:8080/logout" } },
            { "clientId": "near", "publicClient": true, "redirectUris": ["https://app.example/cb"],
              "attributes": { "backchannel.logout.url": "https://10.0.0.7/logout" } },
        ],
        "users": [
            { "username": "alice", "credentials": [{ "type": "password", "value": "correct horse" }] },
            { "username": "bob", "credentials": [{ "type": "password", "value": "" }] },
        ],
    });
    let imported = import(&[realm.to_string()], &wanted()).unwrap();
    let records: Value = serde_json::from_slice(&imported.files[1].bytes).unwrap();
    let scopes = |client: &str| records["clients"][client]["scopes"].clone();
    assert_eq!(scopes("web"), json!(["address", "email", "offline_access", "openid", "phone", "profile"]));
    assert_eq!(scopes("bare"), json!(["openid"]));
    let hash = records["users"]["alice"]["password_hash"].as_str().unwrap();
    assert!(
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && identity::check_password_hash(hash).is_ok()
    );
    assert!(records["users"]["bob"].get("password_hash").is_none());
    let note = |what: &str| {
        let found = imported.findings.iter().find(|found| found.what == what);
        found.unwrap_or_else(|| panic!("{what}: {:#?}", imported.findings)).note.clone()
    };
    assert!(
        note("back-channel logout of client \"told\"")
            .starts_with("\"http://app:8080/logout\": http:// is for")
    );
    assert!(note("back-channel logout of client \"near\"").contains("allow_private_addresses: true"));
    let report = serde_json::to_string(&imported.findings).unwrap();
    assert!(!report.contains("correct horse"));
    // A realm that names its scopes has no others.
    let mut named = realm.clone();
    named["clientScopes"] = json!([{ "name": "orders:read" }]);
    named["defaultDefaultClientScopes"] = json!(["orders:read", "email"]);
    let imported = import(&[named.to_string()], &wanted()).unwrap();
    let records: Value = serde_json::from_slice(&imported.files[1].bytes).unwrap();
    assert_eq!(records["clients"]["web"]["scopes"], json!(["email", "openid", "orders:read"]));
}

fn loaded(yaml: &str) -> crate::config::Configuration {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("realm.yaml"), yaml).unwrap();
    let main = "include: realm.yaml\nlisten: [ 127.0.0.1:0 ]\nroutes: []\n";
    std::fs::write(folder.path().join("bastide.yaml"), main).unwrap();
    let loaded = crate::config::load(&folder.path().join("bastide.yaml"), &|_| None, &crate::config::Disk);
    loaded.unwrap_or_else(|faults| panic!("{faults:?}\n{yaml}"))
}

#[test]
fn the_configuration_is_one_that_loads() {
    let (_, _, yaml) = imported();
    let loaded = loaded(&yaml);
    let realm = &loaded.realms[0].settings;
    assert_eq!((realm.name.as_str(), realm.display_name.as_str()), ("shop", "The shop"));
    assert_eq!(realm.lifetimes.access_token.as_secs(), 300);
    assert_eq!(realm.lifetimes.session_idle.as_secs(), 1_800);
    assert_eq!(realm.scopes.keys().collect::<Vec<_>>(), ["orders:read"]);
    let roles: Vec<_> = loaded.roles.iter().map(|role| (role.name.as_str(), role.includes.clone())).collect();
    let includes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        roles,
        [
            ("admin", includes(&["customer", "orders-api.reader"])),
            ("customer", includes(&[])),
            ("orders-api.reader", includes(&[])),
            ("staff", includes(&[])),
        ]
    );
}

#[test]
fn what_is_no_export_is_refused_and_nothing_panics() {
    for text in ["", "[]", "{}", "{\"realm\":\"x\"}", "{\"realm\":", "{\"realm\":7,\"clients\":8}"] {
        let _ = import(&[text.to_owned()], &wanted());
    }
    assert!(import(&["{}".to_owned()], &wanted()).is_err());
    // Cut anywhere, and with any piece another.
    for cut in (0..REALM.len()).step_by(97).filter(|cut| REALM.is_char_boundary(*cut)) {
        let _ = import(&[REALM[..cut].to_owned()], &wanted());
        let _ = import(&[REALM.replacen(&REALM[cut..(cut + 3).min(REALM.len())], "7", 1)], &wanted());
    }
}

#[test]
fn what_is_said_of_a_place_is_said_once_and_in_order() {
    let finding = |line, what: &str| Finding {
        line,
        column: 1,
        what: what.to_owned(),
        outcome: Outcome::Dropped,
        note: String::new(),
    };
    let (one, two, three) = (finding(2, "a"), finding(2, "b"), finding(1, "c"));
    let found = in_order(vec![one.clone(), two.clone(), three.clone(), one.clone(), two.clone()]);
    assert_eq!(found, [three, one, two]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 192, ..Default::default() })]

    /// Bytes changed anywhere: taken or refused, never a panic, never a wildcard.
    #[test]
    fn fuzz_smoke_mutated_exports_are_taken_or_refused(
        cuts in proptest::collection::vec((0usize..20_000, 0usize..12, "[ -~\n]{0,6}"), 1..4),
    ) {
        let mut bytes = REALM.as_bytes().to_vec();
        for (place, length, put) in cuts {
            let place = place % bytes.len();
            let end = (place + length).min(bytes.len());
            bytes.splice(place..end, put.bytes());
        }
        super::fuzz(&bytes);
    }
}

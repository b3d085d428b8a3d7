//! People who come from elsewhere, and whose an address is.

use serde_json::{Value, json};

use super::{POLICIES, audit, call, fixture, log_in, start, testbed};
use crate::support::{TestBed, Upstream};

#[tokio::test]
async fn an_address_that_somebody_verified_is_given_to_nobody_else() {
    let upstream = Upstream::start().await;
    let (testbed, _) = start(&upstream, POLICIES).await;
    let user = |name: &str, verified: bool| json!({ "username": name, "email": "bob@example.org", "email_verified": verified });
    let put = async |id: &str, query: &str, body: Value| {
        call(&testbed, "PUT", &format!("/v1/realms/town/users/{id}{query}"), Some(body)).await
    };
    assert_eq!(put("bob", "", user("bob", true)).await.0, 200);
    for query in ["", "?dry_run=true"] {
        let (status, problem) = put("eve", query, user("eve", true)).await;
        assert_eq!(status, 409, "{query}: {problem}");
        assert!(
            problem.to_string().contains("another user has shown that this address is theirs"),
            "{problem}"
        );
        let (status, problem) =
            call(&testbed, "POST", &format!("/v1/realms/town/users{query}"), Some(user("eve", true))).await;
        assert_eq!(status, 409, "{query}: {problem}");
    }
    assert_eq!(put("eve", "", user("eve", false)).await.0, 200);
    assert_eq!(put("eve", "", user("eve", true)).await.0, 409);
    // From a file: whoever can be taken is, and the other is named with their place.
    let file = "users:\n  carol: { email: carol@example.org, email_verified: true }\n  dan: { email: Bob@example.org, email_verified: true }\n";
    std::fs::write(testbed.path("people.yaml"), file).unwrap();
    let (code, out, err) = testbed.bastide(&["apply", "-f", "people.yaml"]);
    assert_eq!(code, 3, "{out}{err}");
    assert!(
        format!("{out}{err}").contains("people.yaml:3:3: user \"dan\": email: another user has"),
        "{out}{err}"
    );
    let (_, users, _) = testbed.bastide(&["user", "list"]);
    assert!(users.contains("carol") && !users.contains("dan"), "{users}");
    // Given up, it is free.
    assert_eq!(put("bob", "", user("bob", false)).await.0, 200);
    assert_eq!(put("eve", "", user("eve", true)).await.0, 200);
}

/// Where a login goes with this password: its status, and the page that it leads to.
async fn login(testbed: &TestBed, username: &str, password: &str) -> (u16, String) {
    let answer = log_in(testbed, username, password).await;
    let to = answer.field("location").unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    (answer.status, to)
}

#[tokio::test]
async fn people_of_keycloak_show_the_second_factor_that_they_had() {
    const PASSWORD: &str = "correct horse battery staple";
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, POLICIES).await;
    let mut realm: Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("keycloak/shop-realm.json")).unwrap()).unwrap();
    let users = realm["users"].as_array_mut().unwrap();
    let alice = users[0].clone();
    let mut of_another = alice.clone();
    (of_another["username"], of_another["id"]) = (json!("erin"), json!("erin"));
    of_another["email"] = json!("erin@example.org");
    of_another["credentials"][1]["credentialData"] =
        json!(r#"{"subType":"totp","digits":8,"counter":0,"period":30,"algorithm":"HmacSHA256"}"#);
    users.push(of_another);
    std::fs::write(testbed.path("realm.json"), realm.to_string()).unwrap();
    let run = |testbed: &TestBed, arguments: &[&str], code: i32| {
        let (found, out, err) = testbed.bastide(arguments);
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        out
    };
    run(&testbed, &["import", "keycloak", "realm.json", "--issuer", "https://localhost"], 1);
    let mut records: Value =
        serde_json::from_slice(&std::fs::read(testbed.path("imported/shop.json")).unwrap()).unwrap();
    // Into the realm that is there, whose clients stay; its roles and factors as they were imported.
    records["realm"] = json!("town");
    records.as_object_mut().unwrap().remove("clients");
    std::fs::write(testbed.path("people.json"), records.to_string()).unwrap();
    let rules = std::fs::read_to_string(testbed.path("bastide.yaml")).unwrap();
    let rules = rules.replacen("customer: {}", "customer: {}, second-factor: {}", 1);
    let factors = "issuer: https://localhost\n    factors: { roles: { second-factor: \"2\" } }\n";
    let rules = rules.replacen("issuer: https://localhost\n", factors, 1);
    std::fs::write(testbed.path("bastide.yaml"), rules).unwrap();
    assert!(std::fs::read_to_string(testbed.path("imported/realm.yaml")).unwrap().contains("factors:"));
    testbed.start_gateway().await;
    run(&testbed, &["apply", "-f", "people.json", "--dry-run"], 1);
    let applied = run(&testbed, &["apply", "-f", "people.json"], 0);
    assert!(applied.contains("totp") && !applied.contains("MRFFES2O"), "{applied}");
    assert!(!run(&testbed, &["apply", "-f", "people.json", "--dry-run"], 0).contains("totp"));
    // Nobody has a password before the factor that they show beside it.
    let written = audit(&testbed);
    let place = |of: &str| written.find(&format!("/users/{}/{of}", alice["id"].as_str().unwrap()));
    assert!(place("factors/p2").unwrap() < place("password").unwrap(), "{written}");
    let enrolled = run(&testbed, &["user", "factors", "alice"], 0);
    assert!(enrolled.contains("p2") && enrolled.contains("totp") && enrolled.contains("phone"), "{enrolled}");
    assert_eq!(login(&testbed, "alice", PASSWORD).await, (303, "/login/factor".to_owned()));
    // Hers cannot be moved: she is out until an administrator lets her in, and then enrols another.
    assert_eq!(login(&testbed, "erin", PASSWORD).await.0, 401);
    run(&testbed, &["user", "enable", "erin"], 0);
    assert_eq!(login(&testbed, "erin", PASSWORD).await, (303, "/login/enrol".to_owned()));
    // Without a person: the same again changes nothing, and another one's secret is refused.
    let path = "/v1/realms/town/users/erin/factors/from-elsewhere";
    let secret = |secret: &str| Some(json!({ "name": "phone", "secret": secret }));
    for (given, status) in [
        (secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"), 204),
        (secret("gezdgnbvgy3tqojqgezdgnbvgy3tqojq"), 204),
        (secret("GEZDGNBV"), 422),
        (secret("not base32!"), 422),
    ] {
        assert_eq!(call(&testbed, "PUT", path, given.clone()).await.0, status, "{given:?}");
    }
    assert_eq!(
        call(&testbed, "GET", "/v1/realms/town/users/erin/factors", None).await.1["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    testbed.stop_gateway().await;
}

//! Users, and whose an address is.

use serde_json::{Value, json};

use super::{POLICIES, call, start};
use crate::support::Upstream;

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

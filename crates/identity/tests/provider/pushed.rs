//! Pushed authorization requests.

use serde_json::Value;

use crate::support::{Browser, CALLBACK, ISSUER, Reply, SECRET, TestBed, challenge, form, secret, web};

async fn push(testbed: &TestBed, client: &str, change: &[(&str, &str)]) -> Reply {
    let challenge = challenge();
    let mut pairs = vec![
        ("client_id", client),
        ("client_secret", SECRET),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("scope", "openid"),
        ("state", "pushed"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    pairs.retain(|(name, _)| change.iter().all(|(other, _)| other != name));
    pairs.extend(change);
    testbed.post("/par", &pairs).await
}

fn address(client: &str, pushed: &Value, more: &[(&str, &str)]) -> String {
    let mut pairs = vec![("client_id", client), ("request_uri", pushed["request_uri"].as_str().unwrap())];
    pairs.extend(more);
    format!("{ISSUER}/authorize?{}", form(&pairs))
}

#[tokio::test]
async fn a_pushed_request_is_used_once_and_only_what_was_pushed_counts() {
    let testbed = TestBed::new().await;
    let reply = push(&testbed, "web", &[]).await;
    assert_eq!((reply.status.as_u16(), reply.field("cache-control")), (201, "no-store"));
    let pushed = reply.json();
    assert_eq!(pushed["expires_in"], 90);
    let mut browser = Browser::new(&testbed);
    let more =
        [("state", "forged"), ("scope", "openid orders:write"), ("redirect_uri", "https://evil.example")];
    let page = browser.go(&address("web", &pushed, &more)).await;
    let answer = browser.log_in(&page).await.answer();
    assert_eq!(answer["state"], "pushed");
    assert_eq!(testbed.redeem("web", &answer["code"]).await.json()["scope"], "openid");
    assert_eq!(browser.go(&address("web", &pushed, &[])).await.status, 400, "used");

    let pushed = push(&testbed, "web", &[]).await.json();
    assert_eq!(browser.go(&address("spa", &pushed, &[])).await.status, 400, "another client's");
    assert!(browser.go(&address("web", &pushed, &[])).await.answer().contains_key("code"));
    let pushed = push(&testbed, "web", &[]).await.json();
    testbed.advance(90);
    assert_eq!(browser.go(&address("web", &pushed, &[])).await.status, 400, "over");
}

#[tokio::test]
async fn what_is_wrong_is_told_when_it_is_pushed() {
    let testbed = TestBed::new().await;
    for (status, error, change) in [
        (401, "invalid_client", &[("client_secret", "wrong")][..]),
        (400, "invalid_request", &[("redirect_uri", "https://evil.example/cb")]),
        (400, "invalid_request", &[("request_uri", "urn:ietf:params:oauth:request_uri:x")]),
        (400, "invalid_request", &[("code_challenge", "")]),
        (400, "invalid_scope", &[("scope", "admin")]),
        (400, "unsupported_response_type", &[("response_type", "token")]),
        (400, "request_not_supported", &[("request", "x")]),
    ] {
        push(&testbed, "web", change).await.refused(status, error);
    }
}

#[tokio::test]
async fn clients_can_be_held_to_it() {
    let testbed = TestBed::new().await;
    let mut held = web("held", secret());
    held.require_pushed_requests = true;
    testbed.put(held).await;
    let mut browser = Browser::new(&testbed);
    assert_eq!(browser.authorize("held", &[]).await.status, 400);
    let pushed = push(&testbed, "held", &[]).await.json();
    let page = browser.go(&address("held", &pushed, &[])).await;
    assert!(browser.log_in(&page).await.answer().contains_key("code"));
    let realm = TestBed::with(|settings| settings.require_pushed_requests = true).await;
    assert_eq!(Browser::new(&realm).authorize("web", &[]).await.status, 400);
}

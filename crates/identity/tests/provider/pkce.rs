//! PKCE: who may leave it out, and what becomes of a code that was asked for without.

use identity::{Client, ClientAuthentication, Pkce};

use crate::support::{Browser, CALLBACK, Reply, SECRET, TestBed, VERIFIER, secret, web};

/// What a request of PKCE would have, left out.
const NO_CHALLENGE: [(&str, &str); 2] = [("code_challenge", ""), ("code_challenge_method", "")];

/// A client that may leave PKCE out.
fn old() -> Client {
    Client { pkce: Pkce::Optional, ..web("old", secret()) }
}

async fn redeem(testbed: &TestBed, code: &str, more: &[(&str, &str)]) -> Reply {
    let usual = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("client_id", "old"),
        ("client_secret", SECRET),
    ];
    testbed.post("/token", &[&usual[..], more].concat()).await
}

#[tokio::test]
async fn a_client_that_authenticates_may_be_let_off_pkce() {
    let testbed = TestBed::new().await;
    testbed.put(old()).await;
    let mut browser = Browser::new(&testbed);
    let here = ("redirect_uri", CALLBACK);
    let code = browser.log_in_for("old", &NO_CHALLENGE).await["code"].clone();
    assert_eq!(redeem(&testbed, &code, &[here]).await.status, 200);
    // Others are not, and neither is half of it.
    let none = browser.authorize("web", &NO_CHALLENGE).await.answer();
    assert_eq!(none["error"], "invalid_request");
    let half = browser.authorize("old", &NO_CHALLENGE[..1]).await.answer();
    assert_eq!(half["error"], "invalid_request");
    // Who sends it has to hold it.
    let code = browser.authorize("old", &[]).await.answer()["code"].clone();
    redeem(&testbed, &code, &[here]).await.refused(400, "invalid_grant");
    let code = browser.authorize("old", &[]).await.answer()["code"].clone();
    assert_eq!(redeem(&testbed, &code, &[here, ("code_verifier", VERIFIER)]).await.status, 200);
}

/// RFC 9700 §2.1.1: who took the challenge out of a request gets nothing for a client that sent one.
#[tokio::test]
async fn a_code_without_challenge_is_none_for_whoever_has_a_verifier() {
    let testbed = TestBed::new().await;
    testbed.put(old()).await;
    let mut browser = Browser::new(&testbed);
    let here = ("redirect_uri", CALLBACK);
    let code = browser.log_in_for("old", &NO_CHALLENGE).await["code"].clone();
    redeem(&testbed, &code, &[here, ("code_verifier", VERIFIER)]).await.refused(400, "invalid_grant");
    redeem(&testbed, &code, &[here]).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn a_code_without_challenge_is_none_for_a_client_that_has_to_send_one_by_now() {
    let testbed = TestBed::new().await;
    testbed.put(old()).await;
    let code = Browser::new(&testbed).log_in_for("old", &NO_CHALLENGE).await["code"].clone();
    testbed.put(web("old", secret())).await;
    let here = ("redirect_uri", CALLBACK);
    redeem(&testbed, &code, &[here]).await.refused(400, "invalid_grant");
}

/// RFC 6749 §4.1.3: without a verifier it is the address that ties a code to its request.
#[tokio::test]
async fn a_code_without_challenge_comes_with_its_address_where_there_are_several() {
    let testbed = TestBed::new().await;
    let mut two = old();
    two.redirect_uris.push("https://app.example/other".to_owned());
    testbed.put(two).await;
    let mut browser = Browser::new(&testbed);
    let code = browser.log_in_for("old", &NO_CHALLENGE).await["code"].clone();
    redeem(&testbed, &code, &[]).await.refused(400, "invalid_grant");
    assert_eq!(redeem(&testbed, &code, &[("redirect_uri", CALLBACK)]).await.status, 200);
    testbed.put(old()).await;
    let code = browser.authorize("old", &NO_CHALLENGE).await.answer()["code"].clone();
    assert_eq!(redeem(&testbed, &code, &[]).await.status, 200, "it has one address");
}

#[tokio::test]
async fn a_public_client_is_never_let_off_pkce() {
    let testbed = TestBed::new().await;
    let public = Client { pkce: Pkce::Optional, ..web("old", ClientAuthentication::None) };
    let refused = testbed.realm.put_client(&public).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("client \"old\": pkce: optional is for clients that authenticate"),
        "{refused}"
    );
}

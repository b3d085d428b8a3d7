//! What clients of others send that ours would not: taken where nothing is lost by it.

use identity::{Client, ClientAuthentication, GrantType};

use crate::support::{Browser, SECRET, TestBed, client, secret, web};

/// RFC 6749 §3.3, OpenID Connect Core §3.1.2.1.
#[tokio::test]
async fn scopes_that_a_client_may_not_have_are_left_out() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    for (asked, granted) in [
        ("openid admin", "openid"),
        ("openid pay orders:read", "openid orders:read"),
        (" openid  email ", "email openid"),
        ("pay orders:read", "orders:read"),
    ] {
        let code = browser.authorize("web", &[("scope", asked)]).await.answer()["code"].clone();
        let tokens = testbed.redeem("web", &code).await.json();
        let mut expected: Vec<&str> = granted.split(' ').collect();
        expected.sort_unstable();
        assert_eq!(tokens["scope"], expected.join(" "), "{asked}");
        let (_, claims) = testbed.claims(tokens["access_token"].as_str().unwrap()).await;
        assert_eq!(claims["scope"], tokens["scope"], "{asked}");
        assert_eq!(tokens.get("id_token").is_some(), asked.contains("openid"), "{asked}");
        // A refresh never has more than was granted (RFC 6749 §6).
        let wider = [
            ("grant_type", "refresh_token"),
            ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
            ("client_id", "web"),
            ("client_secret", SECRET),
            ("scope", "openid orders:write"),
        ];
        testbed.post("/token", &wider).await.refused(400, "invalid_scope");
    }
    for none in ["admin", "pay", "  "] {
        let answer = browser.authorize("web", &[("scope", none)]).await.answer();
        assert_eq!(answer["error"], "invalid_scope", "{none:?}");
    }
    for spaced in ["login  consent", " login"] {
        let reply = browser.authorize("web", &[("prompt", spaced)]).await;
        assert!(reply.text.contains("type=\"password\""), "{spaced:?}: {reply:?}");
    }
}

#[tokio::test]
async fn nobody_consents_to_a_scope_that_was_left_out() {
    let testbed = TestBed::new().await;
    let mut other = Client { trusted: false, ..web("other", secret()) };
    testbed.put(other.clone()).await;
    let mut browser = Browser::new(&testbed);
    let scope = ("scope", "openid pay");
    let page = browser.authorize("other", &[scope]).await;
    let consent = browser.log_in(&page).await;
    assert!(consent.text.contains("know who you are") && !consent.text.contains("pay"), "{}", consent.text);
    browser.submit(&consent, &[("decision", "allow")]).await.answer();
    assert!(browser.authorize("other", &[scope]).await.answer().contains_key("code"));
    // Once the client may have it, it is news.
    other.scopes.insert("pay".to_owned());
    testbed.put(other).await;
    let asked = browser.authorize("other", &[scope]).await;
    assert!(asked.text.contains("asks for access") && asked.text.contains("pay"), "{asked:?}");
}

#[tokio::test]
async fn a_device_and_a_machine_get_what_is_left_of_their_scopes() {
    let testbed = TestBed::new().await;
    let mut tv = client("tv", ClientAuthentication::None);
    tv.grant_types = [GrantType::DeviceCode].into();
    tv.scopes = ["openid".to_owned()].into();
    testbed.put(tv).await;
    let device =
        async |scope| testbed.post("/device_authorization", &[("client_id", "tv"), ("scope", scope)]).await;
    device("admin orders:read").await.refused(400, "invalid_scope");
    let begun = device("openid  admin").await.json();
    let mut browser = Browser::new(&testbed);
    let page = browser.go(begun["verification_uri_complete"].as_str().unwrap()).await;
    let page = browser.log_in(&page).await;
    let allow = [("user_code", begun["user_code"].as_str().unwrap()), ("decision", "allow")];
    assert!(browser.submit(&page, &allow).await.text.contains("Connected"));
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
    let ask = [grant, ("device_code", begun["device_code"].as_str().unwrap()), ("client_id", "tv")];
    assert_eq!(testbed.post("/token", &ask).await.json()["scope"], "openid");

    let by = [("grant_type", "client_credentials"), ("client_id", "service"), ("client_secret", SECRET)];
    let asked = async |scope| testbed.post("/token", &[&by[..], &[("scope", scope)]].concat()).await;
    assert_eq!(asked("orders:read  orders:list openid").await.json()["scope"], "orders:read");
    asked("orders:list openid").await.refused(400, "invalid_scope");
}

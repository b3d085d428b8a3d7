//! What clients of others send that ours would not: taken where nothing is lost by it.

use axum::body::Body;
use axum::http::{Method, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::{Client, ClientAuthentication, GrantType};
use serde_json::{Value, json};

use crate::support::{
    Browser, CALLBACK, ISSUER, Reply, SECRET, TestBed, authorization, client, form, query, secret, web,
};

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

#[tokio::test]
async fn an_answer_can_be_in_the_fragment() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let fragment = ("response_mode", "fragment");
    let answer = |reply: &Reply| {
        let rest = reply.field("location").strip_prefix(CALLBACK).and_then(|rest| rest.strip_prefix('#'));
        query(&format!("?{}", rest.unwrap_or_else(|| panic!("{reply:?}"))))
    };
    let none = answer(&browser.authorize("web", &[fragment, ("prompt", "none")]).await);
    assert_eq!(none["error"], "login_required");
    let page = browser.authorize("web", &[fragment]).await;
    let answer = answer(&browser.log_in(&page).await);
    assert_eq!((answer["state"].as_str(), answer["iss"].as_str()), ("the state", ISSUER));
    assert_eq!(testbed.redeem("web", &answer["code"]).await.status, 200);
}

/// RFC 6749 §4.1.2.1: client and address are known to be good.
#[tokio::test]
async fn an_unknown_mode_and_a_long_state_are_told_to_the_client() {
    let testbed = TestBed::new().await;
    let reply = testbed.get(&authorization("web", &[("response_mode", "web_message")])).await.answer();
    assert_eq!((reply["error"].as_str(), reply["state"].as_str()), ("invalid_request", "the state"));
    for (bytes, error) in [(2048, "login_required"), (2049, "invalid_request")] {
        let state = "s".repeat(bytes);
        let pairs = [("state", state.as_str()), ("prompt", "none")];
        let reply = testbed.get(&authorization("web", &pairs)).await.answer();
        assert_eq!((reply["error"].as_str(), reply.contains_key("state")), (error, bytes == 2048));
    }
    let elsewhere = [("redirect_uri", "https://evil.example/cb"), ("response_mode", "web_message")];
    assert_eq!(testbed.get(&authorization("web", &elsewhere)).await.field("location"), "");
}

/// RFC 6749 §3.1 and §4.1.2.1: a browser is shown a page, or sent back.
#[tokio::test]
async fn a_parameter_of_an_authorization_request_that_is_there_twice() {
    let testbed = TestBed::new().await;
    let twice = async |more: &str| testbed.get(&format!("{}&{more}", authorization("web", &[]))).await;
    for more in [
        "client_id=spa",
        "redirect_uri=https%3A%2F%2Fapp.example%2Fcb",
        "state=2",
        "response_mode=query&response_mode=fragment",
        "request_uri=x&request_uri=y",
    ] {
        let reply = twice(more).await;
        assert_eq!((reply.status.as_u16(), reply.field("location")), (400, ""), "{more}");
        assert!(reply.field("content-type").starts_with("text/html"), "{more}: {reply:?}");
    }
    for more in
        ["scope=openid", "nonce=2", "code_challenge=x", "prompt=none&prompt=login", "claims=&claims=x"]
    {
        let answer = twice(more).await.answer();
        assert_eq!((answer["error"].as_str(), answer["state"].as_str()), ("invalid_request", "the state"));
    }
    let unknown = twice("utm=1&utm=2&prompt=none&resource=https%3A%2F%2Forders.example.org").await.answer();
    assert_eq!(unknown["error"], "login_required");
    // Posted as well; and elsewhere it is refused as ever.
    let known = authorization("web", &[]).split_once('?').unwrap().1.to_owned();
    let posted = |endpoint: &str, body: String| {
        Request::post(format!("{ISSUER}{endpoint}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap()
    };
    let reply = testbed.send(posted("/authorize", format!("{known}&nonce=2"))).await;
    assert_eq!(reply.answer()["error"], "invalid_request");
    let body =
        format!("{}&utm=1&utm=2", form(&[("token", "x"), ("client_id", "api"), ("client_secret", SECRET)]));
    testbed.send(posted("/introspect", body)).await.refused(400, "invalid_request");
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

/// RFC 6749 §2.3.1: a secret that is empty may be left out, so it may be there.
#[tokio::test]
async fn an_empty_password_is_no_secret() {
    let testbed = TestBed::new().await;
    let tokens = testbed.tokens("spa", "openid").await;
    let refresh =
        [("grant_type", "refresh_token"), ("refresh_token", tokens["refresh_token"].as_str().unwrap())];
    let by = async |field: &str| testbed.post_with("/token", ("authorization", field), &refresh).await;
    assert_eq!(by(&basic("spa", "")).await.status, 200);
    let mut pinned =
        client("pinned", ClientAuthentication::SelfSignedTlsClientAuth { thumbprints: vec!["x".to_owned()] });
    pinned.grant_types = [GrantType::ClientCredentials].into();
    testbed.put(pinned).await;
    for (id, secret) in [("spa", "x"), ("web", ""), ("pinned", ""), ("nobody", "")] {
        by(&basic(id, secret)).await.refused(401, "invalid_client");
    }
}

/// RFC 6749 §2.3.1 wants it encoded, and many clients do not.
#[tokio::test]
async fn a_client_id_that_can_be_meant_in_one_way_alone_counts_as_it_is() {
    let testbed = TestBed::new().await;
    for id in ["a+b", "50%", "c%41"] {
        let mut odd = client(id, secret());
        odd.grant_types = [GrantType::ClientCredentials].into();
        testbed.put(odd).await;
    }
    let grant = [("grant_type", "client_credentials")];
    for (sent, status) in [
        ("a+b", 200),
        ("a%2Bb", 200),
        ("50%", 200),
        ("50%25", 200),
        ("c%2541", 200),
        // That is how `cA` is written.
        ("c%41", 401),
    ] {
        let reply = testbed.post_with("/token", ("authorization", &basic(sent, SECRET)), &grant).await;
        assert_eq!(reply.status, status, "{sent}");
    }
}

/// RFC 9110 §15.5.2.
#[tokio::test]
async fn whoever_shows_nothing_is_told_how() {
    let testbed = TestBed::new().await;
    for endpoint in ["/token", "/introspect", "/revoke"] {
        let reply = testbed.post(endpoint, &[("grant_type", "client_credentials"), ("token", "x")]).await;
        reply.refused(401, "invalid_client");
        assert!(reply.field("www-authenticate").starts_with("Basic "), "{endpoint}: {reply:?}");
    }
    let public = testbed.post("/introspect", &[("client_id", "spa"), ("token", "x")]).await;
    public.refused(401, "invalid_client");
    assert!(public.field("www-authenticate").starts_with("Basic "), "{public:?}");
}

async fn metadata(testbed: &TestBed) -> Value {
    testbed.get(&format!("{ISSUER}/.well-known/openid-configuration")).await.json()
}

fn has(list: &Value, name: &str) -> bool {
    list.as_array().unwrap().contains(&json!(name))
}

#[tokio::test]
async fn metadata_says_what_there_is() {
    let testbed = TestBed::new().await;
    let told = metadata(&testbed).await;
    assert!(!has(&told["introspection_endpoint_auth_methods_supported"], "none"));
    assert!(has(&told["token_endpoint_auth_methods_supported"], "none"));
    assert_eq!(told["response_modes_supported"], json!(["query", "fragment", "form_post"]));
    let claims = &told["claims_supported"];
    assert!(has(claims, "email") && !has(claims, "roles") && !has(claims, "groups"), "{claims}");
    // The same algorithms everywhere, by each of their names (RFC 9864).
    let algorithms = &told["dpop_signing_alg_values_supported"];
    assert!(has(algorithms, "Ed25519") && has(algorithms, "EdDSA"), "{algorithms}");
    let tokens = testbed.tokens("web", "openid").await;
    let asking = Request::get(format!("{ISSUER}/userinfo"))
        .header("authorization", format!("DPoP {}", tokens["access_token"].as_str().unwrap()))
        .body(Body::empty());
    let challenge = testbed.send(asking.unwrap()).await.field("www-authenticate").to_owned();
    let names = challenge.split_once("algs=\"").unwrap().1.trim_end_matches('"');
    assert_eq!(&json!(names.split(' ').collect::<Vec<_>>()), algorithms);
}

#[tokio::test]
async fn metadata_names_certificates_where_they_are_asked_for() {
    for asked in [true, false] {
        let testbed = TestBed::with(|settings| settings.client_certificates = asked).await;
        let told = metadata(&testbed).await;
        for endpoint in ["token", "introspection", "revocation"] {
            let ways = &told[format!("{endpoint}_endpoint_auth_methods_supported")];
            for way in ["tls_client_auth", "self_signed_tls_client_auth"] {
                assert_eq!(has(ways, way), asked, "{endpoint}");
            }
            assert!(has(ways, "private_key_jwt"));
        }
        assert_eq!(told["tls_client_certificate_bound_access_tokens"] == true, asked);
    }
}

#[tokio::test]
async fn metadata_is_also_where_the_path_is_put_before_it() {
    let testbed = TestBed::new().await;
    let appended = testbed.get(&format!("{ISSUER}/.well-known/oauth-authorization-server")).await;
    assert_eq!((appended.status.as_u16(), appended.json()), (200, metadata(&testbed).await));
    let no_path = TestBed::with(|settings| settings.issuer = "https://id.example.org".to_owned()).await;
    let inserted = no_path.get("https://id.example.org/.well-known/oauth-authorization-server").await;
    assert_eq!(inserted.status, 200);
}

/// RFC 9110 §13.1.2: tags are compared weakly, and an asterisk is every one.
#[tokio::test]
async fn keys_that_are_known_are_not_sent_again() {
    let testbed = TestBed::new().await;
    let address = format!("{ISSUER}/jwks");
    let tag = testbed.get(&address).await.field("etag").to_owned();
    for (given, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"x\", W/{tag}"), 304),
        ("*".to_owned(), 304),
        ("W/\"x\"".to_owned(), 200),
        ("\"*\"".to_owned(), 200),
    ] {
        let again = Request::get(&address).header("if-none-match", &given).body(Body::empty()).unwrap();
        assert_eq!(testbed.send(again).await.status, status, "{given}");
    }
}

/// RFC 6750 §3.1: where there is no token, there is no error either.
#[tokio::test]
async fn userinfo_without_a_token_has_no_error() {
    let none = TestBed::new().await.get(&format!("{ISSUER}/userinfo")).await;
    assert_eq!(
        (none.status.as_u16(), none.field("www-authenticate"), none.text.as_str()),
        (401, "Bearer", "")
    );
}

/// RFC 9110 §9.2.1: who asks for the head alone changes nothing.
#[tokio::test]
async fn nothing_comes_of_a_head() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    browser.log_in_for("web", &[]).await;
    let cookie = browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    let head = |address: &str| {
        let request =
            Request::builder().method(Method::HEAD).uri(address).header("cookie", cookie.join("; "));
        request.body(Body::empty()).unwrap()
    };
    for path in [authorization("web", &[]), format!("{ISSUER}/flow")] {
        let reply = testbed.send(head(&path)).await;
        assert_eq!((reply.status.as_u16(), reply.field("location")), (200, ""), "{path}");
        assert_eq!(reply.field("cache-control"), "no-store", "{path}");
    }
    // A request that was pushed is still there.
    let pushed = authorization("web", &[("client_secret", SECRET)]);
    let pushed =
        form_urlencoded::parse(pushed.split_once('?').unwrap().1.as_bytes()).into_owned().collect::<Vec<_>>();
    let pairs: Vec<_> = pushed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let uri = testbed.post("/par", &pairs).await.json()["request_uri"].as_str().unwrap().to_owned();
    let address = format!("{ISSUER}/authorize?{}", form(&[("client_id", "web"), ("request_uri", &uri)]));
    assert_eq!(testbed.send(head(&address)).await.status, 200);
    assert!(browser.go(&address).await.answer().contains_key("code"));
}

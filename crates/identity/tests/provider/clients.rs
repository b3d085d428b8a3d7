//! Clients showing who they are, and others pretending to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::{Client, ClientAuthentication, Error, GrantType, User, Written, client::CertificateSubject};
use keys::encoding::encode_base64url;
use keys::{Algorithm, LocalSigner, Signer, SystemRandom, publish, sign_token};
use serde_json::{Value, json};

use crate::sign_out::gateway_takes;
use crate::support::{
    Browser, ISSUER, NOW, ORDERS, Reply, SECRET, Steps, TestBed, client, payload, secret, web,
};

const GRANT: (&str, &str) = ("grant_type", "client_credentials");
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

#[tokio::test]
async fn a_secret_by_header_or_form_and_never_both() {
    let testbed = TestBed::new().await;
    let good = basic("service", SECRET);
    assert_eq!(testbed.post_with("/token", ("authorization", &good), &[GRANT]).await.status, 200);
    let posted = [GRANT, ("client_id", "service"), ("client_secret", SECRET)];
    assert_eq!(testbed.post("/token", &posted).await.status, 200);
    testbed.post_with("/token", ("authorization", &good), &posted).await.refused(400, "invalid_request");
    // Form-encoded before base64 (RFC 6749 §2.3.1).
    let encoded = basic("service", &SECRET.replace('-', "%2D"));
    assert_eq!(testbed.post_with("/token", ("authorization", &encoded), &[GRANT]).await.status, 200);
    let other = [GRANT, ("client_id", "web")];
    testbed.post_with("/token", ("authorization", &good), &other).await.refused(400, "invalid_request");
}

/// RFC 6749 §2.3.1 wants both encoded before they are joined, and many clients do not.
#[tokio::test]
async fn a_secret_with_signs_counts_encoded_and_as_it_is() {
    let testbed = TestBed::new().await;
    let secret = "plus+and%41percent/0123456789abcdefgh";
    let hashes = vec![Client::secret_hash(secret).unwrap()];
    let mut signs = client("signs", ClientAuthentication::Secret { hashes });
    signs.grant_types = [GrantType::ClientCredentials].into();
    testbed.put(signs).await;
    let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    for (shown, good) in [
        (secret.to_owned(), true),
        (encoded.clone(), true),
        (secret.replace('+', " "), false),
        (secret.replace("%41", "A"), false),
        (encoded.replace("%2B", "%2b%2B"), false),
    ] {
        let reply = testbed.post_with("/token", ("authorization", &basic("signs", &shown)), &[GRANT]).await;
        assert_eq!(reply.status == 200, good, "{shown}: {reply:?}");
    }
}

#[tokio::test]
async fn every_failure_has_one_answer() {
    let testbed = TestBed::new().await;
    let mut off = client("off", crate::support::secret());
    off.disabled = true;
    testbed.put(off).await;
    let mut bodies = Vec::new();
    for field in [
        basic("service", "wrong"),
        basic("service", ""),
        basic("nobody", SECRET),
        basic("off", SECRET),
        basic("spa", SECRET),
        basic("", SECRET),
    ] {
        let reply = testbed.post_with("/token", ("authorization", &field), &[GRANT]).await;
        reply.refused(401, "invalid_client");
        assert!(reply.field("www-authenticate").starts_with("Basic"));
        bodies.push(reply.text);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    for field in ["Basic !", "Basic", "Bearer x", "Basic eA=="] {
        testbed.post_with("/token", ("authorization", field), &[GRANT]).await.refused(401, "invalid_client");
    }
    // A client with a secret is not one without.
    testbed.post("/token", &[GRANT, ("client_id", "service")]).await.refused(401, "invalid_client");
    testbed.post("/token", &[GRANT]).await.refused(401, "invalid_client");
}

#[tokio::test]
async fn grants_are_what_is_registered() {
    let testbed = TestBed::new().await;
    let by = |id: &'static str, grant: &'static str| {
        vec![("grant_type", grant), ("client_id", id), ("client_secret", SECRET)]
    };
    testbed.post("/token", &by("web", "client_credentials")).await.refused(400, "unauthorized_client");
    for grant in ["password", "implicit", "CLIENT_CREDENTIALS"] {
        testbed.post("/token", &by("service", grant)).await.refused(400, "unsupported_grant_type");
    }
    testbed.post("/token", &by("service", "")).await.refused(400, "invalid_request");
    let twice =
        format!("{}&grant_type=refresh_token", crate::support::form(&by("service", "client_credentials")));
    let twice = axum::http::Request::post(format!("{ISSUER}/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(twice.into())
        .unwrap();
    testbed.send(twice).await.refused(400, "invalid_request");
    assert_eq!(testbed.get(&format!("{ISSUER}/token?grant_type=client_credentials")).await.status, 405);
}

#[tokio::test]
async fn a_scope_that_a_client_does_not_have_is_named() {
    let testbed = TestBed::new().await;
    let by = [GRANT, ("client_id", "service"), ("client_secret", SECRET), ("resource", ORDERS)];
    let asked = async |scope| testbed.post("/token", &[&by[..], &[("scope", scope)]].concat()).await;
    assert_eq!(asked("orders:read").await.status, 200);
    let refused = asked("orders:list").await;
    refused.refused(400, "invalid_scope");
    assert_eq!(refused.json()["error_description"], "this client does not have the `scope` orders:list");
}

struct Signing {
    testbed: TestBed,
    signer: LocalSigner,
}

impl Signing {
    async fn new(algorithm: Algorithm) -> Self {
        let testbed = TestBed::new().await;
        let signer = LocalSigner::generate(algorithm, &SystemRandom::new()).unwrap().0;
        let jwks = serde_json::from_str(&publish(&[&signer])).unwrap();
        let mut signing = client("signing", ClientAuthentication::PrivateKeyJwt { jwks });
        signing.grant_types = [GrantType::ClientCredentials].into();
        testbed.put(signing).await;
        Self { testbed, signer }
    }

    fn assertion(&self, id: &str, change: Value) -> String {
        let mut claims = json!({
            "iss": "signing", "sub": "signing", "aud": ISSUER, "jti": id, "iat": NOW, "exp": NOW + 60,
        });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        sign_token(&self.signer, "JWT", claims.as_object().unwrap()).unwrap()
    }

    async fn present(&self, assertion: &str) -> crate::support::Reply {
        let pairs = [GRANT, ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)];
        self.testbed.post("/token", &pairs).await
    }
}

#[tokio::test]
async fn an_assertion_is_used_once_and_here() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let signing = Signing::new(algorithm).await;
        let good = signing.assertion("1", json!({}));
        assert_eq!(signing.present(&good).await.status, 200, "{algorithm}");
        signing.present(&good).await.refused(401, "invalid_client");
        // The same name in another assertion.
        signing
            .present(&signing.assertion("1", json!({ "iat": NOW - 1 })))
            .await
            .refused(401, "invalid_client");
        let endpoint = signing.assertion("2", json!({ "aud": format!("{ISSUER}/token") }));
        assert_eq!(signing.present(&endpoint).await.status, 200);
        // RFC 9126 §2: where it is pushed, that endpoint is an audience too.
        for (id, aud, status) in [("3", "/par", 400), ("4", "/introspect", 401)] {
            let pushed = signing.assertion(id, json!({ "aud": format!("{ISSUER}{aud}") }));
            let pairs = [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &pushed)];
            assert_eq!(signing.testbed.post("/par", &pairs).await.status, status, "{aud}");
        }
        for (place, change) in [
            json!({ "aud": "https://other.example.org" }),
            json!({ "aud": [ISSUER, "https://other.example.org"] }),
            json!({ "aud": format!("{ISSUER}/par") }),
            json!({ "sub": "service" }),
            json!({ "iss": "service" }),
            json!({ "exp": NOW - 60 }),
            json!({ "exp": NOW + 7200 }),
        ]
        .into_iter()
        .enumerate()
        {
            let wrong = signing.assertion(&format!("w{place}"), change);
            signing.present(&wrong).await.refused(401, "invalid_client");
        }
    }
}

/// RFC 7523 §3: a client may name the endpoint that it calls, and none that it does not.
#[tokio::test]
async fn an_assertion_may_be_for_the_endpoint_that_is_asked() {
    let signing = Signing::new(Algorithm::Es256).await;
    let endpoints = [("/introspect", 200), ("/revoke", 200), ("/device_authorization", 400)];
    for (endpoint, status) in endpoints {
        for aud in ["", "/token", "/introspect", "/revoke", "/device_authorization", "/par"] {
            let named = json!({ "aud": format!("{ISSUER}{aud}") });
            let assertion = signing.assertion(&format!("{endpoint}{aud}"), named);
            let pairs = [
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", assertion.as_str()),
                ("token", "x"),
            ];
            let reply = signing.testbed.post(endpoint, &pairs).await;
            let expected = if ["", "/token", endpoint].contains(&aud) { status } else { 401 };
            assert_eq!(reply.status, expected, "{aud} at {endpoint}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn an_assertion_is_signed_by_its_client() {
    let signing = Signing::new(Algorithm::Es256).await;
    let stranger = Signing::new(Algorithm::Es256).await;
    signing.present(&stranger.assertion("1", json!({}))).await.refused(401, "invalid_client");
    let good = signing.assertion("2", json!({}));
    let [_, claims, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "ES256", "jwk": stranger.signer.public_jwk() }),
        json!({ "alg": "RS256", "kid": signing.signer.key_id() }),
        json!({ "alg": "ES256", "kid": "other" }),
        json!({ "alg": "ES256", "crit": ["exp"] }),
    ] {
        let header = encode_base64url(header.to_string().as_bytes());
        for signature in [signature, ""] {
            signing.present(&format!("{header}.{claims}.{signature}")).await.refused(401, "invalid_client");
        }
    }
    for broken in ["", "x", "a.b.c", "e30.e30.e30"] {
        let pairs = [GRANT, ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", broken)];
        assert_eq!(signing.testbed.post("/token", &pairs).await.status, 401, "{broken}");
    }
    let pairs = [GRANT, ("client_assertion_type", "urn:other"), ("client_assertion", good.as_str())];
    signing.testbed.post("/token", &pairs).await.refused(400, "invalid_request");
    // The name alone is not enough, and the assertion is still unused.
    signing.testbed.post("/token", &[GRANT, ("client_id", "signing")]).await.refused(401, "invalid_client");
    assert_eq!(signing.present(&good).await.status, 200);
}

#[tokio::test]
async fn a_certificate_authenticates_and_binds() {
    let testbed = TestBed::new().await;
    let make = |name: &str| {
        let parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    let (orders, other) = (make("orders.example"), make("other.example"));
    let subject = CertificateSubject::SanDns("orders.example".to_owned());
    let mut by_name = client("by-name", ClientAuthentication::TlsClientAuth { subject });
    by_name.grant_types = [GrantType::ClientCredentials].into();
    by_name.certificate_bound_access_tokens = true;
    testbed.put(by_name).await;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &orders);
    let thumbprint = encode_base64url(digest.as_ref());
    let thumbprints = vec![thumbprint.clone()];
    let mut pinned = client("pinned", ClientAuthentication::SelfSignedTlsClientAuth { thumbprints });
    pinned.grant_types = [GrantType::ClientCredentials].into();
    testbed.put(pinned).await;
    for id in ["by-name", "pinned"] {
        let pairs = [GRANT, ("client_id", id)];
        let reply = testbed.post_by(&orders, "/token", &pairs).await;
        assert_eq!(reply.status, 200, "{id}: {reply:?}");
        let bound = payload(reply.json()["access_token"].as_str().unwrap())["cnf"]["x5t#S256"].clone();
        assert_eq!(bound.as_str(), (id == "by-name").then_some(thumbprint.as_str()));
        testbed.post_by(&other, "/token", &pairs).await.refused(401, "invalid_client");
        testbed.post_by(b"no certificate", "/token", &pairs).await.refused(401, "invalid_client");
        testbed.post("/token", &pairs).await.refused(401, "invalid_client");
    }
    // A header that a client can write proves nothing.
    let pairs = [GRANT, ("client_id", "by-name")];
    let pem = format!(":{}:", STANDARD.encode(&orders));
    testbed.post_with("/token", ("client-cert", &pem), &pairs).await.refused(401, "invalid_client");
}

#[tokio::test]
async fn no_person_has_a_clients_id_and_no_client_a_persons() {
    let testbed = TestBed::new().await;
    let person = |id: &str| User::new(id, &format!("{id}@town"), testbed.now());
    let refused = testbed.realm.put_user(&person("service")).await.unwrap_err().to_string();
    assert_eq!(refused, "user \"service\": id: expected one that is not a client's");
    let refused = testbed.realm.put_client(&client("alice", crate::support::secret())).await;
    assert_eq!(refused.unwrap_err().to_string(), "client \"alice\": id: expected one that is not a user's");
    // Neither in a hurry.
    for number in 0..10 {
        let id = format!("both-{number}");
        let (person, client) = (person(&id), client(&id, crate::support::secret()));
        let (one, other) = tokio::join!(testbed.realm.put_user(&person), testbed.realm.put_client(&client));
        assert_ne!(one.is_ok(), other.is_ok(), "{one:?} {other:?}");
    }
    // One that is nobody's any more is free, and who is there is changed as ever.
    assert_eq!(testbed.realm.remove_client("service", store::Expect::Any).await.unwrap(), Written::Done);
    testbed.realm.put_user(&person("service")).await.unwrap();
    testbed.realm.put_user(&person("service")).await.unwrap();
    testbed.put(client("api", crate::support::secret())).await;
}

/// A client that asks for consent, and gets tokens of its own too.
fn asking() -> Client {
    let mut asking = web("asking", crate::support::secret());
    asking.trusted = false;
    asking.grant_types.extend([GrantType::ClientCredentials, GrantType::DeviceCode]);
    asking
}

const SCOPE: (&str, &str) = ("scope", "openid offline_access orders:read");

/// Tokens of alice's for the client, and of its own.
async fn granted(testbed: &TestBed, browser: &mut Browser<'_>) -> [Value; 2] {
    let page = browser.authorize("asking", &[SCOPE]).await;
    let page = browser.log_in(&page).await;
    let code = browser.submit(&page, &[("decision", "allow")]).await.answer()["code"].clone();
    let own = testbed.post_with("/token", ("authorization", &basic("asking", SECRET)), &[GRANT]).await;
    [testbed.redeem("asking", &code).await.json(), own.json()]
}

/// A code, and the code of a device, that alice allowed it and it did not fetch yet.
async fn allowed(testbed: &TestBed, browser: &mut Browser<'_>) -> [String; 2] {
    let code = browser.authorize("asking", &[SCOPE]).await.answer()["code"].clone();
    let pairs = [("client_id", "asking"), ("client_secret", SECRET), ("scope", "openid")];
    let device = testbed.post("/device_authorization", &pairs).await.json();
    let page = browser.go(device["verification_uri_complete"].as_str().unwrap()).await;
    let allow = [("user_code", device["user_code"].as_str().unwrap()), ("decision", "allow")];
    assert!(browser.submit(&page, &allow).await.text.contains("Connected"));
    [code, device["device_code"].as_str().unwrap().to_owned()]
}

async fn fetch(testbed: &TestBed, [code, device]: &[String; 2]) -> [Reply; 2] {
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
    let pairs = [grant, ("device_code", device), ("client_id", "asking"), ("client_secret", SECRET)];
    [testbed.redeem("asking", code).await, testbed.post("/token", &pairs).await]
}

fn refresh_token(tokens: &Value) -> &str {
    tokens["refresh_token"].as_str().unwrap()
}

/// Whoever removes it goes away at any moment.
#[tokio::test]
async fn what_a_client_was_granted_is_not_for_the_next_of_its_name() {
    let testbed = TestBed::new().await;
    let neighbour = testbed.tokens("web", "openid offline_access").await;
    let (mut cut_short, mut polls) = (0, 0_usize);
    loop {
        polls += 1;
        testbed.put(asking()).await;
        let mut browser = Browser::new(&testbed);
        let [of_alice, own] = granted(&testbed, &mut browser).await;
        assert!(gateway_takes(&testbed, &of_alice).await && gateway_takes(&testbed, &own).await);
        let unfetched = allowed(&testbed, &mut browser).await;
        let mut other = Browser::new(&testbed);
        let page = other.authorize("asking", &[SCOPE, ("prompt", "consent")]).await;
        let open = other.log_in(&page).await;
        let removed = testbed.realm.remove_client("asking", store::Expect::Any);
        let whole = Steps::of(removed).go(polls).await.is_some();
        // What was on its way to the store is there before this is.
        testbed.put(web("later", crate::support::secret())).await;
        let begun = testbed.realm.find_client("asking").await.unwrap().is_none();
        if begun {
            // On a page of before.
            let late = other.submit(&open, &[("decision", "allow")]).await;
            assert_eq!(late.status, 400, "{late:?}");
        }
        testbed.advance(1);
        testbed.put(asking()).await;
        for reply in fetch(&testbed, &unfetched).await {
            match begun {
                true => reply.refused(400, "invalid_grant"),
                false => assert_eq!(reply.status, 200, "{reply:?}"),
            }
        }
        let refreshed = testbed.refresh("asking", refresh_token(&of_alice)).await;
        let page = browser.authorize("asking", &[SCOPE]).await;
        if begun {
            refreshed.refused(400, "invalid_grant");
            assert!(page.text.contains("asks for access"), "after {polls} polls: {page:?}");
            for tokens in [&of_alice, &own] {
                assert!(!gateway_takes(&testbed, tokens).await, "after {polls} polls");
            }
            cut_short += usize::from(!whole);
        } else {
            assert_eq!(refreshed.status, 200, "{refreshed:?}");
            assert!(page.answer().contains_key("code"));
        }
        if whole {
            break;
        }
        testbed.realm.remove_client("asking", store::Expect::Any).await.map(drop).unwrap();
        // One person may try twenty codes of devices in ten minutes.
        testbed.advance(if polls.is_multiple_of(10) { 601 } else { 1 });
    }
    assert!(cut_short > 3, "{cut_short} of {polls}");
    let neighbour = testbed.refresh("web", refresh_token(&neighbour)).await.json();
    // One that is none ends nothing of whoever else is called so.
    assert_eq!(testbed.realm.remove_client("alice", store::Expect::Any).await.unwrap(), Written::Done);
    let none = testbed.realm.remove_client("alice", store::Expect::Present).await.unwrap();
    assert_eq!(none, Written::Conflict);
    assert!(gateway_takes(&testbed, &neighbour).await);
    assert_eq!(testbed.refresh("web", refresh_token(&neighbour)).await.status, 200);
}

#[tokio::test]
async fn what_a_client_was_granted_ends_when_it_is_switched_off_and_consent_stays() {
    let testbed = TestBed::new().await;
    testbed.put(asking()).await;
    let mut browser = Browser::new(&testbed);
    let [of_alice, own] = granted(&testbed, &mut browser).await;
    // A change that switches nothing off ends nothing.
    testbed.put(Client { name: "Asking".to_owned(), ..asking() }).await;
    assert!(gateway_takes(&testbed, &of_alice).await && gateway_takes(&testbed, &own).await);
    let unfetched = allowed(&testbed, &mut browser).await;
    testbed.put(Client { disabled: true, ..asking() }).await;
    assert!(!gateway_takes(&testbed, &of_alice).await && !gateway_takes(&testbed, &own).await);
    testbed.advance(1);
    testbed.put(asking()).await;
    testbed.refresh("asking", refresh_token(&of_alice)).await.refused(400, "invalid_grant");
    for reply in fetch(&testbed, &unfetched).await {
        reply.refused(400, "invalid_grant");
    }
    let code = browser.authorize("asking", &[SCOPE]).await.answer()["code"].clone();
    let again = testbed.redeem("asking", &code).await.json();
    let own = testbed.post_with("/token", ("authorization", &basic("asking", SECRET)), &[GRANT]).await;
    assert!(gateway_takes(&testbed, &again).await && gateway_takes(&testbed, &own.json()).await);
    assert_eq!(testbed.refresh("asking", refresh_token(&again)).await.status, 200);
}

/// The client is removed, and there again, at any moment of its fetching tokens.
#[tokio::test]
async fn what_a_client_fetches_while_it_ends_is_none() {
    let testbed = TestBed::new().await;
    let (mut between, mut polls) = (0, 0);
    loop {
        polls += 1;
        testbed.put(asking()).await;
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("asking", &[SCOPE]).await;
        let page = browser.log_in(&page).await;
        let code = browser.submit(&page, &[("decision", "allow")]).await.answer()["code"].clone();
        let mut fetching = Steps::of(testbed.redeem("asking", &code));
        let early = fetching.go(polls).await;
        testbed.realm.remove_client("asking", store::Expect::Any).await.map(drop).unwrap();
        testbed.advance(1);
        testbed.put(asking()).await;
        let whole = early.is_some();
        let reply = match early {
            Some(reply) => reply,
            None => fetching.go(usize::MAX).await.unwrap(),
        };
        if reply.status == 200 {
            let tokens = reply.json();
            testbed.refresh("asking", refresh_token(&tokens)).await.refused(400, "invalid_grant");
            assert!(!gateway_takes(&testbed, &tokens).await, "after {polls} polls");
        }
        if whole {
            break;
        }
        between += 1;
        testbed.realm.remove_client("asking", store::Expect::Any).await.map(drop).unwrap();
    }
    assert!(between > 0, "{between}");
}

#[tokio::test]
async fn a_client_that_is_told_where_nothing_gets_any_more_changes_in_all_but_that() {
    let testbed = TestBed::new().await;
    let mut told = web("told", secret());
    told.backchannel_logout_uri = Some("https://10.0.0.1/logout".to_owned());
    testbed.put(told.clone()).await;
    "https://10.".clone_into(&mut testbed.mailbox.refuses.lock().unwrap());
    // Its secret leaked.
    let fresh = "another-secret-of-43-characters-0123456789a";
    told.authentication = ClientAuthentication::Secret { hashes: vec![Client::secret_hash(fresh).unwrap()] };
    testbed.put(told.clone()).await;
    let shown = [("token", "x"), ("client_id", "told"), ("client_secret", fresh)];
    assert_eq!(testbed.post("/revoke", &shown).await.status, 200);
    let refused = async |client: &Client| {
        let written = testbed.realm.put_client(client).await;
        assert!(
            matches!(&written, Err(Error::Record { why, .. }) if why.contains("gets there")),
            "{written:?}"
        );
    };
    let other = Some("https://10.0.0.2/logout".to_owned());
    refused(&Client { backchannel_logout_uri: other.clone(), ..told.clone() }).await;
    refused(&Client { id: "new".to_owned(), ..told.clone() }).await;
    // One that is switched off is told nothing: it comes back only where something gets.
    let off = Client { disabled: true, ..told.clone() };
    testbed.put(off.clone()).await;
    testbed.put(Client { backchannel_logout_uri: other, ..off }).await;
    refused(&told).await;
    testbed.put(Client { backchannel_logout_uri: Some("https://told.example/".to_owned()), ..told }).await;
}

//! Token exchange: calling on in somebody's name.

use identity::{GrantType, Written};
use serde_json::{Value, json};
use store::Expect;

use crate::sign_out::is_good;
use crate::support::{ORDERS, PAYMENTS, Reply, SECRET, TestBed, payload};

const GRANT: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

async fn exchange(testbed: &TestBed, token: &str, pairs: &[(&str, &str)]) -> Reply {
    let mut all = vec![
        GRANT,
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
        ("client_id", "service"),
        ("client_secret", SECRET),
    ];
    all.retain(|(name, _)| pairs.iter().all(|(other, _)| other != name));
    all.extend(pairs);
    testbed.post("/token", &all).await
}

fn access(tokens: &Value) -> &str {
    tokens["access_token"].as_str().unwrap()
}

#[tokio::test]
async fn a_service_calls_on_and_the_token_says_who_acts() {
    let testbed = TestBed::new().await;
    let tokens = testbed.tokens("web", "openid orders:read orders:write").await;
    testbed.advance(100);
    let reply =
        exchange(&testbed, access(&tokens), &[("resource", PAYMENTS), ("scope", "orders:read")]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let exchanged = reply.json();
    assert_eq!(exchanged["issued_token_type"], ACCESS_TOKEN);
    assert_eq!(exchanged["expires_in"], json!(200), "it does not outlive what it came of");
    assert!(exchanged.get("refresh_token").is_none());
    let (before, claims) = (payload(access(&tokens)), payload(access(&exchanged)));
    assert_eq!(
        (&claims["sub"], &claims["client_id"], &claims["aud"]),
        (&json!("alice"), &json!("service"), &json!(PAYMENTS))
    );
    assert_eq!((&claims["scope"], &claims["act"]), (&json!("orders:read"), &json!({ "sub": "service" })));
    for same in ["acr", "auth_time", "amr", "sid", "exp"] {
        assert_eq!(claims[same], before[same], "{same}");
    }
    // It ends with the grant that it came of.
    assert!(testbed.is_active(access(&exchanged)).await);
    testbed.realm.end_session(claims["sid"].as_str().unwrap()).await.unwrap();
    assert!(!testbed.is_active(access(&exchanged)).await);
}

#[tokio::test]
async fn a_chain_of_services_is_a_chain_of_actors() {
    let testbed = TestBed::new().await;
    let mut next = crate::support::client("payments", crate::support::secret());
    next.grant_types = [identity::GrantType::TokenExchange].into();
    next.serves = [PAYMENTS.to_owned()].into();
    next.resources = [ORDERS.to_owned()].into();
    testbed.put(next).await;
    let tokens = testbed.tokens("web", "orders:read").await;
    let first = exchange(&testbed, access(&tokens), &[("audience", PAYMENTS)]).await.json();
    let second =
        exchange(&testbed, access(&first), &[("client_id", "payments"), ("resource", ORDERS)]).await.json();
    assert_eq!(payload(access(&second))["act"], json!({ "sub": "payments", "act": { "sub": "service" } }));
}

#[tokio::test]
async fn no_token_is_exchanged_for_more_or_by_others() {
    let testbed = TestBed::new().await;
    let tokens = testbed.tokens("web", "openid orders:read").await;
    let token = access(&tokens);
    for (error, pairs) in [
        ("invalid_scope", &[("resource", PAYMENTS), ("scope", "orders:write")][..]),
        ("invalid_scope", &[("resource", PAYMENTS), ("scope", "openid")]),
        ("invalid_target", &[]),
        ("invalid_target", &[("resource", "https://other.example.org")]),
        ("invalid_target", &[("audience", "https://other.example.org")]),
        ("invalid_request", &[("resource", PAYMENTS), ("subject_token", "x")]),
        (
            "invalid_request",
            &[("resource", PAYMENTS), ("subject_token", tokens["id_token"].as_str().unwrap())],
        ),
        (
            "invalid_request",
            &[("resource", PAYMENTS), ("subject_token", tokens["refresh_token"].as_str().unwrap())],
        ),
        (
            "invalid_request",
            &[("resource", PAYMENTS), ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token")],
        ),
        ("invalid_request", &[("resource", PAYMENTS), ("subject_token_type", "")]),
        (
            "invalid_request",
            &[
                ("resource", PAYMENTS),
                ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
            ],
        ),
        (
            "invalid_request",
            &[("resource", PAYMENTS), ("actor_token", token), ("actor_token_type", ACCESS_TOKEN)],
        ),
        ("invalid_request", &[("resource", PAYMENTS), ("actor_token_type", ACCESS_TOKEN)]),
        ("unauthorized_client", &[("resource", ORDERS), ("client_id", "web")]),
    ] {
        exchange(&testbed, token, pairs).await.refused(400, error);
    }
    // A token that was sent to payments is none that orders may exchange.
    let machine = [
        ("grant_type", "client_credentials"),
        ("resource", PAYMENTS),
        ("client_id", "service"),
        ("client_secret", SECRET),
    ];
    let elsewhere = testbed.post("/token", &machine).await.json();
    exchange(&testbed, access(&elsewhere), &[("resource", PAYMENTS)]).await.refused(400, "invalid_target");
    // One that is over is over.
    testbed.advance(300);
    exchange(&testbed, token, &[("resource", PAYMENTS)]).await.refused(400, "invalid_request");
}

#[tokio::test]
async fn no_client_gets_by_exchange_what_it_may_not_ask_for() {
    let testbed = TestBed::new().await;
    let (mut service, _) = testbed.realm.find_client("service").await.unwrap().unwrap();
    service.scopes = ["orders:read".to_owned()].into();
    testbed.put(service.clone()).await;
    let tokens = testbed.tokens("web", "openid email orders:read orders:write").await;
    let (token, there) = (access(&tokens), ("resource", PAYMENTS));
    for wrong in ["orders:write", "orders:read orders:write", "email", "pay"] {
        exchange(&testbed, token, &[there, ("scope", wrong)]).await.refused(400, "invalid_scope");
    }
    for honest in [&[there][..], &[there, ("scope", "orders:read")]] {
        let exchanged = exchange(&testbed, token, honest).await.json();
        assert_eq!(payload(access(&exchanged))["scope"], "orders:read", "{honest:?}");
    }
    // Nor what it might ask for and the token is not worth.
    service.scopes = ["orders:write".to_owned()].into();
    testbed.put(service).await;
    let tokens = testbed.tokens("web", "openid orders:read").await;
    let exchanged = exchange(&testbed, access(&tokens), &[there]).await.json();
    assert!(payload(access(&exchanged)).get("scope").is_none(), "{exchanged}");
}

#[tokio::test]
async fn a_machines_token_stays_a_machines() {
    let testbed = TestBed::new().await;
    let mut robot = crate::support::client("robot", crate::support::secret());
    robot.grant_types = [identity::GrantType::ClientCredentials].into();
    robot.resources = [ORDERS.to_owned()].into();
    testbed.put(robot).await;
    let asked = [("grant_type", "client_credentials"), ("client_id", "robot"), ("client_secret", SECRET)];
    let tokens = testbed.post("/token", &[&asked[..], &[("resource", ORDERS)]].concat()).await.json();
    let exchanged = exchange(&testbed, access(&tokens), &[("resource", PAYMENTS)]).await.json();
    let claims = payload(access(&exchanged));
    // Verifiers tell machines from people by a party that is the subject.
    assert_eq!((&claims["sub"], &claims["azp"]), (&json!("robot"), &json!("robot")));
    assert_eq!(claims["client_id"], "service");
    assert!(testbed.is_active(access(&exchanged)).await);
    // A person's token has no such party.
    let tokens = testbed.tokens("web", "orders:read").await;
    let exchanged = exchange(&testbed, access(&tokens), &[("resource", PAYMENTS)]).await.json();
    assert!(payload(access(&exchanged)).get("azp").is_none());
}

#[tokio::test]
async fn what_a_client_got_by_exchange_ends_with_it() {
    for how in ["removed", "switched off"] {
        let testbed = TestBed::new().await;
        let (service, _) = testbed.realm.find_client("service").await.unwrap().unwrap();
        let mut next = crate::support::client("next", crate::support::secret());
        next.grant_types = [GrantType::TokenExchange].into();
        next.serves = [ORDERS.to_owned()].into();
        next.resources = [PAYMENTS.to_owned()].into();
        testbed.put(next).await;
        let of_alice = testbed.tokens("web", "openid orders:read").await;
        let exchanged = exchange(&testbed, access(&of_alice), &[("resource", PAYMENTS)]).await.json();
        let credentials = [("client_id", "service"), ("client_secret", SECRET), ("resource", ORDERS)];
        let own = [&[("grant_type", "client_credentials")][..], &credentials].concat();
        let own = testbed.post("/token", &own).await.json();
        let by_next = [("client_id", "next"), ("resource", PAYMENTS)];
        // Of its own, in the hands of the next; and of alice's, by the next alone.
        let about_it = exchange(&testbed, access(&own), &by_next).await.json();
        let beside = exchange(&testbed, access(&of_alice), &by_next).await.json();
        let its = [&exchanged, &own, &about_it];
        for tokens in its.into_iter().chain([&beside, &of_alice]) {
            assert!(is_good(&testbed, tokens).await);
        }
        let end = async {
            if how == "removed" {
                let removed = testbed.realm.remove_client("service", Expect::Any).await;
                assert_eq!(removed.unwrap(), Written::Done);
            } else {
                let off = identity::Client { disabled: true, ..service.clone() };
                testbed.put(off).await;
            }
        };
        end.await;
        // Also when there is one of its name again.
        for again in [false, true] {
            if again {
                testbed.put(service.clone()).await;
            }
            for tokens in its {
                assert!(!is_good(&testbed, tokens).await, "{how}, again: {again}");
            }
            for tokens in [&beside, &of_alice] {
                assert!(is_good(&testbed, tokens).await, "{how}: what others got");
            }
        }
        // What it gets from now on is good.
        testbed.advance(1);
        let anew = exchange(&testbed, access(&of_alice), &[("resource", PAYMENTS)]).await.json();
        assert!(is_good(&testbed, &anew).await, "{how}");
    }
}

#[tokio::test]
async fn what_is_asked_of_a_person_meanwhile_is_asked_of_those_who_act_for_them() {
    let testbed =
        TestBed::with(|settings| drop(settings.factors.roles.insert("admin".into(), "2".into()))).await;
    let tokens = testbed.tokens("web", "openid orders:read").await;
    let call_on = async || exchange(&testbed, access(&tokens), &[("resource", PAYMENTS)]).await;
    assert_eq!(call_on().await.status, 200);
    testbed.set_roles("alice", &["customer", "admin"]).await;
    let refused = call_on().await;
    refused.refused(400, "invalid_grant");
    assert_eq!(refused.json()["error_description"], "a stronger login is needed");
    assert!(testbed.is_active(access(&tokens)).await, "what it came of is as good as it was");
    let machine = [
        ("grant_type", "client_credentials"),
        ("resource", ORDERS),
        ("client_id", "service"),
        ("client_secret", SECRET),
    ];
    // Of a machine no login is asked.
    let machine = testbed.post("/token", &machine).await.json();
    assert_eq!(exchange(&testbed, access(&machine), &[("resource", PAYMENTS)]).await.status, 200);

    // What the client asks of its users.
    let testbed = TestBed::new().await;
    let tokens = testbed.tokens("web", "openid orders:read").await;
    let (mut service, _) = testbed.realm.find_client("service").await.unwrap().unwrap();
    for (acr, good) in [("2", false), ("1", true)] {
        service.acr = Some(acr.to_owned());
        testbed.put(service.clone()).await;
        let reply = exchange(&testbed, access(&tokens), &[("resource", PAYMENTS)]).await;
        assert_eq!(reply.status == 200, good, "{acr}: {reply:?}");
    }
}

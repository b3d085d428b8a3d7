//! Logout tokens to clients that are not on the public internet: where their realm lets them go.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::json;

use crate::administration::{POLICIES, call, rules, start, tokens};
use crate::liar::Tls;
use crate::support::{TestBed, Upstream, until};

const SWITCH: &str = "back_channel_logout: { allow_private_addresses: true";

/// What clients are told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn app(&self) -> Router {
        let hear = async |State(Heard(heard)): State<Heard>, form: String| heard.lock().unwrap().push(form);
        Router::new().route("/bcl", post(hear)).with_state(self.clone())
    }

    /// What was heard since it was looked at last.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// The rules with the client at an address, and with more in its realm.
fn with_client_at(upstream: &Upstream, uri: &str, realm: &str) -> String {
    let rules = rules(upstream, POLICIES);
    let rules =
        rules.replace("trusted: true", &format!("trusted: true\n        backchannel_logout_uri: {uri}"));
    rules.replace("    clients:\n", &format!("    {realm}\n    clients:\n"))
}

/// Changes the rules, and waits until they count.
async fn reload(testbed: &TestBed, rules: &str) {
    let before = testbed.log().matches("reloaded").count();
    testbed.configure(rules);
    until("the reload", async || (testbed.log().matches("reloaded").count() > before).then_some(())).await;
}

#[tokio::test]
async fn logout_tokens_go_to_private_addresses_and_behind_private_authorities_where_the_realm_says_so() {
    let (upstream, heard) = (Upstream::start().await, Heard::default());
    let (mut testbed, alice) = start(&upstream, POLICIES).await;
    let (tls, _) = Tls::listen(&testbed.path("clients.pem")).await;
    let (_, other) = Tls::listen(&testbed.path("others.pem")).await;
    drop(other);
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (private, clear) = (tls.base(), format!("http://{}", tcp.local_addr().unwrap()));
    let (private, clear) = (format!("{private}/bcl"), format!("{clear}/bcl"));
    let (one, two) = (heard.app(), heard.app());
    tokio::spawn(async move { axum::serve(tls, one).await });
    tokio::spawn(async move { axum::serve(tcp, two).await });

    let hash = identity::Client::secret_hash("a-secret-of-43-characters-0123456789-0123456").unwrap();
    // Without the switch nobody registers what would be told nothing, and all are told why.
    let client = json!({
        "id": "probe", "authentication": { "method": "secret", "hashes": [hash] }, "grant_types": ["authorization_code"],
        "redirect_uris": ["https://probe.test/cb"], "backchannel_logout_uri": clear,
    });
    let probe = "/v1/realms/town/clients/probe";
    let (status, refused) = call(&testbed, "PUT", probe, Some(client.clone())).await;
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(status == 422 && detail.contains(SWITCH), "{status} {refused}");
    for uri in [&private, &clear, "https://localhost/bcl", "https://[::1]/bcl", "https://10.0.0.7/bcl"] {
        let text = format!("listen: [ 127.0.0.1:0 ]\n{}", with_client_at(&upstream, uri, ""));
        std::fs::write(testbed.path("probe.yaml"), text).unwrap();
        let (code, out, err) = testbed.bastide(&["check", "probe.yaml"]);
        assert!(code != 0 && format!("{out}{err}").contains(SWITCH), "{uri}: {code} {out}{err}");
    }

    let sessions = format!("/v1/realms/town/users/{}/sessions", alice["id"].as_str().unwrap());
    let by = |ca: &str| format!("{SWITCH}{ca} }}");
    for (uri, realm, told) in [
        (&clear, by(""), true),
        (&private, by(""), false),
        (&private, by(", ca: others.pem"), false),
        (&private, by(", ca: clients.pem"), true),
    ] {
        reload(&testbed, &with_client_at(&upstream, uri, &realm)).await;
        tokens(&testbed, "alice", "correct horse").await;
        let failed = testbed.log().matches("a logout token was not delivered").count();
        assert_eq!(call(&testbed, "DELETE", &sessions, None).await.0, 200);
        until("an end", async || {
            let heard = heard.take();
            assert!(told || heard.is_empty(), "{uri} {realm}: {heard:?}");
            if told {
                return heard.iter().any(|form| form.starts_with("logout_token=")).then_some(());
            }
            (testbed.log().matches("a logout token was not delivered").count() > failed).then_some(())
        })
        .await;
    }
    let (status, registered) = call(&testbed, "PUT", probe, Some(client.clone())).await;
    assert_eq!(status, 200, "{registered}");

    // What is registered can be changed when the switch is gone, but to no other such address.
    reload(&testbed, &rules(&upstream, POLICIES)).await;
    let (status, made) = call(&testbed, "POST", &format!("{probe}/secret"), Some(json!({}))).await;
    assert!(status == 200 && made["secret"].is_string(), "{status} {made}");
    let mut elsewhere = client.clone();
    elsewhere["backchannel_logout_uri"] = json!("https://10.0.0.7/bcl");
    let (status, refused) = call(&testbed, "PUT", probe, Some(elsewhere.clone())).await;
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(status == 422 && detail.contains(SWITCH), "{status} {refused}");

    // Without a process it is the same.
    testbed.stop_gateway().await;
    for (client, good) in [(client, true), (elsewhere, false)] {
        std::fs::write(testbed.path("probe.json"), client.to_string()).unwrap();
        let (code, out, err) = testbed.bastide(&["client", "put", "probe.json"]);
        assert!((code == 0) == good && format!("{out}{err}").contains(SWITCH) != good, "{code} {out}{err}");
    }
}

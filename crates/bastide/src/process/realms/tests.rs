use std::collections::BTreeSet;

use identity::{Client, ClientAuthentication, GrantType, RealmSettings};

use super::*;
use crate::process::clock::SystemClock;

const BEFORE: &str = "https://app.example/before";

fn realm(name: &str) -> config::Realm {
    let mut app = Client::new("app", ClientAuthentication::None);
    app.grant_types = [GrantType::AuthorizationCode].into();
    app.scopes = BTreeSet::from(["openid".to_owned()]);
    app.redirect_uris = vec![BEFORE.to_owned()];
    let settings = RealmSettings::new(name, &format!("https://{name}.example"));
    config::Realm { settings, clients: vec![app], mail: None, back_channel: config::BackChannel::default() }
}

/// A realm behind one that changes is refused: for its file, which is gone, or for its client.
#[tokio::test]
async fn realms_that_are_refused_leave_the_clients_of_before() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let store = Store::in_memory(Arc::clone(&clock)).unwrap();
    let realms = Realms::start(clock, Arc::new(SystemRandom::new()), Arc::new(identity::NoObserver));
    let before = [realm("one"), realm("two")];
    realms.follow(&before, Some(&store)).await.unwrap();
    let registered = async || {
        let one = Arc::clone(&realms.opened().unwrap()["one"]);
        one.find_client("app").await.unwrap().unwrap().0.redirect_uris
    };
    assert_eq!(registered().await, [BEFORE]);
    let mut changed = before.clone();
    changed[0].clients[0].redirect_uris = vec!["https://app.example/after".to_owned()];

    let mut refused = changed.clone();
    refused[1].settings.passwords.breached = Some("/nowhere/breached".into());
    let error = realms.follow(&refused, Some(&store)).await.unwrap_err();
    assert!(error.to_string().contains("breached"), "{error}");
    assert_eq!(registered().await, [BEFORE], "nothing is written before all are open");

    let mut refused = changed.clone();
    refused[1].clients[0].scopes.insert("no:such".to_owned());
    let error = realms.follow(&refused, Some(&store)).await.unwrap_err();
    assert!(error.to_string().contains("no:such"), "{error}");
    // A refused reload follows those before unless they are what was wanted last.
    assert!(!realms.are(&before));
    realms.follow(&before, Some(&store)).await.unwrap();
    assert_eq!(registered().await, [BEFORE]);

    realms.follow(&changed, Some(&store)).await.unwrap();
    assert_eq!(registered().await, ["https://app.example/after"], "whole, it is taken");
}

/// Before there is a store, nobody looks for what is a realm's own on the network.
#[tokio::test]
async fn what_is_a_realms_own_is_sealed_with_it() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let realms = Realms::start(clock, Arc::new(SystemRandom::new()), Arc::new(identity::NoObserver));
    realms.follow(&[realm("one")], None).await.unwrap();
    let own = realms.published("https://one.example/jwks", 1000).await;
    assert_eq!(own.unwrap().unwrap_err(), SEALED);
    for other in ["https://two.example/jwks", "https://one.example.org/jwks", "https://one.example"] {
        assert!(realms.published(other, 1000).await.is_none(), "{other}");
    }
}

/// What was taken back is told when it is another list, and not because there is one.
#[tokio::test]
async fn a_realm_that_has_taken_nothing_back_tells_nothing() {
    let revoked = Revoked::default();
    let told = async || {
        let told = tokio::time::timeout(std::time::Duration::from_millis(10), revoked.changed.notified());
        told.await.is_ok()
    };
    revoked.set("one", Vec::new());
    assert!(!told().await);
    let one = Revocation { session: Some("one".to_owned()), ..Revocation::default() };
    revoked.set("one", vec![one]);
    assert!(told().await);
    revoked.set("one", Vec::new());
    assert!(told().await);
}

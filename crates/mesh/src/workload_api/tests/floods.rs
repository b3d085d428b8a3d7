//! Workloads that ask without end: each takes its own share.

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn id(name: &str) -> SpiffeId {
    format!("spiffe://shop.example/{name}").parse().unwrap()
}

/// Where each workload has so little of everything.
async fn sparing(at_once: u64) -> TestBed {
    let list = vec![workload("orders", mine()), workload("orders-admin", mine())];
    TestBed::allowing(Allowances::few(at_once), Lifetimes::default(), list).await
}

#[tokio::test]
async fn who_asks_for_documents_without_end_waits_and_nobody_else_does() {
    // Two of each workload are given with the first answer.
    let testbed = sparing(3).await;
    let client = testbed.client().await;
    let mut updates = client.x509().await.unwrap();
    updates.next().await.unwrap();
    let audience = || vec!["payments".to_owned()];
    let (orders, admin) = (id("orders"), id("orders-admin"));
    for _ in 0..2 {
        client.jwt(audience(), Some(&orders)).await.unwrap();
    }
    let refused = client.jwt(audience(), Some(&orders)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    client.jwt(audience(), Some(&admin)).await.unwrap();
    // By each way on which documents are given.
    testbed.workloads.send_replace(Arc::new(Workloads { list: vec![workload("orders", mine())] }));
    assert_eq!(client.x509().await.unwrap_err().code(), Code::ResourceExhausted);
    // Who has some keeps them.
    assert_eq!(updates.next().await.unwrap().unwrap().identities.len(), 1);
    let events = testbed.notes.events.lock().unwrap().clone();
    let why = "spiffe://shop.example/orders asks for too many documents";
    assert!(events.iter().any(|event| event.refused == why), "{events:?}");
}

#[tokio::test]
async fn who_speaks_of_addresses_without_end_waits_and_nobody_else_does() {
    let testbed = sparing(2).await;
    let client = testbed.client().await;
    let (orders, admin) = (id("orders"), id("orders-admin"));
    let at = |port: u16| std::net::SocketAddr::from(([10, 0, 0, 5], port));
    let exhausted = |status: Status| assert_eq!(status.code(), Code::ResourceExhausted);
    client.register(&orders, at(1)).await.unwrap();
    for _ in 0..2 {
        client.register(&orders, at(1)).await.unwrap();
    }
    exhausted(client.register(&orders, at(1)).await.unwrap_err());
    // An instance more, or one less, is another thing than that it is there still.
    client.register(&orders, at(2)).await.unwrap();
    exhausted(client.register(&orders, at(3)).await.unwrap_err());
    exhausted(client.withdraw(&orders, at(1)).await.unwrap_err());
    client.register(&admin, at(1)).await.unwrap();
    client.withdraw(&admin, at(1)).await.unwrap();
}

#[tokio::test]
async fn calls_of_one_user_that_are_not_over_have_a_bound_and_end_with_their_connections() {
    let testbed = TestBed::usual().await;
    let mut held = Vec::new();
    let mut clients = Vec::new();
    for number in 0..CALLS_PER_USER_MAX {
        // Fewer on each connection than it may have.
        if number % 100 == 0 {
            clients.push(testbed.client().await);
        }
        held.push(clients[clients.len() - 1].revoked().await.unwrap());
    }
    let client = testbed.client().await;
    assert_eq!(client.revoked().await.unwrap_err().code(), Code::ResourceExhausted);
    let audience = vec!["payments".to_owned()];
    assert_eq!(client.jwt(audience.clone(), None).await.unwrap_err().code(), Code::ResourceExhausted);
    drop((held, clients));
    let makes_room = async {
        while client.jwt(audience.clone(), None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, makes_room).await.unwrap();
}

#[tokio::test]
async fn who_is_somebody_no_more_is_told_of_no_further_revocation() {
    let testbed = TestBed::usual().await;
    let client = testbed.client().await;
    let revoke = async |name: &str| {
        testbed.domain.revoke(&Target::Identity(id(name))).await.unwrap();
    };
    let mut updates = client.revoked().await.unwrap();
    assert!(updates.next().await.unwrap().unwrap().identities().next().is_none());
    // Who is one of two workloads still is told.
    revoke("orders").await;
    assert!(updates.next().await.unwrap().unwrap().has_identity(&id("orders")));
    revoke("orders-admin").await;
    assert_eq!(updates.next().await.unwrap_err().code(), Code::PermissionDenied);

    let testbed = TestBed::usual().await;
    let mut updates = testbed.client().await.revoked().await.unwrap();
    updates.next().await.unwrap();
    testbed.workloads.send_replace(Arc::default());
    assert_eq!(updates.next().await.unwrap_err().code(), Code::PermissionDenied);
}

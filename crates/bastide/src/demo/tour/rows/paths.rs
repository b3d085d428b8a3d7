//! Paths that mean one thing to a rule and another to a service.

use model::event::Step;

use crate::demo::tour::visitor::{Ask, Visitor, refusal};

pub(in crate::demo::tour) async fn visit(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let alice = visitor.demo.token("alice");
    let ambiguous = refusal(400, Step::Admit);
    // Anybody may read below /products; none of these may lead out of there.
    for target in [
        "/products/..;/orders/bob",
        "/products/..;x=y/orders/bob",
        "/products/%2e%2e;/orders/bob",
        "/products%2f..%2forders/bob",
        "/products/..%2forders/bob",
        "/products/..%5corders%5cbob",
        "/products/%00",
        "/products/%",
    ] {
        visitor.attack(target, &Ask::get(target), ambiguous).await;
    }
    visitor
        .attack(
            "/products/..;/orders/bob over HTTP/2",
            &Ask::get("/products/..;/orders/bob").http2(),
            ambiguous,
        )
        .await;
    // These mean the same to everybody once they are resolved, and are judged as that.
    let nobody = refusal(401, Step::Authenticate);
    let not_hers = refusal(403, Step::Authorize);
    for target in ["/products/../orders/bob", "/products/%2e%2e/orders/bob", "/products//.././/orders//bob"] {
        visitor.attack(target, &Ask::get(target), nobody).await;
    }
    for target in ["/orders/alice/../bob", "/orders/alice/%2E%2e/bob/2001", "/orders/b%6fb"] {
        visitor.attack(&format!("alice: {target}"), &Ask::get(target).bearer(alice), not_hers).await;
        let http2 = Ask::get(target).bearer(alice).http2();
        visitor.attack(&format!("alice over HTTP/2: {target}"), &http2, not_hers).await;
    }
    for target in ["/orders/bob/../alice", "//orders//al%69ce/./1001"] {
        visitor.innocent(&format!("alice: {target}"), &Ask::get(target).bearer(alice), 200).await;
    }
    Ok(())
}

pub(in crate::demo::tour) async fn unknown_route(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let alice = visitor.demo.token("alice");
    let unknown = refusal(404, Step::Route);
    visitor
        .attack("a path of no route: payments' own /charges", &Ask::get("/charges").bearer(alice), unknown)
        .await;
    visitor.attack("the services' counters", &Ask::get("/_shop/seen"), unknown).await;
    let mut elsewhere = Ask::get("/products");
    elsewhere.request.host = "bank.localhost".to_owned();
    visitor.attack("a host of no route", &elsewhere, unknown).await;
    let delete = Ask::new("DELETE", "/orders/alice/1001").bearer(alice);
    visitor.attack("a method of no route", &delete, refusal(405, Step::Route)).await;
    let mut shouted = Ask::get("/products");
    shouted.request.host = "SHOP.Localhost".to_owned();
    visitor.innocent("the host in capitals", &shouted, 200).await;
    Ok(())
}

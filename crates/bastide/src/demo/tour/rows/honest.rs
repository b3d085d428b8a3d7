//! Requests of every kind that must simply work.

use serde_json::{Value, json};

use crate::demo::service::Role;
use crate::demo::tour::visitor::{Ask, Visitor};

pub(in crate::demo::tour) async fn visit(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let (alice, bob) = (demo.token("alice"), demo.token("bob"));
    let products = Ask::get("/products");
    visitor.innocent("anybody lists products", &products, 200).await;
    visitor.innocent("the same over HTTP/2", &products.http2(), 200).await;

    let own = Ask::get("/orders/alice/1001").bearer(alice);
    let answer = visitor.innocent("alice reads her order", &own, 200).await;
    if let Some(answer) = answer {
        let owner = answer.json().pointer("/data/owner").cloned();
        anyhow::ensure!(owner == Some(json!("alice")), "expected alice's order, found {owner:?}");
    }
    visitor.innocent("the same over HTTP/2", &own.http2(), 200).await;
    visitor
        .innocent("bob, a merchant, looks at her orders", &Ask::get("/orders/alice").bearer(bob), 200)
        .await;
    visitor.innocent("alice sees her profile", &Ask::get("/accounts/alice/profile").bearer(alice), 200).await;

    order(visitor).await?;

    let refund = Ask::new("POST", "/payments/refunds").bearer(bob).json(&json!({ "charge": "ch-1002" }));
    visitor.innocent("bob refunds it", &refund.http2(), 201).await;
    Ok(())
}

/// Alice orders; orders charges her at payments.
async fn order(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let payments = demo.instances(Role::Payments).first().map_or(0, |service| service.pid);
    let before = demo.seen().await;
    let ask = Ask::new("POST", "/orders/alice")
        .bearer(demo.token("alice"))
        .json(&json!({ "product": 2, "cents": 890 }));
    let Some(answer) = visitor.innocent("alice orders walnuts; orders calls payments", &ask, 201).await
    else {
        return Ok(());
    };
    let charge = answer.json().pointer("/data/charge").and_then(Value::as_str).map(str::to_owned);
    anyhow::ensure!(charge.is_some(), "the order names no charge");
    let after = demo.seen().await;
    let calls = after.get(&payments).unwrap_or(&0) - before.get(&payments).unwrap_or(&0);
    anyhow::ensure!(calls == 1, "expected one call of payments, it saw {calls}");
    Ok(())
}

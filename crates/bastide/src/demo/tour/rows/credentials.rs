//! Machines: API keys and client certificates.

use std::time::Duration;

use model::event::Step;
use serde_json::{Value, json};

use crate::demo::client::http1;
use crate::demo::environment::SHOP;
use crate::demo::jose::claims;
use crate::demo::login::TokenRequest;
use crate::demo::process::POLL;
use crate::demo::tour::visitor::{Ask, Kind, Refusal, Trial, Visitor, refusal};

const REFUSED: Refusal = refusal(401, Step::Authenticate);
/// How long a revocation may take; on a machine with nothing else to do, a fifth of a second.
const REVOKED_WITHIN: Duration = Duration::from_secs(20);

pub(in crate::demo::tour) async fn api_key(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let keys = visitor.demo.keys.clone();
    let ask =
        |key: &str| Ask::new("PUT", "/products/2").field("x-api-key", key).json(&json!({ "cents": 900 }));
    let (start, last) = keys.importer.split_at(keys.importer.len().saturating_sub(1));
    let unknown = format!("{start}{}", if last == "a" { "b" } else { "a" });
    visitor.attack("a key with its last letter changed", &ask(&unknown), REFUSED).await;
    visitor.attack("a key that was revoked", &ask(&keys.revoked), REFUSED).await;
    let elsewhere = Ask::get("/orders/alice").field("x-api-key", &keys.importer);
    visitor.attack("the importer's key where only tokens count", &elsewhere, REFUSED).await;
    visitor.innocent("the importer's key sets a price", &ask(&keys.importer), 200).await;
    visitor.innocent("the same over HTTP/2", &ask(&keys.importer).http2(), 200).await;
    Ok(())
}

/// A token that is signed and not over, and that its owner has lost.
pub(in crate::demo::tour) async fn revoked_token(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let wanted = TokenRequest { resource: SHOP, ..TokenRequest::default() };
    let (lost, other) = (demo.log_in("alice", &wanted).await?, demo.log_in("alice", &wanted).await?);
    let id = claims(&lost)?.get("jti").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ask = |token: &str| Ask::get("/orders/alice").bearer(token);
    visitor.innocent("alice's token before it is lost", &ask(&lost), 200).await;
    demo.bastide(&["revoke", "token", &id, "--config", "bastide.yaml"]).await?;
    let deadline = tokio::time::Instant::now() + REVOKED_WITHIN;
    while visitor.ask(&ask(&lost)).await?.status == 200 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
    visitor.attack("the lost token after `bastide revoke`", &ask(&lost), REFUSED).await;
    visitor.attack("the same over HTTP/2", &ask(&lost).http2(), REFUSED).await;
    visitor.innocent("alice's other token", &ask(&other), 200).await;
    Ok(())
}

pub(in crate::demo::tour) async fn client_certificate(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let stock = Ask::get("/stock");
    visitor
        .attack("stock without a certificate", &stock.clone().at(demo.partners_endpoint(None)?), REFUSED)
        .await;
    let with_token = stock.clone().bearer(demo.token("bob"));
    visitor.attack("stock with bob's token", &with_token, REFUSED).await;

    let mut trial = Trial::new(Kind::Attack, "the warehouse's name from another authority");
    let before = demo.seen().await;
    let impostor = demo.partners_endpoint(Some(&demo.partners.impostor))?;
    match http1::ask(&impostor, &stock.request).await {
        Ok(answer) => trial.fault(format!("expected a failed handshake, found {}", answer.status)),
        Err(error) => trial.came_back = format!("TLS: {error}"),
    }
    trial.require(before == demo.seen().await, "a service saw it");
    visitor.write_down(trial);

    let warehouse = demo.partners_endpoint(Some(&demo.partners.warehouse))?;
    visitor.innocent("the warehouse's certificate", &stock.clone().at(warehouse.clone()), 200).await;
    visitor.innocent("the same over HTTP/2", &stock.at(warehouse).http2(), 200).await;
    Ok(())
}

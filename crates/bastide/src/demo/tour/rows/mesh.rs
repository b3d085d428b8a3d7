//! Between the services: who is named, who has no identity, what does not speak mutual TLS, and
//! how far a service that has fallen could go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::demo::client::{Door, Request, http1};
use crate::demo::process::line_of;
use crate::demo::tour::visitor::{Ask, Kind, Trial, Visitor};
use crate::demo::town::{Beside, Town};

/// How long payments' log may take to say it.
const LOGGED_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Catalogue, with its own certificate, charges somebody; orders does when alice orders.
pub(in crate::demo::tour) async fn by_name(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let town = visitor.town;
    let (way_out, _) = town.in_mesh("catalogue")?;
    let charge = Request::new("POST", "payments", "/charges").json(&json!({ "owner": "bob", "cents": 1 }));
    let mut trial = Trial::new(Kind::Attack, "catalogue charges bob at payments");
    let before = town.seen().await;
    let answer = http1::ask(&Door::clear(way_out), &charge).await?;
    trial.came_back = format!("{}", answer.status);
    trial.require(answer.status == 403, "expected 403");
    trial.require(before == town.seen().await, "a service saw it");
    match refused_at_payments(visitor, "spiffe://shop.example/catalogue").await {
        Some(event) => {
            event.step.name().clone_into(&mut trial.step);
            trial.reason = event.reason.into_owned();
            trial.require(trial.step == "authorize", "another step than authorize refused it");
        }
        None => trial.fault("payments' log does not say that it was catalogue"),
    }
    visitor.write_down(trial);
    let order = Ask::new("POST", "/orders/alice").bearer(town.token("alice"));
    let order = order.json(&json!({ "product": 2, "cents": 120 }));
    visitor.innocent("alice orders; orders charges her at payments", &order, 201).await;
    Ok(())
}

/// The event of a call by this caller that payments' proxy refused.
async fn refused_at_payments(
    visitor: &Visitor<'_>,
    caller: &str,
) -> Option<model::event::AccessEvent<'static>> {
    let folder = visitor.town.path("state-mesh-payments-1/audit");
    let deadline = tokio::time::Instant::now() + LOGGED_WITHIN;
    loop {
        let mut found = None;
        let read = audit::read::each(&folder, &mut |stored| {
            if let Some(stored) = stored.filter(|stored| stored.event.principal == caller) {
                found = Some(stored.event);
            }
        });
        if found.is_some() || read.is_err() || tokio::time::Instant::now() >= deadline {
            return found.filter(|event| event.outcome == model::event::Outcome::Denied);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Takes the reason from the log of a process.
async fn read_back(town: &Town, process: &str, what: &str, trial: &mut Trial) {
    let deadline = tokio::time::Instant::now() + LOGGED_WITHIN;
    loop {
        if let Some(line) = line_of(town.folder(), process, what) {
            return trial.reason = line;
        }
        if tokio::time::Instant::now() >= deadline {
            return trial.fault(format!("the log of {process} does not say: {what}"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A process that nobody registered asks for an identity; catalogue's executable gets its own.
pub(in crate::demo::tour) async fn no_identity(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let town = visitor.town;
    let socket = town.path("workload.sock").display().to_string();
    let ask = ["mesh", "svid", "--socket", &socket];
    let mut trial = Trial::new(Kind::Attack, "a process that nobody registered asks for an identity");
    let (text, done) = town.bastide(&ask).await?;
    text.trim().clone_into(&mut trial.came_back);
    trial.require(!done, "it is somebody now");
    trial.require(text.contains("no identity issued"), "it failed otherwise");
    "attest".clone_into(&mut trial.step);
    read_back(town, "gateway", "is no registered workload", &mut trial).await;
    visitor.write_down(trial);
    let mut trial = Trial::new(Kind::Innocent, "catalogue's executable asks for its own");
    let output = tokio::process::Command::new(Beside::executable(town.folder(), "catalogue"))
        .args(ask)
        .kill_on_drop(true)
        .output()
        .await?;
    trial.came_back = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    trial.require(trial.came_back == "spiffe://shop.example/catalogue", "it is not catalogue");
    visitor.write_down(trial);
    Ok(())
}

/// Plain text at payments' door.
pub(in crate::demo::tour) async fn plain_text(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let town = visitor.town;
    let (_, door) = town.in_mesh("payments")?;
    let before = town.seen().await;
    let mut trial = Trial::new(Kind::Attack, "plain text at payments' door in the mesh");
    let charge = Request::new("POST", "payments", "/charges").json(&json!({ "owner": "bob", "cents": 1 }));
    match http1::ask(&Door::clear(door), &charge).await {
        Ok(answer) => trial.fault(format!("expected no answer, found {}", answer.status)),
        Err(error) => trial.came_back = format!("closed: {error}"),
    }
    trial.require(before == town.seen().await, "a service saw it");
    "accept".clone_into(&mut trial.step);
    read_back(town, "mesh-payments-1", "TLS handshake refused", &mut trial).await;
    visitor.write_down(trial);
    Ok(())
}

/// How far somebody in orders could go, before and after a policy is tightened.
pub(in crate::demo::tour) async fn blast_radius(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let town = visitor.town;
    let before = radius(visitor, "town.yaml").await?;
    let policies = std::fs::read_to_string(town.path("mesh.cedar"))?;
    let tight = policies.replace("spiffe://shop.example/orders", "spiffe://shop.example/accounts");
    anyhow::ensure!(tight != policies, "there is nothing to tighten");
    std::fs::write(town.path("tight.cedar"), tight)?;
    let shared = std::fs::read_to_string(town.path("town.yaml"))?;
    std::fs::write(town.path("tight.yaml"), shared.replace("policies: mesh.cedar", "policies: tight.cedar"))?;
    let after = radius(visitor, "tight.yaml").await?;
    let mut trial = Trial::new(Kind::Attack, "how far somebody in orders could go");
    trial.came_back = format!("{}, then {}", shown(&before), shown(&after));
    trial.require(before == ["payments"], "it is not what orders may call");
    trial.require(after.is_empty(), "a tightened policy shrinks it not");
    visitor.write_down(trial);
    Ok(())
}

/// The services that a fallen orders could reach.
async fn radius(visitor: &Visitor<'_>, shared: &str) -> anyhow::Result<Vec<String>> {
    let ask = ["blast-radius", "--service", "orders", "--town", shared, "--output", "json"];
    let (text, _) = visitor.town.bastide(&ask).await?;
    let report: Value = serde_json::from_str(&text)?;
    let services = report.get("services").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(services.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn shown(services: &[String]) -> String {
    if services.is_empty() { "nothing".to_owned() } else { services.join(", ") }
}

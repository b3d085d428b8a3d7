//! Between the services: who is named, who has no identity, what does not speak mutual TLS, what a
//! stolen certificate is good for, and how far a service that has fallen could go.

use std::time::Duration;

use anyhow::Context as _;
use model::event::{AccessEvent, Outcome, Step};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::demo::client::{Endpoint, Request, Trust, http1};
use crate::demo::environment::{DemoEnvironment, Sidecar};
use crate::demo::process::{POLL, line_of};
use crate::demo::tour::visitor::{Ask, Kind, Trial, Visitor};

/// How long payments' log may take to say it.
const LOGGED_WITHIN: Duration = Duration::from_secs(20);
/// How long what a revoked certificate has opened may go on; on a machine with nothing else to do, some
/// milliseconds.
const CUT_WITHIN: Duration = Duration::from_secs(20);
/// How long proxies may take to see changed policies.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);

/// Catalogue, with its own certificate, charges somebody; orders does when alice orders.
pub(in crate::demo::tour) async fn by_name(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let (outbound, _) = demo.in_mesh("catalogue")?;
    let charge = Request::new("POST", "payments", "/charges").json(&json!({ "owner": "bob", "cents": 1 }));
    let mut trial = Trial::new(Kind::Attack, "catalogue charges bob at payments");
    let before = demo.seen().await;
    let answer = http1::ask(&Endpoint::clear(outbound), &charge).await?;
    trial.came_back = format!("{}", answer.status);
    trial.require(answer.status == 403, "expected 403");
    trial.require(before == demo.seen().await, "a service saw it");
    if trial.passed() {
        told_by(visitor, "payments", "spiffe://shop.example/catalogue", Step::Authorize, &mut trial).await;
    }
    visitor.write_down(trial);
    alice_orders(visitor).await;
    Ok(())
}

/// Orders charges her at payments.
async fn alice_orders(visitor: &mut Visitor<'_>) {
    let order = Ask::new("POST", "/orders/alice").bearer(visitor.demo.token("alice"));
    let order = order.json(&json!({ "product": 2, "cents": 120 }));
    visitor.innocent("alice orders; orders charges her at payments", &order, 201).await;
}

/// Takes step and reason from the audit log of a service's proxy: this step refused a call by this
/// caller.
async fn told_by(visitor: &Visitor<'_>, service: &str, caller: &str, step: Step, trial: &mut Trial) {
    let refused = |event: &AccessEvent<'_>| event.principal == caller && event.step == step;
    told(visitor.demo, service, &format!("{} refused {caller}", step.name()), refused, trial).await;
}

/// Takes step and reason from a service's audit log, of a denied event that is the one looked for.
async fn told(
    demo: &DemoEnvironment,
    service: &str,
    what: &str,
    is_it: impl Fn(&AccessEvent<'_>) -> bool,
    trial: &mut Trial,
) {
    let folder = demo.path(&format!("state-mesh-{service}-1/audit"));
    let deadline = Instant::now() + LOGGED_WITHIN;
    loop {
        let mut found = None;
        let _ = audit::read::each(&folder, &mut |stored| {
            let is_it = |event: &AccessEvent<'_>| event.outcome == Outcome::Denied && is_it(event);
            if let Some(stored) = stored.filter(|stored| is_it(&stored.event)) {
                found = Some(stored.event);
            }
        });
        if let Some(event) = found {
            event.step.name().clone_into(&mut trial.step);
            trial.reason = event.reason.into_owned();
            return trial.require(!trial.reason.is_empty(), "the audit log gives no reason");
        }
        if Instant::now() >= deadline {
            return trial.fault(format!("{service}'s log does not say: {what}"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Takes the reason from the log of a process.
async fn read_back(demo: &DemoEnvironment, process: &str, what: &str, trial: &mut Trial) {
    let deadline = Instant::now() + LOGGED_WITHIN;
    loop {
        if let Some(line) = line_of(demo.folder(), process, what) {
            return trial.reason = line;
        }
        if Instant::now() >= deadline {
            return trial.fault(format!("the log of {process} does not say: {what}"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A process that nobody registered asks for an identity; catalogue's executable gets its own.
pub(in crate::demo::tour) async fn no_identity(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let socket = demo.path("workload.sock").display().to_string();
    let ask = ["mesh", "svid", "--socket", &socket];
    let mut trial = Trial::new(Kind::Attack, "a process that nobody registered asks for an identity");
    let (text, done) = demo.bastide(&ask).await?;
    text.trim().clone_into(&mut trial.came_back);
    trial.require(!done, "it is somebody now");
    trial.require(text.contains("no identity issued"), "it failed otherwise");
    "attest".clone_into(&mut trial.step);
    read_back(demo, "gateway", "is no registered workload", &mut trial).await;
    visitor.write_down(trial);
    let mut trial = Trial::new(Kind::Innocent, "catalogue's executable asks for its own");
    let output = tokio::process::Command::new(Sidecar::executable(demo.folder(), "catalogue"))
        .args(ask)
        .kill_on_drop(true)
        .output()
        .await?;
    trial.came_back = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    trial.require(trial.came_back == "spiffe://shop.example/catalogue", "it is not catalogue");
    visitor.write_down(trial);
    Ok(())
}

/// Plain text at payments' endpoint.
pub(in crate::demo::tour) async fn plain_text(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let (_, endpoint) = demo.in_mesh("payments")?;
    let before = demo.seen().await;
    let mut trial = Trial::new(Kind::Attack, "plain text at payments' mesh listener");
    let charge = Request::new("POST", "payments", "/charges").json(&json!({ "owner": "bob", "cents": 1 }));
    match http1::ask(&Endpoint::clear(endpoint), &charge).await {
        Ok(answer) => trial.fault(format!("expected no answer, found {}", answer.status)),
        Err(error) => trial.came_back = format!("closed: {error}"),
    }
    trial.require(before == demo.seen().await, "a service saw it");
    "accept".clone_into(&mut trial.step);
    read_back(demo, "mesh-payments-1", "TLS handshake refused", &mut trial).await;
    visitor.write_down(trial);
    Ok(())
}

/// A copy of orders' certificate is used at payments, until it is revoked.
pub(in crate::demo::tour) async fn stolen_certificate(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let (_, address) = demo.in_mesh("payments")?;
    let (copy, anchors) = demo.certificate_of("orders").await?;
    let (serial, payments) = (copy.serial("shop.example")?, "spiffe://shop.example/payments".parse()?);
    let endpoint = || -> anyhow::Result<Endpoint> {
        Ok(Endpoint { address, tls: Some(Trust::in_mesh(&payments, &anchors, &copy)?), from: None })
    };
    let known = endpoint()?;
    let mut trial =
        Trial::new(Kind::Innocent, "a copy of orders' certificate charges alice, until it is revoked");
    let mut waiting = http1::Connection::open(&known).await?;
    let answer = waiting.ask(&charge_alice()).await?;
    trial.came_back = format!("{}", answer.status);
    trial.require(answer.status == 201, "expected 201");
    visitor.write_down(trial);
    let under_way = begin_charge(demo, &known).await?;

    let revoke = ["mesh", "revoke", "--serial", &serial, "--config", "bastide.yaml"];
    let (said, done) = demo.bastide(&revoke).await?;
    anyhow::ensure!(done, "it could not be revoked: {said}");
    let revoked = Instant::now();
    // At once: what is looked at later has had more time.
    let (mut trial, idle) = tokio::join!(
        ends("its call under way, once it is revoked", under_way, revoked),
        ends("its connection that waits", waiting, revoked)
    );
    if trial.passed() {
        told_by(visitor, "payments", "spiffe://shop.example/orders", Step::Accept, &mut trial).await;
    }
    visitor.write_down(trial);
    visitor.write_down(idle);
    let trial = comes_in_no_more(demo, [known, endpoint()?], &serial).await;
    visitor.write_down(trial);
    alice_orders(visitor).await;
    Ok(())
}

/// Whether a connection ends by itself after what opened it was revoked, and when.
async fn ends(tried: &str, mut connection: http1::Connection, revoked: Instant) -> Trial {
    let mut trial = Trial::new(Kind::Attack, tried);
    let left = CUT_WITHIN.saturating_sub(revoked.elapsed());
    let ended = tokio::time::timeout(left, connection.answer(false)).await;
    let after = revoked.elapsed().as_millis();
    match ended {
        Err(_) => trial.fault(format!("it goes on after {after} ms")),
        Ok(Err(_)) => trial.came_back = format!("cut after {after} ms"),
        Ok(Ok(answer)) => {
            trial.came_back = format!("{} after {after} ms", answer.status);
            trial.require(answer.status == 401, "expected 401");
        }
    }
    trial
}

/// A endpoint at which there is a session of before, and one at which there is none.
async fn comes_in_no_more(demo: &DemoEnvironment, endpoints: [Endpoint; 2], serial: &str) -> Trial {
    let before = demo.seen().await;
    let mut trial = Trial::new(Kind::Attack, "its session of before, resumed, and a new one");
    for endpoint in endpoints {
        match http1::ask(&endpoint, &charge_alice()).await {
            Ok(answer) => trial.fault(format!("expected no answer, found {}", answer.status)),
            Err(error) => trial.came_back = format!("closed: {error}"),
        }
    }
    trial.require(before == demo.seen().await, "a service saw it");
    if trial.passed() {
        // Where each is written down; what is said aloud is not said of each.
        let why = format!("the certificate {serial} of spiffe://shop.example/orders is revoked");
        let refused = |event: &AccessEvent<'_>| event.step == Step::Accept && event.reason.contains(&why);
        told(demo, "payments", &why, refused, &mut trial).await;
    }
    trial
}

fn charge_alice() -> Request {
    Request::new("POST", "payments", "/charges").json(&json!({ "owner": "alice", "cents": 1 }))
}

/// A charge that payments has begun to read: the last byte of its body is still to come. It is longer
/// than what is gathered before the service is asked.
async fn begin_charge(demo: &DemoEnvironment, endpoint: &Endpoint) -> anyhow::Result<http1::Connection> {
    let before = demo.seen().await;
    let mut connection = http1::Connection::open(endpoint).await?;
    let charge = json!({ "owner": "alice", "cents": 1, "note": "x".repeat(16 * 1024) });
    let bytes = http1::bytes_of(&Request::new("POST", "payments", "/charges").json(&charge));
    let (_, most) = bytes.split_last().context("a request has bytes")?;
    connection.send(most).await?;
    let deadline = Instant::now() + LOGGED_WITHIN;
    while before == demo.seen().await {
        anyhow::ensure!(Instant::now() < deadline, "payments sees nothing of a charge");
        tokio::time::sleep(POLL).await;
    }
    Ok(connection)
}

/// How far somebody in orders could go, before and after a policy is tightened: worked out from the
/// policies, and tried.
pub(in crate::demo::tour) async fn blast_radius(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let policies = std::fs::read_to_string(demo.path("mesh.cedar"))?;
    let tight = policies.replace("spiffe://shop.example/orders", "spiffe://shop.example/accounts");
    anyhow::ensure!(tight != policies, "there is nothing to tighten");
    let mut trial = Trial::new(Kind::Attack, "how far somebody in orders could go");
    let (said, reached) = (radius(visitor).await?, reached(demo).await?);
    trial.came_back = shown(&said);
    trial.require(said == ["payments"], "it is not what orders may call");
    trial.require(reached == said, format!("tried, it reaches {}", shown(&reached)));
    if trial.passed() {
        told_by(visitor, "catalogue", "spiffe://shop.example/orders", Step::Authorize, &mut trial).await;
    }
    let as_said = trial.passed();
    visitor.write_down(trial);
    if !as_said {
        return Ok(());
    }
    let mut trial = Trial::new(Kind::Attack, "the same, once its policy is gone");
    write_policies(demo, &tight)?;
    let said = radius(visitor).await?;
    trial.came_back = shown(&said);
    trial.require(said.is_empty(), "it is not less than before");
    let reached = reached_at_last(demo, &[]).await?;
    trial.require(reached.is_empty(), format!("tried, it reaches {}", shown(&reached)));
    if trial.passed() {
        told_by(visitor, "payments", "spiffe://shop.example/orders", Step::Authorize, &mut trial).await;
    }
    visitor.write_down(trial);
    write_policies(demo, &policies)?;
    reached_at_last(demo, &["payments"]).await?;
    alice_orders(visitor).await;
    Ok(())
}

/// Writes the policies of the mesh whole or not at all: every proxy watches them.
fn write_policies(demo: &DemoEnvironment, text: &str) -> anyhow::Result<()> {
    std::fs::write(demo.path("mesh.cedar.new"), text)?;
    Ok(std::fs::rename(demo.path("mesh.cedar.new"), demo.path("mesh.cedar"))?)
}

/// The services that orders reaches by its outbound proxy.
async fn reached(demo: &DemoEnvironment) -> anyhow::Result<Vec<String>> {
    let (outbound, _) = demo.in_mesh("orders")?;
    let mut reached = Vec::new();
    for ask in [charge_alice(), Request::new("GET", "catalogue", "/products")] {
        match http1::ask(&Endpoint::clear(outbound), &ask).await?.status {
            403 => {}
            200 | 201 => reached.push(ask.host),
            other => anyhow::bail!("{} answers orders with {other}", ask.host),
        }
    }
    Ok(reached)
}

/// The same once it is as `expected`, or does not come to be so.
async fn reached_at_last(demo: &DemoEnvironment, expected: &[&str]) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + TAKEN_WITHIN;
    loop {
        let found = reached(demo).await?;
        if found == expected || Instant::now() >= deadline {
            return Ok(found);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The services that a fallen orders could reach.
async fn radius(visitor: &Visitor<'_>) -> anyhow::Result<Vec<String>> {
    let ask = ["blast-radius", "--service", "orders", "--output", "json"];
    let (text, _) = visitor.demo.bastide(&ask).await?;
    let report: Value = serde_json::from_str(&text)?;
    let services = report.get("services").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(services.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn shown(services: &[String]) -> String {
    if services.is_empty() { "nothing".to_owned() } else { services.join(", ") }
}

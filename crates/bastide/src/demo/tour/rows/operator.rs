//! What the operator does while customers shop: explain, reload, and get it wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::event::Step;
use rustix::process::Signal;

use crate::demo::client::{http1, http2};
use crate::demo::process::POLL;
use crate::demo::tour::trail;
use crate::demo::tour::visitor::{Ask, Kind, Trial, Visitor, refusal};

/// How long the gateway may take to see a changed configuration.
const RELOAD_TIME_MAX: Duration = Duration::from_secs(60);

pub(in crate::demo::tour) async fn explain(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let ask = Ask::get("/orders/bob").bearer(demo.token("alice"));
    let refused = refusal(403, Step::Authorize);
    let answer = visitor.attack("alice reads bob's orders; `bastide explain` says why", &ask, refused).await;
    let Some(id) = answer.and_then(|answer| answer.request_id()) else { return Ok(()) };
    trail::events(demo, &[id]).await;
    let id = id.to_string();
    let (text, _) = demo.bastide(&["explain", "--config", "bastide.yaml", &id]).await?;
    for word in ["authorize", "own-orders", "alice", "bob"] {
        anyhow::ensure!(text.contains(word), "the explanation does not mention {word:?}: {text}");
    }
    let served = visitor
        .innocent("alice reads her own", &Ask::get("/orders/alice").bearer(demo.token("alice")), 200)
        .await;
    if let Some(id) = served.and_then(|answer| answer.request_id()) {
        trail::events(demo, &[id]).await;
        let (text, _) = demo.bastide(&["explain", "--config", "bastide.yaml", &id.to_string()]).await?;
        anyhow::ensure!(text.contains("own-orders"), "the explanation does not name the policy: {text}");
    }
    Ok(())
}

/// Changes the configuration as an editor would.
fn edit(visitor: &Visitor<'_>, change: impl FnOnce(&str) -> String) -> anyhow::Result<String> {
    let file = visitor.demo.path("bastide.yaml");
    let old = std::fs::read_to_string(&file)?;
    let new = change(&old);
    anyhow::ensure!(new != old, "the edit changes nothing");
    // Whole or not at all: the gateway watches this file.
    let neighbour = visitor.demo.path("bastide.yaml.new");
    std::fs::write(&neighbour, new)?;
    std::fs::rename(&neighbour, &file)?;
    Ok(old)
}

pub(in crate::demo::tour) async fn reload_under_load(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(visitor, &stop)?;
    let mut trial = Trial::new(Kind::Innocent, "a new route, taken while 4 connections keep asking");
    let before = Ask::get("/cellar/products");
    let closed = visitor.ask(&before).await?.status;
    edit(visitor, |text| {
        text.replace("policies: policies", "  - name: cellar\n    match: GET shop.localhost/cellar/products\n    to: catalogue\n    authenticate: none\n    allow: anyone\n    strip_prefix: /cellar\n\npolicies: policies")
    })?;
    let deadline = tokio::time::Instant::now() + RELOAD_TIME_MAX;
    let mut open = closed;
    while open == closed && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
        open = visitor.ask(&before).await?.status;
    }
    // And some more requests after it.
    tokio::time::sleep(POLL * 5).await;
    stop.store(true, Ordering::Relaxed);
    let (mut asked, mut lost) = (0, Vec::new());
    for worker in load {
        let (count, faults) = worker.await?;
        asked += count;
        lost.extend(faults);
    }
    trial.came_back = format!("{closed} → {open}; {asked} requests, {} lost", lost.len());
    trial.require(closed == 404 && open == 200, "the new route did not appear");
    trial.require(asked > 0, "there was no load");
    trial.require(lost.is_empty(), lost.first().cloned().unwrap_or_default());
    visitor.write_down(trial);
    let products = Ask::get("/products");
    visitor.innocent("an old route afterwards", &products, 200).await;
    Ok(())
}

type Load = Vec<tokio::task::JoinHandle<(usize, Vec<String>)>>;

/// Two HTTP/1.1 and two HTTP/2 connections that ask again and again and may not break.
fn load(visitor: &Visitor<'_>, stop: &Arc<AtomicBool>) -> anyhow::Result<Load> {
    let ask = Ask::get("/orders/alice").bearer(visitor.demo.token("alice"));
    let endpoint = visitor.endpoint(&ask)?;
    let worker = |number: usize| {
        let (endpoint, request, stop) = (endpoint.clone(), ask.request.clone(), Arc::clone(stop));
        tokio::spawn(async move {
            let (mut asked, mut faults) = (0, Vec::new());
            let mut over1 = None;
            let mut over2 = None;
            let opened = match number % 2 {
                0 => http1::Connection::open(&endpoint).await.map(|connection| over1 = Some(connection)),
                _ => http2::Connection::open(&endpoint).await.map(|connection| over2 = Some(connection)),
            };
            faults.extend(opened.err().map(|error| error.to_string()));
            while faults.is_empty() && !stop.load(Ordering::Relaxed) {
                let answer = match (&mut over1, &over2) {
                    (Some(connection), _) => connection.ask(&request).await,
                    (_, Some(connection)) => connection.ask(&request).await,
                    _ => break,
                };
                asked += 1;
                match answer {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => faults.push(format!("a request got {}", answer.status)),
                    Err(error) => faults.push(format!("a connection broke: {error}")),
                }
            }
            (asked, faults)
        })
    };
    Ok((0..4).map(worker).collect())
}

pub(in crate::demo::tour) async fn broken_configuration(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let log_before = demo.gateway_log().len();
    let old = edit(visitor, |text| text.replacen("to: orders", "to: oders", 1))?;
    let mut trial = Trial::new(Kind::Attack, "`to: oders` is saved as the configuration");
    demo.signal_gateway(Signal::HUP)?;
    let deadline = tokio::time::Instant::now() + RELOAD_TIME_MAX;
    let mut line = None;
    while line.is_none() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
        let log = demo.gateway_log();
        let news = log.get(log_before..).unwrap_or_default().to_owned();
        line = news.lines().find(|line| line.contains("oders")).map(str::to_owned);
    }
    match &line {
        Some(line) => {
            trial.came_back = "the old one stays".to_owned();
            trial.step = "reload".to_owned();
            let place = line.find("bastide.yaml:").unwrap_or(0);
            trial.reason = line.get(place..).unwrap_or_default().to_owned();
            trial.require(line.contains("orders"), "the log suggests nothing");
        }
        None => trial.fault("the gateway's log does not show the fault"),
    }
    let (text, good) = demo.bastide(&["check", "bastide.yaml"]).await?;
    trial
        .require(!good && text.contains("oders"), format!("`bastide check` does not show the fault: {text}"));
    visitor.write_down(trial);
    let own = Ask::get("/orders/alice").bearer(demo.token("alice"));
    visitor.innocent("alice reads her orders meanwhile", &own, 200).await;
    edit(visitor, |_| old)?;
    Ok(())
}

//! A gateway that is killed under load: what it has answered is in the log, but for a
//! window that is documented.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bastide::demo::client::http1::Connection;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{TestBed, Upstream, get_request, read, undisturbed, until};

/// SECURITY.md says so: an answer older than this at the kill is in the log.
const LOSS_WINDOW: Duration = Duration::from_secs(1);
const CLIENTS: usize = 8;

/// Ids of all events in the log, the torn last line aside.
fn logged(folder: &Path) -> HashSet<String> {
    let files = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let texts =
        files.filter(|file| file.extension().is_some_and(|ext| ext == "jsonl")).map(|file| read(&file));
    let ids = texts.flat_map(|text| {
        let lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
        lines.into_iter().filter_map(|line| {
            let event: Value = serde_json::from_str(&line).ok()?;
            Some(event["metadata"]["uid"].as_str()?.to_owned())
        })
    });
    ids.collect()
}

/// Kills a gateway under load, and starts it again: how long before that the oldest answer was given
/// that is not in the log.
async fn oldest_lost(upstream: &Upstream) -> (TestBed, Duration) {
    let mut testbed = TestBed::start(&format!(
        "services:\n  here: [ http://{} ]\nroutes:\n  - {{ name: here, match: /**, to: here, authenticate: none, \
         allow: anyone }}\n",
        upstream.address
    ))
    .await;
    let answered: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (endpoint, answered) = (testbed.clear_endpoint(), Arc::clone(&answered));
        clients.spawn(async move {
            let mut connection = Connection::open(&endpoint).await.unwrap();
            // Until the gateway is gone.
            while let Ok(answer) = connection.ask(&get_request("/here")).await {
                let id = answer.request_id().unwrap().to_string();
                answered.lock().unwrap().push((Instant::now(), id));
            }
        });
    }
    // Until there is enough that must be there.
    until("a hundred answers", async || (answered.lock().unwrap().len() > 100).then_some(())).await;
    tokio::time::sleep(LOSS_WINDOW * 2).await;
    let killed = Instant::now();
    testbed.gateway().signal(Signal::KILL);
    testbed.gateway().ended().await;
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }

    let logged = logged(&testbed.path("state/audit"));
    let answered = std::mem::take(&mut *answered.lock().unwrap());
    let old = answered.iter().filter(|(at, _)| killed.saturating_duration_since(*at) > LOSS_WINDOW).count();
    assert!(old > 100, "only {old} answers before the window: nothing was tested");
    let lost: Vec<Duration> = answered
        .iter()
        .filter(|(_, id)| !logged.contains(id))
        .map(|(at, _)| killed.saturating_duration_since(*at))
        .collect();
    let oldest = lost.iter().max().copied().unwrap_or_default();
    println!(
        "{} answered, {} of them lost, the oldest {oldest:?} before the kill",
        answered.len(),
        lost.len()
    );
    (testbed, oldest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_before_the_window_is_logged_when_the_process_is_killed() {
    let upstream = Upstream::start().await;
    // Whatever holds the writer up holds up its log too: a machine that stood still proves nothing.
    let mut testbed =
        undisturbed("kill without a loss from before the window", LOSS_WINDOW / 10, async || {
            let (testbed, oldest) = oldest_lost(&upstream).await;
            (oldest <= LOSS_WINDOW).then_some(testbed)
        })
        .await;

    // The log goes on behind the torn line.
    testbed.start_gateway().await;
    let id = testbed.get("/here").await.request_id().unwrap().to_string();
    until("the next event", async || self::logged(&testbed.path("state/audit")).contains(&id).then_some(()))
        .await;
}

//! An upstream falls ill, and one dies under the customers' hands.

use std::time::Duration;

use model::RequestId;

use crate::demo::service::Role;
use crate::demo::tour::trail;
use crate::demo::tour::visitor::{Ask, Kind, Trial, Visitor};

/// Requests after the death; the last [`CALM`] must not have met the dead instance.
const REQUESTS: usize = 40;
const CALM: usize = 10;
/// Requests of which one that is unwell must see none: by chance it may see none of a few.
const WATCHED: usize = 100;

/// How long the health checks may take to notice.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// An instance says at its health check that it is unwell, and would still answer.
pub(in crate::demo::tour) async fn sick(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let instances = demo.instances(Role::Orders);
    let [patient, _] = instances.as_slice() else { anyhow::bail!("expected two instances of orders") };
    let mut trial =
        Trial::new(Kind::Attack, format!("orders instance {} says it is unwell", patient.instance));
    demo.fall_ill(patient, true).await?;
    let during = settles(visitor, patient.pid, 0).await?;
    demo.fall_ill(patient, false).await?;
    let after = settles(visitor, patient.pid, 1).await?;
    trial.came_back = format!("it saw {during} of {WATCHED} requests, and {after} when it was well again");
    trial.step = "forward".to_owned();
    trial.reason = format!("{} fails its health checks", patient.address);
    trial.require(during == 0, "it got requests although it said that it was unwell");
    trial.require(after > 0, "it got no requests again");
    visitor.write_down(trial);
    let own = Ask::get("/orders/alice").bearer(demo.token("alice"));
    visitor.innocent("alice reads her orders", &own, 200).await;
    Ok(())
}

/// Sends requests, so many at a time as tell it, until the service with this process id sees none of
/// them, or at least so many; gives how many it saw of the last ones.
async fn settles(visitor: &Visitor<'_>, pid: u32, least: u64) -> anyhow::Result<u64> {
    let deadline = tokio::time::Instant::now() + NOTICED_WITHIN;
    loop {
        let seen = seen_of(visitor, pid, if least == 0 { WATCHED } else { CALM }).await?;
        let settled = if least == 0 { seen == 0 } else { seen >= least };
        if settled || tokio::time::Instant::now() >= deadline {
            return Ok(seen);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Sends so many requests; gives how many the service with this process id saw of them.
async fn seen_of(visitor: &Visitor<'_>, pid: u32, requests: usize) -> anyhow::Result<u64> {
    let demo = visitor.demo;
    let own = Ask::get("/orders/alice").bearer(demo.token("alice"));
    let before = demo.seen().await.get(&pid).copied().unwrap_or_default();
    for _ in 0..requests {
        let status = visitor.ask(&own).await?.status;
        anyhow::ensure!(status == 200, "a request got {status}");
    }
    Ok(demo.seen().await.get(&pid).copied().unwrap_or_default().saturating_sub(before))
}

pub(in crate::demo::tour) async fn killed(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let own = Ask::get("/orders/alice").bearer(demo.token("alice"));
    // Both instances serve before: connections to both wait in the gateway's pools.
    for _ in 0..8 {
        visitor.ask(&own).await?;
    }
    let instances = demo.instances(Role::Orders);
    let [victim, survivor] = instances.as_slice() else { anyhow::bail!("expected two instances of orders") };
    demo.kill(victim)?;

    let mut trial = Trial::new(Kind::Attack, format!("orders instance {} is killed", victim.instance));
    let mut ids: Vec<RequestId> = Vec::new();
    let mut failed = 0;
    for number in 0..REQUESTS {
        let ask = if number % 2 == 0 { own.clone() } else { own.clone().http2() };
        let answer = visitor.ask(&ask).await?;
        failed += usize::from(answer.status != 200);
        ids.extend(answer.request_id());
    }
    let events = trail::events(demo, &ids).await;
    let events: Vec<_> = ids.iter().filter_map(|id| events.get(id)).collect();
    let retried = events.iter().filter(|event| event.attempts > 1).count();
    let calm = events
        .iter()
        .rev()
        .take(CALM)
        .all(|event| event.attempts == 1 && event.upstream.contains(&survivor.address.to_string()));
    trial.came_back = format!("{} × 200, {failed} failed, {retried} retried", REQUESTS - failed);
    trial.step = "forward".to_owned();
    trial.reason = format!("{} was ejected; {} answers", victim.address, survivor.address);
    trial.require(failed == 0, "a GET failed that could have been tried again");
    trial.require(retried > 0, "no event shows a second attempt");
    trial.require(calm, "the dead instance was not ejected");
    visitor.write_down(trial);
    visitor.innocent("alice reads her orders", &own, 200).await;
    Ok(())
}

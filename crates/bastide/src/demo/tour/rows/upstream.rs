//! An upstream dies under the customers' hands.

use model::RequestId;

use crate::demo::service::Role;
use crate::demo::tour::trail;
use crate::demo::tour::visitor::{Ask, Kind, Trial, Visitor};

/// Requests after the death; the last [`CALM`] must not have met the dead instance.
const REQUESTS: usize = 40;
const CALM: usize = 10;

pub(in crate::demo::tour) async fn killed(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let town = visitor.town;
    let own = Ask::get("/orders/alice").bearer(town.token("alice"));
    // Both instances serve before: connections to both wait in the gateway's pools.
    for _ in 0..8 {
        visitor.ask(&own).await?;
    }
    let instances = town.instances(Role::Orders);
    let [victim, survivor] = instances.as_slice() else { anyhow::bail!("expected two instances of orders") };
    town.kill(victim)?;

    let mut trial = Trial::new(Kind::Attack, format!("orders instance {} is killed", victim.instance));
    let mut ids: Vec<RequestId> = Vec::new();
    let mut failed = 0;
    for number in 0..REQUESTS {
        let ask = if number % 2 == 0 { own.clone() } else { own.clone().http2() };
        let answer = visitor.ask(&ask).await?;
        failed += usize::from(answer.status != 200);
        ids.extend(answer.request_id());
    }
    let events = trail::events(town, &ids).await;
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

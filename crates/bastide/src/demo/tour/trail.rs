//! What the audit log says about the trials: read back from its files, as an operator
//! would, never assumed.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use model::RequestId;
use model::event::AccessEvent;

use super::visitor::{Expected, Trial};
use crate::demo::environment::DemoEnvironment;

/// The log is written in batches; how long a trial's event may take to arrive.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Reads the log until each of these requests has an event, or until it takes too
/// long. Gives the events that were found.
pub(crate) async fn events(
    demo: &DemoEnvironment,
    ids: &[RequestId],
) -> HashMap<RequestId, AccessEvent<'static>> {
    let folder = demo.path("state/audit");
    let mut found = HashMap::new();
    let waited = tokio::time::timeout(ARRIVAL_TIME_MAX, async {
        loop {
            let wanted: HashSet<&RequestId> = ids.iter().filter(|id| !found.contains_key(*id)).collect();
            if wanted.is_empty() {
                break;
            }
            let news = read(&folder, &wanted);
            let nothing = news.is_empty();
            found.extend(news);
            if nothing {
                tokio::time::sleep(POLL).await;
            }
        }
    });
    // Out of time: what was found is what there is.
    let _ = waited.await;
    found
}

/// Fills in step and reason of every trial that names a request, and faults those of
/// which the log says something else, or nothing.
pub(crate) async fn settle(demo: &DemoEnvironment, trials: impl Iterator<Item = &mut Trial>) {
    let mut trials: Vec<&mut Trial> = trials.collect();
    let ids: Vec<RequestId> = trials.iter().filter_map(|trial| trial.id).collect();
    let events = events(demo, &ids).await;
    for trial in &mut trials {
        let Some(id) = trial.id else { continue };
        let Some(event) = events.get(&id) else {
            trial.fault(format!("the audit log does not know request {id}"));
            continue;
        };
        trial.step = event.step.name().to_owned();
        trial.reason = event.reason.clone().into_owned();
        let Expected::Event(outcome, step) = trial.expected else { continue };
        trial.require(
            event.outcome == outcome,
            format!("audited as {:?}, expected {outcome:?}", event.outcome),
        );
        trial.require(
            event.step == step,
            format!("answered by step {}, expected {}", event.step.name(), step.name()),
        );
        let explained = !event.reason.is_empty() || outcome == model::event::Outcome::Allowed;
        trial.require(explained, "the audit log gives no reason");
        let word = trial.reason_names;
        trial.require(event.reason.contains(word), format!("the reason does not name {word:?}"));
    }
}

/// The wanted events among all lines of all files.
fn read(folder: &Path, wanted: &HashSet<&RequestId>) -> Vec<(RequestId, AccessEvent<'static>)> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for text in files.filter_map(|file| std::fs::read_to_string(file.path()).ok()) {
        // Only the lines that name a wanted id are worth parsing: a load test leaves many.
        let named = text.lines().filter(|line| id_of(line).is_some_and(|id| wanted.contains(&id)));
        found.extend(named.filter_map(|line| {
            let stored = audit::record::parse(line.as_bytes()).ok()?;
            Some((stored.event.id, stored.event))
        }));
    }
    found
}

fn id_of(line: &str) -> Option<RequestId> {
    let (_, after) = line.split_once("\"uid\":\"")?;
    after.get(..32)?.parse().ok()
}

//! What every form needs to know of a line, and how a line that is too long is made short.

use model::event::Outcome;
use serde::Deserialize;
use serde_json::Value;

/// The few things of an event that stand outside its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Milliseconds since the epoch.
    pub time_millis: u64,
    /// The request's id.
    pub uid: String,
    /// How it ended.
    pub outcome: Outcome,
}

#[derive(Deserialize)]
struct Line {
    time: u64,
    metadata: Metadata,
    unmapped: Unmapped,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

#[derive(Deserialize)]
struct Unmapped {
    outcome: Outcome,
}

/// Reads a line. `None` when it is no event of ours.
pub fn see(line: &[u8]) -> Option<Seen> {
    let line: Line = serde_json::from_slice(line).ok()?;
    Some(Seen { time_millis: line.time, uid: line.metadata.uid, outcome: line.unmapped.outcome })
}

/// The event without what policy read and the firewall found, marked as cut.
pub fn shorten(line: &[u8]) -> Option<Vec<u8>> {
    let mut event: Value = serde_json::from_slice(line).ok()?;
    let unmapped = event.get_mut("unmapped")?.as_object_mut()?;
    unmapped.remove("decision");
    unmapped.remove("firewall");
    unmapped.insert("cut".to_owned(), Value::Bool(true));
    serde_json::to_vec(&event).ok()
}

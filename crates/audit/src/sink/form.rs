//! What every form needs to know of a line, and how a line that is too long is made short.

use model::event::Outcome;
use serde::Deserialize;
use serde_json::Value;

use crate::json;

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

/// Lengths that texts are cut to, one after the other, until the event is short enough. The
/// last leaves ids and our own names whole.
const TEXT_BYTES: [usize; 5] = [512, 256, 128, 64, 40];

/// The event in at most so many bytes, marked as cut: without what policy read and the
/// firewall found; then with its texts cut, of which a client may have chosen some as long as
/// it liked; at last nothing but how it ended. `None` when not even that fits.
pub fn shorten(line: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut event: Value = serde_json::from_slice(line).ok()?;
    let unmapped = event.get_mut("unmapped")?.as_object_mut()?;
    unmapped.remove("decision");
    unmapped.remove("firewall");
    unmapped.insert("cut".to_owned(), Value::Bool(true));
    let fits = |event: &Value| serde_json::to_vec(event).ok().filter(|line| line.len() <= bytes_max);
    if let Some(line) = fits(&event) {
        return Some(line);
    }
    for text_bytes_max in TEXT_BYTES {
        cut_texts(&mut event, text_bytes_max);
        if let Some(line) = fits(&event) {
            return Some(line);
        }
    }
    fits(&essence(&event))
}

/// Cuts every text of the event.
fn cut_texts(value: &mut Value, bytes_max: usize) {
    match value {
        Value::String(text) => text.truncate(json::cut(text, bytes_max).len()),
        Value::Array(values) => values.iter_mut().for_each(|value| cut_texts(value, bytes_max)),
        Value::Object(members) => members.values_mut().for_each(|value| cut_texts(value, bytes_max)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Which request, when, and how it ended.
fn essence(event: &Value) -> Value {
    let of = |pointer: &str| event.pointer(pointer).cloned().unwrap_or_default();
    serde_json::json!({
        "time": of("/time"),
        "class_uid": of("/class_uid"),
        "severity_id": of("/severity_id"),
        "metadata": { "uid": of("/metadata/uid") },
        "http_response": { "code": of("/http_response/code") },
        "unmapped": { "outcome": of("/unmapped/outcome"), "step": of("/unmapped/step"), "cut": true },
    })
}

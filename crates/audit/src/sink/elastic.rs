//! The bulk interface of Elasticsearch and OpenSearch: an action and a document per event,
//! and an answer per event.

use serde::Deserialize;

use super::form;
use crate::json;

/// The path below the cluster's address; only what is read of the answer comes back.
pub const PATH: &str = "/_bulk?filter_path=errors,items.*.status,items.*.error";
/// The body's `Content-Type`.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// The body with these lines. `create` with the request's id: an event that is sent twice
/// is indexed once, and data streams take no other action.
pub fn body(lines: &[Vec<u8>], index: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(lines.iter().map(|line| line.len() + 160).sum());
    for line in lines {
        let seen = form::see(line);
        body.extend_from_slice(b"{\"create\":{\"_index\":");
        json::text(&mut body, index);
        if let Some(seen) = &seen {
            body.extend_from_slice(b",\"_id\":");
            json::text(&mut body, &seen.uid);
        }
        body.extend_from_slice(b"}}\n");
        match (seen, line.strip_prefix(b"{")) {
            (Some(seen), Some(rest)) => {
                // Data streams need the time under this name.
                body.extend_from_slice(format!("{{\"@timestamp\":{},", seen.time_millis).as_bytes());
                body.extend_from_slice(rest);
            }
            _ => body.extend_from_slice(line),
        }
        body.push(b'\n');
    }
    body
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    #[serde(default)]
    status: u16,
    error: Option<serde_json::Value>,
}

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is indexed, now or from an earlier try.
    Taken,
    /// It may be taken later.
    Later,
    /// It never will.
    Refused,
}

/// What an answer says about the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One fate per event, and the first reason among those that were not taken.
    Each(Vec<Fate>, Option<String>),
    /// The batch is refused as it is; a smaller one may not be.
    Refused(String),
    /// All of it later.
    Later(String),
}

/// Reads the answer to a batch of so many events.
pub fn verdict(status: u16, body: &[u8], events: usize) -> Verdict {
    match status {
        200..=299 => {}
        400 | 413 => return Verdict::Refused(format!("status {status}")),
        _ => return Verdict::Later(format!("status {status}")),
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
        return Verdict::Later("an answer that is none of a bulk request".to_owned());
    };
    if !answer.errors && answer.items.is_empty() {
        return Verdict::Each(vec![Fate::Taken; events], None);
    }
    if answer.items.len() != events {
        return Verdict::Later(format!("{} answers to {events} events", answer.items.len()));
    }
    let fate = |item: &Item| match item.create.status {
        // 409: the id is there, from a try whose answer was lost.
        200..=299 | 409 => Fate::Taken,
        429 | 500..=599 => Fate::Later,
        _ => Fate::Refused,
    };
    let reason = answer.items.iter().find(|item| fate(item) != Fate::Taken).map(|item| {
        let error = item.create.error.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("status {}: {}", item.create.status, json::cut(&error, 300))
    });
    Verdict::Each(answer.items.iter().map(fate).collect(), reason)
}

//! The HTTP Event Collector of Splunk: events as JSON objects one after the other, and
//! what its answers mean.

use serde::Deserialize;

use super::form;
use crate::json;

/// The path below the collector's address.
pub const PATH: &str = "/services/collector/event";
/// The body's `Content-Type`.
pub const CONTENT_TYPE: &str = "application/json";

/// What stands beside every event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// `host`.
    pub host: String,
    /// `index`; the token's own when `None`.
    pub index: Option<String>,
}

/// The body with these lines.
pub fn body(lines: &[Vec<u8>], beside: &Beside) -> Vec<u8> {
    let mut body = Vec::with_capacity(lines.iter().map(|line| line.len() + 160).sum());
    for line in lines {
        body.extend_from_slice(b"{");
        if let Some(seen) = form::see(line) {
            // Seconds with a fraction.
            let (seconds, millis) = (seen.time_millis / 1000, seen.time_millis % 1000);
            body.extend_from_slice(format!("\"time\":{seconds}.{millis:03},").as_bytes());
        }
        body.extend_from_slice(b"\"host\":");
        json::text(&mut body, &beside.host);
        body.extend_from_slice(b",\"source\":\"bastide\",\"sourcetype\":\"bastide:access\",");
        if let Some(index) = &beside.index {
            body.extend_from_slice(b"\"index\":");
            json::text(&mut body, index);
            body.push(b',');
        }
        body.extend_from_slice(b"\"event\":");
        body.extend_from_slice(line);
        body.extend_from_slice(b"}\n");
    }
    body
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    text: String,
    #[serde(default)]
    code: i64,
    #[serde(rename = "invalid-event-number")]
    invalid: Option<usize>,
}

/// What an answer says about the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All were taken.
    Taken,
    /// The event at this place is not one; those before it were taken.
    Invalid(usize),
    /// The batch is refused as it is; a smaller one may not be.
    Refused(String),
    /// Later.
    Later(String),
}

/// Reads an answer.
pub fn verdict(status: u16, body: &[u8]) -> Verdict {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let why = |fallback: &str| {
        let text = answer.as_ref().map_or(fallback, |answer| answer.text.as_str());
        format!("status {status}: {}", json::cut(text, 200))
    };
    match (status, &answer) {
        // Code 0 is success; 17 is what its health path says when well.
        (200..=299, Some(answer)) if answer.code == 0 => Verdict::Taken,
        (200..=299, None) => Verdict::Taken,
        (400, Some(Answer { invalid: Some(place), .. })) => Verdict::Invalid(*place),
        (400 | 413, _) => Verdict::Refused(why("refused")),
        // A wrong token (401, 403) may be set right; so may everything else.
        _ => Verdict::Later(why("no answer that says more")),
    }
}

//! The answers that are ours: the one place where a reason becomes a status, and where
//! what the client is told parts from what the log is told.

pub(crate) mod grpc;

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use model::event::Step;
use model::{RequestId, Timestamp};
use proxy::Additions;

/// Why a request ends here, for both readers: the client gets status and fields, the
/// operator gets step, class and reason.
#[derive(Debug)]
pub struct Refusal {
    /// The step that refused.
    pub step: Step,
    /// A short stable name for metrics, from a closed set: `no_token`, `default_deny`….
    pub class: &'static str,
    /// What the client is told.
    pub status: StatusCode,
    /// Why, in one line, for the log. Never sent to the client.
    pub reason: Cow<'static, str>,
    /// What the client is told besides the status, where it may know: the program that we run.
    pub detail: Option<String>,
    /// Fields of the answer: `www-authenticate`, `retry-after`, `allow`….
    pub fields: Vec<(&'static str, String)>,
    /// Whether the connection ends after the answer.
    pub close: bool,
    /// Whether the connection ends without an answer.
    pub silent: bool,
}

impl Refusal {
    /// A refusal without fields.
    pub fn new(
        step: Step,
        class: &'static str,
        status: StatusCode,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            step,
            class,
            status,
            reason: reason.into(),
            detail: None,
            fields: Vec::new(),
            close: false,
            silent: false,
        }
    }

    /// With one more field in the answer.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// How a step ends the way early.
#[derive(Debug)]
pub enum Stop {
    /// It refuses.
    Refuse(Box<Refusal>),
    /// It answers for the upstream: a CORS preflight, a page of ours.
    Answer(Box<Answer>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(Box::new(refusal))
    }
}

/// An answer of ours that is no refusal.
#[derive(Debug)]
pub struct Answer {
    /// The step that answered.
    pub step: Step,
    /// Status.
    pub status: StatusCode,
    /// Fields.
    pub fields: Additions,
    /// Body.
    pub body: Bytes,
}

/// The RFC 9457 problem document: type, title, status and the request's id, nothing
/// that tells an attacker how near they came.
pub(crate) fn problem(status: StatusCode, detail: Option<&str>, id: RequestId) -> Bytes {
    let title = status.canonical_reason().unwrap_or("Error");
    let detail =
        detail.map_or_else(String::new, |detail| format!("\"detail\":{},", serde_json::Value::from(detail)));
    Bytes::from(format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},{detail}\"id\":\"{id}\"}}\n",
        status.as_u16()
    ))
}

/// The `date` of an answer of ours: RFC 9110 §6.6.1 has whoever answers and has a clock say when.
pub(crate) fn date(now: Timestamp) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now.unix_seconds()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_as_rfc_9110_writes_it() {
        assert_eq!(date(Timestamp::from_unix_seconds(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        // The last moment that a timestamp can be is one that can be written.
        assert_eq!(date(Timestamp::from_unix_nanos(u64::MAX)), "Sun, 21 Jul 2554 23:34:33 GMT");
    }

    #[test]
    fn a_problem_document_has_an_id_and_no_reason() {
        let id = RequestId::new(1, 2);
        let text = problem(StatusCode::FORBIDDEN, None, id);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let object = value.as_object().unwrap();
        let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["id", "status", "title", "type"]);
        assert_eq!(object["status"], 403);
        assert_eq!(object["id"], id.to_string());
        // What somebody may know besides is a text, whatever it quotes.
        let told = problem(StatusCode::NOT_FOUND, Some("unknown \"a\\\"\n"), id);
        let value: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(value["detail"], "unknown \"a\\\"\n");
    }
}

//! Refusals, as RFC 9457 problem details: what the client is told, and what the log is.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::event::DecisionRecord;
use serde::Serialize;

/// Why an operation was not carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// A word for programs, stable.
    pub code: &'static str,
    /// For the client.
    pub detail: String,
    /// For the audit log and the operator.
    pub reason: String,
    /// The decision, where it is the policies' refusal.
    pub decision: Option<Box<DecisionRecord>>,
}

/// A problem as the client gets it (RFC 9457).
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
#[schemars(rename = "Problem")]
pub struct Details {
    /// Always `about:blank`: `code` tells problems apart.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// A word for programs: `not_found`, `conflict`, `forbidden` …; absent where the gateway
    /// refused the request itself.
    #[serde(default)]
    code: &'static str,
    /// What was expected, what was found, what to do; absent as above.
    #[serde(default)]
    detail: String,
    /// The name of the call in the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl Problem {
    /// One of which the client is told everything.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, code, reason: detail.clone(), detail, decision: None }
    }

    /// The policies do not permit it.
    pub fn forbidden(reason: String, decision: DecisionRecord) -> Self {
        let detail = "the policies do not permit it; `bastide explain` says why";
        let decision = Some(Box::new(decision));
        Self { reason, decision, ..Self::new(StatusCode::FORBIDDEN, "forbidden", detail) }
    }

    /// There is no such thing.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {what}"))
    }

    /// The request is not as the document says.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// It is well-formed and means something that cannot be.
    pub fn unfit(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unfit", detail)
    }

    /// It contradicts what is there.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// It was changed since the client read it.
    pub fn changed() -> Self {
        let detail = "it is not what `If-Match` or `If-None-Match` says; read it again";
        Self::new(StatusCode::PRECONDITION_FAILED, "changed", detail)
    }

    /// It cannot be done now.
    pub fn unavailable(code: &'static str, detail: &str, reason: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { reason: reason.into(), ..Self::new(status, code, detail) }
    }

    /// There is no randomness to make something of.
    pub fn random() -> Self {
        Self::unavailable("random", "try again", "the system's random number generator failed")
    }

    /// It could not be done, for a reason that only the log is told.
    pub fn failed(reason: impl std::fmt::Display) -> Self {
        let detail = "it could not be done; the log says why";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { reason: reason.to_string(), ..Self::new(status, "failed", detail) }
    }

    /// The same for whoever holds the state folder, and could read the log: told why the process could not
    /// do it.
    #[must_use]
    pub fn in_full(self) -> Self {
        match self.status.is_server_error() {
            true => Self { detail: self.reason.clone(), ..self },
            false => self,
        }
    }

    /// The answer; `id` is the call's.
    pub fn respond(&self, id: Option<String>) -> Response {
        let details = Details {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default().to_owned(),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail.clone(),
            id,
        };
        let body = serde_json::to_string(&details).unwrap_or_default();
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

impl From<identity::Error> for Problem {
    fn from(error: identity::Error) -> Self {
        match &error {
            identity::Error::Record { .. } | identity::Error::Settings { .. } | identity::Error::NoMail => {
                Self::unfit(error.to_string())
            }
            identity::Error::Owned { .. } => Self::conflict(error.to_string()),
            identity::Error::Contended(_) => Self::conflict("others changed it at the same time; try again"),
            identity::Error::Store(store::Error::TooLarge { .. }) => Self::unfit(error.to_string()),
            identity::Error::Store(store::Error::Unavailable(_) | store::Error::Full(_)) => {
                Self::unavailable("store", "the store does not answer; try again", error.to_string())
            }
            _ => Self::failed(error),
        }
    }
}

impl From<mesh::Error> for Problem {
    fn from(error: mesh::Error) -> Self {
        match error {
            mesh::Error::Revoked(_) | mesh::Error::Settings(_) | mesh::Error::Registered(_) => {
                Self::unfit(error.to_string())
            }
            mesh::Error::Authority(why) => Self::conflict(why),
            mesh::Error::UnknownAuthority(id) => Self::not_found(format!("authority {id:?}")),
            mesh::Error::Busy => Self::conflict("others changed it at the same time; try again"),
            mesh::Error::Store(store::Error::Conflict { .. }) => Self::changed(),
            mesh::Error::Store(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        identity::Error::Store(error).into()
    }
}

impl From<keys::Error> for Problem {
    fn from(error: keys::Error) -> Self {
        Self::failed(error)
    }
}

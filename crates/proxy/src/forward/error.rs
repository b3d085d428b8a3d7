//! Why a request could not be forwarded, as the decisions that a caller can take.

use std::io;
use std::time::Duration;

use http::StatusCode;

use crate::admit::Class;
use crate::exchange::BodyError;
use crate::live::Cut;
use crate::upstream::UpstreamFault;
use crate::upstream::dial::DialError;

/// Where the time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the response's head.
    FirstByte,
    /// In a body.
    Body,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::FirstByte => "before the response began",
            Self::Body => "in the middle of a body",
        }
    }
}

/// Why a request could not be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The route has no service, or no endpoint of it could be chosen.
    #[error("the route has no upstream")]
    NoService,
    /// The service's circuit breaker is open.
    #[error("the circuit breaker is open, because most requests failed; try again in {} ms", .retry_after.as_millis())]
    BreakerOpen {
        /// When to try again.
        retry_after: Duration,
    },
    /// No connection.
    #[error("{0}")]
    Connect(DialError),
    /// The upstream was silent for too long.
    #[error("the upstream timed out {}", .0.name())]
    Timeout(Phase),
    /// The upstream broke off, or its answer breaks the rules.
    #[error("{0}")]
    Upstream(UpstreamFault),
    /// The client went away.
    #[error("the client went away: {0}")]
    ClientGone(io::Error),
    /// The request was validated against another contract than its route's, or against none.
    #[error("the request was not validated against the route's API document")]
    Contract,
    /// The path that the route makes of the request's is none that could be admitted.
    #[error("the rewritten path falls into the class {}", .0.row().name)]
    Path(Class),
    /// The request's body is malformed, too large or too slow.
    #[error("the request's body: {0}")]
    Request(BodyError),
    /// It would not be let through any more, or its credential has ended.
    #[error("{0}")]
    Cut(Box<Cut>),
}

impl ForwardError {
    /// What to answer when no head was sent; `None` when nobody is there to read it.
    pub fn status(&self) -> Option<StatusCode> {
        Some(match self {
            Self::NoService
            | Self::BreakerOpen { .. }
            | Self::Connect(DialError::Full)
            | Self::Request(BodyError::NoRoom { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Contract => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Path(_) => StatusCode::BAD_REQUEST,
            Self::Connect(DialError::Timeout) | Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect(_) | Self::Upstream(_) => StatusCode::BAD_GATEWAY,
            Self::ClientGone(_) | Self::Request(BodyError::Io(_)) => return None,
            Self::Request(BodyError::Malformed(_)) => StatusCode::BAD_REQUEST,
            Self::Request(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Cut(cut) => cut.status,
            Self::Request(BodyError::Timeout) => StatusCode::REQUEST_TIMEOUT,
        })
    }

    /// When the service may take the request after all; at least a second, as `Retry-After` has no shorter one.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BreakerOpen { retry_after } => Some(*retry_after),
            // Whoever waits gives up within seconds, and a connection may be free at any moment.
            Self::Connect(DialError::Full) => Some(Duration::ZERO),
            _ => None,
        }
        .map(|wait| wait.max(Duration::from_secs(1)))
    }

    /// A short stable name for metrics and spans.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::NoService => "no_endpoint",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Connect(DialError::Full) => "upstream_full",
            Self::Connect(_) => "connect",
            Self::Timeout(_) => "upstream_timeout",
            Self::Upstream(_) => "upstream",
            Self::ClientGone(_) => "client_gone",
            Self::Contract => "contract_missing",
            Self::Path(_) => "rewritten_path",
            Self::Request(_) => "request_body",
            Self::Cut(_) => "cut",
        }
    }

    pub(super) fn of_body(error: BodyError) -> Self {
        match error {
            BodyError::Io(error) => Self::ClientGone(error),
            other => Self::Request(other),
        }
    }
}

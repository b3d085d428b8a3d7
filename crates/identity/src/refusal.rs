//! Every "no" of the provider: the code that the specification gives it, a sentence for
//! the client, and the reason for the log. The last never leaves the process.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::text::{Language, Notice};

/// Error codes, by their specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    // RFC 6749 §4.1.2.1 and §5.2
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    UnsupportedResponseType,
    InvalidScope,
    AccessDenied,
    ServerError,
    TemporarilyUnavailable,
    // OpenID Connect Core §3.1.2.6
    LoginRequired,
    ConsentRequired,
    RequestNotSupported,
    RequestUriNotSupported,
    InvalidRequestUri,
    RegistrationNotSupported,
    // OpenID Connect Core Unmet Authentication Requirements 1.0
    UnmetAuthenticationRequirements,
    // RFC 6750 §3.1
    InvalidToken,
    InsufficientScope,
    // RFC 8628 §3.5
    AuthorizationPending,
    SlowDown,
    ExpiredToken,
    // RFC 8707 §2
    InvalidTarget,
    // RFC 9449 §5 and §8
    InvalidDpopProof,
    UseDpopNonce,
}

impl Code {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::AccessDenied => "access_denied",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
            Self::InvalidRequestUri => "invalid_request_uri",
            Self::RegistrationNotSupported => "registration_not_supported",
            Self::UnmetAuthenticationRequirements => "unmet_authentication_requirements",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::UseDpopNonce => "use_dpop_nonce",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope => StatusCode::FORBIDDEN,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A refused request.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// For whoever develops the client: RFC 6749 §5.2 `error_description`.
    pub(crate) description: Cow<'static, str>,
    /// For the operator's log alone.
    pub(crate) reason: String,
    /// For a person, in their language; `None`: only developers can do something about it.
    pub(crate) notice: Option<Notice>,
    status: StatusCode,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// `description` goes to the client; `reason` to the log.
    pub(crate) fn new(
        code: Code,
        description: impl Into<Cow<'static, str>>,
        reason: impl Into<String>,
    ) -> Box<Self> {
        let (description, reason) = (fitting(description.into()), reason.into());
        Box::new(Self { code, description, reason, notice: None, status: code.status(), fields: Vec::new() })
    }

    /// What a page tells a person; a client that is told too gets it in English.
    pub(crate) fn person(code: Code, notice: Notice, reason: impl Into<String>) -> Box<Self> {
        let mut refusal = Self::new(code, (Language::English.texts().notice)(notice), reason);
        refusal.notice = Some(notice);
        refusal
    }

    /// The status of a page that says so.
    pub(crate) fn page_status(&self) -> StatusCode {
        let kept = self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS;
        if kept { self.status } else { StatusCode::BAD_REQUEST }
    }

    /// In how many seconds it is worth to try again, where that is known.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let (_, value) = self.fields.iter().find(|(name, _)| name == header::RETRY_AFTER)?;
        value.to_str().ok()?.parse().ok()
    }

    /// Adds its fields to those of an answer.
    pub(crate) fn extend(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.fields {
            headers.append(name.clone(), value.clone());
        }
    }

    /// Where the log has nothing to say beyond what the client is told.
    pub(crate) fn plain(code: Code, description: impl Into<Cow<'static, str>>) -> Box<Self> {
        Self::new(code, description, String::new())
    }

    pub(crate) fn with_field(mut self: Box<Self>, name: HeaderName, value: &str) -> Box<Self> {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.fields.push((name, value));
        }
        self
    }

    pub(crate) fn with_status(mut self: Box<Self>, status: StatusCode) -> Box<Self> {
        self.status = status;
        self
    }

    /// Whether it is part of what goes well: of a device that waits for its person, every few seconds.
    fn is_everyday(&self) -> bool {
        self.code == Code::AuthorizationPending
    }

    /// One line in the log, where every refusal ends.
    pub(crate) fn record(&self) {
        let (error, description) = (self.code.name(), &self.description);
        let reason = Some(self.reason.as_str()).filter(|reason| !reason.is_empty());
        if self.status.is_server_error() {
            tracing::error!(error, %description, reason, "identity: request failed");
        } else if self.is_everyday() {
            tracing::debug!(error, %description, reason, "identity: request refused");
        } else {
            tracing::info!(error, %description, reason, "identity: request refused");
        }
    }
}

impl From<crate::Error> for Box<Refusal> {
    fn from(error: crate::Error) -> Self {
        let code = match error {
            crate::Error::Store(_) => Code::TemporarilyUnavailable,
            _ => Code::ServerError,
        };
        let mut refusal = Refusal::new(code, "the request could not be completed", error.to_string());
        refusal.notice = Some(Notice::OutOfOrder);
        refusal
    }
}

impl IntoResponse for Box<Refusal> {
    /// RFC 6749 §5.2, never cached.
    fn into_response(self) -> Response {
        self.record();
        let mut body = Map::new();
        body.insert("error".to_owned(), Value::from(self.code.name()));
        if !self.description.is_empty() {
            body.insert("error_description".to_owned(), Value::from(self.description.as_ref()));
        }
        let mut response = (self.status, Json(Value::Object(body))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.extend(headers);
        response
    }
}

/// A text with only the characters of `error_description` (RFC 6749 §4.1.2.1, §5.2).
fn fitting(text: Cow<'static, str>) -> Cow<'static, str> {
    let fits = |character: char| matches!(character, ' '..='!' | '#'..='[' | ']'..='~');
    if text.chars().all(fits) {
        return text;
    }
    let put = |character: char| match character {
        '"' => '\'',
        other if fits(other) => other,
        _ => '?',
    };
    text.chars().map(put).collect::<String>().into()
}

/// What handlers give back.
pub(crate) type Answer<T = Response> = Result<T, Box<Refusal>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_in_the_characters_that_are_allowed() {
        for (text, expected) in [
            ("`code` is missing, or there are two [!#~]", "`code` is missing, or there are two [!#~]"),
            ("\"a\\b\" (§4.1)\r\n\u{7f}é", "'a?b' (?4.1)????"),
            ("", ""),
        ] {
            assert_eq!(Refusal::plain(Code::InvalidRequest, text).description, expected);
        }
    }

    #[test]
    fn a_device_that_waits_is_not_news() {
        for (code, everyday) in [
            (Code::AuthorizationPending, true),
            (Code::SlowDown, false),
            (Code::InvalidGrant, false),
            (Code::InvalidClient, false),
        ] {
            assert_eq!(Refusal::plain(code, "").is_everyday(), everyday, "{code:?}");
        }
    }
}

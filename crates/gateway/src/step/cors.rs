//! Cross-origin resource sharing (the Fetch standard, §3.3): preflights are answered
//! here and never reach an upstream.

use http::StatusCode;
use model::Switch;
use model::event::Step;
use proxy::head::Manner;
use proxy::{Additions, Known, RequestHead};

use crate::respond::{Answer, Refusal, Stop};

/// Response fields that only this step writes on routes with rules.
const OWNED: [&str; 3] =
    ["access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"];

/// A route's rules for other origins.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Origins that may call.
    pub origins: Origins,
    /// Methods, comma-separated, as the preflight answer carries them.
    pub methods: String,
    /// Request header names, comma-separated, lower case.
    pub headers: String,
    /// Response header names that pages may read, comma-separated, lower case.
    pub expose: String,
    /// Whether cookies and authorization may come along.
    pub credentials: bool,
    /// How long a browser may remember the preflight, seconds.
    pub max_age_seconds: u64,
    /// Whether other origins get what the upstream says: the identity provider lets every page read
    /// its metadata and keys.
    pub keeps_upstreams: bool,
}

/// Which origins.
#[derive(Clone, Debug)]
pub enum Origins {
    /// Every one, without credentials.
    Any,
    /// These, exactly as browsers write them: `https://app.example`.
    List(Vec<String>),
}

/// Whom of other origins the rules allow to call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// Every origin may.
    Anyone,
    /// The one of this place in the list.
    Listed(usize),
}

/// Whether a head is a preflight: `OPTIONS` with `Origin` and
/// `Access-Control-Request-Method`. Gives the method that it asks for.
pub fn preflight(head: &RequestHead) -> Option<&[u8]> {
    if head.method != http::Method::OPTIONS || head.fields.get(Known::Origin).is_none() {
        return None;
    }
    head.fields.get(Known::AccessControlRequestMethod)
}

impl Cors {
    /// Origins that may send requests with cookies.
    pub(crate) fn with_credentials(&self) -> &[String] {
        match &self.origins {
            Origins::List(list) if self.credentials => list,
            _ => &[],
        }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        Switch::CrossOrigin.is_off() || self.known(origin).is_some()
    }

    fn known(&self, origin: &[u8]) -> Option<Caller> {
        match &self.origins {
            Origins::Any => Some(Caller::Anyone),
            Origins::List(list) => {
                list.iter().position(|allowed| allowed.as_bytes() == origin).map(Caller::Listed)
            }
        }
    }

    /// Answers a preflight.
    ///
    /// # Errors
    /// The origin may not call this route: a refusal without any `Access-Control-…`.
    pub fn answer_preflight(&self, head: &RequestHead) -> Result<Answer, Stop> {
        let origin = head.fields.get(Known::Origin).unwrap_or_default();
        if !self.allows(origin) {
            return Err(Refusal::new(
                Step::Route,
                "cors_origin",
                StatusCode::FORBIDDEN,
                format!("origin {:?} is not among the route's cors.origins", String::from_utf8_lossy(origin)),
            )
            .into());
        }
        let mut fields = Additions::default();
        let mut push = |name: &str, value: &[u8]| fields.push(name, value).is_ok();
        push("access-control-allow-origin", origin);
        push("access-control-allow-methods", self.methods.as_bytes());
        if !self.headers.is_empty() {
            push("access-control-allow-headers", self.headers.as_bytes());
        }
        if self.credentials {
            push("access-control-allow-credentials", b"true");
        }
        let mut seconds = itoa::Buffer::new();
        push("access-control-max-age", seconds.format(self.max_age_seconds).as_bytes());
        push("vary", b"origin, access-control-request-method, access-control-request-headers");
        Ok(Answer { step: Step::Route, status: StatusCode::NO_CONTENT, fields, body: bytes::Bytes::new() })
    }

    /// Adds what a browser needs to see in the answer of an actual request.
    pub fn mark(&self, head: &RequestHead, response: &mut Additions) {
        let _ = response.push_as(Manner::Beside, "vary", b"origin");
        let allowed = head.fields.get(Known::Origin).filter(|origin| self.allows(origin));
        if allowed.is_some() || !self.keeps_upstreams {
            for name in OWNED {
                response.remove(name);
            }
        }
        if let Some(origin) = allowed {
            self.allow(origin, response);
        }
    }

    /// Who asks from another origin, where the rules allow it: for [`Cors::mark_refusal`], when the
    /// head is gone.
    pub(crate) fn caller(&self, head: &RequestHead) -> Option<Caller> {
        self.known(head.fields.get(Known::Origin)?)
    }

    /// Adds what a page needs to see that it was refused, and how.
    pub(crate) fn mark_refusal(&self, caller: Caller, response: &mut Additions) {
        let _ = response.push("vary", b"origin");
        match (caller, &self.origins) {
            (Caller::Anyone, Origins::Any) => self.allow(b"*", response),
            (Caller::Listed(number), Origins::List(list)) => {
                list.get(number).into_iter().for_each(|origin| self.allow(origin.as_bytes(), response));
            }
            _ => {}
        }
    }

    fn allow(&self, origin: &[u8], response: &mut Additions) {
        let mut push = |name: &str, value: &[u8]| response.push(name, value).is_ok();
        push("access-control-allow-origin", origin);
        if self.credentials {
            push("access-control-allow-credentials", b"true");
        }
        if !self.expose.is_empty() {
            push("access-control-expose-headers", self.expose.as_bytes());
        }
    }
}

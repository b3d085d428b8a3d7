//! Routes that end here: redirects and fixed responses.

use bytes::Bytes;
use http::StatusCode;
use model::event::Step;
use proxy::{Additions, Routed};

use crate::respond::{Answer, Refusal, Stop};
use crate::template::{Into, Template};

/// What a route answers in the place of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnAnswer {
    /// Sends the client elsewhere (RFC 9110 §15.4).
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
        /// Where to. The query goes along unless this has one.
        to: Template,
    },
    /// Says the same to everybody.
    Fixed {
        /// Status.
        status: StatusCode,
        /// The body's media type.
        content_type: String,
        /// The body.
        body: Bytes,
    },
}

impl OwnAnswer {
    /// The answer to one request. `response` is what every answer of the route carries.
    ///
    /// # Errors
    /// The place to go to cannot stand in a header (500).
    pub fn answer(&self, routed: &Routed, response: &Additions) -> Result<Stop, Stop> {
        let mut fields = response.clone();
        let (status, body) = match self {
            Self::Redirect { status, to } => {
                let mut target = Vec::with_capacity(128);
                to.fill(routed, Into::Uri, &mut target);
                if let Some(query) = &routed.head().query
                    && !target.contains(&b'?')
                {
                    target.push(b'?');
                    target.extend_from_slice(query);
                }
                fields.push("location", &target).map_err(|_| {
                    let why = "the place to go to cannot stand in a header";
                    Refusal::new(Step::Forward, "redirect", StatusCode::INTERNAL_SERVER_ERROR, why)
                })?;
                (*status, Bytes::new())
            }
            Self::Fixed { status, content_type, body } => {
                if !content_type.is_empty() {
                    let _ = fields.push("content-type", content_type.as_bytes());
                }
                (*status, body.clone())
            }
        };
        Ok(Stop::Answer(Box::new(Answer { step: Step::Forward, status, fields, body })))
    }
}

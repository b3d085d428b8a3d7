//! Key fetches over the hop's guarded way out.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use keys::{Fetch, FetchFailure, FetchFuture, FetchRequest, Fetched};
use proxy::fetch::{FetchRules, Outgoing, fetch, send};
use proxy::tls::{ClientTls, ClientTlsSettings, TlsError};

use super::realms::Realms;

/// For one document, redirects included.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

/// Most bytes of an answer to a form.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Fetches over the network; what a realm of this process publishes, without it.
pub struct GuardedFetch {
    tls: ClientTls,
    realms: Arc<Realms>,
}

impl GuardedFetch {
    /// Trusting the public authorities.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(realms: Arc<Realms>) -> Result<Self, TlsError> {
        Ok(Self { tls: ClientTls::build(&ClientTlsSettings::default())?, realms })
    }
}

impl Fetch for GuardedFetch {
    fn fetch(&self, request: FetchRequest) -> FetchFuture<'_> {
        let rules = FetchRules {
            allow_private_addresses: request.allow_private_addresses,
            body_bytes_max: request.bytes_max as u64,
            timeout: FETCH_TIME_MAX,
            ..FetchRules::new(self.tls.clone())
        };
        Box::pin(async move {
            if let Some(own) = self.realms.published(&request.url, request.bytes_max).await {
                return own.map(|body| Fetched { body, cache_control: None }).map_err(FetchFailure);
            }
            match fetch(&request.url, &rules).await {
                Ok(found) => Ok(Fetched { body: found.body.to_vec(), cache_control: found.cache_control }),
                Err(error) => Err(FetchFailure(error.to_string())),
            }
        })
    }
}

/// Posts a form, such as a logout token: 200 and 204 are good.
///
/// # Errors
/// The reason, for the log.
pub async fn post_form(url: String, form: String) -> Result<(), String> {
    let tls = ClientTls::build(&ClientTlsSettings::default()).map_err(|error| error.to_string())?;
    let rules =
        FetchRules { body_bytes_max: ANSWER_BYTES_MAX, timeout: FETCH_TIME_MAX, ..FetchRules::new(tls) };
    let mut fields = HeaderMap::new();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let request = Outgoing { method: Method::POST, url: &url, fields: &fields, body: form.as_bytes() };
    let reply = send(&request, &rules).await.map_err(|error| error.to_string())?;
    match reply.status {
        StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
        other => Err(format!("{url}: expected 200 or 204, found {other}")),
    }
}

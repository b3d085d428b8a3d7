//! Key fetches, and forms that are posted, over the hop's guarded client.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use keys::{
    Answered, Fetch, FetchFailure, FetchFuture, FetchRequest, Fetched, FormRequest, Post, PostFuture,
};
use proxy::fetch::{FetchError, FetchRules, Outgoing, Reply, fetch, send};
use proxy::tls::{ClientTls, ClientTlsSettings, TlsError};

use super::realms::Realms;

/// For one document, redirects included.
pub(super) const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

/// The outbound client: guarded, trusting the public authorities. Cheap to clone.
#[derive(Clone)]
pub struct OutboundClient {
    tls: ClientTls,
}

impl OutboundClient {
    /// Trusting the public authorities.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new() -> Result<Self, TlsError> {
        Ok(Self { tls: ClientTls::build(&ClientTlsSettings::default())? })
    }

    fn rules(&self, allow_private_addresses: bool, body_bytes_max: u64) -> FetchRules {
        FetchRules {
            allow_private_addresses,
            body_bytes_max,
            timeout: FETCH_TIME_MAX,
            ..FetchRules::new(self.tls.clone())
        }
    }
}

/// Posts a form, with these fields beside its own.
///
/// # Errors
/// See [`FetchError`]: no answer came. An answer of any status is none.
pub(super) async fn post_form(
    url: &str,
    form: &[u8],
    mut fields: HeaderMap,
    rules: &FetchRules,
) -> Result<Reply, FetchError> {
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    fields.insert(header::CONTENT_TYPE, form_type);
    fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    fields.insert(header::USER_AGENT, HeaderValue::from_static("bastide"));
    send(&Outgoing { method: Method::POST, url, fields: &fields, body: form }, rules).await
}

/// Fetches and posts over the network; to a realm of this process, without it.
pub struct GuardedFetch {
    outbound: OutboundClient,
    realms: Arc<Realms>,
}

impl GuardedFetch {
    /// By this client.
    pub fn new(outbound: OutboundClient, realms: Arc<Realms>) -> Self {
        Self { outbound, realms }
    }
}

impl Fetch for GuardedFetch {
    fn fetch(&self, request: FetchRequest) -> FetchFuture<'_> {
        let rules = self.outbound.rules(request.allow_private_addresses, request.bytes_max as u64);
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

impl Post for GuardedFetch {
    fn post(&self, request: FormRequest) -> PostFuture<'_> {
        Box::pin(async move {
            if let Some(own) = self.realms.posted(&request).await {
                return own.map_err(FetchFailure);
            }
            let rules = self.outbound.rules(request.allow_private_addresses, request.bytes_max as u64);
            let mut fields = HeaderMap::new();
            if let Some(value) = &request.authorization {
                let value = HeaderValue::from_str(value.expose());
                let mut value =
                    value.map_err(|_| FetchFailure("credentials that no field can hold".to_owned()))?;
                value.set_sensitive(true);
                fields.insert(header::AUTHORIZATION, value);
            }
            let form = request.form.expose().as_bytes();
            let reply = post_form(&request.url, form, fields, &rules).await;
            let reply = reply.map_err(|error| FetchFailure(error.to_string()))?;
            Ok(Answered { status: reply.status.as_u16(), body: reply.body.to_vec() })
        })
    }
}

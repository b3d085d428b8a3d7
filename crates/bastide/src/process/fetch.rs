//! Key fetches, and forms that are posted, over the hop's guarded client.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use keys::{
    Answered, Fetch, FetchFailure, FetchFuture, FetchRequest, Fetched, FormRequest, Post, PostFuture,
};
use proxy::fetch::{FetchRules, Outgoing, Reply, fetch, send};
use proxy::tls::{ClientTls, ClientTlsSettings, TlsError};

use super::realms::Realms;

/// For one document, redirects included.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

/// Most bytes of an answer to a logout token.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

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

    async fn post(
        &self,
        url: &str,
        form: &[u8],
        fields: HeaderMap,
        rules: &FetchRules,
    ) -> Result<Reply, String> {
        let mut fields = fields;
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        fields.insert(header::CONTENT_TYPE, form_type);
        fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        fields.insert(header::USER_AGENT, HeaderValue::from_static("bastide"));
        let request = Outgoing { method: Method::POST, url, fields: &fields, body: form };
        send(&request, rules).await.map_err(|error| error.to_string())
    }

    /// Posts a logout token: 200 and 204 are good.
    ///
    /// # Errors
    /// The reason, for the log.
    pub async fn tell(&self, url: &str, form: &str) -> Result<(), String> {
        let rules = self.rules(false, ANSWER_BYTES_MAX);
        match self.post(url, form.as_bytes(), HeaderMap::new(), &rules).await?.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            other => Err(format!("{url}: expected 200 or 204, found {other}")),
        }
    }
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
            let reply = self.outbound.post(&request.url, form, fields, &rules).await.map_err(FetchFailure)?;
            Ok(Answered { status: reply.status.as_u16(), body: reply.body.to_vec() })
        })
    }
}

//! Key fetches over the hop's guarded way out.

use std::time::Duration;

use keys::{Fetch, FetchFailure, FetchFuture, FetchRequest, Fetched};
use proxy::fetch::{FetchRules, fetch};
use proxy::tls::{ClientTls, ClientTlsSettings, TlsError};

/// For one document, redirects included.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

/// Fetches over the network.
#[derive(Debug)]
pub struct GuardedFetch {
    tls: ClientTls,
}

impl GuardedFetch {
    /// Trusting the public authorities.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new() -> Result<Self, TlsError> {
        Ok(Self { tls: ClientTls::build(&ClientTlsSettings::default())? })
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
            match fetch(&request.url, &rules).await {
                Ok(found) => Ok(Fetched { body: found.body.to_vec(), cache_control: found.cache_control }),
                Err(error) => Err(FetchFailure(error.to_string())),
            }
        })
    }
}

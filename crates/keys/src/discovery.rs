//! What an authorization server says of itself (OpenID Connect Discovery §4, RFC 8414).

use serde_json::{Map, Value};

use crate::encoding::{parse_object, quote};
use crate::error::Error;
use crate::fetch::{Fetch, FetchRequest};
use crate::issuer::check_fetched;

/// Largest discovery document that is read, bytes.
pub(crate) const DISCOVERY_BYTES_MAX: usize = 64 * 1024;

/// An issuer's metadata, of that very issuer.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    members: Map<String, Value>,
    allow_private_addresses: bool,
}

impl Metadata {
    /// Fetches it.
    ///
    /// # Errors
    /// [`Error::Fetch`]: it cannot be had, or is another issuer's (§4.3), which could speak
    /// for this one otherwise.
    pub async fn discover(
        fetch: &dyn Fetch,
        issuer: &str,
        allow_private_addresses: bool,
    ) -> Result<Self, Error> {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let fault = |why| Error::Fetch { url: url.clone(), why };
        let bytes_max = DISCOVERY_BYTES_MAX;
        let request = FetchRequest { url: url.clone(), allow_private_addresses, bytes_max };
        let fetched = fetch.fetch(request).await.map_err(|failure| fault(failure.0))?;
        if fetched.body.len() > bytes_max {
            return Err(fault(format!("{} bytes, at most {bytes_max} are read", fetched.body.len())));
        }
        let members =
            parse_object(&fetched.body).map_err(|error| fault(format!("expected strict JSON: {error}")))?;
        let metadata = Self { members, allow_private_addresses };
        let found = metadata.text("issuer").unwrap_or_default();
        if found != issuer {
            return Err(fault(format!("`issuer` is \"{}\", expected \"{issuer}\"", quote(found))));
        }
        Ok(metadata)
    }

    /// A text of it.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    /// A flag of it; absent is false.
    pub fn flag(&self, name: &str) -> bool {
        self.members.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// An address of it that secrets, tokens or keys may travel to.
    ///
    /// # Errors
    /// It is missing, or would be asked without TLS.
    pub fn endpoint(&self, name: &str) -> Result<&str, String> {
        let url = self.text(name).ok_or_else(|| format!("the issuer publishes no `{name}`"))?;
        check_fetched(url, self.allow_private_addresses)?;
        Ok(url)
    }
}

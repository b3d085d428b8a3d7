//! The way to an ACME server: `proxy::fetch`, with its rules about where one may go and
//! how much may come back.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use model::{Clock, Timestamp};
use proxy::fetch::{FetchRules, Outgoing, Reply, send};
use proxy::tls::{ClientTls, ClientTlsSettings, certificates_from_pem};
use time::PrimitiveDateTime;
use time::macros::format_description;

use super::issued::PEM_BYTES_MAX;
use crate::config::AcmeAccount;

/// For one request.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Largest request: a few kilobytes are sent.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// What we are called (RFC 8555 §6.1).
const USER_AGENT: &str = concat!("bastide/", env!("CARGO_PKG_VERSION"), " instant-acme");

/// How long a server asked to be left alone when it last refused.
pub(super) type Asked = Arc<Mutex<Option<Duration>>>;

/// Speaks to one server.
#[derive(Clone)]
pub(super) struct Guarded {
    rules: FetchRules,
    clock: Arc<dyn Clock>,
    asked: Asked,
}

impl Guarded {
    /// As an account's settings say.
    ///
    /// # Errors
    /// The trusted authorities cannot be read.
    pub(super) fn new(account: &AcmeAccount, clock: Arc<dyn Clock>, asked: Asked) -> anyhow::Result<Self> {
        let roots = match &account.trust {
            Some(path) => trusted(path)?,
            None => Vec::new(),
        };
        let tls = ClientTls::build(&ClientTlsSettings { roots, ..ClientTlsSettings::default() })?;
        let rules = FetchRules {
            allow_private_addresses: account.allow_private_addresses,
            body_bytes_max: PEM_BYTES_MAX as u64,
            timeout: REQUEST_TIME_MAX,
            redirects_max: 0,
            ..FetchRules::new(tls)
        };
        Ok(Self { rules, clock, asked })
    }
}

fn trusted(path: &Path) -> anyhow::Result<Vec<rustls::pki_types::CertificateDer<'static>>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(certificates_from_pem(&path.display().to_string(), &text)?)
}

type Response = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

impl HttpClient for Guarded {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Response {
        let this = self.clone();
        Box::pin(async move { this.exchange(request).await })
    }
}

impl Guarded {
    async fn exchange(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (mut parts, body) = request.into_parts();
        // RFC 8555 §6.1: https, whatever a directory says.
        if parts.uri.scheme() != Some(&http::uri::Scheme::HTTPS) {
            return Err(said(format!("the server sends to {}, which is not https", parts.uri)));
        }
        parts.headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let body = axum::body::to_bytes(Body::new(body), REQUEST_BYTES_MAX)
            .await
            .map_err(|error| Error::Other(Box::new(error)))?;
        let url = parts.uri.to_string();
        let outgoing = Outgoing { method: parts.method, url: &url, fields: &parts.headers, body: &body };
        let reply = send(&outgoing, &self.rules).await.map_err(|error| Error::Other(Box::new(error)))?;
        self.judge(&url, &reply)?;
        let mut response = http::Response::new(());
        *response.status_mut() = reply.status;
        for (name, value) in reply.fields.all() {
            if let (Ok(name), Ok(value)) =
                (http::HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                response.headers_mut().append(name, value);
            }
        }
        let (parts, ()) = response.into_parts();
        Ok(BytesResponse { parts, body: Box::new(reply.body) })
    }

    /// What is no answer of an ACME server is said in words that help; how long one asks
    /// to be left alone is kept.
    fn judge(&self, url: &str, reply: &Reply) -> Result<(), Error> {
        let status = reply.status;
        if status.is_redirection() {
            return Err(said(format!("{url} redirects ({status}), which is not followed")));
        }
        if status.is_success() {
            return Ok(());
        }
        let field = |name: &'static [u8]| {
            reply.fields.named(name).next().and_then(|value| str::from_utf8(value).ok())
        };
        let wait = field(b"retry-after").and_then(|value| retry_after(value, self.clock.now()));
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = wait;
        let problem = field(b"content-type").is_some_and(|kind| kind.contains("json"));
        if problem {
            return Ok(());
        }
        Err(said(format!("{url} answered with status {status} without an explanation")))
    }
}

fn said(text: String) -> Error {
    Error::Other(text.into())
}

/// `Retry-After`: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let date = PrimitiveDateTime::parse(value.trim(), form).ok()?.assume_utc().unix_timestamp();
    Some(Timestamp::from_unix_seconds(u64::try_from(date).ok()?).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = Timestamp::from_unix_seconds(784_111_777);
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sat, 06 Nov 1993 08:49:37 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
        ] {
            assert_eq!(retry_after(value, now).map(|wait| wait.as_secs()), seconds, "{value}");
        }
    }
}

//! What everything that is sent out has in common: where it may go, what it shows there,
//! when it is tried again.

use std::time::Duration;

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use keys::{SecureRandom as _, SystemRandom};
use proxy::fetch::{FetchError, FetchRules, Outgoing, Reply, send};
use proxy::tls::{ClientTls, ClientTlsSettings, certificates_from_pem};
use tokio::sync::watch;

use crate::config::Outward;

/// The first wait after a failure is at most this long, the next twice as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// No wait is longer.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The rules of the guarded client.
///
/// # Errors
/// The authorities cannot be read.
pub(super) fn rules(outward: &Outward, answer_bytes_max: u64) -> anyhow::Result<FetchRules> {
    let roots = match &outward.ca {
        Some(path) => {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            certificates_from_pem(&path.display().to_string(), &bytes)?
        }
        None => Vec::new(),
    };
    let tls = ClientTls::build(&ClientTlsSettings { roots, ..ClientTlsSettings::default() })?;
    Ok(FetchRules {
        allow_private_addresses: outward.allow_private_addresses,
        body_bytes_max: answer_bytes_max,
        timeout: outward.timeout,
        redirects_max: 0,
        ..FetchRules::new(tls)
    })
}

/// Posts a body with the configured header fields.
///
/// # Errors
/// See [`FetchError`]: no answer came. An answer of any status is none.
pub(super) async fn post(
    url: &str,
    (content_type, body): (&'static str, &[u8]),
    outward: &Outward,
    authorization: Option<&str>,
    rules: &FetchRules,
) -> Result<Reply, FetchError> {
    let mut fields = HeaderMap::new();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(header::USER_AGENT, HeaderValue::from_static("bastide"));
    let configured = outward.headers.iter().map(|(name, value)| (name.as_str(), value.expose()));
    let ours = authorization.map(|value| ("authorization", value));
    for (name, value) in configured.chain(ours) {
        // The configuration was checked for both.
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            value.set_sensitive(true);
            fields.insert(name, value);
        }
    }
    send(&Outgoing { method: Method::POST, url, fields: &fields, body }, rules).await
}

/// When an answer says to come back, if it says so in seconds (RFC 9110 §10.2.3).
pub(super) fn retry_after(reply: &Reply) -> Option<Duration> {
    let value = reply.fields.named(b"retry-after").next()?;
    std::str::from_utf8(value).ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// A random number for [`backoff`]; without one the wait is the longest of its round.
pub(super) fn draw(random: &SystemRandom) -> u64 {
    let mut bytes = [0; 8];
    if random.fill(&mut bytes).is_err() { u64::MAX } else { u64::from_ne_bytes(bytes) }
}

/// How long to wait before the next try: between half and all of a time that doubles
/// with each, so that many who failed together do not come back together.
pub(super) fn backoff(tries: u32, random: u64) -> Duration {
    let most = BACKOFF_FIRST.saturating_mul(1 << tries.min(16)).min(BACKOFF_MAX);
    let half = most / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_nanos(random % nanos)
}

/// Waits, or until whoever waits is told to end: says whether it is.
pub(super) async fn pause(closing: &mut watch::Receiver<bool>, time: Duration) -> bool {
    tokio::time::timeout(time, closing.wait_for(|closing| *closing)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_their_bound_and_differ() {
        for (tries, most_ms) in [(0, 250), (1, 500), (3, 2000), (7, 30_000), (u32::MAX, 30_000)] {
            let most = Duration::from_millis(most_ms);
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                let wait = backoff(tries, random);
                assert!(most / 2 <= wait && wait <= most, "{tries} {random}: {wait:?}");
            }
            assert_ne!(backoff(tries, 1), backoff(tries, 2));
        }
    }
}

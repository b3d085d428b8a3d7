//! Whether a good token is in the right hands: tokens that are bound to a key or a
//! certificate count only with the proof (RFC 9449 §7, RFC 8705 §3), wherever they are
//! taken and whatever else a route looks for.

use std::sync::Arc;

use keys::dpop::{Expected, Proof};
use keys::{Bound, Holding, Possession, ProvenKey, Refusal as Unproven};
use model::Principal;
use proxy::{ConnectionInfo, RequestHead};

use crate::journey::Journey;
use crate::serve::Gateway;
use crate::snapshot::Snapshot;

/// A good token.
pub(crate) enum Good {
    /// Whoever brings it is meant.
    Bearer(Arc<Principal>),
    /// Only who can show more.
    Bound(Bound),
}

/// The scheme that a token came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// RFC 6750 §2.1.
    Bearer,
    /// RFC 9449 §7.1.
    Dpop,
}

/// Whom a good token speaks of, in this request.
///
/// # Errors
/// It is bound and the request does not show what it is bound to; or it came as a bound
/// one and is none.
pub(crate) fn possess(
    gateway: &Gateway,
    journey: &Journey<'_>,
    head: &RequestHead,
    (scheme, token): (Scheme, &[u8]),
    good: Good,
) -> Result<Arc<Principal>, Unproven> {
    let bound = match (good, scheme) {
        (Good::Bearer(principal), Scheme::Bearer) => return Ok(principal),
        // RFC 9449 §7.1: a token that is bound to no key proves nothing of the proof.
        (Good::Bearer(_), Scheme::Dpop) => return Err(Unproven::NotBound),
        (Good::Bound(bound), _) => bound,
    };
    let key = match (bound.wants_proof(), scheme) {
        (true, Scheme::Dpop) => Some(prove_key(gateway, journey, head, token)?),
        // RFC 9449 §7.2: never as a bearer token.
        (true, Scheme::Bearer) => return Err(Unproven::NotProven { by: Holding::Key }),
        (false, Scheme::Dpop) => return Err(Unproven::NotBound),
        (false, Scheme::Bearer) => None,
    };
    bound.prove(Possession { key: key.as_ref(), certificate: leaf(journey.connection()) })
}

/// The leaf of the connection's verified chain.
pub(crate) fn leaf(connection: &ConnectionInfo) -> Option<&[u8]> {
    connection.tls.as_ref()?.chain.first().map(AsRef::as_ref)
}

fn prove_key(
    gateway: &Gateway,
    journey: &Journey<'_>,
    head: &RequestHead,
    token: &[u8],
) -> Result<ProvenKey, Unproven> {
    let broken = |why: &str| Unproven::Proof { why: why.to_owned() };
    let mut fields = head.fields.named(b"dpop");
    let field = fields.next().ok_or(Unproven::NotProven { by: Holding::Key })?;
    // RFC 9449 §4.3 point 1: two readers could each believe another one.
    if fields.next().is_some() {
        return Err(broken("more than one DPoP field"));
    }
    let access_token = std::str::from_utf8(token).map_err(|_| broken("the token is not ASCII"))?;
    let url = address(gateway, journey, head);
    let expected = Expected {
        method: head.method.as_str(),
        url: &url,
        access_token: Some(access_token),
        now: journey.time,
    };
    let proof = Proof::verify(field, expected).map_err(|why| Unproven::Proof { why })?;
    gateway.snapshot().process.proofs.take(proof, journey.time)
}

/// The request's address as its client wrote it, without the query.
fn address(gateway: &Gateway, journey: &Journey<'_>, head: &RequestHead) -> String {
    let mut url = origin(gateway.snapshot(), journey.connection(), head);
    let written = head.raw_target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let path = if written.starts_with(b"/") { written } else { &head.path };
    url.push_str(&String::from_utf8_lossy(path));
    url
}

/// Scheme, host and port under which the client reached us: the connection's and the
/// request's own, or what a trusted proxy in front says of them.
pub(crate) fn origin(snapshot: &Snapshot, connection: &ConnectionInfo, head: &RequestHead) -> String {
    let trusted = snapshot.trusted_proxies.contains(connection);
    let said = |name: &'static [u8]| head.fields.named(name).last().filter(|_| trusted);
    let secure = connection.tls.is_some() || said(b"x-forwarded-proto") == Some(b"https");
    let mut origin = String::with_capacity(64);
    origin.push_str(if secure { "https://" } else { "http://" });
    match said(b"x-forwarded-host") {
        Some(host) => origin.push_str(&String::from_utf8_lossy(host)),
        None => {
            origin.push_str(&String::from_utf8_lossy(&head.host));
            if let Some(port) = head.port {
                origin.push(':');
                origin.push_str(itoa::Buffer::new().format(port));
            }
        }
    }
    origin
}

/// Reads the scheme of an `Authorization` field that may carry a token.
pub(crate) fn scheme(written: &[u8]) -> Option<Scheme> {
    if written.eq_ignore_ascii_case(b"bearer") {
        Some(Scheme::Bearer)
    } else if written.eq_ignore_ascii_case(b"dpop") {
        Some(Scheme::Dpop)
    } else {
        None
    }
}

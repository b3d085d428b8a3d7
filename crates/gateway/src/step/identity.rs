//! What the upstream is told about who asks: headers that admission took from every
//! client, and a short-lived signed token.

use std::sync::Arc;

use http::StatusCode;
use keys::{CoreIdentities, SecureRandom, Signer};
use model::event::Step;
use model::{Principal, PrincipalKind, Switch, Timestamp};
use proxy::head::Manner;
use proxy::{Additions, Known, RequestHead, Routed, Version};

use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::session::cookie;
use crate::snapshot::Route;
use crate::step::{authenticate, user};

/// The principal's id.
pub const HEADER_PRINCIPAL: &str = "x-bastide-principal";
/// The principal's kind: `User`, `Service`, `Client`, `ApiKey`, `Anonymous`.
pub const HEADER_KIND: &str = "x-bastide-principal-type";
/// The principal's roles, comma-separated.
pub const HEADER_ROLES: &str = "x-bastide-roles";
/// The signed identity token.
pub const HEADER_TOKEN: &str = "x-bastide-identity";
/// The client's address, for services of this process.
pub const HEADER_CLIENT_ADDRESS: &str = "x-bastide-client-address";
/// The TLS version of the client's connection, `1.2` or `1.3`, for services of this process.
pub const HEADER_CLIENT_TLS: &str = "x-bastide-client-tls";
/// The leaf of the client's verified certificate chain (base64 of its DER, as in RFC 9440
/// §2.1 without the colons), for services of this process.
pub const HEADER_CLIENT_CERTIFICATE: &str = "x-bastide-client-certificate";
/// What policies read of that certificate (base64 of its JSON), for services of this process.
pub const HEADER_CLIENT_CERTIFICATE_FACTS: &str = "x-bastide-client-certificate-facts";
/// The whole principal (base64 of its JSON), for services of this process; absent for
/// nobody.
pub const HEADER_CALLER: &str = "x-bastide-caller";
/// The request's id, for upstream logs.
pub const HEADER_REQUEST_ID: &str = "x-request-id";

/// Everything of this name is ours alone.
pub const PREFIX: &str = "x-bastide-";

/// What every service is told: what a client sends under these names, or under any of
/// [`PREFIX`], is dropped at admission.
pub const HEADERS: [&str; 5] = [HEADER_PRINCIPAL, HEADER_KIND, HEADER_ROLES, HEADER_TOKEN, HEADER_REQUEST_ID];

/// What upstreams are told.
#[derive(Clone)]
pub struct IdentitySettings {
    /// Whether the headers are sent.
    pub headers: bool,
    /// Whether the token is sent.
    pub token: bool,
    /// The token's issuer and lifetime.
    pub token_settings: keys::IdentitySettings,
    /// Signs it.
    pub signer: Arc<dyn Signer>,
    /// Makes its `jti`.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
}

impl IdentitySettings {
    /// What one core signs with, and nothing signed yet.
    pub(crate) fn on_core(&self) -> CoreIdentities {
        CoreIdentities::new(Arc::clone(&self.signer), self.token_settings.clone(), Arc::clone(&self.random))
    }
}

/// Adds what the upstream is told. A value that no header can hold is left out of the
/// headers; the token carries it.
///
/// # Errors
/// The token cannot be signed.
pub fn tell(
    settings: &IdentitySettings,
    tokens: &mut CoreIdentities,
    principal: &Arc<Principal>,
    route: &Route,
    now: Timestamp,
    request: &mut Additions,
) -> Result<(), keys::Error> {
    if settings.headers {
        let _ = request.push(HEADER_KIND, principal.kind.name().as_bytes());
        if principal.kind != PrincipalKind::Anonymous {
            let _ = request.push(HEADER_PRINCIPAL, principal.id.as_bytes());
            let _ = match principal.roles.as_slice() {
                [] => Ok(()),
                [role] => request.push(HEADER_ROLES, role.as_bytes()),
                roles => request.push(HEADER_ROLES, roles.join(",").as_bytes()),
            };
        }
    }
    let wanted = settings.token && !Switch::IdentityToken.is_off();
    if wanted && principal.kind != PrincipalKind::Anonymous {
        let roles = || principal.roles.clone();
        let token = tokens.token(principal, route.service_number, &route.audience, now, roles)?;
        let _ = request.push(HEADER_TOKEN, token.as_bytes());
    }
    Ok(())
}

/// Everything that is added to the request: who asks, where it came from, its id and
/// trace, and the route's own changes.
///
/// # Errors
/// The identity token cannot be signed (500).
pub fn additions(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    routed: &Routed,
    principal: &Arc<Principal>,
) -> Result<Additions, Stop> {
    let head = routed.head();
    let mut request = gateway.core().spare_fields();
    if head.version == Version::Opaque {
        return Ok(request);
    }
    route.request_headers.apply(routed, &mut request);
    if journey.inspection.as_ref().is_some_and(|inspection| inspection.wants_plain_answers()) {
        request.remove("accept-encoding");
    }
    // An API key is for this gateway; the upstream has no use for it, whoever the request is from here.
    remove(head, "x-api-key", &mut request);
    if principal.kind == PrincipalKind::ApiKey || authenticate::brings_api_key(head) {
        request.remove("authorization");
    }
    if gateway.snapshot().party.is_some() && !route.in_process {
        cookie::hide(head, &mut request);
    }
    let _ = request.push(HEADER_REQUEST_ID, &journey.id_text);
    forwarded(gateway, journey, route, head, &mut request);
    trace(gateway, journey, head, &mut request);
    if route.in_process {
        connection(gateway, journey, principal, &mut request);
    }
    let settings = &gateway.snapshot().identity;
    let mut tokens = gateway.caches().identity_tokens.borrow_mut();
    tell(settings, &mut tokens, principal, route, journey.time, &mut request)
        .and_then(|()| user::tell(gateway, journey, route, head, principal, &mut request))
        .map_err(|fault| {
            let why = format!("the identity token cannot be signed: {fault}");
            Refusal::new(Step::Forward, "identity_token", StatusCode::INTERNAL_SERVER_ERROR, why)
        })?;
    Ok(request)
}

/// What a service of this process is told of the client and its connection. Admission dropped
/// whatever a client sent under these names ([`PREFIX`]).
///
/// INVARIANT: a certificate that claims to be of the mesh, and is not, goes no further: clients of
/// realms are known by names of theirs too.
fn connection(gateway: &Gateway, journey: &Journey<'_>, principal: &Principal, request: &mut Additions) {
    let _ = request.push(HEADER_CLIENT_ADDRESS, journey.address_text().as_bytes());
    if principal.kind != PrincipalKind::Anonymous
        && let Ok(whole) = serde_json::to_vec(principal)
    {
        let _ = request.push(HEADER_CALLER, keys::encoding::encode_base64(&whole).as_bytes());
    }
    let Some(tls) = &journey.connection().tls else { return };
    let _ = request.push(HEADER_CLIENT_TLS, tls.version.name().as_bytes());
    let read = gateway.read_certificate(journey.connection(), gateway.snapshot(), journey.time);
    let Some((leaf, read)) = tls.chain.first().zip(read) else { return };
    let facts = match &*read {
        Err(keys::Refusal::ReservedTrustDomain { .. }) => return,
        Err(_) => None,
        Ok(known) => serde_json::to_vec(&*known.facts).ok(),
    };
    let _ = request.push(HEADER_CLIENT_CERTIFICATE, keys::encoding::encode_base64(leaf).as_bytes());
    if let Some(facts) = facts {
        let facts = keys::encoding::encode_base64(&facts);
        let _ = request.push(HEADER_CLIENT_CERTIFICATE_FACTS, facts.as_bytes());
    }
}

/// `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` (RFC 7239): what this hop saw,
/// behind what a trusted proxy said. A service of this process has the client's address from
/// [`HEADER_CLIENT_ADDRESS`], and is not told of the hops before.
fn forwarded(
    gateway: &Gateway,
    journey: &Journey<'_>,
    route: &Route,
    head: &RequestHead,
    request: &mut Additions,
) {
    let connection = journey.connection();
    let trusted = gateway.snapshot().trusted_proxies.contains(connection);
    let scheme: &[u8] = if journey.is_secure() { b"https" } else { b"http" };
    let (mut host, mut value) = (gateway.core().spare_text(), gateway.core().spare_text());
    host.extend_from_slice(&head.host);
    if let Some(port) = head.port {
        host.push(b':');
        host.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    let before = |known, value: &mut Vec<u8>| {
        value.clear();
        for said in head.fields.values(known).filter(|_| trusted) {
            value.extend_from_slice(said);
            value.extend_from_slice(b", ");
        }
    };
    if route.in_process {
        remove(head, "x-forwarded-for", request);
        remove(head, "forwarded", request);
    } else {
        before(Known::XForwardedFor, &mut value);
        value.extend_from_slice(connection.peer_text.as_bytes());
        let _ = request.push("x-forwarded-for", &value);
        before(Known::Forwarded, &mut value);
        let parts: [&[u8]; 7] =
            [b"for=", &connection.peer_node, b";proto=", scheme, b";host=\"", &host, b"\""];
        for part in parts {
            value.extend_from_slice(part);
        }
        let _ = request.push("forwarded", &value);
    }
    let manner = if trusted { Manner::Default } else { Manner::Replace };
    let _ = request.push_as(manner, "x-forwarded-proto", scheme);
    // Of who names none it is our own address, to which a service of this process could send them.
    if !route.in_process || head.names_host() {
        let _ = request.push_as(manner, "x-forwarded-host", &host);
    }
    for text in [host, value] {
        gateway.core().keep_text(text);
    }
}

/// Continues a W3C trace (Trace Context §3.2), or begins one whose trace id is the
/// request's.
fn trace(gateway: &Gateway, journey: &mut Journey<'_>, head: &RequestHead, request: &mut Additions) {
    if let Some(traced) = &journey.traced {
        return traced.tell(request);
    }
    // Nothing is taken down here, so the upstream's parent stays the caller's span.
    if let Some(parent) = crate::trace::parent(head) {
        journey.trace_id = Some(parent.trace_id.to_ascii());
        return;
    }
    let id = journey.id_text;
    journey.trace_id = Some(id);
    let mut value = gateway.core().spare_text();
    for part in [b"00-", &id[..], b"-", id.get(16..).unwrap_or_default(), b"-01"] {
        value.extend_from_slice(part);
    }
    let _ = request.push("traceparent", &value);
    gateway.core().keep_text(value);
    remove(head, "tracestate", request);
}

/// Takes a field away, where the client sent one.
fn remove(head: &RequestHead, name: &str, request: &mut Additions) {
    if head.fields.kept_named(name.as_bytes()).next().is_some() {
        request.remove(name);
    }
}

//! Admission: what two readers could read differently is refused here, or changed so
//! that all read it alike, before routing and before an upstream sees a byte. What
//! happens to which input, and why, stands in [`table::CLASSES`].
//!
//! HTTP/1 ([`crate::http1::request`]) and HTTP/2 ([`crate::http2::head`]) both make a
//! [`RawRequest`]; [`admit`] is the one way from there to [`Admitted`].

mod connection;
mod fields;
mod host;
mod opaque;
pub mod path;
mod refusal;
pub mod table;

use std::net::SocketAddr;

use bytes::Bytes;
use http::Method;

pub use fields::IdentityHeaders;
pub use host::{InvalidHost, host_name};
pub(crate) use opaque::opaque;
pub use refusal::{METHOD_BYTES_MAX, Refusal, Seen, TARGET_BYTES_MAX, TEXT_BYTES_MAX};
pub use table::{CLASSES, Class, Effect};

pub(crate) use connection::{Options, is_protected, other_names as connection_names};
pub(crate) use fields::{content_length, is_known_alias};
pub(crate) use refusal::part;

use crate::head::{Fields, Framing, Known, RequestHead, Span, Version};
use crate::http2::is_grpc;
use crate::limits::Limits;
use crate::way::Admitted;

/// A request head as a parser made it: lines and fields are well formed, nothing in
/// it has been judged.
#[derive(Debug)]
pub struct RawRequest {
    /// Version.
    pub version: Version,
    /// The fields; their buffer holds the whole head.
    pub fields: Fields,
    pub(crate) method: Span,
    pub(crate) target: Span,
    /// `:authority` (HTTP/2 only).
    pub(crate) authority: Option<Span>,
    /// Whether the head ends the message (HTTP/2 only).
    pub(crate) ended: bool,
    /// See [`RequestHead::written`].
    pub(crate) written: Bytes,
    /// The address that an HTTP/1.0 client connected to: the host of a request that names none.
    /// `None`: such a request is refused.
    pub local: Option<SocketAddr>,
}

impl RawRequest {
    fn buffer(&self) -> &Bytes {
        &self.fields.buffer
    }

    /// Refuses this head, keeping of it what names the attack.
    pub(crate) fn refuse(&self, class: Class) -> Refusal {
        let buffer = self.buffer();
        let authority = self.authority.map(|span| span.of(buffer));
        let seen = Seen {
            method: part(buffer, Some(self.method.of(buffer)), METHOD_BYTES_MAX),
            target: part(buffer, Some(self.target.of(buffer)), TARGET_BYTES_MAX),
            host: part(buffer, authority.or_else(|| self.fields.get(Known::Host)), TEXT_BYTES_MAX),
            user_agent: part(buffer, self.fields.get(Known::UserAgent), TEXT_BYTES_MAX),
            field: part(buffer, fields::named(&self.fields, class), TEXT_BYTES_MAX),
            raw: if self.version == Version::Http2 { Bytes::new() } else { buffer.clone() },
            is_grpc: self.version == Version::Http2 && is_grpc(self.fields.get(Known::ContentType)),
        };
        Refusal { class, seen: Box::new(seen) }
    }
}

/// What the configuration says about admission.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Headers by which upstreams are told who asks. A client's are dropped.
    pub identity_headers: IdentityHeaders,
    /// Whether a trusted proxy may set them as well. Off unless the proxy in front
    /// authenticates: one that merely passes headers on would pass forged ones.
    pub trusted_proxies_set_identity: bool,
    /// Whether some heads on which readers disagree are taken as common servers take
    /// them: see `danger_lenient_heads` in docs/configuration.md. Never for service.
    pub lenient: bool,
    /// Whether heads are also kept as they were written, for the firewall and its log:
    /// over HTTP/1 names in their own case, over HTTP/2 the refused ones.
    pub keep_written: bool,
}

/// Judges a head. `trusted` says that the peer is a configured trusted proxy, whose
/// `Forwarded` and `X-Forwarded-*` are kept.
///
/// # Errors
/// The head falls into a class of [`table::CLASSES`] that is refused.
pub fn admit(
    raw: RawRequest,
    admission: &Admission,
    limits: &Limits,
    trusted: bool,
) -> Result<Admitted, Refusal> {
    match judge(&raw, limits, admission.lenient) {
        Ok(parts) => finish(raw, parts, admission, trusted),
        Err(class) => Err(raw.refuse(class)),
    }
}

/// What was read from a head before its fields are gone through.
struct Parts {
    method: Method,
    target: path::Target,
    host: host::Host,
}

fn judge(raw: &RawRequest, limits: &Limits, lenient: bool) -> Result<Parts, Class> {
    let buffer = raw.buffer();
    if raw.fields.len() > limits.header_count_max {
        return Err(Class::TooManyHeaders);
    }
    if raw.target.length as usize > limits.uri_bytes_max {
        return Err(Class::TargetTooLong);
    }
    let target = raw.target.of(buffer);
    let connects = raw.method.of(buffer) == b"CONNECT" && raw.version != Version::Http2;
    if connects && !path::is_authority(target) {
        return Err(Class::BadTargetForm);
    }
    let (method, (authority, origin)) = if connects && lenient {
        (Method::CONNECT, (None, &b"/"[..]))
    } else {
        (method(raw.method.of(buffer))?, path::split_form(target, raw.version)?)
    };
    let authority = match raw.authority {
        Some(span) => Some(host::Written { scheme_port: None, text: span.of(buffer) }),
        None => authority,
    };
    let local = raw.local.filter(|_| raw.version == Version::Http10);
    let host = host::agree(buffer, authority, &raw.fields, local)?;
    let target = path::normalise(buffer, origin, limits.path_segments_max, lenient)?;
    Ok(Parts { method, target, host })
}

fn finish(
    mut raw: RawRequest,
    parts: Parts,
    admission: &Admission,
    trusted: bool,
) -> Result<Admitted, Refusal> {
    let read = match fields::read(&mut raw, admission, trusted) {
        Ok(read) => read,
        Err(class) => return Err(raw.refuse(class)),
    };
    Ok(Admitted {
        head: Box::new(RequestHead {
            method: parts.method,
            raw_target: raw.target.share(&raw.fields.buffer),
            path: parts.target.path,
            query: parts.target.query,
            host: parts.host.name,
            port: parts.host.port,
            version: raw.version,
            encoded_slash: parts.target.encoded_slash,
            fields: raw.fields,
            written: raw.written,
            framing: read.framing,
            accepts_trailers: read.accepts_trailers,
            expects_continue: read.expects_continue && read.framing != Framing::None,
            upgrade: read.upgrade,
            keep_alive: read.keep_alive,
        }),
    })
}

/// The methods whose names are known in upper case (RFC 9110 §9, RFC 5789).
const KNOWN_METHODS: [&[u8]; 10] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"TRACK"];

fn method(name: &[u8]) -> Result<Method, Class> {
    match name {
        b"GET" => return Ok(Method::GET),
        b"POST" => return Ok(Method::POST),
        b"CONNECT" | b"TRACE" | b"TRACK" | b"PRI" => return Err(Class::ForbiddenMethod),
        _ => {}
    }
    if name.len() > METHOD_BYTES_MAX {
        return Err(Class::MethodTooLong);
    }
    let exact = KNOWN_METHODS.contains(&name);
    if !exact && KNOWN_METHODS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Err(Class::MethodCase);
    }
    Method::from_bytes(name).map_err(|_| Class::BadMethod)
}

#[cfg(test)]
mod tests;

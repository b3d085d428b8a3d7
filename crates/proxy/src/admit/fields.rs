//! The fields of a request, one by one: framing is read, what belongs to this hop or
//! was forged is dropped, what readers disagree on is refused.

use std::collections::HashSet;

use bytes::Bytes;
use foldhash::fast::RandomState;
use model::Switch;

use super::connection::{names_field, other_names};
use super::table::Class;
use super::{Admission, Options, RawRequest};
use crate::head::{Field, Fields, Framing, Known, Version};

/// Names of headers that clients must not set. Looked up once per unknown field, so
/// most are told apart by their length alone.
#[derive(Clone, Debug, Default)]
pub struct IdentityHeaders {
    /// Bit n is set when a name of n bytes is among them (past 63 bytes: bit 63).
    lengths: u64,
    names: HashSet<Box<[u8]>, RandomState>,
    /// The names with all punctuation taken out.
    bare: HashSet<Box<[u8]>, RandomState>,
    /// Whatever begins with this is one of them too; empty: nothing.
    prefix: Box<[u8]>,
}

impl IdentityHeaders {
    /// From header names in any case.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut made = Self::default();
        for name in names {
            let name = name.to_ascii_lowercase().into_bytes();
            made.lengths |= 1 << name.len().min(63);
            made.bare.insert(bare(&name));
            made.names.insert(name.into_boxed_slice());
        }
        made
    }

    /// Reserves every name that begins with this lower-case prefix (`x-bastide-`).
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.as_bytes().into();
        self
    }

    /// Whether the lower-case name is one of them.
    pub fn contains(&self, name: &[u8]) -> bool {
        if !self.prefix.is_empty() && name.starts_with(&self.prefix) {
            return true;
        }
        self.lengths & (1 << name.len().min(63)) != 0 && self.names.contains(name)
    }

    /// Whether the lower-case name is one of them, or a forwarding header, with other
    /// punctuation: upstreams that fold names (CGI and its heirs) cannot tell them apart.
    pub fn is_alias(&self, name: &[u8]) -> bool {
        let bare = bare(name);
        let prefix = self::bare(&self.prefix);
        let reserved = !prefix.is_empty() && bare.starts_with(&prefix);
        bare.starts_with(b"xforwarded") || *bare == *b"xrealip" || reserved || self.bare.contains(&bare)
    }
}

impl IdentityHeaders {
    /// Drops from trailers what a client must not set: upstreams that merge trailers
    /// into their header fields would believe it.
    pub(crate) fn strip(&self, trailers: &mut Fields) {
        trailers.drop_where(|_, name| self.contains(name) || self.is_alias(name));
    }
}

fn bare(name: &[u8]) -> Box<[u8]> {
    name.iter().copied().filter(u8::is_ascii_alphanumeric).collect()
}

/// Whether upstreams that fold punctuation to dashes would take the lower-case name for
/// a field that the hop reads: `content.length`, `transfer~encoding`.
pub(crate) fn is_known_alias(name: &[u8]) -> bool {
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    let folded: Vec<u8> = name.iter().map(fold).collect();
    !folded.eq_ignore_ascii_case(name) && !matches!(Known::of(&folded), Known::Other)
}

/// What the fields said.
pub(super) struct Read {
    pub(super) framing: Framing,
    pub(super) accepts_trailers: bool,
    pub(super) expects_continue: bool,
    pub(super) upgrade: Option<Bytes>,
    pub(super) keep_alive: bool,
}

/// What is met on the way through the list.
#[derive(Default)]
struct Met {
    content_length: Option<u64>,
    chunked: bool,
    authorization: bool,
    content_type: bool,
    origin: bool,
    connection: bool,
    upgrade: Option<crate::head::Span>,
    expects_continue: bool,
    accepts_trailers: bool,
}

/// Goes through the fields once, marking what is not sent on.
pub(super) fn read(raw: &mut RawRequest, admission: &Admission, trusted: bool) -> Result<Read, Class> {
    let mut met = Met::default();
    let keep_identity = trusted && admission.trusted_proxies_set_identity;
    let Fields { buffer, list } = &mut raw.fields;
    for field in list.iter_mut() {
        match field.known {
            Known::Other => {
                let name = field.name.of(buffer);
                field.kept = other(name, admission, keep_identity)?;
            }
            Known::Forwarded | Known::XForwarded | Known::XForwardedFor => field.kept = trusted,
            Known::ContentType if admission.lenient => {
                field.kept = !std::mem::replace(&mut met.content_type, true);
            }
            _ => known(field, field.value.of(buffer), raw.version, &mut met)?,
        }
    }
    match raw.version {
        Version::Http2 => http2(raw.ended, &met),
        _ => http1(raw, &met, admission),
    }
}

/// Fields by which frameworks take a request for one of another method.
const METHOD_OVERRIDES: [&[u8]; 3] = [b"x-http-method-override", b"x-http-method", b"x-method-override"];

/// A field that the hop does not read. Gives whether it is kept.
fn other(name: &[u8], admission: &Admission, keep_identity: bool) -> Result<bool, Class> {
    let identity = &admission.identity_headers;
    if identity.contains(name) {
        return Ok(keep_identity || Switch::IdentityHeaders.is_off());
    }
    // One look for everything but letters, digits and dashes; names without are the rule.
    if !name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        if name.contains(&b'_') && !Switch::Admit.is_off() {
            return Err(Class::UnderscoreName);
        }
        if identity.is_alias(name) && !Switch::Admit.is_off() {
            return Err(Class::IdentityAlias);
        }
        if is_known_alias(name) && !Switch::Admit.is_off() {
            return Err(Class::KnownAlias);
        }
    }
    match name {
        b"proxy" => Ok(false),
        name if METHOD_OVERRIDES.contains(&name) => Err(Class::MethodOverride),
        _ => Ok(true),
    }
}

/// The name for which a head is refused, where the class looks at names alone.
pub(super) fn named(fields: &Fields, class: Class) -> Option<&[u8]> {
    let mut names = fields.list.iter().map(|field| field.name.of(&fields.buffer));
    names.find(|name| match class {
        Class::UnderscoreName => name.contains(&b'_'),
        Class::MethodOverride => METHOD_OVERRIDES.contains(name),
        Class::KnownAlias => is_known_alias(name),
        _ => false,
    })
}

/// A field that the hop reads.
fn known(field: &mut Field, value: &[u8], version: Version, met: &mut Met) -> Result<(), Class> {
    let http2 = version == Version::Http2;
    match field.known {
        Known::ContentLength => {
            let length = content_length(value).ok_or(Class::BadContentLength)?;
            if met.content_length.replace(length).is_some() && !Switch::Admit.is_off() {
                return Err(Class::DuplicateContentLength);
            }
            field.kept = false;
        }
        Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::TransferEncoding
        | Known::Upgrade
            if http2 =>
        {
            return Err(Class::ConnectionFieldInHttp2);
        }
        Known::TransferEncoding => {
            transfer_encoding(value, version, met)?;
            field.kept = false;
        }
        Known::Connection => {
            met.connection = true;
            field.kept = false;
        }
        Known::Upgrade => {
            if met.upgrade.replace(field.value).is_some() {
                return Err(Class::UpgradeAmbiguous);
            }
            field.kept = false;
        }
        Known::Te => {
            let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            met.accepts_trailers |= codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            if http2 && !value.eq_ignore_ascii_case(b"trailers") {
                return Err(Class::BadTe);
            }
            field.kept = false;
        }
        Known::Expect => {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Class::BadExpectation);
            }
            // RFC 9110 §10.1.1: ignored in HTTP/1.0.
            met.expects_continue = version != Version::Http10;
            field.kept = false;
        }
        Known::Authorization if std::mem::replace(&mut met.authorization, true) => {
            return Err(Class::DuplicateSingleton);
        }
        Known::ContentType if std::mem::replace(&mut met.content_type, true) => {
            return Err(Class::DuplicateSingleton);
        }
        Known::Origin if std::mem::replace(&mut met.origin, true) => return Err(Class::DuplicateSingleton),
        Known::Host | Known::KeepAlive | Known::ProxyConnection | Known::Http2Settings => field.kept = false,
        Known::ProxyAuthorization | Known::ProxyAuthenticate => field.kept = false,
        _ => {}
    }
    Ok(())
}

/// The one coding that every reader knows, once, in a version that has it (RFC 9112 §6.1).
fn transfer_encoding(value: &[u8], version: Version, met: &mut Met) -> Result<(), Class> {
    if met.chunked {
        return Err(Class::DuplicateTransferEncoding);
    }
    if version == Version::Http10 {
        return Err(Class::TransferEncodingInHttp10);
    }
    if !value.eq_ignore_ascii_case(b"chunked") {
        return Err(Class::BadTransferEncoding);
    }
    met.chunked = true;
    Ok(())
}

fn http2(ended: bool, met: &Met) -> Result<Read, Class> {
    let framing = match (ended, met.content_length) {
        (true, None | Some(0)) => Framing::None,
        (true, Some(_)) => return Err(Class::ContentLengthMismatch),
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Stream,
    };
    Ok(Read {
        framing,
        accepts_trailers: met.accepts_trailers,
        expects_continue: met.expects_continue,
        upgrade: None,
        keep_alive: true,
    })
}

fn http1(raw: &mut RawRequest, met: &Met, admission: &Admission) -> Result<Read, Class> {
    let identity = &admission.identity_headers;
    let both = met.chunked && met.content_length.is_some();
    let framing = match (met.chunked, met.content_length) {
        (true, Some(_)) if !Switch::Admit.is_off() && !admission.lenient => {
            return Err(Class::ContentLengthWithTransferEncoding);
        }
        (true, _) => Framing::Chunked,
        (false, Some(0) | None) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
    };
    let options = if met.connection {
        Options::read(&raw.fields, Some(identity)).ok_or(Class::ProtectedConnectionOption)?
    } else {
        Options::default()
    };
    if options.others {
        let names = other_names(&raw.fields);
        raw.fields.drop_where(|_, name| names_field(&names, name));
    }
    Ok(Read {
        framing,
        accepts_trailers: met.accepts_trailers,
        expects_continue: met.expects_continue,
        upgrade: upgrade(raw, met, framing, options)?,
        keep_alive: match raw.version {
            Version::Http10 => options.keep_alive && !options.close,
            // RFC 9112 §6.1: whoever takes both closes afterwards.
            _ => !options.close && !both,
        },
    })
}

/// The one protocol that the client may be switched to.
fn upgrade(raw: &RawRequest, met: &Met, framing: Framing, options: Options) -> Result<Option<Bytes>, Class> {
    let Some(span) = met.upgrade else { return Ok(None) };
    let value = span.of(&raw.fields.buffer);
    let is_protocol = |byte: &u8| crate::head::is_token(*byte) || *byte == b'/';
    if value.is_empty() || !value.iter().all(is_protocol) {
        return Err(Class::UpgradeAmbiguous);
    }
    // HTTP/2 begins by ALPN or prior knowledge; an upgrade to it would end our hop.
    if raw.version != Version::Http11 || !options.upgrade || value.eq_ignore_ascii_case(b"h2c") {
        return Ok(None);
    }
    if framing != Framing::None {
        return Err(Class::UpgradeWithBody);
    }
    if value.iter().any(u8::is_ascii_uppercase) {
        return Ok(Some(Bytes::from(value.to_ascii_lowercase())));
    }
    Ok(Some(raw.fields.buffer.slice_ref(value)))
}

/// A `Content-Length`: digits only, within 64 bits (RFC 9110 §8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 20 {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

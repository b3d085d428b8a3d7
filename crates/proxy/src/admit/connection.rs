//! What `Connection` says (RFC 9110 §7.6.1), and what it must not say.

use crate::head::{Fields, Known};

use super::fields::IdentityHeaders;

/// The options of a message's `Connection` fields.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Other fields are named and must be dropped.
    pub(crate) others: bool,
}

impl Options {
    /// Reads all `Connection` fields. `None`: a protected field is named.
    pub(crate) fn read(fields: &Fields, identity: Option<&IdentityHeaders>) -> Option<Self> {
        let mut options = Self::default();
        for name in named(fields) {
            match name {
                b"" => {}
                _ if name.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                _ if name.eq_ignore_ascii_case(b"close") => options.close = true,
                _ if name.eq_ignore_ascii_case(b"upgrade") => options.upgrade = true,
                _ if is_protected(name, identity) => return None,
                _ => options.others = true,
            }
        }
        Some(options)
    }
}

/// Every option named by `Connection`, as it was written.
fn named(fields: &Fields) -> impl Iterator<Item = &[u8]> {
    fields
        .values(Known::Connection)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether `Connection` names this lower-case field.
pub(crate) fn names_field(connection: &[Vec<u8>], field: &[u8]) -> bool {
    connection.iter().any(|name| name == field)
}

/// The names in `Connection`, lower case: allocates, for the rare head that has some
/// besides `close`, `keep-alive` and `upgrade`.
pub(crate) fn other_names(fields: &Fields) -> Vec<Vec<u8>> {
    named(fields).filter(|name| !name.is_empty()).map(<[u8]>::to_ascii_lowercase).collect()
}

/// Whether a field is one on which the other side relies, so that `Connection` may
/// not make it vanish.
pub(crate) fn is_protected(name: &[u8], identity: Option<&IdentityHeaders>) -> bool {
    const FIELDS: [&[u8]; 14] = [
        b"age",
        b"allow",
        b"cache-control",
        b"etag",
        b"expires",
        b"from",
        b"location",
        b"pragma",
        b"priority",
        b"range",
        b"referer",
        b"set-cookie",
        b"vary",
        b"www-authenticate",
    ];
    const PREFIXES: [&[u8]; 10] = [
        b"access-control-",
        b"accept-",
        b"content-",
        b"if-",
        b"sec-",
        b"strict-",
        b"x-auth",
        b"x-content-",
        b"x-frame-",
        b"x-request-",
    ];
    let name = name.to_ascii_lowercase();
    match Known::of(&name) {
        Known::KeepAlive | Known::ProxyConnection | Known::Te | Known::Trailer | Known::Upgrade => false,
        Known::Http2Settings | Known::ProxyAuthenticate | Known::ProxyAuthorization => false,
        Known::Other => {
            name.first() == Some(&b':')
                || FIELDS.contains(&name.as_slice())
                || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || identity.is_some_and(|identity| identity.contains(&name) || identity.is_alias(&name))
        }
        _ => true,
    }
}

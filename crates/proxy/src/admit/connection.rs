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
        for value in fields.values(Known::Connection) {
            // What most say is compared once.
            match value {
                b"keep-alive" => options.keep_alive = true,
                b"close" => options.close = true,
                _ => options.add(value, identity)?,
            }
        }
        Some(options)
    }

    /// Adds what one field names.
    fn add(&mut self, value: &[u8], identity: Option<&IdentityHeaders>) -> Option<()> {
        for name in names(value) {
            match name {
                b"" => {}
                _ if name.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ if name.eq_ignore_ascii_case(b"close") => self.close = true,
                _ if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                _ if is_protected(name, identity) => return None,
                _ => self.others = true,
            }
        }
        Some(())
    }
}

/// Every option that a `Connection` names, as it was written.
fn names(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether `Connection` names this lower-case field.
pub(crate) fn names_field(connection: &[Vec<u8>], field: &[u8]) -> bool {
    connection.iter().any(|name| name == field)
}

/// The names in `Connection`, lower case: allocates, for the rare head that has some
/// besides `close`, `keep-alive` and `upgrade`.
pub(crate) fn other_names(fields: &Fields) -> Vec<Vec<u8>> {
    let all = fields.values(Known::Connection).flat_map(names);
    all.filter(|name| !name.is_empty()).map(<[u8]>::to_ascii_lowercase).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::FieldsBuilder;

    #[test]
    fn options_are_told_however_they_are_written() {
        let read = |values: &[&str]| {
            let mut fields = FieldsBuilder::default();
            for value in values {
                fields.push(b"connection", value.as_bytes()).unwrap();
            }
            let options = Options::read(&fields.finish(), None)?;
            Some((options.close, options.keep_alive, options.upgrade, options.others))
        };
        for (values, told) in [
            (&[][..], Some((false, false, false, false))),
            (&["keep-alive"], Some((false, true, false, false))),
            (&["close"], Some((true, false, false, false))),
            (&["Keep-Alive"], Some((false, true, false, false))),
            (&[" CLOSE ,"], Some((true, false, false, false))),
            (&["keep-alive", "close"], Some((true, true, false, false))),
            (&["close, upgrade, x-one"], Some((true, false, true, true))),
            (&["close", "set-cookie"], None),
            (&["closed"], Some((false, false, false, true))),
        ] {
            assert_eq!(read(values), told, "{values:?}");
        }
    }
}

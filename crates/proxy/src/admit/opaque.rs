//! A connection whose bytes are nobody's to read.

use bytes::Bytes;
use http::Method;

use crate::head::{Fields, Framing, RequestHead, Version};
use crate::way::Admitted;

/// An opaque connection to a name, as the request for a tunnel that it comes down to
/// (RFC 9110 §9.3.6). No client's request is like it: `CONNECT` is refused at admission.
pub(crate) fn opaque(name: &Bytes) -> Admitted {
    Admitted {
        head: Box::new(RequestHead {
            method: Method::CONNECT,
            raw_target: Bytes::new(),
            path: Bytes::from_static(b"/"),
            query: None,
            host: name.clone(),
            port: None,
            version: Version::Opaque,
            encoded_slash: false,
            fields: Fields::default(),
            written: Bytes::new(),
            framing: Framing::None,
            accepts_trailers: false,
            expects_continue: false,
            upgrade: None,
            keep_alive: false,
        }),
    }
}

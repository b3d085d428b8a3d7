//! Heads of calls: ours as messages of the `http` crate, and theirs as ours.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, request, response};

use crate::admit::{Class, Refusal};
use crate::head::{Framing, ResponseHead};
use crate::http1::encode::{self, UpstreamRequest};
use crate::http2::head::{Unwritable, push_query, response_from_h2};

/// Room for a port and a length.
const NUMBERS_BYTES_MAX: usize = 32;

/// A request head for a service of this process, with the fields that an HTTP/1.1 upstream
/// would get.
///
/// # Errors
/// The target is longer than a URI can be.
pub(super) fn request(request: &UpstreamRequest<'_>) -> Result<request::Parts, Unwritable> {
    let head = request.head;
    let additions = request.additions;
    // All that is not in the client's own head stands in one buffer: nearly everything of it is let
    // go by another thread, each piece by itself.
    let query = head.query.as_ref().map_or(0, |query| query.len() + 1);
    let room = request.path.len() + query + head.host.len() + additions.bytes().len() + NUMBERS_BYTES_MAX;
    let mut own = Vec::with_capacity(room);
    own.extend_from_slice(request.path);
    if let Some(query) = &head.query {
        own.push(b'?');
        push_query(&mut own, query);
    }
    let target = ..own.len();
    encode::authority(&mut own, head);
    let authority = target.end..own.len();
    let length = match request.framing {
        Framing::Length(length) => Some(length),
        Framing::None if encode::expects_body(&head.method) => Some(0),
        _ => None,
    };
    if let Some(length) = length {
        own.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    }
    let length = length.map(|_| authority.end..own.len());
    let place = own.len();
    own.extend_from_slice(additions.bytes());
    let own = Bytes::from(own);

    let target = PathAndQuery::from_maybe_shared(own.slice(target)).map_err(|_| Unwritable)?;
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = head.method.clone();
    parts.uri = Uri::from(target);
    let headers = &mut parts.headers;
    // Room for what there is, the host and a length: a smaller map is got sooner.
    headers.try_reserve(head.fields.kept().count() + additions.len() + 2).map_err(|_| Unwritable)?;
    if !additions.has(b"host") {
        append(headers, b"host", own.slice(authority))?;
    }
    for field in additions.spared(&head.fields) {
        let buffer = &head.fields.buffer;
        append(headers, field.name.of(buffer), field.value.share(buffer))?;
    }
    for (name, value) in additions.shared_with(&head.fields, (&own, place)) {
        append(headers, name, value)?;
    }
    if let Some(length) = length {
        let value = HeaderValue::from_maybe_shared(own.slice(length)).map_err(|_| Unwritable)?;
        headers.insert(header::CONTENT_LENGTH, value);
    }
    Ok(parts)
}

/// What nearly every request is told by us: names that need not be read each time.
macro_rules! usual {
    ($name:expr, $($usual:literal),+ $(,)?) => {
        match $name {
            $(name if name == $usual.as_bytes() => {
                const USUAL: HeaderName = HeaderName::from_static($usual);
                Some(USUAL)
            })+
            _ => None,
        }
    };
}

fn usual(name: &[u8]) -> Option<HeaderName> {
    usual!(
        name,
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
        "traceparent",
        "x-bastide-principal-type",
        "x-bastide-client-address",
        "x-bastide-client-tls",
    )
}

fn append(headers: &mut HeaderMap, name: &[u8], value: Bytes) -> Result<(), Unwritable> {
    let name = match usual(name) {
        Some(name) => name,
        None => HeaderName::from_bytes(name).map_err(|_| Unwritable)?,
    };
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| Unwritable)?;
    headers.try_append(name, value).map_err(|_| Unwritable)?;
    Ok(())
}

/// The head of an answer, judged as every upstream's is. `whole`: the bytes of its body, where
/// all of it is there.
///
/// # Errors
/// As [`response_from_h2`], and for an interim one, which has no way here: the client gets 502.
pub(super) fn response(
    parts: &response::Parts,
    whole: Option<usize>,
    method: &Method,
) -> Result<ResponseHead, Refusal> {
    let mut head = response_from_h2(parts, whole == Some(0), method, Vec::new())?;
    if head.status.is_informational() {
        return Err(Refusal::new(Class::BadResponseHead));
    }
    if let (Framing::Stream, Some(length)) = (head.framing, whole) {
        head.framing = Framing::Length(length as u64);
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::Limits;
    use crate::admit::{Admission, admit};
    use crate::head::{Additions, Manner};
    use crate::http1::encode::request_framing;
    use crate::http1::request::Reader;

    /// Method, target and fields of a request as HTTP/1 would write it, and as it is handed over.
    fn both(head: &str, additions: &Additions) -> [Vec<String>; 2] {
        let limits = Limits::default();
        let raw = Reader::new().read(&mut BytesMut::from(head.as_bytes()), &limits).unwrap().unwrap();
        let admitted = admit(raw, &Admission::default(), &limits, false).unwrap();
        let head = admitted.head();
        let framing = request_framing(head.framing);
        let path = &head.path;
        let going = UpstreamRequest { head, path, additions, framing, upgrade: false, expect: false };
        let mut text = Vec::new();
        encode::request(&mut text, &going);
        let text = String::from_utf8(text).unwrap().replace(" HTTP/1.1\r\n", "\r\n");
        let mut written: Vec<String> =
            text.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let parts = request(&going).unwrap();
        let fields = parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        let mut handed: Vec<String> =
            std::iter::once(format!("{} {}", parts.method, parts.uri)).chain(fields).collect();
        written.sort_unstable();
        handed.sort_unstable();
        [written, handed]
    }

    #[test]
    fn a_request_is_handed_over_as_it_would_be_written() {
        let mut additions = Additions::default();
        additions.push("x-request-id", b"ours").unwrap();
        additions.push("x-bastide-client-address", b"192.0.2.1").unwrap();
        additions.push("x-own", b"a b").unwrap();
        additions.push_as(Manner::Default, "x-forwarded-proto", b"https").unwrap();
        additions.push_as(Manner::Default, "accept", b"never").unwrap();
        additions.push_as(Manner::Beside, "via", b"1.1 us").unwrap();
        additions.remove("x-api-key");
        let [written, handed] = both(
            "POST /a/../b?q=%2e&r HTTP/1.1\r\nHost: Shop.example.org:81\r\nX-Request-Id: evil\r\nAccept: a\r\n\
             Via: 1.0 them\r\nX-Api-Key: k\r\nX-Two: 1\r\nX-Two: 2\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
             Content-Length: 3\r\n\r\n",
            &additions,
        );
        assert_eq!(handed, written);
        assert!(handed.contains(&"x-request-id: ours".to_owned()), "{handed:?}");
        let [written, handed] = both("POST / HTTP/1.1\r\nHost: a\r\n\r\n", &Additions::default());
        assert_eq!(handed, written);
        assert_eq!(handed, ["POST /", "content-length: 0", "host: a"]);
        let mut renamed = Additions::default();
        renamed.push("host", b"inner").unwrap();
        let [written, handed] = both("GET / HTTP/1.1\r\nHost: outer\r\n\r\n", &renamed);
        assert_eq!(handed, written);
        assert_eq!(handed, ["GET /", "host: inner"]);
    }

    #[test]
    fn a_whole_answer_has_its_length() {
        let read = |length: Option<&str>, whole, method| {
            let mut parts = http::Response::new(()).into_parts().0;
            if let Some(length) = length {
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_str(length).unwrap());
            }
            response(&parts, whole, method).map(|head| head.framing).map_err(|refusal| refusal.class)
        };
        assert_eq!(read(None, Some(3), &Method::GET), Ok(Framing::Length(3)));
        assert_eq!(read(Some("3"), Some(3), &Method::GET), Ok(Framing::Length(3)));
        assert_eq!(read(None, Some(0), &Method::GET), Ok(Framing::None));
        assert_eq!(read(Some("3"), Some(0), &Method::HEAD), Ok(Framing::None));
        assert_eq!(read(None, None, &Method::GET), Ok(Framing::Stream));
        assert_eq!(read(Some("3"), Some(0), &Method::GET), Err(Class::BadResponseFraming));
        assert_eq!(read(Some("x"), Some(3), &Method::GET), Err(Class::BadResponseFraming));
    }
}

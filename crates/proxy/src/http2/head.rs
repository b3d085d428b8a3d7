//! Heads between HTTP/2 (as the `h2` crate gives and takes them) and ours.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request, response};

use crate::admit::path::push_encoded;
use crate::admit::{Class, RawRequest, Refusal, Seen, content_length};
use crate::head::{Additions, Field, Fields, FieldsBuilder, Framing, Known, ResponseHead, Version};
use crate::http1::{chunk, encode};
use crate::http2::is_grpc;
use crate::limits::Limits;

/// A request head as HTTP/1 would have parsed it, for the same admission. `ended`
/// says that the head ends the stream. The memory of `spare` is used again.
///
/// # Errors
/// The head is over a limit or breaks RFC 9113 §8.
pub fn from_h2(
    parts: &request::Parts,
    ended: bool,
    spare: Vec<Field>,
    limits: &Limits,
) -> Result<RawRequest, Refusal> {
    let method = parts.method.as_str().as_bytes();
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str()).as_bytes();
    let refuse = |class| Err(Refusal { class, seen: Box::new(seen(parts, target)) });
    let bytes = list_bytes(&parts.headers);
    if bytes > limits.http2_header_list_bytes_max as usize {
        return refuse(Class::HeadTooLarge);
    }
    if parts.headers.len() > limits.header_count_max {
        return refuse(Class::TooManyHeaders);
    }
    if target.len() > limits.uri_bytes_max {
        return refuse(Class::TargetTooLong);
    }
    match parts.uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return refuse(Class::BadScheme),
        // `h2` requires one, but drops it beside a missing `:authority`. CONNECT has none
        // (RFC 9113 §8.3.1); admission refuses that by its method.
        None if parts.method == Method::CONNECT || parts.uri.authority().is_none() => {}
        None => return refuse(Class::BadPseudoHeader),
    }
    if parts.uri.path().is_empty() && parts.method != Method::CONNECT {
        return refuse(Class::BadPseudoHeader);
    }
    let mut built = FieldsBuilder::with_spare(spare, bytes + target.len() + 64);
    let method = built.append(method);
    let target = built.append(target);
    let authority = parts.uri.authority().map(|authority| built.append(authority.as_str().as_bytes()));
    match push_all(&mut built, &parts.headers) {
        Ok(()) => {}
        Err(class) => return refuse(class),
    }
    Ok(RawRequest {
        version: Version::Http2,
        fields: built.finish(),
        method,
        target,
        authority,
        ended,
        written: Bytes::new(),
        local: None,
    })
}

/// The size of a list of fields (RFC 9113 §6.5.2): each counts with 32 bytes more.
pub(crate) fn list_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

fn seen(parts: &request::Parts, target: &[u8]) -> Seen {
    use crate::admit::{METHOD_BYTES_MAX, TARGET_BYTES_MAX, TEXT_BYTES_MAX};
    let cut = |text: &[u8], most: usize| Bytes::copy_from_slice(text.get(..most).unwrap_or(text));
    let header = |name| parts.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    let host = parts.uri.authority().map_or(header(http::header::HOST), |a| a.as_str().as_bytes());
    Seen {
        method: cut(parts.method.as_str().as_bytes(), METHOD_BYTES_MAX),
        target: cut(target, TARGET_BYTES_MAX),
        host: cut(host, TEXT_BYTES_MAX),
        user_agent: cut(header(http::header::USER_AGENT), TEXT_BYTES_MAX),
        field: Bytes::new(),
        raw: Bytes::new(),
        is_grpc: is_grpc(Some(header(http::header::CONTENT_TYPE))),
    }
}

/// A head as HTTP/1 would have written it, for the firewall's eyes: at most `bytes_max`
/// bytes, cut between two fields. A request of no path has its whole URI as its target.
pub(crate) fn as_http1(parts: &request::Parts, bytes_max: usize) -> Bytes {
    let whole = parts.uri.to_string();
    let target = match parts.uri.path_and_query() {
        Some(target) if parts.method != Method::CONNECT && !target.as_str().is_empty() => target.as_str(),
        _ => &whole,
    };
    let mut head = Vec::with_capacity(512);
    head.extend([parts.method.as_str(), " ", target, " HTTP/2.0\r\n"].map(str::as_bytes).concat());
    let authority = parts.uri.authority().map(|authority| ("host", authority.as_str().as_bytes()));
    let fields = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    for (name, value) in authority.into_iter().chain(fields) {
        if head.len() + name.len() + value.len() + 4 > bytes_max {
            break;
        }
        head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    head.truncate(bytes_max);
    Bytes::from(head)
}

fn push_all(built: &mut FieldsBuilder, headers: &HeaderMap) -> Result<(), Class> {
    let mut cookies = headers.get_all(http::header::COOKIE).iter();
    let several = cookies.next().is_some() && cookies.next().is_some();
    for (name, value) in headers {
        let value = value.as_bytes();
        let padding = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if padding(value.first()) || padding(value.last()) {
            return Err(Class::PaddedValue);
        }
        if several && name == http::header::COOKIE {
            continue;
        }
        built.push(name.as_str().as_bytes(), value).map_err(|_| Class::ControlInHeader)?;
    }
    // Crumbs of a cookie are one field for everybody else (RFC 9113 §8.2.3).
    if several {
        let crumbs: Vec<&[u8]> =
            headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        built.push(b"cookie", &crumbs.join(&b"; "[..])).map_err(|_| Class::ControlInHeader)?;
    }
    Ok(())
}

/// A message cannot be said in HTTP/2. It was admitted, so this is our own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head cannot be written in HTTP/2")]
pub struct Unwritable;

/// A request head for an HTTP/2 upstream. `https` is the scheme towards the upstream.
///
/// # Errors
/// See [`Unwritable`].
pub fn to_h2_request(
    request: &encode::UpstreamRequest<'_>,
    https: bool,
) -> Result<http::Request<()>, Unwritable> {
    let head = request.head;
    let mut authority = Vec::with_capacity(head.host.len() + 6);
    encode::authority(&mut authority, head);
    let query = head.query.as_deref();
    let mut target = Vec::with_capacity(request.path.len() + query.map_or(0, |query| query.len() + 1));
    target.extend_from_slice(request.path);
    if let Some(query) = query {
        target.push(b'?');
        push_query(&mut target, query);
    }
    let uri = Uri::builder()
        .scheme(if https { "https" } else { "http" })
        .authority(authority.as_slice())
        .path_and_query(target)
        .build()
        .map_err(|_| Unwritable)?;
    let mut built = http::Request::new(());
    *built.method_mut() = head.method.clone();
    *built.uri_mut() = uri;
    *built.version_mut() = http::Version::HTTP_2;
    let headers = built.headers_mut();
    fill(headers, &head.fields, Some(request.additions))?;
    if let Framing::Length(length) = request.framing {
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if head.accepts_trailers {
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(built)
}

/// Appends a query. Admission takes `"`, `<` and `>` in one, which no URI has (RFC 3986 §3.4).
pub(crate) fn push_query(target: &mut Vec<u8>, query: &[u8]) {
    let mut rest = query;
    while let Some(at) = memchr::memchr3(b'"', b'<', b'>', rest) {
        let (before, from) = rest.split_at(at);
        target.extend_from_slice(before);
        let Some((&byte, after)) = from.split_first() else { break };
        push_encoded(target, byte);
        rest = after;
    }
    target.extend_from_slice(rest);
}

/// A response head for an HTTP/2 client.
///
/// # Errors
/// See [`Unwritable`].
pub fn to_h2_response(
    head: &ResponseHead,
    additions: Option<&Additions>,
    method: &Method,
) -> Result<http::Response<()>, Unwritable> {
    let mut built = http::Response::new(());
    *built.status_mut() = head.status;
    *built.version_mut() = http::Version::HTTP_2;
    let headers = built.headers_mut();
    fill(headers, &head.fields, additions)?;
    match head.framing {
        Framing::Length(length) => {
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        Framing::None if !bodiless(head.status, method) => {
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(0));
        }
        _ => {}
    }
    Ok(built)
}

fn bodiless(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD || status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

/// Fields whose value is another one in each message.
const UNREPEATED: [&str; 3] = ["x-request-id", "traceparent", "ratelimit"];

fn fill(headers: &mut HeaderMap, fields: &Fields, additions: Option<&Additions>) -> Result<(), Unwritable> {
    headers.reserve(fields.len() + 4);
    let mut append = |name: &[u8], value: &[u8]| {
        let name = HeaderName::from_bytes(name).map_err(|_| Unwritable)?;
        let mut value = HeaderValue::from_bytes(value).map_err(|_| Unwritable)?;
        // A value that never comes again would only push others out of HPACK's table
        // (RFC 7541 §7.1.3: such a field is sent as a literal that is never indexed).
        value.set_sensitive(UNREPEATED.contains(&name.as_str()));
        headers.append(name, value);
        Ok(())
    };
    match additions {
        Some(additions) => {
            let mut without_host = additions.with(fields).filter(|(name, _)| *name != b"host");
            without_host.try_for_each(|(name, value)| append(name, value))
        }
        None => fields.kept().try_for_each(|(name, value)| append(name, value)),
    }
}

/// An upstream's HTTP/2 response head, judged as an HTTP/1 one is. `ended` says that
/// the head ends the stream.
///
/// # Errors
/// The head breaks RFC 9113 §8: the client gets 502.
pub fn response_from_h2(
    parts: &response::Parts,
    ended: bool,
    method: &Method,
    mut spare: Vec<Field>,
) -> Result<ResponseHead, Refusal> {
    let bad = |class| Err(Refusal::new(class));
    spare.reserve(parts.headers.len());
    let bytes = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut built = FieldsBuilder::with_spare(spare, bytes);
    for (name, value) in &parts.headers {
        if built.push_named(name, value.as_bytes()).is_err() {
            return bad(Class::BadResponseHead);
        }
    }
    let mut fields = built.finish();
    let is_of_the_hop = |field: &Field| {
        matches!(
            field.known,
            Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::TransferEncoding
                | Known::Upgrade
        )
    };
    if fields.list.iter().any(is_of_the_hop) {
        return bad(Class::BadResponseFraming);
    }
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return bad(Class::UnexpectedSwitch);
    }
    let length = fields.get(Known::ContentLength).map(content_length);
    if fields.values(Known::ContentLength).count() > 1 || length == Some(None) {
        return bad(Class::BadResponseFraming);
    }
    let length = length.flatten();
    let speaks_of_get = *method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED;
    let framing = match (bodiless(parts.status, method), ended, length) {
        (true, _, _) | (_, true, None | Some(0)) => Framing::None,
        (false, true, Some(_)) => return bad(Class::BadResponseFraming),
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::Stream,
    };
    fields.drop_where(|known, _| known == Known::ContentLength && !speaks_of_get);
    Ok(ResponseHead { status: parts.status, fields, framing })
}

/// Trailers of an HTTP/2 message, under the rules of [`chunk`].
///
/// # Errors
/// A field that trailers cannot carry, or more bytes than `trailer_bytes_max`.
pub fn trailers_from_h2(trailers: &HeaderMap, limits: &Limits) -> Result<Fields, Class> {
    let bytes: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > limits.trailer_bytes_max || trailers.len() > limits.header_count_max {
        return Err(Class::TrailerTooLarge);
    }
    chunk::trailers_from(trailers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
}

/// Trailers for an HTTP/2 message.
///
/// # Errors
/// See [`Unwritable`].
pub fn trailers_to_h2(trailers: &Fields) -> Result<HeaderMap, Unwritable> {
    let mut headers = HeaderMap::new();
    fill(&mut headers, trailers, None)?;
    Ok(headers)
}

#[cfg(test)]
mod tests;

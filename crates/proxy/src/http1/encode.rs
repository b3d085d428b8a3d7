//! Writing messages. Everything that is written was parsed and checked before, or is
//! ours; each message carries exactly one framing, chosen here.

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::head::{Additions, Fields, Framing, RequestHead, ResponseHead, Version};

/// The interim answer that lets a client send its body (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A request as it goes to an upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamRequest<'a> {
    /// The client's head.
    pub head: &'a RequestHead,
    /// The path, which a route may have shortened; otherwise `head.path`.
    pub path: &'a [u8],
    /// Fields of ours. Each replaces the client's fields of the same name.
    pub additions: &'a Additions,
    /// How the body will be delimited: [`request_framing`].
    pub framing: Framing,
    /// Whether `head.upgrade` is asked for.
    pub upgrade: bool,
    /// Whether `Expect: 100-continue` is asked for.
    pub expect: bool,
}

/// How a request's body goes to an HTTP/1.1 upstream.
pub fn request_framing(client: Framing) -> Framing {
    match client {
        Framing::Stream | Framing::Close => Framing::Chunked,
        other => other,
    }
}

/// Appends a request head for an HTTP/1.1 upstream.
pub fn request(out: &mut Vec<u8>, request: &UpstreamRequest<'_>) {
    let head = request.head;
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.path);
    if let Some(query) = &head.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !request.additions.has(b"host") {
        out.extend_from_slice(b"host: ");
        authority(out, head);
        out.extend_from_slice(b"\r\n");
    }
    fields(out, &head.fields, Some(request.additions));
    framing(out, request.framing, expects_body(&head.method));
    if request.expect {
        out.extend_from_slice(b"expect: 100-continue\r\n");
    }
    match (&head.upgrade, request.upgrade, head.accepts_trailers) {
        (Some(protocol), true, _) => {
            out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
            out.extend_from_slice(protocol);
            out.extend_from_slice(b"\r\n");
        }
        (_, _, true) => out.extend_from_slice(b"connection: te\r\nte: trailers\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a request of this method says so where it has no body (RFC 9110 §8.6).
pub fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Appends host and port as the client named them.
pub fn authority(out: &mut Vec<u8>, head: &RequestHead) {
    out.extend_from_slice(&head.host);
    if let Some(port) = head.port {
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
}

/// To whom a response goes.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The client's version.
    pub version: Version,
    /// The request's method; `GET` when no request could be read.
    pub method: &'a Method,
    /// Whether the connection stays open after this response.
    pub keep_alive: bool,
    /// The protocol switched to, with status 101.
    pub upgrade: Option<&'a [u8]>,
}

/// How a response's body goes to an HTTP/1 client (RFC 9112 §6.3). With
/// [`Framing::Close`] the connection cannot stay open.
pub fn response_framing(head: &ResponseHead, version: Version, method: &Method) -> Framing {
    let status = head.status;
    if *method == Method::HEAD || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
        return Framing::None;
    }
    match (head.framing, version) {
        (framing @ (Framing::None | Framing::Length(_)), _) => framing,
        (_, Version::Http10) => Framing::Close,
        _ => Framing::Chunked,
    }
}

/// Appends a response head; the body must follow in the framing that it gives back.
pub fn response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    additions: Option<&Additions>,
    client: &Client<'_>,
) -> Framing {
    let chosen = response_framing(head, client.version, client.method);
    status_line(out, head.status);
    fields(out, &head.fields, additions);
    let bodiless = *client.method == Method::HEAD
        || head.status.is_informational()
        || matches!(head.status.as_u16(), 204 | 304);
    if bodiless {
        // The length that a GET would have had is among the fields when it is known;
        // a HEAD that we answer ourselves names it by its framing.
        let has_length = head.fields.kept_named(b"content-length").next().is_some();
        if let (Framing::Length(length), false, &Method::HEAD) = (head.framing, has_length, client.method) {
            content_length(out, length);
        }
    } else {
        framing(out, chosen, true);
    }
    match client.upgrade {
        Some(protocol) => {
            out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
            out.extend_from_slice(protocol);
            out.extend_from_slice(b"\r\n");
        }
        None if head.status.is_informational() => {}
        None if !client.keep_alive || chosen == Framing::Close => {
            out.extend_from_slice(b"connection: close\r\n");
        }
        None if client.version == Version::Http10 => out.extend_from_slice(b"connection: keep-alive\r\n"),
        None => {}
    }
    out.extend_from_slice(b"\r\n");
    chosen
}

/// Appends an interim head (RFC 9110 §15.2). No body follows, and another head does.
pub fn interim(out: &mut Vec<u8>, head: &ResponseHead) {
    status_line(out, head.status);
    fields(out, &head.fields, None);
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    // Nobody may rely on the reason (RFC 9112 §4), so an upstream's is not passed on.
    match status {
        StatusCode::OK => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        _ => {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(status.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the kept fields, and the additions in their manners.
fn fields(out: &mut Vec<u8>, fields: &Fields, additions: Option<&Additions>) {
    match additions {
        Some(additions) => additions.append_lines(fields, out),
        None => fields.list.iter().filter(|f| f.kept).for_each(|field| fields.append_line(field, out)),
    }
}

fn framing(out: &mut Vec<u8>, framing: Framing, expects_body: bool) {
    match framing {
        Framing::Length(length) => content_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None if expects_body => content_length(out, 0),
        Framing::None | Framing::Close | Framing::Stream => {}
    }
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the line in front of a chunk's data; the data and [`CHUNK_END`] follow.
/// `length` is not zero: that would end the body.
pub fn chunk_start(out: &mut Vec<u8>, length: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let nibble = (length >> (4 * place)) & 0xf;
        out.push(DIGITS.get(nibble).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}

/// What follows a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Appends a whole chunk; nothing for empty data, which would end the body.
pub fn chunk(out: &mut Vec<u8>, data: &Bytes) {
    if !data.is_empty() {
        chunk_start(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(CHUNK_END);
    }
}

/// Appends the end of a chunked body with trailers.
pub fn trailers(out: &mut Vec<u8>, trailers: &Fields) {
    out.extend_from_slice(b"0\r\n");
    fields(out, trailers, None);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;

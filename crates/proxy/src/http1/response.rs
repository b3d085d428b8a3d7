//! Response heads of upstreams (RFC 9112 §4), judged as strictly as requests: an
//! upstream that can be led to send two responses for one is a smuggling partner.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};

use super::lines::{self, Found, Search};
use super::request::FIELDS_MAX;
use crate::admit::{Class, Options, Refusal};
use crate::head::{Field, Fields, Framing, Known, ResponseHead, Version};
use crate::limits::Limits;

/// What was asked, as far as it decides how the answer is read.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method that was sent upstream.
    pub method: &'a Method,
    /// The protocol that was asked for by `Upgrade`, lower case.
    pub upgrade: Option<&'a [u8]>,
}

/// An upstream's head and what it says about its connection.
#[derive(Debug)]
pub struct UpstreamHead {
    /// The head. Status 1xx but 101: another head follows. Status 101: what follows is
    /// the other protocol.
    pub head: ResponseHead,
    /// Whether the connection may carry another request once the body has ended.
    pub keep_alive: bool,
    /// The protocol version.
    pub version: Version,
}

/// Reads the response heads of one upstream connection.
#[derive(Debug, Default)]
pub struct Reader {
    search: Search,
    spare: Vec<Field>,
}

impl Reader {
    /// For a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands a list in whose memory the next head uses again.
    pub fn recycle(&mut self, fields: Fields) {
        if fields.list.capacity() > self.spare.capacity() {
            self.spare = fields.list;
        }
    }

    /// Takes the next head out of `buffer`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The head is malformed, over a limit, or its framing is ambiguous: the client
    /// gets 502 and the connection must be closed.
    pub fn read(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
        asked: Asked<'_>,
    ) -> Result<Option<UpstreamHead>, Refusal> {
        if buffer.is_empty() {
            return Ok(None);
        }
        let length = match self.search.advance(buffer, limits) {
            Ok(Found::Head(length)) => length,
            Ok(Found::Partial) => return Ok(None),
            Err(Class::HeadTooLarge | Class::TooManyHeaders) => {
                return Err(Refusal::new(Class::ResponseHeadTooLarge));
            }
            Err(_) => return Err(Refusal::new(Class::BadResponseHead)),
        };
        let head = buffer.split_to(length);
        parse(head, std::mem::take(&mut self.spare), limits, asked).map(Some).map_err(Refusal::new)
    }
}

fn parse(
    mut head: BytesMut,
    mut list: Vec<Field>,
    limits: &Limits,
    asked: Asked<'_>,
) -> Result<UpstreamHead, Class> {
    list.clear();
    let (status, version) = parse_lines(&head, &mut list)?;
    if list.len() > limits.header_count_max {
        return Err(Class::ResponseHeadTooLarge);
    }
    lines::fold(&mut head, &mut list);
    judge(status, version, Fields { buffer: head.freeze(), list }, asked)
}

fn parse_lines(head: &[u8], list: &mut Vec<Field>) -> Result<(StatusCode, Version), Class> {
    if !head.starts_with(b"HTTP/1.") {
        return Err(Class::BadResponseHead);
    }
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, head, &mut room) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Class::ResponseHeadTooLarge),
        _ => return Err(Class::BadResponseHead),
    }
    let (Some(code), Some(version)) = (response.code, response.version) else {
        return Err(Class::BadResponseHead);
    };
    let status = StatusCode::from_u16(code).map_err(|_| Class::BadResponseHead)?;
    if code > 599 {
        return Err(Class::BadResponseHead);
    }
    lines::note(head, response.headers, list).map_err(|_| Class::BadResponseHead)?;
    Ok((status, if version == 0 { Version::Http10 } else { Version::Http11 }))
}

/// The framing check (RFC 9112 §6.3) and what belongs to the hop.
fn judge(
    status: StatusCode,
    version: Version,
    mut fields: Fields,
    asked: Asked<'_>,
) -> Result<UpstreamHead, Class> {
    let framing = framing(status, version, &fields, asked.method)?;
    let options = Options::read(&fields, None).ok_or(Class::ProtectedResponseOption)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        check_switch(version, &fields, options, asked)?;
    }
    // Where there is no body the length speaks of the body that a GET would have had.
    let speaks_of_get = asked.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    let names = if options.others { crate::admit::connection_names(&fields) } else { Vec::new() };
    fields.drop_where(|known, name| match known {
        Known::ContentLength => !speaks_of_get,
        Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::TransferEncoding => true,
        Known::Upgrade | Known::Te | Known::ProxyAuthenticate => true,
        _ => !names.is_empty() && names.iter().any(|listed| listed == name),
    });
    let keep_alive = match version {
        Version::Http10 => options.keep_alive && !options.close,
        _ => !options.close,
    };
    let keep_alive = keep_alive && framing != Framing::Close && status != StatusCode::SWITCHING_PROTOCOLS;
    Ok(UpstreamHead { head: ResponseHead { status, fields, framing }, keep_alive, version })
}

fn framing(status: StatusCode, version: Version, fields: &Fields, method: &Method) -> Result<Framing, Class> {
    let bad = Class::BadResponseFraming;
    let mut lengths = fields.values(Known::ContentLength);
    let length = match lengths.next() {
        Some(value) => Some(crate::admit::content_length(value).ok_or(bad)?),
        None => None,
    };
    let mut codings = fields.values(Known::TransferEncoding);
    let chunked = match codings.next() {
        Some(value) if version == Version::Http11 && value.eq_ignore_ascii_case(b"chunked") => true,
        Some(_) => return Err(bad),
        None => false,
    };
    if lengths.next().is_some() || codings.next().is_some() || (chunked && length.is_some()) {
        return Err(bad);
    }
    let code = status.as_u16();
    if status.is_informational() || code == 204 {
        // RFC 9110 §8.6, RFC 9112 §6.1: none of them may have either. A length of zero
        // on a 204 is common and says the same.
        if chunked || length.is_some_and(|length| length > 0) || (code != 204 && length.is_some()) {
            return Err(bad);
        }
        return Ok(Framing::None);
    }
    if *method == Method::HEAD || code == 304 {
        return Ok(Framing::None);
    }
    Ok(match (chunked, length) {
        (true, _) => Framing::Chunked,
        (false, Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Close,
    })
}

/// A switch must be to what was asked for, and say so (RFC 9110 §7.8).
fn check_switch(version: Version, fields: &Fields, options: Options, asked: Asked<'_>) -> Result<(), Class> {
    let mut offered = fields.values(Known::Upgrade);
    let (Some(asked), Some(offer), None) = (asked.upgrade, offered.next(), offered.next()) else {
        return Err(Class::UnexpectedSwitch);
    };
    if version == Version::Http11 && options.upgrade && offer.eq_ignore_ascii_case(asked) {
        return Ok(());
    }
    Err(Class::UnexpectedSwitch)
}

/// The `Upgrade` of a 101, lower case, for the answer to the client.
pub fn switched_to(head: &ResponseHead) -> Option<Bytes> {
    head.fields.get(Known::Upgrade).map(|value| Bytes::from(value.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests;

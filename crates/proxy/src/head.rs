//! A message head as bytes and spans: one buffer, one list, no allocation per field.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, Method, StatusCode};

use crate::control_bytes;

/// A range of a head's buffer, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub length: u32,
}

impl Span {
    /// From offsets into a head, which is never longer than `head_bytes_max` (at most
    /// 1 MiB); an offset past 4 GiB would give an empty span.
    pub(crate) fn new(start: usize, length: usize) -> Self {
        match (u32::try_from(start), u32::try_from(length)) {
            (Ok(start), Ok(length)) => Self { start, length },
            _ => Self::default(),
        }
    }

    /// The bytes of this span in `buffer`; empty when it lies outside.
    pub(crate) fn of(self, buffer: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buffer.get(start..start + self.length as usize).unwrap_or_default()
    }

    /// The same bytes, sharing the buffer.
    pub(crate) fn share(self, buffer: &Bytes) -> Bytes {
        let start = self.start as usize;
        let end = start + self.length as usize;
        if end <= buffer.len() { buffer.slice(start..end) } else { Bytes::new() }
    }
}

/// One header field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name, lower case.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
    /// Which name it is, when it is one that the hop itself reads.
    pub known: Known,
    /// Whether it goes on to the other side.
    pub kept: bool,
}

/// Header fields in the order in which they came. Names are lower case.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Holds all names and values.
    pub buffer: Bytes,
    /// The fields.
    pub list: Vec<Field>,
}

impl Fields {
    /// All fields that are still kept: name, value.
    pub fn kept(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().filter(|f| f.kept).map(|f| (f.name.of(&self.buffer), f.value.of(&self.buffer)))
    }

    /// All fields as they came, dropped ones included: name, value.
    pub fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|f| (f.name.of(&self.buffer), f.value.of(&self.buffer)))
    }

    /// The first value of a known field, dropped ones included.
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        self.values(known).next()
    }

    /// All values of a known field, dropped ones included.
    pub fn values(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.list.iter().filter(move |f| f.known == known).map(|f| f.value.of(&self.buffer))
    }

    /// All values of the field with this lower-case name, dropped ones included.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.all().filter(move |(n, _)| *n == name).map(|(_, v)| v)
    }

    /// All values of the field with this lower-case name that are still kept: what an
    /// upstream will see, and therefore what routing and policy read.
    pub fn kept_named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.kept().filter(move |(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Known name, name and value of each field, dropped ones included.
    pub fn entries(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.list.iter().map(|f| (f.known, f.name.of(&self.buffer), f.value.of(&self.buffer)))
    }

    /// Appends a field as a line of HTTP/1.
    pub(crate) fn append_line(&self, field: &Field, out: &mut Vec<u8>) {
        let (name, value) = (field.name, field.value);
        let length = (value.start + value.length + 2).saturating_sub(name.start);
        let line = Span { start: name.start, length }.of(&self.buffer);
        // Most stand in the head's own buffer as they are written: one copy for four.
        if value.start == name.start + name.length + 2
            && line.get(name.length as usize..).is_some_and(|rest| rest.starts_with(b": "))
            && line.ends_with(b"\r\n")
        {
            return out.extend_from_slice(line);
        }
        for part in [name.of(&self.buffer), b": ", value.of(&self.buffer), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }

    /// How many fields there are, dropped ones included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Drops every field for which `doomed` holds: it will not be sent on.
    pub fn drop_where(&mut self, mut doomed: impl FnMut(Known, &[u8]) -> bool) {
        for field in &mut self.list {
            if doomed(field.known, field.name.of(&self.buffer)) {
                field.kept = false;
            }
        }
    }
}

/// Builds [`Fields`] of our own making: problem documents, admin pages, trailers.
#[derive(Debug, Default)]
pub struct FieldsBuilder {
    buffer: BytesMut,
    list: Vec<Field>,
}

impl FieldsBuilder {
    /// Starts with a list whose memory is used again, and room for so many bytes: a buffer that is
    /// filled is shared without another allocation.
    pub fn with_spare(mut list: Vec<Field>, bytes: usize) -> Self {
        list.clear();
        Self { buffer: BytesMut::with_capacity(bytes), list }
    }

    /// Adds one field. The name is folded to lower case.
    ///
    /// # Errors
    /// The name is not a token (RFC 9110 §5.1), or the value holds a control character.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), UnfitValue> {
        if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) || !is_field_value(value) {
            return Err(UnfitValue);
        }
        self.push_unchecked(name, value);
        Ok(())
    }

    /// Adds one field whose name is a lower-case token by its type; see [`FieldsBuilder::push`].
    ///
    /// # Errors
    /// The value holds a control character.
    pub(crate) fn push_named(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), UnfitValue> {
        if !is_field_value(value) {
            return Err(UnfitValue);
        }
        let name = name.as_str().as_bytes();
        let start = self.buffer.len();
        self.buffer.put_slice(name);
        self.note(start, name.len(), Known::of(name), value);
        Ok(())
    }

    /// Adds one field whose name is a token and whose value was checked by a parser.
    pub(crate) fn push_unchecked(&mut self, name: &[u8], value: &[u8]) {
        let start = self.buffer.len();
        self.buffer.put_slice(name);
        if let Some(copied) = self.buffer.get_mut(start..) {
            copied.make_ascii_lowercase();
        }
        let known = Known::of(self.buffer.get(start..).unwrap_or_default());
        self.note(start, name.len(), known, value);
    }

    /// Adds the field whose name stands at `start`, behind everything else.
    fn note(&mut self, start: usize, length: usize, known: Known, value: &[u8]) {
        let name = Span::new(start, length);
        let value_start = self.buffer.len();
        self.buffer.put_slice(value);
        self.list.push(Field { name, value: Span::new(value_start, value.len()), known, kept: true });
    }

    /// Puts bytes into the buffer that belong to no field: a method, a target.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.buffer.len();
        self.buffer.put_slice(bytes);
        Span::new(start, bytes.len())
    }

    /// The fields.
    pub fn finish(self) -> Fields {
        Fields { buffer: self.buffer.freeze(), list: self.list }
    }
}

/// Whether a byte may stand in a token (RFC 9110 §5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
}

/// Whether bytes may stand in a field value (RFC 9110 §5.5): no control characters
/// but the tab. Bytes past ASCII (obs-text) pass: they are opaque.
pub(crate) fn is_field_value(value: &[u8]) -> bool {
    control_bytes::is_free_of_controls(value)
}

/// Field names that the hop reads. Everything else is [`Known::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the header of that name")]
pub enum Known {
    Other,
    Accept,
    AcceptEncoding,
    AccessControlRequestHeaders,
    AccessControlRequestMethod,
    Authorization,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    Origin,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Server,
    Te,
    Traceparent,
    Tracestate,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    /// Every `x-forwarded-…`, and `x-real-ip`: what a proxy says about its client.
    /// Also the names by which peers tell the same (`true-client-ip`, `cf-connecting-ip`,
    /// `x-original-url`…) and who the client is: `client-cert` (RFC 9440 §2.4), `x-ssl-client-…`,
    /// `remote-user`, `x-auth-request-…`.
    XForwarded,
    XForwardedFor,
}

/// How the names begin of what only a proxy in front can vouch for.
const VOUCHED: [&[u8]; 4] = [b"x-forwarded-", b"x-ssl-client-", b"ssl-client-", b"x-auth-request-"];

impl Known {
    /// Which name this is. `name` is lower case.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"te" => Self::Te,
            b"via" => Self::Via,
            b"host" => Self::Host,
            b"date" => Self::Date,
            b"accept" => Self::Accept,
            b"cookie" => Self::Cookie,
            b"expect" => Self::Expect,
            b"origin" => Self::Origin,
            b"server" => Self::Server,
            b"trailer" => Self::Trailer,
            b"upgrade" => Self::Upgrade,
            b"forwarded" => Self::Forwarded,
            b"x-real-ip" | b"x-client-ip" | b"true-client-ip" => Self::XForwarded,
            b"x-original-host" | b"x-original-url" | b"x-rewrite-url" => Self::XForwarded,
            b"client-ip" | b"x-cluster-client-ip" | b"fastly-client-ip" => Self::XForwarded,
            b"cf-connecting-ip" | b"cf-connecting-ipv6" | b"cf-pseudo-ipv4" => Self::XForwarded,
            b"x-forwarded" | b"forwarded-for" | b"x-original-forwarded-for" => Self::XForwarded,
            b"x-envoy-external-address" | b"x-envoy-original-path" => Self::XForwarded,
            b"x-original-uri" | b"x-original-method" | b"x-appengine-user-ip" => Self::XForwarded,
            b"client-cert" | b"client-cert-chain" | b"x-client-cert" => Self::XForwarded,
            b"x-client-dn" | b"x-client-verify" => Self::XForwarded,
            b"remote-user" | b"x-remote-user" | b"x-webauth-user" => Self::XForwarded,
            b"connection" => Self::Connection,
            b"keep-alive" => Self::KeepAlive,
            b"tracestate" => Self::Tracestate,
            b"user-agent" => Self::UserAgent,
            b"traceparent" => Self::Traceparent,
            b"content-type" => Self::ContentType,
            b"authorization" => Self::Authorization,
            b"content-length" => Self::ContentLength,
            b"http2-settings" => Self::Http2Settings,
            b"accept-encoding" => Self::AcceptEncoding,
            b"x-forwarded-for" => Self::XForwardedFor,
            b"proxy-connection" => Self::ProxyConnection,
            b"transfer-encoding" => Self::TransferEncoding,
            b"proxy-authenticate" => Self::ProxyAuthenticate,
            b"proxy-authorization" => Self::ProxyAuthorization,
            b"access-control-request-method" => Self::AccessControlRequestMethod,
            b"access-control-request-headers" => Self::AccessControlRequestHeaders,
            _ if VOUCHED.iter().any(|start| name.starts_with(start)) => Self::XForwarded,
            _ => Self::Other,
        }
    }
}

/// Protocol version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
    /// None: the connection is opaque, and its head is ours ([`crate::admit::opaque`]).
    Opaque,
}

impl Version {
    /// `"1.0"`, `"1.1"`, `"2"`, or `"tcp"` for an opaque connection.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
            Self::Opaque => "tcp",
        }
    }
}

/// How a message's body is delimited, after the strict framing check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// Chunked (RFC 9112 §7.1).
    Chunked,
    /// Until the connection closes: responses only (RFC 9112 §6.3).
    Close,
    /// A protocol with its own framing (HTTP/2), length unknown.
    Stream,
}

/// A request head after admission. Only [`crate::admit`] makes one that leads on.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target exactly as it was sent: firewall and signatures need it.
    pub raw_target: Bytes,
    /// The path after normalisation: starts with `/`, no dot segments, no duplicate
    /// slashes; percent-encoding of unreserved characters undone. This is what is
    /// routed, judged and sent upstream.
    pub path: Bytes,
    /// The query without `?`, as it was sent.
    pub query: Option<Bytes>,
    /// Host without port, lower case, no trailing dot.
    pub host: Bytes,
    /// Port of the authority, when one was written.
    pub port: Option<u16>,
    /// Version.
    pub version: Version,
    /// Whether the path still holds `%2F`: a slash that is data. The router refuses it
    /// unless the route allows it.
    pub encoded_slash: bool,
    /// Header fields; framing and hop-by-hop fields are already dropped.
    pub fields: Fields,
    /// The head as it was written, for whoever must see names in their own case. Empty
    /// unless [`crate::Admission::keep_written`]; over HTTP/2 always.
    pub written: Bytes,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the client reads trailers (`TE: trailers`, RFC 9110 §10.1.4).
    pub accepts_trailers: bool,
    /// Whether the client waits for `100 Continue` (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    /// The one protocol asked for by `Upgrade`, lower case (RFC 9110 §7.8).
    pub upgrade: Option<Bytes>,
    /// Whether the client wants the connection kept (HTTP/1 only).
    pub keep_alive: bool,
}

impl RequestHead {
    /// All fields as they came, dropped ones included, names as they were written where
    /// that was kept.
    pub fn written_fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let whole = self.written.len() == self.fields.buffer.len();
        let names = if whole { &self.written } else { &self.fields.buffer };
        self.fields.list.iter().map(move |f| (f.name.of(names), f.value.of(&self.fields.buffer)))
    }
}

/// A response head: an upstream's after its framing check, or one of ours.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// Header fields; framing and hop-by-hop fields are already dropped.
    pub fields: Fields,
    /// How the body is delimited.
    pub framing: Framing,
}

/// Fields that we add to a message, in one buffer. Cleared and used again.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// Each as a line of HTTP/1.
    buffer: Vec<u8>,
    list: Vec<Addition>,
    /// Bit n is set when a replacing name of n bytes is among them (names past 63
    /// bytes: bit 63).
    lengths: u64,
}

#[derive(Clone, Copy, Debug)]
struct Addition {
    name: Span,
    value: Span,
    manner: Manner,
}

impl Addition {
    /// Both, as a line of HTTP/1.
    fn line(self, buffer: &[u8]) -> &[u8] {
        let length = (self.value.start + self.value.length + 2).saturating_sub(self.name.start);
        Span { start: self.name.start, length }.of(buffer)
    }
}

/// How an addition stands to the message's own fields of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// In their place.
    Replace,
    /// Only when there are none.
    Default,
    /// Beside them.
    Beside,
    /// Nothing is added; they are taken away.
    Remove,
}

impl Additions {
    /// Nothing yet, with room for so many fields and bytes.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes), list: Vec::with_capacity(fields), lengths: 0 }
    }

    /// Adds one field that replaces the message's own of the same name. `name` is lower
    /// case. A value that holds a byte which a field value cannot hold (RFC 9110 §5.5)
    /// is refused: nothing that came from a client can split a head.
    ///
    /// # Errors
    /// The value holds CR, LF, NUL or another control character.
    pub fn push(&mut self, name: &str, value: &[u8]) -> Result<(), UnfitValue> {
        self.push_as(Manner::Replace, name, value)
    }

    /// Adds one field in another manner; see [`Additions::push`].
    ///
    /// # Errors
    /// The value holds CR, LF, NUL or another control character.
    pub fn push_as(&mut self, manner: Manner, name: &str, value: &[u8]) -> Result<(), UnfitValue> {
        if !is_field_value(value) {
            return Err(UnfitValue);
        }
        if matches!(manner, Manner::Replace | Manner::Remove) {
            self.lengths |= 1 << name.len().min(63);
        }
        self.buffer.reserve(name.len() + value.len() + 4);
        let name = self.append(name.as_bytes());
        self.buffer.extend_from_slice(b": ");
        let value = self.append(value);
        self.buffer.extend_from_slice(b"\r\n");
        self.list.push(Addition { name, value, manner });
        Ok(())
    }

    /// Adds a field in the place of those of this lower-case name that were added before;
    /// see [`Additions::push`].
    ///
    /// # Errors
    /// The value holds CR, LF, NUL or another control character.
    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), UnfitValue> {
        let buffer = &self.buffer;
        self.list.retain(|addition| addition.name.of(buffer) != name.as_bytes());
        self.push(name, value)
    }

    /// Adds a field unless one of this lower-case name was added or taken away before;
    /// see [`Additions::push`].
    ///
    /// # Errors
    /// The value holds CR, LF, NUL or another control character.
    pub fn set_default(&mut self, name: &str, value: &[u8]) -> Result<(), UnfitValue> {
        let buffer = &self.buffer;
        if self.list.iter().any(|addition| addition.name.of(buffer) == name.as_bytes()) {
            return Ok(());
        }
        self.push_as(Manner::Default, name, value)
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let start = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(bytes);
        Span { start, length: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }
    }

    /// Takes the message's own fields of this lower-case name away.
    pub fn remove(&mut self, name: &str) {
        // An empty value is always fit.
        let _ = self.push_as(Manner::Remove, name, b"");
    }

    /// Name and value of each that is added.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list
            .iter()
            .filter(|addition| addition.manner != Manner::Remove)
            .map(|addition| (addition.name.of(&self.buffer), addition.value.of(&self.buffer)))
    }

    /// Whether a field of this lower-case name is among them that replaces others or
    /// takes them away.
    pub fn has(&self, name: &[u8]) -> bool {
        self.lengths & (1 << name.len().min(63)) != 0
            && self.list.iter().any(|a| {
                matches!(a.manner, Manner::Replace | Manner::Remove) && a.name.of(&self.buffer) == name
            })
    }

    /// A message's kept fields together with these, as they are written.
    pub fn with<'a>(&'a self, fields: &'a Fields) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let theirs = self.spared(fields).map(|f| (f.name.of(&fields.buffer), f.value.of(&fields.buffer)));
        let ours = self.list.iter().filter(|addition| self.is_wanted(addition, fields));
        theirs.chain(ours.map(|a| (a.name.of(&self.buffer), a.value.of(&self.buffer))))
    }

    /// A message's kept fields that none of these replaces or takes away.
    pub(crate) fn spared<'a>(&'a self, fields: &'a Fields) -> impl Iterator<Item = &'a Field> {
        fields.list.iter().filter(|field| field.kept && !self.has(field.name.of(&fields.buffer)))
    }

    /// The bytes of all of these.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// What is added to a message with these fields: names, and values that share a copy of
    /// [`Additions::bytes`], which begins at that place.
    pub(crate) fn shared_with<'a>(
        &'a self,
        fields: &'a Fields,
        (copy, place): (&'a Bytes, usize),
    ) -> impl Iterator<Item = (&'a [u8], Bytes)> {
        let ours = self.list.iter().filter(|addition| self.is_wanted(addition, fields));
        ours.map(move |a| {
            let value = Span::new(place + a.value.start as usize, a.value.length as usize);
            (a.name.of(&self.buffer), value.share(copy))
        })
    }

    /// Appends the same as lines of HTTP/1.
    pub(crate) fn append_lines(&self, fields: &Fields, out: &mut Vec<u8>) {
        self.spared(fields).for_each(|field| fields.append_line(field, out));
        for addition in self.list.iter().filter(|addition| self.is_wanted(addition, fields)) {
            out.extend_from_slice(addition.line(&self.buffer));
        }
    }

    /// Whether one is added to a message with these fields.
    fn is_wanted(&self, addition: &Addition, fields: &Fields) -> bool {
        match addition.manner {
            Manner::Replace | Manner::Beside => true,
            Manner::Remove => false,
            Manner::Default => {
                let name = addition.name.of(&self.buffer);
                !self.has(name) && fields.kept_named(name).next().is_none()
            }
        }
    }

    /// Adds what was prepared before any request came, behind what is there.
    pub fn extend(&mut self, prepared: &Self) {
        let offset = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(&prepared.buffer);
        let moved = |span: Span| Span { start: span.start.saturating_add(offset), ..span };
        self.list.extend(prepared.list.iter().map(|addition| Addition {
            name: moved(addition.name),
            value: moved(addition.value),
            manner: addition.manner,
        }));
        self.lengths |= prepared.lengths;
    }

    /// How many there are, those that take away included.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Bytes of memory for names and values.
    pub fn room_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.list.clear();
        self.lengths = 0;
    }
}

/// A field value held a control character.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a header value cannot hold control characters")]
pub struct UnfitValue;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_replace_default_or_stand_beside() {
        let mut builder = FieldsBuilder::with_spare(Vec::new(), 64);
        for (name, value) in
            [("vary", "accept"), ("x-frame-options", "SAMEORIGIN"), ("server", "old"), ("x-powered-by", "y")]
        {
            builder.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let fields = builder.finish();
        let mut additions = Additions::default();
        additions.push("server", b"new").unwrap();
        additions.remove("x-powered-by");
        additions.push_as(Manner::Beside, "vary", b"origin").unwrap();
        additions.push_as(Manner::Default, "x-frame-options", b"DENY").unwrap();
        additions.push_as(Manner::Default, "referrer-policy", b"no-referrer").unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let written: Vec<String> =
            additions.with(&fields).map(|(n, v)| format!("{}: {}", text(n), text(v))).collect();
        assert_eq!(
            written,
            [
                "vary: accept",
                "x-frame-options: SAMEORIGIN",
                "server: new",
                "vary: origin",
                "referrer-policy: no-referrer"
            ]
        );
        let mut lines = Vec::new();
        additions.append_lines(&fields, &mut lines);
        assert_eq!(text(&lines), written.iter().map(|line| format!("{line}\r\n")).collect::<String>());
        let mut behind = Additions::default();
        behind.push("first", b"1").unwrap();
        behind.extend(&additions);
        let together: Vec<String> =
            behind.with(&fields).map(|(n, v)| format!("{}: {}", text(n), text(v))).collect();
        assert_eq!(together, [&written[..2], &["first: 1".to_owned()], &written[2..]].concat());
        assert!(additions.has(b"server") && !additions.has(b"vary"));
        additions.set("server", b"newer").unwrap();
        let servers: Vec<_> = additions.with(&fields).filter(|(name, _)| *name == b"server").collect();
        assert_eq!(servers, [(&b"server"[..], &b"newer"[..])]);
    }

    #[test]
    fn a_field_is_one_line_however_it_stood_in_its_head() {
        // A head as it came, with names that are folded already.
        let head: &[u8] = b"a: 1\r\nb:2\r\nc:  3\r\nd: \r\ne: 5 \r\nf: 6";
        let field = |name: u32, value: u32, length| Field {
            name: Span { start: name, length: 1 },
            value: Span { start: value, length },
            known: Known::Other,
            kept: true,
        };
        let list = vec![
            field(0, 3, 1),
            field(6, 8, 1),
            field(11, 15, 1),
            field(18, 21, 0),
            field(23, 26, 1),
            field(30, 33, 1),
        ];
        let fields = Fields { buffer: Bytes::from_static(head), list };
        let mut out = Vec::new();
        fields.list.iter().for_each(|field| fields.append_line(field, &mut out));
        assert_eq!(String::from_utf8(out).unwrap(), "a: 1\r\nb: 2\r\nc: 3\r\nd: \r\ne: 5\r\nf: 6\r\n");
    }

    #[test]
    fn an_addition_cannot_split_a_head() {
        let mut additions = Additions::default();
        for evil in [&b"a\r\nb: c"[..], b"a\n", b"a\0", b"a\x7f"] {
            assert_eq!(additions.push("x", evil), Err(UnfitValue));
        }
        assert!(additions.push("x", b"a b\tc").is_ok());
    }
}

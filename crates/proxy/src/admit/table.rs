//! The one table of admission: input class by class, what happens and why. The code
//! refers to its rows ([`super::Refusal`] carries the class), and the tests walk over
//! it: a class without an attack and an honest neighbour turns them red.

/// What happens to an input of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The message is refused with this status; nothing of it reaches an upstream.
    Refuse(u16),
    /// The message is changed so that every reader reads it alike, and goes on.
    Normalise,
}

/// Where inputs of a class can come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Request heads of HTTP/1 and HTTP/2.
    Both,
    /// Request heads of HTTP/1.
    Http1,
    /// Request heads of HTTP/2.
    Http2,
    /// Bodies of HTTP/1 messages.
    Body,
    /// Response heads of upstreams.
    Response,
}

/// One class of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The class.
    pub class: Class,
    /// Its name in events, metrics and documentation.
    pub name: &'static str,
    /// Where it can come from.
    pub source: Source,
    /// What happens.
    pub effect: Effect,
    /// Why.
    pub why: &'static str,
    /// Standards and the CVE ids of peers that fell to it.
    pub references: &'static [&'static str],
}

macro_rules! classes {
    ($($class:ident $name:literal $source:ident $effect:expr, $why:literal, [$($reference:literal),*];)+) => {
        /// A class of inputs; the row of the same name in [`CLASSES`] says what happens.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Class {
            $(#[doc = $why] $class,)+
        }

        /// All classes, in the order in which a reader of a request meets them.
        pub const CLASSES: &[Row] = &[
            $(Row {
                class: Class::$class,
                name: $name,
                source: Source::$source,
                effect: $effect,
                why: $why,
                references: &[$($reference),*],
            },)+
        ];

        impl Class {
    /// The limit that inputs of this class went past, by its name in
    /// [`crate::limits::TABLE`].
    pub const fn limit(self) -> Option<&'static str> {
        Some(match self {
            Self::HeadTooLarge => "head_bytes_max",
            Self::TooManyHeaders => "header_count_max",
            Self::TargetTooLong => "uri_bytes_max",
            Self::TooManySegments => "path_segments_max",
            Self::TrailerTooLarge => "trailer_bytes_max",
            Self::BodyTooLarge => "body_bytes_max",
            _ => return None,
        })
    }

            /// The row of this class.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$class => Row {
                        class: Class::$class,
                        name: $name,
                        source: Source::$source,
                        effect: $effect,
                        why: $why,
                        references: &[$($reference),*],
                    },)+
                }
            }
        }
    };
}

use Effect::{Normalise, Refuse};

classes! {
    // Lines and fields
    HeadTooLarge "head_too_large" Both Refuse(431), "the head is over head_bytes_max or http2_header_list_bytes_max", ["RFC 6585 §5", "CVE-2023-44487"];
    TooManyHeaders "too_many_headers" Both Refuse(431), "the head has more fields than header_count_max", ["RFC 6585 §5"];
    TargetTooLong "target_too_long" Both Refuse(414), "the target is over uri_bytes_max", ["RFC 9110 §15.5.15"];
    LeadingEmptyLine "leading_empty_line" Http1 Normalise, "one empty line before the request line is skipped; a second one is a bad request line", ["RFC 9112 §2.2"];
    BareLineFeed "bare_line_feed" Http1 Refuse(400), "a line ends with LF alone: readers disagree where the head ends", ["RFC 9112 §2.2", "CVE-2025-58056"];
    BareCarriageReturn "bare_carriage_return" Http1 Refuse(400), "CR stands inside a line: some readers take it for a line end", ["RFC 9112 §2.2"];
    BadRequestLine "bad_request_line" Http1 Refuse(400), "the request line is not method, one space, target, one space, version", ["RFC 9112 §3"];
    BadVersion "bad_version" Http1 Refuse(505), "the version is neither HTTP/1.0 nor HTTP/1.1", ["RFC 9112 §2.3"];
    ObsFold "obs_fold" Http1 Refuse(400), "a field line is folded: readers disagree whether it continues the one before", ["RFC 9112 §5.2"];
    SpaceBeforeColon "space_before_colon" Http1 Refuse(400), "white space stands between a field name and its colon", ["RFC 9112 §5.1"];
    BadHeaderName "bad_header_name" Both Refuse(400), "a field name is empty or not a token, or over HTTP/2 not in lower case", ["RFC 9110 §5.1", "RFC 9113 §8.2.1"];
    ControlInHeader "control_in_header" Both Refuse(400), "a field value holds NUL or another control character", ["RFC 9110 §5.5"];
    PaddedValue "padded_value" Http2 Refuse(400), "a field value begins or ends with white space", ["RFC 9113 §8.2.1"];
    UnderscoreName "underscore_name" Both Refuse(400), "a field name holds an underscore: upstreams that fold it to a dash would take it for another field", ["CVE-2025-64484", "CVE-2026-52845"];
    KnownAlias "known_alias" Both Refuse(400), "a field name is content-length, transfer-encoding or another field of this hop with other punctuation: upstreams that fold names would take it for that field", ["RFC 9112 §6.3", "CVE-2025-64484"];
    DuplicateSingleton "duplicate_singleton" Both Refuse(400), "authorization, content-type or origin comes more than once: readers disagree which one counts", ["RFC 9110 §5.3", "CVE-2026-26308"];

    // Framing
    DuplicateContentLength "duplicate_content_length" Both Refuse(400), "content-length comes more than once, be it with the same value", ["RFC 9112 §6.3"];
    BadContentLength "bad_content_length" Both Refuse(400), "content-length is not a decimal number without sign that fits 64 bits", ["RFC 9110 §8.6"];
    ContentLengthMismatch "content_length_mismatch" Http2 Refuse(400), "content-length is not the length of the stream's data", ["RFC 9113 §8.1.1"];
    ContentLengthWithTransferEncoding "content_length_with_transfer_encoding" Http1 Refuse(400), "content-length and transfer-encoding together: readers disagree where the body ends", ["RFC 9112 §6.3", "CVE-2026-2835", "CVE-2025-4366", "CVE-2025-55315"];
    DuplicateTransferEncoding "duplicate_transfer_encoding" Http1 Refuse(400), "transfer-encoding comes more than once", ["RFC 9112 §6.1"];
    BadTransferEncoding "bad_transfer_encoding" Http1 Refuse(400), "transfer-encoding is anything but chunked", ["RFC 9112 §6.1"];
    TransferEncodingInHttp10 "transfer_encoding_in_http10" Http1 Refuse(400), "an HTTP/1.0 message has transfer-encoding: its framing is faulty", ["RFC 9112 §6.1"];
    BadExpectation "bad_expectation" Both Refuse(417), "expect is anything but 100-continue", ["RFC 9110 §10.1.1"];

    // Hop by hop
    HopByHopField "hop_by_hop_field" Http1 Normalise, "fields of this hop, and those that connection names, are not sent on", ["RFC 9110 §7.6.1"];
    ProtectedConnectionOption "protected_connection_option" Http1 Refuse(400), "connection names a field that an upstream relies on: content-length, host, authorization, cookie, forwarded, identity ...", ["RFC 9110 §7.6.1", "CVE-2026-6338", "CVE-2024-45410", "CVE-2026-29054"];
    ConnectionFieldInHttp2 "connection_field_in_http2" Http2 Refuse(400), "connection, keep-alive, proxy-connection, transfer-encoding and upgrade have no place in HTTP/2", ["RFC 9113 §8.2.2"];
    BadTe "bad_te" Http2 Refuse(400), "te in HTTP/2 is anything but trailers", ["RFC 9113 §8.2.2"];
    UpgradeIgnored "upgrade_ignored" Http1 Normalise, "upgrade to h2c, without connection: upgrade, or in HTTP/1.0 is not sent on", ["RFC 9110 §7.8", "RFC 9113 §3.1"];
    UpgradeAmbiguous "upgrade_ambiguous" Http1 Refuse(400), "upgrade names more than one protocol, or none", ["RFC 9110 §7.8", "CVE-2026-2833"];
    UpgradeWithBody "upgrade_with_body" Http1 Refuse(400), "a request to switch protocols has a body: readers disagree when the new protocol begins", ["RFC 9110 §7.8", "CVE-2026-2833", "CVE-2026-73548", "CVE-2026-71324"];

    // Method
    BadMethod "bad_method" Http2 Refuse(400), "the method is not a token", ["RFC 9110 §9.1"];
    MethodTooLong "method_too_long" Both Refuse(501), "the method is over 32 bytes, longer than any that is served", ["RFC 9112 §3"];
    MethodCase "method_case" Both Refuse(400), "the method is a known one in other case: methods are case-sensitive, but not every upstream thinks so", ["RFC 9110 §9.1"];
    ForbiddenMethod "forbidden_method" Both Refuse(501), "CONNECT, TRACE, TRACK and PRI are not served", ["RFC 9110 §9.3.6", "RFC 9110 §9.3.8", "RFC 9113 §11.6", "CVE-2026-2833"];
    MethodOverride "method_override" Both Refuse(400), "x-http-method-override and its like would change the method that policy judged", ["CVE-2026-30851"];

    // Host
    BadPseudoHeader "bad_pseudo_header" Http2 Refuse(400), "a pseudo-header is missing, unknown, doubled or behind a regular field", ["RFC 9113 §8.3"];
    BadScheme "bad_scheme" Both Refuse(400), "the scheme is neither http nor https", ["RFC 9110 §4.2"];
    MissingHost "missing_host" Both Refuse(400), "no host is named, and the version is not HTTP/1.0", ["RFC 9112 §3.2"];
    HostlessHttp10 "hostless_http10" Http1 Normalise, "an HTTP/1.0 request that names no host is one for the address that it came to: routes of another host do not take it", ["RFC 9112 §3.2"];
    DuplicateHost "duplicate_host" Both Refuse(400), "host comes more than once", ["RFC 9112 §3.2"];
    BadHost "bad_host" Both Refuse(400), "the host is no name, no address, or its port no number", ["RFC 9110 §7.2", "RFC 3986 §3.2.2"];
    HostDisagrees "host_disagrees" Both Refuse(400), "host differs from the absolute target or from :authority", ["RFC 9112 §3.2.2", "RFC 9113 §8.3.1"];
    HostNormalised "host_normalised" Both Normalise, "the host is folded to lower case, without its trailing dot; an IPv6 address is written canonically", ["RFC 9110 §4.2.3", "CVE-2026-27587"];

    // Target
    BadTargetForm "bad_target_form" Both Refuse(400), "the target is neither a path nor an absolute http(s) URI; of CONNECT, not host and port", ["RFC 9112 §3.2"];
    Fragment "fragment" Http1 Refuse(400), "the target holds #: a fragment is never sent, and readers cut there", ["RFC 9112 §3.2", "CVE-2025-66490"];
    FragmentCut "fragment_cut" Http2 Normalise, "the HTTP/2 library cuts :path at #; what is left is routed, judged and sent upstream", ["RFC 9113 §8.3.1", "CVE-2025-66490"];
    TargetCharacter "target_character" Both Refuse(400), "the target holds a control character or a byte past ASCII", ["RFC 3986 §2"];
    BadPercentEncoding "bad_percent_encoding" Both Refuse(400), "a % in the path is not followed by two hexadecimal digits", ["RFC 3986 §2.1"];
    InvalidUtf8Path "invalid_utf8_path" Both Refuse(400), "the decoded path is not UTF-8: overlong forms hide dots and slashes", ["RFC 3629 §10"];
    Backslash "backslash" Both Refuse(400), "the path holds a backslash, raw or encoded: some readers take it for a slash", ["CVE-2025-66490", "CVE-2021-29492"];
    EncodedControl "encoded_control" Both Refuse(400), "the path holds an encoded control character, NUL among them", ["CVE-2025-66490", "CVE-2026-41059"];
    EncodedSlash "encoded_slash" Both Refuse(400), "the path holds %2f and the route does not allow it: some readers take it for a slash", ["CVE-2025-66490", "CVE-2021-29492"];
    HiddenDotSegment "hidden_dot_segment" Both Refuse(400), "a dot segment stands between encoded slashes: readers that decode first would climb", ["CVE-2025-32431", "CVE-2026-33494"];
    DoubleEncoding "double_encoding" Both Refuse(400), "a dot, slash, backslash, semicolon or NUL is encoded twice: a reader that decodes twice sees another path", ["CVE-2026-40912"];
    DotSegmentParameter "dot_segment_parameter" Both Refuse(400), "a dot segment or an empty one carries a ;parameter: some readers drop it and climb", ["CVE-2026-73511"];
    AboveRoot "above_root" Both Refuse(400), "dot segments climb above the root", ["CVE-2025-47952", "CVE-2026-48020"];
    TooManySegments "too_many_segments" Both Refuse(414), "the path has more segments than path_segments_max", ["RFC 9110 §15.5.15"];
    DotSegments "dot_segments" Both Normalise, "dot segments, encoded ones too, are resolved before matching", ["RFC 3986 §5.2.4", "CVE-2025-32431", "CVE-2026-27588"];
    DuplicateSlashes "duplicate_slashes" Both Normalise, "slashes in a row are one slash", ["CVE-2025-47952"];
    UnreservedEncoded "unreserved_encoded" Both Normalise, "encoded letters, digits and -._~ are decoded; other encodings get upper-case digits", ["RFC 3986 §6.2.2"];
    UnsafePathCharacter "unsafe_path_character" Both Normalise, "printable characters that a path cannot hold are percent-encoded", ["RFC 3986 §3.3"];

    // Who speaks for whom
    IdentityHeader "identity_header" Both Normalise, "headers by which we tell upstreams who asks are dropped when a client sends them", ["CVE-2026-30851", "CVE-2026-44087"];
    IdentityAlias "identity_alias" Both Refuse(400), "a field name is an identity or forwarding header with other punctuation", ["CVE-2025-64484", "CVE-2026-52845"];
    ForwardedHeader "forwarded_header" Both Normalise, "forwarded, x-forwarded-*, x-real-ip, client-cert, remote-user and their like are dropped unless a trusted proxy sent them", ["RFC 7239 §8.1", "RFC 9440 §2.4", "CVE-2026-40575", "CVE-2026-33495", "CVE-2026-35051"];
    ProxyHeader "proxy_header" Both Normalise, "proxy is dropped: CGI upstreams would take it for their own proxy setting", ["CVE-2016-5385"];

    // Bodies
    BadChunk "bad_chunk" Body Refuse(400), "a chunk's size, extension or line end is malformed", ["RFC 9112 §7.1", "CVE-2025-55315"];
    ChunkExtensionTooLong "chunk_extension_too_long" Body Refuse(400), "a chunk's extensions are over chunk_extension_bytes_max", ["RFC 9112 §7.1.1"];
    BadTrailer "bad_trailer" Body Refuse(400), "the trailer section is malformed", ["RFC 9112 §7.1.2"];
    ForbiddenTrailer "forbidden_trailer" Body Refuse(400), "a trailer carries framing, routing, authentication or identity", ["RFC 9110 §6.5.1"];
    TrailerTooLarge "trailer_too_large" Body Refuse(431), "the trailer section is over trailer_bytes_max", ["RFC 6585 §5"];
    BodyTooLarge "body_too_large" Body Refuse(413), "the body is over body_bytes_max or the route's body_max", ["RFC 9110 §15.5.14"];
    BodyTruncated "body_truncated" Body Refuse(400), "the body ended before its framing said so", ["RFC 9112 §8"];

    // Responses
    BadResponseHead "bad_response_head" Response Refuse(502), "the upstream's status line or a field line is malformed", ["RFC 9112 §4"];
    ResponseHeadTooLarge "response_head_too_large" Response Refuse(502), "the upstream's head is over head_bytes_max or header_count_max", ["RFC 9112 §4"];
    BadResponseFraming "bad_response_framing" Response Refuse(502), "readers disagree where the upstream's body ends: both lengths, doubled or malformed ones", ["RFC 9112 §6.3", "CVE-2026-2835"];
    UnexpectedSwitch "unexpected_switch" Response Refuse(502), "the upstream switches to a protocol that was not asked for", ["RFC 9110 §15.2.2", "CVE-2026-2833"];
    ProtectedResponseOption "protected_response_option" Response Refuse(502), "the upstream's connection names a field that a client relies on", ["RFC 9110 §7.6.1"];
}

impl Class {
    /// The name in events, metrics and documentation.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The status with which an input of this class is answered. A class that is
    /// normalised has none of its own; it gives 400, should it ever be asked.
    pub const fn status(self) -> u16 {
        match self.row().effect {
            Refuse(status) => status,
            Normalise => 400,
        }
    }
}

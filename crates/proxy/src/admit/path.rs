//! The target: its form, and a path that every reader reads alike.
//!
//! A path that is normal already, which is the rule, is found to be so in one pass
//! and shared; anything else is written anew by [`Normaliser`].

use bytes::Bytes;
use model::Switch;

use super::host::Written;
use super::table::Class;
use crate::head::Version;

/// A target after normalisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path.
    pub path: Bytes,
    /// The query without `?`.
    pub query: Option<Bytes>,
    /// Whether the path holds `%2F`.
    pub encoded_slash: bool,
}

/// What a byte is in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Stands for itself.
    Plain,
    /// May begin something that needs a closer look: `/`, `.`, `%`, `;`.
    Mark,
    /// Printable, but not allowed in a path: percent-encoded (RFC 3986 §3.3).
    Unsafe,
    Backslash,
    /// Controls, spaces, bytes past ASCII.
    Foreign,
}

const fn kind(byte: u8) -> Kind {
    match byte {
        b'/' | b'.' | b'%' | b';' => Kind::Mark,
        b'\\' => Kind::Backslash,
        b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' | b'?' => Kind::Unsafe,
        0x21..=0x7e => Kind::Plain,
        _ => Kind::Foreign,
    }
}

const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Plain; 256];
    let mut byte = 0;
    #[expect(clippy::indexing_slicing, reason = "a constant loop over all 256 bytes")]
    while byte < 256 {
        kinds[byte] = kind(byte as u8);
        byte += 1;
    }
    kinds
};

fn kind_of(byte: u8) -> Kind {
    KINDS.get(usize::from(byte)).copied().unwrap_or(Kind::Foreign)
}

/// Takes the form of a target apart (RFC 9112 §3.2): the authority of an absolute
/// URI, and the path with its query.
pub(super) fn split_form(target: &[u8], version: Version) -> Result<(Option<Written<'_>>, &[u8]), Class> {
    if target.first() == Some(&b'/') {
        return Ok((None, target));
    }
    // HTTP/2 has no absolute form: scheme and authority have fields of their own.
    if version == Version::Http2 {
        return Err(Class::BadTargetForm);
    }
    let Some(colon) = memchr::memmem::find(target, b"://") else { return Err(Class::BadTargetForm) };
    let (scheme, rest) = target.split_at(colon);
    let rest = rest.get(3..).unwrap_or_default();
    let port = match scheme {
        _ if scheme.eq_ignore_ascii_case(b"http") => 80,
        _ if scheme.eq_ignore_ascii_case(b"https") => 443,
        _ => return Err(Class::BadScheme),
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(end);
    Ok((Some(Written { scheme_port: Some(port), text: authority }), origin))
}

/// Whether a target is a host with its port (RFC 9112 §3.2.3).
pub(super) fn is_authority(target: &[u8]) -> bool {
    let Some(colon) = memchr::memrchr(b':', target) else { return false };
    let (host, port) = target.split_at(colon);
    let port = port.get(1..).unwrap_or_default();
    !host.is_empty() && !host.contains(&b'/') && !port.is_empty() && port.iter().all(u8::is_ascii_digit)
}

/// Normalises path and query. `origin` lies in `buffer` and is shared where it can
/// be. An empty path, as in `http://host?query`, is `/` (RFC 9112 §3.2.1).
pub(super) fn normalise(
    buffer: &Bytes,
    origin: &[u8],
    segments_max: usize,
    lenient: bool,
) -> Result<Target, Class> {
    let (path, query) = match memchr::memchr(b'?', origin) {
        Some(mark) => (origin.get(..mark).unwrap_or_default(), origin.get(mark + 1..)),
        None => (origin, None),
    };
    if let Some(query) = query {
        check_query(query)?;
    }
    let query = query.map(|query| buffer.slice_ref(query));
    if path.first() == Some(&b'#') {
        return Err(Class::Fragment);
    }
    if path.is_empty() {
        return Ok(Target { path: Bytes::from_static(b"/"), query, encoded_slash: false });
    }
    if path == b"/" {
        // Also where the target has no path: it is not part of `buffer` then.
        return Ok(Target { path: Bytes::from_static(b"/"), query, encoded_slash: false });
    }
    match is_normal(path)? {
        Some(segments) if segments > segments_max => Err(Class::TooManySegments),
        Some(_) => Ok(Target { path: buffer.slice_ref(path), query, encoded_slash: false }),
        None => {
            let (path, encoded_slash) = rewrite(path, segments_max, lenient)?;
            Ok(Target { path: Bytes::from(path), query, encoded_slash })
        }
    }
}

/// The canonical form of a literal path from a configuration, and whether it holds an
/// encoded slash. Spaces and bytes past ASCII are percent-encoded.
///
/// # Errors
/// What admission would refuse.
pub fn canonical(path: &str) -> Result<(Vec<u8>, bool), Class> {
    let mut encoded = Vec::with_capacity(path.len());
    for &byte in path.as_bytes() {
        if byte < 0x80 && byte != b' ' { encoded.push(byte) } else { push_encoded(&mut encoded, byte) }
    }
    rewrite(&encoded, usize::MAX, false)
}

/// Holds a path that we made ourselves against what admission lets through as it stands.
/// `encoded_slash` says that the request's own path held `%2F` on a route that allows it.
///
/// # Errors
/// The class of input that it falls into.
pub fn readmit(path: &[u8], segments_max: usize, encoded_slash: bool) -> Result<(), Class> {
    if path.first() != Some(&b'/') {
        return Err(Class::BadTargetForm);
    }
    let (normal, has_encoded_slash) = rewrite(path, segments_max, false)?;
    if normal != path {
        return Err(Class::DotSegments);
    }
    if has_encoded_slash && !encoded_slash {
        return Err(Class::EncodedSlash);
    }
    Ok(())
}

fn check_query(query: &[u8]) -> Result<(), Class> {
    for &byte in query {
        match byte {
            b'#' => return Err(Class::Fragment),
            0x21..=0x7e => {}
            _ => return Err(Class::TargetCharacter),
        }
    }
    Ok(())
}

/// The number of segments, when the path needs no rewriting.
fn is_normal(path: &[u8]) -> Result<Option<usize>, Class> {
    let (mut before, mut segments) = (0, 0);
    for &byte in path {
        match kind_of(byte) {
            Kind::Plain => {}
            Kind::Mark => match byte {
                b'/' if before == b'/' => return Ok(None),
                b'/' => segments += 1,
                b'.' if before == b'/' => return Ok(None),
                b'.' => {}
                _ => return Ok(None),
            },
            Kind::Unsafe | Kind::Backslash => return Ok(None),
            Kind::Foreign => return Err(Class::TargetCharacter),
        }
        before = byte;
    }
    Ok(Some(segments))
}

/// Writes the path anew, segment by segment.
fn rewrite(path: &[u8], segments_max: usize, lenient: bool) -> Result<(Vec<u8>, bool), Class> {
    let mut written = Normaliser { path: Vec::with_capacity(path.len() + 16), encoded_slash: false };
    let mut segments = path.split(|&byte| byte == b'/').peekable();
    // What stands in front of the first slash is nothing.
    if segments.next().is_some_and(|before| !before.is_empty()) {
        return Err(Class::BadTargetForm);
    }
    let (mut depth, mut decoded) = (0_usize, Vec::new());
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let start = written.path.len();
        written.path.push(b'/');
        written.segment(segment)?;
        let text = written.path.get(start + 1..).unwrap_or_default();
        check_decoded(text, &mut decoded, lenient)?;
        match text {
            // `/a//b`, `/a/./b`; at the end the slash stays: `/a/.` is `/a/`.
            b"" | b"." => written.path.truncate(start),
            b".." => {
                written.path.truncate(start);
                depth = depth.checked_sub(1).ok_or(Class::AboveRoot)?;
                let parent = memchr::memrchr(b'/', &written.path).unwrap_or(0);
                written.path.truncate(parent);
            }
            _ => {
                depth += 1;
                if depth > segments_max {
                    return Err(Class::TooManySegments);
                }
                continue;
            }
        }
        if last {
            written.path.push(b'/');
        }
    }
    // A slash that is data counts only when its segment is still there.
    let encoded_slash = written.encoded_slash && memchr::memmem::find(&written.path, b"%2F").is_some();
    Ok((written.path, encoded_slash))
}

/// The path as it is written anew.
struct Normaliser {
    path: Vec<u8>,
    encoded_slash: bool,
}

impl Normaliser {
    /// Appends one segment: unreserved characters decoded, everything else encoded.
    fn segment(&mut self, segment: &[u8]) -> Result<(), Class> {
        let mut bytes = segment.iter();
        while let Some(&byte) = bytes.next() {
            match kind_of(byte) {
                Kind::Plain => self.path.push(byte),
                Kind::Mark if byte == b'%' => {
                    let high =
                        bytes.next().copied().and_then(hexadecimal).ok_or(Class::BadPercentEncoding)?;
                    let low = bytes.next().copied().and_then(hexadecimal).ok_or(Class::BadPercentEncoding)?;
                    self.decoded(high << 4 | low)?;
                }
                Kind::Mark => self.path.push(byte),
                Kind::Unsafe if byte == b'#' => return Err(Class::Fragment),
                Kind::Unsafe => push_encoded(&mut self.path, byte),
                Kind::Backslash => return Err(Class::Backslash),
                Kind::Foreign => return Err(Class::TargetCharacter),
            }
        }
        Ok(())
    }

    /// Appends a byte that was percent-encoded.
    fn decoded(&mut self, byte: u8) -> Result<(), Class> {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.path.push(byte),
            b'\\' => return Err(Class::Backslash),
            0..=0x1f | 0x7f => return Err(Class::EncodedControl),
            b'/' => {
                self.encoded_slash = true;
                push_encoded(&mut self.path, byte);
            }
            _ => push_encoded(&mut self.path, byte),
        }
        Ok(())
    }
}

/// Refuses what stands behind a `%25` when it would be a dot, a slash, a backslash, a
/// semicolon or a control character for a reader that decodes once more. Looks at what
/// was written anew: `%25%32%65` hides `%252e` from those who look before.
fn check_double_encoding(rest: &[u8]) -> Result<(), Class> {
    let mut rest = rest;
    while let Some(shorter) = rest.strip_prefix(b"25") {
        rest = shorter;
    }
    let (Some(high), Some(low)) =
        (rest.first().copied().and_then(hexadecimal), rest.get(1).copied().and_then(hexadecimal))
    else {
        return Ok(());
    };
    match high << 4 | low {
        b'.' | b'/' | b'\\' | b';' | 0..=0x1f | 0x7f => Err(Class::DoubleEncoding),
        _ => Ok(()),
    }
}

/// Looks at a segment as a reader sees it that decodes everything: it must be UTF-8,
/// and no part of it between slashes may be a dot segment in disguise.
fn check_decoded(segment: &[u8], decoded: &mut Vec<u8>, lenient: bool) -> Result<(), Class> {
    if !segment.iter().any(|byte| matches!(byte, b'%' | b';')) {
        return Ok(());
    }
    for at in memchr::memmem::find_iter(segment, b"%25") {
        check_double_encoding(segment.get(at + 3..).unwrap_or_default())?;
    }
    decode_into(segment, decoded);
    if std::str::from_utf8(decoded).is_err() && !lenient {
        return Err(Class::InvalidUtf8Path);
    }
    let several = decoded.contains(&b'/');
    for part in decoded.split(|&byte| byte == b'/') {
        let name = part.split(|&byte| byte == b';').next().unwrap_or_default();
        let dots = matches!(name, b"." | b"..");
        if name.len() < part.len() && (dots || name.is_empty()) && !Switch::Admit.is_off() {
            return Err(Class::DotSegmentParameter);
        }
        if several && dots {
            return Err(Class::HiddenDotSegment);
        }
    }
    Ok(())
}

/// Decodes percent-encoding that was checked before. `decoded` is cleared first.
pub(crate) fn decode_into(text: &[u8], decoded: &mut Vec<u8>) {
    decoded.clear();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = bytes.next().and_then(hexadecimal).unwrap_or(0);
        let low = bytes.next().and_then(hexadecimal).unwrap_or(0);
        decoded.push(high << 4 | low);
    }
}

/// Appends a byte percent-encoded.
pub(crate) fn push_encoded(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
}

/// The value of a hexadecimal digit.
pub(crate) fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

//! The path that the upstream sees: as it was admitted, or changed as the route says,
//! and then admitted once more.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::ForwardError;
use crate::admit::path::readmit;
use crate::head::RequestHead;
use crate::upstream::ForwardSettings;

/// A path made of text and of segments of the request's own, which stay encoded as they
/// were admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathTemplate {
    /// Its pieces, in their order.
    pub pieces: Vec<PathPiece>,
}

/// A piece of a [`PathTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPiece {
    /// This text, as admission writes it.
    Text(Bytes),
    /// The segment at this place, from 0.
    Segment(usize),
    /// Everything from the segment at this place on.
    Rest(usize),
}

impl PathTemplate {
    /// The path that comes of a request's.
    pub fn fill(&self, path: &[u8]) -> Vec<u8> {
        let segments: Vec<&[u8]> = path.get(1..).unwrap_or_default().split(|&byte| byte == b'/').collect();
        let mut made = Vec::with_capacity(path.len() + 16);
        for piece in &self.pieces {
            match piece {
                PathPiece::Text(text) => made.extend_from_slice(text),
                PathPiece::Segment(place) => {
                    made.extend_from_slice(segments.get(*place).copied().unwrap_or_default());
                }
                PathPiece::Rest(from) => match segments.get(*from..).unwrap_or_default() {
                    // `/x` has no rest where `/x/` has an empty one.
                    [] if made.ends_with(b"/") => drop(made.pop()),
                    [] => {}
                    rest => made.extend_from_slice(&rest.join(&b'/')),
                },
            }
        }
        if made.is_empty() {
            made.push(b'/');
        }
        made
    }
}

/// The path for the upstream.
///
/// # Errors
/// What came of it is not a path that admission would have let through as it stands.
pub(super) fn outgoing_path(
    head: &RequestHead,
    settings: &ForwardSettings,
    segments_max: usize,
) -> Result<Bytes, ForwardError> {
    let path = &head.path;
    let made = match (&settings.template, &settings.add_prefix) {
        (Some(template), _) => Bytes::from(template.fill(path)),
        (None, None) if settings.strip_prefix.is_none() => return Ok(path.clone()),
        (None, add) => {
            let stripped = stripped(path, settings.strip_prefix.as_deref());
            match add {
                Some(add) => {
                    let mut whole = BytesMut::with_capacity(add.len() + stripped.len());
                    whole.put_slice(add);
                    whole.put_slice(&stripped);
                    whole.freeze()
                }
                None => stripped,
            }
        }
    };
    readmit(&made, segments_max, head.encoded_slash).map_err(ForwardError::Path)?;
    Ok(made)
}

fn stripped(path: &Bytes, prefix: Option<&[u8]>) -> Bytes {
    let Some(prefix) = prefix else { return path.clone() };
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    match path.strip_prefix(prefix) {
        Some(b"") => Bytes::from_static(b"/"),
        // Whole segments only: `/shop` is no prefix of `/shopping`.
        Some(rest) if rest.first() == Some(&b'/') => path.slice_ref(rest),
        _ => path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pieces: &[PathPiece], path: &str) -> String {
        String::from_utf8(PathTemplate { pieces: pieces.to_vec() }.fill(path.as_bytes())).unwrap()
    }

    #[test]
    fn a_template_takes_segments_as_they_were_admitted() {
        use PathPiece::{Rest, Segment, Text};
        let text = |text: &'static str| Text(Bytes::from_static(text.as_bytes()));
        let whole = [text("/v2/"), Segment(1), text("/by/"), Segment(0)];
        assert_eq!(filled(&whole, "/ann/5%20x"), "/v2/5%20x/by/ann");
        let rest = [text("/new/"), Rest(1)];
        for (path, made) in [
            ("/old/a/b", "/new/a/b"),
            ("/old/a/", "/new/a/"),
            ("/old/", "/new/"),
            ("/old", "/new"),
            ("/old/a%2Fb", "/new/a%2Fb"),
        ] {
            assert_eq!(filled(&rest, path), made, "{path}");
        }
        assert_eq!(filled(&[text("/"), Rest(1)], "/old"), "/");
    }

    #[test]
    fn what_comes_of_it_is_admitted_again() {
        for (path, encoded, good) in [
            ("/a/b", false, true),
            ("/", false, true),
            ("/a/", false, true),
            ("/a//b", false, false),
            ("/a/../b", false, false),
            ("/a/.", false, false),
            ("/..", false, false),
            ("/a/..;/b", false, false),
            ("/a%2Fb", false, false),
            ("/a%2Fb", true, true),
            ("/a%2F..%2Fb", true, false),
            ("/%61", false, false),
            ("/a\\b", false, false),
            ("a", false, false),
            ("", false, false),
            ("/a?b", false, false),
            ("/a#b", false, false),
        ] {
            assert_eq!(readmit(path.as_bytes(), 100, encoded).is_ok(), good, "{path}");
        }
        assert!(readmit(b"/a/b/c", 3, false).is_ok());
        assert!(readmit(b"/a/b/c", 2, false).is_err());
    }
}

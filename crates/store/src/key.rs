//! The name of a record: a path of segments, of which what could identify a person is
//! never stored readable.

use std::borrow::Cow;
use std::fmt;

use crate::error::Error;
use crate::limits::{KEY_SEGMENT_BYTES_MAX, KEY_SEGMENTS_MAX};

/// One segment of a [`Key`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Segment {
    /// A word of the program: stored readable.
    Name(Cow<'static, str>),
    /// A number: stored readable, and scanned in its order.
    Number(u64),
    /// Anything that comes from outside or names somebody: stored as a hash.
    Hidden(String),
}

/// The name of a record, for example `user / acme (hidden) / alice@example.org (hidden)`.
///
/// A key is a path of segments. A scan or a watch takes any such path as its prefix and
/// finds what lies below it, by whole segments: `user / a` is no prefix of `user / ab`.
///
/// * [`Key::new`] and [`Key::name`] take words of the program. They must be literals,
///   because they are stored readable.
/// * [`Key::hidden`] takes everything else. It is stored as an HMAC over the path above it
///   and itself, so that whoever has the database learns neither the text nor that the same
///   text stands in two places. Within one path, a scan gives hidden segments in an order
///   that means nothing but stays.
/// * [`Key::number`] takes numbers that are scanned in their order, such as times. They are
///   stored readable.
///
/// `Debug` leaves hidden segments out.
///
/// ```
/// use store::Key;
/// let user = Key::new("user").hidden("acme").hidden("alice@example.org");
/// assert!(user.starts_with(&Key::new("user").hidden("acme")));
/// assert!(!user.starts_with(&Key::new("user").hidden("ac")));
/// assert_eq!(user.text(2), Some("alice@example.org"));
/// assert_eq!(format!("{user:?}"), "user/…/…");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    segments: Vec<Segment>,
}

impl Key {
    /// A key of one word of the program.
    pub fn new(name: &'static str) -> Self {
        Self { segments: vec![Segment::Name(Cow::Borrowed(name))] }
    }

    /// The prefix of every key.
    pub const fn everything() -> Self {
        Self { segments: Vec::new() }
    }

    /// Below this key, a word of the program: stored readable.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.segments.push(Segment::Name(Cow::Borrowed(name)));
        self
    }

    /// Below this key, a number: stored readable, scanned in its order.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.segments.push(Segment::Number(number));
        self
    }

    /// Below this key, a text that could identify somebody or comes from outside: stored
    /// as a hash.
    #[must_use]
    pub fn hidden(mut self, text: impl Into<String>) -> Self {
        self.segments.push(Segment::Hidden(text.into()));
        self
    }

    /// How many segments it has.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether it has no segment: only [`Key::everything`].
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The text of the segment at this place, counted from 0: of a word or a hidden text.
    pub fn text(&self, place: usize) -> Option<&str> {
        match self.segments.get(place)? {
            Segment::Name(name) => Some(name),
            Segment::Hidden(text) => Some(text),
            Segment::Number(_) => None,
        }
    }

    /// The number at this place, counted from 0.
    pub fn number_at(&self, place: usize) -> Option<u64> {
        match self.segments.get(place)? {
            Segment::Number(number) => Some(*number),
            Segment::Name(_) | Segment::Hidden(_) => None,
        }
    }

    /// The text of the last segment, when it is a word or a hidden text.
    pub fn last_text(&self) -> Option<&str> {
        self.text(self.segments.len().checked_sub(1)?)
    }

    /// Whether this key is `prefix` or lies below it.
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.segments.starts_with(&prefix.segments)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn from_segments(segments: Vec<Segment>) -> Self {
        Self { segments }
    }

    /// Refuses what cannot be stored.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let over = |what, found, most| Err(Error::TooLarge { what, found, most });
        if self.segments.len() > KEY_SEGMENTS_MAX {
            return over("segments of a key", self.segments.len(), KEY_SEGMENTS_MAX);
        }
        for segment in &self.segments {
            let (text, is_name) = match segment {
                Segment::Name(name) => (name.as_ref(), true),
                Segment::Hidden(text) => (text.as_str(), false),
                Segment::Number(_) => continue,
            };
            if text.len() > KEY_SEGMENT_BYTES_MAX {
                return over("bytes of a segment of a key", text.len(), KEY_SEGMENT_BYTES_MAX);
            }
            if is_name && (text.is_empty() || text.contains('\0')) {
                return Err(Error::Usage("a word of a key is empty or holds a NUL"));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Hidden(_) => formatter.write_str("…"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.segments.iter().enumerate() {
            if place > 0 {
                formatter.write_str("/")?;
            }
            write!(formatter, "{segment:?}")?;
        }
        Ok(())
    }
}

//! What is left of a head that was refused: enough to name the attack.

use std::fmt;

use bytes::Bytes;

use super::table::Class;

/// Most bytes of a method: a longer one is refused, and a refusal keeps no more of it.
pub const METHOD_BYTES_MAX: usize = 32;
/// Most bytes of a target that a refusal keeps.
pub const TARGET_BYTES_MAX: usize = 1024;
/// Most bytes of a host and of a user agent that a refusal keeps.
pub const TEXT_BYTES_MAX: usize = 256;

/// A message was refused. Nothing of it went on.
#[derive(Debug)]
pub struct Refusal {
    /// Why: the row of the table.
    pub class: Class,
    /// What could be read of the head.
    pub seen: Box<Seen>,
}

/// What could be read of a refused head, each part cut at its bound. Bytes of an
/// attacker: escape before showing.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The method, or what stood in its place.
    pub method: Bytes,
    /// The target as it was sent.
    pub target: Bytes,
    /// The first `Host`, or the authority.
    pub host: Bytes,
    /// The first `User-Agent`.
    pub user_agent: Bytes,
    /// The name of the field that is refused for its name.
    pub field: Bytes,
    /// The head as far as it was read, at most `head_bytes_max`, for the firewall. Over
    /// HTTP/2 it is what HTTP/1 would have written, at most `http2_header_list_bytes_max`,
    /// and empty unless [`crate::Admission::keep_written`].
    pub raw: Bytes,
    /// Whether it was a call of gRPC.
    pub is_grpc: bool,
}

impl Refusal {
    /// A refusal of which nothing else is known.
    pub fn new(class: Class) -> Self {
        Self { class, seen: Box::default() }
    }

    /// The status with which the client is answered.
    pub fn status(&self) -> u16 {
        self.class.status()
    }

    /// Reads what can be read of a raw HTTP/1 head, whatever is wrong with it.
    pub(crate) fn of_raw_head(class: Class, head: Bytes) -> Self {
        let mut seen = Seen::default();
        let mut lines = head.split(|&byte| byte == b'\n').skip_while(|line| line.trim_ascii().is_empty());
        let mut words = lines.next().unwrap_or_default().trim_ascii().split(|&byte| byte == b' ');
        seen.method = part(&head, words.next(), METHOD_BYTES_MAX);
        seen.target = part(&head, words.next(), TARGET_BYTES_MAX);
        for line in lines {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            let name = name.trim_ascii();
            if name.eq_ignore_ascii_case(b"host") && seen.host.is_empty() {
                seen.host = part(&head, Some(value), TEXT_BYTES_MAX);
            } else if name.eq_ignore_ascii_case(b"user-agent") && seen.user_agent.is_empty() {
                seen.user_agent = part(&head, Some(value), TEXT_BYTES_MAX);
            }
        }
        seen.raw = head;
        Self { class, seen: Box::new(seen) }
    }
}

/// A slice of `head` as shared bytes, cut at `most`.
pub(crate) fn part(head: &Bytes, slice: Option<&[u8]>, most: usize) -> Bytes {
    let slice = slice.unwrap_or_default();
    head.slice_ref(slice.get(..most).unwrap_or(slice))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.class.row();
        write!(f, "{}: {}", row.name, row.why)?;
        if self.seen.field.is_empty() {
            return Ok(());
        }
        write!(f, " ({:?})", String::from_utf8_lossy(&self.seen.field))
    }
}

impl std::error::Error for Refusal {}

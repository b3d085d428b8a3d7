//! Every limit of the hop in one table: configuration, documentation, the metric's
//! label and the boundary tests come from it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// The word for it in documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Count => "count",
            Self::Milliseconds => "milliseconds",
        }
    }
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name in the configuration, units last: `head_bytes_max`.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Its value when nothing is configured.
    pub default: u64,
    /// The smallest value that can be configured.
    pub smallest: u64,
    /// The largest value that can be configured.
    pub largest: u64,
    /// The value of the label `limit` in the metric `bastide_limit_refused_total`.
    pub metric: &'static str,
    /// What it bounds, in one line.
    pub doc: &'static str,
}

/// A limit could not be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No limit of this name.
    #[error("unknown limit {name:?}; docs/configuration.md lists them under `limits`")]
    Unknown {
        /// The name that was given.
        name: String,
    },
    /// The value is outside the row's range.
    #[error("{name} must be from {smallest} to {largest} {unit}, found {found}", unit = unit.name())]
    OutOfRange {
        /// The limit.
        name: &'static str,
        /// Its unit.
        unit: Unit,
        /// The smallest value allowed.
        smallest: u64,
        /// The largest value allowed.
        largest: u64,
        /// The value that was given.
        found: u64,
    },
}

/// A type that a limit's field can have.
trait Value: Copy {
    fn from_number(number: u64) -> Self;
    fn number(self) -> u64;
}

impl Value for u64 {
    fn from_number(number: u64) -> Self {
        number
    }
    fn number(self) -> u64 {
        self
    }
}

impl Value for usize {
    fn from_number(number: u64) -> Self {
        Self::try_from(number).unwrap_or(Self::MAX)
    }
    fn number(self) -> u64 {
        u64::try_from(self).unwrap_or(u64::MAX)
    }
}

impl Value for u32 {
    fn from_number(number: u64) -> Self {
        Self::try_from(number).unwrap_or(Self::MAX)
    }
    fn number(self) -> u64 {
        u64::from(self)
    }
}

impl Value for Duration {
    fn from_number(number: u64) -> Self {
        Self::from_millis(number)
    }
    fn number(self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $unit:ident $smallest:expr => $largest:expr, $metric:literal;)+) => {
        /// The values of all limits. Each field's range stands in [`TABLE`].
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: <$type as Value>::from_number($default),)+ }
            }
        }

        /// All limits.
        pub const TABLE: &[Row] = &[
            $(Row {
                name: stringify!($name),
                unit: Unit::$unit,
                default: $default,
                smallest: $smallest,
                largest: $largest,
                metric: $metric,
                doc: concat!($($doc),+).trim_ascii(),
            },)+
        ];

        impl Limits {
            /// The value of the limit with this name, in its row's unit.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => Some(Value::number(self.$name)),)+
                    _ => None,
                }
            }

            fn put(&mut self, row: &Row, value: u64) {
                match row.name {
                    $(stringify!($name) => self.$name = <$type as Value>::from_number(value),)+
                    _ => {}
                }
            }
        }
    };
}

limits! {
    /// Request or response head: start line, header fields and the empty line.
    head_bytes_max: usize = 64 * KIB, Bytes KIB => MIB, "head_bytes";
    /// Header fields in one head.
    header_count_max: usize = 100, Count 1 => 256, "header_count";
    /// Request target: path and query.
    uri_bytes_max: usize = 8 * KIB, Bytes 16 => 64 * KIB, "uri_bytes";
    /// Segments of a path, after normalisation.
    path_segments_max: usize = 128, Count 1 => 4096, "path_segments";
    /// Request body; a route can set its own.
    body_bytes_max: u64 = 16 * MIB, Bytes 0 => 1 << 50, "body_bytes";
    /// Request bodies that are held at the same time before they go on, for the firewall or
    /// `validate:` or because they are short. One address (IPv6: one /64) may hold as much as is
    /// then still free, so half of this alone; a request past it is refused. A route that holds
    /// bodies of more than half is a fault.
    held_bytes_max: u64 = 320 * MIB, Bytes 64 * KIB => 1 << 40, "held_bytes";
    /// The same of one address; a route that holds bodies of more is a fault.
    held_bytes_per_address_max: u64 = 160 * MIB, Bytes 64 * KIB => 1 << 40, "held_bytes_per_address";
    /// Trailer section of a chunked body.
    trailer_bytes_max: usize = 8 * KIB, Bytes 2 => 64 * KIB, "trailer_bytes";
    /// Extensions of one chunk (RFC 9112 §7.1.1); they are never forwarded.
    chunk_extension_bytes_max: usize = 256, Bytes 0 => 16 * KIB, "chunk_extension_bytes";
    /// Interim (1xx) responses to one request.
    interim_responses_max: u32 = 8, Count 0 => 100, "interim_responses";
    /// TLS handshake.
    handshake_ms_max: Duration = 10 * SECOND, Milliseconds 10 => HOUR, "handshake_time";
    /// From a head's first byte to its last.
    header_read_ms_max: Duration = 10 * SECOND, Milliseconds 10 => HOUR, "header_read_time";
    /// A connection without a request.
    idle_ms_max: Duration = 75 * SECOND, Milliseconds 10 => 24 * HOUR, "idle_time";
    /// Silence of a client in the middle of a body, in either direction.
    body_idle_ms_max: Duration = 30 * SECOND, Milliseconds 10 => 24 * HOUR, "body_idle_time";
    /// How long an exchange may have a connection to a service while it waits for its client, or has
    /// become a tunnel, and clients of another network, which has fewer connections, wait for one.
    stalled_ms_max: Duration = 500, Milliseconds 10 => HOUR, "stalled_time";
    /// A whole request, from its head to the end of the response; upgraded connections
    /// are exempt.
    request_ms_max: Duration = 300 * SECOND, Milliseconds 10 => 24 * HOUR, "request_time";
    /// Open client connections.
    connections_max: u64 = 20_000, Count 1 => 10_000_000, "connections";
    /// Open client connections from one address (IPv6: one /64).
    connections_per_address_max: u64 = 512, Count 1 => 10_000_000, "connections_per_address";
    /// Requests on one connection, after which it is closed.
    requests_per_connection_max: u64 = 100_000, Count 1 => 1 << 40, "requests_per_connection";
    /// Concurrent streams of one HTTP/2 connection (RFC 9113 §5.1.2).
    http2_streams_max: u32 = 128, Count 1 => 10_000, "http2_streams";
    /// Decoded header list of an HTTP/2 message (RFC 9113 §6.5.2).
    http2_header_list_bytes_max: u32 = 64 * KIB, Bytes KIB => MIB, "http2_header_list_bytes";
    /// Decoded heads of all open streams of one client's HTTP/2 connection; a stream past it is
    /// refused. Those of a trusted proxy, or with a client certificate, have room for the largest
    /// head on each stream.
    http2_heads_bytes_max: usize = MIB, Bytes KIB => 64 * MIB, "http2_heads_bytes";
    /// Streams that a client resets before their answer, per connection and ten seconds.
    http2_resets_max: u64 = 200, Count 1 => 1_000_000, "http2_resets";
    /// Useless frames (empty DATA, SETTINGS, PING, PRIORITY) per connection and ten seconds.
    http2_idle_frames_max: u64 = 1_000, Count 10 => 1_000_000, "http2_idle_frames";
    /// How long open requests may take to end once a drain has begun.
    drain_ms_max: Duration = 30 * SECOND, Milliseconds 0 => HOUR, "drain_time";
}

/// How often each limit was met. Shared by all cores; touched only when a limit is.
#[derive(Debug)]
pub struct Hits {
    counts: [AtomicU64; TABLE.len()],
}

impl Default for Hits {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Hits {
    /// Counts one more for the limit with this name in [`TABLE`].
    pub fn count(&self, name: &str) {
        let place = TABLE.iter().position(|row| row.name == name);
        if let Some(count) = place.and_then(|place| self.counts.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each row with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Row, u64)> {
        TABLE.iter().zip(&self.counts).map(|(row, count)| (row, count.load(Ordering::Relaxed)))
    }
}

impl Limits {
    /// Sets the limit with this name, in its row's unit.
    ///
    /// # Errors
    /// No such limit, or a value outside its range.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), LimitError> {
        let row = TABLE
            .iter()
            .find(|row| row.name == name)
            .ok_or_else(|| LimitError::Unknown { name: name.to_owned() })?;
        if value < row.smallest || value > row.largest {
            return Err(LimitError::OutOfRange {
                name: row.name,
                unit: row.unit,
                smallest: row.smallest,
                largest: row.largest,
                found: value,
            });
        }
        self.put(row, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

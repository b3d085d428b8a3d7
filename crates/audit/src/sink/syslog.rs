//! Syslog messages (RFC 5424) with the event as JSON in each, alone (RFC 5426) or with
//! their length in front (octet counting, RFC 6587 §3.4.1 and RFC 5425 §4.3).

use std::fmt::Write;

use model::event::Outcome;
use model::{Date, Timestamp};

use super::form;

/// The largest `sequenceId`; 1 follows (RFC 5424 §7.3.1).
const SEQUENCE_MAX: u32 = 2_147_483_647;

/// What stands before every message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The facility's number (RFC 5424 §6.2.1).
    pub facility: u8,
    /// `HOSTNAME`; made fit.
    pub hostname: String,
    /// `APP-NAME`; made fit.
    pub app_name: String,
    /// `PROCID`.
    pub process: u32,
    /// `swVersion` of the `origin` element.
    pub version: &'static str,
}

/// Writes messages and numbers them: a receiver that sees a gap knows that it missed some.
#[derive(Debug)]
pub struct Syslog {
    header: Header,
    message_bytes_max: usize,
    sequence: u32,
}

impl Syslog {
    /// With messages of at most so many bytes.
    pub fn new(header: Header, message_bytes_max: usize) -> Self {
        let fit = |text: &str, most: usize| -> String {
            let text: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
            if text.is_empty() { "-".to_owned() } else { text }
        };
        let header = Header {
            hostname: fit(&header.hostname, 255),
            app_name: fit(&header.app_name, 48),
            facility: header.facility.min(23),
            ..header
        };
        Self { header, message_bytes_max, sequence: 0 }
    }

    /// The message of a line of the log, shortened to fit ([`form::shorten`]); `None` when the
    /// longest message has no room for any event, or the line is none.
    pub fn message(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let seen = form::see(line)?;
        let severity = match seen.outcome {
            Outcome::Allowed => 6,
            Outcome::Denied => 5,
            Outcome::Failed => 4,
        };
        let header = &self.header;
        let priority = u32::from(header.facility) * 8 + severity;
        let sequence = self.sequence % SEQUENCE_MAX + 1;
        let mut start = String::with_capacity(200);
        let _ = write!(start, "<{priority}>1 ");
        write_time(&mut start, Timestamp::from_unix_nanos(seen.time_millis.saturating_mul(1_000_000)));
        let _ = write!(
            start,
            " {} {} {} access [origin software=\"Bastide\" swVersion=\"{}\"][meta sequenceId=\"{sequence}\"] ",
            header.hostname, header.app_name, header.process, header.version
        );
        let room = self.message_bytes_max.saturating_sub(start.len());
        let mut message = start.into_bytes();
        if line.len() <= room {
            message.extend_from_slice(line);
        } else {
            message.extend_from_slice(&form::shorten(line, room)?);
        }
        self.sequence = sequence;
        Some(message)
    }
}

/// The message with its length in front.
pub fn framed(message: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(message.len().to_string().as_bytes());
    into.push(b' ');
    into.extend_from_slice(message);
}

/// `2026-11-22T21:51:07.123Z` (RFC 3339, milliseconds).
fn write_time(out: &mut String, time: Timestamp) {
    let millis = time.unix_millis();
    let (days, in_day) = (millis / 86_400_000, millis % 86_400_000);
    let Date { year, month, day } = Date::of_day(i64::try_from(days).unwrap_or_default());
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z");
}

#[cfg(test)]
pub(crate) fn time_for_tests(time: Timestamp) -> String {
    let mut out = String::new();
    write_time(&mut out, time);
    out
}

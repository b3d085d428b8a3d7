//! The process' own log, on standard error. Much of what it says comes from peers: the
//! names of their certificates, what an issuer or an upstream answered. Nobody of them may
//! write a line of it.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::cli::Output;
use crate::cli::check::environment;

/// What stands before each further line of an entry.
const FURTHER: &[u8] = b"  ";

/// Starts the log; what it shows is chosen by `BASTIDE_LOG`, for example `debug` or
/// `proxy=debug,warn`.
pub(super) fn start(format: Output) {
    let filter = environment("BASTIDE_LOG").and_then(|text| text.parse::<EnvFilter>().ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Entries(io::stderr()))
        .with_target(false);
    // A second start in one process (tests) keeps the first log.
    let _ = match format {
        Output::Text => builder.with_ansi(false).try_init(),
        Output::Json => builder.json().try_init(),
    };
}

/// Writes entries, each given whole. Only an entry begins at the beginning of a line, and no
/// control character reaches a terminal.
struct Entries<W>(W);

impl<W: Write> Write for Entries<W> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // All but the line end, which every entry has.
        let text = entry.strip_suffix(b"\n").unwrap_or(entry);
        if text.iter().any(|byte| byte.is_ascii_control() || *byte == C1_LEAD) {
            self.0.write_all(&fit(entry))?;
        } else {
            self.0.write_all(entry)?;
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The first of the two bytes of U+0080 to U+00BF, of which the first half are control
/// characters.
const C1_LEAD: u8 = 0xc2;

fn fit(entry: &[u8]) -> Vec<u8> {
    let (text, end) = match entry.split_last() {
        Some((b'\n', text)) => (text, &b"\n"[..]),
        _ => (entry, &b""[..]),
    };
    let mut out = Vec::with_capacity(entry.len() + 16);
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '\n' => {
                out.push(b'\n');
                out.extend_from_slice(FURTHER);
            }
            '\t' => out.push(b'\t'),
            control if control.is_control() => out.extend(control.escape_unicode().map(|ascii| ascii as u8)),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.extend_from_slice(end);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_peer_begins_a_line_of_the_log_or_moves_the_cursor() {
        for (entry, written) in [
            ("plain\n", "plain\n"),
            (
                "it said no\n2026-11-29T00:00:00Z INFO all is well\n",
                "it said no\n  2026-11-29T00:00:00Z INFO all is well\n",
            ),
            ("a\r\nb\n", "a\\u{d}\n  b\n"),
            ("red \u{1b}[31m\u{7f}\u{0}\u{9b}2J\n", "red \\u{1b}[31m\\u{7f}\\u{0}\\u{9b}2J\n"),
            ("tab\tand é ß ° 漢\n", "tab\tand é ß ° 漢\n"),
            ("no end", "no end"),
            ("\n\n", "\n  \n"),
            ("", ""),
        ] {
            let mut entries = Entries(Vec::new());
            entries.write_all(entry.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(entries.0).unwrap(), written, "{entry:?}");
        }
    }
}

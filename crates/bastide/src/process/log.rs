//! The process' own log, on standard error. Much of what it says comes from peers: the
//! names of their certificates, what an issuer or an upstream answered. Nobody of them may
//! write a line of it.
//!
//! One thread writes, behind a bounded queue: whoever reads standard error may stand still for
//! as long as they like. Entries of this process that find no room are counted and dropped; lines
//! of a program that was started wait, and the program with them.
//!
//! What it must never do: write on a core or on a thread of the control plane.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use model::printable;
use model::suggestion::suggestion;
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

use crate::cli::Output;
use crate::cli::check::environment;

/// What stands before each further line of an entry.
const FURTHER: &[u8] = b"  ";

/// Most bytes of entries that wait to be written.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// So many may wait when a line of a program joins them: there is always room for ours.
const WAITING_BYTES_FOR_PROGRAM: usize = WAITING_BYTES_MAX / 4;
/// How long the end of the process waits for whoever reads.
const LAST_WITHIN: Duration = Duration::from_secs(1);
/// How long a standard error that does not block is left alone when it is full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// How much the log can show, the least first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts the log; what it shows is chosen by `BASTIDE_LOG`, for example `debug` or
/// `proxy=debug,warn`. What is dropped last is written last.
pub(super) fn start(format: Output) -> anyhow::Result<LogWriter> {
    let log = Log::default();
    let filter = filter(&environment("BASTIDE_LOG").unwrap_or_default())?;
    let queued = log.clone();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Entries(queued.clone()))
        .with_target(false);
    // A second start in one process (tests) keeps the first log.
    let _ = match format {
        Output::Text => builder.with_ansi(false).try_init(),
        Output::Json => builder.json().try_init(),
    };
    let writing = log.clone();
    std::thread::Builder::new().name("log".to_owned()).spawn(move || writing.write_to(io::stderr()))?;
    Ok(LogWriter(log))
}

/// What the log shows. A level that is none would be taken for the name of a part, and the log be silent.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    for part in &parts {
        let level = part.rsplit_once('=').map_or(*part, |(_, level)| level);
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let (hint, levels) = (suggestion(level, LEVELS), LEVELS.join(", "));
            anyhow::bail!(
                "BASTIDE_LOG: unknown level {level:?}{hint}; expected {levels}, or such a level for a part: proxy=debug,warn"
            );
        }
    }
    let text = if parts.is_empty() { "info".to_owned() } else { parts.join(",") };
    text.parse().with_context(|| format!("BASTIDE_LOG: {text:?}"))
}

/// The log while it is written. Dropped, what is left is written, if somebody reads it.
pub(super) struct LogWriter(Log);

impl LogWriter {
    /// What others can see of it.
    pub(super) fn log(&self) -> &Log {
        &self.0
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.0.flush(LAST_WITHIN);
    }
}

/// Entries on their way to standard error.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Told of each entry, and when everything is written.
    changed: Condvar,
    /// Told when a line of a program may join.
    room: Notify,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Vec<u8>>,
    /// Of those that wait and of the one that is being written.
    bytes: usize,
    dropped: u64,
    /// How many of these the log has said.
    said: u64,
}

impl Log {
    /// Entries that found no room.
    pub(super) fn dropped_total(&self) -> u64 {
        self.waiting().dropped
    }

    /// Waits until a line of a program may join: for as long as nobody reads.
    pub(super) async fn room(&self) {
        loop {
            let mut told = pin!(self.0.room.notified());
            told.as_mut().enable();
            if self.waiting().bytes <= WAITING_BYTES_FOR_PROGRAM {
                return;
            }
            told.await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entry: Vec<u8>) {
        let mut waiting = self.waiting();
        if waiting.bytes.saturating_add(entry.len()) > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += entry.len();
        waiting.entries.push_back(entry);
        drop(waiting);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, so long at most.
    fn flush(&self, longest: Duration) {
        let waiting = self.waiting();
        drop(self.0.changed.wait_timeout_while(waiting, longest, |waiting| waiting.bytes > 0));
    }

    /// Writes what comes, for ever.
    fn write_to(&self, mut out: impl Write) {
        loop {
            let entry = {
                let waiting = self.waiting();
                let waiting = self.0.changed.wait_while(waiting, |waiting| waiting.entries.is_empty());
                waiting.unwrap_or_else(PoisonError::into_inner).entries.pop_front().unwrap_or_default()
            };
            write_whole(&mut out, &entry);
            self.written(entry.len());
        }
    }

    fn written(&self, bytes: usize) {
        let mut waiting = self.waiting();
        waiting.bytes -= bytes;
        let dropped = waiting.dropped - waiting.said;
        let has_room = waiting.bytes <= WAITING_BYTES_FOR_PROGRAM;
        if has_room {
            waiting.said = waiting.dropped;
        }
        drop(waiting);
        if has_room {
            self.0.room.notify_waiters();
            if dropped > 0 {
                tracing::warn!(dropped, "nobody has read this log for a while: entries were dropped");
            }
        }
        self.0.changed.notify_all();
    }
}

impl Write for Log {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.push(entry.to_vec());
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes an entry as far as that is possible: there is nobody who could be told.
fn write_whole(out: &mut impl Write, mut entry: &[u8]) {
    while !entry.is_empty() {
        match out.write(entry) {
            Ok(0) => return,
            Ok(count) => entry = entry.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
            Err(_) => return,
        }
    }
}

/// Writes entries, each given whole. Only an entry begins at the beginning of a line, and no
/// control character reaches a terminal.
struct Entries<W>(W);

impl<W: Write> Write for Entries<W> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // All but the line end, which every entry has.
        let text = entry.strip_suffix(b"\n").unwrap_or(entry);
        if text.iter().any(|byte| byte.is_ascii_control() || LEADS.contains(byte)) {
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

/// The first bytes of all other characters that are looked for: U+0080 to U+00BF, U+0600 to
/// U+063F and U+2000 to U+2FFF.
const LEADS: [u8; 3] = [0xc2, 0xd8, 0xe2];

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
            control if printable::is_control(control) => {
                out.extend(control.escape_unicode().map(|ascii| ascii as u8))
            }
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
    fn a_level_that_is_none_silences_nothing() {
        for (text, shows) in [
            ("", "info"),
            (" , ", "info"),
            ("debug", "debug"),
            ("WARN", "warn"),
            ("off", "off"),
            ("proxy=debug, warn", "proxy=debug,warn"),
            ("proxy[step]=trace,error", "error,proxy[step]=trace"),
        ] {
            assert_eq!(filter(text).unwrap().to_string(), shows, "{text}");
        }
        for (text, says) in [
            ("inf", "unknown level \"inf\" (did you mean \"info\"?); expected off, error, warn, info"),
            ("proxy=debgu,warn", "unknown level \"debgu\" (did you mean \"debug\"?)"),
            ("proxy", "unknown level \"proxy\"; expected"),
            ("warn,7", "unknown level \"7\""),
        ] {
            let refused = filter(text).unwrap_err().to_string();
            assert!(refused.starts_with("BASTIDE_LOG: ") && refused.contains(says), "{text}: {refused}");
        }
    }

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
            ("a\u{202e}b\u{2066}c\u{61c}d\n", "a\\u{202e}b\\u{2066}c\\u{61c}d\n"),
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

    /// A reader that stands still until it is let go on.
    struct Still(std::sync::mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Still {
        fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
            // Gone: it reads on.
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(entry);
            Ok(entry.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn who_does_not_read_holds_up_a_program_and_nobody_else() {
        let log = Log::default();
        let (go_on, stand) = std::sync::mpsc::channel();
        let (read, writing) = (Arc::default(), log.clone());
        let reader = Still(stand, Arc::clone(&read));
        std::thread::spawn(move || writing.write_to(reader));
        log.room().await;
        let line = vec![b'a'; 1024];
        let fits = WAITING_BYTES_MAX / line.len();
        // Nobody reads, and each of these comes back at once.
        for _ in 0..fits + 7 {
            Entries(log.clone()).write_all(&line).unwrap();
        }
        assert_eq!(log.dropped_total(), 7);
        log.flush(Duration::from_millis(1));
        let mut room = Box::pin(log.room());
        let joins =
            std::future::poll_fn(|context| std::task::Poll::Ready(room.as_mut().poll(context).is_ready()));
        assert!(!joins.await, "a program's line joins where there is no room");
        drop(go_on);
        room.await;
        log.flush(Duration::from_secs(60));
        assert_eq!(read.lock().unwrap().len(), fits * line.len(), "what found room is written");
    }
}

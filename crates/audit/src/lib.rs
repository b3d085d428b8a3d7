//! Who did what: one event for every request, as a line of JSON in files of our own.
//!
//! The way through it: [`open`] takes the folder and starts the writer; each core owns
//! one [`Queue`] and reserves a [`Slot`] *before* it forwards a request, so that a
//! request that cannot be recorded is refused and not forwarded; [`Slot::commit`]
//! serialises the event ([`record`]) into a reused buffer and hands it to the writer
//! without waking it; the writer looks every [`POLL`] and writes everything that it
//! finds in one call, and where it found nothing ten times it sleeps until something is
//! committed; [`Log::close`] writes what is left. [`Health`] tells how that goes,
//! [`read::find`] finds one event again. Whoever else is to be told each event gets it
//! from the writer through a bounded [`sink::Buffer`].
//!
//! **What survives.** A line is safe from a killed process (SIGKILL, a crash of ours)
//! once the writer has written it: what is lost is what lay in the queues, at most
//! [`POLL`] of events while the disk keeps up. It is safe from a power cut only after
//! the operating system has written it back, or with [`Settings::durable`], which
//! calls `fdatasync` after every batch and writes one again for which that failed. A line
//! that a crash tore is closed with a newline at the next start and counted; readers skip
//! it.
//!
//! **When the disk is full** the lines stay in the queues, [`Health`] turns bad with
//! the reason, and writing is tried again until it works; a line of which a part was
//! written is completed, or cut off at the end. So it is when somebody has taken the file
//! away and no other can be begun in the folder. When a queue is full too,
//! [`Queue::reserve`] refuses, or, where the configuration says `drop`, the event is
//! dropped and counted.
//!
//! What it must never do: forget a reserved event without saying so (a slot dropped
//! without a commit writes an event that says "abandoned"), write half a line and go
//! on behind it, block or allocate per field on a core, record a query string or a
//! credential.

mod batch_writer;
pub mod follow;
mod health;
mod json;
mod queue;
pub mod read;
pub mod record;
mod rest;
mod segment;
pub mod sink;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::Clock;

pub use health::{Counts, Health, Status};
pub use queue::{Full, Queue, Slot};
pub use writer::Log;

/// How often the writer looks into the queues while something comes.
pub const POLL: Duration = Duration::from_millis(10);
/// How long the writer waits after a failed write before it tries again.
pub const RETRY: Duration = Duration::from_millis(100);

/// What happens to a request when its core's queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused: nothing is done that is not recorded.
    #[default]
    Refuse,
    /// It goes on, and its event is dropped and counted.
    Drop,
}

/// Where and how the log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The folder; made with mode 0700 when it is not there. Files in it get 0600.
    pub folder: PathBuf,
    /// A file that would grow past so many bytes is closed and the next one begun.
    pub rotate_bytes: u64,
    /// So is one that was begun so long ago; zero for never.
    pub rotate_after: Duration,
    /// How many files are kept, the current one included; at least 1.
    pub keep: usize,
    /// Events that one core's queue holds.
    pub queue_events: usize,
    /// Bytes of events that wait in one core's queue before it is full, however many they are.
    pub queue_bytes: usize,
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// Whether every batch is followed by `fdatasync`.
    pub durable: bool,
    /// Bytes for which the disk has to have room behind the end of the file before the log is open:
    /// for whoever does so little that they would learn of a full disk after it.
    pub room_bytes: u64,
}

impl Settings {
    /// The defaults: 64 MiB or a day per file, 32 files, 4,096 events or 16 MiB per core,
    /// refuse when full, not durable, no room made.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            rotate_bytes: 64 << 20,
            rotate_after: Duration::from_secs(86_400),
            keep: 32,
            queue_events: 4096,
            queue_bytes: 16 << 20,
            when_full: WhenFull::Refuse,
            durable: false,
            room_bytes: 0,
        }
    }
}

/// What can go wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or a file in it cannot be used.
    #[error("audit log: cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process writes there.
    #[error("audit log: {} is in use by another process (give each process a folder of its own)", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The log was closed with events that could not be written.
    #[error("audit log: {events} events could not be written in time: {reason}")]
    Unwritten {
        /// How many were lost.
        events: u64,
        /// Why.
        reason: String,
    },
}

/// Opens the log and starts its writer thread. Gives one queue for each of `cores`
/// data-plane threads.
///
/// # Errors
/// The folder cannot be made or written, or another process holds it.
pub fn open(settings: Settings, cores: usize, clock: Arc<dyn Clock>) -> Result<(Log, Vec<Queue>), Error> {
    writer::open(settings, cores, clock, None)
}

/// The same beside a process that still writes what it has left, with the lock that it
/// has handed over ([`Log::lock`]): this one begins a file of its own and leaves the
/// other's alone.
///
/// # Errors
/// The folder cannot be written.
pub fn open_beside(
    settings: Settings,
    cores: usize,
    clock: Arc<dyn Clock>,
    lock: std::fs::File,
) -> Result<(Log, Vec<Queue>), Error> {
    writer::open(settings, cores, clock, Some(lock))
}

//! `audit:`: where events are written.

use std::path::PathBuf;

/// What happens to requests when an event cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// They are refused with 503.
    Refuse,
    /// They go on; the lost events are counted.
    Drop,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// Folder of the log. Default: `audit` in the state folder.
    pub folder: PathBuf,
    /// A file is closed and the next begun at this many bytes.
    pub rotate_bytes: u64,
    /// Files kept, the open one included.
    pub keep: u32,
    /// When the disk or the queue is full.
    pub when_full: WhenFull,
}

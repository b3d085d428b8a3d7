//! `audit:`: where events are written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::decoder::Decoder;
use super::node::Node;
use super::schema::{Section, key};
use super::sinks::Sink;
use super::values;

/// A file is not closed by age sooner than this after it was begun.
const ROTATE_AFTER_MIN: Duration = Duration::from_secs(60);

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
    /// Folder of the firewall's log. Default: `firewall` in the state folder.
    pub firewall: PathBuf,
    /// A file is closed and the next begun at this many bytes.
    pub rotate_bytes: u64,
    /// So it is when it was begun so long ago; zero for never.
    pub rotate_after: Duration,
    /// Files kept, the open one included.
    pub keep: u32,
    /// When the disk or the queue is full.
    pub when_full: WhenFull,
    /// Who is told besides.
    pub sinks: Vec<Sink>,
}

impl Audit {
    /// How the log is kept, for whoever opens it.
    pub fn settings(&self) -> audit::Settings {
        audit::Settings {
            rotate_bytes: self.rotate_bytes,
            rotate_after: self.rotate_after,
            keep: usize::try_from(self.keep).unwrap_or(usize::MAX),
            when_full: match self.when_full {
                WhenFull::Refuse => audit::WhenFull::Refuse,
                WhenFull::Drop => audit::WhenFull::Drop,
            },
            ..audit::Settings::new(&self.folder)
        }
    }
}

pub(super) const AUDIT: Section = Section {
    path: "audit",
    about: "The audit log: one event per request, as JSON lines.",
    short: "the folder as a text: `audit: /var/log/bastide`",
    keys: &[
        key("folder", "path", "`audit` in the state folder", "Folder of the log."),
        key(
            "firewall",
            "path",
            "`firewall` in the state folder",
            "Folder of the firewall's log: one line per inspected request, rotated and kept in the same way.",
        ),
        key(
            "rotate_bytes",
            "size from 64KiB to 16GiB",
            "64MiB",
            "A file is closed and the next one started at this size.",
        ),
        key(
            "rotate_after",
            "duration; 0s: never",
            "1d",
            "And when it was started so long ago, whichever comes first. At least 1m.",
        ),
        key(
            "keep",
            "2 to 100000",
            "32",
            "Files kept, the open one included. The oldest is removed: 32 files of a day each are at most 32 days.",
        ),
        key(
            "when_full",
            "refuse or drop",
            "refuse",
            "If an event cannot be stored: refuse requests after they have waited 250 ms, or count the lost events.",
        ),
        key("sinks", "list of maps", "none", "Further receivers of each event."),
    ],
};

impl Decoder<'_> {
    /// `audit:`
    pub(super) fn audit(&mut self, node: Option<&Node>, state: &Path) -> Audit {
        let mut audit = Audit {
            folder: state.join("audit"),
            firewall: state.join("firewall"),
            rotate_bytes: 64 << 20,
            rotate_after: Duration::from_secs(86_400),
            keep: 32,
            when_full: WhenFull::Refuse,
            sinks: Vec::new(),
        };
        let Some(node) = node else { return audit };
        if node.text().is_some() {
            let always = "remove it: the audit log is always on";
            let never = "the audit log cannot be turned off; audit: { rotate_bytes: 64KiB, keep: 2 } keeps little of it, \
                         and when_full: drop lets requests pass when it cannot be written";
            if self.is_switch(node, "the folder of the log", always, never) {
                return audit;
            }
            audit.folder = self.path(node).unwrap_or(audit.folder);
            return audit;
        }
        let Some(table) = self.table(node, &AUDIT) else { return audit };
        audit.folder = table.get("folder").and_then(|node| self.path(node)).unwrap_or(audit.folder);
        audit.firewall = table.get("firewall").and_then(|node| self.path(node)).unwrap_or(audit.firewall);
        if audit.firewall == audit.folder {
            self.fault(table.at, "the firewall's log and the audit log need a folder each");
        }
        if let Some(node) = table.get("rotate_bytes")
            && let Some(bytes) = self.value(node, values::size)
        {
            if !(64 << 10..=16 << 30).contains(&bytes) {
                self.expected(node, "a size from 64KiB to 16GiB");
            }
            audit.rotate_bytes = bytes;
        }
        if let Some(node) = table.get("rotate_after")
            && let Some(after) = self.duration(node, Duration::ZERO)
        {
            if !after.is_zero() && after < ROTATE_AFTER_MIN {
                self.expected(node, "a duration of at least 1m, or 0s");
            }
            audit.rotate_after = after;
        }
        audit.keep = table.get("keep").and_then(|node| self.number(node, 2, 100_000)).unwrap_or(audit.keep);
        let words = [("refuse", WhenFull::Refuse), ("drop", WhenFull::Drop)];
        let word = table.get("when_full").and_then(|node| self.word(node, "answer to a full log", &words));
        audit.when_full = word.unwrap_or(audit.when_full);
        audit.sinks = table.get("sinks").map_or_else(Vec::new, |node| self.sinks(node));
        audit
    }
}

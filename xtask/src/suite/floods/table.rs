//! The table of floods.

use std::time::Duration;

/// What came of one attack.
pub(super) struct Row {
    pub(super) attack: &'static str,
    pub(super) sent: String,
    pub(super) did: String,
    /// High-water mark before and after, KiB.
    pub(super) memory_before: u64,
    pub(super) memory: u64,
    /// Processor time of the server per second.
    pub(super) cpu_share: f64,
    pub(super) quiet_ms: f64,
    pub(super) under_ms: f64,
    /// Honest requests that were answered meanwhile.
    pub(super) honest: usize,
    /// The longest time for which the machine stood still.
    pub(super) stood_still: Duration,
    /// Whether something was wrong that no standstill explains.
    pub(super) is_certain: bool,
    /// Whether the honest clients' time was past its bound.
    pub(super) late: bool,
    pub(super) faults: Vec<String>,
}

impl Row {
    /// Whether nothing but the time was wrong.
    pub(super) fn only_late(&self) -> bool {
        self.late && self.faults.len() == 1
    }

    /// One line of the table.
    pub(super) fn line(&self) -> String {
        let verdict = if self.faults.is_empty() { "held".to_owned() } else { self.faults.join("; ") };
        format!(
            "| {} | {} | {} | {} -> {} MiB | {:.2} | {:.1} / {:.1} ms of {} | {verdict} |",
            self.attack,
            self.sent,
            self.did,
            self.memory_before / 1024,
            self.memory / 1024,
            self.cpu_share,
            self.quiet_ms,
            self.under_ms,
            self.honest,
        )
    }
}

/// Prints all of it.
pub(super) fn print(rows: &[Row]) {
    println!(
        "\n| attack | sent | what the server did | memory high-water | CPU | honest p99 quiet / under attack | verdict |"
    );
    println!("|---|---|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{}", row.line()));
}

//! What the figures of a page come to: its tables, and each bound that does not hold.

use std::fmt::Write as _;

/// The tables, and each bound that does not hold.
pub(super) struct Judged {
    pub(super) text: String,
    pub(super) past: Vec<String>,
}

impl Judged {
    /// A row of figures that have a bound.
    pub(super) fn row(&mut self, what: &str, figure: &str, bound: &str, holds: bool) {
        let _ = writeln!(self.text, "| {what} | {figure} | {bound} | {} |", verdict(holds));
        if !holds {
            self.past.push(format!("{what} ({figure}, {bound})"));
        }
    }

    /// A row of figures that have none.
    pub(super) fn reported(&mut self, what: &str, figure: &str) {
        let _ = writeln!(self.text, "| {what} | {figure} | – | reported |");
    }
}

/// The last column of a row.
pub(super) const fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "**past its bound**" }
}

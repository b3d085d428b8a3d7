//! The tour's result as a table, or as JSON.

use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::visitor::{Kind, Trial};
use crate::cli::{Output, exit_code, say, say_as_it_is};

/// One row's result.
#[derive(Debug)]
pub struct RowReport {
    /// Its name.
    pub row: &'static str,
    /// Its trials in order.
    pub(super) trials: Vec<Trial>,
}

impl RowReport {
    /// Whether every trial came out as it must, and there was one.
    pub fn passed(&self) -> bool {
        !self.trials.is_empty() && self.trials.iter().all(Trial::passed)
    }
}

/// The whole tour's result.
#[derive(Debug)]
pub struct Report {
    rows: Vec<RowReport>,
    took: Duration,
}

impl Report {
    pub(super) fn new(rows: Vec<RowReport>, took: Duration) -> Self {
        Self { rows, took }
    }

    /// Whether every row came out as it must, and there was one.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(RowReport::passed)
    }

    /// Prints it and gives the exit code: 0 only when every row came out as it must.
    pub fn print(&self, output: Output) -> ExitCode {
        match output {
            Output::Text => say_as_it_is(self.text(&Paint::for_stdout())),
            Output::Json => say(self.json()),
        }
        exit_code(self.passed())
    }

    fn json(&self) -> serde_json::Value {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| json!({ "row": row.row, "passed": row.passed(), "trials": row.trials }))
            .collect();
        json!({ "passed": self.passed(), "seconds": self.took.as_secs_f64(), "rows": rows })
    }

    fn text(&self, paint: &Paint) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, paint);
        text
    }

    fn write(&self, to: &mut String, paint: &Paint) -> std::fmt::Result {
        let all = || self.rows.iter().flat_map(|row| &row.trials);
        let widest = |of: fn(&Trial) -> &str| all().map(|trial| of(trial).chars().count()).max().unwrap_or(0);
        let name = self.rows.iter().map(|row| row.row.len()).max().unwrap_or(0).max(4);
        let tried = widest(|trial| &trial.tried).clamp(5, 58);
        let back = widest(|trial| &trial.came_back).clamp(9, 44);
        let step = widest(|trial| &trial.step).max(4);
        let head =
            format!("  {:name$}  {:tried$}  {:back$}  {:step$}  why", "row", "tried", "came back", "step");
        writeln!(to, "{}", paint.dim(&head))?;
        for row in &self.rows {
            let mut title = row.row;
            // What went well beside an attack is worth one line; everything else its own.
            let has_attacks = row.trials.iter().any(|trial| trial.kind == Kind::Attack);
            let is_beside = |trial: &&Trial| has_attacks && trial.kind == Kind::Innocent && trial.passed();
            for trial in row.trials.iter().filter(|trial| !is_beside(trial)) {
                let mark = if trial.passed() { paint.green("✓") } else { paint.red("✗") };
                let answer =
                    format!("{}  {:step$}  {}", fit(&trial.came_back, back), trial.step, clip(&trial.reason));
                let (bold, tried) = (paint.bold(&fit(title, name)), fit(&trial.tried, tried));
                writeln!(to, "{mark} {bold}  {tried}  {}", answer.trim_end())?;
                title = "";
                for fault in &trial.faults {
                    writeln!(to, "  {:name$}  {}", "", paint.red(&format!("↳ {fault}")))?;
                }
            }
            let beside: Vec<&str> =
                row.trials.iter().filter(is_beside).map(|trial| trial.tried.as_str()).collect();
            if !beside.is_empty() {
                let line = clip(&format!("served: {}", beside.join(" · ")));
                writeln!(to, "  {:name$}  {}", "", paint.dim(&line))?;
            }
        }
        let wrong: Vec<&str> = self.rows.iter().filter(|row| !row.passed()).map(|row| row.row).collect();
        let attacks = all().filter(|trial| trial.kind == Kind::Attack).count();
        let innocents = all().count() - attacks;
        let seconds = self.took.as_secs_f64();
        writeln!(to)?;
        if wrong.is_empty() {
            let done = format!("{attacks} attacks refused, {innocents} honest requests served");
            write!(to, "{} in {seconds:.1} s.", paint.green(&done))
        } else {
            write!(to, "{} {}", paint.red("Came out wrong:"), wrong.join(", "))
        }
    }
}

/// The log's reasons can be long; the whole of one is in `--output json`.
fn clip(text: &str) -> String {
    const WIDTH: usize = 110;
    if text.chars().count() > WIDTH { fit(text, WIDTH) } else { text.to_owned() }
}

fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length > width {
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        return format!("{kept}…");
    }
    format!("{text}{}", " ".repeat(width - length))
}

/// Colours, when somebody looks.
pub(in crate::demo) struct Paint {
    colours: bool,
}

impl Paint {
    /// Colours on a terminal, none elsewhere.
    pub(in crate::demo) fn for_stdout() -> Self {
        Self { colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(in crate::demo) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(in crate::demo) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(in crate::demo) fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(in crate::demo) fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(faults: &[&str]) -> Report {
        let mut trial = Trial::new(Kind::Attack, "alice reads bob's order");
        trial.came_back = "403 Forbidden".to_owned();
        trial.step = "authorize".to_owned();
        trial.reason = "no policy permits it".to_owned();
        trial.faults = faults.iter().map(|&fault| fault.to_owned()).collect();
        Report::new(vec![RowReport { row: "other-owner", trials: vec![trial] }], Duration::from_millis(1500))
    }

    #[test]
    fn a_good_row_is_green_and_one_fault_makes_it_red() {
        let plain = Paint { colours: false };
        let good = report(&[]);
        assert!(good.passed());
        let text = good.text(&plain);
        assert!(
            text.contains("✓ other-owner  alice reads bob's order  403 Forbidden  authorize  no policy"),
            "{text}"
        );
        assert!(text.contains("1 attacks refused, 0 honest requests served in 1.5 s."), "{text}");

        let bad = report(&["the services saw 1 requests of it"]);
        assert!(!bad.passed());
        let text = bad.text(&plain);
        assert!(text.contains("↳ the services saw 1 requests"), "{text}");
        assert!(text.contains("Came out wrong: other-owner"), "{text}");
        assert_eq!(bad.json()["passed"], false);
    }

    #[test]
    fn a_tour_or_row_without_trials_has_not_passed() {
        assert!(!Report::new(Vec::new(), Duration::ZERO).passed());
        let empty = RowReport { row: "empty", trials: Vec::new() };
        assert!(!Report::new(vec![empty], Duration::ZERO).passed());
    }
}

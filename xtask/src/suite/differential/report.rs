//! The table of disagreements: inputs that two of the readers took differently.

use super::Options;
use super::corpus::Pair;
use super::judge::Verdict;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::Path;

/// Bytes of an input that the table shows.
const SHOWN_BYTES_MAX: usize = 160;

/// Writes the table as Markdown.
pub(super) fn write(
    path: &Path,
    options: &Options,
    pairs: &[Pair],
    results: &[(usize, Verdict)],
) -> Result<()> {
    let mut text = format!(
        "# Disagreements of readers\n\n`cargo xtask suite differential --cases {} --seed {}`\n\n\
         Attacks on which two of the peers understood different messages.\n\n",
        options.cases, options.seed
    );
    let names: Vec<&str> = results
        .first()
        .map(|(_, verdict)| verdict.outcomes.iter().map(|(name, _)| *name).collect())
        .unwrap_or_default();
    writeln!(text, "| attack | input | {} |\n|---|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
    for (at, verdict) in results.iter().filter(|(_, verdict)| verdict.peers_disagree) {
        let Some(pair) = pairs.get(*at) else { continue };
        let outcomes: Vec<String> = verdict.outcomes.iter().map(|(_, outcome)| cell(outcome)).collect();
        let input = cell(&escaped(&pair.attack, SHOWN_BYTES_MAX));
        writeln!(text, "| {} | `{input}` | {} |", cell(&pair.name), outcomes.join(" | "))?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('`', "'")
}

/// The bytes as text, cut at so many.
pub(super) fn escaped(bytes: &[u8], most: usize) -> String {
    let shown = bytes.get(..most).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { " ..." } else { "" };
    format!("{}{more}", shown.escape_ascii())
}

//! `docs/benchmarks.md`: one section per benchmark, each replaced when it is measured.

use crate::{clock, command};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

const PATH: &str = "docs/benchmarks.md";
const OPENING: &str = "# Benchmarks

Written by `cargo xtask bench`; each section says by which command, when and on what
machine. Measure your own: the ratios carry over, the microseconds do not.
";

/// Puts `text` under `title` in place of the section's former text.
pub(super) fn write(root: &Path, section: &str, title: &str, text: &str) -> Result<()> {
    let path = root.join(PATH);
    let page = std::fs::read_to_string(&path).unwrap_or_else(|_| OPENING.to_owned());
    std::fs::write(&path, replaced(&page, section, &format!("## {title}\n\n{text}")))
        .with_context(|| format!("writing {}", path.display()))?;
    println!("wrote the section `{section}` of {PATH}");
    Ok(())
}

fn replaced(page: &str, section: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {section}: begin -->\n"), format!("<!-- {section}: end -->\n"));
    let whole = format!("{begin}{}\n{end}", text.trim_end());
    match page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1))) {
        Some((before, after)) => format!("{before}{whole}{after}"),
        None => format!("{}\n\n{whole}", page.trim_end()),
    }
}

/// The line that says where figures come from.
pub(super) fn stamp(measured_by: &str) -> Result<String> {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = command::read(Command::new("uname").arg("-sr"))?;
    let rust = command::read(Command::new("rustc").arg("--version"))?;
    Ok(format!(
        "`{measured_by}`, {}, {} ({cores} cores), {}, {}.\n",
        clock::today(),
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        rust.split(" (").next().unwrap_or("").trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let page = replaced(&replaced(OPENING, "a", "## A\none"), "b", "## B\ntwo");
        assert!(page.starts_with(OPENING) && page.contains("one") && page.contains("two"));
        let again = replaced(&page, "a", "## A\nthree");
        assert!(!again.contains("one") && again.contains("three") && again.contains("two"));
        assert_eq!(replaced(&again, "a", "## A\nthree"), again);
    }
}

//! Links in Markdown: those to files of the repository must lead somewhere, with their
//! anchors. Addresses on the web are not asked.

use std::path::{Path, PathBuf};

/// The links of `text` that lead nowhere. `file` is relative to `root`.
pub(super) fn broken(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, target) in links(text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) =
            target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
        let folder = file.parent().unwrap_or(Path::new(""));
        let target_file = if path.is_empty() { root.join(file) } else { root.join(folder).join(path) };
        let place = format!("{}:{number}", file.display());
        if !target_file.exists() {
            faults.push(format!("{place}: link to `{path}`, which does not exist"));
            continue;
        }
        let Some(anchor) = anchor else { continue };
        let found = std::fs::read_to_string(&target_file).unwrap_or_default();
        let extension = target_file.extension().and_then(|extension| extension.to_str());
        // An anchor in a source file names the test that holds what the page says.
        if extension == Some("rs") && !found.contains(&format!("fn {anchor}(")) {
            faults.push(format!("{place}: link to `{target}`, but there is no function `{anchor}`"));
        }
        if extension != Some("md") {
            continue;
        }
        if !anchors(&found).iter().any(|known| known == anchor) {
            faults.push(format!("{place}: link to `{target}`, but no heading makes the anchor `{anchor}`"));
        }
    }
    faults
}

/// Pages of `folder` that its `README.md` does not link to.
pub(super) fn unlisted(root: &Path, files: &[PathBuf], folder: &Path) -> Vec<String> {
    let index = std::fs::read_to_string(root.join(folder).join("README.md")).unwrap_or_default();
    let listed: Vec<_> = links(&index).into_iter().map(|(_, target)| target).collect();
    let pages = files.iter().filter(|file| file.parent() == Some(folder));
    let names = pages.filter_map(|page| page.file_name()?.to_str()).filter(|name| *name != "README.md");
    let missing = names.filter(|name| !listed.contains(name));
    missing.map(|name| format!("{}/README.md: no link to `{name}`", folder.display())).collect()
}

/// Lines outside fenced code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number + 1, line))
    })
}

/// The targets of `[text](target)`, with their line.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Every second piece between backticks is code, where brackets mean nothing.
        for piece in line.split('`').step_by(2) {
            for (start, _) in piece.match_indices("](") {
                let rest = piece.get(start + 2..).unwrap_or("");
                if let Some((target, _)) = rest.split_once(')') {
                    found.push((number, target.split(' ').next().unwrap_or("")));
                }
            }
        }
    }
    found
}

/// Anchors that the headings make, by GitHub's rule.
fn anchors(text: &str) -> Vec<String> {
    prose(text)
        .filter_map(|(_, line)| {
            line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))
        })
        .map(|heading| {
            let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_every_page() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("README.md"), "[one](0001-one.md)").unwrap();
        let files: Vec<_> = ["README.md", "0001-one.md", "0002-two.md"].map(PathBuf::from).into();
        assert_eq!(unlisted(root.path(), &files, Path::new("")), ["/README.md: no link to `0002-two.md`"]);
    }

    #[test]
    fn links_lead_somewhere() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("docs")).unwrap();
        std::fs::write(
            root.path().join("docs/b.md"),
            "# One thing: `more`\n## Two\n```\n# no heading\n```\n",
        )
        .unwrap();
        std::fs::write(root.path().join("docs/c.rs"), "#[test]\nfn by_this() {}\n").unwrap();
        for (text, faults) in [
            ("[b](b.md)", 0),
            ("[b](b.md#two) and [`code`](b.md#one-thing-more)", 0),
            ("[web](https://example.org/none)", 0),
            ("`[not](a-link.md)`", 0),
            ("```\n[not](a-link.md)\n```", 0),
            ("# Here\n[self](#here)", 0),
            ("[up](../docs)", 0),
            ("[c](c.md)", 1),
            ("[`c`](c.md)", 1),
            ("[b](b.md#three)", 1),
            ("[b](b.md#no-heading)", 1),
            ("[self](#there)", 1),
            ("[held](c.rs#by_this)", 0),
            ("[held](c.rs#by_that)", 1),
            ("[a](c.md) [b](d.md)", 2),
        ] {
            std::fs::write(root.path().join("docs/a.md"), text).unwrap();
            assert_eq!(broken(root.path(), Path::new("docs/a.md"), text).len(), faults, "{text}");
        }
    }
}

//! House rules that no compiler holds: files stay short, nothing names one machine, links
//! in documents lead somewhere.

mod links;

use crate::workspace;
use anyhow::{Result, bail};
use std::path::Path;

/// Lines of a source file above its tests, about 600.
const FILE_LINES_MAX: usize = 640;

/// Paths and hosts that exist on one machine or in one network only. Written in two
/// halves, so that this table does not name them.
const ONE_MACHINE: &[(&str, &str)] = &[
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/home", "/"),
    ("/Use", "rs/"),
    ("arti", "factory"),
    ("nexus", "/repository"),
    ("dev", "pi"),
    (".inte", "rnal.corp"),
];

/// Checks every tracked file and prints what is wrong.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root()?;
    let files = workspace::tracked_files(&root)?;
    let mut faults = Vec::new();
    for file in &files {
        // Binary fixtures have no lines.
        let Ok(text) = std::fs::read_to_string(root.join(file)) else { continue };
        faults.extend(length(file, &text));
        faults.extend(machine_names(file, &text));
        // A page under `src` is a piece of a generated one, and its links are read there.
        let is_page = file.extension().is_some_and(|extension| extension == "md")
            && file.components().all(|part| part.as_os_str() != "src");
        if is_page {
            faults.extend(links::broken(&root, file, &text));
        }
        if file.file_name().is_some_and(|name| name == "Cargo.toml") {
            faults.extend(lints(file, &text));
        }
        if file.file_name().is_some_and(|name| name == "Cargo.lock") {
            faults.extend(sources(file, &text));
        }
    }
    faults.extend(links::unlisted(&root, &files, Path::new("docs/decisions")));
    for fault in &faults {
        println!("house: {fault}");
    }
    match faults.len() {
        0 => println!("house: {} files, nothing to say", files.len()),
        count => bail!("{count} house rules broken"),
    }
    Ok(())
}

/// A source file that has grown past a room with one purpose.
fn length(file: &Path, text: &str) -> Option<String> {
    let is_test = file.file_name().is_some_and(|name| name == "tests.rs")
        || file.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")));
    if is_test || file.extension().is_none_or(|extension| extension != "rs") {
        return None;
    }
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    (lines > FILE_LINES_MAX).then(|| {
        format!(
            "{}: {lines} lines above its tests, expected at most {FILE_LINES_MAX}: split it by purpose",
            file.display()
        )
    })
}

fn machine_names(file: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (start, end) in ONE_MACHINE {
            let name = format!("{start}{end}");
            if names(line, &name) {
                faults.push(format!(
                    "{}:{}: names `{name}`, which exists on one machine only",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
    faults
}

/// Whether `line` holds `name`, and a path not as part of a longer one (`/demo/home/`).
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(start, _)| {
        let before = line.get(..start).and_then(|before| before.chars().next_back());
        !name.starts_with('/')
            || !before.is_some_and(|before| before.is_alphanumeric() || "._-}*/".contains(before))
    })
}

/// A crate of the workspace that does not take the workspace's lints, and with them
/// `unsafe_code = "forbid"`. Fuzzers stand outside the workspace.
fn lints(file: &Path, text: &str) -> Option<String> {
    let is_member = text.contains("[package]") && !file.starts_with("fuzz");
    let takes =
        text.split_once("[lints]").is_some_and(|(_, rest)| rest.trim_start().starts_with("workspace = true"));
    (is_member && !takes).then(|| format!("{}: expected `[lints] workspace = true`", file.display()))
}

/// Sources in a lock file other than the public registry.
fn sources(file: &Path, text: &str) -> Vec<String> {
    let expected = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let lines =
        text.lines().enumerate().filter(|(_, line)| line.starts_with("source = ") && *line != expected);
    lines
        .map(|(number, line)| {
            format!("{}:{}: {line}, expected the public registry", file.display(), number + 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_refused_and_tests_do_not_count() {
        let lines = |count: usize| "x\n".repeat(count);
        let source = Path::new("crates/a/src/b.rs");
        assert_eq!(length(source, &lines(FILE_LINES_MAX)), None);
        assert!(length(source, &lines(FILE_LINES_MAX + 1)).is_some());
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}", lines(FILE_LINES_MAX), lines(2_000));
        assert_eq!(length(source, &tested), None);
        for test in ["crates/a/src/b/tests.rs", "crates/a/tests/c.rs", "docs/a.md"] {
            assert_eq!(length(Path::new(test), &lines(2_000)), None, "{test}");
        }
    }

    #[test]
    fn paths_of_one_machine_are_refused() {
        let file = Path::new("docs/a.md");
        for (start, end) in ONE_MACHINE {
            assert_eq!(machine_names(file, &format!("first\nsee {start}{end}x")).len(), 1, "{start}{end}");
        }
        for honest in
            ["/demo/home/x", "https://example.org/root/x", "a path such as /var/lib/bastide", "${HOME}/x"]
        {
            assert_eq!(machine_names(file, honest), Vec::<String>::new(), "{honest}");
        }
    }

    #[test]
    fn crates_take_the_lints_of_the_workspace() {
        let file = Path::new("crates/a/Cargo.toml");
        assert_eq!(lints(file, "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"), None);
        assert_eq!(lints(Path::new("Cargo.toml"), "[workspace]\n"), None);
        assert!(lints(file, "[package]\nname = \"a\"\n").is_some());
        assert!(
            lints(file, "[package]\nname = \"a\"\n[lints]\n[dependencies]\nworkspace = true\n").is_some()
        );
    }

    #[test]
    fn lock_files_name_the_public_registry_alone() {
        let file = Path::new("Cargo.lock");
        assert!(
            sources(file, "source = \"registry+https://github.com/rust-lang/crates.io-index\"").is_empty()
        );
        assert_eq!(sources(file, "a\nsource = \"git+https://example.org/x\"").len(), 1);
        assert_eq!(sources(file, "source = \"registry+https://mirror.example.org/index\"").len(), 1);
    }

    #[test]
    fn this_workspace_keeps_its_house_rules() {
        run().unwrap();
    }
}

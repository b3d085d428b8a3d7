//! The direction of imports between the workspace's crates: they go down only.
//!
//! [`FLOORS`] is the table of the design. A crate may import crates of lower floors and
//! nothing else of ours, in its code, its tests and its build script alike. A crate
//! that is pure has none of [`NOT_PURE`] among everything it is built from.

use crate::{command, metadata::Metadata, workspace};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// A crate's place in the town.
struct Floor {
    name: &'static str,
    floor: u8,
    /// No Tokio, sockets, files or clock: what it needs is passed in.
    pure: bool,
}

const fn floor(floor: u8, name: &'static str) -> Floor {
    Floor { name, floor, pure: false }
}

const fn pure(floor: u8, name: &'static str) -> Floor {
    Floor { name, floor, pure: true }
}

/// INVARIANT: imports go from a higher number to a lower one, never to the same.
/// Services of floor 4 therefore never import each other.
const FLOORS: &[Floor] = &[
    floor(6, "bastide"),
    floor(5, "console"),
    floor(4, "gateway"),
    floor(4, "mesh"),
    floor(4, "identity"),
    floor(4, "vault"),
    floor(3, "proxy"),
    floor(3, "audit"),
    pure(3, "detect"),
    pure(2, "policy"),
    pure(2, "contract"),
    pure(2, "waf"),
    floor(2, "keys"),
    pure(2, "posture"),
    floor(2, "store"),
    pure(1, "model"),
    // Stands outside: imports nothing of ours, nothing imports it.
    floor(0, "xtask"),
];

/// Crates that bring a runtime, sockets or TLS with them.
const NOT_PURE: &[&str] =
    &["tokio", "async-std", "smol", "mio", "socket2", "rustls", "hyper", "h2", "reqwest", "ureq", "rusqlite"];

/// Names of the standard library that a pure crate does not use outside its tests.
const NOT_PURE_IN_SOURCE: &[&str] = &[
    "std::fs",
    "fs::File",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::process",
    "thread::sleep",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Checks the workspace and prints what it found.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root()?;
    let metadata = Metadata::read(&root)?;
    let mut faults = directions(&metadata);
    for Floor { name, .. } in FLOORS.iter().filter(|floor| floor.pure) {
        if metadata.package(name).is_some() {
            let tree = command::read(
                command::cargo(&root)
                    .args(["tree", "--locked", "--prefix", "none", "--edges", "normal", "-p", name]),
            )?;
            faults.extend(impure_parts(name, &tree));
            faults.extend(impure_source(&root, name)?);
        }
    }
    for fault in &faults {
        println!("floors: {fault}");
    }
    match faults.len() {
        0 => println!("floors: {} crates, imports go down only", metadata.packages.len()),
        count => bail!("{count} imports against the floors; the table stands in xtask/src/floors.rs"),
    }
    Ok(())
}

/// Imports that do not go down, and crates without a floor.
fn directions(metadata: &Metadata) -> Vec<String> {
    let place = |name: &str| FLOORS.iter().find(|floor| floor.name == name);
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let Some(from) = place(&package.name) else {
            faults.push(format!("crate `{}` has no floor: give it one in the table", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.source.is_none()) {
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            match place(&dependency.name) {
                None => faults.push(format!(
                    "`{}` imports `{}` ({kind}), which has no floor: give it one in the table",
                    package.name, dependency.name
                )),
                Some(to) if from.floor == 0 || to.floor == 0 => faults.push(format!(
                    "`{}` imports `{}` ({kind}): xtask stands outside, nothing goes in or out",
                    package.name, dependency.name
                )),
                Some(to) if to.floor >= from.floor => faults.push(format!(
                    "`{}` (floor {}) imports `{}` (floor {}, {kind}): imports go down only; let both meet in a lower crate",
                    package.name, from.floor, dependency.name, to.floor
                )),
                Some(_) => {}
            }
        }
    }
    faults
}

/// Parts with sockets or a runtime among everything that a pure crate is built from.
/// `tree` is what `cargo tree --prefix none` printed.
fn impure_parts(name: &str, tree: &str) -> Vec<String> {
    let parts = tree.lines().filter_map(|line| line.split(' ').next());
    let mut found: Vec<_> = parts.filter(|part| NOT_PURE.contains(part)).collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|part| format!("`{name}` is pure, but is built from `{part}`: pass in what it needs"))
        .collect()
}

/// Files, sockets and clocks of the standard library in a pure crate's own source.
fn impure_source(root: &Path, name: &str) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let source = Path::new("crates").join(name).join("src");
    for file in workspace::tracked_files(root)? {
        let tests = file.file_name().is_some_and(|name| name == "tests.rs")
            || file.components().any(|part| part.as_os_str() == "tests");
        if !file.starts_with(&source) || tests || file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&file))
            .with_context(|| format!("reading {}", file.display()))?;
        faults.extend(impure_lines(&text).into_iter().map(|(line, word)| {
            format!("{}:{line}: `{name}` is pure, but names `{word}`: pass in what it needs", file.display())
        }));
    }
    Ok(faults)
}

fn impure_lines(text: &str) -> Vec<(usize, &'static str)> {
    let code = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.filter_map(|(number, line)| {
        NOT_PURE_IN_SOURCE.iter().find(|word| line.contains(**word)).map(|word| (number + 1, *word))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a crate imports, and as which kind.
    type Imports<'a> = &'a [(&'a str, Option<&'a str>)];

    fn town(crates: &[(&str, Imports<'_>)]) -> Metadata {
        let packages: Vec<_> = crates
            .iter()
            .map(|(name, imports)| {
                let dependencies: Vec<_> = imports
                    .iter()
                    .map(|(import, kind)| serde_json::json!({ "name": import, "source": null, "kind": kind }))
                    .collect();
                serde_json::json!({ "name": name, "dependencies": dependencies })
            })
            .collect();
        Metadata::parse(&serde_json::json!({ "packages": packages }).to_string()).unwrap()
    }

    #[test]
    fn imports_go_down_only() {
        let honest = town(&[
            ("gateway", &[("proxy", None), ("model", Some("dev"))]),
            ("bastide", &[("gateway", None)]),
        ]);
        assert_eq!(directions(&honest), Vec::<String>::new());
        for (from, to, kind) in [
            ("policy", "proxy", None),
            ("model", "keys", None),
            ("gateway", "mesh", None),
            ("gateway", "identity", Some("dev")),
            ("keys", "policy", Some("build")),
            ("xtask", "model", None),
            ("bastide", "xtask", Some("dev")),
            ("gateway", "helpers", None),
            ("helpers", "model", None),
        ] {
            let faults = directions(&town(&[(from, &[(to, kind)])]));
            assert_eq!(faults.len(), 1, "{from} → {to}: {faults:?}");
        }
    }

    #[test]
    fn crates_of_the_registry_have_no_floor() {
        let text = r#"{"packages":[{"name":"model","dependencies":[{"name":"serde","source":"registry+x","kind":null}]}]}"#;
        assert_eq!(directions(&Metadata::parse(text).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn pure_crates_are_not_built_from_sockets() {
        assert_eq!(
            impure_parts("policy", "policy v0.1.0 (/x)\nserde v1.0.0\ntokio-macros-free v1.0.0"),
            Vec::<String>::new()
        );
        assert_eq!(
            impure_parts("policy", "policy v0.1.0 (/x)\ntokio v1.2.3\nmio v1.0.0\ntokio v1.2.3 (*)").len(),
            2
        );
    }

    #[test]
    fn pure_crates_do_not_name_files_or_clocks() {
        assert_eq!(impure_lines("use std::net::IpAddr;\n// std::fs\n#[cfg(test)]\nuse std::fs;"), []);
        assert_eq!(impure_lines("use x;\nuse std::fs::read;"), [(2, "std::fs")]);
    }

    #[test]
    fn this_workspace_keeps_its_floors() {
        run().unwrap();
    }
}

//! The crates that the workspace is really built from on Linux, as `cargo tree` resolves
//! them with every feature of ours switched on. (`cargo metadata` also names crates
//! behind weak features that nothing activates, and would accuse the innocent.)

use crate::command;
use anyhow::Result;
use std::{collections::BTreeSet, path::Path};

/// Where Bastide runs.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// One crate of the graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    /// What cargo prints in parentheses: a folder, a git address; nothing for the registry.
    pub(crate) source: Option<String>,
    /// The SPDX expression that it states.
    pub(crate) licence: Option<String>,
    /// Whether it lies in this workspace.
    pub(crate) ours: bool,
}

impl Crate {
    /// Name and version.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Where it comes from, when that is neither the registry nor this workspace.
    pub(crate) fn foreign_source(&self) -> Option<&str> {
        self.source.as_deref().filter(|_| !self.ours)
    }
}

/// Asks cargo; sorted by name, each crate once.
pub(crate) fn read(root: &Path) -> Result<Vec<Crate>> {
    let mut all = BTreeSet::new();
    for target in TARGETS {
        let text = command::read(command::cargo(root).args([
            "tree",
            "--workspace",
            "--all-features",
            "--locked",
            "--edges=normal,build,dev",
            "--prefix=none",
            "--no-dedupe",
            "--format={p}|{l}",
            "--target",
            target,
        ]))?;
        all.extend(parse(&text, root));
    }
    Ok(all.into_iter().collect())
}

/// Reads lines such as `serde v1.0.229|MIT OR Apache-2.0` and `model v0.1.0 (/folder)|Apache-2.0`.
pub(crate) fn parse(text: &str, root: &Path) -> BTreeSet<Crate> {
    text.lines().filter_map(|line| parse_line(line, root)).collect()
}

fn parse_line(line: &str, root: &Path) -> Option<Crate> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.splitn(3, ' ');
    let (name, version) = (words.next()?, words.next()?);
    let remarks = words.next().unwrap_or("").split(") (").map(|remark| remark.trim_matches(['(', ')']));
    let source =
        remarks.into_iter().find(|remark| !remark.is_empty() && *remark != "proc-macro" && *remark != "*");
    Some(Crate {
        name: name.to_owned(),
        version: version.to_owned(),
        source: source.map(str::to_owned),
        licence: Some(licence.trim()).filter(|text| !text.is_empty()).map(str::to_owned),
        ours: source.is_some_and(|source| Path::new(source).starts_with(root)),
    })
}

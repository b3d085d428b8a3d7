//! Documents that the code generates, so that they cannot say something else than it does.

use crate::{built, command, workspace};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// Whether to write or to compare.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Change nothing; exit 1 when a document is not what the code generates
    #[arg(long)]
    pub(crate) check: bool,
}

/// A generated document: where it lies and the example program that prints it, of the
/// crate that knows.
struct Document {
    path: &'static str,
    example: &'static str,
}

const DOCUMENTS: &[Document] = &[
    Document { path: "docs/configuration.md", example: "configuration_reference" },
    Document { path: "docs/bastide.schema.json", example: "configuration_schema" },
    Document { path: "docs/metrics.md", example: "metrics_reference" },
    Document { path: "docs/openapi.json", example: "administration_document" },
];

/// Writes or compares every document.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (root, examples) = (workspace::root()?, built::examples()?);
    let mut stale = Vec::new();
    for document in DOCUMENTS {
        let program = examples.join(document.example);
        let generated = command::read(Command::new(program).current_dir(&root))?;
        let path = root.join(document.path);
        let present = std::fs::read_to_string(&path).unwrap_or_default();
        if present == generated {
            println!("{}: current", document.path);
        } else if options.check {
            stale.push(document.path);
        } else {
            std::fs::write(&path, generated).with_context(|| format!("writing {}", path.display()))?;
            println!("{}: written", document.path);
        }
    }
    if !stale.is_empty() {
        bail!("{} not what the code generates: run `cargo xtask docs` and commit", stale.join(", "));
    }
    Ok(())
}

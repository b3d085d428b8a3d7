//! `bastide fmt`: the canonical layout of configuration files.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueHint};
use serde_json::json;
use similar::TextDiff;

use super::help::help;
use super::{Output, exit_code, say, say_json};
use crate::config;

/// Most bytes of a file, and of standard input, that are looked at.
const BYTES_MAX: u64 = 16 << 20;

/// Arguments of `bastide fmt`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "Comments, anchors, quotes that matter and ${…} are kept; short forms stay short and long forms long.\n\
     The meaning of a file is compared before and after by the gateway's own reader: a file whose meaning\n\
     would change is left as it is. A comment `# fmt: off` excludes the entry below it.",
    "0 formatted, 1 --check found something to format, or a file cannot be formatted, 2 wrong usage, 3 a file cannot be read or written",
    "bastide fmt                        bastide.yaml, in place\n\
     bastide fmt conf/*.yaml\n\
     bastide fmt --check *.yaml         for CI: changes nothing, shows what would change\n\
     bastide fmt - < in.yaml > out.yaml"
))]
pub struct FmtArguments {
    /// The files; `-` reads standard input and writes standard output.
    #[arg(default_value = "bastide.yaml", value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Change nothing; show what would change and end with 1 when there is something.
    #[arg(long)]
    check: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What came of one file.
struct Outcome {
    file: PathBuf,
    changed: bool,
    /// A unified diff, with `--check`.
    diff: Option<String>,
    /// Why it could not be formatted.
    fault: Option<config::Fault>,
}

/// Formats the files, or with `--check` shows how; the exit code is 1 if anything is left to do.
///
/// # Errors
/// A file cannot be read or written.
pub fn run(arguments: &FmtArguments) -> anyhow::Result<ExitCode> {
    let mut outcomes = Vec::new();
    for file in &arguments.files {
        outcomes.push(one(file, arguments)?);
    }
    match arguments.output {
        Output::Text => outcomes.iter().for_each(say_outcome),
        // Standard output is the formatted text then.
        Output::Json if arguments.check || !arguments.files.iter().any(|file| is_standard(file)) => {
            say_json(&to_json(&outcomes));
        }
        Output::Json => {}
    }
    let bad = |outcome: &Outcome| outcome.fault.is_some() || (arguments.check && outcome.changed);
    Ok(exit_code(!outcomes.iter().any(bad)))
}

fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn one(file: &Path, arguments: &FmtArguments) -> anyhow::Result<Outcome> {
    let standard = is_standard(file);
    let name = if standard { Path::new("standard input") } else { file };
    let text = read(file, standard)?;
    let mut outcome = Outcome { file: name.to_owned(), changed: false, diff: None, fault: None };
    let formatted = match config::format(name, &text) {
        Ok(formatted) => formatted,
        Err(fault) => {
            outcome.fault = Some(fault);
            return Ok(outcome);
        }
    };
    outcome.changed = formatted != text;
    if arguments.check {
        outcome.diff = outcome.changed.then(|| unified(name, &text, &formatted));
    } else if standard {
        std::io::stdout().lock().write_all(formatted.as_bytes())?;
    } else if outcome.changed {
        replace(file, &formatted).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(outcome)
}

fn read(file: &Path, standard: bool) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let of = |error| anyhow::Error::new(error).context(format!("cannot read {}", file.display()));
    if standard {
        std::io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(file).map_err(of)?.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(of)?;
    }
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", file.display()))
}

/// Whole or not at all, with the permissions, the group and if possible the owner that the file had: whoever
/// read it reads it still. What a symbolic link leads to is replaced, not the link.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let file = file.canonicalize()?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut neighbour = tempfile::NamedTempFile::new_in(folder)?;
    neighbour.write_all(text.as_bytes())?;
    let found = std::fs::metadata(&file)?;
    let (owner, group) = (Some(found.uid()), Some(found.gid()));
    // Only root can give a file away; others can keep its group.
    fchown(neighbour.as_file(), owner, group).or_else(|_| fchown(neighbour.as_file(), None, group))?;
    neighbour.as_file().set_permissions(found.permissions())?;
    neighbour.as_file().sync_all()?;
    neighbour.persist(&file)?;
    Ok(())
}

/// What `diff -u` would say.
fn unified(name: &Path, before: &str, after: &str) -> String {
    let name = name.display().to_string();
    TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(2)
        .header(&name, &format!("{name} (formatted)"))
        .to_string()
}

fn say_outcome(outcome: &Outcome) {
    if let Some(fault) = &outcome.fault {
        say_fault(fault);
    }
    if let Some(diff) = &outcome.diff {
        say(diff.trim_end_matches('\n'));
    }
}

#[expect(clippy::print_stderr, reason = "standard output may be the formatted text")]
fn say_fault(fault: &config::Fault) {
    eprintln!("{fault}");
}

fn to_json(outcomes: &[Outcome]) -> serde_json::Value {
    let files = outcomes.iter().map(|outcome| {
        json!({
            "file": outcome.file, "changed": outcome.changed,
            "diff": outcome.diff, "fault": outcome.fault,
        })
    });
    json!({ "files": files.collect::<Vec<_>>() })
}

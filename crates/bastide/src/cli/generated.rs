//! What is generated from the command line's own description: completions for shells and
//! manual pages.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command, CommandFactory, ValueHint};
use clap_complete::Shell;

use super::help::{EXIT_CODES, help};
use super::{Cli, Output, say, say_json};

/// Arguments of `bastide completions`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "",
    EXIT_CODES,
    "bastide completions bash > /usr/share/bash-completion/completions/bastide\n\
     bastide completions zsh > \"${fpath[1]}/_bastide\"\n\
     bastide completions fish > ~/.config/fish/completions/bastide.fish"
))]
pub struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

/// Arguments of `bastide man`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "",
    EXIT_CODES,
    "bastide man /usr/local/share/man/man1\n\
     bastide man . && man -l ./bastide-check.1"
))]
pub struct ManArguments {
    /// The folder; created if it does not exist. Existing pages of the same names are replaced.
    #[arg(value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

/// Arguments of `bastide version`.
#[derive(Debug, Args)]
#[command(after_help = help("", EXIT_CODES, "bastide version\n\
     bastide version --output json | jq -r .version"))]
pub struct VersionArguments {
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Prints the version.
///
/// # Errors
/// Never.
pub fn version(arguments: &VersionArguments) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    match arguments.output {
        Output::Text => say(format_args!("bastide {version}")),
        Output::Json => say_json(&serde_json::json!({ "version": version })),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the completions.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(arguments: &CompletionsArguments) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "bastide", &mut script);
    match std::io::stdout().lock().write_all(&script) {
        // Whoever has read enough is no fault of ours.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Writes one page for `bastide` and one for each command.
///
/// # Errors
/// A page cannot be written.
pub fn man(arguments: &ManArguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut root = Cli::command();
    root.build();
    let written = pages(folder, &root, "bastide")?;
    say(format_args!("{written} pages in {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and of those below it; how many they are.
fn pages(folder: &Path, command: &Command, name: &str) -> anyhow::Result<usize> {
    let mut count = 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        count += pages(folder, below, &format!("{name}-{}", below.get_name()))?;
    }
    let path = folder.join(format!("{name}.1"));
    std::fs::write(&path, page(command, name)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(count)
}

/// One page. What follows the options in `--help` is split over the sections of a manual page.
fn page(command: &Command, name: &str) -> std::io::Result<Vec<u8>> {
    let version = command.get_version().unwrap_or_default();
    let man = clap_mangen::Man::new(command.clone())
        .title(name.to_ascii_uppercase())
        .source(format!("Bastide {version}"))
        .manual("Bastide");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (prose, codes, examples) = super::help::parts(&text);
    if !prose.is_empty() {
        writeln!(page, ".PP")?;
        verbatim(&mut page, prose)?;
    }
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if !codes.is_empty() {
        writeln!(page, ".SH EXIT STATUS")?;
        verbatim(&mut page, codes)?;
    }
    if !examples.is_empty() {
        writeln!(page, ".SH EXAMPLES")?;
        verbatim(&mut page, examples)?;
    }
    Ok(page)
}

/// Text as it is written, line by line.
fn verbatim(page: &mut Vec<u8>, text: &str) -> std::io::Result<()> {
    writeln!(page, ".nf")?;
    for line in text.lines() {
        writeln!(page, "\\&{}", line.replace('\\', "\\e").replace('-', "\\-"))?;
    }
    writeln!(page, ".fi")
}

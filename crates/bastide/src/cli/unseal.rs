//! `bastide unseal`: gives a share of the unseal key to the process that waits for it.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueHint};
use zeroize::Zeroizing;

use super::help::help;
use super::{Output, exit_code, say, say_json};
use crate::admin::client::AdminClient;
use crate::process::storage::unseal_socket;
use crate::process::unseal::Progress;

/// Arguments of `bastide unseal`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "Shares are read from files or from standard input, one per line, never from arguments, which\n\
     other users of the machine can see.",
    "0 unsealed, 1 sealed: more shares are needed, or one was refused; 2 wrong usage, 3 no process runs (without --status: none is waiting for shares), or the configuration has faults",
    "bastide unseal                            asks for one share\n\
     bastide unseal --share-file alice.share --share-file bob.share\n\
     pass show bastide/share | bastide unseal\n\
     bastide unseal --status --output json     how many were given and are needed\n\
     bastide unseal --status && bastide user list"
))]
pub struct UnsealArguments {
    /// The configuration, which says where the state folder is.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// A file that holds a share; may be given several times. Default: standard input.
    #[arg(long = "share-file", value_hint = ValueHint::FilePath)]
    share_files: Vec<PathBuf>,
    /// Give no share, only show the progress; the exit code says whether the store is sealed.
    #[arg(long, conflicts_with = "share_files")]
    status: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Gives shares to the waiting process; the exit code is 1 until the store is unsealed.
///
/// # Errors
/// The configuration has faults, or no process waits for shares.
pub fn run(arguments: &UnsealArguments) -> anyhow::Result<ExitCode> {
    let configuration = super::check::load_or_report(&arguments.config, arguments.output)?;
    anyhow::ensure!(
        arguments.status || configuration.storage.is_set,
        "{} has no store (no `storage:`, `realms:` or `mesh:`), so that nothing is sealed",
        arguments.config.display()
    );
    let socket = unseal_socket(&configuration.state);
    let mut progress = match give(&socket, "") {
        // Who has what it needs no longer listens there; who does listen is sealed, answer or not.
        Err(_) if arguments.status && !socket.exists() && AdminClient::answers(&configuration.state) => {
            Progress { unsealed: true, ..Progress::default() }
        }
        progress => progress?,
    };
    if !arguments.status {
        for share in shares(&arguments.share_files)? {
            progress = give(&socket, &share)?;
            if progress.unsealed || progress.refused.is_some() {
                break;
            }
        }
    }
    match arguments.output {
        Output::Json => say_json(&progress),
        Output::Text if progress.unsealed && !configuration.storage.is_set => {
            say("nothing is sealed: there is no store");
        }
        Output::Text => say(describe(&progress)),
    }
    Ok(exit_code(progress.unsealed))
}

fn describe(progress: &Progress) -> String {
    let Progress { given, needed, unsealed, refused } = progress;
    match refused {
        _ if *unsealed => "unsealed".to_owned(),
        Some(why) if *given == 1 => format!("refused: {why}; 1 share is held"),
        Some(why) => format!("refused: {why}; {given} shares are held"),
        None if *needed == 0 => "sealed: no share was given yet".to_owned(),
        None if *given == 1 => format!("sealed: 1 of {needed} shares was given"),
        None => format!("sealed: {given} of {needed} shares were given"),
    }
}

/// The shares of the files, or of standard input.
pub(super) fn shares(files: &[PathBuf]) -> anyhow::Result<Vec<Zeroizing<String>>> {
    let mut shares = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        shares.push(Zeroizing::new(text.trim().to_owned()));
    }
    if !files.is_empty() {
        return Ok(shares);
    }
    let input = std::io::stdin();
    let asks = input.is_terminal();
    if asks {
        write!(std::io::stderr(), "share (is shown while you type; pipe it in to avoid that): ")?;
    }
    for line in input.lock().lines() {
        let line = Zeroizing::new(line?);
        if !line.trim().is_empty() {
            shares.push(Zeroizing::new(line.trim().to_owned()));
        }
        if asks {
            break;
        }
    }
    anyhow::ensure!(
        !shares.is_empty(),
        "expected a share on standard input, or in files by --share-file; found nothing"
    );
    Ok(shares)
}

/// Gives one share; an empty one asks how it stands.
fn give(socket: &Path, share: &str) -> anyhow::Result<Progress> {
    let nobody = || {
        format!(
            "no process is waiting for shares at {}: is `bastide serve` running, sealed, with this configuration?",
            socket.display()
        )
    };
    let mut stream = UnixStream::connect(socket).with_context(nobody)?;
    let line = Zeroizing::new(format!("{share}\n"));
    stream.write_all(line.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    serde_json::from_str(&answer).context("the process that waits for shares did not answer")
}

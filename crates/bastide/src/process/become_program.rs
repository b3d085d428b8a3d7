//! What `bastide run` starts in the place of its program, and what becomes that program: only a process itself says what
//! is to happen to it when its parent dies, and what its own limits are.

use std::fs::File;
use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Resource, Rlimit, Signal, getpid, getppid, getrlimit, setrlimit};

/// The command that this process starts itself with.
const COMMAND: &str = "become-program";

/// Arguments of `bastide become-program`.
#[derive(Clone, Debug, Args)]
pub struct BecomeArguments {
    /// The process with which the program ends.
    #[arg(long)]
    parent: i32,
    #[command(flatten)]
    limits: SoftLimits,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// The soft limits of a program; none: as high as may be.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct SoftLimits {
    /// The size of its core dumps, bytes.
    #[arg(long = "core-limit")]
    pub(super) core: Option<u64>,
    /// How many files it may have open.
    #[arg(long = "open-files-limit")]
    pub(super) open_files: Option<u64>,
}

/// Becomes the program. Standard input takes why that cannot be, and is closed when it can.
///
/// # Errors
/// What the system said, other than of the program itself.
pub fn become_program(arguments: &BecomeArguments) -> anyhow::Result<ExitCode> {
    let told = std::io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have died before that was said.
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get() != arguments.parent) {
        return Ok(ExitCode::FAILURE);
    }
    let SoftLimits { core, open_files } = arguments.limits;
    for (resource, current) in [(Resource::Core, core), (Resource::Nofile, open_files)] {
        let maximum = getrlimit(resource).maximum;
        setrlimit(resource, Rlimit { current: current.or(maximum), maximum })?;
    }
    let Some((program, arguments)) = arguments.command.split_first() else { return Ok(ExitCode::FAILURE) };
    let error = Command::new(program).args(arguments).exec();
    File::from(told).write_all(error.to_string().as_bytes())?;
    Ok(ExitCode::FAILURE)
}

/// The command that becomes this one, with soft limits of its own; and where it says that it could not, which is to
/// be read once it is started and this command is dropped.
///
/// # Errors
/// What the system said.
pub(super) fn command_for(command: &[String], limits: SoftLimits) -> anyhow::Result<(Command, PipeReader)> {
    let (reader, writer) = std::io::pipe().context("a pipe")?;
    // Whatever lies at our path by now, it is this very binary.
    let mut this = Command::new("/proc/self/exe");
    this.arg0("bastide").arg(COMMAND).arg("--parent").arg(getpid().as_raw_nonzero().to_string());
    for (option, limit) in [("--core-limit", limits.core), ("--open-files-limit", limits.open_files)] {
        if let Some(limit) = limit {
            this.arg(option).arg(limit.to_string());
        }
    }
    this.arg("--").args(command).stdin(Stdio::from(OwnedFd::from(writer)));
    Ok((this, reader))
}

/// Waits until a process that was started so is its program.
///
/// # Errors
/// Why it is not.
pub(super) fn has_become(mut reader: PipeReader) -> std::io::Result<()> {
    let mut why = String::new();
    reader.read_to_string(&mut why)?;
    if why.is_empty() { Ok(()) } else { Err(std::io::Error::other(why)) }
}

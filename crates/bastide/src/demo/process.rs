//! The demo's processes: each started here, known by its process id, and ended by it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::service::{Announcement, Role};

/// How long a process may take until it listens, or has an identity.
pub(crate) const START_TIME_MAX: Duration = Duration::from_secs(240);
/// How often it is looked for what a process does next.
pub(crate) const POLL: Duration = Duration::from_millis(20);
/// How long a process may take to end by itself before it is killed.
const END_TIME_MAX: Duration = Duration::from_secs(15);

/// One running process. Dropped, it is killed.
pub(crate) struct Process {
    name: String,
    pid: u32,
    child: Child,
    /// Its standard input: services end when it closes.
    leash: Option<ChildStdin>,
}

impl Process {
    /// Starts `executable` with `arguments` in `folder`. Its standard error goes to a
    /// log file there, its standard output to us when it `announces` something.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(
        name: &str,
        executable: &Path,
        arguments: &[String],
        announces: bool,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log = std::fs::File::create(log_path(folder, name))?;
        let mut child = Command::new(executable)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(if announces { Stdio::piped() } else { Stdio::null() })
            .stderr(log)
            // A group of its own: Ctrl-C in the terminal reaches only the demo, which
            // then ends the others in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", executable.display()))?;
        let pid = child.id().context("the process ended at once")?;
        let leash = child.stdin.take();
        Ok(Self { name: name.to_owned(), pid, child, leash })
    }

    /// Starts one of the demo's services and waits until it listens.
    ///
    /// # Errors
    /// It cannot be started, or ends or is silent instead of listening.
    pub(crate) async fn service(
        executable: &Path,
        role: Role,
        instance: u32,
        more: &[String],
        folder: &Path,
    ) -> anyhow::Result<(Self, Announcement)> {
        let name = format!("{}-{instance}", role.name());
        let mut arguments =
            vec!["demo-service".to_owned(), role.name().to_owned(), format!("--instance={instance}")];
        arguments.extend_from_slice(more);
        let mut process = Self::start(&name, executable, &arguments, true, folder)?;
        let stdout = process.child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        let read = tokio::time::timeout(START_TIME_MAX, BufReader::new(stdout).read_line(&mut line)).await;
        if !matches!(read, Ok(Ok(1..))) {
            bail!("{name} did not start: {}", tail(&log_path(folder, &name)));
        }
        let announcement =
            serde_json::from_str(&line).with_context(|| format!("{name} announced {line:?}"))?;
        Ok((process, announcement))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is not there any more.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        signal_pid(self.pid, signal)
    }

    /// Asks it to end, waits for that, and kills it when it does not. A demo service
    /// ends because its standard input closes, anything else on `signal`.
    pub(crate) async fn end(mut self, signal: Option<Signal>) {
        drop(self.leash.take());
        if let Some(signal) = signal {
            let _ = self.signal(signal);
        }
        if tokio::time::timeout(END_TIME_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// The last lines of what it wrote to standard error.
    pub(crate) fn last_words(&self, folder: &Path) -> String {
        tail(&log_path(folder, &self.name))
    }
}

/// Sends a signal to one process, named by its id.
///
/// # Errors
/// There is no such process.
pub(crate) fn signal_pid(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no such process id")?;
    Ok(kill_process(pid, signal)?)
}

/// Where a process' standard error goes.
pub(crate) fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

/// The newest line with these words that a process wrote to standard error, from its message on.
pub(crate) fn line_of(folder: &Path, name: &str, words: &str) -> Option<String> {
    let text = std::fs::read_to_string(log_path(folder, name)).ok()?;
    let line = text.lines().rfind(|line| line.contains(words))?;
    Some(line.split_once(" WARN ").map_or(line, |(_, message)| message).trim().to_owned())
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default();
    if last.is_empty() { "it said nothing".to_owned() } else { last.join("\n") }
}

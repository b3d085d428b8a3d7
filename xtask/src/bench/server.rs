//! A server of a measurement: pinned to a core, stopped when dropped.

use super::usage;
use crate::command;
use crate::process::{Process, listens};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The core of the proxy under test.
pub(super) const PROXY_CORE: &str = "0";
/// The core of everything else: upstream and load.
pub(super) const PEER_CORE: &str = "1";
/// A running server.
pub(super) struct Server {
    name: &'static str,
    process: Process,
}

impl Server {
    /// CPU that it and its children have used until now.
    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.process()).with_context(|| format!("measuring {}", self.name))
    }

    /// Resident memory of it and its children, in KiB.
    pub(super) fn resident_kib(&self) -> Result<u64> {
        usage::resident_kib(self.process()).with_context(|| format!("measuring {}", self.name))
    }

    /// Its process id.
    pub(super) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Starts it pinned to `core`, its output in `NAME.log`.
    pub(super) fn spawn(name: &'static str, core: &str, folder: &Path, command: &[&str]) -> Result<Self> {
        // `nice` and `taskset` become the program that they start: the process id stays.
        let process = Process::start(name, folder, pinned(core).args(command).current_dir(folder))?;
        Ok(Self { name, process })
    }

    /// Waits until `ready` gives something, and asks so often.
    pub(super) fn wait<T>(&mut self, every: Duration, ready: impl FnMut() -> Option<T>) -> Result<T> {
        self.process.wait_asking_every(every, ready)
    }

    /// Starts it as [`Self::spawn`] does and waits until it listens on the port `ready`.
    pub(super) fn start(
        name: &'static str,
        core: &str,
        folder: &Path,
        command: &[&str],
        ready: u16,
    ) -> Result<Self> {
        let mut server = Self::spawn(name, core, folder, command)?;
        server.process.wait(|| listens(ready))?;
        Ok(server)
    }

    /// Records it with perf while `load` runs for so long, and writes the report into
    /// `NAME.perf.txt`.
    pub(super) fn profile(
        &self,
        folder: &Path,
        name: &str,
        seconds: u32,
        load: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if command::find("perf").is_none() {
            bail!("--profile needs perf: apt-get install linux-perf");
        }
        let data = folder.join(format!("{name}.perf.data"));
        let mut perf = Command::new("perf")
            .args(["record", "-q", "-F", "1999", "-p", &self.process().to_string(), "-o"])
            .arg(&data)
            .args(["--", "sleep", &seconds.to_string()])
            .spawn()?;
        load()?;
        perf.wait()?;
        let report = command::read(
            Command::new("perf")
                .args(["report", "--stdio", "--no-children", "--percent-limit", "0.4", "-i"])
                .arg(&data),
        )?;
        let path = folder.join(format!("{name}.perf.txt"));
        std::fs::write(&path, report)?;
        println!("where the CPU of {name} goes: {}", path.display());
        Ok(())
    }

    /// `bastide serve` with that configuration; `ready` is a port on which it will listen.
    pub(super) fn bastide(folder: &Path, binary: &Path, configuration: &Path, ready: u16) -> Result<Self> {
        let (binary, configuration) = (binary.display().to_string(), configuration.display().to_string());
        Self::start("bastide", PROXY_CORE, folder, &[&binary, "serve", "--config", &configuration], ready)
    }
}

/// A command before which the words of a program are put: on that core, and before
/// everything else on it where the user may ask for that.
pub(super) fn pinned(core: &str) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "-20", "taskset", "-c", core]);
    command
}

//! A server of a measurement: pinned to a core, stopped when dropped.

use super::usage;
use crate::{clock::Stopwatch, command};
use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The core of the proxy under test.
pub(super) const PROXY_CORE: &str = "0";
/// The core of everything else: upstream and load.
pub(super) const PEER_CORE: &str = "1";
/// How long a server may take until it accepts connections.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long a server may take to end once it was asked to, in steps of 50 ms.
const END_STEPS_MAX: u32 = 100;

/// A running server.
pub(super) struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// CPU that it and its children have used until now.
    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.child.id()).with_context(|| format!("measuring {}", self.name))
    }

    /// Resident memory of it and its children, in KiB.
    pub(super) fn resident_kib(&self) -> Result<u64> {
        usage::resident_kib(self.child.id()).with_context(|| format!("measuring {}", self.name))
    }

    /// Its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Starts it pinned to `core`, its output in `NAME.log`.
    pub(super) fn spawn(name: &'static str, core: &str, folder: &Path, command: &[&str]) -> Result<Self> {
        let log_path = folder.join(format!("{name}.log"));
        let log = std::fs::File::create(&log_path)?;
        // `nice` and `taskset` become the program that they start: the process id stays.
        let child = pinned(core)
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("could not start {}", command.join(" ")))?;
        Ok(Self { name, child, log: log_path })
    }

    /// Waits until `ready` gives something, and asks so often.
    pub(super) fn wait<T>(&mut self, every: Duration, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let watch = Stopwatch::start();
        while watch.elapsed() < READY_MAX {
            if let Some(value) = ready() {
                return Ok(value);
            }
            if let Some(status) = self.child.try_wait()? {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{} ended with {status}: {}", self.name, said.trim());
            }
            std::thread::sleep(every);
        }
        bail!("{} is not ready after {} s; see {}", self.name, READY_MAX.as_secs(), self.log.display())
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
        let address = SocketAddr::from(([127, 0, 0, 1], ready));
        server.wait(Duration::from_millis(50), || TcpStream::connect(address).ok())?;
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
            .args(["record", "-q", "-F", "1999", "-p", &self.child.id().to_string(), "-o"])
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

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first: nginx's workers would outlive a killed master.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..END_STEPS_MAX {
            if asked.is_err() || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command before which the words of a program are put: on that core, and before
/// everything else on it where the user may ask for that.
pub(super) fn pinned(core: &str) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "-20", "taskset", "-c", core]);
    command
}

/// A port that is free now. Another program could take it before the server does; then
/// the server says so and the measurement is repeated.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

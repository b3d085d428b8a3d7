//! A server of a measurement: pinned to a core, stopped when dropped.

use super::usage;
use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The core of the proxy under test.
pub(super) const PROXY_CORE: &str = "0";
/// The core of everything else: upstream and load.
pub(super) const PEER_CORE: &str = "1";
/// How long a server may take until it accepts connections.
const READY_SECONDS_MAX: u32 = 30;
/// How long a server may take to end once it was asked to, in steps of 50 ms.
const END_STEPS_MAX: u32 = 100;

/// A running server.
pub(super) struct Server {
    name: &'static str,
    child: Child,
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

    /// Starts it pinned to `core`, its output in `NAME.log`, and waits until it listens on
    /// the port `ready`.
    pub(super) fn start(
        name: &'static str,
        core: &str,
        folder: &Path,
        command: &[&str],
        ready: u16,
    ) -> Result<Self> {
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
        let mut server = Self { name, child };
        let address = SocketAddr::from(([127, 0, 0, 1], ready));
        for _ in 0..READY_SECONDS_MAX * 20 {
            if let Some(status) = server.child.try_wait()? {
                bail!(
                    "{name} ended with {status}: {}",
                    std::fs::read_to_string(&log_path).unwrap_or_default().trim()
                );
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{name} does not listen on {address} after {READY_SECONDS_MAX} s; see {}", log_path.display())
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

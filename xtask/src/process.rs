//! A program that a suite or a measurement starts: its output in a file, ended when dropped.

use crate::clock::Stopwatch;
use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a program may take until it is ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long it may take to end once it was asked to.
const END_MAX: Duration = Duration::from_secs(20);
/// How often both are looked at.
const STEP: Duration = Duration::from_millis(50);

/// A running program.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, its output in `NAME.log` in `folder`.
    pub(crate) fn start(name: &str, folder: &Path, command: &mut Command) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = std::fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("could not start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// An error, with what it said, when it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            bail!("{} ended with {status}: {}", self.name, said.trim());
        }
        Ok(())
    }

    /// Waits until `ready` gives something.
    pub(crate) fn wait<T>(&mut self, ready: impl FnMut() -> Option<T>) -> Result<T> {
        self.wait_asking_every(STEP, ready)
    }

    /// The same, asking so often.
    pub(crate) fn wait_asking_every<T>(
        &mut self,
        every: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let watch = Stopwatch::start();
        while watch.elapsed() < READY_MAX {
            if let Some(value) = ready() {
                return Ok(value);
            }
            self.check()?;
            std::thread::sleep(every);
        }
        bail!("{} is not ready after {} s; see {}", self.name, READY_MAX.as_secs(), self.log.display())
    }

    /// Waits until it ends by itself, or for so long.
    fn wait_for_end(&mut self, longest: Duration) {
        let watch = Stopwatch::start();
        while watch.elapsed() < longest && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(STEP);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Asked first: what is queued for a log is written, and nginx's workers would outlive a
        // master that is killed.
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        if asked.is_ok_and(|status| status.success()) {
            self.wait_for_end(END_MAX);
        }
        let _ = self.kill();
    }
}

/// A port of loopback for one server that is yet to be started.
pub(crate) fn free_port() -> Result<u16> {
    Ok(free_address()?.port())
}

/// The same with its address. It is held to the end by a socket that does not listen, so that nobody gets
/// it by chance; who listens with `SO_REUSEADDR`, as every common server does, still can.
pub(crate) fn free_address() -> Result<SocketAddr> {
    static KEPT: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let address = socket.local_addr()?.as_socket().context("it has no address")?;
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    Ok(address)
}

/// Whether somebody listens.
pub(crate) fn listens(port: u16) -> Option<()> {
    TcpStream::connect(("127.0.0.1", port)).ok().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_ends_before_it_is_ready_is_told_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            Process::start("talker", folder.path(), &mut shell("echo no port; exit 3")).unwrap();
        let error = process.wait(|| None::<()>).unwrap_err().to_string();
        assert!(error.contains("talker ended with exit status: 3: no port"), "{error}");
    }

    #[test]
    fn a_free_address_is_whose_server_listens_there_and_nobody_elses() {
        let address = free_address().unwrap();
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(other.bind(&address.into()).is_err(), "somebody may get it by chance");
        let server = std::net::TcpListener::bind(address).unwrap();
        assert!(listens(address.port()).is_some());
        drop(server);
        assert!(listens(address.port()).is_none());
    }

    #[test]
    fn what_is_dropped_is_asked_to_end_first() {
        let folder = tempfile::tempdir().unwrap();
        let (ready, said) = (folder.path().join("ready"), folder.path().join("said"));
        let script = format!(
            "trap 'echo asked > {said}; exit' TERM; : > {ready}; while :; do sleep 0.01; done",
            said = said.display(),
            ready = ready.display()
        );
        let mut process = Process::start("listener", folder.path(), &mut shell(&script)).unwrap();
        process.wait(|| ready.exists().then_some(())).unwrap();
        drop(process);
        assert_eq!(std::fs::read_to_string(said).unwrap(), "asked\n");
    }
}

//! The program that `bastide run` was started for: begun when everything is there, told what
//! we are told, its output taken into our log, its end ours.

use std::net::SocketAddr;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::become_program::{self, SoftLimits};
use super::log::Log;
use super::orphans;
use super::program_port::ProgramPort;

/// Longest line of its output that is one event, bytes; a longer one is several.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// How long its last output may take after it has ended: a child of its own may hold it open.
const OUTPUT_WITHIN: Duration = Duration::from_secs(1);

/// What the registry is told of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advertise {
    /// Nothing.
    Nothing,
    /// Where the service's listener is.
    Listener,
    /// This address.
    At(SocketAddr),
}

/// A program that is not started yet.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The service that it is.
    pub(super) service: String,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// Where it has to listen.
    pub(super) port: Arc<ProgramPort>,
    /// Its own limits, which are not those of this process.
    pub(super) limits: SoftLimits,
    /// Whether its environment names the outbound proxy as its proxy.
    pub(super) proxy_environment: bool,
    /// What the registry is told of it.
    pub(super) advertise: Advertise,
}

/// A program that runs. Dropped, it is killed.
pub(super) struct RunningProgram {
    /// The service that it is.
    pub(super) service: String,
    child: Child,
    outputs: Vec<JoinHandle<()>>,
    /// Lets go of what its processes leave behind.
    orphans: JoinHandle<()>,
    /// Until when its last output is waited for, once it has ended.
    outputs_until: Option<Instant>,
    forced: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// There is no such program.
    pub(super) fn start(
        self,
        outbound_proxy: Option<SocketAddr>,
        reached: &[(String, SocketAddr)],
        log: &Log,
    ) -> anyhow::Result<RunningProgram> {
        let Some(program) = self.command.first() else {
            anyhow::bail!("no program was given");
        };
        // Whoever has come to listen there meanwhile is not the program.
        self.port.is_free().map_err(anyhow::Error::msg)?;
        self.port.release();
        let (command, told) = become_program::command_for(&self.command, self.limits)?;
        let mut command = Command::from(command);
        command.env("PORT", self.port.address().port().to_string()).kill_on_drop(true);
        if let Some(address) = outbound_proxy {
            let url = format!("http://{address}");
            command.env("BASTIDE_OUTBOUND_PROXY", &url);
            if self.proxy_environment {
                command.env("http_proxy", &url).env("HTTP_PROXY", &url);
                command.env("no_proxy", "localhost,127.0.0.1,::1").env("NO_PROXY", "localhost,127.0.0.1,::1");
            }
        }
        for (service, address) in reached {
            command.env(reached_variable(service), address.to_string());
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // What a terminal sends to all in our group comes to the program from us: once, and after
        // the listener has closed.
        command.process_group(0);
        let cannot = || format!("cannot start {program:?}");
        // By the main thread: the kernel takes the end of the thread that starts it for the end of its parent.
        let mut child = command.spawn().with_context(cannot)?;
        drop(command);
        become_program::has_become(told).with_context(cannot)?;
        tracing::info!(service = self.service, process = child.id(), "started {program}");
        self.port.started(process_of(&child));
        let orphans = tokio::spawn(orphans::let_go(process_of(&child)));
        let mut outputs = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            outputs.push(tokio::spawn(log_lines(stdout, log.clone(), self.service.clone(), "stdout")));
        }
        if let Some(stderr) = child.stderr.take() {
            outputs.push(tokio::spawn(log_lines(stderr, log.clone(), self.service.clone(), "stderr")));
        }
        Ok(RunningProgram {
            service: self.service,
            child,
            outputs,
            orphans,
            outputs_until: None,
            forced: None,
        })
    }
}

fn process_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
}

/// The variable that says where a service is reached: `BASTIDE_TO_ORDERS_DB`.
fn reached_variable(service: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("BASTIDE_TO_{}", service.chars().map(letter).collect::<String>())
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        self.orphans.abort();
    }
}

impl RunningProgram {
    /// Its number while it is not waited for: our child's own.
    fn process(&self) -> Option<Pid> {
        process_of(&self.child)
    }

    /// Passes a signal on. What a terminal sends goes to all that the program has started as
    /// well, as it would from the terminal.
    pub(super) fn pass_on(&self, signal: Signal) {
        let Some(process) = self.process() else { return };
        let _ = match signal {
            Signal::INT | Signal::QUIT | Signal::HUP => kill_process_group(process, signal),
            _ => kill_process(process, signal),
        };
    }

    /// Passes a signal on; one that does not end in time is killed, with all that it has started.
    /// Once asked, it is asked again as often as we are.
    pub(super) fn ask_to_end(&mut self, signal: Signal, grace: Duration) {
        self.pass_on(signal);
        let Some(process) = self.process() else { return };
        if self.forced.is_none() {
            self.forced = Some(tokio::spawn(async move {
                tokio::time::sleep(grace).await;
                tracing::warn!("the program did not end within {} s and is killed", grace.as_secs());
                let _ = kill_process_group(process, Signal::KILL);
            }));
        }
    }
}

/// How it ended; never while there is none.
pub(super) async fn ended(program: &mut Option<RunningProgram>) -> std::io::Result<ExitStatus> {
    let Some(running) = program else { return std::future::pending().await };
    let status = running.child.wait().await?;
    running.forced.iter().for_each(JoinHandle::abort);
    // Taken off only when it is over: this may be called off at each wait and called again.
    let until = *running.outputs_until.get_or_insert_with(|| Instant::now() + OUTPUT_WITHIN);
    while let Some(output) = running.outputs.last_mut() {
        let _ = tokio::time::timeout_at(until, output).await;
        running.outputs.pop();
    }
    *program = None;
    tracing::info!("the program ended: {status}");
    Ok(status)
}

/// Its code; of one that a signal ended 128 and the signal, as shells say it.
pub(super) fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Takes the output into the log, line by line. While nobody reads the log the program has to wait,
/// as at any pipe.
async fn log_lines(mut output: impl AsyncRead + Unpin, log: Log, service: String, stream: &'static str) {
    let mut held = Vec::new();
    let mut buffer = vec![0; 8 * 1024];
    loop {
        let count = match output.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        for byte in buffer.get(..count).unwrap_or_default() {
            if *byte == b'\n' || held.len() == LINE_BYTES_MAX {
                log.room().await;
                say(&held, &service, stream);
                held.clear();
            }
            if *byte != b'\n' {
                held.push(*byte);
            }
        }
    }
    if !held.is_empty() {
        log.room().await;
        say(&held, &service, stream);
    }
}

fn say(line: &[u8], service: &str, stream: &'static str) {
    let line = String::from_utf8_lossy(line);
    tracing::info!(service, stream, "{}", line.trim_end_matches('\r'));
}

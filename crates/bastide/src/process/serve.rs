//! `bastide serve`: from the configuration file to serving cores, through reloads, to
//! the end of a drain.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context;
use gateway::snapshot::Snapshot;
use proxy::Cores;
use proxy::upstream::Prober;
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::administration::Administration;
use super::core_dumps;
use super::handover;
use super::health::Shared;
use super::log;
use super::mesh::{Registered, Role};
use super::notify::Notifier;
use super::open_files;
use super::otlp::Exporter;
use super::program::{self, Program, RunningProgram};
use super::running::READY;
use super::signals::{Ends, Signals};
use super::sinks::Sinks;
use super::watch::Watched;
use crate::cli::ServeArguments;
use crate::cli::check::{self, Reported, environment};
use crate::config::{self, Configuration, Disk, Fault, Refused, Written};
use crate::wire::{self, Listeners, Parts, Reading};

mod hosting;
mod reload;
mod start;
mod succession;

use reload::Settled;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A signal that comes so soon after the first is the same one: the terminal tells everybody, and many a program
/// that has started this one tells it too.
const SAME_SIGNAL_WITHIN: Duration = Duration::from_secs(1);
/// How long the audit log may take to write what is left at the end.
const AUDIT_CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// How often the snapshot is built anew although nothing changed: local certificates
/// are renewed then.
const REBUILD_EVERY: Duration = Duration::from_secs(12 * 3600);

/// Runs the gateway until it is told to end.
///
/// # Errors
/// It cannot start: the state folder is held, an address is in use.
pub fn run(arguments: &ServeArguments) -> anyhow::Result<ExitCode> {
    core_dumps::forbid(arguments.danger_core_dumps)?;
    open_files::allow_all();
    let path = arguments.config.clone();
    let load: Loader = Box::new(move || config::load_written(&path, &environment, &Disk));
    run_as(arguments, load, Role::Authority, None)
}

/// Most threads of the control plane.
const CONTROL_THREADS_MAX: usize = 2;

/// Where the configuration comes from, at the start and at each reload.
pub(super) type Loader = Box<dyn Fn() -> Result<(Configuration, Written), Refused> + Send + Sync>;

/// Runs it in another role, with a program that it is started for.
///
/// # Errors
/// As [`run`].
pub(super) fn run_as(
    arguments: &ServeArguments,
    load: Loader,
    role: Role,
    program: Option<Program>,
) -> anyhow::Result<ExitCode> {
    let log_writer = log::start(arguments.log_format).context("the log")?;
    let log = log_writer.log();
    core_dumps::warn_of(arguments.danger_core_dumps);
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(mut refused) => {
            check::hint(&arguments.config, &mut refused.faults, check::ANOTHER);
            say_faults(&refused.faults);
            return Err(Reported.into());
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(control_threads())
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::new(arguments.leash, program.is_some())?;
        let port = program.as_ref().map(|program| Arc::clone(&program.port));
        let own = (role, port, log.clone());
        let mut starting = std::pin::pin!(Server::start(arguments, loaded, load, own));
        let mut server = loop {
            tokio::select! {
                biased;
                // Told to end before there was an identity: nothing was begun.
                _ = signals.ends.told() => return Ok(ExitCode::SUCCESS),
                // Nor is there anything to read again.
                _ = signals.hang_up.recv() => if signals.terminal_has_gone() {
                    return Ok(ExitCode::SUCCESS);
                },
                // There is no program yet that could be meant.
                _ = signals.passed.told() => {}
                server = &mut starting => break server?,
            }
        };
        if let Some(program) = program {
            server.start_program(program, log)?;
        }
        server.run(signals).await
    })
}

/// Threads of the control plane. A second one on a machine with one core would only take turns
/// with the first.
fn control_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.min(CONTROL_THREADS_MAX)
}

#[expect(clippy::print_stderr, reason = "faults are the result of this command")]
fn say_faults(faults: &[Fault]) {
    for fault in faults {
        eprintln!("{fault}");
    }
}

/// A running gateway.
struct Server {
    load: Loader,
    /// The program that this process was started for.
    program: Option<RunningProgram>,
    /// Its address in the registry.
    registered: Option<Registered>,
    /// Which listener is which, and those that close.
    listeners: Listeners,
    parts: Parts,
    cores: Cores<Snapshot>,
    current: Arc<Snapshot>,
    configuration: Configuration,
    shared: Arc<Shared>,
    settled: Settled,
    renewal: reload::Renewal,
    watched: Watched,
    /// The revocation list.
    revocations: Watched,
    background: JoinHandle<()>,
    prober: Prober,
    admin: JoinHandle<()>,
    administration: Administration,
    admin_socket: std::net::TcpListener,
    log: audit::Log,
    firewall_log: audit::Log,
    sinks: Sinks,
    exporter: Exporter,
    arguments: ServeArguments,
    notifier: Notifier,
    /// When it was told to end, the first time.
    told: Option<tokio::time::Instant>,
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nobody serves after it.
    Alone,
    /// Another process serves in its place.
    Succeeded,
}

impl Server {
    async fn run(mut self, mut signals: Signals) -> anyhow::Result<ExitCode> {
        let mut look = looks();
        let (names, acme) = (Arc::clone(&self.parts.names), Arc::clone(&self.parts.acme));
        let realms = Arc::clone(&self.parts.realms);
        let sessions = Arc::clone(self.parts.sessions.sessions());
        let mesh = Arc::clone(&self.parts.mesh);
        let changes = self.administration.changes();
        let mut rebuild = tokio::time::interval(REBUILD_EVERY);
        rebuild.reset();
        let offer = handover::offer(self.parts.state.path()).context("the socket for hand-overs")?;
        offer.set_nonblocking(true)?;
        let offer = tokio::net::UnixListener::from_std(offer)?;
        let mut handing: Option<JoinHandle<std::io::Result<u32>>> = None;
        loop {
            tokio::select! {
                signal = signals.ends.told() => if !self.retire(signal).await { break },
                signal = signals.passed.told() => self.pass_on(signal),
                ended = program::ended(&mut self.program) => {
                    let code = program::exit_code(ended?);
                    self.end(End::Alone, signals.ends).await?;
                    return Ok(code);
                }
                _ = &mut signals.leash => break,
                _ = signals.hang_up.recv() => match signals.terminal_has_gone() {
                    true => if !self.retire(Signal::HUP).await { break },
                    false => self.reload("SIGHUP").await,
                },
                _ = signals.upgrade.recv(), if self.program.is_none() => self.upgrade(),
                Ok((stream, _)) = offer.accept(), if handing.is_none() => {
                    handing = self.hand_over(stream).await;
                }
                ended = ended(&mut handing) => match ended {
                    Ok(process) => {
                        tracing::info!(process, "handed over");
                        self.notifier.succeeded_by(process);
                        // Whoever asks from now on asks the new one.
                        self.admin.abort();
                        return self.end(End::Succeeded, signals.ends).await;
                    }
                    Err(error) => tracing::error!(%error, "the hand-over failed; this process goes on"),
                },
                () = names.changed() => self.renew("endpoints follow their names").await,
                () = acme.changed() => self.renew("the certificates have changed").await,
                () = mesh.endpoints_changed() => self.renew("endpoints follow the registry").await,
                () = mesh.member_changed() => self.renew("the certificate of the mesh was renewed").await,
                () = self.renewal.is_due() => self.renew("what could not be had is there now").await,
                _ = rebuild.tick() => self.reload("time to renew").await,
                () = realms.revocations_changed() => self.revoke().await,
                () = realms.settings_changed() => self.reopen_realms().await,
                () = sessions.ended() => self.judge_again().await,
                () = changes.told() => self.look().await,
                _ = look.tick() => self.look().await,
            }
        }
        self.end(End::Alone, signals.ends).await
    }

    /// Looks at every file, and takes up what has changed. Keys alone need no other configuration.
    async fn look(&mut self) {
        let changes = self.administration.changes();
        let upto = changes.last();
        self.follow_revocations().await;
        if let Some(now) = self.watched.changed() {
            let keys = &self.configuration.authentication.api_keys;
            let only_keys = now.differs_only_in(keys, &self.watched) && !self.is_reload_refused();
            self.watched = now;
            match only_keys {
                true => self.renew("API keys were read again").await,
                false => self.reload("files changed").await,
            }
        }
        changes.taken_up(upto);
    }

    /// Whether what is served is older than what stands in the files.
    fn is_reload_refused(&self) -> bool {
        let reloads = self.shared.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        !reloads.fault.is_empty()
    }

    /// Looks whether the revocation list has changed.
    async fn follow_revocations(&mut self) {
        if let Some(now) = self.revocations.changed() {
            self.revocations = now;
            self.revoke().await;
        }
    }

    /// Takes a changed revocation list: cached tokens and open exchanges are judged again
    /// on every core. Of one that cannot be read the entries of before stay, and it is said aloud;
    /// what realms have taken back counts all the same.
    async fn revoke(&mut self) {
        let taken = async {
            let current = Arc::clone(&self.current);
            let reading = Reading::as_far_as_possible(&current);
            let list = wire::revocations(&self.parts, &self.configuration.authentication, &reading)?;
            let entries = list.len();
            self.current.issuers.set_revocations(Arc::new(list));
            self.cores.publish(Arc::clone(&self.current)).await?;
            anyhow::Ok((entries, reading.into_refused()))
        };
        let taken = taken.await;
        let is_refused = !taken.as_ref().is_ok_and(|(_, refused)| refused.is_empty());
        self.shared.revocations_refused.store(is_refused, Ordering::Relaxed);
        match taken {
            Ok((entries, refused)) if refused.is_empty() => {
                tracing::info!(entries, "the revocation list has changed");
            }
            Ok((_, refused)) => {
                let fault = refused.join("\n");
                tracing::error!("the revocation list is refused, its old entries stay: {fault}");
            }
            Err(fault) => tracing::error!("the revocation list is refused, the old one stays: {fault:#}"),
        }
    }

    /// Has every core judge its open exchanges again: some session has ended.
    async fn judge_again(&mut self) {
        if let Err(fault) = self.cores.publish(Arc::clone(&self.current)).await {
            tracing::error!(%fault, "open exchanges are not judged again");
        }
    }

    /// Lets what is open end, bounded. What is revoked meanwhile, or judged otherwise for it, ends
    /// at once, and so does everything if the process is told to end again.
    async fn drain(&mut self, mut ends: Ends) {
        let grace = self.current.limits.drain_ms_max;
        tracing::info!("draining, at most {} s; another signal cuts what is open", grace.as_secs());
        let mut look = looks();
        let realms = Arc::clone(&self.parts.realms);
        let sessions = Arc::clone(self.parts.sessions.sessions());
        let mesh = Arc::clone(&self.parts.mesh);
        let changes = self.administration.changes();
        let mut draining = self.cores.begin_drain(grace).await;
        let drained = loop {
            tokio::select! {
                drained = draining.ended() => break drained,
                _ = ends.told() => self.cut_if_told_again(),
                () = mesh.member_changed() => self.renew("the certificate of the mesh was renewed").await,
                () = self.renewal.is_due() => self.renew("what could not be had is there now").await,
                () = realms.revocations_changed() => self.revoke().await,
                () = sessions.ended() => self.judge_again().await,
                () = changes.told() => self.look_beside().await,
                _ = look.tick() => self.look_beside().await,
            }
        };
        if !drained.complete {
            tracing::warn!("connections were still open and were cut");
        }
    }

    /// Cuts what a drain waits for, if this is not the first signal that says to end.
    fn cut_if_told_again(&mut self) {
        let first = *self.told.get_or_insert_with(tokio::time::Instant::now);
        if first.elapsed() > SAME_SIGNAL_WITHIN {
            tracing::info!("told to end again");
            self.cores.cut();
        }
    }

    /// Looks at every file, while there is no other configuration to come.
    async fn look_beside(&mut self) {
        let changes = self.administration.changes();
        let upto = changes.last();
        self.follow_revocations().await;
        if let Some(now) = self.watched.changed() {
            self.watched = now;
            self.renew_beside().await;
        }
        changes.taken_up(upto);
    }

    /// Drains, and writes what is left of the audit log.
    async fn end(mut self, how: End, ends: Ends) -> anyhow::Result<ExitCode> {
        match how {
            End::Alone => self.withdraw().await,
            End::Succeeded => self.leave_places(),
        }
        self.shared.draining.store(true, Ordering::Release);
        self.parts.acme.stop();
        self.notifier.stopping();
        let ready = self.parts.state.join(READY);
        // A successor's may come to stand there between the look and the deed.
        let own = how == End::Alone && std::fs::read_to_string(&ready).is_ok_and(|text| is_own(&text));
        if own {
            let _ = std::fs::remove_file(ready);
        }
        self.drain(ends).await;
        self.background.abort();
        drop(self.prober);
        self.admin.abort();
        drop(self.administration);
        let (log, firewall_log) = (self.log, self.firewall_log);
        let closed = tokio::task::spawn_blocking(move || {
            let closed = log.close(AUDIT_CLOSE_WITHIN);
            firewall_log.close(AUDIT_CLOSE_WITHIN).and(closed)
        })
        .await?;
        tokio::join!(self.sinks.close(), self.exporter.close());
        closed.context("at the end")?;
        tracing::info!("ended");
        Ok(ExitCode::SUCCESS)
    }
}

/// When files are looked at.
fn looks() -> tokio::time::Interval {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    look
}

/// What came of a hand-over; never while there is none.
async fn ended(handing: &mut Option<JoinHandle<std::io::Result<u32>>>) -> std::io::Result<u32> {
    let Some(task) = handing else { return std::future::pending().await };
    let ended = task.await;
    *handing = None;
    ended.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Whether `ready.json` is this process'.
fn is_own(ready: &str) -> bool {
    let value: serde_json::Value = serde_json::from_str(ready).unwrap_or_default();
    value.get("process").and_then(serde_json::Value::as_u64) == Some(u64::from(std::process::id()))
}

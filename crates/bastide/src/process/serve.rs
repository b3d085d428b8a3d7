//! `bastide serve`: from the configuration file to serving cores, through reloads, to
//! the end of a drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use gateway::inventory::Inventory;
use gateway::metric::Registry;
use gateway::snapshot::{CoreParts, Process, Snapshot};
use keys::{LocalSigner, SeenProofs, SystemRandom};
use model::{Clock, Switch};
use proxy::Cores;
use proxy::rate::Limiter;
use proxy::upstream::{door, probe};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::administration::Administration;
use super::beginning::{all_cores, audit_settings, destination, number, take_when_unsealed};
use super::book::Book;
use super::clock::SystemClock;
use super::fetch::{GuardedFetch, WayOut};
use super::generations::Generations;
use super::guest::{self, Guest, RunningGuest};
use super::handover::{self, Estate};
use super::keepers::keep;
use super::log;
use super::mesh::{MeshHost, Role};
use super::names::Names;
use super::notify::Notifier;
use super::otlp::{self, Exporter};
use super::prepare;
use super::realms::Realms;
use super::running;
use super::sessions::SessionDoor;
use super::shared::{Shared, add_inventory, add_sources, start_admin};
use super::signals::Signals;
use super::sinks::Sinks;
use super::state::{REVOCATIONS, StateFolder, write_atomically};
use super::storage::Keeper;
use super::systemd;
use super::watch::Watched;
use crate::acme::Orders;
use crate::cli::ServeArguments;
use crate::cli::check::environment;
use crate::config::{self, Configuration, Disk, Fault, Written};
use crate::wire::{self, Parts};

mod hosting;
mod succession;

/// Says where the process listens, for scripts.
const READY: &str = "ready.json";
/// Subjects × rules that the limiter has cells for: 18 MiB.
const LIMITER_CELLS: usize = 1 << 20;
/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the start waits for the issuers' keys; requests wait for them afterwards.
const FIRST_KEYS_WITHIN: Duration = Duration::from_secs(3);
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
    let path = arguments.config.clone();
    let load: Loader = Box::new(move || config::load_written(&path, &environment, &Disk));
    run_as(arguments, load, Role::Authority, None)
}

/// Where the configuration comes from, at the start and at each reload.
pub(super) type Loader = Box<dyn Fn() -> Result<(Configuration, Written), Vec<Fault>> + Send + Sync>;

/// Runs it in another role, with a program that it is started for.
///
/// # Errors
/// As [`run`].
pub(super) fn run_as(
    arguments: &ServeArguments,
    load: Loader,
    role: Role,
    guest: Option<Guest>,
) -> anyhow::Result<ExitCode> {
    log::start(arguments.log_format);
    let (configuration, written) = match load() {
        Ok(loaded) => loaded,
        Err(faults) => {
            say_faults(&faults);
            return Ok(ExitCode::FAILURE);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let signals = Signals::new(arguments.leash)?;
        let starting = Server::start(arguments, configuration, load, role);
        let mut signals = signals;
        // Told to end before there was an identity: nothing was begun.
        let mut server = tokio::select! {
            server = starting => server?,
            _ = signals.terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = signals.interrupt.recv() => return Ok(ExitCode::SUCCESS),
        };
        running::keep(server.parts.state.path(), &server.configuration, &written);
        if let Some(guest) = guest {
            server.welcome(guest)?;
        }
        server.run(signals).await
    })
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
    guest: Option<RunningGuest>,
    parts: Parts,
    cores: Cores<Snapshot>,
    current: Arc<Snapshot>,
    configuration: Configuration,
    shared: Arc<Shared>,
    settled: Settled,
    watched: Watched,
    /// The revocation list.
    revocations: Watched,
    keeper: JoinHandle<()>,
    prober: JoinHandle<()>,
    admin: JoinHandle<()>,
    administration: Administration,
    admin_socket: std::net::TcpListener,
    log: audit::Log,
    firewall_log: audit::Log,
    sinks: Sinks,
    exporter: Exporter,
    arguments: ServeArguments,
    notifier: Notifier,
}

/// Settings that only a restart changes.
#[derive(Clone, PartialEq)]
struct Settled {
    state: PathBuf,
    workers: Option<usize>,
    audit: config::Audit,
    admin: SocketAddr,
    storage: config::Storage,
}

impl Settled {
    fn of(configuration: &Configuration) -> Self {
        Self {
            state: configuration.state.clone(),
            workers: configuration.workers,
            // Sinks follow a reload.
            audit: config::Audit { sinks: Vec::new(), ..configuration.audit.clone() },
            admin: configuration.admin.address,
            storage: configuration.storage.clone(),
        }
    }
}

impl Server {
    async fn start(
        arguments: &ServeArguments,
        configuration: Configuration,
        load: Loader,
        role: Role,
    ) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let random = Arc::new(SystemRandom::new());
        let (mut estate, mut predecessor) = (Estate::default(), None);
        if arguments.take_over {
            let folder = configuration.state.clone();
            let (taken, from) = tokio::task::spawn_blocking(move || handover::take(&folder)).await??;
            (estate, predecessor) = (taken, Some(from));
        }
        let state = match estate.state_lock.take() {
            Some(lock) => StateFolder::taken_over(&configuration.state, lock.into())?,
            None => StateFolder::hold(&configuration.state)?,
        };
        if predecessor.is_none() {
            let _ = std::fs::remove_file(state.join(READY));
        }
        let storage = match configuration.storage.is_set {
            true => Some(Keeper::start(&configuration.storage, state.path(), Arc::clone(&clock)).await?),
            false => None,
        };
        let count = configuration.workers.map_or_else(all_cores, Ok)?;
        let settings = audit_settings(&configuration.audit);
        let firewall = audit::Settings { folder: configuration.audit.firewall.clone(), ..settings.clone() };
        let (log, mut queues) = match estate.audit_lock.take() {
            Some(lock) => audit::open_beside(settings, count + 2, Arc::clone(&clock), lock.into())?,
            None => audit::open(settings, count + 2, Arc::clone(&clock))?,
        };
        let mut book =
            |name| anyhow::Ok(Book::open(queues.pop().context("a queue of the audit log")?, name)?);
        let (book, mesh_book) = (book("administration")?, book("mesh-audit")?);
        let queues = queues.into_iter();
        let (firewall_log, firewall_queues) = match predecessor {
            // The lock of the state folder, which was handed over, keeps others out.
            Some(_) => {
                let folder = std::fs::File::open(&firewall.folder)?;
                audit::open_beside(firewall, count, Arc::clone(&clock), folder)?
            }
            None => audit::open(firewall, count, Arc::clone(&clock))?,
        };
        let (registry, counters) = Registry::new(count);
        let (span_lanes, lanes) = proxy::telemetry::Lanes::new(count, otlp::TRACES_PER_CORE_MAX);
        let limiter = Arc::new(Limiter::new(LIMITER_CELLS, [number(&random)?, number(&random)?]));
        registry.add_audit(Arc::clone(log.health()));
        registry.add_limiter(Arc::clone(&limiter));
        let process = Arc::new(Process {
            clock: Arc::clone(&clock),
            proofs: SeenProofs::default(),
            limiter,
            challenges: Arc::default(),
            firewall_memory: Arc::new(waf::Memory::new(waf::MemoryLimits::default())),
            core_parts: Mutex::new(
                queues
                    .zip(firewall_queues)
                    .zip(counters)
                    .zip(lanes)
                    .map(|(((audit, firewall), metrics), spans)| {
                        Some(CoreParts { audit, firewall, metrics, spans })
                    })
                    .collect(),
            ),
            metrics: Arc::new(registry),
            inventory: Arc::new(Inventory::new(count)),
            request_id_seed: [number(&random)?, number(&random)?],
        });
        let signer = LocalSigner::load_or_create(
            &state.join("identity.key"),
            keys::Algorithm::EdDsa,
            random.as_ref(),
        )?;
        let revocations = Watched::look([state.join(REVOCATIONS)]);
        let names = Arc::new(Names::default());
        names.follow(&configuration).await;
        let acme = Orders::new(
            state.path(),
            Arc::clone(&process.challenges),
            Arc::clone(&clock),
            Arc::clone(&random),
        );
        let acme = Arc::new(acme);
        let mut sinks = Sinks::new(&process.metrics, &random);
        sinks.become_those(&configuration.audit.sinks, &log)?;
        let destination = destination(&configuration)?;
        let metrics = &process.metrics;
        let exporter = Exporter::start(destination, span_lanes, metrics, &clock, &random);
        let way_out = WayOut::new()?;
        let realms = Arc::new(Realms::start(way_out.clone(), Arc::clone(&clock), Arc::clone(&random)));
        let mesh = Arc::new(MeshHost::start(role, mesh_book, Arc::clone(&random)));
        let (administration, doorway) = door();
        let parts = Parts {
            state,
            process,
            names,
            acme,
            fetch: Arc::new(GuardedFetch::new(way_out, Arc::clone(&realms))),
            realms,
            mesh,
            administration,
            sessions: Arc::new(SessionDoor::start()),
            runtime: tokio::runtime::Handle::current(),
            signer: Arc::new(signer),
            random,
        };
        let store = storage.as_ref().and_then(Keeper::store);
        parts.realms.follow(&configuration.realms, store.as_ref()).await.context("realms")?;
        parts.mesh.follow(configuration.mesh.as_ref(), store.as_ref()).await.context("mesh")?;
        let current = Arc::new(build(&parts, &configuration, 1, None)?);
        parts.sessions.follow(&current);
        let fetch = Arc::clone(&parts.fetch);
        let first = current.issuers.refresh_all(fetch.as_ref(), clock.as_ref());
        if let Ok(Err(faults)) = tokio::time::timeout(FIRST_KEYS_WITHIN, first).await {
            for fault in faults {
                tracing::warn!(%fault, "keys could not be fetched; tokens of this issuer are refused until they are");
            }
        }
        if predecessor.is_none() {
            systemd::sockets(&environment, &current.listeners, &mut estate)?;
        }
        let cores = Cores::start_with(count, Arc::clone(&current), estate.listeners)?;
        let shared = Arc::new(Shared {
            current: Mutex::new(Arc::clone(&current)),
            clock: Arc::clone(&clock),
            draining: AtomicBool::new(false),
            revocations_refused: AtomicBool::new(false),
            reloads: Mutex::default(),
            audit: [Arc::clone(log.health()), Arc::clone(firewall_log.health())],
            acme: Arc::clone(&parts.acme),
            storage,
        });
        let (realms, mesh) = (Arc::clone(&parts.realms), Arc::clone(&parts.mesh));
        tokio::spawn(take_when_unsealed(Arc::clone(&shared), realms, mesh));
        add_sources(&parts.process.metrics, &shared, cores.totals_reader(), Arc::clone(&parts.names));
        add_inventory(&parts.process.metrics, Arc::clone(&parts.process.inventory));
        let administration = Administration::open(&configuration, &current, &parts, book, doorway)?;
        let (admin, admin_socket) = start_admin(&configuration, &parts, &shared, estate.admin)?;
        let admin_address = admin_socket.local_addr()?;
        let server = Self {
            load,
            guest: None,
            keeper: keep(&current, &parts),
            prober: tokio::spawn(probe::keep(Arc::clone(&current.upstreams))),
            watched: watch(&configuration),
            revocations,
            settled: Settled::of(&configuration),
            configuration,
            parts,
            cores,
            current,
            shared,
            admin,
            administration,
            admin_socket,
            log,
            firewall_log,
            sinks,
            exporter,
            arguments: arguments.clone(),
            notifier: Notifier::new(environment("NOTIFY_SOCKET").as_deref()),
        };
        // Two processes never order at the same time: who is taken over from is told first.
        if predecessor.is_none() {
            server.parts.acme.follow(&server.configuration);
        }
        server.announce(&server.configuration, admin_address)?;
        if let Some(predecessor) = predecessor {
            predecessor.ready().context("the process to take over from has gone")?;
            tracing::info!("took over");
            server.parts.acme.follow(&server.configuration);
        }
        server.notifier.ready();
        Ok(server)
    }

    /// Says where it listens: in the log, and in `ready.json` for scripts.
    fn announce(&self, configuration: &Configuration, admin: SocketAddr) -> anyhow::Result<()> {
        let bound = self.cores.addresses();
        let keys = proxy::world::keyed(&self.current.listeners).map(|(key, _)| key);
        let listen: Vec<SocketAddr> = keys
            .filter_map(|key| bound.iter().find(|(k, _)| *k == key).map(|(_, address)| *address))
            .collect();
        for (listener, address) in configuration.listeners.iter().zip(&listen) {
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            tracing::info!("listening on {scheme}://{address}");
        }
        tracing::info!("admin on http://{admin} (/metrics, /healthz, /readyz)");
        for warning in &configuration.warnings {
            tracing::warn!("{warning}");
        }
        let ready = serde_json::json!({ "listen": listen, "admin": admin, "process": std::process::id() });
        write_atomically(&self.parts.state.join(READY), ready.to_string().as_bytes())?;
        Ok(())
    }

    async fn run(mut self, mut signals: Signals) -> anyhow::Result<ExitCode> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (names, acme) = (Arc::clone(&self.parts.names), Arc::clone(&self.parts.acme));
        let realms = Arc::clone(&self.parts.realms);
        let sessions = Arc::clone(self.parts.sessions.sessions());
        let mesh = Arc::clone(&self.parts.mesh);
        let mut rebuild = tokio::time::interval(REBUILD_EVERY);
        rebuild.reset();
        let offer = handover::offer(self.parts.state.path()).context("the socket for hand-overs")?;
        offer.set_nonblocking(true)?;
        let offer = tokio::net::UnixListener::from_std(offer)?;
        let mut handing: Option<JoinHandle<std::io::Result<u32>>> = None;
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => if !self.retire(Signal::TERM).await { break },
                _ = signals.interrupt.recv() => if !self.retire(Signal::INT).await { break },
                ended = guest::ended(&mut self.guest) => {
                    let code = guest::exit_code(ended?);
                    self.end().await?;
                    return Ok(code);
                }
                _ = &mut signals.leash => break,
                _ = signals.hang_up.recv() => self.reload("SIGHUP").await,
                _ = signals.upgrade.recv() => self.upgrade(),
                Ok((stream, _)) = offer.accept(), if handing.is_none() => handing = self.hand_over(stream),
                ended = ended(&mut handing) => match ended {
                    Ok(process) => {
                        tracing::info!(process, "handed over");
                        self.notifier.succeeded_by(process);
                        // Whoever asks from now on asks the new one.
                        self.admin.abort();
                        return self.end().await;
                    }
                    Err(error) => tracing::error!(%error, "the hand-over failed; this process goes on"),
                },
                () = names.changed() => self.renew("endpoints follow their names").await,
                () = acme.changed() => self.renew("the certificates have changed").await,
                () = mesh.member_changed() => self.renew("the certificate of the mesh was renewed").await,
                _ = rebuild.tick() => self.reload("time to renew").await,
                () = realms.revocations_changed() => self.revoke().await,
                () = sessions.ended() => self.judge_again().await,
                _ = look.tick() => {
                    if let Some(now) = self.revocations.changed() {
                        self.revocations = now;
                        self.revoke().await;
                    }
                    if let Some(now) = self.watched.changed() {
                        self.watched = now;
                        self.reload("files changed").await;
                    }
                }
            }
        }
        self.end().await
    }

    /// Takes a changed revocation list: cached tokens and open exchanges are judged again
    /// on every core. One that cannot be read changes nothing and is said aloud.
    async fn revoke(&mut self) {
        let taken = async {
            let list = wire::revocations(&self.parts, &self.configuration.authentication)?;
            let entries = list.len();
            self.current.issuers.set_revocations(Arc::new(list));
            self.cores.publish(Arc::clone(&self.current)).await?;
            anyhow::Ok(entries)
        };
        let taken = taken.await;
        self.shared.revocations_refused.store(taken.is_err(), Ordering::Relaxed);
        match taken {
            Ok(entries) => tracing::info!(entries, "the revocation list has changed"),
            Err(fault) => tracing::error!("the revocation list is refused, the old one stays: {fault:#}"),
        }
    }

    /// Has every core judge its open exchanges again: some session has ended.
    async fn judge_again(&mut self) {
        if let Err(fault) = self.cores.publish(Arc::clone(&self.current)).await {
            tracing::error!(%fault, "open exchanges are not judged again");
        }
    }

    /// Takes a new configuration, or says why not and goes on with the old one.
    async fn reload(&mut self, why: &str) {
        self.notifier.reloading();
        match self.try_reload().await {
            Ok(()) => {
                tracing::info!(generation = self.current.generation, "reloaded ({why})");
                let mut reloads = self.shared.reloads.lock().unwrap_or_else(PoisonError::into_inner);
                reloads.good += 1;
                reloads.fault.clear();
            }
            Err(fault) => {
                let fault = format!("{fault:#}");
                tracing::error!("reload refused ({why}); the old configuration stays:\n{fault}");
                let mut reloads = self.shared.reloads.lock().unwrap_or_else(PoisonError::into_inner);
                reloads.refused += 1;
                reloads.fault = fault;
            }
        }
        self.notifier.ready();
    }

    async fn try_reload(&mut self) -> anyhow::Result<()> {
        if Switch::Reload.is_off() || self.shared.draining.load(Ordering::Acquire) {
            return Ok(());
        }
        let looked = self.watched.again();
        let (configuration, written) = (self.load)().map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })?;
        anyhow::ensure!(
            Settled::of(&configuration) == self.settled,
            "{} take a restart",
            config::RESTART.map(|key| format!("`{key}`")).join(", ")
        );
        self.parts.names.follow(&configuration).await;
        if let Err(fault) = self.take(&configuration).await {
            // What stays is the old configuration whole.
            let before = self.configuration.clone();
            self.follow_realms(&before.realms).await.context("the realms of before")?;
            self.follow_mesh(before.mesh.as_ref()).await.context("the mesh of before")?;
            return Err(fault);
        }
        self.parts.acme.follow(&configuration);
        self.watched = watch(&configuration).since(&looked);
        for warning in &configuration.warnings {
            tracing::warn!("{warning}");
        }
        running::keep(self.parts.state.path(), &configuration, &written);
        self.configuration = configuration;
        Ok(())
    }

    async fn take(&mut self, configuration: &Configuration) -> anyhow::Result<()> {
        self.follow_realms(&configuration.realms).await.context("realms")?;
        self.follow_mesh(configuration.mesh.as_ref()).await.context("mesh")?;
        self.publish(configuration).await
    }

    async fn follow_mesh(&self, mesh: Option<&config::Mesh>) -> anyhow::Result<()> {
        let store = self.shared.storage.as_ref().and_then(Keeper::store);
        self.parts.mesh.follow(mesh, store.as_ref()).await
    }

    /// Opens realms that are others than those that are open.
    async fn follow_realms(&self, realms: &[config::Realm]) -> anyhow::Result<()> {
        let open = &self.parts.realms;
        if open.are(realms) {
            return Ok(());
        }
        let store = self.shared.storage.as_ref().and_then(Keeper::store);
        Ok(open.follow(realms, store.as_ref()).await?)
    }

    /// What the configuration speaks of is something else now: the same configuration,
    /// with what there is.
    async fn renew(&mut self, what: &str) {
        let configuration = self.configuration.clone();
        match self.publish(&configuration).await {
            Ok(()) => tracing::info!("{what}"),
            Err(fault) => tracing::error!("{what}, but what was before stays: {fault:#}"),
        }
    }

    /// Builds a snapshot and hands it to the cores.
    async fn publish(&mut self, configuration: &Configuration) -> anyhow::Result<()> {
        let destination = destination(configuration)?;
        let next = build(&self.parts, configuration, self.current.generation + 1, Some(&self.current))?;
        let next = Arc::new(next);
        self.sinks.become_those(&configuration.audit.sinks, &self.log)?;
        self.exporter.redirect(destination);
        self.cores.publish(Arc::clone(&next)).await?;
        self.keeper.abort();
        self.keeper = keep(&next, &self.parts);
        self.parts.sessions.follow(&next);
        self.prober.abort();
        self.prober = tokio::spawn(probe::keep(Arc::clone(&next.upstreams)));
        self.administration.follow(configuration, &next);
        *self.shared.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        self.current = next;
        Ok(())
    }

    /// Drains, bounded, and writes what is left of the audit log.
    async fn end(self) -> anyhow::Result<ExitCode> {
        self.shared.draining.store(true, Ordering::Release);
        self.parts.acme.stop();
        self.notifier.stopping();
        let ready = self.parts.state.join(READY);
        let own = std::fs::read_to_string(&ready).is_ok_and(|text| is_own(&text));
        if own {
            let _ = std::fs::remove_file(ready);
        }
        let grace = self.current.limits.drain_ms_max;
        tracing::info!("draining, at most {} s", grace.as_secs());
        let drained = self.cores.drain(grace).await;
        if !drained.complete {
            tracing::warn!("connections were still open after {} s and were cut", grace.as_secs());
        }
        self.keeper.abort();
        self.prober.abort();
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

/// Builds the snapshot and keeps its policies for `bastide explain`.
fn build(
    parts: &Parts,
    configuration: &Configuration,
    generation: u64,
    before: Option<&Snapshot>,
) -> anyhow::Result<Snapshot> {
    let generations = Generations::of(parts.state.path());
    let policies = wire::load_policies(configuration, generations.next())?;
    // Policies that are the same keep their number: nothing is to be told apart.
    let policies = match before {
        Some(before) if before.policies.snapshot() == policies.snapshot() => Arc::clone(&before.policies),
        _ => {
            generations.keep(&policies).context("cannot keep the policies for `bastide explain`")?;
            Arc::new(policies)
        }
    };
    let snapshot = wire::build(parts, configuration, generation, policies, before)?;
    drop(prepare::in_background(configuration.firewalls.iter().map(|firewall| &firewall.rules)));
    Ok(snapshot)
}

fn watch(configuration: &Configuration) -> Watched {
    Watched::look(configuration.files.iter().cloned().chain([configuration.authentication.api_keys.clone()]))
        .with_globs(configuration.globs.clone())
}

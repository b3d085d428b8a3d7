//! From the configuration to serving cores: what an earlier process leaves, the logs, what the
//! cores share, the services of the platform, the first snapshot, the listeners.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use gateway::inventory::Inventory;
use gateway::metric::Registry;
use gateway::snapshot::{CoreParts, Process, Snapshot};
use keys::{LocalSigner, SeenProofs, SystemRandom};
use model::Clock;
use proxy::Cores;
use proxy::rate::Limiter;
use proxy::telemetry::TraceReceiver;
use proxy::upstream::{InProcessListener, Prober, in_process_pair};
use store::Store;

use super::reload::{Renewal, Settled, at, build, placed, watch};
use super::{Loader, Server};
use crate::acme::Orders;
use crate::cli::ServeArguments;
use crate::cli::check::environment;
use crate::config::{self, Configuration, Written};
use crate::process::administration::Administration;
use crate::process::audit_handle::AuditHandle;
use crate::process::background;
use crate::process::beginning::{all_cores, destination, number, take_when_unsealed};
use crate::process::clock::SystemClock;
use crate::process::dns::Names;
use crate::process::fetch::{GuardedFetch, OutboundClient};
use crate::process::handover::{self, HandoverResources, TakenOver};
use crate::process::health::{Shared, add_inventory, add_sources, start_admin, warn_of_expired};
use crate::process::log::Log;
use crate::process::mesh::{MeshHost, Role};
use crate::process::notify::Notifier;
use crate::process::open_files;
use crate::process::otlp::{self, Exporter};
use crate::process::program_port::ProgramPort;
use crate::process::realms::{RealmAudit, Realms};
use crate::process::running::{self, READY};
use crate::process::sessions::SessionService;
use crate::process::sinks::Sinks;
use crate::process::state::{IDENTITY_KEY, REVOCATIONS, StateFolder, write_atomically};
use crate::process::storage::RunningStore;
use crate::process::systemd;
use crate::process::watch::Watched;
use crate::wire::{Listeners, Parts, Reading};

/// Subjects × rules that the limiter has cells for: 18 MiB.
const LIMITER_CELLS: usize = 1 << 20;
/// How long the start waits for the issuers' keys; requests wait for them afterwards.
const FIRST_KEYS_WITHIN: Duration = Duration::from_secs(3);

/// What every part is given.
struct World {
    clock: Arc<dyn Clock>,
    random: Arc<SystemRandom>,
    /// Threads of the data plane.
    cores: usize,
}

impl World {
    fn new(configuration: &Configuration) -> anyhow::Result<Self> {
        let cores = configuration.workers.map_or_else(all_cores, Ok)?;
        Ok(Self { clock: Arc::new(SystemClock::start()), random: Arc::new(SystemRandom::new()), cores })
    }
}

/// What a process takes over from the one before it on the same state folder.
struct Inheritance {
    resources: HandoverResources,
    predecessor: Option<TakenOver>,
    state: StateFolder,
}

impl Inheritance {
    /// Holds the state folder, alone; with `take_over` from the process that holds it.
    async fn enter(configuration: &Configuration, take_over: bool) -> anyhow::Result<Self> {
        let (mut resources, mut predecessor) = (HandoverResources::default(), None);
        if take_over {
            let folder = configuration.state.clone();
            let (taken, from) = tokio::task::spawn_blocking(move || handover::take(&folder)).await??;
            (resources, predecessor) = (taken, Some(from));
        }
        let state = match resources.state_lock.take() {
            Some(lock) => StateFolder::taken_over(&configuration.state, lock.into())?,
            None => StateFolder::hold(&configuration.state)?,
        };
        if predecessor.is_none() {
            let _ = std::fs::remove_file(state.join(READY));
        }
        Ok(Self { resources, predecessor, state })
    }
}

/// The store, if the configuration has one: of use once it is unsealed.
async fn open_store(
    configuration: &Configuration,
    world: &World,
    from: &Inheritance,
) -> anyhow::Result<Option<RunningStore>> {
    if !configuration.storage.is_set {
        return Ok(None);
    }
    let clock = Arc::clone(&world.clock);
    let running = RunningStore::start(&configuration.storage, from.state.path(), clock).await?;
    if from.predecessor.is_none() {
        running.publish()?;
    }
    Ok(Some(running))
}

/// The audit log and the firewall's, with a queue of each for each core.
struct Logs {
    audit: audit::Log,
    audit_queues: Vec<audit::Queue>,
    firewall: audit::Log,
    firewall_queues: Vec<audit::Queue>,
    /// For calls of the administration.
    administration: AuditHandle,
    /// For identities that the mesh gives.
    mesh: AuditHandle,
    /// For logins at the realms.
    realms: AuditHandle,
}

impl Logs {
    /// Queues of the control plane: the three handles.
    const HANDLES: usize = 3;

    fn open(configuration: &Configuration, world: &World, from: &mut Inheritance) -> anyhow::Result<Self> {
        let clock = || Arc::clone(&world.clock);
        let settings = configuration.audit.settings();
        let of_firewall =
            audit::Settings { folder: configuration.audit.firewall.clone(), ..settings.clone() };
        let queues = world.cores + Self::HANDLES;
        let (audit, mut audit_queues) = match from.resources.audit_lock.take() {
            Some(lock) => audit::open_beside(settings, queues, clock(), lock.into())?,
            None => audit::open(settings, queues, clock())?,
        };
        let mut handle = |name| {
            let queue = audit_queues.pop().context("a queue of the audit log")?;
            anyhow::Ok(AuditHandle::open(queue, name)?)
        };
        let (administration, mesh, realms) =
            (handle("administration")?, handle("mesh-audit")?, handle("realms-audit")?);
        let (firewall, firewall_queues) = match from.predecessor {
            // The lock of the state folder, which was handed over, keeps others out.
            Some(_) => {
                let folder = std::fs::File::open(&of_firewall.folder)?;
                audit::open_beside(of_firewall, world.cores, clock(), folder)?
            }
            None => audit::open(of_firewall, world.cores, clock())?,
        };
        Ok(Self { audit, audit_queues, firewall, firewall_queues, administration, mesh, realms })
    }
}

/// What the cores share, and where each leaves its spans.
fn process(
    world: &World,
    log: &audit::Log,
    queues: (Vec<audit::Queue>, Vec<audit::Queue>),
) -> anyhow::Result<(Arc<Process>, TraceReceiver)> {
    let random = &world.random;
    let (registry, counters) = Registry::new(world.cores);
    let (trace_receiver, trace_senders) = TraceReceiver::new(world.cores, otlp::TRACES_PER_CORE_MAX);
    let limiter = Arc::new(Limiter::new(LIMITER_CELLS, [number(random)?, number(random)?]));
    registry.add_audit(Arc::clone(log.health()));
    registry.add_limiter(Arc::clone(&limiter));
    let of_cores = queues.0.into_iter().zip(queues.1).zip(counters).zip(trace_senders);
    let of_cores = of_cores
        .map(|(((audit, firewall), metrics), spans)| Some(CoreParts { audit, firewall, metrics, spans }));
    let process = Process {
        clock: Arc::clone(&world.clock),
        proofs: SeenProofs::default(),
        limiter,
        challenges: Arc::default(),
        firewall_memory: Arc::new(waf::Memory::new(waf::MemoryLimits::default())),
        core_parts: Mutex::new(of_cores.collect()),
        metrics: Arc::new(registry),
        inventory: Arc::new(Inventory::new(world.cores)),
        request_id_seed: [number(random)?, number(random)?],
    };
    Ok((Arc::new(process), trace_receiver))
}

/// What every snapshot is built with, and where the calls of the administration come in.
async fn parts(
    configuration: &Configuration,
    world: &World,
    state: StateFolder,
    process: Arc<Process>,
    (mesh, realms): (MeshHost, AuditHandle),
) -> anyhow::Result<(Parts, InProcessListener)> {
    let World { clock, random, .. } = world;
    let identity_key = state.join(IDENTITY_KEY);
    let signer = LocalSigner::load_or_create(&identity_key, keys::Algorithm::EdDsa, random.as_ref())?;
    let names = Arc::new(Names::default());
    names.follow(names.learn(configuration).await);
    let challenges = Arc::clone(&process.challenges);
    let acme = Orders::new(state.path(), challenges, Arc::clone(clock), Arc::clone(random));
    let outbound = OutboundClient::new()?;
    let observer = Arc::new(RealmAudit::new(realms, Arc::clone(random)));
    let realms = Arc::new(Realms::start(Arc::clone(clock), Arc::clone(random), observer));
    let (administration, for_administration) = in_process_pair();
    let parts = Parts {
        state,
        process,
        names,
        acme: Arc::new(acme),
        fetch: Arc::new(GuardedFetch::new(outbound, Arc::clone(&realms))),
        realms,
        mesh: Arc::new(mesh),
        administration,
        sessions: Arc::new(SessionService::start(Arc::clone(clock))),
        program_port: None,
        runtime: tokio::runtime::Handle::current(),
        signer: Arc::new(signer),
        random: Arc::clone(random),
    };
    Ok((parts, for_administration))
}

/// The snapshot that the cores start with: with the realms, the mesh and the issuers' keys, as far
/// as they are there by then.
async fn first_snapshot(
    configuration: &Configuration,
    parts: &Parts,
    listeners: &Listeners,
    store: Option<&Store>,
) -> anyhow::Result<Arc<Snapshot>> {
    parts.realms.follow(&configuration.realms, store).await.context("realms")?;
    parts.mesh.follow(configuration.mesh.as_ref(), store).await.context("mesh")?;
    let current = Arc::new(build(parts, configuration, listeners, 1, &Reading::whole(None))?);
    parts.sessions.follow(&current);
    fetch_first_keys(parts, &current, parts.process.clock.as_ref()).await;
    Ok(current)
}

/// What the process says of itself, and takes its store when that is unsealed.
fn share(
    parts: &Parts,
    current: &Arc<Snapshot>,
    cores: &Cores<Snapshot>,
    audit: [Arc<audit::Health>; 2],
    log: Log,
    storage: Option<RunningStore>,
) -> Arc<Shared> {
    let shared = Arc::new(Shared {
        current: Mutex::new(Arc::clone(current)),
        clock: Arc::clone(&parts.process.clock),
        draining: AtomicBool::new(false),
        revocations_refused: AtomicBool::new(false),
        files_refused: AtomicU64::new(0),
        reloads: Mutex::default(),
        audit,
        acme: Arc::clone(&parts.acme),
        log,
        storage,
    });
    let (realms, mesh) = (Arc::clone(&parts.realms), Arc::clone(&parts.mesh));
    tokio::spawn(take_when_unsealed(Arc::clone(&shared), realms, mesh));
    add_sources(parts, &shared, cores.totals_reader());
    add_inventory(&parts.process.metrics, Arc::clone(&parts.process.inventory));
    shared
}

/// Fetches the issuers' keys, and goes on without them when that takes too long.
async fn fetch_first_keys(parts: &Parts, current: &Snapshot, clock: &dyn Clock) {
    let first = current.issuers.refresh_all(parts.fetch.as_ref(), clock);
    if let Ok(Err(faults)) = tokio::time::timeout(FIRST_KEYS_WITHIN, first).await {
        for fault in faults {
            tracing::warn!(%fault, "keys could not be fetched; tokens of this issuer are refused until they are");
        }
    }
}

impl Server {
    /// Starts everything; serves when it returns.
    ///
    /// # Errors
    /// The state folder is held, an address is in use, something that the configuration names
    /// cannot be used.
    pub(super) async fn start(
        arguments: &ServeArguments,
        (configuration, written): (Configuration, Written),
        load: Loader,
        (role, program_port, own_log): (Role, Option<Arc<ProgramPort>>, Log),
    ) -> anyhow::Result<Self> {
        let world = World::new(&configuration)?;
        let mut from = Inheritance::enter(&configuration, arguments.take_over).await?;
        let storage = open_store(&configuration, &world, &from).await?;
        let logs = Logs::open(&configuration, &world, &mut from)?;
        let Inheritance { mut resources, predecessor, state } = from;
        let (process, trace_receiver) =
            process(&world, &logs.audit, (logs.audit_queues, logs.firewall_queues))?;
        let mut sinks = Sinks::new(&process.metrics, &world.random);
        sinks.become_those(&configuration.audit.sinks, &logs.audit)?;
        let to = destination(&configuration)?;
        let exporter = Exporter::start(to, trace_receiver, &process.metrics, &world.clock, &world.random);
        let mesh = MeshHost::start(role, logs.mesh, Arc::clone(&world.clock), Arc::clone(&world.random));
        if predecessor.is_some() {
            mesh.succeed(resources.agents.take());
        }
        let (parts, for_administration) =
            parts(&configuration, &world, state, process, (mesh, logs.realms)).await?;
        let parts = Parts { program_port, ..parts };
        let revocations = Watched::look([parts.state.join(REVOCATIONS)]);
        let store = storage.as_ref().and_then(RunningStore::store);
        let listeners = Listeners::first(&configuration.listeners);
        let current = first_snapshot(&configuration, &parts, &listeners, store.as_ref()).await?;
        if predecessor.is_none() {
            systemd::sockets(&environment, &current.listeners, &mut resources)?;
        }
        let cores = gateway::serve::start(world.cores, Arc::clone(&current), resources.listeners)
            .map_err(|fault| placed(fault.into(), &written))?;
        let health = [Arc::clone(logs.audit.health()), Arc::clone(logs.firewall.health())];
        let shared = share(&parts, &current, &cores, health, own_log, storage);
        let administration =
            Administration::open(&configuration, &current, &parts, logs.administration, for_administration)?;
        let (admin, admin_socket) = start_admin(&configuration, &parts, &shared, resources.admin)
            .map_err(|fault| at(written.setting("admin"), fault))?;
        let mut prober = Prober::default();
        prober.follow(&current.upstreams);
        let server = Self {
            load,
            program: None,
            registered: None,
            listeners,
            background: background::spawn(&current, &parts),
            prober,
            watched: watch(&configuration),
            revocations,
            settled: Settled::of(&configuration),
            renewal: Renewal::default(),
            configuration,
            parts,
            cores,
            current,
            shared,
            admin,
            administration,
            admin_socket,
            log: logs.audit,
            firewall_log: logs.firewall,
            sinks,
            exporter,
            arguments: arguments.clone(),
            notifier: Notifier::new(environment("NOTIFY_SOCKET").as_deref()),
            told: None,
        };
        server.open_for_business(predecessor, &written).await?;
        Ok(server)
    }

    /// Says that it serves, to everybody who waits for that.
    async fn open_for_business(
        &self,
        predecessor: Option<TakenOver>,
        written: &Written,
    ) -> anyhow::Result<()> {
        const GONE: &str = "the process to take over from has gone";
        // Two processes never order at the same time: who is taken over from is told first.
        if predecessor.is_none() {
            self.parts.acme.follow(&self.configuration);
            self.take_places()?;
            self.announce(written)?;
        }
        if let Some(predecessor) = predecessor {
            predecessor.is_awaited().context(GONE)?;
            self.parts.mesh.publish().await.context("mesh")?;
            predecessor.ready().context(GONE)?;
            tracing::info!("took over");
            // Whatever fails now: the one before has begun to end.
            for fault in [self.take_places(), self.announce(written)].into_iter().filter_map(Result::err) {
                tracing::error!("{fault:#}");
            }
            self.parts.acme.follow(&self.configuration);
        }
        self.notifier.ready();
        Ok(())
    }

    /// Takes the places of sockets in the state folder that are one process' alone, each whatever
    /// becomes of the other.
    fn take_places(&self) -> anyhow::Result<()> {
        let storage = self.shared.storage.as_ref().map_or(Ok(()), RunningStore::publish);
        let administration = self.administration.publish();
        storage.and(administration)
    }

    /// Leaves them to the process that succeeds this one.
    pub(super) fn leave_places(&self) {
        if let Some(storage) = &self.shared.storage {
            storage.leave();
        }
        self.administration.leave();
    }

    /// Says where it listens: in the log, and in `ready.json` for scripts. Whoever waited for that can
    /// compare a configuration with what is served.
    fn announce(&self, written: &Written) -> anyhow::Result<()> {
        let (configuration, admin) = (&self.configuration, self.admin_socket.local_addr()?);
        let listen: Vec<SocketAddr> =
            self.listeners.open.iter().filter_map(|key| self.cores.address(*key)).collect();
        for (listener, address) in configuration.listeners.iter().zip(&listen) {
            let scheme = match (&listener.speaks, &listener.tls) {
                (config::Speaks::Tcp, Some(_)) => "tls",
                (config::Speaks::Tcp, None) => "tcp",
                (_, Some(_)) => "https",
                (_, None) => "http",
            };
            tracing::info!("listening on {scheme}://{address}");
        }
        tracing::info!("admin listener on http://{admin} (/metrics, /healthz, /readyz, /undocumented)");
        for warning in &configuration.warnings {
            tracing::warn!("{warning}");
        }
        warn_of_expired(&self.current, self.shared.clock.as_ref());
        open_files::warn_of_few(configuration.limits.connections_max);
        running::keep(self.parts.state.path(), configuration, written);
        let ready = serde_json::json!({
            "listen": listen, "admin": admin, "process": std::process::id(),
            "audit": std::path::absolute(&configuration.audit.folder)?.display().to_string(),
        });
        write_atomically(&self.parts.state.join(READY), ready.to_string().as_bytes())?;
        Ok(())
    }
}

//! The mesh of this process: the trust domain of the configuration, open on the store, its
//! Workload API on its socket, the bundles of its partners, and the bundle endpoint behind
//! the service that routes with `to: bundle` lead to.
//!
//! What it must never do: serve a trust domain half open, or let a reload that is refused
//! change who is known.

mod advertise;
mod agent;
mod audit;
mod found;
mod member;
mod partners;
mod registered;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ::mesh::directory::Directory;
use ::mesh::node::{self, NodeListener, NodeWorld, Provers};
use ::mesh::workload_api::{Allowances, Foreign, Own, Refusals, Socket, SvidCache, World};
use ::mesh::{Bundle, Digests, Issuer, TrustDomain, renew};
use anyhow::Context as _;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use keys::SystemRandom;
use model::{Clock, SpiffeId};
use proxy::upstream::{InProcessConnector, in_process_pair};
use store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use audit::MeshAudit;

use super::audit_handle::AuditHandle;
use super::in_process;
use crate::config;

pub use advertise::advertise;
pub use agent::run as run_agent;
pub use member::Member;
pub use partners::{Attempts, stored as stored_bundles};
pub use registered::{Address, Registered};

/// How long the first certificate of this process may take that it issues itself.
const OWN_TIME_MAX: Duration = Duration::from_secs(10);

/// Where this process' own identity comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds the authorities of the trust domain in its store.
    Authority,
    /// It asks the Workload API at the socket of the configuration, for the identity of this
    /// service.
    Workload(String),
}

/// The mesh of this process.
pub struct MeshHost {
    role: Role,
    member: Arc<member::CurrentMember>,
    asking: Mutex<Option<(std::path::PathBuf, JoinHandle<()>)>>,
    found: Arc<found::Found>,
    /// Follows where these services are, over the socket there.
    looking: Mutex<Option<(LookedUp, Task)>>,
    connector: InProcessConnector,
    audit: Arc<MeshAudit>,
    clock: Arc<dyn Clock>,
    random: Arc<SystemRandom>,
    /// What the bundle endpoint shows.
    shown: Arc<RwLock<Option<Arc<TrustDomain>>>>,
    wanted: Mutex<Option<config::Mesh>>,
    /// What the process before has handed over, until the mesh is open.
    inherited: Mutex<Option<AgentsSocket>>,
    /// Whether the place of the Workload API's socket is the process' before.
    succeeds: AtomicBool,
    running: tokio::sync::Mutex<Option<Running>>,
    /// Bundles of partners that were refused because a newer one was known.
    outdated: Arc<AtomicU64>,
    /// What became of fetching them.
    asked: partners::Asked,
    server: JoinHandle<()>,
}

/// Services that are looked up in the registry, and the socket of the Workload API that says it.
type LookedUp = (std::path::PathBuf, Vec<SpiffeId>);

/// Where agents are waited for: the address as configured, and the socket.
pub type AgentsSocket = (SocketAddr, TcpListener);

/// An open trust domain. Dropped, its tasks end and its socket is gone.
struct Running {
    /// Whose sockets and identity are there.
    config: config::Mesh,
    /// Whose workloads, partners and ways of attestation count.
    settled: config::Mesh,
    domain: Arc<TrustDomain>,
    /// Keeps what was fetched of partners.
    store: Store,
    foreign: Arc<watch::Sender<Arc<Foreign>>>,
    provers: watch::Sender<Arc<Provers>>,
    agents: Option<NodeListener>,
    _rotation: Task,
    partners: Keeping,
    /// Follows where services are that are looked up.
    found: Task,
    /// Keeps this process' own identity, where something needs it.
    own: Option<Task>,
    socket: Option<Socket>,
}

/// What a change needs and could not be had: `None` stays what it is.
#[derive(Default)]
struct Others {
    agents: Option<Option<NodeListener>>,
    own: Option<Option<Task>>,
    socket: Option<Option<Socket>>,
}

impl Running {
    fn agents_socket(&self) -> std::io::Result<Option<AgentsSocket>> {
        let Some((agents, listener)) = self.config.agents.as_ref().zip(self.agents.as_ref()) else {
            return Ok(None);
        };
        Ok(Some((agents.listen, listener.socket()?)))
    }
}

/// A task that ends with whoever holds it.
struct Task(JoinHandle<()>);

impl Task {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps what was fetched of partners.
struct Keeping {
    _task: Task,
    is_over: Arc<AtomicBool>,
}

impl Keeping {
    /// Nothing that it fetches counts from here on, though it may have it already.
    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.end();
    }
}

impl MeshHost {
    /// Serves the bundle endpoint; 503 until a trust domain is open. Must be called on the
    /// control plane's runtime.
    pub fn start(role: Role, audit: AuditHandle, clock: Arc<dyn Clock>, random: Arc<SystemRandom>) -> Self {
        let audit = Arc::new(MeshAudit::new(audit, Arc::clone(&random)));
        let (connector, listener) = in_process_pair();
        let shown: Arc<RwLock<Option<Arc<TrustDomain>>>> = Arc::default();
        let serving = Arc::clone(&shown);
        let answer = move || {
            let domain = serving.read().unwrap_or_else(PoisonError::into_inner).clone();
            async move { bundle(domain) }
        };
        // Wherever the route leads, there is this one document.
        let router = Router::new().fallback(get(answer));
        let served = in_process::serve(listener, Arc::clone(&clock), in_process::by_router(router));
        let server = tokio::spawn(served);
        Self {
            role,
            member: Arc::default(),
            asking: Mutex::default(),
            found: Arc::default(),
            looking: Mutex::default(),
            connector,
            audit,
            clock,
            random,
            shown,
            wanted: Mutex::default(),
            inherited: Mutex::default(),
            succeeds: AtomicBool::new(false),
            running: tokio::sync::Mutex::default(),
            outdated: Arc::default(),
            asked: Arc::default(),
            server,
        }
    }

    /// Begins beside a process that still serves: agents are taken over at its socket, and the
    /// place of its Workload API stays its own until [`Self::publish`].
    pub fn succeed(&self, agents: Option<AgentsSocket>) {
        *self.inherited.lock().unwrap_or_else(PoisonError::into_inner) = agents;
        self.succeeds.store(true, Ordering::Release);
    }

    /// Takes the place of the Workload API's socket.
    ///
    /// # Errors
    /// What the system said.
    pub async fn publish(&self) -> anyhow::Result<()> {
        let mut running = self.running.lock().await;
        self.succeeds.store(false, Ordering::Release);
        self.take_place(running.as_mut().and_then(|open| open.socket.as_mut()))
    }

    fn take_place(&self, socket: Option<&mut Socket>) -> anyhow::Result<()> {
        let Some(socket) = socket.filter(|_| !self.succeeds.load(Ordering::Acquire)) else { return Ok(()) };
        socket.publish().context("the Workload API")?;
        tracing::info!("Workload API on unix:{}", socket.path().display());
        Ok(())
    }

    /// Where agents are waited for, to be handed over.
    ///
    /// # Errors
    /// What the system said.
    pub async fn agents_socket(&self) -> std::io::Result<Option<AgentsSocket>> {
        let running = self.running.lock().await;
        match running.as_ref() {
            Some(open) => open.agents_socket(),
            None => self.inherited_socket(),
        }
    }

    fn inherited_socket(&self) -> std::io::Result<Option<AgentsSocket>> {
        let inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        inherited.as_ref().map(|(listen, socket)| Ok((*listen, socket.try_clone()?))).transpose()
    }

    /// Where its own identity comes from.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The way to the bundle endpoint.
    pub fn connector(&self) -> &InProcessConnector {
        &self.connector
    }

    /// What this process shows in the mesh now.
    ///
    /// # Errors
    /// It has no identity yet.
    pub fn member(&self) -> anyhow::Result<Arc<Member>> {
        self.member.now().context("this process has no identity in the mesh yet")
    }

    /// The trust domain, when this process holds one and it is open.
    pub fn domain(&self) -> Option<Arc<TrustDomain>> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until [`Self::member`] is another one.
    pub async fn member_changed(&self) {
        self.member.changed().await;
    }

    /// Where a service registered that is looked up in the registry.
    pub fn endpoints(&self, id: &SpiffeId) -> Vec<SocketAddr> {
        self.found.of(id)
    }

    /// How often the bundle of another trust domain was refused because a newer one was known.
    pub fn outdated_bundles(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.outdated)
    }

    /// Takes these partners in the place of those `before`, and keeps what is fetched of them.
    fn keep_partners(
        &self,
        partners: &[config::Partner],
        before: &[config::Partner],
        store: &Store,
        foreign: &Arc<watch::Sender<Arc<Foreign>>>,
    ) -> Keeping {
        let is_over = Arc::new(AtomicBool::new(false));
        let shelf = partners::Shelf {
            foreign: Arc::clone(foreign),
            store: store.clone(),
            outdated: Arc::clone(&self.outdated),
            asked: Arc::clone(&self.asked),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            is_over: Arc::clone(&is_over),
        };
        partners::settle(partners, before, &shelf);
        Keeping { _task: Task::spawn(partners::run(partners.to_vec(), before.to_vec(), shelf)), is_over }
    }

    /// The bundle of another trust domain that counts now, and what became of fetching it.
    pub async fn partner(&self, trust_domain: &str) -> (Option<Bundle>, Attempts) {
        let running = self.running.lock().await;
        let bundle = running.as_ref().and_then(|open| open.foreign.borrow().get(trust_domain).cloned());
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        (bundle, asked.get(trust_domain).map(|noted| noted.attempts.clone()).unwrap_or_default())
    }

    /// Waits until some service is elsewhere than before.
    pub async fn endpoints_changed(&self) {
        self.found.changed().await;
    }

    /// Follows the Workload API at the socket, and waits for the first identity.
    async fn ask(&self, mesh: &config::Mesh, service: &str) -> anyhow::Result<()> {
        let path = mesh.socket.clone().context("`mesh.socket` has to say where the Workload API is")?;
        {
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            if asking.as_ref().is_none_or(|(asked, _)| *asked != path) {
                let (current, service) = (Arc::clone(&self.member), service.to_owned());
                let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
                let following = tokio::spawn(member::follow(path.clone(), service, current, clock, random));
                if let Some((_, before)) = asking.replace((path.clone(), following)) {
                    before.abort();
                }
            }
        }
        self.member.first().await;
        self.look_up(path, &mesh.looked_up).await;
        Ok(())
    }

    /// Follows where these services are, and waits a while for the first word.
    async fn look_up(&self, path: std::path::PathBuf, services: &[SpiffeId]) {
        {
            let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = Some((path, services.to_vec())).filter(|_| !services.is_empty());
            if looking.as_ref().map(|(followed, _)| followed) != wanted.as_ref() {
                *looking = wanted.map(|(path, services)| {
                    let (found, random) = (Arc::clone(&self.found), Arc::clone(&self.random));
                    let task = Task::spawn(found::follow(path.clone(), services.clone(), found, random));
                    ((path, services), task)
                });
            }
        }
        if !services.is_empty() {
            self.found.first().await;
        }
    }

    /// Takes the mesh of a configuration in the place of the one before; without a store when
    /// it is unsealed ([`Self::open_wanted`]). Of a trust domain that is open already, whom it knows
    /// and trusts counts only once that is settled ([`Self::settle`]).
    ///
    /// # Errors
    /// As [`Self::open_wanted`]; the one before stays.
    pub async fn follow(&self, mesh: Option<&config::Mesh>, store: Option<&Store>) -> anyhow::Result<()> {
        if let (Role::Workload(service), Some(mesh)) = (&self.role, mesh) {
            return self.ask(mesh, service).await;
        }
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = mesh.cloned();
        match store {
            Some(store) => self.take_wanted(store).await,
            None => Ok(()),
        }
    }

    /// Opens the mesh of the newest configuration.
    ///
    /// # Errors
    /// The trust domain cannot be opened, or its socket not be listened on.
    pub async fn open_wanted(&self, store: &Store) -> anyhow::Result<()> {
        self.take_wanted(store).await?;
        self.settle().await;
        Ok(())
    }

    /// The configuration that was taken last is the one that is served: whom it knows and trusts
    /// counts from now on.
    pub async fn settle(&self) {
        let mut running = self.running.lock().await;
        let Some(open) = running.as_mut() else { return };
        let Running { config, settled, foreign, store, .. } = open;
        if settled.partners != config.partners {
            open.partners.end();
            open.partners = self.keep_partners(&config.partners, &settled.partners, store, foreign);
        }
        renew(&open.provers, provers(&open.config));
        open.domain.declare(open.config.declared());
        open.settled = open.config.clone();
    }

    async fn take_wanted(&self, store: &Store) -> anyhow::Result<()> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut running = self.running.lock().await;
        match (wanted, running.as_mut()) {
            (None, _) => *running = None,
            (Some(wanted), Some(open)) if open.config.settings == wanted.settings => {
                self.change(open, wanted).await?;
            }
            (Some(wanted), before) => *running = Some(self.open(wanted, store, before.as_deref()).await?),
        }
        let shown = running.as_ref().map(|open| Arc::clone(&open.domain));
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
        *self.inherited.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// The same trust domain, with another socket, listener or identity.
    async fn change(&self, open: &mut Running, wanted: config::Mesh) -> anyhow::Result<()> {
        let other = self.others(open, &wanted).await?;
        // INVARIANT: from here on nothing fails. What is refused has changed nobody.
        if let Some(agents) = other.agents {
            open.agents = agents;
        }
        if let Some(own) = other.own {
            open.own = own;
        }
        if let Some(socket) = other.socket {
            open.socket = socket;
        }
        if open.config.looked_up != wanted.looked_up {
            open.found = self.keep_found(&wanted, &open.domain);
        }
        open.config = wanted;
        Ok(())
    }

    /// What can fail of a change: everything that is to be had for it.
    async fn others(&self, open: &Running, wanted: &config::Mesh) -> anyhow::Result<Others> {
        let mut others = Others::default();
        let listen = |mesh: &config::Mesh| mesh.agents.as_ref().map(|agents| agents.listen);
        if listen(&open.config) != listen(wanted) {
            let listener = self.agents(wanted, &open.domain, &open.foreign, &open.provers, None).await?;
            others.agents = Some(listener);
        }
        let socket = match open.config.socket == wanted.socket {
            true => None,
            false => Some(self.prepare(wanted, &open.domain, &open.foreign)?),
        };
        let member = self.member.now();
        if (&open.config.identity, open.config.is_member) != (&wanted.identity, wanted.is_member) {
            others.own = Some(self.keep_own(wanted, &open.domain, &open.foreign).await?);
        }
        others.socket = socket;
        let taken = self.take_place(others.socket.iter_mut().flatten().next());
        others.own = self.own_if(taken, others.own, member)?;
        Ok(others)
    }

    /// What keeps this process' own identity, if all that came after it could be had; else nothing,
    /// and the identity of before is shown again.
    fn own_if<Own>(
        &self,
        rest: anyhow::Result<()>,
        own: Own,
        before: Option<Arc<Member>>,
    ) -> anyhow::Result<Own> {
        if let Err(fault) = rest {
            drop(own);
            self.member.put_back(before);
            return Err(fault);
        }
        Ok(own)
    }

    /// Opens a trust domain; `before` goes on until this is open, and its agents' socket is kept.
    async fn open(
        &self,
        wanted: config::Mesh,
        store: &Store,
        before: Option<&Running>,
    ) -> anyhow::Result<Running> {
        let domain = TrustDomain::open(wanted.settings.clone(), store.clone(), self.random.clone()).await?;
        // Of the same trust domain with other settings, who counted before counts until this is settled.
        let counts = before.map(|before| &before.settled);
        let counts = counts.filter(|it| it.settings.trust_domain == wanted.settings.trust_domain);
        let counts = counts.unwrap_or(&wanted).clone();
        domain.declare(counts.declared());
        let (provers, _) = watch::channel(Arc::new(provers(&counts)));
        // What was fetched of partners stays in use.
        let fetched = before.filter(|it| it.settled.settings.trust_domain == wanted.settings.trust_domain);
        let fetched = fetched.map(|before| Arc::clone(&before.foreign.borrow())).unwrap_or_default();
        let foreign = Arc::new(watch::channel(fetched).0);
        let agents = self.agents(&wanted, &domain, &foreign, &provers, before).await?;
        let mut socket = self.prepare(&wanted, &domain, &foreign)?;
        let task = Task::spawn(Arc::clone(&domain).run(self.audit.clone()));
        let partners = self.keep_partners(&counts.partners, &counts.partners, store, &foreign);
        let found = self.keep_found(&wanted, &domain);
        let member = self.member.now();
        let own = self.keep_own(&wanted, &domain, &foreign).await?;
        // INVARIANT: the last thing that can fail. Whatever was in its place is not missed then.
        let taken = self.take_place(socket.as_mut());
        let own = self.own_if(taken, own, member)?;
        Ok(Running {
            settled: counts,
            config: wanted,
            domain,
            store: store.clone(),
            foreign,
            provers,
            agents,
            _rotation: task,
            partners,
            found,
            own,
            socket,
        })
    }

    /// Keeps this process' own identity, where something needs it, and waits for the first: not for
    /// ever, because whoever waits here takes no revocation and does not end.
    async fn keep_own(
        &self,
        wanted: &config::Mesh,
        domain: &Arc<TrustDomain>,
        foreign: &watch::Sender<Arc<Foreign>>,
    ) -> anyhow::Result<Option<Task>> {
        if !wanted.is_member {
            return Ok(None);
        }
        let world = self.world(domain, foreign);
        let own = Own::new(world, wanted.identity.clone());
        let (current, random) = (Arc::clone(&self.member), Arc::clone(&self.random));
        let keeping = Task::spawn(member::run(own, domain.watch_revoked(), current, random));
        // Not the one that is there already, which may be another workload's.
        let first = tokio::time::timeout(OWN_TIME_MAX, self.member.first_of(&wanted.identity.id)).await;
        first.with_context(|| {
            let (id, most) = (&wanted.identity.id, OWN_TIME_MAX.as_secs());
            format!("this process got no certificate as {id} within {most} s; the log says why")
        })?;
        Ok(Some(keeping))
    }

    /// Follows where the services are that are looked up.
    fn keep_found(&self, wanted: &config::Mesh, domain: &Arc<TrustDomain>) -> Task {
        let mut known = domain.watch_endpoints();
        self.found.take_of(&known.borrow_and_update(), &wanted.looked_up);
        Task::spawn(found::run(known, wanted.looked_up.clone(), Arc::clone(&self.found)))
    }

    fn world(&self, domain: &Arc<TrustDomain>, foreign: &watch::Sender<Arc<Foreign>>) -> World {
        World {
            domain: Arc::clone(domain) as Arc<dyn Issuer>,
            directory: Arc::clone(domain) as Arc<dyn Directory>,
            workloads: domain.workloads_here(),
            foreign: foreign.subscribe(),
            recorder: self.audit.clone(),
            svid_cache: SvidCache::default(),
            refusals: Refusals::default(),
            digests: Digests::default(),
            allowances: Allowances::default(),
        }
    }

    /// Listens for agents, where the configuration says so: at the socket that is there, when one
    /// listens at the same address.
    async fn agents(
        &self,
        wanted: &config::Mesh,
        domain: &Arc<TrustDomain>,
        foreign: &watch::Sender<Arc<Foreign>>,
        provers: &watch::Sender<Arc<Provers>>,
        before: Option<&Running>,
    ) -> anyhow::Result<Option<NodeListener>> {
        let Some(agents) = &wanted.agents else { return Ok(None) };
        let world = NodeWorld {
            domain: Arc::clone(domain),
            workloads: domain.workloads(),
            foreign: foreign.subscribe(),
            recorder: self.audit.clone(),
            provers: provers.subscribe(),
            allowances: node::Allowances::default(),
        };
        let open = match before {
            Some(before) => before.agents_socket()?,
            None => self.inherited_socket()?,
        };
        let listener = match open.filter(|(listen, _)| *listen == agents.listen) {
            Some((_, socket)) => NodeListener::on(socket, world).await,
            None => NodeListener::listen(agents.listen, world).await,
        };
        let listener = listener.context("the listener for agents")?;
        tracing::info!(pin = %listener.pin(), "agents on {}", listener.address());
        Ok(Some(listener))
    }

    /// Listens beside the place of the Workload API's socket.
    fn prepare(
        &self,
        wanted: &config::Mesh,
        domain: &Arc<TrustDomain>,
        foreign: &watch::Sender<Arc<Foreign>>,
    ) -> anyhow::Result<Option<Socket>> {
        let Some(path) = &wanted.socket else { return Ok(None) };
        let world = self.world(domain, foreign);
        Ok(Some(Socket::prepare(path, world).context("the Workload API")?))
    }
}

/// How the configuration has nodes attested.
fn provers(mesh: &config::Mesh) -> Provers {
    mesh.agents.as_ref().map(|agents| agents.provers.clone()).unwrap_or_default()
}

impl Drop for MeshHost {
    fn drop(&mut self) {
        self.server.abort();
        let asking = self.asking.get_mut().unwrap_or_else(PoisonError::into_inner);
        asking.iter().for_each(|(_, task)| task.abort());
    }
}

/// The document of the bundle endpoint (SPIFFE Federation §5.1).
fn bundle(domain: Option<Arc<TrustDomain>>) -> Response {
    match domain {
        Some(domain) => {
            let document = domain.authorities().bundle.to_document();
            ([(header::CONTENT_TYPE, "application/json")], document).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")]).into_response(),
    }
}

#[cfg(test)]
mod tests;

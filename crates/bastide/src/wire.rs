//! From a configuration to the snapshot that the cores serve: the one place that knows
//! every part. Built whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use gateway::snapshot::{Process, Snapshot};
use gateway::step::hygiene::SecurityHeaders;
use gateway::step::identity::{self, IdentitySettings};
use keys::{
    ApiKeyFile, ApiKeyStore, ApiKeys, Issuers, IssuersSettings, LocalCa, LocalSigner, RevocationFile,
    Revocations,
};
use model::{Switch, Timestamp};
use policy::{Policies, Source, Vocabulary};
use proxy::admit::{Admission, IdentityHeaders};
use proxy::limits::Limits;
use proxy::route::Router;
use proxy::upstream::{InProcessConnector, Upstreams};

use crate::acme::Orders;
use crate::config::{self, Configuration};
use crate::process::dns::Names;
use crate::process::fetch::GuardedFetch;
use crate::process::mesh::MeshHost;
use crate::process::program_port::ProgramPort;
use crate::process::realms::Realms;
use crate::process::sessions::SessionService;
use crate::process::state::{LOCAL_AUTHORITY, REVOCATIONS, StateFolder, make_private_folder};

mod clients;
mod finder;
mod firewall;
mod issuers;
mod listeners;
mod reading;
mod routes;
mod services;
mod tls;
mod user;

pub use clients::signer;
pub use finder::{Finder, Place};
pub use issuers::settings as issuer_settings;
pub use listeners::Listeners;
pub use reading::Reading;

/// What stays from one snapshot to the next.
pub struct Parts {
    /// The state folder.
    pub state: StateFolder,
    /// What the cores share.
    pub process: Arc<Process>,
    /// What the names of endpoints stand for.
    pub names: Arc<Names>,
    /// The certificates that are ordered.
    pub acme: Arc<Orders>,
    /// The identity provider.
    pub realms: Arc<Realms>,
    /// The mesh.
    pub mesh: Arc<MeshHost>,
    /// Where the program listens that this process was started for.
    pub program_port: Option<Arc<ProgramPort>>,
    /// Browsers' sessions.
    pub sessions: Arc<SessionService>,
    /// The guarded client.
    pub fetch: Arc<GuardedFetch>,
    /// The control plane's runtime.
    pub runtime: tokio::runtime::Handle,
    /// The way in to the administration.
    pub administration: InProcessConnector,
    /// Signs identity tokens.
    pub signer: Arc<LocalSigner>,
    /// The system's random number generator.
    pub random: Arc<keys::SystemRandom>,
}

/// Builds the snapshot of a configuration, with the listeners that close beside its own. Of the one
/// that it will replace, keys that were fetched, health that was learned and limits that were used
/// up live on.
///
/// # Errors
/// Something that a configuration names cannot be used (a certificate, a key file, an
/// authority), and nothing of before may stay in its place. Nothing has changed then.
pub fn build(
    parts: &Parts,
    configuration: &Configuration,
    listeners: &Listeners,
    generation: u64,
    policies: Arc<Policies>,
    reading: &Reading<'_>,
) -> anyhow::Result<Snapshot> {
    let before = reading.before();
    let now = parts.process.clock.now();
    let limits = Arc::new(limits(configuration));
    let roles: BTreeSet<String> = configuration.roles.iter().map(|role| role.name.clone()).collect();
    let settings = IssuersSettings {
        issuers: issuers::settings(&configuration.authentication)?,
        roles: roles.clone(),
        other_prefixes: listeners::prefixes(configuration),
    };
    let issuers = Issuers::new(settings, before.map(|before| before.issuers.as_ref()))?;
    issuers.set_revocations(Arc::new(revocations(parts, &configuration.authentication, reading)?));
    let api_keys = load_api_keys(parts, &configuration.authentication.api_keys, &roles).map(Arc::new);
    let api_keys = reading.or_before(api_keys, |before| Some(Arc::clone(&before.api_keys)))?;
    let router = router(configuration)?;
    let services = configuration.services.iter().map(|service| services::settings(service, parts, reading));
    let services = services.collect::<anyhow::Result<_>>()?;
    let forward = configuration.routes.iter().map(|route| routes::forward(route, configuration, &limits));
    let upstreams = Upstreams::build(
        services,
        forward.collect(),
        Arc::clone(&limits),
        before.map(|before| before.upstreams.as_ref()),
    )?;
    let ca = match needs_ca(configuration, listeners) {
        // Without it, what it issued before stays too.
        true => reading.or_before(local_ca(parts, now).map(Some), |_| Some(None))?,
        false => None,
    };
    let sources = tls::Sources { configuration, ca: ca.as_ref(), parts, now, reading };
    let listener_settings = listeners.settings(&sources)?;
    let firewalls = firewall::Loaded::new(configuration, &parts.process.firewall_memory);
    let rules = configuration
        .routes
        .iter()
        .map(|route| routes::settings(route, configuration, parts, &limits, before, &firewalls))
        .collect::<anyhow::Result<_>>()?;
    let firewalls = firewalls.of_listeners(configuration, listeners, before);
    Ok(Snapshot {
        generation,
        process: Arc::clone(&parts.process),
        listeners: listener_settings,
        trusted_proxies: listeners.trusted_proxies(configuration),
        https_redirects: listeners.https_redirects(configuration),
        listener_services: listeners.services(configuration),
        outbound: listeners.outbound(configuration),
        limits,
        admission: admission(configuration),
        router,
        routes: rules,
        upstreams: Arc::new(upstreams),
        policies,
        addresses: routes::addresses(&configuration.addresses),
        security: security(configuration),
        identity: identity_settings(parts, configuration),
        workload: parts.mesh.member().ok().map(|member| member.id().as_str().into()),
        user: user::settings(parts, configuration)?,
        party: clients::party(parts, configuration, &roles, &issuers, reading)?,
        levels: configuration.authentication.step_up.clone(),
        introspector: clients::introspector(&configuration.authentication, &issuers, reading)?,
        issuers,
        api_keys,
        firewalls,
        tracing: configuration.telemetry.as_ref().and_then(|t| t.traces).map(|traces| traces.sampling),
        certificates: listeners.certificates(configuration),
    })
}

fn limits(configuration: &Configuration) -> Limits {
    let mut limits = configuration.limits.clone();
    if Switch::LimitHead.is_off() {
        limits.uri_bytes_max = 64 * 1024;
    }
    limits
}

/// How upstreams are told who asks.
fn identity_settings(parts: &Parts, configuration: &Configuration) -> IdentitySettings {
    let config::Identity { headers, token, issuer, lifetime } = &configuration.identity;
    IdentitySettings {
        headers: *headers,
        token: *token,
        token_settings: keys::IdentitySettings {
            issuer: issuer.clone(),
            lifetime: *lifetime,
            certificates: Vec::new(),
        },
        signer: parts.signer.clone(),
        random: parts.random.clone(),
    }
}

/// The policies of a configuration.
///
/// # Errors
/// They have faults, which [`config::load`] has found before.
pub fn load_policies(configuration: &Configuration, generation: u64) -> anyhow::Result<Policies> {
    load(configuration.vocabulary(), &configuration.policy_sources(), generation)
}

/// Policies from names and texts.
///
/// # Errors
/// They have faults.
pub fn load(vocabulary: Vocabulary, sources: &[Source], generation: u64) -> anyhow::Result<Policies> {
    policy::load(vocabulary, sources, generation).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("policies refused:\n{}", lines.join("\n"))
    })
}

/// The router of a configuration.
fn router(configuration: &Configuration) -> anyhow::Result<Router> {
    let one = |route: &config::Route| route.matches.to_route_match(&route.name, route.encoded_slashes);
    let matches = configuration.routes.iter().map(one).collect::<Result<_, _>>()?;
    Router::build(matches).map_err(|conflicts| anyhow::anyhow!("routes cannot be told apart: {conflicts:?}"))
}

fn load_api_keys(parts: &Parts, path: &Path, roles: &BTreeSet<String>) -> anyhow::Result<ApiKeys> {
    let contents = ApiKeyFile::new(path, parts.random.clone()).load()?;
    Ok(ApiKeys::new(&contents, roles)?)
}

/// The revocation list of the state folder, and what the realms have taken back.
///
/// # Errors
/// It cannot be read: a list that is not understood revokes nobody, so it is refused.
pub fn revocations(
    parts: &Parts,
    authentication: &config::Authentication,
    reading: &Reading<'_>,
) -> anyhow::Result<Revocations> {
    let file = RevocationFile::new(&parts.state.join(REVOCATIONS), parts.random.clone());
    let mut of_realms = parts.realms.revocations();
    for entry in &mut of_realms {
        // A realm does not know what is put before its subjects here.
        let own = |issuer: &&config::Issuer| Some(&issuer.issuer) == entry.issuer.as_ref();
        let issuer = authentication.issuers.iter().find(own);
        if let (Some(subject), Some(issuer)) = (&mut entry.subject, issuer) {
            subject.insert_str(0, &issuer.prefix);
        }
    }
    let now = parts.process.clock.now();
    let read = file.load(&of_realms, now).map_err(Into::into);
    reading.or_before(read, |before| before.issuers.revocations().with(&of_realms, now).ok())
}

/// What admission takes from every client.
fn admission(configuration: &Configuration) -> Admission {
    Admission {
        identity_headers: IdentityHeaders::new(identity::HEADERS).with_prefix(identity::PREFIX),
        trusted_proxies_set_identity: false,
        lenient: configuration.lenient_heads,
        keep_written: !configuration.firewalls.is_empty(),
    }
}

fn security(configuration: &Configuration) -> SecurityHeaders {
    configuration.security_headers.as_ref().map_or_else(SecurityHeaders::none, |headers| {
        SecurityHeaders::new(headers.hsts.as_secs(), &headers.frame_options, &headers.referrer_policy)
    })
}

fn needs_ca(configuration: &Configuration, listeners: &Listeners) -> bool {
    let local = |listener: &config::Listener| {
        listener.tls.as_ref().is_some_and(|tls| {
            matches!(tls.certificates, config::Certificates::Local)
                || tls
                    .client
                    .as_ref()
                    .is_some_and(|client| matches!(client.authorities, config::ClientAuthorities::Local))
        })
    };
    listeners.all(configuration).any(|(_, listener)| local(listener))
}

/// The authority in the state folder, made on first use.
fn local_ca(parts: &Parts, now: Timestamp) -> anyhow::Result<LocalCa> {
    let folder = parts.state.join(LOCAL_AUTHORITY);
    make_private_folder(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    LocalCa::open_or_create(&folder, now, parts.random.as_ref()).context("the local certificate authority")
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

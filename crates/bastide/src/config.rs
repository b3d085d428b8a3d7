//! The configuration language: one YAML file becomes one checked [`Configuration`].
//!
//! The way through it: [`load`] reads the file and what it includes into a tree in
//! which everything knows its position (`sources`, `node`), one file per section turns
//! that tree into values and checks them (`decoder` counts what is wrong), and
//! [`check()`] says what came of it. The tables from which keys are checked and faults
//! get their suggestions also write the reference page ([`reference()`]).
//!
//! Short and long forms are gone when [`Configuration`] exists: every duration is a
//! [`std::time::Duration`], every size a number of bytes, every host lower case, every
//! reference points at something that is there, every default is filled in.
//!
//! What it must never do: return a [`Configuration`] that has a fault, show a value that
//! `${…}` stood for in a fault about it, read a file that nobody named.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use proxy::limits::Limits;

mod acme;
mod addresses;
mod administration;
mod audit;
mod authentication;
mod certificates;
mod changes;
mod check;
mod contracts;
mod cors;
mod decoder;
mod dns;
mod fault;
mod files;
mod format;
mod headers;
mod held;
mod identity;
mod introspection;
mod json_schema;
mod limits;
mod listen;
mod matching;
mod mesh;
pub(crate) mod node;
mod outline;
mod outward;
mod pem;
mod policies;
mod rates;
mod realms;
mod reference;
mod resilience;
mod roles;
mod routes;
mod schema;
mod services;
mod session;
mod shaping;
mod sinks;
mod sources;
mod splits;
mod storage;
mod telemetry;
#[cfg(test)]
mod tests;
mod values;
mod vocabulary;
mod waf;

pub use acme::{Acme, AcmeAccount, AcmeChallenge, ExternalAccount};
pub use addresses::Addresses;
pub use administration::{ADMINISTRATION, Area};
pub use audit::{Audit, WhenFull};
pub use authentication::{Authentication, CertificatePrincipals, Issuer, KeySource};
pub use changes::{Change, Changes, Consequence, Effect, KeyChange, RESTART, What};
pub(crate) use check::counted;
pub use check::{Report, check, check_with};
pub use contracts::Validation;
pub use cors::{Cors, Origins};
pub use fault::{Fault, Severity};
pub use files::{Disk, Files, Memory};
pub use format::format;
pub(crate) use headers::belongs_to_the_hop;
pub use headers::{HeaderRules, SecurityHeaders};
pub use identity::Identity;
pub use introspection::{Introspection, OwnClient, OwnCredential};
pub use json_schema::json_schema;
pub use listen::{
    Admin, CertificateFiles, Certificates, ClientAuthorities, ClientCertificates, Listener, ListenerTls,
    Speaks, TlsVersion,
};
pub use matching::{HostMatch, Match};
pub use mesh::services::{Declared, Mode, Spoken};
pub use mesh::{Agents, BUNDLE_SERVICE, Mesh, NewWorkload, Partner, registered};
pub use outline::{Entry, Kind, Outline, Setting, Written};
pub use outward::{Hidden, Outward};
pub use policies::Policies;
pub use rates::{LimitBy, RateLimit};
pub use realms::{BackChannel, IDENTITY_SERVICE, Mail, MailSecurity, PRIVATE_SWITCH, Realm, issuer_host};
pub use reference::reference;
pub use resilience::{Balance, Breaker, Ejection, HealthCheck, HealthKind, Resilience, RetryBudget};
pub use roles::{Member, Role};
pub use routes::{Allow, Proof, Route};
pub use services::{Endpoint, Protocol, Service, Timeouts, UpstreamTls};
pub use session::{SESSION_SERVICE, SessionLogin};
pub use sinks::{Sink, SinkKind, Syslog, Transport};
pub(crate) use sources::matching;
pub use splits::{Mirror, Split};
pub use storage::{Database, Storage, Unseal};
pub use telemetry::{Telemetry, Traces};
pub use waf::{
    ATTACK_RULES, CRS_MARK, Excluded, Exclusion, Firewall, IDENTITY_SKIPS, WafChoice, WafCompressed, WafMode,
    WafRequestBody, WafResponseBody, WafSettings, identity_exclusions, load_rules,
};

use decoder::{Decoder, Table};
use schema::{Section, key};
use sources::Sources;

/// A whole configuration, resolved and checked. Plain values: cloning it or comparing
/// two of them is all it can do. Relative paths are already joined with the folder of
/// the file that names them.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// The main file.
    pub file: PathBuf,
    /// Every file that was read: the main file, includes, `${file:…}`, certificates,
    /// keys, address lists, policies. A change of any of them is a reason to load
    /// again. Sorted, no duplicates.
    pub files: Vec<PathBuf>,
    /// Every glob whose matches count (`include`, `policies`): a new file that
    /// matches is a reason to load again too.
    pub globs: Vec<PathBuf>,
    /// The state folder. Bastide keeps it at mode 0700.
    pub state: PathBuf,
    /// Data-plane cores; `None`: all.
    pub workers: Option<usize>,
    /// The listeners, at least one.
    pub listeners: Vec<Listener>,
    /// The admin listener: `/metrics`, `/healthz`, `/readyz`.
    pub admin: Admin,
    /// Who may prove what to whom.
    pub authentication: Authentication,
    /// Declared roles, by name.
    pub roles: Vec<Role>,
    /// Name servers for the names of endpoints; empty: the system's.
    pub dns_servers: Vec<std::net::SocketAddr>,
    /// The identity provider's realms, by name.
    pub realms: Vec<Realm>,
    /// The mesh, where there is one.
    pub mesh: Option<Mesh>,
    /// Upstream services, by name.
    pub services: Vec<Service>,
    /// Routes, in the order of the file. The position is the route's number.
    pub routes: Vec<Route>,
    /// Cedar policies and what they may read.
    pub policies: Policies,
    /// What upstreams are told about the principal.
    pub identity: Identity,
    /// Limits of proxying.
    pub limits: Limits,
    /// Addresses that may or may not connect, before any route is looked at.
    pub addresses: Addresses,
    /// Response headers that every answer gets; `None` when
    /// `danger_no_security_headers: true`.
    pub security_headers: Option<SecurityHeaders>,
    /// The audit log.
    pub audit: Audit,
    /// Where durable records are kept.
    pub storage: Storage,
    /// What is sent to an OpenTelemetry collector.
    pub telemetry: Option<Telemetry>,
    /// Every firewall that somebody has, loaded.
    pub firewalls: Vec<Firewall>,
    /// The firewall of whoever names none.
    pub waf: WafChoice,
    /// Whether some heads on which readers disagree are taken.
    pub lenient_heads: bool,
    /// What is allowed but unwise. Never faults.
    pub warnings: Vec<Fault>,
}

/// `90d`, `12h`: a duration as it is written.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<std::time::Duration, &'static str> {
    values::duration(text).map_err(|unfit| unfit.expected)
}

impl Configuration {
    /// The policies' names and texts, for [`policy::load()`].
    pub fn policy_sources(&self) -> Vec<policy::Source> {
        let mut sources = self.policies.sources.clone();
        if self.is_administered() {
            sources.push(administration::built_in());
        }
        sources
    }

    /// Whether there is something to administer: realms.
    pub fn is_administered(&self) -> bool {
        !self.realms.is_empty()
    }

    /// The service with this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Whether a route leads to the identity provider, or back from one, and nowhere else.
    pub fn leads_to_identity(&self, route: &Route) -> bool {
        leads_to_identity(route, &self.services)
    }

    /// What a route meets where its choice, or its listener's, is `choice`.
    pub fn waf_on(&self, route: &Route, choice: WafChoice) -> WafChoice {
        match choice {
            WafChoice::Firewall(number) if self.leads_to_identity(route) => {
                let other = self.firewalls.get(number).and_then(|firewall| firewall.on_identity);
                WafChoice::Firewall(other.unwrap_or(number))
            }
            other => other,
        }
    }
}

fn leads_to_identity(route: &Route, services: &[Service]) -> bool {
    let service = services.get(route.service).filter(|_| route.splits.is_empty());
    service.is_some_and(|service| {
        service.in_process && [IDENTITY_SERVICE, SESSION_SERVICE].contains(&service.name.as_str())
    })
}

const TOP: Section = Section {
    path: "",
    about: "The settings at the top of the file.",
    short: "",
    keys: &[
        key(
            "include",
            "path, glob, or list of these",
            "none",
            "Further files, relative to this one. Lists are joined, maps merged; anything set twice is a fault.",
        ),
        key(
            "state",
            "path",
            "`bastide-state` next to the file",
            "The state folder: keys, API key hashes, the audit log. Mode 0700.",
        ),
        key("workers", "1 to 1024", "one per core", "Data-plane threads."),
        key("listen", "list of maps or addresses", "", "The public listeners."),
        key("admin", "map or address", "127.0.0.1:9901", "The admin listener."),
        key("authentication", "map", "nothing is proof", "Which credentials are accepted."),
        key("roles", "map of role name to map", "none", "Declared roles and their hierarchy."),
        key(
            "dns",
            "map or list",
            "the system's resolver",
            "Which DNS servers resolve the names of endpoints.",
        ),
        key("realms", "map of realm name to map or issuer", "none", "The identity provider's realms."),
        key("mesh", "map or trust domain", "none", "An identity for every service."),
        key("services", "map of service name to map or list", "none", "The upstream services."),
        key("routes", "list of maps", "", "Which requests are served, and by which service."),
        key("policies", "path, glob, map, or list of these", "none", "The Cedar policies."),
        key("policy", "map", "nothing more", "What policies may read in addition to what they always can."),
        key("identity", "map", "headers and token", "What upstreams are told about the principal."),
        key("limits", "map of limit name to value", "see the table of limits", "Limits of proxying."),
        key("addresses", "map", "everybody", "Which client addresses are admitted."),
        key("security_headers", "true or map", "true", "Response headers that every answer gets."),
        key(
            "danger_no_security_headers",
            "true or false",
            "false",
            "Sends answers without security headers.",
        ),
        key("audit", "map or path", "refuse when full", "The audit log."),
        key(
            "storage",
            "map or path",
            "`store.db` in the state folder",
            "Where durable records are kept, encrypted.",
        ),
        key("telemetry", "map or URL", "nothing is sent", "What is sent to an OpenTelemetry collector."),
        key("waf", "map, path or `off`", "off", "The firewall."),
        key(
            "danger_lenient_heads",
            "true or false",
            "false",
            "Accepts Content-Length together with Transfer-Encoding, a second Content-Type, paths that are not UTF-8 and CONNECT, as common servers do. For comparing rule sets with theirs; never for production.",
        ),
    ],
};

/// The state folder of a file that names none, beside it.
const DEFAULT_STATE: &str = "bastide-state";

/// Reads `path` and everything it names.
///
/// # Errors
/// Everything that was found, faults and warnings, in the order of files and lines,
/// what policy found last; at least one fault.
pub fn load(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &dyn Files,
) -> Result<Configuration, Vec<Fault>> {
    let loaded = load_written(path, environment, files);
    loaded.map(|(configuration, _)| configuration).map_err(|refused| refused.faults)
}

/// Why there is no configuration, and where that may change.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Every file that was looked at, those that are not there included.
    pub files: Vec<PathBuf>,
    /// The globs after which was looked for files.
    pub globs: Vec<PathBuf>,
}

impl Refused {
    fn new(faults: Vec<Fault>, sources: Sources<'_>) -> Self {
        let (files, globs) = sources.into_looked_at();
        Self { faults, files, globs }
    }
}

/// What a file declares under `mesh.services`, without a look at the rest.
///
/// # Errors
/// What cannot be read of the file.
pub fn mesh_services(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &dyn Files,
) -> Result<Vec<Declared>, Refused> {
    let mut decoder = Decoder::new(Sources::new(environment, files));
    let tree = decoder.document(path);
    let faulty = decoder.faulty();
    let declared = tree.as_ref().map(mesh::services::declared);
    match declared.filter(|_| !faulty) {
        Some(declared) => Ok(declared),
        None => {
            let (faults, _, sources) = decoder.into_findings();
            Err(Refused::new(faults, sources))
        }
    }
}

/// The state folder that a file means, whatever else is wrong with it; the default one, where it names none.
/// `None`: what it names cannot be read, and no other folder is meant.
pub fn state_folder(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &dyn Files,
) -> Option<PathBuf> {
    // Whether it is YAML, and the folder where one is named.
    let read = |files: &dyn Files| {
        let mut decoder = Decoder::new(Sources::new(environment, files));
        let tree = decoder.document(path);
        let state = tree.as_ref().and_then(|tree| decoder.table(tree, &TOP)?.get("state"));
        let named = state.map(|node| decoder.path(node));
        (tree.is_some(), named, decoder.sources.beside(0, DEFAULT_STATE))
    };
    let (is_yaml, named, default) = read(files);
    // What is no YAML as a whole may still have the line.
    let line = || {
        let bytes = files.read(path, node::FILE_BYTES_MAX).ok().filter(|_| !is_yaml)?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().find(|line| line.starts_with("state:"))?;
        read(&Memory::new([(sources::tidy(path), line.into())])).1
    };
    named.or_else(line).unwrap_or(Some(default))
}

/// As [`load`], with what was written, for [`Outline::of`].
///
/// # Errors
/// As [`load`].
pub fn load_written(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &dyn Files,
) -> Result<(Configuration, Written), Refused> {
    let mut decoder = Decoder::new(Sources::new(environment, files));
    let tree = decoder.document(path);
    let configuration = tree.as_ref().and_then(|tree| decoder.configuration(path, tree));
    let (mut findings, names_known, sources) = decoder.into_findings();
    let is_fault = |finding: &Fault| finding.severity == Severity::Fault;
    let faulty = findings.iter().any(is_fault);
    if let Some(configuration) = configuration.as_ref().filter(|_| names_known)
        && (!faulty || !configuration.policies.sources.is_empty())
    {
        let mut judged = vocabulary::judge(configuration);
        // What wrong policies amount to is not what is meant.
        if judged.iter().any(is_fault) {
            judged.retain(is_fault);
        }
        findings.extend(judged);
    }
    let faulty = findings.iter().any(is_fault);
    match configuration.zip(tree) {
        Some((mut configuration, tree)) if !faulty => {
            configuration.warnings = findings;
            let written = Written { tree, files: sources.documents() };
            (configuration.files, configuration.globs) = sources.into_looked_at();
            Ok((configuration, written))
        }
        _ => {
            if !faulty {
                findings.push(Fault::whole_file(path, "the configuration could not be read".to_owned()));
            }
            Err(Refused::new(findings, sources))
        }
    }
}

impl Decoder<'_> {
    /// The whole tree. What comes out is complete only when no fault was recorded.
    fn configuration(&mut self, path: &Path, tree: &node::Node) -> Option<Configuration> {
        let top = self.table(tree, &TOP)?;
        let state = top.get("state").and_then(|node| self.path(node));
        let state = state.unwrap_or_else(|| self.sources.beside(0, DEFAULT_STATE));
        let mut firewalls = waf::Firewalls::default();
        let waf = self.waf_default(top.get("waf"), &mut firewalls);
        let mut listeners = self.doubting(&top, "listen", |this| {
            this.required(&top, "listen").map(|node| this.listeners(node, &mut firewalls)).unwrap_or_default()
        });
        let dns_servers = self.dns(top.get("dns"));
        let mut services = self.services(top.get("services"));
        let is_map = |node: &node::Node| matches!(node.value, node::Value::Map(_) | node::Value::Nothing);
        if top.is_misspelt("services") || !top.get("services").is_none_or(is_map) {
            self.in_doubt.push("services");
        }
        let mut authentication = self
            .doubting(&top, "authentication", |this| this.authentication(top.get("authentication"), &state));
        self.session_service(&top, &authentication, &mut services);
        let mut policies = self.policies(top.get("policies"), top.get("policy"));
        policies.faulty |= top.is_misspelt("policies") || !self.is_whole;
        let before = self.count();
        let roles = self.roles(top.get("roles"));
        let roles_known = self.count() == before;
        let mut realms = self.doubting(&top, "realms", |this| this.realms(top.get("realms"), &roles));
        realms::of_members(&roles, &authentication.issuers, &mut realms);
        self.own_roles(top.get("authentication"), &realms, &mut authentication.issuers);
        let mut mesh = self.doubting(&top, "mesh", |this| this.mesh(top.get("mesh")));
        if let Some(mesh) = &mesh {
            self.mesh_services(top.get("mesh"), mesh, &mut services);
        }
        let has_realms = !realms.is_empty() || self.doubts(&["realms"]);
        self.own_service(&top, IDENTITY_SERVICE, has_realms, &mut services);
        self.own_service(&top, administration::ADMINISTRATION, has_realms, &mut services);
        let has_mesh = mesh.is_some() || self.doubts(&["mesh"]);
        self.own_service(&top, BUNDLE_SERVICE, has_mesh, &mut services);
        for node in std::mem::take(&mut self.listeners_to) {
            let _ = self.service_reference(&node, &services);
        }
        let needs_store = !realms.is_empty() || mesh.is_some();
        let routes = self.doubting(&top, "routes", |this| {
            this.all_routes(&top, &listeners, &services, &authentication, &policies, &mut firewalls)
        });
        self.waf_before_identity(waf, &listeners, &services, &routes, &mut firewalls);
        let routes_written = top.get("routes").map(|node| node.items().len());
        let names: HashSet<&str> = routes.iter().map(|route| route.name.as_str()).collect();
        self.names_known = roles_known
            && routes_written == Some(names.len())
            && !policies.faulty
            && !self.doubts(&["services", "destinations"]);
        self.default_audiences(&top, &routes, &mut authentication);
        self.realms_are_heard(&top, &realms, &routes, &authentication);
        self.realms_are_served(&top, &realms, &routes, &services);
        self.sessions_have_roles(&top, &realms, &roles, &authentication);
        self.sessions_come_back(&top, &authentication, &services, &routes);
        self.acme_around(&mut listeners, &routes);
        self.settle_mesh(mesh.as_mut(), &services);
        self.certificates_name_nobody_else(&top, &listeners, &routes, &authentication, mesh.as_ref());
        let limits = self.limits(top.get("limits"));
        self.bodies_fit(&top, &limits, &routes, &firewalls, &held::inherited(&listeners, waf));
        Some(Configuration {
            file: path.to_owned(),
            files: Vec::new(),
            globs: Vec::new(),
            workers: top.get("workers").and_then(|node| self.number(node, 1, 1_024)),
            listeners,
            admin: self.admin(top.get("admin")),
            authentication,
            roles,
            dns_servers,
            realms,
            mesh,
            services,
            routes,
            policies,
            identity: self.identity(top.get("identity")),
            limits,
            addresses: self.addresses(top.get("addresses")),
            security_headers: self.all_security_headers(&top),
            audit: self.audit(top.get("audit"), &state),
            storage: self.storage(top.get("storage"), &state, needs_store),
            telemetry: self.telemetry(top.get("telemetry")),
            firewalls: firewalls.into_loaded(),
            waf,
            lenient_heads: self.danger(
                &top,
                "danger_lenient_heads",
                "heads that other readers read differently are taken",
            ),
            state,
            warnings: Vec::new(),
        })
    }

    /// Lays the exclusions of the identity provider over the firewalls that routes to it meet.
    fn waf_before_identity(
        &mut self,
        waf: WafChoice,
        listeners: &[Listener],
        services: &[Service],
        routes: &[Route],
        firewalls: &mut waf::Firewalls,
    ) {
        let leading = routes.iter().filter(|route| leads_to_identity(route, services));
        let chosen: Vec<WafChoice> = leading.map(|route| route.waf).collect();
        if !chosen.is_empty() {
            let inherited = listeners.iter().map(|listener| listener.waf).chain([waf]);
            self.waf_on_identity(inherited.chain(chosen), firewalls);
        }
    }

    fn all_routes(
        &mut self,
        top: &Table<'_>,
        listeners: &[Listener],
        services: &[Service],
        authentication: &Authentication,
        policies: &Policies,
        firewalls: &mut waf::Firewalls,
    ) -> Vec<Route> {
        let api_keys = top.get("authentication").is_some_and(|node| node.has("api_keys"));
        let around = routes::Around { services, listeners, authentication, api_keys, policies };
        let node = self.required(top, "routes");
        self.routes(node, &around, firewalls)
    }

    /// A token for another audience is never accepted, so an audience there must be.
    fn default_audiences(&mut self, top: &Table<'_>, routes: &[Route], authentication: &mut Authentication) {
        let hosts = routes::exact_hosts(routes);
        for issuer in &mut authentication.issuers {
            if !issuer.audience.is_empty() {
                continue;
            }
            if hosts.is_empty() && !self.doubts(&["routes"]) {
                self.advise(
                    top.key_at("authentication"),
                    format!("no audience for tokens of {}: no route names an exact host", issuer.issuer),
                    "add authentication.audience",
                );
            }
            issuer.audience.clone_from(&hosts);
        }
    }

    fn all_security_headers(&mut self, top: &Table<'_>) -> Option<SecurityHeaders> {
        let what = "browsers are not told to protect the users";
        let danger = self.danger(top, "danger_no_security_headers", what);
        self.security_headers(top.get("security_headers"), danger)
    }
}

/// What the fuzzer calls: arbitrary bytes as the main file, nothing else on the disk.
/// Must never panic.
pub fn fuzz(bytes: &[u8]) {
    let main = Path::new("bastide.yaml");
    let files = Memory::new([(main.to_owned(), bytes.to_vec())]);
    let environment = |name: &str| (name.len() < 4).then(|| "value".to_owned());
    let _ = check_with(main, &environment, &files);
}

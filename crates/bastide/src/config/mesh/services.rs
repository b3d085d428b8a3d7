//! `mesh.services:`: who is reached by mutual TLS, and what is spoken with them.

use std::time::Duration;

use model::suggestion::nearest;

use super::super::decoder::Decoder;
use super::super::node::{Name, Node, Value};
use super::super::resilience::{self, HealthCheck, HealthKind};
use super::super::schema::{Section, key};
use super::super::services::{Protocol, Service, TIMEOUTS_DEFAULT, Timeouts};
use super::super::values::{self, Unfit};
use super::Mesh;

/// How long opaque connections may be silent, where nothing is said: databases keep theirs.
const OPAQUE_IDLE_DEFAULT: Duration = Duration::from_secs(3600);

/// What a service of the mesh speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoken {
    /// What the first bytes of each connection say: HTTP, or anything.
    #[default]
    Detect,
    /// HTTP, with the program by HTTP/1.1.
    Http,
    /// HTTP, with the program by HTTP/2 with prior knowledge: gRPC.
    Http2,
    /// Anything: its connections are opaque.
    Tcp,
}

/// How a service of the mesh is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By mutual TLS alone.
    #[default]
    Strict,
    /// By mutual TLS, and without TLS, which is reported.
    Permissive,
}

/// The word for those that register where they are.
const REGISTRY: &str = "registry";
const SPOKEN: &[(&str, Spoken)] =
    &[("detect", Spoken::Detect), ("http", Spoken::Http), ("http2", Spoken::Http2), ("tcp", Spoken::Tcp)];
/// The key that has policies only tried.
const DRY_RUN: &str = "danger_dry_run";
const MODES: &[(&str, Mode)] = &[("strict", Mode::Strict), ("permissive", Mode::Permissive)];

pub(in super::super) const SERVICE: Section = Section {
    path: "mesh.services.NAME",
    about: "A service of the mesh.",
    short: "its addresses: `orders: 10.0.0.5:7001`, a list of these, or `registry`",
    keys: &[
        key(
            "at",
            "host:port, list of these, or `registry`",
            "",
            "Where it listens for mutual TLS. `registry`: wherever its own instances say; each `bastide run` of it registers its address at the control plane, and callers follow.",
        ),
        key(
            "id",
            "path such as /ns/shop/orders",
            "the service's name",
            "The workload that has to answer there.",
        ),
        key(
            "protocol",
            "detect, http, http2 or tcp",
            "detect",
            "What is spoken with it. `tcp`: its connections are opaque, and nothing of them is read; a database or a broker. `http2`: its program speaks HTTP/2 with prior knowledge, as gRPC does. `detect`: HTTP if a connection begins with it or negotiates it by ALPN, opaque otherwise.",
        ),
        key(
            "mode",
            "strict or permissive",
            "strict",
            "`permissive`: its `bastide run` also accepts callers without TLS, as `Anonymous`, and reports them in log, metrics and audit. For migrations.",
        ),
        key(
            "danger_plain_text",
            "true or false",
            "false",
            "No TLS at all: neither callers nor the service prove who they are.",
        ),
        key(
            "timeouts",
            "map",
            "those of services; `idle` 1h with `protocol: tcp`",
            "Timeouts. Its `bastide run` applies them too.",
        ),
        resilience::RETRIES,
        resilience::BALANCE,
        resilience::HEALTH_KEY,
        resilience::EJECT_KEY,
        resilience::BREAKER_KEY,
        resilience::RETRY_BUDGET_KEY,
        resilience::CONNECTIONS_PER_CORE_MAX,
        resilience::CONNECTIONS_MAX,
        resilience::WAITING_MAX,
        key(
            DRY_RUN,
            "true or false",
            "false",
            "At this service policies are evaluated but not enforced: what they would deny passes, and its event says why it would have been denied.",
        ),
    ],
};

/// A service of the mesh, as a file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub spoken: Spoken,
    /// How it is reached.
    pub mode: Mode,
    /// Whether it is reached without TLS.
    pub plain_text: bool,
    /// Whether it is wherever its instances register.
    pub registry: bool,
    /// Its timeouts, as they are written.
    pub timeouts: Vec<(String, String)>,
    /// The path of the workload that it has to be, when that is not its name.
    pub id: Option<String>,
    /// Whether policies are only tried by its proxy.
    pub dry_run: bool,
}

impl Declared {
    /// One of which nothing is said.
    pub fn new(name: &str) -> Self {
        let (spoken, mode) = (Spoken::default(), Mode::default());
        Self {
            name: name.to_owned(),
            spoken,
            mode,
            plain_text: false,
            registry: false,
            timeouts: Vec::new(),
            id: None,
            dry_run: false,
        }
    }
}

impl Decoder<'_> {
    /// What the rest of the configuration makes of the mesh: whether the gateway is a member, and
    /// whose addresses it looks up.
    pub(in super::super) fn settle_mesh(&mut self, mesh: Option<&mut Mesh>, services: &[Service]) {
        match (mesh, self.mesh_at) {
            (Some(mesh), at) => {
                mesh.is_member = at.is_some();
                let looked_up = services.iter().filter(|service| service.registry);
                mesh.looked_up = looked_up.filter_map(|service| service.tls.mesh.clone()).collect();
            }
            (None, Some(at)) => self.advise(at, "there is no mesh", "write mesh: TRUST-DOMAIN"),
            (None, None) => {}
        }
    }

    /// `mesh.services:` as services, those aside that `services:` has too.
    pub(in super::super) fn mesh_services(
        &mut self,
        node: Option<&Node>,
        mesh: &Mesh,
        services: &mut Vec<Service>,
    ) {
        let Some(node) = node.filter(|node| node.text().is_none()) else { return };
        let Some(table) = self.table(node, &super::MESH) else { return };
        let Some(node) = table.get("services") else { return };
        let all = self.named(node, "a map of services");
        let names: Vec<&str> = all.iter().map(|(name, _)| name.text.as_str()).collect();
        for (name, node) in all {
            let service = self.mesh_service(name, node, mesh);
            self.workload_of(name, mesh, &names);
            if services.iter().all(|known| known.name != name.text) {
                services.extend(service);
            }
        }
    }

    /// Warns of a service that no workload is called like, where one that is no service is called nearly so.
    fn workload_of(&mut self, name: &Name, mesh: &Mesh, services: &[&str]) {
        let workloads = || mesh.workloads.list.iter().map(|workload| workload.name.as_str());
        if workloads().any(|workload| workload == name.text) {
            return;
        }
        let others = workloads().filter(|workload| !services.contains(workload));
        if let Some(near) = nearest(&name.text, others) {
            let message =
                format!("no workload of the mesh is called {:?}: nobody gets its identity", name.text);
            self.warn(name.at, message, format!("did you mean {near:?} of mesh.workloads?"));
        }
    }

    fn mesh_service(&mut self, name: &Name, node: &Node, mesh: &Mesh) -> Option<Service> {
        if let Err(unfit) = values::name(&name.text) {
            self.fault(name.at, format!("expected {}, found {:?}", unfit.expected, name.text));
        }
        let table = match node.value {
            Value::Map(_) => Some(self.table(node, &SERVICE)?),
            _ => None,
        };
        let get = |key: &str| table.as_ref().and_then(|table| table.get(key));
        let places = match &table {
            Some(table) => self.required(table, "at")?,
            None => node,
        };
        let path = get("id").and_then(|node| self.text(node)).unwrap_or(&name.text);
        let id = match mesh.settings.workload(path) {
            Ok(id) => id,
            Err(error) => {
                self.fault(node.at, error.to_string());
                return None;
            }
        };
        let (at, registry) = (places.at, places.text() == Some(REGISTRY));
        let places = if registry { Vec::new() } else { self.values(places, place) };
        if places.is_empty() && !registry {
            self.expected(node, "at least one address such as 10.0.0.5:7001");
        }
        self.mesh_at.get_or_insert(name.at);
        let spoken = get("protocol").and_then(|node| self.word(node, "protocol", SPOKEN)).unwrap_or_default();
        let mode = get("mode").and_then(|node| self.word(node, "mode", MODES)).unwrap_or_default();
        let what = "anybody on the network path can read and change what is sent, and anybody can send it";
        let plain = table.as_ref().is_some_and(|table| self.danger(table, "danger_plain_text", what));
        if registry && plain {
            self.fault(at, "an address of the registry is trusted for its certificate alone, and with `danger_plain_text` there is none");
        }
        if let Some(table) = &table {
            self.danger(table, DRY_RUN, "what policies deny goes on, at the service's proxy");
        }
        if mode == Mode::Permissive {
            let at = table.as_ref().map_or(node.at, |table| table.key_at("mode"));
            if plain {
                self.fault(at, "with `danger_plain_text` there is no TLS that `mode` could speak of");
            }
            let what = "callers without TLS are taken, as Anonymous";
            self.warn(at, format!("mode: permissive: {what}"), "mode: strict, once nobody calls so any more");
        }
        let mut service = Service::of_mesh(&name.text, places, id);
        let idle = if spoken == Spoken::Tcp { OPAQUE_IDLE_DEFAULT } else { TIMEOUTS_DEFAULT.idle };
        service.timeouts = self.timeouts(get("timeouts"), Timeouts { idle, ..TIMEOUTS_DEFAULT });
        if let Some(table) = &table {
            self.bears(table, &mut service);
            let is_tcp =
                matches!(&service.resilience.health, None | Some(HealthCheck { kind: HealthKind::Tcp, .. }));
            if spoken == Spoken::Tcp && !is_tcp {
                let message = format!("{} is spoken to by `protocol: tcp`, and a check by HTTP", name.text);
                self.advise(table.key_at("health"), message, "health: { tcp: true }");
            }
        }
        if plain {
            service.endpoints.iter_mut().for_each(|endpoint| endpoint.tls = false);
            service.tls.mesh = None;
            service.protocol = if spoken == Spoken::Http2 { Protocol::Http2 } else { Protocol::Http1 };
        }
        Some(service)
    }
}

/// What stands under `mesh.services`, as far as it can be read; what cannot is a fault when
/// the whole is loaded.
pub(in super::super) fn declared(tree: &Node) -> Vec<Declared> {
    let services = below(tree, "mesh").and_then(|mesh| below(mesh, "services"));
    let Some(Value::Map(entries)) = services.map(|services| &services.value) else { return Vec::new() };
    entries.iter().map(|(name, node)| one(&name.text, node)).collect()
}

fn one(name: &str, node: &Node) -> Declared {
    let text = |key: &str| below(node, key).and_then(Node::text);
    let mut timeouts = Vec::new();
    if let Some(Value::Map(entries)) = below(node, "timeouts").map(|node| &node.value) {
        let written =
            entries.iter().filter_map(|(key, node)| Some((key.text.clone(), node.text()?.to_owned())));
        timeouts.extend(written);
    }
    let spoken = word(text("protocol"), SPOKEN);
    if spoken == Spoken::Tcp && timeouts.iter().all(|(key, _)| key != "idle") {
        timeouts.push(("idle".to_owned(), format!("{}s", OPAQUE_IDLE_DEFAULT.as_secs())));
    }
    Declared {
        name: name.to_owned(),
        spoken,
        mode: word(text("mode"), MODES),
        plain_text: text("danger_plain_text") == Some("true"),
        registry: node.text().or_else(|| text("at")) == Some(REGISTRY),
        timeouts,
        id: text("id").map(str::to_owned),
        dry_run: text(DRY_RUN) == Some("true"),
    }
}

fn word<T: Copy + Default>(written: Option<&str>, words: &[(&str, T)]) -> T {
    let known = words.iter().find(|(word, _)| Some(*word) == written);
    known.map(|(_, value)| *value).unwrap_or_default()
}

fn below<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|(name, _)| name.text == key).map(|(_, node)| node),
        _ => None,
    }
}

/// Host and port.
fn place(text: &str) -> Result<(String, u16), Unfit> {
    const EXPECTED: &str = "an address such as 10.0.0.5:7001 or orders.internal:7001, or `registry`";
    let near = nearest(text, std::iter::once(REGISTRY)).map(str::to_owned);
    let unfit = || Unfit { expected: EXPECTED, instead: near.clone() };
    let (host, port) = text.rsplit_once(':').ok_or_else(unfit)?;
    let port: u16 = port.parse().map_err(|_| unfit())?;
    if port == 0 {
        return Err(unfit());
    }
    Ok((values::host(host)?, port))
}

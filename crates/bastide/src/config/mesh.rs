//! `mesh:`: the trust domain, who signs in it, and which workloads are known.

pub(super) mod services;
pub(super) mod workloads;

use std::path::PathBuf;
use std::sync::Arc;

use keys::{LocalSigner, SystemRandom};
use mesh::bundle::{BUNDLE_BYTES_MAX, FOREIGN_BYTES_MAX};
use mesh::directory::LocalAddress;
use mesh::workload::{Workload, Workloads};
use mesh::{Anchor, Bundle, Declared, Given, Settings};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::decoder::{Decoder, Table};
use super::node::{Name, Node};
use super::pem;
use super::schema::{Section, key};
use super::values::Unfit;

pub(super) mod agents;

pub use agents::Agents;
use workloads::own_workload;
pub use workloads::{NewWorkload, registered};

/// Who `bastide serve` is, when nothing else is said.
const IDENTITY_DEFAULT: &str = "gateway";

/// The service that routes to the bundle endpoint name.
pub const BUNDLE_SERVICE: &str = "bundle";

/// The mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Mesh {
    /// The trust domain.
    pub settings: Settings,
    /// Where the Workload API listens; `None`: nowhere.
    pub socket: Option<PathBuf>,
    /// Who is known.
    pub workloads: Workloads,
    /// Whom we trust besides.
    pub partners: Vec<Partner>,
    /// Who this process is.
    pub identity: Workload,
    /// Whether something needs that.
    pub is_member: bool,
    /// Where agents of other nodes are served; `None`: nowhere.
    pub agents: Option<Agents>,
    /// The workloads that are looked up in the registry.
    pub looked_up: Vec<model::SpiffeId>,
}

impl Mesh {
    /// Whom the administration cannot register besides.
    pub fn declared(&self) -> Declared {
        let listen = self.agents.as_ref().map(|agents| agents.listen.ip());
        let listen = listen.filter(|address| !address.is_unspecified());
        Declared {
            workloads: self.workloads.clone(),
            own: Some(self.identity.id.clone()),
            here: listen.map_or(LocalAddress::ByRoute, LocalAddress::At),
        }
    }
}

/// Another trust domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Partner {
    /// Its name.
    pub trust_domain: String,
    /// Where its bundle is published; `None`: the file is all there is.
    pub endpoint: Option<String>,
    /// Who its bundle endpoint has to prove to be, when that is a workload of its own.
    pub endpoint_id: Option<model::SpiffeId>,
    /// PEM certificates that its endpoint's has to lead to; `None`: the public ones.
    pub ca: Option<(PathBuf, Vec<u8>)>,
    /// Whether the endpoint may be at a private address.
    pub allow_private_addresses: bool,
    /// The bundle that is trusted until the endpoint has answered.
    pub bundle: Option<Bundle>,
}

pub(super) const MESH: Section = Section {
    path: "mesh",
    about: "The mesh: an identity for every service. The certificate authority of a SPIFFE trust domain, kept in the store, and the Workload API from which processes get their certificates and tokens. A route with `to: bundle` publishes what others verify them with.",
    short: "the trust domain as a text: `mesh: shop.example`",
    keys: &[
        key("trust_domain", "name such as shop.example", "", "The SPIFFE trust domain."),
        key(
            "socket",
            "path",
            "none",
            "The Unix socket of the SPIFFE Workload API and Envoy's SDS. The workloads need access to its folder.",
        ),
        key(
            "authority",
            "`issuing`, `root`, or map",
            "issuing",
            "What verifiers trust: `issuing`, each issuing authority of a day; `root`, a root of its own that signs them; or an authority that you provide.",
        ),
        key("lifetimes", "map", "see there", "How long issued documents last."),
        key(
            "identity",
            "path such as /gateway",
            "gateway",
            "The workload that this process is: the identity it presents to services of the mesh and at listeners with `tls: { mesh: true }`.",
        ),
        key(
            "services",
            "map of service name to map, address or list",
            "none",
            "Services that are reached by mutual TLS, with their workloads verified. Routes name them like those under `services:`; one of the same name there takes precedence.",
        ),
        key("workloads", "map of workload name to map", "none", "Which processes have an identity."),
        key("federates", "map of trust domain to map", "none", "Other trust domains that are trusted."),
        key("agents", "address or map", "none", "The listener for agents of other nodes."),
    ],
};

pub(super) const AUTHORITY: Section = Section {
    path: "mesh.authority",
    about: "An authority of your own that signs the issuing authorities. Bundles contain the last certificate of its chain.",
    short: "`issuing` or `root`",
    keys: &[
        key("cert", "path of a PEM file", "", "Its certificate, then its issuers, the root last."),
        key(
            "key",
            "path of a PEM file",
            "",
            "Its key as PKCS #8: P-256, Ed25519, or RSA of 2048 bits or more.",
        ),
    ],
};

pub(super) const LIFETIMES: Section = Section {
    path: "mesh.lifetimes",
    about: "How long issued documents last. Everything is renewed at half its lifetime.",
    short: "",
    keys: &[
        key("root", "duration", "3650d", "The root, with `authority: root`."),
        key(
            "authority",
            "duration",
            "1d",
            "An issuing authority, and a key for tokens. The next is published at half of it and signs from five sixths on.",
        ),
        key("x509_svid", "duration", "1h", "A certificate: at most a sixth of `authority`."),
        key("jwt_svid", "duration", "5m", "A token: at most a sixth of `authority`."),
    ],
};

pub(super) const PARTNER: Section = Section {
    path: "mesh.federates.NAME",
    about: "Another trust domain, and where its bundle comes from.",
    short: "the URL of its bundle endpoint as a text",
    keys: &[
        key("endpoint", "https:// URL", "none", "Where it publishes its bundle."),
        key(
            "endpoint_id",
            "SPIFFE ID",
            "none",
            "The endpoint proves itself by this SPIFFE ID under the bundle that is trusted so far (`https_spiffe`), not by its host name (`https_web`).",
        ),
        key(
            "ca",
            "path of a PEM file",
            "the public authorities",
            "Authorities that have to have issued the endpoint's certificate.",
        ),
        key(
            "allow_private_addresses",
            "true or false",
            "false",
            "Allows the endpoint to be at a private or loopback address.",
        ),
        key(
            "bundle",
            "path of a JSON file",
            "none",
            "The bundle that is trusted until the endpoint has answered.",
        ),
    ],
};

impl Decoder<'_> {
    /// `mesh:`
    pub(super) fn mesh(&mut self, node: Option<&Node>) -> Option<Mesh> {
        let node = node?;
        let mut mesh = Mesh {
            settings: Settings::new(String::new()),
            socket: None,
            workloads: Workloads::default(),
            partners: Vec::new(),
            identity: own_workload("spiffe://unknown/gateway".parse().ok()?),
            is_member: false,
            agents: None,
            looked_up: Vec::new(),
        };
        if let Some(text) = node.text() {
            let never = "remove it: without mesh there is none";
            if self.is_switch(
                node,
                "a trust domain",
                "write a name of your own such as mesh: shop.example",
                never,
            ) {
                return None;
            }
            text.clone_into(&mut mesh.settings.trust_domain);
            self.check_mesh(node, &mesh.settings);
            mesh.identity = own_workload(mesh.settings.workload(IDENTITY_DEFAULT).ok()?);
            return Some(mesh);
        }
        let table = self.table(node, &MESH)?;
        let name = self.required(&table, "trust_domain")?;
        self.text(name)?.clone_into(&mut mesh.settings.trust_domain);
        mesh.socket = table.get("socket").and_then(|node| self.path(node));
        if let Some(anchor) =
            table.get("authority").and_then(|node| self.mesh_authority(node, &mesh.settings))
        {
            mesh.settings.anchor = anchor;
        }
        if let Some(table) = table.get("lifetimes").and_then(|node| self.table(node, &LIFETIMES)) {
            self.mesh_lifetimes(&table, &mut mesh.settings.lifetimes);
        }
        self.check_mesh(name, &mesh.settings);
        let (at, own) = match table.get("identity") {
            Some(node) => (node.at, self.text(node)?),
            None => (name.at, IDENTITY_DEFAULT),
        };
        match mesh.settings.workload(own) {
            Ok(id) => mesh.identity = own_workload(id),
            Err(error) => self.fault(at, error.to_string()),
        }
        if let Some(node) = table.get("workloads") {
            mesh.workloads.list = self.workloads(node, &mesh.settings);
        }
        if let Some(node) = table.get("federates") {
            for (name, node) in self.named(node, "a map of trust domains") {
                mesh.partners.extend(self.partner(name, node, &mesh.settings));
            }
            let bundles = mesh.partners.iter().filter_map(|partner| partner.bundle.as_ref());
            let bytes: usize = bundles.map(Bundle::bytes).sum();
            if bytes > FOREIGN_BYTES_MAX {
                let most =
                    format!("all bundles together have {bytes} bytes, expected at most {FOREIGN_BYTES_MAX}");
                self.fault(node.at, most);
            }
        }
        mesh.agents = table.get("agents").and_then(|node| self.mesh_agents(node));
        Some(mesh)
    }

    fn check_mesh(&mut self, node: &Node, settings: &Settings) {
        if let Err(error) = settings.check() {
            self.fault(node.at, error.to_string());
        }
    }

    fn mesh_authority(&mut self, node: &Node, settings: &Settings) -> Option<Anchor> {
        if node.text().is_some() {
            let rooted = self.word(node, "authority", &[("issuing", false), ("root", true)])?;
            return Some(if rooted { Anchor::Root } else { Anchor::Issuing });
        }
        let table = self.table(node, &AUTHORITY)?;
        let certificate = self.required(&table, "cert")?;
        let key = self.required(&table, "key")?;
        let (_, chain) = self.file(certificate, pem::BYTES_MAX)?;
        let (_, secret) = self.file(key, pem::BYTES_MAX)?;
        let chain: Vec<Vec<u8>> = match pem::certificates(&chain) {
            Ok(list) => list.iter().map(|der| der.to_vec()).collect(),
            Err(message) => {
                self.fault(certificate.at, message);
                return None;
            }
        };
        let signer = match PrivateKeyDer::from_pem_slice(&secret) {
            Ok(PrivateKeyDer::Pkcs8(document)) => LocalSigner::from_pkcs8(document.secret_pkcs8_der()).ok(),
            _ => None,
        };
        let Some(signer) = signer else {
            self.fault(key.at, "expected a PEM file with a P-256, Ed25519 or RSA key as PKCS #8");
            return None;
        };
        let signer: Arc<dyn keys::Signer> = Arc::new(signer);
        let own = chain.first().cloned().unwrap_or_default();
        if let Err(error) = keys::svid::X509Authority::from_parts(own, Arc::clone(&signer)) {
            self.fault(certificate.at, error.to_string());
            return None;
        }
        let given = Given { chain, signer };
        // Of a name that is none, that is said.
        if settings.check().is_ok()
            && let Err(error) = given.check(&settings.trust_domain, &SystemRandom::new())
        {
            self.fault(certificate.at, error.to_string());
            return None;
        }
        Some(Anchor::Given(given))
    }

    fn mesh_lifetimes(&mut self, table: &Table<'_>, lifetimes: &mut mesh::Lifetimes) {
        for (key, place) in [
            ("root", &mut lifetimes.root),
            ("authority", &mut lifetimes.authority),
            ("x509_svid", &mut lifetimes.x509_svid),
            ("jwt_svid", &mut lifetimes.jwt_svid),
        ] {
            let written = table.get(key);
            let least = mesh::settings::LIFETIME_MIN;
            if let Some(found) = written.and_then(|node| self.duration(node, least)) {
                *place = found;
            }
        }
    }

    fn partner(&mut self, name: &Name, node: &Node, own: &Settings) -> Option<Partner> {
        let trust_domain = name.text.clone();
        if let Err(error) = Settings::new(trust_domain.as_str()).check() {
            self.fault(name.at, error.to_string());
            return None;
        }
        if trust_domain == own.trust_domain {
            self.fault(name.at, format!("{trust_domain:?} is the own trust domain"));
            return None;
        }
        let mut partner = Partner {
            trust_domain,
            endpoint: None,
            endpoint_id: None,
            ca: None,
            allow_private_addresses: false,
            bundle: None,
        };
        if node.text().is_some() {
            partner.endpoint = Some(self.value(node, endpoint)?);
            return Some(partner);
        }
        let table = self.table(node, &PARTNER)?;
        partner.endpoint = table.get("endpoint").and_then(|node| self.value(node, endpoint));
        partner.ca = table.get("ca").and_then(|node| self.file(node, pem::BYTES_MAX));
        let private = table.get("allow_private_addresses").and_then(|node| self.boolean(node));
        partner.allow_private_addresses = private == Some(true);
        if let Some(node) = table.get("bundle") {
            let (_, document) = self.file(node, BUNDLE_BYTES_MAX)?;
            match Bundle::parse(&partner.trust_domain, &document) {
                Ok(bundle) => partner.bundle = Some(bundle),
                Err(error) => self.fault(node.at, error.to_string()),
            }
        }
        if let Some(node) = table.get("endpoint_id") {
            let id = self.text(node)?.parse::<model::SpiffeId>();
            match id {
                Ok(id) if id.trust_domain() != partner.trust_domain => {
                    let own = &partner.trust_domain;
                    let said = format!(
                        "expected a SPIFFE ID of {own}, whose bundle verifies the endpoint, found {id}"
                    );
                    self.fault(node.at, said);
                }
                Ok(id) => partner.endpoint_id = Some(id),
                Err(error) => self.fault(node.at, error.to_string()),
            }
            if partner.bundle.is_none() {
                self.fault(
                    node.at,
                    "`endpoint_id` needs `bundle`: what the endpoint is verified with at first",
                );
            }
            if partner.ca.is_some() {
                self.fault(
                    table.key_at("ca"),
                    "`ca` and `endpoint_id` are two ways to verify the endpoint; keep one",
                );
            }
        }
        if partner.endpoint.is_none() && partner.bundle.is_none() {
            self.advise(
                name.at,
                format!("nothing says what to trust of {:?}", partner.trust_domain),
                "give its `endpoint` or its `bundle`",
            );
        }
        Some(partner)
    }
}

fn endpoint(text: &str) -> Result<String, Unfit> {
    let fits = text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let expected = "an address such as https://partner.example/bundle";
    if fits { Ok(text.to_owned()) } else { Err(Unfit { expected, instead: None }) }
}

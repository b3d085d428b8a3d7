//! `listen:` and `admin:`: the sockets.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::acme::Acme;
use super::decoder::Decoder;
use super::node::Node;
use super::pem;
use super::schema::{Section, key};
use super::values::{self, Unfit};
use super::waf::{Firewalls, WafChoice};

/// One public listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where it listens. Port 0: the system picks.
    pub address: SocketAddr,
    /// `None`: cleartext.
    pub tls: Option<ListenerTls>,
    /// Peers whose `Forwarded` and `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Its firewall.
    pub waf: WafChoice,
    /// Peers that begin each connection with a PROXY protocol header.
    pub proxy_protocol: Vec<IpNet>,
    /// All that it does is to send requests to https on this port, and to answer http-01.
    pub https_redirect: Option<u16>,
    /// The one service that it is for.
    pub to: Option<String>,
    /// What its clients speak.
    pub speaks: Speaks,
    /// Whether it is the outbound proxy of `bastide run`, which leads to other services alone.
    pub is_outbound: bool,
}

impl Listener {
    /// Whether its clients may or must present a certificate.
    pub fn asks_clients(&self) -> bool {
        let is_mesh = |tls: &ListenerTls| matches!(tls.certificates, Certificates::Mesh);
        let asks =
            |tls: &ListenerTls| tls.client.is_some() || (is_mesh(tls) && !publishes(self.to.as_deref()));
        self.tls.as_ref().is_some_and(asks)
    }
}

/// Whether a listener for this service is there for the bundle alone, which is anybody's to read:
/// whoever fetches it verifies us by what they know already, and has no certificate that we could
/// verify before we know theirs (SPIFFE Federation §5.2.2).
fn publishes(to: Option<&str>) -> bool {
    to == Some(super::BUNDLE_SERVICE)
}

/// What the clients of a listener speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP.
    #[default]
    Http,
    /// Anything: connections are opaque.
    Tcp,
    /// What each connection begins with.
    Detect,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// What the server proves.
    pub certificates: Certificates,
    /// Whether clients may or must prove something too.
    pub client: Option<ClientCertificates>,
    /// The oldest accepted version.
    pub version_min: TlsVersion,
    /// Whether clients without TLS are taken besides, and reported.
    pub plain_text: bool,
}

/// Where a listener's certificates come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Certificates {
    /// From a certificate authority in the state folder, made on first use, for the
    /// hosts of the routes, `localhost` and the loopback addresses.
    Local,
    /// From files, never empty. Chosen by server name; the first is the default.
    Files(Vec<CertificateFiles>),
    /// Ordered from an ACME server. Handshakes for names without one are refused.
    Acme(Acme),
    /// This process' own in the mesh. Clients have to be workloads of a trusted domain, unless all
    /// that is there is the bundle ([`Listener::asks_clients`]).
    Mesh,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// Client certificates at a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCertificates {
    /// Who may have issued them.
    pub authorities: ClientAuthorities,
    /// Whether the handshake fails without one.
    pub required: bool,
    /// PEM files with certificate revocation lists (RFC 5280 §5).
    pub revocations: Vec<PathBuf>,
    /// What is put in front of the name that makes a `Client`, where it is said.
    pub prefix: Option<String>,
}

/// Whose client certificates are accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuthorities {
    /// Those of the authority in the state folder.
    Local,
    /// Those of the authorities in this PEM file.
    File(PathBuf),
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246
    Tls12,
    /// RFC 8446
    Tls13,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens: loopback, unless `danger_admin_not_loopback: true`.
    pub address: SocketAddr,
}

pub(super) const LISTEN: Section = Section {
    path: "listen[]",
    about: "One public listener.",
    short: "the address as a text: `listen: [ 127.0.0.1:8080 ]`",
    keys: &[
        key(
            "address",
            "address:port",
            "",
            "Where it listens. Port 0: the system picks one, which is printed at start.",
        ),
        key("tls", "map", "cleartext", "TLS of this listener."),
        key(
            "trusted_proxies",
            "list of addresses and networks",
            "nobody",
            "Peers whose `Forwarded` and `X-Forwarded-*` are believed; from all others these headers are dropped.",
        ),
        key(
            "waf",
            "map, path or `off`",
            "the default's",
            "The firewall of this listener, which overrides the default.",
        ),
        key(
            "proxy_protocol",
            "list of addresses and networks",
            "nobody",
            "Peers that begin each connection with a PROXY protocol header (version 1 or 2), which is believed. A connection of theirs without it is closed; all others are served under their own address.",
        ),
        key(
            "https_redirect",
            "true or port",
            "false",
            "For port 80: serves no route, but sends every request to https on this port (443) with 308, and answers http-01. Only without `tls`.",
        ),
        key(
            "to",
            "service name",
            "every service",
            "The only service that it serves: requests whose route leads elsewhere are refused. Opaque connections appear as `CONNECT` to this name.",
        ),
        key(
            "protocol",
            "http, tcp or detect",
            "http",
            "What clients speak. `tcp`: each connection is opaque, nothing of it is read, and routes and policies see the method `CONNECT` and no path. `detect`: HTTP if a connection begins with it or negotiates it by ALPN; opaque otherwise, and if a client sends nothing for 200 ms.",
        ),
    ],
};

pub(super) const TLS: Section = Section {
    path: "listen[].tls",
    about: "TLS of a listener: exactly one of `local`, `certificates`, `acme` and `mesh`.",
    short: "",
    keys: &[
        key(
            "local",
            "true",
            "one of `local`, `certificates`, `acme`, `mesh`",
            "Certificates from an authority in the state folder, made on first use. For development.",
        ),
        key(
            "certificates",
            "list of maps",
            "one of `local`, `certificates`, `acme`, `mesh`",
            "Certificates from files, chosen by server name; the first is the default. Read again when they change.",
        ),
        key(
            "acme",
            "mail address or map",
            "one of `local`, `certificates`, `acme`, `mesh`",
            "Certificates that are ordered from an ACME server, Let's Encrypt by default, and renewed. Handshakes for other names, and for those that have no certificate yet, are refused.",
        ),
        key(
            "mesh",
            "true",
            "one of `local`, `certificates`, `acme`, `mesh`",
            "The certificate of this process in the mesh. Clients have to present that of a workload of a trusted domain; routes accept it with `authenticate: mtls`. With `to: bundle` nobody has to: other trust domains verify the bundle endpoint by its SPIFFE ID (`https_spiffe`), and have no certificate that is trusted here yet.",
        ),
        key(
            "plain_text",
            "true or false",
            "false",
            "With `mesh`: also accepts clients without TLS, as `Anonymous`, and reports them in log, metrics and audit. For migrations: a warning at every start.",
        ),
        key("client", "map", "none are asked for", "Client certificates."),
        key("min_version", "1.2 or 1.3", "1.2", "The oldest TLS version that is accepted."),
    ],
};

pub(super) const CERTIFICATE: Section = Section {
    path: "listen[].tls.certificates[]",
    about: "A certificate and its key. The same two keys are used in `services.NAME.tls.client`.",
    short: "",
    keys: &[
        key("cert", "path", "", "PEM chain, leaf first."),
        key("key", "path", "", "PEM private key, readable only by its owner."),
    ],
};

pub(super) const CLIENT: Section = Section {
    path: "listen[].tls.client",
    about: "Client certificates at a listener.",
    short: "",
    keys: &[
        key(
            "ca",
            "path or `local`",
            "",
            "PEM file of the authorities that may have issued them; `local`: the authority in the state folder.",
        ),
        key(
            "crl",
            "path or list of paths",
            "nothing is revoked",
            "PEM files with certificate revocation lists. If there are any, every authority of a chain needs one that is not past its `nextUpdate`. Read again when they change; open connections with revoked certificates are then closed.",
        ),
        key("mode", "optional or required", "optional", "Whether the handshake fails without one."),
        key(
            "prefix",
            "text",
            "none",
            "What is put in front of a certificate's name: `partner/` makes `CN=reports` the principal `Client::\"partner/reports\"`. Required where a route takes `mtls` and the clients of an issuer could have the same names; `\"\"` says that they are meant.",
        ),
    ],
};

/// The admin listener's port where none is configured.
const ADMIN_PORT: u16 = 9901;

pub(super) const ADMIN: Section = Section {
    path: "admin",
    about: "The admin listener, for this machine's own tools: `/metrics`, `/healthz`, `/readyz`, `/undocumented`, and the identity token's keys at `/.well-known/bastide/jwks.json`. It changes nothing. Users, clients and keys are administered elsewhere: docs/administration.md.",
    short: "the address as a text: `admin: 127.0.0.1:9901`",
    keys: &[
        key(
            "address",
            "address:port",
            "127.0.0.1:9901",
            "Where it listens. It has no authentication, so it must be loopback.",
        ),
        key(
            "danger_admin_not_loopback",
            "true or false",
            "false",
            "Lets the admin listener be reached from other machines.",
        ),
    ],
};

const SPEAKS: &[(&str, Speaks)] = &[("http", Speaks::Http), ("tcp", Speaks::Tcp), ("detect", Speaks::Detect)];

const INSTEAD: &str = "use acme: MAIL-ADDRESS, certificates: [ {cert: chain.pem, key: key.pem} ], or local: true for development";

fn port(text: &str) -> Result<Option<u16>, Unfit> {
    match text {
        "true" => Ok(Some(443)),
        "false" => Ok(None),
        _ => match text.parse() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(Unfit { expected: "true, or a port such as 443", instead: None }),
        },
    }
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Unfit> {
    text.parse().map_err(|_| Unfit {
        expected: "an IP address with port such as 0.0.0.0:8443 or [::]:8443",
        instead: address_meant(text, 8443).map(|address| address.to_string()),
    })
}

/// The same of the admin listener, which is for this machine alone.
fn admin_address(text: &str) -> Result<SocketAddr, Unfit> {
    text.parse().map_err(|_| {
        let meant = address_meant(text, ADMIN_PORT).map(|address| match address.ip().is_loopback() {
            true => address,
            false => SocketAddr::from(([127, 0, 0, 1], address.port())),
        });
        let instead = meant.map(|address| address.to_string());
        Unfit { expected: "a loopback address with port such as 127.0.0.1:9901 or [::1]:9901", instead }
    })
}

/// The address that was probably meant by one without port, a port alone, or the name of this machine.
fn address_meant(text: &str, port: u16) -> Option<SocketAddr> {
    // Without brackets the port reads as the last group of an address of IPv6.
    if let Some((ip, port)) = text.rsplit_once(':').filter(|(_, port)| port.len() > 3)
        && let (Ok(ip), Ok(port)) = (ip.parse::<Ipv6Addr>(), port.parse())
    {
        return Some(SocketAddr::new(ip.into(), port));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, port));
    }
    let port = match text.strip_prefix("localhost").unwrap_or(text) {
        "" => port,
        rest => rest.strip_prefix(':').unwrap_or(rest).parse().ok()?,
    };
    Some(SocketAddr::from(([127, 0, 0, 1], port)))
}

impl Decoder<'_> {
    /// `listen:`
    pub(super) fn listeners(&mut self, node: &Node, firewalls: &mut Firewalls) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = Vec::new();
        for item in node.items() {
            let listener = self.listener(item, firewalls);
            let acme = self.acme_seen.take();
            let Some(listener) = listener else { continue };
            self.acme_at.extend(acme.map(|at| (listeners.len(), at)));
            let taken =
                listener.address.port() != 0 && listeners.iter().any(|l| l.address == listener.address);
            if taken {
                self.fault(item.at, format!("two listeners on {}", listener.address));
            }
            listeners.push(listener);
        }
        if listeners.is_empty() && !self.faulty() {
            self.advise(node.at, "no listener", "write listen: [ 127.0.0.1:8080 ]");
        }
        listeners
    }

    fn listener(&mut self, node: &Node, firewalls: &mut Firewalls) -> Option<Listener> {
        if node.text().is_some() {
            let address = self.value(node, socket_address)?;
            return Some(Listener {
                address,
                tls: None,
                trusted_proxies: Vec::new(),
                waf: WafChoice::Inherit,
                proxy_protocol: Vec::new(),
                https_redirect: None,
                to: None,
                speaks: Speaks::Http,
                is_outbound: false,
            });
        }
        let table = self.table(node, &LISTEN)?;
        let address = self.required(&table, "address").and_then(|node| self.value(node, socket_address));
        let to = table.get("to").and_then(|node| self.value(node, values::name));
        let tls = table.get("tls").map(|node| self.listener_tls(node, to.as_deref()));
        let trusted_proxies = table.get("trusted_proxies").map_or(Vec::new(), |node| self.trusted(node));
        let proxy_protocol = table.get("proxy_protocol").map_or(Vec::new(), |node| self.trusted(node));
        let https_redirect = table.get("https_redirect").and_then(|node| self.value(node, port)).flatten();
        if https_redirect.is_some() && tls.is_some() {
            self.fault(table.key_at("https_redirect"), "only a listener without tls sends to https");
        }
        if to.is_some() {
            self.listeners_to.extend(table.get("to").cloned());
        }
        let speaks = table.get("protocol").and_then(|node| self.word(node, "protocol", SPEAKS));
        let speaks = speaks.unwrap_or_default();
        if speaks != Speaks::Http && (to.is_none() || https_redirect.is_some()) {
            let message = "opaque connections say nothing of where they want to go";
            self.advise(table.key_at("protocol"), message, "name the service: to: db");
        }
        Some(Listener {
            https_redirect,
            to,
            speaks,
            is_outbound: false,
            proxy_protocol,
            address: address?,
            tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
            trusted_proxies,
            waf: self.waf(table.get("waf"), firewalls),
        })
    }

    fn trusted(&mut self, node: &Node) -> Vec<IpNet> {
        for item in node.items() {
            if item.text().and_then(|text| values::network(text).ok()).is_some_and(|n| n.prefix_len() == 0) {
                let message = format!("trusting {} lets every client choose its own address", item.shown());
                self.advise(item.at, message, "name the networks of your proxies");
            }
        }
        self.values(node, values::network)
    }

    fn listener_tls(&mut self, node: &Node, to: Option<&str>) -> Option<ListenerTls> {
        if self.is_switch(node, "a map (listen[].tls)", INSTEAD, "leave tls out") {
            return None;
        }
        let table = self.table(node, &TLS)?;
        let local = table.get("local").and_then(|node| self.boolean(node)).unwrap_or(false);
        let files = table.get("certificates").map(|node| self.certificates(node));
        let acme = table.get("acme").map(|node| self.acme(node));
        self.acme_seen = acme.is_some().then(|| table.key_at("acme"));
        let mesh = table.get("mesh").and_then(|node| self.boolean(node)).unwrap_or(false);
        if mesh {
            self.mesh_at.get_or_insert(table.key_at("mesh"));
        }
        let ways = [local, files.is_some(), acme.is_some(), mesh].into_iter().filter(|way| *way).count();
        let is_misspelt = table.misspells_one_of(&["local", "certificates", "acme", "mesh"]);
        if ways != 1 && !(ways == 0 && is_misspelt) {
            let found = if ways == 0 { "none of them" } else { "several" };
            self.advise(
                table.at,
                format!("tls takes one of local, certificates, acme and mesh, found {found}"),
                INSTEAD,
            );
        }
        let client = table.get("client").and_then(|node| self.client_certificates(node));
        self.certificates_asked |= (mesh && !publishes(to)) || table.get("client").is_some();
        if mesh && client.is_some() {
            self.fault(
                table.key_at("client"),
                "with `mesh: true` clients are workloads; `client` says otherwise",
            );
        }
        let plain_text = table.get("plain_text").and_then(|node| self.boolean(node)).unwrap_or(false);
        if plain_text && !mesh {
            self.fault(
                table.key_at("plain_text"),
                "only a listener with `mesh: true` also accepts plain text",
            );
        }
        if plain_text && mesh && publishes(to) {
            let message = "without TLS nothing proves whose bundle it is";
            self.advise(table.key_at("plain_text"), message, "remove it");
        } else if plain_text {
            let what = "plain_text: clients without TLS are taken, as Anonymous";
            self.warn(table.key_at("plain_text"), what, "plain_text: false, once nobody calls so any more");
        }
        let versions = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
        let version_min = table.get("min_version").and_then(|node| self.word(node, "TLS version", &versions));
        let certificates = match (files, acme) {
            (Some(files), _) => Certificates::Files(files),
            (None, Some(acme)) => Certificates::Acme(acme?),
            (None, None) if mesh => Certificates::Mesh,
            (None, None) => Certificates::Local,
        };
        let version_min = version_min.unwrap_or(TlsVersion::Tls12);
        Some(ListenerTls { certificates, client, version_min, plain_text })
    }

    fn certificates(&mut self, node: &Node) -> Vec<CertificateFiles> {
        let mut list = Vec::new();
        for item in node.items() {
            list.extend(self.certificate(item));
        }
        if list.is_empty() && !self.faulty() {
            self.expected(node, "at least one {cert: …, key: …}");
        }
        list
    }

    /// A certificate and its key, which must fit.
    pub(super) fn certificate(&mut self, node: &Node) -> Option<CertificateFiles> {
        let table = self.table(node, &CERTIFICATE)?;
        let certificate = self.required(&table, "cert").and_then(|node| self.file(node, pem::BYTES_MAX));
        let key_node = self.required(&table, "key");
        let key = key_node.and_then(|node| self.file(node, pem::BYTES_MAX));
        let (certificate, chain) = certificate?;
        let (key, private) = key?;
        if let Err(reason) = pem::pair(&chain, &private) {
            let at = if reason.in_key { table.key_at("key") } else { table.key_at("cert") };
            let at = table.get(if reason.in_key { "key" } else { "cert" }).map_or(at, |node| node.at);
            self.fault(at, reason.message);
        }
        if self.sources.world_readable(&key) {
            let at = key_node.map_or(table.at, |node| node.at);
            self.warn(at, format!("{} can be read by everybody on this machine", key.display()), "chmod 600");
        }
        Some(CertificateFiles { certificate, key })
    }

    fn client_certificates(&mut self, node: &Node) -> Option<ClientCertificates> {
        let table = self.table(node, &CLIENT)?;
        let authorities = match self.required(&table, "ca") {
            Some(node) if node.text() == Some("local") => Some(ClientAuthorities::Local),
            Some(node) => self.authorities(node).map(ClientAuthorities::File),
            None => None,
        };
        let mut revocations = Vec::new();
        for node in table.get("crl").map_or(&[][..], Node::items) {
            let Some((path, bytes)) = self.file(node, pem::BYTES_MAX) else { continue };
            match proxy::tls::revocations_from_pem(&path.display().to_string(), &bytes) {
                Ok(_) => revocations.push(path),
                Err(error) => self.fault(node.at, error.to_string()),
            }
        }
        let modes = [("optional", false), ("required", true)];
        let required = table.get("mode").and_then(|node| self.word(node, "mode", &modes));
        let prefix = table.get("prefix").and_then(|node| self.text(node)).map(str::to_owned);
        Some(ClientCertificates {
            authorities: authorities?,
            required: required.unwrap_or(false),
            revocations,
            prefix,
        })
    }

    /// A PEM file with at least one certificate.
    pub(super) fn authorities(&mut self, node: &Node) -> Option<PathBuf> {
        let (path, bytes) = self.file(node, pem::BYTES_MAX)?;
        if let Err(reason) = pem::certificates(&bytes) {
            self.fault(node.at, format!("{}: {reason}", path.display()));
            return None;
        }
        Some(path)
    }

    /// `admin:`
    pub(super) fn admin(&mut self, node: Option<&Node>) -> Admin {
        let default = SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT));
        let Some(node) = node else { return Admin { address: default } };
        if node.text().is_some() {
            let on = "remove it: 127.0.0.1:9901 is the default";
            let off = "it is always open, to this machine alone; 127.0.0.1:0 is a port that the system picks";
            if self.is_switch(node, "the address of the admin listener", on, off) {
                return Admin { address: default };
            }
            let address = self.value(node, admin_address).unwrap_or(default);
            self.admin_loopback(node, address, false);
            return Admin { address };
        }
        let Some(table) = self.table(node, &ADMIN) else { return Admin { address: default } };
        let address =
            table.get("address").and_then(|node| self.value(node, admin_address)).unwrap_or(default);
        let danger = self.danger(
            &table,
            "danger_admin_not_loopback",
            "anybody who reaches the admin listener can read the metrics of every route",
        );
        self.admin_loopback(table.get("address").unwrap_or(node), address, danger);
        Admin { address }
    }

    fn admin_loopback(&mut self, node: &Node, address: SocketAddr, danger: bool) {
        if !danger && !address.ip().is_loopback() {
            self.advise(
                node.at,
                format!("the admin listener has no authentication, and {} is not loopback", node.shown()),
                "use 127.0.0.1, or set admin.danger_admin_not_loopback: true",
            );
        }
    }
}

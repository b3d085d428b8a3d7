//! The throw-away demo: a folder, five kinds of processes, and the endpoints to knock at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use aws_lc_rs::rand;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use super::browser::{Browser, Landed, Person};
use super::client::{self, Answer, ClientCertificate, Endpoint, Request, Trust};
use super::login::{self, Provider, TokenRequest};
use super::partners::Partners;
use super::port::Ports;
use super::process::{POLL, Process, START_TIME_MAX, signal_pid};
use super::service::{Announcement, Role};
use crate::config::{CRS_MARK, Disk, WafSettings, load_rules};

mod sidecar;

pub(crate) use sidecar::Sidecar;

/// The name by which customers know the shop. RFC 6761 §6.3: it is loopback wherever
/// it is looked up.
pub const HOST: &str = "shop.localhost";
/// The name of the identity provider.
pub const ID_HOST: &str = "id.localhost";
/// The host of its administration.
pub const ADMIN_HOST: &str = "admin.localhost";
/// What tokens for the shop name as their audience.
pub(crate) const SHOP: &str = "https://shop.localhost";
/// What tokens for somebody else name.
pub(crate) const BANK: &str = "https://bank.localhost";
/// The shop too, for tokens that are good for a second.
pub(crate) const BRIEF: &str = "https://brief.shop.localhost";
/// Who lives here and has a token in a file.
pub const USERS: [&str; 3] = ["alice", "bob", "eve"];
/// Everybody, with their roles.
const PEOPLE: [(&str, Option<&str>); 4] =
    [("alice", Some("customer")), ("bob", Some("merchant")), ("eve", None), ("dora", Some("customer"))];

const CONFIGURATION: &str = include_str!("environment/bastide.yaml");
const PROTOCOL: &str = include_str!("environment/protocol.conf");
const PRICE_SCHEMA: &str = include_str!("environment/price.schema.json");
const ATTACKS: &str = include_str!("environment/attacks.conf");
const SHARED: &str = include_str!("environment/mesh.yaml");
const MESH_POLICIES: &str = include_str!("environment/mesh.cedar");
const POLICIES: [(&str, &str); 3] = [
    ("customers.cedar", include_str!("environment/policies/customers.cedar")),
    ("machines.cedar", include_str!("environment/policies/machines.cedar")),
    ("merchants.cedar", include_str!("environment/policies/merchants.cedar")),
];

/// Where the Core Rule Set lies on Debian.
pub(super) const CRS_FOLDER: &str = "/usr/share/modsecurity-crs";

/// Which rules of attacks the demo's firewall runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// A few of its own; perhaps because the Core Rule Set that was found cannot run, and why.
    Own(Option<String>),
    /// Those of the Core Rule Set in this folder.
    CoreRuleSet(PathBuf),
}

impl Rules {
    /// The Core Rule Set that `named` (the environment's `BASTIDE_CRS`) says, or the system's
    /// own, or the demo's rules where there is none that runs. An empty name asks for the
    /// demo's rules.
    ///
    /// # Errors
    /// A folder is named, and holds no release of it that can be loaded.
    pub fn find(named: Option<String>) -> anyhow::Result<Self> {
        Self::find_in(named, Path::new(CRS_FOLDER))
    }

    fn find_in(named: Option<String>, system: &Path) -> anyhow::Result<Self> {
        match named {
            Some(name) if name.is_empty() => Ok(Self::Own(None)),
            Some(name) => {
                let folder = std::path::absolute(&name)?;
                runs(&folder).with_context(|| format!("BASTIDE_CRS names {name}"))?;
                Ok(Self::CoreRuleSet(folder))
            }
            None if !system.is_dir() => Ok(Self::Own(None)),
            None => Ok(match runs(system) {
                Ok(()) => Self::CoreRuleSet(system.to_owned()),
                Err(fault) => Self::Own(Some(format!("{fault:#}"))),
            }),
        }
    }

    /// As the configuration names them.
    fn written(&self) -> String {
        match self {
            Self::Own(_) => "[ protocol.conf, attacks.conf ]".to_owned(),
            // Paths are cleaned before they are routed: that one climbs to where it may is no attack.
            // Who logs in comes back to a name under `localhost`.
            Self::CoreRuleSet(folder) => format!(
                "\n  rules: [ protocol.conf, {:?} ]\n  exclusions:\n    - {{ rule: 930100, target: REQUEST_URI_RAW }}\n    - {{ rule: 930110, target: REQUEST_URI_RAW }}\n    - {{ rule: 934190, target: \"ARGS:redirect_uri\" }}",
                folder.display().to_string()
            ),
        }
    }
}

/// Whether this folder holds a release of the Core Rule Set that can be loaded.
fn runs(folder: &Path) -> anyhow::Result<()> {
    if !folder.join(CRS_MARK).is_file() {
        bail!("{} holds no release of the Core Rule Set (no {CRS_MARK})", folder.display());
    }
    let settings = WafSettings::of_rules(vec![folder.to_owned()]);
    load_rules(&settings, &Disk).map(drop).map_err(|faults| {
        let first = faults.first().map(ToString::to_string).unwrap_or_default();
        anyhow::anyhow!(
            "{} of its rules cannot run, see bastide waf check {}; the first: {first}",
            faults.len(),
            folder.display()
        )
    })
}

/// What the gateway writes to `ready.json` in its state folder once it serves.
#[derive(Clone, Debug, Deserialize)]
struct Ready {
    listen: Vec<SocketAddr>,
    admin: SocketAddr,
}

/// A running demo. Dropped, all its processes are killed and its folder is removed.
pub struct DemoEnvironment {
    folder: tempfile::TempDir,
    executable: PathBuf,
    gateway: Option<Process>,
    services: Vec<(Process, Announcement)>,
    /// The sidecars of the services of the mesh.
    proxies: Vec<Process>,
    mesh: Vec<Sidecar>,
    port: u16,
    _ports: Ports,
    secret: String,
    people: Mutex<BTreeMap<String, Person>>,
    customers: SocketAddr,
    partners_endpoint: SocketAddr,
    admin: SocketAddr,
    authority: Vec<u8>,
    /// Which rules its firewall runs.
    pub rules: Rules,
    /// The warehouse's certificate authority and certificates.
    pub(crate) partners: Partners,
    /// Tokens by user.
    pub tokens: BTreeMap<String, String>,
    /// API keys: a good one and a revoked one.
    pub keys: ApiKeys,
}

/// The demo's API keys.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys {
    /// The price importer's.
    pub importer: String,
    /// One that was made and then revoked.
    pub revoked: String,
}

impl DemoEnvironment {
    /// Builds the demo with `executable` as every process in it.
    ///
    /// # Errors
    /// A process does not start; the error says what it said.
    pub async fn start(executable: &Path, rules: Rules) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("bastide-town-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()?;
        let at = folder.path();
        let mut nonce = [0; 24];
        rand::fill(&mut nonce)?;
        let secret = nonce.iter().map(|byte| format!("{byte:02x}")).collect::<String>();

        let service = |role, instance, more: Vec<String>| async move {
            Process::service(executable, role, instance, &more, at).await
        };
        let (live, catalogue, payments, accounts) = tokio::try_join!(
            service(Role::Live, 1, Vec::new()),
            service(Role::Catalogue, 1, Vec::new()),
            service(Role::Payments, 1, Vec::new()),
            service(Role::Accounts, 1, Vec::new()),
        )?;
        let mut ports = Ports::new();
        let mesh = [("orders", 1), ("orders", 2), ("payments", 1), ("catalogue", 1)]
            .into_iter()
            .map(|(service, instance)| {
                Sidecar::install(at, service, executable)?;
                Ok(Sidecar {
                    service,
                    instance,
                    inbound: ports.another()?.port(),
                    outbound: ports.another()?.port(),
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        // Orders reaches payments by its outbound proxy alone.
        let orders = |instance: u32| {
            let own = mesh.iter().find(|own| (own.service, own.instance) == ("orders", instance));
            let outbound = own.map(|own| format!("--payments={}", own.outbound()));
            let ledger = at.join("orders.jsonl");
            outbound.into_iter().chain([format!("--ledger={}", ledger.display())]).collect()
        };
        let (orders_1, orders_2) =
            tokio::try_join!(service(Role::Orders, 1, orders(1)), service(Role::Orders, 2, orders(2)))?;
        let services = vec![live, catalogue, payments, accounts, orders_1, orders_2];

        let partners = Partners::make()?;
        write_secret(&at.join("clients.secret"), &secret)?;
        let port = ports.another()?.port();
        write_files(at, services.iter().map(|(_, service)| service), &mesh, &partners, (&rules, port))?;

        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut demo = Self {
            executable: executable.to_owned(),
            gateway: None,
            services,
            proxies: Vec::new(),
            mesh,
            port,
            _ports: ports,
            secret,
            people: Mutex::default(),
            customers: nowhere,
            partners_endpoint: nowhere,
            admin: nowhere,
            authority: Vec::new(),
            rules,
            partners,
            tokens: BTreeMap::new(),
            keys: ApiKeys::default(),
            folder,
        };
        demo.make_keys().await?;
        demo.make_people().await?;
        demo.start_gateway().await?;
        demo.start_proxies().await?;
        for user in USERS {
            // Bob has an authenticator app: what he may do takes it.
            let acr = (user == "bob").then_some("2");
            let token = demo.log_in(user, &TokenRequest { resource: SHOP, acr, key: None }).await?;
            std::fs::write(demo.path(&format!("{user}.token")), &token)?;
            demo.tokens.insert(user.to_owned(), token);
        }
        Ok(demo)
    }

    /// Starts the gateway on the demo's configuration and waits until it serves.
    async fn start_gateway(&mut self) -> anyhow::Result<()> {
        let ready_file = self.path("state/ready.json");
        let arguments = ["serve", "--config", "bastide.yaml", "--leash"].map(str::to_owned);
        let mut gateway = Process::start("gateway", &self.executable, &arguments, false, self.folder())?;
        let waited = tokio::time::timeout(START_TIME_MAX, async {
            loop {
                if let Some(ready) =
                    std::fs::read(&ready_file).ok().and_then(|text| serde_json::from_slice(&text).ok())
                {
                    return Ok::<Ready, String>(ready);
                }
                if let Some(how) = gateway.ended() {
                    return Err(how);
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
        let ready = match waited {
            Ok(Ok(ready)) => ready,
            Ok(Err(how)) => bail!("the gateway ended ({how}): {}", gateway.last_words(self.folder())),
            Err(_) => bail!("the gateway is not ready: {}", gateway.last_words(self.folder())),
        };
        let [customers, partners] = ready.listen.as_slice() else {
            bail!("expected two listeners, the gateway announced {:?}", ready.listen)
        };
        (self.customers, self.partners_endpoint, self.admin) = (*customers, *partners, ready.admin);
        self.authority = std::fs::read(self.authority_file()).context("the gateway left no authority")?;
        self.gateway = Some(gateway);
        Ok(())
    }

    /// Makes the API keys with the command that an operator would use.
    async fn make_keys(&mut self) -> anyhow::Result<()> {
        let new = ["key", "new", "--config", "bastide.yaml", "--output", "json", "--owner", "bob", "--name"];
        let mut made = Vec::new();
        for name in ["importer", "dismissed"] {
            let (text, _) = self.bastide(&[&new[..], &[name]].concat()).await?;
            let key: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
            let part = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            made.push((part("id"), part("key")));
        }
        if let [(_, importer), (id, revoked)] = made.as_slice() {
            self.bastide(&["key", "revoke", "--config", "bastide.yaml", id]).await?;
            self.keys = ApiKeys { importer: importer.clone(), revoked: revoked.clone() };
        }
        Ok(())
    }

    /// Runs a `bastide` command in the demo and gives what it says, why its answer is no or its result, and whether
    /// its exit code was 0.
    ///
    /// # Errors
    /// It cannot be started, or "could not run" (exit code 2 or more).
    pub async fn bastide(&self, arguments: &[&str]) -> anyhow::Result<(String, bool)> {
        let output = tokio::process::Command::new(&self.executable)
            .args(arguments)
            .current_dir(self.folder())
            .env_remove("BASTIDE_SWITCH_OFF")
            .kill_on_drop(true)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let beside = String::from_utf8_lossy(&output.stderr);
        if output.status.code().is_none_or(|code| code > 1) {
            bail!("bastide {}: {beside}{text}", arguments.join(" "));
        }
        let done = output.status.success();
        // Why the answer is no stands beside the result, which there is none of.
        Ok((if done || !text.is_empty() { text } else { beside.into_owned() }, done))
    }

    /// Makes the store and the people in it, with the commands that an operator would use.
    async fn make_people(&mut self) -> anyhow::Result<()> {
        self.bastide(&["init", "--config", "bastide.yaml"]).await?;
        for (name, role) in PEOPLE {
            let mut command =
                vec!["user", "add", name, "--id", name, "--config", "bastide.yaml", "--output", "json"];
            command.extend(role.into_iter().flat_map(|role| ["--role", role]));
            let (text, _) = self.bastide(&command).await?;
            let made: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
            let password = made.get("password").and_then(Value::as_str);
            let password = password.with_context(|| format!("{name} got no password: {text}"))?;
            self.people().insert(name.to_owned(), Person::new(name, password));
        }
        Ok(())
    }

    fn people(&self) -> MutexGuard<'_, BTreeMap<String, Person>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user's password, and the key of their authenticator app.
    pub(crate) fn person(&self, user: &str) -> Person {
        self.people().get(user).cloned().unwrap_or_default()
    }

    /// Logs a user in as an application does, and gives the access token.
    ///
    /// # Errors
    /// The provider gives none.
    pub(crate) async fn log_in(&self, user: &str, wanted: &TokenRequest<'_>) -> anyhow::Result<String> {
        let (mut browser, mut person) = (self.browser()?, self.person(user));
        let issuer = self.issuer();
        let provider = Provider { issuer: &issuer, host: ID_HOST, secret: &self.secret };
        let token = login::token(&mut browser, &mut person, &provider, wanted).await;
        self.people().insert(user.to_owned(), person);
        token
    }

    /// Opens one of the shop's pages in a browser, logging in as a user where that is asked.
    ///
    /// # Errors
    /// The way does not end on a page of the shop.
    pub(crate) async fn open(&self, browser: &mut Browser, user: &str, path: &str) -> anyhow::Result<Answer> {
        let mut person = self.person(user);
        let address = format!("https://{HOST}:{}{path}", self.port);
        let landed = browser.visit(&address, &mut person).await;
        self.people().insert(user.to_owned(), person);
        match landed? {
            Landed::Page(answer) => Ok(answer),
            Landed::Away(address) => bail!("{user} was led to {address}"),
        }
    }

    /// A browser that knows nobody yet.
    ///
    /// # Errors
    /// The authority's certificate cannot be read.
    pub(crate) fn browser(&self) -> anyhow::Result<Browser> {
        let endpoints =
            [HOST, ID_HOST].into_iter().map(|host| Ok((host.to_owned(), self.endpoint_of(host)?)));
        Ok(Browser::new(endpoints.collect::<anyhow::Result<_>>()?, self.port))
    }

    /// The identity provider's public keys.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn issuer_keys(&self) -> anyhow::Result<Value> {
        let request = Request::new("GET", &format!("{ID_HOST}:{}", self.port), "/jwks");
        Ok(client::http1::ask(&self.endpoint_of(ID_HOST)?, &request).await?.json())
    }

    /// The identity provider's name.
    pub fn issuer(&self) -> String {
        format!("https://{ID_HOST}:{}", self.port)
    }

    /// Host and port of the shop, as browsers write them.
    pub(crate) fn authority_name(&self) -> String {
        format!("{HOST}:{}", self.port)
    }

    /// The shop's origin, as its pages have it.
    pub(crate) fn origin(&self) -> String {
        format!("https://{HOST}:{}", self.port)
    }

    /// The token of a user.
    pub fn token(&self, user: &str) -> &str {
        self.tokens.get(user).map(String::as_str).unwrap_or_default()
    }

    /// Asks the admin listener.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn admin(&self, path: &str) -> anyhow::Result<Answer> {
        let request = Request::new("GET", &self.admin.to_string(), path);
        Ok(client::http1::ask(&Endpoint::clear(self.admin), &request).await?)
    }

    /// The customers' endpoint.
    ///
    /// # Errors
    /// The authority's certificate cannot be read.
    pub fn endpoint(&self) -> anyhow::Result<Endpoint> {
        self.endpoint_of(HOST)
    }

    /// The customers' endpoint, for whoever asks for this host.
    ///
    /// # Errors
    /// As [`Self::endpoint`].
    pub fn endpoint_of(&self, host: &str) -> anyhow::Result<Endpoint> {
        let trust = Trust::new(host, &self.authority, None)?;
        Ok(Endpoint { address: self.customers, tls: Some(trust), from: None })
    }

    /// The partners' endpoint, for somebody with this certificate.
    ///
    /// # Errors
    /// A certificate cannot be read.
    pub fn partners_endpoint(&self, certificate: Option<&ClientCertificate>) -> anyhow::Result<Endpoint> {
        let trust = Trust::new(HOST, &self.authority, certificate)?;
        Ok(Endpoint { address: self.partners_endpoint, tls: Some(trust), from: None })
    }

    /// How many requests the shop's services have seen so far, by process id. A
    /// service that is gone is left out.
    pub async fn seen(&self) -> BTreeMap<u32, u64> {
        let mut all = BTreeMap::new();
        for (process, service) in &self.services {
            let request = Request::new("GET", "shop", "/_shop/seen");
            if let Ok(answer) = client::http1::ask(&Endpoint::clear(service.address), &request).await {
                let count = answer.json().get("requests").and_then(Value::as_u64).unwrap_or(u64::MAX);
                all.insert(process.pid(), count);
            }
        }
        all
    }

    /// The instances of a service.
    pub fn instances(&self, role: Role) -> Vec<&Announcement> {
        self.services.iter().map(|(_, service)| service).filter(|service| service.role == role).collect()
    }

    /// Has a service say at its health check that it is unwell, or well again. It serves
    /// all the same.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn fall_ill(&self, service: &Announcement, ill: bool) -> anyhow::Result<()> {
        let request = Request::new(if ill { "PUT" } else { "DELETE" }, "shop", "/_shop/health");
        let answer = client::http1::ask(&Endpoint::clear(service.address), &request).await?;
        anyhow::ensure!(answer.status == 200, "its health page answers {}", answer.status);
        Ok(())
    }

    /// Kills a service by its process id, as the out-of-memory killer would.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill(&self, service: &Announcement) -> anyhow::Result<()> {
        signal_pid(service.pid, Signal::KILL)
    }

    /// Sends the gateway a signal.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn signal_gateway(&self, signal: Signal) -> anyhow::Result<()> {
        self.gateway.as_ref().context("no gateway runs")?.signal(signal)
    }

    /// Fails when the gateway has ended.
    ///
    /// # Errors
    /// It has: how, and its last words.
    pub fn check_gateway(&mut self) -> anyhow::Result<()> {
        let folder = self.folder.path();
        match self.gateway.as_mut().map(|gateway| (gateway.ended(), gateway.last_words(folder))) {
            Some((Some(how), words)) => bail!("the gateway ended ({how}): {words}"),
            _ => Ok(()),
        }
    }

    /// What the gateway has written to its log so far.
    pub fn gateway_log(&self) -> String {
        std::fs::read_to_string(super::process::log_path(self.folder(), "gateway")).unwrap_or_default()
    }

    /// The program that every process here is.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// The demo's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the demo.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The certificate of the authority that the gateway made for itself.
    pub fn authority_file(&self) -> PathBuf {
        self.path("state/ca/ca.pem")
    }

    /// The customers' address and the admin address.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr, SocketAddr) {
        (self.customers, self.partners_endpoint, self.admin)
    }

    /// All services with their addresses.
    pub fn services(&self) -> impl Iterator<Item = &Announcement> {
        self.services.iter().map(|(_, service)| service)
    }

    /// The gateway's process id.
    pub fn gateway_pid(&self) -> Option<u32> {
        self.gateway.as_ref().map(Process::pid)
    }

    /// Ends every process, each by its id, and removes the folder, unless it is to be
    /// kept: then its path is given back.
    pub async fn end(mut self, keep: bool) -> Option<PathBuf> {
        if let Some(gateway) = self.gateway.take() {
            gateway.end(Some(Signal::TERM)).await;
        }
        for process in std::mem::take(&mut self.proxies) {
            process.end(Some(Signal::TERM)).await;
        }
        for (process, _) in std::mem::take(&mut self.services) {
            process.end(None).await;
        }
        keep.then(|| self.folder.keep())
    }
}

/// Writes the configuration, with the services' addresses filled in, and everything
/// that it names.
fn write_files<'a>(
    folder: &Path,
    services: impl Iterator<Item = &'a Announcement>,
    mesh: &[Sidecar],
    partners: &Partners,
    (rules, port): (&Rules, u16),
) -> std::io::Result<()> {
    let mut shared = SHARED.replace("{{folder}}", &folder.canonicalize()?.display().to_string());
    for sidecar in mesh {
        shared = shared.replace(&sidecar.place(), &sidecar.inbound.to_string());
    }
    std::fs::write(folder.join("mesh.yaml"), shared)?;
    std::fs::write(folder.join("mesh.cedar"), MESH_POLICIES)?;
    let text = CONFIGURATION.replace("{{rules}}", &rules.written());
    let mut text = text.replace("{{port}}", &port.to_string());
    for service in services {
        let place = match service.role {
            Role::Orders => format!("{{{{orders_{}}}}}", service.instance),
            role => format!("{{{{{}}}}}", role.name()),
        };
        text = text.replace(&place, &format!("http://{}", service.address));
    }
    std::fs::write(folder.join("bastide.yaml"), text)?;
    std::fs::write(folder.join("protocol.conf"), PROTOCOL)?;
    std::fs::write(folder.join("price.schema.json"), PRICE_SCHEMA)?;
    if let Rules::Own(_) = rules {
        std::fs::write(folder.join("attacks.conf"), ATTACKS)?;
    }
    std::fs::write(folder.join("partners-ca.pem"), partners.authority())?;
    std::fs::create_dir(folder.join("policies"))?;
    POLICIES.iter().try_for_each(|(name, text)| std::fs::write(folder.join("policies").join(name), text))
}

/// Writes a file that its owner alone can read.
fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    std::fs::write(path, secret)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_demos_own_configuration_has_neither_fault_nor_warning() {
        let folder = tempfile::tempdir().unwrap();
        let roles = [Role::Live, Role::Catalogue, Role::Payments, Role::Accounts, Role::Orders, Role::Orders];
        let services: Vec<Announcement> = (1u16..)
            .zip(roles)
            .map(|(number, role)| Announcement {
                role,
                instance: if number == 6 { 2 } else { 1 },
                pid: 1,
                address: SocketAddr::from(([127, 0, 0, 1], 7000 + number)),
            })
            .collect();
        write_secret(&folder.path().join("clients.secret"), "0123456789abcdef0123456789abcdef").unwrap();
        let partners = Partners::make().unwrap();
        let sidecar =
            |service, instance, inbound| Sidecar { service, instance, inbound, outbound: inbound + 1 };
        let mesh = [
            sidecar("orders", 1, 7101),
            sidecar("orders", 2, 7103),
            sidecar("payments", 1, 7105),
            sidecar("catalogue", 1, 7107),
        ];
        write_files(folder.path(), services.iter(), &mesh, &partners, (&Rules::Own(None), 8443)).unwrap();
        let loaded = config::load(&folder.path().join("bastide.yaml"), &|_| None, &Disk);
        let configuration = loaded.unwrap_or_else(|faults| {
            panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
        assert_eq!(configuration.warnings, []);
        assert_eq!(configuration.firewalls[0].rules.lint(), [], "a rule of the town does nothing");
        // Shorter than what it replaces: the whole shop, its people and logins in under 200 lines.
        assert!(CONFIGURATION.lines().count() < 200);
    }

    #[test]
    fn a_core_rule_set_that_runs_is_taken_and_one_that_does_not_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, nowhere) = (folder.path(), folder.path().join("none"));
        let name = path.to_str().unwrap().to_owned();
        let fault =
            |name: &str| format!("{:#}", Rules::find_in(Some(name.to_owned()), &nowhere).unwrap_err());
        assert!(fault(&name).contains("holds no release"), "{}", fault(&name));
        assert_eq!(Rules::find_in(None, &nowhere).unwrap(), Rules::Own(None));
        std::fs::create_dir(path.join("rules")).unwrap();
        std::fs::write(path.join("crs-setup.conf"), "").unwrap();
        std::fs::write(path.join(CRS_MARK), "SecAction \"id:1,phase:1,pass\"\n").unwrap();
        let found = Rules::CoreRuleSet(path.to_owned());
        assert_eq!(Rules::find_in(Some(name.clone()), &nowhere).unwrap(), found);
        assert_eq!(Rules::find_in(None, path).unwrap(), found);
        assert_eq!(Rules::find_in(Some(String::new()), path).unwrap(), Rules::Own(None));
        // As of version 3: an expression that no engine runs in linear time.
        std::fs::write(path.join(CRS_MARK), "SecRule ARGS \"@rx a(?!b)\" \"id:1,phase:2\"\n").unwrap();
        assert!(fault(&name).contains("1 of its rules cannot run"), "{}", fault(&name));
        let Rules::Own(Some(why)) = Rules::find_in(None, path).unwrap() else { panic!("it is taken") };
        assert!(why.contains("lookaround"), "{why}");
    }
}

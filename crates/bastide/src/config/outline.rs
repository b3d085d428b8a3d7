//! What a configuration comes down to, entry by entry, in a form that can be kept and
//! compared: what is written, and a keyed digest of what it means.
//!
//! A running gateway keeps the outline of what it serves in its state folder, so that
//! `bastide diff` can say what a reload would change. Values that `${…}` stands for are in
//! the digests alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use super::files::Files;
use super::node::{At, Name, Node, Scalar, Value};
use super::{Configuration, Route, WafChoice};

/// Longest value that is kept as it is written, characters.
const WRITTEN_MAX: usize = 400;

/// A configuration's tree as it was written, for [`Outline::of`].
#[derive(Clone, Debug)]
pub struct Written {
    pub(super) tree: Node,
    /// The configuration files: the main one and those that it includes.
    pub(super) files: Vec<PathBuf>,
}

impl Written {
    /// `file:line:column` of a listener.
    pub fn listener(&self, address: SocketAddr) -> Option<String> {
        let listeners = self.tree.get("listen")?.items().iter();
        let addresses = listeners.map(|node| node.get("address").unwrap_or(node));
        let is_it = |node: &&Node| node.text().and_then(|text| text.parse().ok()) == Some(address);
        addresses.into_iter().find(is_it).map(|node| self.position(node.at))
    }

    /// `file:line:column` of the value of a key at the top.
    pub fn setting(&self, key: &str) -> Option<String> {
        self.tree.get(key).map(|node| self.position(node.at))
    }

    fn position(&self, at: At) -> String {
        let file = usize::try_from(at.file).ok().and_then(|number| self.files.get(number));
        let file = file.map(PathBuf::as_path).unwrap_or(Path::new(""));
        format!("{}:{}:{}", file.display(), at.line, at.column)
    }
}

/// The kind of an entry: which table of the configuration it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A key at the top of the file, or of `authentication` and `policy`.
    Setting,
    /// A key under `limits`.
    Limit,
    /// A listener, by its address.
    Listener,
    /// A token issuer, by its name.
    Issuer,
    /// A role, by its name under `roles`.
    Role,
    /// A service, by its name under `services`.
    Service,
    /// A route, by its name.
    Route,
    /// A policy, by its id.
    Policy,
    /// A file that something names: a certificate, a list, a document.
    File,
}

impl Kind {
    /// The word that `bastide diff` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Limit => "limit",
            Self::Listener => "listener",
            Self::Issuer => "issuer",
            Self::Role => "role",
            Self::Service => "service",
            Self::Route => "route",
            Self::Policy => "policy",
            Self::File => "file",
        }
    }

    /// The key that the short form stands for.
    const fn short(self) -> &'static str {
        match self {
            Self::Listener => "address",
            Self::Issuer => "issuer",
            Self::Service => "endpoints",
            Self::Setting | Self::Limit | Self::Role | Self::Route | Self::Policy | Self::File => "",
        }
    }
}

/// One key of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// As it is written, cut when it is long.
    pub written: String,
    /// HMAC-SHA-256 of the whole value with `${…}` expanded, keyed by [`Outline::salt`]; hexadecimal.
    pub digest: String,
}

/// One named thing of a configuration, as it was written and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From which table.
    pub kind: Kind,
    /// Its name in that table.
    pub name: String,
    /// HMAC-SHA-256 of all that it means, inherited settings included, keyed by [`Outline::salt`]; hexadecimal.
    pub whole: String,
    /// The keys that are written in it.
    pub keys: BTreeMap<String, Setting>,
}

/// The outline of a whole configuration, kept as `running.json` and compared by `bastide diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Which version of Bastide made it: another one's digests mean something else.
    pub version: String,
    /// The key of the digests, hexadecimal.
    pub salt: String,
    /// Everything in it, kind by kind.
    pub entries: Vec<Entry>,
}

impl Outline {
    /// The outline of a configuration that was loaded from `written`. `salt` keys the
    /// digests: two outlines are compared under the same one.
    pub fn of(configuration: &Configuration, written: &Written, salt: &str, files: &dyn Files) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
        let folder = configuration.file.parent().unwrap_or(Path::new(""));
        // As `Debug` shows a path below it: a configuration is the same from wherever it is read.
        let folder = match folder.as_os_str().is_empty() {
            true => String::new(),
            false => format!("\"{}/", folder.display()),
        };
        let mut drawing = Drawing { key, folder, entries: Vec::new() };
        drawing.settings(configuration, &written.tree);
        drawing.lists(configuration, &written.tree);
        drawing.policies(configuration);
        drawing.files(configuration, written, files);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            salt: salt.to_owned(),
            entries: drawing.entries,
        }
    }

    /// The entry of this kind and name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.kind == kind && entry.name == name)
    }
}

/// An outline in the making.
struct Drawing {
    key: hmac::Key,
    /// How paths below the configuration's folder begin; empty: with nothing.
    folder: String,
    entries: Vec<Entry>,
}

impl Drawing {
    fn digest(&self, text: &[u8]) -> String {
        let tag = hmac::sign(&self.key, text);
        tag.as_ref().iter().take(16).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// `hides`: whether credentials may stand in it.
    fn setting(&self, key: &str, node: &Node, hides: bool) -> Setting {
        let mut written = if hides { flow(&masked(key, node), false) } else { flow(node, false) };
        if written.chars().count() > WRITTEN_MAX {
            written = written.chars().take(WRITTEN_MAX).chain(['…']).collect();
        }
        Setting { written, digest: self.digest(flow(node, true).as_bytes()) }
    }

    /// `means` is what it means as a whole; without it that is what is written.
    fn entry(&mut self, kind: Kind, name: &str, node: Option<&Node>, means: Option<&str>) {
        let hides = kind == Kind::Setting && ["audit", "telemetry"].contains(&name);
        let keys = match node.map(|node| (&node.value, node)) {
            Some((Value::Map(entries), _)) => {
                let setting =
                    |(key, node): &(Name, Node)| (key.text.clone(), self.setting(&key.text, node, hides));
                entries.iter().map(setting).collect()
            }
            Some((_, node)) => BTreeMap::from([(kind.short().to_owned(), self.setting("", node, hides))]),
            None => BTreeMap::new(),
        };
        let written = || node.map_or_else(String::new, |node| flow(node, true));
        let mut means = means.map_or_else(written, str::to_owned);
        if !self.folder.is_empty() {
            means = means.replace(&self.folder, "\"");
        }
        let whole = self.digest(means.as_bytes());
        self.entries.push(Entry { kind, name: name.to_owned(), whole, keys });
    }

    /// The keys at the top that hold no list of named things.
    fn settings(&mut self, configuration: &Configuration, tree: &Node) {
        let entries = map(tree);
        for (name, node) in entries {
            match name.text.as_str() {
                "listen" | "services" | "routes" | "roles" | "policies" => {}
                "limits" => {
                    for (name, node) in map(node) {
                        self.entry(Kind::Limit, &name.text, Some(node), None);
                    }
                }
                top @ ("authentication" | "policy") => {
                    for (name, node) in map(node).iter().filter(|(name, _)| name.text != "issuers") {
                        self.entry(Kind::Setting, &format!("{top}.{}", name.text), Some(node), None);
                    }
                }
                top => {
                    let means = means(configuration, top);
                    self.entry(Kind::Setting, top, Some(node), means.as_deref());
                }
            }
        }
    }

    fn lists(&mut self, configuration: &Configuration, tree: &Node) {
        let items = |key: &str| get(tree, key).map_or(&[][..], Node::items);
        for (listener, node) in configuration.listeners.iter().zip(items("listen")) {
            let waf = waf(configuration, listener.waf);
            let means = format!("{:?}{waf}", super::Listener { waf: WafChoice::Inherit, ..listener.clone() });
            self.entry(Kind::Listener, &listener.address.to_string(), Some(node), Some(&means));
        }
        let issuers = get(tree, "authentication").and_then(|node| get(node, "issuers"));
        let issuers = issuers.map_or(&[][..], Node::items);
        for (issuer, node) in configuration.authentication.issuers.iter().zip(issuers) {
            self.entry(Kind::Issuer, &issuer.issuer, Some(node), Some(&format!("{issuer:?}")));
        }
        for (name, node) in get(tree, "roles").map_or(&[][..], map) {
            self.entry(Kind::Role, &name.text, Some(node), None);
        }
        let services = get(tree, "services").map_or(&[][..], map);
        for service in &configuration.services {
            let node = services.iter().find(|(name, _)| name.text == service.name).map(|(_, node)| node);
            self.entry(Kind::Service, &service.name, node, Some(&format!("{service:?}")));
        }
        for (route, node) in configuration.routes.iter().zip(items("routes")) {
            let means = route_means(configuration, route, node);
            self.entry(Kind::Route, &route.name, Some(node), Some(&means));
        }
    }

    fn policies(&mut self, configuration: &Configuration) {
        let Ok(policies) = policy::load(configuration.vocabulary(), &configuration.policy_sources(), 0)
        else {
            return;
        };
        for (id, text) in policies.texts() {
            let digest = self.digest(text.as_bytes());
            let written = text.chars().take(WRITTEN_MAX).collect();
            let setting = Setting { written, digest: digest.clone() };
            let keys = BTreeMap::from([(String::new(), setting)]);
            self.entries.push(Entry { kind: Kind::Policy, name: id.to_owned(), whole: digest, keys });
        }
    }

    /// Files are told by their contents. Configuration files and policies are told by what
    /// they say.
    fn files(&mut self, configuration: &Configuration, written: &Written, files: &dyn Files) {
        let folder = configuration.file.parent().unwrap_or(Path::new(""));
        let told = |path: &PathBuf| {
            written.files.contains(path)
                || configuration.policy_sources().iter().any(|source| Path::new(&source.name) == path)
        };
        for path in configuration.files.iter().filter(|path| !told(path)) {
            // Its size was judged when it was loaded.
            let digest = match files.read(path, usize::MAX) {
                Ok(bytes) => self.digest(&bytes),
                Err(_) => continue,
            };
            let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
            self.entries.push(Entry { kind: Kind::File, name, whole: digest, keys: BTreeMap::new() });
        }
    }
}

/// The same without what stands under keys of credentials. What `${…}` stands for is
/// never written, so it may stay.
fn masked(key: &str, node: &Node) -> Node {
    let secret = ["token", "api_key", "headers", "secret"].contains(&key);
    let value = match &node.value {
        Value::Scalar(scalar) if secret && scalar.written.is_none() => {
            Value::Scalar(Scalar { text: "(hidden)".to_owned(), written: None })
        }
        Value::List(items) => Value::List(items.iter().map(|item| masked(key, item)).collect()),
        Value::Map(entries) => {
            // Each of the fields of `headers` may be one.
            let below = |name: &Name| if secret { key.to_owned() } else { name.text.clone() };
            let one = |(name, node): &(Name, Node)| (name.clone(), masked(&below(name), node));
            Value::Map(entries.iter().map(one).collect())
        }
        other => other.clone(),
    };
    Node { at: node.at, value }
}

/// What a setting means, where short forms and defaults could hide that it is the same.
fn means(configuration: &Configuration, key: &str) -> Option<String> {
    Some(match key {
        "state" => format!("{:?}", configuration.state),
        "workers" => format!("{:?}", configuration.workers),
        "admin" => format!("{:?}", configuration.admin),
        "dns" => format!("{:?}", configuration.dns_servers),
        "identity" => format!("{:?}", configuration.identity),
        "addresses" => format!("{:?}", configuration.addresses),
        "security_headers" => format!("{:?}", configuration.security_headers),
        "waf" => waf(configuration, configuration.waf),
        _ => return None,
    })
}

fn waf(configuration: &Configuration, choice: WafChoice) -> String {
    match choice {
        WafChoice::Firewall(number) => {
            configuration.firewalls.get(number).map(|firewall| format!("{:?}", firewall.settings))
        }
        WafChoice::Inherit | WafChoice::Off => None,
    }
    .unwrap_or_else(|| format!("{choice:?}"))
}

/// Names in the place of numbers, no position; what `Debug` does not show is told as it is
/// written.
fn route_means(configuration: &Configuration, route: &Route, node: &Node) -> String {
    let service = |number: usize| configuration.services.get(number).map_or("", |service| &service.name);
    let mut plain = Route {
        position: String::new(),
        validation: None,
        waf: WafChoice::Inherit,
        service: 0,
        ..route.clone()
    };
    let mut text = service(route.service).to_owned();
    for split in &mut plain.splits {
        let _ = write!(text, ",{}", service(split.service));
        split.service = 0;
    }
    if let Some(mirror) = &mut plain.mirror {
        let _ = write!(text, ">{}", service(mirror.service));
        mirror.service = 0;
    }
    text.push_str(&waf(configuration, route.waf));
    for key in ["headers", "validate"] {
        text.push_str(&get(node, key).map_or_else(String::new, |node| flow(node, true)));
    }
    format!("{plain:?}{text}")
}

fn map(node: &Node) -> &[(super::node::Name, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    map(node).iter().find(|(name, _)| name.text == key).map(|(_, node)| node)
}

/// In one line; `expanded`: with what `${…}` stands for.
fn flow(node: &Node, expanded: bool) -> String {
    match &node.value {
        Value::Nothing | Value::Broken => "~".to_owned(),
        Value::Scalar(scalar) => {
            let text = scalar.written.as_ref().filter(|_| !expanded).unwrap_or(&scalar.text);
            let plain = !text.is_empty()
                && text.chars().all(|c| c.is_alphanumeric() || " ./:_-*+@%${}".contains(c))
                && !text.starts_with(' ')
                && !text.ends_with(' ');
            if plain { text.clone() } else { format!("{text:?}") }
        }
        Value::List(items) if items.is_empty() => "[]".to_owned(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| flow(item, expanded)).collect();
            format!("[ {} ]", items.join(", "))
        }
        Value::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Map(entries) => {
            let entries =
                entries.iter().map(|(name, node)| format!("{}: {}", name.text, flow(node, expanded)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

//! A decK file, read: entities with their defaults and positions, references resolved.

use model::suggestion::nearest;

use crate::config::node::{At, Node, Value};
use crate::import::Unreadable;

/// Keys at the top of a file that something here looks at.
pub(super) const TOP: &[&str] = &[
    "filter_chains",
    "services",
    "routes",
    "upstreams",
    "consumers",
    "plugins",
    "certificates",
    "snis",
    "ca_certificates",
    "consumer_groups",
    "_format_version",
    "_info",
    "_plugin_configs",
];

/// Keys at the top that have no counterpart.
const OTHERS: &[&str] = &[
    "_comment",
    "_ignore",
    "_konnect",
    "_transform",
    "_workspace",
    "custom_entities",
    "degraphql_routes",
    "document_objects",
    "key_sets",
    "keys",
    "licenses",
    "partials",
    "rbac_roles",
    "service_packages",
    "vaults",
];

/// Keys of a service.
pub(super) const SERVICE: &[&str] = &[
    "_comment",
    "_ignore",
    "ca_certificates",
    "client_certificate",
    "connect_timeout",
    "created_at",
    "enabled",
    "filter_chains",
    "host",
    "id",
    "name",
    "path",
    "plugins",
    "port",
    "protocol",
    "read_timeout",
    "retries",
    "routes",
    "tags",
    "tls_sans",
    "tls_verify",
    "tls_verify_depth",
    "updated_at",
    "url",
    "write_timeout",
    "ws_id",
];

/// Keys of a route.
pub(super) const ROUTE: &[&str] = &[
    "_comment",
    "_ignore",
    "created_at",
    "destinations",
    "expression",
    "filter_chains",
    "headers",
    "hosts",
    "https_redirect_status_code",
    "id",
    "methods",
    "name",
    "path_handling",
    "paths",
    "plugins",
    "preserve_host",
    "priority",
    "protocols",
    "regex_priority",
    "request_buffering",
    "response_buffering",
    "service",
    "snis",
    "sources",
    "strip_path",
    "tags",
    "updated_at",
    "ws_id",
];

/// Keys of a consumer.
pub(super) const CONSUMER: &[&str] = &[
    "_comment",
    "_ignore",
    "acls",
    "basicauth_credentials",
    "created_at",
    "custom_id",
    "groups",
    "hmacauth_credentials",
    "id",
    "jwt_secrets",
    "keyauth_credentials",
    "mtls_auth_credentials",
    "oauth2_credentials",
    "plugins",
    "tags",
    "type",
    "updated_at",
    "username",
    "username_lower",
    "ws_id",
];

/// Keys of a consumer group.
pub(super) const CONSUMER_GROUP: &[&str] = &[
    "_comment",
    "_ignore",
    "consumers",
    "created_at",
    "id",
    "name",
    "plugins",
    "tags",
    "updated_at",
    "ws_id",
];

/// Keys of a plugin, its configuration apart.
pub(super) const PLUGIN: &[&str] = &[
    "_comment",
    "_config",
    "_ignore",
    "config",
    "consumer",
    "consumer_group",
    "created_at",
    "enabled",
    "id",
    "instance_name",
    "name",
    "ordering",
    "partials",
    "protocols",
    "route",
    "run_on",
    "service",
    "tags",
    "updated_at",
    "ws_id",
];

/// One entity of the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entity<'n> {
    pub(super) node: &'n Node,
    /// `_info.defaults` of its kind, or the shared configuration of a plugin.
    defaults: Option<&'n Node>,
}

impl<'n> Entity<'n> {
    pub(super) fn new(node: &'n Node, defaults: Option<&'n Node>) -> Self {
        Self { node, defaults }
    }

    pub(super) fn at(&self) -> At {
        self.node.at
    }

    /// What stands under a key, here or in the defaults. `null` is nothing.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        child(self.node, key).or_else(|| child(self.defaults?, key))
    }

    /// A text of this entity, as decK means it.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.text().map(deck)
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        match self.get(key).and_then(Node::text) {
            Some("true") => true,
            Some("false") => false,
            _ => default,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        let text = self.get(key)?.text()?;
        text.parse().ok().or_else(|| {
            let float: f64 = text.parse().ok()?;
            // Kong's numbers may be written as 5.0.
            (float.fract() == 0.0 && (0.0..1e15).contains(&float)).then_some(float as u64)
        })
    }

    /// The items of a list, or the one thing that stands there.
    pub(super) fn items(&self, key: &str) -> &'n [Node] {
        self.get(key).map_or(&[], Node::items)
    }

    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.items(key).iter().filter_map(Node::text).map(deck).collect()
    }

    /// The map below a key as an entity of its own.
    pub(super) fn below(&self, key: &str) -> Option<Entity<'n>> {
        let own = child(self.node, key);
        let default = self.defaults.and_then(|defaults| child(defaults, key));
        match (own, default) {
            (Some(own), default) => Some(Self { node: own, defaults: default }),
            (None, Some(default)) => Some(Self { node: default, defaults: None }),
            (None, None) => None,
        }
    }

    /// The keys that are written here, with their values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'n str, At, &'n Node)> {
        entries(self.node).filter(|(_, _, node)| !matches!(node.value, Value::Nothing))
    }

    /// The keys that are written here and that Kong does not know: where, and why nobody may get in.
    pub(super) fn unknown(&self, known: &[&str]) -> Vec<(At, String)> {
        let unknown = self.entries().filter(|(key, ..)| !known.contains(key));
        let why = |key: &str| {
            let meant = model::suggestion::suggestion(key, known.iter().copied());
            format!("unknown key {key:?}{meant}, and what it keeps out is not known")
        };
        unknown.map(|(key, at, _)| (at, why(key))).collect()
    }

    /// Whether it is a plugin whose shared configuration is not in the file.
    pub(super) fn lacks_shared(&self) -> bool {
        child(self.node, "_config").is_some() && self.defaults.is_none()
    }

    /// The name under which others refer to it: a text, or `name`, `username` or `id` of a
    /// map.
    pub(super) fn reference(&self, key: &str) -> Option<String> {
        let node = self.get(key)?;
        match &node.value {
            Value::Map(_) => {
                let map = Entity::new(node, None);
                ["name", "username", "id"].into_iter().find_map(|key| map.text(key))
            }
            _ => node.text().map(deck),
        }
    }

    /// Whether a reference means this entity.
    pub(super) fn is_called(&self, name: &str) -> bool {
        ["name", "username", "id", "custom_id"].iter().any(|key| self.text(key).as_deref() == Some(name))
    }
}

fn entries(node: &Node) -> impl Iterator<Item = (&str, At, &Node)> {
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|(name, node)| (name.text.as_str(), name.at, node))
}

fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let mut found = entries(node).filter(|(name, _, _)| *name == key);
    found.next().map(|(_, _, node)| node).filter(|node| !matches!(node.value, Value::Nothing))
}

/// decK's `${{ env "NAME" }}` is our `${NAME}`; a `${` that means nothing to decK is kept
/// from meaning something to us.
pub(super) fn deck(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let name =
            after.strip_prefix('{').and_then(|after| after.split_once("}}")).and_then(|(inside, rest)| {
                let name = inside.trim().strip_prefix("env")?.trim().trim_matches('"');
                let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                fits.then_some((name, rest))
            });
        match name {
            Some((name, after)) => {
                out.push_str(&format!("${{{name}}}"));
                rest = after;
            }
            None => {
                out.push_str("$${");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A whole file.
pub(super) struct Source<'n> {
    pub(super) top: Entity<'n>,
    /// Whether a path is a regular expression only when it begins with `~`.
    pub(super) marked_regexes: bool,
}

impl<'n> Source<'n> {
    /// Checks what kind of file it is.
    ///
    /// # Errors
    /// It is no decK file of a format that is known, or a key stands in it twice.
    pub(super) fn of(node: &'n Node) -> Result<Self, Unreadable> {
        let fault = |at: At, message: String| Unreadable { line: at.line, column: at.column, message };
        if let Some((at, key)) = duplicate(node) {
            return Err(fault(at, format!("key {key:?} stands here twice")));
        }
        let top = Entity::new(node, None);
        let version = top.get("_format_version").ok_or_else(|| {
            fault(node.at, "expected a decK file, which begins with _format_version".to_owned())
        })?;
        let marked_regexes = match version.text() {
            Some("1.1" | "2.1") => false,
            Some("3.0") => true,
            _ => {
                let message = format!("expected _format_version 1.1 or 3.0, found {}", version.shown());
                return Err(fault(version.at, message));
            }
        };
        // A key that is nearly one of plugins or routes: what it says would be missed everywhere.
        let known = || TOP.iter().chain(OTHERS).copied();
        let misspelt = top.entries().find_map(|(key, at, _)| {
            let is_known = known().any(|other| other == key);
            nearest(key, known()).filter(|near| !is_known && TOP.contains(near)).map(|near| (key, at, near))
        });
        if let Some((key, at, near)) = misspelt {
            return Err(fault(at, format!("unknown key {key:?} (did you mean {near:?}?)")));
        }
        Ok(Self { top, marked_regexes })
    }

    /// Defaults for a kind of entity.
    fn defaults(&self, kind: &str) -> Option<&'n Node> {
        let info = self.top.get("_info")?;
        child(child(info, "defaults")?, kind)
    }

    /// The entities of a list, at the top or in another entity.
    pub(super) fn list(&self, of: Entity<'n>, key: &str, kind: &str) -> Vec<Entity<'n>> {
        let defaults = self.defaults(kind);
        of.items(key).iter().map(|node| Entity::new(node, defaults)).collect()
    }

    /// The plugins in an entity, with the configuration that they share.
    pub(super) fn plugins(&self, of: Entity<'n>) -> Vec<Entity<'n>> {
        let plugins = of.items("plugins").iter().map(|node| {
            let shared = child(node, "_config").and_then(Node::text);
            let all = self.top.get("_plugin_configs");
            let defaults = shared.zip(all).and_then(|(name, all)| child(all, name));
            Entity::new(node, defaults)
        });
        plugins.collect()
    }
}

/// The configuration of a plugin: its own, over what it shares.
pub(super) fn configuration<'n>(plugin: &Entity<'n>) -> Entity<'n> {
    match child(plugin.node, "config") {
        Some(own) => Entity::new(own, plugin.defaults),
        None => match plugin.defaults {
            Some(shared) => Entity::new(shared, None),
            None => Entity::new(plugin.node, None).below("config").unwrap_or(Entity::new(&EMPTY, None)),
        },
    }
}

static EMPTY: Node = Node { at: At { file: 0, line: 1, column: 1 }, value: Value::Nothing };

fn duplicate(node: &Node) -> Option<(At, &str)> {
    match &node.value {
        Value::Map(entries) => {
            let mut seen = std::collections::HashSet::new();
            for (name, value) in entries {
                if !seen.insert(name.text.as_str()) {
                    return Some((name.at, &name.text));
                }
                if let Some(found) = duplicate(value) {
                    return Some(found);
                }
            }
            None
        }
        Value::List(items) => items.iter().find_map(duplicate),
        Value::Nothing | Value::Broken | Value::Scalar(_) => None,
    }
}

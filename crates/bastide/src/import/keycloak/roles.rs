//! Roles: of the realm and of clients, composite ones, and those of groups.

use std::collections::{BTreeMap, BTreeSet};

use super::{INTERNAL_CLIENTS, Importer, Named, entries, items, text, texts};
use crate::config::node::Node;
use crate::import::Outcome;

/// Roles that Keycloak makes for itself.
const INTERNAL: [&str; 2] = ["offline_access", "uma_authorization"];

/// Whose a role is: of a client, or of the realm; and what it is called there.
type Origin<'n> = (Option<&'n str>, &'n str);

/// The roles of the export.
#[derive(Debug, Default)]
pub(super) struct Roles<'n> {
    /// Each with the roles that it includes.
    pub(super) declared: BTreeMap<String, BTreeSet<String>>,
    /// The roles of each group, by path: its own and those of the groups above it.
    pub(super) of_groups: Named,
    /// What each is called here. INVARIANT: no two are called the same; one that is left out is not here,
    /// and nobody has it.
    names: BTreeMap<Origin<'n>, String>,
}

impl<'n> Roles<'n> {
    /// The roles that a thing names, as ours: those that are there.
    pub(super) fn of(&self, node: &'n Node) -> BTreeSet<String> {
        let of_clients = entries(node, "clientRoles").into_iter();
        let of_clients = of_clients.flat_map(|(client, list)| {
            list.items().iter().filter_map(Node::text).map(move |role| (Some(client), role))
        });
        self.called(texts(node, "realmRoles").into_iter().map(|role| (None, role)).chain(of_clients))
    }

    fn called(&self, origins: impl Iterator<Item = Origin<'n>>) -> BTreeSet<String> {
        origins.filter_map(|origin| self.names.get(&origin).cloned()).collect()
    }

    /// A role that is written in one text, as the steps of flows name one: `CLIENT.ROLE`, or of the realm.
    pub(super) fn written(&self, text: &str) -> Option<String> {
        let of_client = |(at, _)| {
            let (client, role) = text.split_at(at);
            self.names.get(&(Some(client), role.trim_start_matches('.')))
        };
        let found = text.match_indices('.').find_map(of_client).or_else(|| self.names.get(&(None, text)));
        found.cloned()
    }

    /// Declares a role that Keycloak has not, and gives its name: this one, or one that is free.
    pub(super) fn declare(&mut self, name: &str) -> String {
        let mut name = name.to_owned();
        while self.declared.contains_key(&name) {
            name.push('-');
        }
        self.declared.insert(name.clone(), BTreeSet::new());
        name
    }
}

pub(super) fn read<'n>(importer: &mut Importer<'n>) -> Roles<'n> {
    let mut roles = Roles::default();
    let Some(all) = importer.realm.get("roles") else { return roles };
    let found = found(importer, all);
    names(importer, &mut roles, &found);
    for (origin, role) in &found {
        let Some(name) = roles.names.get(origin).cloned() else { continue };
        let includes = roles.called(composites(role).into_iter());
        if !entries(role, "attributes").is_empty() {
            importer.find(
                role.at,
                format!("attributes of role {name:?}"),
                Outcome::Dropped,
                "roles have none",
            );
        }
        let note = if includes.is_empty() { "roles" } else { "roles, with what it includes" };
        importer.find(role.at, format!("role {name:?}"), Outcome::Translated, note);
        roles.declared.insert(name, includes);
    }
    for group in items(importer.realm, "groups") {
        walk(importer, &mut roles, group, "", &BTreeSet::new());
    }
    roles
}

/// The roles that can be one here, each once.
fn found<'n>(importer: &mut Importer<'n>, all: &'n Node) -> Vec<(Origin<'n>, &'n Node)> {
    let name = text(importer.realm, "realm").unwrap_or_default();
    let default = format!("default-roles-{}", name.to_lowercase());
    let mut found: Vec<(Origin<'n>, &'n Node)> = Vec::new();
    for role in items(all, "realm") {
        let Some(name) = text(role, "name") else { continue };
        if !INTERNAL.contains(&name) && (name != default || !composites(role).is_empty()) {
            found.push(((None, name), role));
        }
    }
    for (client, list) in entries(all, "client") {
        if !INTERNAL_CLIENTS.contains(&client) {
            let of_client =
                list.items().iter().filter_map(|role| Some(((Some(client), text(role, "name")?), role)));
            found.extend(of_client);
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|(origin, role)| {
        let name = dotted(*origin);
        let readable = name.len() <= 200 && !name.chars().any(|c| c.is_control() || "\"\\".contains(c));
        if !readable {
            let note = "it is no name of a role here";
            importer.find(role.at, format!("role {name:?}"), Outcome::Dropped, note);
        }
        readable && seen.insert(*origin)
    });
    found
}

/// A role of a client is told from one of the realm by the client's name before it.
fn dotted((client, role): Origin<'_>) -> String {
    client.map_or_else(|| role.to_owned(), |client| format!("{client}.{role}"))
}

/// Gives each role its name. Of several that would be called the same the realm's keeps the name, and
/// those of clients are called `CLIENT:ROLE`; where that is no name of one alone, they are left out.
fn names<'n>(importer: &mut Importer<'n>, roles: &mut Roles<'n>, found: &[(Origin<'n>, &'n Node)]) {
    let other = |(client, role): Origin<'_>| client.map(|client| format!("{client}:{role}"));
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for (origin, _) in found {
        *wanted.entry(dotted(*origin)).or_default() += 1;
    }
    let collides = |origin: Origin<'_>| wanted.get(&dotted(origin)).is_some_and(|count| *count > 1);
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for (origin, _) in found.iter().filter(|(origin, _)| collides(*origin)) {
        *others.entry(other(*origin).unwrap_or_default()).or_default() += 1;
    }
    for (origin, role) in found {
        let name = dotted(*origin);
        let Some(instead) = other(*origin).filter(|_| collides(*origin)) else {
            roles.names.insert(*origin, name);
            continue;
        };
        let what = format!("role {:?} of client {:?}", origin.1, origin.0.unwrap_or_default());
        if !wanted.contains_key(&instead) && others.get(&instead) == Some(&1) {
            let note = format!(
                "another role would be called {name:?} too: this one is called {instead:?}; nobody has one for the other"
            );
            importer.find(role.at, what, Outcome::Changed, note);
            roles.names.insert(*origin, instead);
        } else {
            let note = format!(
                "other roles are called {name:?} and {instead:?}: it is left out, and nobody has it; rename it in Keycloak"
            );
            importer.find(role.at, what, Outcome::Dropped, note);
        }
    }
}

/// The roles that a role includes, but for Keycloak's own.
fn composites<'n>(role: &'n Node) -> Vec<Origin<'n>> {
    let Some(parts) = role.get("composites") else { return Vec::new() };
    let of_realm = texts(parts, "realm").into_iter().filter(|role| !INTERNAL.contains(role));
    let of_clients = entries(parts, "client").into_iter();
    let of_clients = of_clients.filter(|(client, _)| !INTERNAL_CLIENTS.contains(client));
    let of_clients = of_clients.flat_map(|(client, list)| {
        list.items().iter().filter_map(Node::text).map(move |role| (Some(client), role))
    });
    of_realm.map(|role| (None, role)).chain(of_clients).collect()
}

/// A group and those in it: each has the roles of those above it.
fn walk<'n>(
    importer: &mut Importer<'n>,
    roles: &mut Roles<'n>,
    group: &'n Node,
    above: &str,
    inherited: &BTreeSet<String>,
) {
    let Some(name) = text(group, "name") else { return };
    let path = format!("{above}/{name}");
    let mut own = roles.of(group);
    if !own.is_empty() {
        let note = "its roles are given to those who are in it now; give them to people who join later";
        importer.find(group.at, format!("group {path:?}"), Outcome::Changed, note);
    } else {
        importer.find(group.at, format!("group {path:?}"), Outcome::Translated, "a name that users carry");
    }
    if let Some(role) = path.strip_prefix('/').filter(|name| roles.declared.contains_key(*name)) {
        let note = format!(
            "a role is called {role:?} too: where a gateway reads roles from `groups`, those in it have that role"
        );
        importer.find(group.at, format!("name of group {path:?}"), Outcome::Changed, note);
    }
    if !entries(group, "attributes").is_empty() {
        importer.find(
            group.at,
            format!("attributes of group {path:?}"),
            Outcome::Dropped,
            "groups have none",
        );
    }
    own.extend(inherited.iter().cloned());
    for below in items(group, "subGroups") {
        walk(importer, roles, below, &path, &own);
    }
    roles.of_groups.insert(path, own);
}

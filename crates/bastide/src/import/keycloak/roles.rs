//! Roles: of the realm and of clients, composite ones, and those of groups.

use std::collections::{BTreeMap, BTreeSet};

use super::{INTERNAL_CLIENTS, Importer, Named, entries, items, text, texts};
use crate::config::node::Node;
use crate::import::Outcome;

/// Roles that Keycloak makes for itself.
const INTERNAL: [&str; 2] = ["offline_access", "uma_authorization"];

/// The roles of the export.
#[derive(Debug, Default)]
pub(super) struct Roles {
    /// Each with the roles that it includes.
    pub(super) declared: BTreeMap<String, BTreeSet<String>>,
    /// The roles of each group, by path: its own and those of the groups above it.
    pub(super) of_groups: Named,
}

/// A role of a client is told from one of the realm by the client's name before it.
pub(super) fn of_client(client: &str, role: &str) -> String {
    format!("{client}.{role}")
}

/// The roles that a thing names, as ours.
pub(super) fn named(node: &Node) -> BTreeSet<String> {
    let mut roles: BTreeSet<String> = texts(node, "realmRoles").into_iter().map(str::to_owned).collect();
    for (client, list) in entries(node, "clientRoles") {
        if !INTERNAL_CLIENTS.contains(&client) {
            roles.extend(list.items().iter().filter_map(Node::text).map(|role| of_client(client, role)));
        }
    }
    roles
}

impl Roles {
    /// Those of them that are there.
    pub(super) fn known(&self, roles: BTreeSet<String>) -> BTreeSet<String> {
        roles.into_iter().filter(|role| self.declared.contains_key(role)).collect()
    }
}

pub(super) fn read(importer: &mut Importer<'_>) -> Roles {
    let mut roles = Roles::default();
    let Some(all) = importer.realm.get("roles") else { return roles };
    let name = text(importer.realm, "realm").unwrap_or_default();
    let default = format!("default-roles-{}", name.to_lowercase());
    for role in items(all, "realm") {
        let Some(name) = text(role, "name") else { continue };
        if INTERNAL.contains(&name) {
            continue;
        }
        let includes = composites(role);
        if name == default && includes.is_empty() {
            continue;
        }
        one(importer, &mut roles, role, name.to_owned(), includes);
    }
    for (client, list) in entries(all, "client") {
        if INTERNAL_CLIENTS.contains(&client) {
            continue;
        }
        for role in list.items() {
            let Some(name) = text(role, "name") else { continue };
            one(importer, &mut roles, role, of_client(client, name), composites(role));
        }
    }
    let known: BTreeSet<String> = roles.declared.keys().cloned().collect();
    for includes in roles.declared.values_mut() {
        includes.retain(|role| known.contains(role));
    }
    for group in items(importer.realm, "groups") {
        walk(importer, &mut roles, group, "", &BTreeSet::new());
    }
    roles
}

fn one(
    importer: &mut Importer<'_>,
    roles: &mut Roles,
    role: &Node,
    name: String,
    includes: BTreeSet<String>,
) {
    if name.len() > 200 || name.chars().any(|c| c.is_control() || "\"\\".contains(c)) {
        importer.find(role.at, format!("role {name:?}"), Outcome::Dropped, "it is no name of a role here");
        return;
    }
    if !entries(role, "attributes").is_empty() {
        importer.find(role.at, format!("attributes of role {name:?}"), Outcome::Dropped, "roles have none");
    }
    let note = if includes.is_empty() { "roles" } else { "roles, with what it includes" };
    importer.find(role.at, format!("role {name:?}"), Outcome::Translated, note);
    roles.declared.insert(name, includes);
}

fn composites(role: &Node) -> BTreeSet<String> {
    let Some(parts) = role.get("composites") else { return BTreeSet::new() };
    let mut includes: BTreeSet<String> = texts(parts, "realm").into_iter().map(str::to_owned).collect();
    includes.retain(|role| !INTERNAL.contains(&role.as_str()));
    for (client, list) in entries(parts, "client") {
        if !INTERNAL_CLIENTS.contains(&client) {
            includes.extend(list.items().iter().filter_map(Node::text).map(|role| of_client(client, role)));
        }
    }
    includes
}

/// A group and those in it: each has the roles of those above it.
fn walk(
    importer: &mut Importer<'_>,
    roles: &mut Roles,
    group: &Node,
    above: &str,
    inherited: &BTreeSet<String>,
) {
    let Some(name) = text(group, "name") else { return };
    let path = format!("{above}/{name}");
    let mut own = roles.known(named(group));
    if !own.is_empty() {
        let note = "its roles are given to those who are in it now; give them to people who join later";
        importer.find(group.at, format!("group {path:?}"), Outcome::Changed, note);
    } else {
        importer.find(group.at, format!("group {path:?}"), Outcome::Translated, "a name that users carry");
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

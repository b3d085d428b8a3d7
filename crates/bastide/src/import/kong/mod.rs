//! decK files of Kong, formats 1.1 and 3.0, as configurations of ours.
//!
//! The way through it: `source` reads entities, `service` makes `services:`, `access` turns
//! consumers and proofs into issuers, roles and policies, `plugins` turns the rest into keys
//! of routes, `matching` makes patterns of paths, `route` puts routes together, and `write`
//! writes it all down.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::yaml::Yaml;
use super::{Finding, Imported, Outcome, SideFile, Unreadable};
use crate::config::node;
use access::Consumer;
use plugins::{Level, Plugin};
use source::{Entity, Source, TOP};

mod access;
mod certificates;
mod matching;
mod place;
mod plugins;
mod route;
mod service;
mod source;
mod write;

/// Most findings that are kept.
const FINDINGS_MAX: usize = 20_000;

/// Where the imported gateway listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Cleartext, as Kong's 8000.
    pub http: String,
    /// TLS, as Kong's 8443.
    pub https: String,
}

impl Default for Listen {
    fn default() -> Self {
        Self { http: "0.0.0.0:8000".to_owned(), https: "0.0.0.0:8443".to_owned() }
    }
}

/// Names that are given once.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// The name as it can be written here, and as nobody else has it.
    fn take(&mut self, wanted: &str) -> String {
        let tidy: String = wanted
            .trim()
            .chars()
            .map(|c| if c.is_control() || "\"\\".contains(c) { '-' } else { c })
            .collect();
        let mut tidy: String = tidy.chars().take(100).collect();
        if tidy.is_empty() {
            tidy = "unnamed".to_owned();
        }
        let mut name = tidy.clone();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{tidy}-{number}");
            number += 1;
        }
        name
    }
}

/// What is being made.
struct Importer<'n> {
    source: &'n Source<'n>,
    listen: Listen,
    service_names: Names,
    route_names: Names,
    services: Vec<(String, Yaml)>,
    consumers: Vec<Consumer<'n>>,
    /// Groups, each with a member that is not in the file.
    strangers: Vec<(String, String)>,
    plugins: Rc<Vec<Plugin<'n>>>,
    issuers: Vec<Yaml>,
    roles: Vec<String>,
    routes: Vec<route::Made>,
    /// Routes by what they take, whatever their methods.
    alike: HashMap<String, Vec<usize>>,
    policies: String,
    client_authorities: Option<Vec<String>>,
    /// Routes whose upstreams see the host that the client asked for, as they did not in Kong.
    hosts_preserved: usize,
    files: Vec<SideFile>,
    findings: Vec<Finding>,
    said: HashSet<Finding>,
    next_steps: Vec<String>,
}

/// Translates a decK file.
///
/// # Errors
/// It is no YAML, or no decK file of a format that is known.
pub fn import(text: &str, listen: Listen) -> Result<Imported, Unreadable> {
    let node =
        node::parse(0, text).map_err(|(line, column, message)| Unreadable { line, column, message })?;
    let source = Source::of(&node)?;
    let mut importer = Importer {
        source: &source,
        listen,
        service_names: Names::default(),
        route_names: Names::default(),
        services: Vec::new(),
        consumers: Vec::new(),
        strangers: Vec::new(),
        plugins: Rc::default(),
        issuers: Vec::new(),
        roles: Vec::new(),
        routes: Vec::new(),
        alike: HashMap::new(),
        policies: String::new(),
        client_authorities: None,
        hosts_preserved: 0,
        files: Vec::new(),
        findings: Vec::new(),
        said: HashSet::new(),
        next_steps: Vec::new(),
    };
    importer.other_keys();
    importer.collect_plugins();
    importer.consumers();
    importer.all_routes();
    importer.plugins_of_somebody();
    importer.unknown_keys_of_somebody();
    Ok(importer.finish())
}

impl<'n> Importer<'n> {
    /// Writes down what became of something.
    fn say(&mut self, of: Entity<'_>, what: &str, outcome: Outcome, note: &str) {
        self.say_at(of.at(), what, outcome, note);
    }

    /// The same of something in it.
    fn say_at(&mut self, at: node::At, what: &str, outcome: Outcome, note: &str) {
        let finding = Finding {
            line: at.line,
            column: at.column,
            what: what.to_owned(),
            outcome,
            note: note.to_owned(),
        };
        // A plugin that runs on many routes becomes the same on each.
        if self.findings.len() < FINDINGS_MAX && self.said.insert(finding.clone()) {
            self.findings.push(finding);
        }
    }

    /// Keys at the top that nothing else looks at.
    fn other_keys(&mut self) {
        let others: Vec<_> = self
            .source
            .top
            .entries()
            .filter(|(key, _, _)| !key.starts_with('_') && !TOP.contains(key))
            .collect();
        for (key, _, node) in others {
            let note = match key {
                "vaults" => "references to vaults ({vault://…}) are not followed",
                _ => "it has no counterpart",
            };
            self.say(Entity::new(node, None), key, Outcome::Dropped, note);
        }
    }

    /// Every plugin with the things that it is for.
    fn collect_plugins(&mut self) {
        let top = self.source.top;
        let mut found = Vec::new();
        for entity in self.source.plugins(top) {
            found.push((entity, None, None, None, None));
        }
        for (number, service) in self.source.list(top, "services", "service").into_iter().enumerate() {
            let service_name = key_of(&service, "service", number);
            for entity in self.source.plugins(service) {
                found.push((entity, Some(service_name.clone()), None, None, None));
            }
            for (number, route) in self.source.list(service, "routes", "route").into_iter().enumerate() {
                let route_name = key_of(&route, &format!("{service_name}-route"), number);
                for entity in self.source.plugins(route) {
                    found.push((entity, None, Some(route_name.clone()), None, None));
                }
            }
        }
        for (number, route) in self.source.list(top, "routes", "route").into_iter().enumerate() {
            let route_name = key_of(&route, "route", number);
            for entity in self.source.plugins(route) {
                found.push((entity, None, Some(route_name.clone()), None, None));
            }
        }
        for consumer in self.source.list(top, "consumers", "consumer") {
            let name = consumer.text("username").or_else(|| consumer.text("custom_id"));
            for entity in self.source.plugins(consumer) {
                found.push((entity, None, None, name.clone().or(Some(String::new())), None));
            }
        }
        for group in self.source.list(top, "consumer_groups", "consumer_group") {
            for entity in self.source.plugins(group) {
                found.push((entity, None, None, None, access::group_called(&group).or(Some(String::new()))));
            }
        }
        let mut plugins = Vec::new();
        for (entity, service, route, consumer, group) in found {
            plugins.extend(self.plugin(entity, [service, route, consumer, group]));
        }
        self.plugins = Rc::new(plugins);
    }

    fn plugin(&mut self, entity: Entity<'n>, nested: [Option<String>; 4]) -> Option<Plugin<'n>> {
        let [service, route, consumer, group] = nested;
        let name = entity.text("name").unwrap_or_default();
        let service = service.or_else(|| self.resolved(entity, "service", &name));
        let route = route.or_else(|| self.resolved(entity, "route", &name));
        let consumer = consumer.or_else(|| entity.reference("consumer"));
        let group = group.or_else(|| entity.reference("consumer_group"));
        let level = match (&route, &service) {
            (Some(_), Some(_)) => Level::RouteAndService,
            (Some(_), None) => Level::Route,
            (None, Some(_)) => Level::Service,
            (None, None) => Level::Global,
        };
        let plugin = Plugin { name, entity, level, service, route, consumer, group };
        if !entity.flag("enabled", true) {
            self.say(entity, &plugin.place(), Outcome::Dropped, "it is not enabled");
            return None;
        }
        Some(plugin)
    }
}

impl<'n> Importer<'n> {
    /// The key of what a plugin refers to by name or id.
    fn resolved(&mut self, plugin: Entity<'n>, kind: &str, name: &str) -> Option<String> {
        let reference = plugin.reference(kind)?;
        let top = self.source.top;
        let services = self.source.list(top, "services", "service").into_iter().enumerate();
        let services = services.map(|(number, service)| (service, key_of(&service, "service", number)));
        let services: Vec<(Entity<'n>, String)> = services.collect();
        let mut known = Vec::new();
        if kind == "route" {
            for (service, key) in &services {
                let routes = self.source.list(*service, "routes", "route").into_iter().enumerate();
                let kind = format!("{key}-route");
                known.extend(routes.map(|(number, route)| (route, key_of(&route, &kind, number))));
            }
            let alone = self.source.list(top, "routes", "route").into_iter().enumerate();
            known.extend(alone.map(|(number, route)| (route, key_of(&route, "route", number))));
        } else {
            known = services;
        }
        let found = known.into_iter().find(|(entity, _)| entity.is_called(&reference));
        if found.is_none() {
            let note = format!("{kind} {reference:?} is not in the file, so it is for nobody");
            self.say(plugin, &format!("plugin {name}"), Outcome::Dropped, &note);
        }
        Some(found.map_or(reference, |(_, key)| key))
    }
}

/// What an entity is called in references: its name, its id, or a name of its place.
fn key_of(entity: &Entity<'_>, kind: &str, number: usize) -> String {
    entity.text("name").or_else(|| entity.text("id")).unwrap_or_else(|| format!("{kind}-{}", number + 1))
}

/// What the fuzzer calls: arbitrary bytes as a decK file. Must never panic.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = import(text, Listen::default());
    }
}

#[cfg(test)]
mod tests;

//! What a route of Kong's takes: each host with each path and each header value.

use super::Importer;
use super::matching::{Pattern, expression, host, prefix};
use super::source::Entity;
use crate::config::node::Node;
use crate::import::Outcome;

/// Most routes of ours that one of Kong's may become.
const PLACES_MAX: usize = 256;
/// Methods that are admitted.
pub(super) const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What one route of ours takes.
pub(super) struct Place {
    /// Empty: any.
    pub(super) host: String,
    pub(super) pattern: Pattern,
    /// Empty: any.
    pub(super) methods: Vec<String>,
    pub(super) headers: Vec<(String, String)>,
}

impl<'n> Importer<'n> {
    /// All of them; what cannot be said exactly takes more, and `closed` says why.
    pub(super) fn places(&mut self, entity: Entity<'n>, place: &str, closed: &mut Vec<String>) -> Vec<Place> {
        let mut hosts = self.hosts(entity, place, closed);
        let mut patterns = self.patterns(entity);
        let mut conditions = conditions(entity, closed);
        let written = entity.texts("methods");
        let admitted = METHODS.iter().filter(|method| written.iter().any(|w| w == *method));
        let methods: Vec<String> = admitted.map(|method| (*method).to_owned()).collect();
        if methods.is_empty() && !written.is_empty() {
            self.say(entity, place, Outcome::Dropped, "its methods are never admitted");
            return Vec::new();
        }
        let count = hosts.len().saturating_mul(patterns.len()).saturating_mul(conditions.len());
        if count > PLACES_MAX {
            closed
                .push(format!("hosts, paths and headers make {count} routes, at most {PLACES_MAX} are made"));
            hosts = vec![String::new()];
            patterns = vec![prefix("/")];
            conditions = vec![Vec::new()];
        }
        let mut all = Vec::new();
        for host in &hosts {
            for pattern in &patterns {
                for headers in &conditions {
                    all.push(Place {
                        host: host.clone(),
                        pattern: pattern.clone(),
                        methods: methods.clone(),
                        headers: headers.clone(),
                    });
                }
            }
        }
        all
    }

    fn hosts(&mut self, entity: Entity<'n>, place: &str, closed: &mut Vec<String>) -> Vec<String> {
        let mut named = entity.texts("hosts");
        if named.is_empty() && !entity.items("snis").is_empty() {
            self.say(entity, place, Outcome::Changed, "snis are taken for hosts");
            named = entity.texts("snis");
        }
        if named.is_empty() {
            return vec![String::new()];
        }
        let one = |written: &String| match host(written) {
            Ok(host) => host,
            Err(why) => {
                closed.push(format!("host {written:?}: {why}"));
                String::new()
            }
        };
        named.iter().map(one).collect()
    }

    fn patterns(&self, entity: Entity<'n>) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for path in entity.texts("paths") {
            match path.strip_prefix('~') {
                Some(regex) if self.source.marked_regexes => patterns.extend(expression(regex)),
                _ if !self.source.marked_regexes && !is_plain(&path) => patterns.extend(expression(&path)),
                _ => patterns.push(prefix(&path)),
            }
        }
        if patterns.is_empty() {
            patterns.push(prefix("/"));
        }
        patterns
    }
}

/// Values of one header are alternatives, several headers must all be there.
fn conditions(entity: Entity<'_>, closed: &mut Vec<String>) -> Vec<Vec<(String, String)>> {
    let mut conditions = vec![Vec::new()];
    let Some(headers) = entity.below("headers") else { return conditions };
    for (name, _, node) in headers.entries() {
        let values: Vec<String> = node.items().iter().filter_map(Node::text).map(str::to_owned).collect();
        if values.iter().any(|value| value.starts_with("~*")) || name.contains('_') {
            closed.push(format!("header {name:?} is matched in a way that has no counterpart"));
            continue;
        }
        let name = name.to_ascii_lowercase();
        let with = |list: &Vec<(String, String)>| {
            let each = values.iter().map(|value| {
                let mut list = list.clone();
                list.push((name.clone(), value.clone()));
                list
            });
            each.collect::<Vec<_>>()
        };
        conditions = conditions.iter().flat_map(with).take(PLACES_MAX + 1).collect();
    }
    conditions
}

/// Kong before 3.0 took a path for a regular expression when it had other characters.
fn is_plain(path: &str) -> bool {
    path.chars().all(|c| c.is_ascii_alphanumeric() || ".-_~/%".contains(c))
}

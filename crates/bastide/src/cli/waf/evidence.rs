//! What the log says for and against each rule that fires: who met it, and what else they
//! did.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::event::FirewallMatch;

use super::log::Line;
use crate::config::Exclusion;

/// Matches that are kept, over all lines; the log may hold more, and the report says so.
const MATCHES_MAX: usize = 1_000_000;
/// Clients that are told apart.
const CLIENTS_MAX: usize = 1_000_000;
/// Different critical rules after which a client is rather one who tries than one who is
/// wronged.
const RULES_PER_CLIENT_MAX: usize = 3;
/// Ids of requests that are kept as samples.
const SAMPLES: usize = 3;
/// `severity` up to which a match is called critical (2 is CRITICAL).
const CRITICAL: u8 = 2;

/// What is known of a client.
#[derive(Debug, Default)]
struct Client {
    /// Whether a service answered it with success where no critical rule matched.
    is_served: bool,
    critical: BTreeSet<u64>,
}

/// What could be left out: a rule, what it does not look at, on a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) route: String,
    pub(super) rule: u64,
    /// None: the rule would not run there at all.
    pub(super) target: Option<String>,
}

impl Candidate {
    /// As an exclusion; None for a name that cannot be written in a configuration.
    pub(super) fn exclusion(&self) -> Option<Exclusion> {
        let text = match &self.target {
            Some(target) => format!("{}:{target}", self.rule),
            None => self.rule.to_string(),
        };
        Exclusion::parse(&text).ok().filter(|_| text.is_ascii())
    }

    /// What leaving out a match would take; None where no exclusion reaches it.
    fn of(line: &Line, found: &FirewallMatch) -> Option<Self> {
        if line.route.is_empty() || found.judges.is_some() || !weighs(found) {
            return None;
        }
        // What a rule makes up itself, and counts, are no targets that somebody excludes.
        let made_up = ["&", "TX:", "MATCHED_", "RULE:"].iter().any(|begin| found.variable.starts_with(begin));
        let whole = found.chain || made_up || found.variable.is_empty();
        let target = (!whole).then(|| found.variable.clone());
        Some(Self { route: line.route.clone(), rule: found.id, target })
    }
}

/// What speaks for a candidate and what against it.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Requests in which nothing else critical was found in the same value, of clients that
    /// are otherwise served.
    pub(super) requests: u64,
    /// Their clients.
    pub(super) clients: BTreeSet<String>,
    /// Those of them that have proved who they are.
    pub(super) authenticated: BTreeSet<String>,
    /// Ids of some of the requests.
    pub(super) samples: Vec<String>,
    /// Requests of clients that nothing speaks for.
    pub(super) strangers: u64,
    /// Requests in which another critical rule matched the same value.
    pub(super) attacks: u64,
    /// The rule's message.
    pub(super) message: String,
}

/// The log, as far as proposals need it.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Requests in which a rule added to a score or would stop them.
    pub(super) lines: Vec<Line>,
    pub(super) requests: u64,
    pub(super) blocked: u64,
    /// Lines with findings past the bound.
    pub(super) further: u64,
    matches: usize,
    clients: HashMap<String, Client>,
}

impl Gathered {
    /// Adds a line.
    pub(super) fn take(&mut self, mut line: Line) {
        self.requests += 1;
        self.blocked += u64::from(line.is_blocked() && !line.is_refused_elsewhere());
        let critical = line.found.rules.iter().filter(|found| is_critical(found));
        let critical: Vec<u64> = critical.map(|found| found.id).collect();
        let served = line.step == "forward" && (200..300).contains(&line.status) && critical.is_empty();
        let name = line.client();
        if self.clients.len() < CLIENTS_MAX || self.clients.contains_key(&name) {
            let client = self.clients.entry(name).or_default();
            client.is_served |= served;
            if client.critical.len() <= RULES_PER_CLIENT_MAX {
                client.critical.extend(critical);
            }
        }
        if !line.found.rules.iter().any(weighs) {
            return;
        }
        if self.matches >= MATCHES_MAX {
            self.further += 1;
            return;
        }
        self.matches += line.found.rules.len();
        for found in &mut line.found.rules {
            found.data = String::new();
            found.tags = Vec::new();
        }
        self.lines.push(line);
    }

    /// Whether a client is otherwise served, and does not try one attack after the other.
    pub(super) fn is_credible(&self, client: &str) -> bool {
        let known = self.clients.get(client);
        known.is_some_and(|known| known.is_served && known.critical.len() <= RULES_PER_CLIENT_MAX)
    }

    /// What speaks for and against everything that could be left out.
    pub(super) fn weigh(&self) -> BTreeMap<Candidate, Evidence> {
        let mut all: BTreeMap<Candidate, Evidence> = BTreeMap::new();
        for line in self.lines.iter().filter(|line| !line.is_refused_elsewhere()) {
            let client = line.client();
            let credible = self.is_credible(&client);
            let mut seen = BTreeSet::new();
            for found in &line.found.rules {
                let Some(candidate) = Candidate::of(line, found).filter(|new| seen.insert(new.clone()))
                else {
                    continue;
                };
                let evidence = all.entry(candidate).or_default();
                if evidence.message.is_empty() {
                    evidence.message.clone_from(&found.msg);
                }
                evidence.add(line, &client, credible, is_attacked(line, found));
            }
        }
        all
    }
}

impl Evidence {
    fn add(&mut self, line: &Line, client: &str, credible: bool, attacked: bool) {
        if attacked {
            self.attacks += 1;
        } else if !credible {
            self.strangers += 1;
        } else {
            self.requests += 1;
            self.clients.insert(client.to_owned());
            if !line.principal.is_empty() {
                self.authenticated.insert(client.to_owned());
            }
            if self.samples.len() < SAMPLES {
                self.samples.push(line.request.clone());
            }
        }
    }
}

/// Whether a match adds to a score or would stop the request by itself.
pub(super) fn weighs(found: &FirewallMatch) -> bool {
    !found.adds.is_empty() || (found.disruptive && found.judges.is_none())
}

fn is_critical(found: &FirewallMatch) -> bool {
    weighs(found) && found.severity.is_none_or(|severity| severity <= CRITICAL)
}

/// Whether another critical rule matched the same value.
fn is_attacked(line: &Line, found: &FirewallMatch) -> bool {
    line.found
        .rules
        .iter()
        .any(|other| other.id != found.id && other.variable == found.variable && is_critical(other))
}

/// The candidates of a line.
pub(super) fn candidates(line: &Line) -> impl Iterator<Item = Candidate> {
    line.found.rules.iter().filter_map(|found| Candidate::of(line, found))
}

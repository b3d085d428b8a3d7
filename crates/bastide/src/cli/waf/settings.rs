//! What a replay is held against: options, or the firewalls of a configuration, route by
//! route.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use waf::{Budget, Connection, Memory, MemoryLimits, RequestHead, RuleSet, Scores, Transaction};

use super::rules::{self, Overrides};
use super::verdict::{Reason, Settings};
use crate::config::{Configuration, Firewall, WafChoice, WafMode};

/// The settings of every route.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Of requests without a route, and of all where no configuration is given.
    default: Settings,
    routes: HashMap<String, Result<Settings, Reason>>,
    /// Whether these are all routes that there are.
    are_all: bool,
}

impl Plan {
    /// From options alone: everything else stays as it was.
    pub(super) fn of_options(overrides: &Overrides) -> Self {
        let mut plan = Self::default();
        put_over(overrides, &mut plan.default);
        plan
    }

    /// From a configuration, with options over it.
    ///
    /// # Errors
    /// The configuration has faults.
    pub(super) fn of_configuration(path: &Path, overrides: &Overrides) -> anyhow::Result<Self> {
        let configuration = rules::configuration(path)?;
        let firewalls: Vec<Settings> = configuration.firewalls.iter().map(of_firewall).collect();
        let mut default = of_choice(configuration.waf, &firewalls);
        put_over(overrides, &mut default);
        let route = |known| {
            let choice = rules::of_route(&configuration, known).ok_or(Reason::Listener)?;
            let mut settings = of_choice(choice, &firewalls);
            put_over(overrides, &mut settings);
            Ok(settings)
        };
        let routes = configuration.routes.iter().map(|known| (known.name.clone(), route(known)));
        Ok(Self { default, routes: routes.collect(), are_all: true })
    }

    /// Leaves these out of one route besides.
    pub(super) fn exclude(&mut self, route: &str, exclusions: &[crate::config::Exclusion]) {
        let default = self.default.clone();
        if let Ok(settings) = self.routes.entry(route.to_owned()).or_insert(Ok(default)) {
            settings.exclusions.extend(exclusions.iter().cloned());
        }
    }

    /// The settings of a route; the default's for a request without one.
    ///
    /// # Errors
    /// Which there are cannot be told.
    pub(super) fn of(&self, route: &str) -> Result<&Settings, Reason> {
        match self.routes.get(route) {
            Some(settings) => settings.as_ref().map_err(|reason| *reason),
            None if route.is_empty() || !self.are_all => Ok(&self.default),
            None => Err(Reason::Route),
        }
    }
}

fn put_over(overrides: &Overrides, settings: &mut Settings) {
    settings.paranoia = overrides.paranoia.or(settings.paranoia);
    settings.threshold_inbound = overrides.inbound_threshold.or(settings.threshold_inbound);
    settings.threshold_outbound = overrides.outbound_threshold.or(settings.threshold_outbound);
    settings.exclusions.extend(overrides.exclusions.iter().cloned());
}

fn of_choice(choice: WafChoice, firewalls: &[Settings]) -> Settings {
    match choice {
        WafChoice::Firewall(number) => firewalls.get(number).cloned().unwrap_or_default(),
        WafChoice::Inherit | WafChoice::Off => Settings { off: true, ..Settings::default() },
    }
}

/// What a firewall's rules come to: the levels and thresholds that its rules set, whoever
/// says them, its exclusions, and which rules there are.
fn of_firewall(firewall: &Firewall) -> Settings {
    let scores = started(&firewall.rules);
    let known = |value: u32| (value > 0).then_some(value);
    Settings {
        off: firewall.settings.mode == WafMode::Off,
        paranoia: known(scores.paranoia).and_then(|level| u8::try_from(level).ok()),
        threshold_inbound: known(scores.threshold_inbound),
        threshold_outbound: known(scores.threshold_outbound),
        exclusions: firewall.settings.exclusions.clone(),
        present: Some(firewall.rules.ids().collect::<HashSet<u64>>()),
    }
}

/// The scores as they stand when the rules have begun with an empty request.
fn started(rules: &Arc<RuleSet>) -> Scores {
    let connection = Connection {
        client_address: IpAddr::from([192, 0, 2, 1]),
        client_port: 1,
        server_address: IpAddr::from([127, 0, 0, 1]),
        server_port: 80,
    };
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    let mut transaction = Transaction::new(Arc::clone(rules), memory, connection, "settings", 0);
    let head = RequestHead {
        line: b"GET / HTTP/1.1",
        method: b"GET",
        target: b"/",
        protocol: b"HTTP/1.1",
        headers: &[(b"Host", b"localhost")],
    };
    let _ = transaction.request_headers(&head, Budget::UNLIMITED);
    transaction.scores().unwrap_or_default()
}

/// Where a configuration's firewall log lies.
pub(super) fn log_of(configuration: &Configuration) -> std::path::PathBuf {
    configuration.audit.firewall.clone()
}

//! Firewalls: from what was loaded with the configuration to what requests meet.

use std::sync::Arc;

use gateway::firewall::{Choice, CompressedRequests, Firewall, Firewalls, Mode};
use gateway::snapshot::Snapshot;

use super::Listeners;
use crate::config::{Configuration, WafChoice, WafCompressed, WafMode};

/// The configuration's firewalls, each once.
pub(super) struct Loaded {
    firewalls: Vec<Arc<Firewall>>,
}

impl Loaded {
    /// All of a configuration. What rules remember outlives it.
    pub(super) fn new(configuration: &Configuration, memory: &Arc<waf::Memory>) -> Self {
        let one = |firewall: &crate::config::Firewall, on_identity: Option<Arc<Firewall>>| {
            Arc::new(Firewall {
                rules: Arc::clone(&firewall.rules),
                mode: match firewall.settings.mode {
                    WafMode::Block => Mode::Block,
                    WafMode::Detect | WafMode::Off => Mode::Detect,
                },
                memory: Arc::clone(memory),
                compressed_requests: match firewall.settings.request_body.compressed {
                    None | Some(WafCompressed::Refuse) => CompressedRequests::Refuse,
                    Some(WafCompressed::Unpack) => CompressedRequests::Unpack,
                    Some(WafCompressed::Pass) => CompressedRequests::Pass,
                },
                unreadable_answers_pass: firewall.settings.response_body.unreadable_passes == Some(true),
                on_identity,
            })
        };
        // What stands in the place of another has none in its own.
        let alone: Vec<Arc<Firewall>> =
            configuration.firewalls.iter().map(|firewall| one(firewall, None)).collect();
        let other = |firewall: &crate::config::Firewall| Some(Arc::clone(alone.get(firewall.on_identity?)?));
        let whole =
            configuration.firewalls.iter().zip(&alone).map(|(firewall, alone)| match other(firewall) {
                Some(other) => one(firewall, Some(other)),
                None => Arc::clone(alone),
            });
        Self { firewalls: whole.collect() }
    }

    /// What a listener or a route chose.
    pub(super) fn choice(&self, choice: WafChoice) -> Choice {
        match choice {
            WafChoice::Inherit => Choice::Inherit,
            WafChoice::Off => Choice::Off,
            // A number that names none cannot come of a checked configuration.
            WafChoice::Firewall(number) => self
                .firewalls
                .get(number)
                .map_or(Choice::Inherit, |firewall| Choice::Is(Arc::clone(firewall))),
        }
    }

    /// Those of all that name none themselves.
    pub(super) fn of_listeners(
        &self,
        configuration: &Configuration,
        listeners: &Listeners,
        before: Option<&Snapshot>,
    ) -> Firewalls {
        let open = listeners.open.iter().zip(&configuration.listeners);
        let mut by_listener: Vec<_> = open.map(|(key, listener)| (*key, self.choice(listener.waf))).collect();
        // What one that closes names is a firewall of the configuration that had it.
        let closes = |key| listeners.closing.iter().any(|(closing, _)| closing == key);
        let earlier = before.into_iter().flat_map(|before| &before.firewalls.by_listener);
        by_listener.extend(earlier.filter(|(key, _)| closes(key)).cloned());
        Firewalls { default: self.choice(configuration.waf), by_listener }
    }
}

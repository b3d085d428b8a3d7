//! Whether every body that a route holds before it goes on, for the firewall or `validate:`, fits into
//! what may be held: what never does would be refused for ever, and nobody would know why.

use proxy::limits::{Limits, TABLE};
use proxy::{held_bytes, held_bytes_of_one_max};

use super::decoder::{Decoder, Table};
use super::limits::written;
use super::node::Node;
use super::waf::Firewalls;
use super::{Listener, Route, WafChoice, WafCompressed, WafMode};

impl Decoder<'_> {
    /// Faults of routes that permit bodies which they could never hold.
    pub(super) fn bodies_fit(
        &mut self,
        top: &Table<'_>,
        limits: &Limits,
        routes: &[Route],
        firewalls: &Firewalls,
        inherited: &[WafChoice],
    ) {
        // Where something is wrong, not all routes are here.
        if self.faulty() {
            return;
        }
        let most = held_bytes_of_one_max(limits);
        for (route, node) in routes.iter().zip(top.get("routes").map_or(&[][..], Node::items)) {
            let permitted = route.body_max.unwrap_or(limits.body_bytes_max);
            let held = |bytes: u64, unpacked: u64, whom, key| {
                let bytes = bytes.min(permitted);
                (held_bytes(bytes).saturating_add(unpacked), bytes, whom, key)
            };
            let by_firewall = inspected(route, firewalls, inherited)
                .map(|(bytes, unpacked)| held(bytes, unpacked, "the firewall", "body_max"));
            let contract = route.validation.as_ref();
            let by_contract = contract.map(|contract| held(contract.body_max, 0, "validate", "validate"));
            let largest = by_firewall.into_iter().chain(by_contract).max_by_key(|(takes, ..)| *takes);
            let Some((takes, bytes, whom, key)) = largest.filter(|(takes, ..)| *takes > most) else {
                continue;
            };
            let message = format!(
                "bodies of up to {} are held for {whom}, which takes up to {}; one body has {}, the smaller of limits.held_bytes_per_address_max and half of limits.held_bytes_max",
                size(bytes),
                size(takes),
                size(most),
            );
            let at = node.get(key).map_or(node.at, |node| node.at);
            self.advise(at, message, "permit smaller bodies, or raise both limits");
        }
    }
}

/// Most bytes of a request's body that a firewall which a route may meet holds, and of what it makes of those
/// that are compressed.
fn inspected(route: &Route, firewalls: &Firewalls, inherited: &[WafChoice]) -> Option<(u64, u64)> {
    let own = [route.waf];
    let choices = if route.waf == WafChoice::Inherit { inherited } else { &own };
    let blocking = choices.iter().filter_map(|choice| match choice {
        WafChoice::Firewall(number) => firewalls.get(*number),
        WafChoice::Inherit | WafChoice::Off => None,
    });
    blocking
        .filter(|firewall| firewall.settings.mode == WafMode::Block)
        .filter(|firewall| firewall.rules.settings().request_body_access)
        .map(|firewall| {
            let bytes = firewall.rules.settings().request_body_bytes_max as u64;
            let unpacks = firewall.settings.request_body.compressed == Some(WafCompressed::Unpack);
            (bytes, if unpacks { bytes } else { 0 })
        })
        .max_by_key(|(bytes, unpacked)| bytes.saturating_add(*unpacked))
}

/// The firewalls of routes that name none.
pub(super) fn inherited(listeners: &[Listener], default: WafChoice) -> Vec<WafChoice> {
    let own = listeners.iter().map(|listener| match listener.waf {
        WafChoice::Inherit => default,
        own => own,
    });
    own.collect()
}

/// A number of bytes as it is written in the configuration, upwards.
fn size(bytes: u64) -> String {
    let unit = if bytes < 1 << 20 { 1 << 10 } else { 1 << 20 };
    let row = TABLE.iter().find(|row| row.name == "held_bytes_max");
    row.map_or_else(|| bytes.to_string(), |row| written(row, bytes.next_multiple_of(unit)))
}

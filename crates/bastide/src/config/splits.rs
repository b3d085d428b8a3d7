//! `routes[].to` and `routes[].mirror`: which services share a route's requests, and
//! which one gets copies.

use super::Service;
use super::decoder::Decoder;
use super::node::{Node, Value};
use super::schema::{Section, key};

/// One of the services that share the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Its place in [`super::Configuration::services`].
    pub service: usize,
    /// Its share of the requests that no `headers` claim.
    pub weight: u32,
    /// Requests with these headers go here, whatever the weights.
    pub headers: Vec<(String, String)>,
}

/// Who gets copies of a route's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Its place in [`super::Configuration::services`].
    pub service: usize,
    /// The percentage of requests that are copied.
    pub percent: u32,
}

pub(super) const TO: Section = Section {
    path: "routes[].to[]",
    about: "One of several services that share the requests of a route. The first one's audience is used in the identity token of all, and its name in policies and metrics.",
    short: "the service's name as a text: `to: orders`",
    keys: &[
        key("service", "service name", "", "Where they go."),
        key(
            "weight",
            "0 to 1000000",
            "1; with `headers` 0",
            "Its share of the requests, compared with the other weights.",
        ),
        key(
            "headers",
            "map of header name to value",
            "none",
            "Requests with all of these headers go here, whatever the weights.",
        ),
    ],
};

pub(super) const MIRROR: Section = Section {
    path: "routes[].mirror",
    about: "A service that gets copies of answered requests. Its own responses are dropped, and no client waits for them. Bodies up to 64 KiB are copied; requests with larger ones are not.",
    short: "the service's name as a text: `mirror: shadow`",
    keys: &[
        key("to", "service name", "", "The service that gets the copies."),
        key("percent", "1 to 100", "100", "The percentage of requests that are copied."),
    ],
};

impl Decoder<'_> {
    /// `to:`; empty: not to be read. One entry without conditions is no split.
    pub(super) fn splits(&mut self, node: &Node, services: &[Service]) -> Vec<Split> {
        let mut splits = Vec::new();
        let mut faulty = false;
        for item in node.items() {
            match self.split(item, services) {
                Some(split) => splits.push(split),
                None => faulty = true,
            }
        }
        if splits.is_empty() && !faulty {
            self.expected(node, "a service name");
        }
        let by_weight = splits.iter().any(|split| split.headers.is_empty() && split.weight > 0);
        if !faulty && !splits.is_empty() && !by_weight {
            self.advise(
                node.at,
                "requests without these headers would go nowhere",
                "add { service: NAME, weight: 1 }",
            );
        }
        if faulty { Vec::new() } else { splits }
    }

    fn split(&mut self, node: &Node, services: &[Service]) -> Option<Split> {
        if !matches!(node.value, Value::Map(_)) {
            let service = self.service_reference(node, services)?;
            return Some(Split { service, weight: 1, headers: Vec::new() });
        }
        let table = self.table(node, &TO)?;
        let service =
            self.required(&table, "service").and_then(|node| self.service_reference(node, services));
        let headers = table.get("headers").map_or(Vec::new(), |node| self.header_values(node));
        let weight = table.get("weight").and_then(|node| self.number(node, 0, 1_000_000));
        if weight.is_some_and(|weight| weight > 0) && !headers.is_empty() {
            let message = "what has headers takes no share of the others";
            self.advise(
                table.key_at("weight"),
                message,
                "add a second entry of this service with the weight",
            );
        }
        let weight = weight.unwrap_or(u32::from(headers.is_empty()));
        Some(Split { service: service?, weight, headers })
    }

    /// `mirror:`
    pub(super) fn mirror(&mut self, node: &Node, services: &[Service]) -> Option<Mirror> {
        if !matches!(node.value, Value::Map(_)) {
            let service = self.service_reference(node, services)?;
            return Some(Mirror { service, percent: 100 });
        }
        let table = self.table(node, &MIRROR)?;
        let service = self.required(&table, "to").and_then(|node| self.service_reference(node, services));
        let percent = table.get("percent").and_then(|node| self.number(node, 1, 100));
        Some(Mirror { service: service?, percent: percent.unwrap_or(100) })
    }
}

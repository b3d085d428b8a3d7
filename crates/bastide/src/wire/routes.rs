//! Routes: what they match, what they ask, how they go on.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::metric::Registry;
use gateway::response::{AnswerRules, ResponseRules};
use gateway::snapshot::{LimitBy, RateLimit, Route, Snapshot, WebSocket};
use gateway::step::authenticate::Proof;
use gateway::step::contract::RouteContract;
use gateway::step::cors::{Cors, Origins};
use gateway::step::hygiene::HeaderRules;
use gateway::step::route::WEBSOCKET;
use proxy::address::{AddressList, AddressRules};
use proxy::concurrency::Concurrency;
use proxy::limits::Limits;
use proxy::rate::Rule;
use proxy::upstream::{ForwardSettings, Mirror, Split};

use super::Parts;
use super::firewall::Loaded;
use super::services::timeouts;
use crate::config::{self, Configuration};

/// How a route's requests go upstream; `None` when it answers itself.
pub(super) fn forward(
    route: &config::Route,
    configuration: &Configuration,
    limits: &Limits,
) -> Option<ForwardSettings> {
    if route.own_answer.is_some() {
        return None;
    }
    let retries = configuration.services.get(route.service).map_or(0, |service| service.retries);
    Some(ForwardSettings {
        service: route.service,
        splits: route.splits.iter().map(split).collect(),
        mirror: route.mirror.map(|mirror| Mirror { service: mirror.service, percent: mirror.percent }),
        timeouts: timeouts(&route.timeouts),
        retries,
        upgrades: upgrades(route, configuration),
        strip_prefix: route.strip_prefix.as_ref().map(|prefix| Bytes::from(prefix.clone().into_bytes())),
        add_prefix: route.add_prefix.as_ref().map(|prefix| Bytes::from(prefix.clone().into_bytes())),
        template: route.rewrite.clone(),
        contract: route.validation.as_ref().map_or(0, |validation| validation.contract.digest()),
        body_bytes_max: route.body_max.unwrap_or(limits.body_bytes_max),
        keep_host: true,
    })
}

/// Whether a route's clients may switch to a WebSocket. INVARIANT: past a contract, which does not see
/// what follows, only where it is written. HTTP/2 has nothing to switch with (RFC 9113 §8.6).
fn websocket(route: &config::Route, configuration: &Configuration) -> WebSocket {
    let service = configuration.services.get(route.service);
    match &route.upgrades {
        // Our own services, and our own answers, have nothing to switch to.
        _ if service.is_none_or(|service| service.in_process) => WebSocket::Allowed,
        Some(written) if written.iter().any(|name| name.as_bytes() == WEBSOCKET) => WebSocket::Allowed,
        None if speaks_http2(route, configuration) => WebSocket::Refused,
        None if route.validation.is_none() => WebSocket::Uninspected,
        _ => WebSocket::Refused,
    }
}

/// Whether requests of a route go on over HTTP/2.
fn speaks_http2(route: &config::Route, configuration: &Configuration) -> bool {
    let services = route.splits.iter().map(|split| split.service).chain([route.service]);
    services
        .filter_map(|number| configuration.services.get(number))
        .any(|service| service.protocol == config::Protocol::Http2)
}

/// The protocols that a route's clients may switch to.
fn upgrades(route: &config::Route, configuration: &Configuration) -> Vec<Bytes> {
    match (&route.upgrades, websocket(route, configuration)) {
        (Some(written), _) => written.iter().map(|name| Bytes::from(name.clone().into_bytes())).collect(),
        (None, WebSocket::Uninspected) => vec![Bytes::from_static(WEBSOCKET)],
        (None, _) => Vec::new(),
    }
}

fn split(split: &config::Split) -> Split {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Split {
        service: split.service,
        weight: split.weight,
        headers: split.headers.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
    }
}

/// What a route asks of its requests.
pub(super) fn settings(
    route: &config::Route,
    configuration: &Configuration,
    parts: &Parts,
    limits: &Limits,
    before: Option<&Snapshot>,
    firewalls: &Loaded,
) -> anyhow::Result<Route> {
    let metrics = &parts.process.metrics;
    let service = configuration.services.get(route.service);
    let mut by_address = Vec::new();
    let mut by_principal = Vec::new();
    for (place, limit) in route.limits.iter().enumerate() {
        let limit = rate_limit(route, place, limit, metrics)?;
        match limit.by {
            LimitBy::Address | LimitBy::Route => by_address.push(limit),
            LimitBy::Principal | LimitBy::Key => by_principal.push(limit),
        }
    }
    Ok(Route {
        name: route.name.as_str().into(),
        pattern: route.matches.path.as_str().into(),
        service: service.map_or("", |service| service.name.as_str()).into(),
        service_number: route.service,
        in_process: service.is_some_and(|service| service.in_process),
        in_mesh: service.is_some_and(|service| service.tls.mesh.is_some()),
        label: metrics.route(&route.name),
        service_label: metrics.service(service.map_or("", |service| service.name.as_str())),
        audience: service.map_or("", |service| service.audience.as_str()).into(),
        authenticate: route.authenticate.iter().map(proof).collect(),
        anonymous: route.allow == config::Allow::Anyone || route.authenticate.is_empty(),
        limits_by_address: by_address,
        limits_by_principal: by_principal,
        concurrency: route.concurrency.map(|most| concurrency(&route.name, most, before)),
        addresses: addresses(&route.addresses),
        cors: route.cors.as_ref().map(|rules| cors(rules, service)),
        contract: route.validation.as_ref().map(contract),
        response: response(route),
        own_answer: route.own_answer.clone(),
        websocket: websocket(route, configuration),
        body_bytes_max: route.body_max.unwrap_or(limits.body_bytes_max),
        request_headers: headers(&route.request_headers),
        response_headers: headers(&route.response_headers),
        firewall: firewalls.choice(route.waf),
        to_identity: configuration.leads_to_identity(route),
    })
}

/// The counter of a route that stays the same over a reload: requests that are under
/// way still count.
fn concurrency(name: &str, most: u32, before: Option<&Snapshot>) -> Concurrency {
    before
        .and_then(|before| before.routes.iter().find(|route| *route.name == *name))
        .and_then(|route| route.concurrency.clone())
        .filter(|kept| kept.inside_max() == most)
        .unwrap_or_else(|| Concurrency::new(most))
}

fn rate_limit(
    route: &config::Route,
    place: usize,
    limit: &config::RateLimit,
    metrics: &Registry,
) -> anyhow::Result<RateLimit> {
    let by = match limit.by {
        config::LimitBy::Address => LimitBy::Address,
        config::LimitBy::Principal => LimitBy::Principal,
        config::LimitBy::Key => LimitBy::Key,
        config::LimitBy::Route => LimitBy::Route,
    };
    // By name and place, so that a limit that stays keeps its cells over a reload.
    let mut hasher = DefaultHasher::new();
    (&route.name, place).hash(&mut hasher);
    let name = limit_name(&route.name, place, &route.limits);
    let rule = Rule::new(hasher.finish(), name, limit.requests, limit.period, limit.burst)?;
    Ok(RateLimit::new(rule, by, metrics.limit(&route.name)))
}

/// What a limit is called in the answers' `RateLimit`: as its route; where that has several, with whom it
/// counts, and as far as that is not enough, with its period, its requests and its place among them.
fn limit_name(route: &str, place: usize, all: &[config::RateLimit]) -> String {
    let mut name = route.to_owned();
    let Some(limit) = all.get(place) else { return name };
    let by = match limit.by {
        config::LimitBy::Address => "address",
        config::LimitBy::Principal => "user",
        config::LimitBy::Key => "key",
        config::LimitBy::Route => "route",
    };
    type Same = fn(&config::RateLimit, &config::RateLimit) -> bool;
    let words: [(String, Same); 4] = [
        (by.to_owned(), |one, other| one.by == other.by),
        (format!("{}s", limit.period.as_secs_f64()), |one, other| one.period == other.period),
        (limit.requests.to_string(), |one, other| one.requests == other.requests),
        ((place + 1).to_string(), |one, other| std::ptr::eq(one, other)),
    ];
    let mut alike: Vec<&config::RateLimit> = all.iter().collect();
    for (word, is_same) in words {
        if alike.len() > 1 {
            name = format!("{name}-{word}");
            alike.retain(|other| is_same(limit, other));
        }
    }
    name
}

fn proof(proof: &config::Proof) -> Proof {
    match proof {
        config::Proof::Jwt => Proof::Jwt,
        config::Proof::Opaque => Proof::Opaque,
        config::Proof::Session => Proof::Session,
        config::Proof::ApiKey => Proof::ApiKey,
        config::Proof::Certificate => Proof::Certificate,
    }
}

/// Address lists; an empty allow list is none.
pub(super) fn addresses(addresses: &config::Addresses) -> AddressRules {
    let list = |networks: &[ipnet::IpNet]| AddressList::new(networks.iter().copied());
    AddressRules {
        allow: (!addresses.allow.is_empty()).then(|| list(&addresses.allow)),
        deny: list(&addresses.deny),
    }
}

fn cors(cors: &config::Cors, service: Option<&config::Service>) -> Cors {
    Cors {
        origins: match &cors.origins {
            config::Origins::Any => Origins::Any,
            config::Origins::List(list) => Origins::List(list.clone()),
        },
        methods: cors.methods.join(", "),
        headers: cors.headers.join(", "),
        expose: cors.expose.join(", "),
        credentials: cors.credentials,
        max_age_seconds: Duration::as_secs(&cors.max_age),
        keeps_upstreams: service.is_some_and(|service| service.in_process),
    }
}

fn headers(rules: &config::HeaderRules) -> HeaderRules {
    HeaderRules { set: rules.set.clone(), add: rules.add.clone(), remove: rules.remove.clone() }
}

fn contract(validation: &config::Validation) -> RouteContract {
    RouteContract {
        contract: Arc::clone(&validation.contract),
        body_bytes_max: usize::try_from(validation.body_max).unwrap_or(usize::MAX),
    }
}

fn response(route: &config::Route) -> ResponseRules {
    let answers = |validation: &config::Validation| {
        let body_bytes_max = usize::try_from(validation.response_max).unwrap_or(usize::MAX);
        validation.responses.map(|mode| AnswerRules { mode, body_bytes_max })
    };
    ResponseRules {
        bytes_max: route.response_max,
        compression: route.compression.clone(),
        contract: route.validation.as_ref().and_then(answers),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Disk, load};

    #[test]
    fn limits_of_one_route_are_told_apart_by_their_names() {
        use crate::config::LimitBy::{Principal, Route};
        let limit = |by, seconds| config::RateLimit {
            requests: 1,
            period: Duration::from_secs(seconds),
            burst: 1,
            by,
        };
        let more = |requests, burst| config::RateLimit { requests, burst, ..limit(Principal, 60) };
        for (all, names) in [
            (vec![limit(Principal, 60)], vec!["orders"]),
            (vec![limit(Principal, 60), limit(Route, 60)], vec!["orders-user", "orders-route"]),
            (
                vec![limit(Principal, 1), limit(Principal, 3_600), limit(Route, 60)],
                vec!["orders-user-1s", "orders-user-3600s", "orders-route"],
            ),
            (
                vec![more(10, 1), more(20, 1), limit(Principal, 1)],
                vec!["orders-user-60s-10", "orders-user-60s-20", "orders-user-1s"],
            ),
            (
                vec![more(10, 1), more(10, 5), more(20, 1)],
                vec!["orders-user-60s-10-1", "orders-user-60s-10-2", "orders-user-60s-20"],
            ),
        ] {
            let found: Vec<_> = (0..all.len()).map(|place| limit_name("orders", place, &all)).collect();
            assert_eq!(found, names);
        }
    }

    #[test]
    fn websockets_pass_by_default_where_no_contract_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bastide.yaml");
        std::fs::write(folder.path().join("schema.json"), r#"{"type":"object"}"#).unwrap();
        for (route, protocols, websocket) in [
            ("to: a", &["websocket"][..], WebSocket::Uninspected),
            ("to: a, upgrades: []", &[], WebSocket::Refused),
            ("to: a, upgrades: [ Example ]", &["example"], WebSocket::Refused),
            ("to: a, upgrades: [ example, websocket ]", &["example", "websocket"], WebSocket::Allowed),
            ("to: a, validate: { body: schema.json }", &[], WebSocket::Refused),
            (
                "to: a, validate: { body: schema.json }, upgrades: [ websocket ]",
                &["websocket"],
                WebSocket::Allowed,
            ),
            ("respond: { status: 200 }", &[], WebSocket::Allowed),
            ("to: two", &[], WebSocket::Refused),
            ("to: [ { service: a, weight: 9 }, { service: two, weight: 1 } ]", &[], WebSocket::Refused),
        ] {
            let text = format!(
                "listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://127.0.0.1:1 ], \
                 two: {{ endpoints: [ http://127.0.0.1:2 ], protocol: http2 }} }}\n\
                 routes: [ {{ match: /**, {route}, allow: anyone }} ]\n"
            );
            std::fs::write(&path, &text).unwrap();
            let configuration = load(&path, &|_| None, &Disk).unwrap();
            let [read] = &configuration.routes[..] else { panic!("{text}") };
            assert_eq!(
                (upgrades(read, &configuration), super::websocket(read, &configuration)),
                (protocols.iter().map(|name| Bytes::from(*name)).collect(), websocket),
                "{text}"
            );
        }
    }
}

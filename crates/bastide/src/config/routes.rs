//! `routes:`: what may be reached and under which conditions.

use std::collections::HashMap;

use gateway::response::compress::Compression;
use gateway::step::answer::OwnAnswer;
use proxy::forward::PathTemplate;
use proxy::limits::TABLE;
use proxy::route::{RouteId, Router};

use super::decoder::{Decoder, Table};
use super::node::{At, Node};
use super::realms::IDENTITY_SERVICE;
use super::schema::{Section, key};
use super::values::{self, Unfit};
use super::waf::{Firewalls, WafChoice};
use super::{
    Addresses, Authentication, Cors, HeaderRules, HostMatch, LimitBy, Listener, Match, Mirror, Policies,
    Protocol, RateLimit, Service, Split, Timeouts, Validation,
};

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name, unique: what policies, audit and metrics call it.
    pub name: String,
    /// Which requests it matches.
    pub matches: Match,
    /// Where they go: the position in [`super::Configuration::services`].
    pub service: usize,
    /// How its requests are shared out among several services; empty: all go to
    /// `service`, which is otherwise the first of them.
    pub splits: Vec<Split>,
    /// Who gets copies of its requests.
    pub mirror: Option<Mirror>,
    /// Proofs of identity that are looked for, in this order. Empty: none
    /// (`authenticate: none`), everybody is anonymous here.
    pub authenticate: Vec<Proof>,
    /// Who decides.
    pub allow: Allow,
    /// Rate limits, all of which have to allow the request.
    pub limits: Vec<RateLimit>,
    /// Requests at the same time over all cores.
    pub concurrency: Option<u32>,
    /// Address lists, besides the global ones.
    pub addresses: Addresses,
    /// Cross-origin rules; `None`: no cross-origin headers at all.
    pub cors: Option<Cors>,
    /// Whether `%2F` stays in a path segment and goes on as it came.
    pub encoded_slashes: bool,
    /// Protocols that `Upgrade` may ask for, lower case; `None`: it says nothing.
    pub upgrades: Option<Vec<String>>,
    /// Removed from the path before it goes upstream. Starts with `/`, no `/` at the end, as
    /// admission writes it.
    pub strip_prefix: Option<String>,
    /// Put before the path after that. Starts with `/`, no `/` at the end.
    pub add_prefix: Option<String>,
    /// The path as a whole, in the place of both.
    pub rewrite: Option<PathTemplate>,
    /// What is answered in the place of an upstream; then `service` is [`usize::MAX`].
    pub own_answer: Option<OwnAnswer>,
    /// What requests and answers are held against.
    pub validation: Option<Validation>,
    /// What is compressed on the way to the client.
    pub compression: Option<Compression>,
    /// Largest response body in bytes; `None`: no limit.
    pub response_max: Option<u64>,
    /// Changes to the request's headers.
    pub request_headers: HeaderRules,
    /// Changes to the response's headers.
    pub response_headers: HeaderRules,
    /// Largest request body in bytes; `None`: the global limit.
    pub body_max: Option<u64>,
    /// The service's timeouts with the route's own put over them.
    pub timeouts: Timeouts,
    /// Its firewall.
    pub waf: WafChoice,
    /// Whether what policies say is only taken down.
    pub dry_run: bool,
    /// Where it is declared: `file:line:column`.
    pub position: String,
}

/// A proof of identity that a route looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// A bearer token (RFC 6750).
    Jwt,
    /// An opaque token, which its issuer is asked about (RFC 7662).
    Opaque,
    /// An API key.
    ApiKey,
    /// A browser's session.
    Session,
    /// A TLS client certificate.
    Certificate,
}

/// Who decides about a route's requests. A `forbid` policy wins over each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// The policies.
    Policy,
    /// Everybody who proved an identity.
    Authenticated,
    /// Everybody.
    Anyone,
}

pub(super) const ROUTE: Section = Section {
    path: "routes[]",
    about: "One route: which requests, to which service, under which conditions.",
    short: "",
    keys: &[
        key(
            "name",
            "text",
            "the text of `match`",
            "Its name in policies, audit log and metrics: `Route::\"NAME\"`. Unique.",
        ),
        key("match", "text or map", "", "Which requests it matches."),
        key(
            "to",
            "service name, or list of maps",
            "required without `redirect` or `respond`",
            "Where they go.",
        ),
        key("mirror", "service name or map", "nobody", "Which service gets copies of the requests."),
        key(
            "authenticate",
            "jwt, opaque, session, api_key, mtls, a list of these, or none",
            "all kinds that are configured; with `allow: anyone` none",
            "Accepted credentials, in this order: the first that a request carries decides, and an invalid one is never skipped in favour of another. `none`: every caller is anonymous here.",
        ),
        key(
            "allow",
            "policy, authenticated or anyone",
            "policy",
            "Who decides: the policies, authentication alone, or nobody (a public route). A `forbid` policy wins over each.",
        ),
        key(
            "limit",
            "text, map, or list of these",
            "none",
            "Rate limits, all of which have to allow the request.",
        ),
        key("concurrency", "1 to 1000000", "no bound", "Concurrent requests, across all cores."),
        key("addresses", "map", "everybody", "Which client addresses are admitted here."),
        key(
            "cors",
            "map or list of origins",
            "no cross-origin headers",
            "Which pages of other origins may read answers.",
        ),
        key(
            "encoded_slashes",
            "true or false",
            "false",
            "Keeps `%2F` inside a path segment, for package registries. The upstream must not treat it as `/`.",
        ),
        key(
            "upgrades",
            "list of protocols",
            "websocket; none with `validate`, a firewall that blocks or a service with HTTP/2",
            "Protocols that `Upgrade` may ask for. `[]`: none. What follows an upgrade is inspected by nothing.",
        ),
        key("strip_prefix", "path", "nothing", "Removed from the path before it goes upstream."),
        key("add_prefix", "path", "nothing", "Prepended to the path after `strip_prefix`."),
        key(
            "rewrite",
            "path with places",
            "the path as it is",
            "The path that the upstream sees: `/v2/{id}/{**}`. The result is admitted again; a path that could be read in two ways is refused.",
        ),
        key("redirect", "URI, path or map", "none", "Redirects clients, instead of `to`."),
        key("respond", "status or map", "none", "A fixed response, instead of `to`."),
        key(
            "validate",
            "path or map",
            "nothing is validated",
            "The OpenAPI document or JSON Schema that requests have to conform to.",
        ),
        key("compress", "true or map", "false", "Compresses responses."),
        key(
            "response_max",
            "size",
            "no limit",
            "Largest response body; a longer one is answered with 502, or cut off if it has already begun.",
        ),
        key("headers", "map", "no changes", "Changes to headers."),
        key(
            "body_max",
            "size",
            "the global `body_bytes_max`",
            "Largest request body of this route, smaller or larger than the global limit.",
        ),
        key("timeouts", "map", "the service's", "Timeouts that override the service's."),
        key(
            "waf",
            "map, path or `off`",
            "the listener's",
            "The firewall of this route, which overrides the default.",
        ),
        key(
            "danger_dry_run",
            "true or false",
            "false",
            "Policies are evaluated but not enforced: what they would deny passes, and its event says why it would have been denied. Requests without a credential that the route accepts are refused all the same.",
        ),
    ],
};

const PROOFS: &[(&str, Option<Proof>)] = &[
    ("jwt", Some(Proof::Jwt)),
    ("opaque", Some(Proof::Opaque)),
    ("api_key", Some(Proof::ApiKey)),
    ("session", Some(Proof::Session)),
    ("mtls", Some(Proof::Certificate)),
    ("none", None),
];

const ALLOW: &[(&str, Allow)] =
    &[("policy", Allow::Policy), ("authenticated", Allow::Authenticated), ("anyone", Allow::Anyone)];

/// What routes are checked against.
pub(super) struct Around<'c> {
    pub(super) services: &'c [Service],
    pub(super) listeners: &'c [Listener],
    pub(super) authentication: &'c Authentication,
    /// Whether `authentication.api_keys` was written.
    pub(super) api_keys: bool,
    pub(super) policies: &'c Policies,
}

impl Around<'_> {
    fn certificates(&self) -> bool {
        self.listeners.iter().any(Listener::asks_clients)
    }

    fn introspects(&self) -> bool {
        self.authentication.issuers.iter().any(|issuer| issuer.introspection.is_some())
    }

    /// All kinds of proof that are configured.
    fn proofs(&self) -> Vec<Proof> {
        let kinds = [
            (Proof::Jwt, !self.authentication.issuers.is_empty()),
            (Proof::Opaque, self.introspects()),
            (Proof::ApiKey, self.api_keys),
            (Proof::Session, self.authentication.session.is_some()),
            (Proof::Certificate, self.certificates()),
        ];
        kinds.into_iter().filter(|(_, configured)| *configured).map(|(proof, _)| proof).collect()
    }
}

fn protocol(text: &str) -> Result<String, Unfit> {
    const EXPECTED: &str = "a protocol such as websocket (h2c and connect are never upgraded to)";
    let lower = text.to_ascii_lowercase();
    let fits = !lower.is_empty()
        && lower.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/".contains(&b))
        && !matches!(lower.as_str(), "h2c" | "h2" | "connect" | "connect-udp" | "connect-ip")
        && !lower.starts_with("http");
    if fits { Ok(lower) } else { Err(Unfit { expected: EXPECTED, instead: None }) }
}

impl Decoder<'_> {
    /// `routes:`
    pub(super) fn routes(
        &mut self,
        node: Option<&Node>,
        around: &Around<'_>,
        firewalls: &mut Firewalls,
    ) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        let mut names: HashMap<String, At> = HashMap::new();
        let mut matches = Vec::new();
        let mut places = Vec::new();
        for item in node.map_or(&[][..], Node::items) {
            let Some(route) = self.route(item, around, firewalls) else { continue };
            // Two routes of one match tie; one fault is enough for that.
            let is_twin = |other: &Route| other.name == route.name && other.matches != route.matches;
            if let Some(first) = names.get(&route.name)
                && routes.iter().any(is_twin)
            {
                let message = format!("two routes are called {:?}", route.name);
                let suggestion = format!("first at {}; give one of them a name", self.place(*first));
                self.advise(item.at, message, suggestion);
            }
            names.insert(route.name.clone(), item.at);
            match route.matches.to_route_match(&route.name, route.encoded_slashes) {
                Ok(one) => {
                    matches.push(one);
                    places.push(item.at);
                }
                Err(invalid) => self.fault(item.at, invalid.to_string()),
            }
            routes.push(route);
        }
        for conflict in Router::build(matches).err().unwrap_or_default() {
            let place = |route: RouteId| places.get(route.0 as usize).copied().unwrap_or_default();
            let first = self.place(place(conflict.first));
            self.advise(place(conflict.second), conflict.to_string(), format!("the first is at {first}"));
        }
        routes
    }

    fn route(&mut self, node: &Node, around: &Around<'_>, firewalls: &mut Firewalls) -> Option<Route> {
        let table = self.table(node, &ROUTE)?;
        let matches = self.required(&table, "match").and_then(|node| self.matches(node));
        let own_answer = self.own_answer(&table, matches.as_ref());
        let splits = self.where_to(&table, around.services);
        let service = splits.first().map(|split| split.service);
        let mirror = table.get("mirror").and_then(|node| self.mirror(node, around.services));
        let name = table.get("name").map(|node| self.value(node, values::name));
        let allow = match table.get("allow") {
            Some(node) => self.word(node, "answer to allow", ALLOW),
            None if table.is_misspelt("allow") => None,
            None => Some(Allow::Policy),
        };
        let authenticate = self.authenticate(&table, allow, around);
        let limits = table.get("limit").map_or(Vec::new(), |node| self.rate_limits(node));
        if let (true, Some(node)) = (authenticate.is_empty(), table.get("limit"))
            && limits.iter().any(|limit| matches!(limit.by, LimitBy::Principal | LimitBy::Key))
        {
            let message = "everybody is anonymous on this route, so this limit counts by address";
            self.warn(node.at, message, "write per address if that is meant");
        }
        let methods = matches.as_ref().map_or(&[][..], |matches| &matches.methods);
        let identity = service.and_then(|number| around.services.get(number));
        let identity = identity.is_some_and(|to| to.in_process && to.name == IDENTITY_SERVICE);
        let cors = table.get("cors").and_then(|node| self.cors(node, methods, identity));
        if let Some((node, cors)) = table.get("cors").zip(cors.as_ref()) {
            self.cors_beside_proofs(node, cors, &authenticate);
        }
        let (request_headers, response_headers) = self.header_rules(table.get("headers"), matches.as_ref());
        let timeouts = service.and_then(|number| around.services.get(number));
        let base = timeouts.map_or(super::services::TIMEOUTS_DEFAULT, |service| service.timeouts);
        let pattern = matches.as_ref().map_or("", |matches| matches.path.as_str());
        let mut route = Route {
            name: String::new(),
            service: service.unwrap_or(usize::MAX),
            splits: Vec::new(),
            mirror,
            authenticate,
            allow: allow.unwrap_or(Allow::Policy),
            limits,
            concurrency: table.get("concurrency").and_then(|node| self.number(node, 1, 1_000_000)),
            addresses: self.addresses(table.get("addresses")),
            cors,
            encoded_slashes: table
                .get("encoded_slashes")
                .and_then(|node| self.boolean(node))
                .unwrap_or(false),
            upgrades: table.get("upgrades").map(|node| self.upgrades(node, &splits, around.services)),
            strip_prefix: table.get("strip_prefix").and_then(|node| self.strip_prefix(node, pattern)),
            add_prefix: table.get("add_prefix").and_then(|node| self.add_prefix(node)),
            rewrite: self.whole_path(&table, matches.as_ref()),
            own_answer,
            validation: table.get("validate").and_then(|node| self.validation(node)),
            compression: table.get("compress").and_then(|node| self.compression(node)),
            response_max: table.get("response_max").and_then(|node| self.value(node, values::size)),
            request_headers,
            response_headers,
            body_max: table.get("body_max").and_then(|node| self.body_max(node)),
            timeouts: self.timeouts(table.get("timeouts"), base),
            waf: self.waf(table.get("waf"), firewalls),
            dry_run: self.danger(&table, "danger_dry_run", "what policies deny goes on"),
            position: self.position(node.at),
            matches: matches?,
        };
        if splits.len() > 1 {
            route.splits = splits;
        }
        route.name = match name {
            Some(name) => name?,
            None => route.matches.to_string(),
        };
        Some(route)
    }

    /// `upgrades:`, which a service with HTTP/2 cannot take: it has no upgrade (RFC 9113 §8.6).
    fn upgrades(&mut self, node: &Node, splits: &[Split], services: &[Service]) -> Vec<String> {
        let protocols = self.values(node, protocol);
        let mut services = splits.iter().filter_map(|split| services.get(split.service));
        if let (false, Some(service)) =
            (protocols.is_empty(), services.find(|service| service.protocol == Protocol::Http2))
        {
            let message =
                format!("service {:?} speaks HTTP/2, which has no upgrade (RFC 9113 §8.6)", service.name);
            self.advise(node.at, message, "a service with protocol: http1 for this route");
        }
        protocols
    }

    /// `to:`, unless the route answers itself.
    fn where_to(&mut self, table: &Table<'_>, services: &[Service]) -> Vec<Split> {
        let own = ["redirect", "respond"].into_iter().find(|key| table.get(key).is_some());
        match (own, table.get("to")) {
            (None, _) => self.required(table, "to").map_or(Vec::new(), |node| self.splits(node, services)),
            (Some(_), None) => Vec::new(),
            (Some(own), Some(_)) => {
                self.advise(table.key_at(own), format!("a route with {own} goes nowhere else"), "remove to");
                Vec::new()
            }
        }
    }

    fn add_prefix(&mut self, node: &Node) -> Option<String> {
        let prefix = self.value(node, super::matching::path_pattern)?;
        let prefix = prefix.strip_suffix('/').unwrap_or(&prefix);
        if prefix.is_empty()
            || prefix.contains(['{', '*'])
            || proxy::admit::path::readmit(prefix.as_bytes(), usize::MAX, false).is_err()
        {
            self.expected(node, "a literal path such as /v2");
            return None;
        }
        Some(prefix.to_owned())
    }

    fn whole_path(&mut self, table: &Table<'_>, matches: Option<&Match>) -> Option<PathTemplate> {
        let node = table.get("rewrite")?;
        if let Some(other) = ["strip_prefix", "add_prefix"].into_iter().find(|key| table.get(key).is_some()) {
            self.fault(table.key_at(other), format!("rewrite is the whole path, so {other} has no meaning"));
        }
        self.rewrite(node, matches)
    }

    pub(super) fn service_reference(&mut self, node: &Node, services: &[Service]) -> Option<usize> {
        let name = self.text(node)?;
        let number = services.iter().position(|service| service.name == name);
        if number.is_none() {
            if !self.doubts(&["services"]) {
                self.unknown_value(node, "service", services.iter().map(|service| service.name.as_str()));
            }
            if !self.in_doubt.contains(&"destinations") {
                self.in_doubt.push("destinations");
            }
        }
        number
    }

    /// Which proofs are looked for, and whether that can work out.
    fn authenticate(&mut self, table: &Table<'_>, allow: Option<Allow>, around: &Around<'_>) -> Vec<Proof> {
        let Some(node) = table.get("authenticate") else {
            let proofs = if allow == Some(Allow::Anyone) { Vec::new() } else { around.proofs() };
            self.allowed_somehow(table, allow, &proofs, around);
            return proofs;
        };
        let mut proofs = Vec::new();
        let mut none = false;
        let before = self.count();
        for item in node.items() {
            match self.word(item, "proof of identity", PROOFS) {
                Some(Some(proof)) => {
                    self.proof_configured(item, proof, around);
                    if !proofs.contains(&proof) {
                        proofs.push(proof);
                    }
                }
                Some(None) => none = true,
                None => {}
            }
        }
        if self.count() > before {
            return proofs;
        }
        if none && !proofs.is_empty() {
            self.fault(node.at, "authenticate is either none or a list of proofs");
        } else if proofs.is_empty() && !none {
            self.advise(node.at, "authenticate names no proof", "write authenticate: none if that is meant");
        } else if allow == Some(Allow::Anyone) && !proofs.is_empty() {
            let message = "allow: anyone lets everybody in, whatever authenticate says";
            self.advise(table.key_at("allow"), message, "remove one of the two");
        } else {
            self.allowed_somehow(table, allow, &proofs, around);
        }
        proofs
    }

    fn proof_configured(&mut self, node: &Node, proof: Proof, around: &Around<'_>) {
        match proof {
            Proof::Jwt | Proof::Opaque | Proof::Session if self.doubts(&["authentication", "realms"]) => {}
            Proof::Certificate if self.doubts(&["listen", "mesh"]) => {}
            Proof::Jwt if around.authentication.issuers.is_empty() => {
                self.advise(
                    node.at,
                    "authenticate: jwt, but no issuer is configured",
                    "add authentication.issuers: [ https://… ]",
                );
            }
            Proof::Opaque if !around.introspects() => {
                self.advise(
                    node.at,
                    "authenticate: opaque, but no issuer is asked about tokens",
                    "add introspection: { client: …, secret: … } to an issuer",
                );
            }
            Proof::Session if around.authentication.session.is_none() => {
                self.advise(
                    node.at,
                    "authenticate: session, but no provider is configured",
                    "add authentication.session: { client: …, secret: … }",
                );
            }
            Proof::Certificate if !around.certificates() => {
                self.advise(
                    node.at,
                    "authenticate: mtls, but no listener asks for client certificates",
                    "add tls.client: {ca: ca.pem} to a listener",
                );
            }
            Proof::Jwt | Proof::Opaque | Proof::Session | Proof::Certificate | Proof::ApiKey => {}
        }
    }

    /// A route that nobody can ever use is a mistake.
    fn allowed_somehow(
        &mut self,
        table: &Table<'_>,
        allow: Option<Allow>,
        proofs: &[Proof],
        around: &Around<'_>,
    ) {
        // What stands under `allow` could not be read: that is a fault already.
        let Some(allow) = allow else { return };
        match allow {
            _ if proofs.is_empty() && self.doubts(&["authentication", "realms", "listen", "mesh"]) => {}
            Allow::Authenticated if proofs.is_empty() => {
                self.advise(
                    table.key_at("allow"),
                    "allow: authenticated, but no proof of identity is looked for",
                    "configure authentication, or say allow: anyone",
                );
            }
            Allow::Policy if around.policies.sources.is_empty() && !around.policies.faulty => {
                self.advise(
                    table.key_at("allow"),
                    "no policy is configured, so nobody could use this route",
                    "add policies: policies/*.cedar, or allow: authenticated",
                );
            }
            Allow::Policy if proofs.is_empty() && table.get("authenticate").is_none() => {
                self.warn(
                    table.at,
                    "no proof of identity is configured: everybody is Anonymous to the policies",
                    "add authentication.issuers, or say authenticate: none",
                );
            }
            Allow::Policy | Allow::Authenticated | Allow::Anyone => {}
        }
    }

    /// What is stripped must be there: the literal beginning of the pattern. Requests have
    /// it as admission writes it.
    fn strip_prefix(&mut self, node: &Node, pattern: &str) -> Option<String> {
        let prefix = self.value(node, super::matching::path_pattern)?;
        let prefix = prefix.strip_suffix('/').unwrap_or(&prefix);
        let admitted = proxy::admit::path::canonical(prefix).ok();
        let admitted = admitted.and_then(|(path, _)| String::from_utf8(path).ok());
        let literal = |path: &String| path.len() > 1 && !prefix.contains(['{', '*']);
        let Some(admitted) = admitted.filter(literal) else {
            self.expected(node, "a literal path such as /orders");
            return None;
        };
        let rest = pattern.strip_prefix(prefix);
        if !pattern.is_empty() && !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            self.fault(node.at, format!("strip_prefix {prefix:?} is not the beginning of {pattern:?}"));
        }
        Some(admitted)
    }

    /// A route may go past the global limit, not past what that limit can be.
    fn body_max(&mut self, node: &Node) -> Option<u64> {
        let bytes = self.value(node, values::size)?;
        let row = TABLE.iter().find(|row| row.name == "body_bytes_max")?;
        if bytes > row.largest {
            self.expected(node, &format!("a size of at most {}", super::limits::written(row, row.largest)));
        }
        Some(bytes)
    }
}

/// The exact hosts that routes name, in their order: the default audience.
pub(super) fn exact_hosts(routes: &[Route]) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for route in routes {
        if let HostMatch::Exact(host) = &route.matches.host
            && !hosts.contains(host)
        {
            hosts.push(host.clone());
        }
    }
    hosts
}

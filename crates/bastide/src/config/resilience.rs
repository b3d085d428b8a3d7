//! `services.NAME` and `mesh.services.NAME`: what happens when endpoints fail: retries, health
//! checks, ejection, the circuit breaker, the budget of retries.

use std::time::Duration;

use super::decoder::{Decoder, Table};
use super::node::Node;
use super::schema::{Key, Section, key};
use super::values::{self, Unfit};

/// How a service bears that its endpoints fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Resilience {
    /// How the better of two endpoints is told.
    pub balance: Balance,
    /// Active health checks; `None`: none.
    pub health: Option<HealthCheck>,
    /// When an endpoint is left out for a while; `None`: never.
    pub eject: Option<Ejection>,
    /// When the whole service is left alone for a while; `None`: never.
    pub breaker: Option<Breaker>,
    /// How many retries there may be.
    pub retry_budget: RetryBudget,
    /// Open connections to each endpoint, over all cores; `None`: no bound.
    pub connections_max: Option<u32>,
    /// Requests that may wait for a connection to an endpoint, over all cores.
    pub waiting_max: u32,
}

/// How the better of two endpoints is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Latency times open requests.
    Ewma,
    /// Open requests.
    LeastRequests,
    /// By weight alone.
    Random,
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: HealthKind,
    /// From one check to the next.
    pub interval: Duration,
    /// How far intervals differ, in percent.
    pub jitter_percent: u32,
    /// How long one may take.
    pub timeout: Duration,
    /// Good ones in a row that bring an endpoint back.
    pub healthy: u32,
    /// Bad ones in a row that take it out.
    pub unhealthy: u32,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthKind {
    /// `GET` of a path.
    Http {
        /// The path.
        path: String,
        /// `Host`; `None`: the endpoint's.
        host: Option<String>,
        /// The first and the last good status.
        statuses: (u16, u16),
    },
    /// The gRPC health service, about a service (empty: the server).
    Grpc(String),
    /// A connection.
    Tcp,
}

/// Passive ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row that eject an endpoint.
    pub failures: u32,
    /// For how long.
    pub duration: Duration,
    /// It is ejected too when fewer of a hundred attempts succeed; 0: never for that.
    pub success_percent_min: u32,
    /// But only when there were so many attempts.
    pub requests_min: u32,
}

/// A circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// It opens when this percentage of attempts failed.
    pub failures_percent: u32,
    /// But only when there were so many attempts.
    pub requests_min: u32,
    /// For how long.
    pub duration: Duration,
    /// Requests that are let through afterwards to see.
    pub trials: u16,
}

/// A bound on retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Per hundred requests.
    pub percent: u32,
    /// Always allowed.
    pub per_second_min: u32,
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            balance: Balance::Ewma,
            health: None,
            eject: Some(EJECTION),
            breaker: None,
            retry_budget: RETRY_BUDGET,
            connections_max: None,
            waiting_max: 1024,
        }
    }
}

const EJECTION: Ejection =
    Ejection { failures: 5, duration: Duration::from_secs(10), success_percent_min: 0, requests_min: 20 };
const BREAKER: Breaker =
    Breaker { failures_percent: 50, requests_min: 20, duration: Duration::from_secs(5), trials: 3 };
const RETRY_BUDGET: RetryBudget = RetryBudget { percent: 20, per_second_min: 10 };

pub(super) const RETRIES: Key = key(
    "retries",
    "0 to 5",
    "1",
    "How often an idempotent request whose body was not consumed is retried, at another endpoint if there is one.",
);
pub(super) const BALANCE: Key = key(
    "balance",
    "ewma, least_requests or random",
    "ewma",
    "Which of two endpoints, drawn by weight, gets a request: the one with the lower latency times open requests, the one with fewer open requests, or the first.",
);
pub(super) const HEALTH_KEY: Key =
    key("health", "path, map or false", "no checks", "Active health checks of its endpoints.");
pub(super) const EJECT_KEY: Key =
    key("eject", "map or false", "5 failures, 10s", "When a failing endpoint is left out for a while.");
pub(super) const BREAKER_KEY: Key = key(
    "breaker",
    "true, false or map",
    "false",
    "When requests to the whole service are suspended for a while.",
);
pub(super) const RETRY_BUDGET_KEY: Key =
    key("retry_budget", "share or map", "20%, at least 10 per second", "How many retries there may be.");
pub(super) const CONNECTIONS_PER_CORE_MAX: Key =
    key("connections_per_core_max", "1 to 65536", "256", "Open connections to each endpoint from each core.");
pub(super) const CONNECTIONS_MAX: Key = key(
    "connections_max",
    "1 to 1000000",
    "no bound",
    "Open connections to each endpoint across all cores, exact. Further requests wait for `timeouts.connect`.",
);
pub(super) const WAITING_MAX: Key = key(
    "waiting_max",
    "0 to 1000000",
    "1024",
    "Requests that may wait for a connection to an endpoint, across all cores; one more goes to another endpoint or gets 503.",
);

pub(super) const HEALTH: Section = Section {
    path: "services.NAME.health",
    about: "Active health checks of each endpoint: exactly one of `http`, `grpc` and `tcp`. An endpoint that fails them gets no requests while another one is healthy. Those of a service of the mesh are calls like any other: its policies have to permit them.",
    short: "the path of an HTTP check as a text: `health: /healthz`",
    keys: &[
        key(
            "http",
            "path",
            "one of `http`, `grpc`, `tcp`",
            "`GET` of this path. Over HTTP/2 when `protocol` is http2.",
        ),
        key(
            "grpc",
            "service name or `\"\"`",
            "one of `http`, `grpc`, `tcp`",
            "The gRPC health service is asked about this service; `\"\"`: about the server.",
        ),
        key(
            "tcp",
            "true",
            "one of `http`, `grpc`, `tcp`",
            "A connection, with its TLS handshake if there is one.",
        ),
        key("host", "host name", "the endpoint's", "`Host` of the HTTP check."),
        key("status", "status or range", "200-299", "Statuses that count as healthy: `200`, `200-399`."),
        key("interval", "duration", "5s", "From one check to the next."),
        key("jitter", "0 to 100", "10", "Intervals are longer or shorter by up to so many percent."),
        key("timeout", "duration", "2s", "How long a check may take, connection included."),
        key("healthy", "1 to 100", "2", "Successful checks in a row that bring an endpoint back."),
        key(
            "unhealthy",
            "1 to 100",
            "3",
            "Failed checks in a row that take an endpoint out. The very first check decides alone.",
        ),
    ],
};

pub(super) const EJECT: Section = Section {
    path: "services.NAME.eject",
    about: "Passive ejection, by the outcome of requests: refused and lost connections, timeouts, malformed answers and 502, 503 and 504 are failures. If all endpoints are ejected, they are used all the same.",
    short: "`false`: never",
    keys: &[
        key("failures", "1 to 1000", "5", "Failures in a row that eject an endpoint."),
        key("for", "duration", "10s", "For how long."),
        key(
            "success_percent_min",
            "0 to 100",
            "0",
            "Also ejects it if fewer than this percentage of the attempts of the last ten seconds succeed. 0: never.",
        ),
        key(
            "requests_min",
            "1 to 1000000",
            "20",
            "The fewest attempts for which the percentage is considered.",
        ),
    ],
};

pub(super) const BREAKER_SECTION: Section = Section {
    path: "services.NAME.breaker",
    about: "The circuit breaker: when most attempts of the last ten seconds failed, requests get 503 with `Retry-After` at once; then a few are let through as a test.",
    short: "`true`: with the defaults below",
    keys: &[
        key("failures_percent", "1 to 100", "50", "It opens when this percentage of attempts failed."),
        key("requests_min", "1 to 1000000", "20", "The fewest attempts for which it opens."),
        key("for", "duration", "5s", "How long it stays open."),
        key(
            "trials",
            "1 to 1000",
            "3",
            "Requests that are let through afterwards. If all succeed it closes; if one fails it opens again.",
        ),
    ],
};

pub(super) const RETRY_BUDGET_SECTION: Section = Section {
    path: "services.NAME.retry_budget",
    about: "Limits retries across all cores, so that they do not multiply the load of a service that fails under it.",
    short: "the share as a text: `retry_budget: 20%`",
    keys: &[
        key("percent", "0 to 1000", "20", "Retries per hundred requests of the last ten seconds."),
        key("per_second_min", "0 to 1000000", "10", "Retries per second that are allowed in any case."),
    ],
};

fn statuses(text: &str) -> Result<(u16, u16), Unfit> {
    const EXPECTED: &str = "a status or a range of them such as 200 or 200-399";
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(Unfit { expected: EXPECTED, instead: None }),
    }
}

/// A path with query, as it goes on the wire.
fn path(text: &str) -> Result<String, Unfit> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Ok(text.to_owned());
    }
    let instead = format!("/{text}");
    let instead = (!text.is_empty() && !text.contains("://") && path(&instead).is_ok()).then_some(instead);
    Err(Unfit { expected: "a path such as /healthz", instead: instead.filter(|_| !text.starts_with('/')) })
}

/// A name of a gRPC service; may be empty.
fn grpc_service(text: &str) -> Result<String, Unfit> {
    const EXPECTED: &str = "a gRPC service name such as shop.Orders, or \"\"";
    let fits = text.len() <= 256 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    if fits { Ok(text.to_owned()) } else { Err(Unfit { expected: EXPECTED, instead: None }) }
}

fn percent(text: &str) -> Result<u32, Unfit> {
    let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
    let instead = text.parse::<u32>().ok().map(|number| format!("{number}%"));
    number.filter(|number| *number <= 1000).ok_or(Unfit { expected: "a share such as 20%", instead })
}

impl Decoder<'_> {
    pub(super) fn resilience(&mut self, table: &Table<'_>) -> Resilience {
        let mut found = Resilience::default();
        let balances = [
            ("ewma", Balance::Ewma),
            ("least_requests", Balance::LeastRequests),
            ("random", Balance::Random),
        ];
        let balance = table.get("balance").and_then(|node| self.word(node, "balance", &balances));
        found.balance = balance.unwrap_or(found.balance);
        found.health = table.get("health").and_then(|node| self.health(node));
        if let Some(node) = table.get("eject") {
            found.eject = self.eject(node);
        }
        found.breaker = table.get("breaker").and_then(|node| self.breaker(node));
        if let Some(node) = table.get("retry_budget") {
            found.retry_budget = self.retry_budget(node);
        }
        found.connections_max = table.get("connections_max").and_then(|node| self.number(node, 1, 1_000_000));
        let waiting = table.get("waiting_max").and_then(|node| self.number(node, 0, 1_000_000));
        found.waiting_max = waiting.unwrap_or(found.waiting_max);
        found
    }

    fn health(&mut self, node: &Node) -> Option<HealthCheck> {
        let mut found = HealthCheck {
            kind: HealthKind::Tcp,
            interval: Duration::from_secs(5),
            jitter_percent: 10,
            timeout: Duration::from_secs(2),
            healthy: 2,
            unhealthy: 3,
        };
        if node.text() == Some("false") {
            return None;
        }
        if node.text().is_some() {
            let path = self.value(node, path)?;
            found.kind = HealthKind::Http { path, host: None, statuses: (200, 299) };
            return Some(found);
        }
        let table = self.table(node, &HEALTH)?;
        found.kind = self.health_kind(&table)?;
        let least = Duration::from_millis(10);
        let mut duration = |key: &str| table.get(key).and_then(|node| self.duration(node, least));
        found.interval = duration("interval").unwrap_or(found.interval);
        found.timeout = duration("timeout").unwrap_or(found.timeout);
        let mut number = |key: &str, least, default| {
            table.get(key).and_then(|node| self.number(node, least, 100)).unwrap_or(default)
        };
        found.jitter_percent = number("jitter", 0, found.jitter_percent);
        found.healthy = number("healthy", 1, found.healthy);
        found.unhealthy = number("unhealthy", 1, found.unhealthy);
        Some(found)
    }

    fn health_kind(&mut self, table: &Table<'_>) -> Option<HealthKind> {
        let (http, grpc) = (table.get("http"), table.get("grpc"));
        let tcp = table.get("tcp").and_then(|node| self.boolean(node)).unwrap_or(false);
        let ways = usize::from(http.is_some()) + usize::from(grpc.is_some()) + usize::from(tcp);
        if ways != 1 {
            let found = if ways == 0 { "none of them" } else { "several" };
            let message = format!("health takes one of http, grpc and tcp, found {found}");
            self.advise(table.at, message, "write http: /healthz");
            return None;
        }
        if http.is_none() {
            for key in ["host", "status"] {
                if table.get(key).is_some() {
                    let message = format!("{key} belongs to an http check");
                    self.advise(table.key_at(key), message, "remove it");
                }
            }
        }
        if let Some(node) = http {
            let host = table.get("host").and_then(|node| self.value(node, values::host));
            let statuses = table.get("status").and_then(|node| self.value(node, statuses));
            let path = self.value(node, path)?;
            return Some(HealthKind::Http { path, host, statuses: statuses.unwrap_or((200, 299)) });
        }
        match grpc {
            Some(node) => self.value(node, grpc_service).map(HealthKind::Grpc),
            None => Some(HealthKind::Tcp),
        }
    }

    fn eject(&mut self, node: &Node) -> Option<Ejection> {
        if node.text() == Some("false") {
            return None;
        }
        let table = self.table(node, &EJECT)?;
        let mut number = |key: &str, least, most, default| {
            table.get(key).and_then(|node| self.number(node, least, most)).unwrap_or(default)
        };
        let failures = number("failures", 1, 1_000, EJECTION.failures);
        let success_percent_min = number("success_percent_min", 0, 100, EJECTION.success_percent_min);
        let requests_min = number("requests_min", 1, 1_000_000, EJECTION.requests_min);
        let duration = table.get("for").and_then(|node| self.duration(node, Duration::from_millis(1)));
        let duration = duration.unwrap_or(EJECTION.duration);
        Some(Ejection { failures, duration, success_percent_min, requests_min })
    }

    fn breaker(&mut self, node: &Node) -> Option<Breaker> {
        if node.text().is_some() {
            return self.boolean(node).filter(|on| *on).map(|_| BREAKER);
        }
        let table = self.table(node, &BREAKER_SECTION)?;
        let mut number = |key: &str, most, default| {
            table.get(key).and_then(|node| self.number(node, 1, most)).unwrap_or(default)
        };
        let failures_percent = number("failures_percent", 100, BREAKER.failures_percent);
        let requests_min = number("requests_min", 1_000_000, BREAKER.requests_min);
        let trials = table.get("trials").and_then(|node| self.number(node, 1, 1_000));
        let duration = table.get("for").and_then(|node| self.duration(node, Duration::from_millis(1)));
        Some(Breaker {
            failures_percent,
            requests_min,
            duration: duration.unwrap_or(BREAKER.duration),
            trials: trials.unwrap_or(BREAKER.trials),
        })
    }

    fn retry_budget(&mut self, node: &Node) -> RetryBudget {
        if node.text().is_some() {
            let percent = self.value(node, percent);
            return RetryBudget { percent: percent.unwrap_or(RETRY_BUDGET.percent), ..RETRY_BUDGET };
        }
        let Some(table) = self.table(node, &RETRY_BUDGET_SECTION) else { return RETRY_BUDGET };
        let mut number = |key: &str, most, default| {
            table.get(key).and_then(|node| self.number(node, 0, most)).unwrap_or(default)
        };
        RetryBudget {
            percent: number("percent", 1_000, RETRY_BUDGET.percent),
            per_second_min: number("per_second_min", 1_000_000, RETRY_BUDGET.per_second_min),
        }
    }
}

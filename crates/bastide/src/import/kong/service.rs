//! Services and upstreams.

use super::Importer;
use super::source::Entity;
use crate::import::Outcome;
use crate::import::yaml::Yaml;

/// A service of Kong's, translated.
pub(super) struct Service {
    /// Its name here.
    pub(super) name: String,
    /// Put before the path; empty: nothing.
    pub(super) path: String,
    /// Why no request may reach it.
    pub(super) closed: Option<String>,
    /// Whether it exists for us at all.
    pub(super) reachable: bool,
}

const ALGORITHMS: &[(&str, &str)] =
    &[("round-robin", "random"), ("least-connections", "least_requests"), ("latency", "ewma")];

impl<'n> Importer<'n> {
    /// Translates one service into `services:`.
    pub(super) fn service(&mut self, service: Entity<'n>) -> Service {
        let written =
            service.text("name").or_else(|| service.text("id")).unwrap_or_else(|| "service".to_owned());
        let place = format!("service {written:?}");
        let name = self.service_names.take(&written);
        let mut made = Service { name, path: String::new(), closed: None, reachable: true };
        if !service.flag("enabled", true) {
            self.say(service, &place, Outcome::Dropped, "it is not enabled, so its routes are not reachable");
            made.reachable = false;
            return made;
        }
        let (protocol, host, port, path) = address(service);
        made.path = path.trim_end_matches('/').to_owned();
        let (scheme, http2) = match protocol.as_str() {
            "http" | "ws" => ("http", false),
            "https" | "wss" => ("https", false),
            "grpc" => ("http", true),
            "grpcs" => ("https", true),
            other => {
                let why = format!("protocol {other:?} is not taken over: only HTTP and gRPC are");
                self.say(service, &place, Outcome::Dropped, &why);
                made.reachable = false;
                return made;
            }
        };
        let mut keys = Vec::new();
        match self.endpoints(service, &place, scheme, &host, port) {
            Some(endpoints) => keys.push(("endpoints".to_owned(), endpoints)),
            None => {
                made.closed = Some(format!("service {written:?} has no target that can be reached"));
                let nowhere = Yaml::texts([format!("{scheme}://127.0.0.1:1")]);
                keys.push(("endpoints".to_owned(), nowhere));
            }
        }
        if http2 {
            keys.push(("protocol".to_owned(), Yaml::text("http2")));
        }
        if scheme == "https" {
            if let Some(tls) = self.upstream_tls(service, &place) {
                keys.push(("tls".to_owned(), tls));
            }
            if !service.flag("tls_verify", false) {
                let note = "the upstream's certificate is verified here, which Kong does not do by default; set \
                            tls: { ca: … } for authorities of your own";
                self.say(service, &place, Outcome::Changed, note);
            }
        }
        keys.push(timeouts(service));
        if let Some(retries) = service.number("retries") {
            keys.push(("retries".to_owned(), Yaml::text(retries.min(5).to_string())));
        }
        self.upstream(service, &host, &mut keys);
        self.say(service, &place, Outcome::Translated, "services:");
        self.services.push((made.name.clone(), Yaml::Map(keys)));
        made
    }

    fn endpoints(
        &mut self,
        service: Entity<'n>,
        place: &str,
        scheme: &str,
        host: &str,
        port: Option<u64>,
    ) -> Option<Yaml> {
        let default = if scheme == "https" { 443 } else { 80 };
        let url = |host: &str, port: u64| match port == default {
            true => format!("{scheme}://{host}"),
            false => format!("{scheme}://{host}:{port}"),
        };
        let Some(upstream) = self.upstream_named(host) else {
            if !is_host(host) {
                self.say(service, place, Outcome::Closed, "it has no host, or one that cannot be read");
                return None;
            }
            return Some(Yaml::texts([url(host, port.unwrap_or(default))]));
        };
        let targets = self.source.list(upstream, "targets", "target");
        let mut endpoints = Vec::new();
        for target in targets {
            let weight = target.number("weight").unwrap_or(100);
            let written = target.text("target").unwrap_or_default();
            let (host, port) = match written.rsplit_once(':') {
                Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(8000)),
                None => (written.clone(), 8000),
            };
            if weight == 0 || !is_host(&host) {
                let why = if weight == 0 { "its weight is 0" } else { "its address cannot be read" };
                self.say(target, &format!("target {written:?}"), Outcome::Dropped, why);
                continue;
            }
            endpoints.push((url(&host, port), weight));
        }
        weighted(&endpoints)
    }

    fn upstream_named(&self, host: &str) -> Option<Entity<'n>> {
        let upstreams = self.source.list(self.source.top, "upstreams", "upstream");
        upstreams.into_iter().find(|upstream| upstream.text("name").as_deref() == Some(host))
    }

    fn upstream_tls(&mut self, service: Entity<'n>, place: &str) -> Option<Yaml> {
        let mut keys = Vec::new();
        let authorities = service.texts("ca_certificates");
        if !authorities.is_empty() {
            match self.authorities(&authorities) {
                Some(path) => keys.push(("ca".to_owned(), Yaml::text(path))),
                None => self.say(service, place, Outcome::Dropped, "its ca_certificates are not in the file"),
            }
        }
        if let Some(reference) = service.reference("client_certificate") {
            match self.certificate_of(&reference) {
                Some(pair) => keys.push(("client".to_owned(), pair)),
                None => {
                    self.say(service, place, Outcome::Dropped, "its client_certificate is not in the file")
                }
            }
        }
        (!keys.is_empty()).then_some(Yaml::Map(keys))
    }

    fn upstream(&mut self, service: Entity<'n>, host: &str, keys: &mut Vec<(String, Yaml)>) {
        let Some(upstream) = self.upstream_named(host) else { return };
        let place = format!("upstream {host:?}");
        let algorithm = upstream.text("algorithm").unwrap_or_else(|| "round-robin".to_owned());
        match ALGORITHMS.iter().find(|(theirs, _)| *theirs == algorithm) {
            Some((_, ours)) => keys.push(("balance".to_owned(), Yaml::text(*ours))),
            None => {
                let note =
                    format!("{algorithm} has no counterpart: requests of one client may reach any target");
                self.say(upstream, &place, Outcome::Dropped, &note);
            }
        }
        if let Some(checks) = upstream.below("healthchecks") {
            keys.extend(health(&checks, upstream.text("host_header")));
            keys.extend(ejection(&checks));
        }
        let _ = service;
        self.say(upstream, &place, Outcome::Translated, "endpoints, balance and health of its services");
    }
}

/// Protocol, host, port and path, in whichever of its two forms a service is written.
fn address(service: Entity<'_>) -> (String, String, Option<u64>, String) {
    match service.text("url") {
        Some(url) => parts(&url).unwrap_or_default(),
        None => (
            service.text("protocol").unwrap_or_else(|| "http".to_owned()),
            service.text("host").unwrap_or_default(),
            service.number("port"),
            service.text("path").unwrap_or_default(),
        ),
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && (host.contains("${") || host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(c)))
}

/// Protocol, host, port and path of a URL.
fn parts(url: &str) -> Option<(String, String, Option<u64>, String)> {
    let (protocol, rest) = url.split_once("://")?;
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let bracketed = authority.rfind(']').unwrap_or(0);
    let (host, port) = match authority.rfind(':').filter(|colon| *colon > bracketed) {
        Some(colon) => {
            let (host, port) = authority.split_at(colon);
            (host, Some(port.trim_start_matches(':').parse().ok()?))
        }
        None => (authority, None),
    };
    Some((protocol.to_owned(), host.to_owned(), port, path.to_owned()))
}

/// Weights of 1 to 1000 in the same proportion.
fn weighted(endpoints: &[(String, u64)]) -> Option<Yaml> {
    let most = endpoints.iter().map(|(_, weight)| *weight).max()?;
    if endpoints.iter().all(|(_, weight)| *weight == most) {
        return Some(Yaml::texts(endpoints.iter().map(|(url, _)| url.clone())));
    }
    let scaled = |weight: u64| if most > 1_000 { (weight * 1_000 / most).max(1) } else { weight };
    let maps = endpoints.iter().map(|(url, weight)| {
        Yaml::Map(vec![
            ("url".to_owned(), Yaml::text(url.clone())),
            ("weight".to_owned(), Yaml::text(scaled(*weight).to_string())),
        ])
    });
    Some(Yaml::List(maps.collect()))
}

/// Kong waits a minute for an answer where nothing else is said, which is twice as long as a service
/// here has.
fn timeouts(service: Entity<'_>) -> (String, Yaml) {
    let ms = |key: &str| service.number(key).filter(|ms| *ms > 0).map(|ms| Yaml::text(format!("{ms}ms")));
    let read = ms("read_timeout").unwrap_or_else(|| Yaml::text("60s"));
    let connect = ms("connect_timeout").map(|connect| ("connect".to_owned(), connect));
    let reads = ["first_byte", "idle"].map(|key| (key.to_owned(), read.clone()));
    ("timeouts".to_owned(), Yaml::Map(connect.into_iter().chain(reads).collect()))
}

/// The first number that is set and not 0.
fn positive(of: Option<Entity<'_>>, keys: &[&str]) -> Option<u64> {
    keys.iter().filter_map(|key| of?.number(key)).find(|number| *number > 0)
}

fn health(checks: &Entity<'_>, host: Option<String>) -> Option<(String, Yaml)> {
    let active = checks.below("active")?;
    let (healthy, unhealthy) = (active.below("healthy"), active.below("unhealthy"));
    let interval = positive(healthy, &["interval"]).or_else(|| positive(unhealthy, &["interval"]))?;
    let mut keys = match active.text("type").as_deref() {
        Some("tcp") => vec![("tcp".to_owned(), Yaml::Flag(true))],
        _ => {
            vec![("http".to_owned(), Yaml::text(active.text("http_path").unwrap_or_else(|| "/".to_owned())))]
        }
    };
    let http = active.text("type").as_deref() != Some("tcp");
    if let (Some(host), true) = (host.filter(|host| !host.contains(':')), http) {
        keys.push(("host".to_owned(), Yaml::text(host)));
    }
    let statuses: Vec<u64> = healthy
        .map_or(Vec::new(), |healthy| healthy.texts("http_statuses"))
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    if let (Some(least), Some(most), true) = (statuses.iter().min(), statuses.iter().max(), http) {
        keys.push(("status".to_owned(), Yaml::text(format!("{least}-{most}"))));
    }
    keys.push(("interval".to_owned(), Yaml::text(format!("{interval}s"))));
    if let Some(timeout) = active.number("timeout").filter(|seconds| *seconds > 0) {
        keys.push(("timeout".to_owned(), Yaml::text(format!("{timeout}s"))));
    }
    for (key, number) in [
        ("healthy", positive(healthy, &["successes"])),
        ("unhealthy", positive(unhealthy, &["http_failures", "tcp_failures", "timeouts"])),
    ] {
        if let Some(number) = number {
            keys.push((key.to_owned(), Yaml::text(number.min(100).to_string())));
        }
    }
    Some(("health".to_owned(), Yaml::Map(keys)))
}

fn ejection(checks: &Entity<'_>) -> Option<(String, Yaml)> {
    let unhealthy = checks.below("passive")?.below("unhealthy");
    let failures = positive(unhealthy, &["http_failures", "tcp_failures", "timeouts"])?;
    let failures = Yaml::text(failures.min(1_000).to_string());
    Some(("eject".to_owned(), Yaml::Map(vec![("failures".to_owned(), failures)])))
}

//! Plugins: which of them run where, and what each becomes.

use super::matching::knows_places;
use super::place::METHODS;
use super::source::{Entity, configuration};
use crate::config::belongs_to_the_hop;
use crate::import::yaml::Yaml;

/// Plugins that let somebody in or keep somebody out, and that are translated.
pub(super) const PROOFS: &[&str] = &["key-auth", "jwt", "mtls-auth", "openid-connect"];

/// Plugins whose absence protects nobody less.
const HARMLESS: &[(&str, &str)] = &[
    ("prometheus", "metrics are always on: /metrics of the admin listener"),
    ("http-log", "every request leaves an event in the audit log; `audit.sinks` sends it elsewhere"),
    ("file-log", "every request leaves an event in the audit log; `audit.sinks` sends it elsewhere"),
    ("tcp-log", "every request leaves an event in the audit log; `audit.sinks` sends it elsewhere"),
    ("udp-log", "every request leaves an event in the audit log; `audit.sinks` sends it elsewhere"),
    ("syslog", "every request leaves an event in the audit log; `audit.sinks` sends it elsewhere"),
    ("kafka-log", "every request leaves an event in the audit log; `audit.sinks` sends it elsewhere"),
    ("loggly", "every request leaves an event in the audit log; `audit.sinks` sends it elsewhere"),
    ("datadog", "metrics are always on: /metrics of the admin listener"),
    ("statsd", "metrics are always on: /metrics of the admin listener"),
    ("statsd-advanced", "metrics are always on: /metrics of the admin listener"),
    ("zipkin", "see `telemetry:`, which is for the whole gateway"),
    ("opentelemetry", "see `telemetry:`, which is for the whole gateway"),
    ("proxy-cache", "there is no response cache: every request reaches the upstream"),
    ("proxy-cache-advanced", "there is no response cache: every request reaches the upstream"),
    ("grpc-gateway", "gRPC is not translated from and to JSON"),
    ("grpc-web", "gRPC-Web is not translated"),
    ("canary", "see `to:` with weights"),
    ("upstream-timeout", "see `timeouts:`"),
    ("response-ratelimiting", "limits by headers of answers have no counterpart"),
    ("exit-transformer", "answers of the gateway are RFC 9457 problem documents"),
    ("tls-metadata-headers", "the upstream is told who asks in x-bastide headers"),
];

/// The most specific first: of each plugin only that one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    RouteAndService,
    Route,
    Service,
    Global,
}

/// A plugin that runs on a route.
#[derive(Clone, Debug)]
pub(super) struct Plugin<'n> {
    pub(super) name: String,
    pub(super) entity: Entity<'n>,
    pub(super) level: Level,
    pub(super) service: Option<String>,
    pub(super) route: Option<String>,
    pub(super) consumer: Option<String>,
    pub(super) group: Option<String>,
}

impl<'n> Plugin<'n> {
    pub(super) fn config(&self) -> Entity<'n> {
        configuration(&self.entity)
    }

    pub(super) fn place(&self) -> String {
        let mut place = format!("plugin {}", self.name);
        for (what, name) in [
            ("route", &self.route),
            ("service", &self.service),
            ("consumer", &self.consumer),
            ("consumer group", &self.group),
        ] {
            if let Some(name) = name {
                place.push_str(&format!(" of {what} {name:?}"));
            }
        }
        place
    }

    pub(super) fn of_somebody(&self) -> bool {
        self.consumer.is_some() || self.group.is_some()
    }
}

/// Of each plugin the most specific instance (Kong's precedence, without consumers).
pub(super) fn effective<'p, 'n>(
    all: &'p [Plugin<'n>],
    route: &str,
    service: Option<&str>,
) -> Vec<&'p Plugin<'n>> {
    let applies = |plugin: &&Plugin<'n>| {
        !plugin.of_somebody()
            && plugin.route.as_ref().is_none_or(|wanted| wanted == route)
            && plugin.service.as_ref().is_none_or(|wanted| Some(wanted.as_str()) == service)
    };
    let mut chosen: Vec<&Plugin<'n>> = all.iter().filter(applies).collect();
    chosen.sort_by_key(|plugin| plugin.level);
    let mut names = std::collections::HashSet::new();
    chosen.retain(|plugin| names.insert(plugin.name.clone()));
    chosen
}

/// What plugins make of a route.
#[derive(Default)]
pub(super) struct Treatment {
    /// Keys of the route.
    pub(super) keys: Vec<(String, Yaml)>,
    /// Headers: set, add, remove.
    pub(super) request: Headers,
    pub(super) response: Headers,
    /// The path that the upstream sees, instead of what `strip_path` makes.
    pub(super) rewrite: Option<String>,
    /// Rates by period in seconds, for comparison with consumers'.
    pub(super) rates: Vec<(u64, u64)>,
    /// Why nobody gets in.
    pub(super) closed: Vec<String>,
    /// Whether it is answered here.
    pub(super) answered: bool,
}

impl Treatment {
    /// Sets limits, besides those of another plugin.
    fn limit_by(&mut self, mut lines: Vec<Yaml>) {
        let before =
            self.keys.iter().position(|(key, _)| key == "limit").map(|place| self.keys.remove(place).1);
        match before {
            Some(Yaml::List(before)) => lines.splice(0..0, before).for_each(drop),
            Some(before) => lines.insert(0, before),
            None => {}
        }
        let limit = if lines.len() == 1 { lines.remove(0) } else { Yaml::List(lines) };
        self.keys.push(("limit".to_owned(), limit));
    }
}

/// Changes to headers.
#[derive(Default)]
pub(super) struct Headers {
    pub(super) set: Vec<(String, Yaml)>,
    pub(super) add: Vec<(String, Yaml)>,
    pub(super) remove: Vec<String>,
}

impl Headers {
    /// As they stand in a route with this path. A value with a place that the path does not
    /// have is nothing there, as with Kong.
    pub(super) fn yaml(&self, path: &str) -> Option<Yaml> {
        let mut keys = Vec::new();
        for (key, list) in [("set", &self.set), ("add", &self.add)] {
            let known = |(_, value): &&(String, Yaml)| match value {
                Yaml::Text(text) => knows_places(path, text),
                _ => true,
            };
            let list: Vec<(String, Yaml)> = list.iter().filter(known).cloned().collect();
            if !list.is_empty() {
                keys.push((key.to_owned(), Yaml::Map(list)));
            }
        }
        if !self.remove.is_empty() {
            keys.push(("remove".to_owned(), Yaml::texts(self.remove.clone())));
        }
        (!keys.is_empty()).then_some(Yaml::Map(keys))
    }
}

/// What one plugin became: notes about what is different, in words.
pub(super) enum Became {
    /// The same.
    Same(String),
    /// Something that behaves differently.
    Other(String),
    /// Nothing, and that harms nobody.
    Nothing(String),
    /// The route is closed.
    Closed(String),
}

/// Puts what one plugin does into the treatment. Proofs and `acl` are another's.
pub(super) fn treat(plugin: &Plugin<'_>, proven: bool, into: &mut Treatment) -> Became {
    let config = plugin.config();
    match plugin.name.as_str() {
        "rate-limiting" => limits(rates(&config), &config, "limit_by", proven, into),
        "rate-limiting-advanced" => limits(windows(&config), &config, "identifier", proven, into),
        "cors" => cors(&config, into),
        "ip-restriction" => addresses(&config, into),
        "request-size-limiting" => body_max(&config, into),
        "request-transformer" | "request-transformer-advanced" => request(&config, into),
        "response-transformer" | "response-transformer-advanced" => response(&config, into),
        "request-termination" => respond(&config, into),
        "redirect" => redirect(&config, into),
        "correlation-id" => correlation(&config),
        name => match HARMLESS.iter().find(|(harmless, _)| *harmless == name) {
            Some((_, note)) => Became::Nothing((*note).to_owned()),
            None => {
                Became::Closed(format!("plugin {name} is not translated, and what it keeps out is not known"))
            }
        },
    }
}

/// Requests per so many seconds, burst.
type Rate = (u64, u64);

/// `second: 5`, `minute: 100` …
pub(super) fn rates(config: &Entity<'_>) -> Result<Vec<Rate>, String> {
    let periods = [
        ("second", 1),
        ("minute", 60),
        ("hour", 3_600),
        ("day", 86_400),
        ("month", 31 * 86_400),
        ("year", 366 * 86_400),
    ];
    let found: Vec<Rate> =
        periods.iter().filter_map(|(name, seconds)| Some((config.number(name)?, *seconds))).collect();
    if found.is_empty() { Err("no limit is set".to_owned()) } else { Ok(found) }
}

/// `limit: [ 5 ]`, `window_size: [ 30 ]`.
pub(super) fn windows(config: &Entity<'_>) -> Result<Vec<Rate>, String> {
    let numbers =
        |key: &str| -> Option<Vec<u64>> { config.texts(key).iter().map(|text| text.parse().ok()).collect() };
    let (limits, sizes) =
        numbers("limit").zip(numbers("window_size")).ok_or("limit and window_size are no numbers")?;
    let fits = !limits.is_empty() && limits.len() == sizes.len() && sizes.iter().all(|size| *size > 0);
    if fits {
        Ok(limits.into_iter().zip(sizes).collect())
    } else {
        Err("limit and window_size do not fit".to_owned())
    }
}

/// `100/minute`, never more than the original; `None`: less than one a day.
fn written((requests, seconds): Rate) -> Option<String> {
    if requests > 1_000_000_000 || seconds == 0 {
        return None;
    }
    let periods = [(1, "second"), (60, "minute"), (3_600, "hour"), (86_400, "day")];
    let same = periods.iter().find(|(length, _)| *length == seconds);
    let whole =
        |(length, _): &&(u64, &str)| (requests * length) % seconds == 0 && requests * length >= seconds;
    let (length, name) = same.or(periods.iter().find(whole)).or(periods.last())?;
    let per_period = requests * length / seconds;
    if per_period == 0 {
        return None;
    }
    let burst = if per_period == requests { String::new() } else { format!(" burst {requests}") };
    Some(format!("{per_period}/{name} per {{by}}{burst}"))
}

fn limits(
    rates: Result<Vec<Rate>, String>,
    config: &Entity<'_>,
    by_key: &str,
    proven: bool,
    into: &mut Treatment,
) -> Became {
    let rates = match rates {
        Ok(rates) => rates,
        Err(why) => return Became::Closed(format!("the rate limit cannot be read: {why}")),
    };
    let by = config.text(by_key).unwrap_or_else(|| "consumer".to_owned());
    let (counted, note) = match (by.as_str(), proven) {
        ("ip", _) => ("address", None),
        ("consumer", true) => (
            "user",
            Some("counted for each user: one consumer's tokens of several subjects are several users"),
        ),
        ("credential", true) => ("key", None),
        // Kong takes the address where nobody is known.
        ("consumer" | "credential", false) => ("address", None),
        ("service", _) => ("route", Some("counted for each route apart, not for the service")),
        _ => ("address", Some("counted by address")),
    };
    let mut lines = Vec::new();
    for rate in &rates {
        match written(*rate) {
            Some(text) => lines.push(Yaml::text(text.replace("{by}", counted))),
            None => {
                return Became::Closed(format!("a limit of {} in {} s cannot be written", rate.0, rate.1));
            }
        }
    }
    into.rates.extend(rates.iter().map(|(requests, seconds)| (*seconds, *requests)));
    into.limit_by(lines);
    let mut kept = ["policy", "strategy"].into_iter().filter_map(|key| config.text(key));
    let alone = kept.any(|kept| matches!(kept.as_str(), "redis" | "cluster"));
    let alone = alone.then_some("each process counts by itself, not all together");
    let buckets = "a bucket that refills in the place of a window; each route counts by itself";
    let notes: Vec<&str> = note.into_iter().chain([buckets]).chain(alone).collect();
    Became::Other(notes.join("; "))
}

fn cors(config: &Entity<'_>, into: &mut Treatment) -> Became {
    let mut origins = config.texts("origins");
    let written = !origins.is_empty();
    let exact = |origin: &String| {
        origin.split_once("://").is_some_and(|(scheme, rest)| {
            matches!(scheme, "http" | "https")
                && !rest.is_empty()
                && rest.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c))
        })
    };
    let any = !written || origins.iter().any(|origin| origin == "*");
    let mut notes = Vec::new();
    let before = origins.len();
    origins.retain(exact);
    if any {
        origins = vec!["*".to_owned()];
    } else if origins.len() < before {
        notes.push("origins that are regular expressions are left out");
    }
    if origins.is_empty() {
        return Became::Nothing(
            "all its origins are regular expressions, so no page of another origin may read answers"
                .to_owned(),
        );
    }
    let mut keys = vec![("origins".to_owned(), Yaml::texts(origins))];
    let listed = |key: &str| config.texts(key);
    let methods = listed("methods");
    let methods: Vec<String> = match methods.is_empty() {
        true => METHODS.map(str::to_owned).to_vec(),
        false => methods.into_iter().filter(|method| METHODS.contains(&method.as_str())).collect(),
    };
    keys.push(("methods".to_owned(), Yaml::texts(methods)));
    let headers = listed("headers");
    if headers.is_empty() {
        notes.push("Kong lets a preflight ask for any header where none is listed; here list them");
    }
    for (key, list) in [("headers", headers), ("expose", listed("exposed_headers"))] {
        let list: Vec<String> = list.into_iter().filter(|name| is_header(name)).collect();
        if !list.is_empty() {
            keys.push((key.to_owned(), Yaml::texts(list)));
        }
    }
    match (config.flag("credentials", false), any) {
        (true, true) => notes.push("credentials are left out: they do not go with every origin"),
        (true, false) => keys.push(("credentials".to_owned(), Yaml::Flag(true))),
        (false, _) => {}
    }
    if let Some(seconds) = config.number("max_age") {
        keys.push(("max_age".to_owned(), Yaml::text(format!("{}s", seconds.min(86_400)))));
    }
    into.keys.push(("cors".to_owned(), Yaml::Map(keys)));
    if notes.is_empty() { Became::Same("cors:".to_owned()) } else { Became::Other(notes.join("; ")) }
}

fn is_header(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}

fn addresses(config: &Entity<'_>, into: &mut Treatment) -> Became {
    let list = |now: &str, before: &str| [config.texts(now), config.texts(before)].concat();
    let (allow, deny) = (list("allow", "whitelist"), list("deny", "blacklist"));
    if allow.is_empty() && deny.is_empty() {
        return Became::Closed("ip-restriction has neither allow nor deny".to_owned());
    }
    let mut keys = Vec::new();
    for (key, list) in [("allow", allow), ("deny", deny)] {
        if !list.is_empty() {
            keys.push((key.to_owned(), Yaml::texts(list)));
        }
    }
    into.keys.push(("addresses".to_owned(), Yaml::Map(keys)));
    Became::Same("addresses:".to_owned())
}

fn body_max(config: &Entity<'_>, into: &mut Treatment) -> Became {
    let size = config.number("allowed_payload_size").unwrap_or(128);
    let unit = match config.text("size_unit").as_deref() {
        None | Some("megabytes") => "MiB",
        Some("kilobytes") => "KiB",
        Some("bytes") => "B",
        Some(_) => return Became::Closed("the unit of request-size-limiting is not known".to_owned()),
    };
    into.keys.push(("body_max".to_owned(), Yaml::text(format!("{size}{unit}"))));
    Became::Same("body_max:".to_owned())
}

/// `name:value`, where the name can be set here and the value is not computed.
fn header(text: &str) -> Result<(String, Yaml), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text:?} is not name:value"))?;
    let name = name.trim().to_ascii_lowercase();
    if !may_change(&name) {
        return Err(format!("header {name:?} cannot be changed here"));
    }
    let mut out = String::new();
    let mut rest = value.trim();
    while let Some((before, after)) = rest.split_once("$(") {
        out.push_str(&before.replace('{', "{{"));
        let (inside, after) = after.split_once(')').ok_or("a $( is not closed")?;
        let place = inside.trim().strip_prefix("uri_captures.").filter(|place| {
            !place.is_empty() && place.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        });
        match place {
            Some(place) => out.push_str(&format!("{{{place}}}")),
            None => return Err(format!("$({inside}) has no counterpart")),
        }
        rest = after;
    }
    // `${NAME}` is not a place.
    match rest.contains("${") {
        true => out.push_str(rest),
        false => out.push_str(&rest.replace('{', "{{")),
    }
    Ok((name, Yaml::text(out)))
}

fn may_change(name: &str) -> bool {
    is_header(name) && !name.contains('_') && !belongs_to_the_hop(name)
}

/// Parts of a transformer that take away what a client sent: without them the upstream
/// sees more than it did.
fn takes_away(config: &Entity<'_>, keys: &[(&str, &[&str])]) -> Option<String> {
    keys.iter().find_map(|(action, parts)| {
        let below = config.below(action)?;
        let part = parts.iter().find(|part| !below.items(part).is_empty())?;
        Some(format!(
            "{action}.{part} is not translated, so the other side would see what it did not see before"
        ))
    })
}

fn headers(config: &Entity<'_>, headers: &mut Headers, notes: &mut Vec<String>) {
    let texts = |action: &str| config.below(action).map_or(Vec::new(), |below| below.texts("headers"));
    for (action, note) in [
        ("add", Some("add sets the header whether it is there or not")),
        ("replace", Some("replace sets the header whether it is there or not")),
        ("append", None),
    ] {
        let list = texts(action);
        notes.extend(note.filter(|_| !list.is_empty()).map(str::to_owned));
        for text in list {
            match header(&text) {
                Ok(pair) if action == "append" => put(&mut headers.add, pair),
                Ok(pair) => put(&mut headers.set, pair),
                Err(why) => notes.push(format!("{action}.headers: {why}")),
            }
        }
    }
    for name in texts("remove") {
        let name = name.to_ascii_lowercase();
        if may_change(&name) {
            headers.remove.push(name);
        } else {
            notes.push(format!("remove.headers: header {name:?} cannot be changed here"));
        }
    }
}

fn put(list: &mut Vec<(String, Yaml)>, (name, value): (String, Yaml)) {
    match list.iter_mut().find(|(known, _)| *known == name) {
        Some(found) => found.1 = value,
        None => list.push((name, value)),
    }
}

fn other_parts(config: &Entity<'_>, keys: &[&str], parts: &[&str], notes: &mut Vec<String>) {
    for action in keys {
        for part in parts {
            if config.below(action).is_some_and(|below| !below.items(part).is_empty()) {
                notes.push(format!("{action}.{part} is not translated"));
            }
        }
    }
}

fn noted(notes: Vec<String>, same: &str) -> Became {
    if notes.is_empty() { Became::Same(same.to_owned()) } else { Became::Other(notes.join("; ")) }
}

fn request(config: &Entity<'_>, into: &mut Treatment) -> Became {
    let away: &[&str] = &["querystring", "body"];
    if let Some(why) = takes_away(config, &[("remove", away), ("replace", away), ("allow", &["body"])]) {
        return Became::Closed(format!("request-transformer: {why}"));
    }
    let unremoved = config.below("remove").map_or(Vec::new(), |below| below.texts("headers"));
    if let Some(name) = unremoved.iter().find(|name| !may_change(&name.to_ascii_lowercase())) {
        return Became::Closed(format!("request-transformer: header {name:?} cannot be taken away here"));
    }
    let mut notes = Vec::new();
    headers(config, &mut into.request, &mut notes);
    if let Some(uri) = config.below("replace").and_then(|replace| replace.text("uri")) {
        match rewritten(&uri) {
            Some(path) => into.rewrite = Some(path),
            None => {
                return Became::Closed(format!(
                    "request-transformer: replace.uri {uri:?} has no counterpart"
                ));
            }
        }
    }
    other_parts(config, &["rename"], &["headers", "querystring", "body"], &mut notes);
    other_parts(config, &["add", "append"], &["querystring", "body"], &mut notes);
    if config.get("http_method").is_some() {
        notes.push("http_method is not translated".to_owned());
    }
    noted(notes, "headers:")
}

/// `/v2/$(uri_captures["id"])`
fn rewritten(uri: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = uri;
    while let Some((before, after)) = rest.split_once("$(") {
        out.push_str(before);
        let (inside, after) = after.split_once(')')?;
        let place = inside.trim().strip_prefix("uri_captures")?;
        let place = place.trim_matches(|c| ".[]\"'".contains(c));
        let fits = !place.is_empty() && place.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        out.push_str(&format!("{{{}}}", fits.then_some(place)?));
        rest = after;
    }
    out.push_str(rest);
    (out.starts_with('/') && !out.contains(['?', '#', '$'])).then_some(out)
}

fn response(config: &Entity<'_>, into: &mut Treatment) -> Became {
    let json: &[&str] = &["json"];
    let taken = takes_away(
        config,
        &[("remove", json), ("replace", &["json", "body"]), ("allow", json), ("transform", &["functions"])],
    );
    if let Some(why) = taken {
        return Became::Closed(format!("response-transformer: {why}"));
    }
    let unremoved = config.below("remove").map_or(Vec::new(), |below| below.texts("headers"));
    if let Some(name) = unremoved.iter().find(|name| !may_change(&name.to_ascii_lowercase())) {
        return Became::Closed(format!("response-transformer: header {name:?} cannot be taken away here"));
    }
    let mut notes = Vec::new();
    headers(config, &mut into.response, &mut notes);
    other_parts(config, &["rename"], &["headers", "json"], &mut notes);
    other_parts(config, &["add", "append"], json, &mut notes);
    noted(notes, "headers:")
}

fn respond(config: &Entity<'_>, into: &mut Treatment) -> Became {
    if config.get("trigger").is_some() {
        return Became::Closed(
            "request-termination has a trigger, so who gets through is not known".to_owned(),
        );
    }
    let status = config.number("status_code").unwrap_or(503);
    let (content_type, body) = match (config.text("body"), config.text("message")) {
        (Some(body), _) => (
            config.text("content_type").unwrap_or_else(|| "application/json; charset=utf-8".to_owned()),
            body,
        ),
        (None, message) => {
            let message = message.unwrap_or_else(|| "Service unavailable".to_owned());
            (
                "application/json; charset=utf-8".to_owned(),
                serde_json::json!({ "message": message }).to_string(),
            )
        }
    };
    let status = status.clamp(200, 599);
    into.keys.push((
        "respond".to_owned(),
        Yaml::Map(vec![
            ("status".to_owned(), Yaml::text(status.to_string())),
            ("content_type".to_owned(), Yaml::text(content_type)),
            ("body".to_owned(), Yaml::text(body)),
        ]),
    ));
    into.answered = true;
    Became::Same("respond:".to_owned())
}

fn redirect(config: &Entity<'_>, into: &mut Treatment) -> Became {
    let location = config.text("location").unwrap_or_default().replace('{', "{{");
    let keeps = config.flag("keep_incoming_path", false);
    let to = if keeps { format!("{}{{path}}", location.trim_end_matches('/')) } else { location };
    let status = config.number("status_code").filter(|status| [301, 302, 303, 307, 308].contains(status));
    let status = status.unwrap_or(301);
    into.keys.push((
        "redirect".to_owned(),
        Yaml::Map(vec![
            ("to".to_owned(), Yaml::text(to)),
            ("status".to_owned(), Yaml::text(status.to_string())),
        ]),
    ));
    into.answered = true;
    Became::Same("redirect:".to_owned())
}

fn correlation(config: &Entity<'_>) -> Became {
    let name = config.text("header_name").unwrap_or_else(|| "Kong-Request-ID".to_owned());
    Became::Other(format!(
        "each request has an id of its own, in x-request-id and the audit log; {name:?} is passed on as it comes"
    ))
}

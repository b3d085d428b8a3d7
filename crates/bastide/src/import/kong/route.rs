//! Routes: a match for each host, path and header value, and what their plugins make of
//! them.

use std::fmt::Write as _;
use std::rc::Rc;

use super::Importer;
use super::access::{Access, Permit, Somebody, cedar};
use super::key_of;
use super::matching::{Besides, Matched, Pattern, knows_places, shape};
use super::place::Place;
use super::plugins::{Became, PROOFS, Plugin, Treatment, effective, rates, treat, windows};
use super::service::Service;
use super::source::{self, Entity};
use crate::import::Outcome;
use crate::import::yaml::Yaml;

/// Most policies that keep prefixes apart.
const GUARDS_MAX: usize = 2_000;
/// Most routes in all.
const ROUTES_MAX: usize = 10_000;

/// A route of ours.
pub(super) struct Made {
    pub(super) name: String,
    /// The route of Kong's that it is part of.
    of: String,
    service: Option<String>,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) methods: Vec<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) keys: Vec<(String, Yaml)>,
    /// Why nobody gets in.
    pub(super) closed: Vec<String>,
    /// Whether somebody who has proved nothing gets in without restriction.
    open: bool,
    /// Whether its path is a plain prefix, which in Kong ends in the middle of a segment.
    prefix: bool,
    /// What the path takes besides, and is kept out.
    besides: Besides,
    /// Non-consumer rate limits: seconds, requests.
    rates: Vec<(u64, u64)>,
    /// Line of the source.
    pub(super) line: u32,
}

/// One of Kong's routes with what it belongs to.
struct Written<'n> {
    entity: Entity<'n>,
    name: String,
    service: Option<Entity<'n>>,
    service_key: Option<String>,
}

impl<'n> Importer<'n> {
    /// Services with their routes, and routes that stand alone.
    pub(super) fn all_routes(&mut self) {
        let top = self.source.top;
        let services = self.source.list(top, "services", "service");
        let alone = self.source.list(top, "routes", "route");
        for (number, service) in services.iter().enumerate() {
            let key = key_of(service, "service", number);
            let made = self.service(*service);
            let nested = self.source.list(*service, "routes", "route").into_iter().enumerate();
            let mut routes: Vec<(Entity<'n>, String)> = nested
                .map(|(number, route)| (route, key_of(&route, &format!("{key}-route"), number)))
                .collect();
            for (number, route) in alone.iter().enumerate() {
                if route.reference("service").is_some_and(|name| service.is_called(&name)) {
                    routes.push((*route, key_of(route, "route", number)));
                }
            }
            for (entity, name) in routes {
                let written =
                    Written { entity, name, service: Some(*service), service_key: Some(key.clone()) };
                self.route(&written, Some(&made));
            }
        }
        for (number, route) in alone.iter().enumerate() {
            let service = route.reference("service");
            if !service.is_some_and(|name| services.iter().any(|service| service.is_called(&name))) {
                let name = key_of(route, "route", number);
                self.route(&Written { entity: *route, name, service: None, service_key: None }, None);
            }
        }
        self.keep_prefixes_apart();
        self.keep_folders_out();
    }

    fn route(&mut self, written: &Written<'n>, service: Option<&Service>) {
        let (entity, place) = (written.entity, format!("route {:?}", written.name));
        if service.is_some_and(|service| !service.reachable) {
            self.say(entity, &place, Outcome::Dropped, "its service is not reachable");
            return;
        }
        let protocols = entity.texts("protocols");
        let http = ["http", "https", "grpc", "grpcs", "ws", "wss"];
        if !protocols.is_empty() && !protocols.iter().any(|protocol| http.contains(&protocol.as_str())) {
            self.say(
                entity,
                &place,
                Outcome::Dropped,
                "only HTTP and gRPC are taken over; a listener with `protocol: tcp` forwards other bytes",
            );
            return;
        }
        let all = Rc::clone(&self.plugins);
        let plugins = effective(&all, &written.name, written.service_key.as_deref());
        let access = self.access(&plugins);
        let mut treatment = Treatment::default();
        for plugin in
            plugins.iter().filter(|plugin| !PROOFS.contains(&plugin.name.as_str()) && plugin.name != "acl")
        {
            self.treated(plugin, !access.proofs.is_empty(), &mut treatment);
        }
        let mut closed = [access.closed.clone(), std::mem::take(&mut treatment.closed)].concat();
        closed.extend(service.and_then(|service| service.closed.clone()));
        let filtered = [Some(self.source.top), written.service, Some(entity)].into_iter().flatten();
        if filtered.into_iter().any(|entity| !entity.items("filter_chains").is_empty()) {
            closed.push("filter_chains are not translated, and what they keep out is not known".to_owned());
        }
        self.odd_keys(entity, &mut closed);
        if service.is_none() && !treatment.answered {
            closed.push("the route has no service".to_owned());
        }
        let places = self.places(entity, &place, &mut closed);
        for reason in &closed {
            self.say(entity, &place, Outcome::Closed, reason);
        }
        self.unknown_keys(written, &plugins, &mut closed);
        let before = self.routes.len();
        for one in places {
            self.put(written, service, one, &access, &treatment, &closed);
        }
        let made: Vec<String> = self.routes.iter().skip(before).map(|made| made.name.clone()).collect();
        let cleartext = |protocol: &String| ["http", "grpc", "ws"].contains(&protocol.as_str());
        let tls_alone = !protocols.is_empty() && !protocols.iter().any(cleartext);
        for name in &made {
            self.policies_of(name, &access, tls_alone);
        }
        let note = match made.len() {
            0 => "it takes nothing that another route does not take before it".to_owned(),
            1 => "one route".to_owned(),
            number => format!("{number} routes: a route has one host and one path"),
        };
        self.say(entity, &place, Outcome::Translated, &note);
    }

    /// One of the routes that a route becomes.
    fn put(
        &mut self,
        written: &Written<'n>,
        service: Option<&Service>,
        one: Place,
        access: &Access,
        treatment: &Treatment,
        closed: &[String],
    ) {
        let (entity, place) = (written.entity, format!("route {:?}", written.name));
        if self.routes.len() >= ROUTES_MAX {
            self.say(entity, &place, Outcome::Dropped, "there are too many routes");
            return;
        }
        let Place { host, pattern, methods, headers } = one;
        let mut reasons = closed.to_vec();
        let mut close = |importer: &mut Self, reason: String| {
            importer.say(entity, &place, Outcome::Closed, &format!("{}: {reason}", pattern.path));
            reasons.push(reason);
        };
        if let Some(wider) = &pattern.wider {
            close(self, wider.clone());
        }
        if treatment.rewrite.as_ref().is_some_and(|rewrite| !knows_places(&pattern.path, rewrite)) {
            close(self, "replace.uri names what the path does not capture".to_owned());
        }
        let keys = route_keys(entity, service, access, treatment, &pattern, closed.is_empty());
        let restricted = treatment.keys.iter().any(|(key, _)| key == "addresses");
        let name = self.route_names.take(&written.name);
        self.add(Made {
            name,
            of: written.name.clone(),
            service: written.service_key.clone(),
            host,
            prefix: matches!(pattern.matched, Matched::Prefix(_)) && pattern.path.ends_with("/**"),
            besides: pattern.besides,
            path: pattern.path,
            methods,
            headers,
            keys,
            open: access.proofs.is_empty() && !restricted && reasons.is_empty(),
            closed: reasons,
            rates: treatment.rates.clone(),
            line: entity.at().line,
        });
    }

    fn treated(&mut self, plugin: &Plugin<'n>, proven: bool, treatment: &mut Treatment) {
        let (outcome, note) = match treat(plugin, proven, treatment) {
            Became::Same(note) => (Outcome::Translated, note),
            Became::Other(note) => (Outcome::Changed, note),
            Became::Nothing(note) => (Outcome::Dropped, note),
            Became::Closed(note) => {
                treatment.closed.push(note.clone());
                (Outcome::Closed, note)
            }
        };
        self.say(plugin.entity, &plugin.place(), outcome, &note);
    }

    /// Keys of a route, its service and its plugins that Kong does not know: each is said where it
    /// stands.
    fn unknown_keys(&mut self, written: &Written<'n>, plugins: &[&Plugin<'n>], closed: &mut Vec<String>) {
        let mut looked_at = vec![(format!("route {:?}", written.name), written.entity, source::ROUTE)];
        if let Some((service, key)) = written.service.zip(written.service_key.as_ref()) {
            looked_at.push((format!("service {key:?}"), service, source::SERVICE));
        }
        looked_at.extend(plugins.iter().map(|plugin| (plugin.place(), plugin.entity, source::PLUGIN)));
        for (what, entity, known) in looked_at {
            for (at, why) in entity.unknown(known) {
                self.say_at(at, &what, Outcome::Closed, &why);
                closed.push(format!("{what}: {why}"));
            }
            if entity.lacks_shared() {
                let why = "its _config is not under _plugin_configs";
                self.say(entity, &what, Outcome::Closed, why);
                closed.push(format!("{what}: {why}"));
            }
        }
    }

    /// Keys of a route that mean something and have no counterpart.
    fn odd_keys(&mut self, entity: Entity<'n>, closed: &mut Vec<String>) {
        if entity.get("expression").is_some() {
            closed.push("the route is an expression (router_flavor: expressions)".to_owned());
        }
        for key in ["sources", "destinations"] {
            if !entity.items(key).is_empty() {
                closed.push(format!("{key} are not translated"));
            }
        }
        // In most files every route: said of all of them at once.
        self.hosts_preserved += usize::from(!entity.flag("preserve_host", false));
    }

    /// Adds a route, less what routes before it take alike. Closed wins.
    fn add(&mut self, mut made: Made) {
        let alike = format!("{}{} {:?}", made.host, shape(&made.path), made.headers);
        let before = self.alike.entry(alike).or_default();
        for place in before.iter() {
            let Some(other) = self.routes.get_mut(*place) else { continue };
            let shared = match (made.methods.is_empty(), other.methods.is_empty()) {
                (true, true) => true,
                (false, false) => made.methods.iter().any(|method| other.methods.contains(method)),
                _ => false,
            };
            if !shared {
                continue;
            }
            if !made.closed.is_empty() && other.closed.is_empty() {
                other.closed =
                    made.closed.iter().map(|why| format!("as of route {:?}: {why}", made.of)).collect();
                other.open = false;
            }
            // Which of two alike comes first depends on when Kong learned of them.
            if !made.open && other.open {
                other.closed.push(format!("route {:?} takes the same requests and asks for more", made.of));
                other.open = false;
            }
            if made.of == other.of {
                other.besides = other.besides.min(made.besides);
            }
            if made.methods.is_empty() {
                return;
            }
            made.methods.retain(|method| !other.methods.contains(method));
            if made.methods.is_empty() {
                return;
            }
        }
        before.push(self.routes.len());
        self.routes.push(made);
    }

    /// Policies that let in whom the proofs and groups of a route let in.
    fn policies_of(&mut self, route: &str, access: &Access, https_only: bool) {
        let mut policies = Vec::new();
        let all: Vec<&Permit> = access.permits.iter().collect();
        for (number, permit) in all.iter().enumerate() {
            policies.push((format!("{route}: in {}", number + 1), "permit", (*permit).clone()));
        }
        for (number, forbid) in access.forbids.iter().enumerate() {
            policies.push((format!("{route}: out {}", number + 1), "forbid", forbid.clone()));
        }
        if https_only {
            let cleartext = Permit { principal: "principal".to_owned(), when: "!context.tls".to_owned() };
            policies.push((format!("{route}: TLS alone"), "forbid", cleartext));
        }
        for (id, effect, rule) in policies {
            self.policy(&id, effect, &rule, Some(route));
        }
    }

    pub(super) fn policy(&mut self, id: &str, effect: &str, rule: &Permit, route: Option<&str>) {
        let resource =
            route.map_or("resource".to_owned(), |route| format!("resource == Route::{}", cedar(route)));
        let _ =
            write!(self.policies, "@id({})\n{effect} ({}, action, {resource})", cedar(id), rule.principal);
        if !rule.when.is_empty() {
            let _ = write!(self.policies, "\nwhen {{ {} }}", rule.when);
        }
        self.policies.push_str(";\n\n");
    }

    /// Kong's `/admin` takes `/administrator` too, ours does not: where such a path would
    /// come to a route that asks for something else, it is refused there.
    fn keep_prefixes_apart(&mut self) {
        let mut rules = Vec::new();
        // A client can leave out the headers of a condition, so those guard nothing.
        let guards = |made: &&Made| made.prefix && !made.open && made.headers.is_empty();
        for guarded in self.routes.iter().filter(guards) {
            let literal = guarded.path.trim_end_matches("/**");
            for wider in self.routes.iter().filter(|made| made.of != guarded.of) {
                let base = wider.path.strip_suffix("/**");
                let hosts = wider.host.is_empty()
                    || wider.host == guarded.host
                    || wider.host.strip_prefix('*').is_some_and(|suffix| guarded.host.ends_with(suffix));
                let above = base.is_some_and(|base| literal.starts_with(base) && literal.len() > base.len());
                if hosts && above && !literal.contains('{') {
                    rules.push((wider.name.clone(), literal.to_owned(), guarded.of.clone()));
                }
            }
        }
        rules.sort();
        rules.dedup();
        // So many that they could not be read: closed instead.
        let (rules, beyond) = rules.split_at(rules.len().min(GUARDS_MAX));
        for (name, _, of) in beyond {
            if let Some(made) =
                self.routes.iter_mut().find(|made| made.name == *name && made.closed.is_empty())
            {
                made.closed.push(format!("it would get requests that are of route {of:?}"));
                made.open = false;
            }
        }
        for (route, literal, of) in rules {
            let (path, any, below) =
                (cedar(literal), cedar(&format!("{literal}*")), cedar(&format!("{literal}/*")));
            let when =
                format!("context.path like {any} && !(context.path == {path} || context.path like {below})");
            let rule = Permit { principal: "principal".to_owned(), when };
            self.policy(&format!("{route}: not {literal}…, which is of {of}"), "forbid", &rule, Some(route));
        }
    }

    /// Our `/docs/**` takes `/docs` too, Kong's `/docs/` and `~/docs/.+` do not: it is refused
    /// there.
    fn keep_folders_out(&mut self) {
        let open = self.routes.iter().filter(|made| made.closed.is_empty());
        let rules: Vec<(String, String)> =
            open.filter_map(|made| Some((made.name.clone(), made.besides.when(&made.path)?))).collect();
        for (route, when) in rules {
            let rule = Permit { principal: "principal".to_owned(), when };
            self.policy(&format!("{route}: nothing above its path"), "forbid", &rule, Some(&route));
        }
    }

    /// Keys of consumers and their groups that Kong does not know, and what is wrong with how their plugins
    /// are written: they do not get in.
    pub(super) fn unknown_keys_of_somebody(&mut self) {
        let top = self.source.top;
        let groups = self.source.list(top, "consumer_groups", "consumer_group").into_iter().map(|group| {
            let name = group.text("name").unwrap_or_default();
            let of = self.consumers_of(None, Some(&name));
            (format!("consumer group {name:?}"), group, source::CONSUMER_GROUP, of)
        });
        let consumers = self.consumers.iter().map(|consumer| {
            let of = vec![Somebody::of(consumer)];
            (format!("consumer {:?}", consumer.name), consumer.entity, source::CONSUMER, of)
        });
        let plugins = self.plugins.iter().filter(|plugin| plugin.of_somebody()).map(|plugin| {
            let of = self.consumers_of(plugin.consumer.as_deref(), plugin.group.as_deref());
            (plugin.place(), plugin.entity, source::PLUGIN, of)
        });
        let looked_at: Vec<_> = groups.chain(consumers).chain(plugins).collect();
        for (what, entity, known, of) in looked_at {
            let mut closed = entity.unknown(known);
            if entity.lacks_shared() {
                closed.push((entity.at(), "its _config is not under _plugin_configs".to_owned()));
            }
            for (at, why) in closed {
                self.say_at(at, &what, Outcome::Closed, &why);
                for Somebody { name, selectors, .. } in &of {
                    for (number, selector) in selectors.iter().enumerate() {
                        let id = format!("{name}, for {}:{}, {}", at.line, at.column, number + 1);
                        self.policy(&id, "forbid", selector, None);
                    }
                }
            }
        }
    }

    /// Plugins of consumers and their groups.
    pub(super) fn plugins_of_somebody(&mut self) {
        let plugins: Vec<Plugin<'n>> =
            self.plugins.iter().filter(|plugin| plugin.of_somebody()).cloned().collect();
        for plugin in plugins {
            let of = self.consumers_of(plugin.consumer.as_deref(), plugin.group.as_deref());
            let routes: Vec<String> = self
                .routes
                .iter()
                .filter(|made| plugin.route.as_ref().is_none_or(|route| *route == made.of))
                .filter(|made| plugin.service.is_none() || plugin.service == made.service)
                .map(|made| made.name.clone())
                .collect();
            self.of_somebody(&plugin, &of, &routes);
        }
    }

    fn of_somebody(&mut self, plugin: &Plugin<'n>, of: &[Somebody], routes: &[String]) {
        let place = plugin.place();
        let (outcome, note, unless) = match plugin.name.as_str() {
            "ip-restriction" => match in_ranges(plugin) {
                Some(when) => (Outcome::Translated, "a forbid policy".to_owned(), when),
                None => (Outcome::Closed, "its networks cannot be written".to_owned(), String::new()),
            },
            "request-termination" => (Outcome::Translated, "a forbid policy".to_owned(), String::new()),
            "rate-limiting" | "rate-limiting-advanced" if self.routes_limit_more(plugin, routes) => {
                let note = "limits of single consumers have no counterpart; the limit of each route, which is \
                            lower or the same, counts";
                self.say(plugin.entity, &place, Outcome::Changed, note);
                return;
            }
            name => match treat_alone(plugin) {
                Became::Nothing(note) => {
                    self.say(plugin.entity, &place, Outcome::Dropped, &note);
                    return;
                }
                Became::Same(_) | Became::Other(_) | Became::Closed(_) => {
                    let note =
                        format!("{name} for single consumers has no counterpart, so they do not get in");
                    (Outcome::Closed, note, String::new())
                }
            },
        };
        let (outcome, note) = match (of.iter().any(|one| one.is_in_file), of.is_empty()) {
            (true, _) => (outcome, note),
            (false, true) => (
                Outcome::Closed,
                "no consumer in the file is in the group: who is has no credential here, and needs a policy \
                 before getting one"
                    .to_owned(),
            ),
            (false, false) => (
                Outcome::Closed,
                format!("{note}; whom it is for is not in the file and has no credential here"),
            ),
        };
        self.say(plugin.entity, &place, outcome, &note);
        self.forbid(plugin, of, routes, &unless);
    }

    /// Forbids somebody the routes that a plugin is for, or all, where a condition of its own holds.
    fn forbid(&mut self, plugin: &Plugin<'n>, of: &[Somebody], routes: &[String], unless: &str) {
        let everywhere = plugin.route.is_none() && plugin.service.is_none();
        let scopes: Vec<Option<&str>> =
            if everywhere { vec![None] } else { routes.iter().map(|route| Some(route.as_str())).collect() };
        let line = plugin.entity.at().line;
        for Somebody { name, selectors, .. } in of {
            for (number, selector) in selectors.iter().enumerate() {
                for route in &scopes {
                    let id = format!(
                        "{} of {name}, line {line}, {} {}",
                        plugin.name,
                        number + 1,
                        route.unwrap_or("")
                    );
                    let mut rule = selector.clone();
                    if !unless.is_empty() {
                        let and =
                            if rule.when.is_empty() { String::new() } else { format!("{} && ", rule.when) };
                        rule.when = format!("{and}({unless})");
                    }
                    self.policy(id.trim(), "forbid", &rule, *route);
                }
            }
        }
    }

    /// Whether every route that the plugin is for has a limit at least as low. That a route is closed
    /// limits nobody: it may be opened.
    fn routes_limit_more(&self, plugin: &Plugin<'n>, routes: &[String]) -> bool {
        let config = plugin.config();
        let Ok(own) = (if plugin.name == "rate-limiting" { rates(&config) } else { windows(&config) }) else {
            return false;
        };
        let lower = |made: &Made| {
            own.iter()
                .all(|(requests, seconds)| made.rates.iter().any(|(s, r)| s == seconds && r <= requests))
        };
        self.routes.iter().filter(|made| routes.contains(&made.name)).all(lower)
    }
}

/// What a plugin would become on a route; what only adds is not missed by those who are
/// kept out.
fn treat_alone(plugin: &Plugin<'_>) -> Became {
    let config = plugin.config();
    let only_adds = ["remove", "replace", "allow", "transform"].iter().all(|key| config.get(key).is_none());
    match plugin.name.as_str() {
        "cors" | "correlation-id" | "redirect" => {
            Became::Nothing("it has no counterpart for single consumers".to_owned())
        }
        name if name.contains("-transformer") && only_adds => {
            Became::Nothing("headers for single consumers have no counterpart".to_owned())
        }
        _ => treat(plugin, true, &mut Treatment::default()),
    }
}

/// The condition under which `ip-restriction` keeps somebody out.
fn in_ranges(plugin: &Plugin<'_>) -> Option<String> {
    let config = plugin.config();
    let ranges = |keys: [&str; 2]| -> Option<Vec<String>> {
        let texts = keys.iter().flat_map(|key| config.texts(key));
        let range = |text: String| {
            let fits = text.parse::<std::net::IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok();
            fits.then(|| format!("context.address.isInRange(ip({}))", cedar(&text)))
        };
        texts.map(range).collect()
    };
    let (allow, deny) = (ranges(["allow", "whitelist"])?, ranges(["deny", "blacklist"])?);
    let mut parts = deny;
    if !allow.is_empty() {
        parts.push(format!("!({})", allow.join(" || ")));
    }
    (!parts.is_empty()).then(|| parts.join(" || "))
}

/// The keys of a route besides name and match.
fn route_keys(
    entity: Entity<'_>,
    service: Option<&Service>,
    access: &Access,
    treatment: &Treatment,
    pattern: &Pattern,
    understood: bool,
) -> Vec<(String, Yaml)> {
    let mut keys = Vec::new();
    let text = |key: &str, value: &str| (key.to_owned(), Yaml::text(value));
    if let (Some(service), false) = (service, treatment.answered) {
        keys.push(text("to", &service.name));
    }
    match access.proofs.as_slice() {
        [] if understood => keys.push(text("allow", "anyone")),
        // Not even when the policy that closes it is taken away: no other lets anybody in.
        [] => keys.push(text("authenticate", "none")),
        [one] => keys.push(text("authenticate", one)),
        many => keys.push(("authenticate".to_owned(), Yaml::texts(many.iter().copied()))),
    }
    keys.extend(treatment.keys.iter().cloned());
    if let (Some(service), false) = (service, treatment.answered) {
        keys.extend(path_keys(entity, service, treatment, pattern));
    }
    let mut headers = Vec::new();
    for (key, changes) in [("request", &treatment.request), ("response", &treatment.response)] {
        headers.extend(changes.yaml(&pattern.path).map(|yaml| (key.to_owned(), yaml)));
    }
    if !headers.is_empty() {
        keys.push(("headers".to_owned(), Yaml::Map(headers)));
    }
    keys
}

/// What the upstream sees of the path.
fn path_keys(
    entity: Entity<'_>,
    service: &Service,
    treatment: &Treatment,
    pattern: &Pattern,
) -> Vec<(String, Yaml)> {
    let text = |key: &str, value: String| (key.to_owned(), Yaml::text(value));
    if let Some(rewrite) = treatment.rewrite.as_ref().filter(|rewrite| knows_places(&pattern.path, rewrite)) {
        return vec![text("rewrite", rewrite.clone())];
    }
    let mut keys = Vec::new();
    // Kong never takes anything off the path of a gRPC call: it names the method.
    let is_grpc = |protocol: &str| ["grpc", "grpcs"].contains(&protocol);
    let strips = entity.flag("strip_path", true) && !entity.texts("protocols").iter().any(|one| is_grpc(one));
    match (&pattern.matched, strips) {
        (Matched::Prefix(prefix), true) => keys.push(text("strip_prefix", prefix.clone())),
        (Matched::Whole, true) => {
            let path = if service.path.is_empty() { "/".to_owned() } else { service.path.clone() };
            return vec![text("rewrite", path)];
        }
        (Matched::BeforeRest, true) => return vec![text("rewrite", format!("{}/{{**}}", service.path))],
        (Matched::Nothing, _) | (_, false) => {}
    }
    if !service.path.is_empty() {
        keys.push(text("add_prefix", service.path.clone()));
    }
    keys
}

//! `realms:`: the identity provider's realms, each an issuer with clients of its own.

mod back_channel;
mod clients;
mod factors;
mod mail;
mod passwords;
mod theme;

use std::collections::BTreeMap;
use std::time::Duration;

use gateway::session::ClaimsFrom;
use identity::claim::{ClaimRule, Source, Target};
use identity::settings::SESSIONS_MAX;
use identity::{Client, RealmSettings, Resource};

use super::decoder::{Decoder, Table};
use super::node::{Name, Node, Value};
use super::schema::{Section, key};
use super::values::{self, Unfit};
use super::{Authentication, HostMatch, Proof, Role, Route, Service};

pub(super) use back_channel::BACK_CHANNEL_LOGOUT;
pub use back_channel::{BackChannel, PRIVATE_SWITCH};
pub(super) use clients::{CLIENT, TLS_CLIENT_AUTH};
pub(super) use factors::of_members;
pub(super) use mail::MAIL;
pub use mail::{Mail, MailSecurity};
pub(super) use passwords::PASSWORDS;

/// The service that routes to the identity provider name.
pub const IDENTITY_SERVICE: &str = "identity";

/// One realm.
#[derive(Clone, Debug, PartialEq)]
pub struct Realm {
    /// What it is.
    pub settings: RealmSettings,
    /// The clients that the configuration declares.
    pub clients: Vec<Client>,
    /// The way of letters to people.
    pub mail: Option<Mail>,
    /// How far logout tokens may go.
    pub back_channel: BackChannel,
}

pub(super) const REALM: Section = Section {
    path: "realms.NAME",
    about: "One realm of the identity provider: an issuer with users, clients and keys of its own, kept in the store. A route with `to: identity` leads requests to it.",
    short: "its issuer as a text: `town: https://id.example.org`",
    keys: &[
        key(
            "issuer",
            "https:// URL without query and final slash",
            "",
            "Its `iss`, and where its endpoints are. http:// is for loopback only.",
        ),
        key("display_name", "text", "the realm's name", "What its pages call it."),
        key(
            "language",
            "en or de",
            "en",
            "The language of pages for users who prefer none of the available ones, and of e-mail to users who chose none.",
        ),
        key(
            "theme",
            "path of a folder",
            "none",
            "What its pages look like: `style.css` is loaded after the built-in style sheet, and `logo.svg`, `logo.png` or `logo.webp` is shown next to the name.",
        ),
        key(
            "algorithms",
            "list of ES256, EdDSA, RS256",
            "ES256, EdDSA, RS256",
            "What it signs with: keys of each are made and rotated; the first is the default.",
        ),
        key("passwords", "map", "8 characters, strength 3", "Requirements for passwords that users choose."),
        key("mail", "map", "no e-mail", "The mail server for e-mail to users."),
        key(
            "back_channel_logout",
            "map",
            "public addresses behind public authorities",
            "How far logout tokens to clients may go.",
        ),
        key("lifetimes", "map", "see there", "How long everything lasts."),
        key(
            "scopes",
            "map of scope to text",
            "OpenID Connect's",
            "Further scopes, and what the consent page says of each.",
        ),
        key(
            "resources",
            "map of identifier to map",
            "none",
            "The APIs that access tokens can be for (RFC 8707).",
        ),
        key(
            "claims",
            "list of maps",
            "OpenID Connect's, and `roles` and `groups` for APIs",
            "Further claims.",
        ),
        key("factors", "map", "see there", "Who is asked for more than a password."),
        key(
            "sessions_per_person",
            "1 to 1000",
            "20",
            "How many sessions one user may have; the least recently used one makes room.",
        ),
        key(
            "require_pushed_requests",
            "true or false",
            "false",
            "Every client has to push its authorization requests (RFC 9126).",
        ),
        key(
            "require_dpop_nonce",
            "true or false",
            "false",
            "DPoP proofs have to carry a nonce of the realm's (RFC 9449 §8).",
        ),
        key("clients", "map of client id to map", "none", "The clients that are declared here."),
    ],
};

pub(super) const LIFETIMES: Section = Section {
    path: "realms.NAME.lifetimes",
    about: "How long everything lasts that a realm issues.",
    short: "",
    keys: &[
        key("access_token", "duration from 1s to 24h", "5m", "An access token."),
        key("id_token", "duration from 1s to 24h", "5m", "An ID token."),
        key("code", "duration from 1s to 10m", "60s", "An authorization code."),
        key("refresh_idle", "duration", "14d", "A refresh token that is not used."),
        key("refresh_absolute", "duration", "90d", "A grant, however often it is refreshed."),
        key(
            "refresh_grace",
            "duration from 0s to 60s",
            "10s",
            "How long the previous refresh token is still answered, with the current one.",
        ),
        key("session_idle", "duration", "8h", "A login session without activity."),
        key("session_absolute", "duration", "1d", "A login session, however active."),
        key("key_signs", "duration", "30d", "How long a signing key signs."),
        key("key_prepared", "duration", "1d", "How long it is published before."),
    ],
};

pub(super) const FACTORS: Section = Section {
    path: "realms.NAME.factors",
    about: "Who is asked for more than a password. A user who needs a factor and has none enrols one before the login ends. `2` is the authentication class (`acr`) of two factors; a client requires it by `acr`, a request by `acr_values`.",
    short: "",
    keys: &[
        key(
            "ask",
            "enrolled or needed",
            "enrolled",
            "`enrolled`: users with a factor use it at each login. `needed`: only if a role, a client or a request requires it.",
        ),
        key(
            "roles",
            "map of role to class",
            "none",
            "The class that users with a role need: `{ admin: \"2\" }`. Users with a role that includes it, and its `members`, need it too.",
        ),
    ],
};

pub(super) const RESOURCE: Section = Section {
    path: "realms.NAME.resources.NAME",
    about: "An API that access tokens can be for.",
    short: "nothing: `https://orders.example.org: {}`",
    keys: &[
        key("scopes", "list of scopes", "all", "The scopes that apply to it."),
        key("access_token", "duration from 1s to 24h", "the realm's", "How long tokens for it last."),
    ],
};

pub(super) const CLAIM: Section = Section {
    path: "realms.NAME.claims[]",
    about: "One claim, and where its value comes from.",
    short: "",
    keys: &[
        key("claim", "text", "", "Its name."),
        key(
            "from",
            "groups, roles, username, name, email, email_verified or updated_at",
            "none",
            "What it shows of the user; of a client, its `roles`.",
        ),
        key(
            "attribute",
            "text",
            "none",
            "The attribute of the user or client that it shows, in place of `from`.",
        ),
        key("fixed", "text", "none", "The value that it always has, in place of `from`."),
        key("scope", "scope", "always", "Only when this scope was granted."),
        key(
            "into",
            "list of access_token, id_token, userinfo",
            "access_token",
            "In which tokens and answers it appears.",
        ),
    ],
};

/// The host name of an issuer, lower case, without port.
pub fn issuer_host(issuer: &str) -> String {
    let uri = issuer.parse::<http::Uri>();
    uri.ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase)).unwrap_or_default()
}

fn issuer(text: &str) -> Result<String, Unfit> {
    let expected = "an issuer such as https://id.example.org, without query and final slash";
    let instead = text.strip_suffix('/').map(str::to_owned);
    let good = text.starts_with("https://") || text.starts_with("http://");
    if good && instead.is_none() { Ok(text.to_owned()) } else { Err(Unfit { expected, instead }) }
}

fn algorithm(text: &str) -> Result<keys::Algorithm, Unfit> {
    let known = [keys::Algorithm::Es256, keys::Algorithm::EdDsa, keys::Algorithm::Rs256];
    let found = known.into_iter().find(|algorithm| algorithm.name() == text);
    found.ok_or(Unfit { expected: "ES256, EdDSA or RS256", instead: None })
}

/// What a claim can show of a user.
const SOURCES: [(&str, Source); 7] = [
    ("groups", Source::Groups),
    ("roles", Source::Roles),
    ("username", Source::Username),
    ("name", Source::Name),
    ("email", Source::Email),
    ("email_verified", Source::EmailVerified),
    ("updated_at", Source::UpdatedAt),
];

fn target(text: &str) -> Result<Target, Unfit> {
    match text {
        "access_token" => Ok(Target::AccessToken),
        "id_token" => Ok(Target::IdToken),
        "userinfo" => Ok(Target::Userinfo),
        _ => Err(Unfit { expected: "access_token, id_token or userinfo", instead: None }),
    }
}

impl Decoder<'_> {
    /// Warns of a realm whose tokens no route of this gateway could accept: they are for its issuer, or
    /// for its resources.
    pub(super) fn realms_are_heard(
        &mut self,
        top: &Table<'_>,
        realms: &[Realm],
        routes: &[Route],
        authentication: &Authentication,
    ) {
        // With browser sessions the issuer may be there for its ID tokens alone.
        let takes_tokens = routes.iter().any(|route| route.authenticate.contains(&Proof::Jwt));
        if authentication.session.is_some() || !takes_tokens {
            return;
        }
        for realm in realms {
            let settings = &realm.settings;
            let is_its = |name: &String| *name == settings.issuer || settings.resources.contains_key(name);
            let issuer = authentication.issuers.iter().find(|issuer| issuer.issuer == settings.issuer);
            let Some(issuer) = issuer.filter(|issuer| !issuer.audience.iter().any(is_its)) else { continue };
            let message = format!(
                "no token of realm {:?} can be accepted: the audience is {}, and its tokens are for {}",
                settings.name,
                issuer.audience.join(" or "),
                std::iter::once(&settings.issuer)
                    .chain(settings.resources.keys())
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(" or ")
            );
            let suggestion = format!(
                "write authentication.audience: {}",
                settings.resources.keys().next().unwrap_or(&settings.issuer)
            );
            self.warn(top.key_at("authentication"), message, suggestion);
        }
    }

    /// Warns of browser sessions without roles: a realm's ID tokens carry none.
    pub(super) fn sessions_have_roles(
        &mut self,
        top: &Table<'_>,
        realms: &[Realm],
        roles: &[Role],
        authentication: &Authentication,
    ) {
        let Some(session) = &authentication.session else { return };
        let given_by_tokens = roles.iter().any(|role| role.members.is_empty());
        if session.claims_from != ClaimsFrom::IdToken || !given_by_tokens {
            return;
        }
        let realm = realms.iter().map(|realm| &realm.settings).find(|realm| realm.issuer == session.issuer);
        let shows_roles = |rule: &ClaimRule| rule.claim == "roles" && rule.into.contains(&Target::IdToken);
        if let Some(realm) = realm.filter(|realm| !realm.claims.iter().any(shows_roles)) {
            let message = format!(
                "browsers log in at realm {:?}, whose ID tokens carry no roles: nobody with a session has any",
                realm.name
            );
            let suggestion = "write claims_from: access_token and resource: in authentication.session";
            self.warn(top.key_at("authentication"), message, suggestion);
        }
    }

    /// Whoever logs in at a realm is sent to its issuer's host, which some route has to lead to the
    /// provider.
    pub(super) fn realms_are_served(
        &mut self,
        top: &Table<'_>,
        realms: &[Realm],
        routes: &[Route],
        services: &[Service],
    ) {
        let is_provider = |number: &usize| {
            services.get(*number).is_some_and(|to| to.in_process && to.name == IDENTITY_SERVICE)
        };
        let leading = routes.iter().filter(|route| {
            let splits = route.splits.iter().map(|split| split.service);
            splits.chain([route.service]).any(|number| is_provider(&number))
        });
        let hosts: Vec<&HostMatch> = leading.map(|route| &route.matches.host).collect();
        for realm in realms {
            let host = issuer_host(&realm.settings.issuer);
            let takes = |matched: &&HostMatch| match matched {
                HostMatch::Any => true,
                HostMatch::Exact(name) => *name == host,
                HostMatch::Wildcard(below) => host
                    .strip_suffix(below.as_str())
                    .is_some_and(|label| label.len() > 1 && label.ends_with('.')),
            };
            if hosts.iter().any(takes) {
                continue;
            }
            let name = &realm.settings.name;
            let written = match top.get("realms").map(|node| &node.value) {
                Some(Value::Map(entries)) => entries.iter().find(|(known, _)| known.text == *name),
                _ => None,
            };
            let at = written.map_or_else(|| top.key_at("realms"), |(known, _)| known.at);
            let message = format!("no route leads {host} to the provider, so nobody can use realm {name:?}");
            let suggestion = format!(
                "add {{ match: {host}/**, to: identity, authenticate: none, allow: anyone }} to routes"
            );
            self.warn(at, message, suggestion);
        }
    }

    /// `realms:`
    pub(super) fn realms(&mut self, node: Option<&Node>, roles: &[Role]) -> Vec<Realm> {
        let Some(node) = node else { return Vec::new() };
        let mut realms: Vec<Realm> = Vec::new();
        for (name, node) in self.named(node, "a map of realm names") {
            let Some(realm) = self.realm(name, node, roles) else { continue };
            let place = |realm: &Realm| {
                let issuer = realm.settings.issuer.as_str();
                let path = issuer.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
                (issuer_host(issuer), path.map_or(String::new(), |(_, path)| path.to_owned()))
            };
            if let Some(other) = realms.iter().find(|other| place(other) == place(&realm)) {
                let message =
                    format!("realms {:?} and {:?} have one host and path", other.settings.name, name.text);
                self.fault(name.at, message);
            }
            realms.push(realm);
        }
        realms
    }

    /// A service of our own, such as the one behind `to: identity`, where it is needed.
    pub(super) fn own_service(
        &mut self,
        top: &Table<'_>,
        own: &'static str,
        needed: bool,
        services: &mut Vec<Service>,
    ) {
        if !needed {
            return;
        }
        if services.iter().any(|service| service.name == own) {
            self.advise(
                top.key_at("services"),
                format!("{own:?} is a service of Bastide's own"),
                "give your service another name",
            );
            return;
        }
        services.push(Service::in_process(own));
    }

    fn realm(&mut self, name: &Name, node: &Node, roles: &[Role]) -> Option<Realm> {
        if let Err(unfit) = values::name(&name.text) {
            self.fault(name.at, format!("expected {}, found {:?}", unfit.expected, name.text));
        }
        if node.text().is_some() {
            let issuer = self.value(node, issuer)?;
            let settings = RealmSettings::new(&name.text, &issuer);
            self.check_realm(node, &settings);
            return Some(Realm {
                settings,
                clients: Vec::new(),
                mail: None,
                back_channel: BackChannel::default(),
            });
        }
        let table = self.table(node, &REALM)?;
        let issuer_node = self.required(&table, "issuer")?;
        let mut settings = RealmSettings::new(&name.text, &self.value(issuer_node, issuer)?);
        let changeable =
            ["display_name", "sessions_per_person", "require_pushed_requests", "require_dpop_nonce"];
        let written = changeable.into_iter().filter(|key| table.get(key).is_some());
        settings.written = written.map(str::to_owned).collect();
        if let Some(shown) = table.get("display_name").and_then(|node| self.text(node)) {
            shown.clone_into(&mut settings.display_name);
        }
        if let Some(language) = table.get("language").and_then(|node| self.language(node)) {
            settings.language = language;
        }
        if let Some(theme) = table.get("theme").and_then(|node| self.theme(node)) {
            settings.theme = theme;
        }
        if let Some(rules) = table.get("passwords").and_then(|node| self.passwords(node)) {
            settings.passwords = rules;
        }
        if let Some(node) = table.get("algorithms") {
            settings.algorithms = self.values(node, algorithm);
        }
        if let Some(table) = table.get("lifetimes").and_then(|node| self.table(node, &LIFETIMES)) {
            self.lifetimes(&table, &mut settings);
        }
        if let Some(node) = table.get("scopes") {
            for (scope, text) in self.named(node, "a map of scopes") {
                settings.scopes.extend(self.text(text).map(|text| (scope.text.clone(), text.to_owned())));
                settings.scope_order.push(scope.text.clone());
            }
        }
        settings.resources = self.resources(table.get("resources"));
        for node in table.get("claims").map_or(&[][..], Node::items) {
            settings.claims.extend(self.claim(node));
        }
        if let Some(most) =
            table.get("sessions_per_person").and_then(|node| self.number(node, 1, SESSIONS_MAX))
        {
            settings.sessions_per_person = most;
        }
        if let Some(table) = table.get("factors").and_then(|node| self.table(node, &FACTORS)) {
            self.factor_rules(&table, roles, &mut settings);
        }
        let flag =
            |decoder: &mut Self, key| table.get(key).and_then(|node| decoder.boolean(node)) == Some(true);
        settings.require_pushed_requests = flag(self, "require_pushed_requests");
        settings.require_dpop_nonce = flag(self, "require_dpop_nonce");
        settings.client_certificates = self.certificates_asked;
        self.check_realm(issuer_node, &settings);
        let back_channel =
            table.get("back_channel_logout").map(|node| self.back_channel(node)).unwrap_or_default();
        let clients = self.realm_clients(table.get("clients"), &settings, &back_channel);
        let mail = table.get("mail").and_then(|node| self.mail(node));
        Some(Realm { settings, clients, mail, back_channel })
    }

    fn check_realm(&mut self, node: &Node, settings: &RealmSettings) {
        if let Err(error) = settings.check() {
            self.fault(node.at, error.to_string());
        }
    }

    fn lifetimes(&mut self, table: &Table<'_>, settings: &mut RealmSettings) {
        for (name, life) in settings.lifetimes.named() {
            if let Some(node) = table.get(name) {
                settings.written.insert(format!("lifetimes.{name}"));
                *life = self.duration(node, Duration::ZERO).unwrap_or(*life);
            }
        }
    }

    fn resources(&mut self, node: Option<&Node>) -> BTreeMap<String, Resource> {
        let mut resources = BTreeMap::new();
        let Some(node) = node else { return resources };
        for (name, node) in self.named(node, "a map of API identifiers") {
            let mut resource = Resource::default();
            if let Some(table) = self.optional_table(node, &RESOURCE) {
                let scopes = table.get("scopes").map_or(Vec::new(), |node| self.texts(node));
                resource.scopes = scopes.into_iter().collect();
                let life = table.get("access_token").and_then(|node| self.duration(node, Duration::ZERO));
                resource.access_token = life;
            }
            resources.insert(name.text.clone(), resource);
        }
        resources
    }

    fn claim(&mut self, node: &Node) -> Option<ClaimRule> {
        let table = self.table(node, &CLAIM)?;
        let claim = self.required(&table, "claim").and_then(|node| self.text(node))?.to_owned();
        let mut given =
            ["from", "attribute", "fixed"].into_iter().filter_map(|key| Some((key, table.get(key)?)));
        let (Some((key, node)), None) = (given.next(), given.next()) else {
            let message = format!("claim {claim:?} needs one of `from`, `attribute` and `fixed`");
            let known = SOURCES.iter().any(|(name, _)| *name == claim);
            let instead = if known { format!("from: {claim}") } else { format!("attribute: {claim}") };
            self.advise(table.at, message, format!("write {instead}"));
            return None;
        };
        let from = match key {
            "fixed" => Source::Fixed(self.text(node)?.into()),
            "attribute" => self.attribute(node)?,
            _ => self.source(node)?,
        };
        let scope = table.get("scope").and_then(|node| self.text(node)).map(str::to_owned);
        let into = table.get("into").map_or(vec![Target::AccessToken], |node| self.values(node, target));
        Some(ClaimRule { claim, from, scope, into: into.into_iter().collect() })
    }

    fn attribute(&mut self, node: &Node) -> Option<Source> {
        let name = self.text(node)?;
        if ["groups", "roles"].contains(&name) {
            let what = format!("this is an attribute that is called {name}, not the user's {name}");
            self.warn(node.at, what, format!("write from: {name}"));
        }
        Some(Source::Attribute(name.to_owned()))
    }

    fn source(&mut self, node: &Node) -> Option<Source> {
        let name = self.text(node)?;
        let found = SOURCES.iter().find(|(known, _)| *known == name);
        if found.is_none() {
            self.unknown_value(node, "source of a claim", SOURCES.iter().map(|(name, _)| *name));
        }
        found.map(|(_, source)| source.clone())
    }
}

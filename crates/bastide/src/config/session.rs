//! `authentication.session`: browsers that log in at an OpenID provider; and
//! `authentication.step_up`: stronger logins that policies can ask for.

use std::time::Duration;

use gateway::session::{ClaimsFrom, Level};

use super::decoder::{Decoder, Table};
use super::introspection::{CLIENT_ID, OwnClient, PRIVATE_KEY, SECRET};
use super::node::Node;
use super::routes::{Proof, Route};
use super::schema::{Section, key};
use super::values::{self, Unfit};
use super::{Authentication, HostMatch, Issuer, Service};

/// The name of the service behind `to: sessions`.
pub const SESSION_SERVICE: &str = "sessions";
/// Longest session.
const ABSOLUTE_MAX_MS: u64 = 30 * 86_400_000;

/// Browsers that log in at an OpenID provider.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionLogin {
    /// The provider, one of the issuers.
    pub issuer: String,
    /// Who this process is there.
    pub client: OwnClient,
    /// The path of the endpoints on each host.
    pub path: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// The API that tokens are for.
    pub resource: Option<String>,
    /// Where claims come from.
    pub claims_from: ClaimsFrom,
    /// A session ends when it is unused for this long.
    pub idle: Duration,
    /// No session lasts longer.
    pub absolute: Duration,
}

pub(super) const SESSION: Section = Section {
    path: "authentication.session",
    about: "Browsers that log in at an OpenID provider (`authenticate: session`). A route with `to: sessions` leads to the endpoints `callback`, `login`, `logout`, `signed-out` and `backchannel-logout` below `path`; register the first as redirect URI and `signed-out` as post-logout redirect URI.",
    short: "",
    keys: &[
        key("issuer", "URL", "the one issuer", "The provider; one of `authentication.issuers`."),
        CLIENT_ID,
        SECRET,
        PRIVATE_KEY,
        key("path", "path", "/auth", "Where the endpoints are, on each host."),
        key("scopes", "list of scopes", "openid", "The requested scopes; `openid` is always included."),
        key("resource", "identifier", "none", "The API that tokens are for (RFC 8707)."),
        key(
            "claims_from",
            "id_token or access_token",
            "id_token",
            "Which token identifies the user. `access_token`: it is verified as if it had been sent as a bearer token.",
        ),
        key("idle", "duration from 1m to 30d", "8h", "A session ends when it is unused for this long."),
        key("absolute", "duration from 1m to 30d", "24h", "No session lasts longer."),
    ],
};

pub(super) const STEP_UP: Section = Section {
    path: "authentication.step_up[]",
    about: "One stronger login. If a policy denies a request but would permit it after this login, browsers are sent to the provider for it, and clients with bearer tokens are told (RFC 9470). Weakest first.",
    short: "its `acr` as a text",
    keys: &[
        key(
            "acr",
            "text",
            "",
            "The class of authentication (`acr_values`), as policies compare it with `principal.acr`.",
        ),
        key(
            "amr",
            "list of texts",
            "as it was",
            "The methods that it implies, for policies that read `principal.amr`.",
        ),
        key("max_age", "duration from 1s to 24h", "any age", "How long ago the login may have been."),
    ],
};

fn claims_from(text: &str) -> Result<ClaimsFrom, Unfit> {
    match text {
        "id_token" => Ok(ClaimsFrom::IdToken),
        "access_token" => Ok(ClaimsFrom::AccessToken),
        _ => Err(Unfit { expected: "id_token or access_token", instead: None }),
    }
}

/// A path without a slash at its end.
fn path(text: &str) -> Result<String, Unfit> {
    let literal = text.len() > 1
        && text.starts_with('/')
        && !text.ends_with('/')
        && text.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte));
    if literal {
        Ok(text.to_owned())
    } else {
        Err(Unfit { expected: "a literal path such as /auth", instead: None })
    }
}

impl Decoder<'_> {
    /// `session:`
    pub(super) fn session(&mut self, node: &Node, issuers: &[Issuer]) -> Option<SessionLogin> {
        let table = self.table(node, &SESSION)?;
        let issuer = self.session_issuer(&table, issuers);
        let client = self.own_client(&table);
        let mut scopes = table.get("scopes").map_or(Vec::new(), |node| self.texts(node));
        if !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".to_owned());
        }
        let mut span = |key: &str, default: Duration| {
            table.get(key).and_then(|node| self.span(node, 60_000, ABSOLUTE_MAX_MS)).unwrap_or(default)
        };
        let (idle, absolute) =
            (span("idle", Duration::from_secs(8 * 3600)), span("absolute", Duration::from_secs(24 * 3600)));
        Some(SessionLogin {
            path: table.get("path").map_or(Some("/auth".to_owned()), |node| self.value(node, path))?,
            scopes,
            resource: table.get("resource").and_then(|node| self.text(node)).map(str::to_owned),
            claims_from: table
                .get("claims_from")
                .and_then(|node| self.value(node, claims_from))
                .unwrap_or(ClaimsFrom::IdToken),
            idle,
            absolute,
            issuer: issuer?,
            client: client?,
        })
    }

    fn session_issuer(&mut self, table: &Table<'_>, issuers: &[Issuer]) -> Option<String> {
        match (table.get("issuer"), issuers) {
            (Some(node), _) => {
                let text = self.text(node)?;
                let found = issuers.iter().find(|issuer| issuer.issuer == text);
                if found.is_none() {
                    self.unknown_value(node, "issuer", issuers.iter().map(|issuer| issuer.issuer.as_str()));
                }
                found.map(|issuer| issuer.issuer.clone())
            }
            (None, [one]) => Some(one.issuer.clone()),
            (None, _) => {
                self.advise(table.at, "which issuer do browsers log in at?", "add issuer: https://…");
                None
            }
        }
    }

    /// `step_up:`
    pub(super) fn step_up(&mut self, node: &Node) -> Vec<Level> {
        let mut levels: Vec<Level> = Vec::new();
        for item in node.items() {
            let level = if item.text().is_some() {
                self.value(item, acr).map(|acr| Level { acr, amr: Vec::new(), max_age: None })
            } else {
                self.level(item)
            };
            let Some(level) = level else { continue };
            if levels.iter().any(|other| other.acr == level.acr) {
                self.fault(item.at, format!("acr {:?} stands here twice", level.acr));
            }
            levels.push(level);
        }
        levels
    }

    fn level(&mut self, node: &Node) -> Option<Level> {
        let table = self.table(node, &STEP_UP)?;
        let acr = self.required(&table, "acr").and_then(|node| self.value(node, acr));
        Some(Level {
            amr: table.get("amr").map_or(Vec::new(), |node| self.texts(node)),
            max_age: table.get("max_age").and_then(|node| self.span(node, 1_000, 86_400_000)),
            acr: acr?,
        })
    }

    /// The service behind `to: sessions`, where browsers can log in.
    pub(super) fn session_service(
        &mut self,
        top: &Table<'_>,
        authentication: &Authentication,
        services: &mut Vec<Service>,
    ) {
        if authentication.session.is_none() {
            return;
        }
        if services.iter().any(|service| service.name == SESSION_SERVICE) {
            self.advise(
                top.key_at("services"),
                format!("{SESSION_SERVICE:?} is the service of the browsers' sessions"),
                "give your service another name",
            );
            return;
        }
        services.push(Service::in_process(SESSION_SERVICE));
    }

    /// A browser that is sent away must be able to come back.
    pub(super) fn sessions_come_back(
        &mut self,
        top: &Table<'_>,
        authentication: &Authentication,
        services: &[Service],
        routes: &[Route],
    ) {
        let Some(session) = &authentication.session else { return };
        let number = services.iter().position(|service| service.name == SESSION_SERVICE);
        let wanted = format!("{}/**", session.path);
        let endpoints: Vec<&Route> = routes
            .iter()
            .filter(|route| Some(route.service) == number && route.matches.path.as_str() == wanted)
            .collect();
        for route in routes.iter().filter(|route| route.authenticate.contains(&Proof::Session)) {
            let here = |endpoint: &&&Route| {
                endpoint.matches.host == route.matches.host
                    || !matches!(endpoint.matches.host, HostMatch::Exact(_))
            };
            if endpoints.iter().find(here).is_none() {
                let message = format!(
                    "route {:?} sends browsers to log in, and no route of its host takes them back",
                    route.name
                );
                let suggestion = format!(
                    "add a route: {{ match: HOST{wanted}, to: {SESSION_SERVICE}, authenticate: none, allow: anyone }}"
                );
                self.advise(top.key_at("routes"), message, suggestion);
            }
        }
    }
}

fn acr(text: &str) -> Result<String, Unfit> {
    // It stands in a quoted string of a header field, and among others with spaces.
    let fits =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    match fits {
        true => values::name(text).or_else(|_| Ok(text.to_owned())),
        false => {
            Err(Unfit { expected: "a class of authentication without spaces and quotes", instead: None })
        }
    }
}

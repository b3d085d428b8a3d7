//! A realm of Keycloak, as `kc.sh export` writes it, as a realm of ours.
//!
//! The way through it: `roles` flattens composites and groups, `flow` reads what a login demands,
//! `people` takes users with what they show (`credential`), `client` the clients; what is a setting
//! becomes `realm.yaml` for the configuration, and what is a record a file for `bastide apply`.
//!
//! INVARIANT: nothing becomes more open than it was. A redirect URI with a wildcard is left
//! out, a client whose secret, keys or login cannot be taken is switched off, and so is a person whose
//! second factor cannot; all of it is said.
//!
//! INVARIANT: what is written out is what `bastide apply` takes. What cannot be a client or a person
//! here is left out, and said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use identity::RealmSettings;
use serde_json::{Value, json};

use super::yaml::{Yaml, quoted};
use super::{Finding, Imported, Outcome, SideFile, Unreadable};
use crate::config::node::{self, At, Node, Value as NodeValue};
use flow::Demands;
use roles::Roles;

mod client;
mod credential;
mod flow;
mod people;
mod roles;

/// Clients that Keycloak makes for itself.
const INTERNAL_CLIENTS: [&str; 6] =
    ["account", "account-console", "admin-cli", "broker", "realm-management", "security-admin-console"];
/// Parts of an export that are taken, or that say nothing here.
const HANDLED: [&str; 39] = [
    "id",
    "realm",
    "displayName",
    "displayNameHtml",
    "enabled",
    "notBefore",
    "accessTokenLifespan",
    "accessCodeLifespan",
    "ssoSessionIdleTimeout",
    "ssoSessionMaxLifespan",
    "offlineSessionIdleTimeout",
    "offlineSessionMaxLifespan",
    "offlineSessionMaxLifespanEnabled",
    "roles",
    "defaultRole",
    "defaultRoles",
    "groups",
    "defaultGroups",
    "users",
    "clients",
    "clientScopes",
    "defaultDefaultClientScopes",
    "defaultOptionalClientScopes",
    "scopeMappings",
    "clientScopeMappings",
    "keycloakVersion",
    "attributes",
    "sslRequired",
    "eventsListeners",
    "enabledEventTypes",
    "supportedLocales",
    "requiredCredentials",
    "browserSecurityHeaders",
    "revokeRefreshToken",
    "authenticationFlows",
    "authenticatorConfig",
    "browserFlow",
    "verifyEmail",
    "requiredActions",
];
/// Parts that are left out for a reason that an operator wants to know.
const LEFT: [(&str, &str); 11] = [
    ("identityProviders", "logging in by another provider is not there yet"),
    ("identityProviderMappers", "logging in by another provider is not there yet"),
    ("components", "new signing keys are made, and users of an LDAP directory are not imported"),
    ("smtpServer", "mail is set in the configuration"),
    ("passwordPolicy", "passwords are judged by the realm's own rules"),
    ("clientProfiles", "what a client has to do is set on each"),
    ("clientPolicies", "what a client has to do is set on each"),
    ("organizations", "groups say who belongs together"),
    ("registrationAllowed", "nobody registers by themselves"),
    ("bruteForceProtected", "guessing is slowed down always, by rules of the realm's own"),
    ("localizationTexts", "texts are in a theme's folder"),
];
/// Scopes that Keycloak has and that are not asked for here.
const QUIET_SCOPES: [&str; 10] = [
    "web-origins",
    "acr",
    "roles",
    "basic",
    "microprofile-jwt",
    "role_list",
    "service_account",
    "organization",
    "saml_organization",
    "AuthnContextClassRef",
];

/// What the operator says of the result.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The issuer; `None`: `https://id.example.org/realms/NAME`.
    pub issuer: Option<String>,
    /// Makes the hash of a password that stands there in clear.
    pub hash: fn(&str) -> Result<String, String>,
}

/// Translates an export: the realm, and further files with users of it.
///
/// # Errors
/// A text is not JSON, or not an export of a realm.
pub fn import(texts: &[String], wanted: &Wanted) -> Result<Imported, Unreadable> {
    let mut trees = Vec::new();
    for text in texts {
        let parsed = node::parse(0, text);
        trees.push(parsed.map_err(|(line, column, message)| Unreadable { line, column, message })?);
    }
    let is_realm = |tree: &&Node| tree.get("realm").is_some() && tree.get("clients").is_some();
    let Some(realm) = trees.iter().find(is_realm) else {
        let message = "expected an export of a realm, with `realm` and `clients`".to_owned();
        return Err(Unreadable { line: 1, column: 1, message });
    };
    let mut importer = Importer {
        realm,
        findings: Vec::new(),
        is_off: text(realm, "enabled") == Some("false"),
        flow: flow::demands(realm, text(realm, "browserFlow").unwrap_or("browser")),
        factor_roles: BTreeMap::new(),
        second_factor: None,
    };
    Ok(importer.translate(&trees, wanted))
}

/// By their places, each once. Many people are many findings: no finding is compared with
/// those of other places.
fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    let place = |finding: &Finding| (finding.line, finding.column);
    findings.sort_by_key(place);
    let mut kept: Vec<Finding> = Vec::with_capacity(findings.len());
    for finding in findings {
        let mut same_place = kept.iter().rev().take_while(|known| place(known) == place(&finding));
        if !same_place.any(|known| *known == finding) {
            kept.push(finding);
        }
    }
    kept
}

/// What the fuzzer calls: arbitrary bytes as an export.
///
/// # Panics
/// When what is made of it is no JSON, or when a client may be answered at an address with a
/// wildcard: that is the finding.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(imported) =
        import(&[text.to_owned()], &Wanted { issuer: None, hash: |_| Err("nothing is hashed".to_owned()) })
    else {
        return;
    };
    for file in imported.files.iter().filter(|file| file.path.extension().is_some_and(|ext| ext == "json")) {
        let records: Option<Value> = serde_json::from_slice(&file.bytes).ok();
        let clients = records.as_ref().and_then(|records| records.get("clients")?.as_object());
        assert!(clients.is_some(), "records without clients");
        for client in clients.into_iter().flatten().map(|(_, client)| client) {
            let addresses = client.get("redirect_uris").and_then(Value::as_array);
            let mut addresses = addresses.into_iter().flatten().filter_map(Value::as_str);
            assert!(!addresses.any(|address| address.contains('*')), "{client}");
        }
    }
}

/// What is being made.
struct Importer<'n> {
    realm: &'n Node,
    findings: Vec<Finding>,
    /// Whether the realm was switched off.
    is_off: bool,
    /// What a login demands of people, whatever the client.
    flow: Demands,
    /// The class that people of a role have to reach.
    factor_roles: BTreeMap<String, String>,
    /// The role of those who have to have a second factor, once somebody has.
    second_factor: Option<String>,
}

impl<'n> Importer<'n> {
    fn find(&mut self, at: At, what: impl Into<String>, outcome: Outcome, note: impl Into<String>) {
        let (what, note) = (what.into(), note.into());
        self.findings.push(Finding { line: at.line, column: at.column, what, outcome, note });
    }

    fn translate(&mut self, trees: &'n [Node], wanted: &Wanted) -> Imported {
        let name = text(self.realm, "realm").unwrap_or_default();
        let tidy: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' })
            .collect();
        if tidy != name {
            self.find(self.realm.at, "realm", Outcome::Changed, format!("{name:?} is called {tidy:?}"));
        }
        let issuer = wanted.issuer.clone().unwrap_or_else(|| format!("https://id.example.org/realms/{tidy}"));
        let mut settings = RealmSettings::new(&tidy, &issuer);
        self.lifetimes(&mut settings);
        self.scopes(&mut settings);
        let mut roles = roles::read(self);
        self.login(&roles);
        let clients = client::read(self, &settings, &roles, trees);
        let users = people::read(self, wanted, &mut roles, &clients, trees);
        self.rest();
        let document = json!({ "realm": tidy, "clients": clients, "users": users });
        let records = format!("{tidy}.json");
        let findings = in_order(std::mem::take(&mut self.findings));
        let bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
        Imported {
            files: vec![
                SideFile { path: PathBuf::from("realm.yaml"), bytes: configuration(&settings, self, &roles).into_bytes() },
                SideFile { path: PathBuf::from(&records), bytes },
            ],
            findings,
            next_steps: vec![
                "put `include: realm.yaml` into bastide.yaml, and a route with `to: identity` for the issuer's host"
                    .to_owned(),
                format!("bastide apply -f {records} --dry-run, and then without"),
                "clients have to rediscover the endpoints: /token is not /protocol/openid-connect/token"
                    .to_owned(),
            ],
        }
    }

    /// What the realm demands of a login.
    fn login(&mut self, roles: &Roles<'n>) {
        let realm = self.realm;
        let at = realm
            .get("browserFlow")
            .or_else(|| realm.get("authenticationFlows"))
            .map_or(realm.at, |one| one.at);
        let what = "login of the realm";
        let Demands { second, roles: of_roles, unknown, .. } = self.flow.clone();
        if second {
            let note = "everybody shows a second factor: `acr: \"2\"` of each client";
            self.find(at, what, Outcome::Translated, note);
        } else if realm.get("authenticationFlows").is_some_and(|flows| !flows.items().is_empty()) {
            let note = "a password, and a second factor of those who have one; the rest of the flows is not translated";
            self.find(at, what, Outcome::Translated, note);
        }
        for role in of_roles {
            match roles.written(&role) {
                Some(role) => {
                    let note = format!("who has role {role:?} shows a second factor: `factors.roles`");
                    self.find(at, what, Outcome::Translated, note);
                    self.factor_roles.insert(role, flow::TWO_FACTORS.to_owned());
                }
                None => {
                    let note =
                        format!("a second factor was asked of role {role:?}, which is not in the export");
                    self.find(at, what, Outcome::Dropped, note);
                }
            }
        }
        if !unknown.is_empty() {
            self.find(
                at,
                what,
                Outcome::Closed,
                format!("every client is switched off: {}", unknown_steps(&unknown)),
            );
        }
        self.settings();
    }

    /// What else the realm has set of logins.
    fn settings(&mut self) {
        let realm = self.realm;
        if self.is_off {
            self.find(realm.at, "realm", Outcome::Closed, "it was switched off: its clients and users are");
        }
        if is_issued_before(realm) {
            self.find(
                realm.at,
                "`notBefore`",
                Outcome::Translated,
                "nothing that Keycloak issued is good here",
            );
        }
        if let Some(verify) = realm.get("verifyEmail").filter(|verify| verify.text() == Some("true")) {
            let note = "who has not shown that their address is theirs chooses a password by a link to it; those who are added later are not asked to";
            self.find(verify.at, "verifyEmail", Outcome::Changed, note);
        }
        if let Some(reset) = realm.get("resetPasswordAllowed").filter(|reset| reset.text() == Some("false")) {
            let note = "where the realm has `mail:`, whoever reads somebody's mail can choose another password for them";
            self.find(reset.at, "resetPasswordAllowed", Outcome::Changed, note);
        }
        for action in items(realm, "requiredActions") {
            if flag(action, "defaultAction") && flag(action, "enabled") {
                let name = text(action, "alias").unwrap_or_default();
                let note = "users who are added later are not asked to do it; `acr` of clients and `factors.roles` ask for a second factor";
                self.find(action.at, format!("default action {name}"), Outcome::Dropped, note);
            }
        }
        if let Some(map) = realm.get("attributes").and_then(|own| own.get("acr.loa.map")) {
            self.find(map.at, "acr.loa.map", Outcome::Dropped, LEVELS);
        }
    }

    /// The role of those who have to have a second factor; they are asked for one by `factors.roles`.
    fn second_factor_role(&mut self, roles: &mut Roles<'n>) -> String {
        self.second_factor
            .get_or_insert_with(|| {
                let role = roles.declare(people::SECOND_FACTOR);
                self.factor_roles.insert(role.clone(), flow::TWO_FACTORS.to_owned());
                role
            })
            .clone()
    }

    fn lifetimes(&mut self, settings: &mut RealmSettings) {
        use identity::settings::{ACCESS_TOKEN_MAX, CODE_MAX};
        let day = std::time::Duration::from_secs(86_400);
        let lifetimes = &mut settings.lifetimes;
        let mut take = |key: &str, place: &mut std::time::Duration, most: std::time::Duration| {
            let Some(node) = self.realm.get(key) else { return };
            let seconds =
                node.text().and_then(|text| text.parse::<u64>().ok()).filter(|seconds| *seconds > 0);
            let Some(seconds) = seconds else { return };
            let wanted = std::time::Duration::from_secs(seconds);
            *place = wanted.min(most);
            let (outcome, note) = if wanted > most {
                (Outcome::Changed, format!("{seconds} s, at most {} s can be", most.as_secs()))
            } else {
                (Outcome::Translated, format!("{seconds} s"))
            };
            self.findings.push(Finding {
                line: node.at.line,
                column: node.at.column,
                what: key.to_owned(),
                outcome,
                note,
            });
        };
        take("accessTokenLifespan", &mut lifetimes.access_token, ACCESS_TOKEN_MAX);
        take("accessCodeLifespan", &mut lifetimes.code, CODE_MAX);
        take("ssoSessionMaxLifespan", &mut lifetimes.session_absolute, 365 * day);
        take("ssoSessionIdleTimeout", &mut lifetimes.session_idle, 365 * day);
        if text(self.realm, "offlineSessionMaxLifespanEnabled") == Some("true") {
            take("offlineSessionMaxLifespan", &mut lifetimes.refresh_absolute, 3_650 * day);
        }
        take("offlineSessionIdleTimeout", &mut lifetimes.refresh_idle, 3_650 * day);
        lifetimes.session_idle = lifetimes.session_idle.min(lifetimes.session_absolute);
        lifetimes.refresh_absolute = lifetimes.refresh_absolute.max(lifetimes.refresh_idle);
    }

    fn scopes(&mut self, settings: &mut RealmSettings) {
        for scope in items(self.realm, "clientScopes") {
            let Some(name) = text(scope, "name") else { continue };
            let is_standard = identity::settings::STANDARD_SCOPES.contains(&name);
            if is_standard || QUIET_SCOPES.contains(&name) || text(scope, "protocol") == Some("saml") {
                continue;
            }
            let shown = scope.get("attributes").and_then(|own| text(own, "consent.screen.text"));
            let shown = shown.filter(|shown| !shown.is_empty() && !shown.starts_with("${"));
            let about = shown.or_else(|| text(scope, "description")).unwrap_or(name);
            settings.scopes.insert(name.to_owned(), about.to_owned());
            if settings.check().is_err() {
                settings.scopes.remove(name);
                self.find(
                    scope.at,
                    format!("scope {name:?}"),
                    Outcome::Dropped,
                    "it is no name of a scope (RFC 6749 §3.3)",
                );
                continue;
            }
            self.find(scope.at, format!("scope {name:?}"), Outcome::Translated, "realms.scopes");
            for mapper in items(scope, "protocolMappers") {
                self.mapper(mapper, &format!("scope {name:?}"));
            }
        }
    }

    fn mapper(&mut self, mapper: &Node, of: &str) {
        let name = text(mapper, "name").unwrap_or_default();
        let kind = text(mapper, "protocolMapper").unwrap_or_default();
        let note = "write what it does as a rule in `realms.claims`";
        self.find(mapper.at, format!("protocol mapper {name:?} ({kind}) of {of}"), Outcome::Dropped, note);
    }

    /// Everything that nobody looked at.
    fn rest(&mut self) {
        let NodeValue::Map(entries) = &self.realm.value else { return };
        for (name, node) in entries {
            let key = name.text.as_str();
            let empty = match &node.value {
                NodeValue::Nothing | NodeValue::Broken => true,
                NodeValue::Scalar(scalar) => ["", "false", "0"].contains(&scalar.text.as_str()),
                NodeValue::List(items) => items.is_empty(),
                NodeValue::Map(entries) => entries.is_empty(),
            };
            if empty || HANDLED.contains(&key) {
                continue;
            }
            match LEFT.iter().find(|(left, _)| *left == key) {
                Some((_, why)) => self.find(name.at, key, Outcome::Dropped, *why),
                // A plain setting of a feature that is not here.
                None if matches!(node.value, NodeValue::Scalar(_)) => {}
                None => self.find(name.at, key, Outcome::Dropped, "there is nothing like it here"),
            }
        }
    }
}

/// `realm.yaml`.
fn configuration(settings: &RealmSettings, importer: &Importer<'_>, roles: &Roles<'_>) -> String {
    let seconds = |life: std::time::Duration| Yaml::text(format!("{}s", life.as_secs()));
    let lifetimes = &settings.lifetimes;
    let shown = text(importer.realm, "displayName").filter(|name| !name.is_empty());
    let scopes = settings.scopes.iter().map(|(name, about)| (name.clone(), Yaml::text(about)));
    let factors = importer.factor_roles.iter().map(|(role, class)| (role.clone(), Yaml::text(class)));
    let factors = Yaml::Map(vec![("roles".to_owned(), Yaml::Map(factors.collect()))]);
    let mut realm = vec![
        ("issuer", Yaml::text(&settings.issuer)),
        ("display_name", Yaml::text(shown.unwrap_or(&settings.name))),
        (
            "lifetimes",
            Yaml::Map(
                [
                    ("access_token", lifetimes.access_token),
                    ("code", lifetimes.code),
                    ("refresh_idle", lifetimes.refresh_idle),
                    ("refresh_absolute", lifetimes.refresh_absolute),
                    ("session_idle", lifetimes.session_idle),
                    ("session_absolute", lifetimes.session_absolute),
                ]
                .map(|(name, life)| (name.to_owned(), seconds(life)))
                .to_vec(),
            ),
        ),
        ("scopes", Yaml::Map(scopes.collect())),
    ];
    if !importer.factor_roles.is_empty() {
        realm.push(("factors", factors));
    }
    let mut out =
        String::from("# Made by `bastide import keycloak`: for `include:` in bastide.yaml.\nrealms:\n");
    out.push_str(&format!("  {}:\n", quoted(&settings.name)));
    for (key, value) in realm {
        out.push_str(&format!("    {key}:"));
        value.after_key(&mut out, 4);
    }
    out.push_str("roles:\n");
    for (role, includes) in &roles.declared {
        out.push_str(&format!("  {}:", quoted(role)));
        let own = if includes.is_empty() {
            Vec::new()
        } else {
            vec![("includes".to_owned(), Yaml::texts(includes))]
        };
        Yaml::Map(own).after_key(&mut out, 2);
    }
    if roles.declared.is_empty() {
        out.truncate(out.len() - "roles:\n".len());
    }
    out
}

/// What is said of names for levels of authentication.
const LEVELS: &str = "classes are called \"1\" and \"2\" here, and \"2\" is two factors: a request that asks for another name in `acr_values` gets no stronger login";

/// What is said of steps that are not known here.
fn unknown_steps(steps: &BTreeSet<String>) -> String {
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    format!(
        "a login has to take {}, and nothing here does: `acr: \"2\"` asks for a second factor of ours in its place; enable it where that is enough",
        steps.join(", ")
    )
}

/// Whether what was issued before some moment counts for nothing.
fn is_issued_before(node: &Node) -> bool {
    text(node, "notBefore").is_some_and(|moment| moment != "0")
}

/// A text below a key.
fn text<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    node.get(key)?.text()
}

/// Whether a flag is set.
fn flag(node: &Node, key: &str) -> bool {
    text(node, key) == Some("true")
}

/// The items of a list below a key.
fn items<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    node.get(key).map_or(&[], Node::items)
}

/// The texts of a list below a key.
fn texts<'n>(node: &'n Node, key: &str) -> Vec<&'n str> {
    items(node, key).iter().filter_map(Node::text).collect()
}

/// The entries of a map below a key.
fn entries<'n>(node: &'n Node, key: &str) -> Vec<(&'n str, &'n Node)> {
    match node.get(key).map(|node| &node.value) {
        Some(NodeValue::Map(entries)) => {
            entries.iter().map(|(name, node)| (name.text.as_str(), node)).collect()
        }
        _ => Vec::new(),
    }
}

/// Names of roles by user or client.
type Named = BTreeMap<String, BTreeSet<String>>;
/// Records by name, for `bastide apply`.
type Records = BTreeMap<String, Value>;

#[cfg(test)]
mod tests;

//! Clients: their ways of showing who they are, their addresses and grants.

use std::collections::BTreeSet;

use identity::client::{CertificateSubject, redirect_fault};
use identity::settings::STANDARD_SCOPES;
use identity::{Client, ClientAuthentication, GrantType, RealmSettings};
use serde_json::Value;

use super::flow::{self, Demands, TWO_FACTORS};
use super::roles::Roles;
use super::{
    INTERNAL_CLIENTS, Importer, LEVELS, QUIET_SCOPES, Records, entries, flag, is_issued_before, items, text,
    texts, unknown_steps,
};
use crate::config::BackChannel;
use crate::config::node::Node;
use crate::import::Outcome;

/// The hash of no secret: nobody can find a text with it.
pub(super) const NOBODYS_HASH: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(super) fn read<'n>(
    importer: &mut Importer<'n>,
    settings: &RealmSettings,
    roles: &Roles<'n>,
    trees: &'n [Node],
) -> Records {
    let mut clients = Records::new();
    for node in items(importer.realm, "clients") {
        let Some(id) = text(node, "clientId") else { continue };
        if INTERNAL_CLIENTS.contains(&id) {
            continue;
        }
        let what = format!("client {id:?}");
        if text(node, "protocol").is_some_and(|protocol| protocol != "openid-connect") {
            importer.find(node.at, what, Outcome::Dropped, "it does not speak OpenID Connect");
            continue;
        }
        if flag(node, "bearerOnly") {
            let note = "an API that gets no tokens: name it in `realms.resources`, and in `serves` of a client that asks";
            importer.find(node.at, what, Outcome::Dropped, note);
            continue;
        }
        let mut one = Translation { importer: &mut *importer, node, what, closed: None };
        let client = one.client(id, settings, roles, trees);
        let (closed, what) = (one.closed, one.what);
        // What cannot be one here is left out: `bastide apply` would refuse it.
        if let Err(error) = client.check(settings) {
            importer.find(node.at, what, Outcome::Dropped, format!("it cannot be one here: {error}"));
            continue;
        }
        match closed {
            Some(why) => importer.find(node.at, what, Outcome::Closed, why),
            None => importer.find(node.at, what, Outcome::Translated, "a client"),
        }
        let mut record = serde_json::to_value(client).unwrap_or_default();
        if let Some(members) = record.as_object_mut() {
            members.remove("id");
        }
        clients.insert(id.to_owned(), record);
    }
    clients
}

/// One client on its way.
struct Translation<'a, 'n> {
    importer: &'a mut Importer<'n>,
    node: &'n Node,
    what: String,
    /// Why it is switched off.
    closed: Option<String>,
}

impl<'n> Translation<'_, 'n> {
    fn find(&mut self, part: &str, outcome: Outcome, note: impl Into<String>) {
        let what = format!("{part} of {}", self.what);
        self.importer.find(self.node.at, what, outcome, note);
    }

    /// One of Keycloak's attributes of a client.
    fn attribute(&self, name: &str) -> Option<&str> {
        text(self.node.get("attributes")?, name).filter(|value| !value.is_empty())
    }

    fn client(&mut self, id: &str, settings: &RealmSettings, roles: &Roles<'n>, trees: &'n [Node]) -> Client {
        let node = self.node;
        let authentication = self.authentication();
        let mut client = Client::new(id, authentication);
        if let Some(name) = text(node, "name").filter(|name| !name.is_empty() && !name.starts_with("${")) {
            name.clone_into(&mut client.name);
        }
        self.grants(&mut client);
        self.addresses(&mut client);
        self.scopes(&mut client, settings);
        client.trusted = !flag(node, "consentRequired");
        let is = |name| self.attribute(name) == Some("true");
        client.dpop_bound_access_tokens = is("dpop.bound.access.tokens");
        client.certificate_bound_access_tokens = is("tls.client.certificate.bound.access.tokens");
        client.require_pushed_requests = is("require.pushed.authorization.requests");
        let account = service_account(id, trees);
        client.roles = account.iter().flat_map(|user| roles.of(user)).collect();
        if account.iter().any(|user| text(user, "enabled") == Some("false"))
            && client.grant_types.remove(&GrantType::ClientCredentials)
        {
            let note = "its service account was switched off: give it the grant to let it in";
            self.find("client_credentials", Outcome::Closed, note);
        }
        self.login(&mut client);
        self.others(&client);
        if text(node, "enabled") == Some("false") || self.importer.is_off {
            client.disabled = true;
        }
        if self.closed.is_some() {
            client.disabled = true;
        }
        if let Err(error) = client.check(settings) {
            self.closed = Some(error.to_string());
            client.disabled = true;
            // What is wrong with it is left out, so that the rest can be kept.
            client.redirect_uris.clear();
            client.post_logout_redirect_uris.clear();
            client.backchannel_logout_uri = None;
            client.grant_types.clear();
            // By keys or a name that cannot be read here nobody can be it.
            if client.check(settings).is_err() {
                client.authentication = nobodys();
            }
        }
        client
    }

    fn authentication(&mut self) -> ClientAuthentication {
        if flag(self.node, "publicClient") {
            return ClientAuthentication::None;
        }
        match text(self.node, "clientAuthenticatorType").unwrap_or("client-secret") {
            "client-secret" => {
                let secret = text(self.node, "secret").filter(|secret| !secret.starts_with('*'));
                match secret.map(Client::secret_hash) {
                    Some(Ok(hash)) => ClientAuthentication::Secret { hashes: vec![hash] },
                    Some(Err(error)) => {
                        self.closed = Some(format!(
                            "{error}; make another with `bastide client secret`, then enable it"
                        ));
                        nobodys()
                    }
                    None => {
                        let why = "its secret is not in the export; make another with `bastide client secret`, then enable it";
                        self.closed = Some(why.to_owned());
                        nobodys()
                    }
                }
            }
            "client-jwt" => {
                let keys =
                    self.attribute("jwks.string").and_then(|keys| serde_json::from_str::<Value>(keys).ok());
                match keys {
                    Some(jwks) => ClientAuthentication::PrivateKeyJwt { jwks },
                    None => {
                        let why = "its keys are at an address or in a certificate; give them as `jwks`, then enable it";
                        self.closed = Some(why.to_owned());
                        nobodys()
                    }
                }
            }
            "client-x509" => match self.attribute("x509.subjectdn").map(str::to_owned) {
                Some(dn) if self.attribute("x509.allow.regex.pattern.comparison") != Some("true") => {
                    ClientAuthentication::TlsClientAuth { subject: CertificateSubject::Dn(dn) }
                }
                _ => {
                    self.closed = Some(
                        "its certificate is told by a pattern; name it whole, then enable it".to_owned(),
                    );
                    nobodys()
                }
            },
            other => {
                self.closed = Some(format!("it shows who it is by {other:?}, which is not there"));
                nobodys()
            }
        }
    }

    fn grants(&mut self, client: &mut Client) {
        let node = self.node;
        // Keycloak's export leaves defaults out: the standard flow is on.
        if text(node, "standardFlowEnabled") != Some("false") {
            client.grant_types.extend([GrantType::AuthorizationCode, GrantType::RefreshToken]);
            if self.attribute("pkce.code.challenge.method") != Some("S256") {
                let note = if client.is_public() {
                    "it has to use it, with S256 (OAuth 2.1)"
                } else {
                    "`pkce: required`: it has to use it, with S256 (OAuth 2.1); set `pkce: optional` if it cannot"
                };
                self.find("PKCE", Outcome::Changed, note);
            }
        }
        if flag(node, "serviceAccountsEnabled") {
            client.grant_types.insert(GrantType::ClientCredentials);
        }
        if self.attribute("oauth2.device.authorization.grant.enabled") == Some("true") {
            client.grant_types.insert(GrantType::DeviceCode);
        }
        for (key, grant) in [("implicitFlowEnabled", "implicit"), ("directAccessGrantsEnabled", "password")] {
            if flag(node, key) {
                let note = "OAuth 2.1 no longer has it: the client has to change";
                self.find(&format!("{grant} grant"), Outcome::Dropped, note);
            }
        }
        if self.attribute("oidc.ciba.grant.enabled") == Some("true") {
            self.find("CIBA", Outcome::Dropped, "it is not there yet");
        }
    }

    fn addresses(&mut self, client: &mut Client) {
        let node = self.node;
        let root = text(node, "rootUrl").unwrap_or_default().trim_end_matches('/').to_owned();
        let whole = |uri: &str| if uri.starts_with('/') { format!("{root}{uri}") } else { uri.to_owned() };
        for uri in texts(node, "redirectUris") {
            let uri = whole(uri);
            match fit(client, &uri) {
                Ok(()) => client.redirect_uris.push(uri),
                Err(why) => self.find(&format!("redirect URI {uri:?}"), Outcome::Dropped, why),
            }
        }
        if client.redirect_uris.is_empty() && client.grant_types.remove(&GrantType::AuthorizationCode) {
            let note = "no redirect URI is left: register those that it uses, whole, and give it the grant";
            self.find("authorization_code", Outcome::Closed, note);
            if !client.allows(GrantType::DeviceCode) {
                client.grant_types.remove(&GrantType::RefreshToken);
            }
        }
        let after = self.attribute("post.logout.redirect.uris").unwrap_or_default().to_owned();
        for uri in after.split("##").filter(|uri| !uri.is_empty() && *uri != "-") {
            if uri == "+" {
                client.post_logout_redirect_uris.extend(client.redirect_uris.iter().cloned());
                continue;
            }
            let uri = whole(uri);
            match fit(client, &uri) {
                Ok(()) => client.post_logout_redirect_uris.push(uri),
                Err(why) => self.find(&format!("post-logout URI {uri:?}"), Outcome::Dropped, why),
            }
        }
        if let Some(uri) = self.attribute("backchannel.logout.url").map(whole) {
            let why = redirect_fault(&uri, false).or_else(|| BackChannel::default().refusal(&uri));
            match why {
                None => client.backchannel_logout_uri = Some(uri),
                Some(why) => self.find("back-channel logout", Outcome::Dropped, why),
            }
        }
        if self.attribute("frontchannel.logout.url").is_some() {
            self.find("front-channel logout", Outcome::Dropped, "clients are told by the back channel");
        }
    }

    fn scopes(&mut self, client: &mut Client, settings: &RealmSettings) {
        let mut scopes: BTreeSet<&str> = self.registered_scopes();
        if client.allows(GrantType::AuthorizationCode) || client.allows(GrantType::DeviceCode) {
            scopes.insert("openid");
        }
        for scope in scopes {
            if STANDARD_SCOPES.contains(&scope) || settings.scopes.contains_key(scope) {
                client.scopes.insert(scope.to_owned());
            } else if !QUIET_SCOPES.contains(&scope) {
                self.find(&format!("scope {scope:?}"), Outcome::Dropped, "the realm has no such scope");
            }
        }
    }

    /// Those of the client; where it names none, those that Keycloak gives to every client.
    fn registered_scopes(&self) -> BTreeSet<&'n str> {
        let lists = ["defaultClientScopes", "optionalClientScopes"];
        if lists.iter().any(|list| self.node.get(list).is_some()) {
            return lists.iter().flat_map(|list| texts(self.node, list)).collect();
        }
        let realm = self.importer.realm;
        let lists = ["defaultDefaultClientScopes", "defaultOptionalClientScopes"];
        let named = lists.iter().chain(&["clientScopes"]).any(|list| realm.get(list).is_some());
        // A realm that was written by hand gets Keycloak's own.
        if !named {
            return STANDARD_SCOPES.into_iter().filter(|scope| *scope != "openid").collect();
        }
        lists.iter().flat_map(|list| texts(realm, list)).collect()
    }

    /// What people have to show for it.
    fn login(&mut self, client: &mut Client) {
        if self.attribute("acr.loa.map").is_some() {
            self.find("acr.loa.map", Outcome::Dropped, LEVELS);
        }
        let mut demands = self.importer.flow.clone();
        for (flow, name) in entries(self.node, "authenticationFlowBindingOverrides") {
            let Some(name) = name.text().filter(|name| !name.is_empty()) else { continue };
            if flow != "browser" {
                let note = "it is of a way to log in that OAuth 2.1 no longer has";
                self.find(&format!("{flow} flow"), Outcome::Dropped, note);
                continue;
            }
            demands = flow::demands(self.importer.realm, name);
            let note = match (demands.second, demands.roles.is_empty(), demands.unknown.is_empty()) {
                (_, _, false) => None,
                (true, _, true) => {
                    Some((Outcome::Translated, "everybody shows a second factor for it: `acr: \"2\"`"))
                }
                (false, false, true) => {
                    // By a role only the realm asks.
                    demands.second = true;
                    Some((
                        Outcome::Changed,
                        "everybody shows a second factor for it, not only some roles: `acr: \"2\"`",
                    ))
                }
                (false, true, true) => {
                    Some((Outcome::Translated, "a password, and a second factor of those who have one"))
                }
            };
            if let Some((outcome, note)) = note {
                self.find("browser flow", outcome, note);
            }
        }
        self.minimum(&mut demands);
        if !(client.allows(GrantType::AuthorizationCode) || client.allows(GrantType::DeviceCode)) {
            return;
        }
        if !demands.unknown.is_empty() {
            self.closed.get_or_insert_with(|| unknown_steps(&demands.unknown));
        }
        if demands.second || !demands.unknown.is_empty() {
            client.acr = Some(TWO_FACTORS.to_owned());
        }
    }

    /// The levels that every login for it has to reach, or does where a request names none.
    fn minimum(&mut self, demands: &mut Demands) {
        let least = self.attribute("minimum.acr.value").map(str::to_owned);
        if let Some(name) = least {
            match self.level(&name).and_then(|level| demands.at(level)) {
                Some(at) => {
                    let note = if at.second { "`acr: \"2\"`" } else { "a password reaches it" };
                    *demands = at;
                    self.find(&format!("minimum.acr.value {name:?}"), Outcome::Translated, note);
                }
                None => {
                    let level = format!("what reaches the level {name:?}, which its flow does not tell");
                    demands.unknown.insert(level);
                }
            }
        }
        let usual = self.attribute("default.acr.values").unwrap_or_default().to_owned();
        for name in usual.split("##").filter(|name| !name.is_empty()) {
            let what = format!("default.acr.values {name:?}");
            match self.level(name).and_then(|level| demands.at(level)) {
                Some(at) if at.second && !demands.second => {
                    demands.second = true;
                    self.find(&what, Outcome::Changed, "`acr: \"2\"`: no request can ask for less");
                }
                Some(at) if at.unknown.is_empty() => {
                    self.find(&what, Outcome::Translated, "its logins reach it")
                }
                _ => {
                    let note = "its flow does not tell what reaches it: people log in for it by a password and the factors that they have; ask for more by `acr`";
                    self.find(&what, Outcome::Dropped, note);
                }
            }
        }
    }

    /// The level of authentication of this name.
    fn level(&self, name: &str) -> Option<u32> {
        let realm = self.importer.realm.get("attributes").and_then(|own| text(own, "acr.loa.map"));
        let maps = [self.attribute("acr.loa.map"), realm];
        let of = |map: &str| {
            let map: Value = serde_json::from_str(map).ok()?;
            let level = map.get(name)?;
            level.as_u64().or_else(|| level.as_str()?.parse().ok()).and_then(|level| level.try_into().ok())
        };
        maps.into_iter().flatten().find_map(of).or_else(|| name.parse().ok())
    }

    /// What is said and not taken.
    fn others(&mut self, client: &Client) {
        for mapper in items(self.node, "protocolMappers") {
            let what = self.what.clone();
            self.importer.mapper(mapper, &what);
        }
        if text(self.node, "fullScopeAllowed") == Some("false") && !client.is_public() {
            let note = "its tokens carry all roles of a person: policies decide what they are worth";
            self.find("restricted roles", Outcome::Changed, note);
        }
        if flag(self.node, "authorizationServicesEnabled") {
            self.find("authorization services", Outcome::Dropped, "write them as Cedar policies");
        }
        if is_issued_before(self.node) {
            self.find("`notBefore`", Outcome::Translated, "nothing that Keycloak issued is good here");
        }
        if !texts(self.node, "webOrigins").is_empty() {
            self.find("web origins", Outcome::Dropped, "CORS is a setting of the gateway's route");
        }
    }
}

/// How nobody can show to be a client.
fn nobodys() -> ClientAuthentication {
    ClientAuthentication::Secret { hashes: vec![NOBODYS_HASH.to_owned()] }
}

/// Whether an address can be registered.
fn fit(client: &Client, uri: &str) -> Result<(), String> {
    if uri.contains('*') {
        return Err("it has a wildcard: register each address that the client uses, whole".to_owned());
    }
    redirect_fault(uri, client.is_public()).map_or(Ok(()), Err)
}

/// The account that Keycloak keeps for a client.
fn service_account<'n>(id: &str, trees: &'n [Node]) -> Vec<&'n Node> {
    let accounts = trees.iter().flat_map(|tree| items(tree, "users"));
    accounts.filter(|user| text(user, "serviceAccountClientId") == Some(id)).collect()
}

//! `realms.NAME.clients`: the clients that a configuration declares.

use std::collections::BTreeSet;

use identity::{Client, ClientAuthentication, GrantType, RealmSettings};

use crate::config::decoder::{Decoder, Table};
use crate::config::node::{Name, Node};
use crate::config::schema::{Section, key};
use crate::config::values::Unfit;

/// The largest key set of a client, bytes.
const JWKS_BYTES_MAX: usize = 64 * 1024;

pub(in crate::config) const CLIENT: Section = Section {
    path: "realms.NAME.clients.NAME",
    about: "One client. It shows who it is by `secret` or `jwks`; without either it is a public client, held to PKCE.",
    short: "",
    keys: &[
        key("name", "text", "the client id", "What pages call it."),
        key(
            "secret",
            "text of at least 32 characters, from `${NAME}` or `${file:…}`",
            "none",
            "Its secret (client_secret_basic, client_secret_post); kept as a hash.",
        ),
        key("jwks", "path", "none", "Its public keys (JWK Set), for private_key_jwt (RFC 7523)."),
        key(
            "grants",
            "list of authorization_code, refresh_token, client_credentials, device_code, token_exchange",
            "authorization_code and refresh_token with redirect_uris, else client_credentials",
            "How it gets tokens.",
        ),
        key("redirect_uris", "list of URLs", "none", "Where answers go, compared as texts."),
        key("post_logout_redirect_uris", "list of URLs", "none", "Where browsers may go after logout."),
        key("backchannel_logout_uri", "URL", "none", "Where logout tokens go."),
        key("scopes", "list of scopes", "none", "The scopes that it may ask for."),
        key("resources", "list of identifiers", "none", "The APIs that it may get tokens for."),
        key(
            "serves",
            "list of identifiers",
            "none",
            "The APIs that it is itself: it may exchange tokens for them.",
        ),
        key("roles", "list of texts", "none", "Its own roles, in tokens by client credentials."),
        key("trusted", "true or false", "false", "People are not asked for consent."),
        key(
            "acr",
            "class of authentication",
            "none",
            "The class that people have to reach for it: `\"2\"` is two factors.",
        ),
        key("may_introspect", "true or false", "false", "It may introspect every token of the realm."),
        key(
            "dpop_bound_access_tokens",
            "true or false",
            "false",
            "Its tokens are bound to a key (RFC 9449).",
        ),
        key("disabled", "true or false", "false", "It is refused like one that is unknown."),
    ],
};

fn grant(text: &str) -> Result<GrantType, Unfit> {
    match text {
        "authorization_code" => Ok(GrantType::AuthorizationCode),
        "refresh_token" => Ok(GrantType::RefreshToken),
        "client_credentials" => Ok(GrantType::ClientCredentials),
        "device_code" => Ok(GrantType::DeviceCode),
        "token_exchange" => Ok(GrantType::TokenExchange),
        _ => Err(Unfit {
            expected: "authorization_code, refresh_token, client_credentials, device_code or token_exchange",
            instead: None,
        }),
    }
}

impl Decoder<'_> {
    /// `realms.NAME.clients`
    pub(super) fn realm_clients(&mut self, node: Option<&Node>, settings: &RealmSettings) -> Vec<Client> {
        let Some(node) = node else { return Vec::new() };
        let mut clients = Vec::new();
        for (name, node) in self.named(node, "a map of client ids") {
            let Some(table) = self.table(node, &CLIENT) else { continue };
            let Some(client) = self.realm_client(name, &table) else { continue };
            if let Err(error) = client.check(settings) {
                self.fault(name.at, error.to_string());
            }
            clients.push(client);
        }
        clients
    }

    fn realm_client(&mut self, name: &Name, table: &Table<'_>) -> Option<Client> {
        let mut client = Client::new(&name.text, self.client_authentication(table)?);
        let texts = |decoder: &mut Self, key| table.get(key).map_or(Vec::new(), |node| decoder.texts(node));
        let set = |decoder: &mut Self, key| texts(decoder, key).into_iter().collect::<BTreeSet<String>>();
        let flag =
            |decoder: &mut Self, key| table.get(key).and_then(|node| decoder.boolean(node)) == Some(true);
        if let Some(shown) = table.get("name").and_then(|node| self.text(node)) {
            shown.clone_into(&mut client.name);
        }
        client.redirect_uris = texts(self, "redirect_uris");
        client.grant_types = match table.get("grants") {
            Some(node) => self.values(node, grant).into_iter().collect(),
            None if client.redirect_uris.is_empty() => [GrantType::ClientCredentials].into(),
            None => [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
        };
        client.post_logout_redirect_uris = texts(self, "post_logout_redirect_uris");
        let logout = table.get("backchannel_logout_uri").and_then(|node| self.text(node));
        client.backchannel_logout_uri = logout.map(str::to_owned);
        client.scopes = set(self, "scopes");
        client.resources = set(self, "resources");
        client.serves = set(self, "serves");
        client.roles = set(self, "roles");
        client.acr = table.get("acr").and_then(|node| self.text(node)).map(str::to_owned);
        client.trusted = flag(self, "trusted");
        client.may_introspect = flag(self, "may_introspect");
        client.dpop_bound_access_tokens = flag(self, "dpop_bound_access_tokens");
        client.disabled = flag(self, "disabled");
        Some(client)
    }

    fn client_authentication(&mut self, table: &Table<'_>) -> Option<ClientAuthentication> {
        let (secret, jwks) = (table.get("secret"), table.get("jwks"));
        match (secret, jwks) {
            (Some(_), Some(jwks)) => {
                self.fault(jwks.at, "a client has either `secret` or `jwks`: the weaker way would do");
                None
            }
            (Some(node), None) => {
                if !node.expanded() {
                    self.warn(
                        node.at,
                        "a client's secret stands in the configuration",
                        "take it from `${file:…}`",
                    );
                }
                match Client::secret_hash(self.text(node)?) {
                    Ok(hash) => Some(ClientAuthentication::Secret { hashes: vec![hash] }),
                    Err(error) => {
                        self.fault(node.at, error.to_string());
                        None
                    }
                }
            }
            (None, Some(node)) => {
                let (_, bytes) = self.file(node, JWKS_BYTES_MAX)?;
                match serde_json::from_slice(&bytes) {
                    Ok(jwks) => Some(ClientAuthentication::PrivateKeyJwt { jwks }),
                    Err(error) => {
                        self.fault(node.at, format!("expected a JWK Set: {error}"));
                        None
                    }
                }
            }
            (None, None) => Some(ClientAuthentication::None),
        }
    }
}

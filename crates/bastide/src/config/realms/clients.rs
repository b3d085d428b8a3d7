//! `realms.NAME.clients`: the clients that a configuration declares.

use std::collections::BTreeSet;
use std::time::Duration;

use identity::client::CertificateSubject;
use identity::{Client, ClientAuthentication, GrantType, Pkce, RealmSettings};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::decoder::{Decoder, Table};
use crate::config::node::{Name, Node};
use crate::config::schema::{Section, key};
use crate::config::values::Unfit;

use super::{BackChannel, algorithm};

/// The largest key set of a client, bytes.
const JWKS_BYTES_MAX: usize = 64 * 1024;
/// The largest file of certificates of a client, bytes.
const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

pub(in crate::config) const CLIENT: Section = Section {
    path: "realms.NAME.clients.NAME",
    about: "One client. It authenticates by `secret`, `jwks`, `tls_client_auth` or `certificates`; without any it is a public client and has to use PKCE.",
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
            "tls_client_auth",
            "map with one of `dn`, `san_dns`, `san_uri`",
            "none",
            "What identifies it in a client certificate that the listener has verified (RFC 8705 §2.1).",
        ),
        key(
            "certificates",
            "list of paths",
            "none",
            "Its own certificates (PEM), from any issuer (self_signed_tls_client_auth, RFC 8705 §2.2).",
        ),
        key(
            "grants",
            "list of authorization_code, refresh_token, client_credentials, device_code, token_exchange",
            "authorization_code and refresh_token with redirect_uris, else client_credentials",
            "How it gets tokens. The URNs of RFC 8628 and RFC 8693 are taken too.",
        ),
        key("redirect_uris", "list of URLs", "none", "Where answers are sent; compared as strings."),
        key("post_logout_redirect_uris", "list of URLs", "none", "Where browsers may go after logout."),
        key(
            "backchannel_logout_uri",
            "URL",
            "none",
            "Where logout tokens go. One at a private address, or behind a private authority, needs the realm's `back_channel_logout`.",
        ),
        key("scopes", "list of scopes", "none", "The scopes that it may ask for."),
        key("resources", "list of identifiers", "none", "The APIs that it may get tokens for."),
        key(
            "serves",
            "list of identifiers",
            "none",
            "The APIs that it provides itself: it may exchange tokens for them.",
        ),
        key("roles", "list of texts", "none", "Its own roles, in tokens by client credentials."),
        key("trusted", "true or false", "false", "Users are not asked for consent."),
        key(
            "pkce",
            "optional or required",
            "required",
            "Whether its authorization requests have to carry a PKCE challenge (RFC 7636). `optional` is for clients that authenticate and cannot send one.",
        ),
        key(
            "acr",
            "class of authentication",
            "none",
            "The class that users need for it: `\"2\"` is two factors.",
        ),
        key("may_introspect", "true or false", "false", "It may introspect every token of the realm."),
        key(
            "dpop_bound_access_tokens",
            "true or false",
            "false",
            "Its tokens are bound to a key (RFC 9449).",
        ),
        key(
            "certificate_bound_access_tokens",
            "true or false",
            "false",
            "Its tokens are bound to its certificate (RFC 8705 §3).",
        ),
        key(
            "id_token_algorithm",
            "ES256, EdDSA or RS256",
            "RS256",
            "What its ID tokens and logout tokens are signed with; one of the realm's `algorithms`.",
        ),
        key(
            "require_pushed_requests",
            "true or false",
            "false",
            "It has to push its authorization requests (RFC 9126).",
        ),
        key(
            "default_max_age",
            "duration",
            "none",
            "How long ago users may have logged in, in whole seconds, where a request has no `max_age`.",
        ),
        key("disabled", "true or false", "false", "It is refused like an unknown one."),
    ],
};

pub(in crate::config) const TLS_CLIENT_AUTH: Section = Section {
    path: "realms.NAME.clients.NAME.tls_client_auth",
    about: "What identifies the client in its verified certificate: exactly one.",
    short: "",
    keys: &[
        key(
            "dn",
            "text",
            "none",
            "The whole subject, as `openssl x509 -noout -subject -nameopt RFC2253` prints it: `CN=orders,O=Example` (RFC 4514). In a value a comma is written `\\,`. Attributes are compared, without case; where none of them stands there twice, the order of the certificate may be written too.",
        ),
        key("san_dns", "text", "none", "A DNS name of the subject alternative name."),
        key("san_uri", "text", "none", "A URI of it, such as a SPIFFE ID."),
    ],
};

fn grant(text: &str) -> Result<GrantType, Unfit> {
    let expected = "authorization_code, refresh_token, client_credentials, device_code or token_exchange";
    GrantType::named(text).ok_or(Unfit { expected, instead: None })
}

fn pkce(text: &str) -> Result<Pkce, Unfit> {
    let known = [Pkce::Required, Pkce::Optional];
    let instead = match text {
        "true" => Some("required".to_owned()),
        "false" => Some("optional".to_owned()),
        _ => None,
    };
    let found = known.into_iter().find(|known| known.name() == text);
    found.ok_or(Unfit { expected: "optional or required", instead })
}

impl Decoder<'_> {
    /// `realms.NAME.clients`
    pub(super) fn realm_clients(
        &mut self,
        node: Option<&Node>,
        settings: &RealmSettings,
        back_channel: &BackChannel,
    ) -> Vec<Client> {
        let Some(node) = node else { return Vec::new() };
        let mut clients = Vec::new();
        for (name, node) in self.named(node, "a map of client ids") {
            let Some(table) = self.table(node, &CLIENT) else { continue };
            let Some(client) = self.realm_client(name, &table) else { continue };
            if let Err(error) = client.check(settings) {
                self.fault(name.at, error.to_string());
            }
            let uri = client.backchannel_logout_uri.as_ref().filter(|_| !client.disabled);
            if let Some(why) = uri.and_then(|uri| back_channel.refusal(uri)) {
                let at = table.get("backchannel_logout_uri").map_or(name.at, |node| node.at);
                self.fault(at, format!("backchannel_logout_uri: {why}"));
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
            None => GrantType::defaults(&client.redirect_uris),
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
        client.pkce = table.get("pkce").and_then(|node| self.client_pkce(node, &client)).unwrap_or_default();
        client.may_introspect = flag(self, "may_introspect");
        client.dpop_bound_access_tokens = flag(self, "dpop_bound_access_tokens");
        client.certificate_bound_access_tokens = flag(self, "certificate_bound_access_tokens");
        client.id_token_algorithm =
            table.get("id_token_algorithm").and_then(|node| self.value(node, algorithm));
        client.require_pushed_requests = flag(self, "require_pushed_requests");
        let age = table.get("default_max_age").and_then(|node| self.duration(node, Duration::ZERO));
        client.default_max_age = age.map(|age| age.as_secs());
        client.disabled = flag(self, "disabled");
        Some(client)
    }

    fn client_pkce(&mut self, node: &Node, client: &Client) -> Option<Pkce> {
        let pkce = self.value(node, pkce)?;
        if pkce == Pkce::Optional && client.is_public() {
            let what = "`pkce: optional`, but the client is public: it has to use PKCE (RFC 9700 §2.1.1)";
            self.advise(node.at, what, "remove `pkce`, or give the client a `secret` or `jwks`");
            return None;
        }
        Some(pkce)
    }

    fn client_authentication(&mut self, table: &Table<'_>) -> Option<ClientAuthentication> {
        let ways = ["secret", "jwks", "tls_client_auth", "certificates"];
        let mut given = ways.into_iter().filter_map(|way| Some((way, table.get(way)?)));
        let Some((way, node)) = given.next() else { return Some(ClientAuthentication::None) };
        if let Some((other, node)) = given.next() {
            let message = format!("a client has either `{way}` or `{other}`: the weaker way would do");
            self.fault(node.at, message);
            return None;
        }
        if matches!(way, "tls_client_auth" | "certificates") && !self.certificates_asked {
            let what = format!("{way}, but no listener asks for client certificates");
            self.warn(node.at, what, "add tls.client: {ca: ca.pem} to a listener");
        }
        match way {
            "secret" => self.client_secret(node),
            "jwks" => {
                let (_, bytes) = self.file(node, JWKS_BYTES_MAX)?;
                match serde_json::from_slice(&bytes) {
                    Ok(jwks) => Some(ClientAuthentication::PrivateKeyJwt { jwks }),
                    Err(error) => {
                        self.fault(node.at, format!("expected a JWK Set: {error}"));
                        None
                    }
                }
            }
            "tls_client_auth" => self.certificate_subject(node),
            _ => self.own_certificates(node),
        }
    }

    fn client_secret(&mut self, node: &Node) -> Option<ClientAuthentication> {
        if !node.expanded() {
            let what = "a client's secret stands in the configuration";
            self.warn(node.at, what, "take it from `${file:…}`");
        }
        match Client::secret_hash(self.text(node)?) {
            Ok(hash) => Some(ClientAuthentication::Secret { hashes: vec![hash] }),
            Err(error) => {
                self.fault(node.at, error.to_string());
                None
            }
        }
    }

    fn certificate_subject(&mut self, node: &Node) -> Option<ClientAuthentication> {
        let table = self.table(node, &TLS_CLIENT_AUTH)?;
        type Named = fn(String) -> CertificateSubject;
        let names: [(&str, Named); 3] = [
            ("dn", CertificateSubject::Dn),
            ("san_dns", CertificateSubject::SanDns),
            ("san_uri", CertificateSubject::SanUri),
        ];
        let mut given = names.into_iter().filter_map(|(key, named)| Some((named, table.get(key)?)));
        let (Some((named, value)), None) = (given.next(), given.next()) else {
            self.fault(table.at, "expected exactly one of `dn`, `san_dns` and `san_uri`");
            return None;
        };
        let subject = named(self.text(value)?.to_owned());
        Some(ClientAuthentication::TlsClientAuth { subject })
    }

    fn own_certificates(&mut self, node: &Node) -> Option<ClientAuthentication> {
        let mut thumbprints = Vec::new();
        for item in node.items() {
            let (_, bytes) = self.file(item, CERTIFICATE_BYTES_MAX)?;
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
            match read {
                Ok(certificates) if !certificates.is_empty() => {
                    thumbprints.extend(certificates.iter().map(|leaf| identity::client::thumbprint(leaf)));
                }
                Ok(_) => self.fault(item.at, "expected PEM certificates, found none"),
                Err(error) => self.fault(item.at, format!("expected PEM certificates: {error}")),
            }
        }
        Some(ClientAuthentication::SelfSignedTlsClientAuth { thumbprints })
    }
}

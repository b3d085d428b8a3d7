//! Clients: what is registered of each, and what each may.

mod assertion;
mod authenticate;
mod certificate;
mod distinguished_name;
pub(crate) mod redirect;
pub(crate) mod register;

use std::collections::{BTreeMap, BTreeSet};

use keys::{Algorithm, KeySet};
use schemars::JsonSchema;
use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::Error;
use crate::settings::RealmSettings;

pub(crate) use authenticate::{Authenticated, BASIC, authenticate, authenticate_at};
pub use certificate::CertificateSubject;
pub use certificate::thumbprint;
pub use redirect::fault as redirect_fault;

/// Longest client id, bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 128;
/// Most redirect URIs of one kind.
pub const REDIRECT_URIS_MAX: usize = 32;
/// Shortest client secret, characters: it is kept as a fast hash, so it has to be random.
pub const CLIENT_SECRET_CHARACTERS_MIN: usize = 32;

/// How a client gets tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum GrantType {
    /// RFC 6749 §4.1.
    #[serde(rename = "authorization_code")]
    AuthorizationCode,
    /// RFC 6749 §6.
    #[serde(rename = "refresh_token")]
    RefreshToken,
    /// RFC 6749 §4.4.
    #[serde(rename = "client_credentials")]
    ClientCredentials,
    /// RFC 8628.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:device_code", alias = "device_code")]
    DeviceCode,
    /// RFC 8693.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange", alias = "token_exchange")]
    TokenExchange,
}

impl GrantType {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::AuthorizationCode,
        Self::RefreshToken,
        Self::ClientCredentials,
        Self::DeviceCode,
        Self::TokenExchange,
    ];

    /// The `grant_type` value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    /// By its `grant_type` value, or by the last word of a URN: `device_code`, `token_exchange`.
    pub fn named(text: &str) -> Option<Self> {
        Self::deserialize(text.into_deserializer()).map_err(|_: serde::de::value::Error| ()).ok()
    }

    /// Those of a client of which nothing else is said: by where answers to it go.
    pub fn defaults(redirect_uris: &[String]) -> BTreeSet<Self> {
        if redirect_uris.is_empty() {
            return [Self::ClientCredentials].into();
        }
        [Self::AuthorizationCode, Self::RefreshToken].into()
    }
}

/// How a client shows who it is. One way per client: a stronger one can then never be
/// walked around by a weaker one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "method",
    rename_all = "snake_case",
    deny_unknown_fields,
    expecting = "a map with `method`: none, secret, private_key_jwt, tls_client_auth or self_signed_tls_client_auth"
)]
pub enum ClientAuthentication {
    /// A public client: not at all.
    #[serde(deserialize_with = "nothing_besides")]
    None,
    /// A secret, as `client_secret_basic` or `client_secret_post`: its SHA-256, base64url.
    /// Two while one takes the other's place.
    Secret {
        /// The hashes; see [`Client::secret_hash`].
        #[serde(default)]
        hashes: Vec<String>,
    },
    /// A signed assertion (RFC 7523 §2.2).
    PrivateKeyJwt {
        /// The client's public keys (JWK Set).
        jwks: Value,
    },
    /// A client certificate that the TLS stack has verified (RFC 8705 §2.1).
    TlsClientAuth {
        /// What of the certificate names the client.
        subject: CertificateSubject,
    },
    /// One certificate, whoever issued it (RFC 8705 §2.2).
    SelfSignedTlsClientAuth {
        /// SHA-256 of its DER, base64url.
        thumbprints: Vec<String>,
    },
}

/// That nothing stands beside `method`: whoever writes keys or a secret there means another one. Serde looks
/// for unknown members of a variant only where it has known ones.
fn nothing_besides<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    Nothing::deserialize(deserializer).map(|Nothing {}| ())
}

/// Whether a client's authorization requests have to carry a PKCE challenge (RFC 7636).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pkce {
    /// They have to, as OAuth 2.1 wants it of every client.
    #[default]
    Required,
    /// They may come without: for clients that authenticate and cannot send one (RFC 9700 §2.1.1).
    Optional,
}

impl Pkce {
    /// The `pkce` value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Optional => "optional",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A registered client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// What pages call it.
    #[serde(default)]
    pub name: String,
    /// How it shows who it is.
    pub authentication: ClientAuthentication,
    /// How it gets tokens.
    #[serde(default)]
    pub grant_types: BTreeSet<GrantType>,
    /// Where answers go: compared as texts, but for the port of a loopback address
    /// (RFC 8252 §7.3).
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// Where browsers may go after logout.
    #[serde(default)]
    pub post_logout_redirect_uris: Vec<String>,
    /// Where logout tokens go (OpenID Connect Back-Channel Logout §2.2).
    #[serde(default)]
    pub backchannel_logout_uri: Option<String>,
    /// The scopes that it may ask for.
    #[serde(default)]
    pub scopes: BTreeSet<String>,
    /// The APIs that it may get tokens for.
    #[serde(default)]
    pub resources: BTreeSet<String>,
    /// The APIs that it is itself: it may exchange tokens that are for them (RFC 8693).
    #[serde(default)]
    pub serves: BTreeSet<String>,
    /// People are not asked: the client belongs to whoever runs the realm.
    #[serde(default)]
    pub trusted: bool,
    /// Whether its authorization requests have to carry a PKCE challenge. A public client's always do.
    // Left out of records where it says nothing: a process of before reads them too.
    #[serde(default, skip_serializing_if = "Pkce::is_default")]
    pub pkce: Pkce,
    /// It has to push its authorization requests (RFC 9126 §6).
    #[serde(default)]
    pub require_pushed_requests: bool,
    /// Its access tokens are bound to a key (RFC 9449 §5.2).
    #[serde(default)]
    pub dpop_bound_access_tokens: bool,
    /// Its access tokens are bound to its certificate (RFC 8705 §3).
    #[serde(default)]
    pub certificate_bound_access_tokens: bool,
    /// The algorithm of its ID tokens; `None`: RS256 (OpenID Connect Registration §2).
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub id_token_algorithm: Option<Algorithm>,
    /// Authorization requests without `max_age` are treated as if they had this one.
    #[serde(default)]
    pub default_max_age: Option<u64>,
    /// The class of authentication (`acr`) that people have to reach for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// A resource server: it may introspect every token of the realm.
    #[serde(default)]
    pub may_introspect: bool,
    /// Roles of the client itself, in tokens by client credentials.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// Attributes of the client itself, which claim rules can read.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    /// Switched off: it is refused like one that is unknown.
    #[serde(default)]
    pub disabled: bool,
}

impl Client {
    /// A client with nothing allowed yet.
    pub fn new(id: &str, authentication: ClientAuthentication) -> Self {
        Self {
            id: id.to_owned(),
            name: String::new(),
            authentication,
            grant_types: BTreeSet::new(),
            redirect_uris: Vec::new(),
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
            scopes: BTreeSet::new(),
            resources: BTreeSet::new(),
            serves: BTreeSet::new(),
            trusted: false,
            pkce: Pkce::default(),
            require_pushed_requests: false,
            dpop_bound_access_tokens: false,
            certificate_bound_access_tokens: false,
            id_token_algorithm: None,
            default_max_age: None,
            acr: None,
            may_introspect: false,
            roles: BTreeSet::new(),
            attributes: BTreeMap::new(),
            disabled: false,
        }
    }

    /// How a secret is kept.
    ///
    /// # Errors
    /// It is shorter than [`CLIENT_SECRET_CHARACTERS_MIN`]: a short secret under a fast
    /// hash can be guessed.
    pub fn secret_hash(secret: &str) -> Result<String, Error> {
        if secret.chars().count() < CLIENT_SECRET_CHARACTERS_MIN {
            let why = format!("expected at least {CLIENT_SECRET_CHARACTERS_MIN} random characters");
            return Err(Error::Record { what: "client secret".to_owned(), why });
        }
        Ok(crate::random::hash(secret))
    }

    /// Checks it against the realm.
    ///
    /// # Errors
    /// [`Error::Record`] with the first fault.
    pub fn check(&self, settings: &RealmSettings) -> Result<(), Error> {
        let faults = [
            self.name_fault(),
            self.authentication_fault(),
            self.pkce_fault(),
            self.redirect_fault(),
            self.grant_fault(),
            // What one that is switched off was allowed may be gone.
            (!self.disabled).then(|| self.reach_fault(settings)).flatten(),
        ];
        match faults.into_iter().flatten().next() {
            None => Ok(()),
            Some(why) => {
                let id = keys::encoding::quote(&self.id);
                Err(Error::Record { what: format!("client \"{id}\""), why })
            }
        }
    }

    fn name_fault(&self) -> Option<String> {
        let good = (1..=CLIENT_ID_BYTES_MAX).contains(&self.id.len())
            && self.id.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b':'));
        (!good).then(|| format!("id: expected 1 to {CLIENT_ID_BYTES_MAX} visible ASCII characters without quotes, backslash and colon"))
    }

    fn authentication_fault(&self) -> Option<String> {
        match &self.authentication {
            ClientAuthentication::None => self
                .grant_types
                .contains(&GrantType::ClientCredentials)
                .then(|| "client_credentials: a public client has none (RFC 6749 §4.4)".to_owned()),
            ClientAuthentication::Secret { hashes } => {
                let is_hash = |hash: &String| {
                    keys::encoding::decode_base64url(hash.as_bytes()).is_some_and(|hash| hash.len() == 32)
                };
                let good = (1..=2).contains(&hashes.len()) && hashes.iter().all(is_hash);
                (!good).then(|| "hashes: expected one or two SHA-256 digests in base64url".to_owned())
            }
            ClientAuthentication::PrivateKeyJwt { .. } => self.assertion_keys().err(),
            ClientAuthentication::TlsClientAuth { subject } => subject.fault(),
            ClientAuthentication::SelfSignedTlsClientAuth { thumbprints } => {
                thumbprints.is_empty().then(|| "thumbprints: expected at least one".to_owned())
            }
        }
    }

    fn pkce_fault(&self) -> Option<String> {
        (self.is_public() && self.pkce == Pkce::Optional).then(|| {
            "pkce: optional is for clients that authenticate: a public client has to use PKCE (RFC 9700 §2.1.1); leave `pkce` out, or give the client a secret or keys"
                .to_owned()
        })
    }

    fn redirect_fault(&self) -> Option<String> {
        for (what, uris) in [
            ("redirect_uris", &self.redirect_uris),
            ("post_logout_redirect_uris", &self.post_logout_redirect_uris),
        ] {
            if uris.len() > REDIRECT_URIS_MAX {
                return Some(format!("{what}: {} of them, at most {REDIRECT_URIS_MAX}", uris.len()));
            }
            let public = self.authentication == ClientAuthentication::None;
            if let Some(why) = uris.iter().find_map(|uri| redirect::fault(uri, public)) {
                return Some(format!("{what}: {why}"));
            }
        }
        let uri = self.backchannel_logout_uri.as_ref()?;
        let why = redirect::fault(uri, false)?;
        Some(format!("backchannel_logout_uri: {why}"))
    }

    fn grant_fault(&self) -> Option<String> {
        if self.allows(GrantType::AuthorizationCode) == self.redirect_uris.is_empty() {
            return Some("redirect_uris and authorization_code belong together".to_owned());
        }
        let people = self.allows(GrantType::AuthorizationCode) || self.allows(GrantType::DeviceCode);
        if self.allows(GrantType::RefreshToken) && !people {
            return Some(
                "refresh_token: there is nothing to refresh without authorization_code or device_code"
                    .to_owned(),
            );
        }
        if self.allows(GrantType::TokenExchange) && self.authentication == ClientAuthentication::None {
            return Some("token-exchange: a public client has none".to_owned());
        }
        None
    }

    fn reach_fault(&self, settings: &RealmSettings) -> Option<String> {
        if let Some(scope) = self.scopes.iter().find(|scope| !settings.knows_scope(scope)) {
            return Some(format!("unknown scope {scope:?}"));
        }
        if let Some(why) = self.acr.as_ref().and_then(|class| settings.class_fault(class)) {
            return Some(format!("acr: {why}"));
        }
        let named = self.resources.iter().chain(&self.serves);
        if let Some(resource) = named.into_iter().find(|name| !settings.resources.contains_key(*name)) {
            return Some(format!("unknown resource {resource:?}"));
        }
        let algorithm = self.id_token_algorithm.unwrap_or(Algorithm::Rs256);
        (!settings.algorithms.contains(&algorithm))
            .then(|| format!("id_token_algorithm: {algorithm} is not among the realm's algorithms"))
    }

    /// The keys of its assertions.
    fn assertion_keys(&self) -> Result<KeySet, String> {
        let ClientAuthentication::PrivateKeyJwt { jwks } = &self.authentication else {
            return Err("it has no keys for assertions".to_owned());
        };
        match KeySet::parse(jwks.to_string().as_bytes(), &Algorithm::ALL) {
            Ok((keys, skipped)) if skipped.is_empty() => Ok(keys),
            Ok((_, skipped)) => Err(format!("jwks: {}", skipped.join("; "))),
            Err(error) => Err(format!("jwks: {error}")),
        }
    }

    /// Whether it shows nothing by which it could be told from another.
    pub fn is_public(&self) -> bool {
        self.authentication == ClientAuthentication::None
    }

    /// Whether a code for it has to be asked for with a PKCE challenge.
    pub(crate) fn has_to_use_pkce(&self) -> bool {
        self.is_public() || self.pkce == Pkce::Required
    }

    /// Whether it may use this grant.
    pub fn allows(&self, grant: GrantType) -> bool {
        self.grant_types.contains(&grant)
    }

    /// Whether it may get tokens for this API.
    pub(crate) fn may_reach(&self, resource: &str) -> bool {
        self.resources.contains(resource)
    }

    /// What pages call it.
    pub(crate) fn display_name(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_a_way_does_not_have_stands_beside_it() {
        let read = |text: Value| serde_json::from_value::<ClientAuthentication>(text);
        assert_eq!(read(json!({ "method": "none" })).unwrap(), ClientAuthentication::None);
        assert_eq!(json!(ClientAuthentication::None), json!({ "method": "none" }));
        for way in [
            json!({ "method": "none" }),
            json!({ "method": "secret", "hashes": [] }),
            json!({ "method": "private_key_jwt", "jwks": {} }),
            json!({ "method": "tls_client_auth", "subject": { "san_dns": "orders.example.org" } }),
            json!({ "method": "self_signed_tls_client_auth", "thumbprints": [] }),
        ] {
            assert!(read(way.clone()).is_ok(), "{way}");
            for more in ["secret", "jwks_uri"] {
                let mut wrong = way.clone();
                wrong[more] = json!("x");
                let error = read(wrong).unwrap_err().to_string();
                assert!(error.contains(&format!("unknown field `{more}`")), "{error}");
            }
        }
    }
}

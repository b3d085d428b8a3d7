//! Who asks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::spiffe_id::SpiffeId;

/// What kind of being asks. Names the Cedar entity type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PrincipalKind {
    /// Nobody proved anything.
    Anonymous,
    /// A person: the subject of a token.
    User,
    /// A workload with a SPIFFE ID.
    Service,
    /// A machine client: a token whose subject is the client itself, or a client
    /// certificate without a SPIFFE ID.
    Client,
    /// The holder of an API key.
    ApiKey,
}

impl PrincipalKind {
    /// The Cedar entity type and the `principal.type` of events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "Anonymous",
            Self::User => "User",
            Self::Service => "Service",
            Self::Client => "Client",
            Self::ApiKey => "ApiKey",
        }
    }
}

/// How the principal proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// Not at all.
    None,
    /// A JSON Web Token (RFC 7519).
    Jwt,
    /// An opaque token, introspected (RFC 7662).
    Opaque,
    /// A browser's session, begun by a login at an OpenID provider.
    Session,
    /// An API key made by `bastide key new`.
    ApiKey,
    /// A TLS client certificate (RFC 8446 §4.4.2).
    Certificate,
    /// A user of this machine, by a socket that only the owner of the state folder can reach.
    Local,
}

impl Credential {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Jwt, Self::Opaque, Self::Session, Self::ApiKey, Self::Certificate, Self::Local];

    /// The configuration's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Jwt => "jwt",
            Self::Opaque => "opaque",
            Self::Session => "session",
            Self::ApiKey => "api_key",
            Self::Certificate => "mtls",
            Self::Local => "local",
        }
    }
}

/// A claim's or attribute's value, in the shapes that policy can compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// A truth value.
    Boolean(bool),
    /// A whole number.
    Long(i64),
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
}

/// The type of a declared claim: the shape that its [`Attribute`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimType {
    /// A truth value.
    Boolean,
    /// A whole number that fits 64 bits with sign.
    Long,
    /// A text.
    Text,
    /// A list of texts.
    Texts,
}

/// Who asks: made by an authenticator, read by policy, limits, upstream headers and
/// audit. Everything in it was proved by the credential or comes from the
/// configuration; nothing in it was merely claimed by the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// What kind of being.
    pub kind: PrincipalKind,
    /// Its name within the kind: a token's `sub` (with the issuer's configured prefix
    /// in front), a SPIFFE ID, a certificate subject, an API key's id.
    pub id: String,
    /// How it proved that.
    pub credential: Credential,
    /// The token's `iss`.
    pub issuer: Option<String>,
    /// The role names that the credential or the configuration grants. Only roles
    /// declared in the configuration are kept.
    pub roles: Vec<String>,
    /// OAuth scopes (RFC 6749 §3.3).
    pub scopes: Vec<String>,
    /// Authentication context class (OpenID Connect Core §2).
    pub acr: Option<String>,
    /// Authentication methods (RFC 8176).
    pub amr: Vec<String>,
    /// Declared claims or key attributes, by name.
    pub claims: BTreeMap<String, Attribute>,
    /// The workload's name, when the certificate carries one.
    pub spiffe_id: Option<SpiffeId>,
    /// When the credential ends; a permit never outlives it.
    pub expires: Option<Timestamp>,
}

impl Principal {
    /// Somebody who proved nothing.
    pub fn anonymous() -> Self {
        Self {
            kind: PrincipalKind::Anonymous,
            id: "anonymous".to_owned(),
            credential: Credential::None,
            issuer: None,
            roles: Vec::new(),
            scopes: Vec::new(),
            acr: None,
            amr: Vec::new(),
            claims: BTreeMap::new(),
            spiffe_id: None,
            expires: None,
        }
    }
}

/// What the transport proved about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address that the socket sees, or that a trusted proxy vouched for.
    pub address: IpAddr,
    /// The socket's own remote address.
    pub socket: std::net::SocketAddr,
    /// TLS version and certificate, when the connection is encrypted.
    pub tls: Option<TlsPeer>,
}

/// What TLS proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPeer {
    /// `"1.2"` or `"1.3"`.
    pub version: &'static str,
    /// The server name that the client asked for (RFC 6066 §3), lower case.
    pub server_name: Option<String>,
    /// The verified client certificate chain, DER, leaf first; empty without one.
    pub client_chain: Vec<Vec<u8>>,
}

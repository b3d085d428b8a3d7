//! `authentication.issuers[].introspection`: asking an issuer about opaque tokens; and how
//! this process shows at an issuer who it is.

use std::path::PathBuf;
use std::time::Duration;

use super::decoder::{Decoder, Table};
use super::node::Node;
use super::outward::Hidden;
use super::schema::{Key, Section, key};
use super::values;

/// Largest file with a private key, bytes.
const KEY_BYTES_MAX: usize = 16 * 1024;
/// How long a yes is remembered where nothing is said, milliseconds.
const CACHE_DEFAULT: Duration = Duration::from_secs(30);

/// This process as a client of an issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnClient {
    /// `client_id`.
    pub id: String,
    /// What it shows.
    pub credential: OwnCredential,
}

/// What a client shows.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnCredential {
    /// Nothing: a public client.
    None,
    /// A secret, by client_secret_basic.
    Secret(Hidden),
    /// The private key in this file, by private_key_jwt.
    Key(PathBuf),
}

/// How an issuer is asked about opaque tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Introspection {
    /// Who asks.
    pub client: OwnClient,
    /// Where; `None`: the issuer's metadata say.
    pub endpoint: Option<String>,
    /// How long a yes is remembered.
    pub cache: Duration,
    /// Whether a token that names no audience is taken for ours.
    pub any_audience: bool,
}

pub(super) const CLIENT_ID: Key =
    key("client", "client id", "", "The client id of this process at the issuer.");
pub(super) const SECRET: Key = key(
    "secret",
    "text, from `${NAME}` or `${file:…}`",
    "none",
    "The client's secret (client_secret_basic). Never shown.",
);
pub(super) const PRIVATE_KEY: Key = key(
    "private_key",
    "path",
    "none",
    "PEM or DER file (PKCS #8) with the client's P-256, Ed25519 or RSA key (private_key_jwt, RFC 7523). Its `kid` is the key's thumbprint (RFC 7638).",
);

pub(super) const INTROSPECTION: Section = Section {
    path: "authentication.issuers[].introspection",
    about: "Lets routes with `authenticate: opaque` introspect tokens at this issuer (RFC 7662). Only one issuer can have it: an opaque token does not name its issuer.",
    short: "",
    keys: &[
        CLIENT_ID,
        SECRET,
        PRIVATE_KEY,
        key("endpoint", "URL", "discovered", "Where it is asked."),
        key(
            "cache",
            "duration from 1s to 1h",
            "30s",
            "How long a positive answer is cached, at most until the token expires; a negative one at most 10 seconds. A revoked token stays valid that long, unless the issuer is a realm of this process.",
        ),
        key(
            "danger_any_audience",
            "true or false",
            "false",
            "Accepts tokens that name no audience at all: they may have been meant for another service.",
        ),
    ],
};

impl Decoder<'_> {
    /// `introspection:` of one issuer.
    pub(super) fn introspection(&mut self, node: &Node) -> Option<Introspection> {
        let table = self.table(node, &INTROSPECTION)?;
        let client = self.own_client(&table)?;
        if client.credential == OwnCredential::None {
            self.advise(
                table.at,
                "an issuer tells nobody about tokens who does not show who it is",
                "add secret: ${file:…} or private_key: key.pem",
            );
        }
        Some(Introspection {
            client,
            endpoint: table.get("endpoint").and_then(|node| self.value(node, super::authentication::url)),
            cache: table
                .get("cache")
                .and_then(|node| self.span(node, 1_000, 3_600_000))
                .unwrap_or(CACHE_DEFAULT),
            any_audience: self.danger(
                &table,
                "danger_any_audience",
                "tokens that were meant for somebody else may be taken",
            ),
        })
    }

    /// `client`, with `secret` or `private_key`.
    pub(super) fn own_client(&mut self, table: &Table<'_>) -> Option<OwnClient> {
        let id = self.required(table, "client").and_then(|node| self.value(node, values::name));
        let credential = match (table.get("secret"), table.get("private_key")) {
            (Some(_), Some(node)) => {
                self.fault(node.at, "a client has either `secret` or `private_key`: the weaker way would do");
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
                self.hidden(node).map(OwnCredential::Secret)
            }
            (None, Some(node)) => self.private_key(node).map(OwnCredential::Key),
            (None, None) => Some(OwnCredential::None),
        };
        Some(OwnClient { id: id?, credential: credential? })
    }

    fn private_key(&mut self, node: &Node) -> Option<PathBuf> {
        let (path, bytes) = self.file(node, KEY_BYTES_MAX)?;
        match crate::wire::signer(&bytes) {
            Ok(_) => Some(path),
            Err(error) => {
                self.fault(node.at, format!("{}: {error}", path.display()));
                None
            }
        }
    }
}

//! `identity:`: what upstreams are told about the principal.

use std::time::Duration;

use super::decoder::Decoder;
use super::node::Node;
use super::schema::{Section, key};
use super::values;

/// What upstreams are told about the principal.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Whether `x-bastide-…` headers are sent.
    pub headers: bool,
    /// Whether a signed token is sent.
    pub token: bool,
    /// The token's `iss`.
    pub issuer: String,
    /// How long a token is valid.
    pub lifetime: Duration,
}

pub(super) const IDENTITY: Section = Section {
    path: "identity",
    about: "What upstreams are told about the principal. Whatever clients send under these names is dropped, whether this is enabled or not.",
    short: "",
    keys: &[
        key("headers", "true or false", "true", "Sends `x-bastide-…` headers."),
        key(
            "token",
            "true or false",
            "true",
            "Sends a signed JWT, whose keys are at `/.well-known/bastide/jwks.json` on the admin listener: copy them to upstreams on other machines.",
        ),
        key("issuer", "text", "bastide", "The token's `iss`."),
        key("lifetime", "duration from 5s to 1h", "60s", "How long a token is valid."),
    ],
};

impl Decoder<'_> {
    /// `identity:`
    pub(super) fn identity(&mut self, node: Option<&Node>) -> Identity {
        let mut identity = Identity {
            headers: true,
            token: true,
            issuer: "bastide".to_owned(),
            lifetime: Duration::from_secs(60),
        };
        let Some(table) = node.and_then(|node| self.table(node, &IDENTITY)) else { return identity };
        identity.headers = table.get("headers").and_then(|node| self.boolean(node)).unwrap_or(true);
        identity.token = table.get("token").and_then(|node| self.boolean(node)).unwrap_or(true);
        let issuer = table.get("issuer").and_then(|node| self.value(node, values::name));
        identity.issuer = issuer.unwrap_or(identity.issuer);
        if let Some(node) = table.get("lifetime")
            && let Some(lifetime) = self.duration(node, Duration::ZERO)
        {
            if !(5..=3_600).contains(&lifetime.as_secs()) {
                self.expected(node, "a duration from 5s to 1h");
            }
            identity.lifetime = lifetime;
        }
        identity
    }
}

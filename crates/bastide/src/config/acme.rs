//! `listen[].tls.acme`: certificates that are ordered from an ACME server (RFC 8555).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::suggestion::nearest;

use super::decoder::{Decoder, Table};
use super::node::Node;
use super::schema::{Section, key};
use super::values::{self, Unfit};
use super::{Certificates, HostMatch, Listener, Route};

/// Certificates that are ordered, one for each name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// Whose they are.
    pub account: AcmeAccount,
    /// For which names, lower case, sorted; never empty.
    pub names: Vec<String>,
    /// How control over a name is proven.
    pub challenge: AcmeChallenge,
    /// How long before its end a certificate is replaced; `None`: when two thirds of its
    /// life are over, or when the server says.
    pub renew_before: Option<Duration>,
    /// The profile that the server is asked for.
    pub profile: Option<String>,
}

/// From whom certificates are ordered, and who orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeAccount {
    /// The server's directory (RFC 8555 §7.1.1), `https://…`.
    pub directory: String,
    /// The contact address for the server.
    pub email: Option<String>,
    /// The account elsewhere that this one is bound to (RFC 8555 §7.3.4).
    pub external: Option<ExternalAccount>,
    /// PEM file of the authorities that the server's own certificate comes from; `None`:
    /// the public ones.
    pub trust: Option<PathBuf>,
    /// Whether the server may be at a loopback or private address.
    pub allow_private_addresses: bool,
}

/// An account elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The key's name.
    pub key_id: String,
    /// The key. Secret.
    pub hmac_key: Vec<u8>,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("ExternalAccount").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// How control over a name is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// RFC 8555 §8.3: on port 80 of the name, without TLS.
    Http01,
    /// RFC 8737: on port 443 of the name, in a handshake.
    TlsAlpn01,
}

pub(super) const ACME: Section = Section {
    path: "listen[].tls.acme",
    about: "Certificates from an ACME server (RFC 8555), one for each name, ordered and renewed automatically. By setting this you accept the terms of the server's operator.",
    short: "the mail address as a text: `acme: ops@example.org`",
    keys: &[
        key("email", "mail address", "none is given", "The contact address for the server."),
        key("directory", "letsencrypt, letsencrypt-staging or URL", "letsencrypt", "The server's directory."),
        key(
            "names",
            "host name or list of host names",
            "the exact hosts named in routes",
            "For which names. Not for `*.example.org`: that needs DNS-01.",
        ),
        key(
            "challenge",
            "tls-alpn-01 or http-01",
            "tls-alpn-01",
            "How control over a name is proven. The server connects to port 443 of the name, which has to lead to this listener; with http-01 to port 80, which has to lead to one without TLS.",
        ),
        key(
            "external_account",
            "map",
            "none",
            "The external account that this one is bound to, if the server requires one.",
        ),
        key(
            "trust",
            "path",
            "the public authorities",
            "PEM file of the authorities that issued the server's own certificate.",
        ),
        key(
            "allow_private_addresses",
            "true or false",
            "false",
            "Allows the server to be at a loopback or private address.",
        ),
        key(
            "renew_before",
            "duration",
            "a third of the certificate's life, or what the server says",
            "How long before its expiry a certificate is replaced.",
        ),
        key("profile", "text", "the server's default", "Which of the server's profiles is requested."),
    ],
};

pub(super) const EXTERNAL_ACCOUNT: Section = Section {
    path: "listen[].tls.acme.external_account",
    about: "The external account that the ACME account is bound to (RFC 8555 §7.3.4).",
    short: "",
    keys: &[
        key("key_id", "text", "", "The key's name."),
        key("hmac_key", "base64url text", "", "The key. Keep it out of the file: `${file:…}` or `${ENV}`."),
    ],
};

const LETSENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETSENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Shortest time before the end.
const RENEW_BEFORE_MIN: Duration = Duration::from_secs(1);

/// One address, nothing else: RFC 8555 §7.3 takes neither a list nor header fields.
fn email(text: &str) -> Result<String, Unfit> {
    const EXPECTED: &str = "a mail address such as ops@example.org";
    if let Some(address) = text.strip_prefix("mailto:") {
        return Err(Unfit { expected: EXPECTED, instead: Some(address.to_owned()) });
    }
    let fits = text.len() <= 254
        && text.split_once('@').is_some_and(|(user, domain)| {
            !user.is_empty()
                && values::host(domain).is_ok()
                && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&'*+-/=^_`{|}~.".contains(&b))
        });
    if fits { Ok(text.to_owned()) } else { Err(Unfit { expected: EXPECTED, instead: None }) }
}

fn directory(text: &str) -> Result<String, Unfit> {
    let unfit = |instead| Unfit { expected: "letsencrypt, letsencrypt-staging or an https URL", instead };
    match text {
        "letsencrypt" => return Ok(LETSENCRYPT.to_owned()),
        "letsencrypt-staging" => return Ok(LETSENCRYPT_STAGING.to_owned()),
        _ => {}
    }
    // RFC 8555 §6.1: https, always.
    if let Some(rest) = text.strip_prefix("http://") {
        return Err(unfit(Some(format!("https://{rest}"))));
    }
    let near = nearest(text, ["letsencrypt", "letsencrypt-staging"]).map(str::to_owned);
    let uri: http::Uri = text.parse().map_err(|_| unfit(near.clone()))?;
    let fits = text.starts_with("https://")
        && uri.host().is_some_and(|host| values::host(host).is_ok())
        && !text.contains(['@', '#', '\\']);
    if fits { Ok(text.to_owned()) } else { Err(unfit(near)) }
}

/// A name that a certificate can be ordered for.
fn name(text: &str) -> Result<String, Unfit> {
    if text.starts_with("*.") {
        return Err(Unfit {
            expected: "host names, each in full: a certificate for all names below one needs DNS-01, which this does not do",
            instead: None,
        });
    }
    let name = values::host(text)?;
    match unordered(&name) {
        None => Ok(name),
        Some(expected) => Err(Unfit { expected, instead: None }),
    }
}

/// What a host that routes may name has to be besides, when it is not.
fn unordered(name: &str) -> Option<&'static str> {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Some("a host name: certificates are not ordered for addresses");
    }
    name.contains('_').then_some("a host name without underscores, which no authority certifies")
}

fn text(text: &str) -> Result<String, Unfit> {
    let fits = (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Unfit { expected: "1 to 256 visible characters", instead: None })
    }
}

fn hmac_key(text: &str) -> Result<Vec<u8>, Unfit> {
    let key = URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('='));
    key.ok().filter(|key| key.len() >= 16).ok_or(Unfit {
        expected: "a key of at least 16 bytes in base64url, as the authority shows it",
        instead: None,
    })
}

impl Decoder<'_> {
    /// `listen[].tls.acme`. Names that are not written stay empty here.
    pub(super) fn acme(&mut self, node: &Node) -> Option<Acme> {
        let mut acme = Acme {
            account: AcmeAccount {
                directory: LETSENCRYPT.to_owned(),
                email: None,
                external: None,
                trust: None,
                allow_private_addresses: false,
            },
            names: Vec::new(),
            challenge: AcmeChallenge::TlsAlpn01,
            renew_before: None,
            profile: None,
        };
        if node.text().is_some() {
            acme.account.email = Some(self.value(node, email)?);
            return Some(acme);
        }
        let table = self.table(node, &ACME)?;
        acme.account = self.acme_account(&table);
        if let Some(node) = table.get("names") {
            acme.names = self.values(node, name);
            acme.names.sort_unstable();
            acme.names.dedup();
            if acme.names.is_empty() && !self.faulty() {
                self.expected(node, "at least one host name");
            }
        }
        let challenges = [("tls-alpn-01", AcmeChallenge::TlsAlpn01), ("http-01", AcmeChallenge::Http01)];
        if let Some(node) = table.get("challenge") {
            acme.challenge = self.word(node, "challenge", &challenges).unwrap_or(acme.challenge);
        }
        acme.renew_before = table.get("renew_before").and_then(|node| self.duration(node, RENEW_BEFORE_MIN));
        acme.profile = table.get("profile").and_then(|node| self.value(node, text));
        Some(acme)
    }

    fn acme_account(&mut self, table: &Table<'_>) -> AcmeAccount {
        let external = table.get("external_account").and_then(|node| self.table(node, &EXTERNAL_ACCOUNT));
        let external = external.and_then(|table| {
            let key_id = self.required(&table, "key_id").and_then(|node| self.value(node, text));
            let hmac_key = self.required(&table, "hmac_key").and_then(|node| self.value(node, hmac_key));
            Some(ExternalAccount { key_id: key_id?, hmac_key: hmac_key? })
        });
        let written = table.get("directory").and_then(|node| self.value(node, directory));
        AcmeAccount {
            directory: written.unwrap_or_else(|| LETSENCRYPT.to_owned()),
            email: table.get("email").and_then(|node| self.value(node, email)),
            external,
            trust: table.get("trust").and_then(|node| self.authorities(node)),
            allow_private_addresses: table
                .get("allow_private_addresses")
                .and_then(|node| self.boolean(node))
                .unwrap_or(false),
        }
    }

    /// What only all listeners and routes together show: the names that were not written,
    /// where http-01 is answered, and that one directory knows one account.
    pub(super) fn acme_around(&mut self, listeners: &mut [Listener], routes: &[Route]) {
        let answers_http = listeners.iter().any(|listener| listener.tls.is_none());
        let mut accounts: Vec<AcmeAccount> = Vec::new();
        for (number, at) in std::mem::take(&mut self.acme_at) {
            let Some(acme) = listeners.get_mut(number).and_then(acme_of) else { continue };
            if acme.names.is_empty() {
                acme.names = self.names_of_routes(at, routes);
            }
            if acme.challenge == AcmeChallenge::Http01 && !answers_http {
                self.advise(
                    at,
                    "http-01 is asked without TLS, and every listener has TLS",
                    "add the listener { address: 0.0.0.0:80, https_redirect: true }",
                );
            }
            let known = accounts.iter().find(|known| known.directory == acme.account.directory);
            if known.is_some_and(|known| *known != acme.account) {
                self.fault(
                    at,
                    format!("two accounts at {}: write the same for both", acme.account.directory),
                );
            }
            accounts.push(acme.account.clone());
        }
    }

    fn names_of_routes(&mut self, at: super::node::At, routes: &[Route]) -> Vec<String> {
        let mut names = Vec::new();
        for route in routes {
            match &route.matches.host {
                HostMatch::Any => {}
                HostMatch::Exact(host) => names.push(host.clone()),
                HostMatch::Wildcard(host) => self.advise(
                    at,
                    format!("no certificate can be ordered for *.{host}: that needs DNS-01, which this does not do"),
                    "list the names: acme: { names: [ … ] }",
                ),
            }
        }
        names.sort_unstable();
        names.dedup();
        for name in &names {
            if let Some(expected) = unordered(name) {
                let message = format!("no certificate can be ordered for {name}: expected {expected}");
                self.advise(at, message, "list the names: acme: { names: [ … ] }");
            }
        }
        if names.is_empty() && !self.faulty() {
            self.advise(
                at,
                "no route names an exact host, so there is no name to order a certificate for",
                "list the names: acme: { names: [ … ] }",
            );
        }
        names
    }
}

fn acme_of(listener: &mut Listener) -> Option<&mut Acme> {
    match &mut listener.tls.as_mut()?.certificates {
        Certificates::Acme(acme) => Some(acme),
        Certificates::Local | Certificates::Files(_) | Certificates::Mesh => None,
    }
}

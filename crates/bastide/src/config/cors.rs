//! `cors:`: which pages of other origins may read answers.

use std::time::Duration;

use super::Proof;
use super::decoder::Decoder;
use super::matching;
use super::node::Node;
use super::schema::{Section, key};
use super::values::{self, Unfit};

/// What clients in browsers send to the identity provider beyond what pages may always send.
const IDENTITY_HEADERS: [&str; 3] = ["authorization", "content-type", "dpop"];
/// What they read of its answers (RFC 9449 §8, RFC 6750 §3).
const IDENTITY_EXPOSED: [&str; 2] = ["dpop-nonce", "www-authenticate"];

/// Cross-origin rules (Fetch §3.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// Origins that may read answers.
    pub origins: Origins,
    /// Methods beyond the simple ones, upper case.
    pub methods: Vec<String>,
    /// Request headers beyond the simple ones, lower case.
    pub headers: Vec<String>,
    /// Response headers that pages may read, lower case.
    pub expose: Vec<String>,
    /// Whether cookies and client certificates are allowed.
    pub credentials: bool,
    /// How long a browser may cache a preflight.
    pub max_age: Duration,
}

/// Which origins.
#[derive(Clone, Debug, PartialEq)]
pub enum Origins {
    /// `*`; never together with credentials.
    Any,
    /// These, as browsers write them: `https://app.example.org`.
    List(Vec<String>),
}

pub(super) const CORS: Section = Section {
    path: "routes[].cors",
    about: "Which pages of other origins may read a route's answers. Without it no cross-origin header is sent.",
    short: "the origins as a list: `cors: [ https://app.example.org ]`",
    keys: &[
        key(
            "origins",
            "list of origins, or \"*\"",
            "",
            "Exact origins: scheme, host, port when it is not the scheme's own.",
        ),
        key("methods", "list of methods", "the route's methods", "Methods that a preflight may ask for."),
        key(
            "headers",
            "list of header names",
            "none; with `to: identity` authorization, content-type, dpop",
            "Request headers that a preflight may ask for.",
        ),
        key(
            "expose",
            "list of header names",
            "none; with `to: identity` dpop-nonce, www-authenticate",
            "Response headers that pages may read.",
        ),
        key(
            "credentials",
            "true or false",
            "false",
            "Whether cookies and client certificates are allowed. Not with \"*\".",
        ),
        key("max_age", "duration up to 24h", "10m", "How long a browser may cache a preflight."),
    ],
};

/// An origin as browsers write it (RFC 6454 §6.2).
fn origin(text: &str) -> Result<String, Unfit> {
    const EXPECTED: &str = "an origin such as https://app.example.org";
    let unfit = |instead: Option<String>| Unfit { expected: EXPECTED, instead };
    if text.contains('*') {
        return Err(Unfit {
            expected: "an origin such as https://app.example.org, each by its whole name",
            instead: None,
        });
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let instead = values::host(text).ok().map(|host| format!("https://{host}"));
        return Err(unfit(instead));
    };
    let default_port = match scheme {
        "https" => "443",
        "http" => "80",
        _ => return Err(unfit(None)),
    };
    if rest.contains('/') {
        let bare = rest.split('/').next().unwrap_or_default();
        return Err(unfit(Some(format!("{scheme}://{bare}")).filter(|text| origin(text).is_ok())));
    }
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (rest, None),
    };
    let mut host = values::host(name).map_err(|_| unfit(None))?;
    if host.contains(':') {
        host = format!("[{host}]");
    }
    match port {
        None => Ok(format!("{scheme}://{host}")),
        Some(port) if port == default_port => Ok(format!("{scheme}://{host}")),
        Some(port) if port.parse::<u16>().is_ok_and(|number| number.to_string() == port && number > 0) => {
            Ok(format!("{scheme}://{host}:{port}"))
        }
        Some(_) => Err(unfit(None)),
    }
}

impl Decoder<'_> {
    /// `cors:` of a route that takes `methods`; `identity`: it leads to the identity provider.
    pub(super) fn cors(&mut self, node: &Node, methods: &[http::Method], identity: bool) -> Option<Cors> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let all: Vec<http::Method> = matching::METHODS.iter().map(|(_, method)| method.clone()).collect();
        let methods = if methods.is_empty() { &all } else { methods };
        let mut cors = Cors {
            origins: Origins::Any,
            methods: methods.iter().map(ToString::to_string).collect(),
            headers: if identity { names(&IDENTITY_HEADERS) } else { Vec::new() },
            expose: if identity { names(&IDENTITY_EXPOSED) } else { Vec::new() },
            credentials: false,
            max_age: Duration::from_secs(600),
        };
        if !matches!(node.value, super::node::Value::Map(_)) {
            cors.origins = self.origins(node)?;
            return Some(cors);
        }
        let table = self.table(node, &CORS)?;
        let origins = self.required(&table, "origins").and_then(|node| self.origins(node));
        if let Some(node) = table.get("methods") {
            cors.methods = self.values(node, matching::method).iter().map(ToString::to_string).collect();
        }
        for (key, names) in [("headers", &mut cors.headers), ("expose", &mut cors.expose)] {
            if let Some(node) = table.get(key) {
                *names = self.values(node, values::header_name);
            }
        }
        cors.credentials = table.get("credentials").and_then(|node| self.boolean(node)).unwrap_or(false);
        if let Some(node) = table.get("max_age") {
            let age = self.duration(node, Duration::ZERO);
            if age.is_some_and(|age| age > Duration::from_secs(86_400)) {
                self.expected(node, "a duration of at most 24h");
            }
            cors.max_age = age.unwrap_or(cors.max_age);
        }
        cors.origins = origins?;
        if cors.credentials && cors.origins == Origins::Any {
            self.advise(
                table.key_at("credentials"),
                "credentials with origins \"*\" would let every page act as its visitor",
                "name the origins",
            );
        }
        Some(cors)
    }

    /// A page that may not send its credential cannot use the route: the preflight refuses it (Fetch
    /// §4.8, step 7).
    pub(super) fn cors_beside_proofs(&mut self, node: &Node, cors: &Cors, proofs: &[Proof]) {
        let sent = |names: &[&str]| cors.headers.iter().any(|header| names.contains(&header.as_str()));
        let is_usable = |proof: &Proof| match proof {
            Proof::Jwt | Proof::Opaque => sent(&["authorization"]),
            Proof::ApiKey => sent(&["authorization", "x-api-key"]),
            Proof::Session | Proof::Certificate => cors.credentials,
        };
        let in_header = |proof: &Proof| matches!(proof, Proof::Jwt | Proof::Opaque | Proof::ApiKey);
        if proofs.iter().any(in_header) && !proofs.iter().any(is_usable) {
            let message = "no page can send the credential that this route asks for: the preflight's answer allows \
                           no header for it";
            let suggestion = "write cors: { origins: …, headers: [ authorization, content-type ] }";
            self.warn(node.at, message, suggestion);
        }
    }

    fn origins(&mut self, node: &Node) -> Option<Origins> {
        if node.items().iter().any(|item| item.text() == Some("*")) {
            if node.items().len() > 1 {
                self.expected(node, "either \"*\" or a list of origins");
            }
            return Some(Origins::Any);
        }
        let list = "write [ https://app.example.org ]";
        if self.is_switch(node, "the origins whose pages may read answers", list, "leave cors out") {
            return None;
        }
        if node.text().is_some_and(|text| ["all", "any"].contains(&text)) {
            let message =
                format!("expected the origins whose pages may read answers, found {}", node.shown());
            self.advise(node.at, message, "write \"*\" for every page");
            return None;
        }
        let origins = self.values(node, origin);
        if origins.is_empty() {
            if !self.faulty() {
                self.expected(node, "at least one origin");
            }
            return None;
        }
        Some(Origins::List(origins))
    }
}

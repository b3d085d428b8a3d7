//! `headers:` and `security_headers:`: what is set on the way, and what taken away.

use std::fmt;
use std::time::Duration;

use gateway::template::Template;

use super::Match;
use super::decoder::Decoder;
use super::node::{Node, Value};
use super::schema::{Section, key};
use super::shaping::Places;
use super::values;

/// Changes to headers. `Debug` shows names only: values can hold secrets.
#[derive(Clone, Default, PartialEq)]
pub struct HeaderRules {
    /// Set, replacing what was there: lower-case name, value.
    pub set: Vec<(String, Template)>,
    /// Added beside what is there: lower-case name, value.
    pub add: Vec<(String, Template)>,
    /// Taken away: lower-case names.
    pub remove: Vec<String>,
}

impl fmt::Debug for HeaderRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |list: &[(String, Template)]| -> Vec<String> {
            list.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("HeaderRules")
            .field("set", &names(&self.set))
            .field("add", &names(&self.add))
            .field("remove", &self.remove)
            .finish()
    }
}

/// Response headers that every answer gets unless the upstream set them.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityHeaders {
    /// `Strict-Transport-Security` max-age on TLS listeners (RFC 6797 §6.1.1); zero:
    /// not sent.
    pub hsts: Duration,
    /// `X-Frame-Options`: `DENY` or `SAMEORIGIN`.
    pub frame_options: String,
    /// `Referrer-Policy`.
    pub referrer_policy: String,
}

pub(super) const HEADERS: Section = Section {
    path: "routes[].headers",
    about: "Changes to headers.",
    short: "",
    keys: &[
        key("request", "map", "none", "Changes to what the upstream gets."),
        key("response", "map", "none", "Changes to what the client gets."),
    ],
};

pub(super) const RULES: Section = Section {
    path: "routes[].headers.request",
    about: "`headers.response` has the same keys. Framing and hop-by-hop headers, `Host` and `x-bastide-…` cannot be changed.",
    short: "",
    keys: &[
        key(
            "set",
            "map of header name to value",
            "none",
            "Set, replacing existing values. `{name}` in a value is the path parameter, `{**}` the rest of the path, `{{` a brace.",
        ),
        key(
            "add",
            "map of header name to value",
            "none",
            "Added to existing values, with the same placeholders.",
        ),
        key("remove", "list of header names", "none", "Removed."),
    ],
};

pub(super) const SECURITY: Section = Section {
    path: "security_headers",
    about: "Response headers that every answer gets unless the upstream set them: `Strict-Transport-Security` (TLS only), `X-Content-Type-Options: nosniff`, `X-Frame-Options`, `Referrer-Policy`.",
    short: "`true`: the defaults",
    keys: &[
        key("hsts", "duration; 0s: not sent", "365d", "`Strict-Transport-Security: max-age`."),
        key("frame_options", "DENY or SAMEORIGIN", "SAMEORIGIN", "`X-Frame-Options`."),
        key(
            "referrer_policy",
            "a value of Referrer-Policy",
            "strict-origin-when-cross-origin",
            "`Referrer-Policy`. With `no-referrer` browsers send `Origin: null` with forms.",
        ),
    ],
};

/// Whether only the hop itself may set this header (lower case).
pub(crate) fn belongs_to_the_hop(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with("x-bastide-")
}

/// Names that only the hop itself may set.
const OURS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const REFERRER_POLICIES: &[(&str, &str)] = &[
    ("no-referrer", "no-referrer"),
    ("no-referrer-when-downgrade", "no-referrer-when-downgrade"),
    ("origin", "origin"),
    ("origin-when-cross-origin", "origin-when-cross-origin"),
    ("same-origin", "same-origin"),
    ("strict-origin", "strict-origin"),
    ("strict-origin-when-cross-origin", "strict-origin-when-cross-origin"),
];

impl Decoder<'_> {
    /// A map of header names to values; names lower case.
    pub(super) fn header_values(&mut self, node: &Node) -> Vec<(String, String)> {
        let mut list: Vec<(String, String)> = Vec::new();
        for (name, value) in self.named(node, "a map of header names") {
            let header = match values::header_name(&name.text) {
                Ok(header) => header,
                Err(unfit) => {
                    let message = format!("expected {}, found {:?}", unfit.expected, name.text);
                    match unfit.instead {
                        Some(instead) => self.advise(name.at, message, format!("write {instead:?}")),
                        None => self.fault(name.at, message),
                    }
                    continue;
                }
            };
            if list.iter().any(|(known, _)| *known == header) {
                self.fault(name.at, format!("header {header:?} is there twice"));
            }
            if let Some(value) = self.value(value, values::header_value) {
                list.push((header, value));
            }
        }
        list
    }

    /// `headers:` of a route: request, response.
    pub(super) fn header_rules(
        &mut self,
        node: Option<&Node>,
        matches: Option<&Match>,
    ) -> (HeaderRules, HeaderRules) {
        let Some(table) = node.and_then(|node| self.table(node, &HEADERS)) else {
            return Default::default();
        };
        (self.rules(table.get("request"), matches), self.rules(table.get("response"), matches))
    }

    fn rules(&mut self, node: Option<&Node>, matches: Option<&Match>) -> HeaderRules {
        let Some(table) = node.and_then(|node| self.table(node, &RULES)) else {
            return HeaderRules::default();
        };
        let set = table.get("set").map_or(Vec::new(), |node| self.header_templates(node, matches));
        let add = table.get("add").map_or(Vec::new(), |node| self.header_templates(node, matches));
        let remove = table.get("remove").map_or(Vec::new(), |node| self.values(node, values::header_name));
        let names = set.iter().chain(&add).map(|(name, _)| name).chain(&remove);
        let ours: Vec<String> = names.filter(|name| belongs_to_the_hop(name)).cloned().collect();
        for name in ours {
            self.fault(table.at, format!("header {name:?} belongs to Bastide and cannot be changed"));
        }
        HeaderRules { set, add, remove }
    }

    /// Header values with places. What was expanded is taken as it stands: a secret may
    /// hold braces, and no fault may show it.
    fn header_templates(&mut self, node: &Node, matches: Option<&Match>) -> Vec<(String, Template)> {
        let values = self.header_values(node);
        let mut list = Vec::with_capacity(values.len());
        for (name, value) in values {
            let written = match &node.value {
                Value::Map(entries) => entries.iter().find(|(key, _)| key.text.eq_ignore_ascii_case(&name)),
                _ => None,
            };
            let value = match written {
                Some((_, written)) if written.expanded() => Some(Template::text(value)),
                Some((_, written)) => self.template(written, &value, matches, Places::Rest),
                None => None,
            };
            list.extend(value.map(|value| (name, value)));
        }
        list
    }

    /// `security_headers:` and its `danger_` switch.
    pub(super) fn security_headers(&mut self, node: Option<&Node>, danger: bool) -> Option<SecurityHeaders> {
        let mut headers = SecurityHeaders {
            hsts: Duration::from_secs(365 * 86_400),
            frame_options: "SAMEORIGIN".to_owned(),
            referrer_policy: "strict-origin-when-cross-origin".to_owned(),
        };
        match node {
            Some(node) if node.text() == Some("false") && !danger => {
                self.advise(
                    node.at,
                    "answers without security headers are a danger",
                    "write danger_no_security_headers: true instead, or set the values you need",
                );
            }
            Some(node) if node.text().is_some() => {
                self.boolean(node);
            }
            Some(node) => {
                let table = self.table(node, &SECURITY)?;
                let hsts = table.get("hsts").and_then(|node| self.duration(node, Duration::ZERO));
                headers.hsts = hsts.unwrap_or(headers.hsts);
                let frames = [("DENY", "DENY"), ("SAMEORIGIN", "SAMEORIGIN")];
                if let Some(word) =
                    table.get("frame_options").and_then(|node| self.word(node, "X-Frame-Options", &frames))
                {
                    word.clone_into(&mut headers.frame_options);
                }
                let policy = table.get("referrer_policy");
                if let Some(word) =
                    policy.and_then(|node| self.word(node, "Referrer-Policy", REFERRER_POLICIES))
                {
                    word.clone_into(&mut headers.referrer_policy);
                }
            }
            None => {}
        }
        (!danger).then_some(headers)
    }
}

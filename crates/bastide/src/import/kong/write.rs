//! Writes the configuration down.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Importer;
use super::access::{Permit, cedar};
use super::route::Made;
use crate::config::{self, counted};
use crate::import::yaml::{Yaml, quoted};
use crate::import::{Imported, SideFile};

/// What Kong does not bound.
const LIMITS: &str = "limits that Kong does not have: a request body of at most 16 MiB (`body_max` of a route), \
                      5 minutes for an exchange (`limits.request_ms_max`, `timeouts.total`), and 2 s for an \
                      upstream to accept where no connect_timeout is set (`timeouts.connect`)";

impl Importer<'_> {
    /// All files, the configuration first.
    pub(super) fn finish(mut self) -> Imported {
        self.closed_routes();
        let mut text = String::from("# Translated from a decK file of Kong by `bastide import kong`.\n");
        self.listeners(&mut text);
        self.authentication(&mut text);
        let roles = self.roles_yaml();
        section(&mut text, "roles", &roles);
        let services = std::mem::take(&mut self.services);
        section(&mut text, "services", &services);
        text.push_str("\nroutes:\n");
        if self.routes.is_empty() {
            text.push_str("  # Nothing could be translated.\n");
        }
        for made in &self.routes {
            write_route(&mut text, made);
        }
        if !self.policies.is_empty() {
            text.push_str("\npolicies: policies/kong.cedar\n");
            let policies = format!(
                "// Translated from a decK file of Kong by `bastide import kong`.\n\n{}\n",
                self.policies.trim_end()
            );
            self.files
                .push(SideFile { path: PathBuf::from("policies/kong.cedar"), bytes: policies.into_bytes() });
        }
        let text = config::format(Path::new("bastide.yaml"), &text).unwrap_or(text);
        let mut files = vec![SideFile { path: PathBuf::from("bastide.yaml"), bytes: text.into_bytes() }];
        files.append(&mut self.files);
        if self.hosts_preserved > 0 {
            self.next_steps.push(format!(
                "upstreams see the host that the client asked for, as with `preserve_host: true`, which {} of the file did not have",
                counted(self.hosts_preserved, "route")
            ));
        }
        if !self.routes.is_empty() {
            self.next_steps.push(LIMITS.to_owned());
        }
        self.findings.sort_by_key(|finding| (finding.line, finding.column, finding.outcome));
        Imported { files, findings: self.findings, next_steps: self.next_steps }
    }

    /// A `forbid` for each closed route: a forbid wins over everything.
    fn closed_routes(&mut self) {
        let closed: Vec<(String, Vec<String>)> = self
            .routes
            .iter()
            .filter(|made| !made.closed.is_empty())
            .map(|made| (made.name.clone(), made.closed.clone()))
            .collect();
        for (name, reasons) in &closed {
            for reason in reasons {
                let _ = writeln!(self.policies, "// {}", one_line(reason));
            }
            let rule = Permit { principal: "principal".to_owned(), when: String::new() };
            self.policy(&format!("{name}: closed"), "forbid", &rule, Some(name));
        }
        match closed.as_slice() {
            [] => {}
            [(name, _)] => self.next_steps.push(format!(
                "route {name:?} is closed: see to it, then remove the policy @id({}) from policies/kong.cedar",
                cedar(&format!("{name}: closed"))
            )),
            several => {
                let names: Vec<String> = several.iter().map(|(name, _)| format!("{name:?}")).collect();
                self.next_steps.push(format!(
                    "{} routes are closed: see to each, then remove its policy @id(\"NAME: closed\") from policies/kong.cedar: {}",
                    names.len(),
                    names.join(", ")
                ));
            }
        }
    }

    fn listeners(&mut self, text: &mut String) {
        let certificates = self.listener_certificates();
        let mut tls = match certificates.is_empty() {
            true => vec![("local".to_owned(), Yaml::Flag(true))],
            false => vec![("certificates".to_owned(), Yaml::List(certificates))],
        };
        if let Some(path) = self.client_authorities.clone().and_then(|ids| self.authorities(&ids)) {
            let client =
                vec![("ca".to_owned(), Yaml::text(path)), ("mode".to_owned(), Yaml::text("optional"))];
            tls.push(("client".to_owned(), Yaml::Map(client)));
        }
        text.push_str("listen:\n");
        let _ = writeln!(text, "  - address: {}", quoted(&self.listen.http));
        let _ = writeln!(text, "  - address: {}\n    tls:", quoted(&self.listen.https));
        for (key, value) in &tls {
            let _ = write!(text, "      {key}:");
            value.after_key(text, 6);
        }
    }

    fn authentication(&mut self, text: &mut String) {
        let keys = self.consumers.iter().any(|consumer| consumer.keys) || self.asks_for("api_key");
        if self.issuers.is_empty() && !keys {
            return;
        }
        text.push_str("\nauthentication:\n");
        if keys {
            text.push_str("  api_keys: state\n");
        }
        let hosts = self.routes.iter().any(|made| !made.host.is_empty() && !made.host.starts_with("*."));
        if !self.issuers.is_empty() && !hosts {
            text.push_str("  # No route names a host: tokens have to be made for this audience.\n");
            text.push_str("  audience: [ bastide ]\n");
        }
        if !self.issuers.is_empty() {
            text.push_str("  issuers:\n");
        }
        for issuer in &self.issuers {
            let Yaml::Map(keys) = issuer else { continue };
            write_item(text, "    ", keys);
        }
    }

    fn asks_for(&self, proof: &str) -> bool {
        let named = |value: &Yaml| match value {
            Yaml::Text(text) => text == proof,
            Yaml::List(list) => list.contains(&Yaml::text(proof)),
            Yaml::Block(_) | Yaml::Flag(_) | Yaml::Map(_) => false,
        };
        let keys = self.routes.iter().flat_map(|made| &made.keys);
        keys.filter(|(key, _)| key == "authenticate").any(|(_, value)| named(value))
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn section(text: &mut String, name: &str, entries: &[(String, Yaml)]) {
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{name}:");
    for (key, value) in entries {
        let _ = write!(text, "  {}:", quoted(key));
        match value {
            Yaml::Map(keys) if name == "services" => {
                text.push('\n');
                for (key, value) in keys {
                    let _ = write!(text, "    {key}:");
                    value.after_key(text, 4);
                }
            }
            other => other.after_key(text, 2),
        }
    }
}

/// An item of a block list.
fn write_item(text: &mut String, indent: &str, keys: &[(String, Yaml)]) {
    for (number, (key, value)) in keys.iter().enumerate() {
        let _ = write!(text, "{indent}{}{key}:", if number == 0 { "- " } else { "  " });
        value.after_key(text, indent.len() + 2);
    }
}

fn write_route(text: &mut String, made: &Made) {
    for reason in &made.closed {
        let _ = writeln!(text, "  # CLOSED (line {} of the source): {}", made.line, one_line(reason));
    }
    let mut keys =
        vec![("name".to_owned(), Yaml::text(made.name.clone())), ("match".to_owned(), matches(made))];
    keys.extend(made.keys.iter().cloned());
    write_item(text, "  ", &keys);
}

fn matches(made: &Made) -> Yaml {
    if made.headers.is_empty() {
        let methods = match made.methods.is_empty() {
            true => String::new(),
            false => format!("{} ", made.methods.join(",")),
        };
        return Yaml::text(format!("{methods}{}{}", made.host, made.path));
    }
    let mut keys = Vec::new();
    if !made.host.is_empty() {
        keys.push(("host".to_owned(), Yaml::text(made.host.clone())));
    }
    keys.push(("path".to_owned(), Yaml::text(made.path.clone())));
    if !made.methods.is_empty() {
        keys.push(("methods".to_owned(), Yaml::texts(made.methods.clone())));
    }
    let headers = made.headers.iter().map(|(name, value)| (name.clone(), Yaml::text(value.clone())));
    keys.push(("headers".to_owned(), Yaml::Map(headers.collect())));
    Yaml::Map(keys)
}

//! From configured names to what policies may name, and policy's own verdict.

use std::path::Path;

use policy::{Access, Vocabulary};

use super::fault::{Fault, Severity};
use super::{Allow, Configuration, HostMatch};

impl Configuration {
    /// Everything that policies may name, for [`policy::load()`].
    pub fn vocabulary(&self) -> Vocabulary {
        let mut vocabulary = self.names();
        if self.is_administered() {
            super::administration::extend(&mut vocabulary);
        }
        vocabulary
    }

    /// What the administration is decided by: the same names and texts, with its resources and
    /// its built-in policy where there are no realms too. API keys and revocations are
    /// administered everywhere.
    pub fn administration(&self) -> (Vocabulary, Vec<policy::Source>) {
        let mut vocabulary = self.names();
        super::administration::extend(&mut vocabulary);
        let mut sources = self.policies.sources.clone();
        sources.push(super::administration::built_in());
        (vocabulary, sources)
    }

    fn names(&self) -> Vocabulary {
        Vocabulary {
            roles: self.roles.iter().map(role).collect(),
            routes: self.routes.iter().map(|route| self.vocabulary_route(route)).collect(),
            upstreams: self.services.iter().map(|service| service.name.clone()).collect(),
            services: None,
            clients: None,
            api_keys: None,
            claims: self.authentication.claims.clone(),
            headers: self.policies.headers.clone(),
        }
    }

    fn vocabulary_route(&self, route: &super::Route) -> policy::Route {
        let service = self.services.get(route.service);
        policy::Route {
            name: route.name.clone(),
            service: service.map(|service| service.name.clone()).unwrap_or_default(),
            host: match &route.matches.host {
                HostMatch::Any => None,
                HostMatch::Exact(host) => Some(host.clone()),
                HostMatch::Wildcard(host) => Some(format!("*.{host}")),
            },
            parameters: route.matches.parameters().map(str::to_owned).collect(),
            methods: route.matches.methods.iter().map(ToString::to_string).collect(),
            access: match route.allow {
                Allow::Policy => Access::Policy,
                Allow::Authenticated => Access::Authenticated,
                Allow::Anyone => Access::Public,
            },
            dry_run: route.dry_run,
            position: route.position.clone(),
        }
    }
}

fn role(role: &super::Role) -> policy::Role {
    let members = role.members.iter();
    policy::Role {
        name: role.name.clone(),
        includes: role.includes.clone(),
        members: members.map(|m| policy::Member { kind: m.kind, id: m.id.clone() }).collect(),
        position: role.position.clone(),
    }
}

/// What policy finds when it checks the texts against the names.
pub(super) fn judge(configuration: &Configuration) -> Vec<Fault> {
    match policy::load(configuration.vocabulary(), &configuration.policy_sources(), 0) {
        Ok(policies) => {
            let idle = policies.warnings().iter().map(|found| fault(found, &configuration.file));
            idle.chain(super::administration::permitted_unnamed(configuration, &policies)).collect()
        }
        Err(faults) => {
            let mut faults: Vec<Fault> =
                faults.iter().map(|found| fault(found, &configuration.file)).collect();
            if !faults.iter().any(|fault| fault.severity == Severity::Fault) {
                faults.push(Fault::whole_file(&configuration.file, "the policies were refused".to_owned()));
            }
            faults
        }
    }
}

fn fault(fault: &policy::Fault, main: &Path) -> Fault {
    // A declaration's position comes back as the text that it was given as.
    let declared = position(&fault.source_name).filter(|_| fault.line == 0);
    let (file, line, column) = declared.unwrap_or((&fault.source_name, fault.line, fault.column));
    let file = if file.is_empty() { main } else { Path::new(file) };
    Fault {
        severity: match fault.severity {
            policy::Severity::Error => Severity::Fault,
            policy::Severity::Warning => Severity::Warning,
        },
        file: file.into(),
        line: line.max(1),
        column: column.max(1),
        message: fault.message.clone(),
        suggestion: None,
        count: 1,
    }
}

/// File, line and column of `file:line:column`.
pub(super) fn position(text: &str) -> Option<(&str, u32, u32)> {
    let (rest, column) = text.rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some((file, line.parse().ok()?, column.parse().ok()?))
}

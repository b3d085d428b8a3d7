//! What policies may name of the administration: its resources, as routes of one service,
//! and the one policy that is built in.

use std::path::Path;

use policy::{Access, Policies, Source, Vocabulary};

use super::vocabulary::position;
use super::{Configuration, Fault, Severity};

/// The service of the administration, for routes that lead to it and for policies.
pub const ADMINISTRATION: &str = "administration";
/// What messages and records call the policy that is built in.
const BUILT_IN: &str = "administration (built in)";
/// Whoever holds the state folder of the process can change everything in it anyway. A
/// `forbid` counts all the same.
const LOCAL: &str = "\
@id(\"local-administration\")
permit (principal, action, resource)
when { resource.service == \"administration\" && context.credential == \"local\" };
";

/// A part of the administration that policies permit or forbid by itself:
/// `Route::"administration:users"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Realms and their settings.
    Realms,
    /// Users, their passwords and factors, and what describes them.
    Users,
    /// The hashes of passwords and of clients' secrets, to be read.
    Hashes,
    /// Roles, and who has them.
    Roles,
    /// Groups, and who is in them.
    Groups,
    /// Sessions and grants.
    Sessions,
    /// Clients and their secrets.
    Clients,
    /// What lets a client do more than its users allow it to.
    Trust,
    /// Signing keys.
    Keys,
    /// API keys of the gateway.
    ApiKeys,
    /// What is revoked at the gateway.
    Revocations,
    /// The workloads of the mesh.
    Workloads,
    /// The nodes of the mesh with an agent.
    Nodes,
    /// The authorities of the mesh.
    Authorities,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Realms,
        Self::Users,
        Self::Hashes,
        Self::Roles,
        Self::Groups,
        Self::Sessions,
        Self::Clients,
        Self::Trust,
        Self::Keys,
        Self::ApiKeys,
        Self::Revocations,
        Self::Workloads,
        Self::Nodes,
        Self::Authorities,
    ];

    /// What policies can read of a call, as `resource.params`.
    pub const PARAMETERS: [&str; 13] = [
        "realm",
        "user",
        "role",
        "group",
        "session",
        "grant",
        "factor",
        "client",
        "key",
        "name",
        "workload",
        "node",
        "authority",
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Realms => "realms",
            Self::Users => "users",
            Self::Hashes => "hashes",
            Self::Roles => "roles",
            Self::Groups => "groups",
            Self::Sessions => "sessions",
            Self::Clients => "clients",
            Self::Trust => "trust",
            Self::Keys => "keys",
            Self::ApiKeys => "api-keys",
            Self::Revocations => "revocations",
            Self::Workloads => "workloads",
            Self::Nodes => "nodes",
            Self::Authorities => "authorities",
        }
    }

    /// What policies call it.
    pub fn route(self) -> String {
        format!("{ADMINISTRATION}:{}", self.name())
    }
}

/// Adds the administration to what policies may name, behind the configured routes.
pub(super) fn extend(vocabulary: &mut Vocabulary) {
    vocabulary.routes.extend(Area::ALL.into_iter().map(|area| policy::Route {
        name: area.route(),
        service: ADMINISTRATION.to_owned(),
        host: None,
        parameters: Area::PARAMETERS.map(str::to_owned).to_vec(),
        methods: ["GET", "PUT", "POST", "DELETE"].map(str::to_owned).to_vec(),
        access: Access::Policy,
        dry_run: false,
        position: String::new(),
    }));
}

/// The policy that is built in.
pub(super) fn built_in() -> Source {
    Source { name: BUILT_IN.to_owned(), text: LOCAL.to_owned() }
}

/// Policies that permit administration without a word about it, where a route leads there:
/// whoever may everything may that too.
pub(super) fn permitted_unnamed<'a>(
    configuration: &'a Configuration,
    policies: &'a Policies,
) -> impl Iterator<Item = Fault> + 'a {
    let services = &configuration.services;
    let leads_there = |route: &super::Route| {
        services.get(route.service).is_some_and(|service| service.name == ADMINISTRATION)
    };
    let reachable = configuration.is_administered() && configuration.routes.iter().any(leads_there);
    policies.permits_everywhere().filter(move |_| reachable).map(|(id, place)| {
        let (file, line, column) = position(&place).unwrap_or((&place, 1, 1));
        Fault {
            severity: Severity::Warning,
            file: Path::new(file).to_owned(),
            line,
            column,
            message: format!(
                "policy {id:?} is about every resource, and so permits all of the administration too"
            ),
            suggestion: Some(
                "add `when { resource.service != \"administration\" }`, and permit administration in a policy that names it"
                    .to_owned(),
            ),
            count: 1,
        }
    })
}

//! The names that policies may use: everything the configuration declares, as plain
//! data. The binary fills it; [`crate::load`] checks every literal against it.

use std::collections::BTreeMap;

use model::{ClaimType, PrincipalKind};
use serde::{Deserialize, Serialize};

/// What is configured, as far as policies can name it. Serialised as part of a
/// retained generation, so old snapshots can be explained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vocabulary {
    /// Declared roles. A policy that names any other is refused.
    pub roles: Vec<Role>,
    /// Routes, in the order of the snapshot: [`crate::Subject::route`] indexes this.
    pub routes: Vec<Route>,
    /// Upstream services by name: what `resource.service` may be compared with.
    pub upstreams: Vec<String>,
    /// The SPIFFE IDs that `Service::"…"` may name. `None`: any valid SPIFFE ID.
    pub services: Option<Vec<String>>,
    /// The ids that `Client::"…"` may name. `None`: not known here, not checked.
    pub clients: Option<Vec<String>>,
    /// The ids that `ApiKey::"…"` may name. `None`: not known here, not checked.
    pub api_keys: Option<Vec<String>>,
    /// Claims and key attributes that policies may read, with their types.
    pub claims: BTreeMap<String, ClaimType>,
    /// Header names that policies may read, lower case.
    pub headers: Vec<String>,
}

/// A declared role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name: `Role::"name"`.
    pub name: String,
    /// Roles that its holder holds too.
    #[serde(default)]
    pub includes: Vec<String>,
    /// Principals that hold it by configuration, besides those whose credential
    /// says so.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Where it is declared, `file:line:col`, for messages; may be empty.
    #[serde(default)]
    pub position: String,
}

/// A principal named by the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its kind.
    pub kind: PrincipalKind,
    /// Its id within the kind.
    pub id: String,
}

/// A route, as far as policies can name or read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name: `Route::"name"`.
    pub name: String,
    /// The upstream service's name.
    pub service: String,
    /// The host pattern, when it has one.
    #[serde(default)]
    pub host: Option<String>,
    /// The names of its path parameters.
    #[serde(default)]
    pub parameters: Vec<String>,
    /// The methods that it takes; empty: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Who needs no `permit`.
    #[serde(default)]
    pub access: Access,
    /// Whether what policies say is only taken down: see [`crate::Permit::would_deny`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Where it is declared, `file:line:col`, for messages; may be empty.
    #[serde(default)]
    pub position: String,
}

/// Who may use a route when no policy says anything. A `forbid` wins over each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nobody: a policy must permit.
    #[default]
    Policy,
    /// Everybody who proved who they are.
    Authenticated,
    /// Everybody.
    Public,
}

/// A policy file: its name is what messages say, its text is what is parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Path as the operator wrote it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

//! The configuration language: one YAML file becomes one checked [`Configuration`].
//!
//! Short and long forms are gone when [`Configuration`] exists: every duration is a
//! [`Duration`], every size a number of bytes, every host lower case, every reference
//! points at something that is there, every default is filled in.

use std::path::{Path, PathBuf};
use std::time::Duration;

mod addresses;
mod audit;
mod authentication;
mod fault;
mod files;
mod identity;
mod listen;
mod matching;
mod policies;
mod rates;
mod roles;
mod routes;
mod services;

pub use addresses::Addresses;
pub use audit::{Audit, WhenFull};
pub use authentication::{Algorithm, Authentication, CertificatePrincipals, ClaimKind, Issuer, KeySource};
pub use fault::{Fault, Severity};
pub use files::{Disk, Files};
pub use identity::Identity;
pub use listen::{
    Admin, CertificateFiles, Certificates, ClientAuthorities, ClientCertificates, Listener, ListenerTls,
    TlsVersion,
};
pub use matching::{HostMatch, Match};
pub use policies::{Policies, PolicySource};
pub use rates::{LimitBy, RateLimit};
pub use roles::{Member, Role};
pub use routes::{Allow, Cors, HeaderRules, Origins, Proof, Route, SecurityHeaders};
pub use services::{Ejection, Endpoint, Protocol, Service, Timeouts, UpstreamTls};

/// A whole configuration, resolved and checked. Plain values: cloning it or comparing
/// two of them is all it can do. Relative paths are already joined with the folder of
/// the file that names them.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// The main file.
    pub file: PathBuf,
    /// Every file that was read or looked at: the main file, includes, `${file:…}`,
    /// certificates, keys, address lists, policies. A change of any of them is a
    /// reason to load again. Sorted, no duplicates.
    pub files: Vec<PathBuf>,
    /// Every glob whose matches count (`include`, `policies`): a new file that
    /// matches is a reason to load again too.
    pub globs: Vec<PathBuf>,
    /// The state folder. Bastide keeps it at mode 0700.
    pub state: PathBuf,
    /// Data-plane cores; `None`: all.
    pub workers: Option<usize>,
    /// The listeners, at least one.
    pub listeners: Vec<Listener>,
    /// The admin listener: `/metrics`, `/healthz`, `/readyz`.
    pub admin: Admin,
    /// Who may prove what to whom.
    pub authentication: Authentication,
    /// Declared roles, by name.
    pub roles: Vec<Role>,
    /// Upstream services, by name.
    pub services: Vec<Service>,
    /// Routes, in the order of the file. The position is the route's number.
    pub routes: Vec<Route>,
    /// Cedar policies and what they may read.
    pub policies: Policies,
    /// What upstreams are told about the principal.
    pub identity: Identity,
    /// Settings of `limits:`, by key in the key's own unit (bytes, a count,
    /// milliseconds), only those that were set.
    pub limits: Vec<(String, u64)>,
    /// Addresses that may or may not connect, before any route is looked at.
    pub addresses: Addresses,
    /// Response headers that every answer gets; `None` when
    /// `danger_no_security_headers: true`.
    pub security_headers: Option<SecurityHeaders>,
    /// The audit log.
    pub audit: Audit,
    /// What is allowed but unwise. Never faults.
    pub warnings: Vec<Fault>,
}

impl Configuration {
    /// The policies' names and texts, for `policy::load`.
    pub fn policy_sources(&self) -> &[PolicySource] {
        &self.policies.sources
    }

    /// The service with this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }
}

/// Reads `path` and everything it names.
///
/// # Errors
/// Every fault that was found, in the order of files and lines; never empty.
pub fn load(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &dyn Files,
) -> Result<Configuration, Vec<Fault>> {
    let _ = (path, environment, files, Duration::ZERO);
    Err(vec![Fault::whole_file(path, "the configuration language is not read yet".to_owned())])
}

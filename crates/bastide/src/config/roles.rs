//! `roles:`: the declared roles and their hierarchy.

use model::PrincipalKind;

/// One declared role.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Roles that its holders have too. No circles.
    pub includes: Vec<String>,
    /// Principals that have it by configuration.
    pub members: Vec<Member>,
}

/// A principal named in the configuration: `User:bob`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its kind.
    pub kind: PrincipalKind,
    /// Its id within the kind.
    pub id: String,
}

//! Whoever can log in as somebody has their roles: what gives access as them takes the permit that
//! giving those roles does. Policies that name somebody give them more than roles say: access as them
//! takes the permit to give whatever role. So does writing what policies read of somebody in a claim.

use std::collections::BTreeSet;

use ::mesh::workload::Workload;
use identity::claim::{ClaimRule, Source};
use identity::{Client, Realm, User};
use model::PrincipalKind;

use crate::admin::problem::Problem;
use crate::admin::serve::Call;
use crate::config::Area;

/// A principal that holds roles, or is about to.
pub(super) struct Holder<'a> {
    kind: PrincipalKind,
    /// The parameter that names it, and its value.
    named: (&'static str, &'a str),
    roles: BTreeSet<&'a str>,
    /// Whether policies name it.
    is_named: bool,
}

impl<'a> Holder<'a> {
    /// A user, with the roles of their record and those that the configuration gives them. A group
    /// that is called like a declared role is one: a gateway that reads roles from `groups` makes no
    /// difference between them.
    pub(super) fn user(asked: &'a Call, realm: &Realm, user: &'a User) -> Self {
        let declared = asked.view.roles();
        let groups = user.groups.iter().filter(|group| declared.contains(group.as_str()));
        let own = user.roles.iter().chain(groups).map(String::as_str);
        Self::of_realm(asked, realm, PrincipalKind::User, ("user", &user.id), own)
    }

    /// A client, likewise.
    pub(super) fn client(asked: &'a Call, realm: &Realm, client: &'a Client) -> Self {
        let own = client.roles.iter().map(String::as_str);
        Self::of_realm(asked, realm, PrincipalKind::Client, ("client", &client.id), own)
    }

    /// The principal of an API key.
    pub(super) fn api_key(asked: &'a Call, name: &'a str, own: &'a [String]) -> Self {
        let mut holder = Self {
            kind: PrincipalKind::ApiKey,
            named: ("name", name),
            roles: own.iter().map(String::as_str).collect(),
            is_named: false,
        };
        holder.add_configured(asked, "", name);
        holder
    }

    /// A workload of the mesh: whoever registers it says which process is it.
    pub(super) fn workload(asked: &'a Call, workload: &'a Workload) -> Self {
        let named = ("workload", workload.name.as_str());
        let mut holder =
            Self { kind: PrincipalKind::Service, named, roles: BTreeSet::new(), is_named: false };
        holder.add_configured(asked, "", workload.id.as_str());
        holder
    }

    fn of_realm(
        asked: &'a Call,
        realm: &Realm,
        kind: PrincipalKind,
        named: (&'static str, &'a str),
        own: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut holder = Self { kind, named, roles: own.collect(), is_named: false };
        for issuer in &asked.view.configuration.authentication.issuers {
            if issuer.issuer == realm.issuer() {
                holder.add_configured(asked, &issuer.prefix, named.1);
            }
        }
        holder
    }

    /// Adds what the configuration gives the principal of this id: roles by `members`, and whatever
    /// policies do that name it.
    fn add_configured(&mut self, asked: &'a Call, prefix: &str, id: &str) {
        let kind = self.kind;
        self.is_named |= asked.view.policies.naming(kind, &format!("{prefix}{id}")).is_some();
        for role in &asked.view.configuration.roles {
            let is_it = |id_there: &str| id_there.strip_prefix(prefix) == Some(id);
            if role.members.iter().any(|member| member.kind == kind && is_it(&member.id)) {
                self.roles.insert(&role.name);
            }
        }
    }

    /// Asks for the permit to give each of the roles, and to give any where policies name it.
    ///
    /// # Errors
    /// The policies do not permit one of them.
    pub(super) fn check(&self, asked: &Call) -> Result<(), Problem> {
        if self.is_named {
            asked.also(Area::Roles, "PUT", &[self.named])?;
        }
        self.roles.iter().try_for_each(|role| asked.also(Area::Roles, "PUT", &[self.named, ("role", role)]))
    }
}

/// Asks for the permit to give whatever role where a claim that policies may read shows something else
/// of a principal than before. `named`: the parameter that names it, and its value.
///
/// # Errors
/// The policies do not permit it.
pub(super) fn check_claims(
    asked: &Call,
    realm: &Realm,
    named: (&'static str, &str),
    changes: impl Fn(&ClaimRule) -> bool,
) -> Result<(), Problem> {
    let authentication = &asked.view.configuration.authentication;
    let is_issuer = authentication.issuers.iter().any(|issuer| issuer.issuer == realm.issuer());
    let is_read = |rule: &&ClaimRule| {
        let within = |path: &String| {
            path.strip_prefix(&rule.claim).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        authentication.claims.keys().any(within)
    };
    // Roles and groups take permits of their own; the rest nobody writes.
    let is_written = |rule: &&ClaimRule| {
        !matches!(rule.from, Source::Roles | Source::Groups | Source::UpdatedAt | Source::Fixed(_))
    };
    let mut rules = realm.settings().claims.iter().filter(is_written).filter(is_read);
    match is_issuer && rules.any(changes) {
        true => asked.also(Area::Roles, "PUT", &[named]),
        false => Ok(()),
    }
}

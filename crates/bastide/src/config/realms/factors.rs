//! `realms.NAME.factors`: who is asked for more than a password.
//!
//! INVARIANT: whom policies hold to be in a role is asked for what the role needs, whether they
//! have it by its own name, by a role that includes it, as one of its `members`, or by a group that is
//! called like it. Nothing else gives roles to users of a realm: see `own_roles`.

use std::collections::BTreeMap;

use identity::RealmSettings;
use model::PrincipalKind;

use super::super::Issuer;
use super::super::decoder::{Decoder, Table};
use super::super::roles::{Role, reached};
use super::Realm;

impl Decoder<'_> {
    pub(super) fn factor_rules(&mut self, table: &Table<'_>, roles: &[Role], settings: &mut RealmSettings) {
        if let Some(node) = table.get("ask") {
            let words = [("enrolled", true), ("needed", false)];
            let asked = self.word(node, "way of asking", &words);
            settings.factors.ask_enrolled = asked.unwrap_or(true);
        }
        let Some(node) = table.get("roles") else { return };
        for (role, node) in self.named(node, "a map of roles") {
            // Nobody has a role that is not declared: a slip of the pen would ask nobody.
            let declared = roles.iter().map(|role| role.name.as_str());
            if !declared.clone().any(|name| name == role.text) {
                self.unknown(role.at, "role", &role.text, declared);
            }
            let Some(class) = self.text(node) else { continue };
            if let Some(why) = settings.class_fault(class) {
                self.fault(node.at, why);
                continue;
            }
            settings.factors.roles.insert(role.text.clone(), class.to_owned());
        }
        let mut all = settings.factors.roles.clone();
        for role in roles {
            for class in reached(roles, role).iter().filter_map(|name| settings.factors.roles.get(*name)) {
                require(settings, &mut all, &role.name, class);
            }
        }
        settings.factors.roles = all;
    }
}

/// What roles need of those whom the configuration makes their members, by `sub`: what a member is
/// called without the prefix of the issuer that the realm is at the gateway.
pub(in crate::config) fn of_members(roles: &[Role], issuers: &[Issuer], realms: &mut [Realm]) {
    for realm in realms {
        let settings = &mut realm.settings;
        let prefixes = issuers.iter().filter(|issuer| issuer.issuer == settings.issuer);
        let prefixes: Vec<&str> = prefixes.map(|issuer| issuer.prefix.as_str()).collect();
        let mut users = BTreeMap::new();
        for role in roles {
            let Some(class) = settings.factors.roles.get(&role.name) else { continue };
            let people = role.members.iter().filter(|member| member.kind == PrincipalKind::User);
            for id in
                people.flat_map(|member| prefixes.iter().filter_map(|prefix| member.id.strip_prefix(prefix)))
            {
                require(settings, &mut users, id, class);
            }
        }
        settings.factors.users = users;
    }
}

/// Asks one of at least this class: of two the stronger.
fn require(settings: &RealmSettings, of: &mut BTreeMap<String, String>, one: &str, class: &str) {
    let strength = |class: &str| settings.acr_levels.iter().position(|level| level.name == class);
    if of.get(one).is_none_or(|known| strength(known) < strength(class)) {
        of.insert(one.to_owned(), class.to_owned());
    }
}

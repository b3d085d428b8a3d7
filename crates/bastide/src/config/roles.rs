//! `roles:`: the declared roles and their hierarchy.

use model::PrincipalKind;
use model::suggestion::nearest;

use super::decoder::Decoder;
use super::node::{Name, Node};
use super::schema::{Section, key};
use super::values::{self, Unfit};

/// One declared role.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Roles that its holders have too. No circles.
    pub includes: Vec<String>,
    /// Principals that have it by configuration.
    pub members: Vec<Member>,
    /// Where it is declared: `file:line:column`.
    pub position: String,
}

/// A principal named in the configuration: `User:bob`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its kind.
    pub kind: PrincipalKind,
    /// Its id within the kind.
    pub id: String,
}

pub(super) const ROLE: Section = Section {
    path: "roles.NAME",
    about: "One declared role. A policy that names any other is refused.",
    short: "nothing: `customer: {}` or `customer:`",
    keys: &[
        key("includes", "list of role names", "none", "Roles that its holders have too."),
        key(
            "members",
            "list of `User:ID`, `Service:ID`, `Client:ID`, `ApiKey:ID`",
            "none",
            "Principals that have it by configuration, in addition to those whose token says so.",
        ),
    ],
};

const KINDS: [PrincipalKind; 4] =
    [PrincipalKind::User, PrincipalKind::Service, PrincipalKind::Client, PrincipalKind::ApiKey];

fn member(text: &str) -> Result<Member, Unfit> {
    const EXPECTED: &str = "a member such as User:alice, Service:spiffe://…, Client:… or ApiKey:…";
    let (kind, id) = text.split_once(':').unwrap_or(("", text));
    match KINDS.into_iter().find(|known| known.name() == kind) {
        Some(kind) if !id.is_empty() && !id.starts_with(':') => Ok(Member { kind, id: id.to_owned() }),
        _ => {
            // As policies and answers write it, `User::"alice"`: that would be an id nobody has.
            let quoted = id.strip_prefix(':').map(|rest| rest.trim_matches('"'));
            let near = nearest(kind, KINDS.map(PrincipalKind::name));
            let instead = near.map(|kind| format!("{kind}:{}", quoted.unwrap_or(id)));
            Err(Unfit { expected: EXPECTED, instead })
        }
    }
}

impl Decoder<'_> {
    /// `roles:`
    pub(super) fn roles(&mut self, node: Option<&Node>) -> Vec<Role> {
        let Some(node) = node else { return Vec::new() };
        let entries = self.named(node, "a map of role names");
        let mut roles = Vec::new();
        for (name, node) in entries {
            if let Err(unfit) = values::name(&name.text) {
                self.fault(name.at, format!("expected {}, found {:?}", unfit.expected, name.text));
            }
            let position = self.position(name.at);
            let mut role =
                Role { name: name.text.clone(), includes: Vec::new(), members: Vec::new(), position };
            if let Some(table) = self.optional_table(node, &ROLE) {
                for item in table.get("includes").map_or(&[][..], Node::items) {
                    let Some(text) = self.text(item) else { continue };
                    if entries.iter().any(|(known, _)| known.text == text) {
                        role.includes.push(text.to_owned());
                    } else {
                        let known = entries.iter().map(|(known, _)| known.text.as_str());
                        self.unknown_value(item, "role", known);
                    }
                }
                role.members = table.get("members").map_or(Vec::new(), |node| self.values(node, member));
            }
            roles.push(role);
        }
        self.no_circles(&roles, entries);
        roles
    }

    /// A role that includes itself, over whatever way, means nothing.
    fn no_circles(&mut self, roles: &[Role], entries: &[(Name, Node)]) {
        for (role, (name, _)) in roles.iter().zip(entries) {
            if reached(roles, role).contains(&role.name.as_str()) {
                self.fault(name.at, format!("role {:?} includes itself", role.name));
            }
        }
    }
}

/// The roles that the holders of a role have too, over whatever way.
pub(super) fn reached<'r>(roles: &'r [Role], role: &'r Role) -> Vec<&'r str> {
    let mut reached: Vec<&str> = role.includes.iter().map(String::as_str).collect();
    let mut next = 0;
    while let Some(current) = reached.get(next).copied() {
        next += 1;
        for role in roles.iter().filter(|role| role.name == current) {
            for included in &role.includes {
                if !reached.contains(&included.as_str()) {
                    reached.push(included);
                }
            }
        }
    }
    reached
}

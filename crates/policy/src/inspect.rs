//! What a policy names and reads. Cedar's validator checks types; it does not know
//! which entities exist, and takes a `has` of an unknown attribute for plain false.
//! Both are typing errors here.

use cedar_policy_core::ast::{
    BinaryOp, EntityType, EntityUID, Expr, ExprKind, Literal, PrincipalOrResourceConstraint, Var,
};
use cedar_policy_core::parser::Loc;
use model::suggestion::suggestion;
use model::{PrincipalKind, SpiffeId};
use smol_str::SmolStr;

use crate::fault::{Fault, Kind, Place};
use crate::names::{Bits, Names, kind_of};
use crate::schema::{ANONYMOUS, ENTITY_TYPES, Leaf, READ, Root, Schema, WRITE};
use crate::vocabulary::Vocabulary;

/// What a condition reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    /// Leaves by number; past the leaves, the groups of [`Schema::GROUPS`].
    pub(crate) leaves: Bits,
    /// Roles that the principal is compared with.
    pub(crate) roles: Bits,
    /// Whether the action's groups are asked for.
    pub(crate) action_groups: bool,
}

impl Reads {
    pub(crate) fn extend(&mut self, other: &Self) {
        self.leaves.extend(&other.leaves);
        self.roles.extend(&other.roles);
        self.action_groups |= other.action_groups;
    }
}

/// An attribute path from a variable: `resource.params.owner`.
pub(crate) fn chain(expr: &Expr) -> Option<(Var, Vec<&SmolStr>)> {
    match expr.expr_kind() {
        ExprKind::Var(var) => Some((*var, Vec::new())),
        ExprKind::GetAttr { expr, attr } => {
            let (var, mut path) = chain(expr)?;
            path.push(attr);
            Some((var, path))
        }
        _ => None,
    }
}

pub(crate) const fn root(var: Var) -> Option<Root> {
    match var {
        Var::Principal => Some(Root::Principal),
        Var::Resource => Some(Root::Resource),
        Var::Context => Some(Root::Context),
        Var::Action => None,
    }
}

/// Walks one policy.
pub(crate) struct Inspector<'a> {
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) names: &'a Names,
    pub(crate) schema: &'a Schema,
    pub(crate) place: &'a Place<'a>,
    pub(crate) faults: &'a mut Vec<Fault>,
    /// Where to point when a node has no position of its own.
    pub(crate) start: usize,
}

impl Inspector<'_> {
    fn fault(&mut self, kind: Kind, loc: Option<&Loc>, message: String) {
        let offset = loc.map_or(self.start, Loc::start);
        self.faults.push(Fault::at(kind, self.place, offset, message));
    }

    /// The entities and types of a principal or resource scope.
    pub(crate) fn scope(&mut self, constraint: &PrincipalOrResourceConstraint) {
        let uid = constraint.get_euid();
        if let Some(uid) = uid {
            self.entity(uid, uid.loc());
        }
        let said = uid.map(|uid| uid.entity_type());
        for ty in constraint.iter_entity_type_names().filter(|ty| Some(*ty) != said) {
            self.entity_type(ty, ty.loc());
        }
    }

    /// An entity literal: what it names must be configured.
    pub(crate) fn entity(&mut self, uid: &EntityUID, loc: Option<&Loc>) {
        let loc = uid.loc().or(loc);
        let ty = uid.entity_type().to_string();
        let id: &str = uid.eid().as_ref();
        let vocabulary = self.vocabulary;
        let listed = |list: &Option<Vec<String>>, what: &str, plural: &str| {
            let list = list.as_ref()?;
            (!list.iter().any(|known| known == id)).then(|| unknown(what, id, plural, list))
        };
        let message = match ty.as_str() {
            "User" => None,
            "Anonymous" => (id != ANONYMOUS)
                .then(|| format!("unknown {ty}::{id:?}: the one who proved nothing is {ty}::{ANONYMOUS:?}")),
            "Service" => match id.parse::<SpiffeId>() {
                Err(error) => Some(format!("Service::{id:?} is not a SPIFFE ID: {error}")),
                Ok(_) => listed(&vocabulary.services, "service", "services"),
            },
            "Client" => listed(&vocabulary.clients, "client", "clients"),
            "ApiKey" => listed(&vocabulary.api_keys, "API key", "API keys"),
            "Role" => self.names.role(id).is_none().then(|| {
                let names: Vec<String> = vocabulary.roles.iter().map(|role| role.name.clone()).collect();
                unknown("role", id, "roles", &names)
            }),
            "Route" => self.names.route(id).is_none().then(|| {
                let names: Vec<String> = vocabulary.routes.iter().map(|route| route.name.clone()).collect();
                unknown("route", id, "routes", &names)
            }),
            "Action" => self.action(id),
            _ => {
                self.entity_type(uid.entity_type(), loc);
                None
            }
        };
        if let Some(message) = message {
            self.fault(Kind::Unknown, loc, message);
        }
    }

    fn action(&self, id: &str) -> Option<String> {
        let known = || self.schema.actions.iter().map(|a| a.name.clone()).chain([READ.into(), WRITE.into()]);
        (!known().any(|name| name == id))
            .then(|| unknown("action", id, "actions", &known().collect::<Vec<_>>()))
    }

    fn entity_type(&mut self, ty: &EntityType, loc: Option<&Loc>) {
        let name = ty.to_string();
        if !ENTITY_TYPES.contains(&name.as_str()) {
            let message = format!(
                "unknown entity type {name}{}: the types are {}",
                suggestion(&name, ENTITY_TYPES),
                ENTITY_TYPES.join(", ")
            );
            self.fault(Kind::Unknown, ty.loc().or(loc), message);
        }
    }

    /// A condition, or a part of one.
    pub(crate) fn condition(&mut self, expr: &Expr) -> Reads {
        let mut reads = Reads::default();
        self.walk(expr, &mut reads);
        reads
    }

    fn walk(&mut self, expr: &Expr, reads: &mut Reads) {
        let loc = expr.source_loc();
        match expr.expr_kind() {
            ExprKind::Lit(Literal::EntityUID(uid)) => self.entity(uid, loc),
            ExprKind::Lit(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
            ExprKind::Var(_) => self.read(expr, &[], loc, reads),
            ExprKind::GetAttr { expr: base, attr } => self.read(base, &[attr], loc, reads),
            ExprKind::HasAttr { expr: base, attr } => match self.presence_of_user(base, attr) {
                Some(group) => reads.leaves.insert(group),
                None => self.read(base, &[attr], loc, reads),
            },
            ExprKind::ExtHasAttr { expr: base, attrs } => {
                // Each record on the way must be there before the last is asked for.
                let attrs: Vec<&SmolStr> = attrs.iter().collect();
                self.read(base, &attrs, loc, reads);
            }
            ExprKind::If { test_expr, then_expr, else_expr } => {
                self.walk(test_expr, reads);
                self.walk(then_expr, reads);
                self.walk(else_expr, reads);
            }
            ExprKind::And { left, right } | ExprKind::Or { left, right } => {
                self.walk(left, reads);
                self.walk(right, reads);
            }
            ExprKind::UnaryApp { arg, .. } => self.walk(arg, reads),
            ExprKind::BinaryApp { op, arg1, arg2 } => self.binary(*op, arg1, arg2, loc, reads),
            ExprKind::ExtensionFunctionApp { args, .. } => args.iter().for_each(|arg| self.walk(arg, reads)),
            ExprKind::Like { expr, .. } => self.walk(expr, reads),
            ExprKind::Is { expr, entity_type } => {
                self.entity_type(entity_type, loc);
                self.walk(expr, reads);
            }
            ExprKind::Set(elements) => elements.iter().for_each(|element| self.walk(element, reads)),
            ExprKind::Record(fields) => fields.values().for_each(|field| self.walk(field, reads)),
        }
    }

    /// The number of the end user's record, where only that is asked: whether there is one. Each
    /// record of a decision says it, so nothing of what lies below is read for it.
    fn presence_of_user(&self, base: &Expr, attribute: &SmolStr) -> Option<usize> {
        let is_context = matches!(base.expr_kind(), ExprKind::Var(Var::Context));
        let group = Schema::group(Root::Context, attribute).filter(|_| is_context && attribute == "user")?;
        Some(self.schema.leaves.len() + group)
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr, loc: Option<&Loc>, reads: &mut Reads) {
        match op {
            BinaryOp::In => self.membership(left, right, loc, reads),
            BinaryOp::GetTag | BinaryOp::HasTag => {
                self.fault(
                    Kind::Unsupported,
                    loc,
                    "no entity has tags: read an attribute instead".to_owned(),
                );
            }
            BinaryOp::Eq => {
                self.closed_values(left, right);
                self.closed_values(right, left);
            }
            BinaryOp::Contains => self.closed_values(right, left),
            BinaryOp::ContainsAll
            | BinaryOp::ContainsAny
            | BinaryOp::Less
            | BinaryOp::LessEq
            | BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul => {}
        }
        self.walk(left, reads);
        self.walk(right, reads);
    }

    /// `in` looks into the entity store, and a request brings only its own entities:
    /// so the left side is one of them, and the right side literal.
    fn membership(&mut self, left: &Expr, right: &Expr, loc: Option<&Loc>, reads: &mut Reads) {
        let literals: Option<Vec<&EntityUID>> = match right.expr_kind() {
            ExprKind::Set(elements) => elements.iter().map(literal_entity).collect(),
            _ => literal_entity(right).map(|uid| vec![uid]),
        };
        let (Some(literals), ExprKind::Var(var)) = (literals, left.expr_kind()) else {
            let message = "`in` asks whether principal, action or resource is in literal entities; what \
                           else stands here cannot be looked up"
                .to_owned();
            return self.fault(Kind::Unsupported, loc, message);
        };
        reads.action_groups |= *var == Var::Action;
        let roles = literals.iter().filter(|uid| uid.entity_type().to_string() == "Role");
        for number in roles.filter_map(|uid| self.names.role(uid.eid().as_ref())) {
            reads.roles.insert(number);
        }
    }

    /// `resource.service == "oders"`: the values are known, so the literal is checked.
    fn closed_values(&mut self, attribute: &Expr, literals: &Expr) {
        let Some((var, path)) = chain(attribute) else { return };
        let Some(root) = root(var) else { return };
        let Some(leaf) = self.leaf(root, &path) else { return };
        let (Some(values), text) = (leaf.values.clone(), leaf.text.clone()) else { return };
        let single = std::slice::from_ref(literals);
        let literals = if let ExprKind::Set(elements) = literals.expr_kind() { elements } else { single };
        for literal in literals {
            if let ExprKind::Lit(Literal::String(found)) = literal.expr_kind()
                && !values.iter().any(|value| value == found)
            {
                let message = format!(
                    "{text} is never {found:?}{}",
                    suggestion(found, values.iter().map(String::as_str))
                );
                self.fault(Kind::Unknown, literal.source_loc(), message);
            }
        }
    }

    fn leaf(&self, root: Root, path: &[&SmolStr]) -> Option<&Leaf> {
        let (group, key) = match path {
            [key] => (None, *key),
            [group, key] => (Some(*group), *key),
            _ => return None,
        };
        self.schema.leaves.iter().find(|l| l.root == root && l.group.as_ref() == group && l.key == *key)
    }

    /// An attribute is read, or asked for: which leaves can matter?
    fn read(&mut self, base: &Expr, attributes: &[&SmolStr], loc: Option<&Loc>, reads: &mut Reads) {
        let Some((var, mut path)) = chain(base) else {
            let message = "attributes can be read only from principal, resource and context".to_owned();
            self.fault(Kind::Unsupported, loc, message);
            return self.walk(base, reads);
        };
        path.extend(attributes);
        let Some(root) = root(var) else {
            if let Some(attribute) = path.first() {
                let message = format!("actions have no attributes: unknown attribute {attribute:?}");
                self.fault(Kind::Unknown, loc, message);
            }
            return;
        };
        // The bare principal or resource is its name alone; the bare context is all.
        if path.is_empty() && root != Root::Context {
            return;
        }
        let mut found = path.is_empty();
        for (number, leaf) in self.schema.leaves.iter().enumerate().filter(|(_, leaf)| leaf.root == root) {
            if on_path(leaf, &path) {
                reads.leaves.insert(number);
                found = true;
            }
        }
        for (number, (of, name, _)) in Schema::GROUPS.iter().enumerate() {
            if *of == root && path.first().is_none_or(|first| *first == name) {
                reads.leaves.insert(self.schema.leaves.len() + number);
                found |= path.len() <= 1;
            }
        }
        if !found {
            let message = self.unknown_attribute(root, &path);
            self.fault(Kind::Unknown, loc, message);
        }
    }

    fn unknown_attribute(&self, root: Root, path: &[&SmolStr]) -> String {
        let group = path.first().filter(|first| {
            path.len() > 1
                && Schema::GROUPS.iter().any(|(of, name, _)| *of == root && first.as_str() == *name)
        });
        let found = if group.is_some() { path.get(1) } else { path.first() };
        let found = found.map_or("", |name| name.as_str());
        let leaves = self.schema.leaves.iter();
        let here = leaves.filter(|leaf| leaf.root == root && leaf.group.as_ref() == group.copied());
        let groups = Schema::GROUPS.iter().filter(|(of, _, _)| *of == root && group.is_none());
        let hint =
            suggestion(found, here.map(|leaf| leaf.key.as_str()).chain(groups.map(|(_, name, _)| *name)));
        let owner = match group {
            Some(group) => format!("{}.{group}", root.name()),
            None => root.name().to_owned(),
        };
        let advice = match group.map(|group| group.as_str()) {
            Some("params") => ": no route has a path parameter of that name",
            Some("headers") => ": name it under `policy.headers`, in lower case",
            Some("claims") => ": declare it under `authentication.claims`",
            _ => "",
        };
        format!("{owner} has no attribute {found:?}{hint}{advice}")
    }
}

/// Whether the leaf is what the path names, or below it, or above it.
fn on_path(leaf: &Leaf, path: &[&SmolStr]) -> bool {
    let steps = leaf.group.iter().chain(std::iter::once(&leaf.key));
    steps.zip(path).all(|(mine, asked)| mine == *asked)
}

fn literal_entity(expr: &Expr) -> Option<&EntityUID> {
    match expr.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(uid)) => Some(uid),
        _ => None,
    }
}

fn unknown(what: &str, id: &str, plural: &str, known: &[String]) -> String {
    let hint = suggestion(id, known.iter().map(String::as_str));
    if hint.is_empty() {
        let mut list: Vec<&str> = known.iter().map(String::as_str).take(8).collect();
        if known.len() > list.len() {
            list.push("…");
        }
        let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        return format!("unknown {what} {id:?}: the configured {plural} are {list}");
    }
    format!("unknown {what} {id:?}{hint}")
}

/// The kind that a scope's entity type names.
pub(crate) fn principal_kind(ty: &EntityType) -> Option<PrincipalKind> {
    kind_of(&ty.to_string())
}

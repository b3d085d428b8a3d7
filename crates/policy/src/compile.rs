//! A policy as the decision uses it: its scope as plain comparisons, its conditions as
//! Cedar expressions.

use std::sync::Arc;

use cedar_policy_core::ast::{
    ActionConstraint, BinaryOp, EntityReference, EntityUID, Expr, ExprBuilder, ExprKind, Literal, Policy,
    PrincipalOrResourceConstraint, UnaryOp, Var,
};
use cedar_policy_core::expr_builder::ExprBuilder as _;
use model::PrincipalKind;

use crate::inspect::{Reads, principal_kind};
use crate::names::{Bits, Names};
use crate::schema::{READ, Schema, WRITE};

/// What a policy does when it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Permit,
    Forbid,
}

/// The principal part of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrincipalTest {
    Any,
    Kind(PrincipalKind),
    Is(PrincipalKind, String),
    Role(usize),
    KindInRole(PrincipalKind, usize),
    Nobody,
}

impl PrincipalTest {
    pub(crate) fn holds(&self, kind: PrincipalKind, id: &str, roles: &Bits) -> bool {
        match self {
            Self::Any => true,
            Self::Kind(wanted) => kind == *wanted,
            Self::Is(wanted, name) => kind == *wanted && id == name,
            Self::Role(role) => roles.contains(*role),
            Self::KindInRole(wanted, role) => kind == *wanted && roles.contains(*role),
            Self::Nobody => false,
        }
    }
}

/// The resource part of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResourceTest {
    Any,
    Route(usize),
    Nothing,
}

/// One policy.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Its `@id`, or `file:line`.
    pub(crate) id: String,
    /// `file:line`.
    pub(crate) position: String,
    /// The column in that line, in characters, from 1.
    pub(crate) column: u32,
    pub(crate) effect: Effect,
    pub(crate) principal: PrincipalTest,
    /// Actions by number.
    pub(crate) actions: u64,
    pub(crate) resource: ResourceTest,
    /// Roles that the conditions ask for in any case.
    pub(crate) roles: Vec<usize>,
    /// What remains of the conditions, without source positions: the evaluator copies
    /// the position of each node, and with it a counter that all cores share.
    pub(crate) condition: Option<Expr>,
    /// The conditions as written, for explanations.
    pub(crate) written: Option<Arc<Expr>>,
    /// The scope as written.
    pub(crate) scope: String,
    /// What the conditions as written read.
    pub(crate) reads: Reads,
    /// What `condition` reads.
    pub(crate) needs: Reads,
    /// Whether evaluating `condition` can fail.
    pub(crate) can_fail: bool,
}

impl Compiled {
    /// The whole policy in one line.
    pub(crate) fn text(&self) -> String {
        let effect = match self.effect {
            Effect::Permit => "permit",
            Effect::Forbid => "forbid",
        };
        match &self.written {
            Some(written) => format!("{effect}({}) when {{ {written} }}", self.scope),
            None => format!("{effect}({})", self.scope),
        }
    }

    /// `file:line:column`.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.position, self.column)
    }

    /// Whether it permits something on every resource alike: neither its scope nor its
    /// conditions look at which one it is.
    pub(crate) fn permits_everywhere(&self) -> bool {
        let looks = |expr: &Expr| {
            expr.subexpressions().any(|part| matches!(part.expr_kind(), ExprKind::Var(Var::Resource)))
        };
        let can_apply = self.actions != 0 && self.principal != PrincipalTest::Nobody;
        self.effect == Effect::Permit
            && self.resource == ResourceTest::Any
            && can_apply
            && !self.written.as_deref().is_some_and(looks)
    }

    /// Whether it makes a difference for this one by name: a permit that is for them, or conditions
    /// that compare somebody with them. A forbid that is for them gives them nothing.
    pub(crate) fn names(&self, kind: PrincipalKind, id: &str) -> bool {
        let is_for = matches!(&self.principal, PrincipalTest::Is(of, name) if *of == kind && name == id);
        let Some(written) = self.written.as_deref() else { return is_for && self.effect == Effect::Permit };
        let compares_ids = || written.subexpressions().any(is_id);
        let is_named = |expr: &Expr| match expr.expr_kind() {
            ExprKind::Lit(Literal::EntityUID(uid)) => {
                principal_kind(uid.entity_type()) == Some(kind) && AsRef::<str>::as_ref(uid.eid()) == id
            }
            ExprKind::Lit(Literal::String(text)) => text == id && compares_ids(),
            ExprKind::Like { expr, pattern } => is_id(expr) && pattern.wildcard_match(id),
            _ => false,
        };
        (is_for && self.effect == Effect::Permit) || written.subexpressions().any(is_named)
    }

    /// Whether scope and asked roles match somebody. Route and action were matched
    /// when the slice was made.
    pub(crate) fn concerns(&self, kind: PrincipalKind, id: &str, roles: &Bits) -> bool {
        self.principal.holds(kind, id, roles) && self.roles.iter().all(|role| roles.contains(*role))
    }
}

/// Whether it is the id of somebody: of the principal, of their certificate, of the end user.
fn is_id(expr: &Expr) -> bool {
    matches!(expr.expr_kind(), ExprKind::GetAttr { attr, .. } if attr == "id" || attr == "spiffe_id")
}

/// The principal part of a scope as a plain comparison.
pub(crate) fn principal_test(constraint: &PrincipalOrResourceConstraint, names: &Names) -> PrincipalTest {
    match constraint {
        PrincipalOrResourceConstraint::Any => PrincipalTest::Any,
        PrincipalOrResourceConstraint::Is(ty) => {
            principal_kind(ty).map_or(PrincipalTest::Nobody, PrincipalTest::Kind)
        }
        PrincipalOrResourceConstraint::Eq(entity) => named(entity),
        PrincipalOrResourceConstraint::In(entity) => match role_of(entity, names) {
            Some(role) => PrincipalTest::Role(role),
            None => named(entity),
        },
        PrincipalOrResourceConstraint::IsIn(ty, entity) => {
            match (principal_kind(ty), role_of(entity, names), named(entity)) {
                (Some(kind), Some(role), _) => PrincipalTest::KindInRole(kind, role),
                (Some(kind), None, PrincipalTest::Is(of, id)) if of == kind => PrincipalTest::Is(kind, id),
                _ => PrincipalTest::Nobody,
            }
        }
    }
}

fn named(entity: &EntityReference) -> PrincipalTest {
    let EntityReference::EUID(uid) = entity else { return PrincipalTest::Nobody };
    let id: &str = uid.eid().as_ref();
    principal_kind(uid.entity_type())
        .map_or(PrincipalTest::Nobody, |kind| PrincipalTest::Is(kind, id.to_owned()))
}

fn role_of(entity: &EntityReference, names: &Names) -> Option<usize> {
    let EntityReference::EUID(uid) = entity else { return None };
    role_number(uid, names)
}

fn role_number(uid: &EntityUID, names: &Names) -> Option<usize> {
    (uid.entity_type().to_string() == "Role").then(|| names.role(uid.eid().as_ref())).flatten()
}

/// The resource part of a scope as a plain comparison.
pub(crate) fn resource_test(constraint: &PrincipalOrResourceConstraint, names: &Names) -> ResourceTest {
    let is_route = |ty: &cedar_policy_core::ast::EntityType| ty.to_string() == "Route";
    let route = |entity: &EntityReference| {
        let EntityReference::EUID(uid) = entity else { return ResourceTest::Nothing };
        let number = names.route(uid.eid().as_ref()).filter(|_| is_route(uid.entity_type()));
        number.map_or(ResourceTest::Nothing, ResourceTest::Route)
    };
    match constraint {
        PrincipalOrResourceConstraint::Any => ResourceTest::Any,
        PrincipalOrResourceConstraint::Is(ty) if is_route(ty) => ResourceTest::Any,
        // Routes have no parents: to be in one is to be it.
        PrincipalOrResourceConstraint::Eq(entity) | PrincipalOrResourceConstraint::In(entity) => {
            route(entity)
        }
        PrincipalOrResourceConstraint::IsIn(ty, entity) if is_route(ty) => route(entity),
        PrincipalOrResourceConstraint::Is(_) | PrincipalOrResourceConstraint::IsIn(..) => {
            ResourceTest::Nothing
        }
    }
}

/// The actions that a scope takes, as bits by number.
pub(crate) fn action_bits(constraint: &ActionConstraint, schema: &Schema) -> u64 {
    let matching = |wanted: &dyn Fn(&crate::schema::Action) -> bool| {
        let numbered = schema.actions.iter().enumerate();
        numbered.filter(|(_, action)| wanted(action)).fold(0, |bits, (number, _)| bits | 1 << number)
    };
    let within = |uid: &EntityUID| match AsRef::<str>::as_ref(uid.eid()) {
        READ => matching(&|action| action.safe),
        WRITE => matching(&|action| !action.safe),
        name => matching(&|action| action.name == name),
    };
    match constraint {
        ActionConstraint::Any => matching(&|_| true),
        ActionConstraint::Eq(uid) => {
            matching(&|action| AsRef::<str>::as_ref(uid.eid()) == action.name.as_str())
        }
        ActionConstraint::In(uids) => uids.iter().fold(0, |bits, uid| bits | within(uid)),
    }
}

/// The parts of a conjunction, in the order in which they are evaluated.
pub(crate) fn conjuncts(expr: &Expr) -> Vec<&Expr> {
    let mut parts = Vec::new();
    let mut waiting = vec![expr];
    while let Some(next) = waiting.pop() {
        match next.expr_kind() {
            ExprKind::And { left, right } => waiting.extend([right.as_ref(), left.as_ref()]),
            _ => parts.push(next),
        }
    }
    parts
}

/// The role that a condition asks the principal for, when that is all it does.
pub(crate) fn role_asked(part: &Expr, names: &Names) -> Option<usize> {
    let ExprKind::BinaryApp { op: BinaryOp::In, arg1, arg2 } = part.expr_kind() else { return None };
    match (arg1.expr_kind(), arg2.expr_kind()) {
        (ExprKind::Var(Var::Principal), ExprKind::Lit(Literal::EntityUID(uid))) => role_number(uid, names),
        _ => None,
    }
}

/// Splits conditions into the roles that can be asked for first and the rest.
///
/// Sound because a test for a role cannot fail, and only what cannot fail is passed
/// over: `a && role` is `role && a` unless `a` is an error.
pub(crate) fn split(written: &Expr, names: &Names) -> (Vec<usize>, Option<Expr>) {
    let (mut roles, mut rest) = (Vec::new(), Vec::new());
    let mut certain = true;
    for part in conjuncts(written) {
        match role_asked(part, names).filter(|_| certain) {
            Some(role) => roles.push(role),
            None => {
                certain &= !can_fail(part);
                rest.push(without_positions(part));
            }
        }
    }
    let rest = rest.into_iter().rev().reduce(|later, earlier| Expr::and(earlier, later));
    (roles, rest)
}

/// Whether evaluation can fail although the types are right: arithmetic can overflow,
/// extension functions can refuse their argument.
pub(crate) fn can_fail(expr: &Expr) -> bool {
    expr.subexpressions().any(|part| {
        matches!(
            part.expr_kind(),
            ExprKind::UnaryApp { op: UnaryOp::Neg, .. }
                | ExprKind::BinaryApp { op: BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul, .. }
                | ExprKind::ExtensionFunctionApp { .. }
        )
    })
}

/// The same expression without source positions.
fn without_positions(expr: &Expr) -> Expr {
    let again = |part: &Arc<Expr>| Arc::new(without_positions(part));
    let kind = match expr.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(uid)) => {
            let (ty, id) = EntityUID::clone(uid).components();
            ExprKind::Lit(Literal::EntityUID(Arc::new(EntityUID::from_components(
                ty.with_loc(None),
                id,
                None,
            ))))
        }
        kind @ (ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_)) => {
            kind.clone()
        }
        ExprKind::If { test_expr, then_expr, else_expr } => ExprKind::If {
            test_expr: again(test_expr),
            then_expr: again(then_expr),
            else_expr: again(else_expr),
        },
        ExprKind::And { left, right } => ExprKind::And { left: again(left), right: again(right) },
        ExprKind::Or { left, right } => ExprKind::Or { left: again(left), right: again(right) },
        ExprKind::UnaryApp { op, arg } => ExprKind::UnaryApp { op: *op, arg: again(arg) },
        ExprKind::BinaryApp { op, arg1, arg2 } => {
            ExprKind::BinaryApp { op: *op, arg1: again(arg1), arg2: again(arg2) }
        }
        ExprKind::ExtensionFunctionApp { fn_name, args } => ExprKind::ExtensionFunctionApp {
            fn_name: fn_name.clone(),
            args: Arc::new(args.iter().map(without_positions).collect()),
        },
        ExprKind::GetAttr { expr, attr } => ExprKind::GetAttr { expr: again(expr), attr: attr.clone() },
        ExprKind::HasAttr { expr, attr } => ExprKind::HasAttr { expr: again(expr), attr: attr.clone() },
        ExprKind::ExtHasAttr { expr, attrs } => {
            ExprKind::ExtHasAttr { expr: again(expr), attrs: attrs.clone() }
        }
        ExprKind::Like { expr, pattern } => ExprKind::Like { expr: again(expr), pattern: pattern.clone() },
        ExprKind::Is { expr, entity_type } => {
            ExprKind::Is { expr: again(expr), entity_type: entity_type.with_loc(None) }
        }
        ExprKind::Set(elements) => ExprKind::Set(Arc::new(elements.iter().map(without_positions).collect())),
        ExprKind::Record(fields) => ExprKind::Record(Arc::new(
            fields.iter().map(|(name, field)| (name.clone(), without_positions(field))).collect(),
        )),
    };
    ExprBuilder::new().with_expr_kind(kind)
}

/// The scope as the operator would write it.
pub(crate) fn scope_text(policy: &Policy) -> String {
    format!(
        "{}, {}, {}",
        policy.principal_constraint(),
        policy.action_constraint(),
        policy.resource_constraint()
    )
}

//! Which policies may be decided from the cache: a list of what is known to depend on
//! its operands alone. What is not listed is evaluated each time.

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, UnaryOp};

use crate::schema::Read;

/// Extension functions whose result depends on their arguments alone. Times are not
/// among them: a policy about dates reads a clock sooner or later.
const FUNCTIONS: [&str; 9] = [
    "ip",
    "isIpv4",
    "isIpv6",
    "isLoopback",
    "isMulticast",
    "isInRange",
    "decimal",
    "lessThan",
    "greaterThan",
];

/// Whether an expression is in the fragment.
pub(crate) fn cacheable(expr: &Expr) -> bool {
    expr.subexpressions().all(|part| match part.expr_kind() {
        ExprKind::Lit(_)
        | ExprKind::Var(_)
        | ExprKind::If { .. }
        | ExprKind::And { .. }
        | ExprKind::Or { .. }
        | ExprKind::GetAttr { .. }
        | ExprKind::HasAttr { .. }
        | ExprKind::ExtHasAttr { .. }
        | ExprKind::Like { .. }
        | ExprKind::Is { .. }
        | ExprKind::Set(_)
        | ExprKind::Record(_) => true,
        ExprKind::UnaryApp { op, .. } => matches!(op, UnaryOp::Not | UnaryOp::Neg | UnaryOp::IsEmpty),
        ExprKind::BinaryApp { op, .. } => match op {
            BinaryOp::Eq
            | BinaryOp::Less
            | BinaryOp::LessEq
            | BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::In
            | BinaryOp::Contains
            | BinaryOp::ContainsAll
            | BinaryOp::ContainsAny => true,
            BinaryOp::GetTag | BinaryOp::HasTag => false,
        },
        ExprKind::ExtensionFunctionApp { fn_name, .. } => {
            FUNCTIONS.iter().any(|known| fn_name.to_string() == *known)
        }
        ExprKind::Slot(_) | ExprKind::Unknown(_) => false,
    })
}

/// Whether an attribute may be part of a key. A new one must be put on a side here:
/// what changes with every request (a clock, a nonce, a request id) would fill the cache
/// with entries that nobody asks for again.
pub(crate) const fn keyed(read: &Read) -> bool {
    match read {
        Read::Id
        | Read::Issuer
        | Read::Scopes
        | Read::Acr
        | Read::Amr
        | Read::Claim(_)
        | Read::RouteName
        | Read::RouteService
        | Read::Parameter(_)
        | Read::Minute
        | Read::Hour
        | Read::Weekday
        | Read::Address
        | Read::Tls
        | Read::TlsVersion
        | Read::CertificateSubject
        | Read::CertificateIssuer
        | Read::CertificateFingerprint
        | Read::CertificateSpiffeId
        | Read::CertificateDnsNames
        | Read::UserId
        | Read::UserKind
        | Read::UserIssuer
        | Read::UserRoles
        | Read::UserScopes
        | Read::UserAcr
        | Read::UserAmr
        | Read::Credential
        | Read::Header(_)
        | Read::Host
        | Read::Path
        | Read::Method => true,
    }
}

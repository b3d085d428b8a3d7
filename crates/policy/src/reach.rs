//! What somebody could do, over every route and method: the part of a request that follows from
//! who asks and how is taken as known, the rest is left open.
//!
//! What is exact: a pair of route and method that is not in the answer is denied, whatever the
//! request says; one that is [`Certainty::Always`] is permitted, whatever it says, as long as
//! what it says can be read. [`Certainty::When`] is an over-approximation: each condition on
//! something open (time, address, path, parameters, headers, what a credential would say that is
//! not named) is taken to be possible by itself, so that conditions that contradict each other,
//! or that nobody can bring about, are not noticed; and a `forbid` that depends on something open
//! is taken to be avoidable.

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp, Var};
use model::{Credential, Principal};

use crate::compile::{Compiled, Effect, conjuncts};
use crate::evaluate::{Question, concerning, truth, with_evaluator};
use crate::explain::{Sight, collect, written_text};
use crate::inspect::Reads;
use crate::load::Policies;
use crate::names::Bits;
use crate::schema::{Leaf, OTHER, Read, Root, Schema};
use crate::values::{Datum, Reader, Unreadable};
use crate::vocabulary::{Access, Route};

/// Methods that admission lets nobody send.
const NEVER_ADMITTED: &str = "TRACE";

/// Who asks, as far as that is known.
#[derive(Clone, Debug)]
pub struct Somebody {
    /// What its credential says; what it does not say it has not.
    pub principal: Principal,
    /// Whether that is all it says: of a token or certificate, yes; of whoever holds a role, no:
    /// then id, issuer, scopes, claims and authentication methods are open. The credential is open too, but is
    /// not [`Credential::Local`] unless the principal's is: no role makes anybody a caller on the machine itself.
    pub is_whole: bool,
    /// The TLS version of its connections; `None`: open.
    pub tls_version: Option<&'static str>,
    /// Whether it shows a certificate (with its SPIFFE ID, when it has one); `None`: open.
    pub certificate: Option<bool>,
}

/// How sure it is that somebody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// Whatever else the request says.
    Always,
    /// When the conditions that are named hold.
    When,
}

/// A policy that lets somebody in, or could keep them out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Its id.
    pub policy: String,
    /// `file:line`.
    pub position: String,
    /// What of its conditions depends on something open.
    pub conditions: Vec<String>,
}

/// Something that somebody can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The route's name.
    pub route: String,
    /// The service behind it.
    pub service: String,
    /// The action's name: a method, or `other` for methods without an action of their own.
    pub method: String,
    /// How sure it is.
    pub certainty: Certainty,
    /// The policies that permit it; none: the route does without one.
    pub by: Vec<Grant>,
    /// Policies that forbid it when their conditions hold.
    pub unless: Vec<Grant>,
}

/// Everything that somebody can reach, in the order of routes and methods.
pub fn reach(policies: &Policies, who: &Somebody) -> Vec<Reach> {
    let mut found = Vec::new();
    for (number, route) in policies.vocabulary().routes.iter().enumerate() {
        for (action, described) in policies.schema().actions.iter().enumerate() {
            let any = route.methods.is_empty() && described.name != NEVER_ADMITTED;
            if any || route.methods.contains(&described.name) {
                found.extend(one(policies, who, number, action));
            }
        }
    }
    found
}

/// Truth, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    True,
    False,
    Open,
}

impl Known {
    fn and(self, other: impl FnOnce() -> Option<Self>) -> Option<Self> {
        match self {
            Self::False => Some(Self::False),
            Self::True => other(),
            // Where the left is open, the right is asked only of those that come so far: an
            // error there says nothing of the others.
            Self::Open => Some(match other() {
                Some(Self::False) => Self::False,
                _ => Self::Open,
            }),
        }
    }

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Open => Self::Open,
        }
    }
}

fn one(policies: &Policies, who: &Somebody, number: usize, action: usize) -> Option<Reach> {
    let names = policies.names();
    let route = policies.vocabulary().routes.get(number)?;
    let method = policies.schema().actions.get(action)?;
    let question = Question {
        kind: who.principal.kind,
        id: &who.principal.id,
        roles: names.closed(names.roles_given(&who.principal)),
        route: number,
        action,
        reader: Facts { who, route, method: &method.name },
    };
    let mut judged = Judged::default();
    for (_, policy) in concerning(policies, policies.slice(number, action)?, &question) {
        let asked = Asked { policies, question: &question, policy };
        let truth = policy.written.as_deref().map_or(Some(Known::True), |written| asked.truth(written));
        // A policy that certainly fails denies.
        let truth = truth?;
        let grant = || Grant {
            policy: policy.id.clone(),
            position: policy.position.clone(),
            conditions: asked.open_conditions(),
        };
        match (policy.effect, truth) {
            (_, Known::False) => {}
            (Effect::Forbid, Known::True) => return None,
            (Effect::Forbid, Known::Open) => judged.unless.push(grant()),
            (Effect::Permit, Known::True) => judged.always.push(grant()),
            (Effect::Permit, Known::Open) => {
                judged.can_fail |= policy.can_fail;
                judged.when.push(grant());
            }
        }
    }
    let is_free = match route.access {
        Access::Public => true,
        Access::Authenticated => who.principal.kind != model::PrincipalKind::Anonymous,
        Access::Policy => false,
    };
    if route.access == Access::Authenticated && !is_free {
        return None;
    }
    let Judged { always, when, unless, can_fail } = judged;
    let is_certain = (is_free || !always.is_empty()) && unless.is_empty() && !can_fail;
    let by = match (is_free, always.is_empty()) {
        (true, _) => Vec::new(),
        (false, false) => always,
        (false, true) if when.is_empty() => return None,
        (false, true) => when,
    };
    Some(Reach {
        route: route.name.clone(),
        service: route.service.clone(),
        method: method.name.clone(),
        certainty: if is_certain { Certainty::Always } else { Certainty::When },
        by,
        unless,
    })
}

#[derive(Default)]
struct Judged {
    always: Vec<Grant>,
    when: Vec<Grant>,
    unless: Vec<Grant>,
    /// A permit that is open can fail, and would deny then.
    can_fail: bool,
}

/// One policy, asked about somebody.
struct Asked<'a> {
    policies: &'a Policies,
    question: &'a Question<'a, Facts<'a>>,
    policy: &'a Compiled,
}

impl Asked<'_> {
    /// `None`: it certainly cannot be evaluated.
    fn truth(&self, expr: &Expr) -> Option<Known> {
        match expr.expr_kind() {
            ExprKind::And { left, right } => self.truth(left)?.and(|| self.truth(right)),
            ExprKind::Or { left, right } => {
                let right = || self.truth(right).map(Known::not);
                self.truth(left)?.not().and(right).map(Known::not)
            }
            ExprKind::UnaryApp { op: UnaryOp::Not, arg } => self.truth(arg).map(Known::not),
            ExprKind::If { test_expr, then_expr, else_expr } => match self.truth(test_expr)? {
                Known::True => self.truth(then_expr),
                Known::False => self.truth(else_expr),
                Known::Open => match (self.truth(then_expr), self.truth(else_expr)) {
                    (Some(one), Some(other)) if one == other => Some(one),
                    _ => Some(Known::Open),
                },
            },
            ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 }
                if self.asks_for_local(arg1, arg2) || self.asks_for_local(arg2, arg1) =>
            {
                Some(Known::False)
            }
            _ if self.is_open(expr) => Some(Known::Open),
            _ => {
                let needs = self.known_reads();
                let evaluated = with_evaluator(self.policies, &needs, self.question, |evaluator| {
                    truth(self.policies, evaluator, expr)
                });
                match evaluated {
                    Ok(Ok(true)) => Some(Known::True),
                    Ok(Ok(false)) => Some(Known::False),
                    Ok(Err(_)) | Err(_) => None,
                }
            }
        }
    }

    /// Whether these two are equal only for a caller on the machine itself, and this one comes from elsewhere.
    fn asks_for_local(&self, attribute: &Expr, value: &Expr) -> bool {
        let mut sights = Vec::new();
        collect(attribute, &mut sights);
        let is_credential = matches!(attribute.expr_kind(), ExprKind::GetAttr { .. })
            && matches!(sights.as_slice(), [Sight::Attribute { root: Root::Context, path }] if path.as_slice() == ["credential"]);
        let is_local = matches!(value.expr_kind(), ExprKind::Lit(Literal::String(text)) if text.as_str() == Credential::Local.name());
        is_credential && is_local && self.question.reader.who.principal.credential != Credential::Local
    }

    /// Whether it looks at something that is not known.
    fn is_open(&self, expr: &Expr) -> bool {
        let mut sights = Vec::new();
        collect(expr, &mut sights);
        sights.iter().any(|sight| match sight {
            Sight::Roles => false,
            Sight::Itself(Var::Context) => true,
            Sight::Itself(_) => false,
            Sight::Attribute { root, path } => {
                let text = format!("{}.{}", root.name(), path.join("."));
                let leaf = self.policies.schema().leaves.iter().find(|leaf| leaf.text == text);
                match leaf {
                    Some(leaf) => !self.question.reader.knows(leaf),
                    // Whether there is a certificate; the other records are always there.
                    None if *root == Root::Context && path.as_slice() == ["certificate"] => {
                        self.question.reader.who.certificate.is_none()
                    }
                    None => true,
                }
            }
        })
    }

    /// What the policy reads of what is known.
    fn known_reads(&self) -> Reads {
        let leaves = &self.policies.schema().leaves;
        let knows = |number: &usize| leaves.get(*number).is_none_or(|leaf| self.question.reader.knows(leaf));
        let mut known = Bits::default();
        self.policy.reads.leaves.iter().filter(knows).for_each(|number| known.insert(number));
        // The record of the certificate is built from what is known of it.
        if let Some(group) = Schema::group(Root::Context, "certificate")
            && self.question.reader.who.certificate == Some(true)
            && self.policy.reads.leaves.iter().any(|number| {
                leaves.get(number).is_some_and(|leaf| leaf.group.as_deref() == Some("certificate"))
            })
        {
            known.insert(leaves.len() + group);
        }
        Reads {
            leaves: known,
            roles: self.policy.reads.roles.clone(),
            action_groups: self.policy.reads.action_groups,
        }
    }

    fn open_conditions(&self) -> Vec<String> {
        let parts = self.policy.written.as_deref().map(conjuncts).unwrap_or_default();
        let open = parts.into_iter().filter(|part| self.truth(part) != Some(Known::True));
        open.map(|part| written_text(part).0).collect()
    }
}

/// What is known of every request of somebody on a route.
struct Facts<'a> {
    who: &'a Somebody,
    route: &'a Route,
    method: &'a str,
}

impl Facts<'_> {
    fn knows(&self, leaf: &Leaf) -> bool {
        match &leaf.read {
            Read::RouteName | Read::RouteService => true,
            // A parameter that the route has not is not there.
            Read::Parameter(name) => !self.route.parameters.contains(name),
            Read::Method => self.method != OTHER,
            Read::Id | Read::Issuer | Read::Scopes | Read::Acr | Read::Amr | Read::Claim(_) => {
                self.who.is_whole
            }
            Read::Credential => self.who.is_whole,
            Read::Tls | Read::TlsVersion => self.who.tls_version.is_some(),
            Read::CertificateSpiffeId => match self.who.certificate {
                Some(has) => !has || self.who.principal.spiffe_id.is_some(),
                None => false,
            },
            Read::CertificateSubject
            | Read::CertificateIssuer
            | Read::CertificateFingerprint
            | Read::CertificateDnsNames => self.who.certificate == Some(false),
            _ => false,
        }
    }
}

impl Reader for Facts<'_> {
    fn read<'a>(&'a self, leaf: &'a Leaf) -> Result<Option<Datum<'a>>, Unreadable> {
        let principal = &self.who.principal;
        let text = |text: &'a str| Some(Datum::Text(text.into()));
        let list =
            |list: &'a [String]| Some(Datum::Texts(list.iter().map(|text| text.as_str().into()).collect()));
        Ok(match &leaf.read {
            Read::RouteName => text(&self.route.name),
            Read::RouteService => text(&self.route.service),
            Read::Method => text(self.method),
            Read::Id => text(&principal.id),
            Read::Issuer => principal.issuer.as_deref().and_then(text),
            Read::Scopes => list(&principal.scopes),
            Read::Acr => principal.acr.as_deref().and_then(text),
            Read::Amr => list(&principal.amr),
            Read::Claim(name) => match principal.claims.get(name) {
                Some(value) => Some(crate::values::claim(leaf, value)?),
                None => None,
            },
            Read::Credential => text(principal.credential.name()),
            Read::Tls => self.who.tls_version.map(|_| Datum::Boolean(true)),
            Read::TlsVersion => self.who.tls_version.and_then(text),
            Read::CertificateSpiffeId if self.who.certificate == Some(true) => {
                principal.spiffe_id.as_ref().and_then(|id| text(id.as_str()))
            }
            _ => None,
        })
    }

    fn has(&self, group: &str) -> bool {
        match group {
            "certificate" => self.who.certificate == Some(true),
            "user" => false,
            _ => true,
        }
    }
}

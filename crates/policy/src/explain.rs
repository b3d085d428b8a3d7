//! Why: for a decision that was recorded, or for a request that might be made.

use std::fmt;

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, UnaryOp, Var};
use cedar_policy_core::evaluator::Evaluator;
use model::event::DecisionRecord;
use model::{Principal, PrincipalKind, printable};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::compile::{Compiled, Effect, conjuncts, role_asked};
use crate::decide::{Circumstances, conclude, has_expired};
use crate::evaluate::{Question, ask, settle, truth, with_evaluator};
use crate::fault::Place;
use crate::inspect::{chain, root};
use crate::load::Policies;
use crate::names::kind_of;
use crate::permit::{Reason, Subject};
use crate::record::{ACTION, EXPIRED, PRINCIPAL, RESOURCE, ROLES};
use crate::values::{Live, Reader, Recorded};

/// What was decided and why. `Display` is for people, serde for machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Whether it is permitted.
    pub allowed: bool,
    /// In one line.
    pub reason: String,
    /// Which generation of policies.
    pub generation: u64,
    /// `User::"alice"`.
    pub principal: String,
    /// Every role that the principal holds, included ones too.
    pub roles: Vec<String>,
    /// The method.
    pub action: String,
    /// The route's name.
    pub route: String,
    /// The policies whose scope matched, forbids first.
    pub considered: Vec<Considered>,
    /// Policies about this route and method that are for somebody else.
    pub for_others: Vec<ForOthers>,
}

/// A policy whose scope matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Considered {
    /// Its id.
    pub policy: String,
    /// `file:line`.
    pub position: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// What came of it.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What came of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// All its conditions are true.
    Applies {
        /// Them.
        conditions: Vec<Condition>,
    },
    /// A condition is false.
    DoesNotApply {
        /// The first such.
        condition: Condition,
    },
    /// A condition could not be evaluated: the request is denied.
    Failed {
        /// Which, when it was one condition.
        condition: Option<Condition>,
        /// What happened.
        message: String,
    },
}

/// A condition and the values it saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// As written.
    pub text: String,
    /// `line:column` in the policy's file.
    pub position: String,
    /// What it read.
    pub saw: Vec<Seen>,
}

/// An attribute and its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// `resource.params.owner`.
    pub expression: String,
    /// The value; `null` when it was absent.
    pub value: Json,
}

/// A policy about the same route and method whose scope names another principal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForOthers {
    /// Its id.
    pub policy: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// Its scope, as Cedar prints it.
    pub scope: String,
}

/// Why a record cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexplainable {
    /// The policies are not those that decided.
    #[error(
        "the decision was made by generation {record} of the policies, these are generation {policies}: \
         explain it with the generation that the state folder kept"
    )]
    OtherGeneration {
        /// The record's.
        record: u64,
        /// The policies'.
        policies: u64,
    },
    /// The number is the same, the content is not.
    #[error("generation {0} of the policies is not the one that decided: its content has another hash")]
    OtherContent(u64),
    /// The record lacks something.
    #[error("the record says nothing of {0:?}: it was not made by a decision of this generation")]
    Incomplete(&'static str),
}

/// Explains a recorded decision with the policies that made it.
///
/// # Errors
/// The policies are others, or the record is not whole.
pub fn explain_record(policies: &Policies, record: &DecisionRecord) -> Result<Explanation, Unexplainable> {
    if record.generation != policies.generation() {
        let policies = policies.generation();
        return Err(Unexplainable::OtherGeneration { record: record.generation, policies });
    }
    if record.snapshot != policies.snapshot() {
        return Err(Unexplainable::OtherContent(record.generation));
    }
    let text =
        |key: &'static str| record.read.get(key).and_then(Json::as_str).ok_or(Unexplainable::Incomplete(key));
    let principal = record.read.get(PRINCIPAL).ok_or(Unexplainable::Incomplete(PRINCIPAL))?;
    let part = |name| principal.get(name).and_then(Json::as_str).ok_or(Unexplainable::Incomplete(PRINCIPAL));
    let kind = kind_of(part("type")?).ok_or(Unexplainable::Incomplete(PRINCIPAL))?;
    let names = policies.names();
    let roles = record.read.get(ROLES).and_then(Json::as_array).ok_or(Unexplainable::Incomplete(ROLES))?;
    let roles = roles.iter().filter_map(|role| names.role(role.as_str()?));
    let method = text(ACTION)?;
    let question = Question {
        kind,
        id: part("id")?,
        roles: names.closed(roles),
        route: names.route(text(RESOURCE)?).ok_or(Unexplainable::Incomplete(RESOURCE))?,
        action: policies.schema().action(method),
        reader: Recorded(&record.read),
    };
    let expired = record.read.get(EXPIRED).and_then(Json::as_bool).unwrap_or(false);
    Ok(explain(policies, &question, method, expired))
}

/// Explains what [`crate::decide()`] would say.
pub fn explain_request(
    policies: &Policies,
    principal: &Principal,
    circumstances: &Circumstances,
    subject: &impl Subject,
) -> Explanation {
    let names = policies.names();
    let route = policies.vocabulary().routes.get(subject.route());
    let nowhere = crate::vocabulary::Route::default();
    let question = Question {
        kind: principal.kind,
        id: &principal.id,
        roles: names.closed(names.roles_given(principal)),
        route: subject.route(),
        action: policies.schema().action(subject.method()),
        reader: Live { principal, circumstances, subject, route: route.unwrap_or(&nowhere) },
    };
    let expired = has_expired(principal, circumstances);
    explain(policies, &question, subject.method(), expired)
}

fn explain<R: Reader>(
    policies: &Policies,
    question: &Question<'_, R>,
    method: &str,
    expired: bool,
) -> Explanation {
    let described = policies.vocabulary().routes.get(question.route);
    let slice = policies.slice(question.route, question.action);
    let verdict = match (described, slice) {
        _ if expired => Err(Reason::Expired),
        (Some(route), Some(slice)) => {
            conclude(policies, route.access, question.kind, ask(policies, slice, question))
                .map_err(|(reason, _)| reason)
        }
        _ => Err(Reason::UnknownRoute),
    };
    let reason = match &verdict {
        Ok(by) => match by.first() {
            Some(first) => format!("permitted by {}", policies.id(*first)),
            None => "the route permits it without a policy".to_owned(),
        },
        Err(reason) => reason.to_string(),
    };
    let numbered = slice.into_iter().flat_map(|slice| &slice.policies);
    let here: Vec<&Compiled> = numbered.filter_map(|number| policies.policy(*number)).collect();
    let (mine, others): (Vec<&Compiled>, Vec<&Compiled>) = here
        .into_iter()
        .partition(|policy| policy.principal.holds(question.kind, question.id, &question.roles));
    let role_names = question.roles.iter().filter_map(|role| policies.vocabulary().roles.get(role));
    Explanation {
        allowed: verdict.is_ok(),
        reason,
        generation: policies.generation(),
        principal: uid_text(question.kind, question.id),
        roles: role_names.map(|role| role.name.clone()).collect(),
        action: method.to_owned(),
        route: described.map(|route| route.name.clone()).unwrap_or_default(),
        considered: mine.into_iter().map(|policy| consider(policies, question, policy)).collect(),
        for_others: others
            .into_iter()
            .map(|policy| ForOthers {
                policy: policy.id.clone(),
                effect: effect_text(policy.effect).to_owned(),
                scope: policy.scope.clone(),
            })
            .collect(),
    }
}

fn uid_text(kind: PrincipalKind, id: &str) -> String {
    format!("{}::{id:?}", kind.name())
}

const fn effect_text(effect: Effect) -> &'static str {
    match effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
    }
}

fn consider<R: Reader>(policies: &Policies, question: &Question<'_, R>, policy: &Compiled) -> Considered {
    let finding = match &policy.written {
        None => Finding::Applies { conditions: Vec::new() },
        Some(written) => with_evaluator(policies, &policy.reads, question, |evaluator| {
            find(policies, question, evaluator, policy, written)
        })
        .unwrap_or_else(|error| Finding::Failed { condition: None, message: error.to_string() }),
    };
    Considered {
        policy: policy.id.clone(),
        position: policy.position.clone(),
        effect: effect_text(policy.effect).to_owned(),
        finding,
    }
}

/// The role that decided before anything else was read, or else condition by condition
/// until one is not true.
fn find<R: Reader>(
    policies: &Policies,
    question: &Question<'_, R>,
    evaluator: &Evaluator<'_>,
    policy: &Compiled,
    written: &Expr,
) -> Finding {
    let mut conditions = Vec::new();
    let lacking = |part: &&Expr| {
        role_asked(part, policies.names())
            .is_some_and(|role| policy.roles.contains(&role) && !question.roles.contains(role))
    };
    if let Some(part) = conjuncts(written).into_iter().find(lacking) {
        return Finding::DoesNotApply { condition: describe(policies, question, evaluator, part) };
    }
    for part in conjuncts(written) {
        let condition = describe(policies, question, evaluator, part);
        match settle(policies, question.action, policy, truth(policies, evaluator, part)) {
            Ok(true) => conditions.push(condition),
            Ok(false) => return Finding::DoesNotApply { condition },
            Err(message) => return Finding::Failed { condition: Some(condition), message },
        }
    }
    Finding::Applies { conditions }
}

fn describe<R: Reader>(
    policies: &Policies,
    question: &Question<'_, R>,
    evaluator: &Evaluator<'_>,
    part: &Expr,
) -> Condition {
    let mut seen = Vec::new();
    collect(part, &mut seen);
    let mut saw: Vec<Seen> = Vec::new();
    for sight in seen {
        let seen = look(policies, question, evaluator, &sight);
        if !saw.contains(&seen) {
            saw.push(seen);
        }
    }
    let (text, position) = written_text(part);
    Condition { text, position, saw }
}

/// A condition as it was written, in one line, and its `line:column`; empty for one without a
/// place.
pub(crate) fn written_text(part: &Expr) -> (String, String) {
    // `unless { x }` reaches the evaluator as `!x` with the place of the whole clause.
    let (place, negated) = match part.expr_kind() {
        ExprKind::UnaryApp { op: UnaryOp::Not, arg } if starts_with_unless(part) => (arg.as_ref(), true),
        _ => (part, false),
    };
    let loc = place.source_loc();
    let written = loc.and_then(|loc| loc.snippet()).map(|text| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if negated { format!("!({text})") } else { text }
    });
    let position = loc.map(|loc| Place::new("", &loc.src).line_column(loc.start()));
    let position = position.map(|(line, column)| format!("{line}:{column}")).unwrap_or_default();
    (written.unwrap_or_else(|| part.to_string()), position)
}

fn starts_with_unless(expr: &Expr) -> bool {
    expr.source_loc().and_then(|loc| loc.snippet()).is_none_or(|text| text.starts_with("unless"))
}

/// Something that a condition looks at.
pub(crate) enum Sight<'a> {
    /// An attribute.
    Attribute { root: crate::schema::Root, path: Vec<&'a str> },
    /// The roles of the principal.
    Roles,
    /// A variable itself.
    Itself(Var),
}

pub(crate) fn collect<'a>(expr: &'a Expr, into: &mut Vec<Sight<'a>>) {
    if let Some((var, path)) = chain(expr) {
        let path: Vec<&str> = path.into_iter().map(|step| step.as_str()).collect();
        return into.push(match root(var) {
            Some(root) if !path.is_empty() => Sight::Attribute { root, path },
            _ => Sight::Itself(var),
        });
    }
    match expr.expr_kind() {
        ExprKind::HasAttr { expr: base, attr } => {
            collect_has(base, &mut std::iter::once(attr.as_str()), into)
        }
        ExprKind::ExtHasAttr { expr: base, attrs } => {
            collect_has(base, &mut attrs.iter().map(|attr| attr.as_str()), into);
        }
        ExprKind::BinaryApp { op: BinaryOp::In, arg1, arg2 } => match arg1.expr_kind() {
            ExprKind::Var(Var::Principal) => into.push(Sight::Roles),
            _ => [arg1, arg2].into_iter().for_each(|side| collect(side, into)),
        },
        ExprKind::BinaryApp { arg1, arg2, .. } => {
            collect(arg1, into);
            collect(arg2, into);
        }
        ExprKind::And { left, right } | ExprKind::Or { left, right } => {
            collect(left, into);
            collect(right, into);
        }
        ExprKind::If { test_expr, then_expr, else_expr } => {
            [test_expr, then_expr, else_expr].into_iter().for_each(|part| collect(part, into));
        }
        ExprKind::UnaryApp { arg, .. } => collect(arg, into),
        ExprKind::ExtensionFunctionApp { args, .. } => args.iter().for_each(|arg| collect(arg, into)),
        ExprKind::Like { expr, .. } | ExprKind::Is { expr, .. } | ExprKind::GetAttr { expr, .. } => {
            collect(expr, into);
        }
        ExprKind::Set(elements) => elements.iter().for_each(|element| collect(element, into)),
        ExprKind::Record(fields) => fields.values().for_each(|field| collect(field, into)),
        ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
    }
}

fn collect_has<'a>(base: &'a Expr, attrs: &mut dyn Iterator<Item = &'a str>, into: &mut Vec<Sight<'a>>) {
    let Some((var, path)) = chain(base) else { return collect(base, into) };
    let Some(root) = root(var) else { return };
    let path = path.into_iter().map(|step| step.as_str()).chain(attrs).collect();
    into.push(Sight::Attribute { root, path });
}

fn look<R: Reader>(
    policies: &Policies,
    question: &Question<'_, R>,
    evaluator: &Evaluator<'_>,
    sight: &Sight<'_>,
) -> Seen {
    match sight {
        Sight::Roles => {
            let held = question.roles.iter().filter_map(|role| policies.vocabulary().roles.get(role));
            Seen {
                expression: "roles of principal".to_owned(),
                value: Json::from_iter(held.map(|role| role.name.as_str())),
            }
        }
        Sight::Itself(var) => {
            let value = evaluator.interpret(&Expr::var(*var), policies.no_slots());
            let value = value.map_or(Json::Null, |value| Json::from(value.to_string()));
            Seen { expression: var.to_string(), value }
        }
        Sight::Attribute { root, path } => {
            let expression = format!("{}.{}", root.name(), path.join("."));
            let leaf = policies.schema().leaves.iter().find(|leaf| leaf.text == expression);
            let value = match leaf {
                Some(leaf) => question.reader.read(leaf).ok().flatten().map(|datum| datum.json()),
                None => {
                    let is_there = path.first().is_none_or(|group| question.reader.has(group));
                    is_there.then(|| Json::from("…"))
                }
            };
            Seen { expression, value: value.unwrap_or(Json::Null) }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = printable::line(&self.reason);
        writeln!(f, "{}: {reason}", if self.allowed { "allowed" } else { "denied" })?;
        let roles = if self.roles.is_empty() { "none".to_owned() } else { self.roles.join(", ") };
        writeln!(f, "  who   {} (roles: {roles})", printable::line(&self.principal.to_string()))?;
        writeln!(
            f,
            "  what  {} on route {:?}, policies of generation {}",
            self.action, self.route, self.generation
        )?;
        for policy in &self.considered {
            writeln!(f, "  {policy}")?;
        }
        if !self.allowed {
            for policy in &self.for_others {
                writeln!(f, "  {} {}s others: {}", policy.policy, policy.effect, policy.scope)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Considered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.position)?;
        if self.policy != self.position {
            write!(f, " ({})", self.policy)?;
        }
        let effect = &self.effect;
        match &self.finding {
            Finding::Applies { conditions } if conditions.is_empty() => {
                write!(f, " {effect}s, without conditions")
            }
            Finding::Applies { conditions } => {
                write!(f, " {effect}s because ")?;
                for (number, condition) in conditions.iter().enumerate() {
                    write!(f, "{}{condition}", if number > 0 { "; and " } else { "" })?;
                }
                Ok(())
            }
            Finding::DoesNotApply { condition } => write!(f, " {effect}s when {condition}"),
            Finding::Failed { condition: Some(condition), message } => {
                write!(f, " {effect}s when {condition}: it could not be evaluated: {message}")
            }
            Finding::Failed { condition: None, message } => {
                write!(f, " {effect}s: it could not be evaluated: {message}")
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.saw.is_empty() {
            return Ok(());
        }
        let value = |seen: &Seen| match &seen.value {
            Json::Null => "nothing".to_owned(),
            value => printable::json(&value.to_string()).into_owned(),
        };
        let named = |seen: &Seen| format!("{} = {}", seen.expression, value(seen));
        // Up to two values explain themselves; more need their names.
        let saw: Vec<String> = match self.saw.len() {
            0..=2 => self.saw.iter().map(value).collect(),
            _ => self.saw.iter().map(named).collect(),
        };
        write!(f, ": saw {}", saw.join(" and "))
    }
}

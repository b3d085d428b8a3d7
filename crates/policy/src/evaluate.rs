//! Asks the policies of a slice about one request.

use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy_core::ast::{
    Context, Eid, Entity, EntityType, EntityUID, EntityUIDEntry, Expr, Literal, PartialValue, Request, Value,
    ValueKind,
};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use model::PrincipalKind;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::compile::{Compiled, Effect};
use crate::inspect::Reads;
use crate::load::{Policies, Slice};
use crate::names::{Bits, kind_index};
use crate::permit::Determining;
use crate::values::{Reader, Unreadable, assemble};

/// Who asks for what.
pub(crate) struct Question<'a, R> {
    pub(crate) kind: PrincipalKind,
    pub(crate) id: &'a str,
    /// Closed.
    pub(crate) roles: Bits,
    pub(crate) route: usize,
    pub(crate) action: usize,
    pub(crate) reader: R,
}

/// What the policies say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// These forbid.
    Forbidden(Determining),
    /// This one could not be evaluated, and why; `None` when it was the request.
    Failed(Option<u32>, String),
    /// No forbid; these permit. Further permits that cannot fail were not asked.
    Permitted(Determining),
    /// Nothing applies.
    Silent,
}

/// The policies of a slice that concern somebody, forbids first.
pub(crate) fn concerning<'a, R>(
    policies: &'a Policies,
    slice: &'a Slice,
    question: &'a Question<'_, R>,
) -> impl Iterator<Item = (u32, &'a Compiled)> {
    let numbered = slice.policies.iter().filter_map(|number| Some((*number, policies.policy(*number)?)));
    numbered.filter(|(_, policy)| policy.concerns(question.kind, question.id, &question.roles))
}

/// Asks.
///
/// INVARIANT: a forbid that applies wins, and an error in any policy that is asked
/// denies. Permits that cannot fail are not asked once one has permitted; those that
/// can fail always are.
pub(crate) fn ask<R: Reader>(policies: &Policies, slice: &Slice, question: &Question<'_, R>) -> Answer {
    let mut reads = Reads::default();
    let mut asked: SmallVec<[(u32, &Compiled); 16]> = SmallVec::new();
    for (number, policy) in concerning(policies, slice, question) {
        asked.push((number, policy));
        reads.extend(&policy.needs);
    }
    if asked.iter().all(|(_, policy)| policy.condition.is_none()) {
        return answer(&asked, |_| Ok(true));
    }
    let asked = &asked;
    match with_evaluator(policies, &reads, question, |evaluator| {
        answer(asked, |policy| match &policy.condition {
            None => Ok(true),
            Some(condition) => {
                let applies = truth(policies, evaluator, condition);
                settle(policies, question.action, policy, applies)
            }
        })
    }) {
        Ok(answer) => answer,
        Err(unreadable) => Answer::Failed(None, unreadable.to_string()),
    }
}

fn answer(asked: &[(u32, &Compiled)], mut applies: impl FnMut(&Compiled) -> Result<bool, String>) -> Answer {
    let (mut permits, mut forbids) = (Determining::new(), Determining::new());
    let mut failed = None;
    for (number, policy) in asked {
        if policy.effect == Effect::Permit && !permits.is_empty() && !policy.can_fail {
            continue;
        }
        match applies(policy) {
            Ok(true) if policy.effect == Effect::Forbid => forbids.push(*number),
            Ok(true) => permits.push(*number),
            Ok(false) => {}
            Err(error) => drop(failed.get_or_insert((*number, error))),
        }
    }
    match failed {
        _ if !forbids.is_empty() => Answer::Forbidden(forbids),
        Some((number, message)) => Answer::Failed(Some(number), message),
        None if permits.is_empty() => Answer::Silent,
        None => Answer::Permitted(permits),
    }
}

/// A condition's value; anything but a truth value is an error.
pub(crate) fn truth(
    policies: &Policies,
    evaluator: &Evaluator<'_>,
    condition: &Expr,
) -> Result<bool, String> {
    match evaluator.interpret(condition, policies.no_slots()) {
        Ok(value) => match value.value_kind() {
            ValueKind::Lit(Literal::Bool(value)) => Ok(*value),
            _ => Err("the condition is neither true nor false".to_owned()),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// What a policy comes to that could not be evaluated because an opaque connection has
/// nothing of HTTP: a permit does not apply, a forbid denies and says what it needs.
pub(crate) fn settle(
    policies: &Policies,
    action: usize,
    policy: &Compiled,
    applies: Result<bool, String>,
) -> Result<bool, String> {
    let schema = policies.schema();
    if applies.is_ok() || !schema.is_opaque(action) {
        return applies;
    }
    match (schema.needs_http(&policy.reads.leaves), policy.effect) {
        (None, _) => applies,
        (Some(_), Effect::Permit) => Ok(false),
        (Some(read), Effect::Forbid) => Err(format!("it needs {read}, and this connection is not HTTP")),
    }
}

/// Builds exactly the entities and the context that `reads` names, and nothing else.
pub(crate) fn with_evaluator<R: Reader, T>(
    policies: &Policies,
    reads: &Reads,
    question: &Question<'_, R>,
    run: impl FnOnce(&Evaluator<'_>) -> T,
) -> Result<T, Unreadable> {
    let extensions = Extensions::all_available();
    let world = policies.world();
    let opaque = policies.schema().is_opaque(question.action);
    let records = assemble(policies.schema(), &reads.leaves, &question.reader, opaque)?;
    let unbuilt = || Unreadable::Entities;
    let ty: EntityType = world.kinds.get(kind_index(question.kind)).ok_or_else(unbuilt)?.clone();
    let principal = EntityUID::from_components(ty, Eid::new(question.id), None);
    let action = world.actions.get(question.action).ok_or_else(unbuilt)?;
    let resource = world.routes.get(question.route).ok_or_else(unbuilt)?;

    let mut entities: SmallVec<[Entity; 3]> = SmallVec::new();
    if !records.principal.is_empty() || !reads.roles.is_empty() {
        let held = reads.roles.iter().filter(|role| question.roles.contains(*role));
        let roles: HashSet<EntityUID> = held.filter_map(|role| world.roles.get(role).cloned()).collect();
        entities.push(entity(principal.clone(), records.principal, roles));
    }
    if !records.resource.is_empty() {
        entities.push(entity(EntityUID::clone(resource), records.resource, HashSet::new()));
    }
    if reads.action_groups {
        let group = world.action_groups.get(question.action).ok_or_else(unbuilt)?;
        entities.push(entity(EntityUID::clone(action), [], HashSet::from([group.clone()])));
    }
    let entities = Entities::from_entities(
        entities,
        None::<&NoEntitiesSchema>,
        TCComputation::AssumeAlreadyComputed,
        extensions,
    )
    .map_err(|_| Unreadable::Entities)?;
    let request = Request::new_unchecked(
        EntityUIDEntry::known(principal, None),
        EntityUIDEntry::Known { euid: Arc::clone(action), loc: None },
        EntityUIDEntry::Known { euid: Arc::clone(resource), loc: None },
        Some(Context::Value(Arc::new(records.context))),
    );
    Ok(run(&Evaluator::new(request, &entities, extensions)))
}

fn entity(
    uid: EntityUID,
    attributes: impl IntoIterator<Item = (SmolStr, Value)>,
    parents: HashSet<EntityUID>,
) -> Entity {
    let attributes = attributes.into_iter().map(|(name, value)| (name, PartialValue::Value(value)));
    Entity::new_with_attr_partial_value(uid, attributes, HashSet::new(), parents, [])
}

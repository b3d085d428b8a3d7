//! Reads the sources and finds everything that is wrong with them, at once.

use std::collections::{HashMap, HashSet};

use cedar_policy_core::ast::{Policy, PolicyID, PolicySet};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::parser::parse_policyset;
use cedar_policy_core::validator::{
    ValidationError, ValidationMode, ValidationWarning, Validator, ValidatorSchema,
};
use miette::Diagnostic;

use crate::compile::{
    Compiled, Effect, action_bits, can_fail, principal_test, resource_test, scope_text, split,
};
use crate::fault::{Fault, Kind, Place};
use crate::inspect::{Inspector, Reads};
use crate::limits;
use crate::names::Names;
use crate::scan;
use crate::schema::Schema;
use crate::vocabulary::{Source, Vocabulary};

/// A policy with its place.
struct Placed<'a> {
    policy: Policy,
    place: &'a Place<'a>,
    start: usize,
    line: u32,
    id: String,
}

/// Every policy, compiled, with every fault of every source. Policies with faults are
/// compiled too: nothing comes of them, because a fault refuses the whole.
pub(crate) fn check(
    vocabulary: &Vocabulary,
    names: &Names,
    schema: &Schema,
    sources: &[Source],
    faults: &mut Vec<Fault>,
) -> Vec<Compiled> {
    let places: Vec<Place<'_>> = sources.iter().map(|s| Place::new(&s.name, &s.text)).collect();
    let mut placed = Vec::new();
    for (source, place) in sources.iter().zip(&places) {
        parse(source, place, &mut placed, faults);
    }
    if placed.len() > limits::POLICIES_MAX {
        let message = format!("there are {} policies, at most {} can be", placed.len(), limits::POLICIES_MAX);
        faults.push(Fault::declared(Kind::Limit, "", message));
        return Vec::new();
    }
    identify(&mut placed, faults);
    let mut misnamed: HashSet<String> = HashSet::new();
    let compiled = placed
        .iter()
        .map(|one| {
            let before = faults.len();
            let compiled = inspect(vocabulary, names, schema, one, faults);
            if faults.len() > before {
                misnamed.insert(one.id.clone());
            }
            compiled
        })
        .collect();
    validate(schema, &placed, &misnamed, faults);
    compiled
}

fn parse<'a>(source: &Source, place: &'a Place<'a>, placed: &mut Vec<Placed<'a>>, faults: &mut Vec<Fault>) {
    if let Some(fault) = scan::over_limit(place, &source.text) {
        return faults.push(fault);
    }
    let set = match parse_policyset(&source.text) {
        Ok(set) => set,
        Err(errors) => {
            for error in errors.iter() {
                faults.push(Fault::at(Kind::Syntax, place, offset_of(error).unwrap_or(0), text_of(error)));
            }
            return;
        }
    };
    for template in set.templates() {
        let start = template.loc().map_or(0, cedar_policy_core::parser::Loc::start);
        let message = "a policy with ?principal or ?resource is a template, and nothing fills templates in: \
                       write the policy out"
            .to_owned();
        faults.push(Fault::at(Kind::Unsupported, place, start, message));
    }
    let mut policies: Vec<Policy> = set.policies().cloned().collect();
    let start = |policy: &Policy| policy.loc().map_or(0, cedar_policy_core::parser::Loc::start);
    policies.sort_by_key(start);
    placed.extend(policies.into_iter().map(|policy| {
        let start = start(&policy);
        Placed { start, line: place.line_column(start).0, id: String::new(), policy, place }
    }));
}

/// Names each policy: by its `@id`, or by file and line (and column, where two stand
/// on a line).
fn identify(placed: &mut [Placed<'_>], faults: &mut Vec<Fault>) {
    let mut taken: HashMap<String, String> = HashMap::new();
    for (number, one) in placed.iter_mut().enumerate() {
        // The validator's messages hold this name between backticks: it must hold none.
        one.policy = one.policy.new_id(PolicyID::from_string(internal_id(number)));
        let given = one.policy.annotations().find(|(name, _)| AsRef::<str>::as_ref(name) == "id");
        let given = given.map(|(_, annotation)| annotation.val.to_string());
        let position = format!("{}:{}", one.place.name, one.line);
        let mut id = given.clone().unwrap_or_else(|| position.clone());
        if id.is_empty() || id.chars().any(char::is_control) {
            let message = format!("@id({id:?}) is empty or holds control characters");
            faults.push(Fault::at(Kind::Unsupported, one.place, one.start, message));
        }
        if given.is_none() && taken.contains_key(&id) {
            id = format!("{position}:{}", one.place.line_column(one.start).1);
        }
        if let Some(first) = taken.get(&id) {
            let message = format!("@id({id:?}) is already the id of the policy at {first}");
            faults.push(Fault::at(Kind::Duplicate, one.place, one.start, message));
            id = format!("{position}:{}", one.place.line_column(one.start).1);
        }
        taken.insert(id.clone(), position);
        one.id = id;
    }
}

/// Checks what a policy names, and compiles it.
fn inspect(
    vocabulary: &Vocabulary,
    names: &Names,
    schema: &Schema,
    one: &Placed<'_>,
    faults: &mut Vec<Fault>,
) -> Compiled {
    let policy = &one.policy;
    let mut inspector = Inspector { vocabulary, names, schema, place: one.place, faults, start: one.start };
    let principal = policy.principal_constraint();
    let resource = policy.resource_constraint();
    inspector.scope(principal.as_inner());
    inspector.scope(resource.as_inner());
    for uid in policy.action_constraint().iter_euids() {
        inspector.entity(uid, uid.loc());
    }
    let written = policy.non_scope_constraints_arc().cloned();
    let reads = written.as_deref().map_or_else(Reads::default, |written| inspector.condition(written));
    let (roles, condition) = match written.as_deref() {
        Some(written) => split(written, names),
        None => (Vec::new(), None),
    };
    // Its names were found wanting above already, if they are.
    let mut unsaid = Vec::new();
    inspector.faults = &mut unsaid;
    let needs = condition.as_ref().map_or_else(Reads::default, |condition| inspector.condition(condition));
    Compiled {
        id: one.id.clone(),
        position: format!("{}:{}", one.place.name, one.line),
        column: one.place.line_column(one.start).1,
        effect: match policy.effect() {
            cedar_policy_core::ast::Effect::Permit => Effect::Permit,
            cedar_policy_core::ast::Effect::Forbid => Effect::Forbid,
        },
        principal: principal_test(principal.as_inner(), names),
        actions: action_bits(policy.action_constraint(), schema),
        resource: resource_test(resource.as_inner(), names),
        roles,
        can_fail: condition.as_ref().is_some_and(can_fail),
        condition,
        written,
        scope: scope_text(policy),
        reads,
        needs,
    }
}

/// Cedar's own strict validation. What the inspection has already said about a policy
/// in better words is not said again.
fn validate(schema: &Schema, placed: &[Placed<'_>], misnamed: &HashSet<String>, faults: &mut Vec<Fault>) {
    let extensions = Extensions::all_available();
    let validator = match ValidatorSchema::from_cedarschema_str(&schema.text(), extensions) {
        Ok((schema, _)) => Validator::new(schema),
        Err(error) => {
            let message = format!("the configuration's names make no valid schema: {}", text_of(&error));
            return faults.push(Fault::declared(Kind::Vocabulary, "", message));
        }
    };
    let mut set = PolicySet::new();
    for one in placed {
        if let Err(error) = set.add(one.policy.clone()) {
            faults.push(Fault::at(Kind::Duplicate, one.place, one.start, error.to_string()));
        }
    }
    let mut said: HashSet<Fault> = HashSet::new();
    let result = validator.validate(&set, ValidationMode::Strict);
    let mut say = |diagnostic: &dyn Diagnostic, kind: Kind, naming: bool, warning: bool| {
        let whole = text_of(diagnostic);
        let (number, message) = without_policy(&whole);
        let Some(one) = number.and_then(|number| placed.get(number)) else {
            let fault = Fault::declared(kind, "", whole);
            return faults.push(if warning { fault.warning() } else { fault });
        };
        if naming && misnamed.contains(&one.id) {
            return;
        }
        let fault = Fault::at(kind, one.place, offset_of(diagnostic).unwrap_or(one.start), message);
        let fault = if warning { fault.warning() } else { fault };
        if said.insert(fault.clone()) {
            faults.push(fault);
        }
    };
    for error in result.validation_errors() {
        let naming = matches!(
            error,
            ValidationError::UnrecognizedEntityType(_)
                | ValidationError::UnrecognizedActionId(_)
                | ValidationError::UnsafeAttributeAccess(_)
                | ValidationError::UnsafeTagAccess(_)
                | ValidationError::NoTagsAllowed(_)
        );
        say(error, Kind::Type, naming, false);
    }
    for warning in result.validation_warnings() {
        let never = matches!(
            warning,
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_)
        );
        say(warning, if never { Kind::NeverApplies } else { Kind::Confusable }, never, true);
    }
}

fn internal_id(number: usize) -> String {
    format!("policy {number}")
}

/// ``for policy `policy 3`, message``: the number, and the message without it.
fn without_policy(message: &str) -> (Option<usize>, String) {
    let before = "for policy `policy ";
    let number = message.split_once(before).and_then(|(_, rest)| rest.split_once('`')?.0.parse().ok());
    let Some(number) = number else { return (None, message.to_owned()) };
    (Some(number), message.replace(&format!("for policy `{}`, ", internal_id(number)), ""))
}

fn offset_of(diagnostic: &dyn Diagnostic) -> Option<usize> {
    diagnostic.labels()?.next().map(|label| label.offset())
}

fn text_of<D: Diagnostic + ?Sized>(diagnostic: &D) -> String {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let label = label.and_then(|label| label.label().map(|text| format!(": {text}"))).unwrap_or_default();
    let help = diagnostic.help().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{diagnostic}{label}{help}")
}

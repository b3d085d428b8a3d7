//! What other policies would have said of a decision that was recorded.
//!
//! A record holds what the policies of its own time could read, no more. What other
//! policies read besides is unknown here, and unknown stays unknown: a decision that
//! depends on it is [`Undecidable`], never guessed. A decision that does not is made, for
//! example because a `forbid` that can be evaluated applies.

use std::collections::BTreeMap;

use model::event::DecisionRecord;
use model::{Principal, PrincipalKind};
use serde_json::Value as Json;

use crate::compile::{Compiled, Effect};
use crate::decide::conclude;
use crate::evaluate::{Answer, Question, ask, concerning, settle, truth, with_evaluator};
use crate::inspect::Reads;
use crate::load::Policies;
use crate::names::{Bits, kind_of};
use crate::permit::{Determining, Reason};
use crate::record::{ACTION, EXPIRED, FOR_USER, PRINCIPAL, RESOURCE, ROLES};
use crate::schema::{Leaf, Read, Schema};
use crate::values::{Datum, Reader, Recorded, Unreadable};

/// A decision that could be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Whether it is permitted.
    pub allowed: bool,
    /// In one line.
    pub reason: String,
    /// The ids of the policies that determine it.
    pub policies: Vec<String>,
}

/// Why a decision cannot be made again: what the log lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Undecidable {
    /// The record is not whole, or was made by other policies than these.
    #[error("the record was not made by the policies that it names")]
    OtherContent,
    /// The record lacks who, what or where.
    #[error("the record says nothing of {0:?}")]
    Incomplete(&'static str),
    /// There is no such route.
    #[error("there is no route {0:?}")]
    Route(String),
    /// A policy reads this and the record has no word of it.
    #[error("the log does not say {0}")]
    Attribute(String),
    /// A policy asks for this role, which was not declared then, or which the
    /// configuration gave and does not give any more: the credential may have it too.
    #[error("the log does not say whether the credential has role {0:?}")]
    Role(String),
}

/// What the log says of a request besides its record: attributes by their names
/// (`context.address`), `None` when they were absent.
pub type Beside = BTreeMap<String, Option<Json>>;

/// Makes a recorded decision again under `policies`. `recorded_by` are the policies that
/// made it: they say what the record would hold if it had been there.
///
/// # Errors
/// The decision depends on something that the log lacks.
pub fn replay(
    policies: &Policies,
    recorded_by: &Policies,
    record: &DecisionRecord,
    beside: &Beside,
) -> Result<Replayed, Undecidable> {
    if record.snapshot != recorded_by.snapshot() {
        return Err(Undecidable::OtherContent);
    }
    let who = Who::of(record)?;
    let method = text(record, ACTION)?;
    let route_name = text(record, RESOURCE)?;
    let route =
        policies.names().route(route_name).ok_or_else(|| Undecidable::Route(route_name.to_owned()))?;
    if record.read.get(EXPIRED).and_then(Json::as_bool) == Some(true) {
        return Ok(told(policies, Err((Reason::Expired, Determining::new()))));
    }
    let action = policies.schema().action(method);
    let nowhere = || Undecidable::Route(route_name.to_owned());
    let (described, slice) =
        policies.vocabulary().routes.get(route).zip(policies.slice(route, action)).ok_or_else(nowhere)?;
    let roles = who.roles(policies, recorded_by);
    let told_of = ToldOf::of(recorded_by, &who, route_name, method)?;
    let is_for_user = record.read.get(FOR_USER).and_then(Json::as_bool);
    let known =
        Known { record, beside, told_of: &told_of, recorded_by, who: &who, is_for_user, method, described };
    let question =
        Question { kind: who.kind, id: who.id, roles: roles.at_most.clone(), route, action, reader: &known };
    let mut judged = Judged::default();
    let mut lacks = None;
    for (number, policy) in concerning(policies, slice, &question) {
        match known.lack(policies, policy, &who, &roles) {
            Some(lack) => {
                judged.unknown(policies.schema(), policy);
                lacks.get_or_insert(lack);
            }
            None => judged.known(number, policy, applies(policies, policy, &question)),
        }
    }
    let answer = match (judged.settled(), lacks) {
        (Some(answer), _) => answer,
        (None, Some(lack)) => return Err(lack),
        // Nothing is unknown: the decision's own function asks.
        (None, None) => ask(policies, slice, &Question { roles: roles.at_least, ..question }),
    };
    Ok(told(policies, conclude(policies, described.access, who.kind, answer)))
}

fn text<'r>(record: &'r DecisionRecord, key: &'static str) -> Result<&'r str, Undecidable> {
    record.read.get(key).and_then(Json::as_str).ok_or(Undecidable::Incomplete(key))
}

fn told(policies: &Policies, verdict: Result<Determining, (Reason, Determining)>) -> Replayed {
    let ids = |by: &Determining| by.iter().map(|number| policies.id(*number).to_owned()).collect();
    match verdict {
        Ok(by) => Replayed {
            allowed: true,
            reason: match by.first() {
                Some(first) => format!("permitted by {}", policies.id(*first)),
                None => "the route permits it without a policy".to_owned(),
            },
            policies: ids(&by),
        },
        Err((reason, by)) => Replayed { allowed: false, reason: reason.to_string(), policies: ids(&by) },
    }
}

/// Who asked, as the record says.
struct Who<'r> {
    kind: PrincipalKind,
    id: &'r str,
    /// Roles that the credential or the configuration of then gave.
    roles: Vec<&'r str>,
}

/// Roles of somebody under other policies, closed.
struct Roles {
    at_least: Bits,
    at_most: Bits,
}

impl<'r> Who<'r> {
    fn of(record: &'r DecisionRecord) -> Result<Self, Undecidable> {
        let incomplete = || Undecidable::Incomplete(PRINCIPAL);
        let principal = record.read.get(PRINCIPAL).ok_or_else(incomplete)?;
        let part = |name| principal.get(name).and_then(Json::as_str).ok_or_else(incomplete);
        let roles = record.read.get(ROLES).and_then(Json::as_array);
        let roles = roles.ok_or(Undecidable::Incomplete(ROLES))?;
        Ok(Self {
            kind: kind_of(part("type")?).ok_or_else(incomplete)?,
            id: part("id")?,
            roles: roles.iter().filter_map(Json::as_str).collect(),
        })
    }

    /// The roles that the configuration alone gives.
    fn configured(&self, policies: &Policies) -> Vec<usize> {
        let bare = Principal { kind: self.kind, id: self.id.to_owned(), ..Principal::anonymous() };
        policies.names().roles_given(&bare).collect()
    }

    fn roles(&self, policies: &Policies, recorded_by: &Policies) -> Roles {
        let (names, then) = (policies.names(), recorded_by.names());
        let given_then = self.configured(recorded_by);
        let mut least = self.configured(policies);
        let mut most = least.clone();
        for (number, role) in policies.vocabulary().roles.iter().enumerate() {
            let recorded = self.roles.contains(&role.name.as_str());
            match then.role(&role.name) {
                // Given by the configuration then: the credential may have it besides.
                Some(old) if recorded && given_then.contains(&old) => most.push(number),
                Some(_) if recorded => {
                    least.push(number);
                    most.push(number);
                }
                Some(_) => {}
                // A role that was not declared was not written down.
                None if self.kind != PrincipalKind::Anonymous => most.push(number),
                None => {}
            }
        }
        Roles { at_least: names.closed(least.into_iter()), at_most: names.closed(most.into_iter()) }
    }
}

/// The attributes that a record of this principal, route and method holds when they are
/// there: the leaves of the policies that were concerned.
struct ToldOf(Bits);

impl ToldOf {
    fn of(recorded_by: &Policies, who: &Who<'_>, route: &str, method: &str) -> Result<Self, Undecidable> {
        let names = recorded_by.names();
        let number = names.route(route).ok_or(Undecidable::OtherContent)?;
        let action = recorded_by.schema().action(method);
        let slice = recorded_by.slice(number, action).ok_or(Undecidable::OtherContent)?;
        let question = Question {
            kind: who.kind,
            id: who.id,
            roles: names.closed(who.roles.iter().filter_map(|role| names.role(role))),
            route: number,
            action,
            reader: (),
        };
        let mut leaves = Bits::default();
        for (_, policy) in concerning(recorded_by, slice, &question) {
            leaves.extend(&policy.reads.leaves);
        }
        Ok(Self(leaves))
    }
}

/// What is known of a request.
struct Known<'a> {
    record: &'a DecisionRecord,
    beside: &'a Beside,
    told_of: &'a ToldOf,
    recorded_by: &'a Policies,
    who: &'a Who<'a>,
    /// Whether it was for an end user, when the record says so.
    is_for_user: Option<bool>,
    method: &'a str,
    described: &'a crate::vocabulary::Route,
}

impl Known<'_> {
    /// What a policy needs and the log lacks.
    fn lack(
        &self,
        policies: &Policies,
        policy: &Compiled,
        who: &Who<'_>,
        roles: &Roles,
    ) -> Option<Undecidable> {
        let role = |number: usize| {
            let name = policies.vocabulary().roles.get(number).map(|role| role.name.clone());
            Undecidable::Role(name.unwrap_or_default())
        };
        let doubtful = |number: &usize| roles.at_most.contains(*number) && !roles.at_least.contains(*number);
        if !policy.concerns(who.kind, who.id, &roles.at_least) {
            let tips = |number: &usize| {
                let mut with = roles.at_least.clone();
                with.insert(*number);
                policy.concerns(who.kind, who.id, &with)
            };
            let of_doubt: Vec<usize> = roles.at_most.iter().filter(doubtful).collect();
            let tipping = of_doubt.iter().find(|number| tips(number)).or(of_doubt.first());
            return Some(role(tipping.copied().unwrap_or(usize::MAX)));
        }
        if let Some(number) = policy.needs.roles.iter().find(doubtful) {
            return Some(role(number));
        }
        let leaves = &policies.schema().leaves;
        let mut needed = policy.needs.leaves.clone();
        // Whether there was such a record shows in each of its attributes.
        for (place, (_, group, _)) in
            Schema::GROUPS.iter().enumerate().filter(|(_, (.., optional))| *optional)
        {
            let is_said = *group == "user" && self.is_for_user.is_some();
            if needed.contains(leaves.len() + place) && !is_said {
                let of_group = |leaf: &Leaf| leaf.group.as_deref() == Some(*group);
                for (number, _) in leaves.iter().enumerate().filter(|(_, leaf)| of_group(leaf)) {
                    needed.insert(number);
                }
            }
        }
        let unknown = needed.iter().filter_map(|number| leaves.get(number)).find(|leaf| !self.knows(leaf));
        unknown.map(|leaf| Undecidable::Attribute(leaf.text.clone()))
    }

    fn knows(&self, leaf: &Leaf) -> bool {
        matches!(leaf.read, Read::Id | Read::RouteName | Read::RouteService | Read::Method)
            || self.recorded(leaf).is_some()
            || self.beside.contains_key(&leaf.text)
            || (leaf.is_of_user() && self.knows_of_user(leaf))
    }

    /// Of nobody everything is known, of an end user what is always recorded.
    fn knows_of_user(&self, leaf: &Leaf) -> bool {
        self.is_for_user.is_some_and(|is_for_user| !is_for_user || leaf.is_always_recorded())
    }

    /// The attribute of then that says what `leaf` says now. Of another type now, the
    /// credential would be read in another way.
    fn recorded(&self, leaf: &Leaf) -> Option<&Leaf> {
        let then = self.recorded_by.schema().leaves.iter().enumerate();
        then.filter(|(_, old)| old.read == leaf.read && old.ty == leaf.ty)
            .find(|(number, _)| self.told_of.0.contains(*number))
            .map(|(_, old)| old)
    }
}

impl Reader for &Known<'_> {
    fn read<'a>(&'a self, leaf: &'a Leaf) -> Result<Option<Datum<'a>>, Unreadable> {
        let text = |text: &'a str| Ok(Some(Datum::Text(text.into())));
        match leaf.read {
            Read::Id => return text(self.who.id),
            Read::RouteName => return text(&self.described.name),
            Read::RouteService => return text(&self.described.service),
            Read::Method => return text(self.method),
            _ => {}
        }
        let json = match self.recorded(leaf) {
            Some(old) => self.record.read.get(&old.text),
            None if leaf.is_always_recorded() => self.record.read.get(&leaf.text),
            None => self.beside.get(&leaf.text).and_then(Option::as_ref),
        };
        json.map(|json| Datum::of(leaf, json)).transpose()
    }

    fn has(&self, group: &str) -> bool {
        Recorded(&self.record.read).has(group)
    }
}

fn applies(
    policies: &Policies,
    policy: &Compiled,
    question: &Question<'_, &Known<'_>>,
) -> Result<bool, String> {
    let Some(condition) = &policy.condition else { return Ok(true) };
    let needs: &Reads = &policy.needs;
    let applies =
        with_evaluator(policies, needs, question, |evaluator| truth(policies, evaluator, condition))
            .unwrap_or_else(|unreadable| Err(unreadable.to_string()));
    settle(policies, question.action, policy, applies)
}

/// What the policies say that can be asked, and what those could say that cannot.
#[derive(Default)]
struct Judged {
    forbids: Determining,
    permits: Determining,
    failed: Option<(u32, String)>,
    unknown_permit: bool,
    /// A forbid that cannot be asked, or anything that could fail.
    unknown_denial: bool,
}

impl Judged {
    fn known(&mut self, number: u32, policy: &Compiled, applies: Result<bool, String>) {
        match applies {
            Ok(true) if policy.effect == Effect::Forbid => self.forbids.push(number),
            Ok(true) => self.permits.push(number),
            Ok(false) => {}
            Err(message) => drop(self.failed.get_or_insert((number, message))),
        }
    }

    fn unknown(&mut self, schema: &Schema, policy: &Compiled) {
        self.unknown_permit |= policy.effect == Effect::Permit;
        // What is unknown may also be unreadable, which denies.
        self.unknown_denial |=
            policy.effect == Effect::Forbid || policy.can_fail || reads_clients_bytes(schema, policy);
    }

    /// The answer, when something is unknown and it does not matter.
    fn settled(self) -> Option<Answer> {
        if !self.unknown_permit && !self.unknown_denial {
            return None;
        }
        if !self.forbids.is_empty() {
            return Some(Answer::Forbidden(self.forbids));
        }
        if let Some((number, message)) = self.failed {
            return Some(Answer::Failed(Some(number), message));
        }
        match self.unknown_denial {
            false if !self.permits.is_empty() => Some(Answer::Permitted(self.permits)),
            _ => None,
        }
    }
}

/// Whether what the policy reads can be there and unreadable: bytes that are no text, a
/// claim of another type.
fn reads_clients_bytes(schema: &Schema, policy: &Compiled) -> bool {
    let leaves = policy.needs.leaves.iter().filter_map(|number| schema.leaves.get(number));
    leaves
        .into_iter()
        .any(|leaf| matches!(leaf.read, Read::Header(_) | Read::Host | Read::Path | Read::Claim(_)))
}

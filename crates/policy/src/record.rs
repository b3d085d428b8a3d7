//! What the audit log keeps of a decision: enough to make it again.

use model::Principal;
use model::event::DecisionRecord;
use serde_json::{Value, json};

use crate::decide::Circumstances;
use crate::evaluate::{Question, concerning};
use crate::load::Policies;
use crate::names::Bits;
use crate::permit::Subject;
use crate::values::{Live, record_of};

/// Keys of a record that are no attributes.
pub(crate) const PRINCIPAL: &str = "principal";
pub(crate) const ROLES: &str = "principal.roles";
pub(crate) const ACTION: &str = "action";
pub(crate) const RESOURCE: &str = "resource";
pub(crate) const EXPIRED: &str = "expired";

/// The record of a decision that `policies` made: who, what, where, and every
/// attribute that the policies concerned can read, with its value.
pub(crate) fn record(
    policies: &Policies,
    generation: u64,
    principal: &Principal,
    circumstances: &Circumstances,
    subject: &impl Subject,
    determining: &[u32],
) -> DecisionRecord {
    let mut record = DecisionRecord { generation, ..DecisionRecord::default() };
    if generation != policies.generation() {
        return record;
    }
    policies.snapshot().clone_into(&mut record.snapshot);
    record.policies = determining.iter().map(|number| policies.id(*number).to_owned()).collect();
    let names = policies.names();
    let given: Bits = names.roles_given(principal).fold(Bits::default(), |mut bits, role| {
        bits.insert(role);
        bits
    });
    let role_names = given.iter().filter_map(|role| policies.vocabulary().roles.get(role));
    let read = &mut record.read;
    read.insert(PRINCIPAL.to_owned(), json!({ "type": principal.kind.name(), "id": principal.id }));
    read.insert(ROLES.to_owned(), Value::from_iter(role_names.map(|role| role.name.as_str())));
    read.insert(ACTION.to_owned(), Value::from(subject.method()));
    if principal.expires.is_some_and(|end| end <= circumstances.now) {
        read.insert(EXPIRED.to_owned(), Value::from(true));
    }
    let number = subject.route();
    let action = policies.schema().action(subject.method());
    let (Some(route), Some(slice)) =
        (policies.vocabulary().routes.get(number), policies.slice(number, action))
    else {
        return record;
    };
    read.insert(RESOURCE.to_owned(), Value::from(route.name.as_str()));
    let question = Question {
        kind: principal.kind,
        id: &principal.id,
        roles: names.closed(given.iter()),
        route: number,
        action,
        reader: Live { principal, circumstances, subject, route },
    };
    let mut leaves = Bits::default();
    for (_, policy) in concerning(policies, slice, &question) {
        leaves.extend(&policy.reads.leaves);
    }
    record_of(policies.schema(), &leaves, &question.reader, read);
    record
}

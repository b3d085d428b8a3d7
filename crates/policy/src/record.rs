//! What the audit log keeps of a decision: enough to make it again.

#[expect(unused_imports, reason = "the documentation names it")]
use model::event::DecisionRecord;
use model::{Principal, PrincipalKind};
use serde::Serialize;

use crate::decide::{Circumstances, has_expired};
use crate::evaluate::{Question, concerning};
use crate::load::{Policies, Slice};
use crate::names::Bits;
use crate::permit::{Reason, Subject};
use crate::schema::{Root, Schema};
use crate::values::{Live, Reader};

/// Keys of a record that are no attributes.
pub(crate) const PRINCIPAL: &str = "principal";
pub(crate) const ROLES: &str = "principal.roles";
pub(crate) const ACTION: &str = "action";
pub(crate) const RESOURCE: &str = "resource";
pub(crate) const EXPIRED: &str = "expired";
/// Whether it was for an end user: of each call of a service, and wherever a policy asks.
pub(crate) const FOR_USER: &str = "for_user";

/// Appends the record of a decision that `policies` made, as the JSON of a
/// [`DecisionRecord`]: who, what, where, for whom, and every attribute that the policies
/// concerned can read, with its value. On the way of a request, so nothing is built beside it.
pub(crate) fn append(
    out: &mut Vec<u8>,
    policies: &Policies,
    generation: u64,
    principal: &Principal,
    circumstances: &Circumstances,
    subject: &impl Subject,
    determining: &[u32],
) {
    out.extend_from_slice(b"{\"generation\":");
    json(out, &generation);
    if generation != policies.generation() {
        out.extend_from_slice(b",\"snapshot\":\"\",\"policies\":[],\"read\":{}}");
        return;
    }
    out.extend_from_slice(b",\"snapshot\":");
    json(out, policies.snapshot());
    out.extend_from_slice(b",\"policies\":[");
    for (place, number) in determining.iter().enumerate() {
        comma(out, place);
        json(out, policies.id(*number));
    }
    out.extend_from_slice(b"],\"read\":{");
    read(out, policies, principal, circumstances, subject);
    out.extend_from_slice(b"}}");
}

/// Appends to a record why it would have been denied.
pub(crate) fn append_would_deny(out: &mut Vec<u8>, reason: &Reason) {
    if out.pop_if(|last| *last == b'}').is_some() {
        key(out, "would_deny", false);
        json(out, &reason.to_string());
        out.push(b'}');
    }
}

/// The members of `read`. Those before the attributes are the constants above.
fn read(
    out: &mut Vec<u8>,
    policies: &Policies,
    principal: &Principal,
    circumstances: &Circumstances,
    subject: &impl Subject,
) {
    key(out, PRINCIPAL, true);
    out.extend_from_slice(b"{\"type\":");
    json(out, principal.kind.name());
    out.extend_from_slice(b",\"id\":");
    json(out, &principal.id);
    out.push(b'}');
    let names = policies.names();
    let given: Bits = names.roles_given(principal).fold(Bits::default(), |mut bits, role| {
        bits.insert(role);
        bits
    });
    key(out, ROLES, false);
    out.push(b'[');
    let role_names = given.iter().filter_map(|role| policies.vocabulary().roles.get(role));
    for (place, role) in role_names.enumerate() {
        comma(out, place);
        json(out, &role.name);
    }
    out.push(b']');
    key(out, ACTION, false);
    json(out, subject.method());
    if has_expired(principal, circumstances) {
        key(out, EXPIRED, false);
        json(out, &true);
    }
    let number = subject.route();
    let action = policies.schema().action(subject.method());
    let (Some(route), Some(slice)) =
        (policies.vocabulary().routes.get(number), policies.slice(number, action))
    else {
        return;
    };
    key(out, RESOURCE, false);
    json(out, &route.name);
    let question = Question {
        kind: principal.kind,
        id: &principal.id,
        roles: names.closed(given.iter()),
        route: number,
        action,
        reader: Live { principal, circumstances, subject, route },
    };
    attributes(out, policies, slice, &question);
}

/// Whether it was for an end user, and every attribute that the policies concerned can read.
fn attributes<S: Subject>(
    out: &mut Vec<u8>,
    policies: &Policies,
    slice: &Slice,
    question: &Question<'_, Live<'_, S>>,
) {
    let mut leaves = Bits::default();
    for (_, policy) in concerning(policies, slice, question) {
        leaves.extend(&policy.reads.leaves);
    }
    let is_for_user = question.reader.circumstances.user.is_some();
    let is_asked = Schema::group(Root::Context, "user")
        .is_some_and(|group| leaves.contains(policies.schema().leaves.len() + group));
    if is_for_user || is_asked || question.kind == PrincipalKind::Service {
        key(out, FOR_USER, false);
        json(out, &is_for_user);
    }
    if is_for_user {
        let known = policies.schema().leaves.iter().enumerate();
        for (number, _) in known.filter(|(_, leaf)| leaf.is_always_recorded()) {
            leaves.insert(number);
        }
    }
    let opaque = policies.schema().is_opaque(question.action);
    let read = leaves.iter().filter_map(|number| policies.schema().leaves.get(number));
    for leaf in read.filter(|leaf| !(opaque && leaf.is_of_http())) {
        match question.reader.read(leaf) {
            Ok(None) => {}
            Ok(Some(datum)) => {
                key(out, &leaf.text, false);
                json(out, &datum);
            }
            // `null` is no value of the language: it marks what could not be read.
            Err(_) => {
                key(out, &leaf.text, false);
                out.extend_from_slice(b"null");
            }
        }
    }
}

fn key(out: &mut Vec<u8>, name: &str, first: bool) {
    comma(out, usize::from(!first));
    json(out, name);
    out.push(b':');
}

fn comma(out: &mut Vec<u8>, place: usize) {
    if place > 0 {
        out.push(b',');
    }
}

/// Appends a value. Writing to a vector cannot fail, and neither can these types.
fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

//! What the audit log keeps.

use model::Principal;
use model::event::DecisionRecord;

use crate::decide::Circumstances;
use crate::load::Policies;
use crate::permit::Subject;

pub(crate) fn record(
    policies: &Policies,
    generation: u64,
    _principal: &Principal,
    _circumstances: &Circumstances,
    _subject: &impl Subject,
    _determining: &[u32],
) -> DecisionRecord {
    DecisionRecord { generation, snapshot: policies.snapshot().to_owned(), ..DecisionRecord::default() }
}

//! Requests of the audit log, as policies can be asked about them again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use model::event::{AccessEvent, DecisionRecord};
use policy::{Beside, Policies};
use serde_json::Value;

use crate::process::generations::Generations;

/// The policies that made recorded decisions.
pub(super) struct Deciders {
    /// Those that are at hand.
    known: Vec<Arc<Policies>>,
    /// Where generations are kept.
    states: Vec<PathBuf>,
    /// By the hash of their content; `None`: not kept.
    kept: HashMap<String, Option<Arc<Policies>>>,
}

impl Deciders {
    /// Looks among these, then in these state folders.
    pub(super) fn new(known: Vec<Arc<Policies>>, states: Vec<PathBuf>) -> Self {
        Self { known, states, kept: HashMap::new() }
    }

    /// The policies that made a record.
    pub(super) fn of(&mut self, record: &DecisionRecord) -> Option<Arc<Policies>> {
        if let Some(policies) = self.known.iter().find(|policies| policies.snapshot() == record.snapshot) {
            return Some(Arc::clone(policies));
        }
        let states = &self.states;
        let look = || {
            let found = states.iter().filter_map(|state| Generations::of(state).get(record.generation).ok());
            found.into_iter().find(|policies| policies.snapshot() == record.snapshot).map(Arc::new)
        };
        self.kept.entry(record.snapshot.clone()).or_insert_with(look).clone()
    }
}

/// What an event says of a request besides the record of its decision.
pub(super) fn beside(event: &AccessEvent<'_>) -> Beside {
    let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
    [
        ("context.address", text(&event.client_address)),
        ("context.tls", Some(Value::from(!event.tls.is_empty()))),
        ("context.tls_version", text(&event.tls)),
        ("context.credential", Some(Value::from(event.credential.name()))),
        ("principal.issuer", text(&event.issuer)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

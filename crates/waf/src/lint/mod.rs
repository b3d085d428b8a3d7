//! What can be proved about a loaded rule set that is no fault and yet is hardly meant:
//! rules that can never match or never run, markers that nobody skips to.
//!
//! INVARIANT: a warning is a proof. What might be meant is left alone.

mod bytes;
mod flow;
mod never;
mod twice;

use crate::{
    ruleset::{Note, RuleSet, Weight},
    seclang::fault::Place,
};

impl RuleSet {
    /// What the load noted and what can be proved beyond it, in the order of the files.
    #[must_use]
    pub fn lint(&self) -> Vec<Note> {
        let mut notes = self.notes.clone();
        never::look(self, &mut notes);
        flow::look(self, &mut notes);
        twice::look(self, &mut notes);
        notes.sort_by(|one, other| (&one.place, one.weight).cmp(&(&other.place, other.weight)));
        notes
    }
}

fn warning(place: &Place, message: String) -> Note {
    Note { place: place.clone(), message, suggestion: None, weight: Weight::Warning }
}

fn note(place: &Place, message: String) -> Note {
    Note { place: place.clone(), message, suggestion: None, weight: Weight::Note }
}

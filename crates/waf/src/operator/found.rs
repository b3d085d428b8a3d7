//! What an operator found in a value.

use super::rx::Expanded;
use smallvec::SmallVec;
use std::ops::Range;

/// Most groups that are captured, the whole match included: `TX.0` to `TX.9`.
pub(crate) const CAPTURES_MAX: usize = 10;

/// What the last call of [`super::Operator::evaluate`] found. One is kept over many
/// calls, so that captures cost no memory of their own.
#[derive(Debug, Default)]
pub(crate) struct Found {
    captures: SmallVec<[Option<Range<usize>>; CAPTURES_MAX]>,
    text: Option<Vec<u8>>,
    place: Vec<(&'static str, Vec<u8>)>,
    fault: Option<String>,
    /// The last expression that a macro was part of; outlives [`Self::clear`].
    pub(super) expanded: Option<Box<Expanded>>,
    /// What compiling such expressions has cost, in units of work.
    pub(super) work: u64,
}

impl Found {
    /// What was worked besides reading the values, once, in units of work.
    pub(crate) fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.work)
    }

    /// Forgets the last call.
    pub(crate) fn clear(&mut self) {
        self.captures.clear();
        self.text = None;
        self.place.clear();
        self.fault = None;
    }

    /// The captured group `index` (0: all that matched) out of `value`, which is the value
    /// that was evaluated. None: no such group, or it took no part in the match.
    pub(crate) fn get<'a>(&'a self, value: &'a [u8], index: usize) -> Option<&'a [u8]> {
        match (index, &self.text) {
            (0, Some(text)) => Some(text),
            _ => value.get(self.captures.get(index)?.clone()?),
        }
    }

    /// How many groups there are to ask for, the whole match included.
    pub(crate) fn len(&self) -> usize {
        self.captures.len().max(usize::from(self.text.is_some()))
    }

    /// What `@geoLookup` found: names of the GEO collection and their values.
    pub(crate) fn place(&self) -> &[(&'static str, Vec<u8>)] {
        &self.place
    }

    /// Why the operator could not be evaluated, which only an argument with macros can
    /// bring about. The answer was "no match", and an engine in block mode denies.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    pub(super) fn matched(&mut self, range: Range<usize>) {
        self.set(0, Some(range));
    }

    pub(super) fn set(&mut self, index: usize, range: Option<Range<usize>>) {
        if index < CAPTURES_MAX {
            if self.captures.len() <= index {
                self.captures.resize(index + 1, None);
            }
            if let Some(slot) = self.captures.get_mut(index) {
                *slot = range;
            }
        }
    }

    pub(super) fn matched_text(&mut self, text: Vec<u8>) {
        self.text = Some(text);
    }

    pub(super) fn add_place(&mut self, name: &'static str, value: Vec<u8>) {
        self.place.push((name, value));
    }

    /// Notes a fault; the operator does not match.
    pub(super) fn fail(&mut self, fault: String) -> bool {
        self.fault = Some(fault);
        false
    }
}

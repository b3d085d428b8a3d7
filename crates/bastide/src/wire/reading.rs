//! How files beside the configuration are read for a snapshot: certificates, keys, lists.

use std::cell::RefCell;

use gateway::snapshot::Snapshot;

/// What is done about a file that cannot be used, and the snapshot that will be replaced.
pub struct Reading<'b> {
    before: Option<&'b Snapshot>,
    is_strict: bool,
    refused: RefCell<Vec<String>>,
    missed: RefCell<Vec<String>>,
}

impl<'b> Reading<'b> {
    /// Every file has to be usable: another configuration is taken whole or not at all.
    pub fn whole(before: Option<&'b Snapshot>) -> Self {
        Self { before, is_strict: true, refused: RefCell::default(), missed: RefCell::default() }
    }

    /// For the configuration that `before` was built of: of a file that cannot be used, what was
    /// read the last time stays. What is revoked or renewed never waits for somebody to mend it.
    pub fn as_far_as_possible(before: &'b Snapshot) -> Self {
        Self { is_strict: false, ..Self::whole(Some(before)) }
    }

    /// For what ends with its last connection: nobody has to mend its files, and nothing waits for them.
    pub(super) fn of_what_ends(&self) -> Self {
        Self { is_strict: false, ..Self::whole(self.before) }
    }

    /// Takes down what could not be used of that.
    pub(super) fn miss(&self, faults: Vec<String>) {
        self.missed.borrow_mut().extend(faults);
    }

    /// What could not be used of what ends.
    pub fn take_missed(&self) -> Vec<String> {
        self.missed.take()
    }

    /// The snapshot that will be replaced.
    pub fn before(&self) -> Option<&'b Snapshot> {
        self.before
    }

    /// What was read; or what `kept` finds of it in the snapshot of before, where that may stay.
    ///
    /// # Errors
    /// What was wrong with the file, and nothing may or can stay in its place.
    pub(super) fn or_before<T>(
        &self,
        read: anyhow::Result<T>,
        kept: impl FnOnce(&'b Snapshot) -> Option<T>,
    ) -> anyhow::Result<T> {
        read.or_else(|fault| {
            let before = self.before.filter(|_| !self.is_strict);
            let kept = before.and_then(kept);
            if kept.is_some() {
                self.refused.borrow_mut().push(format!("{fault:#}"));
            }
            kept.ok_or(fault)
        })
    }

    /// The same for one part of several that are made to one thing, so that one that cannot be used
    /// holds up no other. Only one that is another than that of `before` is looked at by `check`.
    ///
    /// # Errors
    /// As [`Self::or_before`].
    pub(super) fn part<T: Clone + PartialEq>(
        &self,
        read: anyhow::Result<T>,
        before: Option<&T>,
        check: impl FnOnce(&T) -> anyhow::Result<()>,
    ) -> anyhow::Result<T> {
        let usable = read.and_then(|new| {
            if before != Some(&new) {
                check(&new)?;
            }
            Ok(new)
        });
        self.or_before(usable, |_| before.cloned())
    }

    /// How many could not be used.
    pub fn refused(&self) -> u64 {
        self.refused.borrow().len() as u64
    }

    /// What could not be used, so that what was before it stays.
    pub fn into_refused(self) -> Vec<String> {
        self.refused.into_inner()
    }
}

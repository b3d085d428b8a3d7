//! Memory of inspections that are over, for the core's next ones.

use std::cell::RefCell;

/// Most that a core keeps: one is taken for each request under way.
const KEPT_MAX: usize = 64;

/// What a core keeps.
#[derive(Debug, Default)]
pub(crate) struct Spares(RefCell<Vec<waf::Spare>>);

impl Spares {
    /// Memory that was used before when there is some.
    pub(crate) fn take(&self) -> waf::Spare {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps it, unless there is enough.
    pub(crate) fn keep(&self, spare: waf::Spare) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_kept_and_no_more() {
        let spares = Spares::default();
        for number in 1..=KEPT_MAX + 1 {
            spares.keep(waf::Spare::default());
            assert_eq!(spares.0.borrow().len(), number.min(KEPT_MAX));
        }
        let _ = spares.take();
        assert_eq!(spares.0.borrow().len(), KEPT_MAX - 1);
    }
}

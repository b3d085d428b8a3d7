//! What others watch is replaced; whoever watches is told only of what is something else.

use std::sync::Arc;

use tokio::sync::watch;

/// Puts the next one in the place of the one before.
pub fn renew<T: PartialEq>(place: &watch::Sender<Arc<T>>, next: T) {
    renew_by(place, next, T::ne);
}

/// The same where something else than equality says whether others are to be told: `differs` is
/// asked for the next one, then the one before.
pub fn renew_by<T>(place: &watch::Sender<Arc<T>>, next: T, differs: impl FnOnce(&T, &T) -> bool) {
    place.send_if_modified(|current| {
        let differs = differs(&next, current);
        *current = Arc::new(next);
        differs
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_watches_is_told_of_what_is_something_else_and_finds_the_newest_either_way() {
        let place = watch::Sender::new(Arc::new((1, 1)));
        let mut told = place.subscribe();
        renew(&place, (1, 1));
        assert!(!told.has_changed().unwrap());
        renew(&place, (1, 2));
        assert!(told.has_changed().unwrap() && **told.borrow_and_update() == (1, 2));
        renew_by(&place, (1, 3), |next, before| next.0 != before.0);
        assert!(!told.has_changed().unwrap() && **told.borrow() == (1, 3));
        renew_by(&place, (2, 3), |next, before| next.0 != before.0);
        assert!(told.has_changed().unwrap());
    }
}

//! One core's places for what is counted by name: as many as there may be names, of which most
//! processes have a few. A sidecar would otherwise pay for ten thousand routes.

use std::sync::OnceLock;

/// Places that are made together.
const TOGETHER: usize = 64;

/// So many places. Those around one are made when it is first counted in.
#[derive(Debug)]
pub(super) struct Places<T>(Box<[OnceLock<Box<[T; TOGETHER]>>]>);

impl<T: Default> Places<T> {
    /// At least so many.
    pub(super) fn new(count: usize) -> Self {
        Self((0..count.div_ceil(TOGETHER)).map(|_| OnceLock::new()).collect())
    }

    /// The place, to count in; `None` past the last.
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        let places = self.0.get(index / TOGETHER)?;
        places.get_or_init(|| Box::new(std::array::from_fn(|_| T::default()))).get(index % TOGETHER)
    }

    /// The place, to read: `None` where nothing was counted in it or around it.
    pub(super) fn made(&self, index: usize) -> Option<&T> {
        self.0.get(index / TOGETHER)?.get()?.get(index % TOGETHER)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn each_index_has_its_own_place_and_none_is_made_by_reading() {
        let places = Places::<Cell<usize>>::new(TOGETHER + 1);
        assert!((0..=2 * TOGETHER).all(|index| places.made(index).is_none()));
        for index in 0..=TOGETHER {
            places.get(index).unwrap().set(index + 1);
        }
        assert!((0..=TOGETHER).all(|index| places.made(index).unwrap().get() == index + 1));
        assert!(places.get(2 * TOGETHER).is_none() && places.made(2 * TOGETHER).is_none());
        let few = Places::<Cell<usize>>::new(10 * TOGETHER);
        few.get(5 * TOGETHER).unwrap().set(1);
        assert!(few.made(0).is_none() && few.made(5 * TOGETHER + 1).is_some(), "only those around it");
    }
}

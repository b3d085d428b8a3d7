//! Which endpoint gets a request: the less busy of two chosen at random (power of two
//! choices), among those that are not ejected.
//!
//! When all are ejected, those that were not tried yet are used all the same: a
//! service whose every endpoint stumbled should recover by itself, and refusing
//! without asking helps nobody. So the last endpoint is never really ejected.

use std::cell::Cell;

/// One endpoint, as far as the choice needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) in_flight: u32,
    pub(crate) ejected: bool,
    pub(crate) tried: bool,
}

/// Random numbers for spreading load; nothing secret depends on them.
#[derive(Debug)]
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    /// A number below `end`, which is not 0 (xorshift64*, Vigna 2016).
    fn below(&self, end: usize) -> usize {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        let high = (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize;
        high.checked_rem(end).unwrap_or(0)
    }
}

/// Chooses among `count` endpoints; `None` when all have been tried.
pub(crate) fn choose(count: usize, of: impl Fn(usize) -> Candidate, dice: &Dice) -> Option<usize> {
    pick(count, &of, dice, |c| !c.tried && !c.ejected).or_else(|| pick(count, &of, dice, |c| !c.tried))
}

fn pick(
    count: usize,
    of: &impl Fn(usize) -> Candidate,
    dice: &Dice,
    fits: impl Fn(Candidate) -> bool,
) -> Option<usize> {
    let fitting = || (0..count).filter(|&index| fits(of(index)));
    let number = fitting().count();
    match number {
        0 => None,
        1 => fitting().next(),
        _ => {
            let first = dice.below(number);
            // Another one than the first.
            let second = (first + 1 + dice.below(number - 1)) % number;
            let (a, b) = (fitting().nth(first)?, fitting().nth(second)?);
            Some(if of(b).in_flight < of(a).in_flight { b } else { a })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(in_flight: u32, ejected: bool, tried: bool) -> Candidate {
        Candidate { in_flight, ejected, tried }
    }

    fn chosen(list: &[Candidate]) -> Vec<usize> {
        let dice = Dice::new(7);
        let mut counts = vec![0; list.len()];
        for _ in 0..1000 {
            if let Some(index) = choose(list.len(), |i| list[i], &dice) {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn the_busiest_of_three_is_never_chosen_and_the_others_share() {
        let counts =
            chosen(&[endpoint(1, false, false), endpoint(9, false, false), endpoint(1, false, false)]);
        assert_eq!(counts[1], 0, "{counts:?}");
        assert!(counts[0] > 300 && counts[2] > 300, "{counts:?}");
    }

    #[test]
    fn an_ejected_endpoint_gets_nothing_while_another_stands() {
        assert_eq!(chosen(&[endpoint(0, true, false), endpoint(50, false, false)]), [0, 1000]);
    }

    #[test]
    fn when_all_are_ejected_they_are_tried_all_the_same() {
        let counts = chosen(&[endpoint(0, true, false), endpoint(0, true, false)]);
        assert_eq!(counts.iter().sum::<usize>(), 1000);
        assert!(counts[0] > 300 && counts[1] > 300, "{counts:?}");
    }

    #[test]
    fn a_retry_goes_to_another_endpoint_and_ends_when_all_were_tried() {
        assert_eq!(chosen(&[endpoint(0, false, true), endpoint(9, true, false)]), [0, 1000]);
        assert_eq!(chosen(&[endpoint(0, false, true), endpoint(0, false, true)]), [0, 0]);
        assert_eq!(chosen(&[]), [] as [usize; 0]);
    }
}

//! How long is waited before something is tried again: longer each time, and never as long as
//! everybody else.

use std::time::Duration;

use keys::SecureRandom;

/// The first wait after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The shortest wait while something is about to end.
const RETRY_BEFORE_END: Duration = Duration::from_millis(100);

/// The wait after so many failures in a row: between a half and the whole of twice the one
/// before.
pub fn after(failures: u32, random: &dyn SecureRandom) -> Duration {
    spread(longest(failures), random)
}

/// The same for another failure where something that is to be renewed ends in so long: at most a
/// quarter of that, so that there is time for several tries. Waits that are shorter for that reason
/// do not count: those who hold nothing that is good any more try again as soon as others do.
pub fn before_end(ends_in: Duration, failures: &mut u32, random: &dyn SecureRandom) -> Duration {
    let bound = (ends_in / 4).max(RETRY_BEFORE_END);
    let next = failures.saturating_add(1);
    if !ends_in.is_zero() && bound < longest(next) {
        return spread(bound, random);
    }
    *failures = next;
    after(next, random)
}

fn longest(failures: u32) -> Duration {
    RETRY.0.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(RETRY.1)
}

fn spread(longest: Duration, random: &dyn SecureRandom) -> Duration {
    longest / 1_000 * (500 + below(500, random))
}

/// A random number below `bound`; 0 where there is none to be had.
pub(crate) fn below(bound: u32, random: &dyn SecureRandom) -> u32 {
    let mut bytes = [0; 4];
    let _ = random.fill(&mut bytes);
    u32::from_ne_bytes(bytes) % bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let random = keys::SystemRandom::new();
        for (failures, longest) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (60, 30), (u32::MAX, 30)] {
            let longest = Duration::from_secs(longest);
            let waits: Vec<Duration> = (0..100).map(|_| after(failures, &random)).collect();
            assert!(waits.iter().all(|wait| *wait >= longest / 2 && *wait <= longest), "{waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
        }
    }

    #[test]
    fn what_ends_soon_is_tried_again_several_times_before_it_does() {
        let random = keys::SystemRandom::new();
        for (ends_in_ms, failures, longest_ms, counted) in [
            (0, 5, 30_000, 6),
            (1_800_000, 5, 30_000, 6),
            (8_000, 5, 2_000, 5),
            (1_800, 2, 450, 2),
            (8_000, 0, 1_000, 1),
            (10, 9, 100, 9),
        ] {
            let mut count = failures;
            let wait = before_end(Duration::from_millis(ends_in_ms), &mut count, &random);
            let longest = Duration::from_millis(longest_ms);
            assert!(wait >= longest / 2 && wait <= longest, "{ends_in_ms}: {wait:?}");
            assert_eq!(count, counted, "{ends_in_ms}");
        }
        let (mut left, mut tries, mut failures) = (Duration::from_secs(2), 0, 0);
        while !left.is_zero() {
            tries += 1;
            left = left.saturating_sub(before_end(left, &mut failures, &random));
        }
        assert!((5..60).contains(&tries), "{tries}");
        assert!(before_end(left, &mut failures, &random) <= RETRY.0, "{failures} failures");
    }
}

//! How long is waited before something is tried again: longer each time, and never as long as
//! everybody else.

use std::time::Duration;

use keys::SecureRandom;

/// The first wait after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The wait after so many failures in a row: between a half and the whole of twice the one
/// before.
pub fn after(failures: u32, random: &dyn SecureRandom) -> Duration {
    let longest = RETRY.0.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(RETRY.1);
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
}

//! What is refused and said only so often, since it costs whoever makes it happen nothing: connections, and how many
//! others there were.

use model::seldom::{Rate, Seldom};
use tokio::time::Instant;

/// How often it is said that connections are refused.
const SAID: Rate = Rate { at_once: 1, every_ms: 1_000 };

/// The refused connections of a listener.
#[derive(Debug)]
pub(crate) struct LeftOut {
    since: Instant,
    told: Seldom<()>,
}

impl Default for LeftOut {
    fn default() -> Self {
        Self { since: Instant::now(), told: Seldom::new(SAID, None) }
    }
}

impl LeftOut {
    /// Whether this one is said; then how many were not, before it.
    pub(crate) fn one(&mut self, now: Instant) -> Option<u64> {
        let now = now.saturating_duration_since(self.since).as_millis();
        self.told.take((), u64::try_from(now).unwrap_or(u64::MAX))
    }
}

/// The reason of a refusal, with how many others were not told of before it.
pub(crate) fn with_others(reason: String, left_out: u64, whose: &str) -> String {
    match left_out {
        0 => reason,
        count => format!("{reason} (and {count} more {whose} before it)"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SAID_EVERY: Duration = Duration::from_millis(SAID.every_ms);

    #[test]
    fn refused_connections_are_said_once_a_second_and_counted_besides() {
        let (mut left_out, start) = (LeftOut::default(), Instant::now());
        let said: Vec<u64> =
            (0..900).filter_map(|at| left_out.one(start + Duration::from_millis(at))).collect();
        assert_eq!(said, [0]);
        assert_eq!(left_out.one(start + SAID_EVERY), Some(899));
        assert_eq!(left_out.one(start + SAID_EVERY), None);
    }
}

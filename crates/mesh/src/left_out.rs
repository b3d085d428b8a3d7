//! Connections that were refused, of which a line is said only so often: they cost whoever makes them nothing.

use std::time::Duration;

use tokio::time::Instant;

/// How often it is said that connections are refused.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// What was said last, and how many were not since.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    said: Option<Instant>,
    count: u64,
}

impl LeftOut {
    /// Whether this one is said; then how many were not, before it.
    pub(crate) fn one(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now < said + SAID_EVERY) {
            self.count += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

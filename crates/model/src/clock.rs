//! Time as an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in wall-clock time: nanoseconds since 1970-01-01T00:00:00Z, without leap
/// seconds. Good until the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From whole seconds since the epoch; saturates at the largest value.
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// From nanoseconds since the epoch.
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub const fn unix_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Nanoseconds since the epoch.
    pub const fn unix_nanos(self) -> u64 {
        self.0
    }

    /// This time moved later; saturates.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This time moved earlier; saturates at the epoch.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Hour of the day in UTC, 0 to 23.
    pub const fn hour(self) -> u8 {
        ((self.unix_seconds() / 3600) % 24) as u8
    }

    /// Minute of the hour in UTC, 0 to 59.
    pub const fn minute(self) -> u8 {
        ((self.unix_seconds() / 60) % 60) as u8
    }

    /// Day of the week in UTC, ISO 8601: Monday is 1, Sunday is 7.
    pub const fn weekday(self) -> u8 {
        // 1970-01-01 was a Thursday (4).
        ((self.unix_seconds() / 86_400 + 3) % 7 + 1) as u8
    }
}

/// The edge of the world where time is read. The one real implementation lives in
/// the binary; tests pass a clock that they move by hand.
pub trait Clock: Send + Sync {
    /// Wall-clock time. May jump when an operator or NTP steps the clock.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary start in this process. Never goes backwards.
    fn monotonic(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_parts_are_those_of_known_dates() {
        // 2026-11-22T21:51:07Z is a Sunday.
        let sunday = Timestamp::from_unix_seconds(1_795_384_267);
        assert_eq!((sunday.weekday(), sunday.hour(), sunday.minute()), (7, 21, 51));
        // 1970-01-01 was a Thursday.
        assert_eq!(Timestamp::default().weekday(), 4);
        // The Monday after it.
        assert_eq!(Timestamp::from_unix_seconds(4 * 86_400).weekday(), 1);
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::default().minus(Duration::from_secs(1)), Timestamp::default());
        let last = Timestamp::from_unix_nanos(u64::MAX);
        assert_eq!(last.plus(Duration::from_secs(1)), last);
        assert_eq!(Timestamp::default().since(last), Duration::ZERO);
    }
}

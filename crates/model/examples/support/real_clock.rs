//! The machine's clock, for the examples that measure.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::{Clock, Timestamp};

pub(crate) struct RealClock(pub(crate) Instant);

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Timestamp::from_unix_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

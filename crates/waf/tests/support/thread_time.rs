//! Time that this thread had the processor: what others do on the machine does not count.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Since the thread began. Exact at once, unlike `/proc/thread-self/schedstat`, which stands
/// still between two ticks.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

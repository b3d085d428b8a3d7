//! What the system says of this process, under the names that Prometheus' client libraries give it.

use std::time::Duration;

use gateway::metric::exposition::Exposition;
use model::Timestamp;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::metrics;

/// What one look at the system has found; 0 where it does not say.
#[derive(Debug)]
struct Usage {
    /// User and system time of all threads.
    cpu: Duration,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_files: u64,
    open_files_max: u64,
}

impl Usage {
    fn now() -> Self {
        let cpu = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
        let page = rustix::param::page_size() as u64;
        // Pages: of the address space, and those that are in memory (proc_pid_statm(5)).
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut pages = pages.split_ascii_whitespace().map(|word| word.parse::<u64>().unwrap_or(0) * page);
        let [virtual_bytes, resident_bytes] = [(); 2].map(|()| pages.next().unwrap_or(0));
        // The look at the folder is one of them.
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1));
        let open_files_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self { cpu, resident_bytes, virtual_bytes, open_files: open as u64, open_files_max }
    }
}

/// Writes what this process is and what it uses.
pub(super) fn write(started: Timestamp, out: &mut Exposition) {
    out.family(&metrics::BUILD_INFO);
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let usage = Usage::now();
    out.seconds(&metrics::PROCESS_CPU, usage.cpu);
    out.only(&metrics::PROCESS_RESIDENT, usage.resident_bytes);
    out.only(&metrics::PROCESS_VIRTUAL, usage.virtual_bytes);
    out.only(&metrics::PROCESS_FILES, usage.open_files);
    out.only(&metrics::PROCESS_FILES_MAX, usage.open_files_max);
    out.only(&metrics::PROCESS_START, started.unix_seconds());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_this_process_uses() {
        let before = Usage::now();
        let files: Vec<_> = (0..10).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let memory = vec![1_u8; 64 << 20];
        let after = Usage::now();
        // Other tests of this process open and close files beside it.
        assert!(after.open_files >= 10 && before.open_files > 0, "{before:?} {after:?}");
        assert!(after.open_files <= after.open_files_max);
        assert!(after.resident_bytes > 64 << 20 && after.virtual_bytes > after.resident_bytes, "{after:?}");
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        drop((files, memory));
    }
}

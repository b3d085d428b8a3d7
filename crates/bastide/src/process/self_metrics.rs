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
        let open_files = open_files_by_size().unwrap_or_else(open_files_by_list);
        let open_files_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self { cpu, resident_bytes, virtual_bytes, open_files, open_files_max }
    }
}

/// The folder of the files that this process has open, one entry each.
const OPEN_FILES: &str = "/proc/self/fd";

/// How many they are, by the size of their folder: from Linux 6.2 on that is their number, and
/// was 0 before.
fn open_files_by_size() -> Option<u64> {
    std::fs::metadata(OPEN_FILES).map(|folder| folder.len()).ok().filter(|open| *open > 0)
}

/// The same by a look at each, which takes long where they are many.
fn open_files_by_list() -> u64 {
    // The look at the folder is one of them.
    std::fs::read_dir(OPEN_FILES).map_or(0, |all| all.count().saturating_sub(1)) as u64
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
    use std::process::Command;

    use super::*;

    /// Set for a process that has this test alone: other tests open files and take memory beside it.
    const ALONE: &str = "BASTIDE_TEST_ALONE";

    #[test]
    fn the_system_says_what_this_process_uses() {
        if std::env::var_os(ALONE).is_none() {
            let name = format!("{}::the_system_says_what_this_process_uses", module_path!());
            let (_, name) = name.split_once("::").unwrap();
            let mut test = Command::new(std::env::current_exe().unwrap());
            let ended = test.args(["--exact", name, "--test-threads=1"]).env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&ended.stdout);
            assert!(ended.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let before = Usage::now();
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let memory = vec![1_u8; 64 << 20];
        let after = Usage::now();
        assert_eq!(after.open_files, before.open_files + 50);
        assert_eq!(open_files_by_list(), after.open_files);
        // A kernel before 6.2 does not say.
        assert!([None, Some(after.open_files)].contains(&open_files_by_size()));
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(&*after.open_files_max.to_string()), "{line}");
        for [before, after] in
            [[before.resident_bytes, after.resident_bytes], [before.virtual_bytes, after.virtual_bytes]]
        {
            let more = after - before;
            assert!((60 << 20..80 << 20).contains(&more), "{more} bytes more");
        }
        // Of all that this process has used so far, and no longer than it runs.
        let took = after.cpu - before.cpu;
        assert!(took > Duration::ZERO && after.cpu < Duration::from_secs(60), "{before:?} {after:?}");
        drop((files, memory));
        assert_eq!(Usage::now().open_files, before.open_files);
    }
}

//! What a process and its children have used, as the kernel counts it.

use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// Ticks per second of the times in `/proc`; Linux has 100 on every architecture that
/// Bastide runs on (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of the process and of its children that live.
///
/// # Errors
/// The process is gone.
pub(crate) fn cpu(process: u32) -> Result<Duration> {
    let ticks: u64 = family(process)?.into_iter().map(|stat| stat.ticks).sum();
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// Resident memory of the process and of its children that live, in KiB. Pages that
/// several of them share are counted in parts (the kernel's proportional set size).
///
/// # Errors
/// The process is gone.
pub(super) fn resident_kib(process: u32) -> Result<u64> {
    let one = |process: u32| {
        let path = format!("/proc/{process}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        proportional_kib(&text).with_context(|| format!("no Pss in {path}"))
    };
    family(process)?.into_iter().map(|stat| one(stat.process)).sum()
}

fn proportional_kib(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The most memory that the process itself has ever held, shared pages included, in KiB.
///
/// # Errors
/// The process is gone.
pub(crate) fn resident_kib_most(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    line.trim().trim_end_matches(" kB").parse().context("VmHWM is not a number")
}

struct Stat {
    process: u32,
    parent: u32,
    ticks: u64,
}

fn family(process: u32) -> Result<Vec<Stat>> {
    let all: Vec<Stat> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|process| parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?))
        .collect();
    if !all.iter().any(|stat| stat.process == process) {
        anyhow::bail!("process {process} ended while it was measured");
    }
    Ok(all.into_iter().filter(|stat| stat.process == process || stat.parent == process).collect())
}

/// `proc(5)`: fields 1 (pid), 4 (ppid), 14 (utime), 15 (stime); 2 is a name in
/// parentheses that may hold anything, also parentheses.
fn parse(stat: &str) -> Option<Stat> {
    let process = stat.split(' ').next()?.parse().ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(1);
    let parent = fields.next()?.parse().ok()?;
    let mut times = fields.skip(9);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(Stat { process, parent, ticks: user + system })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_past_any_name() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 200 0 0 31 11 900 900 20 0 1 0 12345 0 0";
        let stat = parse(line).unwrap();
        assert_eq!((stat.process, stat.parent, stat.ticks), (42, 7, 42));
    }

    #[test]
    fn memory_is_read_from_its_line() {
        let text = "00400000-7ffc0000 ---p 00000000 00:00 0 [rollup]\nRss:  9000 kB\nPss:  4321 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(proportional_kib(text), Some(4_321));
        assert_eq!(proportional_kib("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        assert!(resident_kib(std::process::id()).unwrap() > 0);
        assert!(resident_kib_most(std::process::id()).unwrap() > 0);
        assert!(cpu(std::process::id()).is_ok());
        assert!(cpu(u32::MAX).is_err());
    }
}

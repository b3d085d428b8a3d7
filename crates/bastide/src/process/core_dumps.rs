//! Keys stay in memory: the kernel writes no core dump of a process that holds them, and lets no other
//! program of its user read its memory (prctl(2), `PR_SET_DUMPABLE`).
//!
//! Who is root, or has `CAP_SYS_PTRACE`, reads it all the same. Programs that are started are not
//! concerned: the kernel allows both again at execve(2).

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps, unless they are wanted. Called before any key is read.
///
/// # Errors
/// What the system said.
pub(super) fn forbid(danger_core_dumps: bool) -> anyhow::Result<()> {
    if danger_core_dumps {
        return Ok(());
    }
    // The limit alone would not do: a crash handler that is a program (core(5), `|`) gets dumps whatever
    // it is.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("forbidding core dumps")?;
    let maximum = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum }).context("forbidding core dumps")
}

/// Forbids core dumps of a process that is known by what the kernel shows of it, which is less of one whose memory
/// nobody may read (proc(5)): only by the limit of their size. Gives that of before, for others.
///
/// # Errors
/// What the system said.
pub(super) fn forbid_by_limit(danger_core_dumps: bool) -> anyhow::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Core);
    if !danger_core_dumps {
        // One byte, not none: then a crash handler that is a program is not started either (`do_coredump`).
        let least = Some(maximum.unwrap_or(1).min(1));
        setrlimit(Resource::Core, Rlimit { current: least, maximum }).context("forbidding core dumps")?;
    }
    Ok(current)
}

/// Says that they are not forbidden, once there is a log.
pub(super) fn warn_of(danger_core_dumps: bool) {
    if danger_core_dumps {
        tracing::warn!(
            "--danger-core-dumps: core dumps, and programs of the same user, can read this process' keys"
        );
    }
}

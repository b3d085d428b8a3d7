//! Processes that those of the program leave behind. The first process of a container (PID 1) is the parent of all
//! of them, and the kernel keeps each that has ended in the table of processes until its parent has asked how.

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Asks how they ended, as long as this is polled; never ends. Where this is another process than the first, there
/// are none. How the program ended is for others to ask.
pub(super) async fn let_go(program: Option<Pid>) {
    let first = getpid().is_init().then(|| signal(SignalKind::child()).ok()).flatten();
    let Some(mut child_ended) = first else { return std::future::pending().await };
    loop {
        for orphan in children().into_iter().filter(|child| Some(*child) != program) {
            let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
        }
        if child_ended.recv().await.is_none() {
            return std::future::pending().await;
        }
    }
}

/// The children of this process' threads (proc(5), `/proc/pid/task/tid/children`).
fn children() -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let listed =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let listed: String = listed.collect();
    listed.split_ascii_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
}

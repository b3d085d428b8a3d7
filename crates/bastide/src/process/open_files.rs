//! Open files: each connection is one, so that a process of many takes as many as the system grants it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Gives that of before, for programs that are started: some count on few,
/// as select(2) does. `None`: there was none.
pub(super) fn allow_all() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Where that is refused it stays as it is, and `warn_of_few` says what that means.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    current
}

/// Says that there are fewer than the connections that are allowed.
pub(super) fn warn_of_few(connections_max: u64) {
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files <= connections_max) {
        tracing::warn!(
            "limits.connections_max is {connections_max}, but this process may open {files} files, and each \
             connection is one, as is each to a service: raise the hard limit (`ulimit -Hn`, `LimitNOFILE=`)"
        );
    }
}

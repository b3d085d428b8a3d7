//! What runs beside the server on the control plane for a snapshot: what keeps issuers' keys
//! fresh, and asks about opaque tokens.

use std::sync::Arc;

use gateway::snapshot::Snapshot;
use tokio::task::JoinHandle;

use crate::wire::Parts;

/// Keeps the issuers' keys fresh, until the task is aborted; and asks about opaque tokens for as
/// long as a core may want to know.
pub(super) fn spawn(snapshot: &Snapshot, parts: &Parts) -> JoinHandle<()> {
    let (fetch, clock) = (&parts.fetch, &parts.process.clock);
    if let Some(introspector) = &snapshot.introspector {
        let ways = (fetch.clone() as Arc<_>, fetch.clone() as Arc<_>);
        tokio::spawn(Arc::clone(introspector).run(ways, Arc::clone(clock), parts.random.clone()));
    }
    tokio::spawn(Arc::clone(&snapshot.issuers).run(fetch.clone(), Arc::clone(clock)))
}

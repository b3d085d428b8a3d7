//! Identities that were given and refused, in the audit log: one event each, as for any
//! other request. It stands in the log before the identity is given.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;

use ::mesh::workload_api::{AuditRecorder, Event};
use keys::SystemRandom;
use model::event::{AccessEvent, Outcome, Step};
use model::{PrincipalKind, RequestId};

use crate::process::audit_handle::AuditHandle;

/// Writes the mesh's events down.
#[derive(Debug)]
pub(super) struct MeshAudit {
    audit: AuditHandle,
    random: Arc<SystemRandom>,
}

impl MeshAudit {
    /// Writes them into this log.
    pub(super) fn new(audit: AuditHandle, random: Arc<SystemRandom>) -> Self {
        Self { audit, random }
    }
}

impl AuditRecorder for MeshAudit {
    fn record(&self, event: Event) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async move {
            let entry = self.audit.reserve_new(event.time, &self.random).await;
            let Some(entry) = entry else { return false };
            let id = entry.id();
            entry.commit(access_event(id, event));
            true
        })
    }
}

fn access_event(id: RequestId, event: Event) -> AccessEvent<'static> {
    let refused = !event.refused.is_empty();
    AccessEvent {
        outcome: if refused { Outcome::Denied } else { Outcome::Allowed },
        step: if refused { Step::Authenticate } else { Step::Forward },
        reason: Cow::Owned(event.refused),
        status: if refused { 403 } else { 200 },
        method: Cow::Borrowed("POST"),
        host: Cow::Borrowed("workload-api"),
        path: Cow::Borrowed(event.call),
        version: Cow::Borrowed("2"),
        user_agent: Cow::Owned(match event.node.as_str() {
            "" => format!("process {} of user {}", event.pid, event.uid),
            node => format!("node {node}"),
        }),
        route: Cow::Borrowed("mesh"),
        // What was given, where others name the endpoint that answered.
        upstream: Cow::Owned(event.document),
        principal_kind: if event.id.is_some() { PrincipalKind::Service } else { PrincipalKind::Anonymous },
        principal: Cow::Owned(event.id.map(|id| id.to_string()).unwrap_or_default()),
        ..AccessEvent::bare(id, event.time)
    }
}

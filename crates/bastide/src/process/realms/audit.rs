//! Logins, logouts and changes of what one logs in with, in the audit log: OCSF Authentication
//! and Account Change, beside the events of the requests that led to them.

use std::borrow::Cow;
use std::sync::Arc;

use identity::observe::{Event, Failure, Observe, Place, Reserving};
use keys::SystemRandom;
use model::event::{AccessEvent, AccountEvent, Outcome, Step};
use model::{PrincipalKind, RequestId, Timestamp};

use crate::config;
use crate::process::audit_handle::AuditHandle;

/// Writes the realms' events down.
#[derive(Debug)]
pub struct RealmAudit {
    audit: AuditHandle,
    random: Arc<SystemRandom>,
}

impl RealmAudit {
    /// Writes them into this log.
    pub fn new(audit: AuditHandle, random: Arc<SystemRandom>) -> Self {
        Self { audit, random }
    }
}

impl Observe for RealmAudit {
    fn reserve(&self, time: Timestamp) -> Reserving<'_> {
        Box::pin(async move {
            let entry = self.audit.reserve_new(time, &self.random).await?;
            let write = |event| {
                let id = entry.id();
                entry.commit_account(account_event(id, event));
            };
            Some(Box::new(write) as Place)
        })
    }
}

fn account_event(id: RequestId, event: Event) -> AccountEvent {
    let status = match event.failure {
        None => 200,
        Some(Failure::Throttled) => 429,
        Some(Failure::NotBegun) => 500,
        Some(_) => 401,
    };
    let access = AccessEvent {
        outcome: if event.failure.is_some() { Outcome::Denied } else { Outcome::Allowed },
        step: if event.failure.is_some() { Step::Authenticate } else { Step::Forward },
        reason: Cow::Borrowed(event.failure.map_or(event.why, Failure::name)),
        status,
        client_address: Cow::Owned(event.address.map(|address| address.to_string()).unwrap_or_default()),
        method: Cow::Owned(event.method),
        host: Cow::Owned(config::issuer_host(&event.issuer)),
        path: Cow::Owned(event.path),
        user_agent: Cow::Owned(event.agent),
        route: Cow::Borrowed("identity"),
        principal_kind: if event.user_id.is_empty() { PrincipalKind::Anonymous } else { PrincipalKind::User },
        principal: Cow::Owned(event.user_name),
        issuer: Cow::Owned(event.issuer),
        ..AccessEvent::bare(id, event.time)
    };
    AccountEvent {
        access,
        activity: event.activity,
        user_id: event.user_id,
        realm: event.realm,
        client: event.client,
        session: event.session,
        request: event.request,
        methods: event.methods,
    }
}

//! Identities that were given and refused, in the audit log: one event each, as for any
//! other request. It stands in the log before the identity is given.

use std::borrow::Cow;
use std::pin::Pin;
use std::rc::Rc;

use ::mesh::workload_api::{Event, Witness};
use audit::Queue;
use keys::{SecureRandom as _, SystemRandom};
use model::event::{AccessEvent, Outcome, Step};
use model::{Credential, PrincipalKind, RequestId};
use tokio::sync::{mpsc, oneshot};

/// Events that wait for their turn; whoever comes later waits.
const WAITING_MAX: usize = 1_024;

/// Writes the mesh's events down. Its queue lives on a thread of its own, as each core's
/// lives on the core.
#[derive(Debug)]
pub struct MeshAudit(mpsc::Sender<(Event, oneshot::Sender<bool>)>);

impl MeshAudit {
    /// Starts the thread, which ends with the last of these.
    pub fn start(queue: Queue) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        // Without a thread nobody receives, and nothing is given.
        let _ =
            std::thread::Builder::new().name("mesh-audit".to_owned()).spawn(move || write(queue, receiver));
        Self(sender)
    }
}

impl Witness for MeshAudit {
    fn record(&self, event: Event) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async move {
            let (taken, answer) = oneshot::channel();
            self.0.send((event, taken)).await.is_ok() && answer.await.unwrap_or(false)
        })
    }
}

fn write(queue: Queue, mut events: mpsc::Receiver<(Event, oneshot::Sender<bool>)>) {
    let (queue, random) = (Rc::new(queue), SystemRandom::new());
    while let Some((event, answer)) = events.blocking_recv() {
        let mut number = [0; 16];
        let _ = random.fill(&mut number);
        let id = RequestId::new(event.time.unix_millis(), u128::from_ne_bytes(number));
        let slot = queue.reserve(id, event.time);
        let _ = answer.send(slot.is_ok());
        if let Ok(slot) = slot {
            slot.commit(&access_event(id, &event));
        }
    }
}

fn access_event(id: RequestId, event: &Event) -> AccessEvent<'_> {
    let refused = !event.refused.is_empty();
    let principal = event.id.as_ref().map_or("", |id| id.as_str());
    AccessEvent {
        id,
        time: event.time,
        duration_nanos: 0,
        outcome: if refused { Outcome::Denied } else { Outcome::Allowed },
        step: if refused { Step::Authenticate } else { Step::Forward },
        reason: Cow::Borrowed(&event.refused),
        status: if refused { 403 } else { 200 },
        client_address: Cow::Borrowed(""),
        client_port: 0,
        tls: Cow::Borrowed(""),
        method: Cow::Borrowed("POST"),
        host: Cow::Borrowed("workload-api"),
        path: Cow::Borrowed(event.call),
        version: Cow::Borrowed("2"),
        user_agent: Cow::Owned(format!("process {} of user {}", event.pid, event.uid)),
        route: Cow::Borrowed("mesh"),
        // What was given, where others name the endpoint that answered.
        upstream: Cow::Borrowed(&event.document),
        attempts: 0,
        bytes_in: 0,
        bytes_out: 0,
        principal_kind: if event.id.is_some() { PrincipalKind::Service } else { PrincipalKind::Anonymous },
        principal: Cow::Borrowed(principal),
        credential: Credential::None,
        issuer: Cow::Borrowed(""),
        trace_id: Cow::Borrowed(""),
        decision: None,
        decision_json: Cow::Borrowed(&[]),
        firewall: None,
        firewall_json: Cow::Borrowed(&[]),
    }
}

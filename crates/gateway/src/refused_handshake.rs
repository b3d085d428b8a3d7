//! Clients that were refused before they could ask for anything: one audit event each, as of
//! requests. How many there are of one source and of all is bounded where they come from
//! ([`proxy::RefusedHandshake`]).

use std::borrow::Cow;

use model::Switch;
use model::event::{AccessEvent, Outcome, Step};
use proxy::RefusedHandshake;

use crate::serve::Gateway;

impl Gateway {
    /// Writes the event. Whether there was a place for it: nobody waits for one, because there
    /// is nobody to be let in afterwards. Where events are dropped then, it counts as one of those.
    pub(crate) fn write_refused_handshake(&self, refused: &RefusedHandshake<'_>) -> bool {
        let Some(queue) = self.core().audit.as_ref().filter(|_| !Switch::Audit.is_off()) else {
            return false;
        };
        let time = self.snapshot().process.clock.now();
        let id = self.core().ids.next(time);
        let Ok(slot) = queue.reserve(id, time) else { return false };
        let (connection, has_place) = (refused.connection, slot.has_place());
        slot.commit(&AccessEvent {
            outcome: Outcome::Denied,
            step: Step::Accept,
            reason: Cow::Owned(reason(refused)),
            client_address: Cow::Borrowed(&connection.peer_text),
            client_port: connection.peer.port(),
            ..AccessEvent::bare(id, time)
        });
        has_place
    }
}

fn reason(refused: &RefusedHandshake<'_>) -> String {
    let RefusedHandshake { connection, reason, left_out } = refused;
    let before = match left_out {
        0 => String::new(),
        count => format!(" ({count} more of this source before it, without an event)"),
    };
    format!("TLS handshake refused at {}{before}: {reason}", connection.local)
}

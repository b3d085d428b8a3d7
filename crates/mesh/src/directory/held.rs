//! What a control plane has told that may be away: kept while it is, and for a while beside what it
//! tells when it is back. Leases that ended meanwhile are taken up again by those who are there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::SpiffeId;

use super::{Endpoints, GRACE, KEPT_MAX, ServiceAt, apply};

/// Times are of a clock that does not go back.
#[derive(Debug, Default)]
pub(crate) struct Held {
    told: Endpoints,
    /// What was known before an interruption, and until when it counts: one that follows prolongs
    /// nothing.
    before: BTreeMap<(SpiffeId, SocketAddr), Duration>,
    /// When something was said last.
    heard: Duration,
}

impl Held {
    /// Whoever tells begins anew.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.before.retain(|_, until| now < *until);
        let told = std::mem::take(&mut self.told);
        if self.is_over(now) {
            return;
        }
        for (id, addresses) in told {
            let until = |address| ((id.clone(), address), now + GRACE);
            self.before.extend(addresses.into_iter().map(until));
        }
    }

    /// # Errors
    /// What cannot be read; then nothing of it is taken.
    pub(crate) fn take(&mut self, told: Vec<ServiceAt>, now: Duration) -> Result<(), String> {
        self.heard = now;
        if told.is_empty() {
            return Ok(());
        }
        let was = self.told.clone();
        apply(&mut self.told, told)?;
        // What is taken out now is out at once.
        for (id, addresses) in was {
            let left = self.told.get(&id);
            let gone =
                addresses.into_iter().filter(|address| left.is_none_or(|left| !left.contains(address)));
            for address in gone {
                self.before.remove(&(id.clone(), address));
            }
        }
        Ok(())
    }

    /// What is to be used.
    pub(crate) fn shown(&self, now: Duration) -> Endpoints {
        if self.is_over(now) {
            return Endpoints::new();
        }
        let mut shown = self.told.clone();
        for ((id, address), _) in self.before.iter().filter(|(_, until)| now < **until) {
            shown.entry(id.clone()).or_default().insert(*address);
        }
        shown
    }

    /// Whether nobody has said anything for too long.
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.heard) > KEPT_MAX
    }
}

//! What a control plane has told that may be away: kept while it is, and for a while beside what it
//! tells when it is back. Leases that ended meanwhile are taken up again by those who are there.

use std::time::Duration;

use super::{Endpoints, GRACE, KEPT_MAX, ServiceAt, apply};

/// Times are of a clock that does not go back.
#[derive(Debug, Default)]
pub(crate) struct Held {
    told: Endpoints,
    /// What was known before the last interruption, and until when that counts.
    before: Option<(Endpoints, Duration)>,
    /// When something was said last.
    heard: Duration,
}

impl Held {
    /// Whoever tells begins anew.
    pub(crate) fn begin(&mut self, now: Duration) {
        let before = self.shown(now);
        self.told = Endpoints::new();
        self.before = Some((before, now + GRACE));
    }

    /// # Errors
    /// What cannot be read; then nothing of it is taken.
    pub(crate) fn take(&mut self, told: Vec<ServiceAt>, now: Duration) -> Result<(), String> {
        self.heard = now;
        apply(&mut self.told, told)
    }

    /// What is to be used.
    pub(crate) fn shown(&self, now: Duration) -> Endpoints {
        if now.saturating_sub(self.heard) > KEPT_MAX {
            return Endpoints::new();
        }
        let mut shown = self.told.clone();
        if let Some((before, _)) = self.before.as_ref().filter(|(_, until)| now < *until) {
            for (id, addresses) in before {
                shown.entry(id.clone()).or_default().extend(addresses);
            }
        }
        shown
    }
}

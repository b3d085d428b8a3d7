//! Handshakes of clients whose certificate was not taken: which of them are written down, so that
//! a flood fills no log, and how many are not.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::ClientNetwork;
use model::seldom::{Rate, Seldom};

/// Of one source.
const OF_ONE: Rate = Rate { at_once: 10, every_ms: 1_000 };
/// Of all sources together.
const OF_ALL: Rate = Rate { at_once: 200, every_ms: 20 };

/// The refused handshakes of all cores. The lock is taken for those alone.
#[derive(Debug)]
pub(crate) struct RefusedHandshakes {
    sources: Mutex<Seldom<ClientNetwork>>,
    written: AtomicU64,
    left_out: AtomicU64,
}

impl Default for RefusedHandshakes {
    fn default() -> Self {
        let sources = Mutex::new(Seldom::new(OF_ONE, Some(OF_ALL)));
        Self { sources, written: AtomicU64::default(), left_out: AtomicU64::default() }
    }
}

impl RefusedHandshakes {
    /// Has `write` write one down, or counts it: because too many came before it, or because
    /// `write` had no place. What `write` is given is how many of the same source were left out
    /// before.
    pub(crate) fn take(&self, source: IpAddr, now_ms: u64, write: impl FnOnce(u64) -> bool) {
        let source = ClientNetwork::of(source);
        let taken = self.sources().take(source, now_ms);
        let is_written = taken.is_some_and(write);
        if let (Some(left_out), false) = (taken, is_written) {
            // The next one of it that is written says so.
            self.sources().leave_out(&source, left_out + 1);
        }
        let counter = if is_written { &self.written } else { &self.left_out };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn sources(&self) -> MutexGuard<'_, Seldom<ClientNetwork>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many were written down, and how many were not.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.left_out.load(Ordering::Relaxed))
    }
}

/// Whether a handshake failed because we refused what the client showed or sent. A client that
/// went away, or refused us, was not refused.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.is_some_and(|error| !matches!(error, rustls::Error::AlertReceived(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn number(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0b00_0000 + n).into()
    }

    #[test]
    fn one_source_is_written_down_up_to_its_rate_and_the_rest_is_counted() {
        let refused = RefusedHandshakes::default();
        let mut told = Vec::new();
        for _ in 0..OF_ONE.at_once + 5 {
            refused.take(ONE, 1_000, |left_out| {
                told.push(left_out);
                true
            });
        }
        assert_eq!(told, [0; 10], "at the limit, and not one past it");
        assert_eq!(refused.totals(), (10, 5));
        // Somebody else is not held back by it.
        refused.take(number(1), 1_000, |left_out| left_out == 0);
        assert_eq!(refused.totals(), (11, 5));
        // One more in each second, with what was left out before it.
        for (now_ms, expected) in [(1_999, None), (2_000, Some(6)), (2_000, None), (3_000, Some(1))] {
            let mut found = None;
            refused.take(ONE, now_ms, |left_out| {
                found = Some(left_out);
                true
            });
            assert_eq!(found, expected, "{now_ms}");
        }
    }

    #[test]
    fn a_network_is_one_source() {
        let refused = RefusedHandshakes::default();
        for host in 0..20 {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, host);
            refused.take(address.into(), 1_000, |_| true);
        }
        assert_eq!(refused.totals(), (10, 10));
    }

    #[test]
    fn all_sources_together_have_a_rate_too() {
        let refused = RefusedHandshakes::default();
        for n in 0..300 {
            refused.take(number(n), 1_000, |_| true);
        }
        assert_eq!(refused.totals(), (200, 100));
        refused.take(number(300), 1_020, |_| true);
        assert_eq!(refused.totals(), (201, 100));
    }

    #[test]
    fn what_finds_no_place_in_the_log_is_counted_as_left_out() {
        let refused = RefusedHandshakes::default();
        refused.take(ONE, 1_000, |_| false);
        refused.take(ONE, 1_000, |left_out| left_out != 1);
        assert_eq!(refused.totals(), (0, 2));
        let mut found = None;
        refused.take(ONE, 1_000, |left_out| {
            found = Some(left_out);
            true
        });
        assert_eq!(found, Some(2), "each is said by the next that is written");
        refused.take(ONE, 1_000, |left_out| left_out == 0);
        assert_eq!(refused.totals(), (2, 2));
    }

    #[test]
    fn only_what_we_refused_is_a_refusal() {
        let refused = rustls::Error::NoCertificatesPresented;
        let theirs = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        let of = |error: rustls::Error| is_refusal(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert!(of(refused) && !of(theirs));
        assert!(!is_refusal(&io::ErrorKind::UnexpectedEof.into()), "a client that went away");
    }
}

//! The task that keeps the certificates of one directory: the one that is due first is
//! ordered, one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keys::SecureRandom as _;
use model::Timestamp;

use super::issued::Issued;
use super::order::{Client, Failure};
use super::schedule::{self, Cause};
use super::{Orders, Slot, Wanted};

/// For one order as a whole.
const ORDER_WITHIN: Duration = Duration::from_secs(600);
/// How long it sleeps at most: the clock may be put forward.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// For so long after it was issued nobody is asked whether to renew a certificate: a server
/// that always says yes would issue without end.
const NEW_ENOUGH: Duration = Duration::from_secs(6 * 3600);
/// When a server that does not tell when to renew is asked again.
const NO_WISH_AGAIN: Duration = Duration::from_secs(24 * 3600);

impl Slot {
    /// When something is to be done about it.
    fn next(&self) -> Timestamp {
        let order = self.renew_at.unwrap_or_default().max(self.hold);
        match &self.issued {
            Some(issued) => {
                let end = if self.ended { order } else { issued.not_after };
                order.min(self.ask_again).min(end)
            }
            None => order,
        }
    }
}

impl Orders {
    /// Keeps them until it is aborted.
    pub(super) async fn run(self: Arc<Self>, wanted: Vec<Wanted>) {
        let Some(first) = wanted.first() else { return };
        let mut client = Client::new(&first.account, &self.storage, Arc::clone(&self.clock));
        for one in &wanted {
            self.plan(one);
        }
        loop {
            let next = wanted.iter().map(|one| (self.slot(&one.key(), |slot| slot.next()), one));
            let Some((at, one)) = next.min_by_key(|(at, _)| *at) else { return };
            let now = self.clock.now();
            if at > now {
                // Past the moment: a clock that counts in whole milliseconds may be early.
                tokio::time::sleep((at.since(now) + Duration::from_millis(5)).min(SLEEP_MAX)).await;
                continue;
            }
            self.end(one, now);
            let due = self.slot(&one.key(), |slot| slot.renew_at.unwrap_or_default().max(slot.hold) <= now);
            if due {
                self.order(&mut client, one).await;
            } else {
                self.ask(&mut client, one, now).await;
            }
        }
    }

    /// When the certificate that is there is renewed.
    fn plan(&self, one: &Wanted) {
        let chance = self.chance();
        self.slot(&one.key(), |slot| {
            slot.renew_at = slot.issued.as_ref().map(|issued| renewal(issued, one.renew_before, chance));
        });
    }

    /// Says once that a certificate has ended.
    fn end(&self, one: &Wanted, now: Timestamp) {
        let ended = self.slot(&one.key(), |slot| {
            let ends = !slot.ended && slot.issued.as_ref().is_some_and(|issued| issued.not_after <= now);
            slot.ended |= ends;
            ends
        });
        if ended {
            tracing::error!("the certificate for {} has ended and was not renewed", one.name);
            self.changed.notify_one();
        }
    }

    async fn order(&self, client: &mut Client<'_>, one: &Wanted) {
        let old = self.slot(&one.key(), |slot| slot.issued.clone());
        let ordered = client.order(one, old.as_deref(), &self.challenges);
        let ordered = tokio::time::timeout(ORDER_WITHIN, ordered).await.unwrap_or_else(|_| {
            Err(Failure {
                cause: Cause::Unreachable,
                reason: format!("it took longer than {} seconds", ORDER_WITHIN.as_secs()),
                asked: None,
                limited: false,
            })
        });
        match ordered {
            Ok(issued) => self.issued(one, issued),
            Err(failure) => self.failed(one, failure),
        }
    }

    fn issued(&self, one: &Wanted, issued: Issued) {
        let (now, chance) = (self.clock.now(), self.chance());
        let mut renew_at = renewal(&issued, one.renew_before, chance);
        if renew_at <= now {
            // It would be renewed without end.
            if one.renew_before.is_some() {
                tracing::warn!("renew_before is longer than a certificate for {} lasts", one.name);
            }
            renew_at = renewal(&issued, None, chance).max(now.plus(Duration::from_secs(1)));
        }
        let days = issued.not_after.since(now).as_secs() / 86_400;
        tracing::info!("a certificate for {} was issued, valid for {days} days", one.name);
        self.slot(&one.key(), |slot| {
            *slot = Slot {
                issued: Some(Arc::new(issued)),
                renew_at: Some(renew_at),
                hold: Timestamp::default(),
                ask_again: now.plus(NEW_ENOUGH),
                failures: 0,
                fault: None,
                ended: false,
            };
        });
        self.issued_total.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn failed(&self, one: &Wanted, failure: Failure) {
        let (now, chance) = (self.clock.now(), self.chance());
        let pause = self.slot(&one.key(), |slot| {
            slot.failures = slot.failures.saturating_add(1);
            let pause = schedule::backoff(failure.cause, slot.failures, failure.asked, chance);
            slot.hold = now.plus(pause);
            slot.fault = Some(failure.reason.clone());
            pause
        });
        self.failed_total.fetch_add(1, Ordering::Relaxed);
        let seconds = pause.as_secs();
        tracing::warn!("no certificate for {}, again in {seconds} s: {}", one.name, failure.reason);
        if failure.limited
            && let Err(fault) = self.storage.keep_wait(&one.account.directory, &one.name, now.plus(pause))
        {
            tracing::warn!("a restart would not wait as the server asks: {fault:#}");
        }
    }

    /// Asks whether the server wants a certificate to be renewed sooner.
    async fn ask(&self, client: &mut Client<'_>, one: &Wanted, now: Timestamp) {
        let Some(issued) = self.slot(&one.key(), |slot| slot.issued.clone()) else { return };
        let wish = match client.renewal(&issued, self.chance()).await {
            Ok(wish) => wish,
            Err(fault) => {
                tracing::debug!("{} does not say when to renew: {fault:#}", one.account.directory);
                None
            }
        };
        self.slot(&one.key(), |slot| match wish {
            Some((at, again)) => {
                slot.ask_again = now.plus(schedule::ask_again(again));
                if slot.renew_at.is_some_and(|renew_at| at < renew_at) {
                    tracing::info!(
                        "{} wants the certificate for {} renewed sooner",
                        one.account.directory,
                        one.name
                    );
                    slot.renew_at = Some(at);
                }
            }
            None => slot.ask_again = now.plus(NO_WISH_AGAIN),
        });
    }

    /// A number from 0 to 1.
    fn chance(&self) -> f64 {
        let mut bytes = [0; 4];
        // Without chance, things happen at the same time as elsewhere; no more.
        let _ = self.random.fill(&mut bytes);
        f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
    }
}

fn renewal(issued: &Issued, before: Option<Duration>, chance: f64) -> Timestamp {
    schedule::due(issued.not_before, issued.not_after, before, chance)
}

//! What a provider says of itself (OpenID Connect Discovery §4), kept fresh. It outlives the
//! configurations that name the same provider: neither is it asked again by each of them, nor does
//! one that follows another end what is under way.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use keys::{Fetch, Metadata};
use model::Clock;

/// How long a provider's metadata are used before they are fetched again.
const METADATA_FOR: Duration = Duration::from_secs(3600);
/// After a fetch that failed.
const METADATA_AGAIN: Duration = Duration::from_secs(10);

/// Who is asked, and by which way.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) issuer: String,
    pub(super) allow_private_addresses: bool,
    pub(super) fetch: Arc<dyn Fetch>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What is known of a provider.
#[derive(Default)]
pub(super) struct Provider {
    metadata: RwLock<Option<Arc<Metadata>>>,
    /// When it is asked next, in the clock's monotonic time.
    due: Mutex<Duration>,
    /// Held by whoever asks.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl Provider {
    pub(super) fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps it fresh, for as long as it is polled. What is under way when that ends still comes to
    /// its own end, for whoever keeps it next.
    pub(super) async fn run(self: Arc<Self>, source: Source) {
        loop {
            self.until_due(&*source.clock).await;
            let Ok(turn) = Arc::clone(&self.asking).try_lock_owned() else {
                // Somebody before us asks: what is due is another question then.
                drop(self.asking.lock().await);
                continue;
            };
            let (provider, source) = (Arc::clone(&self), source.clone());
            let asking = async move {
                provider.ask(&source).await;
                drop(turn);
            };
            if tokio::spawn(asking).await.is_err() {
                return;
            }
        }
    }

    async fn until_due(&self, clock: &dyn Clock) {
        loop {
            let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let left = due.saturating_sub(clock.monotonic());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    async fn ask(&self, Source { issuer, allow_private_addresses, fetch, clock }: &Source) {
        let pause = match Metadata::discover(&**fetch, issuer, *allow_private_addresses).await {
            Ok(metadata) => {
                *self.metadata.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(metadata));
                METADATA_FOR
            }
            Err(error) => {
                tracing::warn!(issuer, %error, "the provider's metadata is unavailable");
                METADATA_AGAIN
            }
        };
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = clock.monotonic() + pause;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use keys::client::{ClientCredential, OwnClient};
    use keys::{FetchFailure, FetchFuture, FetchRequest, Fetched, FormRequest, Issuers, IssuersSettings};
    use keys::{Post, PostFuture, SystemRandom};
    use model::Timestamp;
    use tokio::sync::Semaphore;

    use super::super::{ClaimsFrom, RelyingParty, RelyingPartyEnvironment, RelyingPartySettings, Sessions};
    use super::*;

    const ISSUER: &str = "https://id.example.org";

    /// The runtime's time.
    struct RuntimeClock(tokio::time::Instant);

    impl Clock for RuntimeClock {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    /// Answers each question once it may.
    struct Slow {
        asked: AtomicUsize,
        answers: Semaphore,
    }

    impl Fetch for Slow {
        fn fetch(&self, _: FetchRequest) -> FetchFuture<'_> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                self.answers.acquire().await.map_err(|error| FetchFailure(error.to_string()))?.forget();
                let body = format!("{{\"issuer\":\"{ISSUER}\"}}").into_bytes();
                Ok(Fetched { body, cache_control: None })
            })
        }
    }

    impl Post for Slow {
        fn post(&self, _: FormRequest) -> PostFuture<'_> {
            Box::pin(async { Err(FetchFailure("nobody posts here".to_owned())) })
        }
    }

    fn party(
        issuer: &str,
        way: &Arc<Slow>,
        clock: &Arc<dyn Clock>,
        before: Option<&RelyingParty>,
    ) -> Arc<RelyingParty> {
        let settings = RelyingPartySettings {
            issuer: issuer.to_owned(),
            client: OwnClient { id: "shop".to_owned(), credential: ClientCredential::None },
            path: "/auth".to_owned(),
            scopes: vec!["openid".to_owned()],
            resource: None,
            claims_from: ClaimsFrom::IdToken,
            idle: Duration::from_secs(60),
            absolute: Duration::from_secs(60),
            leeway: Duration::ZERO,
            allow_private_addresses: false,
            other_prefixes: Vec::new(),
        };
        let issuers = || {
            let settings = IssuersSettings::default();
            Issuers::new(settings, None).unwrap()
        };
        let environment = RelyingPartyEnvironment {
            runtime: tokio::runtime::Handle::current(),
            fetch: Arc::clone(way) as Arc<_>,
            post: Arc::clone(way) as Arc<_>,
            clock: Arc::clone(clock),
            random: Arc::new(SystemRandom::new()),
        };
        RelyingParty::new(settings, (issuers(), issuers()), Arc::<Sessions>::default(), environment, before)
    }

    /// Has everything that can go on go on, without time.
    async fn settled() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_comes_to_its_end_although_configurations_follow_each_other() {
        let clock: Arc<dyn Clock> = Arc::new(RuntimeClock(tokio::time::Instant::now()));
        let slow = Arc::new(Slow { asked: AtomicUsize::new(0), answers: Semaphore::new(0) });
        let asked = || slow.asked.load(Ordering::Relaxed);
        let mut current = party(ISSUER, &slow, &clock, None);
        let mut keeping = tokio::spawn(Arc::clone(&current).run());
        settled().await;
        for _ in 0..10 {
            let next = party(ISSUER, &slow, &clock, Some(&current));
            let following = tokio::spawn(Arc::clone(&next).run());
            keeping.abort();
            (current, keeping) = (next, following);
            settled().await;
        }
        assert_eq!((asked(), current.provider().is_some()), (1, false));
        slow.answers.add_permits(1);
        settled().await;
        assert_eq!((asked(), current.provider().is_some()), (1, true), "the first question has its answer");

        // Nor is it asked again by a configuration that names it too, before it is time.
        let next = party(ISSUER, &slow, &clock, Some(&current));
        assert!(next.provider().is_some());
        keeping.abort();
        let keeping = tokio::spawn(Arc::clone(&next).run());
        tokio::time::sleep(METADATA_FOR - Duration::from_secs(1)).await;
        assert_eq!(asked(), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(asked(), 2, "now it is");
        keeping.abort();

        // Another provider is another question.
        let other = party("https://other.example.org", &slow, &clock, Some(&next));
        assert!(other.provider().is_none());
        let keeping = tokio::spawn(Arc::clone(&other).run());
        settled().await;
        assert_eq!(asked(), 3);
        keeping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_it_is_asked_again_soon() {
        let clock: Arc<dyn Clock> = Arc::new(RuntimeClock(tokio::time::Instant::now()));
        // What it says is another issuer's.
        let slow = Arc::new(Slow { asked: AtomicUsize::new(0), answers: Semaphore::new(9) });
        let party = party("https://other.example.org", &slow, &clock, None);
        let keeping = tokio::spawn(Arc::clone(&party).run());
        tokio::time::sleep(METADATA_AGAIN - Duration::from_secs(1)).await;
        assert_eq!((slow.asked.load(Ordering::Relaxed), party.provider().is_none()), (1, true));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(slow.asked.load(Ordering::Relaxed), 2);
        keeping.abort();
    }
}

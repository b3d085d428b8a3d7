use tokio::sync::Semaphore;

use super::*;
use crate::client::ClientCredential;
use crate::fetch::{FetchFailure, FetchFuture, FetchRequest, PostFuture};
use crate::issuer::IssuerSettings;
use crate::{Algorithm, IssuersSettings, KeySet, KeySource, LocalSigner, SystemRandom, publish};

const ISSUER: &str = "https://id.example.org";
const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// An issuer to whom every token is alice's, and who answers when it may.
struct Slow {
    asked: Mutex<Vec<String>>,
    answers: Semaphore,
}

impl Fetch for Slow {
    fn fetch(&self, _: FetchRequest) -> FetchFuture<'_> {
        Box::pin(async { Err(FetchFailure("nothing is fetched here".to_owned())) })
    }
}

impl Post for Slow {
    fn post(&self, request: FormRequest) -> PostFuture<'_> {
        lock(&self.asked).push(request.form.expose().clone());
        Box::pin(async {
            self.answers.acquire().await.map_err(|error| FetchFailure(error.to_string()))?.forget();
            let body = json!({ "active": true, "sub": "alice", "aud": "shop" }).to_string().into_bytes();
            Ok(Answered { status: 200, body })
        })
    }
}

fn introspector() -> Arc<Introspector> {
    let signer = LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0;
    let keys = KeySet::parse_pinned(publish(&[&signer]).as_bytes(), &Algorithm::ALL).unwrap();
    let issuer = IssuerSettings {
        source: KeySource::Pinned(keys),
        ..IssuerSettings::new(ISSUER, vec!["shop".to_owned()])
    };
    let settings = IssuersSettings { issuers: vec![issuer], ..IssuersSettings::default() };
    let client = OwnClient { id: "gateway".to_owned(), credential: ClientCredential::None };
    let settings_here = IntrospectionSettings {
        issuer: ISSUER.to_owned(),
        endpoint: Some(format!("{ISSUER}/introspect")),
        client,
        cache: Duration::from_secs(60),
        audience_may_be_absent: false,
    };
    Introspector::new(settings_here, &Issuers::new(settings, None).unwrap()).unwrap()
}

/// Lets everything go on that can, without time.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_invents_tokens_keeps_no_other_network_s_from_being_asked() {
    let [stranger, honest] = [1, 2].map(|host| ClientNetwork::of([192, 0, 2, host].into()));
    let introspector = introspector();
    let slow = Arc::new(Slow { asked: Mutex::default(), answers: Semaphore::new(0) });
    let ways = (Arc::clone(&slow) as Arc<dyn Fetch>, Arc::clone(&slow) as Arc<dyn Post>);
    let random = Arc::new(SystemRandom::new());
    let running = tokio::spawn(Arc::clone(&introspector).run(ways, Arc::new(Still), random));
    let invented: Vec<_> = (0..2 * INTROSPECTIONS_WAITING_MAX)
        .map(|number| introspector.look(format!("invented-{number}").as_bytes(), stranger, NOW))
        .collect();
    settled().await;
    let refused = invented.iter().filter(|look| matches!(look, Look::Verdict(_))).count();
    assert!(refused >= INTROSPECTIONS_WAITING_MAX, "{refused} are refused");

    let Look::Wait(wait) = introspector.look(b"honest", honest, NOW) else { panic!("there is no place") };
    settled().await;
    let asked = || lock(&slow.asked).iter().position(|form| form.contains("token=honest"));
    let count = || lock(&slow.asked).len();
    assert_eq!((count(), asked()), (INTROSPECTIONS_AT_ONCE, None));
    // Its turn is the next but one.
    slow.answers.add_permits(2);
    settled().await;
    let place = asked().unwrap_or_else(|| panic!("{} were asked before", count()));
    assert!(place <= INTROSPECTIONS_AT_ONCE + 1, "{place}");
    slow.answers.add_permits(INTROSPECTIONS_AT_ONCE);
    assert!(matches!(wait.ended(NOW).await, Verdict::Accepted(_)));
    running.abort();
}

//! The bundles of other trust domains: fetched from their endpoints as often as they ask,
//! and kept while an endpoint does not answer, over restarts too. A domain of short-lived
//! authorities has soon none in common with a file that somebody brought once; what was fetched
//! last proves who its endpoint is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::mesh::backoff;
use ::mesh::bundle::{BUNDLE_BYTES_MAX, Bundle, FOREIGN_BYTES_MAX};
use ::mesh::verify::Verifier;
use ::mesh::workload_api::Foreign;
use keys::SystemRandom;
use model::{Clock, Timestamp};
use proxy::fetch::{FetchRules, fetch};
use proxy::tls::{ClientTls, ClientTlsSettings, ServerVerifier, certificates_from_pem};
use serde::{Deserialize, Serialize};
use store::{Expect, Key, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Partner;

/// For one document, redirects included.
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// An endpoint is asked no more often than this, whatever it says, and no more seldom.
const REFRESH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// A bundle that was fetched, in the store.
#[derive(Serialize, Deserialize)]
struct Fetched {
    /// What its domain was trusted by when it was fetched.
    from: String,
    /// The document.
    document: String,
}

fn place(trust_domain: &str) -> Key {
    Key::new("mesh").name("partners").hidden(trust_domain)
}

/// What a domain is trusted by at first. Who changes that means that nothing else counts.
fn origin(partner: &Partner) -> String {
    let file = partner.bundle.as_ref().map(Bundle::to_document).unwrap_or_default();
    let endpoint = partner.endpoint.as_deref().unwrap_or_default();
    let id = partner.endpoint_id.as_ref().map_or("", |id| id.as_str());
    let ca = partner.ca.as_ref().map(|(_, pem)| pem.as_slice()).unwrap_or_default();
    let parts = [endpoint.as_bytes(), id.as_bytes(), file.as_bytes(), ca];
    let hashes: Vec<u8> = parts.into_iter().flat_map(keys::sha256).collect();
    keys::encoding::hex(&keys::sha256(&hashes))
}

/// What was fetched of these domains before this process was started, as far as it is told.
pub async fn stored(store: &Store, partners: &[Partner]) -> Foreign {
    let mut found = Foreign::new();
    for partner in partners.iter().filter(|partner| partner.endpoint.is_some()) {
        let read = async {
            let Some(record) = store.get(&place(&partner.trust_domain)).await? else { return Ok(None) };
            let Fetched { from, document } = record.json()?;
            let same = from == origin(partner);
            anyhow::Ok(same.then(|| Bundle::parse(&partner.trust_domain, document.as_bytes())).transpose()?)
        };
        match read.await {
            Ok(bundle) => found.extend(bundle.map(|bundle| (partner.trust_domain.clone(), bundle))),
            Err(fault) => {
                let name = partner.trust_domain.as_str();
                tracing::warn!(trust_domain = name, %fault, "mesh: the bundle that was fetched last cannot be read");
            }
        }
    }
    found
}

/// What became of fetching a partner's bundle, since this process was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// When it was had last.
    pub fetched: Option<Timestamp>,
    /// When the last attempt failed, and why; `None`: it did not.
    pub failed: Option<(Timestamp, String)>,
}

/// The same of each partner that was asked, by trust domain.
pub(super) type Asked = Arc<Mutex<BTreeMap<String, Noted>>>;

/// What became of fetching a partner's bundle, and of which partner.
pub(super) struct Noted {
    /// What it was trusted by.
    of: String,
    pub(super) attempts: Attempts,
}

/// What the bundles of partners are kept in, and what was not taken of them.
#[derive(Clone)]
pub(super) struct Shelf {
    /// What counts now.
    pub(super) foreign: Arc<watch::Sender<Arc<Foreign>>>,
    /// What counts at the next start.
    pub(super) store: Store,
    /// Bundles that were refused because a newer one was known.
    pub(super) outdated: Arc<AtomicU64>,
    /// What operators are told.
    pub(super) asked: Asked,
    pub(super) clock: Arc<dyn Clock>,
    /// Spreads the attempts after a failure.
    pub(super) random: Arc<SystemRandom>,
    /// Whether somebody else keeps them by now: nothing more is put here then.
    pub(super) is_over: Arc<AtomicBool>,
}

impl Shelf {
    /// Has the bundles be what `next` makes of them; false: they are that already, or not ours any more.
    fn change(&self, next: impl FnOnce(&Foreign) -> Foreign) -> bool {
        self.foreign.send_if_modified(|current| {
            // Here, where nobody else changes them: whoever has been aborted may still be at work.
            if self.is_over.load(Ordering::Acquire) {
                return false;
            }
            let next = next(current);
            let is_other = **current != next;
            if is_other {
                *current = Arc::new(next);
            }
            is_other
        })
    }

    /// Notes what became of an attempt.
    fn note(&self, partner: &Partner, outcome: Result<(), &str>) {
        let (now, of) = (self.clock.now(), origin(partner));
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: whoever keeps them by now has forgotten what was noted before.
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        let noted = asked.entry(partner.trust_domain.clone());
        let attempts = &mut noted.or_insert_with(|| Noted { of, attempts: Attempts::default() }).attempts;
        attempts.failed = outcome.err().map(|fault| (now, fault.to_owned()));
        if outcome.is_ok() {
            attempts.fetched = Some(now);
        }
    }

    /// Forgets what became of attempts at others than these partners, as they are now.
    fn forget_others(&self, partners: &[Partner]) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        asked.retain(|name, noted| {
            partners.iter().any(|partner| partner.trust_domain == *name && origin(partner) == noted.of)
        });
    }
}

/// Keeps what was fetched for the next start, unless it is there, or another process has kept a newer
/// one.
/// Whether that could be done.
pub(super) async fn put(store: &Store, partner: &Partner, bundle: &Bundle) -> bool {
    let there = stored(store, std::slice::from_ref(partner)).await;
    let is_there = |there: &Bundle| there == bundle || there.sequence > bundle.sequence;
    if there.get(&partner.trust_domain).is_some_and(is_there) {
        return true;
    }
    let kept = Fetched { from: origin(partner), document: bundle.to_document() };
    let put = async {
        let value = store::Value::from_json(&kept)?;
        store.put(place(&partner.trust_domain), value, None, Expect::Any).await
    };
    let put = put.await;
    if let Err(fault) = &put {
        let name = partner.trust_domain.as_str();
        tracing::warn!(trust_domain = name, %fault, "mesh: a bundle is not kept for the next start");
    }
    put.is_ok()
}

/// Takes these domains in the place of those `before`, as far as that is known at once.
pub(super) fn settle(partners: &[Partner], before: &[Partner], shelf: &Shelf) {
    shelf.forget_others(partners);
    // Whom the configuration trusts no longer is not trusted until the store has answered; and whom it
    // trusts by a file alone is trusted before that. A file beside an endpoint may be older than what
    // was fetched.
    shelf.change(|current| {
        let is_sure =
            |partner: &&Partner| partner.endpoint.is_none() || current.contains_key(&partner.trust_domain);
        known(current, before, &Foreign::new(), partners.iter().filter(is_sure))
    });
}

/// Keeps the bundles of these domains, which are settled, and of which those `before` were kept until
/// now. Ends when it is aborted.
pub(super) async fn run(partners: Vec<Partner>, before: Vec<Partner>, shelf: Shelf) {
    let stored = stored(&shelf.store, &partners).await;
    let files = [before, partners.clone()].concat();
    shelf.change(|current| known(current, &files, &stored, &partners));
    let mut tasks = JoinSet::new();
    for partner in partners.into_iter().filter(|partner| partner.endpoint.is_some()) {
        tasks.spawn(follow(partner, shelf.clone()));
    }
    while tasks.join_next().await.is_some() {}
    std::future::pending().await
}

/// The bundles of these domains before anything else was fetched.
fn known<'p>(
    current: &Foreign,
    before: &[Partner],
    stored: &Foreign,
    partners: impl IntoIterator<Item = &'p Partner>,
) -> Foreign {
    let of_file = |bundle: &Bundle| before.iter().any(|partner| partner.bundle.as_ref() == Some(bundle));
    let is_as_before = |partner: &Partner| {
        let before = before.iter().find(|before| before.trust_domain == partner.trust_domain);
        before.is_none_or(|before| origin(before) == origin(partner))
    };
    let may_be_fetched = |partner: &Partner| partner.endpoint.is_some() && is_as_before(partner);
    let one = |partner: &Partner| {
        // What was fetched of a partner that stays as it was is kept, and its file counts until then, as
        // it is now: whoever is no longer in it is no longer trusted. Without an endpoint it is all there
        // is.
        let current = current.get(&partner.trust_domain);
        let fetched = current.filter(|bundle| may_be_fetched(partner) && !of_file(bundle));
        let bundle = fetched.or(stored.get(&partner.trust_domain)).or(partner.bundle.as_ref())?;
        Some((partner.trust_domain.clone(), bundle.clone()))
    };
    partners.into_iter().filter_map(one).collect()
}

async fn follow(partner: Partner, shelf: Shelf) {
    let mut failures = 0_u32;
    let mut kept = None;
    loop {
        let known = shelf.foreign.borrow().get(&partner.trust_domain).cloned();
        let fetched = fetched(&partner, known.as_ref()).await;
        let fetched = fetched.and_then(|bundle| with_room(bundle, &shelf.foreign.borrow()));
        let newest = fetched.and_then(|bundle| {
            not_outdated(bundle, known.as_ref()).inspect_err(|_| {
                shelf.outdated.fetch_add(1, Ordering::Relaxed);
            })
        });
        shelf.note(&partner, newest.as_ref().map(drop).map_err(String::as_str));
        let pause = match newest {
            Ok(bundle) => {
                failures = 0;
                let pause = bundle.refresh.clamp(REFRESH.0, REFRESH.1);
                take(bundle, &partner, &mut kept, &shelf).await;
                pause
            }
            Err(fault) => {
                let name = partner.trust_domain.as_str();
                tracing::warn!(
                    trust_domain = name,
                    fault,
                    "mesh: no new bundle could be had; the last one stays in use"
                );
                failures = failures.saturating_add(1);
                backoff::after(failures, shelf.random.as_ref())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Trusts a bundle that was fetched, and keeps it; `kept` is what is kept already as it was fetched now.
async fn take(bundle: Bundle, partner: &Partner, kept: &mut Option<Bundle>, shelf: &Shelf) {
    let (name, sequence) = (partner.trust_domain.as_str(), bundle.sequence);
    // Whom the domain has taken back is not trusted until the store has answered.
    let is_other = shelf.change(|current| {
        let mut next = Foreign::clone(current);
        next.insert(name.to_owned(), bundle.clone());
        next
    });
    if is_other {
        tracing::info!(trust_domain = name, sequence, "mesh: another domain's bundle has changed");
    }
    // What somebody else keeps is not written over, at the next start either.
    if shelf.is_over.load(Ordering::Acquire) {
        return;
    }
    if kept.as_ref() != Some(&bundle) && put(&shelf.store, partner, &bundle).await {
        *kept = Some(bundle);
    }
}

/// A bundle, unless there is no room for it beside those of the others: proxies and agents, which are
/// sent all of them together, would get none any more.
fn with_room(bundle: Bundle, current: &Foreign) -> Result<Bundle, String> {
    let others = current.iter().filter(|(name, _)| **name != bundle.trust_domain);
    let others: usize = others.map(|(_, bundle)| bundle.bytes()).sum();
    let bytes = bundle.bytes();
    match others + bytes <= FOREIGN_BYTES_MAX {
        true => Ok(bundle),
        false => Err(format!(
            "it has {bytes} bytes and those of other domains {others}; all together have at most {FOREIGN_BYTES_MAX}"
        )),
    }
}

/// A bundle, unless it is older than the one that is known: what an authority has taken back since
/// would be trusted again (SPIFFE Trust Domain and Bundle §4.1.1). One without a number is older
/// than any that has one.
fn not_outdated(bundle: Bundle, known: Option<&Bundle>) -> Result<Bundle, String> {
    let Some(known) = known else { return Ok(bundle) };
    if bundle.sequence < known.sequence {
        return Err(format!(
            "its sequence number is {}, below {} of the bundle in use",
            bundle.sequence, known.sequence
        ));
    }
    let is_other = (&bundle.x509, &bundle.jwt) != (&known.x509, &known.jwt);
    if is_other && bundle.sequence == known.sequence && bundle.sequence > 0 {
        tracing::warn!(
            trust_domain = bundle.trust_domain,
            sequence = bundle.sequence,
            "mesh: another domain's bundle has changed without a new sequence number; it is taken"
        );
    }
    Ok(bundle)
}

async fn fetched(partner: &Partner, known: Option<&Bundle>) -> Result<Bundle, String> {
    let url = partner.endpoint.as_deref().unwrap_or_default();
    let rules = FetchRules {
        allow_private_addresses: partner.allow_private_addresses,
        body_bytes_max: BUNDLE_BYTES_MAX as u64,
        timeout: FETCH_TIME_MAX,
        // SPIFFE Federation §5.2.1: a bundle comes from the endpoint itself.
        redirects_max: 0,
        ..FetchRules::new(tls(partner, known)?)
    };
    let found = fetch(url, &rules).await.map_err(|error| error.to_string())?;
    Bundle::parse(&partner.trust_domain, &found.body).map_err(|error| error.to_string())
}

/// How the endpoint proves itself: by its host name (`https_web`), or by its SPIFFE ID under
/// what is trusted so far (`https_spiffe`).
fn tls(partner: &Partner, known: Option<&Bundle>) -> Result<ClientTls, String> {
    let mut settings = ClientTlsSettings::default();
    if let Some((path, pem)) = &partner.ca {
        let roots = certificates_from_pem(&path.display().to_string(), pem);
        settings.roots = roots.map_err(|error| error.to_string())?;
    }
    if let Some(id) = &partner.endpoint_id {
        let own = known.filter(|known| known.trust_domain == id.trust_domain());
        let anchors = own.map(|own| own.x509.clone()).unwrap_or_default();
        let mark = [id.as_str().as_bytes(), &anchors.concat()].concat();
        let anchors = BTreeMap::from([(id.trust_domain().to_owned(), anchors)]);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Verifier::new(&anchors, Some(vec![id.clone()]), &provider);
        let verifier = Arc::new(verifier.map_err(|error| error.to_string())?);
        settings.verifier = Some(ServerVerifier { verifier, mark: mark.into() });
    }
    ClientTls::build(&settings).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;

    use tokio::task::coop;

    use super::*;

    fn bundle(sequence: u64) -> Bundle {
        let (refresh, trust_domain) = (Duration::from_secs(60), "partner.example".to_owned());
        Bundle { trust_domain, x509: Vec::new(), jwt: Vec::new(), sequence, refresh }
    }

    fn partner(endpoint: Option<&str>, file: Option<u64>) -> Partner {
        Partner {
            trust_domain: "partner.example".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            endpoint_id: None,
            bundle: file.map(bundle),
            ca: None,
            allow_private_addresses: false,
        }
    }

    #[test]
    fn a_file_counts_as_it_is_now_until_something_was_fetched() {
        let there = Some("https://partner.example/bundle");
        let of = |sequence| Foreign::from([("partner.example".to_owned(), bundle(sequence))]);
        for (current, partner, expected) in [
            (Foreign::new(), partner(None, Some(1)), of(1)),
            (of(1), partner(None, Some(2)), of(2)),
            (of(2), partner(None, Some(1)), of(1)),
            (Foreign::new(), partner(there, Some(1)), of(1)),
            (of(7), partner(there, Some(1)), of(7)),
            (of(7), partner(there, None), of(7)),
            (of(7), partner(None, Some(1)), of(1)),
            (Foreign::new(), partner(there, None), Foreign::new()),
        ] {
            assert_eq!(known(&current, &[], &Foreign::new(), &[partner]), expected);
        }
        let none = Foreign::new();
        assert_eq!(known(&of(7), &[], &none, &[]), none, "who is no partner any more");
        // Of an endpoint that has not answered the file of before is known.
        let before = [partner(there, Some(1))];
        assert_eq!(known(&of(1), &before, &none, &[partner(there, Some(2))]), of(2));
        assert_eq!(known(&of(1), &before, &none, &before), of(1));
        // What was fetched counts only for whom it was fetched.
        assert_eq!(known(&of(7), &before, &none, &before), of(7));
        let elsewhere = Some("https://partner.example/other");
        let ca = Partner { ca: Some(("ca.pem".into(), b"another".to_vec())), ..partner(there, Some(1)) };
        assert_eq!(known(&of(7), &before, &none, &[partner(there, Some(2))]), of(2));
        assert_eq!(known(&of(7), &before, &none, &[partner(elsewhere, Some(1))]), of(1));
        assert_eq!(known(&of(7), &before, &none, &[ca]), of(1));
        assert_eq!(known(&of(7), &before, &of(3), &[partner(elsewhere, None)]), of(3));
        assert_eq!(known(&of(7), &before, &none, &[partner(elsewhere, None)]), none);
    }

    #[test]
    fn what_all_partners_are_trusted_by_goes_in_one_message() {
        let of = |name: &str, bytes: usize| {
            let trust_domain = name.to_owned();
            Bundle { trust_domain, x509: vec![vec![0; bytes]], ..bundle(1) }
        };
        let others = of("other.example", FOREIGN_BYTES_MAX / 2);
        let current = Foreign::from([
            (others.trust_domain.clone(), others.clone()),
            ("partner.example".to_owned(), of("partner.example", FOREIGN_BYTES_MAX / 2)),
        ]);
        let most = FOREIGN_BYTES_MAX - others.bytes() - of("partner.example", 0).bytes();
        assert!(with_room(of("partner.example", most), &current).is_ok());
        let why = with_room(of("partner.example", most + 1), &current).unwrap_err();
        assert!(why.contains("all together have at most 3145728"), "{why}");
    }

    #[test]
    fn an_older_bundle_is_not_taken_for_the_one_that_is_known() {
        let numbered = |sequence: u64| {
            let jwt = vec![serde_json::Map::from_iter([("kid".to_owned(), sequence.into())])];
            Bundle { jwt, ..bundle(sequence) }
        };
        for (known, sequence, taken) in [
            (None, 0, true),
            (None, 7, true),
            (Some(0), 0, true),
            (Some(7), 8, true),
            (Some(7), 7, true),
            (Some(7), 6, false),
            (Some(7), 0, false),
        ] {
            let known = known.map(numbered);
            let found = not_outdated(numbered(sequence), known.as_ref());
            assert_eq!(found.is_ok(), taken, "{known:?} {sequence}: {found:?}");
        }
        // Whatever it holds.
        let same = Bundle { sequence: 6, ..numbered(7) };
        assert!(not_outdated(same, Some(&numbered(7))).is_err());
    }

    fn shelf(store: &Store, foreign: Arc<watch::Sender<Arc<Foreign>>>) -> Shelf {
        let random = Arc::new(SystemRandom::new());
        let clock = Arc::new(crate::process::clock::SystemClock::start());
        Shelf {
            foreign,
            store: store.clone(),
            outdated: Arc::default(),
            asked: Arc::default(),
            clock,
            random,
            is_over: Arc::default(),
        }
    }

    /// Lets it run until it waits for an answer, however soon that comes: a task whose budget is used up
    /// is told of none.
    async fn until_it_waits(future: &mut Pin<Box<impl Future<Output = ()>>>) {
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        assert!(
            poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await,
            "it waits for nothing"
        );
    }

    fn store() -> Store {
        Store::in_memory(Arc::new(crate::process::clock::SystemClock::start())).unwrap()
    }

    /// One with an authority.
    fn whole(sequence: u64) -> Bundle {
        let (random, now) = (keys::SystemRandom::new(), model::Timestamp::from_unix_seconds(1_800_000_000));
        let signer = || {
            let made = keys::LocalSigner::generate(keys::Algorithm::Es256, &random);
            Arc::new(made.unwrap().0)
        };
        let terms = keys::svid::AuthorityTerms {
            trust_domain: "partner.example",
            from: now,
            until: now.plus(Duration::from_secs(9)),
            signs_authorities: false,
        };
        let authority = keys::svid::X509Authority::self_signed(signer(), &terms, &random).unwrap();
        Bundle { x509: vec![authority.certificate().to_vec()], ..bundle(sequence) }
    }

    /// What is known after a start.
    async fn begins(store: &Store, partners: &[Partner]) -> Option<Bundle> {
        let foreign = Arc::new(watch::channel(Arc::default()).0);
        let mut told = foreign.subscribe();
        let shelf = shelf(store, foreign);
        settle(partners, &[], &shelf);
        let keeping = tokio::spawn(run(partners.to_vec(), Vec::new(), shelf));
        told.changed().await.unwrap();
        let known = told.borrow().get("partner.example").cloned();
        keeping.abort();
        known
    }

    #[tokio::test]
    async fn what_was_fetched_last_counts_again_after_a_start_until_the_file_is_another() {
        let store = store();
        let there = Some("https://partner.example/bundle");
        let newest = whole(7);
        put(&store, &partner(there, Some(1)), &newest).await;
        let begins = async |partners: &[Partner]| begins(&store, partners).await;
        assert_eq!(begins(&[partner(there, Some(1))]).await, Some(newest.clone()));
        // Another process on the store that has not seen it yet.
        put(&store, &partner(there, Some(1)), &Bundle { sequence: 6, ..newest.clone() }).await;
        assert_eq!(begins(&[partner(there, Some(1))]).await, Some(newest));
        // Somebody brought another one, or means another endpoint.
        assert_eq!(begins(&[partner(there, Some(2))]).await, Some(bundle(2)));
        assert_eq!(begins(&[partner(Some("https://partner.example/other"), Some(1))]).await, Some(bundle(1)));
        assert_eq!(begins(&[partner(None, Some(1))]).await, Some(bundle(1)));
    }

    #[tokio::test]
    async fn what_was_fetched_is_kept_as_it_was_fetched_last_although_it_is_the_same() {
        let (store, newest) = (store(), whole(7));
        let shelf = shelf(&store, Arc::new(watch::channel(Arc::default()).0));
        let [one, other] = ["https://partner.example/one", "https://partner.example/other"]
            .map(|endpoint| partner(Some(endpoint), Some(1)));
        // The endpoint is changed by a reload, and after the next start it does not answer.
        for partner in [one.clone(), other.clone()] {
            take(newest.clone(), &partner, &mut None, &shelf).await;
            assert_eq!(begins(&store, &[partner]).await, Some(newest.clone()));
        }
        assert_eq!(begins(&store, &[one]).await, Some(bundle(1)));
        // What is kept is kept once; what could not be kept is not taken for it.
        let mut kept = None;
        take(newest.clone(), &other, &mut kept, &shelf).await;
        assert_eq!(kept, Some(newest.clone()));
        let version = store.version();
        take(newest.clone(), &other, &mut kept, &shelf).await;
        assert_eq!(store.version(), version);
        // Nor is it written again after a start, when nothing is known of what is kept.
        take(newest, &other, &mut None, &shelf).await;
        assert_eq!(store.version(), version);
    }

    #[tokio::test]
    async fn who_keeps_partners_no_longer_adds_nothing_though_it_is_still_at_work() {
        let (store, there) = (store(), partner(Some("https://partner.example/bundle"), None));
        let foreign = Arc::new(watch::channel(Arc::default()).0);
        let shelf = shelf(&store, Arc::clone(&foreign));
        take(whole(7), &there, &mut None, &shelf).await;
        let known = Arc::clone(&foreign.borrow());
        assert_eq!(known.len(), 1);
        let version = store.version();
        shelf.note(&there, Ok(()));
        shelf.is_over.store(true, Ordering::Release);
        // What it was about to take, and what it was about to read at its start.
        take(whole(8), &there, &mut None, &shelf).await;
        assert_eq!(store.version(), version, "what is kept for the next start is another's too");
        shelf.note(&there, Err("late"));
        settle(&[], &[], &shelf);
        let failed = |noted: &Noted| noted.attempts.failed.clone();
        assert_eq!(shelf.asked.lock().unwrap().get("partner.example").map(failed), Some(None));
        assert!(tokio::time::timeout(Duration::from_millis(200), run(vec![], vec![], shelf)).await.is_err());
        assert_eq!(*foreign.borrow(), known);
    }

    #[test]
    fn what_became_of_asking_is_told_of_the_partner_as_it_is_now() {
        let shelf = shelf(&store(), Arc::new(watch::channel(Arc::default()).0));
        let there = partner(Some("https://partner.example/bundle"), Some(1));
        let told = || shelf.asked.lock().unwrap().get("partner.example").map(|it| it.attempts.clone());
        let elsewhere = partner(Some("https://partner.example/other"), Some(1));
        for (next, is_told) in [(vec![there.clone()], true), (vec![elsewhere], false), (vec![], false)]
            .into_iter()
            .chain([(vec![partner(None, Some(1))], false)])
        {
            shelf.note(&there, Ok(()));
            shelf.note(&there, Err("gone"));
            let noted = told().unwrap();
            assert!(noted.fetched.is_some() && noted.failed.is_some(), "{noted:?}");
            settle(&next, std::slice::from_ref(&there), &shelf);
            assert_eq!(told(), Some(noted).filter(|_| is_told), "{next:?}");
        }
    }

    #[tokio::test]
    async fn whom_a_partner_takes_back_is_not_trusted_until_the_store_answers() {
        let (store, there) = (store(), partner(Some("https://partner.example/bundle"), Some(1)));
        let (newest, mut kept) = (whole(7), None);
        let foreign = Arc::new(watch::channel(Arc::default()).0);
        let first = shelf(&store, Arc::clone(&foreign));
        let mut taking = Box::pin(take(newest.clone(), &there, &mut kept, &first));
        // The store has been asked, and has not answered yet.
        until_it_waits(&mut taking).await;
        assert_eq!(foreign.borrow().get("partner.example"), Some(&newest));
        taking.await;

        // At a start likewise, what stands in files alone.
        let foreign = Arc::new(watch::channel(Arc::default()).0);
        let beside = Partner { trust_domain: "beside.example".to_owned(), ..there.clone() };
        settle(&[partner(None, Some(1)), beside], &[], &shelf(&store, Arc::clone(&foreign)));
        assert_eq!(**foreign.borrow(), Foreign::from([("partner.example".to_owned(), bundle(1))]));
    }
}

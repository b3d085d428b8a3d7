//! The sessions of browsers: bounded, shared by all cores, found by a secret that only the
//! browser's sealed cookie holds.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use keys::jwt::Accepted;
use keys::revocation::TokenMarks;
use keys::{Refusal as Unproven, Revocations, SealRing};
use lru::LruCache;
use model::{Principal, Secret, Timestamp};
use tokio::sync::{Notify, watch};

/// Most sessions; with the next one the one that was not used for longest ends.
pub const SESSIONS_MAX: usize = 131_072;
const PARTS: usize = 16;
/// Bytes of the secret in a session's cookie.
pub(super) const SECRET_BYTES: usize = 32;

type Name = [u8; SECRET_BYTES];

/// All sessions of this process.
pub struct Sessions {
    pub(super) ring: SealRing,
    parts: [Mutex<LruCache<Name, Arc<Session>, RandomState>>; PARTS],
    ended: Notify,
}

/// One browser's session.
pub struct Session {
    pub(super) name: Name,
    /// Of which provider and client.
    pub(super) party: Arc<str>,
    /// At which scheme, host and port it was opened.
    pub(super) origin: Box<str>,
    pub(super) begun: Timestamp,
    /// The class of authentication that its login asked for.
    pub(super) asked: Option<Box<str>>,
    /// `sub` at the provider.
    pub(super) subject: Box<str>,
    /// `sid` at the provider.
    pub(super) provider_session: Option<Box<str>>,
    used_seconds: AtomicU64,
    pub(super) state: Mutex<State>,
}

/// By what a party holds its sessions good, at each look.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) idle: Duration,
    pub(super) absolute: Duration,
    /// The same one for as long as configurations judge tokens alike.
    pub(super) judged: Arc<()>,
}

/// What a refresh changes.
pub(super) struct State {
    /// The [`Terms::judged`] by which its tokens became the principal.
    pub(super) judged: Arc<()>,
    pub(super) principal: Arc<Principal>,
    /// What revocations can name.
    pub(super) accepted: Accepted,
    /// And of the access token, where that is another one and can be read.
    pub(super) access: Option<TokenMarks>,
    /// When the tokens end.
    pub(super) fresh_until: Timestamp,
    /// When they are refreshed, or it is tried again.
    pub(super) refresh_at: Timestamp,
    pub(super) refresh_token: Option<Arc<Secret<String>>>,
    pub(super) id_token: Arc<str>,
    /// The refresh under way.
    pub(super) refreshing: Option<watch::Receiver<()>>,
}

/// How a session stands at one moment.
#[derive(Debug)]
pub enum Standing {
    /// Good.
    Good(Arc<Principal>),
    /// Good, and its tokens should be refreshed.
    Stale(Arc<Principal>),
    /// Its tokens have ended and can be refreshed.
    Ended,
    /// It is over.
    Over(Unproven),
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self::with_places(SESSIONS_MAX)
    }
}

impl Sessions {
    /// With room for so many, shared out by chance.
    pub fn with_places(most: usize) -> Self {
        let each = NonZeroUsize::new(most.div_ceil(PARTS)).unwrap_or(NonZeroUsize::MIN);
        let part = |_| Mutex::new(LruCache::unbounded_with_hasher(RandomState::default()));
        let parts: [Mutex<LruCache<Name, Arc<Session>, RandomState>>; PARTS] = std::array::from_fn(part);
        for part in &parts {
            lock(part).resize(each);
        }
        Self { ring: SealRing::new(super::begin::COOKIE_TIME_MAX), parts, ended: Notify::new() }
    }

    fn part(&self, name: &Name) -> Option<&Mutex<LruCache<Name, Arc<Session>, RandomState>>> {
        let place = name.first().copied().unwrap_or_default();
        self.parts.get(usize::from(place) % PARTS)
    }

    pub(super) fn put(&self, session: Arc<Session>) {
        if let Some(part) = self.part(&session.name) {
            lock(part).push(session.name, session);
        }
    }

    pub(super) fn get(&self, name: &Name) -> Option<Arc<Session>> {
        lock(self.part(name)?).get(name).cloned()
    }

    /// Ends one: its cookie is worth nothing from now on, and what is open of it is cut.
    pub(super) fn end(&self, session: &Session) {
        if self.part(&session.name).is_some_and(|part| lock(part).pop(&session.name).is_some()) {
            self.ended.notify_one();
        }
    }

    /// Ends those for which `doomed` holds; how many.
    pub(super) fn end_where(&self, doomed: impl Fn(&Session) -> bool) -> usize {
        let mut count = 0;
        for part in &self.parts {
            let mut part = lock(part);
            let names: Vec<Name> =
                part.iter().filter(|(_, session)| doomed(session)).map(|(name, _)| *name).collect();
            count += names.iter().filter(|name| part.pop(*name).is_some()).count();
        }
        if count > 0 {
            self.ended.notify_one();
        }
        count
    }

    /// Ends those that are over, and those of other parties; how many.
    pub(super) fn sweep(&self, party: &str, terms: &Terms, now: Timestamp) -> usize {
        self.end_where(|session| *session.party != *party || session.over(terms, now).is_some())
    }

    /// Ends all of them: nobody logs in any more. How many.
    pub fn end_all(&self) -> usize {
        self.end_where(|_| true)
    }

    /// Waits until some session was ended.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Session {
    pub(super) fn new(
        (name, party, origin): (Name, Arc<str>, &str),
        (subject, provider_session): (&str, Option<&str>),
        now: Timestamp,
        asked: Option<&str>,
        state: State,
    ) -> Self {
        Self {
            name,
            party,
            origin: origin.into(),
            begun: now,
            asked: asked.map(Into::into),
            subject: subject.into(),
            provider_session: provider_session.map(Into::into),
            used_seconds: AtomicU64::new(now.unix_seconds()),
            state: Mutex::new(state),
        }
    }

    /// The class of authentication that its login asked for: there is no use in asking
    /// for it again.
    pub fn asked(&self) -> Option<&str> {
        self.asked.as_deref()
    }

    /// How it stands. A look that is a use keeps it from being idle.
    pub(super) fn standing(
        &self,
        terms: &Terms,
        revocations: &Revocations,
        now: Timestamp,
        is_use: bool,
    ) -> Standing {
        let over = |why: &'static str| Standing::Over(Unproven::Session { why });
        if let Some(why) = self.over(terms, now) {
            return over(why);
        }
        if is_use {
            self.used_seconds.store(now.unix_seconds(), Ordering::Relaxed);
        }
        let state = self.state();
        if let Err(revoked) = state.check_revoked(revocations) {
            return Standing::Over(revoked);
        }
        let can_refresh = state.refresh_token.is_some();
        match (now < state.fresh_until, can_refresh) {
            (true, true) if now >= state.refresh_at => Standing::Stale(Arc::clone(&state.principal)),
            (true, _) => Standing::Good(Arc::clone(&state.principal)),
            // The last refresh failed, and the provider is not asked by every request.
            (false, true) if now < state.refresh_at => Standing::Over(Unproven::SessionUnavailable),
            (false, true) => Standing::Ended,
            (false, false) => over("its tokens have ended, and the provider gave none to refresh them with"),
        }
    }

    /// Why its time is over, if it is.
    fn over(&self, terms: &Terms, now: Timestamp) -> Option<&'static str> {
        let used = Timestamp::from_unix_seconds(self.used_seconds.load(Ordering::Relaxed));
        if now >= self.begun.plus(terms.absolute) {
            Some("it is as old as a session can be")
        } else if now.since(used) > terms.idle {
            Some("it was not used for too long")
        } else if !Arc::ptr_eq(&self.state().judged, &terms.judged) {
            Some("its tokens were judged by a configuration that is no more")
        } else {
            None
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn check_revoked(&self, revocations: &Revocations) -> Result<(), Unproven> {
        self.accepted.check_revoked(revocations)?;
        self.access.as_ref().map_or(Ok(()), |marks| self.accepted.check_marks(marks, revocations))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use keys::{Algorithm, IssuerSettings, Issuers, IssuersSettings, KeySet, KeySource, LocalSigner};
    use keys::{SystemRandom, prove_once, publish, sign_token};
    use model::Clock;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_000);
    const ABSOLUTE: Duration = Duration::from_secs(600);
    const IDLE: Duration = Duration::from_secs(100);

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            NOW
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn terms() -> Terms {
        Terms { idle: IDLE, absolute: ABSOLUTE, judged: Arc::default() }
    }

    async fn accepted() -> Accepted {
        let signer = LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0;
        let pinned = KeySet::parse_pinned(publish(&[&signer]).as_bytes(), &Algorithm::ALL).unwrap();
        let issuer = IssuerSettings {
            source: KeySource::Pinned(pinned),
            ..IssuerSettings::new("https://id.example", vec!["shop".to_owned()])
        };
        let settings = IssuersSettings { issuers: vec![issuer], ..IssuersSettings::default() };
        let claims = json!({ "iss": "https://id.example", "aud": "shop", "sub": "alice", "exp": 9_000 });
        let token = sign_token(&signer, "JWT", claims.as_object().unwrap()).unwrap();
        let issuers = Issuers::new(settings, None).unwrap();
        prove_once(&issuers, token.as_bytes(), &Still).await.unwrap().accepted
    }

    fn session(accepted: &Accepted, terms: &Terms, number: u8, party: &str) -> Arc<Session> {
        let state = State {
            judged: Arc::clone(&terms.judged),
            principal: Arc::clone(&accepted.principal),
            accepted: accepted.clone(),
            access: None,
            fresh_until: Timestamp::from_unix_seconds(9_000),
            refresh_at: Timestamp::from_unix_seconds(9_000),
            refresh_token: None,
            id_token: "".into(),
            refreshing: None,
        };
        let name = ([number; SECRET_BYTES], party.into(), "https://localhost");
        Arc::new(Session::new(name, ("alice", None), NOW, None, state))
    }

    #[tokio::test]
    async fn what_is_over_does_not_stay_in_memory() {
        let after = |seconds| NOW.plus(Duration::from_secs(seconds));
        let (accepted, sessions, terms) = (accepted().await, Sessions::default(), terms());
        for number in 0..40 {
            sessions.put(session(&accepted, &terms, number, "shop"));
        }
        sessions.put(session(&accepted, &terms, 40, "another"));
        assert_eq!((sessions.len(), sessions.sweep("shop", &terms, NOW), sessions.len()), (41, 1, 40));
        // One is used, a second time after most of the others are idle.
        let used = sessions.get(&[7; SECRET_BYTES]).unwrap();
        let stands = |at| match used.standing(&terms, &Revocations::default(), at, true) {
            Standing::Good(_) => true,
            other => panic!("{other:?}"),
        };
        assert!(stands(after(60)));
        assert_eq!((sessions.sweep("shop", &terms, after(100)), sessions.len()), (0, 40), "at the limit");
        assert_eq!((sessions.sweep("shop", &terms, after(101)), sessions.len()), (39, 1), "one past it");
        assert!((1..7).all(|n| stands(after(60 + n * 85))) && stands(after(599)));
        assert_eq!((sessions.sweep("shop", &terms, after(599)), sessions.len()), (0, 1));
        assert_eq!((sessions.sweep("shop", &terms, after(600)), sessions.len()), (1, 0));
    }

    #[tokio::test]
    async fn a_session_ends_as_is_configured_now() {
        let (accepted, before) = (accepted().await, terms());
        let seconds = Duration::from_secs;
        let idle = Terms { idle: seconds(50), ..before.clone() };
        let old = Terms { absolute: seconds(40), ..before.clone() };
        let longer = Terms { idle: IDLE * 2, absolute: ABSOLUTE * 2, ..before.clone() };
        let otherwise = Terms { judged: Arc::default(), ..before.clone() };
        for (name, terms, after, good) in [
            ("as before", &before, 100, true),
            ("as before", &before, 101, false),
            ("idle for longer", &longer, 101, true),
            ("idle for less", &idle, 50, true),
            ("idle for less", &idle, 51, false),
            ("not so old", &old, 39, true),
            ("not so old", &old, 40, false),
            ("judged otherwise", &otherwise, 0, false),
        ] {
            let session = session(&accepted, &before, 0, "shop");
            let now = NOW.plus(seconds(after));
            let standing = session.standing(terms, &Revocations::default(), now, true);
            assert_eq!(matches!(standing, Standing::Good(_)), good, "{name} after {after} s: {standing:?}");
        }
    }
}

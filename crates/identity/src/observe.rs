//! What is told of every login, logout and change of what one logs in with: a line in the log,
//! and an event for whoever keeps them.
//!
//! INVARIANT: whatever is done leaves its event, although whoever asked for it hangs up meanwhile. The
//! store finishes what it was given, so the event is told by a task that waits for it in their place:
//! `Records::commit_and_tell`. Two exceptions: a full audit queue drops events other than those of
//! logins, counted, and where the store does not say whether a change was made, the log says so in the
//! event's place.
//!
//! INVARIANT: what was typed as the name of somebody who does not exist is told to nobody: it may be
//! a password that was typed into the wrong field. A keyed hash of it stands in its place, by which
//! attempts at the same name are known to be at the same name.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::HeaderName;
use model::Timestamp;
pub use model::event::AccountActivity;

use crate::call::Call;
use crate::realm::Realm;
use crate::user::{User, folded};

/// Where the gateway says what it calls the request.
const REQUEST: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of the hash that stands for an unknown name: 96 bits.
const HASH_CHARACTERS: usize = 16;

/// Why a login failed. Whoever tried is never told which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The password is not that of the user.
    WrongPassword,
    /// Nobody has this name.
    UnknownUser,
    /// The user is switched off, whatever the password.
    Disabled,
    /// The user has no password.
    NoPassword,
    /// Too many attempts failed before; it was not judged.
    Throttled,
    /// Too many attempts in this one login; it was not judged.
    TooManyAttempts,
    /// The code of the second factor is wrong, or was used before.
    WrongFactor,
    /// The passkey is nobody's, or what it signed is not good.
    WrongPasskey,
    /// What was shown is good, but no session began: its person was changed or signed out at the
    /// same moment, or hung up, or the store failed.
    NotBegun,
}

impl Failure {
    /// Its name in the log and in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongPassword => "wrong_password",
            Self::UnknownUser => "unknown_user",
            Self::Disabled => "disabled",
            Self::NoPassword => "no_password",
            Self::Throttled => "throttled",
            Self::TooManyAttempts => "too_many_attempts",
            Self::WrongFactor => "wrong_factor",
            Self::WrongPasskey => "wrong_passkey",
            Self::NotBegun => "not_begun",
        }
    }
}

/// What somebody did.
#[derive(Clone, Debug)]
pub struct Event {
    /// What.
    pub activity: AccountActivity,
    /// Why it failed; `None`: it did not.
    pub failure: Option<Failure>,
    /// When.
    pub time: Timestamp,
    /// The realm.
    pub realm: String,
    /// Its issuer.
    pub issuer: String,
    /// The user's id; empty: nobody whom the realm knows.
    pub user_id: String,
    /// What they log in with; `unknown:` and a keyed hash where nobody has that name, `not_looked_up:`
    /// and the hash where the store failed.
    pub user_name: String,
    /// From where, as far as that is known.
    pub address: Option<IpAddr>,
    /// What the browser calls itself.
    pub agent: String,
    /// The request's method; empty where no request led to it.
    pub method: String,
    /// Its path.
    pub path: String,
    /// What the gateway calls the request; empty where no request led to it.
    pub request: String,
    /// The client that they log in for; empty without one.
    pub client: String,
    /// The session; empty without one.
    pub session: String,
    /// How they showed who they are (`amr`), or which kind of factor it is about.
    pub methods: Vec<String>,
    /// Why a session ended; empty for everything else.
    pub why: &'static str,
}

/// A place for one event: whatever is done meanwhile, it is taken.
pub type Place = Box<dyn FnOnce(Event) + Send>;

/// A place, once it is there; `None`: there is none.
pub type Reserving<'a> = Pin<Box<dyn Future<Output = Option<Place>> + Send + 'a>>;

/// Keeps events. The real one stands over the audit log.
pub trait Observe: Send + Sync {
    /// Takes a place for the event of this time; `None`: there is none. A session does not begin then.
    fn reserve(&self, time: Timestamp) -> Reserving<'_>;
}

/// Keeps none: for realms whose callers keep what is done themselves.
#[derive(Clone, Copy, Debug)]
pub struct NoObserver;

impl Observe for NoObserver {
    fn reserve(&self, _: Timestamp) -> Reserving<'_> {
        Box::pin(async { Some(Box::new(drop) as Place) })
    }
}

/// What is told once it is done, by whoever sees it done: no realm is needed for that.
#[derive(Clone)]
pub(crate) struct Telling {
    observer: Arc<dyn Observe>,
    event: Event,
}

impl Telling {
    /// Says it to the log and to the observer, if that has a place for it.
    pub(crate) async fn tell(self) {
        let Self { observer, event } = self;
        event.log();
        match observer.reserve(event.time).await {
            Some(place) => place(event),
            None => event.log_no_place(),
        }
    }
}

/// A login that may begin a session: its event has its place. Dropped, it says that none began, whether
/// the store failed or whoever logged in hung up.
pub(crate) struct Admitted {
    event: Event,
    /// `None`: it was told.
    place: Option<Place>,
}

impl Admitted {
    /// Says that this session has begun.
    pub(crate) fn begun(mut self, session: &str) {
        self.tell(self.event.clone().for_session(session));
    }

    fn tell(&mut self, event: Event) {
        if let Some(place) = self.place.take() {
            event.log();
            place(event);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.tell(self.event.clone().failed(Failure::NotBegun));
    }
}

impl Event {
    /// By this user.
    pub(crate) fn by(mut self, user: &User) -> Self {
        (self.user_id, self.user_name) = (user.id.clone(), user.username.clone());
        self
    }

    /// By whoever typed this name, which may be nobody's.
    pub(crate) fn by_typed(self, realm: &Realm, typed: &str, user: Option<&User>) -> Self {
        match user {
            Some(user) => self.by(user),
            None => self.by_hash(realm, "unknown", typed),
        }
    }

    /// By whoever typed this name: whose it is could not be looked up.
    fn by_unread(self, realm: &Realm, typed: &str) -> Self {
        self.by_hash(realm, "not_looked_up", typed)
    }

    fn by_hash(self, realm: &Realm, why: &str, typed: &str) -> Self {
        let hash = realm.key_ring().derive("unknown user", &folded(typed));
        let hash: String = hash.chars().take(HASH_CHARACTERS).collect();
        Self { user_name: format!("{why}:{hash}"), ..self }
    }

    pub(crate) fn failed(self, failure: Failure) -> Self {
        Self { failure: Some(failure), ..self }
    }

    pub(crate) fn for_client(self, client: Option<&str>) -> Self {
        Self { client: client.unwrap_or_default().to_owned(), ..self }
    }

    pub(crate) fn for_session(self, session: &str) -> Self {
        Self { session: session.to_owned(), ..self }
    }

    pub(crate) fn by_methods(self, methods: &[impl AsRef<str>]) -> Self {
        Self { methods: methods.iter().map(|method| method.as_ref().to_owned()).collect(), ..self }
    }

    fn log(&self) {
        let what = self.activity.name();
        let (realm, user, user_id, client) = (&self.realm, &self.user_name, &self.user_id, &self.client);
        let address = self.address.map(|address| address.to_string());
        let some = |text: &'static str| Some(text).filter(|text| !text.is_empty());
        let (user_id, client) = (some_of(user_id), some_of(client));
        match self.failure {
            Some(failure) => {
                let reason = failure.name();
                tracing::warn!(realm, user, user_id, address, client, reason, "identity: {what} failed");
            }
            None => {
                let (session, amr) = (some_of(&self.session), self.methods.join(" "));
                let (amr, why) = (some_of(&amr), some(self.why));
                tracing::info!(realm, user, user_id, address, client, session, amr, why, "identity: {what}");
            }
        }
    }

    fn log_no_place(&self) {
        let (realm, what) = (&self.realm, self.activity.name());
        tracing::error!(realm, "identity: the audit log takes no event of a {what}");
    }
}

/// What says nothing is left out of a line.
fn some_of(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

impl Realm {
    /// What somebody does now, by a request or without one; by whom is said with [`Event::by`].
    pub(crate) fn event(&self, activity: AccountActivity, call: Option<&Call>) -> Event {
        let request = call.and_then(|call| call.headers.get(REQUEST)?.to_str().ok());
        Event {
            activity,
            failure: None,
            time: call.map_or_else(|| self.now(), |call| call.now),
            realm: self.settings.name.clone(),
            issuer: self.settings.issuer.clone(),
            user_id: String::new(),
            user_name: String::new(),
            address: call.and_then(Call::address),
            agent: call.map(Call::agent).unwrap_or_default(),
            method: call.map(|call| call.method.to_string()).unwrap_or_default(),
            path: call.map(|call| call.path().to_owned()).unwrap_or_default(),
            request: request.unwrap_or_default().to_owned(),
            client: String::new(),
            session: String::new(),
            methods: Vec::new(),
            why: "",
        }
    }

    /// What is told once it is done.
    pub(crate) fn telling(&self, event: Event) -> Telling {
        Telling { observer: Arc::clone(&self.observer), event }
    }

    /// Says it to the log and to the observer, although whoever asked hangs up meanwhile.
    pub(crate) async fn tell(&self, event: Event) {
        // A task that panics has told what it could.
        let _ = tokio::spawn(self.telling(event).tell()).await;
    }

    /// Takes a place for the event of a login; `None`: there is none, and nothing may begin.
    pub(crate) async fn admit(&self, event: Event) -> Option<Admitted> {
        match self.observer.reserve(event.time).await {
            Some(place) => Some(Admitted { event, place: Some(place) }),
            None => {
                event.log_no_place();
                None
            }
        }
    }

    /// The event of somebody of whom only the id is known.
    pub(crate) async fn event_of(&self, user: &str, event: Event) -> Event {
        match self.find_user_by_id(user).await {
            Ok(Some((user, _))) => event.by(&user),
            // They are removed, or the store fails: the id says who it was.
            Ok(None) | Err(_) => Event { user_id: user.to_owned(), user_name: user.to_owned(), ..event },
        }
    }

    /// Tells what whoever typed a name did, beside the answer: how long it takes to look who that
    /// is would say whether there is such a person.
    pub(crate) fn tell_beside(self: &Arc<Self>, typed: &str, event: Event) {
        let (realm, typed) = (Arc::clone(self), typed.to_owned());
        tokio::spawn(async move {
            let event = match realm.named(&typed).await {
                Ok(user) => event.by_typed(&realm, &typed, user.as_ref()),
                Err(error) => {
                    let error = error.to_string();
                    tracing::error!(error, "identity: whose a typed name is could not be looked up");
                    event.by_unread(&realm, &typed)
                }
            };
            realm.tell(event).await;
        });
    }
}

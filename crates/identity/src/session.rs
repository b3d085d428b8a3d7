//! Browser sessions: a cookie that nobody can guess, a record that can be ended.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::HeaderValue;
use model::Timestamp;
use serde::{Deserialize, Serialize};
use store::limits::TRANSACTION_OPERATIONS_MAX;
use store::{Expect, Transaction, Version};
use subtle::ConstantTimeEq as _;

use crate::Error;
use crate::call::Call;
use crate::login::acr;
use crate::mint::Authentication;
use crate::observe::Admitted;
use crate::realm::Realm;
use crate::record::{ATTEMPTS_MAX, Kind, Stored, Written};
use crate::user::User;

/// A session is written again at most this often for being used.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// A session of one browser with one person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    /// `sid`: public.
    pub(crate) id: String,
    /// The hash of the cookie's secret.
    secret: String,
    pub(crate) user: String,
    /// When the person last showed who they are.
    pub(crate) authenticated: Timestamp,
    pub(crate) acr: Option<String>,
    pub(crate) amr: Vec<String>,
    pub(crate) seen: Timestamp,
    /// Where it was begun, for its person to know it by.
    #[serde(default)]
    pub(crate) address: Option<IpAddr>,
    #[serde(default)]
    pub(crate) agent: String,
}

impl Session {
    pub(crate) fn authentication(&self) -> Authentication {
        Authentication {
            session: self.id.clone(),
            time: self.authenticated,
            acr: self.acr.clone(),
            amr: self.amr.clone(),
        }
    }

    /// What its person showed for it, to be added to.
    pub(crate) fn shown(&self, user: &User) -> Shown {
        let begun = Shown::by(user, self.amr.clone(), self.authenticated);
        Shown { session: Some(self.id.clone()), ..begun }
    }

    /// The token in forms of somebody who is logged in: of this session and its secret.
    pub(crate) fn csrf(&self, realm: &Realm) -> String {
        realm.key_ring().derive("csrf", &format!("{} {}", self.id, self.secret))
    }

    pub(crate) fn expires(&self, realm: &Realm) -> Timestamp {
        let lifetimes = &realm.settings.lifetimes;
        let ends = self.authenticated.plus(lifetimes.session_absolute);
        self.seen.plus(lifetimes.session_idle).min(ends)
    }
}

/// The name of a session's cookie.
pub(crate) fn cookie_name(realm: &Realm) -> String {
    realm.settings.cookie_name("session")
}

/// A `Set-Cookie` value of a name that [`RealmSettings::cookie_name`] gave. Lax: the cookie comes
/// along when a client sends the browser here.
///
/// [`RealmSettings::cookie_name`]: crate::settings::RealmSettings::cookie_name
pub(crate) fn set_cookie(
    realm: &Realm,
    name: &str,
    value: &str,
    life: Option<Duration>,
) -> Result<HeaderValue, Error> {
    let age = life.map_or_else(String::new, |life| format!("; Max-Age={}", life.as_secs()));
    let secure = if realm.settings.is_https() { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/{secure}; HttpOnly; SameSite=Lax{age}");
    HeaderValue::from_str(&text).map_err(|_| Error::Random)
}

/// The session of a browser, if it has one that is good.
pub(crate) async fn current(realm: &Realm, call: &Call) -> Result<Option<Stored<Session>>, Error> {
    let Some((id, secret)) = call.cookie(&cookie_name(realm)).and_then(|value| value.split_once('.')) else {
        return Ok(None);
    };
    let Some(stored) = get(realm, id, call.now).await? else { return Ok(None) };
    let given = crate::random::hash(secret);
    if !bool::from(given.as_bytes().ct_eq(stored.value.secret.as_bytes())) {
        tracing::warn!(session = id, "identity: a cookie with the wrong secret for its session");
        return Ok(None);
    }
    touch(realm, &stored, call.now).await?;
    Ok(Some(stored))
}

/// A session by `sid`, while it is good and its user is.
pub(crate) async fn get(realm: &Realm, id: &str, now: Timestamp) -> Result<Option<Stored<Session>>, Error> {
    let Some(stored) = realm.records.get::<Session>(Kind::Session, &[id]).await? else { return Ok(None) };
    let session = &stored.value;
    let good = realm.user_since(&session.user, session.authenticated).await?.is_some();
    Ok((good && session.expires(realm) > now).then_some(stored))
}

/// The sessions of a person that are good.
pub(crate) async fn of_user(realm: &Realm, user: &str, now: Timestamp) -> Result<Vec<Session>, Error> {
    let mut sessions = Vec::new();
    for (id, _) in realm.records.list_all::<()>(Kind::UserSession, &[user]).await? {
        sessions.extend(get(realm, &id, now).await?.map(|stored| stored.value));
    }
    Ok(sessions)
}

/// Notes that a session is used.
pub(crate) async fn touch(realm: &Realm, stored: &Stored<Session>, now: Timestamp) -> Result<(), Error> {
    if now.since(stored.value.seen) < TOUCH_EVERY {
        return Ok(());
    }
    let mut session = stored.value.clone();
    session.seen = now;
    let expires = session.expires(realm);
    let id = session.id.clone();
    let expect = Expect::Version(stored.version);
    match realm.records.put(Kind::Session, &[&id], &session, Some(expires), expect).await? {
        // Somebody else wrote it, or ended it.
        Written::Done | Written::Conflict => Ok(()),
    }
}

/// Adds to a transaction that a client knows of a session: it is told of its end for as long as
/// the session can last, whatever becomes of the tokens that it got.
pub(crate) fn known_by(
    realm: &Realm,
    changes: Transaction,
    session: &str,
    client: &str,
    now: Timestamp,
    expect: Expect,
) -> Result<Transaction, Error> {
    // Not before the session ends: that is counted from a login that was not after this.
    let until = Some(now.plus(realm.settings.lifetimes.session_absolute));
    realm.records.write(changes, Kind::SessionClient, &[session, client], &(), until, expect)
}

/// The clients that know of a session.
pub(crate) async fn clients(realm: &Realm, session: &str) -> Result<Vec<String>, Error> {
    let found = realm.records.list_all::<()>(Kind::SessionClient, &[session]).await?;
    Ok(found.into_iter().map(|(client, _)| client).collect())
}

/// Lets the clients that know of a session know of it for as long as it lasts when it is renewed
/// now.
async fn known_longer(realm: &Realm, session: &str, now: Timestamp) -> Result<(), Error> {
    for attempt in 0..ATTEMPTS_MAX {
        realm.records.pause(attempt).await;
        let mut outcome = Written::Done;
        for some in clients(realm, session).await?.chunks(TRANSACTION_OPERATIONS_MAX) {
            let known =
                |changes, client: &String| known_by(realm, changes, session, client, now, Expect::Present);
            let changes = some.iter().try_fold(Transaction::new(), known)?;
            // One that was removed meanwhile stays forgotten.
            if realm.records.commit(changes).await? == Written::Conflict {
                outcome = Written::Conflict;
            }
        }
        if outcome == Written::Done {
            return Ok(());
        }
    }
    Err(Error::Contended("the clients of a session"))
}

/// What a person showed of who they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) user: String,
    /// The methods (`amr`, RFC 8176).
    pub(crate) methods: Vec<String>,
    /// When they began to: `auth_time` does not move when something is added later.
    pub(crate) at: Timestamp,
    /// The session that is stepped up; none for a new login.
    pub(crate) session: Option<String>,
    /// [`User::signed_out`] as it was then. Compared as it is: the clock of whoever signs them
    /// out may be behind, and what they write may arrive late.
    #[serde(default)]
    signed_out: Option<Timestamp>,
}

impl Shown {
    /// What somebody shows now of who they are; `user` was read before it was judged.
    pub(crate) fn by(user: &User, methods: Vec<String>, at: Timestamp) -> Self {
        Self { user: user.id.clone(), methods, at, session: None, signed_out: user.signed_out }
    }

    /// Whether they were signed out since.
    pub(crate) fn is_over(&self, user: &User) -> bool {
        user.signed_out != self.signed_out
    }
}

/// A session that was just made: its cookie's value.
pub(crate) struct Begun {
    pub(crate) session: Session,
    pub(crate) cookie: String,
}

/// Begins a session, after somebody showed who they are; or renews the one of that id,
/// which was theirs. Always with a new secret: a cookie that was planted before a login is
/// worth nothing after it. And only for the person as they were `judged`: whoever is switched off
/// or signed out at this moment, here or by another process, gets none. What came of it is told.
pub(crate) async fn begin(
    realm: &Realm,
    call: &Call,
    shown: Shown,
    renewed: Option<String>,
    judged: Version,
    admitted: Admitted,
) -> Result<Begun, Error> {
    let random = realm.random.as_ref();
    let secret = crate::random::secret(random)?;
    let expect = if renewed.is_some() { Expect::Present } else { Expect::Absent };
    let id = match renewed {
        Some(id) => {
            known_longer(realm, &id, call.now).await?;
            id
        }
        None => crate::random::name(random)?,
    };
    let session = Session {
        id: id.clone(),
        secret: crate::random::hash(&secret),
        user: shown.user,
        authenticated: shown.at,
        acr: acr::reached(&realm.settings.acr_levels, &shown.methods).map(str::to_owned),
        amr: shown.methods,
        seen: call.now,
        address: call.address(),
        agent: call.agent(),
    };
    let (records, expires) = (&realm.records, Some(session.expires(realm)));
    let ends = Some(call.now.plus(realm.settings.lifetimes.session_absolute));
    let as_judged = records.key(Kind::User, &[&session.user]);
    let changes = Transaction::new().require(as_judged, Expect::Version(judged));
    let changes = records.write(changes, Kind::Session, &[&id], &session, expires, expect)?;
    let changes = records.write(changes, Kind::UserSession, &[&session.user, &id], &(), ends, Expect::Any)?;
    let begun = id.clone();
    let told = |done| async move {
        if done {
            admitted.begun(&begun);
        }
    };
    match records.commit_and_follow(changes, told).await? {
        Written::Done => Ok(Begun { session, cookie: format!("{id}.{secret}") }),
        // It was ended while its person logged in again, or they are others now.
        Written::Conflict => Err(Error::Contended("a session")),
    }
}

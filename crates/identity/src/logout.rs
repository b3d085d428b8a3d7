//! Logout: started by a client (RP-Initiated Logout 1.0) or here, and told to every
//! client of the session (Back-Channel Logout 1.0).

pub(crate) mod ended;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Expect, Transaction};

use crate::Error;
use crate::authorize::interaction::check_form;
use crate::call::Call;
use crate::client::{Client, redirect};
use crate::grant::{self, Grant};
use crate::logout::ended::Ended;
use crate::mint;
use crate::observe::{AccountActivity, Event};
use crate::page::{self, LogoutPage};
use crate::parameter::with_query;
use crate::realm::Realm;
use crate::record::{Kind, Stored, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::revocation::{self, Named};
use crate::session::{self, Session, cookie_name, set_cookie};
use crate::text::Notice;

/// Most grants of one session that are ended.
const GRANTS_MAX: usize = 100_000;
/// Most deliveries that are looked at in one round: what waits for its next attempt is among
/// them, and must not hide what is due.
const DELIVERIES_MAX: usize = 10_000;
/// Most that are tried in one round, those first that have been due for longest.
const DELIVERIES_TRIED_MAX: usize = 128;
/// How many are under way at once: a client that does not answer delays few others.
const DELIVERIES_AT_ONCE: usize = 16;
/// How often a delivery is tried; then it is given up, and the log says so.
const ATTEMPTS_MAX: u32 = 6;
/// The pause after the first attempt; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(10);

/// A logout token that is to be delivered.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pending {
    client: String,
    user: String,
    session: String,
    attempts: u32,
    due: Timestamp,
}

/// Why a session ends, and by which request if by one of its person's.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a> {
    pub(crate) why: &'static str,
    pub(crate) call: Option<&'a Call>,
}

/// Ends a session: its cookie, its grants but those that go on offline, the tokens at the
/// gateways, and the sessions at its clients. Gives whether it was this that ended it: of several who
/// do so at once one tells of it and does the rest.
pub(crate) async fn end(
    realm: &Realm,
    session: &Session,
    ends: Ends<'_>,
    now: Timestamp,
) -> Result<bool, Error> {
    let records = &realm.records;
    let ended = Ended::Session { id: session.id.clone(), user: session.user.clone() };
    // What was given out last ends within the longest life of a token.
    let until = now.plus(realm.longest_token());
    let gone = Transaction::new()
        .delete(records.key(Kind::Session, &[&session.id]), Expect::Present)
        .delete(records.key(Kind::UserSession, &[&session.user, &session.id]), Expect::Any);
    let gone = revocation::write(realm, gone, Named::Session(&session.id), until)?;
    let gone = ended.note(realm, gone, now)?;
    let event = realm.event(AccountActivity::LogOff, ends.call).for_session(&session.id);
    let event = realm.event_of(&session.user, Event { why: ends.why, ..event }).await;
    match records.commit_and_tell(gone, realm.telling(event)).await? {
        Written::Done => {}
        Written::Conflict if records.exists(Kind::Session, &[&session.id]).await? => {
            return Err(Error::Contended("a session that ends"));
        }
        Written::Conflict => return Ok(false),
    }
    tell(realm, &session.id, &session.user, now).await?;
    ended.done(realm).await?;
    Ok(true)
}

/// Tells the clients of a session that has ended, and ends its grants. Its session gone, nobody
/// gets another.
async fn tell(realm: &Realm, session: &str, user: &str, now: Timestamp) -> Result<(), Error> {
    let records = &realm.records;
    let grants = records.list::<String>(Kind::SessionGrant, &[session], GRANTS_MAX).await?;
    for id in session::clients(realm, session).await? {
        let told = realm.client(&id).await?.is_some_and(|client| client.backchannel_logout_uri.is_some());
        if !told {
            continue;
        }
        let name = crate::random::hash(&format!("{session} {id}"));
        let (client, user, session) = (id, user.to_owned(), session.to_owned());
        let pending = Pending { client, user, session, attempts: 0, due: now };
        // It stands there until it was heard or tried for the last time.
        match records.put(Kind::Delivery, &[&name], &pending, None, Expect::Absent).await? {
            // It waits already.
            Written::Done | Written::Conflict => {}
        }
    }
    realm.delivery_due.notify_one();
    for (id, _) in grants {
        let grant = records.get::<Grant>(Kind::Grant, &[&id]).await?;
        if grant.is_some_and(|grant| !grant.value.is_offline()) {
            grant::revoke(realm, &id, grant::Why::SessionEnded).await?;
        }
    }
    records.remove_all(Kind::SessionClient, &[session]).await
}

impl Realm {
    /// Ends a session by its `sid`, as an administrator does. Gives whether there was one.
    ///
    /// # Errors
    /// The store fails.
    pub async fn end_session(&self, id: &str) -> Result<bool, Error> {
        match session::get(self, id, self.now()).await? {
            Some(found) => {
                let ends = Ends { why: "ended_by_administrator", call: None };
                end(self, &found.value, ends, self.now()).await
            }
            None => Ok(false),
        }
    }

    /// Delivers the logout tokens that are due, as [`Self::run`] does all the time; those of
    /// logouts whose person has gone away before the end too.
    ///
    /// # Errors
    /// The store fails. A delivery that fails is tried again later.
    pub async fn deliver_logouts(&self) -> Result<(), Error> {
        let followed = ended::follow(self, self.now()).await;
        deliver_due(self).await.and(followed)
    }
}

async fn deliver_due(realm: &Realm) -> Result<(), Error> {
    let now = realm.now();
    let mut due = realm.records.list::<Pending>(Kind::Delivery, &[], DELIVERIES_MAX).await?;
    due.retain(|(_, stored)| stored.value.due <= now);
    due.sort_by_key(|(_, stored)| stored.value.due);
    due.truncate(DELIVERIES_TRIED_MAX);
    while !due.is_empty() {
        let rest = due.split_off(due.len().min(DELIVERIES_AT_ONCE));
        let some = std::mem::replace(&mut due, rest);
        all(some.into_iter().map(|(name, stored)| try_one(realm, name, stored, now))).await?;
    }
    Ok(())
}

/// Waits for all of them; the first error, when there is one.
async fn all(
    futures: impl Iterator<Item = impl Future<Output = Result<(), Error>> + Send>,
) -> Result<(), Error> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut first = Ok(());
    std::future::poll_fn(|context| {
        running.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(ended) => {
                if first.is_ok() {
                    first = ended;
                }
                false
            }
            Poll::Pending => true,
        });
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    first
}

async fn try_one(realm: &Realm, name: String, stored: Stored<Pending>, now: Timestamp) -> Result<(), Error> {
    let mut pending = stored.value;
    pending.attempts += 1;
    pending.due = now.plus(RETRY_FIRST * 2_u32.pow(pending.attempts.min(ATTEMPTS_MAX)));
    // Taken by this write: of several processes one delivers.
    let expect = Expect::Version(stored.version);
    if realm.records.put(Kind::Delivery, &[&name], &pending, stored.expires, expect).await?
        == Written::Conflict
    {
        return Ok(());
    }
    if let Err(why) = deliver(realm, &pending, now).await? {
        let (client, attempts) = (&pending.client, pending.attempts);
        tracing::warn!(client, attempts, why, "identity: a logout token was not delivered");
        if attempts < ATTEMPTS_MAX {
            return Ok(());
        }
        tracing::error!(client, attempts, "identity: a logout token is given up");
    }
    realm.records.remove(Kind::Delivery, &[&name]).await
}

async fn deliver(realm: &Realm, pending: &Pending, now: Timestamp) -> Result<Result<(), String>, Error> {
    let Some(client) = realm.client(&pending.client).await? else { return Ok(Ok(())) };
    let Some(uri) = client.backchannel_logout_uri.clone() else { return Ok(Ok(())) };
    let token = mint::logout_token(realm, &client, &pending.user, &pending.session, now)?;
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", &token).finish();
    Ok(realm.deliver.deliver(uri, form).await)
}

/// Answers `GET` and `POST /logout` (RP-Initiated Logout 1.0 §2).
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, log_out(&realm, &call).await)
}

async fn log_out(realm: &Realm, call: &Call) -> Answer {
    let asked = Asked::read(realm, call).await?;
    let session = session::current(realm, call).await?.map(|stored| stored.value);
    if let Some(session) = &session {
        let confirmed = call.parameters.get("decision") == Some("logout");
        if confirmed {
            check_form(realm, call, &session.csrf(realm))?;
        } else if !asked.is_of(session) {
            // Anybody can send a browser here: the person is asked (§2).
            return confirm(realm, call, session).await;
        }
        end(realm, session, Ends { why: "logged_out", call: Some(call) }, call.now).await?;
    }
    let mut response = match &asked.address {
        Some(address) => crate::authorize::see_other(address),
        None => page::message(realm, call, call.language.texts().logout.done)?,
    };
    let cookie = set_cookie(realm, &cookie_name(realm), "", Some(Duration::ZERO))?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    let cleared = (HeaderName::from_static("clear-site-data"), HeaderValue::from_static("\"cache\""));
    response.headers_mut().insert(cleared.0, cleared.1);
    Ok(response)
}

async fn confirm(realm: &Realm, call: &Call, session: &Session) -> Answer {
    let user = realm.user(&session.user).await?.map(|user| user.username).unwrap_or_default();
    let kept = ["id_token_hint", "client_id", "post_logout_redirect_uri", "state"];
    let fields =
        kept.iter().filter_map(|name| Some(((*name).to_owned(), call.parameters.get(name)?.to_owned())));
    let content = LogoutPage {
        frame: page::Frame::new(realm, call, ""),
        action: &realm.path("/logout"),
        csrf: &session.csrf(realm),
        user: &user,
        fields: fields.collect(),
    };
    let target = call.parameters.get("post_logout_redirect_uri").map(redirect::form_action);
    page::show(&content, target.as_deref(), false)
}

/// What a client asks for.
struct Asked {
    /// Of the hint: whose session is meant.
    subject: Option<String>,
    session: Option<String>,
    /// Where the browser goes then.
    address: Option<String>,
}

impl Asked {
    async fn read(realm: &Realm, call: &Call) -> Answer<Self> {
        let refused = |told: &'static str, why: String| Refusal::new(Code::InvalidRequest, told, why);
        let hint = call.parameters.get("id_token_hint");
        // One that is over still says who was meant (§4).
        let hint = hint.map(|hint| mint::read_hint(realm, hint)).transpose();
        let hint = hint
            .map_err(|why| refused("`id_token_hint` was not issued by this realm", why))?
            .unwrap_or_default();
        let text = |name: &str| hint.get(name).and_then(Value::as_str);
        let named = call.parameters.get("client_id");
        if let (Some(named), Some(audience)) = (named, text("aud"))
            && named != audience
        {
            let why = format!("client_id {named:?}, hint for {audience:?}");
            return Err(refused("`client_id` is not the client of `id_token_hint`", why));
        }
        let client = match named.or(text("aud")) {
            Some(id) => realm.client(id).await?,
            None => None,
        };
        let address = call.parameters.get("post_logout_redirect_uri");
        let address =
            address.map(|uri| after(uri, client.as_deref(), call.parameters.get("state"))).transpose()?;
        Ok(Self { subject: text("sub").map(str::to_owned), session: text("sid").map(str::to_owned), address })
    }

    /// Whether it is about this session, so that nobody needs to be asked.
    fn is_of(&self, session: &Session) -> bool {
        self.subject.as_ref() == Some(&session.user)
            && self.session.as_ref().is_none_or(|named| *named == session.id)
    }
}

/// Where the browser goes: only to an address that is registered for this (§3).
fn after(uri: &str, client: Option<&Client>, state: Option<&str>) -> Answer<String> {
    let registered =
        client.is_some_and(|client| redirect::is_registered(uri, &client.post_logout_redirect_uris));
    if !registered {
        let found = keys::encoding::quote(uri);
        let reason = format!("post_logout_redirect_uri \"{found}\" of {:?}", client.map(|client| &client.id));
        return Err(Refusal::person(Code::InvalidRequest, Notice::LogoutAddressNotRegistered, reason));
    }
    Ok(state.map_or_else(|| uri.to_owned(), |state| with_query(uri, &[("state", state)])))
}

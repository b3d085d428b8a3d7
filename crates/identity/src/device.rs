//! Device authorization (RFC 8628): a device without keyboard shows a code, a person
//! types it here and decides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Expect, Transaction};

use crate::Error;
use crate::authorize::consent::describe;
use crate::authorize::interaction::{self, Then};
use crate::call::Call;
use crate::client::{GrantType, authenticate_at};
use crate::grant::Decided;
use crate::login;
use crate::login::step::Class;
use crate::page::{self, DevicePage};
use crate::parameter::with_query;
use crate::realm::Realm;
use crate::record::{Change, Kind, Stored, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::session::{self, Session};
use crate::text::Notice;
use crate::throttle;
use crate::token::uncached;

/// Letters of user codes: consonants that are not taken for each other (§6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of one code: 2^34 codes.
const LETTERS_COUNT: usize = 8;
/// Codes that one person may type or decide about in [`ATTEMPTS_WITHIN`].
const ATTEMPTS_MAX: u32 = 20;
const ATTEMPTS_WITHIN: Duration = Duration::from_secs(600);

/// How long a device that comes too late is still told so (§3.5).
const OVER_REMEMBERED: Duration = Duration::from_secs(300);

/// A device that waits, by the hash of its code.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) client: String,
    pub(crate) until: Timestamp,
    pub(crate) standing: Standing,
    /// How long it waits between two questions.
    pub(crate) interval: Duration,
    /// When it last asked.
    pub(crate) polled: Option<Timestamp>,
    scopes: BTreeSet<String>,
    resources: BTreeSet<String>,
}

impl Device {
    /// Until when its record is kept.
    pub(crate) fn kept(&self) -> Option<Timestamp> {
        Some(self.until.plus(OVER_REMEMBERED))
    }
}

/// What a person decided about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Standing {
    Pending,
    Denied,
    Allowed(Box<Decided>),
}

/// Answers `POST /device_authorization` (§3.1).
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Answer {
    let client = authenticate_at(&realm, &call, "/device_authorization").await?.client;
    if !client.allows(GrantType::DeviceCode) {
        return Err(Refusal::plain(Code::UnauthorizedClient, "this client has no such grant"));
    }
    let scopes = match call.parameters.get("scope") {
        Some(text) => crate::scope::allowed(text, &client, &realm.settings)?,
        None => BTreeSet::new(),
    };
    let resources = crate::resource::requested(&call.parameters, &client, &realm.settings)?;
    if client.is_public() {
        throttle::keep_for_stranger(&realm, &call).await?;
    }
    let lifetimes = &realm.settings.lifetimes;
    let device_code = crate::random::secret(realm.random.as_ref())?;
    let until = call.now.plus(lifetimes.device_code);
    let device = Device {
        client: client.id.clone(),
        until,
        standing: Standing::Pending,
        interval: lifetimes.device_interval,
        polled: None,
        scopes,
        resources: if resources.is_empty() { client.resources.clone() } else { resources },
    };
    let name = crate::random::hash(&device_code);
    let user_code = user_code(&realm)?;
    let records = &realm.records;
    let changes = Transaction::new();
    let changes = records.write(changes, Kind::Device, &[&name], &device, device.kept(), Expect::Absent)?;
    let changes =
        records.write(changes, Kind::UserCode, &[&user_code], &name, Some(until), Expect::Absent)?;
    match records.commit(changes).await? {
        Written::Done => {}
        Written::Conflict => return Err(Error::Contended("a user code").into()),
    }
    let page = realm.address("/device");
    let shown = shown(&user_code);
    let body = json!({
        "device_code": device_code,
        "user_code": shown,
        "verification_uri": page,
        "verification_uri_complete": with_query(&page, &[("user_code", &shown)]),
        "expires_in": lifetimes.device_code.as_secs(),
        "interval": lifetimes.device_interval.as_secs(),
    });
    Ok(uncached(Json(body).into_response()))
}

fn user_code(realm: &Realm) -> Result<String, Error> {
    let mut code = String::new();
    while code.len() < LETTERS_COUNT {
        // Of 256 values the first 240 fall on 20 letters evenly.
        for byte in crate::random::bytes::<16>(realm.random.as_ref())? {
            let letter = LETTERS.get(usize::from(byte) % LETTERS.len());
            if byte < 240
                && code.len() < LETTERS_COUNT
                && let Some(letter) = letter
            {
                code.push(char::from(*letter));
            }
        }
    }
    Ok(code)
}

/// With a hyphen, easier to read.
fn shown(code: &str) -> String {
    match code.split_at_checked(LETTERS_COUNT / 2) {
        Some((first, second)) => format!("{first}-{second}"),
        None => code.to_owned(),
    }
}

/// What a person typed, without case and whatever they put between.
fn typed(code: &str) -> String {
    code.chars()
        .filter(char::is_ascii_alphabetic)
        .map(|letter| letter.to_ascii_uppercase())
        .take(16)
        .collect()
}

/// Answers `GET /device`: the page, for somebody who is logged in.
pub(crate) async fn page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let code = call.parameters.get("user_code").map(typed).unwrap_or_default();
    let shown = async {
        match session::current(&realm, &call).await? {
            // A code in the address fills in the field, and nothing more: the person
            // compares it with the device (§3.3.1).
            Some(session) => {
                let ask = Ask { code: &code, device: None, error: None };
                show(&realm, &call, &session.value, &ask).await
            }
            None => {
                let path = with_query("/device", &[("user_code", &self::shown(&code))]);
                interaction::begin(&realm, &call, Then::Visit(path), None).await
            }
        }
    };
    page::or_error(&realm, &call, shown.await)
}

/// What the page asks.
struct Ask<'a> {
    code: &'a str,
    device: Option<&'a Device>,
    error: Option<Notice>,
}

async fn show(realm: &Realm, call: &Call, session: &Session, ask: &Ask<'_>) -> Answer {
    let user = realm.user(&session.user).await?.map(|user| user.username).unwrap_or_default();
    let client = match ask.device {
        Some(device) => realm.client(&device.client).await?.map(|client| client.display_name().to_owned()),
        None => None,
    };
    let code = if ask.code.is_empty() { String::new() } else { shown(ask.code) };
    let frame = page::Frame::new(realm, call, "/device");
    let scopes = ask.device.map(|device| describe(realm, call.language, &device.scopes));
    let content = DevicePage {
        action: &realm.path("/device"),
        csrf: &session.csrf(realm),
        user: &user,
        code: &code,
        client: client.as_deref().unwrap_or_default(),
        scopes: scopes.unwrap_or_default(),
        error: ask.error.map(frame.texts.notice).unwrap_or_default(),
        frame,
    };
    page::show(&content, None, false)
}

/// Answers `POST /device`: the code, then the decision.
pub(crate) async fn submit(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, decide(&realm, &call).await)
}

async fn decide(realm: &Realm, call: &Call) -> Answer {
    let over = || Refusal::person(Code::AccessDenied, Notice::SessionEnded, "no session");
    let session = session::current(realm, call).await?.ok_or_else(over)?.value;
    interaction::check_form(realm, call, &session.csrf(realm))?;
    let code = typed(call.parameters.require("user_code")?);
    count_attempt(realm, &session.user, call.now).await?;
    let Some((name, device)) = find(realm, &code, call.now).await? else {
        return unknown(realm, call, &session, &code).await;
    };
    let decision = call.parameters.get("decision");
    let allowed = decision == Some("allow");
    let waits = matches!(device.standing, Standing::Pending);
    // Whoever denies gives nothing away.
    if waits
        && (allowed || decision.is_none())
        && let Some(elsewhere) = step_up(realm, call, &session, &device, &code).await?
    {
        return Ok(elsewhere);
    }
    match decision {
        Some(_) if note(realm, call, &session, (&name, allowed)).await? => {
            let texts = &call.language.texts().device;
            page::message(realm, call, if allowed { texts.connected } else { texts.not_connected })
        }
        None if waits => {
            let ask = Ask { code: &code, device: Some(&device), error: None };
            show(realm, call, &session, &ask).await
        }
        _ => unknown(realm, call, &session, &code).await,
    }
}

async fn unknown(realm: &Realm, call: &Call, session: &Session, code: &str) -> Answer {
    show(realm, call, session, &Ask { code, device: None, error: Some(Notice::UnknownDevice) }).await
}

/// Notes what a person decided, also at a moment at which the device asks; false: nobody waits for
/// it. Whoever sends the same twice is told the same: a browser shows the answer to the last.
async fn note(realm: &Realm, call: &Call, session: &Session, (name, allowed): (&str, bool)) -> Answer<bool> {
    let decide = |stored: Option<Stored<Device>>| {
        let Some(mut device) = stored.map(|stored| stored.value).filter(|device| device.until > call.now)
        else {
            return Ok((None, false));
        };
        match &device.standing {
            Standing::Pending => {}
            Standing::Allowed(decided) => return Ok((None, allowed && decided.user == session.user)),
            Standing::Denied => return Ok((None, !allowed)),
        }
        device.standing = if allowed {
            Standing::Allowed(Box::new(decided(&device, session, call.now)))
        } else {
            Standing::Denied
        };
        let kept = device.kept();
        Ok::<_, Box<Refusal>>((Some(Change::to(device, kept)), true))
    };
    realm.records.change(Kind::Device, &[name], "a device that waits", decide).await
}

/// The way to a login that is strong enough for the device's client, where this one is not. It
/// leads back to the code.
async fn step_up(
    realm: &Realm,
    call: &Call,
    session: &Session,
    device: &Device,
    code: &str,
) -> Answer<Option<Response>> {
    let client = crate::authorize::request::client(realm, &device.client).await?;
    match login::class(realm, &client, session).await? {
        Class::Good => Ok(None),
        Class::StepUp => {
            let path = with_query("/device", &[("user_code", &shown(code))]);
            let then = Then::Reach { path, client: client.id.clone() };
            interaction::begin(realm, call, then, None).await.map(Some)
        }
        Class::Unmet => Err(login::unmet(&client)),
    }
}

fn decided(device: &Device, session: &Session, now: Timestamp) -> Decided {
    Decided {
        client: device.client.clone(),
        user: session.user.clone(),
        scopes: device.scopes.clone(),
        resources: device.resources.clone(),
        asked: crate::claim::Asked::default(),
        authentication: session.authentication(),
        nonce: None,
        at: now,
    }
}

/// The device that shows this code, and the hash of its own. Its code stays when it is decided about,
/// until it ends.
async fn find(realm: &Realm, code: &str, now: Timestamp) -> Answer<Option<(String, Device)>> {
    if code.len() != LETTERS_COUNT {
        return Ok(None);
    }
    let Some(name) = realm.records.get::<String>(Kind::UserCode, &[code]).await? else { return Ok(None) };
    let found = realm.records.get::<Device>(Kind::Device, &[&name.value]).await?;
    let device = found.map(|found| found.value).filter(|device| device.until > now);
    Ok(device.map(|device| (name.value, device)))
}

/// RFC 8628 §5.1: codes are short, so nobody may try many.
async fn count_attempt(realm: &Realm, user: &str, now: Timestamp) -> Answer<()> {
    let decide = |stored: Option<Stored<u32>>| {
        let (count, until) = match stored {
            Some(stored) => (stored.value, stored.expires),
            None => (0, Some(now.plus(ATTEMPTS_WITHIN))),
        };
        if count >= ATTEMPTS_MAX {
            let reason = format!("user {user:?} tried {count} codes");
            return Err(Refusal::person(Code::AccessDenied, Notice::TooManyCodes, reason));
        }
        Ok((Some(Change::to(count + 1, until)), ()))
    };
    realm.records.change(Kind::CodeAttempts, &[user], "a count of codes", decide).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_however_they_are_typed() {
        assert_eq!(shown("BCDFGHJK"), "BCDF-GHJK");
        for text in ["BCDF-GHJK", "bcdf ghjk", " bcdfghjk\t", "b-c-d-f-g-h-j-k"] {
            assert_eq!(typed(text), "BCDFGHJK", "{text}");
        }
        assert_eq!(typed(&"B".repeat(100)).len(), 16);
    }
}

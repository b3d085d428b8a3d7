//! The way to the provider and back: what a login under way remembers, and how a session is
//! found again.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use keys::client::{ClientCredential, Form, encode_form};
use keys::encoding::{encode_base64url, parse_object, quote};
use keys::{Metadata, Revocations};
use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::table::{SECRET_BYTES, Session};
use super::{EndpointRequest, Level, RelyingParty, Standing, cookie};

/// How long a login may take.
pub const LOGIN_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a session's cookie can be: no configuration makes a session longer.
pub(super) const COOKIE_TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The metadata of a provider that takes authorization requests from clients alone, not from
/// browsers (RFC 9126 §5).
const PUSHED_ALONE: &str = "require_pushed_authorization_requests";
/// Longest `request_uri` that a browser is given to carry, bytes.
const REQUEST_URI_BYTES_MAX: usize = 512;
/// Characters of `state` in the name of a login's cookie.
const NAME_CHARACTERS: usize = 8;

/// What a login under way has to remember.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) state: String,
    pub(super) nonce: String,
    /// PKCE (RFC 7636 §4.1).
    pub(super) verifier: String,
    /// Where the browser wanted to go.
    pub(super) back_to: String,
    /// The class of authentication that is asked for.
    pub(super) acr: Option<String>,
    /// How long ago the authentication may have been, seconds.
    pub(super) max_age: Option<u64>,
    /// Unix seconds.
    pub(super) begun: u64,
}

/// Where a browser is sent, and with what.
#[derive(Debug)]
pub struct Begun {
    /// The provider's address.
    pub location: String,
    /// `Set-Cookie` fields.
    pub cookies: Vec<String>,
}

impl RelyingParty {
    /// Begins a login for a browser at this origin, which will come back to `back_to`. Asks
    /// nobody: where the request has to be pushed first, our own endpoint does it
    /// ([`Self::begin_here`]), and the browser is sent there.
    ///
    /// # Errors
    /// The provider is not known yet, or no random numbers are to be had.
    pub fn begin<'c>(
        &self,
        origin: &str,
        back_to: &str,
        level: Option<&Level>,
        cookies: impl Iterator<Item = (&'c [u8], &'c [u8])>,
        now: Timestamp,
    ) -> Result<Begun, String> {
        let provider = self.known_provider()?;
        if provider.flag(PUSHED_ALONE) {
            let mut form: Form = vec![("return", super::site::place(back_to).to_owned())];
            form.extend(level.map(|level| ("acr", level.acr.clone())));
            let location = format!("{origin}{}/login?{}", self.settings.path, encode_form(&form));
            return Ok(Begun { location, cookies: Vec::new() });
        }
        let (login, mut form) = self.request(origin, back_to, level, now)?;
        form.push(("client_id", self.settings.client.id.clone()));
        let location = authorize(&provider, &form)?;
        Ok(Begun { location, cookies: self.login_cookies(&login, origin, cookies, now)? })
    }

    /// The same at our own endpoint, on the control plane, where a request can be pushed.
    ///
    /// # Errors
    /// As [`Self::begin`], and the provider does not take the request.
    pub(super) async fn begin_here(
        &self,
        asked: &EndpointRequest,
        back_to: &str,
        level: Option<&Level>,
        now: Timestamp,
    ) -> Result<Begun, String> {
        let origin = &asked.origin;
        let provider = self.known_provider()?;
        if !provider.flag(PUSHED_ALONE) {
            return self.begin(origin, back_to, level, asked.cookies(), now);
        }
        let (login, form) = self.request(origin, back_to, level, now)?;
        let location = authorize(&provider, &self.push(form).await?)?;
        Ok(Begun { location, cookies: self.login_cookies(&login, origin, asked.cookies(), now)? })
    }

    pub(super) fn known_provider(&self) -> Result<Arc<Metadata>, String> {
        self.provider().ok_or_else(|| "the provider's metadata are not known yet".to_owned())
    }

    /// A login, and what the provider is asked for it; by whom is not said yet.
    fn request(
        &self,
        origin: &str,
        back_to: &str,
        level: Option<&Level>,
        now: Timestamp,
    ) -> Result<(Login, Form), String> {
        let login = Login {
            state: self.random_text()?,
            nonce: self.random_text()?,
            verifier: self.random_text()?,
            back_to: super::site::place(back_to).to_owned(),
            acr: level.map(|level| level.acr.clone()),
            max_age: level.and_then(|level| level.max_age).map(|age| age.as_secs()),
            begun: now.unix_seconds(),
        };
        let settings = &self.settings;
        let mut form: Form = vec![
            ("response_type", "code".to_owned()),
            ("redirect_uri", self.redirect_uri(origin)),
            ("scope", settings.scopes.join(" ")),
            ("state", login.state.clone()),
            ("nonce", login.nonce.clone()),
            ("code_challenge", encode_base64url(digest(&SHA256, login.verifier.as_bytes()).as_ref())),
            ("code_challenge_method", "S256".to_owned()),
        ];
        form.extend(settings.resource.clone().map(|resource| ("resource", resource)));
        if let Some(level) = level {
            form.push(("acr_values", level.acr.clone()));
            form.extend(login.max_age.map(|age| ("max_age", age.to_string())));
        }
        Ok((login, form))
    }

    /// Pushes a request to the provider (RFC 9126 §2.1), and gives what is left for the
    /// browser to carry.
    async fn push(&self, mut form: Form) -> Result<Form, String> {
        let client = &self.settings.client;
        let own_id = ("client_id", client.id.clone());
        // In `Authorization` alone it would not be a parameter of the request (RFC 6749 §4.1.1).
        if matches!(client.credential, ClientCredential::Secret(_)) {
            form.push(own_id.clone());
        }
        let answered = self.send("pushed_authorization_request_endpoint", form).await?;
        let members = parse_object(&answered.body).unwrap_or_default();
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        if answered.status != 201 {
            let (status, error) = (answered.status, quote(text("error").unwrap_or_default()));
            return Err(format!("the provider answers a pushed request with status {status} \"{error}\""));
        }
        let address = text("request_uri").unwrap_or_default();
        if !(1..=REQUEST_URI_BYTES_MAX).contains(&address.len()) {
            return Err(format!("expected a `request_uri` of 1 to {REQUEST_URI_BYTES_MAX} bytes"));
        }
        Ok(vec![own_id, ("request_uri", address.to_owned())])
    }

    fn login_cookies<'c>(
        &self,
        login: &Login,
        origin: &str,
        cookies: impl Iterator<Item = (&'c [u8], &'c [u8])>,
        now: Timestamp,
    ) -> Result<Vec<String>, String> {
        let text = serde_json::to_vec(login).map_err(|error| error.to_string())?;
        let purpose = self.purpose("login", origin);
        let random = &*self.environment.random;
        let sealed =
            self.sessions.ring.seal(&text, &purpose, now, random).map_err(|error| error.to_string())?;
        let before: Vec<&str> = cookies
            .filter_map(|(name, _)| std::str::from_utf8(name).ok())
            .filter(|name| name.starts_with(cookie::names(origin).login))
            .take(4 * cookie::LOGINS_MAX)
            .collect();
        let mut set =
            vec![cookie::set(&login_cookie(origin, &login.state), &sealed, LOGIN_TIME_MAX.as_secs())];
        if before.len() >= cookie::LOGINS_MAX {
            set.extend(before.iter().map(|name| cookie::set(name, "", 0)));
        }
        Ok(set)
    }

    /// The login under way that an answer's `state` belongs to.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn login_of<'c>(
        &self,
        state: &str,
        origin: &str,
        cookies: impl Iterator<Item = (&'c [u8], &'c [u8])>,
        now: Timestamp,
    ) -> Result<Login, &'static str> {
        let sealed = cookie::one(cookies, &login_cookie(origin, state))
            .map_err(|cookie::Ambiguous| "two cookies of one login")?
            .ok_or("this browser began no such login")?;
        let opened = self.sessions.ring.open(sealed, &self.purpose("login", origin), now);
        let login: Login = opened
            .and_then(|text| serde_json::from_slice(&text).ok())
            .ok_or("the login's cookie was not set by this gateway")?;
        let same: bool = subtle::ConstantTimeEq::ct_eq(login.state.as_bytes(), state.as_bytes()).into();
        if !same {
            return Err("`state` is another login's");
        }
        if now.since(Timestamp::from_unix_seconds(login.begun)) > LOGIN_TIME_MAX {
            return Err("the login took too long");
        }
        Ok(login)
    }

    /// The session that a cookie's value names, at this origin.
    pub fn find(&self, sealed: &[u8], origin: &str, now: Timestamp) -> Option<Arc<Session>> {
        let name = self.sessions.ring.open(sealed, &self.purpose("session", origin), now)?;
        let name: [u8; SECRET_BYTES] = name.try_into().ok()?;
        let session = self.sessions.get(&name)?;
        (session.party == self.name && *session.origin == *origin).then_some(session)
    }

    /// How a session of ours stands. A look that is a use keeps it from being idle.
    pub fn standing(
        &self,
        session: &Session,
        revocations: &Revocations,
        now: Timestamp,
        is_use: bool,
    ) -> Standing {
        session.standing(&self.terms, revocations, now, is_use)
    }

    pub(super) fn session_cookie(&self, session: &Session, now: Timestamp) -> Result<String, String> {
        let purpose = self.purpose("session", &session.origin);
        let random = &*self.environment.random;
        let sealed = self.sessions.ring.seal(&session.name, &purpose, now, random);
        let sealed = sealed.map_err(|error| error.to_string())?;
        let ends = session.begun.plus(self.terms.absolute);
        Ok(cookie::set(cookie::names(&session.origin).session, &sealed, ends.since(now).as_secs()))
    }

    /// INVARIANT: a text that is sealed for one thing, party and origin opens for no other.
    fn purpose(&self, what: &str, origin: &str) -> Vec<u8> {
        format!("{what}\n{}\n{origin}", self.name).into_bytes()
    }

    pub(super) fn redirect_uri(&self, origin: &str) -> String {
        format!("{origin}{}/callback", self.settings.path)
    }

    pub(super) fn random_secret(&self) -> Result<[u8; SECRET_BYTES], String> {
        let mut bytes = [0; SECRET_BYTES];
        self.environment
            .random
            .fill(&mut bytes)
            .map_err(|_| "the system's random number generator failed".to_owned())?;
        Ok(bytes)
    }

    /// 256 random bits: the 43 characters that RFC 7636 §4.1 asks for, too.
    fn random_text(&self) -> Result<String, String> {
        Ok(encode_base64url(&self.random_secret()?))
    }
}

/// Where a browser is sent with a request.
fn authorize(provider: &Metadata, form: &Form) -> Result<String, String> {
    let endpoint = provider.endpoint("authorization_endpoint")?;
    let joint = if endpoint.contains('?') { '&' } else { '?' };
    Ok(format!("{endpoint}{joint}{}", encode_form(form)))
}

/// The name of a login's cookie. A `state` that we made has only letters, digits, `-` and `_`.
fn login_cookie(origin: &str, state: &str) -> String {
    let part: String = state
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_'))
        .take(NAME_CHARACTERS)
        .collect();
    format!("{}{part}", cookie::names(origin).login)
}

//! The way to the provider and back: what a login under way remembers, and how a session is
//! found again.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use keys::encoding::encode_base64url;
use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::table::{SECRET_BYTES, Session};
use super::{Level, Party, cookie};

/// How long a login may take.
pub const LOGIN_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a session's cookie can be: no configuration makes a session longer.
pub(super) const COOKIE_TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
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

impl Party {
    /// Begins a login for a browser at this origin, which will come back to `back_to`.
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
        let provider = self.provider().ok_or("the provider's metadata are not known yet")?;
        let endpoint = provider.endpoint("authorization_endpoint")?;
        let login = Login {
            state: self.random_text()?,
            nonce: self.random_text()?,
            verifier: self.random_text()?,
            back_to: super::site::place(back_to).to_owned(),
            acr: level.map(|level| level.acr.clone()),
            begun: now.unix_seconds(),
        };
        let settings = &self.settings;
        let challenge = encode_base64url(digest(&SHA256, login.verifier.as_bytes()).as_ref());
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &settings.client.id)
            .append_pair("redirect_uri", &self.redirect_uri(origin))
            .append_pair("scope", &settings.scopes.join(" "))
            .append_pair("state", &login.state)
            .append_pair("nonce", &login.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        if let Some(resource) = &settings.resource {
            query.append_pair("resource", resource);
        }
        if let Some(level) = level {
            query.append_pair("acr_values", &level.acr);
            if let Some(age) = level.max_age {
                query.append_pair("max_age", &age.as_secs().to_string());
            }
        }
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        let location = format!("{endpoint}{joint}{}", query.finish());
        Ok(Begun { location, cookies: self.login_cookies(&login, origin, cookies, now)? })
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
        let random = &*self.errands.random;
        let sealed =
            self.sessions.ring.seal(&text, &purpose, now, random).map_err(|error| error.to_string())?;
        let before: Vec<&str> = cookies
            .filter_map(|(name, _)| std::str::from_utf8(name).ok())
            .filter(|name| name.starts_with(cookie::LOGIN))
            .take(4 * cookie::LOGINS_MAX)
            .collect();
        let mut set = vec![cookie::set(&login_cookie(&login.state), &sealed, LOGIN_TIME_MAX.as_secs())];
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
        let sealed = cookie::one(cookies, &login_cookie(state))
            .map_err(|cookie::Ambiguous| "two cookies of one login")?
            .ok_or("this browser began no such login")?;
        let opened = self.sessions.ring.open(sealed, &self.purpose("login", origin), now);
        let login: Login = opened
            .and_then(|text| serde_json::from_slice(&text).ok())
            .ok_or("the login's cookie is not one of ours")?;
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

    pub(super) fn session_cookie(&self, session: &Session, now: Timestamp) -> Result<String, String> {
        let purpose = self.purpose("session", &session.origin);
        let random = &*self.errands.random;
        let sealed = self.sessions.ring.seal(&session.name, &purpose, now, random);
        let sealed = sealed.map_err(|error| error.to_string())?;
        Ok(cookie::set(cookie::SESSION, &sealed, session.ends.since(now).as_secs()))
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
        self.errands.random.fill(&mut bytes).map_err(|_| "no random numbers".to_owned())?;
        Ok(bytes)
    }

    /// 256 random bits: the 43 characters that RFC 7636 §4.1 asks for, too.
    fn random_text(&self) -> Result<String, String> {
        Ok(encode_base64url(&self.random_secret()?))
    }
}

/// The name of a login's cookie. A `state` that we made has only letters, digits, `-` and `_`.
fn login_cookie(state: &str) -> String {
    let part: String = state
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_'))
        .take(NAME_CHARACTERS)
        .collect();
    format!("{}{part}", cookie::LOGIN)
}

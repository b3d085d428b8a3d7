//! The party's own endpoints, below its path: where browsers come back to, begin and end,
//! and where the provider says that a session has ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use keys::jwt::LOGOUT_EVENT;
use model::Timestamp;
use serde_json::Value;

use super::begin::Login;
use super::site::{self, Source};
use super::{Failure, Level, RelyingParty, Session, cookie};

/// Largest body that is read, bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How old a logout token may be (Back-Channel Logout §2.6 leaves it to us).
const LOGOUT_AGE_MAX: Duration = Duration::from_secs(300);

/// A request to one of the endpoints.
#[derive(Clone, Debug)]
pub struct EndpointRequest {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its query.
    pub query: String,
    /// Scheme, host and port as the browser knows them.
    pub origin: String,
    /// Its `Cookie` fields.
    pub cookies: Vec<Bytes>,
    /// Its `Origin`.
    pub from: Option<Bytes>,
    /// Its `Sec-Fetch-Site`.
    pub fetch_site: Option<Bytes>,
    /// Its body.
    pub body: Bytes,
}

impl EndpointRequest {
    pub(super) fn cookies(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.cookies.iter().flat_map(|field| cookie::pairs(field))
    }

    /// The one value of a parameter; two are none (RFC 6749 §3.1).
    fn parameter(text: &[u8], name: &str) -> Option<String> {
        let mut values = form_urlencoded::parse(text).filter(|(found, _)| found == name);
        let value = values.next()?.1.into_owned();
        values.next().is_none().then_some(value)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct EndpointResponse {
    /// Status.
    pub status: StatusCode,
    /// Fields.
    pub fields: Vec<(&'static str, String)>,
    /// What a person is told, as text.
    pub text: &'static str,
}

impl EndpointResponse {
    fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, fields: vec![("cache-control", "no-store".to_owned())], text }
    }

    fn to(location: &str) -> Self {
        Self::new(StatusCode::SEE_OTHER, "").with("location", location)
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }
}

impl RelyingParty {
    /// Answers one of the endpoints: `callback`, `login`, `logout`, `signed-out` and
    /// `backchannel-logout`, below the party's path.
    pub async fn answer(self: &Arc<Self>, asked: &EndpointRequest, levels: &[Level]) -> EndpointResponse {
        let now = self.environment.clock.now();
        let name = asked.path.strip_prefix(&self.settings.path).unwrap_or_default();
        match (name, &asked.method) {
            ("/callback", &Method::GET) => self.callback(asked, now).await,
            ("/login", &Method::GET) => self.login(asked, levels, now).await,
            ("/logout", &Method::POST) => self.logout(asked, now),
            ("/signed-out", &Method::GET) => EndpointResponse::new(StatusCode::OK, "You are signed out."),
            ("/backchannel-logout", &Method::POST) => self.logout_token(asked, now).await,
            ("/logout" | "/backchannel-logout", _) => {
                EndpointResponse::new(StatusCode::METHOD_NOT_ALLOWED, "This address takes POST.")
                    .with("allow", "POST")
            }
            ("/callback" | "/login" | "/signed-out", _) => {
                EndpointResponse::new(StatusCode::METHOD_NOT_ALLOWED, "This address takes GET.")
                    .with("allow", "GET")
            }
            _ => EndpointResponse::new(StatusCode::NOT_FOUND, "There is nothing here."),
        }
    }

    /// `GET /login?return=PATH&acr=LEVEL`: for pages that ask their API and got 401, and for
    /// every login at a provider to whom requests are pushed.
    async fn login(&self, asked: &EndpointRequest, levels: &[Level], now: Timestamp) -> EndpointResponse {
        let query = asked.query.as_bytes();
        let back_to = EndpointRequest::parameter(query, "return").unwrap_or_default();
        let wanted = EndpointRequest::parameter(query, "acr");
        let level = wanted.and_then(|acr| levels.iter().find(|level| level.acr == acr));
        match self.begin_here(asked, &back_to, level, now).await {
            Ok(begun) => {
                let told = EndpointResponse::to(&begun.location);
                begun.cookies.iter().fold(told, |told, cookie| told.with("set-cookie", cookie))
            }
            Err(why) => unavailable(&why),
        }
    }

    /// The provider's answer (OpenID Connect Core §3.1.2.5).
    async fn callback(&self, asked: &EndpointRequest, now: Timestamp) -> EndpointResponse {
        let query = asked.query.as_bytes();
        let state = EndpointRequest::parameter(query, "state").unwrap_or_default();
        let login = match self.login_of(&state, &asked.origin, asked.cookies(), now) {
            Ok(login) => login,
            Err(why) => return refused(why),
        };
        let told = match self.come_back(asked, &login, now).await {
            Ok(told) => told,
            Err(Failure::Refused(why)) => refused(&why),
            Err(Failure::Unavailable(why)) => unavailable(&why),
        };
        // The login has ended, whichever way.
        let gone = asked.cookies().filter_map(|(name, _)| std::str::from_utf8(name).ok());
        let prefix: String = login.state.chars().take(8).collect();
        let ours = cookie::names(&asked.origin).login;
        let gone = gone.filter(|name| name.strip_prefix(ours) == Some(&*prefix)).take(1);
        gone.fold(told, |told, name| told.with("set-cookie", &cookie::set(name, "", 0)))
    }

    async fn come_back(
        &self,
        asked: &EndpointRequest,
        login: &Login,
        now: Timestamp,
    ) -> Result<EndpointResponse, Failure> {
        let query = asked.query.as_bytes();
        let refuse = |why: &str| Failure::Refused(why.to_owned());
        // RFC 9207 §2.4: an answer of another server than the one that was asked.
        let provider = self.provider();
        let says =
            provider.is_some_and(|provider| provider.flag("authorization_response_iss_parameter_supported"));
        match EndpointRequest::parameter(query, "iss") {
            Some(issuer) if issuer == self.settings.issuer => {}
            None if !says => {}
            _ => return Err(refuse("`iss` is not the provider that was asked")),
        }
        if let Some(error) = EndpointRequest::parameter(query, "error") {
            let error = keys::encoding::quote(&error);
            return Err(Failure::Refused(format!("the provider says \"{error}\"")));
        }
        let code =
            EndpointRequest::parameter(query, "code").ok_or_else(|| refuse("the answer has no code"))?;
        let mut form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code),
            ("redirect_uri", self.redirect_uri(&asked.origin)),
            ("code_verifier", login.verifier.clone()),
        ];
        if let Some(resource) = &self.settings.resource {
            form.push(("resource", resource.clone()));
        }
        let tokens = self.redeem(form).await?;
        let id_token = self.verify_id_token(&tokens, Some(&login.nonce)).await?;
        if let Some(age) = login.max_age {
            self.check_age(&id_token, Duration::from_secs(age))?;
        }
        let subject = id_token.claim("sub").unwrap_or_default().to_owned();
        let provider_session = id_token.claim("sid").map(str::to_owned);
        let state = self.state(tokens, Some(id_token), None).await?;
        // The session that this browser had until now ends; a session is never moved over
        // to somebody who logs in, so nobody can have fixed it before.
        if let Some(before) = self.session_of(asked, now) {
            self.sessions.end(&before);
        }
        let name = self.random_secret().map_err(Failure::Unavailable)?;
        let session = Arc::new(Session::new(
            (name, Arc::clone(&self.name), &asked.origin),
            (&subject, provider_session.as_deref()),
            now,
            login.acr.as_deref(),
            state,
        ));
        self.sessions.put(Arc::clone(&session));
        let cookie = self.session_cookie(&session, now).map_err(Failure::Unavailable)?;
        Ok(EndpointResponse::to(site::place(&login.back_to)).with("set-cookie", &cookie))
    }

    fn session_of(&self, asked: &EndpointRequest, now: Timestamp) -> Option<Arc<Session>> {
        let sealed = cookie::one(asked.cookies(), cookie::names(&asked.origin).session).ok().flatten()?;
        self.find(sealed, &asked.origin, now)
    }

    /// Ends the session here and sends the browser to end it at the provider
    /// (RP-Initiated Logout 1.0 §2).
    fn logout(&self, asked: &EndpointRequest, now: Timestamp) -> EndpointResponse {
        let source = Source { origin: asked.from.as_deref(), fetch_site: asked.fetch_site.as_deref() };
        if let Err(why) = site::check(source, &asked.origin, &[]) {
            tracing::info!(why, "a logout is not taken for this site's own");
            return EndpointResponse::new(StatusCode::FORBIDDEN, "This was not asked for by this site.");
        }
        let gone = cookie::set(cookie::names(&asked.origin).session, "", 0);
        let signed_out = format!("{}{}/signed-out", asked.origin, self.settings.path);
        let session = self.session_of(asked, now);
        let provider = self.provider();
        let endpoint = provider.as_ref().and_then(|provider| provider.endpoint("end_session_endpoint").ok());
        let location = match (&session, endpoint) {
            (Some(session), Some(endpoint)) => {
                let mut query = form_urlencoded::Serializer::new(String::new());
                query
                    .append_pair("id_token_hint", &session.state().id_token)
                    .append_pair("client_id", &self.settings.client.id)
                    .append_pair("post_logout_redirect_uri", &signed_out);
                let joint = if endpoint.contains('?') { '&' } else { '?' };
                format!("{endpoint}{joint}{}", query.finish())
            }
            _ => signed_out,
        };
        if let Some(session) = session {
            self.sessions.end(&session);
        }
        EndpointResponse::to(&location).with("set-cookie", &gone).with("clear-site-data", "\"cache\"")
    }

    /// The provider says that a session of its own has ended (Back-Channel Logout 1.0 §2.6).
    async fn logout_token(&self, asked: &EndpointRequest, now: Timestamp) -> EndpointResponse {
        let token = EndpointRequest::parameter(&asked.body, "logout_token").unwrap_or_default();
        match self.end_by_token(&token, now).await {
            Ok(ended) => {
                tracing::info!(ended, "sessions ended at the provider");
                EndpointResponse::new(StatusCode::OK, "")
            }
            Err(Failure::Refused(why)) => {
                tracing::warn!(why, "a logout token is refused");
                EndpointResponse::new(StatusCode::BAD_REQUEST, "The logout token is not valid.")
            }
            Err(Failure::Unavailable(why)) => unavailable(&why),
        }
    }

    async fn end_by_token(&self, token: &str, now: Timestamp) -> Result<usize, Failure> {
        let refuse = |why: &str| Failure::Refused(why.to_owned());
        let proven = self.prove(&self.id_tokens, token).await?;
        let claims = &proven.claims;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if proven.accepted.principal.issuer.as_deref() != Some(self.settings.issuer.as_str()) {
            return Err(refuse("it is of another issuer"));
        }
        let event = claims.get("events").and_then(|events| events.get(LOGOUT_EVENT));
        if !event.is_some_and(Value::is_object) || claims.contains_key("nonce") {
            return Err(refuse("it is no logout token"));
        }
        let issued = claims.get("iat").and_then(Value::as_u64).map(Timestamp::from_unix_seconds);
        if issued.is_none_or(|issued| now.since(issued) > LOGOUT_AGE_MAX) {
            return Err(refuse("it is too old"));
        }
        let (subject, session) = (text("sub"), text("sid"));
        if subject.is_none() && session.is_none() {
            return Err(refuse("it names neither a session nor a person"));
        }
        // Ending what has ended changes nothing: a token that comes again does no harm.
        Ok(self.sessions.end_where(|found| {
            found.party == self.name
                && subject.is_none_or(|subject| *found.subject == *subject)
                && session.is_none_or(|session| found.provider_session.as_deref() == Some(session))
        }))
    }
}

fn refused(why: &str) -> EndpointResponse {
    tracing::warn!(why, "a login is refused");
    EndpointResponse::new(StatusCode::BAD_REQUEST, "Signing in did not work. Please go back and try again.")
}

fn unavailable(why: &str) -> EndpointResponse {
    tracing::warn!(why, "the provider cannot be used");
    EndpointResponse::new(StatusCode::SERVICE_UNAVAILABLE, "Signing in is not possible at the moment.")
        .with("retry-after", "5")
}

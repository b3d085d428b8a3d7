//! The token endpoint (RFC 6749 §3.2): who the client is, which grant, what it gets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keys::dpop::Proof;
use model::Timestamp;
use serde::Serialize;

use crate::call::Call;
use crate::client::{Authenticated, GrantType, authenticate};
use crate::grant::{client_credentials, code, device, exchange, refresh};
use crate::mint::{Binding, Minted};
use crate::proof;
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};

/// Answers `POST /token`.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Answer {
    let grant = call.parameters.require("grant_type")?;
    let grant = GrantType::ALL
        .into_iter()
        .find(|known| known.name() == grant)
        .ok_or_else(|| Refusal::plain(Code::UnsupportedGrantType, "this provider has no such grant"))?;
    let authenticated = authenticate(&realm, &call).await?;
    let client = &authenticated.client;
    if !client.allows(grant) {
        let reason = format!("client {:?} has no grant {}", client.id, grant.name());
        return Err(Refusal::new(Code::UnauthorizedClient, "this client has no such grant", reason));
    }
    let asking = Asking::new(&realm, &call, &authenticated)?;
    // Those that write are large while they wait, and every request would be moved with room for them.
    let issued = match grant {
        GrantType::AuthorizationCode => Box::pin(code::exchange(&asking)).await?,
        GrantType::RefreshToken => Box::pin(refresh::exchange(&asking)).await?,
        GrantType::ClientCredentials => client_credentials::exchange(&asking).await?,
        GrantType::DeviceCode => Box::pin(device::exchange(&asking)).await?,
        GrantType::TokenExchange => Box::pin(exchange::exchange(&asking)).await?,
    };
    // A busy machine asks all day, and the log's file is written before it is answered.
    tracing::debug!(
        client = client.id,
        grant = grant.name(),
        subject = issued.subject,
        token = issued.access.id,
        "identity: token issued"
    );
    let mut response = issued.into_response(call.now);
    proof::offer_nonce(&realm, &call, response.headers_mut());
    Ok(response)
}

/// A request to the token endpoint whose client is known.
pub(crate) struct Asking<'a> {
    pub(crate) realm: &'a Arc<Realm>,
    pub(crate) call: &'a Call,
    pub(crate) authenticated: &'a Authenticated,
    binding: Binding,
    proof: Option<Proof>,
    is_remembered: AtomicBool,
}

/// Whose scopes they are that bound what is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    /// What a person granted, or a token that is shown has.
    Granted,
    /// The client's own.
    Client,
}

impl<'a> Asking<'a> {
    /// With key and certificate of the request, as far as the client's tokens are bound to them.
    fn new(realm: &'a Arc<Realm>, call: &'a Call, authenticated: &'a Authenticated) -> Answer<Self> {
        let client = &authenticated.client;
        let proof = proof::verified_at(realm, call, "/token")?;
        if proof.is_none() && client.dpop_bound_access_tokens {
            return Err(Refusal::plain(Code::InvalidDpopProof, "this client has to send a DPoP proof"));
        }
        let jkt = proof.as_ref().map(|proof| proof.thumbprint.clone());
        let mut binding = Binding { jkt, certificate: None };
        if client.certificate_bound_access_tokens {
            binding.certificate = authenticated.certificate.clone();
            if binding.certificate.is_none() {
                let told = "this client has to show a client certificate";
                return Err(Refusal::plain(Code::InvalidRequest, told));
            }
        }
        Ok(Self { realm, call, authenticated, binding, proof, is_remembered: AtomicBool::new(false) })
    }

    /// What the tokens would be bound to, to compare what they are asked for by with it.
    pub(crate) fn shown(&self) -> &Binding {
        &self.binding
    }

    /// What the tokens will be bound to, for whoever has shown that they are due. INVARIANT: the proof is
    /// remembered before there are tokens, and of whoever has nothing to ask by none is.
    pub(crate) async fn binding(&self) -> Answer<&Binding> {
        if let Some(proof) = &self.proof
            && !self.is_remembered.swap(true, Ordering::Relaxed)
        {
            Box::pin(proof::remember(self.realm, proof)).await?;
        }
        Ok(&self.binding)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.call.now
    }

    /// The scopes that are asked for, within `granted`; all of it when none is named
    /// (RFC 6749 §6).
    pub(crate) fn scopes_within(&self, granted: &BTreeSet<String>) -> Answer<BTreeSet<String>> {
        self.scopes_that(Whose::Granted, |scope| granted.contains(scope), || granted.clone())
    }

    /// The same, within those that are `granted`; `all` of them when none is named.
    pub(crate) fn scopes_that(
        &self,
        whose: Whose,
        granted: impl Fn(&str) -> bool,
        all: impl FnOnce() -> BTreeSet<String>,
    ) -> Answer<BTreeSet<String>> {
        let Some(text) = self.call.parameters.get("scope") else { return Ok(all()) };
        let (within, more): (BTreeSet<String>, BTreeSet<String>) =
            crate::scope::parse(text)?.into_iter().partition(|scope| granted(scope));
        // Of its own a client gets those that it has, and is told which (RFC 6749 §3.3). What was granted
        // is never more than it was, and who asks for more is not who was granted it (§6).
        if more.is_empty() || (matches!(whose, Whose::Client) && !within.is_empty()) {
            return Ok(within);
        }
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let (found, client) = (more.join(" "), &self.authenticated.client.id);
        let told = match whose {
            Whose::Granted => format!("`scope` is more than what was granted: {found}"),
            Whose::Client => format!("this client does not have the `scope` {found}"),
        };
        Err(Refusal::new(Code::InvalidScope, told, format!("client {client:?}")))
    }

    /// The APIs that are asked for, within `granted`.
    pub(crate) fn resources_within(&self, granted: &BTreeSet<String>) -> Answer<BTreeSet<String>> {
        let client = &self.authenticated.client;
        let wanted = crate::resource::requested(&self.call.parameters, client, &self.realm.settings)?;
        crate::resource::within(wanted, granted)
    }
}

/// What a grant came to.
pub(crate) struct Issued {
    pub(crate) access: Minted,
    pub(crate) token_type: &'static str,
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) refresh_token: Option<String>,
    pub(crate) id_token: Option<String>,
    /// RFC 8693 §2.2.1.
    pub(crate) issued_token_type: Option<&'static str>,
    /// For the log.
    pub(crate) subject: String,
}

impl Issued {
    /// RFC 6749 §5.1.
    fn into_response(self, now: Timestamp) -> Response {
        let rest = Told {
            token_type: self.token_type,
            // In whole seconds, as `exp` is.
            expires_in: self.access.expires.unix_seconds().saturating_sub(now.unix_seconds()),
            scope: (!self.scopes.is_empty()).then(|| crate::scope::join(&self.scopes)),
            refresh_token: self.refresh_token.as_deref(),
            id_token: self.id_token.as_deref(),
            issued_token_type: self.issued_token_type,
        };
        let Ok(rest) = serde_json::to_vec(&rest) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        // The longest member has nothing in it that would be escaped.
        let (name, token) = (&b"{\"access_token\":\""[..], self.access.token.as_bytes());
        json([name, token, b"\",", rest.get(1..).unwrap_or_default()].concat())
    }
}

/// The answer's members but for the access token.
#[derive(Serialize)]
struct Told<'a> {
    token_type: &'a str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'a str>,
}

/// An answer that is JSON already, and of which nobody keeps a copy.
pub(crate) fn json(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    uncached(response)
}

/// RFC 6749 §5.1: nobody keeps a copy.
pub(crate) fn uncached(mut response: Response) -> Response {
    let fields: [(HeaderName, &'static str); 2] =
        [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

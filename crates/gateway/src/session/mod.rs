//! Browsers that log in at an OpenID provider: a relying party of our own (OpenID Connect
//! Core §3.1, RFC 9700), whose sessions are a proof of identity like a token is.
//!
//! The way through it: a request without a session is sent to the provider
//! ([`RelyingParty::begin`]); it comes back to the callback ([`RelyingParty::answer`]), which redeems the
//! code, verifies what it gets and opens a session in the [`Sessions`]; every request after
//! that is found by its cookie ([`RelyingParty::find`]), and the session's tokens are refreshed
//! before they end, once for all who ask.
//!
//! The cookie says nothing but which session is meant; all else stays here. What a login
//! under way has to remember stands in a sealed cookie of its own, so that those who never
//! come back cost nothing.
//!
//! What it must never do: let the address that a browser is sent to come from anywhere but
//! the sealed cookie, take an answer that no login of that browser asked for, or keep a
//! session whose refresh the provider refused.

use std::sync::Arc;
use std::time::Duration;

use keys::client::OwnClient;
use keys::{Fetch, Issuers, Metadata, Post, SecureRandom};
use model::Clock;

mod begin;
pub mod cookie;
mod endpoints;
mod provider;
mod redeem;
mod refresh;
pub mod site;
mod table;

pub use begin::{Begun, LOGIN_TIME_MAX};
pub use endpoints::{BODY_BYTES_MAX, EndpointRequest, EndpointResponse};
use provider::{Provider, Source};
pub use redeem::Failure;
use table::Terms;
pub use table::{SESSIONS_MAX, Session, Sessions, Standing};

/// Where the claims of a session's principal come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimsFrom {
    /// The ID token: made for us.
    IdToken,
    /// The access token, verified as if it had come as a bearer token.
    AccessToken,
}

/// A class of authentication that policies can demand, and how it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// `acr`.
    pub acr: String,
    /// The methods that it amounts to, for policies that read `amr`.
    pub amr: Vec<String>,
    /// How long ago it may have been, when it is asked for.
    pub max_age: Option<Duration>,
}

/// What is configured.
#[derive(Clone, Debug)]
pub struct RelyingPartySettings {
    /// The provider.
    pub issuer: String,
    /// Who we are there.
    pub client: OwnClient,
    /// The path of our own endpoints on each host: `/auth`.
    pub path: String,
    /// What is asked for; `openid` among it.
    pub scopes: Vec<String>,
    /// The API that tokens are for (RFC 8707).
    pub resource: Option<String>,
    /// Where claims come from.
    pub claims_from: ClaimsFrom,
    /// A session that is not used for this long is over.
    pub idle: Duration,
    /// No session is longer.
    pub absolute: Duration,
    /// How far its clock may be from ours.
    pub leeway: Duration,
    /// Whether the provider may be at a loopback or private address.
    pub allow_private_addresses: bool,
    /// Prefixes of other issuers' users: nobody of this one may read as one of theirs.
    pub other_prefixes: Vec<String>,
}

/// What it uses of the process: network, time and random numbers, on the control plane's runtime, never on a
/// core's.
#[derive(Clone)]
pub struct RelyingPartyEnvironment {
    /// The control plane's.
    pub runtime: tokio::runtime::Handle,
    /// Fetches metadata.
    pub fetch: Arc<dyn Fetch>,
    /// Sends to the token endpoint.
    pub post: Arc<dyn Post>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
}

/// The relying party of one configuration.
pub struct RelyingParty {
    settings: RelyingPartySettings,
    /// Which provider and client a session is of.
    name: Arc<str>,
    /// Verifies ID tokens: the provider's keys, for our client id alone.
    id_tokens: Arc<Issuers>,
    /// Verifies access tokens, as for bearer tokens.
    access_tokens: Arc<Issuers>,
    sessions: Arc<Sessions>,
    terms: Terms,
    environment: RelyingPartyEnvironment,
    provider: Arc<Provider>,
}

impl std::fmt::Debug for RelyingParty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelyingParty").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl RelyingParty {
    /// For one configuration. What `before` knows of the same provider is kept.
    pub fn new(
        settings: RelyingPartySettings,
        (id_tokens, access_tokens): (Arc<Issuers>, Arc<Issuers>),
        sessions: Arc<Sessions>,
        environment: RelyingPartyEnvironment,
        before: Option<&Self>,
    ) -> Arc<Self> {
        let same = |before: &&Self| {
            before.settings.issuer == settings.issuer
                && before.settings.allow_private_addresses == settings.allow_private_addresses
        };
        let provider = before.filter(same).map(|before| Arc::clone(&before.provider)).unwrap_or_default();
        let alike = |before: &&Self| before.judges_like(&settings, &id_tokens, &access_tokens);
        let terms = Terms {
            idle: settings.idle,
            absolute: settings.absolute,
            judged: before.filter(alike).map(|before| Arc::clone(&before.terms.judged)).unwrap_or_default(),
        };
        Arc::new(Self {
            name: format!("{} {}", settings.client.id, settings.issuer).into(),
            settings,
            id_tokens,
            access_tokens,
            sessions,
            terms,
            environment,
            provider,
        })
    }

    /// Whether another configuration would make the same principal of every token, given the
    /// same keys.
    fn judges_like(
        &self,
        settings: &RelyingPartySettings,
        id_tokens: &Issuers,
        access_tokens: &Issuers,
    ) -> bool {
        self.settings.claims_from == settings.claims_from
            && self.settings.other_prefixes == settings.other_prefixes
            && self.id_tokens.judges_like(id_tokens)
            && (settings.claims_from == ClaimsFrom::IdToken || self.access_tokens.judges_like(access_tokens))
    }

    /// What is configured.
    pub fn settings(&self) -> &RelyingPartySettings {
        &self.settings
    }

    /// Who we are at the provider.
    pub fn client(&self) -> &OwnClient {
        &self.settings.client
    }

    /// What verifies ID tokens.
    pub fn id_tokens(&self) -> &Issuers {
        &self.id_tokens
    }

    fn provider(&self) -> Option<Arc<Metadata>> {
        self.provider.metadata()
    }

    /// Ends the sessions whose time is over, and those of another party; how many.
    pub fn sweep(&self) -> usize {
        self.sessions.sweep(&self.name, &self.terms, self.environment.clock.now())
    }

    /// Keeps the keys fresh that verify ID tokens, for as long as it is polled.
    pub async fn keep_keys(self: Arc<Self>) {
        let (fetch, clock) = (Arc::clone(&self.environment.fetch), Arc::clone(&self.environment.clock));
        Arc::clone(&self.id_tokens).run(fetch, clock).await;
    }

    /// Keeps what the provider says of itself fresh, for as long as it is polled. What is under way
    /// when that ends still comes to its end, also for what replaces this.
    pub async fn run(self: Arc<Self>) {
        let source = Source {
            issuer: self.settings.issuer.clone(),
            allow_private_addresses: self.settings.allow_private_addresses,
            fetch: Arc::clone(&self.environment.fetch),
            clock: Arc::clone(&self.environment.clock),
        };
        Arc::clone(&self.provider).run(source).await;
    }
}

//! Opaque tokens: what an authorization server says of one (RFC 7662), asked once for all
//! who wait, remembered within bounds.
//!
//! The way through it: a core looks ([`Introspector::look`]); what is not known is asked by
//! one task on the control plane ([`Introspector::run`]), and the core waits for that
//! ([`IntrospectionWait::ended`]). What the server answers goes through the same judgement
//! as the claims of a signed token.
//!
//! What it must never do: take silence for a yes; remember a yes for longer than the token
//! is good; answer for another configuration than the one that asked; let one network of clients
//! keep another's questions from being asked.

mod turns;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::SecureRandom;
use foldhash::fast::RandomState;
use lru::LruCache;
use model::{ClientNetwork, Clock, Credential, Secret, Timestamp, growing};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};
use turns::Turns;

use crate::client::{OwnClient, encode_form};
use crate::digest::sha256;
use crate::discovery::Metadata;
use crate::encoding::{parse_object, quote};
use crate::error::Error;
use crate::fetch::{Answered, Fetch, FormRequest, Post};
use crate::issuer::check_fetched;
use crate::jwks::{Issuer, Issuers};
use crate::jws::TOKEN_BYTES_MAX;
use crate::jwt::{Accepted, ClaimContext, SECONDS_MAX, judge_claims};
use crate::refusal::Refusal;
use crate::verifier::Verdict;

/// Answers that are remembered, over all cores.
pub(crate) const INTROSPECTIONS_MAX: usize = 16_384;
/// Largest answer that is read, bytes.
pub(crate) const INTROSPECTION_BYTES_MAX: usize = 16 * 1024;
/// Questions that are asked at the same time.
pub(crate) const INTROSPECTIONS_AT_ONCE: usize = 32;
/// Questions that wait to be asked; the next one is refused. One network of clients has no more of these
/// places than it leaves free.
pub(crate) const INTROSPECTIONS_WAITING_MAX: usize = 1_024;
/// Longest that a yes may be remembered.
pub(crate) const INTROSPECTION_CACHE_MAX: Duration = Duration::from_secs(3600);
/// Shortest that a yes can be remembered: an open exchange is judged by what is remembered.
pub(crate) const INTROSPECTION_CACHE_LEAST: Duration = Duration::from_secs(1);
/// Longest that a no is remembered.
pub(crate) const INTROSPECTION_NO_MAX: Duration = Duration::from_secs(10);
/// How long it is remembered that the server cannot be asked.
pub(crate) const INTROSPECTION_FAULT_FOR: Duration = Duration::from_secs(1);
/// Longest that a request waits for an answer.
pub(crate) const INTROSPECTION_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether anybody can still ask.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Whom to ask, and how long to remember.
#[derive(Clone, Debug)]
pub struct IntrospectionSettings {
    /// The issuer, one of the configured: its settings say how claims are read.
    pub issuer: String,
    /// The endpoint; `None`: the issuer's metadata say.
    pub endpoint: Option<String>,
    /// Who asks.
    pub client: OwnClient,
    /// How long a yes is remembered, at most until the token's end.
    pub cache: Duration,
    /// Whether a token that names no audience is taken for ours.
    pub audience_may_be_absent: bool,
}

/// Asks one authorization server about opaque tokens.
pub struct Introspector {
    settings: IntrospectionSettings,
    issuers: Arc<Issuers>,
    /// The issuer's place among them.
    place: usize,
    known: Mutex<LruCache<[u8; 32], Slot, RandomState>>,
    questions: Turns<Question>,
    /// Whether [`Self::run`] was begun.
    is_asking: AtomicBool,
    endpoint: Mutex<Option<Arc<str>>>,
}

enum Slot {
    Known(Arc<Known>),
    Asked(watch::Receiver<Option<Arc<Known>>>),
}

/// What came of a question.
#[derive(Debug)]
struct Known {
    result: Result<Accepted, Refusal>,
    until: Timestamp,
}

struct Question {
    token: Secret<String>,
    key: [u8; 32],
    answer: watch::Sender<Option<Arc<Known>>>,
}

/// What is known of a token now.
#[derive(Debug)]
pub enum Look {
    /// All that there is to know.
    Verdict(Verdict),
    /// It is being asked.
    Wait(IntrospectionWait),
}

/// Resolves when the question was answered.
#[derive(Debug)]
pub struct IntrospectionWait {
    answer: watch::Receiver<Option<Arc<Known>>>,
    issuers: Arc<Issuers>,
}

impl IntrospectionWait {
    /// Waits for the answer, at most `INTROSPECTION_WAIT_MAX`.
    pub async fn ended(mut self, now: Timestamp) -> Verdict {
        let answered = self.answer.wait_for(Option::is_some);
        let known = match tokio::time::timeout(INTROSPECTION_WAIT_MAX, answered).await {
            Ok(Ok(known)) => known.clone(),
            _ => None,
        };
        match known {
            Some(known) => known.verdict(&self.issuers, now),
            None => Verdict::Refused(unavailable("no answer came in time")),
        }
    }
}

impl Known {
    /// Time and revocations are asked at each use.
    fn verdict(&self, issuers: &Issuers, now: Timestamp) -> Verdict {
        let accepted = match &self.result {
            Ok(accepted) => accepted,
            Err(refusal) => return Verdict::Refused(refusal.clone()),
        };
        let judged = accepted.check_time(now).and_then(|()| accepted.check_revoked(&issuers.revocations()));
        match judged {
            Ok(()) => Verdict::of(accepted),
            Err(refusal) => Verdict::Refused(refusal),
        }
    }
}

fn unavailable(why: &str) -> Refusal {
    Refusal::IntrospectionUnavailable { why: why.to_owned() }
}

impl std::fmt::Debug for Introspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Introspector").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Introspector {
    /// Who asks.
    pub fn client(&self) -> &OwnClient {
        &self.settings.client
    }

    /// For one configuration; nothing that another one learned is taken over.
    ///
    /// # Errors
    /// [`Error::Issuer`]: the issuer is not configured, or its endpoint is not safe.
    pub fn new(settings: IntrospectionSettings, issuers: &Arc<Issuers>) -> Result<Arc<Self>, Error> {
        let fault = |why: String| Error::Issuer { issuer: settings.issuer.clone(), why };
        let found = issuers.entries.iter().enumerate().find(|(_, e)| e.settings.issuer == settings.issuer);
        let (place, entry) = found.ok_or_else(|| fault("is not configured".to_owned()))?;
        if let Some(url) = &settings.endpoint {
            check_fetched(url, entry.settings.allow_private_addresses).map_err(fault)?;
        }
        if !(INTROSPECTION_CACHE_LEAST..=INTROSPECTION_CACHE_MAX).contains(&settings.cache) {
            let (least, most) = (INTROSPECTION_CACHE_LEAST.as_secs(), INTROSPECTION_CACHE_MAX.as_secs());
            return Err(fault(format!("expected answers to be remembered for {least} to {most} s")));
        }
        Ok(Arc::new(Self {
            endpoint: Mutex::new(settings.endpoint.as_deref().map(Into::into)),
            settings,
            issuers: Arc::clone(issuers),
            place,
            known: Mutex::new(growing(INTROSPECTIONS_MAX)),
            questions: Turns::default(),
            is_asking: AtomicBool::new(false),
        }))
    }

    /// What is known of a token; asks when nothing is, in the turn of the network that brings it.
    pub fn look(&self, token: &[u8], network: ClientNetwork, now: Timestamp) -> Look {
        let refused = |refusal| Look::Verdict(Verdict::Refused(refusal));
        if token.len() > TOKEN_BYTES_MAX {
            return refused(Refusal::TooLong { bytes: token.len() });
        }
        // RFC 6750 §2.1: what is no token there is none anywhere.
        let is_token = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
        let Some(text) = std::str::from_utf8(token).ok().filter(|_| is_token) else {
            return refused(Refusal::Malformed { what: "expected printable ASCII" });
        };
        let key = sha256(token);
        let mut known = lock(&self.known);
        match known.get(&key) {
            Some(Slot::Known(found)) if now < found.until => {
                return Look::Verdict(found.verdict(&self.issuers, now));
            }
            Some(Slot::Asked(answer)) if answer.has_changed().is_ok() => {
                return Look::Wait(self.wait(answer.clone()));
            }
            _ => {}
        }
        let (sender, answer) = watch::channel(None);
        let question = Question { token: Secret::new(text.to_owned()), key, answer: sender };
        if !self.questions.enter(network, question) {
            return refused(unavailable("too many questions wait to be asked"));
        }
        known.put(key, Slot::Asked(answer.clone()));
        Look::Wait(self.wait(answer))
    }

    fn wait(&self, answer: watch::Receiver<Option<Arc<Known>>>) -> IntrospectionWait {
        IntrospectionWait { answer, issuers: Arc::clone(&self.issuers) }
    }

    /// Asks what cores want to know, until nobody else has it. Spawn it once, on the control
    /// plane's runtime.
    pub async fn run(
        self: Arc<Self>,
        (fetch, post): (Arc<dyn Fetch>, Arc<dyn Post>),
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) {
        if self.is_asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let places = Arc::new(Semaphore::new(INTROSPECTIONS_AT_ONCE));
        let mut running = tokio::task::JoinSet::new();
        loop {
            // The place first: whoever comes while there is none has their turn too.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            while running.try_join_next().is_some() {}
            let question = match tokio::time::timeout(LOOK_EVERY, self.questions.next()).await {
                Ok(question) => question,
                // The configuration was replaced and its last request has gone.
                Err(_) if Arc::strong_count(&self) == 1 => return,
                Err(_) => continue,
            };
            let this = Arc::clone(&self);
            let (fetch, post) = (Arc::clone(&fetch), Arc::clone(&post));
            let (clock, random) = (Arc::clone(&clock), Arc::clone(&random));
            running.spawn(async move {
                this.answer(question, &*fetch, &*post, &*clock, &*random).await;
                drop(place);
            });
        }
    }

    async fn answer(
        &self,
        question: Question,
        fetch: &dyn Fetch,
        post: &dyn Post,
        clock: &dyn Clock,
        random: &(dyn SecureRandom + Sync),
    ) {
        let asked = self.ask(&question.token, fetch, post, clock.now(), random).await;
        let now = clock.now();
        let result = match asked {
            Ok(answered) => self.judge(&answered, now),
            Err(why) => {
                let issuer = &self.settings.issuer;
                tracing::warn!(issuer, why, "a token cannot be introspected");
                Err(Refusal::IntrospectionUnavailable { why })
            }
        };
        let for_how_long = match &result {
            Ok(accepted) => self.settings.cache.min(accepted.until.since(now)),
            Err(refusal) if refusal.is_temporary() => INTROSPECTION_FAULT_FOR,
            Err(_) => self.settings.cache.min(INTROSPECTION_NO_MAX),
        };
        let known = Arc::new(Known { result, until: now.plus(for_how_long) });
        lock(&self.known).put(question.key, Slot::Known(Arc::clone(&known)));
        // Nobody waits any more: then it is only remembered.
        let _ = question.answer.send(Some(known));
    }

    async fn ask(
        &self,
        token: &Secret<String>,
        fetch: &dyn Fetch,
        post: &dyn Post,
        now: Timestamp,
        random: &(dyn SecureRandom + Sync),
    ) -> Result<Answered, String> {
        let endpoint = self.endpoint(fetch).await?;
        let mut form =
            vec![("token", token.expose().clone()), ("token_type_hint", "access_token".to_owned())];
        let client = &self.settings.client;
        let authorization = client
            .sign_in(&mut form, &self.settings.issuer, now, random)
            .map_err(|error| error.to_string())?;
        let request = FormRequest {
            url: endpoint.to_string(),
            form: Secret::new(encode_form(&form)),
            authorization,
            allow_private_addresses: self.issuer()?.settings.allow_private_addresses,
            bytes_max: INTROSPECTION_BYTES_MAX,
        };
        post.post(request).await.map_err(|failure| failure.0)
    }

    async fn endpoint(&self, fetch: &dyn Fetch) -> Result<Arc<str>, String> {
        if let Some(known) = lock(&self.endpoint).clone() {
            return Ok(known);
        }
        let private = self.issuer()?.settings.allow_private_addresses;
        let metadata = Metadata::discover(fetch, &self.settings.issuer, private)
            .await
            .map_err(|error| error.to_string())?;
        let found: Arc<str> = metadata.endpoint("introspection_endpoint")?.into();
        *lock(&self.endpoint) = Some(Arc::clone(&found));
        Ok(found)
    }

    fn issuer(&self) -> Result<&Issuer, String> {
        self.issuers.entries.get(self.place).ok_or_else(|| "the issuer is gone".to_owned())
    }

    /// RFC 7662 §2.2: the answer as claims.
    pub(crate) fn judge(&self, answered: &Answered, now: Timestamp) -> Result<Accepted, Refusal> {
        if answered.status != 200 {
            return Err(unavailable(&format!("expected status 200, found {}", answered.status)));
        }
        let mut claims = parse_object(&answered.body)
            .map_err(|error| unavailable(&format!("expected strict JSON: {}", quote(&error.to_string()))))?;
        match claims.remove("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err(Refusal::Inactive),
            _ => return Err(unavailable("`active` is missing or no truth value")),
        }
        let issuer = self.issuer().map_err(|why| unavailable(&why))?;
        self.complete(&mut claims, issuer);
        let context = ClaimContext {
            settings: &issuer.settings,
            declared_roles: &self.issuers.roles,
            other_prefixes: &issuer.other_prefixes,
        };
        judge_claims(&claims, context, Credential::Opaque, now)
    }

    /// What a signed token must say and this answer need not (RFC 7662 §2.2).
    fn complete(&self, claims: &mut Map<String, Value>, issuer: &Issuer) {
        claims.entry("iss").or_insert_with(|| json!(self.settings.issuer));
        if !claims.contains_key("sub")
            && let Some(client) = claims.get("client_id").cloned()
        {
            claims.insert("sub".to_owned(), client);
        }
        // Without an end it is good for as long as the server says so at each question.
        claims.entry("exp").or_insert_with(|| json!(SECONDS_MAX));
        if self.settings.audience_may_be_absent {
            claims.entry("aud").or_insert_with(|| json!(issuer.settings.audiences));
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

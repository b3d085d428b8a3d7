//! The way of a call: who, a place in the audit log, the policies, the operation, the event.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawPathParams, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};
use keys::{SystemRandom, api_key_id};
use model::event::{AccessEvent, Outcome, Step};
use model::suggestion::suggestion;
use model::{Clock, Switch, Timestamp};
use policy::{Permit, Subject};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::{Expect, Version};

use super::caller::Caller;
use super::operation::{OPERATIONS, Operation};
use super::problem::Problem;
use super::view::{RealmSource, Trust, View};
use crate::config::{ADMINISTRATION, Area};
use crate::process::audit_handle::{AuditHandle, Entry, new_id};
use crate::process::file_changes::FileChanges;

/// Largest body of a call, bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest path and user agent in an event, bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// What the operations work on, one for the process: shared by the socket, the routes and the command line.
pub struct AdminState {
    view: RwLock<Arc<View>>,
    /// The realms that are open, while the store is unsealed.
    pub realms: RealmSource,
    /// The mesh's trust domain, while the store is unsealed.
    pub trust: Trust,
    /// The path of `revocations.json` in the state folder.
    pub revocations: std::path::PathBuf,
    audit: AuditHandle,
    /// Whoever serves follows them; `None`: nobody does.
    changes: Option<Arc<FileChanges>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<SystemRandom>,
}

impl std::fmt::Debug for AdminState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminState").finish_non_exhaustive()
    }
}

impl AdminState {
    /// The state over `view`, which [`Self::adopt`] replaces at each reload. `audit` is where every call
    /// takes its place in the audit log.
    pub fn new(
        view: View,
        realms: RealmSource,
        trust: Trust,
        revocations: std::path::PathBuf,
        audit: AuditHandle,
        clock: Arc<dyn Clock>,
        random: Arc<SystemRandom>,
    ) -> Self {
        let view = RwLock::new(Arc::new(view));
        Self { view, realms, trust, revocations, audit, changes: None, clock, random }
    }

    /// The same for a process that takes up what is written to files of its state folder.
    #[must_use]
    pub fn followed(mut self, changes: Arc<FileChanges>) -> Self {
        self.changes = Some(changes);
        self
    }

    /// A file was written that the process looks at: waits until what stands there counts, bounded.
    pub async fn file_written(&self) {
        if let Some(changes) = &self.changes {
            changes.made().await;
        }
    }

    /// Replaces the configuration and its policies; calls that are in progress keep theirs.
    pub fn adopt(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// The newest configuration and its policies.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The present time by the process' clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A place in the audit log, for what is done next.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn entry(&self, now: Timestamp) -> Result<Entry, Problem> {
        let id = new_id(now, &self.random).ok_or_else(Problem::random)?;
        let told = "the audit log accepts no more events, so nothing was done; try again";
        let entry = self.audit.reserve(id, now).await;
        entry.ok_or_else(|| Problem::unavailable("audit", told, told))
    }
}

/// What a call is about, as policies see it.
#[derive(Debug)]
pub struct Subjected {
    route: usize,
    method: &'static str,
    path: String,
    parameters: BTreeMap<String, String>,
}

impl Subjected {
    fn new(
        view: &View,
        area: Area,
        method: &'static str,
        (path, parameters): (String, BTreeMap<String, String>),
    ) -> Self {
        let name = area.route();
        let route = view.policies.vocabulary().routes.iter().position(|route| route.name == name);
        // One that is in no vocabulary is denied.
        Self { route: route.unwrap_or(usize::MAX), method, path, parameters }
    }
}

impl Subject for Subjected {
    fn route(&self) -> usize {
        self.route
    }

    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn host(&self) -> &[u8] {
        b""
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    fn header<'a>(&'a self, _: &'a str) -> impl Iterator<Item = &'a [u8]> {
        std::iter::empty()
    }
}

/// INVARIANT: the proof that a place in the audit log is taken and the policies permit the
/// call. Made here alone; an operation cannot be called without one.
///
/// ```compile_fail,E0451
/// fn forge(real: bastide::admin::serve::Cleared) -> bastide::admin::serve::Cleared {
///     bastide::admin::serve::Cleared { ..real }
/// }
/// ```
#[derive(Debug)]
pub struct Cleared {
    permit: Permit<Subjected>,
    entry: Entry,
}

/// A call that may be carried out.
pub struct Call {
    /// The state that operations read and change.
    pub state: Arc<AdminState>,
    /// The configuration and policies of this call.
    pub view: Arc<View>,
    caller: Caller,
    cleared: Cleared,
    query: BTreeMap<String, String>,
    body: Bytes,
    expect: Expect,
}

impl Call {
    /// A parameter of the path; empty for one that the path does not have.
    pub fn parameter(&self, name: &str) -> &str {
        self.cleared.permit.subject().parameters.get(name).map_or("", String::as_str)
    }

    /// A parameter of the query, percent-decoded; `None`: it is absent.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Whether a flag of the query is set.
    pub fn flag(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }

    /// Whether it is only judged, and changes nothing.
    pub fn is_dry_run(&self) -> bool {
        self.flag("dry_run")
    }

    /// The body, parsed from JSON.
    ///
    /// # Errors
    /// It is not an object that the OpenAPI document describes.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // A list would be taken for the members in their order.
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Problem::malformed("body: expected an object"));
        }
        serde_json::from_slice(&self.body).map_err(|error| Problem::malformed(format!("body: {error}")))
    }

    /// The precondition of `If-Match` and `If-None-Match`.
    pub fn expect(&self) -> Expect {
        self.expect
    }

    /// Whether the precondition holds for what was found: for a dry run, which writes nothing that the store
    /// would compare.
    ///
    /// # Errors
    /// It does not.
    pub fn check_expected(&self, found: Option<Version>) -> Result<(), Problem> {
        let holds = match (self.expect, found) {
            (Expect::Any, _) | (Expect::Absent, None) | (Expect::Present, Some(_)) => true,
            (Expect::Version(wanted), Some(found)) => wanted == found,
            (Expect::Absent | Expect::Present | Expect::Version(_), _) => false,
        };
        if holds { Ok(()) } else { Err(Problem::changed()) }
    }

    /// Asks the policies about another area that the call reaches into, with the parameters
    /// that the area's own operation would have in its path.
    ///
    /// # Errors
    /// They do not permit it.
    pub fn also(&self, area: Area, method: &'static str, named: &[(&str, &str)]) -> Result<(), Problem> {
        let about = self.cleared.permit.subject();
        let mut parameters = about.parameters.clone();
        parameters.extend(named.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let subject = Subjected::new(&self.view, area, method, (about.path.clone(), parameters));
        let decided = decide(&self.view, &self.caller, self.state.now(), subject);
        decided.map(drop).map_err(|problem| {
            let reason = format!("{}, {method}: {}", area.route(), problem.reason);
            Problem { reason, ..problem }
        })
    }

    /// The realm that the path names.
    ///
    /// # Errors
    /// There is none of this name; the store is sealed.
    pub fn realm(&self) -> Result<Arc<identity::Realm>, Problem> {
        self.state.realms.one(self.parameter("realm"))
    }
}

/// The answer of an operation, and its line in the audit log.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    body: Option<Value>,
    version: Option<Version>,
    location: Option<String>,
    /// What was done, for the audit log, where the path does not say it.
    about: String,
}

impl Reply {
    /// 200 with a body.
    ///
    /// # Errors
    /// It cannot be serialised.
    pub fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_value(body);
        let body = body.map_err(|error| Problem::unavailable("failed", "try again", error.to_string()))?;
        Ok(Self { body: Some(body), ..Self::empty(StatusCode::OK) })
    }

    /// 204 without a body.
    pub fn done() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    fn empty(status: StatusCode) -> Self {
        Self { status, body: None, version: None, location: None, about: String::new() }
    }

    /// Says that the call was judged alone: nothing was changed.
    #[must_use]
    pub fn judged(self) -> Self {
        self.about("a dry run: nothing was changed".to_owned())
    }

    /// Adds a line for the audit log: what was done, where the path does not say it.
    #[must_use]
    pub fn about(self, about: String) -> Self {
        Self { about, ..self }
    }

    /// Adds the `ETag` of this version of the record.
    #[must_use]
    pub fn of(self, version: Version) -> Self {
        Self { version: Some(version), ..self }
    }

    /// Makes it 201 with this path as `Location`.
    #[must_use]
    pub fn created(self, location: String) -> Self {
        Self { status: StatusCode::CREATED, location: Some(location), ..self }
    }

    fn respond(self) -> Response {
        let mut response = match self.body {
            None => self.status.into_response(),
            Some(body) => {
                (self.status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
            }
        };
        let fields = response.headers_mut();
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(version) = self.version {
            fields.insert(header::ETAG, tag(version));
        }
        if let Some(location) = self.location.and_then(|path| HeaderValue::from_str(&path).ok()) {
            fields.insert(header::LOCATION, location);
        }
        response
    }
}

fn tag(version: Version) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{}\"", version.number()))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// Every operation, at its path. Who calls is an extension of the request, put there by
/// the way in, or said by the gateway.
pub fn router(state: &Arc<AdminState>) -> Router {
    let mut router = Router::new();
    for operation in OPERATIONS {
        let Ok(filter) = MethodFilter::try_from(operation.method.clone()) else { continue };
        let state = Arc::clone(state);
        let answer = move |parameters: RawPathParams, request: Request| {
            let state = Arc::clone(&state);
            let named = parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            // Whoever hangs up ends neither what they began nor its event.
            let answer = tokio::spawn(call(state, operation, named, request));
            async { answer.await.unwrap_or_else(|fault| Problem::failed(fault).respond(None)) }
        };
        router = router.route(operation.path, on(filter, answer));
    }
    super::noted::route(router, state)
        .fallback(async || Problem::not_found("such operation").respond(None))
        .method_not_allowed_fallback(async || {
            let detail = "the document says which methods there are";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail).respond(None)
        })
}

/// The names in a path's braces.
pub fn parameters(path: &'static str) -> Vec<&'static str> {
    path.split('{').skip(1).filter_map(|part| part.split('}').next()).collect()
}

async fn call(
    state: Arc<AdminState>,
    operation: &'static Operation,
    parameters: BTreeMap<String, String>,
    request: Request,
) -> Response {
    let (now, begun) = (state.now(), state.clock.monotonic());
    let (head, body) = request.into_parts();
    let (path, parameters) = without_secrets(operation, head.uri.path(), parameters);
    let view = state.view();
    let local = head.extensions.get::<Caller>().cloned();
    let Some(caller) = local.or_else(|| Caller::by_gateway(&head.headers)) else {
        // Nobody: at the gateway, whose own event says so.
        let detail = "no proof of identity; the gateway's route says which it takes";
        return Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail).respond(None);
    };
    let entry = match state.entry(now).await {
        Ok(entry) => entry,
        Err(problem) => return problem.respond(None),
    };
    let mut event =
        event(operation.method.as_str(), operation.area.route(), &entry, &caller, &head, &path, now);
    let told = entry.id().to_string();
    let named = (path, parameters);
    let is_local = caller.is_local();
    let asked = admit(&state, view, operation, named, caller, (head, body), entry, &mut event).await;
    let (outcome, entry) = match asked {
        Err((problem, entry)) => (Err(problem), entry),
        Ok(asked) => {
            event.step = Step::Forward;
            let outcome = (operation.run)(&asked).await;
            (outcome, asked.cleared.entry)
        }
    };
    let response = match outcome {
        Ok(reply) => {
            event.reason = Cow::Owned(reply.about.clone());
            reply.respond()
        }
        Err(mut problem) => {
            if let Some(decision) = problem.decision.take() {
                event.step = Step::Authorize;
                event.decision = Some(Cow::Owned(*decision));
            }
            event.outcome = if event.step == Step::Forward && problem.status.is_server_error() {
                Outcome::Failed
            } else {
                Outcome::Denied
            };
            event.reason = Cow::Owned(problem.reason.clone());
            let problem = if is_local { problem.in_full() } else { problem };
            problem.respond(Some(told))
        }
    };
    event.status = response.status().as_u16();
    let took = state.clock.monotonic().saturating_sub(begun);
    event.duration_nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    entry.commit(event);
    response
}

/// The path and its parameters as policies, the operation and the audit log get them: where an API
/// key is named by itself, its id stands in its place.
fn without_secrets(
    operation: &Operation,
    path: &str,
    mut parameters: BTreeMap<String, String>,
) -> (String, BTreeMap<String, String>) {
    const KEY: &str = "key";
    let key = parameters.get(KEY).filter(|key| operation.area == Area::ApiKeys && api_key_id(key) != *key);
    let Some(id) = key.map(|key| api_key_id(key).to_owned()) else {
        return (path.to_owned(), parameters);
    };
    let path = operation.path.replace(&format!("{{{KEY}}}"), &id);
    parameters.insert(KEY.to_owned(), id);
    (path, parameters)
}

/// Asks the policies, then reads the rest of the call.
#[expect(clippy::too_many_arguments, reason = "one caller, which has taken the request apart")]
async fn admit(
    state: &Arc<AdminState>,
    view: Arc<View>,
    operation: &'static Operation,
    named: (String, BTreeMap<String, String>),
    caller: Caller,
    (head, body): (axum::http::request::Parts, Body),
    entry: Entry,
    event: &mut AccessEvent<'static>,
) -> Result<Call, (Problem, Entry)> {
    let subject = Subjected::new(&view, operation.area, method(operation), named);
    let permit = match decide(&view, &caller, state.now(), subject) {
        Ok(permit) => permit,
        Err(problem) => return Err((problem, entry)),
    };
    event.decision = Some(Cow::Owned(permit.record(&view.policies)));
    let read = async {
        let expect = expect(operation, &head.headers)?;
        let query = query(operation, head.uri.query().unwrap_or_default())?;
        let body = read_body(operation, &head.headers, body).await?;
        Ok((expect, query, body))
    };
    match read.await {
        Err(problem) => Err((problem, entry)),
        Ok((expect, query, body)) => {
            event.bytes_in = body.len() as u64;
            let cleared = Cleared { permit, entry };
            Ok(Call { state: Arc::clone(state), view, caller, cleared, query, body, expect })
        }
    }
}

/// Asks the policies.
fn decide(
    view: &View,
    caller: &Caller,
    now: Timestamp,
    subject: Subjected,
) -> Result<Permit<Subjected>, Problem> {
    // Without the question everybody is let in as the owner of the state folder is.
    let owner = Switch::Administration.is_off().then(|| Caller::local(0));
    let principal = &owner.as_ref().unwrap_or(caller).principal;
    policy::decide(&view.policies, principal, &caller.circumstances(now), subject)
        .map_err(|denied| Problem::forbidden(denied.reason().to_string(), denied.record(&view.policies)))
}

fn method(operation: &Operation) -> &'static str {
    ["GET", "PUT", "POST", "DELETE"]
        .into_iter()
        .find(|name| operation.method.as_str() == *name)
        .unwrap_or("OTHER")
}

/// RFC 9110 §13.1: one strong entity tag, or `*`.
fn expect(operation: &Operation, fields: &HeaderMap) -> Result<Expect, Problem> {
    let text = |name: header::HeaderName| match fields.get(&name) {
        None => Ok(None),
        Some(value) => {
            let wrong = |_| Problem::malformed(format!("{name}: expected an entity tag"));
            value.to_str().map(|text| Some(text.trim())).map_err(wrong)
        }
    };
    let (matches, differs) = (text(header::IF_MATCH)?, text(header::IF_NONE_MATCH)?);
    if !operation.conditional && (matches.is_some() || differs.is_some()) {
        return Err(Problem::malformed("this operation is not conditional"));
    }
    match (matches, differs) {
        (None, None) => Ok(Expect::Any),
        (None, Some("*")) => Ok(Expect::Absent),
        (Some("*"), None) => Ok(Expect::Present),
        (Some(tag), None) => {
            let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let number = number.and_then(|number| number.parse().ok());
            let wrong = || Problem::malformed("If-Match: expected `*` or the ETag of an answer");
            Ok(Expect::Version(Version::from_number(number.ok_or_else(wrong)?)))
        }
        _ => Err(Problem::malformed("expected `If-Match`, or `If-None-Match: *`")),
    }
}

fn query(operation: &Operation, text: &str) -> Result<BTreeMap<String, String>, Problem> {
    let mut query = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| {
            percent_decoded(text).ok_or_else(|| Problem::malformed("the query is not percent-encoded UTF-8"))
        };
        let (name, value) = (decode(name)?, decode(value)?);
        let Some(known) = operation.queries.iter().find(|known| known.name == name) else {
            let hint = suggestion(&name, operation.queries.iter().map(|known| known.name));
            return Err(Problem::malformed(format!("the query has an unknown parameter {name:?}{hint}")));
        };
        // Here, so that whoever asks for a flag too late, or not at all, lets nothing else pass.
        if known.kind == "boolean" && !matches!(value.as_str(), "true" | "false") {
            return Err(Problem::malformed(format!("{name}: expected true or false")));
        }
        if query.insert(name.clone(), value).is_some() {
            return Err(Problem::malformed(format!("the query has {name:?} twice")));
        }
    }
    Ok(query)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                u8::from_str_radix(digits, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

async fn read_body(operation: &Operation, fields: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_large = |_| {
        let detail = format!("expected a body of at most {BODY_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    };
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(too_large)?;
    if operation.takes.is_none() {
        if bytes.is_empty() {
            return Ok(bytes);
        }
        return Err(Problem::malformed("this operation takes no body"));
    }
    let kind = fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let detail = "expected Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
    }
    Ok(bytes)
}

/// The event of a call, as far as it is known at its beginning.
pub(super) fn event(
    method: &str,
    route: String,
    entry: &Entry,
    caller: &Caller,
    head: &axum::http::request::Parts,
    path: &str,
    now: Timestamp,
) -> AccessEvent<'static> {
    let cut = |text: &str| text.chars().take(TEXT_BYTES_MAX).collect::<String>();
    let agent = head.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let principal = &caller.principal;
    AccessEvent {
        outcome: Outcome::Allowed,
        step: Step::Authorize,
        client_address: Cow::Owned(caller.address.to_string()),
        tls: Cow::Borrowed(caller.tls_version.unwrap_or_default()),
        method: Cow::Owned(method.to_owned()),
        path: Cow::Owned(cut(path)),
        version: Cow::Borrowed("1.1"),
        user_agent: Cow::Owned(cut(agent.unwrap_or_default())),
        route: Cow::Owned(route),
        upstream: Cow::Borrowed(ADMINISTRATION),
        principal_kind: principal.kind,
        principal: Cow::Owned(principal.id.clone()),
        credential: principal.credential,
        issuer: Cow::Owned(principal.issuer.clone().unwrap_or_default()),
        trace_id: Cow::Owned(caller.trace_id.clone()),
        ..AccessEvent::bare(entry.id(), now)
    }
}

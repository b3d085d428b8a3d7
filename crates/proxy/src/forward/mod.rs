//! From a [`Cleared`] request to an upstream, and its answer back to the client.
//!
//! The way through it: [`forward`] reads ahead what the client has sent of the body,
//! so that a malformed beginning never reaches anybody; chooses an endpoint; `attempt`
//! sends the request and waits for the head; `pump` moves both bodies at once until
//! both are over. A failure before the head is known may be tried again elsewhere when
//! nothing can have happened twice.
//!
//! INVARIANT: nothing but a [`Cleared`] gets here, and which services its request may go
//! to is read from its route alone.

mod attempt_log;
mod body;
mod error;
pub mod mirror;
mod pump;
mod rewrite;
mod tunnel;

use std::cell::Cell;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use model::Switch;

pub use attempt_log::{Attempt, AttemptLog};
pub use error::{ForwardError, Phase};
pub use rewrite::{PathPiece, PathTemplate};

use crate::deadline::{Watch, earlier};
use crate::exchange::{BodyError, Exchange};
use crate::head::{Additions, Fields, Framing, RequestHead, ResponseHead, Version};
use crate::http1::encode::{UpstreamRequest, request_framing};
use crate::http1::response::Asked;
use crate::live::{Judge, Watched};
use crate::proxy_protocol::Origin;
use crate::upstream::dial::{DialError, Load};
use crate::upstream::{
    Admission, Chosen, Connection, CoreUpstreams, ForwardSettings, InFlight, Network, Pool, Protocol,
    UpstreamFault, bit,
};
use crate::way::Cleared;
use body::RequestBody;
use pump::Stop;

/// What we change in an upstream's response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseEdit<'a> {
    /// Fields of ours; each replaces the upstream's of the same name.
    pub set: &'a Additions,
    /// Lower-case names of fields that do not go on.
    pub remove: &'a [Box<str>],
}

/// How a request was forwarded.
#[derive(Debug)]
pub struct Outcome {
    /// The upstream's status, when its head went to the client.
    pub status: Option<StatusCode>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Arc<str>>,
    /// How many attempts were made.
    pub attempts: u32,
    /// Bytes of body from the client.
    pub bytes_in: u64,
    /// Bytes of body to the client.
    pub bytes_out: u64,
    /// Why it failed. With a status, the client has seen an incomplete answer; without
    /// one nothing was sent and it is the caller's to answer.
    pub error: Option<ForwardError>,
}

/// Forwards a request and streams the answer. When the outcome has an error and no
/// status, nothing has been sent to the client. `judge` is asked again while it is under
/// way; `attempt_log` takes down how each attempt went.
pub fn forward<E: Exchange>(
    cleared: Cleared,
    exchange: &mut E,
    upstreams: &CoreUpstreams,
    request_additions: &Additions,
    response_edit: ResponseEdit<'_>,
    judge: &dyn Judge,
    attempt_log: Option<&AttemptLog<'_>>,
) -> impl Future<Output = Outcome> {
    let settings = upstreams.settings(cleared.routed().route());
    // No `async fn`: that would keep all it is given a second time, and copy it there.
    async move {
        let routed = cleared.routed();
        let mut outcome =
            Outcome { status: None, endpoint: None, attempts: 0, bytes_in: 0, bytes_out: 0, error: None };
        let result = match settings {
            None => Err(ForwardError::NoService),
            // INVARIANT: a route with a contract takes only what was held against that one.
            Some(settings) if settings.contract != cleared.contract().contract() => {
                Err(ForwardError::Contract)
            }
            Some(settings) => {
                let ticker = &upstreams.context().ticker;
                let live = Watched::new(judge, &cleared, ticker);
                let longest = settings.timeouts.total;
                let total = if longest.is_zero() { 0 } else { ticker.moment(longest) };
                match rewrite::outgoing_path(routed.head(), settings, upstreams.limits().path_segments_max) {
                    Err(error) => Err(error),
                    Ok(path) => {
                        let request_until = exchange.until_ms();
                        let job = Job {
                            head: routed.head(),
                            path,
                            settings,
                            upstreams,
                            additions: request_additions,
                            edit: response_edit,
                            origin: exchange.origin(),
                            network: exchange.network(),
                            watch: Watch::new(ticker),
                            total: earlier(earlier(total, request_until), live.until_ms()),
                            request_until,
                            live,
                            attempt_log,
                            needed_new_us: Cell::new(None),
                            interim_bytes: Cell::new(0),
                        };
                        job.run(exchange, &mut outcome).await
                    }
                }
            }
        };
        outcome.error = result.err();
        outcome.bytes_in = exchange.bytes_in();
        outcome.bytes_out = exchange.bytes_out();
        match &outcome.error {
            Some(ForwardError::Cut(_)) if exchange.head_sent() => exchange.sever(),
            Some(_) if exchange.head_sent() => exchange.abort(),
            _ => {}
        }
        outcome
    }
}

/// One request that is being forwarded.
struct Job<'a> {
    head: &'a RequestHead,
    /// The path that the upstream sees.
    path: Bytes,
    settings: &'a ForwardSettings,
    upstreams: &'a CoreUpstreams,
    additions: &'a Additions,
    edit: ResponseEdit<'a>,
    /// The ends of the client's connection.
    origin: Option<Origin>,
    /// Whose request it is, where connections are shared out.
    network: Network,
    watch: Watch,
    /// When everything must be over: the times for a request, or the end of the permit; 0: never.
    total: u64,
    /// When the client's time for a request (`request_ms_max`) is over; 0: never.
    request_until: u64,
    live: Watched<'a>,
    attempt_log: Option<&'a AttemptLog<'a>>,
    needed_new_us: Cell<Option<f64>>,
    /// Bytes of interim heads that went to the client, over all attempts.
    interim_bytes: Cell<usize>,
}

/// Whether a failed attempt may be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    No,
    /// On another endpoint.
    Elsewhere,
    /// A pooled connection was closed before we used it: says nothing about the
    /// endpoint.
    Fresh,
    /// A connection of before takes no more requests, as one whose upstream restarts: says nothing
    /// about the endpoint, and as little about its other connections. Each goes from the pool, so this
    /// comes once for each that was open then.
    NextSession,
    /// The upstream refused this request and no other, as one that has too much to do: counts as a
    /// failure. Goes out once more in any case, to another endpoint where there is one: nobody has
    /// looked at it.
    Refused,
}

struct Failed {
    error: ForwardError,
    again: Again,
}

impl Job<'_> {
    async fn run<E: Exchange>(&self, exchange: &mut E, outcome: &mut Outcome) -> Result<(), ForwardError> {
        let limit = if Switch::Inspect.is_off() { u64::MAX } else { self.settings.body_bytes_max };
        if matches!(self.head.framing, Framing::Length(length) if length > limit) {
            return Err(ForwardError::Request(BodyError::TooLarge { limit }));
        }
        exchange.limit_request(limit);
        let mut body = RequestBody::new(self.head.framing, self.upstreams.held_share(self.network));
        self.read_ahead(&mut body, exchange).await?;
        let service = self.upstreams.service_for(self.settings, self.head);
        let mut admission =
            self.upstreams.admit(service).map_err(|retry_after| ForwardError::BreakerOpen { retry_after })?;
        // A trial is over when it has failed, and the breaker open again.
        let is_trial = admission.is_trial();
        let (mut tried, mut refused) = (0, 0);
        let once = Switch::Forward.is_off();
        let mut retries_left = if once { 0 } else { self.settings.retries };
        let mut fresh_left = u32::from(!once);
        let mut last = None;
        loop {
            self.live.check(None).map_err(ForwardError::Cut)?;
            let another = match refused {
                0 => None,
                refused => self.upstreams.choose(service, tried | refused).filter(Chosen::is_well),
            };
            let Some(chosen) = another.or_else(|| self.upstreams.choose(service, tried)) else {
                return Err(last.unwrap_or(ForwardError::NoService));
            };
            outcome.attempts += 1;
            outcome.endpoint = Some(Arc::clone(&chosen.endpoint.label));
            let begun = self.attempt_log.map(AttemptLog::now);
            let attempt = self.attempt(&chosen, exchange, &mut body, outcome, &mut admission).await;
            if let (Some(attempt_log), Some(begun)) = (self.attempt_log, begun) {
                let error = attempt.as_ref().err().map(|failed| &failed.error);
                attempt_log.note(&chosen.endpoint.label, &self.path, begun, outcome.status, error);
            }
            let failed = match attempt {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            if failed.again == Again::Fresh && fresh_left == 0 {
                // A new one was closed, too.
                chosen.failed(&mut admission);
            }
            match failed.again {
                Again::NextSession if !once => {}
                Again::Fresh if fresh_left > 0 => {
                    fresh_left -= 1;
                    chosen.pool.clear();
                }
                Again::Refused if fresh_left > 0 && !is_trial => {
                    fresh_left -= 1;
                    refused |= bit(chosen.index);
                }
                Again::Fresh | Again::Refused | Again::Elsewhere
                    if retries_left > 0 && !is_trial && self.upstreams.may_retry(service) =>
                {
                    retries_left -= 1;
                    tried |= bit(chosen.index);
                }
                _ => return Err(failed.error),
            }
            last = Some(failed.error);
        }
    }

    /// Reads the beginning of the body. One that is short is read to its end before it has a
    /// connection to anybody: its client may let us wait.
    async fn read_ahead<E: Exchange>(
        &self,
        body: &mut RequestBody<'_>,
        exchange: &mut E,
    ) -> Result<(), ForwardError> {
        let mut read = None;
        std::future::poll_fn(|cx| {
            if body.poll_read_ahead(exchange, cx).map_err(ForwardError::of_body)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            self.live.check(None).map_err(ForwardError::Cut)?;
            let before = read.replace(body.read_bytes());
            if body.is_short() && before != read {
                self.watch.set(self.moment(self.settings.timeouts.idle));
            }
            self.watch.poll(cx).map(|()| Err(ForwardError::Request(BodyError::Timeout)))
        })
        .await
    }

    async fn attempt<E: Exchange>(
        &self,
        chosen: &Chosen<'_>,
        exchange: &mut E,
        body: &mut RequestBody<'_>,
        outcome: &mut Outcome,
        admission: &mut Admission<'_>,
    ) -> Result<(), Failed> {
        let _in_flight = InFlight::enter(&chosen.pool.in_flight);
        if self.head.version == Version::Opaque {
            return self.attempt_opaque(chosen, exchange, outcome, admission).await;
        }
        let load = if self.allowed_upgrade().is_some() && chosen.pool.key.protocol != Protocol::Http2 {
            Load::Upgrade
        } else {
            Load::Requests
        };
        let mut connection = self.connect(chosen, admission, load).await?;
        let holding = chosen.pool.holders.enter(self.network, self.watch.ticker().now_ms());
        let was_used = connection.was_used();
        body.rewind();
        let sent = self.send_head(chosen, &mut connection, outcome.attempts);
        let answer = match sent {
            Ok(asked) => pump::head(self, exchange, &mut connection, body, asked, &holding).await,
            Err(fault) => Err(Stop::Upstream(fault)),
        };
        let mut head = match answer {
            Ok(head) => head,
            Err(stop) => return Err(self.no_head(stop, chosen, connection, was_used, body, admission)),
        };
        match head.status.as_u16() {
            502..=504 => chosen.failed(admission),
            _ => chosen.succeeded(admission),
        }
        let remove = self.edit.remove;
        if !remove.is_empty() {
            head.fields.drop_where(|_, name| remove.iter().any(|doomed| doomed.as_bytes() == name));
        }
        mirror::start(self, body);
        let gone = |error| Failed { error: ForwardError::ClientGone(error), again: Again::No };
        exchange.send_head(&head, self.edit.set).map_err(gone)?;
        let status = head.status;
        outcome.status = Some(status);
        connection.recycle(head.fields);
        let result = if status == StatusCode::SWITCHING_PROTOCOLS {
            let ended = tunnel::run(self, exchange, connection, holding).await;
            ended.map_err(|stop| stop.into_error(Phase::Body))
        } else {
            let bodies = pump::bodies(self, exchange, connection, body, chosen, holding).await;
            bodies.map_err(|stop| self.error(stop, Phase::Body))
        };
        result.map_err(|error| Failed { error, again: Again::No })
    }

    /// Opens the other half of an opaque connection and joins both.
    async fn attempt_opaque<E: Exchange>(
        &self,
        chosen: &Chosen<'_>,
        exchange: &mut E,
        outcome: &mut Outcome,
        admission: &mut Admission<'_>,
    ) -> Result<(), Failed> {
        let connection = self.connect(chosen, admission, Load::Bytes).await?;
        let holding = chosen.pool.holders.enter(self.network, self.watch.ticker().now_ms());
        chosen.succeeded(admission);
        let status = StatusCode::OK;
        let head = ResponseHead { status, fields: Fields::default(), framing: Framing::Close };
        let gone = |error| Failed { error: ForwardError::ClientGone(error), again: Again::No };
        exchange.send_head(&head, &Additions::default()).map_err(gone)?;
        outcome.status = Some(status);
        let result = tunnel::run(self, exchange, connection, holding).await;
        result.map_err(|stop| Failed { error: stop.into_error(Phase::Body), again: Again::No })
    }

    async fn connect(
        &self,
        chosen: &Chosen<'_>,
        admission: &mut Admission<'_>,
        load: Load,
    ) -> Result<Connection, Failed> {
        let origin = self.origin_for(chosen.pool);
        if load == Load::Requests
            && let Some(connection) = chosen.pool.take(origin)
        {
            return Ok(connection);
        }
        self.needed_new_us();
        let limit = match self.total {
            0 => self.settings.timeouts.connect,
            total => {
                let left = total.saturating_sub(self.watch.ticker().now_ms());
                self.settings.timeouts.connect.min(Duration::from_millis(left))
            }
        };
        // In a box: what few requests need takes no room in the others.
        let connecting = Box::pin(chosen.pool.connect(self.upstreams.limits(), origin, load, self.network));
        let opened = tokio::time::timeout(limit, connecting).await;
        // Nothing was sent: another endpoint may always be tried.
        opened.unwrap_or(Err(DialError::Timeout)).map_err(|error| {
            // An endpoint that is full is not broken.
            let full = matches!(error, DialError::Full)
                || (matches!(error, DialError::Timeout) && chosen.pool.is_full());
            if !full {
                chosen.failed(admission);
            }
            Failed { error: ForwardError::Connect(error), again: Again::Elsewhere }
        })
    }

    /// Whose connection is needed: anybody's, unless the upstream is told.
    fn origin_for(&self, pool: &Pool) -> Option<Origin> {
        self.origin.filter(|_| pool.key.proxy_protocol)
    }

    fn send_head(
        &self,
        chosen: &Chosen<'_>,
        connection: &mut Connection,
        attempts: u32,
    ) -> Result<Asked<'_>, UpstreamFault> {
        let further = self
            .attempt_log
            .and_then(|attempt_log| attempt_log.further(self.additions, attempts.saturating_sub(1)));
        let upgrade = self.allowed_upgrade().filter(|_| !connection.is_http2());
        let framing = self.head.framing;
        let mut request = UpstreamRequest {
            head: self.head,
            path: &self.path,
            additions: further.as_ref().unwrap_or(self.additions),
            framing: if connection.is_http2() { framing } else { request_framing(framing) },
            upgrade: upgrade.is_some(),
            expect: false,
        };
        if self.settings.keep_host {
            connection.send_head(&request)?;
        } else {
            let endpoint = chosen.endpoint.settings();
            let head = RequestHead {
                host: Bytes::from(endpoint.written_host()),
                port: Some(endpoint.port),
                ..self.head.clone()
            };
            request.head = &head;
            connection.send_head(&request)?;
        }
        Ok(Asked { method: &self.head.method, upgrade: upgrade.map(|protocol| &protocol[..]) })
    }

    /// The protocol that the client wants to switch to, when the route allows it. A
    /// server may ignore any other wish (RFC 9110 §7.8).
    fn allowed_upgrade(&self) -> Option<&Bytes> {
        let wanted = self.head.upgrade.as_ref()?;
        self.settings.upgrades.iter().find(|allowed| *allowed == wanted)
    }

    /// The attempt ended without a head.
    fn no_head(
        &self,
        stop: Stop,
        chosen: &Chosen<'_>,
        connection: Connection,
        was_used: bool,
        body: &RequestBody<'_>,
        admission: &mut Admission<'_>,
    ) -> Failed {
        let can_repeat = is_idempotent(&self.head.method) && body.can_rewind();
        let again = match &stop {
            Stop::Client(_) | Stop::Request(_) | Stop::Cut(_) => Again::No,
            // Never looked at by the upstream: safe whatever the method.
            Stop::Upstream(UpstreamFault::GoneAway) if body.can_rewind() => {
                if connection.is_older_than(self.needed_new_us()) { Again::NextSession } else { Again::Fresh }
            }
            Stop::Upstream(UpstreamFault::Refused) if body.can_rewind() => Again::Refused,
            Stop::Upstream(UpstreamFault::Closed | UpstreamFault::Io(_)) if was_used && can_repeat => {
                Again::Fresh
            }
            Stop::Upstream(UpstreamFault::Closed | UpstreamFault::Io(_)) | Stop::Timeout if can_repeat => {
                Again::Elsewhere
            }
            _ => Again::No,
        };
        let is_reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        match &stop {
            Stop::Timeout | Stop::Upstream(UpstreamFault::GoneAway) => connection.abandon(),
            Stop::Upstream(UpstreamFault::Refused) => connection.learn_streams_max(),
            // One stream was reset; the others may be well.
            Stop::Upstream(UpstreamFault::Io(error)) if !is_reset(error) => connection.abandon(),
            _ => {}
        }
        let is_about_endpoint = match &stop {
            Stop::Upstream(UpstreamFault::Unwritable) => false,
            Stop::Upstream(_) | Stop::Timeout => true,
            Stop::Client(_) | Stop::Request(_) | Stop::Cut(_) => false,
        };
        if is_about_endpoint && !matches!(again, Again::Fresh | Again::NextSession) {
            chosen.failed(admission);
        }
        // When the time for everything is over there is none for another attempt.
        let over = self.total != 0 && self.total <= self.watch.ticker().now_ms();
        let again = if over { Again::No } else { again };
        Failed { error: self.error(stop, Phase::FirstByte), again }
    }

    /// When this request needed a connection that was not open yet, in microseconds of the core's
    /// clock: now, if it has not before. What is opened later may be opened so for many a request.
    fn needed_new_us(&self) -> f64 {
        let first = self.needed_new_us.get().unwrap_or_else(|| self.watch.ticker().read_now_us());
        self.needed_new_us.set(Some(first));
        first
    }

    /// Hands an interim head to the client (RFC 9110 §15.2), without what the final one would lose or
    /// have replaced. All of a request take no more than one head may. A `100` stays here: its client
    /// has ours. Says whether there is something to flush.
    fn send_interim<E: Exchange>(&self, exchange: &mut E, mut head: ResponseHead) -> bool {
        let bytes = self.interim_bytes.get().saturating_add(head.fields.buffer.len());
        if head.status == StatusCode::CONTINUE || bytes > self.upstreams.limits().head_bytes_max {
            return false;
        }
        self.interim_bytes.set(bytes);
        let ResponseEdit { set, remove } = self.edit;
        head.fields
            .drop_where(|_, name| set.has(name) || remove.iter().any(|doomed| doomed.as_bytes() == name));
        exchange.send_interim(&head);
        true
    }

    /// The exchange gives its connection up for others.
    fn count_stalled(&self) {
        self.upstreams.context().limit_hits.count("stalled_ms_max");
    }

    /// The error of what ended early. Counts the limit when that is why.
    fn error(&self, stop: Stop, phase: Phase) -> ForwardError {
        let now = self.watch.ticker().now_ms();
        if matches!(stop, Stop::Timeout) && self.request_until != 0 && self.request_until <= now {
            self.upstreams.context().limit_hits.count("request_ms_max");
        }
        stop.into_error(phase)
    }

    /// The moment `after` from now, but not past the end of everything.
    fn moment(&self, after: Duration) -> u64 {
        earlier(self.total, self.watch.ticker().moment(after))
    }
}

/// Methods that may be sent twice (RFC 9110 §9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}

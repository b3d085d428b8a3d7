//! The way of a request, one step after the other.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::StatusCode;
use model::event::{Outcome, Step};
use model::{ClientNetwork, Principal, Switch, Timestamp};
use proxy::address::AddressList;
use proxy::listen::{Inherited, ListenError};
use proxy::world::{Arrival, ConnectionInfo, Handler};
use proxy::{Additions, Admitted, CoreUpstreams, Cores, Exchange, Held, RefusedHandshake, Routed};

use crate::caches::{Caches, Read};
use crate::core::Core;
use crate::journey::Journey;
use crate::respond::{Answer, Refusal, Stop, date, grpc, problem};
use crate::snapshot::{Route, Snapshot};
use crate::step;

/// Binds the listeners of a snapshot and serves it on `count` cores. Sockets that are open
/// already are taken where the snapshot names their listeners, and closed where it does not.
///
/// Not generic, so that the whole way of a request is compiled here, as this crate is
/// optimised, whatever the binary around it is.
///
/// # Errors
/// An address that is in use or cannot be bound, a thread that cannot be started. Nothing
/// keeps running then.
pub fn start(
    count: usize,
    snapshot: Arc<Snapshot>,
    inherited: Vec<Inherited>,
) -> Result<Cores<Snapshot>, ListenError> {
    Cores::start_with(count, snapshot, inherited)
}

/// The gateway on one core, under one snapshot.
pub struct Gateway {
    snapshot: Arc<Snapshot>,
    core: Rc<Core>,
    upstreams: CoreUpstreams,
    anonymous: Arc<Principal>,
    /// The core's epoch when it was made.
    epoch: u64,
    caches: Rc<Caches>,
}

impl Handler for Gateway {
    async fn serve<E: Exchange>(&self, arrival: Arrival<'_>, exchange: &mut E) {
        let mut journey = Journey::begin(self, arrival.connection);
        let end = match self.walk(&mut journey, arrival.admitted, exchange).await {
            Ok(end) => end,
            Err(stop) => {
                let end = match stop {
                    Stop::Refuse(refusal) => self.refuse(&journey, &refusal, exchange),
                    Stop::Answer(answer) => self.answer(&journey, *answer, exchange),
                };
                if journey.inspection.is_some() {
                    // The rules that are left have no say in it: what leaves at once does not wait for
                    // them, and they not for a client that does not read.
                    poll_fn(|cx| {
                        let _ = exchange.poll_flush(cx);
                        Poll::Ready(())
                    })
                    .await;
                }
                end
            }
        };
        journey.end(end).await;
    }

    fn handshake_refused(&self, refused: &RefusedHandshake<'_>) -> bool {
        self.write_refused_handshake(refused)
    }
}

impl Gateway {
    /// The way. Each step gives what the next one needs; the first that does not ends
    /// it. The configuration chooses settings, never the order.
    async fn walk<E: Exchange>(
        &self,
        journey: &mut Journey<'_>,
        arrived: Result<Admitted, proxy::Refusal>,
        exchange: &mut E,
    ) -> Result<End, Stop> {
        reserve_event(self.core(), journey).await?;
        let admitted = step::admit::admit(self, journey, arrived).await?;
        step::challenge::prove(self, journey, admitted.head())?;
        step::limit::know_address(self, journey, admitted.head())?;
        step::challenge::redirect(self, journey, admitted.head())?;
        let routed = step::route::route(self, journey, admitted)?;
        let route = self.route(&routed)?;
        step::opaque::stays(&self.snapshot, journey.connection(), route)?;
        step::opaque::leads_out(&self.snapshot, journey.connection(), route, routed.head())?;
        step::opaque::fits(self, journey, route, routed.head())?;
        let mut grant = step::limit::by_address(self, journey, route)?;
        step::route::websocket(self, journey, route, routed.head())?;
        journey.enter(Step::Authenticate.name());
        let principal = step::authenticate::authenticate(self, journey, route, routed.head()).await?;
        journey.enter(Step::Authorize.name());
        let permit = step::authorize::authorize(self, journey, route, &principal, routed).await?;
        journey.leave_step();
        step::limit::by_principal(self, journey, route, &principal, &mut grant)?;
        journey.enter(Step::Inspect.name());
        step::inspect::body_limit(self, journey, route, permit.subject().head(), exchange)?;
        let share = self.upstreams.held_share(Some(ClientNetwork::of(journey.address)));
        let exchange = &mut Held::new(exchange, share);
        let firewall =
            step::inspect::request(self, journey, route, permit.subject().head(), exchange).await?;
        let contract = step::contract::judge(self, journey, route, permit.subject().head(), exchange).await;
        let contract = contract.inspect_err(|_| step::inspect::observe_held(journey, exchange))?;
        journey.leave_step();
        let request = step::identity::additions(self, journey, route, permit.subject(), &principal)?;
        let response = step::hygiene::additions(self, journey, route, permit.subject(), &grant);
        // A body that is read before it is forwarded takes its time, and the credential may end meanwhile.
        let now = permit.expires().map_or(journey.time, |_| self.snapshot.process.clock.now());
        let cleared = proxy::clear(permit, grant, contract, firewall, now).map_err(|_| expired(route))?;
        let added = step::forward::Added { request: &request, response: &response };
        let end = step::forward::forward(self, journey, route, cleared, added, exchange).await;
        for fields in [request, response] {
            self.core.keep_fields(fields);
        }
        end
    }

    /// For one core, under one snapshot.
    pub(crate) fn new(snapshot: Arc<Snapshot>, core: Rc<Core>, upstreams: CoreUpstreams) -> Self {
        let (epoch, caches) = (core.epoch(), core.caches());
        Self { snapshot, core, upstreams, anonymous: Arc::new(Principal::anonymous()), epoch, caches }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// Whom the client certificate of a connection names by its listener's rules in a snapshot: in
    /// this one, or in the newest.
    pub(crate) fn read_certificate(
        &self,
        connection: &ConnectionInfo,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Option<Read> {
        let leaf = connection.tls.as_ref()?.chain.first()?;
        let rules = snapshot.certificate_rules(&connection.listener)?;
        let is_own = std::ptr::eq(snapshot, &raw const *self.snapshot);
        let caches = if is_own { Rc::clone(&self.caches) } else { self.core.caches() };
        Some(caches.certificate(connection.listener, leaf, rules, now))
    }

    /// What this core remembers of the snapshot.
    pub(crate) fn caches(&self) -> &Rc<Caches> {
        &self.caches
    }

    pub(crate) fn upstreams(&self) -> &CoreUpstreams {
        &self.upstreams
    }

    /// Counts a limit of the hop that a step has met.
    pub(crate) fn count_limit(&self, name: &str) {
        self.core.limit_hits.count(name);
    }

    pub(crate) fn anonymous(&self) -> &Arc<Principal> {
        &self.anonymous
    }

    fn route(&self, routed: &Routed) -> Result<&Route, Stop> {
        self.snapshot.routes.get(routed.route().0 as usize).ok_or_else(|| {
            let why = "the router knows a route that the snapshot does not";
            Refusal::new(Step::Route, "no_route", StatusCode::INTERNAL_SERVER_ERROR, why).into()
        })
    }

    /// Tells the client no, and the log why.
    fn refuse<E: Exchange>(&self, journey: &Journey<'_>, refusal: &Refusal, exchange: &mut E) -> End {
        if refusal.silent {
            return refusal.end(None);
        }
        let mut fields = Additions::default();
        let _ = fields.push("cache-control", b"no-store");
        for (name, value) in &refusal.fields {
            let _ = fields.push(name, value.as_bytes());
        }
        let route = journey.route.and_then(|number| self.snapshot.routes.get(number));
        if let (Some(caller), Some(cors)) =
            (journey.cross_origin, route.and_then(|route| route.cors.as_ref()))
        {
            cors.mark_refusal(caller, &mut fields);
        }
        self.finish_fields(journey, &mut fields);
        let (status, detail) = (refusal.status, refusal.detail.as_deref());
        let sent = if journey.is_grpc {
            grpc::mark(status, detail, journey.id, &mut fields);
            exchange.respond(StatusCode::OK, &fields, Bytes::new())
        } else {
            let _ = fields.push("content-type", b"application/problem+json");
            exchange.respond(status, &fields, problem(status, detail, journey.id))
        };
        refusal.end(sent.is_ok().then_some(refusal.status))
    }

    /// Answers for the upstream.
    fn answer<E: Exchange>(&self, journey: &Journey<'_>, mut answer: Answer, exchange: &mut E) -> End {
        self.finish_fields(journey, &mut answer.fields);
        let sent = exchange.respond(answer.status, &answer.fields, answer.body);
        End {
            outcome: Outcome::Allowed,
            step: answer.step,
            status: sent.is_ok().then_some(answer.status),
            class: "",
            reason: "".into(),
        }
    }

    fn finish_fields(&self, journey: &Journey<'_>, fields: &mut Additions) {
        // A route's own answer has them already, as its rules would have them.
        let _ = fields.set_default(step::identity::HEADER_REQUEST_ID, &journey.id_text);
        let _ = fields.set_default("date", date(journey.time).as_bytes());
        self.snapshot.security.mark(journey.is_secure(), fields);
    }
}

impl Refusal {
    fn end(&self, status: Option<StatusCode>) -> End {
        let (step, class, reason) = (self.step, self.class, self.reason.clone());
        End { outcome: Outcome::Denied, step, status, class, reason }
    }
}

/// How a request ended, for the event and the metrics.
#[derive(Debug)]
pub struct End {
    /// Allowed, denied or failed.
    pub outcome: Outcome,
    /// The step that answered.
    pub step: Step,
    /// The status that was sent.
    pub status: Option<StatusCode>,
    /// A short stable name of the reason; empty when all went well.
    pub class: &'static str,
    /// The reason in one line; empty when all went well.
    pub reason: std::borrow::Cow<'static, str>,
}

/// Takes a place for the request's event. When all are taken, because requests come faster
/// than the disk takes them, everybody waits a little, in the order in which they came: so
/// that a flood on some connections refuses no request on the others.
async fn reserve_event(core: &Core, journey: &mut Journey<'_>) -> Result<(), Stop> {
    core.await_event_place().await;
    journey.reserve().map_err(|full| {
        Refusal::new(Step::Audit, "audit_full", StatusCode::SERVICE_UNAVAILABLE, full.to_string())
            .with("retry-after", "1")
            .into()
    })
}

fn expired(route: &Route) -> Stop {
    let why = "the credential ended on the way";
    let refusal = Refusal::new(Step::Authorize, "expired", StatusCode::UNAUTHORIZED, why);
    step::authenticate::challenge(route, refusal).into()
}

/// The trusted proxies of each listener that has some.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// By the listener's configured address and its place among those with the same.
    pub by_listener: Vec<(proxy::ListenerKey, AddressList)>,
}

impl TrustedProxies {
    /// Those of the listener that a connection came to.
    pub fn of(&self, connection: &ConnectionInfo) -> Option<&AddressList> {
        self.by_listener.iter().find(|(key, _)| *key == connection.listener).map(|(_, list)| list)
    }

    /// Whether the peer of a connection is one.
    pub fn contains(&self, connection: &ConnectionInfo) -> bool {
        let peer: SocketAddr = connection.peer;
        Switch::Forwarded.is_off() || self.of(connection).is_some_and(|list| list.contains(peer.ip()))
    }
}

//! A small world over the real types: every route public, no limits, any number of
//! services. Used by the tests and by the example.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "for tests; each user needs a part of it"
)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use model::{Principal, Timestamp};
use policy::{Access, Circumstances, Policies, Vocabulary};
use proxy::admit::{Admission, IdentityHeaders};
use proxy::rate::Limiter;
use proxy::route::{RouteMatch, Router};
use proxy::upstream::{EndpointSettings, ForwardSettings, ServiceSettings, Timeouts, UpstreamPeer};
use proxy::{
    Additions, Arrival, Cleared, ConnectionInfo, CoreContext, CoreUpstreams, Exchange, Handler, Judge,
    Limits, ListenerSettings, Outcome, RefusedHandshake, ResponseEdit, Standing, Upstreams, World, clear,
    forward,
};

/// What is reported about each forwarded request.
pub type Report = Arc<dyn Fn(&Outcome) + Send + Sync>;

/// Told of a request that was refused: its path.
type OnRefused = Arc<dyn Fn(&str) + Send + Sync>;

/// Told of a handshake that was refused, and why.
type OnRefusedHandshake = Arc<dyn Fn(&str) + Send + Sync>;

/// A snapshot for tests.
pub struct TestWorld {
    pub listeners: Vec<ListenerSettings>,
    pub limits: Arc<Limits>,
    pub admission: Admission,
    pub upstreams: Arc<Upstreams>,
    pub report: Option<Report>,
    /// Told of each request that the handler answers itself: its path, where it was admitted.
    pub refused: Option<OnRefused>,
    /// Told of each handshake that was refused, and why.
    pub refused_handshake: Option<OnRefusedHandshake>,
    /// What is said of exchanges under way; by default that they stand.
    pub judge: Arc<dyn Judge + Send + Sync>,
    pub generation: u64,
    /// Whether all clients are proxies that others come through.
    pub trusts_proxies: bool,
    router: Router,
    policies: Policies,
    limiter: Limiter,
}

/// Lets everything stand.
pub struct Lenient;

impl Judge for Lenient {
    fn cleared_in(&self) -> u64 {
        0
    }

    fn epoch(&self) -> u64 {
        0
    }

    fn holds_for(&self, _: &Cleared) -> Option<Duration> {
        None
    }

    fn judge_again(&self, _: &Cleared) -> Standing {
        Standing::Stands
    }

    fn trusts(&self, _: &UpstreamPeer) -> bool {
        true
    }
}

/// A route of a test: path pattern and how it goes on.
pub struct TestRoute {
    pub path: &'static str,
    pub settings: ForwardSettings,
}

pub fn settings(service: usize) -> ForwardSettings {
    ForwardSettings {
        service,
        // Nobody here is slow to connect, but the machine may be.
        timeouts: Timeouts { connect: Duration::from_secs(60), ..Timeouts::default() },
        retries: 1,
        upgrades: vec![Bytes::from_static(b"websocket")],
        strip_prefix: None,
        add_prefix: None,
        template: None,
        contract: 0,
        body_bytes_max: 16 * 1024 * 1024,
        keep_host: true,
        splits: Vec::new(),
        mirror: None,
    }
}

pub fn service(name: &str, endpoints: &[SocketAddr]) -> ServiceSettings {
    let endpoint = |address: &SocketAddr| EndpointSettings {
        tls: false,
        host: address.ip().to_string(),
        port: address.port(),
        address: None,
    };
    ServiceSettings::new(name, endpoints.iter().map(endpoint).collect())
}

pub fn cleartext(address: SocketAddr) -> ListenerSettings {
    ListenerSettings { http2_cleartext: true, ..ListenerSettings::new(address, None) }
}

impl TestWorld {
    pub fn new(
        listeners: Vec<ListenerSettings>,
        services: Vec<ServiceSettings>,
        routes: Vec<TestRoute>,
        limits: Limits,
        before: Option<&Upstreams>,
    ) -> Self {
        let limits = Arc::new(limits);
        let vocabulary = Vocabulary {
            routes: routes
                .iter()
                .map(|route| policy::Route {
                    name: route.path.to_owned(),
                    access: Access::Public,
                    ..policy::Route::default()
                })
                .collect(),
            ..Vocabulary::default()
        };
        let matches = routes.iter().map(|route| RouteMatch::parse(route.path).unwrap()).collect();
        let settings = routes.into_iter().map(|route| Some(route.settings)).collect();
        let upstreams = Upstreams::build(services, settings, Arc::clone(&limits), before).unwrap();
        Self {
            listeners,
            limits,
            admission: Admission {
                identity_headers: IdentityHeaders::new(["x-user"]),
                ..Admission::default()
            },
            upstreams: Arc::new(upstreams),
            report: None,
            refused: None,
            refused_handshake: None,
            judge: Arc::new(Lenient),
            generation: 1,
            trusts_proxies: false,
            router: Router::build(matches).unwrap(),
            policies: policy::load(vocabulary, &[], 1).unwrap(),
            limiter: Limiter::new(64, [1, 2]),
        }
    }
}

impl World for TestWorld {
    type Handler = TestHandler;

    fn listeners(&self) -> &[ListenerSettings] {
        &self.listeners
    }

    fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    fn admission(&self) -> &Admission {
        &self.admission
    }

    fn is_trusted_proxy(&self, _connection: &ConnectionInfo) -> bool {
        self.trusts_proxies
    }

    fn on_core(self: &Arc<Self>, core: &CoreContext, _before: Option<&TestHandler>) -> TestHandler {
        TestHandler {
            world: Arc::clone(self),
            upstreams: CoreUpstreams::new(&self.upstreams, core),
            anonymous: Arc::new(Principal::anonymous()),
            none: Additions::default(),
            generation: {
                let mut additions = Additions::default();
                additions.push("x-generation", self.generation.to_string().as_bytes()).unwrap();
                additions
            },
        }
    }
}

pub struct TestHandler {
    world: Arc<TestWorld>,
    upstreams: CoreUpstreams,
    anonymous: Arc<Principal>,
    none: Additions,
    generation: Additions,
}

impl Handler for TestHandler {
    async fn serve<E: Exchange>(&self, arrival: Arrival<'_>, exchange: &mut E) {
        let path = arrival.admitted.as_ref().map_or_else(|_| Bytes::new(), |one| one.head().path.clone());
        let answer = match self.steps(arrival, exchange).await {
            Ok(()) => return,
            Err(answer) => answer,
        };
        if let Some(refused) = &self.world.refused {
            refused(&String::from_utf8_lossy(&path));
        }
        let body = Bytes::from(answer.1);
        let status = StatusCode::from_u16(answer.0).unwrap();
        let _ = exchange.respond(status, &self.none, body);
    }

    fn handshake_refused(&self, refused: &RefusedHandshake<'_>) -> bool {
        let tell = self.world.refused_handshake.as_ref();
        tell.is_some_and(|tell| {
            tell(refused.reason);
            true
        })
    }
}

impl TestHandler {
    async fn steps<E: Exchange>(&self, arrival: Arrival<'_>, exchange: &mut E) -> Result<(), (u16, String)> {
        let admitted = arrival.admitted.map_err(|refusal| (refusal.status(), refusal.to_string()))?;
        if let Some(tls) = &arrival.connection.tls
            && tls.is_misdirected(&admitted.head().host)
        {
            return Err((421, "misdirected".to_owned()));
        }
        let routed =
            self.world.router.route(admitted).map_err(|unrouted| (unrouted.why.status(), String::new()))?;
        let circumstances = Circumstances {
            now: Timestamp::default(),
            address: IpAddr::from([127, 0, 0, 1]),
            tls_version: None,
            certificate: None,
            user: None,
        };
        let permit = policy::decide(&self.world.policies, &self.anonymous, &circumstances, routed)
            .map_err(|_| (403, String::new()))?;
        let grant = self.world.limiter.grant(&[], Duration::ZERO).map_err(|_| (429, String::new()))?;
        let (contract, firewall) = (contract::Pass::without_contract(), waf::Pass::without_firewall());
        let cleared = clear(permit, grant, contract, firewall, Timestamp::default())
            .map_err(|_| (403, String::new()))?;
        let edit = ResponseEdit { set: &self.generation, remove: &[] };
        let outcome =
            forward(cleared, exchange, &self.upstreams, &self.none, edit, &*self.world.judge, None).await;
        if let Some(report) = &self.world.report {
            report(&outcome);
        }
        match (outcome.status, outcome.error) {
            (None, Some(error)) => match error.status() {
                Some(status) => Err((status.as_u16(), error.to_string())),
                None => {
                    exchange.abort();
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }
}

//! What is configured, as one immutable value: built whole, checked whole, published to
//! every core. A request holds one and sees one consistent world.

use std::rc::Rc;
use std::sync::{Arc, Mutex};

use keys::{ApiKeys, CertificateRules, Introspector, Issuers, SeenProofs};
use model::Clock;
use policy::Policies;
use proxy::address::AddressRules;
use proxy::challenge::Challenges;
use proxy::concurrency::Concurrency;
use proxy::rate::{Limiter, Rule};
use proxy::world::find_listener;
use proxy::{
    Admission, ConnectionInfo, CoreContext, CoreUpstreams, Limits, ListenerKey, ListenerSettings, Router,
    Upstreams, World,
};

use crate::core::Core;
use crate::firewall::{Choice, Firewalls};
use crate::inventory::Inventory;
use crate::metric::{CoreMetrics, Label, Registry};
use crate::response::ResponseRules;
use crate::serve::{Gateway, TrustedProxies};
use crate::session::{Level, RelyingParty};
use crate::step::answer::OwnAnswer;
use crate::step::authenticate::Proof;
use crate::step::challenge::HttpsRedirect;
use crate::step::contract::RouteContract;
use crate::step::cors::Cors;
use crate::step::hygiene::{HeaderRules, SecurityHeaders};
use crate::step::identity::IdentitySettings;
use crate::step::limit::Told;
use crate::step::user::UserSettings;

/// What belongs to one core alone.
pub struct CoreParts {
    /// Its way to the audit log.
    pub audit: audit::Queue,
    /// Its way to the firewall's log.
    pub firewall: audit::Queue,
    /// Its counters.
    pub metrics: CoreMetrics,
    /// Its way to whoever exports spans.
    pub spans: proxy::telemetry::TraceSender,
}

/// What outlives snapshots: shared by all cores for the life of the process.
pub struct Process {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What the firewalls' rules remember from request to request.
    pub firewall_memory: Arc<waf::Memory>,
    /// Proofs of possession that were seen.
    pub proofs: SeenProofs,
    /// All rate limits.
    pub limiter: Arc<Limiter>,
    /// What proves to an ACME server that names are ours.
    pub challenges: Arc<Challenges>,
    /// One for each core, taken by the core when it starts.
    pub core_parts: Mutex<Vec<Option<CoreParts>>>,
    /// Endpoints that no document describes.
    pub inventory: Arc<Inventory>,
    /// What all cores count.
    pub metrics: Arc<Registry>,
    /// Key for request ids: random, so that nobody can guess the next one.
    pub request_id_seed: [u64; 2],
}

/// One consistent world.
pub struct Snapshot {
    /// Counts reloads; the policies carry the same number.
    pub generation: u64,
    /// What outlives it.
    pub process: Arc<Process>,
    /// Where to listen.
    pub listeners: Vec<ListenerSettings>,
    /// Whose `Forwarded` and `X-Forwarded-*` are believed.
    pub trusted_proxies: TrustedProxies,
    /// Listeners whose requests are all sent to https.
    pub https_redirects: Vec<HttpsRedirect>,
    /// Listeners that are for one service, and its name.
    pub listener_services: Vec<(ListenerKey, Arc<str>)>,
    /// The outbound proxy, around a program of the mesh.
    pub outbound: Option<Outbound>,
    /// The limits of the hop.
    pub limits: Arc<Limits>,
    /// What admission drops and believes.
    pub admission: Admission,
    /// Which request takes which route.
    pub router: Router,
    /// The routes, by the router's number.
    pub routes: Vec<Route>,
    /// The upstream services.
    pub upstreams: Arc<Upstreams>,
    /// May they.
    pub policies: Arc<Policies>,
    /// Who may come near at all.
    pub addresses: AddressRules,
    /// Fields of every answer.
    pub security: SecurityHeaders,
    /// What upstreams are told about the principal.
    pub identity: IdentitySettings,
    /// Who this process is in the mesh.
    pub workload: Option<Arc<str>>,
    /// What is said and believed about end users in the mesh.
    pub user: UserSettings,
    /// Keys of the issuers.
    pub issuers: Arc<Issuers>,
    /// Who is asked about opaque tokens.
    pub introspector: Option<Arc<Introspector>>,
    /// The relying party that browsers log in by.
    pub party: Option<Arc<RelyingParty>>,
    /// Stronger logins that policies can ask for, the weakest first.
    pub levels: Vec<Level>,
    /// API keys.
    pub api_keys: Arc<ApiKeys>,
    /// How client certificates become principals at the listeners that verify some.
    pub certificates: Vec<(ListenerKey, CertificateRules)>,
    /// The firewalls of listeners and of whoever names none.
    pub firewalls: Firewalls,
    /// Which requests leave spans; `None`: tracing is off.
    pub tracing: Option<proxy::telemetry::Sampling>,
}

/// What a route asks of its requests and does with them.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// The pattern of its paths.
    pub pattern: Arc<str>,
    /// The service's name.
    pub service: Arc<str>,
    /// The service's place in the configuration.
    pub service_number: usize,
    /// Whether the service is one of this process: it is told of the client's connection.
    pub in_process: bool,
    /// Whether the service is one of the mesh: it is told of the end user.
    pub in_mesh: bool,
    /// The route in metrics.
    pub label: Label,
    /// The service in metrics.
    pub service_label: Label,
    /// The identity token's audience.
    pub audience: Arc<str>,
    /// Proofs that are looked for, in this order; empty: everybody is anonymous.
    pub authenticate: Vec<Proof>,
    /// Whether somebody without a proof goes on to policy as `Anonymous`.
    pub anonymous: bool,
    /// Limits asked before anybody is known.
    pub limits_by_address: Vec<RateLimit>,
    /// Limits asked when the principal is known.
    pub limits_by_principal: Vec<RateLimit>,
    /// Requests at the same time.
    pub concurrency: Option<Concurrency>,
    /// Who may come near this route.
    pub addresses: AddressRules,
    /// Cross-origin rules.
    pub cors: Option<Cors>,
    /// What requests are held against before they go on.
    pub contract: Option<RouteContract>,
    /// What is done with answers.
    pub response: ResponseRules,
    /// What is answered in the place of an upstream.
    pub own_answer: Option<OwnAnswer>,
    /// Whether its clients may switch to a WebSocket.
    pub websocket: WebSocket,
    /// Largest request body, bytes.
    pub body_bytes_max: u64,
    /// Changes to the request's fields.
    pub request_headers: HeaderRules,
    /// Changes to the response's fields.
    pub response_headers: HeaderRules,
    /// Its firewall.
    pub firewall: Choice,
    /// Whether it leads to the identity provider.
    pub to_identity: bool,
}

/// Whether clients may switch to a WebSocket, of which nothing is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocket {
    /// They may, or the route would ignore it.
    Allowed,
    /// They may where no firewall blocks: nothing is written about it.
    Uninspected,
    /// They are refused.
    Refused,
}

/// A rate limit of a route.
pub struct RateLimit {
    /// How much.
    pub rule: Rule,
    /// Whose.
    pub by: LimitBy,
    /// The limit in metrics.
    pub label: Label,
    /// What clients are told of it, as far as that is the same for all.
    pub(crate) told: Told,
}

impl RateLimit {
    /// So much, for each of these.
    pub fn new(rule: Rule, by: LimitBy, label: Label) -> Self {
        let told = Told::of(&rule);
        Self { rule, by, label, told }
    }
}

/// What a limit counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitBy {
    /// The client's address.
    Address,
    /// The principal.
    Principal,
    /// The API key; for other credentials the principal.
    Key,
    /// Nothing: all requests of the route together.
    Route,
}

/// The listener at which a program of the mesh reaches other services, by name.
pub struct Outbound {
    /// On loopback.
    pub listener: ListenerKey,
    /// The program's own service, to which it does not lead.
    pub own: Arc<str>,
    /// The services to which it leads.
    pub others: Vec<String>,
}

impl Snapshot {
    /// The service that a listener is for.
    pub(crate) fn service_of(&self, listener: &ListenerKey) -> Option<&Arc<str>> {
        self.listener_services.iter().find(|(key, _)| key == listener).map(|(_, service)| service)
    }

    /// How the client certificates of a listener become principals. Nobody, where it verifies none.
    pub(crate) fn certificate_rules(&self, listener: &ListenerKey) -> Option<&CertificateRules> {
        self.certificates.iter().find(|(key, _)| key == listener).map(|(_, rules)| rules)
    }

    /// Whether a connection came in clear where that is taken besides TLS: nobody has proved
    /// anything then, and policies see `Anonymous`.
    pub(crate) fn came_in_clear(&self, connection: &ConnectionInfo) -> bool {
        connection.tls.is_none()
            && find_listener(&self.listeners, connection.listener)
                .is_some_and(|listener| listener.takes_cleartext)
    }
}

impl World for Snapshot {
    type Handler = Gateway;

    fn listeners(&self) -> &[ListenerSettings] {
        &self.listeners
    }

    fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    fn admission(&self) -> &Admission {
        &self.admission
    }

    fn is_trusted_proxy(&self, connection: &ConnectionInfo) -> bool {
        self.trusted_proxies.contains(connection)
    }

    fn on_core(self: &Arc<Self>, context: &CoreContext, before: Option<&Gateway>) -> Gateway {
        let upstreams = CoreUpstreams::new(&self.upstreams, context);
        let core = match before {
            Some(before) => {
                let core = Rc::clone(before.core());
                core.adopt(self);
                core
            }
            None => Rc::new(Core::new(self, context)),
        };
        Gateway::new(Arc::clone(self), core, upstreams)
    }
}

//! The SPIFFE Workload API and Envoy's secret discovery, on one Unix socket.
//!
//! The way of a call through it:
//!
//! ```text
//! socket ─ Caller ─ header ─ method ─ admit ─ message ─ attest ─ registered workloads ─ documents ─ audit ─ answer
//!          pidfd    `workload.spiffe.io`             process → Facts      → identities
//! ```
//!
//! Who calls is asked anew for every call, and in a stream for every update: a process that
//! is no registered workload any more gets nothing further.
//!
//! What it must never do: give a document that the audit log did not take, name a workload
//! by anything that its process says, tell a process that matches nothing why, hold a message of one that
//! cannot be anybody.

mod allowances;
mod authority;
mod calls;
mod client;
mod convert;
mod endpoints;
mod listen;
mod messages;
mod own;
mod refused;
mod revocations;
mod sds;
mod sds_messages;
mod source;
mod visit;
/// What the other side of a call answered, in one line.
pub fn said(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use model::{SpiffeId, Timestamp};
use tokio::sync::watch;
use tonic::Request;
use tonic::body::Body;
use tonic::server::Grpc;
pub use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::attest::{Caller, Facts};
use crate::bundle::Bundle;
use crate::digest::{Digest, Digests, Executable};
use crate::directory::Directory;
use crate::issuer::Issuer;
use crate::left_out::with_others;
use crate::message::{Incoming, Sends, incoming};
use crate::open_calls::holding;
use crate::quota::{Quota, Slot};
use crate::workload::{Workload, Workloads};
pub use allowances::Allowances;
pub use client::{Client, EndpointUpdates, RevokedUpdates, X509Context, X509Identity};
pub use listen::{CONNECTIONS_MAX, CONNECTIONS_PER_USER_MAX, Socket};
pub use own::Own;
pub use refused::Refusals;
pub use source::SvidCache;
use visit::Visit;

/// Largest message that is read, bytes: a JWT-SVID and its audience.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Most messages of one user that have not come to their end at once.
const UNFINISHED_PER_USER_MAX: usize = 64;
/// Most of all.
const UNFINISHED_MAX: usize = 1_024;
/// Most calls of one user that are not over, streams among them, on all its connections.
const CALLS_PER_USER_MAX: usize = 2_048;
/// Most of all.
const CALLS_MAX: usize = 16_384;
/// Largest message that is sent, bytes: bundles of many domains.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The bundles of other trust domains, by name.
pub type Foreign = BTreeMap<String, Bundle>;

/// What the API is given of the world.
#[derive(Clone)]
pub struct World {
    /// Who signs.
    pub domain: Arc<dyn Issuer>,
    /// Where services are.
    pub directory: Arc<dyn Directory>,
    /// Who is known.
    pub workloads: watch::Receiver<Arc<Workloads>>,
    /// Whom we trust besides.
    pub foreign: watch::Receiver<Arc<Foreign>>,
    /// Who writes down what was given and refused.
    pub recorder: Arc<dyn AuditRecorder>,
    /// What was issued last.
    pub svid_cache: SvidCache,
    /// Who was refused of late.
    pub refusals: Refusals,
    /// Digests of executables.
    pub digests: Digests,
    /// How often each workload may ask.
    pub allowances: Allowances,
}

/// One identity that was given or refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// Which call, such as `/SpiffeWorkloadAPI/FetchX509SVID`.
    pub call: &'static str,
    /// The node that asked; empty: this one.
    pub node: String,
    /// The process that asked.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Who it is, when it is somebody.
    pub id: Option<SpiffeId>,
    /// The document that it was given: `x509 SERIAL` or `jwt for AUDIENCE`; or the address that it
    /// registered or withdrew, or that ended: `endpoint ADDRESS`.
    pub document: String,
    /// When that ends.
    pub expires: Option<Timestamp>,
    /// Why it was refused, for the operator; empty when it was not.
    pub refused: String,
}

impl Event {
    /// What this process does by itself.
    pub(crate) fn own(time: Timestamp, call: &'static str) -> Self {
        Self {
            time,
            call,
            node: String::new(),
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
            uid: rustix::process::geteuid().as_raw(),
            id: None,
            document: String::new(),
            expires: None,
            refused: String::new(),
        }
    }
}

/// Writes events down before anything is given.
pub trait AuditRecorder: Send + Sync {
    /// Whether the event is taken; what it speaks of does not happen otherwise.
    fn record(&self, event: Event) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// Why somebody gets nothing.
#[derive(Debug)]
pub(crate) enum Refused {
    /// They are nobody whom we know: the reason, for the log.
    Nobody(String),
    /// They ask for something else than they may have.
    Argument(&'static str),
    /// They have had so much that they have to wait: the reason, for the log.
    Exhausted(String),
    /// It cannot be made now: the reason, for the log.
    Unavailable(String),
}

impl Refused {
    /// What the client is told.
    fn status(&self) -> Status {
        match self {
            // Workload API §6: no more than that there is none for it.
            Self::Nobody(_) => Status::permission_denied("no identity issued"),
            Self::Argument(what) => Status::invalid_argument(*what),
            Self::Exhausted(_) => Status::resource_exhausted("too many for now; try again later"),
            Self::Unavailable(_) => Status::unavailable("identities cannot be issued at the moment"),
        }
    }
}

impl World {
    /// Whether a process may be a registered workload, without its executable being read.
    async fn may_be(&self, caller: &Arc<Caller>) -> Result<(), Refused> {
        let facts = looked_at(caller, None).await?;
        self.workloads.borrow().may_be(&facts).map_err(Refused::Nobody)
    }

    /// The registered workloads that a process is, those aside that are revoked.
    pub(crate) async fn attest(&self, caller: &Arc<Caller>) -> Result<Vec<Workload>, Refused> {
        let mut facts = looked_at(caller, None).await?;
        // Whoever is nobody anyway has nothing read of a large file.
        if self.workloads.borrow().want_digest(&facts)
            && let Some(executable) = opened(caller).await
            && let Some(digest) = self.digests.of(caller.uid, executable).await
        {
            facts = looked_at(caller, Some(digest)).await?;
        }
        let workloads = Arc::clone(&self.workloads.borrow());
        self.not_revoked(workloads.of(&facts).map_err(Refused::Nobody)?)
    }

    /// Those that are not revoked.
    pub(crate) fn not_revoked(&self, mut workloads: Vec<Workload>) -> Result<Vec<Workload>, Refused> {
        let revoked = self.domain.revoked();
        let first = workloads.first().map(|workload| workload.id.clone());
        workloads.retain(|workload| !revoked.has_identity(&workload.id));
        match first.filter(|_| workloads.is_empty()) {
            Some(id) => Err(Refused::Nobody(format!("{id} is revoked"))),
            None => Ok(workloads),
        }
    }

    /// Writes down that somebody got nothing, and says so in the log: of one user only so often, and
    /// then how many more there were. What is not written down is not given either.
    pub(crate) async fn refuse(&self, call: &'static str, caller: &Caller, refused: &Refused) {
        let Some(left_out) = self.refusals.take(caller.uid, self.domain.now()) else { return };
        let reason = match refused {
            Refused::Nobody(reason) | Refused::Exhausted(reason) | Refused::Unavailable(reason) => {
                reason.clone()
            }
            Refused::Argument(what) => (*what).to_owned(),
        };
        let reason = with_others(reason, left_out, "of this user");
        tracing::warn!(call, pid = caller.pid, uid = caller.uid, reason, "mesh: no identity issued");
        let event = Event { refused: reason, ..self.event(call, caller) };
        let _ = self.recorder.record(event).await;
    }

    pub(crate) fn event(&self, call: &'static str, caller: &Caller) -> Event {
        Event {
            time: self.domain.now(),
            call,
            node: String::new(),
            pid: caller.pid,
            uid: caller.uid,
            id: None,
            document: String::new(),
            expires: None,
            refused: String::new(),
        }
    }

    /// What this process gives itself.
    fn own_event(&self, call: &'static str) -> Event {
        Event::own(self.domain.now(), call)
    }

    /// Writes down what is about to be given.
    pub(crate) async fn give(&self, event: Event) -> Result<(), Refused> {
        match self.recorder.record(event).await {
            true => Ok(()),
            false => Err(Refused::Unavailable("the audit log takes no event".to_owned())),
        }
    }
}

/// What is known of a process now.
async fn looked_at(caller: &Arc<Caller>, digest: Option<Digest>) -> Result<Facts, Refused> {
    let caller = Arc::clone(caller);
    let facts = tokio::task::spawn_blocking(move || caller.facts(digest.as_ref())).await;
    let facts = facts.map_err(|error| Refused::Unavailable(error.to_string()))?;
    facts.map_err(|error| Refused::Nobody(error.to_string()))
}

/// The executable of a process, open; `None`: it cannot be read.
async fn opened(caller: &Arc<Caller>) -> Option<Executable> {
    let caller = Arc::clone(caller);
    // It may lie on a disk that does not answer.
    tokio::task::spawn_blocking(move || caller.executable()).await.ok()?.ok()
}

/// The methods by path.
#[derive(Clone)]
pub(crate) struct Api {
    world: Arc<World>,
    /// Messages that have not come to their end.
    unfinished: Arc<Quota<u32>>,
    /// Calls that are not over.
    open: Arc<Quota<u32>>,
}

/// Names its mandatory header (Workload API §5.1), and the value that it has to have.
const SECURITY_HEADER: (&str, &[u8]) = ("workload.spiffe.io", b"true");

/// What there is to call.
const METHODS: [&str; 11] = [
    calls::FETCH_X509_SVID,
    calls::FETCH_X509_BUNDLES,
    calls::FETCH_JWT_SVID,
    calls::FETCH_JWT_BUNDLES,
    calls::VALIDATE_JWT_SVID,
    sds::STREAM_SECRETS,
    sds::FETCH_SECRETS,
    revocations::WATCH,
    endpoints::REGISTER,
    endpoints::WITHDRAW,
    endpoints::WATCH,
];

impl Api {
    pub(crate) fn new(world: World) -> Self {
        let unfinished = Quota::new(UNFINISHED_PER_USER_MAX, UNFINISHED_MAX);
        let open = Quota::new(CALLS_PER_USER_MAX, CALLS_MAX);
        Self { world: Arc::new(world), unfinished, open }
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path();
        let guarded = ["/SpiffeWorkloadAPI/", "/bastide.mesh.v1."].iter().any(|ours| path.starts_with(ours));
        if guarded && !has_header(request.headers()) {
            // Whoever can be made to send a request (SSRF) cannot be made to send this.
            return Status::invalid_argument("security header missing from request").into_http();
        }
        let Some(visit) = request.extensions().get::<Visit>().cloned() else {
            return Status::internal("no caller").into_http();
        };
        let Some(method) = METHODS.into_iter().find(|method| *method == path) else {
            return Status::unimplemented("no such method").into_http();
        };
        let call = visit.call();
        match self.admit(method, &visit, request).await {
            Ok((request, open)) => {
                call.is_known();
                holding(self.dispatch(method, visit.caller, request).await, open)
            }
            Err(status) => status.into_http(),
        }
    }

    /// Lets in whoever may be a registered workload, with what they go on to say, and a place for the call.
    ///
    /// INVARIANT: of anybody else no message is read. Who it is is asked again when it has come.
    async fn admit(
        &self,
        method: &'static str,
        visit: &Visit,
        request: http::Request<Body>,
    ) -> Result<(http::Request<Incoming<Body, u32>>, Slot<u32>), Status> {
        if let Err(refused) = self.world.may_be(&visit.caller).await {
            return Err(calls::told_no(&self.world, &visit.caller, method, &refused).await);
        }
        let uid = visit.caller.uid;
        let open = self.open.take(uid);
        let open = open.ok_or_else(|| Status::resource_exhausted("too many calls are not over"))?;
        let sends = if method == sds::STREAM_SECRETS { Sends::Many } else { Sends::One };
        Ok((incoming(request, sends, &self.unfinished, uid)?, open))
    }

    async fn dispatch(
        self,
        method: &'static str,
        caller: Arc<Caller>,
        request: http::Request<Incoming<Body, u32>>,
    ) -> http::Response<Body> {
        let world = self.world;
        /// One arm per method: how it streams, and which function it is.
        macro_rules! method {
            ($kind:ident, $call:path) => {{
                let service = service_fn(move |request: Request<_>| {
                    let (world, caller) = (Arc::clone(&world), Arc::clone(&caller));
                    $call(world, caller, request)
                });
                let codec = Grpc::new(ProstCodec::default());
                let mut codec = codec
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(ANSWER_BYTES_MAX);
                codec.$kind(service, request).await
            }};
        }
        match method {
            calls::FETCH_X509_SVID => method!(server_streaming, calls::fetch_x509_svid),
            calls::FETCH_X509_BUNDLES => method!(server_streaming, calls::fetch_x509_bundles),
            calls::FETCH_JWT_SVID => method!(unary, calls::fetch_jwt_svid),
            calls::FETCH_JWT_BUNDLES => method!(server_streaming, calls::fetch_jwt_bundles),
            calls::VALIDATE_JWT_SVID => method!(unary, calls::validate_jwt_svid),
            sds::STREAM_SECRETS => method!(streaming, sds::stream_secrets),
            sds::FETCH_SECRETS => method!(unary, sds::fetch_secrets),
            revocations::WATCH => method!(server_streaming, revocations::watch),
            endpoints::REGISTER => method!(unary, endpoints::register),
            endpoints::WITHDRAW => method!(unary, endpoints::withdraw),
            endpoints::WATCH => method!(server_streaming, endpoints::watch),
            _ => Status::unimplemented("no such method").into_http(),
        }
    }
}

fn has_header(fields: &http::HeaderMap) -> bool {
    let (name, value) = SECURITY_HEADER;
    let mut values = fields.get_all(name).iter();
    values.next().is_some_and(|found| found.as_bytes() == value) && values.next().is_none()
}

impl Service<http::Request<Body>> for Api {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.answer(request).await) })
    }
}

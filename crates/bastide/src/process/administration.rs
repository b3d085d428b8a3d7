//! The administration of this process: as the service that routes `to: administration` lead
//! to, and on a socket in the state folder.
//!
//! What it must never do: take a caller's word on the socket for who they are. The operating
//! system says which user is at the other end; the folder is its owner's alone.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::serve::IncomingStream;
use gateway::snapshot::Snapshot;
use mesh::unix_socket::BoundSocket;
use model::Clock;
use proxy::upstream::InProcessListener;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::audit_handle::AuditHandle;
use super::file_changes::FileChanges;
use super::in_process;
use super::state::REVOCATIONS;
use crate::admin::caller::Caller;
use crate::admin::problem::Problem;
use crate::admin::view::{RealmSource, Trust};
use crate::admin::{AdminState, View, client, serve};
use crate::config::Configuration;
use crate::wire::Parts;

/// Answers on both ways in, until it is dropped.
#[derive(Debug)]
pub struct Administration {
    state: Arc<AdminState>,
    place: Mutex<BoundSocket>,
    changes: Arc<FileChanges>,
    tasks: [JoinHandle<()>; 2],
}

impl Administration {
    /// Begins to answer for a process that serves this configuration; on the socket once it is
    /// published.
    ///
    /// # Errors
    /// The socket cannot be made, or the policies not be loaded.
    pub fn open(
        configuration: &Configuration,
        current: &Snapshot,
        parts: &Parts,
        audit: AuditHandle,
        calls: InProcessListener,
    ) -> anyhow::Result<Self> {
        let realms = RealmSource::Served(Arc::clone(&parts.realms));
        let trust = Trust::Served(Arc::clone(&parts.mesh));
        let (revocations, random) = (parts.state.join(REVOCATIONS), Arc::clone(&parts.random));
        let clock = Arc::clone(&parts.process.clock);
        let view = View::of(configuration, Some(&current.policies), None)?;
        let changes = Arc::default();
        let state = AdminState::new(view, realms, trust, revocations, audit, Arc::clone(&clock), random)
            .followed(Arc::clone(&changes));
        Self::start(state, changes, calls, &clock, parts.state.path())
    }

    fn start(
        state: AdminState,
        changes: Arc<FileChanges>,
        calls: InProcessListener,
        clock: &Arc<dyn Clock>,
        state_folder: &Path,
    ) -> anyhow::Result<Self> {
        let state = Arc::new(state);
        let router = serve::router(&state);
        let path = client::socket(state_folder);
        let (listener, place) =
            BoundSocket::prepare(&path, 0o600).with_context(|| path.display().to_string())?;
        let local = router.clone().layer(from_fn(local));
        let local = local.into_make_service_with_connect_info::<Peer>();
        let by_socket = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, local).await {
                tracing::error!(%error, "the administration's socket has ended");
            }
        });
        let by_route = in_process::by_router(router.layer(from_fn(by_gateway)));
        let by_route = tokio::spawn(in_process::serve(calls, Arc::clone(clock), by_route));
        Ok(Self { state, place: Mutex::new(place), changes, tasks: [by_socket, by_route] })
    }

    /// Takes the place of the socket, from whoever was there before.
    ///
    /// # Errors
    /// What the system said.
    pub fn publish(&self) -> anyhow::Result<()> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.publish().context("the administration's socket")
    }

    /// What calls wrote to files of the state folder, for whoever looks at them.
    pub fn changes(&self) -> Arc<FileChanges> {
        Arc::clone(&self.changes)
    }

    /// Leaves the place of the socket to whoever succeeds this process.
    pub fn leave(&self) {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).leave();
    }

    /// What it will see of a configuration, when that is served.
    ///
    /// # Errors
    /// As [`View::of`].
    pub fn view(&self, configuration: &Configuration, next: &Snapshot) -> anyhow::Result<View> {
        View::of(configuration, Some(&next.policies), Some(&self.state.view()))
    }

    /// Takes a configuration that is served from now on.
    pub fn follow(&self, view: View) {
        self.state.adopt(view);
    }
}

impl Drop for Administration {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The user at the other end of the socket; `None`: the system does not say.
#[derive(Clone, Copy, Debug)]
struct Peer(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

/// Whoever owns the state folder, and root, who can read it anyway.
async fn local(ConnectInfo(Peer(user)): ConnectInfo<Peer>, mut request: Request, next: Next) -> Response {
    let owner = rustix::process::geteuid().as_raw();
    match user.filter(|user| [owner, 0].contains(user)) {
        Some(user) => {
            request.extensions_mut().insert(Caller::local(user));
            next.run(request).await
        }
        None => {
            let detail = "this socket is for the user that the process runs as";
            Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).respond(None)
        }
    }
}

/// INVARIANT: what comes by the gateway is who the gateway says, never a local caller.
async fn by_gateway(mut request: Request, next: Next) -> Response {
    request.extensions_mut().remove::<Caller>();
    next.run(request).await
}

//! `bastide agent`: the Workload API on a node without a store.
//!
//! What it must never do: listen before the control plane has said who is known, or start with
//! another node's key.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ::mesh::Digests;
use ::mesh::node::{JoinToken, NodeKey, Pin, Prover, Remote};
use ::mesh::workload_api::{Allowances, Refusals, Socket, SvidCache, World};
use anyhow::Context as _;
use keys::SystemRandom;
use model::Clock;

use super::audit::MeshAudit;
use crate::cli::agent::AgentArguments;
use crate::process::audit_handle::AuditHandle;
use crate::process::clock::SystemClock;
use crate::process::core_dumps;
use crate::process::log;
use crate::process::open_files;
use crate::process::signals::Signals;
use crate::process::state::{StateFolder, write_atomically};

/// What the control plane is known by that this node was attested to, in the state folder.
const PIN_FILE: &str = "control-plane";
/// This node's key in the state folder.
const KEY_FILE: &str = "node.json";
/// How long the audit log may take to write what is left at the end.
const AUDIT_CLOSE_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs until it is told to end.
///
/// # Errors
/// It cannot start: the state folder is held, the socket cannot be had.
pub fn run(arguments: &AgentArguments) -> anyhow::Result<ExitCode> {
    core_dumps::forbid(arguments.danger_core_dumps)?;
    open_files::allow_all();
    let _written = log::start(arguments.log_format)?;
    core_dumps::warn_of(arguments.danger_core_dumps);
    let state = StateFolder::hold(&arguments.state)?;
    let (pin, prover) = proof(arguments, &state.join(PIN_FILE))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let random = Arc::new(SystemRandom::new());
    let key = own_key(&state.join(KEY_FILE), clock.as_ref(), random.as_ref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new(false, false)?;
        let settings = audit::Settings::new(state.join("audit"));
        let (log, mut queues) = audit::open(settings, 1, Arc::clone(&clock))?;
        let audit = AuditHandle::open(queues.pop().context("a queue of the audit log")?, "mesh-audit")?;
        let recorder = Arc::new(MeshAudit::new(audit, Arc::clone(&random)));
        let remote = Remote::new(arguments.server.clone(), pin, key, prover, clock, random)?;
        let task = tokio::spawn(Arc::clone(&remote).run());
        let serve = async {
            remote.met().await;
            // What cannot be kept is missed only where the token is gone at the next start.
            if let Err(fault) = write_atomically(&state.join(PIN_FILE), pin.to_string().as_bytes()) {
                tracing::warn!(%fault, "mesh: the control plane's key is not kept for the next start");
            }
            let world = World {
                domain: remote.clone(),
                directory: remote.clone(),
                workloads: remote.workloads(),
                foreign: remote.foreign(),
                recorder: recorder.clone(),
                svid_cache: SvidCache::default(),
                refusals: Refusals::default(),
                digests: Digests::default(),
                allowances: Allowances::default(),
            };
            let socket = Socket::listen(&arguments.socket, world).context("the Workload API")?;
            tracing::info!("Workload API on unix:{}", socket.path().display());
            std::future::pending::<anyhow::Result<()>>().await
        };
        let served = tokio::select! {
            ended = serve => ended,
            _ = signals.ends.told() => Ok(()),
        };
        task.abort();
        drop(recorder);
        let closed = tokio::task::spawn_blocking(move || log.close(AUDIT_CLOSE_WITHIN)).await?;
        served?;
        closed.context("at the end")?;
        Ok(ExitCode::SUCCESS)
    })
}

/// How this node proves what it is, and whom it takes for the control plane. A join token that is used up, and
/// perhaps thrown away, is missed only where there is no other word on whom that is.
fn proof(arguments: &AgentArguments, kept_pin: &Path) -> anyhow::Result<(Pin, Prover)> {
    if let Some(path) = &arguments.token_file {
        let token = std::fs::read_to_string(path).map_err(anyhow::Error::from);
        let token = token.and_then(|text| Ok(text.parse::<JoinToken>()?));
        let kept = || std::fs::read_to_string(kept_pin).ok()?.trim().parse().ok();
        let pin = match token.with_context(|| path.display().to_string()) {
            Ok(token) => arguments.pin.unwrap_or(token.pin),
            Err(fault) => {
                let Some(pin) = arguments.pin.or_else(kept) else { return Err(fault) };
                let fault = format!("{fault:#}");
                tracing::warn!(
                    fault,
                    "mesh: no join token; this node is known by its key, if it was attested before"
                );
                pin
            }
        };
        return Ok((pin, Prover::TokenFile(path.clone())));
    }
    let pin = arguments.pin.context("--pin has to say which key the control plane has")?;
    let prover = match (&arguments.cert, &arguments.key, &arguments.kubernetes_token) {
        (Some(certificate), Some(key), _) => {
            Prover::X509 { certificate: certificate.clone(), key: key.clone() }
        }
        (_, _, Some(path)) => Prover::Kubernetes(path.clone()),
        _ => anyhow::bail!("--cert needs --key"),
    };
    Ok((pin, prover))
}

/// The key that this node is known by, made on first use: an agent that is started again is the
/// same node, with no new token.
fn own_key(path: &Path, clock: &dyn Clock, random: &SystemRandom) -> anyhow::Result<NodeKey> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{}: expected this node's key; remove it, and prove the node anew (join token)",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = NodeKey::generate(clock.now(), random)?;
            write_atomically(path, &serde_json::to_vec(&key)?)?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

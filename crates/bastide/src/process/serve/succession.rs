//! One process after another: starting the successor, handing everything over to it.

use tokio::task::JoinHandle;

use super::Server;
use crate::cli::Output;
use crate::process::handover::{self, HandoverResources};
use crate::wire::Listeners;

impl Server {
    /// Starts the binary at this process' path anew, to take over from this one.
    pub(super) fn upgrade(&self) {
        let format = match self.arguments.log_format {
            Output::Text => "text",
            Output::Json => "json",
        };
        let started = std::env::current_exe().and_then(|path| {
            // A replaced binary shows as `… (deleted)`; what stands in its place is meant.
            let name = path.to_string_lossy();
            std::process::Command::new(name.strip_suffix(" (deleted)").unwrap_or(&name))
                .args(["serve", "--take-over", "--log-format", format, "--config"])
                .arg(&self.arguments.config)
                .args(self.arguments.danger_core_dumps.then_some("--danger-core-dumps"))
                .stdin(std::process::Stdio::null())
                .spawn()
        });
        match started {
            Ok(mut child) => {
                let process = child.id();
                tracing::info!(process, "started a new process to hand over to");
                // This process outlives only one that could not take over, or that was killed since.
                let ended = move || match child.wait() {
                    Ok(status) => {
                        tracing::error!(process, %status, "the new process has ended; this one goes on")
                    }
                    Err(error) => {
                        tracing::error!(process, %error, "what became of the new process is not known")
                    }
                };
                drop(std::thread::Builder::new().name("successor".to_owned()).spawn(ended));
            }
            Err(error) => tracing::error!(%error, "cannot start a new process"),
        }
    }

    /// Begins to hand everything over to the process that asks.
    pub(super) async fn hand_over(
        &self,
        stream: tokio::net::UnixStream,
    ) -> Option<JoinHandle<std::io::Result<u32>>> {
        let agents = self.parts.mesh.agents_socket().await;
        let resources = || -> std::io::Result<_> {
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            let mut listeners = self.cores.sockets()?;
            // As the configuration alone names them: the successor knows of no earlier one.
            let names = Listeners::first(&self.configuration.listeners).open;
            for listener in &mut listeners {
                let place = self.listeners.open.iter().position(|key| *key == listener.key);
                listener.key = place.and_then(|place| names.get(place)).copied().unwrap_or(listener.key);
            }
            let resources = HandoverResources {
                listeners,
                admin: Some(self.admin_socket.try_clone()?),
                agents: agents?,
                state_lock: Some(self.parts.state.lock()?.into()),
                audit_lock: Some(self.log.lock()?.into()),
            };
            Ok((stream, resources))
        };
        match resources() {
            Ok((stream, resources)) => {
                Some(tokio::task::spawn_blocking(move || handover::give(&stream, resources)))
            }
            Err(error) => {
                tracing::error!(%error, "cannot hand over");
                None
            }
        }
    }
}

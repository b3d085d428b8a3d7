//! `bastide mesh advertise`: the address of a service that holds its own certificates, in the
//! registry while this runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ::mesh::workload_api::{Client, Status, said};
use anyhow::Context as _;
use keys::SystemRandom;

use super::registered::{Address, Registered};
use crate::cli::Output;
use crate::process::log;
use crate::process::signals::Signals;

/// Keeps an address registered until it is told to end.
///
/// # Errors
/// The Workload API does not answer, or this process is not the service.
pub async fn advertise(
    socket: &Path,
    service: &str,
    address: SocketAddr,
    output: Output,
) -> anyhow::Result<()> {
    let _log = log::start(output)?;
    let mut signals = Signals::new(false, false)?;
    let failed = |status: Status| anyhow::anyhow!(said(&status));
    let client = Client::connect(socket).await?;
    let context = client.x509().await.map_err(failed)?.next().await.map_err(failed)?;
    let identities = context.context("the Workload API ended")?.identities;
    let own = identities.into_iter().find(|identity| identity.is(service));
    let id = own.with_context(|| format!("this process is not the workload {service:?}"))?.id;
    let address = Address { socket: socket.to_owned(), id, address, program: None };
    let registered = Registered::start(address, Arc::new(SystemRandom::new()));
    tokio::select! {
        _ = signals.ends.told() => {}
    }
    registered.withdraw().await;
    Ok(())
}

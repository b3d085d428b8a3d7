//! Where services are: calls of ours beside the five of the Workload API. A process registers the
//! address at which it is reached as one of the workloads that it is, and looks others up.
//!
//! INVARIANT: an address is taken under an identity that the caller was attested to have, whatever it
//! says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use model::SpiffeId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::calls::{Updates, told_no};
use super::messages::{EndpointRequest, EndpointResponse, EndpointsRequest, EndpointsResponse};
use super::{Event, Refused, World};
use crate::allowance::Asked;
use crate::attest::Caller;
use crate::directory::{self, Endpoints};
use crate::error::Error;

pub(super) const REGISTER: &str = "/bastide.mesh.v1.Endpoints/Register";
pub(super) const WITHDRAW: &str = "/bastide.mesh.v1.Endpoints/Withdraw";
pub(super) const WATCH: &str = "/bastide.mesh.v1.Endpoints/Watch";

pub(super) async fn register(
    world: Arc<World>,
    caller: Arc<Caller>,
    request: Request<EndpointRequest>,
) -> Result<Response<EndpointResponse>, Status> {
    match registered(&world, &caller, request.get_ref()).await {
        Ok(address) => Ok(Response::new(EndpointResponse { address: address.to_string() })),
        Err(refused) => Err(told_no(&world, &caller, REGISTER, &refused).await),
    }
}

pub(super) async fn withdraw(
    world: Arc<World>,
    caller: Arc<Caller>,
    request: Request<EndpointRequest>,
) -> Result<Response<EndpointResponse>, Status> {
    match withdrawn(&world, &caller, request.get_ref()).await {
        Ok(address) => Ok(Response::new(EndpointResponse { address: address.to_string() })),
        Err(refused) => Err(told_no(&world, &caller, WITHDRAW, &refused).await),
    }
}

/// Whose address is meant, and which: of a workload that the caller is.
async fn endpoint_of(
    world: &World,
    caller: &Arc<Caller>,
    request: &EndpointRequest,
) -> Result<(SpiffeId, SocketAddr), Refused> {
    let wanted = request.spiffe_id.as_str();
    let found = world.attest(caller).await?.into_iter().find(|workload| workload.id.as_str() == wanted);
    let Some(workload) = found else {
        return Err(Refused::Nobody(format!(
            "process {} spoke of an address of {wanted:?}, which it is not",
            caller.pid
        )));
    };
    let said = directory::parse(&request.address).map_err(Refused::Argument)?;
    let address = directory::advertised(said, world.directory.here()).map_err(Refused::Argument)?;
    Ok((workload.id, address))
}

fn event(world: &World, call: &'static str, caller: &Caller, id: &SpiffeId, address: SocketAddr) -> Event {
    Event { id: Some(id.clone()), document: format!("endpoint {address}"), ..world.event(call, caller) }
}

async fn registered(
    world: &World,
    caller: &Arc<Caller>,
    request: &EndpointRequest,
) -> Result<SocketAddr, Refused> {
    let (id, address) = endpoint_of(world, caller, request).await?;
    if world.directory.has_endpoint(&id, address) {
        world.allowances.take(&id, Asked::Renewal)?;
    } else {
        world.allowances.take(&id, Asked::Change)?;
        world.give(event(world, REGISTER, caller, &id, address)).await?;
    }
    match world.directory.register_endpoint(&id, address).await {
        Ok(()) => Ok(address),
        Err(Error::Revoked(why)) => Err(Refused::Nobody(why)),
        Err(Error::Exhausted(why)) => Err(Refused::Exhausted(why)),
        Err(other) => Err(Refused::Unavailable(other.to_string())),
    }
}

async fn withdrawn(
    world: &World,
    caller: &Arc<Caller>,
    request: &EndpointRequest,
) -> Result<SocketAddr, Refused> {
    let (id, address) = endpoint_of(world, caller, request).await?;
    world.allowances.take(&id, Asked::Change)?;
    let withdrawn = world.directory.withdraw_endpoint(&id, address).await;
    let withdrawn = withdrawn.map_err(|error| match error {
        Error::Exhausted(why) => Refused::Exhausted(why),
        other => Refused::Unavailable(other.to_string()),
    });
    if withdrawn? {
        // What is withdrawn is gone, whether or not it can be written down.
        let _ = world.recorder.record(event(world, WITHDRAW, caller, &id, address)).await;
    }
    Ok(address)
}

pub(super) async fn watch(
    world: Arc<World>,
    caller: Arc<Caller>,
    request: Request<EndpointsRequest>,
) -> Result<Response<Updates<EndpointsResponse>>, Status> {
    if let Err(refused) = world.attest(&caller).await {
        return Err(told_no(&world, &caller, WATCH, &refused).await);
    }
    // Read once: whoever asks for many has nobody wait when an address changes.
    let ids = request.into_inner().spiffe_ids;
    let wanted: BTreeSet<SpiffeId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
    drop(ids);
    let mut known = world.directory.watch_endpoints();
    let mut workloads = world.workloads.clone();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let (mut told, mut is_first) = (Endpoints::new(), true);
        loop {
            let now = only(&wanted, &known.borrow_and_update());
            let services = directory::differences(&told, &now);
            told = now;
            // The first comes at once, whatever there is.
            if is_first || !services.is_empty() {
                if sender.send(Ok(EndpointsResponse { services })).await.is_err() {
                    return;
                }
                is_first = false;
            }
            tokio::select! {
                () = sender.closed() => return,
                changed = known.changed() => match changed {
                    // Others' addresses are no reason to look who asks.
                    Ok(()) if only(&wanted, &known.borrow()) == told => continue,
                    Ok(()) => {}
                    Err(_) => return,
                },
                changed = workloads.changed() => if changed.is_err() { return },
            }
            if let Err(refused) = world.attest(&caller).await {
                let status = told_no(&world, &caller, WATCH, &refused).await;
                let _ = sender.send(Err(status)).await;
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

fn only(wanted: &BTreeSet<SpiffeId>, known: &Endpoints) -> Endpoints {
    let own = |(id, addresses): (&SpiffeId, &BTreeSet<SocketAddr>)| (id.clone(), addresses.clone());
    match known.len() < wanted.len() {
        true => known.iter().filter(|(id, _)| wanted.contains(*id)).map(own).collect(),
        false => wanted.iter().filter_map(|id| known.get_key_value(id)).map(own).collect(),
    }
}

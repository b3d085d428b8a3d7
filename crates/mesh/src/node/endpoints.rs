//! Addresses of workloads as agents say them, and as they are told to agents.
//!
//! What it must never do: take an address for a workload that is not registered for the node that
//! says it.

use std::net::SocketAddr;
use std::sync::Arc;

use model::SpiffeId;
use tokio::sync::watch;
use tonic::{Response, Status};

use super::listener::{Agent, Api, failed};
use super::messages::{EndpointRequest, EndpointResponse};
use crate::allowance::Asked;
use crate::directory::{self, Endpoints, ServiceAt};
use crate::error::Error;
use crate::workload_api::Event;

pub(super) const REGISTER: &str = "/bastide.mesh.v1.Nodes/Register";
pub(super) const WITHDRAW: &str = "/bastide.mesh.v1.Nodes/Withdraw";

/// Which services are elsewhere than was told.
pub(super) fn news(known: &mut watch::Receiver<Arc<Endpoints>>, told: &mut Arc<Endpoints>) -> Vec<ServiceAt> {
    let now = Arc::clone(&known.borrow_and_update());
    let news = directory::differences(told, &now);
    *told = now;
    news
}

/// Whose address is meant: a workload that is registered for the node that asks.
async fn endpoint_of(
    api: &Api,
    call: &'static str,
    agent: Agent,
    request: &EndpointRequest,
) -> Result<(String, SpiffeId, SocketAddr), Status> {
    let node = api.node(agent).await?.node;
    api.allow(call, &node, agent.from, Asked::Renewal).await?;
    let id = api.registered(call, &node, agent.from, &request.id).await?;
    let address = directory::parse(&request.address).and_then(|said| directory::advertised(said, None));
    Ok((node, id, address.map_err(Status::invalid_argument)?))
}

pub(super) async fn register(
    api: Api,
    agent: Agent,
    request: EndpointRequest,
) -> Result<Response<EndpointResponse>, Status> {
    let (node, id, address) = endpoint_of(&api, REGISTER, agent, &request).await?;
    let domain = &api.world.domain;
    let known = domain.has_endpoint_of(&node, &id, address);
    if !known {
        api.allow(REGISTER, &node, agent.from, Asked::Change).await?;
        let document = format!("endpoint {address}");
        api.give(Event { id: Some(id.clone()), document, ..api.event(REGISTER, &node) }).await?;
    }
    match domain.register_at(&node, &id, address).await {
        Ok(()) => Ok(Response::new(EndpointResponse { known })),
        Err(Error::Exhausted(why)) => {
            api.refuse(REGISTER, &node, agent.from, why).await;
            Err(Status::resource_exhausted("too many addresses are registered"))
        }
        Err(Error::Revoked(why)) => Err(api.taken_back(REGISTER, &node, agent.from, why).await),
        Err(other) => Err(failed(other)),
    }
}

pub(super) async fn withdraw(
    api: Api,
    agent: Agent,
    request: EndpointRequest,
) -> Result<Response<EndpointResponse>, Status> {
    let (node, id, address) = endpoint_of(&api, WITHDRAW, agent, &request).await?;
    api.allow(WITHDRAW, &node, agent.from, Asked::Change).await?;
    let known = api.world.domain.withdraw_at(&node, &id, address).await.map_err(failed)?;
    if known {
        let document = format!("endpoint {address}");
        let event = Event { id: Some(id), document, ..api.event(WITHDRAW, &node) };
        // What is withdrawn is gone, whether or not it can be written down.
        let _ = api.world.recorder.record(event).await;
    }
    Ok(Response::new(EndpointResponse { known }))
}

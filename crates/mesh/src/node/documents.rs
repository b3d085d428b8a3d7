//! Documents for workloads of nodes: signed for the very node that a workload is registered for, as often as that node
//! may ask.

use keys::svid::WorkloadKey;
use tonic::{Response, Status};

use super::listener::{Agent, Api, failed};
use super::messages::{IssueJwtRequest, IssueJwtResponse, IssueRequest, IssueResponse};
use crate::allowance::Asked;
use crate::error::Error;
use crate::workload_api::Event;

pub(super) const ISSUE: &str = "/bastide.mesh.v1.Nodes/Issue";
pub(super) const ISSUE_JWT: &str = "/bastide.mesh.v1.Nodes/IssueJwt";

pub(super) async fn issue(
    api: Api,
    agent: Agent,
    request: IssueRequest,
) -> Result<Response<IssueResponse>, Status> {
    let node = api.node(agent).await?.node;
    api.allow(ISSUE, &node, agent.from, Asked::Document).await?;
    let id = api.registered(ISSUE, &node, agent.from, &request.id).await?;
    let key = WorkloadKey::from_spki(&request.key);
    let key = key.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let issued = match api.world.domain.issue_x509_on(&node, &id, &key).await {
        Err(Error::Exhausted(why)) => {
            api.refuse(ISSUE, &node, agent.from, why).await;
            return Err(Status::resource_exhausted("too many certificates of this workload are good"));
        }
        Err(Error::Revoked(why)) => return Err(api.taken_back(ISSUE, &node, agent.from, why).await),
        other => other.map_err(failed)?,
    };
    let event = Event {
        id: Some(id),
        document: format!("x509 {}", issued.serial),
        expires: Some(issued.not_after),
        ..api.event(ISSUE, &node)
    };
    api.give(event).await?;
    Ok(Response::new(IssueResponse {
        chain: issued.chain,
        serial: issued.serial,
        not_after: issued.not_after.unix_nanos(),
        authority: issued.authority,
    }))
}

pub(super) async fn issue_jwt(
    api: Api,
    agent: Agent,
    request: IssueJwtRequest,
) -> Result<Response<IssueJwtResponse>, Status> {
    let node = api.node(agent).await?.node;
    api.allow(ISSUE_JWT, &node, agent.from, Asked::Document).await?;
    let id = api.registered(ISSUE_JWT, &node, agent.from, &request.id).await?;
    let (token, ends) = match api.world.domain.issue_jwt(&id, &request.audience).await {
        Ok(issued) => issued,
        Err(Error::Token(why)) => return Err(Status::invalid_argument(why)),
        Err(Error::Revoked(why)) => return Err(api.taken_back(ISSUE_JWT, &node, agent.from, why).await),
        Err(other) => return Err(failed(other)),
    };
    let event = Event {
        id: Some(id),
        document: format!("jwt for {}", request.audience.join(", ")),
        expires: Some(ends),
        ..api.event(ISSUE_JWT, &node)
    };
    api.give(event).await?;
    Ok(Response::new(IssueJwtResponse { token, ends: ends.unix_nanos() }))
}

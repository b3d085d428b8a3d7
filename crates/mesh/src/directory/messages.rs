//! How the addresses of services are told: whole at first, then the services that are different.

use std::net::SocketAddr;

use model::SpiffeId;
use prost::Message;

use super::Endpoints;

/// A service and all its addresses; none: it has none any more.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ServiceAt {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, repeated, tag = "2")]
    pub addresses: Vec<String>,
}

/// What has to be told to whoever knows `before`.
pub(crate) fn differences(before: &Endpoints, now: &Endpoints) -> Vec<ServiceAt> {
    let told = |id: &SpiffeId, addresses: Vec<String>| ServiceAt { id: id.as_str().to_owned(), addresses };
    let gone = before.keys().filter(|id| !now.contains_key(*id)).map(|id| told(id, Vec::new()));
    let changed = now.iter().filter(|(id, addresses)| before.get(*id) != Some(addresses));
    let changed = changed.map(|(id, known)| told(id, known.iter().map(ToString::to_string).collect()));
    gone.chain(changed).collect()
}

/// Takes what was told, whole or not at all.
///
/// # Errors
/// What cannot be read.
pub(crate) fn apply(known: &mut Endpoints, told: Vec<ServiceAt>) -> Result<(), String> {
    let mut next = known.clone();
    for service in told {
        let id: SpiffeId = service.id.parse().map_err(|why| format!("{:?}: {why}", service.id))?;
        let read = |text: &String| super::parse(text).map_err(|why| format!("{text:?}: {why}"));
        match service
            .addresses
            .iter()
            .map(read)
            .collect::<Result<std::collections::BTreeSet<SocketAddr>, _>>()?
        {
            none if none.is_empty() => drop(next.remove(&id)),
            some => drop(next.insert(id, some)),
        }
    }
    *known = next;
    Ok(())
}

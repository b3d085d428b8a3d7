//! What agent and control plane say to each other.

use prost::Message;

use crate::directory::ServiceAt;

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttestRequest {
    /// One of the three: a join token,
    #[prost(string, tag = "1")]
    pub token: String,
    /// a certificate and those above it (DER), with a statement that its key has signed,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub chain: Vec<Vec<u8>>,
    #[prost(string, tag = "3")]
    pub statement: String,
    /// or a projected token of a service account.
    #[prost(string, tag = "4")]
    pub kubernetes: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttestResponse {
    /// What the node is called.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Unix seconds.
    #[prost(uint64, tag = "2")]
    pub ends: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchRequest {}

/// Everything that the agent needs to know, whole each time.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Update {
    /// The control plane's time, Unix nanoseconds.
    #[prost(uint64, tag = "1")]
    pub now: u64,
    #[prost(string, tag = "2")]
    pub trust_domain: String,
    /// The document of its bundle.
    #[prost(string, tag = "3")]
    pub bundle: String,
    /// Authorities whose documents may still be shown.
    #[prost(string, repeated, tag = "4")]
    pub good: Vec<String>,
    /// Bundles of other trust domains.
    #[prost(message, repeated, tag = "5")]
    pub foreign: Vec<ForeignBundle>,
    /// The workloads that are registered for this node.
    #[prost(message, repeated, tag = "6")]
    pub workloads: Vec<Registered>,
    #[prost(string, repeated, tag = "7")]
    pub revoked_serials: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub revoked_identities: Vec<String>,
    /// Nothing but the time and the services counts: the control plane is there, and so is the node
    /// for it.
    #[prost(bool, tag = "9")]
    pub beat: bool,
    /// What this node is called.
    #[prost(string, tag = "10")]
    pub node: String,
    /// Workloads that are not revoked any more.
    #[prost(message, repeated, tag = "11")]
    pub lifted: Vec<Lifted>,
    /// Where services are: all of them at first, then those that are elsewhere than before.
    #[prost(message, repeated, tag = "12")]
    pub services: Vec<ServiceAt>,
}

/// An address of a workload of the node that asks: to be registered, or to be taken out.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub address: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointResponse {
    /// Whether it was there before.
    #[prost(bool, tag = "1")]
    pub known: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Lifted {
    #[prost(string, tag = "1")]
    pub id: String,
    /// Unix nanoseconds. Tokens of before stay refused.
    #[prost(uint64, tag = "2")]
    pub since: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ForeignBundle {
    #[prost(string, tag = "1")]
    pub trust_domain: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Registered {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub hint: String,
    #[prost(uint32, repeated, tag = "3")]
    pub uid: Vec<u32>,
    #[prost(uint32, repeated, tag = "4")]
    pub gid: Vec<u32>,
    #[prost(string, repeated, tag = "5")]
    pub path: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    pub sha256: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    pub unit: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub container: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IssueRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    /// The workload's public key, `SubjectPublicKeyInfo` in DER.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IssueResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub chain: Vec<Vec<u8>>,
    #[prost(string, tag = "2")]
    pub serial: String,
    /// Unix nanoseconds.
    #[prost(uint64, tag = "3")]
    pub not_after: u64,
    #[prost(string, tag = "4")]
    pub authority: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IssueJwtRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, repeated, tag = "2")]
    pub audience: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IssueJwtResponse {
    #[prost(string, tag = "1")]
    pub token: String,
    /// Unix nanoseconds.
    #[prost(uint64, tag = "2")]
    pub ends: u64,
}

//! East-west: SPIFFE identities for services. Calls between them are made by `gateway` and the
//! binary, with the certificates from here.
//!
//! The way through it:
//!
//! ```text
//! store ─ TrustDomain ─ AuthoritySet ─ issue_x509, issue_jwt
//!         rotates the   what signs, what
//!         authorities   verifiers trust
//! ```
//!
//! A [`TrustDomain`] keeps the [`authority::Record`] of its authorities in the store, of
//! which one process at a time rotates what is due, and parses it into the
//! [`authority_set::AuthoritySet`] of the moment. Documents are signed by its authorities; their
//! names come from the registration of workloads, never from whoever asks. The [`directory`] says
//! where services are, as they say it themselves under a name that they were attested to have.
//!
//! | module | what it is for |
//! |---|---|
//! | [`workload_api`] | workloads fetch their documents: the Workload API and Envoy's SDS |
//! | [`attest`] | which process asks there, as the kernel says |
//! | [`registry`], [`workload`] | which workloads there are, and which of them a process is |
//! | [`node`] | agents of other nodes, which ask the control plane instead of a store |
//! | [`verify`] | who is at the other end of a TLS connection |
//! | [`revocation`] | what is taken back before its time |
//! | [`unix_socket`] | sockets whose path a process takes over from another |
//!
//! What it must never do:
//! - sign a document with two names, or one that outlives its authority;
//! - sign with an authority that verifiers do not trust yet, or for a workload that is revoked or no
//!   longer registered;
//! - give a process the identity of a workload of which it does not meet every condition (one that
//!   meets those of several is all of them, and gets the documents of each);
//! - read the clock: time comes from the store's.

mod allowance;
pub mod attest;
pub mod authority;
pub mod authority_set;
pub mod backoff;
pub mod bundle;
mod digest;
pub mod directory;
mod error;
mod given;
mod grpc;
mod handshake;
pub mod issuer;
pub mod jwt_svid;
mod left_out;
mod message;
pub mod node;
mod open_calls;
mod quota;
pub mod registry;
mod renew;
pub mod revocation;
mod scan;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod trust_domain;
pub mod unix_socket;
pub mod verify;
pub mod workload;
pub mod workload_api;

pub use bundle::Bundle;
pub use digest::Digests;
pub use error::Error;
pub use issuer::Issuer;
pub use registry::Declared;
pub use renew::{renew, renew_by};
pub use revocation::{Revocation, Revoked, Target};
pub use settings::{Anchor, Given, Lifetimes, Settings};
pub use trust_domain::{IssuedRecord, IssuedX509, Step, TrustDomain};

//! The real binary on loopback ports that the system picks: started, asked, reloaded,
//! signalled, killed. Each test has a folder of its own and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, and say what they skip"
)]

mod acme;
mod acme_attacks;
mod administration;
mod audit;
mod back_channel;
mod bound;
mod broken_files;
mod client_certificates;
mod clients;
mod contract;
mod curl;
#[path = "../../examples/support/endless.rs"]
mod endless;
mod firewall;
mod handover;
mod hashes;
mod hosts;
mod import;
mod kill;
mod liar;
mod mail;
mod memory;
mod mesh;
mod mesh_agent;
mod mesh_calls;
mod mesh_end;
mod mesh_hosts;
mod mesh_partners;
mod mesh_refusals;
mod mesh_registry;
mod mesh_resilience;
mod mesh_revoke;
mod mesh_run;
mod mesh_servers;
mod mesh_tcp;
mod mesh_workloads;
mod observability;
mod opaque;
mod pebble;
mod peers;
mod realms;
mod revocation;
mod serving;
mod sessions;
mod sinks;
mod small_disk;
mod storage;
mod support;
mod tools;
mod tour;
mod upstreams;
mod waf;

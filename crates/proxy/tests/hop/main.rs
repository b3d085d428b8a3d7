//! The hop over real sockets: raw bytes on both sides, honest and evil.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of test functions"
)]

#[path = "../support/mod.rs"]
mod support;

mod challenge;
mod cores;
mod cut;
mod fairness;
mod flow;
mod goaway;
mod http1;
mod http2;
mod in_process;
mod interim;
mod limits;
mod opaque;
mod probes;
mod resilience;
mod revocation;
mod sharing;
mod testbed;
mod tls;
mod tunnel;
mod turns;
mod upstream;

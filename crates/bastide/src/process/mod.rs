//! The process: its state folder, its clock, its life from start to drain.

pub mod admin;
mod beginning;
pub mod clock;
pub mod fetch;
pub mod generations;
pub mod handover;
mod keepers;
mod log;
pub mod mesh;
pub mod names;
pub mod notify;
mod otlp;
mod outward;
mod prepare;
pub mod realms;
pub mod running;
pub mod serve;
pub mod sessions;
mod shared;
mod signals;
mod sinks;
pub mod state;
pub mod storage;
pub mod systemd;
pub mod unseal;
mod upstreams;
pub mod watch;

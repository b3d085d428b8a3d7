//! The process: its state folder, its clock, its life from start to drain.
//!
//! The way through it: [`serve`] is the life of `bastide serve`. `beginning` and `serve/start` open
//! what it begins with ([`state`], [`storage`], [`realms`], [`mesh`], [`audit_handle`]); `serve/hosting`
//! starts what answers in this process; then one loop waits for whatever changes: files ([`watch`]),
//! signals, keys, realms. `serve/reload` makes a new snapshot of a changed configuration, or keeps the
//! old one and says why; `serve/succession` and [`handover`] give the sockets to a newer binary.
//! [`run`] is the same for one program of the mesh.
//!
//! What waits in the loop's arms holds up the others: what asks a store or a peer is done beside it,
//! but for realms whose settings have changed, which are opened there.

pub mod administration;
pub mod audit_handle;
pub mod back_channel;
mod background;
mod become_program;
mod beginning;
pub mod clock;
mod core_dumps;
pub mod dns;
pub mod fetch;
pub mod file_changes;
pub mod generations;
pub mod handover;
mod health;
mod in_process;
mod log;
pub mod mail;
pub mod mesh;
pub mod metrics;
pub mod metrics_listener;
pub mod notify;
mod open_files;
mod orphans;
mod otlp;
mod outward;
mod prepare;
mod program;
pub mod program_port;
pub mod realms;
pub mod run;
pub mod running;
mod self_metrics;
pub mod serve;
pub mod sessions;
mod signals;
mod sinks;
pub mod state;
pub mod storage;
pub mod systemd;
pub mod unseal;
mod upstream_metrics;
pub mod watch;

pub use become_program::{BecomeArguments, become_program};

//! The API gateway: what happens to a request from outside, from its head to its audit event.
//!
//! The way through it: [`snapshot`] is what is configured, built whole by the binary;
//! [`serve`] is the way of a request, one step after the other; [`step`] holds the
//! steps; [`firewall`] is what `step::inspect` asks; `live` walks them again for exchanges
//! under way; `respond` is the one place where a reason becomes an answer; [`journey`]
//! keeps what the audit event will say; [`session`] is the relying party that browsers log
//! in by; [`metric`] counts; `trace` makes the spans of
//! requests that are sampled.
//!
//! What it must never do: let the configuration choose the order of the steps, send a
//! request on that is not [`proxy::Cleared`], end one without an audit event, or tell
//! a client why.

mod audit_wait;
mod caches;
mod core;
pub mod firewall;
mod hand_off;
pub mod inventory;
pub mod journey;
mod live;
pub mod metric;
mod refused_handshake;
mod respond;
pub mod response;
pub mod serve;
pub mod session;
pub mod snapshot;
pub mod step;
pub mod template;
mod trace;

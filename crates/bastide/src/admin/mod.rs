//! The administration: one table of operations over the realms, their people and clients,
//! sessions, keys, and what is taken back; answered over HTTP, described by OpenAPI, used by
//! the command line.
//!
//! ```text
//! socket in the state folder ─┐            ┌─ audit slot ─ policy ─┐
//! route `to: administration` ─┼─ caller ───┤                      ├─ operation ─ event
//! the command line, no server ┘            └──── no slot: 503 ────┘
//! ```
//!
//! The way through it: [`operation`] is the table, [`serve`] the way of a call, [`caller`]
//! says who calls, [`resource`] does what is asked, [`openapi`] writes the document, [`noted`]
//! writes down what commands do to the store by themselves, and [`client`] is the command line's
//! side.
//!
//! What it must never do: change or show anything before a place in the audit log is taken
//! and the policies have permitted it: both are in a [`serve::Cleared`], without which no
//! operation can be called. Nor take an identity from anything that a client can write.

pub mod caller;
pub mod client;
pub mod noted;
pub mod openapi;
pub mod operation;
pub mod problem;
pub mod resource;
pub mod serve;
pub mod view;

pub use serve::AdminState;
pub use view::View;

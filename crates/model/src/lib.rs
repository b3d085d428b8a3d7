//! The types that every part of Bastide shares: who asks ([`Principal`]), what
//! happened ([`event::AccessEvent`]), what must not leak ([`Secret`]) and what time
//! it is ([`Timestamp`], [`Clock`]).
//!
//! The way through it: [`principal`] for identities, [`spiffe_id`] for workload
//! names, [`client_network`] for whom an address counts as, [`event`] for what the audit log
//! holds, [`clock`] for the time, which is an argument and never a global, [`secret`] for
//! what must not be shown, [`printable`] for what strangers wrote, [`seldom`] for what they make
//! happen again and again, [`growing()`] for what a core keeps, and [`mod@suggestion`] for names that
//! are misspelt.
//!
//! What it must never do: hold behaviour that belongs to one floor above, read the
//! clock, open a file or a socket. It stays small.

pub mod calendar;
pub mod client_network;
pub mod clock;
pub mod event;
mod growing;
pub mod principal;
pub mod printable;
pub mod request_id;
pub mod secret;
pub mod seldom;
pub mod spiffe_id;
pub mod suggestion;
pub mod switch;

pub use calendar::Date;
pub use client_network::ClientNetwork;
pub use clock::{Clock, Timestamp};
pub use growing::growing;
pub use principal::{ClaimType, Credential, Principal, PrincipalKind};
pub use request_id::RequestId;
pub use secret::Secret;
pub use spiffe_id::SpiffeId;
pub use switch::Switch;

//! May this principal do that? Cedar policies over a schema generated from the
//! configuration, checked whole at load, sliced by route and method, and asked once
//! per request.
//!
//! The way through it: `schema` turns the configured names into a Cedar schema, `load`
//! checks every policy and literal against it and slices, [`decide`] answers a request
//! with a [`Permit`] or a denial, `explain` says why.
//!
//! What it must never do: read the clock, a file or a socket; permit when a policy
//! erred; clone the entity store for a request; make a [`Permit`] anywhere but here.

pub mod permit;

pub use permit::{Permit, Subject};

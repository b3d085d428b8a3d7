//! `bastide apply`: clients, people and role grants that stand in files.
//!
//! The way through it: [`read`] turns files into what is wanted, with the place of each
//! thing; [`plan`] compares that with what is there, field by field; [`Plan::carry_out`]
//! does it, one transaction for each object, each only when nobody changed it since.
//!
//! What a file does not mention stays. What it must never do: show a hash, or write over
//! what somebody else has written in between.

pub mod plan;
pub mod read;

pub use plan::{Action, Carried, Change, Plan, plan};
pub use read::{Document, Fault, fuzz, read};

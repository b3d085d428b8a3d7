//! Authorization: Cedar policies over a schema generated from the configuration, checked
//! whole at load, sliced by route and method, and asked once per request.
//!
//! The way through it: [`vocabulary`] holds the configured names, `schema` turns them
//! into a Cedar schema, [`load()`] checks every policy and literal against it and slices,
//! [`decide()`] answers a request with a [`Permit`] or a [`Denied`], [`explain`] says why, and
//! [`replay()`] what other policies would have said,
//! [`suggest`] what policies would permit no more than what was seen, [`reach`] what
//! somebody could do at most.
//!
//! What it must never do: read the clock, a file or a socket; permit when a policy
//! erred; clone the entity store for a request; make a [`Permit`] anywhere but in
//! [`decide()`] and [`decide_cached()`]; remember a decision over a change of policies.

pub mod cache;
mod check;
mod compile;
pub mod decide;
mod evaluate;
pub mod explain;
pub mod fault;
mod fuzz;
mod inspect;
pub mod limits;
pub mod load;
mod names;
pub mod permit;
pub mod reach;
mod record;
pub mod replay;
mod scan;
pub mod schema;
pub mod suggest;
pub mod testing;
mod values;
pub mod vocabulary;

pub use cache::{CacheCounts, DecisionCache};
pub use decide::{Certificate, Circumstances, decide, decide_cached, would_permit};
pub use explain::{Explanation, Unexplainable, explain_record, explain_request};
pub use fault::{Fault, Severity};
#[doc(hidden)]
pub use fuzz::fuzz;
pub use load::{Policies, load};
pub use permit::{Denied, Permit, Reason, Subject};
pub use replay::{Beside, Replayed, Undecidable, replay};
pub use schema::{schema_json, schema_text};
pub use vocabulary::{Access, Member, Role, Route, Source, Vocabulary};

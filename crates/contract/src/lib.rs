//! API contracts: OpenAPI 3.0 and 3.1 documents and JSON Schemas, and the validation of
//! requests and responses against them.
//!
//! The way through it: [`load_openapi`] and [`load_schema`] read a document, refuse what
//! they cannot hold in full, and compile everything; [`Contract::open`] judges a
//! request's head and says what its body has to be; [`BodyCheck::judge`] judges the
//! body; both give a [`Pass`], without which a request of a route with a contract is
//! not forwarded. [`Contract::answer`] does the same for responses.
//!
//! What it must never do: fetch what a `$ref` names elsewhere, take a keyword, style or
//! media type that it cannot check for one that holds, put a value from a request into
//! a text, spend more than linear time on a pattern, or more steps on a value than its
//! size allows.

mod answer;
mod body;
mod budget;
mod coerce;
mod compile;
mod contract;
mod document;
mod exact;
mod fault;
mod form;
mod fuzz;
mod json;
mod keys;
mod keywords;
mod media;
mod multipart;
mod openapi;
mod parameter;
mod pass;
mod paths;
mod percent;
mod request;
mod shape;
mod syntax;
mod translate;
mod unique;
mod violation;
mod walk;

#[cfg(test)]
mod tests;

pub use answer::{Answer, AnswerCheck};
pub use body::BodyCheck;
pub use contract::{Contract, Mode, Settings, load_openapi, load_schema};
pub use document::{DEPTH_MAX as DOCUMENT_DEPTH_MAX, DOCUMENT_BYTES_MAX};
pub use fault::Fault;
#[doc(hidden)]
pub use fuzz::fuzz;
pub use json::DEPTH_MAX as BODY_DEPTH_MAX;
pub use multipart::PARTS_MAX;
pub use pass::Pass;
pub use request::{Fields, HasBody, Head, Opened, QUERY_PAIRS_MAX, Unmet};
pub use syntax::syntax_fault;
pub use violation::{Class, VIOLATIONS_MAX, Violation, Violations};

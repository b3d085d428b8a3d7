//! The rule model.

//! The directives.

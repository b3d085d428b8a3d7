//! Directives that change or remove rules.

//! ModSecurity's rule language: text to rules, every fault with its place.
//!
//! [`lexer`] cuts a file into statements of words, [`syntax`] takes a word apart (targets,
//! operator, actions), [`rules`] makes rules of statements, [`actions`] reads each action,
//! [`directive`] knows every directive, [`update`] changes rules afterwards, [`load`]
//! goes through the files.

pub(crate) mod actions;
pub(crate) mod ctl;
pub(crate) mod directive;
pub(crate) mod fault;
pub(crate) mod lexer;
pub(crate) mod load;
pub(crate) mod rules;
pub(crate) mod settings;
pub(crate) mod syntax;
pub(crate) mod update;

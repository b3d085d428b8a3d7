//! Bastide in one binary: the configuration language and the command line above the
//! crates that do the work.
//!
//! The way through it: [`config::load`] turns one YAML file into a checked
//! [`config::Configuration`]; everything that runs is built from that value.
//!
//! What it must never do: run with a configuration that has a fault, or decide about
//! a request here.

pub mod config;
pub mod demo;

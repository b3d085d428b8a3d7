//! Bastide in one binary: the configuration language and the command line above the
//! crates that do the work.
//!
//! The way through it: [`config::load`] turns one YAML file into a checked
//! [`config::Configuration`]; [`wire`] builds from it the snapshot that the cores serve;
//! [`import`] translates configurations of other gateways; [`admin`] is what administrators
//! call, [`apply`] what they keep in files; [`process`] is the life of `bastide serve`;
//! [`cli`] is what an operator types; [`demo`] is the sample shop.
//!
//! What it must never do: run with a configuration that has a fault, or decide about
//! a request here.

mod acme;
pub mod admin;
pub mod apply;
pub mod cli;
pub mod config;
pub mod demo;
pub mod import;
pub mod process;
pub mod wire;

//! Bastide on the command line.

fn main() {}

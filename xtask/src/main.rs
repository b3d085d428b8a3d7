//! Checks, benchmarks against peers, generated documents.

fn main() {}

//! Who did what, provably

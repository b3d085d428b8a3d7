//! See `keys::fuzz::introspection`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keys::fuzz::introspection(data));

//! See `keys::fuzz::proof`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keys::fuzz::proof(data));

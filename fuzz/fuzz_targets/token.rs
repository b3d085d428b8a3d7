//! See `keys::fuzz::token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keys::fuzz::token(data));

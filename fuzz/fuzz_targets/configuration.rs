//! See `bastide::config::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bastide::config::fuzz(data));

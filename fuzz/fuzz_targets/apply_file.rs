//! See `bastide::apply::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bastide::apply::fuzz(data));

//! See `bastide::import::kong::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bastide::import::kong::fuzz(data));

//! Values that may be SQL or a script.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waf::fuzz::injection(data));

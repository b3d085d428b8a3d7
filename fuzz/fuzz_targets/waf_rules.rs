//! Rule files.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waf::fuzz::rules(data));

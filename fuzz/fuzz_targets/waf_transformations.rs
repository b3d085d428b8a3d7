//! Every transformation of ModSecurity's manual.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waf::fuzz::transformations(data));

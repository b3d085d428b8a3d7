//! Arguments of operators and the values that they are held against.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waf::fuzz::operators(data));

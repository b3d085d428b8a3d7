//! See `properties::head`.

#![no_main]

#[path = "../../crates/proxy/tests/fuzz/properties.rs"]
#[allow(dead_code, reason = "each fuzzer runs one of the properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::head(data));

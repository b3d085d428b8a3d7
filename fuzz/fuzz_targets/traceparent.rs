//! Arbitrary bytes as a `traceparent` field: what is read is read the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| proxy::telemetry::context::fuzz(data));

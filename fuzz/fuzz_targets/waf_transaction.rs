//! Requests through all phases, by the plan and rule by rule.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waf::fuzz::transaction(data));

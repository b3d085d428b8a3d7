//! Every body processor: forms, multipart, JSON, XML, whole and in pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waf::fuzz::bodies(data));
